//! Queues that are shared with BullMQ's own producers and workers: what is true of a job stands in Redis, in BullMQ's
//! layout, and its scripts alone change it. `bullmq-official` brings them.
//!
//! What the engine's thread answers this answers too, as far as BullMQ can; for the rest [`Error::Unsupported`]. Must
//! never change a payload, nor a key but by BullMQ's scripts, the settings of a queue, a stack trace and a job's trace
//! aside.

mod names;
mod options;
mod queue;
mod schedules;
mod shown;
mod told;
mod trace;
mod work;

use crate::clock::Clock;
use crate::engine::QueueGlance;
use crate::error::{Error, Why};
use crate::event::Event;
use crate::job::{Name, NewJob, State};
use crate::op::{Added, Answer, BATCH_MAX, Op, Refusal, fits};
use crate::settings::Settings;
use crate::store::Detail;
use bullmq::options::RedisConnectionOptions;
use bullmq::redis_connection::RedisConnection;
use bullmq::{BulkJob, JobOptions, QueueOptions, RetryOptions};
use mainstay_store::redis::{self, Level, Uses, cmd};
use names::Names;
pub(crate) use options::unsupported;
use queue::Queue;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use work::Lease;

/// For one answer of Redis; past it the caller is told that it is away. BullMQ's client connects again by itself.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Jobs that are retried one after the other in one call.
const PAGE: usize = 1000;

/// What the adapter needs at a start.
#[derive(Debug)]
pub struct Setup {
    pub redis: redis::Options,
    pub queues: Vec<(Name, Settings)>,
    pub clock: Clock,
}

type Held = BTreeMap<u64, Lease>;

pub(crate) struct Bull {
    link: RedisConnectionOptions,
    conn: RedisConnection,
    /// Only grows: its places are numbers.
    queues: Mutex<Vec<Arc<Queue>>>,
    names: Mutex<Names>,
    held: Mutex<Held>,
    tokens: AtomicU64,
    events: broadcast::Sender<Event>,
    clock: Clock,
    closed: watch::Sender<bool>,
}

impl Bull {
    /// # Errors
    /// When Redis cannot be reached, or would throw jobs away.
    pub async fn open(setup: Setup, events: broadcast::Sender<Event>) -> Result<Arc<Bull>, Error> {
        fit(&setup.redis).await?;
        let link = options::link(&setup.redis)?;
        let conn = RedisConnection::new_managed_only(&link);
        let conn = tokio::time::timeout(ASK_LIMIT, conn).await.map_err(|_| late())?.map_err(said)?;
        let bull = Arc::new(Bull {
            link,
            conn,
            queues: Mutex::default(),
            names: Mutex::default(),
            held: Mutex::default(),
            // Higher than any that was given out before.
            tokens: AtomicU64::new(setup.clock.wall_ms() << 10),
            events,
            clock: setup.clock,
            closed: watch::Sender::new(false),
        });
        for (name, settings) in setup.queues {
            bull.configure(&name, settings).await?;
        }
        Ok(bull)
    }

    /// What the engine would be asked.
    pub async fn op(self: &Arc<Bull>, op: Op) -> Result<Answer, Error> {
        let swept = |count: u64| Answer::Swept { count: u32::try_from(count).unwrap_or(u32::MAX), more: false };
        match op {
            Op::Configure { queue, settings } => self.configure(&queue, *settings).await?,
            Op::Add { queue, jobs } => return self.add(&queue, jobs).await.map(Answer::Added),
            Op::Beat { worker, holding } => return Ok(Answer::Lost(self.beat(&worker, &holding))),
            Op::Disconnect { worker } => self.disconnect(&worker),
            Op::Extend { job, token, lease_ms } => self.extend(job, token, lease_ms).await?,
            Op::Progress { job, token, body } => self.progress(job, token, &body).await?,
            Op::Log { job, token, line } => self.log(job, token, &line).await?,
            Op::Pause { queue } => self.asked(self.queue(&queue)?.of.pause()).await?,
            Op::Resume { queue } => self.asked(self.queue(&queue)?.of.resume()).await?,
            Op::Remove { job } => self.remove(job).await?,
            Op::Promote { job } => self.promote(job).await?,
            Op::Retry { job } => self.retry(job).await?,
            Op::Drain { queue, delayed, .. } => return self.drain(&queue, delayed).await.map(swept),
            Op::Clean { queue, state, older_ms, .. } => return self.clean(&queue, state, older_ms).await.map(swept),
            Op::Redrive { queue, state, .. } => return self.redrive(&queue, state).await.map(swept),
            Op::Schedule(schedule) => self.schedule(*schedule).await?,
            Op::Unschedule { schedule } => self.unschedule(&schedule).await?,
            Op::Finish(end) => {
                let ended = self.finish(vec![end], None).await?.ends;
                ended.into_iter().collect::<Result<Vec<()>, Error>>()?;
            }
            Op::Take { .. } | Op::Claim { .. } | Op::Fire { .. } | Op::Answered { .. } => {}
            Op::Unheard { .. } | Op::Tick => {}
        }
        Ok(Answer::Done)
    }

