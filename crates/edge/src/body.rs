//! Bodies on their way through: never buffered beyond one frame, counted, and each with an end that is told.

use crate::core::Finish;
use crate::pool::Connection;
use crate::upstream::InFlight;
use crate::watch::{Ticket, Watch};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mainstay_telemetry::Verdict;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

/// Why a body broke off. The client sees the cut; the record says the rest.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the upstream broke off")]
    Upstream(#[source] hyper::Error),
    #[error("the upstream paused for longer than its limit")]
    UpstreamTimeout,
    #[error("the client broke off")]
    Client(#[source] hyper::Error),
    #[error("the body is larger than its limit")]
    TooLarge,
}

/// A deadline that knows whom to wake: the connection's on HTTP/1, the stream's own on HTTP/2.
#[derive(Debug)]
pub struct Deadline {
    pub watch: Arc<Watch>,
    pub now_ms: Arc<AtomicU64>,
    /// `None` where the connection's driver is woken anyway.
    pub ticket: Option<Ticket>,
}

impl Deadline {
    pub fn set(&self, after: Duration) {
        self.watch.set(self.now_ms.load(Relaxed), after);
    }

    /// True once the deadline has passed; asks to be woken otherwise.
    pub fn has_passed(&self, cx: &Context<'_>) -> bool {
        if let Some(ticket) = &self.ticket {
            ticket.polled_by(cx);
        }
        self.watch.is_expired()
    }
}

/// What an upstream is sent.
#[derive(Debug)]
pub enum Payload {
    Empty,
    /// Small enough to be kept and sent again.
    Kept(Bytes),
    Sent,
    Stream(Upload),
}

/// A client's body, as it comes.
#[derive(Debug)]
pub struct Upload {
    pub incoming: Incoming,
    /// Bytes that may still come.
    pub left: u64,
    pub progress: Rc<Progress>,
    pub watch: Arc<Watch>,
    pub now_ms: Arc<AtomicU64>,
    /// Longest pause of the client.
    pub pause: Duration,
    /// Armed once the body is complete.
    pub response: Option<Duration>,
}

/// What became of an upload, read by the request that sent it off.
#[derive(Debug, Default)]
pub struct Progress {
    pub bytes: Cell<u64>,
    pub complete: Cell<bool>,
    pub too_large: Cell<bool>,
    pub broken: Cell<bool>,
    /// What the client sent is no body: a chunk that cannot be read.
    pub malformed: Cell<bool>,
}

/// hyper's errors for chunks it cannot read carry one of these kinds; a client that left, another.
pub fn is_malformed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    source.is_some_and(|e| matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Payload::Empty | Payload::Sent => Poll::Ready(None),
            Payload::Kept(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Payload::Sent;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Payload::Stream(upload) => upload.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Empty | Payload::Sent => true,
            Payload::Kept(bytes) => bytes.is_empty(),
            Payload::Stream(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Empty | Payload::Sent => SizeHint::with_exact(0),
            Payload::Kept(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Payload::Stream(upload) => upload.incoming.size_hint(),
        }
    }
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.watch.clear();
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.progress.bytes.set(self.progress.bytes.get() + size);
                if size > self.left {
                    self.progress.too_large.set(true);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                self.left -= size;
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.progress.broken.set(true);
                self.progress.malformed.set(is_malformed(&error));
                Poll::Ready(Some(Err(BodyError::Client(error))))
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.watch.set(self.now_ms.load(Relaxed), self.pause);
                Poll::Pending
            }
        }
    }

    fn complete(&self) {
        self.progress.complete.set(true);
        match self.response {
            Some(limit) => self.watch.set(self.now_ms.load(Relaxed), limit),
            None => self.watch.clear(),
        }
    }
}

/// What a client is sent.
#[derive(Debug)]
pub struct Answer {
    kind: Kind,
    /// `None` where somebody else tells the end, as a tunnel does.
    finish: Option<Finish>,
}

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Upstream(Passing),
}

/// An upstream's body, and all that is given back at its end.
#[derive(Debug)]
pub struct Passing {
    pub incoming: Incoming,
    pub connection: Option<Connection>,
    pub in_flight: InFlight,
    pub keep: Duration,
    /// Longest pause of the upstream.
    pub pause: Option<Duration>,
    /// The answer to a Socket.IO handshake: its `sid` binds the client to this instance.
    pub learn: bool,
}

impl Answer {
    pub fn full(bytes: Bytes, finish: Finish) -> Answer {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Answer { kind: Kind::Full(bytes), finish: Some(finish) }
    }

    pub fn bare() -> Answer {
        Answer { kind: Kind::Full(None), finish: None }
    }

    pub fn upstream(passing: Passing, finish: Finish) -> Answer {
        Answer { kind: Kind::Upstream(passing), finish: Some(finish) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match (&mut this.kind, &mut this.finish) {
            (Kind::Full(bytes), finish) => {
                let bytes = bytes.take();
                if let Some(finish) = finish {
                    finish.sent(bytes.as_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(bytes.map(|b| Ok(Frame::data(b))))
            }
            (Kind::Upstream(passing), Some(finish)) => passing.poll(cx, finish),
            (Kind::Upstream(_), None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream(passing) => passing.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Upstream(passing) => passing.incoming.size_hint(),
        }
    }
}

impl Passing {
    fn poll(&mut self, cx: &mut Context<'_>, finish: &mut Finish) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if self.pause.is_some() {
                    finish.deadline().watch.clear();
                }
                if let Some(data) = frame.data_ref() {
                    finish.sent(data.len());
                    if std::mem::take(&mut self.learn) {
                        finish.learn_sid(data, self.in_flight.upstream());
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                finish.decide(Verdict::UpstreamCut);
                Poll::Ready(Some(Err(BodyError::Upstream(error))))
            }
            Poll::Ready(None) => {
                finish.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(pause) = self.pause else { return Poll::Pending };
                if finish.deadline().has_passed(cx) {
                    finish.deadline().watch.forgive();
                    finish.decide(Verdict::UpstreamCut);
                    return Poll::Ready(Some(Err(BodyError::UpstreamTimeout)));
                }
                finish.deadline().set(pause);
                Poll::Pending
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let ended = self.is_end_stream() || matches!(self.kind, Kind::Full(_));
        let Some(finish) = &mut self.finish else { return };
        // A HEAD request's own body is never asked for.
        if ended {
            finish.complete();
        }
        if finish.is_complete()
            && let Kind::Upstream(passing) = &mut self.kind
            && let Some(connection) = passing.connection.take()
        {
            finish.give_back(passing.in_flight.upstream(), connection, passing.keep);
        }
    }
}
