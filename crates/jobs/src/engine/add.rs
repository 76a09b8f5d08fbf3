//! New jobs. All of a call are added or none; keys are looked up one after the other, so that a call may repeat itself.
//!
//! A flow is as one job: it is there if its topmost job is, and else nothing of it may be.

use super::{Engine, KEYS_MAX, QUEUE_JOBS_MAX, QUEUES_MAX};
use crate::change::{Change, Held, Key, KeyKind, Link, Row};
use crate::event::What;
use crate::job::{Child, Extra, Job, Kept, Name, NewJob, Own, PRIORITY_MAX, State};
use crate::job::{DELAY_MAX_MS, Idempotency, KEY_MAX_MS, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, Unique};
use crate::op::{Added, Answer, BATCH_MAX, Effects, FLOW_JOBS_MAX, FLOW_LEVELS_MAX, Refusal, fits};
use std::collections::{BTreeMap, BTreeSet};

/// Where a new job comes from.
pub(super) enum Origin {
    Call,
    /// Of a schedule, by the key of the tick.
    Tick(Key),
    /// It has its id already.
    Taken(u64),
}

impl Engine {
    pub(super) fn add(&mut self, name: &Name, jobs: Vec<NewJob>, effects: &mut Effects) -> Result<Answer, Refusal> {
        fits("the array of jobs", jobs.len(), BATCH_MAX)?;
        let count = jobs.iter().try_fold(0, |count, job| Ok(count + sized(job)?))?;
        fits("the array of jobs", count, BATCH_MAX)?;
        let queue = self.room_for(name, &jobs, count, effects)?;
        let added = jobs.into_iter().map(|job| self.add_one(queue, job, Origin::Call, effects)).collect();
        self.turn_depth_of(queue, effects);
        Ok(Answer::Added(added))
    }

    /// Adds one that has its id already: twice is once.
    pub(super) fn take(&mut self, name: &Name, id: u64, job: NewJob, effects: &mut Effects) -> Result<Answer, Refusal> {
        let count = sized(&job)?;
        if self.jobs.contains_key(&id) {
            return Ok(Answer::Added(vec![Added { job: id, is_new: false }]));
        }
        let queue = self.room_for(name, std::slice::from_ref(&job), count, effects)?;
        let added = self.add_one(queue, job, Origin::Taken(id), effects);
        self.turn_depth_of(queue, effects);
        Ok(Answer::Added(vec![added]))
    }

    /// The queue, if they fit in it, and all below them in theirs.
    fn room_for(&mut self, name: &Name, jobs: &[NewJob], count: usize, effects: &mut Effects) -> Result<u32, Refusal> {
        if self.keys.len() + count > KEYS_MAX && jobs.iter().any(has_key) {
            return Err(Refusal::TooMany(KEYS_MAX));
        }
        if jobs.iter().any(|job| !job.children.is_empty()) {
            self.has_room(name, jobs)?;
            self.is_clear(name, jobs)?;
        }
        let queue = self.queue_id(name, effects)?;
        if self.queues[queue as usize].len() + jobs.len() as u64 > QUEUE_JOBS_MAX {
            return Err(Refusal::Full(QUEUE_JOBS_MAX));
        }
        Ok(queue)
    }

