//! The engine after a crash or a restart, from what was kept.
//!
//! Every lease begins anew, and nobody's time is over before that lease: its worker could not tell us. Who was not told
//! of a job, as far as is known, has it for this one lease, unless he names it.

use super::Engine;
use crate::change::{Counter, Record, Row};
use crate::job::{Extra, Job, Lease, State};
use crate::op::LEASE_MS;
use crate::queue::Queue;

/// A record of a queue that is not there, or whose number leaves a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no queue number {0}")]
pub struct Orphan(pub u32);

impl Engine {
    /// Takes one record over, in the order [`Record`] says.
    ///
    /// # Errors
    /// When it belongs to a queue that is not there: no store of ours holds such, so somebody else wrote to it.
    pub fn restore(&mut self, record: Record, now_ms: u64) -> Result<(), Orphan> {
        self.now_ms = self.now_ms.max(now_ms);
        let belongs_to = match &record {
            Record::Queue { id, .. } if *id as usize != self.queues.len() => Some(*id),
            Record::Starts { queue, .. } => Some(*queue),
            Record::Job(row) => Some(row.queue),
            Record::Link(link) => Some(link.queue),
            Record::Key { key, .. } => Some(key.queue),
            Record::Queue { .. } | Record::Reserved { .. } | Record::Schedule(_) => None,
        };
        if let Some(queue) = belongs_to.filter(|queue| *queue as usize >= self.queues.len()) {
            return Err(Orphan(queue));
        }
        self.take_over(record);
        Ok(())
    }

    fn take_over(&mut self, record: Record) {
        match record {
            Record::Reserved { counter, ceiling } => {
                let reserved = match counter {
                    Counter::Ids => &mut self.ids,
                    Counter::Tokens => &mut self.tokens,
                    Counter::Answered => {
                        self.answered = self.answered.max(Some(ceiling));
                        return;
                    }
                };
                (reserved.next, reserved.ceiling) = (ceiling, ceiling);
            }
            Record::Queue { id, name, is_paused } => {
                self.names.insert(name.clone(), id);
                let mut queue = Queue::new(name);
                queue.is_paused = is_paused;
                self.queues.push(queue);
            }
            Record::Starts { queue, starts } => self.queues[queue as usize].restore_starts(starts),
            Record::Job(row) => self.restore_job(*row),
            Record::Link(link) => self.restore_link(link),
            Record::Key { key, held } => {
                self.key_timers.extend(held.until_ms.map(|until_ms| (until_ms, key.clone())));
                self.keys.insert(key, held);
            }
            Record::Schedule(schedule) => {
                self.fires.insert((schedule.next_ms, schedule.name.clone()));
                self.schedules.insert(schedule.name.clone(), *schedule);
            }
        }
    }

    fn restore_job(&mut self, row: Row) {
        let Row { queue, priority, group, unique, own, progressed, .. } = row;
        let extra = Extra { group, unique, own };
        let lease = (progressed.state == State::Active).then(|| {
            let until_ms = self.now_ms + progressed.lease_ms.max(LEASE_MS);
            Box::new(Lease {
                worker: progressed.worker.clone().unwrap_or_else(|| "".into()),
                until_ms,
                length_ms: progressed.lease_ms.max(LEASE_MS),
                deadline_ms: progressed.deadline_ms,
                grace_ms: until_ms,
                timer_ms: until_ms,
                is_unheard: self.answered.is_some_and(|answered| progressed.token > answered),
            })
        });
        let job = Job {
            queue,
            state: progressed.state,
            kept: progressed.kept,
            priority,
            ready_ms: progressed.ready_ms,
            attempts: progressed.attempts,
            starts: progressed.starts,
            stalls: progressed.stalls,
            token: progressed.token,
            started_ms: progressed.started_ms,
            ended_ms: progressed.ended_ms,
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
            lease,
        };
        if job.lease.as_ref().is_some_and(|lease| lease.is_unheard) {
            self.unheard.insert(job.token);
        }
        if job.state == State::Waiting {
            self.queues[queue as usize].stamp(job.ready_ms);
        }
        self.place(progressed.job, &job);
        self.jobs.insert(progressed.job, job);
    }
}
