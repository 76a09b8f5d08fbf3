//! How an attempt ends, and what comes after it: done, another attempt, or the end of the job.

use super::{Engine, reason};
use crate::change::Change;
use crate::event::What;
use crate::job::{Attempt, Ending, State};
use crate::op::{Answer, Effects, Finish, LEASE_MAX_MS, Outcome, Refusal, fits};

/// Attempts that can be asked for.
pub const ATTEMPTS_MAX: u32 = 10_000;
/// Bytes of a result.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are kept of an error, of a stack trace, and of a line of a log; the rest is cut.
pub const ERROR_BYTES_MAX: usize = 4 * 1024;
pub const STACK_BYTES_MAX: usize = 16 * 1024;

/// What follows on a failure.
struct Failure {
    ending: Ending,
    error: String,
    stack: Option<String>,
    retry: bool,
    wait_ms: Option<u64>,
}

impl Engine {
    pub(super) fn finish(&mut self, finish: Finish, effects: &mut Effects) -> Result<Answer, Refusal> {
        let Finish { job: id, token, outcome } = finish;
        self.held(id, token)?;
        match outcome {
            Outcome::Completed { result } => {
                fits("the result", result.as_ref().map_or(0, Vec::len), RESULT_BYTES_MAX)?;
                self.complete(id, result, effects);
            }
            Outcome::Failed { error, stack, retry, wait_ms } => {
                let stack = stack.map(|stack| cut(stack, STACK_BYTES_MAX));
                let error = cut(error, ERROR_BYTES_MAX);
                self.fail(id, Failure { ending: Ending::Failed, error, stack, retry, wait_ms }, effects);
            }
            Outcome::Released { error, hold_ms } => self.release(id, cut(error, ERROR_BYTES_MAX), hold_ms, effects),
        }
        Ok(Answer::Done)
    }

    fn complete(&mut self, id: u64, result: Option<Vec<u8>>, effects: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.attempts += 1;
        if let Some(result) = result {
            job.kept.words = true;
            effects.changes.push(Change::Result { job: id, result });
        }
        self.queues[job.queue as usize].totals.completed += 1;
        self.end(id, State::Completed, What::Completed, effects);
    }

    /// Its time is over; that counts as an attempt.
    pub(super) fn time_out(&mut self, id: u64, effects: &mut Effects) {
        let ending = Ending::Timeout;
        let error = reason(ending).to_owned();
        self.fail(id, Failure { ending, error, stack: None, retry: true, wait_ms: None }, effects);
    }

    fn fail(&mut self, id: u64, failure: Failure, effects: &mut Effects) {
        let Failure { ending, error, stack, retry, wait_ms } = failure;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.attempts += 1;
        let (queue, attempts, own) = (job.queue, job.attempts, job.own());
        let settings = &self.queues[queue as usize].settings;
        let most = own.attempts.unwrap_or(settings.attempts).max(1);
        let backoff = own.backoff.unwrap_or(settings.backoff);
        self.note(id, ending, error, stack, effects);
        if retry && attempts < most {
            let usual_ms = || backoff.wait_ms(attempts, self.draw(id, attempts));
            let wait_ms = wait_ms.map_or_else(usual_ms, |asked_ms| asked_ms.min(crate::backoff::BACKOFF_MAX_MS));
            self.queues[queue as usize].totals.retried += 1;
            self.again(id, Some(wait_ms), effects);
            self.tell(queue, id, What::Retried { wait_ms }, effects);
        } else {
            self.end_failed(id, queue, effects);
        }
    }

    /// For good, or until an operator decides.
    pub(super) fn end_failed(&mut self, id: u64, queue: u32, effects: &mut Effects) {
        let of = &mut self.queues[queue as usize];
        if of.settings.dead_letter {
            of.totals.dead += 1;
            self.end(id, State::Dead, What::Dead, effects);
        } else {
            of.totals.failed += 1;
            self.end(id, State::Failed, What::Failed, effects);
        }
    }

    /// Nobody vouches for its worker: it is given to another, and set aside if that happens too often.
    pub(super) fn stall(&mut self, id: u64, effects: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.stalls += 1;
        let (queue, stalls) = (job.queue, job.stalls);
        self.note(id, Ending::Stalled, reason(Ending::Stalled).to_owned(), None, effects);
        let of = &mut self.queues[queue as usize];
        of.totals.stalled += 1;
        let is_dead = stalls > of.settings.stalls;
        self.tell(queue, id, What::Stalled, effects);
        if is_dead {
            self.queues[queue as usize].totals.dead += 1;
            self.end(id, State::Dead, What::Dead, effects);
        } else {
            self.again(id, None, effects);
        }
    }

    fn release(&mut self, id: u64, error: String, hold_ms: u64, effects: &mut Effects) {
        let Some(queue) = self.jobs.get(&id).map(|job| job.queue) else { return };
        self.note(id, Ending::Released, error, None, effects);
        self.again(id, None, effects);
        let until_ms = self.now_ms + hold_ms.min(LEASE_MAX_MS);
        let of = &mut self.queues[queue as usize];
        of.held_until_ms = of.held_until_ms.max(until_ms);
        self.tell(queue, id, What::Released, effects);
    }

    /// An active job waits again: after a while, or in the place it had.
    fn again(&mut self, id: u64, wait_ms: Option<u64>, effects: &mut Effects) {
        self.displace(id);
        let now_ms = self.now_ms;
        let Some(mut job) = self.jobs.remove(&id) else { return };
        job.lease = None;
        (job.state, job.ready_ms) = match wait_ms {
            None => (State::Waiting, job.ready_ms),
            Some(0) => (State::Waiting, self.queues[job.queue as usize].stamp(now_ms)),
            Some(wait_ms) => (State::Delayed, now_ms + wait_ms),
        };
        self.place(id, &job);
        self.jobs.insert(id, job);
        self.keep(id, effects);
        self.turn_depth(id, effects);
    }

    /// What is kept of an attempt that did not complete.
    fn note(&mut self, id: u64, ending: Ending, error: String, stack: Option<String>, effects: &mut Effects) {
        let ended_ms = self.now_ms;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.kept.attempts = true;
        let Some(lease) = &job.lease else { return };
        let worker = lease.worker.clone();
        let attempt = Attempt { start: job.starts, worker, started_ms: job.started_ms, ended_ms, ending, error, stack };
        effects.changes.push(Change::Attempt { job: id, attempt: Box::new(attempt) });
    }
}

/// At most so many bytes, whole characters.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
