//! A request's body as it comes over HTTP/2. Never whole before it is sure to be: an app that speaks HTTP/1.1 has
//! all of a request with the last byte that was announced, and what comes behind it may still make it malformed.

use crate::body::Body;
use crate::core::Core;
use crate::fields::Fields;
use crate::http1::body::{Broken, Piece, append};
use crate::http1::buffer::Buffer;
use crate::http1::framing::Framing;
use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

#[derive(Debug)]
pub struct Arriving {
    incoming: Incoming,
    /// The last of an announced length, until the stream ends with it. One frame at most.
    last: Option<Bytes>,
    /// Told once the last is gone.
    end: Option<Option<Fields>>,
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Body {
        if incoming.is_end_stream() {
            return Body::Absent;
        }
        // In a box: a request without a body, which most are, carries no room for one.
        Body::Http2(Box::new(Arriving { incoming, last: None, end: None }))
    }
}

impl Arriving {
    /// Of a body that nothing was read of yet.
    pub fn framing(&self) -> Framing {
        match self.incoming.size_hint().exact() {
            _ if self.incoming.is_end_stream() => Framing::Absent,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
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
        let data = loop {
            if let Some(end) = self.end.take() {
                return Poll::Ready(Ok(Piece::End(end)));
            }
            match ready!(poll_frame(&mut self.incoming, cx)) {
                Err(broken) => return Poll::Ready(Err(broken)),
                Ok(Came::End(end)) => {
                    self.end = Some(end);
                    if let Some(last) = self.last.take() {
                        break last;
                    }
                }
                Ok(Came::Data(data)) => {
                    let whole = self.incoming.is_end_stream();
                    match self.last.take() {
                        // An end in a frame of its own.
                        Some(last) if data.is_empty() => self.last = Some(last),
                        // hyper lets none such pass.
                        Some(_) => return Poll::Ready(Err(Broken::Malformed)),
                        None if !whole && self.incoming.size_hint().exact() == Some(0) => self.last = Some(data),
                        None => break data,
                    }
                }
            }
        };
        append(&data, out, wrap, &core.buffers);
        Poll::Ready(Ok(Piece::Data(data.len())))
    }
}

/// What came of a stream, of a client's or an upstream's.
#[derive(Debug)]
pub enum Came {
    Data(Bytes),
    /// The stream's end; trailers, if there were any.
    End(Option<Fields>),
}

/// The next of it. A stream that was reset has no end, not even where the reset names no error: hyper takes
/// that for one, as a client may (RFC 9113 §8.1), and half a body would be taken for a whole one.
pub fn poll_frame(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Result<Came, Broken>> {
    Poll::Ready(match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
        None if incoming.is_end_stream() => Ok(Came::End(None)),
        None | Some(Err(_)) => Err(Broken::Gone),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => Ok(Came::Data(data)),
            // Trailers end a body, and are told once they are there.
            Err(frame) => Ok(Came::End(frame.into_trailers().ok().map(|map| super::trailers(&map)))),
        },
    })
}
