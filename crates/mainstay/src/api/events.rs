//! Answers that go on for as long as somebody listens: what happens to jobs, after it was committed; and the presence
//! of a worker, which is there exactly as long.

use crate::bodies::{self, Body};
use bytes::Bytes;
use hyper::{Response, StatusCode, header};
use mainstay_jobs::{Event, Jobs, Stream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// A comment that keeps the connection, and tells a client that is gone.
const REST: Duration = Duration::from_secs(15);
/// A third of a lease.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// Events that wait for a slow reader; past it, it is told how many it lost.
const EVENTS_MAX: usize = 256;

/// Of one queue, or of all.
#[allow(clippy::disallowed_methods)]
pub fn stream(jobs: &Jobs, queue: Option<String>) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(told(jobs.clone(), jobs.stream(), queue, sender));
    lines(receiver)
}

/// What the worker has is its own for as long as this is open, however long its own loop is blocked; once it is gone,
/// so is the worker, and others are given its jobs after 5 s.
#[allow(clippy::disallowed_methods)]
pub fn presence(jobs: &Jobs, workers: Arc<Mutex<HashMap<String, usize>>>, worker: String) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let jobs = jobs.clone();
    *counted(&workers).entry(worker.clone()).or_insert(0) += 1;
    tokio::spawn(async move {
        while !sender.is_closed() && jobs.beat(&worker, Vec::new()).await.is_ok() {
            // A full channel is a reader that is slow, and there.
            let _ = sender.try_send(":\n\n".to_owned());
            let _ = tokio::time::timeout(BEAT_EVERY, sender.closed()).await;
        }
        // It may have come back before its old stream was seen to end.
        let is_last = {
            let mut counts = counted(&workers);
            let left = counts.get(&worker).map_or(0, |count| count - 1);
            match left {
                0 => drop(counts.remove(&worker)),
                left => drop(counts.insert(worker.clone(), left)),
            }
            left == 0
        };
        if is_last {
            let _ = jobs.disconnect(&worker).await;
        }
    });
    lines(receiver)
}

fn counted(workers: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    workers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lines(receiver: mpsc::Receiver<String>) -> Response<Body> {
    let body = bodies::streamed(receiver, Bytes::from);
    let mut response = bodies::response(StatusCode::OK, "text/event-stream", body);
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

async fn told(jobs: Jobs, mut events: Stream, queue: Option<String>, to: mpsc::Sender<String>) {
    loop {
        let text = match tokio::time::timeout(REST, events.next()).await {
            Ok(Ok(event)) if queue.as_deref().is_none_or(|queue| *event.queue == *queue) => line(&jobs, &event),
            Ok(Ok(_)) => continue,
            Ok(Err(broadcast::error::RecvError::Lagged(lost))) => format!("event: lost\ndata: {lost}\n\n"),
            Ok(Err(broadcast::error::RecvError::Closed)) => return,
            Err(_) => ":\n\n".to_owned(),
        };
        if to.send(text).await.is_err() {
            return;
        }
    }
}

fn line(jobs: &Jobs, event: &Event) -> String {
    format!("event: {}\ndata: {}\n\n", event.what.as_str(), jobs.told(event))
}
