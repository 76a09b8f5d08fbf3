//! The thread that owns engine and store. It takes what waits (512 calls at most), lets the engine decide one after the
//! other, commits once, and then answers all.
//!
//! Invariants: no answer leaves before its commit. A commit that fails fails all calls of its batch, and the engine is
//! made anew from what is kept before it decides anything else. A job whose claim nobody waited for any more is given
//! back at once.

mod waiters;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::event::{self, Event};
use crate::handle::{Claim, Finished, Work};
use crate::job::Name;
use crate::op::{Answer, Claimed, Effects, Finish, Op, Outcome};
use crate::settings::Settings;
use crate::store::Store;
use std::collections::{BTreeMap, VecDeque};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use waiters::{Waiter, Waiters};

/// Calls a commit: past it the first would wait too long for the last.
const BATCH_MAX: usize = 512;
/// Changes after which no further call joins a commit: an array of ten thousand jobs is one call.
const CHANGES_MAX: usize = 8192;
/// The thread looks at the clock this often, whatever it expects: a clock may be moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
    events: broadcast::Sender<Event>,
    /// A commit failed: what is in memory is not what is kept.
    is_stale: bool,
    /// Claimed, and nobody there to take it.
    returned: Vec<(u64, u64)>,
    fire_after_ms: u64,
}

/// Takes over what is kept, then starts.
pub(crate) fn start(
    store: Store,
    queues: Vec<(Name, Settings)>,
    clock: Clock,
    seed: u64,
    messages: mpsc::Receiver<Message>,
    events: broadcast::Sender<Event>,
) -> Result<JoinHandle<()>, Error> {
    let mut thread = Thread {
        store,
        engine: Engine::new(seed),
        effects: Effects::default(),
        clock,
        seed,
        settings: queues.into_iter().collect(),
        waiters: Waiters::default(),
        events,
        is_stale: true,
        returned: Vec::new(),
        fire_after_ms: 0,
    };
    thread.reload()?;
    let failed = |source| mainstay_store::Error::Open { path: "the thread of jobs".into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let run = move || runtime.block_on(thread.run(messages));
    Ok(std::thread::Builder::new().name("jobs".to_owned()).spawn(run).map_err(failed)?)
}

impl Thread {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let closing = loop {
            // Nothing comes within the wait: then it is time that has something to do.
            let received = tokio::time::timeout(self.rest(), messages.recv_many(&mut batch, BATCH_MAX)).await;
            if received == Ok(0) {
                break None;
            }
            let mut closing = None;
            if let Some(at) = batch.iter().position(|message| matches!(message, Message::Close { .. })) {
                closing = batch.drain(at..).next();
            }
            let mut waiting: VecDeque<Message> = batch.drain(..).collect();
            self.turn(&mut waiting);
            while !waiting.is_empty() {
                self.turn(&mut waiting);
            }
            if closing.is_some() {
                break closing;
            }
        };
        drop(messages);
        drop(self.waiters);
        self.store.close();
        if let Some(Message::Close { answer }) = closing {
            let _ = answer.send(());
        }
    }

    /// How long there is nothing to do unless somebody asks.
    fn rest(&self) -> Duration {
        if self.is_stale || !self.returned.is_empty() {
            return Duration::from_millis(u64::from(self.is_stale) * 100);
        }
        let now_ms = self.clock.now_ms();
        let startable = self.waiters.queues().filter_map(|queue| self.engine.startable_ms(queue));
        let next_ms = self.engine.next_due_ms().into_iter().chain(self.waiters.next_due_ms()).chain(startable).min();
        let until_ms = next_ms.map_or(u64::MAX, |next_ms| next_ms.saturating_sub(now_ms));
        let fire_ms = self.engine.next_fire_ms().map(|at_ms| at_ms.max(self.fire_after_ms));
        let fires_ms = fire_ms.map_or(u64::MAX, |at_ms| at_ms.saturating_sub(self.clock.wall_ms()));
        Duration::from_millis(until_ms.min(fires_ms)).min(LOOK_EVERY)
    }

    /// One commit, of as many of these as go into it.
    fn turn(&mut self, messages: &mut VecDeque<Message>) {
        // Reading a million jobs takes seconds: not before something can be written again.
        if self.is_stale
            && let Err(error) = self.store.probe().map_err(Error::from).and_then(|()| self.reload())
        {
            return refuse(messages.drain(..), &error);
        }
        let now_ms = self.clock.now_ms();
        self.pass_time(now_ms);
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
        let committed = self.commit();
        match committed {
            Ok(()) => {
                self.answer(pending);
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

    fn apply(&mut self, op: Op, now_ms: u64) -> Result<Answer, Error> {
        Ok(self.engine.apply(op, now_ms, &mut self.effects)?)
    }

    /// What nobody asked for: timers, schedules, jobs that nobody took.
    fn pass_time(&mut self, now_ms: u64) {
        let _ = self.apply(Op::Tick, now_ms);
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

    fn commit(&mut self) -> Result<(), Error> {
        if self.effects.changes.is_empty() {
            return Ok(());
        }
        self.store.commit(&self.effects.changes, self.effects.fsync).map_err(|error| {
            self.is_stale = true;
            let error = Error::from(error);
            tracing::error!(%error, "jobs were not kept");
            error
        })
    }

    fn answer(&mut self, pending: Vec<Pending>) {
        for pending in pending {
            match pending {
                Pending::Op { answer, result } => drop(answer.send(result)),
                Pending::Work { answer, claimed } => {
                    let held = tokens(&claimed);
                    let work = self.work(claimed);
                    let is_lost = work.is_err() || answer.is_closed();
                    if answer.send(work).is_err() || is_lost {
                        self.returned.extend(held);
                    }
                }
                Pending::Finished { answer, ends, claimed } => {
                    let held = tokens(&claimed);
                    let work = self.work(claimed);
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

    fn work(&mut self, claimed: Vec<Claimed>) -> Result<Vec<Work>, Error> {
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<u64> = claimed.iter().map(|claimed| claimed.job).collect();
        let bodies = self.store.bodies(&ids)?;
        let mut work = Vec::with_capacity(claimed.len());
        for (claimed, body) in claimed.into_iter().zip(bodies) {
            let children = if claimed.is_parent { self.store.children(claimed.job)? } else { Vec::new() };
            work.push(Work { claimed, body, children });
        }
        Ok(work)
    }

    /// The engine as what is kept says, and the settings that are in force.
    fn reload(&mut self) -> Result<(), Error> {
        let now_ms = self.clock.now_ms();
        let mut engine = Engine::new(self.seed);
        let mut fault = None;
        self.store.load(&mut |record| fault = fault.or_else(|| engine.restore(record, now_ms).err()))?;
        if let Some(fault) = fault {
            return Err(self.store.damaged(fault.to_string()).into());
        }
        self.engine = engine;
        self.effects.clear();
        for (queue, settings) in self.settings.clone() {
            self.apply(Op::Configure { queue, settings: Box::new(settings) }, now_ms)?;
        }
        self.commit()?;
        self.effects.clear();
        self.returned.clear();
        self.is_stale = false;
        Ok(())
    }
}

impl Pending {
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
