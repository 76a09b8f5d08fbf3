//! Jobs as the rest of Mainstay reaches them: every call goes to the engine's thread, or to BullMQ's Redis, and comes
//! back once what it changed is kept. Where another node decides, it goes there.
//!
//! Invariant: what was answered is committed, in the way its queue asks for. Must never answer before.

mod inner;
mod listening;

use crate::bullmq::{self, Bull};
use crate::clock::Clock;
use crate::engine::{Engine, QueueGlance};
use crate::error::Error;
use crate::event::Event;
use crate::home::Home;
use crate::job::{Body, NAME_BYTES_MAX, Name, NewJob, State};
use crate::nodes::{self, Asked, Elsewhere, Heard, Told};
use crate::op::{Added, Answer, Claimed, Finish, Op, Outcome, SWEEP_MAX, fits};
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::store::{ChildDetail, Detail, Extent, Place, Refused, RefusedCount};
use crate::thread::{self, Message};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

pub(crate) use inner::Inner;
use listening::Source;
pub use listening::{Listening, Stream};

/// Calls that wait for the engine's thread: some ten batches.
const CALLS_MAX: usize = 4096;
/// So long a call waits for room before its caller is told that jobs are behind.
const ROOM_LIMIT: Duration = Duration::from_secs(5);
/// Events a subscriber may be behind; past it the oldest are lost to it, and it is told how many.
const EVENTS_MAX: usize = 16_384;
/// KiB of payloads that wait to be kept, over all calls.
const PAYLOAD_KIB_MAX: usize = 64 * 1024;
/// Bytes of payloads of one call.
pub const ARRAY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Digits of a trace id.
const TRACE_ID_CHARS: usize = 32;
/// Jobs a list gives at once.
pub const LIST_MAX: usize = 1000;

/// What jobs need at a start.
#[derive(Debug)]
pub struct Setup {
    pub place: Place,
    pub queues: Vec<(Name, Settings)>,
    pub clock: Clock,
    /// Of jitter; any number.
    pub seed: u64,
    /// Under what name this process pushes: a node that stands by shows that it lives.
    pub pusher: Option<Name>,
}

/// Queues of jobs. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Jobs(Truth);

/// Where the truth is.
#[derive(Clone)]
enum Truth {
    Engine(Arc<Inner>),
    Bull(Arc<Bull>),
}

/// A job that its worker has from now on, with what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub claimed: Claimed,
    pub body: Body,
    /// Of a parent: what its children gave, in the order in which they were given.
    pub children: Vec<ChildDetail>,
}

/// Who wants jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub queue: Name,
    /// The connection that vouches for what it takes; equal names are one worker.
    pub worker: Name,
    pub max: u32,
    /// So long it waits while there are none.
    pub wait: Duration,
}

/// What was said to each end of an attempt, and the jobs that were claimed with them.
#[derive(Debug, Default)]
pub struct Finished {
    pub ends: Vec<Result<(), Error>>,
    pub work: Vec<Work>,
}

impl Jobs {
    /// Opens the store, takes over what is in it, and starts the engine's thread. Blocks: for a start, or for a thread
    /// that may wait. Where another node decides, this one stands by until it takes over: its calls are asked of that
    /// one.
    ///
    /// # Errors
    /// When the store cannot be opened or read, or a queue's settings are refused.
    pub fn open(setup: Setup) -> Result<Jobs, Error> {
        Jobs::open_at(&Home::start().map_err(thread::no_thread)?, setup)
    }

