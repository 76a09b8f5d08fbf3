//! Jobs in hand: taken by a worker of BullMQ's, given to who wants one, ended by the word of who has it.
//!
//! Invariants: an end is acknowledged once BullMQ has kept it; who has lost the lock of a job ends nothing. A job whose
//! worker is not heard of is let go of: BullMQ finds it stalled.

use super::{Bull, Held, options, queue::Queue};
use crate::engine::{ERROR_BYTES_MAX, RESULT_BYTES_MAX};
use crate::error::{Error, Why};
use crate::handle::{Claim, Finished, Work};
use crate::job::{Body, Name, State};
use crate::op::{Claimed, Finish, GRACE_MS, LEASE_MAX_MS, LEASE_MS, Outcome, fits};
use bullmq::types::JobProgress;
use bullmq::worker::WorkerEvent;
use bullmq::{Job, Worker, WorkerOptions};
use mainstay_store::redis::cmd;
use serde_json::Value;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// By what the worker is known to BullMQ.
const NAME: &str = "mainstay";
/// Renewed each half of it. Longer than a restart of Redis, and as long as a lost job is nobody's.
const LOCK: Duration = Duration::from_secs(15);
/// Between two looks for jobs whose lock has lapsed.
const STALLED_EVERY: Duration = Duration::from_secs(5);
/// Between two looks while nothing comes; so long at most it takes wake-ups from others when nobody here wants jobs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// For whoever wanted a job that came a moment too late to want it again.
const OFFER: Duration = Duration::from_secs(2);
/// After the first job, for those that come with it.
const GATHER: Duration = Duration::from_millis(2);
/// For the next job to come with the end of another.
const NEXT: Duration = Duration::from_millis(5);
/// For an end to be kept: longer than BullMQ's client waits for Redis.
const KEPT_LIMIT: Duration = Duration::from_secs(12);
/// For what runs when jobs are closed.
const CLOSE_MS: u64 = 300;
/// Stack traces that are kept with a job: as many as are shown.
const STACKS: usize = 10;
/// The reason and the stack trace of a failure, as BullMQ's Node workers write them; its Rust worker leaves out one
/// and, where the job is tried again, the other.
const FAILED: &str = "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end \
     local is, all = pcall(cjson.decode, redis.call('HGET', KEYS[1], 'stacktrace') or '[]') \
     if not is or type(all) ~= 'table' then all = {} end \
     table.insert(all, ARGV[2]) \
     while #all > tonumber(ARGV[3]) do table.remove(all, 1) end \
     return redis.call('HSET', KEYS[1], 'stacktrace', cjson.encode(all), 'failedReason', ARGV[1])";

/// At the start of a job: its options, and for how many milliseconds nothing of its queue is to start. BullMQ's scripts
/// look at that only where the queue or the worker has a rate; a rate's own counter is less than `ARGV[1]`.
const STARTED: &str = "local held = tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) \
     return { redis.call('HGET', KEYS[1], 'opts') or '', held and redis.call('PTTL', KEYS[2]) or 0 }";
/// What BullMQ's clients write there to hold a queue.
const HELD: &str = "9007199254740991";

/// How an attempt ended.
pub(super) enum End {
    Said(Outcome),
    /// Somebody else has it, or nobody vouches for who had it.
    Lost,
    Late,
}

/// A job that somebody has.
pub(super) struct Lease {
    pub token: u64,
    pub worker: Name,
    queue: Arc<Queue>,
    job: Arc<Job>,
    until_ms: u64,
    /// What a beat renews it by.
    length_ms: u64,
    deadline_ms: u64,
    changed: Arc<Notify>,
    end: Option<oneshot::Sender<End>>,
}

impl Lease {
    /// `u64::MAX` is never.
    pub fn deadline(&self) -> u64 {
        self.deadline_ms
    }
}

/// Who wants jobs, for as long as he waits.
struct Wanting<'a> {
    bull: &'a Bull,
    queue: &'a Queue,
    number: u64,
    works: mpsc::Receiver<Work>,
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.queue.withdraw(self.number);
        self.works.close();
        while let Ok(work) = self.works.try_recv() {
            let error = "nobody waited for it any more".to_owned();
            self.bull.end(work.claimed.job, work.claimed.token, End::Said(Outcome::Released { error, hold_ms: 0 }));
        }
    }
}

