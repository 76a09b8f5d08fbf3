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
use mainstay_jobs::{Jobs, Listening, Name, Options, What};
use mainstay_runtime::Clock;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

/// A word is said once it has held for so long: a queue at its edge turns with every job.
const HOLDS: Duration = Duration::from_secs(2);
/// Between attempts, each twice the one before.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// About a quarter of an hour in all.
const ATTEMPTS: u32 = 10;

/// Reads the roots of this machine, files, once there is something to say; and no second time.
type Client = Arc<OnceCell<Http>>;

/// For as long as jobs are open.
pub async fn run(jobs: Jobs, mut options: watch::Receiver<Arc<Options>>) {
    let client = Client::default();
    let mut events = Listening::default();
    let mut sayings: BTreeMap<Name, Saying> = BTreeMap::new();
    // A provider may have missed what was said before a start.
    let mut is_anew = true;
    loop {
        if std::mem::take(&mut is_anew) {
            let hooks = hooks(&options.borrow_and_update());
            events.while_wanted(|| jobs.events(), !hooks.is_empty());
            sayings.retain(|queue, saying| hooks.get(queue) == Some(&saying.hook));
            for queue in jobs.queues().await.unwrap_or_default() {
                let Some(hook) = hooks.get(&queue.name) else { continue };
                if sayings.get(&queue.name).is_none_or(|saying| saying.wants != queue.is_short) {
                    let saying = Saying::new(&jobs, &client, &queue.name, hook, queue.is_short);
                    sayings.insert(queue.name, saying);
                }
            }
        }
        tokio::select! {
            Ok(()) = options.changed() => is_anew = true,
            event = events.next() => match event {
                Ok(event) => {
                    if let (What::Short(wants), Some(saying)) = (event.what, sayings.get_mut(&event.queue)) {
                        *saying = Saying::new(&jobs, &client, &event.queue, &saying.hook.clone(), wants);
                    }
                }
                Err(RecvError::Lagged(_)) => is_anew = true,
                Err(RecvError::Closed) => return,
            },
        }
    }
}

fn hooks(options: &Options) -> BTreeMap<Name, String> {
    options.queues.iter().filter_map(|queue| Some((queue.name.clone(), queue.hook.clone()?))).collect()
}

/// What is being said, or was last; a newer word ends it.
struct Saying {
    hook: String,
    wants: bool,
    task: JoinHandle<()>,
}

impl Saying {
    fn new(jobs: &Jobs, client: &Client, queue: &Name, hook: &str, wants: bool) -> Saying {
        let task = tokio::spawn(say(jobs.clone(), client.clone(), queue.clone(), hook.to_owned(), wants));
        Saying { hook: hook.to_owned(), wants, task }
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn say(jobs: Jobs, client: Client, queue: Name, hook: String, wants: bool) {
    tokio::time::sleep(HOLDS).await;
    let mut wait = AGAIN_AFTER;
    for attempt in 1..=ATTEMPTS {
        match ask(&jobs, &client, &queue, &hook, wants).await {
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

async fn ask(jobs: &Jobs, client: &Client, queue: &Name, hook: &str, wants: bool) -> Result<(), String> {
    let queues = jobs.queues().await.map_err(|error| error.to_string())?;
    let counts = queues.iter().find(|one| one.name == *queue).map(|one| one.counts).unwrap_or_default();
    let body = json!({
        "queue": &**queue, "wantsWorkers": wants, "waiting": counts.waiting, "active": counts.active,
        "atMs": Clock::unix_micros() / 1000,
    });
    let request = Request::post(hook)
        .header(USER_AGENT, "mainstay")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let made = async || {
        let made = tokio::task::spawn_blocking(|| Http::new(None)).await.map_err(|error| error.to_string())?;
        made.map_err(|failure| failure.to_string())
    };
    let http = client.get_or_try_init(made).await?;
    let answer = http.send(request).await.map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
}
