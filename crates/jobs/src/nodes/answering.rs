//! The end of the node that decides: the calls of others are asked of its engine as those of its own, and answered once
//! they are committed.

use super::calls::{BATCH_BYTES_MAX, BATCH_MAX, Call, End, Line};
use super::words::{Asked, Fault, Told, read, written};
use crate::error::Error;
use crate::event::Event;
use crate::handle::{Inner, Listening};
use crate::job::Name;
use mainstay_store::Error as StoreError;
use mainstay_store::postgres::Options;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// Calls of other nodes that are under way, claims that wait most of them; past it no further claim is taken.
const RUNNING_MAX: usize = 4096;
/// Between looks for calls, though nobody said that there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Behind a pooler nobody says so: while other nodes live, which show it every two seconds.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// A node that was not heard of for so long is gone.
const SILENT_LIMIT: Duration = Duration::from_secs(6);
/// Between looks for replies that nobody has fetched.
const PURGE_EVERY: Duration = Duration::from_secs(10);
/// For what is under way when this node decides no more: its engine refuses all of it.
const LEAVE_LIMIT: Duration = Duration::from_millis(300);
/// Before another try at a line that could not be had.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Under what names other nodes push, and how long each was silent while somebody listened: a Postgres that hangs, or a
/// connection that is lost, makes nobody silent.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Silences>);

#[derive(Debug, Default)]
struct Silences {
    of: BTreeMap<Name, Duration>,
    looked_at: Option<Instant>,
}

impl Heard {
    fn silences(&self) -> MutexGuard<'_, Silences> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, pusher: Name) {
        self.silences().of.insert(pusher, Duration::ZERO);
    }

    /// Nothing that was said is left to be taken.
    fn looked(&self) {
        let mut silences = self.silences();
        let passed = silences.looked_at.map_or(Duration::ZERO, |at| at.elapsed()).min(LOOK_EVERY * 3 / 2);
        silences.looked_at = Some(Instant::now());
        silences.of.retain(|_, silent| {
            *silent += passed;
            *silent < SILENT_LIMIT
        });
    }

    /// Whoever pushes under this name may be about to be heard of.
    pub fn expect(&self, pusher: Name) {
        self.silences().of.entry(pusher).or_default();
    }

    /// Whether who pushes under this name lives, as far as is known.
    pub fn has(&self, pusher: &str) -> bool {
        self.silences().of.contains_key(pusher)
    }
}