impl Bull {
    pub async fn claim(self: &Arc<Bull>, claim: Claim) -> Result<Vec<Work>, Error> {
        let queue = self.queue(&claim.queue)?;
        self.working(&queue).await?;
        let mut wanting = self.wanting(&queue, &claim);
        Ok(wanting.gather(claim.wait).await)
    }

    fn wanting<'a>(&'a self, queue: &'a Queue, claim: &Claim) -> Wanting<'a> {
        let most = usize::try_from(claim.max.max(1)).unwrap_or(1);
        let (sender, works) = mpsc::channel(most);
        let number = queue.want(&claim.worker, most, sender);
        Wanting { bull: self, queue, number, works }
    }

    /// Each end by itself; where a next job is wanted, BullMQ may give it in the same round trip.
    pub async fn finish(self: &Arc<Bull>, ends: Vec<Finish>, next: Option<Claim>) -> Result<Finished, Error> {
        let next = match next {
            Some(claim) => {
                let queue = self.queue(&claim.queue)?;
                self.working(&queue).await?;
                Some((queue, claim))
            }
            None => None,
        };
        let mut wanting = next.as_ref().map(|(queue, claim)| (self.wanting(queue, claim), claim.wait));
        let mut finished = Finished::default();
        for end in ends {
            match self.finish_one(end).await {
                // Nothing was changed, and it makes sense to say it again: of one end alone the caller is told so.
                Err(error @ Error::Away(_)) if finished.ends.is_empty() => return Err(error),
                end => finished.ends.push(end),
            }
        }
        if let Some((wanting, wait)) = &mut wanting {
            finished.work = wanting.gather((*wait).max(NEXT)).await;
        }
        Ok(finished)
    }

    async fn finish_one(&self, finish: Finish) -> Result<(), Error> {
        let Finish { job: number, token, mut outcome } = finish;
        match &mut outcome {
            Outcome::Completed { result } => fits("the result", result.as_ref().map_or(0, Vec::len), RESULT_BYTES_MAX)?,
            Outcome::Failed { wait_ms: Some(_), .. } => return Err(Error::Unsupported("waitMs")),
            Outcome::Failed { .. } | Outcome::Released { .. } => {}
        }
        let (queue, job) = self.mine(number, token).await?;
        // Whoever has the lock may end it; and Redis is there to be told.
        let lock_ms = u64::try_from(LOCK.as_millis()).unwrap_or(u64::MAX);
        match self.asked(job.extend_lock(job.token().unwrap_or_default(), lock_ms)).await {
            Ok(()) => {}
            Err(Error::BullMq(_)) => {
                self.end(number, token, End::Lost);
                return Err(self.stale(number).await);
            }
            Err(error) => return Err(error),
        }
        let completes = matches!(outcome, Outcome::Completed { .. });
        let keeping = (!matches!(outcome, Outcome::Released { .. })).then(|| queue.keeping(job.id()));
        if !self.end(number, token, End::Said(outcome)) {
            return Err(self.stale(number).await);
        }
        let Some(keeping) = keeping else { return Ok(()) };
        match timeout(KEPT_LIMIT, keeping).await {
            Ok(Ok(is_completed)) if is_completed == completes => Ok(()),
            // Somebody took the lock in that moment.
            Ok(Ok(_)) => Err(self.stale(number).await),
            _ => Err(Error::Away("it is not known whether the end was kept".to_owned())),
        }
    }

    /// The job of this token, if it is held by it.
    async fn mine(&self, number: u64, token: u64) -> Result<(Arc<Queue>, Arc<Job>), Error> {
        let found = {
            let held = self.held();
            let lease = held.get(&number).filter(|lease| lease.token == token && lease.end.is_some());
            lease.map(|lease| (lease.queue.clone(), lease.job.clone()))
        };
        match found {
            Some(found) => Ok(found),
            None => Err(self.stale(number).await),
        }
    }

    async fn stale(&self, number: u64) -> Error {
        match self.stands(number).await {
            Ok((queue, id, State::Active)) => self.refusal(&queue, &id, Why::Stale(State::Active)),
            Ok((queue, id, state)) => self.refusal(&queue, &id, Why::Stale(state)),
            Err(error) => error,
        }
    }

