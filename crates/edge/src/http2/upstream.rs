//! Upstreams that speak HTTP/2 without TLS, as gRPC servers do: one connection a core and upstream, its streams shared
//! by the requests of that core. hyper's client, fed from our heads and bodies.

use crate::body::{Body, Flow, Progress};
use crate::core::Core;
use crate::http1::body::{Broken, Piece};
use crate::http1::buffer::Buffer;
use crate::http1::framing::Framing;
use crate::http2::arriving::{Came, poll_frame};
use crate::message::{RequestHead, ResponseHead};
use crate::upstream::Upstream;
use crate::watch::Watch;
use crate::worker::OnThisCore;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;

/// Streams are not counted here: hyper waits for the upstream's own limit.
#[derive(Debug, Default)]
pub struct Streams {
    open: RefCell<HashMap<u32, Open>>,
}

type Open = (Arc<Upstream>, SendRequest<Payload>);

impl Streams {
    fn get(&self, upstream: &Upstream) -> Option<SendRequest<Payload>> {
        let mut open = self.open.borrow_mut();
        let (_, sender) = open.get(&upstream.slot)?;
        if sender.is_closed() {
            open.remove(&upstream.slot);
            return None;
        }
        Some(sender.clone())
    }

    /// Lets go of connections that ended or belong to an upstream that drains; their streams finish.
    pub fn sweep(&self) {
        self.open.borrow_mut().retain(|_, (upstream, sender)| !upstream.is_draining() && !sender.is_closed());
    }
}

/// The connection to this upstream, opened where there is none.
pub async fn connect(core: &Core, upstream: &Arc<Upstream>, timeout: Duration) -> io::Result<SendRequest<Payload>> {
    if let Some(sender) = core.streams.get(upstream) {
        return Ok(sender);
    }
    let opening = async {
        let stream = TcpStream::connect(upstream.address).await?;
        stream.set_nodelay(true)?;
        http2::Builder::new(OnThisCore).handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
    };
    let (sender, connection) = tokio::time::timeout(timeout, opening)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connect timeout"))??;
    tokio::task::spawn_local(async move {
        // Its error reaches whoever waits for an answer on it; an idle connection's end is no news.
        let _ = connection.await;
    });
    core.streams.open.borrow_mut().insert(upstream.slot, (upstream.clone(), sender.clone()));
    Ok(sender)
}

/// A request as hyper sends it.
pub fn request(head: &RequestHead, payload: Payload) -> Result<Request<Payload>, http::Error> {
    let host = head.fields.text_of(crate::fields::Name::Host).filter(|h| !h.is_empty()).unwrap_or("localhost");
    let uri = Uri::builder().scheme("http").authority(host).path_and_query(head.target()).build()?;
    let mut request = Request::new(payload);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = super::header_map(&head.fields);
    request.headers_mut().remove(http::header::HOST);
    Ok(request)
}

/// The head of its answer, and the body that follows.
pub fn response(core: &Core, response: Response<Incoming>) -> (Box<ResponseHead>, Incoming) {
    let (parts, body) = response.into_parts();
    let mut head = core.heads.response();
    head.status = parts.status.as_u16();
    super::append(&mut head.fields, &parts.headers);
    (head, body)
}

/// What an upstream is sent.
#[derive(Debug)]
pub enum Payload {
    /// Small enough to be kept and sent again; empty for none.
    Kept(Bytes),
    Stream(Box<Streamed>),
}

/// A client's body as it comes.
#[derive(Debug)]
pub struct Streamed {
    pub body: Body,
    pub core: Rc<Core>,
    /// Bytes that may still come.
    pub left: u64,
    pub progress: Rc<Progress>,
    pub watch: Arc<Watch>,
    /// Longest pause of the client.
    pub pause: Duration,
    /// Armed once the body is complete.
    pub response: Option<Duration>,
}

/// The client's part of a request broke off; the request's progress says how.
#[derive(Debug, thiserror::Error)]
#[error("the client broke off")]
pub struct Stopped;

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        self.progress.state.set(Flow::Flowing);
        loop {
            let mut out = Buffer::default();
            let Poll::Ready(piece) = self.body.poll_into(cx, &self.core, &mut out, false) else {
                self.watch.set(self.core.now_ms(), self.pause);
                return Poll::Pending;
            };
            let data = Bytes::copy_from_slice(out.filled());
            self.core.buffers.discard(&mut out);
            match piece {
                Ok(Piece::Data(size)) => {
                    self.watch.clear();
                    self.progress.bytes.set(self.progress.bytes.get() + size as u64);
                    let Some(left) = self.left.checked_sub(size as u64) else { return self.stop(Flow::TooLarge) };
                    self.left = left;
                    if size > 0 {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Ok(Piece::End(trailers)) => {
                    self.progress.state.set(Flow::Complete);
                    match self.response {
                        Some(limit) => self.watch.set(self.core.now_ms(), limit),
                        None => self.watch.clear(),
                    }
                    return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(super::header_map(&t)))));
                }
                Err(broken) => return self.stop(Flow::Client(broken)),
            }
        }
    }

    fn stop(&self, state: Flow) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        self.progress.state.set(state);
        Poll::Ready(Some(Err(Stopped)))
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        match &mut *self {
            Payload::Kept(bytes) if bytes.is_empty() => Poll::Ready(None),
            Payload::Kept(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Payload::Stream(streamed) if streamed.progress.state.get() == Flow::Complete => Poll::Ready(None),
            Payload::Stream(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Payload::Kept(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Kept(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Payload::Stream(streamed) => match streamed.body.framing() {
                Framing::Length(left) => SizeHint::with_exact(left),
                _ => SizeHint::default(),
            },
        }
    }
}

/// Appends what has come of an answer's body.
pub fn poll_into(
    incoming: &mut Incoming,
    cx: &mut Context<'_>,
    core: &Core,
    out: &mut Buffer,
    wrap: bool,
) -> Poll<Result<Piece, Broken>> {
    Poll::Ready(match ready!(poll_frame(incoming, cx))? {
        Came::Data(data) => {
            crate::http1::body::append(&data, out, wrap, &core.buffers);
            Ok(Piece::Data(data.len()))
        }
        Came::End(trailers) => Ok(Piece::End(trailers)),
    })
}
