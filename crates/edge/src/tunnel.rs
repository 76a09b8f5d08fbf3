//! Upgraded connections: bytes both ways until one side ends, whatever the protocol. Of a WebSocket's frames only
//! the ends are known, so that a drain can close it between two of them.

use crate::body::Opened;
use crate::core::Core;
use crate::frames::{CLOSE_1012, Frames};
use crate::http1::buffer::Buffer;
use crate::upstream::Tunnel;
use crate::watch::{Phase, Watch};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One buffer a core, however many tunnels: a tunnel holds memory of its own only for bytes that its other side
/// has not taken yet.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Joins the two sides until the end, and tells the record. `read` came from the client with its request.
pub async fn run(core: &Rc<Core>, client: impl AsyncRead + AsyncWrite + Unpin, read: Buffer, opened: Opened) {
    let Opened { connection, guard, idle, mut finish } = opened;
    finish.note(|r| r.upgraded = true);
    core.with_metrics(|m| m.tunnel_opened());
    let (mut up, mut down) = (Way::default(), Way::default());
    down.frames = guard.is_socket().then(Frames::default);
    up.read_before(read.filled());
    down.read_before(connection.input.filled());
    relay(core, client, connection.stream, (&mut up, &mut down), idle, &guard).await;
    core.with_metrics(|m| m.tunnel_closed());
    finish.note(|r| {
        r.bytes_in += up.bytes;
        r.bytes_out += down.bytes;
    });
    finish.complete();
}

/// Copies until both sides have ended, one failed, nothing moved for `idle`, or a drain closed it.
async fn relay(
    core: &Rc<Core>,
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut upstream: impl AsyncRead + AsyncWrite + Unpin,
    (up, down): (&mut Way, &mut Way),
    idle: Duration,
    guard: &Tunnel,
) {
    let watch = Arc::new(Watch::default());
    watch.enter(Phase::Tunnel);
    watch.set(core.now_ms(), idle);
    let ticket = if guard.is_socket() {
        core.sweep.enlist_socket(watch.clone(), guard.upstream().clone())
    } else {
        core.sweep.enlist(watch.clone())
    };
    let mut told = false;
    std::future::poll_fn(|cx| {
        ticket.polled_by(cx);
        if watch.is_expired() {
            return Poll::Ready(());
        }
        if !told && watch.is_closing() {
            told = true;
            down.close();
            watch.set(core.now_ms(), CLOSE_GRACE);
        }
        let moved = up.bytes + down.bytes;
        let mut scratch = core.scratch.borrow_mut();
        let first = up.poll(cx, &mut client, &mut upstream, &mut scratch);
        let second = down.poll(cx, &mut upstream, &mut client, &mut scratch);
        if !told && up.bytes + down.bytes != moved {
            watch.set(core.now_ms(), idle);
        }
        match (first, second) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            // Told to close, the client has answered and left.
            (Poll::Ready(Ok(())), _) if told => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}

/// How long a client has to answer a close before it is cut.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Read, and not yet taken by the other side.
    pending: BytesMut,
    ended: bool,
    closed: bool,
    bytes: u64,
    /// Of a WebSocket's way from the app to the client.
    frames: Option<Frames>,
    /// The next end of a frame is followed by a close of ours, and by nothing else.
    closing: bool,
    /// It was: what the app still says goes nowhere.
    mute: bool,
}

/// Reads in one poll before others get their turn.
const READS_PER_POLL_MAX: usize = 8;

impl Way {
    /// What was read before the tunnel was one.
    fn read_before(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        let (data, _) = self.passes(data);
        self.pending.extend_from_slice(data);
    }

    /// Closes the WebSocket as soon as no frame is half sent.
    fn close(&mut self) {
        self.closing = true;
        if self.frames.as_ref().is_some_and(Frames::is_between) {
            self.pending.extend_from_slice(&CLOSE_1012);
            self.mute = true;
        }
    }

    /// The part of what was read that passes; a close of ours is put behind it when it ends a frame.
    fn passes<'a>(&mut self, data: &'a [u8]) -> (&'a [u8], bool) {
        if self.mute {
            return (&[], false);
        }
        let Some(frames) = &mut self.frames else { return (data, false) };
        if !self.closing {
            frames.pass(data);
            return (data, false);
        }
        match frames.first_end(data) {
            Some(end) => {
                self.mute = true;
                (&data[..end], true)
            }
            None => (data, false),
        }
    }

    /// Ready once `from` has ended and `to` has been told.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        for _ in 0..READS_PER_POLL_MAX {
            while !self.pending.is_empty() {
                let n = std::task::ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.pending.advance(n);
            }
            self.pending = BytesMut::new();
            if self.ended {
                if !self.closed {
                    std::task::ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.closed = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer)? {
                Poll::Pending => {
                    std::task::ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    return Poll::Pending;
                }
                Poll::Ready(()) => {
                    let data = buffer.filled();
                    self.ended = data.is_empty();
                    self.bytes += data.len() as u64;
                    let (data, close) = self.passes(data);
                    let mut written = 0;
                    while written < data.len() {
                        match Pin::new(&mut *to).poll_write(cx, &data[written..])? {
                            Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                            Poll::Ready(n) => written += n,
                            Poll::Pending => {
                                self.pending.extend_from_slice(&data[written..]);
                                break;
                            }
                        }
                    }
                    if close {
                        self.pending.extend_from_slice(&CLOSE_1012);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn bytes_pass_unchanged_through_a_slow_reader_and_the_end_is_told() {
        let (mut source, mut from) = duplex(64 * 1024);
        let (mut to, mut sink) = duplex(7);
        let data: Vec<u8> = (0..200_000u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let expected = data.clone();
        let write = async move {
            source.write_all(&data).await.expect("write");
            source.shutdown().await.expect("shutdown");
        };
        let copy = async move {
            let mut way = Way::default();
            let mut scratch = vec![0; 1000];
            std::future::poll_fn(|cx| way.poll(cx, &mut from, &mut to, &mut scratch)).await.expect("copy");
            way.bytes
        };
        let read = async move {
            let mut all = Vec::new();
            sink.read_to_end(&mut all).await.expect("read");
            all
        };
        let ((), bytes, all) = tokio::join!(write, copy, read);
        assert_eq!(bytes, 200_000);
        assert!(all == expected);
    }
}