    /// Says to whoever waits for it how the attempt ended. False where it has ended already.
    pub(super) fn end(&self, number: u64, token: u64, end: End) -> bool {
        let mut held = self.held();
        let lease = held.get_mut(&number).filter(|lease| lease.token == token);
        lease.and_then(|lease| lease.end.take()).is_some_and(|waiting| waiting.send(end).is_ok())
    }

    /// Which of these its worker has lost.
    pub fn beat(&self, worker: &str, holding: &[(u64, u64)]) -> Vec<u64> {
        let now_ms = self.clock.now_ms();
        let mut held = self.held();
        for lease in held.values_mut().filter(|lease| *lease.worker == *worker) {
            lease.until_ms = lease.until_ms.max(now_ms + lease.length_ms);
            lease.changed.notify_one();
        }
        let is_lost = |(job, token): &&(u64, u64)| held.get(job).is_none_or(|lease| lease.token != *token);
        holding.iter().filter(is_lost).map(|(job, _)| *job).collect()
    }

    pub fn disconnect(&self, worker: &str) {
        let until_ms = self.clock.now_ms() + GRACE_MS;
        for lease in self.held().values_mut().filter(|lease| *lease.worker == *worker && lease.length_ms == LEASE_MS) {
            lease.until_ms = lease.until_ms.min(until_ms);
            lease.changed.notify_one();
        }
    }

    pub async fn extend(&self, number: u64, token: u64, lease_ms: u64) -> Result<(), Error> {
        self.mine(number, token).await?;
        if let Some(lease) = self.held().get_mut(&number).filter(|lease| lease.token == token) {
            let lease_ms = lease_ms.min(LEASE_MAX_MS);
            let over_ms = self.clock.now_ms() + lease_ms;
            lease.length_ms = lease.length_ms.max(lease_ms);
            (lease.until_ms, lease.deadline_ms) = (lease.until_ms.max(over_ms), over_ms);
            lease.changed.notify_one();
        }
        Ok(())
    }

    pub async fn progress(&self, number: u64, token: u64, body: &[u8]) -> Result<(), Error> {
        fits("the progress", body.len(), RESULT_BYTES_MAX)?;
        let (queue, job) = self.mine(number, token).await?;
        let value = serde_json::from_slice(body).map_err(|_| Error::Unsupported("progress that is not JSON"))?;
        self.asked(queue.of.update_job_progress(job.id(), JobProgress::Object(value))).await
    }

    pub async fn log(&self, number: u64, token: u64, line: &str) -> Result<(), Error> {
        let (_, job) = self.mine(number, token).await?;
        let line = &line[..line.floor_char_boundary(ERROR_BYTES_MAX)];
        self.asked(job.log(line)).await.map(drop)
    }

    /// The queue has a worker from now on.
    async fn working(self: &Arc<Bull>, queue: &Arc<Queue>) -> Result<(), Error> {
        if queue.worker().is_some() {
            return Ok(());
        }
        let _making = queue.making.lock().await;
        if queue.worker().is_some() {
            return Ok(());
        }
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let settings = queue.settings();
        let worker_options = WorkerOptions::new()
            .connection(self.link.clone())
            .name(NAME)
            .lock_duration(LOCK)
            .stalled_interval(STALLED_EVERY)
            .max_stalled_count(settings.stalls)
            .drain_delay(LOOK_EVERY)
            .run_retry_delay(LOOK_AGAIN)
            // Of jobs whose producer says nothing.
            .remove_on_complete(options::kept(settings.completed))
            .remove_on_fail(options::kept(settings.failed))
            .manual_start();
        let (bull, of) = (Arc::downgrade(self), Arc::downgrade(queue));
        let work = move |job: Job, _| worked(bull.clone(), of.clone(), job);
        let worker = Arc::new(self.asked(Worker::with_options(&queue.name, work, worker_options)).await?);
        worker.pause();
        self.asked(worker.run()).await?;
        self.tasks(hear(worker.clone(), Arc::downgrade(queue)));
        queue.works_by(worker);
        Ok(())
    }

