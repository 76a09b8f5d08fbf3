//! A client's HTTP/1 connection: one request after the other, each read, served and answered by the same task.

use super::body::{Broken, Piece, Remaining, append_end};
use super::buffer::{Buffer, READ_BYTES};
use super::framing::Framing;
use super::head::{self, Fault, Keep, Parsed};
use super::stream::Stream;
use crate::body::{Answer, Body, Deadline};
use crate::core::{Conn, Core};
use crate::fields::Name;
use crate::message::{RequestHead, Version};
use crate::refusal::Own;
use crate::request;
use crate::snapshot::Snapshot;
use crate::tunnel;
use crate::watch::Phase;
use http::Method;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;

/// Heads beyond the configured limit are still read up to this, so that the refusal can name the request.
const HEAD_READ_BYTES_MIN: usize = 128 * 1024;
/// The same, where the configured limit is itself large.
const HEAD_READ_FACTOR: usize = 4;
/// And never more than this.
const HEAD_READ_BYTES_MAX: usize = 256 * 1024;
/// Requests read ahead while one is answered; what a client sends beyond stays in its socket.
const AHEAD_BYTES_MAX: usize = 16 * 1024;
/// What is still taken from a client that was refused in the middle of its body, so that it reads the refusal
/// instead of a reset.
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's socket. Its parts are borrowed for the time of one poll, never across one.
#[derive(Debug)]
pub struct Socket {
    stream: RefCell<Stream>,
    /// Read, and not yet understood.
    input: RefCell<Buffer>,
    /// A body is on its way that nobody has read to its end.
    body_open: Cell<bool>,
    /// The client waits for a word before it sends its body.
    expects: Cell<bool>,
    /// The client does not read, and the deadline is for that.
    stalled: Cell<bool>,
    header: Duration,
    send: Duration,
}

/// What a wait for the next request ended with.
enum Next {
    Request(Box<RequestHead>, Framing),
    Refused(Own),
    Over,
}

impl Socket {
    pub fn new(stream: Stream, input: Buffer, snapshot: &Snapshot) -> Socket {
        Socket {
            stream: RefCell::new(stream),
            input: RefCell::new(input),
            body_open: Cell::new(false),
            expects: Cell::new(false),
            stalled: Cell::new(false),
            header: snapshot.timeouts.header,
            send: snapshot.timeouts.send,
        }
    }

    /// The stream and what was read of it, for a tunnel.
    pub fn take(&self) -> (Stream, Buffer) {
        (self.stream.borrow_mut().take(), self.input.take())
    }

