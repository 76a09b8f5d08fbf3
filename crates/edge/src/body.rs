//! Bodies on their way through: streamed, counted, and each with an end that is told.

use crate::cache::Collect;
use crate::core::{Conn, Core, Finish};
use crate::files::serve::{Sent as File, Streaming};
use crate::http1::body::{Broken, Piece, Remaining, append, append_end};
use crate::http1::buffer::Buffer;
use crate::http1::framing::Framing;
use crate::http2::arriving::Arriving;
use crate::http2::upstream::poll_into;
use crate::message::ResponseHead;
use crate::pool::Connection;
use crate::respond::encoder::Encoder;
use crate::upstream::InFlight;
use crate::watch::{Ticket, Watch};
use bytes::{Buf, Bytes};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use mainstay_telemetry::Verdict;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;

/// What is put into a buffer at once of a body that is there already: a large one is not copied whole for each client.
const FULL_PIECE_BYTES_MAX: usize = 64 * 1024;

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

/// A client's body, wherever it comes from.
#[derive(Debug)]
pub enum Body {
    Absent,
    Http1 {
        conn: Rc<Conn>,
        remaining: Remaining,
    },
    Http2(Box<Arriving>),
    /// Read whole already, and checked.
    Whole(Bytes),
    /// None: the stream becomes a tunnel.
    Upgrade(OnUpgrade),
}

impl Body {
    /// How it is framed for an upstream that speaks HTTP/1.
    pub fn framing(&self) -> Framing {
        match self {
            Body::Absent | Body::Upgrade(_) => Framing::Absent,
            Body::Http1 { remaining, .. } => remaining.framing(),
            Body::Http2(arriving) => arriving.framing(),
            Body::Whole(bytes) if bytes.is_empty() => Framing::Absent,
            Body::Whole(bytes) => Framing::Length(bytes.len() as u64),
        }
    }

    /// Appends what has come. `wrap`: as chunks.
    pub fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        out: &mut Buffer,
        wrap: bool,
    ) -> Poll<Result<Piece, Broken>> {
        match self {
            Body::Absent | Body::Upgrade(_) => Poll::Ready(Ok(Piece::End(None))),
            Body::Http1 { conn, remaining } => {
                let Some(socket) = &conn.http1 else { return Poll::Ready(Err(Broken::Gone)) };
                socket.poll_body(cx, core, remaining, out, wrap)
            }
            Body::Http2(arriving) => arriving.poll_into(cx, core, out, wrap),
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(Ok(Piece::End(None))),
            Body::Whole(bytes) => {
                let piece = std::mem::take(bytes);
                append(&piece, out, wrap, &core.buffers);
                Poll::Ready(Ok(Piece::Data(piece.len())))
            }
        }
    }

    /// Reads the rest whole; more than `max` bytes are an error of nobody's.
    pub async fn collect(&mut self, core: &Core, max: usize) -> Result<Bytes, Broken> {
        let mut all = Vec::new();
        loop {
            let mut out = Buffer::default();
            let piece = std::future::poll_fn(|cx| self.poll_into(cx, core, &mut out, false)).await?;
            all.extend_from_slice(out.filled());
            core.buffers.discard(&mut out);
            match piece {
                Piece::End(_) => return Ok(all.into()),
                Piece::Data(_) if all.len() > max => return Err(Broken::Malformed),
                Piece::Data(_) => {}
            }
        }
    }
}

/// How long an upstream may take nothing of a body where no limit of answers is set.
const UPSTREAM_TAKES_NOTHING_MAX: Duration = Duration::from_secs(300);

/// A client's body on its way to an upstream.
#[derive(Debug)]
pub struct Upload {
    body: Body,
    wrap: bool,
    out: Buffer,
    /// Bytes that came, and how many more may.
    pub bytes: u64,
    left: u64,
    /// Longest pause of the client.
    pause: Duration,
    /// Armed once the body is complete, and while the upstream takes nothing.
    response: Option<Duration>,
    /// The upstream takes nothing at the moment.
    pub blocked: bool,
    pub state: Flow,
}