    /// As [`Jobs::open`], on a thread that others live on too. Must not be called from that thread.
    ///
    /// # Errors
    /// As [`Jobs::open`].
    pub fn open_at(home: &Home, setup: Setup) -> Result<Jobs, Error> {
        let (calls, messages) = mpsc::channel(CALLS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let ((ending, ended), (deciding, decides)) = (watch::channel(()), watch::channel(true));
        let shared = match &setup.place {
            Place::File(_) => None,
            Place::Postgres(options) => Some(((**options).clone(), setup.pusher.clone())),
        };
        let reads = thread::start(home, setup, messages, events.clone(), (ending, deciding))?;
        let (room, heard) = (Semaphore::new(PAYLOAD_KIB_MAX), Heard::default());
        let (elsewhere, asked) = shared.is_some().then(Elsewhere::new).unzip();
        let inner = Inner { calls, events, reads, room, ended, decides, elsewhere, heard, _home: home.clone() };
        let inner = Arc::new(inner);
        if let (Some((options, pusher)), Some(asked)) = (shared, asked) {
            let (ours, decides) = (options.clone(), inner.decides.clone());
            home.run(move || nodes::asking(ours, asked, pusher, decides)).map_err(thread::no_thread)?;
            let (others, decides) = (Arc::downgrade(&inner), inner.decides.clone());
            home.run(move || nodes::answering(options, others, decides)).map_err(thread::no_thread)?;
        }
        Ok(Jobs(Truth::Engine(inner)))
    }

    /// Queues of BullMQ. Must run on a tokio runtime, which carries what works for them.
    ///
    /// # Errors
    /// When Redis cannot be reached, or evicts what it was given.
    pub async fn on_bullmq(setup: bullmq::Setup) -> Result<Jobs, Error> {
        let (events, _) = broadcast::channel(EVENTS_MAX);
        Ok(Jobs(Truth::Bull(Bull::open(setup, events).await?)))
    }

    /// A job as it is known outside: by its number, or by queue and id where BullMQ has it (`scan:12`).
    pub fn id_of(&self, job: u64) -> Value {
        match &self.0 {
            Truth::Bull(bull) if job != 0 => bull.text_of(job).into(),
            _ => job.into(),
        }
    }

    /// The job that is known as this outside, whether it is there or not.
    pub fn job_of(&self, id: &str) -> Option<u64> {
        match &self.0 {
            Truth::Engine(_) => id.parse().ok(),
            Truth::Bull(bull) => bull.number_of(id),
        }
    }

    /// As whoever listens is told of it, by stream or by request.
    pub fn told(&self, event: &Event) -> Value {
        event.shown(self.id_of(event.job))
    }

    fn engine(&self) -> Result<&Arc<Inner>, Error> {
        match &self.0 {
            Truth::Engine(inner) => Ok(inner),
            Truth::Bull(_) => Err(Error::Unsupported("the engine's own view")),
        }
    }

    /// Whether what happens to jobs is decided in this process: true but for a node that stands by.
    pub fn decides(&self) -> bool {
        match &self.0 {
            Truth::Engine(inner) => *inner.decides.borrow(),
            Truth::Bull(_) => true,
        }
    }

    /// Told when that changes, from now on.
    pub fn deciding(&self) -> watch::Receiver<bool> {
        let mut decides = match &self.0 {
            Truth::Engine(inner) => inner.decides.clone(),
            Truth::Bull(_) => watch::channel(true).1,
        };
        decides.mark_unchanged();
        decides
    }

    /// Another node that stands by may push under this name, and is to be heard of.
    pub fn expect(&self, pusher: &Name) {
        if let Truth::Engine(inner) = &self.0 {
            inner.heard.expect(pusher.clone());
        }
    }

    /// Whether another node that stands by pushes under this name, and was heard of or may still be.
    pub fn is_heard(&self, pusher: &str) -> bool {
        matches!(&self.0, Truth::Engine(inner) if inner.heard.has(pusher))
    }

    /// Adds all of them or none; each is there for good when this comes back.
    ///
    /// # Errors
    /// When one is too large, the queue full, or nothing can be kept.
    pub async fn add(&self, queue: &str, jobs: Vec<NewJob>) -> Result<Vec<Added>, Error> {
        let bytes = jobs.iter().map(NewJob::payload_bytes).sum();
        fits("the array's payload", bytes, ARRAY_BYTES_MAX)?;
        match self.op(Op::Add { queue: queue.into(), jobs }).await? {
            Answer::Added(added) => Ok(added),
            _ => Ok(Vec::new()),
        }
    }

    /// Takes jobs; none if there were none for as long as the claim waits. Who drops this call takes none.
    ///
    /// # Errors
    /// When nothing can be kept.
    pub async fn claim(&self, claim: Claim) -> Result<Vec<Work>, Error> {
        fits("the name of a worker", claim.worker.len(), NAME_BYTES_MAX)?;
        let inner = match &self.0 {
            Truth::Engine(inner) => inner,
            Truth::Bull(bull) => return bull.claim(claim).await,
        };
        match inner.ask(Asked::Claim(claim)).await? {
            Told::Work(work) => Ok(work),
            _ => Err(strange()),
        }
    }

    /// Ends attempts, each by itself, and takes the next jobs in the same commit.
    ///
    /// # Errors
    /// When nothing can be kept: then none has ended. What is wrong with one end is said of it alone.
    pub async fn finish(&self, ends: Vec<Finish>, next: Option<Claim>) -> Result<Finished, Error> {
        fits("the name of a worker", next.as_ref().map_or(0, |next| next.worker.len()), NAME_BYTES_MAX)?;
        let inner = match &self.0 {
            Truth::Engine(inner) => inner,
            Truth::Bull(bull) => return bull.finish(ends, next).await,
        };
        match inner.ask(Asked::Finish { ends, next }).await? {
            Told::Finished { ends, work } => {
                Ok(Finished { ends: ends.into_iter().map(|end| end.map_err(Error::from)).collect(), work })
            }
            _ => Err(strange()),
        }
    }

    /// One attempt is done.
    ///
    /// # Errors
    /// When the token is stale, the result too large, or nothing can be kept.
    pub async fn complete(&self, job: u64, token: u64, result: Option<Vec<u8>>) -> Result<(), Error> {
        self.done(Op::Finish(Finish { job, token, outcome: Outcome::Completed { result } })).await
    }

    /// The worker lives. Which of these jobs, by id and token, it has lost.
    ///
    /// # Errors
    /// When jobs are closed.
    pub async fn beat(&self, worker: &str, holding: Vec<(u64, u64)>) -> Result<Vec<u64>, Error> {
        match self.op(Op::Beat { worker: worker.into(), holding }).await? {
            Answer::Lost(lost) => Ok(lost),
            _ => Ok(Vec::new()),
        }
    }

    /// The worker's last connection is gone: unless it beats within 5 s, its jobs are given to others.
    ///
    /// # Errors
    /// When jobs are closed.
    pub async fn disconnect(&self, worker: &str) -> Result<(), Error> {
        self.done(Op::Disconnect { worker: worker.into() }).await
    }

    /// The attempt may take as long from now on, and its worker will not be asked for a sign of life meanwhile.
    ///
    /// # Errors
    /// When the token is stale.
    pub async fn extend(&self, job: u64, token: u64, lease: Duration) -> Result<(), Error> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        self.done(Op::Extend { job, token, lease_ms }).await
    }