    /// Lets go of a queue's worker. What it has is given time to end, and its locks are renewed meanwhile.
    pub(super) fn retire(&self, queue: &Queue) {
        if let Some(worker) = queue.let_go() {
            self.tasks(async move { drop(worker.close(LEASE_MAX_MS).await) });
        }
    }

    /// The same at the end: what is left is found stalled.
    pub(super) async fn stop(&self, queue: &Queue) {
        if let Some(worker) = queue.let_go() {
            let _ = worker.close(CLOSE_MS).await;
        }
    }

    /// Gives a job to who wants one; `None` where nobody does.
    async fn hand(
        &self,
        queue: &Arc<Queue>,
        job: Job,
        trace: Option<String>,
    ) -> Option<(u64, u64, oneshot::Receiver<End>)> {
        let until = Instant::now() + OFFER;
        let job = Arc::new(job);
        loop {
            let wanted = queue.wanted.notified();
            tokio::pin!(wanted);
            wanted.as_mut().enable();
            let Some((worker, works)) = queue.next() else {
                timeout_at(until, wanted).await.ok()?;
                continue;
            };
            let (work, ended) = self.hold(queue, &job, (worker, trace.clone()));
            let (number, token) = (work.claimed.job, work.claimed.token);
            if works.try_send(work).is_ok() {
                return Some((number, token, ended));
            }
            self.forget(number, token);
            queue.freed();
        }
    }

    fn hold(
        &self,
        queue: &Arc<Queue>,
        job: &Arc<Job>,
        (worker, trace): (Name, Option<String>),
    ) -> (Work, oneshot::Receiver<End>) {
        let (number, token, now_ms) = (self.number(queue.index, job.id()), self.next_token(), self.clock.now_ms());
        let timeout_ms = queue.settings().timeout_ms;
        let deadline_ms = if timeout_ms == 0 { u64::MAX } else { now_ms + timeout_ms };
        let (end, ended) = oneshot::channel();
        let lease = Lease {
            token,
            worker,
            queue: queue.clone(),
            job: job.clone(),
            until_ms: now_ms + LEASE_MS,
            length_ms: LEASE_MS,
            deadline_ms,
            changed: Arc::default(),
            end: Some(end),
        };
        self.held().insert(number, lease);
        let claimed = Claimed {
            job: number,
            token,
            attempt: job.attempts_made() + 1,
            attempts: job.opts().attempts.unwrap_or(1).max(1),
            deadline_ms,
            group: None,
            is_parent: false,
        };
        let payload = serde_json::to_vec(job.data()).unwrap_or_default();
        let body = Body { name: job.name().to_owned(), payload, trace };
        (Work { claimed, body, children: Vec::new() }, ended)
    }

    /// The options of a job that was taken, and for how many milliseconds its queue is held.
    async fn started(&self, queue: &Queue, id: &str) -> (String, u64) {
        let (keys, mut script) = (queue.of.keys(), cmd("EVAL"));
        script.arg(STARTED).arg(2).arg(keys.job_key(id)).arg(keys.limiter()).arg(HELD);
        let found: Result<(String, i64), Error> = self.asked(self.conn.cmd(&mut script)).await;
        // Where Redis is away the job is worked all the same: it was taken.
        let (options, held_ms) = found.unwrap_or_default();
        (options, u64::try_from(held_ms).unwrap_or(0))
    }

    /// Nothing of a queue starts here for so long.
    fn hold_queue(&self, queue: &Arc<Queue>, hold_ms: u64) {
        let hold = Duration::from_millis(hold_ms);
        queue.hold(hold);
        let queue = Arc::downgrade(queue);
        self.tasks(async move {
            tokio::time::sleep(hold).await;
            if let Some(queue) = queue.upgrade() {
                queue.held_over();
            }
        });
    }

    fn forget(&self, number: u64, token: u64) {
        let mut held = self.held();
        if held.get(&number).is_some_and(|lease| lease.token == token) {
            held.remove(&number);
        }
    }