    pub fn poll_body(
        &self,
        cx: &mut Context<'_>,
        core: &Core,
        remaining: &mut Remaining,
        out: &mut Buffer,
        wrap: bool,
    ) -> Poll<Result<Piece, Broken>> {
        let mut stream = self.stream.borrow_mut();
        let mut input = self.input.borrow_mut();
        if self.expects.get() && input.is_empty() {
            let mut word = Buffer::default();
            word.put(CONTINUE, &core.buffers);
            // The client reads nothing but this and sends nothing before: its socket takes it whole.
            match word.poll_write(cx, &mut *stream, &core.buffers) {
                Poll::Ready(Ok(())) => self.expects.set(false),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Gone)),
                Poll::Pending => return Poll::Pending,
            }
            let _ = poll_flush(cx, &mut stream);
        }
        let polled = remaining.poll_into(cx, &mut *stream, &mut input, out, wrap, &core.buffers);
        if remaining.is_nothing() {
            self.body_open.set(false);
        }
        polled
    }

    /// Ready once the client is gone. What it sends ahead is read, up to a bound.
    fn poll_gone(&self, cx: &mut Context<'_>, core: &Core) -> Poll<()> {
        if self.body_open.get() {
            return Poll::Pending;
        }
        let mut input = self.input.borrow_mut();
        while input.len() < AHEAD_BYTES_MAX {
            match ready!(input.poll_read(cx, &mut *self.stream.borrow_mut(), READ_BYTES, &core.buffers)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Writes what there is; an error, too, where the client has not read for too long.
    fn poll_write(&self, cx: &mut Context<'_>, core: &Core, conn: &Conn, out: &mut Buffer) -> Poll<io::Result<()>> {
        let before = out.len();
        match out.poll_write(cx, &mut *self.stream.borrow_mut(), &core.buffers) {
            Poll::Pending => {
                // One that reads a little is slow, not stuck.
                let moved = out.len() < before;
                if self.stalled.get() && conn.watch.is_expired() && !moved {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                if !self.stalled.replace(true) || moved {
                    conn.watch.forgive();
                    conn.watch.set(core.now_ms(), self.send);
                }
                Poll::Pending
            }
            ready => {
                if self.stalled.replace(false) {
                    conn.watch.forgive();
                }
                ready
            }
        }
    }

    /// Writes the last of an answer; `closes`: and of the connection.
    fn poll_last(
        &self,
        cx: &mut Context<'_>,
        core: &Core,
        conn: &Conn,
        out: &mut Buffer,
        closes: bool,
    ) -> Poll<io::Result<()>> {
        loop {
            if closes {
                let taken = self.stream.borrow_mut().take_last(out.filled())?;
                out.consume(taken);
                core.buffers.release(out);
            }
            if out.is_empty() {
                break;
            }
            ready!(self.poll_write(cx, core, conn, out))?;
        }
        poll_flush(cx, &mut self.stream.borrow_mut())
    }

    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        core: &Core,
        conn: &Conn,
        seen: &mut usize,
        read_max: usize,
    ) -> Poll<Next> {
        let mut input = self.input.borrow_mut();
        loop {
            if input.len() > *seen && (*seen == 0 || head::may_be_whole(input.filled(), *seen)) {
                let mut head = core.heads.request();
                match head::request(input.filled(), &mut head) {
                    Ok(Parsed::Head(size, framing)) => {
                        input.consume(size);
                        core.buffers.release(&mut input);
                        return Poll::Ready(Next::Request(head, framing));
                    }
                    Ok(Parsed::Partial) => core.heads.release_request(head),
                    Err(fault) => return Poll::Ready(Next::Refused(Own::new(status_of(fault)))),
                }
            }
            *seen = input.len();
            if *seen >= read_max {
                return Poll::Ready(Next::Refused(Own::new(too_much(input.filled()))));
            }
            if *seen > 0 && conn.watch.phase() == Phase::Idle {
                conn.watch.enter(Phase::Header);
                conn.watch.set(core.now_ms(), self.header);
            }
            if conn.watch.is_expired() {
                let half = *seen > 0 && conn.watch.phase() == Phase::Header;
                return Poll::Ready(if half { Next::Refused(Own::new(408)) } else { Next::Over });
            }
            let max = READ_BYTES.min(read_max - *seen);
            match ready!(input.poll_read(cx, &mut *self.stream.borrow_mut(), max, &core.buffers)) {
                Ok(0) | Err(_) => return Poll::Ready(Next::Over),
                Ok(_) => {}
            }
        }
    }

    /// Closes so that what was written arrives: a socket closed with unread bytes is reset.
    async fn linger(&self, core: &Core) {
        let mut taken = 0;
        let gone = poll_fn(|cx| {
            let stream = &mut *self.stream.borrow_mut();
            ready!(std::pin::Pin::new(&mut *stream).poll_shutdown(cx))?;
            let mut rest = Buffer::default();
            while taken < LINGER_BYTES_MAX {
                let read = ready!(rest.poll_read(cx, stream, READ_BYTES, &core.buffers))?;
                rest.consume(read);
                core.buffers.release(&mut rest);
                if read == 0 {
                    break;
                }
                taken += read;
            }
            Poll::Ready(io::Result::Ok(()))
        });
        // Whatever happens, the connection ends here.
        let _ = tokio::time::timeout(LINGER, gone).await;
    }
}

fn poll_flush(cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
    std::pin::Pin::new(stream).poll_flush(cx)
}

fn status_of(fault: Fault) -> u16 {
    match fault {
        Fault::Malformed => 400,
        Fault::TooManyFields => 431,
        Fault::TargetTooLong => 414,
    }
}

/// More than is read of any head: the target alone, or its fields.
fn too_much(bytes: &[u8]) -> u16 {
    if bytes.contains(&b'\n') { 431 } else { 414 }
}

pub fn head_read_max(snapshot: &Snapshot) -> usize {
    (snapshot.limits.header * HEAD_READ_FACTOR).clamp(HEAD_READ_BYTES_MIN, HEAD_READ_BYTES_MAX)
}

/// Serves a connection to its end.
pub async fn drive(core: Rc<Core>, conn: Rc<Conn>) -> io::Result<()> {
    let Some(socket) = &conn.http1 else { return Ok(()) };
    let ticket = core.sweep.enlist(conn.watch.clone());
    poll_fn(|cx| {
        ticket.polled_by(cx);
        Poll::Ready(())
    })
    .await;
    loop {
        let read_max = head_read_max(&core.snapshot());
        let mut seen = 0;
        match poll_fn(|cx| socket.poll_next(cx, &core, &conn, &mut seen, read_max)).await {
            Next::Over => return Ok(()),
            Next::Refused(own) => {
                crate::worker::refused(&core, &conn.peer, own);
                let mut out = Buffer::default();
                out.put(&own.bytes(), &core.buffers);
                conn.watch.forgive();
                poll_fn(|cx| socket.poll_write(cx, &core, &conn, &mut out)).await?;
                socket.linger(&core).await;
                return Ok(());
            }
            // Boxed, so that an idle connection does not keep the room of a request.
            Next::Request(head, framing) => {
                if !Box::pin(exchange(&core, &conn, socket, head, framing)).await? {
                    return Ok(());
                }
            }
        }
    }
}

/// One request and its answer. True if another may follow.
async fn exchange(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    socket: &Socket,
    head: Box<RequestHead>,
    framing: Framing,
) -> io::Result<bool> {
    let http10 = head.version == Version::Http10;
    let to_head = head.method == Method::HEAD;
    let (keeps, said) = match http10 {
        true => {
            let said = head.fields.has_token(Name::Connection, "keep-alive");
            (said, said)
        }
        false => (!head.fields.has_token(Name::Connection, "close"), false),
    };
    let remaining = Remaining::new(framing);
    socket.body_open.set(!remaining.is_nothing());
    socket.expects.set(
        !remaining.is_nothing()
            && !http10
            && head.fields.get(Name::Expect).is_some_and(|e| e.eq_ignore_ascii_case(b"100-continue")),
    );
    let body = match remaining {
        Remaining::Nothing => Body::Absent,
        remaining => Body::Http1 { conn: conn.clone(), remaining },
    };
    let trailers = head.fields.get(Name::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
    let deadline = Deadline { watch: conn.watch.clone(), now_ms: core.now_ms.clone(), ticket: None };
    let mut serving = pin!(request::serve(core.clone(), conn.clone(), deadline, head, body));
    let served = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => socket.poll_gone(cx, core).map(|()| None),
    });
    // Dropped, the request tells by itself that its client has gone.
    let Some(mut answer) = served.await else { return Ok(false) };
    let wrap = !to_head && !http10 && matches!(answer.framing(), Framing::Chunked | Framing::UntilClose);
    let framed = match answer.framing() {
        _ if wrap => Framing::Chunked,
        // The end of the connection is all that HTTP/1.0 knows.
        Framing::Chunked if http10 => Framing::UntilClose,
        other => other,
    };
    let endless = !wrap && matches!(answer.framing(), Framing::Chunked | Framing::UntilClose);
    let keep = match () {
        () if answer.is_tunnel() => Keep::Upgrade,
        () if !keeps || answer.close || endless || socket.body_open.get() || core.draining.get() => Keep::Close,
        () if said => Keep::Said,
        () => Keep::Unsaid,
    };
    // Too late for a word in between.
    socket.expects.set(false);
    let out = begin(core, &mut answer, framed, keep);
    let last = Last { closes: keep == Keep::Close, trailers: wrap.then_some(trailers) };
    send(core, conn, socket, &mut answer, out, last).await?;
    if keep == Keep::Upgrade {
        if let Some(opened) = answer.into_tunnel() {
            let (client, read) = socket.take();
            conn.watch.enter(Phase::Tunnel);
            tunnel::run(core, client, read, *opened).await;
        }
        return Ok(false);
    }
    drop(answer);
    if socket.body_open.get() {
        socket.linger(core).await;
    }
    Ok(keep != Keep::Close)
}

/// The head, and behind it what has come of the body already.
fn begin(core: &Core, answer: &mut Answer, framing: Framing, keep: Keep) -> Buffer {
    let mut text = core.text.borrow_mut();
    text.clear();
    head::write_response(&mut text, &answer.head, framing, keep);
    core.heads.release_response(std::mem::take(&mut answer.head));
    answer.first(&text).unwrap_or_else(|| {
        let mut out = Buffer::default();
        out.put(&text, &core.buffers);
        out
    })
}

/// How far an answer has gone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Head,
    Body,
    /// All that is left waits to be written.
    Last,
    /// The same, but the upstream broke off: the client sees what came, and then the end of the connection.
    Cut,
}

