//! The engine: what becomes of jobs, as a pure state machine. An op and a time go in; changes to be kept, events and an
//! answer come out.
//!
//! Invariants: nothing here does I/O, reads a clock or draws a random number, so equal ops at equal times from an equal
//! seed give equal effects. A job has at most one valid token, and tokens only grow; a stale one changes nothing. No
//! step looks at more than it changes: a million waiting jobs cost memory and not time. Payloads pass through and are
//! not kept.

mod add;
mod claim;
mod end;
mod finish;
mod flow;
mod operate;
mod restore;
mod shown;
mod ticks;

pub(crate) use finish::{ERROR_BYTES_MAX, RESULT_BYTES_MAX};

pub use restore::Orphan;

use crate::change::{Change, Counter, Held, Key, KeyKind, Progressed};
use crate::event::{Event, What};
use crate::job::{Ending, Job, NAME_BYTES_MAX, Name, State};
use crate::op::{Answer, Effects, GRACE_MS, LEASE_MAX_MS, LEASE_MS, Op, Refusal, fits};
use crate::queue::{Counts, Queue, Totals};
use crate::schedule::Schedule;
use crate::settings::{Durability, Settings};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Queues; a producer that makes one of every user's name is told so.
pub const QUEUES_MAX: usize = 1000;
/// Jobs a queue holds, in whatever state.
pub const QUEUE_JOBS_MAX: u64 = 10_000_000;
/// Keys that are remembered.
pub const KEYS_MAX: usize = 5_000_000;
pub const SCHEDULES_MAX: usize = 10_000;
/// Timers that are seen to in one step; more are due at once when a million jobs were put off to one moment.
pub const TIMERS_MAX: usize = 10_000;
/// Queues that are looked at for what is too old in one step.
const AGED_QUEUES_MAX: usize = 8;
/// Lines of a job's log, by one process.
pub const LINES_MAX: u32 = 1000;

/// What is shown of a job that is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    pub queue: Name,
    pub state: State,
    pub token: u64,
    pub attempts: u32,
    pub starts: u32,
    pub stalls: u32,
    pub ready_ms: u64,
}

/// What is shown of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueGlance {
    pub name: Name,
    pub counts: Counts,
    pub totals: Totals,
    pub is_paused: bool,
    pub is_short: bool,
    pub settings: Settings,
}

/// All jobs of one store.
#[derive(Debug)]
pub struct Engine {
    seed: u64,
    /// The latest time that was given: it does not go back.
    now_ms: u64,
    ids: Reserved,
    tokens: Reserved,
    /// Up to which token claims were answered, as it is kept; `None` in a store where nobody has claimed since that is.
    answered: Option<u64>,
    /// Tokens of active jobs of which it is not known that their workers were told: no note goes past them.
    unheard: BTreeSet<u64>,
    names: BTreeMap<Name, u32>,
    /// By id.
    queues: Vec<Queue>,
    jobs: BTreeMap<u64, Job>,
    /// Active jobs of each worker that has any.
    workers: BTreeMap<Name, BTreeSet<u64>>,
    /// When a job is to be looked at: a delayed one is due, or an active one's lease or time is over.
    timers: BTreeSet<(u64, u64)>,
    keys: BTreeMap<Key, Held>,
    key_timers: BTreeSet<(u64, Key)>,
    /// When a queue is to be looked at for what is too old.
    age_timers: BTreeSet<(u64, u32)>,
    schedules: BTreeMap<Name, Schedule>,
    fires: BTreeSet<(u64, Name)>,
    /// Lines of the logs of active jobs, counted since the start of this process.
    lines: BTreeMap<u64, u32>,
    flows: flow::Flows,
}

/// Numbers that are given out once, whatever is lost: a block of them is reserved before its first is used.
#[derive(Debug)]
struct Reserved {
    counter: Counter,
    next: u64,
    ceiling: u64,
    block: u64,
}