    /// How far an attempt is: any bytes.
    ///
    /// # Errors
    /// When the token is stale.
    pub async fn progress(&self, job: u64, token: u64, body: Vec<u8>) -> Result<(), Error> {
        self.done(Op::Progress { job, token, body }).await
    }

    /// A line for the log of the job.
    ///
    /// # Errors
    /// When the token is stale, or the log full.
    pub async fn log(&self, job: u64, token: u64, line: String) -> Result<(), Error> {
        self.done(Op::Log { job, token, line }).await
    }

    /// Nothing of the queue starts any more.
    ///
    /// # Errors
    /// When nothing can be kept.
    pub async fn pause(&self, queue: &str) -> Result<(), Error> {
        self.done(Op::Pause { queue: queue.into() }).await
    }

    /// As before it was paused.
    ///
    /// # Errors
    /// When nothing can be kept.
    pub async fn resume(&self, queue: &str) -> Result<(), Error> {
        self.done(Op::Resume { queue: queue.into() }).await
    }

    /// From now on the queue does as these say; what runs goes on.
    ///
    /// # Errors
    /// When there are too many queues.
    pub async fn configure(&self, queue: &str, settings: Settings) -> Result<(), Error> {
        self.done(Op::Configure { queue: queue.into(), settings: Box::new(settings) }).await
    }

    /// Takes a job away that nobody works on. One that was held back by its children goes with all below it that has
    /// not ended.
    ///
    /// # Errors
    /// When it is not there, or it or one of those is active.
    pub async fn remove(&self, job: u64) -> Result<(), Error> {
        self.done(Op::Remove { job }).await
    }

    /// A delayed job waits no longer.
    ///
    /// # Errors
    /// When it is not there, or not delayed.
    pub async fn promote(&self, job: u64) -> Result<(), Error> {
        self.done(Op::Promote { job }).await
    }

    /// A failed or dead job gets all its attempts anew.
    ///
    /// # Errors
    /// When it is not there, neither failed nor dead, a child that it waits for is not done, or another has its key.
    pub async fn retry(&self, job: u64) -> Result<(), Error> {
        self.done(Op::Retry { job }).await
    }

    /// Removes all that waits, and with `delayed` all that is put off; how many. In pieces: others are served between.
    ///
    /// # Errors
    /// When there is no such queue, or nothing can be kept.
    pub async fn drain(&self, queue: &str, delayed: bool) -> Result<u64, Error> {
        let queue: Name = queue.into();
        self.sweep(|| Op::Drain { queue: queue.clone(), delayed, max: SWEEP_MAX }).await
    }