/// What became of a body that hyper sends, read by the request that sent it off.
#[derive(Debug)]
pub struct Progress {
    pub bytes: Cell<u64>,
    pub state: Cell<Flow>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { bytes: Cell::new(0), state: Cell::new(Flow::Unbegun) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nothing of it was asked for yet.
    Unbegun,
    Flowing,
    /// Read to its end, the last of it being written.
    Ending,
    Complete,
    TooLarge,
    Client(Broken),
    /// The upstream takes no more; it may have said why.
    Upstream,
}

impl Upload {
    pub fn new(body: Body, max: Option<u64>, pause: Duration, response: Option<Duration>) -> Upload {
        let wrap = body.framing() == Framing::Chunked;
        let (out, left) = (Buffer::default(), max.unwrap_or(u64::MAX));
        Upload { body, wrap, out, bytes: 0, left, pause, response, blocked: false, state: Flow::Unbegun }
    }

    pub fn into_body(self) -> Body {
        self.body
    }

    /// Moves what can be moved. Ready once nothing more will: `state` says why.
    pub fn poll(&mut self, cx: &mut Context<'_>, core: &Core, to: &mut TcpStream, watch: &Watch) -> Poll<()> {
        if self.state == Flow::Unbegun {
            self.state = Flow::Flowing;
        }
        while matches!(self.state, Flow::Flowing | Flow::Ending) {
            let before = self.out.len();
            match self.out.poll_write(cx, to, &core.buffers) {
                Poll::Pending => {
                    if !self.blocked || self.out.len() < before {
                        self.blocked = true;
                        watch.set(core.now_ms(), self.response.unwrap_or(UPSTREAM_TAKES_NOTHING_MAX));
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => {
                    self.state = Flow::Upstream;
                    break;
                }
                Poll::Ready(Ok(())) => {
                    if std::mem::take(&mut self.blocked) {
                        watch.forgive();
                    }
                }
            }
            if self.state == Flow::Ending {
                self.state = Flow::Complete;
                match self.response {
                    Some(limit) => watch.set(core.now_ms(), limit),
                    None => watch.clear(),
                }
                break;
            }
            match self.body.poll_into(cx, core, &mut self.out, self.wrap) {
                Poll::Pending => {
                    watch.set(core.now_ms(), self.pause);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Piece::Data(size))) => {
                    watch.clear();
                    self.bytes += size as u64;
                    match self.left.checked_sub(size as u64) {
                        Some(left) => self.left = left,
                        None => self.state = Flow::TooLarge,
                    }
                }
                Poll::Ready(Ok(Piece::End(trailers))) => {
                    self.state = Flow::Ending;
                    if self.wrap {
                        append_end(trailers.as_ref(), &mut self.out, &core.buffers);
                    }
                }
                Poll::Ready(Err(broken)) => self.state = Flow::Client(broken),
            }
        }
        Poll::Ready(())
    }
}

/// What a client is sent.
#[derive(Debug)]
pub struct Answer {
    pub head: Box<ResponseHead>,
    kind: Kind,
    /// The client's connection ends with it.
    pub close: bool,
    /// `None` where somebody else tells the end, as a tunnel does.
    finish: Option<Finish>,
    /// The body is compressed as it passes.
    encoder: Option<Box<Encoder>>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one a request at a time; a box would be an allocation a request")]
enum Kind {
    Full(Bytes),
    File(Streaming),
    Upstream(Passing),
    Tunnel(Box<Opened>),
}

/// An upstream that agreed to speak another protocol from now on.
#[derive(Debug)]
pub struct Opened {
    pub connection: Connection,
    pub guard: crate::upstream::Tunnel,
    pub idle: Duration,
    pub finish: Finish,
}

/// An upstream's body, and all that is given back at its end.
#[derive(Debug)]
pub struct Passing {
    pub source: Source,
    pub in_flight: InFlight,
    /// How long the connection may be used again.
    pub keep: Duration,
    /// Longest pause of the upstream.
    pub pause: Option<Duration>,
    /// The answer to a Socket.IO handshake: its `sid` binds the client to this instance.
    pub learn: bool,
    /// It is stored as it goes by.
    pub tap: Option<Box<Collect>>,
}

/// Where an answer's body comes from.
#[derive(Debug)]
pub enum Source {
    Http1 {
        connection: Connection,
        remaining: Remaining,
        /// The client's body, where the upstream answered before it was whole.
        upload: Option<Upload>,
        /// The connection may be used again after this response.
        reusable: bool,
    },
    /// `true` once it has ended.
    Http2(Incoming, bool),
    /// Given back.
    Done,
}

impl Source {
    fn framing(&self) -> Framing {
        match self {
            Source::Http1 { remaining, .. } => remaining.framing(),
            Source::Http2(incoming, _) => match incoming.size_hint().exact() {
                _ if self.is_ended() => Framing::Absent,
                Some(length) => Framing::Length(length),
                None => Framing::Chunked,
            },
            Source::Done => Framing::Absent,
        }
    }

