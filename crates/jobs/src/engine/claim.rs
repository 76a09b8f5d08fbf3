//! Starting jobs: as many as the queue, its rate and its concurrency let.

use super::Engine;
use crate::change::Change;
use crate::event::What;
use crate::job::{Lease, Name, State};
use crate::op::{Answer, BATCH_MAX, CLAIM_KIB_MAX, Claimed, Effects, LEASE_MS};
use crate::store::CHILDREN_BYTES_MAX;

impl Engine {
    /// Gives the worker up to `max` jobs, and no more than fit into an answer; none of a queue that nobody knows.
    pub(super) fn claim(&mut self, name: &Name, worker: &Name, max: u32, effects: &mut Effects) -> Answer {
        let mut claimed = Vec::new();
        let Some(queue) = self.names.get(name).copied() else { return Answer::Claimed(claimed) };
        let most = (max as usize).min(BATCH_MAX);
        let (now_ms, mut kib) = (self.now_ms, 0);
        while claimed.len() < most {
            kib += self.next_kib(queue);
            if kib > CLAIM_KIB_MAX && !claimed.is_empty() {
                break;
            }
            let of = &mut self.queues[queue as usize];
            let is_startable = of.startable_ms(now_ms).is_some_and(|at_ms| at_ms <= now_ms);
            if !is_startable || !of.admit(now_ms) {
                break;
            }
            let Some(id) = of.ready.pop() else { break };
            claimed.extend(self.start(id, worker, effects));
        }
        if !claimed.is_empty() {
            if let Some(starts) = self.queues[queue as usize].starts(now_ms) {
                effects.changes.push(Change::Starts { queue, starts });
            }
            self.turn_depth_of(queue, effects);
        }
        Answer::Claimed(claimed)
    }

    /// What the next job of a queue adds to an answer, with what its children gave.
    fn next_kib(&self, queue: u32) -> u32 {
        let Some(id) = self.queues[queue as usize].ready.first() else { return 0 };
        let below = if self.flows.is_parent(id) { (CHILDREN_BYTES_MAX / 1024) as u32 } else { 0 };
        self.jobs.get(&id).map_or(0, |job| u32::from(job.kept.payload_kib)) + below
    }

    /// A job that was taken out of those that are ready.
    fn start(&mut self, id: u64, worker: &Name, effects: &mut Effects) -> Option<Claimed> {
        let now_ms = self.now_ms;
        let token = self.tokens.take(effects);
        if self.answered.is_none() {
            self.note_answered(token - 1, effects);
        }
        let job = self.jobs.get_mut(&id)?;
        let queue = &mut self.queues[job.queue as usize];
        let own = job.own();
        let deadline_ms = match own.timeout_ms.unwrap_or(queue.settings.timeout_ms) {
            0 => u64::MAX,
            timeout_ms => now_ms.saturating_add(timeout_ms),
        };
        let until_ms = now_ms + LEASE_MS;
        let timer_ms = until_ms.min(deadline_ms);
        job.state = State::Active;
        job.token = token;
        job.starts += 1;
        job.started_ms = now_ms;
        job.lease = Some(Box::new(Lease {
            worker: worker.clone(),
            until_ms,
            length_ms: LEASE_MS,
            deadline_ms,
            grace_ms: 0,
            timer_ms,
            is_unheard: false,
        }));
        let claimed = Claimed {
            job: id,
            token,
            attempt: job.attempts + 1,
            // Fewer by now than when its last one failed: it has this one all the same.
            attempts: own.attempts.unwrap_or(queue.settings.attempts).max(job.attempts + 1),
            deadline_ms,
            group: job.group().cloned(),
            is_parent: self.flows.is_parent(id),
        };
        let (queue_id, start) = (job.queue, job.starts);
        queue.active.insert(id);
        queue.totals.started += 1;
        self.timers.insert((timer_ms, id));
        self.workers.entry(worker.clone()).or_default().insert(id);
        self.keep(id, effects);
        self.tell(queue_id, id, What::Started { start }, effects);
        Some(claimed)
    }
}