    /// Until who has it says so, its time is over, or nobody vouches for him.
    async fn outcome(&self, number: u64, token: u64, mut ended: oneshot::Receiver<End>) -> End {
        loop {
            let times = |held: &Held| {
                let lease = held.get(&number).filter(|lease| lease.token == token)?;
                Some((lease.until_ms, lease.deadline_ms, lease.changed.clone()))
            };
            let Some((until_ms, deadline_ms, changed)) = times(&self.held()) else { return End::Lost };
            let left_ms = until_ms.min(deadline_ms).saturating_sub(self.clock.now_ms());
            if left_ms == 0 {
                return if deadline_ms <= until_ms { End::Late } else { End::Lost };
            }
            tokio::select! {
                end = &mut ended => return end.unwrap_or(End::Lost),
                () = changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(left_ms)) => {}
            }
        }
    }

    /// Reason and stack trace, beside the end. Where they cannot be kept the end is all the same.
    async fn note_failure(&self, queue: &Queue, id: &str, error: &str, stack: Option<&str>) {
        let mut script = cmd("EVAL");
        script.arg(FAILED).arg(1).arg(queue.of.keys().job_key(id));
        script.arg(error).arg(stack.unwrap_or(error)).arg(STACKS);
        if let Err(error) = self.asked(self.conn.cmd::<i64>(&mut script)).await {
            tracing::debug!(queue = &*queue.name, %error, "a stack trace is not kept");
        }
    }
}

impl Wanting<'_> {
    async fn gather(&mut self, wait: Duration) -> Vec<Work> {
        let mut found = Vec::new();
        let first = timeout(wait, self.works.recv()).await.ok().flatten();
        found.extend(first);
        while !found.is_empty()
            && let Ok(Some(work)) = timeout(GATHER, self.works.recv()).await
        {
            found.push(work);
        }
        found
    }
}

/// What BullMQ's worker calls for each job: what this gives is the end of the attempt.
async fn worked(bull: Weak<Bull>, queue: Weak<Queue>, job: Job) -> Result<Value, bullmq::Error> {
    // Back to where it waited: it does not count as an attempt.
    let back = || Err(bullmq::Error::RateLimited { delay_ms: 0 });
    let (Some(bull), Some(queue)) = (bull.upgrade(), queue.upgrade()) else { return back() };
    let id = job.id().to_owned();
    let (options, held_ms) = bull.started(&queue, &id).await;
    if held_ms > 0 {
        bull.hold_queue(&queue, held_ms);
        return back();
    }
    bull.tick(&queue, &job).await;
    let trace = bull.trace(&queue, &job, &options).await;
    let Some((number, token, ended)) = bull.hand(&queue, job, trace).await else { return back() };
    let end = bull.outcome(number, token, ended).await;
    bull.forget(number, token);
    let failure = match end {
        End::Said(Outcome::Completed { result }) => {
            queue.freed();
            return Ok(result.as_deref().map_or(Value::Null, value));
        }
        End::Said(Outcome::Released { hold_ms, .. }) => {
            if hold_ms > 0 {
                // For others who work this queue; what cannot be said there holds here all the same.
                let _ = bull.asked(queue.of.rate_limit(hold_ms)).await;
                bull.hold_queue(&queue, hold_ms);
            }
            queue.freed();
            return back();
        }
        // Its lock is not renewed any more: BullMQ gives it to another.
        End::Lost => {
            queue.freed();
            return Err(bullmq::Error::Delayed);
        }
        End::Late => ("it took longer than it may".to_owned(), None, true),
        End::Said(Outcome::Failed { error, stack, retry, .. }) => (error, stack, retry),
    };
    let (error, stack, retry) = failure;
    bull.note_failure(&queue, &id, &error, stack.as_deref()).await;
    queue.freed();
    Err(if retry { bullmq::Error::ProcessingError(error) } else { bullmq::Error::Unrecoverable(error) })
}

/// JSON, or the text it is.
fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

/// Which ends were kept.
async fn hear(worker: Arc<Worker>, queue: Weak<Queue>) {
    while let Some(event) = worker.next_event().await {
        let Some(queue) = queue.upgrade() else { return };
        match event {
            WorkerEvent::Completed { job_id, .. } => queue.kept(&job_id, true),
            WorkerEvent::Failed { job_id, .. } => queue.kept(&job_id, false),
            WorkerEvent::Error(error) => tracing::warn!(queue = &*queue.name, error, "BullMQ's worker"),
            WorkerEvent::Closed => return,
            _ => {}
        }
    }
}