/// How an answer ends.
#[derive(Clone, Copy)]
struct Last {
    /// The connection ends with it.
    closes: bool,
    /// It is sent as chunks, and whether trailers are welcome.
    trailers: Option<bool>,
}

/// Writes the answer as it comes.
async fn send(
    core: &Rc<Core>,
    conn: &Conn,
    socket: &Socket,
    answer: &mut Answer,
    mut out: Buffer,
    last: Last,
) -> io::Result<()> {
    let mut state = if answer.is_ended() { Sending::Last } else { Sending::Head };
    let wrap = last.trailers;
    let sent = poll_fn(|cx| {
        loop {
            if state == Sending::Last {
                return socket.poll_last(cx, core, conn, &mut out, last.closes);
            }
            // The first of a body that has come already goes out with the head.
            if state != Sending::Head {
                ready!(socket.poll_write(cx, core, conn, &mut out))?;
            }
            match state {
                Sending::Cut => {
                    let _ = ready!(poll_flush(cx, &mut socket.stream.borrow_mut()));
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Sending::Head | Sending::Body | Sending::Last => {}
            }
            match answer.poll_into(cx, core, &mut out, wrap.is_some()) {
                Poll::Ready(Ok(Piece::Data(_))) if wrap.is_none() && answer.is_ended() => state = Sending::Last,
                Poll::Ready(Ok(Piece::Data(_))) => state = Sending::Body,
                Poll::Ready(Ok(Piece::End(trailers))) => {
                    state = Sending::Last;
                    if let Some(welcome) = wrap {
                        append_end(trailers.as_ref().filter(|_| welcome), &mut out, &core.buffers);
                    }
                }
                Poll::Ready(Err(_)) => state = Sending::Cut,
                Poll::Pending => {
                    state = Sending::Body;
                    ready!(socket.poll_write(cx, core, conn, &mut out))?;
                    let _ = poll_flush(cx, &mut socket.stream.borrow_mut());
                    return match socket.poll_gone(cx, core) {
                        Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    });
    sent.await
}
