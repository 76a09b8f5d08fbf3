//! What owns engine and store, on the thread of jobs. It takes what waits (512 calls at most), lets the engine decide
//! one after the other, commits once, and then answers all.
//!
//! Invariants: no answer leaves before its commit. A commit that fails fails all calls of its batch, and the engine is
//! made anew from what is kept before it decides anything else. A job whose claim nobody waited for any more is given
//! back at once.

mod answered;
mod fresh;
mod waiters;

use crate::change::{Change, Counter, Record};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{self, Event};
use crate::handle::{Claim, Finished, Setup, Work};
use crate::home::Home;
use crate::job::{Body, Name};
use crate::op::{Answer, Claimed, Effects, Finish, Op, Outcome};
use crate::settings::Settings;
use crate::store::{ChildDetail, Entry, Reads, Store};
use answered::Answered;
use fresh::Fresh;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use waiters::{Waiter, Waiters};

/// Calls a commit: past it the first would wait too long for the last.
const BATCH_MAX: usize = 512;
/// Changes after which no further call joins a commit: an array of ten thousand jobs is one call.
const CHANGES_MAX: usize = 8192;
/// The thread looks at the clock this often, whatever it expects: a clock may be moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a commit that failed the store is tried again this soon, though nobody asks.
const STALE_REST: Duration = Duration::from_millis(100);
/// A schedule that cannot add its jobs (its queue is full) is looked at again after this.
const FIRE_AGAIN_MS: u64 = 1000;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What is asked of the thread.
pub(crate) enum Message {
    Op {
        op: Op,
        answer: Reply<Answer>,
    },
    Claim {
        claim: Claim,
        answer: Reply<Vec<Work>>,
    },
    Finish {
        ends: Vec<Finish>,
        next: Option<Claim>,
        answer: Reply<Finished>,
    },
    /// Jobs that were claimed for somebody who had left.
    Return {
        held: Vec<(u64, u64)>,
    },
    Look(Look),
    Close {
        answer: oneshot::Sender<()>,
    },
}

/// A question to the engine, or why it cannot be asked.
pub(crate) type Look = Box<dyn FnOnce(Result<&Engine, Error>) + Send>;

/// What is answered once it is committed.
enum Pending {
    Op { answer: Reply<Answer>, result: Result<Answer, Error> },
    Work { answer: Reply<Vec<Work>>, claimed: Vec<Claimed> },
    Finished { answer: Reply<Finished>, ends: Vec<Result<(), Error>>, claimed: Vec<Claimed> },
}

struct Thread {
    store: Store,
    engine: Engine,
    effects: Effects,
    clock: Clock,
    seed: u64,
    /// Of queues that were configured: no store keeps what the file says.
    settings: BTreeMap<Name, Settings>,
    waiters: Waiters,
    fresh: Fresh,
    events: broadcast::Sender<Event>,
    /// A commit failed: what is in memory is not what is kept.
    is_stale: bool,
    /// Why what is kept could not be had the last time, and when that was.
    trouble: Option<(Error, Instant)>,
    /// Claimed, and nobody there to take it.
    returned: Vec<(u64, u64)>,
    answered: Answered,
    fire_after_ms: u64,
    decides: watch::Sender<bool>,
}

/// Opens the store and takes over what is kept, on the thread that stays with it; comes back once that is done, or
/// another node decides. `ended` is dropped when all is let go of; `decides` is told whether this node does.
pub(crate) fn start(
    home: &Home,
    setup: Setup,
    messages: mpsc::Receiver<Message>,
    events: broadcast::Sender<Event>,
    (ended, decides): (watch::Sender<()>, watch::Sender<bool>),
) -> Result<Reads, Error> {
    let (opened, is_open) = std::sync::mpsc::sync_channel(1);
    let run = move || async move {
        match Thread::open(setup, events, decides).await {
            Ok(thread) => {
                let _ = opened.send(Ok(thread.store.reads()));
                thread.run(messages).await;
            }
            Err(error) => drop(opened.send(Err(error))),
        }
        drop(ended);
    };
    home.run(run).map_err(no_thread)?;
    is_open.recv().unwrap_or(Err(Error::Closed))
}

/// Why there is no thread to open anything on.
pub(crate) fn no_thread(source: std::io::Error) -> Error {
    mainstay_store::Error::Open { path: "the thread of jobs".into(), source }.into()
}