impl Reserved {
    fn take(&mut self, effects: &mut Effects) -> u64 {
        if self.next == self.ceiling {
            self.ceiling += self.block;
            effects.changes.push(Change::Reserve { counter: self.counter, ceiling: self.ceiling });
            effects.fsync = true;
        }
        let number = self.next;
        self.next += 1;
        number
    }
}

impl Engine {
    /// An engine without jobs. `seed` decides the jitter of waits and nothing else.
    pub fn new(seed: u64) -> Engine {
        Engine {
            seed,
            now_ms: 0,
            ids: Reserved { counter: Counter::Ids, next: 1, ceiling: 1, block: 1 << 16 },
            tokens: Reserved { counter: Counter::Tokens, next: 1, ceiling: 1, block: 1 << 20 },
            answered: None,
            unheard: BTreeSet::new(),
            names: BTreeMap::new(),
            queues: Vec::new(),
            jobs: BTreeMap::new(),
            workers: BTreeMap::new(),
            timers: BTreeSet::new(),
            keys: BTreeMap::new(),
            key_timers: BTreeSet::new(),
            age_timers: BTreeSet::new(),
            schedules: BTreeMap::new(),
            fires: BTreeSet::new(),
            lines: BTreeMap::new(),
            flows: flow::Flows::default(),
        }
    }

    /// Does one op at `now_ms`. Effects are added to those that are there; they count only once they are committed.
    ///
    /// # Errors
    /// Why the op changed nothing; what time alone has brought about is among the effects all the same.
    pub fn apply(&mut self, op: Op, now_ms: u64, effects: &mut Effects) -> Result<Answer, Refusal> {
        self.now_ms = self.now_ms.max(now_ms);
        self.advance(effects);
        match op {
            Op::Configure { queue, settings } => self.configure(&queue, *settings, effects),
            Op::Add { queue, jobs } => self.add(&queue, jobs, effects),
            Op::Take { queue, id, job } => self.take(&queue, id, *job, effects),
            Op::Claim { queue, worker, max } => Ok(self.claim(&queue, &worker, max, effects)),
            Op::Finish(finish) => self.finish(finish, effects),
            Op::Beat { worker, holding } => Ok(self.beat(&worker, &holding)),
            Op::Disconnect { worker } => Ok(self.disconnect(&worker)),
            Op::Extend { job, token, lease_ms } => self.extend(job, token, lease_ms, effects),
            Op::Progress { job, token, body } => self.progress(job, token, body, effects),
            Op::Log { job, token, line } => self.log(job, token, line, effects),
            Op::Pause { queue } => self.pause(&queue, true, effects),
            Op::Resume { queue } => self.pause(&queue, false, effects),
            Op::Remove { job } => self.remove_one(job, effects),
            Op::Promote { job } => self.promote(job, effects),
            Op::Retry { job } => self.retry(job, effects),
            Op::Drain { queue, delayed, max } => self.drain(&queue, delayed, max, effects),
            Op::Clean { queue, state, older_ms, max } => self.clean(&queue, state, older_ms, max, effects),
            Op::Redrive { queue, state, max } => self.redrive(&queue, state, max, effects),
            Op::Schedule(schedule) => self.schedule(*schedule, effects),
            Op::Unschedule { schedule } => self.unschedule(&schedule, effects),
            Op::Fire { wall_ms } => Ok(self.fire(wall_ms, effects)),
            Op::Answered { token } => Ok(self.answered(token, effects)),
            Op::Unheard { held } => Ok(self.not_heard_of(&held)),
            Op::Tick => Ok(Answer::Done),
        }
    }

    /// When something happens by itself next; a tick then sees to it. May be early.
    pub fn next_due_ms(&self) -> Option<u64> {
        let firsts = [
            self.timers.first().map(|(at_ms, _)| *at_ms),
            self.key_timers.first().map(|(at_ms, _)| *at_ms),
            self.age_timers.first().map(|(at_ms, _)| *at_ms),
        ];
        firsts.into_iter().flatten().min()
    }

