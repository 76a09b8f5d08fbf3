//! The strict client over HTTP/2 with prior knowledge: few connections, several requests at once on each.

use crate::strict::Book;
use crate::strict_tls::Way;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Requests at once on one connection.
const STREAMS: usize = 5;

type Sender = SendRequest<Full<Bytes>>;

/// Runs until the book is stopped: `wanted` requests at once in all.
pub fn load(way: &Way, wanted: usize, pace: Duration, book: &Arc<Book>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let connections = (0..wanted.div_ceil(STREAMS)).map(|_| {
            let (way, book) = (way.clone(), book.clone());
            tokio::task::spawn_local(async move { connection(&way, pace, &book).await })
        });
        for connection in connections.collect::<Vec<_>>() {
            connection.await.expect("a connection's task panicked");
        }
    });
}

/// One connection at a time, a new one whenever the last is going away.
async fn connection(way: &Way, pace: Duration, book: &Arc<Book>) {
    while !book.stopped() {
        let sender = match over(way).await {
            Ok(sender) => sender,
            Err(what) => {
                book.change(|tally| tally.refused.push(what));
                tokio::time::interval_at(tokio::time::Instant::now() + pace, pace).tick().await;
                continue;
            }
        };
        let streams = (0..STREAMS).map(|_| {
            let (way, book, sender) = (way.clone(), book.clone(), sender.clone());
            tokio::task::spawn_local(async move { stream(&way, pace, sender, &book).await })
        });
        for stream in streams.collect::<Vec<_>>() {
            stream.await.expect("a stream's task panicked");
        }
    }
}

/// Connects once.
pub async fn open(edge: SocketAddr) -> Result<Sender, String> {
    over(&Way::plain(edge)).await
}

async fn over(way: &Way) -> Result<Sender, String> {
    let stream = way.connect(b"h2").await?;
    let (sender, driver) = http2::handshake(OnLocal, Io(stream)).await.map_err(|e| e.to_string())?;
    tokio::task::spawn_local(async move {
        let _ = driver.await;
    });
    Ok(sender)
}

/// One POST on a connection of its own; the answer as it came, however much of the body was taken.
pub fn post(edge: SocketAddr, path: &str, body: Vec<u8>) -> Result<crate::Response, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut sender = open(edge).await?;
        let request = http::Request::post(format!("http://{edge}{path}")).body(Full::new(Bytes::from(body)));
        let sent = sender.send_request(request.map_err(|e| e.to_string())?);
        let answer = tokio::time::timeout(crate::BOUND, sent).await.map_err(|e| e.to_string())?;
        let (head, body) = answer.map_err(|e| format!("{e:?}"))?.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(crate::Response {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes().to_vec(),
            ..crate::Response::default()
        })
    })
}

/// One request after another until the connection is going away or the load ends.
async fn stream(way: &Way, pace: Duration, mut sender: Sender, book: &Arc<Book>) {
    let mut paced = tokio::time::interval(pace);
    while !book.stopped() {
        paced.tick().await;
        if sender.ready().await.is_err() {
            return;
        }
        let number = book.number();
        let (method, target, body) = book.mix.request(number);
        let request = http::Request::builder().method(method).uri(format!("{}{target}", way.base()));
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let answer = tokio::time::timeout(crate::BOUND, sender.send_request(request)).await;
        let response = match answer {
            Err(_) => return book.lost(number, method, "no answer within the bound".into()),
            // The request never left: the connection was closing under it.
            Ok(Err(e)) if e.is_canceled() || went_away(&e) => return book.change(|tally| tally.unsent += 1),
            Ok(Err(e)) => return book.lost(number, method, format!("{e:?}")),
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        let id = response.headers().get("mainstay-request-id").and_then(|v| v.to_str().ok());
        let id = id.unwrap_or_default().to_string();
        match tokio::time::timeout(crate::BOUND, response.into_body().collect()).await {
            Ok(Ok(body)) => book.whole(number, method, status, &id, &body.to_bytes()),
            Ok(Err(_)) => book.cut(number, method, &id),
            Err(_) => return book.lost(number, method, "no end within the bound".into()),
        }
    }
}

/// The server had said that it takes no more (RFC 9113 §6.8): the library refuses what it was handed a moment later, or
/// the server names it as not worked on. A request that was worked on and cut ends with another error; a test that
/// counts what the edge wrote down would find one that was worked on all the same.
fn went_away(error: &hyper::Error) -> bool {
    format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Spawns on the thread's own `LocalSet`.
#[derive(Clone, Copy, Debug)]
pub struct OnLocal;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnLocal {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A tokio socket as hyper wants it.
#[derive(Debug)]
pub struct Io<T>(pub T);

/// One read's worth on the stack, so that no uninitialised memory is touched.
const READ_BYTES: usize = 8 * 1024;

impl<T: AsyncRead + Unpin> hyper::rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut space = [0u8; READ_BYTES];
        let room = into.remaining().min(READ_BYTES);
        let mut buffer = ReadBuf::new(&mut space[..room]);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        into.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> hyper::rt::Write for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