    /// Removes what ended in this state longer ago than `older`; how many.
    ///
    /// # Errors
    /// When there is no such queue, the state is no end, or nothing can be kept.
    pub async fn clean(&self, queue: &str, state: State, older: Duration) -> Result<u64, Error> {
        let (queue, older_ms): (Name, u64) = (queue.into(), u64::try_from(older.as_millis()).unwrap_or(u64::MAX));
        self.sweep(|| Op::Clean { queue: queue.clone(), state, older_ms, max: SWEEP_MAX }).await
    }

    /// Gives all that is failed or dead its attempts anew; how many.
    ///
    /// # Errors
    /// When there is no such queue, the state is neither, or nothing can be kept.
    pub async fn redrive(&self, queue: &str, state: State) -> Result<u64, Error> {
        let queue: Name = queue.into();
        self.sweep(|| Op::Redrive { queue: queue.clone(), state, max: SWEEP_MAX }).await
    }

    /// Puts a schedule in the place of the one of its name; where that stood is kept if its rule is the same.
    ///
    /// # Errors
    /// When there are too many, or nothing can be kept.
    pub async fn schedule(&self, schedule: Schedule) -> Result<(), Error> {
        self.done(Op::Schedule(Box::new(schedule))).await
    }

    /// # Errors
    /// When there is none of this name, or nothing can be kept.
    pub async fn unschedule(&self, schedule: &str) -> Result<(), Error> {
        self.done(Op::Unschedule { schedule: schedule.into() }).await
    }