    /// When the next schedule ticks, by the wall clock.
    pub fn next_fire_ms(&self) -> Option<u64> {
        self.fires.first().map(|(at_ms, _)| *at_ms)
    }

    /// When a claim of this queue would give a job if nothing is done meanwhile; `None`: never.
    pub fn startable_ms(&self, queue: &str) -> Option<u64> {
        self.names.get(queue).and_then(|id| self.queues[*id as usize].startable_ms(self.now_ms))
    }

    pub fn queues(&self) -> impl Iterator<Item = QueueGlance> + '_ {
        self.queues.iter().map(Queue::glance)
    }

    pub fn counts(&self, queue: &str) -> Option<Counts> {
        self.names.get(queue).map(|id| self.queues[*id as usize].counts())
    }

    pub fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        self.schedules.values()
    }

    pub fn glance(&self, job: u64) -> Option<Glance> {
        let found = self.jobs.get(&job)?;
        Some(Glance {
            queue: self.queues[found.queue as usize].name.clone(),
            state: found.state,
            token: found.token,
            attempts: found.attempts,
            starts: found.starts,
            stalls: found.stalls,
            ready_ms: found.ready_ms,
        })
    }

    /// Ids in the order in which they will start or have ended; what ended last comes first.
    pub fn list(&self, queue: &str, state: State, skip: usize, most: usize) -> Vec<u64> {
        let Some(queue) = self.names.get(queue).map(|id| &self.queues[*id as usize]) else { return Vec::new() };
        match (state, crate::queue::terminal(state)) {
            (_, Some(index)) => queue.ended[index].iter().rev().skip(skip).take(most).map(|(_, job)| *job).collect(),
            (State::Waiting, _) => queue.ready.iter().skip(skip).take(most).collect(),
            (State::Delayed, _) => queue.delayed.iter().skip(skip).take(most).map(|(_, job)| *job).collect(),
            (State::WaitingChildren, _) => queue.waiting_children.iter().skip(skip).take(most).copied().collect(),
            _ => queue.active.iter().skip(skip).take(most).copied().collect(),
        }
    }

    /// What time has brought about.
    fn advance(&mut self, effects: &mut Effects) {
        for _ in 0..TIMERS_MAX {
            match self.timers.first() {
                Some((at_ms, job)) if *at_ms <= self.now_ms => {
                    let due = (*at_ms, *job);
                    self.timers.remove(&due);
                    self.look_at(due.1, effects);
                }
                _ => break,
            }
        }
        for _ in 0..TIMERS_MAX {
            match self.key_timers.first() {
                Some((at_ms, _)) if *at_ms <= self.now_ms => {}
                _ => break,
            }
            if let Some((_, key)) = self.key_timers.pop_first() {
                self.forget_key(&key, effects);
            }
        }
        for _ in 0..AGED_QUEUES_MAX {
            let Some((at_ms, queue)) = self.age_timers.first().copied().filter(|(at_ms, _)| *at_ms <= self.now_ms)
            else {
                break;
            };
            self.age_timers.remove(&(at_ms, queue));
            self.queues[queue as usize].age_timer_ms = None;
            self.evict_old(queue, effects);
        }
    }

    /// A job's timer has come: a delayed one is due, an active one has taken too long or is vouched for no longer.
    fn look_at(&mut self, id: u64, effects: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match (job.state, job.lease.as_mut()) {
            (State::Delayed, _) => {
                job.state = State::Waiting;
                let (queue, priority, ready_ms) = (job.queue, job.priority, job.ready_ms);
                let group = job.group().cloned();
                let queue = &mut self.queues[queue as usize];
                queue.delayed.remove(&(ready_ms, id));
                queue.ready.insert(priority, group.as_ref(), ready_ms, id);
                self.turn_depth(id, effects);
            }
            (State::Active, Some(lease)) => {
                let over_ms = lease.over_ms();
                if over_ms > self.now_ms {
                    // It was vouched for since.
                    lease.timer_ms = over_ms;
                    self.timers.insert((over_ms, id));
                } else if lease.is_late() {
                    self.time_out(id, effects);
                } else {
                    self.stall(id, effects);
                }
            }
            _ => {}
        }
    }

    /// The queue of this name, made if need be.
    fn queue_id(&mut self, name: &Name, effects: &mut Effects) -> Result<u32, Refusal> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        fits("the name of a queue", name.len(), NAME_BYTES_MAX)?;
        if self.queues.len() >= QUEUES_MAX {
            return Err(Refusal::TooMany(QUEUES_MAX));
        }
        let id = u32::try_from(self.queues.len()).unwrap_or(u32::MAX);
        self.names.insert(name.clone(), id);
        self.queues.push(Queue::new(name.clone()));
        effects.changes.push(Change::Queue { id, name: name.clone(), is_paused: false });
        effects.fsync = true;
        Ok(id)
    }

    fn known_queue(&self, name: &Name) -> Result<u32, Refusal> {
        self.names.get(name).copied().ok_or_else(|| Refusal::NoSuchQueue(name.clone()))
    }

    fn configure(&mut self, name: &Name, settings: Settings, effects: &mut Effects) -> Result<Answer, Refusal> {
        let id = self.queue_id(name, effects)?;
        let now_ms = self.now_ms;
        let of = &mut self.queues[id as usize];
        if of.configure(settings, now_ms) {
            // Otherwise the next start would take them for later still.
            let starts = of.starts(now_ms).unwrap_or_default();
            effects.changes.push(Change::Starts { queue: id, starts });
        }
        for index in 0..3 {
            self.evict_many(id, index, effects);
        }
        self.evict_old(id, effects);
        Ok(Answer::Done)
    }

    /// Those who have a job.
    pub fn workers(&self) -> impl Iterator<Item = &Name> {
        self.workers.keys()
    }

    fn pause(&mut self, name: &Name, is_paused: bool, effects: &mut Effects) -> Result<Answer, Refusal> {
        let id = self.queue_id(name, effects)?;
        let queue = &mut self.queues[id as usize];
        if queue.is_paused != is_paused {
            queue.is_paused = is_paused;
            effects.changes.push(Change::Queue { id, name: name.clone(), is_paused });
            effects.fsync = true;
            self.tell(id, 0, if is_paused { What::Paused } else { What::Resumed }, effects);
        }
        Ok(Answer::Done)
    }

    fn beat(&mut self, worker: &Name, holding: &[(u64, u64)]) -> Answer {
        let now_ms = self.now_ms;
        for (job, token) in holding {
            if self.jobs.get(job).is_some_and(|found| found.token == *token) {
                self.hear_of(*job, Some(worker));
            }
        }
        for job in self.workers.get(worker).into_iter().flatten() {
            // What was asked for by token ends in its own time: whoever asked may be another than who beats.
            let lease = self.jobs.get_mut(job).and_then(|job| job.lease.as_mut());
            if let Some(lease) = lease.filter(|lease| lease.length_ms <= LEASE_MS && !lease.is_unheard) {
                // Its timer stays where it is and looks again; so a lease may become longer and never shorter.
                lease.until_ms = lease.until_ms.max(now_ms + lease.length_ms);
            }
        }
        let is_lost = |(job, token): &&(u64, u64)| {
            self.jobs.get(job).is_none_or(|found| found.state != State::Active || found.token != *token)
        };
        Answer::Lost(holding.iter().filter(is_lost).map(|(job, _)| *job).collect())
    }

    /// Whoever has this job has named it; of a worker only if it is his. What vouches for him otherwise may come later
    /// than his first lease ends.
    fn hear_of(&mut self, job: u64, worker: Option<&Name>) {
        let now_ms = self.now_ms;
        let Some(Job { token, lease: Some(lease), .. }) = self.jobs.get_mut(&job) else { return };
        if lease.is_unheard && worker.is_none_or(|worker| lease.worker == *worker) {
            lease.is_unheard = false;
            self.unheard.remove(&*token);
            lease.until_ms = lease.until_ms.max(now_ms + lease.length_ms);
        }
    }

    /// Not for the note of what was answered: that would stay behind for everybody's sake.
    fn not_heard_of(&mut self, held: &[(u64, u64)]) -> Answer {
        for (job, token) in held {
            if let Some(Job { token: found, lease: Some(lease), .. }) = self.jobs.get_mut(job)
                && found == token
            {
                lease.is_unheard = true;
            }
        }
        Answer::Done
    }

    /// What nobody has any more needs no note.
    fn answered(&mut self, token: u64, effects: &mut Effects) -> Answer {
        let token = self.unheard.first().map_or(token, |first| token.min(first - 1));
        if !self.workers.is_empty() && self.answered.is_none_or(|before| before < token) {
            self.note_answered(token, effects);
        }
        Answer::Done
    }

    fn note_answered(&mut self, token: u64, effects: &mut Effects) {
        self.answered = Some(token);
        effects.changes.push(Change::Reserve { counter: Counter::Answered, ceiling: token });
    }

    fn disconnect(&mut self, worker: &Name) -> Answer {
        let until_ms = self.now_ms + GRACE_MS;
        for id in self.workers.get(worker).into_iter().flatten() {
            let Some(lease) = self.jobs.get_mut(id).and_then(|job| job.lease.as_mut()) else { continue };
            // Asked for by token: the connection is not what it goes by.
            if lease.length_ms > LEASE_MS {
                continue;
            }
            lease.until_ms = lease.until_ms.min(until_ms);
            if lease.until_ms < lease.timer_ms {
                self.timers.remove(&(lease.timer_ms, *id));
                lease.timer_ms = lease.until_ms;
                self.timers.insert((lease.timer_ms, *id));
            }
        }
        Answer::Done
    }

    fn extend(&mut self, id: u64, token: u64, lease_ms: u64, effects: &mut Effects) -> Result<Answer, Refusal> {
        let now_ms = self.now_ms;
        self.held(id, token)?;
        self.hear_of(id, None);
        let length_ms = lease_ms.clamp(LEASE_MS, LEASE_MAX_MS);
        if let Some(lease) = self.jobs.get_mut(&id).and_then(|job| job.lease.as_mut()) {
            lease.length_ms = length_ms;
            lease.until_ms = lease.until_ms.max(now_ms + length_ms);
            lease.deadline_ms = lease.deadline_ms.max(now_ms + lease_ms.min(LEASE_MAX_MS));
        }
        self.keep(id, effects);
        Ok(Answer::Done)
    }

    fn progress(&mut self, id: u64, token: u64, progress: Vec<u8>, effects: &mut Effects) -> Result<Answer, Refusal> {
        let queue = self.held(id, token)?;
        fits("the progress", progress.len(), finish::RESULT_BYTES_MAX)?;
        self.hear_of(id, None);
        effects.changes.push(Change::Progress { job: id, progress });
        self.mark(id, effects, |kept| std::mem::replace(&mut kept.words, true));
        self.must_last(queue, effects);
        self.tell(queue, id, What::Progress, effects);
        Ok(Answer::Done)
    }

    fn log(&mut self, id: u64, token: u64, line: String, effects: &mut Effects) -> Result<Answer, Refusal> {
        let queue = self.held(id, token)?;
        self.hear_of(id, None);
        let number = self.lines.entry(id).or_default();
        if *number >= LINES_MAX {
            return Err(Refusal::TooMany(LINES_MAX as usize));
        }
        *number += 1;
        let line = finish::cut(line, finish::ERROR_BYTES_MAX);
        effects.changes.push(Change::Line { job: id, at_ms: self.now_ms, line });
        self.mark(id, effects, |kept| std::mem::replace(&mut kept.lines, true));
        self.must_last(queue, effects);
        Ok(Answer::Done)
    }

    /// Notes that something is kept beside a job's row; the row is written where that is new.
    fn mark(&mut self, id: u64, effects: &mut Effects, was: impl FnOnce(&mut crate::job::Kept) -> bool) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !was(&mut job.kept) {
            self.keep(id, effects);
        }
    }

    /// Whose token this is, for whatever a worker says of its attempt.
    fn held(&self, id: u64, token: u64) -> Result<u32, Refusal> {
        let job = self.jobs.get(&id).ok_or(Refusal::NoSuchJob(id))?;
        if job.state == State::Active && job.token == token {
            Ok(job.queue)
        } else {
            Err(Refusal::Stale { job: id, state: job.state })
        }
    }

    /// The job as it is now is to be kept.
    fn keep(&self, id: u64, effects: &mut Effects) {
        let Some(job) = self.jobs.get(&id) else { return };
        effects.changes.push(Change::Update(Box::new(self.progressed(id, job, None))));
        self.must_last(job.queue, effects);
    }

    fn progressed(&self, id: u64, job: &Job, worker: Option<Name>) -> Progressed {
        let lease = job.lease.as_ref();
        Progressed {
            job: id,
            state: job.state,
            kept: job.kept,
            ready_ms: job.ready_ms,
            attempts: job.attempts,
            starts: job.starts,
            stalls: job.stalls,
            token: job.token,
            started_ms: job.started_ms,
            ended_ms: job.ended_ms,
            worker: worker.or_else(|| lease.map(|lease| lease.worker.clone())),
            deadline_ms: lease.map_or(0, |lease| lease.deadline_ms),
            lease_ms: lease.map_or(0, |lease| lease.length_ms),
        }
    }

    fn must_last(&self, queue: u32, effects: &mut Effects) {
        effects.fsync |= self.queues[queue as usize].settings.durability == Durability::Fsync;
    }

    fn tell(&self, queue: u32, job: u64, what: What, effects: &mut Effects) {
        let queue = self.queues[queue as usize].name.clone();
        effects.events.push(Event { queue, job, at_ms: self.now_ms, what });
    }

    /// Says whether the queue of this job asks for more workers, if that has changed.
    fn turn_depth(&mut self, id: u64, effects: &mut Effects) {
        if let Some(queue) = self.jobs.get(&id).map(|job| job.queue) {
            self.turn_depth_of(queue, effects);
        }
    }

    fn turn_depth_of(&mut self, queue: u32, effects: &mut Effects) {
        if let Some(is_short) = self.queues[queue as usize].depth_turned() {
            self.tell(queue, 0, What::Short(is_short), effects);
        }
    }

    fn hold_key(&mut self, key: Key, held: Held, effects: &mut Effects) {
        if let Some(until_ms) = held.until_ms {
            self.key_timers.insert((until_ms, key.clone()));
        }
        self.keys.insert(key.clone(), held);
        effects.changes.push(Change::Key { key, held });
    }

    fn forget_key(&mut self, key: &Key, effects: &mut Effects) {
        if let Some(held) = self.keys.remove(key) {
            if let Some(until_ms) = held.until_ms {
                self.key_timers.remove(&(until_ms, key.clone()));
            }
            effects.changes.push(Change::KeyGone { key: key.clone() });
        }
    }

    /// The job that a key stands for.
    fn held_by(&self, queue: u32, kind: KeyKind, key: &Name) -> Option<u64> {
        self.keys.get(&Key { queue, kind, key: key.clone() }).map(|held| held.job)
    }

    /// Equal for equal attempts of equal jobs under one seed.
    fn draw(&self, id: u64, attempts: u32) -> u64 {
        self.seed ^ crate::backoff::mix(id ^ (u64::from(attempts) << 48))
    }
}

/// How the end of an attempt is told where it was not said.
fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Failed => "failed",
        Ending::Timeout => "it took longer than its timeout",
        Ending::Stalled => "its worker was not heard of any longer",
        Ending::Released => "given back",
        Ending::Child => "a child of it did not complete",
    }
}
