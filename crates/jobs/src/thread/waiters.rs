//! Claims that wait for jobs: first come, first served in each queue.

use super::Reply;
use crate::handle::{Claim, Work};
use crate::job::Name;
use std::collections::{BTreeMap, VecDeque};

pub(super) struct Waiter {
    pub claim: Claim,
    pub answer: Reply<Vec<Work>>,
    until_ms: u64,
}

#[derive(Default)]
pub(super) struct Waiters {
    queues: BTreeMap<Name, VecDeque<Waiter>>,
    /// Nobody has waited long enough before this: so that a thousand who wait are not asked at every turn.
    due_ms: Option<u64>,
}

impl Waiter {
    pub fn new(claim: Claim, answer: Reply<Vec<Work>>, now_ms: u64) -> Waiter {
        let wait_ms = u64::try_from(claim.wait.as_millis()).unwrap_or(u64::MAX);
        Waiter { until_ms: now_ms.saturating_add(wait_ms), claim, answer }
    }
}

impl Waiters {
    pub fn has(&self, queue: &Name) -> bool {
        self.queues.contains_key(queue)
    }

    pub fn queues(&self) -> impl Iterator<Item = &Name> {
        self.queues.keys()
    }

    pub fn push(&mut self, waiter: Waiter) {
        self.due_ms = Some(self.due_ms.map_or(waiter.until_ms, |due_ms| due_ms.min(waiter.until_ms)));
        self.queues.entry(waiter.claim.queue.clone()).or_default().push_back(waiter);
    }

    pub fn push_front(&mut self, waiter: Waiter) {
        self.queues.entry(waiter.claim.queue.clone()).or_default().push_front(waiter);
    }

    /// The next one that is still there.
    pub fn pop(&mut self, queue: &Name) -> Option<Waiter> {
        let waiting = self.queues.get_mut(queue)?;
        let next = std::iter::from_fn(|| waiting.pop_front()).find(|waiter| !waiter.answer.is_closed());
        if waiting.is_empty() {
            self.queues.remove(queue);
        }
        next
    }

    /// When the first of them may have waited long enough; never late.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Those that have waited long enough, and those that are gone.
    pub fn take_over(&mut self, now_ms: u64) -> Vec<Waiter> {
        let mut over = Vec::new();
        if self.due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return over;
        }
        for waiting in self.queues.values_mut() {
            let is_over = |waiter: &Waiter| waiter.until_ms <= now_ms || waiter.answer.is_closed();
            if waiting.iter().any(is_over) {
                let (ended, left): (VecDeque<_>, VecDeque<_>) = waiting.drain(..).partition(is_over);
                over.extend(ended);
                *waiting = left;
            }
        }
        self.queues.retain(|_, waiting| !waiting.is_empty());
        self.due_ms = self.queues.values().flatten().map(|waiter| waiter.until_ms).min();
        over
    }
}