    /// # Errors
    /// When jobs are closed.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        match &self.0 {
            Truth::Engine(inner) => match inner.ask(Asked::Schedules).await? {
                Told::Schedules(schedules) => Ok(schedules),
                _ => Err(strange()),
            },
            Truth::Bull(bull) => bull.schedules().await,
        }
    }

    /// All queues with their counts, in the order in which they came to be.
    ///
    /// # Errors
    /// When jobs are closed.
    pub async fn queues(&self) -> Result<Vec<QueueGlance>, Error> {
        match &self.0 {
            Truth::Engine(inner) => match inner.ask(Asked::Queues).await? {
                Told::Queues(queues) => Ok(queues),
                _ => Err(strange()),
            },
            Truth::Bull(bull) => bull.queues().await,
        }
    }

    /// Who has jobs now.
    ///
    /// # Errors
    /// When jobs are closed.
    pub async fn workers(&self) -> Result<Vec<Name>, Error> {
        match &self.0 {
            Truth::Engine(inner) => match inner.ask(Asked::Workers).await? {
                Told::Workers(workers) => Ok(workers),
                _ => Err(strange()),
            },
            Truth::Bull(bull) => Ok(bull.workers()),
        }
    }

    /// Jobs in a state, in the order in which they will start; of those that ended the last first.
    ///
    /// # Errors
    /// When jobs are closed, or the store fails.
    pub async fn list(&self, queue: &str, state: State, skip: usize, most: usize) -> Result<Vec<Detail>, Error> {
        self.listed(queue, state, (skip, most), Extent::Whole).await
    }

    /// As [`Jobs::list`], but of each what a list shows: no payload, result, progress or log, and the last attempt.
    ///
    /// # Errors
    /// When jobs are closed, or the store fails.
    pub async fn lines(&self, queue: &str, state: State, skip: usize, most: usize) -> Result<Vec<Detail>, Error> {
        self.listed(queue, state, (skip, most), Extent::Line).await
    }

    async fn listed(
        &self,
        queue: &str,
        state: State,
        (skip, most): (usize, usize),
        extent: Extent,
    ) -> Result<Vec<Detail>, Error> {
        let most = most.min(LIST_MAX);
        let inner = match &self.0 {
            Truth::Engine(inner) => inner,
            Truth::Bull(bull) => return bull.list(queue, state, skip, most).await,
        };
        let queue: Name = queue.into();
        let Told::Ids(ids) = inner.ask(Asked::List { queue, state, skip, most }).await? else { return Err(strange()) };
        // One may have been removed since.
        Ok(inner.reads.details(ids, extent).await?)
    }

    /// Jobs that were added with a `traceparent` of this trace id (32 digits), in the order of their ids, as
    /// [`Jobs::lines`] gives them. None of BullMQ's, which are not looked for by it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn traced(&self, trace_id: &str, most: usize) -> Result<Vec<Detail>, Error> {
        match &self.0 {
            Truth::Engine(inner) if trace_id.len() == TRACE_ID_CHARS => {
                Ok(inner.reads.traced(trace_id.to_owned(), most.min(LIST_MAX)).await?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// All that is kept of a job, if it is there.
    ///
    /// # Errors
    /// When jobs are closed, or the store fails.
    pub async fn get(&self, job: u64) -> Result<Option<Detail>, Error> {
        match &self.0 {
            Truth::Engine(inner) => Ok(inner.reads.details(vec![job], Extent::Whole).await?.pop()),
            Truth::Bull(bull) => bull.get(job).await,
        }
    }

    /// Children of a job and what they gave, in the order in which they were given, for as long as the job is there.
    /// Results are left out past 256 KiB in all.
    ///
    /// # Errors
    /// When jobs are closed, or the disk fails.
    pub async fn children(&self, job: u64, skip: usize, most: usize) -> Result<Vec<ChildDetail>, Error> {
        match &self.0 {
            Truth::Engine(inner) => Ok(inner.reads.children(job, skip, most).await?),
            // Of flows that BullMQ's own producers added it is their clients that tell.
            Truth::Bull(_) => Ok(Vec::new()),
        }
    }

    /// What apps added in SQL and cannot be taken over, the oldest of it; nothing where jobs are kept in a file.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refused(&self, most: usize) -> Result<Vec<Refused>, Error> {
        match &self.0 {
            Truth::Engine(inner) => Ok(inner.reads.refused(most.min(LIST_MAX)).await?),
            Truth::Bull(_) => Ok(Vec::new()),
        }
    }

    /// How many of each queue are, of those that have any.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refused_counts(&self) -> Result<Vec<RefusedCount>, Error> {
        match &self.0 {
            Truth::Engine(inner) => Ok(inner.reads.refused_counts().await?),
            Truth::Bull(_) => Ok(Vec::new()),
        }
    }

    /// Drops one of them, or all; how many. One that is tried again at this moment is left.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drop_refused(&self, id: Option<u64>) -> Result<u64, Error> {
        match &self.0 {
            Truth::Engine(inner) => Ok(inner.reads.drop_refused(id).await?),
            Truth::Bull(_) => Ok(0),
        }
    }

    /// What happens from now on, after it was committed, wherever that is decided: until it is decided elsewhere.
    pub fn stream(&self) -> Stream {
        let decides = self.deciding();
        let there = match &self.0 {
            Truth::Engine(inner) => inner.elsewhere().map(Elsewhere::events),
            Truth::Bull(_) => None,
        };
        Stream { decides, source: there.map_or_else(|| Source::Here(self.events()), Source::There) }
    }

    /// What happens from now on as far as this node decides, after it was committed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        match &self.0 {
            Truth::Engine(inner) => inner.events(),
            Truth::Bull(bull) => bull.subscribe(),
        }
    }

    /// Looks at the clock: for one that was moved by hand.
    ///
    /// # Errors
    /// When jobs are closed.
    pub async fn tick(&self) -> Result<(), Error> {
        self.done(Op::Tick).await
    }

    /// What was accepted is committed and the file let go of when this comes back; claims that wait get nothing.
    /// Idempotent.
    pub async fn close(&self) {
        let inner = match &self.0 {
            Truth::Engine(inner) => inner,
            Truth::Bull(bull) => return bull.close().await,
        };
        let (answer, answered) = oneshot::channel();
        if inner.calls.send(Message::Close { answer }).await.is_ok() {
            let _ = answered.await;
        }
        let mut ended = inner.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Comes back when the thread has ended, whoever ended it: nothing is kept any more then.
    pub async fn ended(&self) {
        match &self.0 {
            Truth::Engine(inner) => inner.calls.closed().await,
            Truth::Bull(bull) => bull.ended().await,
        }
    }

    async fn sweep(&self, op: impl Fn() -> Op) -> Result<u64, Error> {
        let mut swept = 0;
        loop {
            match self.op(op()).await? {
                Answer::Swept { count, more } => {
                    swept += u64::from(count);
                    if !more {
                        return Ok(swept);
                    }
                }
                _ => return Ok(swept),
            }
        }
    }

    async fn done(&self, op: Op) -> Result<(), Error> {
        self.op(op).await.map(drop)
    }

    async fn op(&self, op: Op) -> Result<Answer, Error> {
        let inner = match &self.0 {
            Truth::Engine(inner) => inner,
            Truth::Bull(bull) => return bull.op(op).await,
        };
        match inner.ask(Asked::Op(op)).await? {
            Told::Answer(answer) => Ok(answer),
            _ => Err(strange()),
        }
    }

    /// Between two batches, so briefly that nobody waits for it. On the node that decides.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.engine()?.look(look).await
    }
}

/// What another node answered is no answer to what it was asked.
fn strange() -> Error {
    mainstay_store::Error::Strange("a node of another version").into()
}
