//! Hands jobs to the app: each as a POST to the path that its queue names, at an instance that serves, and takes the
//! answer for the end of the attempt.
//!
//! Invariants: no job is claimed while no instance serves, and none is held by nobody: when this ends, what had no
//! answer yet has been given back. Must never log a payload.

mod lane;
mod links;
mod request;
mod told;
mod verdict;

use crate::clock::Clock;
use crate::error::Error;
use crate::handle::{Claim, Jobs, Work};
use crate::job::Name;
use crate::op::{Finish, Outcome, Refusal};
use crate::options::{Options, Queue};
use lane::Rules;
use links::{Answer, Links, Trouble};
use mainstay_runtime::{Clock as Process, Shutdown};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use verdict::Verdict;

/// A third of a lease: one beat may be lost.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// Connections that have rested too long are let go of.
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// The first and the longest wait before what could not be kept is said again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_LIMIT: Duration = Duration::from_secs(2);
/// Of giving back what is left at the end; past it the leases end in their time.
const GIVE_BACK_LIMIT: Duration = Duration::from_secs(5);

/// For the app to hear what became of the last jobs.
const TELL_LIMIT: Duration = Duration::from_millis(300);

/// An instance that serves now, and what signs what is sent to it.
#[derive(Clone)]
pub struct Instance {
    pub address: SocketAddr,
    pub key: Arc<str>,
}

/// Which instance is given the next job of this path; `None`: none serves. Asked often: must not wait.
pub type Find = Arc<dyn Fn(&str) -> Option<Instance> + Send + Sync>;

/// Hands the jobs of queues with `push` to the app.
pub struct Pusher {
    jobs: Jobs,
    worker: Name,
    find: Find,
    clock: Clock,
}

/// What all that hand out jobs share.
struct Desk {
    jobs: Jobs,
    worker: Name,
    find: Find,
    clock: Clock,
    shutdown: Shutdown,
    links: Links,
    /// Attempts that are with the app: job and token, and who is told that one is lost.
    held: Mutex<BTreeMap<(u64, u64), Arc<Notify>>>,
}

/// An attempt that is held.
struct Held {
    work: Work,
    lost: Arc<Notify>,
}

/// Without the key.
impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Pusher {
    /// `worker`: another name in each process, so that nobody vouches for what a process before held.
    pub fn new(jobs: Jobs, worker: Name, find: Find) -> Pusher {
        Pusher { jobs, worker, find, clock: Clock::system() }
    }

    /// The clock that the jobs go by, where it is not the system's as of now: their deadlines are on it.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Pusher {
        Pusher { clock, ..self }
    }

    /// Until the end is asked for; then claims no more, and comes back once what runs has ended or `give_up` asks. What
    /// is left then is given back, and does not count. Must run on a tokio runtime with I/O and time.
    pub async fn run(self, options: watch::Receiver<Arc<Options>>, shutdown: Shutdown, give_up: Shutdown) {
        let Pusher { jobs, worker, find, clock } = self;
        let (links, held) = (Links::default(), Mutex::default());
        let desk = Arc::new(Desk { jobs, worker, find, clock, shutdown, links, held });
        let mut telling = JoinSet::new();
        let (all_done, end) = Shutdown::new();
        telling.spawn(told::run(desk.clone(), options.clone(), end));
        tokio::select! {
            () = lanes(&desk, options, give_up) => {}
            never = desk.vouched() => match never {},
            // It ends after them, unless it broke: then whoever runs this hears of it.
            Some(ended) = telling.join_next() => drop(expected(ended)),
        }
        desk.give_back().await;
        all_done.request();
        // What cannot be told in time is not told: the jobs themselves are kept.
        let _ = tokio::time::timeout(TELL_LIMIT, telling.join_next()).await;
    }
}

/// A lane for each queue with `push`, as the options have them now.
async fn lanes(desk: &Arc<Desk>, mut options: watch::Receiver<Arc<Options>>, give_up: Shutdown) {
    let mut running = JoinSet::new();
    let mut rules: BTreeMap<Name, watch::Sender<Rules>> = BTreeMap::new();
    loop {
        let wanted = options.borrow_and_update().clone();
        settle(desk, &wanted.queues, &mut rules, &mut running);
        tokio::select! {
            () = desk.shutdown.requested() => break,
            // Whoever says what is wanted is gone: it stays as it is.
            Ok(()) = options.changed() => {}
            Some(ended) = running.join_next() => drop(expected(ended)),
        }
    }
    let ended = async {
        while let Some(ended) = running.join_next().await {
            expected(ended);
        }
    };
    let in_time = tokio::select! {
        () = ended => true,
        () = give_up.requested() => false,
    };
    if !in_time {
        running.shutdown().await;
    }
}

/// New lanes begin, those there are hear what is new, and those that are not wanted any more end after their jobs.
fn settle(
    desk: &Arc<Desk>,
    queues: &[Queue],
    rules: &mut BTreeMap<Name, watch::Sender<Rules>>,
    running: &mut JoinSet<()>,
) {
    let wanted: BTreeSet<&Name> = queues.iter().filter(|queue| queue.push.is_some()).map(|queue| &queue.name).collect();
    rules.retain(|name, _| wanted.contains(name));
    for queue in queues {
        let Some(new) = Rules::of(queue) else { continue };
        if let Some(told) = rules.get(&queue.name) {
            told.send_if_modified(|old| {
                let is_other = *old != new;
                *old = new;
                is_other
            });
        } else {
            let (told, rules_of_it) = watch::channel(new);
            rules.insert(queue.name.clone(), told);
            running.spawn(lane::run(desk.clone(), queue.name.clone(), rules_of_it));
        }
    }
}

/// A panic is not held here: whoever runs this hears of it.
fn expected<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(what) => Some(what),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

