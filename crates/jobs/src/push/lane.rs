//! One queue's way to the app: claims as many jobs as there is room for, and sees each to its end.
//!
//! Must never claim while no instance serves, nor hold more jobs than the queue lets run at once.

use super::{Desk, Held, expected};
use crate::error::Error;
use crate::handle::Claim;
use crate::job::Name;
use crate::options::Queue;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Jobs in flight of a queue that has no concurrency of its own.
const IN_FLIGHT: u32 = 64;
/// And at most, whatever its concurrency: each may have a connection and a payload of 1 MiB.
const IN_FLIGHT_MAX: u32 = 1024;
/// A claim waits no longer: then it is looked whether an instance still serves.
const CLAIM_WAIT: Duration = Duration::from_secs(1);
/// While none serves it is looked for again, first after this and then less often.
const LOOK_AFTER: Duration = Duration::from_millis(100);
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// After a claim that failed.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// What a lane goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    path: Arc<str>,
    /// In flight at once.
    most: usize,
}

type Seeking = Pin<Box<dyn Future<Output = Result<Vec<Held>, Error>> + Send>>;

impl Rules {
    /// `None`: the queue is not pushed.
    pub fn of(queue: &Queue) -> Option<Rules> {
        let push = queue.push.as_ref()?;
        let most = queue.settings.concurrency.unwrap_or(IN_FLIGHT).clamp(1, IN_FLIGHT_MAX);
        Some(Rules { path: push.path.as_str().into(), most: most as usize })
    }
}

/// Until the end is asked for or the queue is not pushed any more, and then until its last job has ended.
pub(super) async fn run(desk: Arc<Desk>, queue: Name, mut rules: watch::Receiver<Rules>) {
    let mut running = JoinSet::new();
    let mut seeking = None;
    loop {
        let now = rules.borrow_and_update().clone();
        let free = now.most.saturating_sub(running.len());
        if seeking.is_none() && free > 0 {
            seeking = Some(seek(desk.clone(), queue.clone(), now.path, free));
        }
        tokio::select! {
            () = desk.shutdown.requested() => break,
            changed = rules.changed() => match changed {
                // Who drops a claim takes none.
                Ok(()) => seeking = None,
                Err(_) => break,
            },
            Some(ended) = running.join_next() => drop(expected(ended)),
            found = sought(&mut seeking) => {
                seeking = None;
                let Ok(found) = found else { break };
                for held in found {
                    running.spawn(hand(desk.clone(), queue.clone(), rules.clone(), held));
                }
            }
        }
    }
    drop(seeking);
    while let Some(ended) = running.join_next().await {
        let _ = expected(ended);
    }
}

async fn sought(seeking: &mut Option<Seeking>) -> Result<Vec<Held>, Error> {
    match seeking {
        Some(seeking) => seeking.await,
        None => std::future::pending().await,
    }
}

/// Jobs, once an instance serves. An error says that there will be none any more.
fn seek(desk: Arc<Desk>, queue: Name, path: Arc<str>, free: usize) -> Seeking {
    Box::pin(async move {
        serving(&desk, &queue, &path).await;
        let max = u32::try_from(free).unwrap_or(IN_FLIGHT_MAX);
        let claim = Claim { queue: queue.clone(), worker: desk.worker.clone(), max, wait: CLAIM_WAIT };
        match desk.jobs.claim(claim).await {
            Ok(work) => Ok(work.into_iter().map(|work| desk.hold(work)).collect()),
            Err(Error::Closed) => Err(Error::Closed),
            Err(error) => {
                tracing::warn!(%queue, %error, "no jobs could be claimed");
                tokio::time::sleep(CLAIM_AGAIN).await;
                Ok(Vec::new())
            }
        }
    })
}

/// Comes back once an instance serves this path.
async fn serving(desk: &Desk, queue: &Name, path: &str) {
    let mut wait = LOOK_AFTER;
    while (desk.find)(path).is_none() {
        if wait == LOOK_AFTER {
            tracing::info!(%queue, path, "no instance of the app serves; its jobs wait");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LOOK_LIMIT);
    }
}

/// Hands a job to the app, says what became of it, and takes the next in its place while the lane is as it was.
async fn hand(desk: Arc<Desk>, queue: Name, rules: watch::Receiver<Rules>, mut held: Held) {
    let path = rules.borrow().path.clone();
    let next = || {
        let goes_on = matches!(rules.has_changed(), Ok(false)) && !desk.shutdown.is_requested();
        let claim = || Claim { queue: queue.clone(), worker: desk.worker.clone(), max: 1, wait: Duration::ZERO };
        (goes_on && (desk.find)(&path).is_some()).then(claim)
    };
    loop {
        let Held { work, lost } = held;
        let key = (work.claimed.job, work.claimed.token);
        let verdict = tokio::select! {
            verdict = desk.push(&queue, &path, work) => Some(verdict),
            () = lost.notified() => None,
        };
        let work = match verdict {
            Some(verdict) => desk.settled(key, verdict, next).await,
            None => None,
        };
        let following = work.map(|work| desk.hold(work));
        desk.all_held().remove(&key);
        match following {
            Some(following) => held = following,
            None => return,
        }
    }
}