    pub fn is_ended(&self) -> bool {
        match self {
            Source::Http1 { remaining, .. } => remaining.is_nothing(),
            Source::Http2(incoming, ended) => *ended || incoming.is_end_stream(),
            Source::Done => true,
        }
    }
}

/// The upstream broke off; the record says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Answer {
    /// A body of ours. Its length is told; to a HEAD request nothing more is.
    pub fn full(mut head: Box<ResponseHead>, bytes: Bytes, to_head: bool, finish: Finish) -> Answer {
        use crate::fields::Name;
        if !matches!(head.status, 204 | 304) {
            head.fields.set(Name::ContentLength, bytes.len().to_string().as_bytes());
        }
        let bytes = if to_head { Bytes::new() } else { bytes };
        Answer { head, kind: Kind::Full(bytes), close: false, finish: Some(finish), encoder: None }
    }

    /// A stored body; its head says how long it is.
    pub fn stored(head: Box<ResponseHead>, bytes: Bytes, finish: Finish) -> Answer {
        Answer { head, kind: Kind::Full(bytes), close: false, finish: Some(finish), encoder: None }
    }

    /// A head that somebody else finishes.
    pub fn bare(head: Box<ResponseHead>) -> Answer {
        Answer { head, kind: Kind::Full(Bytes::new()), close: false, finish: None, encoder: None }
    }

    /// A file, or a part of one; the head tells its length.
    pub fn file(head: Box<ResponseHead>, file: File, finish: Finish) -> Answer {
        let kind = match file {
            File::Bytes(bytes) => Kind::Full(bytes),
            File::Large(streaming) => Kind::File(streaming),
        };
        Answer { head, kind, close: false, finish: Some(finish), encoder: None }
    }

    pub fn upstream(head: Box<ResponseHead>, passing: Passing, finish: Finish) -> Answer {
        Answer { head, kind: Kind::Upstream(passing), close: false, finish: Some(finish), encoder: None }
    }

    pub fn tunnel(head: Box<ResponseHead>, opened: Opened) -> Answer {
        Answer { head, kind: Kind::Tunnel(Box::new(opened)), close: false, finish: None, encoder: None }
    }

    /// The rest of it goes through this.
    pub fn encode(&mut self, encoder: Encoder) {
        self.encoder = Some(Box::new(encoder));
    }

    /// So many bytes were sent, where that is not what came.
    pub fn count(&mut self, bytes_out: u64) {
        if let Some(finish) = &mut self.finish {
            finish.note(|r| r.bytes_out = bytes_out);
        }
    }

    /// What is opened once the head has gone.
    pub fn into_tunnel(mut self) -> Option<Box<Opened>> {
        match std::mem::replace(&mut self.kind, Kind::Full(Bytes::new())) {
            Kind::Tunnel(opened) => Some(opened),
            _ => None,
        }
    }