/// Until jobs are closed: for as long as this node decides, others are answered.
pub(crate) async fn answering(options: Options, inner: Weak<Inner>, mut decides: watch::Receiver<bool>) {
    let mut is_said = false;
    while decides.wait_for(|decides| *decides).await.is_ok() {
        let told = Arc::new(Notify::new());
        let ended = match Line::open(&options, End::Answering, told.clone()).await {
            Ok(line) => {
                is_said = false;
                Answering::new(line, told, inner.clone()).run(&mut decides).await
            }
            Err(error) => Err(error),
        };
        if decides.has_changed().is_err() {
            // Jobs are closed, and the last that was said stands for ever.
            return;
        }
        if let Err(error) = ended {
            if !std::mem::replace(&mut is_said, true) {
                tracing::warn!(%error, "nodes that stand by are not answered; it is tried again");
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

struct Answering {
    line: Line,
    told: Arc<Notify>,
    /// Jobs that nobody holds any more end, and this with them.
    inner: Weak<Inner>,
    running: JoinSet<Reply>,
    /// What is under way, by the node that asked and its number.
    begun: BTreeMap<(String, i64), AbortHandle>,
    heard_at: Option<Instant>,
    /// Nodes that want to hear what happens, and when each said so last.
    listening: BTreeMap<String, Instant>,
    events: Listening,
    /// Of this one among all that tell what happens; and how many it has told.
    by: u64,
    before: u64,
    /// There may be more calls than were taken.
    has_more: bool,
}

/// To which call of which node, and what.
struct Reply {
    node: String,
    number: i64,
    told: Result<Told, Error>,
}

impl Answering {
    fn new(line: Line, told: Arc<Notify>, inner: Weak<Inner>) -> Answering {
        let (running, begun, listening) = (JoinSet::new(), BTreeMap::new(), BTreeMap::new());
        let (events, by) = (Listening::default(), mainstay_runtime::Clock::unix_micros());
        let (heard_at, before, has_more) = (None, 0, true);
        Answering { line, told, inner, running, begun, heard_at, listening, events, by, before, has_more }
    }

    /// Until this node decides no more.
    async fn run(mut self, decides: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
        let ended = self.serve(decides).await;
        if ended.is_err() {
            // Nobody can be told: what was taken for them goes back.
            self.running.abort_all();
            let mut replies = Vec::new();
            while let Some(ended) = self.running.join_next().await {
                replies.extend(ended.ok());
            }
            self.give_back(replies.iter().flat_map(Reply::held).collect());
        }
        ended
    }

    async fn serve(&mut self, decides: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut purge = tokio::time::interval(PURGE_EVERY);
        purge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if std::mem::take(&mut self.has_more) {
                self.take().await?;
            }
            let mut replies = Vec::new();
            tokio::select! {
                _ = purge.tick() => self.line.purge().await?,
                () = self.told.notified() => self.has_more = true,
                () = tokio::time::sleep(self.rest()) => self.has_more = true,
                Some(ended) = self.running.join_next() => replies.extend(ended.ok()),
                event = self.events.next() => replies.extend(self.heard(event)),
                changed = decides.changed() => if changed.is_err() || !*decides.borrow() {
                    return self.leave().await;
                },
            }
            while let Some(ended) = self.running.try_join_next() {
                replies.extend(ended.ok());
            }
            self.put(replies).await?;
        }
    }

    /// To each node that listens, with all that is there already.
    fn heard(&mut self, first: Result<Event, RecvError>) -> Vec<Reply> {
        let (mut events, mut lost) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(event) = next.take() {
            match event {
                Ok(event) => events.push(event),
                Err(RecvError::Lagged(count)) => lost += count,
                Err(RecvError::Closed) => break,
            }
            if events.len() < BATCH_MAX {
                next = self.events.try_next();
            }
        }
        self.listening.retain(|_, at| at.elapsed() < SILENT_LIMIT);
        if self.listening.is_empty() {
            self.events = Listening::default();
        }
        let (by, before) = (self.by, self.before);
        self.before += u64::try_from(events.len()).unwrap_or(u64::MAX);
        let told = |node: &String| {
            let told = Ok(Told::Events { events: events.clone(), lost, by, before });
            Reply { node: node.clone(), number: 0, told }
        };
        self.listening.keys().map(told).collect()
    }

    /// Whoever is owed an answer is told that it is another's from now on, rather than to wait for it in vain.
    async fn leave(&mut self) -> Result<(), StoreError> {
        let mut replies = Vec::new();
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                replies.extend(ended.ok());
            }
        };
        let _ = tokio::time::timeout(LEAVE_LIMIT, all).await;
        self.put(replies).await
    }

    fn rest(&self) -> Duration {
        let others = self.heard_at.is_some_and(|at| at.elapsed() < SILENT_LIMIT);
        match self.has_more {
            true => Duration::ZERO,
            false if others && self.line.is_pooled() => POLL_EVERY,
            false => LOOK_EVERY,
        }
    }

    async fn take(&mut self) -> Result<(), StoreError> {
        let Some(inner) = self.inner.upgrade() else { return Ok(()) };
        let calls = self.line.take_calls(BATCH_MAX).await?;
        self.has_more = !calls.is_empty();
        match self.has_more {
            true => self.heard_at = Some(Instant::now()),
            false => inner.heard.looked(),
        }
        for Call { node, number, asked, .. } in calls.into_iter().filter(|call| call.is_due) {
            let asked = match read::<Asked>(&asked) {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::warn!(%error, "a call of another node is not understood");
                    self.running.spawn_local(async move { Reply { node, number, told: Err(error.into()) } });
                    continue;
                }
            };
            match asked {
                Asked::Alive { pusher, listens } => {
                    pusher.into_iter().for_each(|pusher| inner.heard.note(pusher));
                    match listens {
                        true => drop(self.listening.insert(node, Instant::now())),
                        false => drop(self.listening.remove(&node)),
                    }
                    self.events.while_wanted(|| inner.events(), !self.listening.is_empty());
                }
                Asked::Return(held) => inner.give_back(held),
                Asked::Left(numbers) => self.left(&node, &numbers),
                // All else is done soon, and nobody waits behind those that wait long.
                Asked::Claim(_) if self.running.len() >= RUNNING_MAX => {
                    let told = Err(Error::Behind(Duration::ZERO));
                    self.running.spawn_local(async move { Reply { node, number, told } });
                }
                asked => {
                    let (inner, key) = (inner.clone(), (node.clone(), number));
                    let begun = self.running.spawn_local(async move {
                        let told = inner.ask_for_another(asked).await;
                        Reply { node, number, told }
                    });
                    self.begun.insert(key, begun);
                }
            }
        }
        Ok(())
    }

    /// What they were given in this moment goes back.
    fn left(&mut self, node: &str, numbers: &[i64]) {
        for number in numbers {
            if let Some(begun) = self.begun.remove(&(node.to_owned(), *number)) {
                begun.abort();
            }
        }
    }

    fn give_back(&self, held: Vec<(u64, u64)>) {
        if let Some(inner) = self.inner.upgrade() {
            inner.give_back(held);
        }
    }

    /// What cannot be told is given back, as far as it is work.
    async fn put(&mut self, replies: Vec<Reply>) -> Result<(), StoreError> {
        let mut parts = vec![Part::default()];
        for reply in replies {
            self.begun.remove(&(reply.node.clone(), reply.number));
            let held = reply.held();
            let Reply { node, number, told } = reply;
            let Ok(said) = written(&told.map_err(Fault::from)) else { continue };
            if parts.last().is_some_and(|part| part.bytes > 0 && part.bytes + said.len() > BATCH_BYTES_MAX) {
                parts.push(Part::default());
            }
            if let Some(part) = parts.last_mut() {
                part.bytes += said.len();
                part.held.extend(held);
                part.replies.push((node, number, said));
            }
        }
        let mut done = Ok(());
        for part in parts.into_iter().filter(|part| !part.replies.is_empty()) {
            if done.is_ok() {
                done = self.line.put_replies(&part.replies).await;
            }
            if done.is_err() {
                self.give_back(part.held);
            }
        }
        done
    }
}

/// What is said in one statement, and the work in it.
#[derive(Default)]
struct Part {
    replies: Vec<(String, i64, Vec<u8>)>,
    held: Vec<(u64, u64)>,
    bytes: usize,
}

impl Reply {
    /// What is given with it.
    fn held(&self) -> Vec<(u64, u64)> {
        self.told.as_ref().map(Told::held).unwrap_or_default()
    }
}
