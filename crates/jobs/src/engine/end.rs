//! The end of a job, how long it is kept afterwards, and its removal.

use super::Engine;
use crate::change::{Change, Key, KeyKind};
use crate::event::What;
use crate::job::State;
use crate::op::Effects;
use crate::queue::terminal;

/// Jobs that are too old, removed at one look.
const AGED_MAX: usize = 1000;

impl Engine {
    /// Nothing but an operator changes it from here on.
    pub(super) fn end(&mut self, id: u64, state: State, what: What, effects: &mut Effects) {
        let before = self.standing(id);
        self.displace(id);
        let now_ms = self.now_ms;
        let Some(mut job) = self.jobs.remove(&id) else { return };
        let worker = job.lease.take().map(|lease| lease.worker);
        job.state = state;
        job.ended_ms = now_ms;
        let queue = job.queue;
        self.place(id, &job);
        effects.changes.push(Change::Update(Box::new(self.progressed(id, &job, worker))));
        self.jobs.insert(id, job);
        self.must_last(queue, effects);
        self.release_key(id, effects);
        self.lines.remove(&id);
        self.tell(queue, id, what, effects);
        self.turned(id, before, effects);
        if let Some(index) = terminal(state) {
            self.evict_many(queue, index, effects);
            self.arm_age(queue);
        }
        let counts = self.queues[queue as usize].counts();
        if counts.waiting + counts.delayed + counts.active + counts.waiting_children == 0 {
            self.tell(queue, 0, What::Drained, effects);
        }
        self.turn_depth_of(queue, effects);
    }

    /// The key that a job held for as long as it lived.
    pub(super) fn release_key(&mut self, id: u64, effects: &mut Effects) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(unique) = job.unique().filter(|unique| unique.for_ms.is_none()) else { return };
        let key = Key { queue: job.queue, kind: KeyKind::Unique, key: unique.key.clone() };
        if self.keys.get(&key).is_some_and(|held| held.job == id) {
            self.forget_key(&key, effects);
        }
    }

    /// More than are kept: the oldest go.
    pub(super) fn evict_many(&mut self, queue: u32, index: usize, effects: &mut Effects) {
        let keep = self.queues[queue as usize].keep(index).count as usize;
        while self.queues[queue as usize].ended[index].len() > keep {
            let Some((_, id)) = self.queues[queue as usize].ended[index].first().copied() else { return };
            self.erase(id, effects);
        }
    }

    /// Older than is kept.
    pub(super) fn evict_old(&mut self, queue: u32, effects: &mut Effects) {
        let mut left = AGED_MAX;
        for index in 0..3 {
            let Some(age_ms) = self.queues[queue as usize].keep(index).age_ms else { continue };
            while let Some((ended_ms, id)) = self.queues[queue as usize].ended[index].first().copied()
                && ended_ms.saturating_add(age_ms) <= self.now_ms
                && left > 0
            {
                left -= 1;
                self.erase(id, effects);
            }
        }
        self.arm_age(queue);
    }

    fn arm_age(&mut self, id: u32) {
        let queue = &mut self.queues[id as usize];
        let over = |index: usize| {
            let age_ms = queue.keep(index).age_ms?;
            let (ended_ms, _) = queue.ended[index].first()?;
            Some(ended_ms.saturating_add(age_ms))
        };
        let next_ms = (0..3).filter_map(over).min();
        if next_ms == queue.age_timer_ms {
            return;
        }
        if let Some(old_ms) = queue.age_timer_ms {
            self.age_timers.remove(&(old_ms, id));
        }
        queue.age_timer_ms = next_ms;
        self.age_timers.extend(next_ms.map(|next_ms| (next_ms, id)));
    }

    /// Takes a job and all that is kept of it away.
    pub(super) fn erase(&mut self, id: u64, effects: &mut Effects) {
        let before = self.standing(id);
        self.displace(id);
        self.release_key(id, effects);
        self.lines.remove(&id);
        let Some(job) = self.jobs.remove(&id) else { return };
        self.leave_flow(id, job.state, effects);
        effects.changes.push(Change::Remove { job: id, kept: job.kept });
        self.must_last(job.queue, effects);
        self.turned(id, before, effects);
    }
}
