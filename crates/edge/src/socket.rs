//! A client's HTTP/2 socket as hyper sees it: with what was read before, and a deadline for a client that does not
//! read.

use crate::watch::Watch;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug)]
pub struct Socket<S> {
    inner: S,
    prefix: Bytes,
    watch: Arc<Watch>,
    /// The core's coarse clock, so that nothing here asks the kernel for the time.
    now_ms: Arc<AtomicU64>,
    send: Duration,
    /// The client does not read, and the deadline is for that.
    stalled: bool,
}

impl<S> Socket<S> {
    pub fn new(inner: S, prefix: Bytes, watch: Arc<Watch>, now_ms: Arc<AtomicU64>, send: Duration) -> Socket<S> {
        Socket { inner, prefix, watch, now_ms, send, stalled: false }
    }

    fn judge<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            // hyper has nothing else to do meanwhile, so the deadline is the socket's.
            if self.stalled && self.watch.is_expired() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")));
            }
            if !self.stalled {
                self.stalled = true;
                self.watch.set(self.now_ms.load(Relaxed), self.send);
            }
        } else if std::mem::take(&mut self.stalled) {
            self.watch.clear();
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, into);
        }
        let n = self.prefix.len().min(into.remaining());
        into.put_slice(&self.prefix.split_to(n));
        if self.prefix.is_empty() {
            // An empty rest would still hold the whole allocation for as long as the connection lives.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.judge(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