    /// For flows, in each of their queues, before anything of them is added.
    fn has_room(&self, name: &Name, jobs: &[NewJob]) -> Result<(), Refusal> {
        fn count<'a>(queue: &'a Name, job: &'a NewJob, wanted: &mut BTreeMap<&'a Name, u64>) {
            *wanted.entry(queue).or_default() += 1;
            job.children.iter().for_each(|child| count(&child.queue, &child.job, wanted));
        }
        let mut wanted = BTreeMap::new();
        jobs.iter().for_each(|job| count(name, job, &mut wanted));
        let mut new = 0;
        for (queue, more) in wanted {
            fits("the name of a queue", queue.len(), NAME_BYTES_MAX)?;
            match self.names.get(queue) {
                None => new += 1,
                Some(id) if self.queues[*id as usize].len() + more > QUEUE_JOBS_MAX => {
                    return Err(Refusal::Full(QUEUE_JOBS_MAX));
                }
                Some(_) => {}
            }
        }
        if self.queues.len() + new > QUEUES_MAX {
            return Err(Refusal::TooMany(QUEUES_MAX));
        }
        Ok(())
    }

    /// No key below a topmost job that is new is anybody's: a flow is there or it is not, and never half of it.
    fn is_clear(&self, name: &Name, jobs: &[NewJob]) -> Result<(), Refusal> {
        let mut taken: BTreeSet<(&Name, KeyKind, &Name)> = BTreeSet::new();
        let is_held =
            |queue: &Name, kind, key: &Name| self.names.get(queue).and_then(|queue| self.held_by(*queue, kind, key));
        for job in jobs {
            let is_known = |(kind, key)| is_held(name, kind, key).is_some() || taken.contains(&(name, kind, key));
            if keys(job).any(is_known) {
                continue;
            }
            taken.extend(keys(job).map(|(kind, key)| (name, kind, key)));
            let mut below: Vec<&Child> = job.children.iter().rev().collect();
            while let Some(child) = below.pop() {
                for (kind, key) in keys(&child.job) {
                    if let Some(job) = is_held(&child.queue, kind, key) {
                        return Err(Refusal::Duplicate { job });
                    }
                    if !taken.insert((&child.queue, kind, key)) {
                        return Err(Refusal::Flow("two jobs of one call have the same key, and one is a child".into()));
                    }
                }
                below.extend(child.job.children.iter().rev());
            }
        }
        Ok(())
    }

    /// Adds one and all below it, unless one of its keys is known.
    pub(super) fn add_one(&mut self, queue: u32, new: NewJob, origin: Origin, effects: &mut Effects) -> Added {
        let (tick, id) = match origin {
            Origin::Call => (None, None),
            Origin::Tick(key) => (Some(key), None),
            Origin::Taken(id) => (None, Some(id)),
        };
        let NewJob { body, priority, delay_ms, group, unique, idempotency, own, children } = new;
        let mut known = tick.as_ref().and_then(|key| self.keys.get(key)).map(|held| held.job);
        if let Some(idempotency) = &idempotency {
            known = known.or_else(|| self.held_by(queue, KeyKind::Idempotency, &idempotency.key));
        }
        if let Some(unique) = &unique {
            known = known.or_else(|| self.held_by(queue, KeyKind::Unique, &unique.key));
        }
        if let Some(job) = known {
            return Added { job, is_new: false };
        }
        let id = id.unwrap_or_else(|| self.ids.take(effects));
        let (now_ms, of) = (self.now_ms, &mut self.queues[queue as usize]);
        let (state, ready_ms) = match delay_ms.min(DELAY_MAX_MS) {
            delay_ms if !children.is_empty() => (State::WaitingChildren, delay_ms),
            0 => (State::Waiting, of.stamp(now_ms)),
            delay_ms => (State::Delayed, now_ms + delay_ms),
        };
        of.totals.added += 1;
        let until_ms = |for_ms: u64| Some(now_ms + for_ms.min(KEY_MAX_MS));
        if let Some(Unique { key, for_ms }) = unique.clone() {
            let held = Held { job: id, until_ms: for_ms.and_then(until_ms) };
            self.hold_key(Key { queue, kind: KeyKind::Unique, key }, held, effects);
        }
        if let Some(Idempotency { key, for_ms }) = idempotency {
            let held = Held { job: id, until_ms: until_ms(for_ms) };
            self.hold_key(Key { queue, kind: KeyKind::Idempotency, key }, held, effects);
        }
        if let Some(key) = tick {
            self.hold_key(key, Held { job: id, until_ms: until_ms(KEY_MAX_MS) }, effects);
        }
        let extra = Extra { group, unique, own };
        let job = Job {
            queue,
            state,
            kept: Kept { payload_kib: body.payload.len().div_ceil(1024) as u16, ..Kept::default() },
            priority,
            ready_ms,
            attempts: 0,
            starts: 0,
            stalls: 0,
            token: 0,
            started_ms: 0,
            ended_ms: 0,
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
            lease: None,
        };
        self.place(id, &job);
        let row = Row {
            queue,
            priority,
            created_ms: now_ms,
            group: job.group().cloned(),
            unique: job.unique().cloned(),
            own,
            progressed: self.progressed(id, &job, None),
        };
        effects.changes.push(Change::Insert { row: Box::new(row), body: Box::new(body) });
        self.jobs.insert(id, job);
        self.must_last(queue, effects);
        self.tell(queue, id, What::Added, effects);
        children.into_iter().for_each(|child| self.add_child(id, child, effects));
        Added { job: id, is_new: true }
    }

    /// That there is room, and that its keys are nobody's, was found before.
    fn add_child(&mut self, parent: u64, child: Child, effects: &mut Effects) {
        let Child { queue, on_failure, job } = child;
        let Ok(queue) = self.queue_id(&queue, effects) else { return };
        let added = self.add_one(queue, job, Origin::Call, effects);
        if added.is_new {
            self.link(Link { child: added.job, parent, queue, on_failure, gone: None }, effects);
        }
        self.turn_depth_of(queue, effects);
    }

    /// Puts a job where its state belongs; an active one has its own place.
    pub(super) fn place(&mut self, id: u64, job: &Job) {
        let queue = &mut self.queues[job.queue as usize];
        match job.state {
            State::Waiting => queue.ready.insert(job.priority, job.group(), job.ready_ms, id),
            State::Delayed => {
                queue.delayed.insert((job.ready_ms, id));
                self.timers.insert((job.ready_ms, id));
            }
            State::WaitingChildren => drop(queue.waiting_children.insert(id)),
            State::Active => {
                queue.active.insert(id);
                if let Some(lease) = &job.lease {
                    self.workers.entry(lease.worker.clone()).or_default().insert(id);
                    self.timers.insert((lease.timer_ms, id));
                }
            }
            ended => {
                if let Some(index) = crate::queue::terminal(ended) {
                    queue.ended[index].insert((job.ended_ms, id));
                }
            }
        }
    }

    /// Takes a job out of where its state belongs.
    pub(super) fn displace(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let queue = &mut self.queues[job.queue as usize];
        match job.state {
            State::Waiting => queue.ready.remove(job.priority, job.group(), job.ready_ms, id),
            State::Delayed => {
                queue.delayed.remove(&(job.ready_ms, id));
                self.timers.remove(&(job.ready_ms, id));
            }
            State::WaitingChildren => drop(queue.waiting_children.remove(&id)),
            State::Active => {
                queue.active.remove(&id);
                let Some(lease) = &job.lease else { return };
                if lease.is_unheard {
                    self.unheard.remove(&job.token);
                }
                self.timers.remove(&(lease.timer_ms, id));
                if let Some(jobs) = self.workers.get_mut(&lease.worker) {
                    jobs.remove(&id);
                    if jobs.is_empty() {
                        self.workers.remove(&lease.worker);
                    }
                }
            }
            ended => {
                if let Some(index) = crate::queue::terminal(ended) {
                    queue.ended[index].remove(&(job.ended_ms, id));
                }
            }
        }
    }
}

