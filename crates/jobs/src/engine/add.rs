//! New jobs. All of a call are added or none; keys are looked up one after the other, so that a call may repeat itself.

use super::{Engine, KEYS_MAX, QUEUE_JOBS_MAX};
use crate::change::{Change, Held, Key, KeyKind, Row};
use crate::event::What;
use crate::job::{DELAY_MAX_MS, KEY_MAX_MS, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::job::{Extra, Job, Kept, Name, NewJob, Own, PRIORITY_MAX, State};
use crate::op::{Added, Answer, BATCH_MAX, Effects, Refusal, fits};

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
        jobs.iter().try_for_each(checked)?;
        let queue = self.room_for(name, &jobs, effects)?;
        let added = jobs.into_iter().map(|job| self.add_one(queue, job, Origin::Call, effects)).collect();
        self.turn_depth_of(queue, effects);
        Ok(Answer::Added(added))
    }

    /// Adds one that has its id already: twice is once.
    pub(super) fn take(&mut self, name: &Name, id: u64, job: NewJob, effects: &mut Effects) -> Result<Answer, Refusal> {
        checked(&job)?;
        if self.jobs.contains_key(&id) {
            return Ok(Answer::Added(vec![Added { job: id, is_new: false }]));
        }
        let queue = self.room_for(name, std::slice::from_ref(&job), effects)?;
        let added = self.add_one(queue, job, Origin::Taken(id), effects);
        self.turn_depth_of(queue, effects);
        Ok(Answer::Added(vec![added]))
    }

    /// The queue, if they fit in it.
    fn room_for(&mut self, name: &Name, jobs: &[NewJob], effects: &mut Effects) -> Result<u32, Refusal> {
        let queue = self.queue_id(name, effects)?;
        if self.queues[queue as usize].len() + jobs.len() as u64 > QUEUE_JOBS_MAX {
            return Err(Refusal::Full(QUEUE_JOBS_MAX));
        }
        let has_key = |job: &NewJob| job.unique.is_some() || job.idempotency.is_some();
        if self.keys.len() + jobs.len() > KEYS_MAX && jobs.iter().any(has_key) {
            return Err(Refusal::TooMany(KEYS_MAX));
        }
        Ok(queue)
    }

    /// Adds one, unless one of its keys is known.
    pub(super) fn add_one(&mut self, queue: u32, new: NewJob, origin: Origin, effects: &mut Effects) -> Added {
        let (tick, id) = match origin {
            Origin::Call => (None, None),
            Origin::Tick(key) => (Some(key), None),
            Origin::Taken(id) => (None, Some(id)),
        };
        let NewJob { body, priority, delay_ms, group, unique, idempotency, own } = new;
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
        let now_ms = self.now_ms;
        let of = &mut self.queues[queue as usize];
        let (state, ready_ms) = match delay_ms.min(DELAY_MAX_MS) {
            0 => (State::Waiting, of.stamp(now_ms)),
            delay_ms => (State::Delayed, now_ms + delay_ms),
        };
        of.totals.added += 1;
        let hold = |kind, key: Name, until_ms| (Key { queue, kind, key }, Held { job: id, until_ms });
        let unique_key = unique.as_ref().map(|unique| {
            hold(KeyKind::Unique, unique.key.clone(), unique.for_ms.map(|for_ms| now_ms + for_ms.min(KEY_MAX_MS)))
        });
        let idempotency_key =
            idempotency.map(|key| hold(KeyKind::Idempotency, key.key, Some(now_ms + key.for_ms.min(KEY_MAX_MS))));
        let tick_key = tick.map(|key| (key, Held { job: id, until_ms: Some(now_ms + KEY_MAX_MS) }));
        for (key, held) in [unique_key, idempotency_key, tick_key].into_iter().flatten() {
            self.hold_key(key, held, effects);
        }
        let extra = Extra { group, unique, own };
        let job = Job {
            queue,
            state,
            kept: Kept::default(),
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
        Added { job: id, is_new: true }
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
            State::Active => {
                queue.active.remove(&id);
                let Some(lease) = &job.lease else { return };
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