    /// All of BullMQ's answers come through here: in time, or not at all.
    async fn asked<T>(&self, asking: impl Future<Output = Result<T, bullmq::Error>>) -> Result<T, Error> {
        tokio::time::timeout(ASK_LIMIT, asking).await.map_err(|_| late())?.map_err(said)
    }

    /// A task for as long as jobs are open.
    fn tasks(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut closed = self.closed.subscribe();
        // It ends with what it is for; there is nothing that it could break.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
    }

    fn queue(&self, name: &str) -> Result<Arc<Queue>, Error> {
        let found = self.all().iter().find(|queue| *queue.name == *name).cloned();
        found.ok_or_else(|| Error::Refused(Refusal::NoSuchQueue(name.into())))
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// By what a job is known in this process.
    fn number(&self, queue: u32, id: &str) -> u64 {
        let held = self.held();
        self.names().number(queue, id, |number| held.contains_key(&number))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `scan:12`, as it is known outside.
    pub fn text_of(&self, number: u64) -> Option<String> {
        let (queue, id) = self.names().text(number)?;
        let queue = self.all().get(queue as usize)?.name.clone();
        Some(format!("{queue}:{id}"))
    }

    pub fn number_of(&self, text: &str) -> Option<u64> {
        let (queue, id) = text.split_once(':').filter(|(_, id)| !id.is_empty())?;
        Some(self.number(self.queue(queue).ok()?.index, id))
    }

    fn known(&self, number: u64) -> Result<(Arc<Queue>, Name), Error> {
        let found = self.names().text(number);
        let found = found.and_then(|(queue, id)| Some((self.all().get(queue as usize).cloned()?, id)));
        found.ok_or(Error::Refused(Refusal::NoSuchJob(number)))
    }

    /// Queue, id and state of a job that is there.
    async fn stands(&self, number: u64) -> Result<(Arc<Queue>, Name, State), Error> {
        let (queue, id) = self.known(number)?;
        match self.state(&queue, &id).await? {
            Some(state) => Ok((queue, id, state)),
            None => Err(self.refusal(&queue, &id, Why::Gone)),
        }
    }

    fn refusal(&self, queue: &Queue, id: &str, why: Why) -> Error {
        Error::Named { job: format!("{}:{id}", queue.name).as_str().into(), why }
    }

    /// A new queue, or new settings of one. Concurrency and rate are BullMQ's global ones: they hold for every worker,
    /// and stay in Redis until the file that set them says otherwise.
    async fn configure(self: &Arc<Bull>, name: &str, settings: Settings) -> Result<(), Error> {
        let known = self.queue(name).ok();
        let before = known.as_ref().map(|queue| queue.set(settings.clone()));
        if before.as_ref() == Some(&settings) {
            return Ok(());
        }
        let queue = match known {
            Some(queue) => queue,
            None => self.make(name, &settings).await?,
        };
        let was = |is: fn(&Settings) -> bool| before.as_ref().is_some_and(is);
        match settings.concurrency {
            Some(most) => self.asked(queue.of.set_global_concurrency(u64::from(most))).await?,
            None if was(|before| before.concurrency.is_some()) => {
                self.asked(queue.of.remove_global_concurrency()).await?;
            }
            None => {}
        }
        match settings.rate {
            Some(rate) => {
                self.asked(queue.of.set_global_rate_limit(u64::from(rate.count), u64::from(rate.window_ms))).await?
            }
            None if was(|before| before.rate.is_some()) => self.asked(queue.of.remove_global_rate_limit()).await?,
            None => {}
        }
        let of_the_worker = |one: &Settings| (one.stalls, one.completed, one.failed);
        if before.is_some_and(|before| of_the_worker(&before) != of_the_worker(&settings)) {
            // The next claim makes another.
            self.retire(&queue);
        }
        Ok(())
    }

    async fn make(self: &Arc<Bull>, name: &str, settings: &Settings) -> Result<Arc<Queue>, Error> {
        let options = QueueOptions::new().connection(self.link.clone());
        let of = self.asked(bullmq::Queue::with_connection(name, self.conn.clone(), options)).await?;
        let queue = {
            let mut all = self.all();
            let index = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let queue = Arc::new(Queue::new(index, of, settings.clone()));
            all.push(queue.clone());
            queue
        };
        if let Err(error) = self.leave_out(&queue).await {
            tracing::warn!(queue = name, %error, "what was missed is not left out");
        }
        self.hear(&queue).await?;
        Ok(queue)
    }

    async fn add(&self, queue: &str, jobs: Vec<NewJob>) -> Result<Vec<Added>, Error> {
        fits("the array", jobs.len(), BATCH_MAX)?;
        let queue = self.queue(queue)?;
        let settings = queue.settings();
        let mut all: Vec<BulkJob> = Vec::with_capacity(jobs.len());
        let mut was_there = Vec::with_capacity(jobs.len());
        let mut traces = Vec::with_capacity(jobs.len());
        for mut new in jobs {
            traces.push(new.body.trace.take());
            let job = options::job(new, &settings)?;
            was_there.push(self.is_known(&queue, &job.options).await?);
            all.push(BulkJob::with_options(job.name, job.data, job.options));
        }
        let _noting = if traces.iter().any(Option::is_some) { Some(queue.noting.read().await) } else { None };
        let jobs = self.asked(queue.of.add_bulk(all)).await?;
        let mut traced: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for ((job, was_there), trace) in jobs.iter().zip(&was_there).zip(traces) {
            let trace = trace.filter(|_| !was_there);
            trace.into_iter().for_each(|trace| traced.entry(trace).or_default().push(job.id()));
        }
        self.note_traces(&queue, &traced).await;
        let added = |(job, was_there): (&bullmq::Job, bool)| Added {
            job: self.number(queue.index, job.id()),
            is_new: !was_there,
        };
        Ok(jobs.iter().zip(was_there).map(added).collect())
    }

    /// Whether BullMQ will answer with a job that is there. Of two at the same moment both may hear that theirs is new;
    /// there is one.
    async fn is_known(&self, queue: &Queue, job: &JobOptions) -> Result<bool, Error> {
        if let Some(id) = &job.job_id {
            let key = queue.of.keys().job_key(id);
            return self.asked(self.conn.cmd::<bool>(cmd("EXISTS").arg(key))).await;
        }
        match &job.deduplication {
            Some(unique) => Ok(self.asked(queue.of.get_deduplication_job_id(&unique.id)).await?.is_some()),
            None => Ok(false),
        }
    }

    async fn remove(&self, number: u64) -> Result<(), Error> {
        let (queue, id, state) = self.stands(number).await?;
        let is_removed = state != State::Active && self.asked(queue.of.remove(&id)).await?;
        if is_removed { Ok(()) } else { Err(self.refusal(&queue, &id, Why::WrongState(State::Active))) }
    }

    async fn promote(&self, number: u64) -> Result<(), Error> {
        let (queue, id, state) = self.stands(number).await?;
        match self.asked(queue.of.get_job(&id)).await? {
            Some(job) if state == State::Delayed => self.asked(job.promote()).await,
            _ => Err(self.refusal(&queue, &id, Why::WrongState(state))),
        }
    }

    async fn retry(&self, number: u64) -> Result<(), Error> {
        let (queue, id, state) = self.stands(number).await?;
        match state {
            State::Failed => self.revive(&queue, &id).await,
            state => Err(self.refusal(&queue, &id, Why::WrongState(state))),
        }
    }

    /// With all its attempts.
    async fn revive(&self, queue: &Queue, id: &str) -> Result<(), Error> {
        let options = RetryOptions { reset_attempts_made: true, reset_attempts_started: false };
        match self.asked(queue.of.get_job(id)).await? {
            Some(mut job) => self.asked(job.retry("failed", Some(options))).await,
            None => Err(self.refusal(queue, id, Why::Gone)),
        }
    }

    async fn drain(&self, queue: &str, delayed: bool) -> Result<u64, Error> {
        let queue = self.queue(queue)?;
        let before = self.counts(&queue).await?;
        self.asked(queue.of.drain(delayed)).await?;
        Ok(before.waiting + if delayed { before.delayed } else { 0 })
    }

    async fn clean(&self, queue: &str, state: State, older_ms: u64) -> Result<u64, Error> {
        let queue = self.queue(queue)?;
        let state = match state {
            State::Completed | State::Failed => state.as_str(),
            State::Dead => return Ok(0),
            other => return Err(Error::Refused(Refusal::NotThat(other))),
        };
        Ok(self.asked(queue.of.clean(older_ms, 0, state)).await?.len() as u64)
    }

    /// One after the other: what BullMQ does at once gives each one attempt alone.
    async fn redrive(&self, queue: &str, state: State) -> Result<u64, Error> {
        let queue = self.queue(queue)?;
        match state {
            State::Failed => {}
            State::Dead => return Ok(0),
            other => return Err(Error::Refused(Refusal::NotThat(other))),
        }
        let mut count = 0;
        loop {
            let ids = self.ids(&queue, State::Failed, 0, PAGE).await?;
            let before = count;
            for id in &ids {
                // Somebody else may have been there first.
                count += u64::from(self.revive(&queue, id).await.is_ok());
            }
            if ids.len() < PAGE || count == before {
                return Ok(count);
            }
        }
    }

    pub async fn queues(&self) -> Result<Vec<QueueGlance>, Error> {
        let queues: Vec<Arc<Queue>> = self.all().clone();
        let mut glances = Vec::with_capacity(queues.len());
        for queue in queues {
            glances.push(QueueGlance {
                name: queue.name.clone(),
                counts: self.counts(&queue).await?,
                totals: queue.totals(),
                is_paused: self.asked(queue.of.is_paused()).await?,
                is_short: queue.is_short(),
                settings: queue.settings(),
            });
        }
        Ok(glances)
    }

    pub fn workers(&self) -> Vec<Name> {
        let workers: std::collections::BTreeSet<Name> =
            self.held().values().map(|lease| lease.worker.clone()).collect();
        workers.into_iter().collect()
    }

    pub async fn list(&self, queue: &str, state: State, skip: usize, most: usize) -> Result<Vec<Detail>, Error> {
        let queue = self.queue(queue)?;
        let mut found = Vec::new();
        for id in self.ids(&queue, state, skip, most).await? {
            // One may have been removed since.
            found.extend(self.detail(&queue, &id).await?);
        }
        Ok(found)
    }

    pub async fn get(&self, number: u64) -> Result<Option<Detail>, Error> {
        let (queue, id) = self.known(number)?;
        self.detail(&queue, &id).await
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// What somebody still has is let go of; BullMQ finds it stalled.
    pub async fn close(&self) {
        if self.closed.send_replace(true) {
            return;
        }
        let queues: Vec<Arc<Queue>> = self.all().clone();
        for queue in queues {
            self.stop(&queue).await;
        }
        self.conn.close().await;
    }

    pub async fn ended(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

/// Whether this Redis keeps what it is given. One that forgets is refused; what may be lost is said.
async fn fit(redis: &redis::Options) -> Result<(), Error> {
    let uses = Uses { jobs: true, ..Uses::default() };
    let report = redis::check(redis, uses, ASK_LIMIT).await;
    let report = report.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::Away(format!("{error}{cause}"))
    })?;
    let is_forgetful = |policy: &str| !policy.is_empty() && policy != "noeviction";
    let forgets = report.servers.iter().any(|facts| is_forgetful(&facts.policy));
    for finding in report.findings {
        let is_it = finding.level == Level::Fault && finding.fix.contains("noeviction");
        if forgets && is_it {
            return Err(Error::Unfit { what: finding.what, fix: finding.fix });
        }
        if finding.fix.contains("appendonly") {
            tracing::warn!(what = finding.what, fix = finding.fix, "the Redis of jobs");
        }
    }
    Ok(())
}

fn late() -> Error {
    Error::Away(format!("no answer within {ASK_LIMIT:?}"))
}

/// Redis's trouble, or BullMQ's word.
fn said(error: bullmq::Error) -> Error {
    match error {
        bullmq::Error::Redis(error) => Error::Away(error.to_string()),
        bullmq::Error::ConnectionClosed | bullmq::Error::WorkerClosed => Error::Closed,
        error => Error::BullMq(error.to_string()),
    }
}