/// How many jobs it is with all below it, once nothing is wrong with any.
fn sized(job: &NewJob) -> Result<usize, Refusal> {
    fn of_level(job: &NewJob, level: usize) -> Result<usize, Refusal> {
        fits("the number of levels of a flow", level, FLOW_LEVELS_MAX)?;
        checked(job)?;
        job.children.iter().try_fold(1, |count, child| Ok(count + of_level(&child.job, level + 1)?))
    }
    let count = of_level(job, 1)?;
    fits("the number of jobs of a flow", count, FLOW_JOBS_MAX)?;
    Ok(count)
}

fn has_key(job: &NewJob) -> bool {
    keys(job).next().is_some() || job.children.iter().any(|child| has_key(&child.job))
}

fn keys(job: &NewJob) -> impl Iterator<Item = (KeyKind, &Name)> {
    let idempotency = job.idempotency.iter().map(|idempotency| (KeyKind::Idempotency, &idempotency.key));
    idempotency.chain(job.unique.iter().map(|unique| (KeyKind::Unique, &unique.key)))
}

/// What a producer may get wrong.
pub(super) fn checked(job: &NewJob) -> Result<(), Refusal> {
    fits("the payload", job.body.payload.len(), PAYLOAD_BYTES_MAX)?;
    fits("the name of a job", job.body.name.len(), NAME_BYTES_MAX)?;
    fits("the trace", job.body.trace.as_ref().map_or(0, String::len), NAME_BYTES_MAX)?;
    fits("the group", job.group.as_ref().map_or(0, |group| group.len()), NAME_BYTES_MAX)?;
    fits("the key", job.unique.as_ref().map_or(0, |unique| unique.key.len()), NAME_BYTES_MAX)?;
    fits("the idempotency key", job.idempotency.as_ref().map_or(0, |key| key.key.len()), NAME_BYTES_MAX)?;
    fits("the priority", job.priority as usize, PRIORITY_MAX as usize)?;
    let Own { attempts, timeout_ms, .. } = job.own;
    fits("the number of attempts", attempts.unwrap_or(0) as usize, super::finish::ATTEMPTS_MAX as usize)?;
    fits("the timeout", timeout_ms.unwrap_or(0) as usize, DELAY_MAX_MS as usize)
}
