//! J7: whoever gives a queue more workers hears when it wants them, and when it does not any more.
//!
//! The newest word counts: one that was not heard is said again until it was, gave way to another, or has been refused
//! too often. An address may hold a secret: no more of it than the host is ever said.

// Its tasks live on the service runtime, and end with what started them.
#![allow(clippy::disallowed_methods)]

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http_body_util::Full;
use mainstay_edge::acme::Http;
use mainstay_jobs::{Jobs, Name, Options, What};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between attempts, each twice the one before.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// About a quarter of an hour in all.
const ATTEMPTS: u32 = 10;

/// For as long as jobs are open.
pub async fn run(jobs: Jobs, options: watch::Receiver<Arc<Options>>) {
    let mut events = jobs.events();
    let mut saying: BTreeMap<Name, Saying> = BTreeMap::new();
    // A provider may have missed what was said before a restart.
    for queue in jobs.queues().await.unwrap_or_default().iter().filter(|queue| queue.is_short) {
        say(&jobs, &options, &queue.name, true, &mut saying);
    }
    loop {
        match events.recv().await {
            Ok(event) => {
                if let What::Short(wants) = event.what {
                    say(&jobs, &options, &event.queue, wants, &mut saying);
                }
            }
            Err(RecvError::Lagged(_)) => {
                for queue in jobs.queues().await.unwrap_or_default() {
                    if saying.get(&queue.name).map_or(queue.is_short, |said| said.wants != queue.is_short) {
                        say(&jobs, &options, &queue.name, queue.is_short, &mut saying);
                    }
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// What is being said, or was last; a newer word ends it.
struct Saying {
    wants: bool,
    task: JoinHandle<()>,
}

impl Drop for Saying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn say(
    jobs: &Jobs,
    options: &watch::Receiver<Arc<Options>>,
    queue: &Name,
    wants: bool,
    saying: &mut BTreeMap<Name, Saying>,
) {
    let hook = options.borrow().queues.iter().find(|one| one.name == *queue).and_then(|one| one.hook.clone());
    let Some(hook) = hook else { return };
    let task = tokio::spawn(said(jobs.clone(), queue.clone(), hook, wants));
    saying.insert(queue.clone(), Saying { wants, task });
}

async fn said(jobs: Jobs, queue: Name, hook: String, wants: bool) {
    let mut wait = AGAIN_AFTER;
    for attempt in 1..=ATTEMPTS {
        match ask(&jobs, &queue, &hook, wants).await {
            Ok(()) => return tracing::info!(%queue, wants, "the hook of a queue was told"),
            Err(why) if attempt == ATTEMPTS => {
                tracing::error!(%queue, wants, why, "the hook of a queue could not be told");
            }
            Err(why) => {
                tracing::warn!(%queue, wants, why, "the hook of a queue is told again");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
}

async fn ask(jobs: &Jobs, queue: &Name, hook: &str, wants: bool) -> Result<(), String> {
    let queues = jobs.queues().await.map_err(|error| error.to_string())?;
    let counts = queues.iter().find(|one| one.name == *queue).map(|one| one.counts).unwrap_or_default();
    let body = json!({
        "queue": &**queue, "wantsWorkers": wants, "waiting": counts.waiting, "active": counts.active,
    });
    let request = Request::post(hook)
        .header(USER_AGENT, "mainstay")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let http = Http::new(None).map_err(|failure| failure.to_string())?;
    let answer = http.send(request).await.map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
}
