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
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Calls of other nodes that are under way: claims that wait, most of them.
const RUNNING_MAX: usize = 4096;
/// Between looks for calls, though nobody said that there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Behind a pooler nobody says so: while other nodes live, which show it every two seconds.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// A node that was not heard of for so long is gone.
const SILENT_LIMIT: Duration = Duration::from_secs(6);
/// For what is under way when this node decides no more: its engine refuses all of it.
const LEAVE_LIMIT: Duration = Duration::from_millis(300);
/// Before another try at a line that could not be had.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Under what names other nodes push, and when each was last heard of.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<BTreeMap<Name, Instant>>);

impl Heard {
    fn note(&self, pusher: Name) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| at.elapsed() < SILENT_LIMIT);
        all.insert(pusher, Instant::now());
    }

    /// Whether who pushes under this name lives.
    pub fn has(&self, pusher: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(pusher).is_some_and(|at| at.elapsed() < SILENT_LIMIT)
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
    heard_at: Option<Instant>,
    /// Nodes that want to hear what happens, and when each said so last.
    listening: BTreeMap<String, Instant>,
    events: Listening,
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
        let (running, listening, events) = (JoinSet::new(), BTreeMap::new(), Listening::default());
        Answering { line, told, inner, running, heard_at: None, listening, events, has_more: true }
    }

    /// Until this node decides no more.
    async fn run(mut self, decides: &mut watch::Receiver<bool>) -> Result<(), StoreError> {
        loop {
            if std::mem::take(&mut self.has_more) {
                self.take().await?;
            }
            let mut replies = Vec::new();
            tokio::select! {
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
        let told = |node: &String| Reply {
            node: node.clone(),
            number: 0,
            told: Ok(Told::Events { events: events.clone(), lost }),
        };
        self.listening.keys().map(told).collect()
    }

    /// Whoever is owed an answer is told that it is another's from now on, rather than to wait for it in vain.
    async fn leave(mut self) -> Result<(), StoreError> {
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
        let room = RUNNING_MAX.saturating_sub(self.running.len()).min(BATCH_MAX);
        if room == 0 {
            return Ok(());
        }
        let Some(inner) = self.inner.upgrade() else { return Ok(()) };
        let calls = self.line.take_calls(room).await?;
        self.has_more = !calls.is_empty();
        if self.has_more {
            self.heard_at = Some(Instant::now());
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
                asked => {
                    let inner = inner.clone();
                    self.running.spawn_local(async move {
                        let told = inner.ask_here(asked).await;
                        Reply { node, number, told }
                    });
                }
            }
        }
        Ok(())
    }

    /// What cannot be told is given back, as far as it is work.
    async fn put(&mut self, replies: Vec<Reply>) -> Result<(), StoreError> {
        let (mut part, mut bytes, mut held) = (Vec::new(), 0, Vec::new());
        for Reply { node, number, told } in replies {
            let work = told.as_ref().map(Told::held).unwrap_or_default();
            let Ok(said) = written(&told.map_err(Fault::from)) else { continue };
            if !part.is_empty() && bytes + said.len() > BATCH_BYTES_MAX {
                self.sent(&mut part, &mut held).await?;
                bytes = 0;
            }
            bytes += said.len();
            part.push((node, number, said));
            held.extend(work);
        }
        if part.is_empty() { Ok(()) } else { self.sent(&mut part, &mut held).await }
    }

    async fn sent(&self, part: &mut Vec<(String, i64, Vec<u8>)>, held: &mut Vec<(u64, u64)>) -> Result<(), StoreError> {
        let sent = self.line.put_replies(part).await;
        if let (Err(_), Some(inner)) = (&sent, self.inner.upgrade()) {
            inner.give_back(std::mem::take(held));
        }
        part.clear();
        held.clear();
        sent
    }
}