impl Desk {
    /// Vouches for what is held, for as long as this is awaited.
    async fn vouched(&self) -> Infallible {
        let [mut beat, mut prune] = [BEAT_EVERY, PRUNE_EVERY].map(|every| {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            tokio::select! {
                _ = beat.tick() => self.beat().await,
                _ = prune.tick() => self.links.prune(),
            }
        }
    }

    async fn beat(&self) {
        let holding: Vec<(u64, u64)> = self.all_held().keys().copied().collect();
        if holding.is_empty() {
            return;
        }
        let lost = match self.jobs.beat(&self.worker, holding.clone()).await {
            Ok(lost) => lost,
            // The next one comes before the leases end.
            Err(error) => return tracing::debug!(%error, "nobody heard that the app has jobs"),
        };
        for job in lost.iter().copied().collect::<BTreeSet<u64>>() {
            // Of one job only the highest token can be valid: those that are lost are the lowest.
            let count = lost.iter().filter(|lost| **lost == job).count();
            for key in holding.iter().filter(|(id, _)| *id == job).take(count) {
                if let Some(lost) = self.all_held().get(key) {
                    lost.notify_one();
                }
            }
        }
    }

    fn all_held(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<Notify>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, work: Work) -> Held {
        let lost = Arc::new(Notify::new());
        self.all_held().insert((work.claimed.job, work.claimed.token), lost.clone());
        Held { work, lost }
    }

    /// One request, and what its answer means.
    async fn push(&self, queue: &Name, path: &str, work: Work) -> Verdict {
        let Some(instance) = (self.find)(path) else {
            return verdict::held("no instance of the app serves".to_owned(), verdict::HOLD_MS);
        };
        let (job, attempt, deadline_ms) = (work.claimed.job, work.claimed.attempt, work.claimed.deadline_ms);
        let wall_ms = Process::unix_micros() / 1000;
        let id = match self.jobs.id_of(job) {
            Value::String(text) => text,
            number => number.to_string(),
        };
        let request = match request::request(queue, path, (&id, work), &instance, wall_ms / 1000) {
            Ok(request) => request,
            Err(error) => {
                let error = format!("it cannot be a request: {error}");
                return Verdict::End(Outcome::Failed { error, stack: None, retry: false, wait_ms: None });
            }
        };
        let asking = self.links.ask(instance.address, request);
        let answer = match deadline_ms.saturating_sub(self.clock.now_ms()) {
            _ if deadline_ms == u64::MAX => asking.await,
            0 => Err(Trouble::Late),
            left_ms => {
                let in_time = tokio::time::timeout(Duration::from_millis(left_ms), asking).await;
                in_time.unwrap_or(Err(Trouble::Late))
            }
        };
        if let Ok(Answer { status, is_whole: false, .. }) = &answer
            && status.is_success()
        {
            let most_bytes = links::ANSWER_BYTES_MAX;
            tracing::warn!(%queue, job, attempt, most_bytes, "a result is too large and is not kept");
        }
        verdict::judge(answer, Process::unix_micros() / 1000)
    }

    /// Tells what became of an attempt until it is kept, and takes the next job with it where `next` wants one.
    async fn settled(&self, held: (u64, u64), verdict: Verdict, next: impl Fn() -> Option<Claim>) -> Option<Work> {
        let (job, token) = held;
        let mut wait = AGAIN_AFTER;
        loop {
            let said = match &verdict {
                Verdict::Lease(lease) => self.jobs.extend(job, token, *lease).await.map(|()| None),
                Verdict::End(outcome) => {
                    let end = Finish { job, token, outcome: outcome.clone() };
                    self.jobs.finish(vec![end], next()).await.map(|finished| {
                        if let Some(Err(error)) = finished.ends.first() {
                            unwanted(job, error);
                        }
                        finished.work.into_iter().next()
                    })
                }
            };
            match said {
                Ok(work) => return work,
                Err(error) if is_final(&error) => {
                    unwanted(job, &error);
                    return None;
                }
                Err(error) => {
                    tracing::warn!(job, %error, "the end of an attempt could not be kept; it is said again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_LIMIT);
                }
            }
        }
    }

    /// What the app has still not answered when it is time to go.
    async fn give_back(&self) {
        let left: Vec<(u64, u64)> = std::mem::take(&mut *self.all_held()).into_keys().collect();
        if left.is_empty() {
            return;
        }
        let count = left.len();
        let released = || Outcome::Released { error: "Mainstay stopped".to_owned(), hold_ms: 0 };
        let ends = left.into_iter().map(|(job, token)| Finish { job, token, outcome: released() }).collect();
        match tokio::time::timeout(GIVE_BACK_LIMIT, self.jobs.finish(ends, None)).await {
            Ok(Ok(_)) => tracing::info!(count, "jobs that the app had not answered were given back"),
            Ok(Err(error)) => tracing::warn!(count, %error, "jobs could not be given back; their leases end"),
            Err(_) => tracing::warn!(count, "jobs could not be given back in time; their leases end"),
        }
    }
}

/// Saying it again would not help.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Refused(_) | Error::Named { .. } | Error::Closed | Error::Unsupported(_) | Error::BullMq(_) => true,
        Error::Store(_) | Error::Behind(_) | Error::Unanswered | Error::Away(_) | Error::Unfit { .. } => false,
    }
}

/// Nobody wants to hear the end of an attempt any more: it took too long, or jobs are closed.
fn unwanted(job: u64, error: &Error) {
    match error {
        Error::Refused(Refusal::Stale { .. } | Refusal::NoSuchJob(_)) | Error::Named { .. } | Error::Closed => {
            tracing::debug!(job, %error, "the end of an attempt came too late");
        }
        error => tracing::warn!(job, %error, "the end of an attempt was refused"),
    }
}