    pub fn is_tunnel(&self) -> bool {
        matches!(self.kind, Kind::Tunnel(_))
    }

    /// How the body came, or is.
    pub fn framing(&self) -> Framing {
        if self.encoder.is_some() {
            return Framing::Chunked;
        }
        match &self.kind {
            Kind::Full(bytes) => Framing::Length(bytes.len() as u64),
            Kind::File(streaming) => Framing::Length(streaming.left()),
            Kind::Tunnel(_) => Framing::Absent,
            Kind::Upstream(passing) => passing.source.framing(),
        }
    }

    pub fn is_ended(&self) -> bool {
        if let Some(encoder) = &self.encoder {
            return encoder.is_ended();
        }
        match &self.kind {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::File(streaming) => streaming.left() == 0,
            Kind::Upstream(passing) => passing.source.is_ended(),
            Kind::Tunnel(_) => true,
        }
    }

    /// The head and the first of the body in the memory they were read into: nothing is copied. `None` where that
    /// cannot be.
    pub fn first(&mut self, head: &[u8]) -> Option<Buffer> {
        let (Kind::Upstream(passing), Some(finish)) = (&mut self.kind, &mut self.finish) else { return None };
        if self.encoder.is_some() {
            return None;
        }
        let Source::Http1 { connection, remaining, .. } = &mut passing.source else { return None };
        let Remaining::Length(left) = remaining else { return None };
        let size = connection.input.len();
        if passing.learn || size as u64 > *left || !connection.input.put_before(head) {
            return None;
        }
        *left -= size as u64;
        finish.sent(size);
        let ended = *left == 0;
        if ended {
            *remaining = Remaining::Nothing;
            finish.complete();
        }
        let first = std::mem::take(&mut connection.input);
        passing.keep_copy(&first.filled()[head.len()..], ended);
        Some(first)
    }

