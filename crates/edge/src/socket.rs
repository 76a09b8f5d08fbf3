//! A client's socket as hyper sees it: deadlines enforced, bytes counted, and hyper's own refusals made ours.
//!
//! hyper answers what it cannot parse by itself, with an empty body and no id. Such an answer is recognised (it
//! is short and carries no `mainstay-request-id`, which every answer of ours does) and replaced while it passes.

use crate::refusal;
use crate::watch::{Phase, Watch};
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// hyper's own answers are shorter than this.
const OWN_ANSWER_BYTES_MAX: usize = 128;

/// Shared by a connection's socket, its requests and its driver.
#[derive(Debug, Default)]
pub struct Wire {
    pub watch: Arc<Watch>,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// The core's coarse clock, so that no read asks the kernel for the time.
    pub now_ms: Arc<AtomicU64>,
    /// Set when hyper refused by itself: the status it chose, and the id we answered with.
    pub refused: Mutex<Option<refusal::Own>>,
}

/// The timeouts a socket enforces by itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub header: Duration,
    pub send: Duration,
}

/// A socket with `prefix` read before it and `wire` beside it.
#[derive(Debug)]
pub struct Socket<S> {
    inner: S,
    prefix: Bytes,
    wire: Arc<Wire>,
    limits: Limits,
    /// An answer of ours in place of hyper's, not yet written.
    instead: Bytes,
    /// HTTP/1: the head deadline runs, and hyper's own answers can be read.
    http1: bool,
    /// The client does not read, and the deadline is for that.
    stalled: bool,
}

impl<S> Socket<S> {
    pub fn new(inner: S, prefix: Bytes, wire: Arc<Wire>, limits: Limits, http1: bool) -> Socket<S> {
        wire.bytes_in.fetch_add(prefix.len() as u64, Relaxed);
        Socket { inner, prefix, wire, limits, instead: Bytes::new(), http1, stalled: false }
    }

    fn received(&self, bytes: usize) {
        let wire = &self.wire;
        // One task writes these: load and store instead of a locked add.
        wire.bytes_in.store(wire.bytes_in.load(Relaxed) + bytes as u64, Relaxed);
        if self.http1 && wire.watch.phase() == Phase::Idle {
            wire.watch.enter(Phase::Header);
            wire.watch.set(wire.now_ms.load(Relaxed), self.limits.header);
        }
    }

    fn sent(&mut self, bytes: usize) {
        let wire = &self.wire;
        if self.stalled {
            self.stalled = false;
            wire.watch.clear();
        }
        wire.bytes_out.store(wire.bytes_out.load(Relaxed) + bytes as u64, Relaxed);
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Ends a connection whose deadline passed. A half-sent head gets a 408, as far as the socket takes it.
    fn time_out(&mut self, cx: &mut Context<'_>) -> io::Error {
        if self.http1 && self.wire.watch.phase() == Phase::Header && self.wire.bytes_in.load(Relaxed) > 0 {
            let own = refusal::Own::new(408);
            let bytes = own.bytes();
            // Best effort: the socket's buffer is empty, so one write takes it.
            let _ = Pin::new(&mut self.inner).poll_write(cx, &bytes);
            *self.wire.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        }
        io::Error::new(io::ErrorKind::TimedOut, "deadline passed")
    }

    fn is_own_answer(&self, buf: &[u8]) -> bool {
        let has = |name: &[u8]| buf.windows(name.len()).any(|w| w == name);
        self.http1
            && matches!(self.wire.watch.phase(), Phase::Header | Phase::Idle)
            && buf.starts_with(b"HTTP/1.")
            && buf.ends_with(b"\r\n\r\n")
            && has(b"content-length: 0")
            && !has(b"mainstay-request-id:")
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.instead))?;
            self.instead.advance(n);
            self.sent(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let n = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(n));
            if self.prefix.is_empty() {
                // An empty rest would still hold the whole allocation for as long as the connection lives.
                self.prefix = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.http1 && self.wire.watch.is_expired() && self.wire.watch.phase() != Phase::Busy {
            return Poll::Ready(Err(self.time_out(cx)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let n = buf.filled().len() - before;
        if n > 0 {
            self.received(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.instead.is_empty() {
            ready!(self.poll_instead(cx))?;
        }
        if buf.len() < OWN_ANSWER_BYTES_MAX && self.is_own_answer(buf) {
            let own = refusal::Own::from_head(buf);
            self.instead = own.bytes();
            *self.wire.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
            return Poll::Ready(Ok(buf.len()));
        }
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Ready(Ok(n)) => {
                this.sent(n);
                Poll::Ready(Ok(n))
            }
            Poll::Pending => this.stalled(),
            other => other,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        if !self.instead.is_empty() {
            ready!(self.poll_instead(cx))?;
        }
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_write_vectored(cx, bufs) {
            Poll::Ready(Ok(n)) => {
                this.sent(n);
                Poll::Ready(Ok(n))
            }
            Poll::Pending => this.stalled(),
            other => other,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S> Socket<S> {
    /// The client does not read. hyper has nothing else to do meanwhile, so the deadline is the socket's.
    fn stalled(&mut self) -> Poll<io::Result<usize>> {
        let wire = &self.wire;
        if self.stalled && wire.watch.is_expired() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")));
        }
        if !self.stalled {
            self.stalled = true;
            wire.watch.set(wire.now_ms.load(Relaxed), self.limits.send);
        }
        Poll::Pending
    }
}
