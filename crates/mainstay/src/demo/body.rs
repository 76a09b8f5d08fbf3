//! The bodies the sample backend answers with.

use super::Backend;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use mainstay_runtime::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Interval};

pub type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

const TICK: Duration = Duration::from_secs(1);

pub fn whole(bytes: impl Into<Bytes>) -> Answer {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Server-sent events, the first at once and one a second, until the client leaves or the process stops.
pub fn events(backend: &Backend, request_id: Option<&str>) -> Answer {
    let instance = serde_json::json!({ "pid": backend.pid, "port": backend.port });
    let stop: Shutdown = backend.stop.clone();
    let events = Events {
        ticks: tokio::time::interval_at(Instant::now(), TICK),
        stopped: Box::pin(async move { stop.requested().await }),
        hello: Some(serde_json::json!({ "instance": &instance, "requestId": request_id })),
        instance,
        n: 0,
    };
    events.boxed_unsync()
}

struct Events {
    ticks: Interval,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    hello: Option<serde_json::Value>,
    instance: serde_json::Value,
    n: u64,
}

impl Body for Events {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(hello) = self.hello.take() {
            let text = format!("event: hello\ndata: {hello}\n\n");
            return Poll::Ready(Some(Ok(Frame::data(text.into()))));
        }
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        ready!(self.ticks.poll_tick(cx));
        self.n += 1;
        let data = serde_json::json!({ "n": self.n, "instance": &self.instance });
        Poll::Ready(Some(Ok(Frame::data(format!("id: {}\ndata: {data}\n\n", self.n).into()))))
    }
}