    /// The next of a body that is there already, without a copy.
    fn take_full(&mut self) -> Option<Bytes> {
        let Kind::Full(bytes) = &mut self.kind else { return None };
        let piece = bytes.split_to(bytes.len().min(FULL_PIECE_BYTES_MAX));
        if let Some(finish) = &mut self.finish {
            finish.sent(piece.len());
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// Appends what has come of the body. `wrap`: as chunks, with their end.
    pub fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        out: &mut Buffer,
        wrap: bool,
    ) -> Poll<Result<Piece, Cut>> {
        let Some(mut encoder) = self.encoder.take() else { return self.poll_plain(cx, core, out, wrap) };
        let polled = encoder.poll(self, cx, core, out, wrap);
        self.encoder = Some(encoder);
        polled
    }

    /// The same, as it came.
    pub fn poll_plain(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        out: &mut Buffer,
        wrap: bool,
    ) -> Poll<Result<Piece, Cut>> {
        if let Some(piece) = self.take_full() {
            append(&piece, out, wrap, &core.buffers);
            return Poll::Ready(Ok(Piece::Data(piece.len())));
        }
        match (&mut self.kind, &mut self.finish) {
            (Kind::Full(_), _) => Poll::Ready(Ok(Piece::End(None))),
            (Kind::File(streaming), finish) => {
                if streaming.left() == 0 {
                    return Poll::Ready(Ok(Piece::End(None)));
                }
                let piece = ready!(streaming.poll_piece(cx));
                match (piece, finish) {
                    (Ok(piece), finish) => {
                        append(&piece, out, wrap, &core.buffers);
                        finish.iter_mut().for_each(|f| f.sent(piece.len()));
                        Poll::Ready(Ok(Piece::Data(piece.len())))
                    }
                    (Err(_), finish) => {
                        finish.iter_mut().for_each(|f| f.decide(Verdict::Internal));
                        Poll::Ready(Err(Cut))
                    }
                }
            }
            (Kind::Upstream(passing), Some(finish)) => passing.poll_into(cx, core, out, wrap, finish),
            (Kind::Upstream(_) | Kind::Tunnel(_), _) => Poll::Ready(Ok(Piece::End(None))),
        }
    }
}

impl Passing {
    fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        core: &Core,
        out: &mut Buffer,
        wrap: bool,
        finish: &mut Finish,
    ) -> Poll<Result<Piece, Cut>> {
        let before = out.len();
        let mut uploading = false;
        // What is stored is stored unframed.
        let (mut plain, tapped) = (Buffer::default(), self.tap.is_some());
        let (into, wraps) = if tapped { (&mut plain, false) } else { (&mut *out, wrap) };
        let polled = match &mut self.source {
            Source::Http1 { connection, remaining, upload, reusable } => {
                let Connection { stream, input, .. } = connection;
                if let Some(up) = upload
                    && up.poll(cx, core, stream, &finish.deadline().watch).is_ready()
                {
                    let bytes = up.bytes;
                    finish.note(|r| r.bytes_in = bytes);
                    *reusable &= up.state == Flow::Complete;
                    *upload = None;
                }
                uploading = upload.is_some();
                remaining.poll_into(cx, stream, input, into, wraps, &core.buffers)
            }
            Source::Http2(incoming, ended) => {
                let polled = poll_into(incoming, cx, core, into, wraps);
                *ended = matches!(polled, Poll::Ready(Ok(Piece::End(_))));
                polled
            }
            Source::Done => Poll::Ready(Ok(Piece::End(None))),
        };
        if tapped {
            self.tapped(&polled, plain.filled());
            // What came before a cut is the client's all the same.
            append(plain.filled(), out, wrap, &core.buffers);
            core.buffers.discard(&mut plain);
        }
        match polled {
            Poll::Ready(Ok(Piece::Data(size))) => {
                if self.pause.is_some() {
                    finish.deadline().watch.clear();
                }
                finish.sent(size);
                if size > 0 && std::mem::take(&mut self.learn) {
                    finish.learn_sid(&out.filled()[before..], self.in_flight.upstream());
                }
                Poll::Ready(Ok(Piece::Data(size)))
            }
            Poll::Ready(Ok(end)) => {
                finish.complete();
                Poll::Ready(Ok(end))
            }
            Poll::Ready(Err(_)) => {
                finish.decide(Verdict::UpstreamCut);
                Poll::Ready(Err(Cut))
            }
            Poll::Pending => self.poll_pause(cx, finish, uploading),
        }
    }

    /// Nothing came: that is borne for as long as a pause may be. The client's pauses are its own.
    fn poll_pause(&self, cx: &Context<'_>, finish: &mut Finish, uploading: bool) -> Poll<Result<Piece, Cut>> {
        if (self.pause.is_some() || uploading) && finish.deadline().has_passed(cx) {
            finish.deadline().watch.forgive();
            finish.decide(Verdict::UpstreamCut);
            return Poll::Ready(Err(Cut));
        }
        if let (Some(pause), false) = (self.pause, uploading) {
            finish.deadline().set(pause);
        }
        Poll::Pending
    }

    /// Has it stored as it goes by.
    pub fn collected_by(&mut self, tap: Option<Box<Collect>>) {
        self.tap = tap;
        if self.source.is_ended() {
            self.keep_copy(&[], true);
        }
    }

    fn tapped(&mut self, polled: &Poll<Result<Piece, Broken>>, data: &[u8]) {
        match polled {
            Poll::Ready(Ok(Piece::End(_))) => self.keep_copy(data, true),
            Poll::Ready(Ok(Piece::Data(_))) => self.keep_copy(data, self.source.is_ended()),
            Poll::Ready(Err(_)) => self.tap = None,
            Poll::Pending => {}
        }
    }