impl Thread {
    async fn open(
        setup: Setup,
        events: broadcast::Sender<Event>,
        decides: watch::Sender<bool>,
    ) -> Result<Thread, Error> {
        let mut thread = Thread {
            store: Store::open(&setup.place).await?,
            engine: Engine::new(setup.seed),
            effects: Effects::default(),
            clock: setup.clock,
            seed: setup.seed,
            settings: setup.queues.into_iter().collect(),
            waiters: Waiters::default(),
            fresh: Fresh::default(),
            events,
            is_stale: true,
            trouble: None,
            returned: Vec::new(),
            answered: Answered::default(),
            fire_after_ms: 0,
            decides,
        };
        match thread.recover().await {
            Err(error) if error.is_standby() => {
                tracing::info!("another node runs the jobs; this one stands by");
                Ok(thread)
            }
            Err(error) => {
                thread.store.close().await;
                Err(error)
            }
            Ok(()) => Ok(thread),
        }
    }

    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let told = self.store.told();
        let closing = loop {
            tokio::select! {
                received = messages.recv_many(&mut batch, BATCH_MAX) => {
                    if received == 0 {
                        break None;
                    }
                }
                () = told.notified() => self.store.look_now(),
                // Nothing comes within the wait: then it is time that has something to do.
                () = tokio::time::sleep(self.rest()) => {}
            }
            let mut closing = None;
            if let Some(at) = batch.iter().position(|message| matches!(message, Message::Close { .. })) {
                closing = batch.drain(at..).next();
            }
            let mut waiting: VecDeque<Message> = batch.drain(..).collect();
            self.turn(&mut waiting).await;
            while !waiting.is_empty() {
                self.turn(&mut waiting).await;
            }
            if closing.is_some() {
                break closing;
            }
            if !messages.is_empty() {
                // Others have asked meanwhile, from threads of their own: who lives on this one must come to ask too.
                tokio::task::yield_now().await;
            }
        };
        self.leave().await;
        drop(messages);
        drop(self.waiters);
        self.store.close().await;
        if let Some(Message::Close { answer }) = closing {
            let _ = answer.send(());
        }
    }

    /// Whoever comes after us need not ask who was told of what.
    async fn leave(&mut self) {
        if let Some(token) = self.answered.last().filter(|_| !self.is_stale) {
            let _ = self.apply(Op::Answered { token }, self.clock.now_ms());
            let _ = self.commit().await;
        }
    }

    /// How long there is nothing to do unless somebody asks.
    fn rest(&self) -> Duration {
        if self.is_stale {
            return STALE_REST.max(self.store.again_after());
        }
        if !self.returned.is_empty() {
            return Duration::ZERO;
        }
        let now_ms = self.clock.now_ms();
        let startable = self.waiters.queues().filter_map(|queue| self.engine.startable_ms(queue));
        let next_ms = self.engine.next_due_ms().into_iter().chain(self.waiters.next_due_ms()).chain(startable).min();
        let until_ms = next_ms.map_or(u64::MAX, |next_ms| next_ms.saturating_sub(now_ms));
        let fire_ms = self.engine.next_fire_ms().map(|at_ms| at_ms.max(self.fire_after_ms));
        let fires_ms = fire_ms.map_or(u64::MAX, |at_ms| at_ms.saturating_sub(self.clock.wall_ms()));
        Duration::from_millis(until_ms.min(fires_ms)).min(LOOK_EVERY).min(self.store.rest())
    }

    /// One commit, of as many of these as go into it.
    async fn turn(&mut self, messages: &mut VecDeque<Message>) {
        if let Err(error) = self.recover().await {
            return self.refuse(messages.drain(..), &error);
        }
        let now_ms = self.clock.now_ms();
        self.pass_time(now_ms);
        if let Err(error) = self.take_inbox(now_ms).await {
            return self.refuse(messages.drain(..), &error);
        }
        let mut pending = Vec::new();
        let mut looks = Vec::new();
        while self.effects.changes.len() < CHANGES_MAX
            && let Some(message) = messages.pop_front()
        {
            match message {
                Message::Look(look) => looks.push(look),
                message => {
                    if let Message::Claim { claim, .. } = &message {
                        // Those that wait already come first.
                        self.serve(&claim.queue, now_ms, &mut pending);
                    }
                    pending.extend(self.decide(message, now_ms));
                }
            }
        }
        self.serve_all(now_ms, &mut pending);
        match self.commit().await {
            Ok(()) => {
                self.fresh.hold(self.effects.changes.drain(..));
                self.answer(pending).await;
                event::settle(&mut self.effects.events);
                self.effects.events.drain(..).for_each(|event| drop(self.events.send(event)));
                looks.into_iter().for_each(|look| look(Ok(&self.engine)));
            }
            Err(error) => {
                pending.into_iter().for_each(|pending| pending.fail(&error));
                looks.into_iter().for_each(|look| look(Err(error.clone())));
            }
        }
        self.effects.clear();
    }

    /// After a commit that failed: the engine as what is kept says.
    async fn recover(&mut self) -> Result<(), Error> {
        if !self.is_stale {
            return Ok(());
        }
        if let Some((error, at)) = &self.trouble
            && at.elapsed() < self.store.again_after()
        {
            return Err(error.clone());
        }
        // Reading a million jobs takes seconds: not before something can be written again.
        let probed = self.store.probe().await.map_err(Error::from);
        let recovered = match probed {
            Ok(()) => self.reload().await,
            Err(error) => Err(error),
        };
        match &recovered {
            Ok(()) => self.turn_to(true),
            Err(error) if error.is_standby() => self.turn_to(false),
            // Whoever decided may still: it cannot keep anything at the moment.
            Err(_) => {}
        }
        self.trouble = recovered.as_ref().err().map(|error| (error.clone(), Instant::now()));
        recovered
    }

    /// Whether this node decides, from now on.
    fn turn_to(&self, decides: bool) {
        self.decides.send_if_modified(|now| std::mem::replace(now, decides) != decides);
    }

    /// What cannot be kept is told to nobody as done; those who wait are told so when their time is over.
    fn refuse(&mut self, messages: impl Iterator<Item = Message>, error: &Error) {
        refuse(messages, error);
        for waiter in self.waiters.take_over(self.clock.now_ms()) {
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }

    /// Takes over what apps have added by themselves. What cannot be a job of ours stays where it is, and is shown.
    async fn take_inbox(&mut self, now_ms: u64) -> Result<(), Error> {
        let found = match self.store.inbox().await {
            Ok(found) => found,
            Err(error) => {
                // What time brought about is decided again by the next engine.
                self.effects.clear();
                return Err(self.lost(error));
            }
        };
        for Entry { id, job } in found {
            let taken = job.and_then(|(queue, job)| {
                let op = Op::Take { queue, id, job: Box::new(job) };
                self.apply(op, now_ms).map_err(|error| error.to_string())
            });
            self.effects.changes.push(match taken {
                Ok(_) => Change::Taken { entry: id },
                Err(why) => {
                    tracing::warn!(job = id, why, "a job in mainstay.jobs_inbox is not taken over");
                    Change::SetAside { entry: id, why }
                }
            });
        }
        Ok(())
    }

    /// What is in memory is not what is kept.
    fn lost(&mut self, error: mainstay_store::Error) -> Error {
        self.is_stale = true;
        let error = Error::from(error);
        tracing::error!(%error, "jobs were not kept");
        error
    }

    fn apply(&mut self, op: Op, now_ms: u64) -> Result<Answer, Error> {
        Ok(self.engine.apply(op, now_ms, &mut self.effects)?)
    }

    /// What nobody asked for: timers, schedules, jobs that nobody took.
    fn pass_time(&mut self, now_ms: u64) {
        let _ = self.apply(Op::Tick, now_ms);
        if let Some(token) = self.answered.due(now_ms) {
            let _ = self.apply(Op::Answered { token }, now_ms);
        }
        for (job, token) in std::mem::take(&mut self.returned) {
            let outcome = Outcome::Released { error: "nobody was there to take it".to_owned(), hold_ms: 0 };
            let _ = self.apply(Op::Finish(Finish { job, token, outcome }), now_ms);
        }
        let wall_ms = self.clock.wall_ms();
        if wall_ms >= self.fire_after_ms && self.engine.next_fire_ms().is_some_and(|at_ms| at_ms <= wall_ms) {
            let _ = self.apply(Op::Fire { wall_ms }, now_ms);
            let is_stuck = self.engine.next_fire_ms().is_some_and(|at_ms| at_ms <= wall_ms);
            self.fire_after_ms = if is_stuck { wall_ms + FIRE_AGAIN_MS } else { 0 };
        }
    }

    /// What is to be answered once it is committed; a claim that waits is not.
    fn decide(&mut self, message: Message, now_ms: u64) -> Option<Pending> {
        match message {
            Message::Op { op, answer } => {
                let configured = match &op {
                    Op::Configure { queue, settings } => Some((queue.clone(), (**settings).clone())),
                    _ => None,
                };
                let result = self.apply(op, now_ms);
                if result.is_ok() {
                    self.settings.extend(configured);
                }
                Some(Pending::Op { answer, result })
            }
            Message::Claim { claim, answer } => {
                // Behind those that wait already.
                let claimed = if self.waiters.has(&claim.queue) { Vec::new() } else { self.claim(&claim, now_ms) };
                if claimed.is_empty() && !claim.wait.is_zero() {
                    self.waiters.push(Waiter::new(claim, answer, now_ms));
                    return None;
                }
                Some(Pending::Work { answer, claimed })
            }
            Message::Finish { ends, next, answer } => {
                let finish = |end| self.apply(Op::Finish(end), now_ms).map(drop);
                let ends = ends.into_iter().map(finish).collect();
                let claimed = next.map(|claim| self.claim(&claim, now_ms)).unwrap_or_default();
                Some(Pending::Finished { answer, ends, claimed })
            }
            Message::Return { held } => {
                self.returned.extend(held);
                None
            }
            Message::Look(_) | Message::Close { .. } => None,
        }
    }

    fn claim(&mut self, claim: &Claim, now_ms: u64) -> Vec<Claimed> {
        let op = Op::Claim { queue: claim.queue.clone(), worker: claim.worker.clone(), max: claim.max };
        match self.apply(op, now_ms) {
            Ok(Answer::Claimed(claimed)) => claimed,
            _ => Vec::new(),
        }
    }

    /// Gives what may start now to those that wait for it, and nothing to those that have waited long enough.
    fn serve_all(&mut self, now_ms: u64, pending: &mut Vec<Pending>) {
        for waiter in self.waiters.take_over(now_ms) {
            pending.push(Pending::Work { answer: waiter.answer, claimed: Vec::new() });
        }
        let queues: Vec<Name> = self.waiters.queues().cloned().collect();
        queues.iter().for_each(|queue| self.serve(queue, now_ms, pending));
    }

    fn serve(&mut self, queue: &Name, now_ms: u64, pending: &mut Vec<Pending>) {
        while self.engine.startable_ms(queue).is_some_and(|at_ms| at_ms <= now_ms)
            && let Some(waiter) = self.waiters.pop(queue)
        {
            let claimed = self.claim(&waiter.claim, now_ms);
            if claimed.is_empty() {
                self.waiters.push_front(waiter);
                break;
            }
            pending.push(Pending::Work { answer: waiter.answer, claimed });
        }
    }

    async fn commit(&mut self) -> Result<(), Error> {
        if self.effects.changes.is_empty() {
            return Ok(());
        }
        let done = self.store.commit(&self.effects.changes, self.effects.fsync).await;
        done.map_err(|error| self.lost(error))
    }

    async fn answer(&mut self, mut pending: Vec<Pending>) {
        // Who waits for work goes first: a job that starts now is one that was added in the same commit.
        pending.sort_by_key(|pending| !matches!(pending, Pending::Work { .. }));
        let ids: Vec<u64> = pending.iter().flat_map(Pending::claimed).map(|claimed| claimed.job).collect();
        let mut bodies = self.bodies(&ids).await.map(Vec::into_iter);
        self.answered.hand_over(pending.iter().flat_map(Pending::claimed), self.clock.now_ms());
        let mut given = self.given(&pending).await;
        let mut work = |claimed: Vec<Claimed>| -> Result<Vec<Work>, Error> {
            let bodies = bodies.as_mut().map_err(|error| error.clone())?;
            let given = given.as_mut().map_err(|error| error.clone())?;
            let with = |(claimed, body): (Claimed, Body)| {
                let children = given.remove(&claimed.job).unwrap_or_default();
                Work { claimed, body, children }
            };
            Ok(claimed.into_iter().zip(bodies).map(with).collect())
        };
        for pending in pending {
            match pending {
                Pending::Op { answer, result } => drop(answer.send(result)),
                Pending::Work { answer, claimed } => {
                    let held = tokens(&claimed);
                    let work = if claimed.is_empty() { Ok(Vec::new()) } else { work(claimed) };
                    let is_lost = work.is_err() || answer.is_closed();
                    if answer.send(work).is_err() || is_lost {
                        self.returned.extend(held);
                    }
                }
                Pending::Finished { answer, ends, claimed } => {
                    let held = tokens(&claimed);
                    let work = if claimed.is_empty() { Ok(Vec::new()) } else { work(claimed) };
                    let is_lost = work.is_err();
                    // The ends are committed: that the next jobs cannot be read does not undo them.
                    let finished = Finished { ends, work: work.unwrap_or_default() };
                    if answer.send(Ok(finished)).is_err() || is_lost {
                        self.returned.extend(held);
                    }
                }
            }
        }
    }

    /// In their order. All that start together and are not at hand are read together.
    async fn bodies(&mut self, ids: &[u64]) -> Result<Vec<Body>, Error> {
        let held: Vec<Option<Body>> = ids.iter().map(|id| self.fresh.take(*id)).collect();
        let older: Vec<u64> = ids.iter().zip(&held).filter(|(_, body)| body.is_none()).map(|(id, _)| *id).collect();
        let mut read = match older.is_empty() {
            true => Vec::new().into_iter(),
            false => self.store.bodies(&older).await?.into_iter(),
        };
        Ok(held.into_iter().filter_map(|body| body.or_else(|| read.next())).collect())
    }

    /// What children gave to those that start now.
    async fn given(&mut self, pending: &[Pending]) -> Result<BTreeMap<u64, Vec<ChildDetail>>, Error> {
        let parents = pending.iter().flat_map(Pending::claimed).filter(|claimed| claimed.is_parent);
        let mut given = BTreeMap::new();
        for parent in parents.map(|claimed| claimed.job) {
            given.insert(parent, self.store.children(parent).await?);
        }
        Ok(given)
    }

    /// The engine as what is kept says, and the settings that are in force.
    async fn reload(&mut self) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let mut engine = Engine::new(self.seed);
        let mut fault = None;
        if let Some(ceiling) = self.answered.last() {
            // What could not be kept is known here all the same.
            fault = engine.restore(Record::Reserved { counter: Counter::Answered, ceiling }, now_ms).err();
        }
        self.store.load(&mut |record| fault = fault.or_else(|| engine.restore(record, now_ms).err())).await?;
        if let Some(fault) = fault {
            return Err(self.store.damaged(fault.to_string()).into());
        }
        self.engine = engine;
        self.effects.clear();
        for (queue, settings) in self.settings.clone() {
            self.apply(Op::Configure { queue, settings: Box::new(settings) }, now_ms)?;
        }
        self.commit().await?;
        self.effects.clear();
        self.returned.clear();
        self.fresh.clear();
        self.is_stale = false;
        Ok(())
    }
}

