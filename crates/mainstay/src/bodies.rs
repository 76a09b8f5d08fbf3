//! Answers of our own over HTTP, to operators and to apps: a document, or pieces as they come.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode, header};
use std::convert::Infallible;
use tokio::sync::mpsc;

pub type Body = BoxBody<Bytes, Infallible>;

pub fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

pub fn whole(text: String) -> Body {
    bytes(text.into_bytes())
}

pub fn bytes(all: Vec<u8>) -> Body {
    Full::new(Bytes::from(all)).boxed()
}

/// Until the sender is dropped; each piece is sent as soon as it is there.
pub fn streamed<T: Send + 'static>(
    mut pieces: mpsc::Receiver<T>,
    written: impl Fn(T) -> Bytes + Send + Sync + 'static,
) -> Body {
    let pieces = poll_fn(move |cx| pieces.poll_recv(cx));
    BodyExt::boxed(StreamBody::new(pieces.map(move |piece| Ok(Frame::data(written(piece))))))
}