    /// Stores what went by; all of it is there once `ended`.
    fn keep_copy(&mut self, data: &[u8], ended: bool) {
        self.tap = self.tap.take().and_then(|tap| tap.take(data));
        if ended && let Some(tap) = self.tap.take() {
            tap.complete();
        }
    }

    /// Reads the rest for what stores it alone. False where it broke off, or is not to be stored after all.
    pub async fn drain(&mut self, core: &Core, finish: &mut Finish) -> bool {
        while !self.source.is_ended() {
            let mut out = Buffer::default();
            let piece = std::future::poll_fn(|cx| self.poll_into(cx, core, &mut out, false, finish)).await;
            core.buffers.discard(&mut out);
            match piece {
                Ok(Piece::End(_)) => return true,
                Ok(Piece::Data(_)) if self.tap.is_some() || self.source.is_ended() => {}
                _ => return false,
            }
        }
        true
    }

    /// Reads the rest whole. `None` where it broke off or is more than `max`.
    pub async fn collect(&mut self, core: &Core, max: usize, finish: &mut Finish) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let mut out = Buffer::default();
            let piece = std::future::poll_fn(|cx| self.poll_into(cx, core, &mut out, false, finish)).await;
            all.extend_from_slice(out.filled());
            core.buffers.discard(&mut out);
            match piece {
                Ok(Piece::End(_)) => return Some(all),
                Ok(Piece::Data(_)) if all.len() <= max => {}
                _ => return None,
            }
        }
    }

    /// Gives the connection back, if it can be used again.
    pub fn end(&mut self, finish: &Finish) {
        let source = std::mem::replace(&mut self.source, Source::Done);
        if let Source::Http1 { connection, remaining: Remaining::Nothing, upload: None, reusable: true } = source {
            finish.give_back(self.in_flight.upstream(), connection, self.keep);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let ended = self.is_ended();
        let Some(finish) = &mut self.finish else { return };
        match &mut self.kind {
            Kind::Full(_) => finish.complete(),
            Kind::File(_) if ended => finish.complete(),
            Kind::File(_) => {}
            Kind::Upstream(passing) => {
                if ended {
                    finish.complete();
                }
                if finish.is_complete() {
                    passing.end(finish);
                }
            }
            Kind::Tunnel(_) => {}
        }
    }
}

/// An answer's body as hyper sends it over HTTP/2.
#[derive(Debug)]
pub struct Http2Body(pub Answer);

impl http_body::Body for Http2Body {
    type Data = Bytes;
    type Error = CutError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, CutError>>> {
        let Some(core) = self.0.finish.as_ref().map(|f| f.core().clone()) else { return Poll::Ready(None) };
        loop {
            if self.0.is_ended() {
                return Poll::Ready(None);
            }
            if let Some(data) = self.0.take_full() {
                return Poll::Ready(Some(Ok(http_body::Frame::data(data))));
            }
            let mut out = Buffer::default();
            let piece = ready!(self.0.poll_into(cx, &core, &mut out, false));
            let data = Bytes::copy_from_slice(out.filled());
            core.buffers.discard(&mut out);
            return Poll::Ready(match piece {
                Ok(Piece::Data(_)) if !data.has_remaining() => continue,
                Ok(Piece::Data(_)) => Some(Ok(http_body::Frame::data(data))),
                Ok(Piece::End(None)) => None,
                Ok(Piece::End(Some(trailers))) => {
                    Some(Ok(http_body::Frame::trailers(crate::http2::header_map(&trailers))))
                }
                Err(Cut) => Some(Err(CutError)),
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_ended()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.0.framing() {
            Framing::Absent => http_body::SizeHint::with_exact(0),
            Framing::Length(length) => http_body::SizeHint::with_exact(length),
            Framing::Chunked | Framing::UntilClose => http_body::SizeHint::default(),
        }
    }
}

/// Tells hyper to reset the stream: the client sees the cut, the record says the rest.
#[derive(Debug, thiserror::Error)]
#[error("the upstream broke off")]
pub struct CutError;