impl Pending {
    fn claimed(&self) -> &[Claimed] {
        match self {
            Pending::Op { .. } => &[],
            Pending::Work { claimed, .. } | Pending::Finished { claimed, .. } => claimed,
        }
    }

    fn fail(self, error: &Error) {
        match self {
            Pending::Op { answer, .. } => drop(answer.send(Err(error.clone()))),
            Pending::Work { answer, .. } => drop(answer.send(Err(error.clone()))),
            Pending::Finished { answer, .. } => drop(answer.send(Err(error.clone()))),
        }
    }
}

fn tokens(claimed: &[Claimed]) -> Vec<(u64, u64)> {
    claimed.iter().map(|claimed| (claimed.job, claimed.token)).collect()
}

/// What is kept cannot be read: nobody gets anything.
fn refuse(messages: impl Iterator<Item = Message>, error: &Error) {
    for message in messages {
        match message {
            Message::Op { answer, .. } => drop(answer.send(Err(error.clone()))),
            Message::Claim { answer, .. } => drop(answer.send(Err(error.clone()))),
            Message::Finish { answer, .. } => drop(answer.send(Err(error.clone()))),
            Message::Look(look) => look(Err(error.clone())),
            // Leases begin anew with the next engine.
            Message::Return { .. } | Message::Close { .. } => {}
        }
    }
}
