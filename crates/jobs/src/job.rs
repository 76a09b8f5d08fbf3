//! A job: what its producer gives, and what the engine keeps of it in memory. Its payload is in the store alone.

use crate::backoff::Backoff;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A name, a key or a group: shared, never copied.
pub type Name = Arc<str>;

/// Bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the name of a queue or a job, of a key, of a group.
pub const NAME_BYTES_MAX: usize = 256;
/// The lowest priority; 0 is the highest, and what a job has that says nothing.
pub const PRIORITY_MAX: u32 = 1 << 21;
/// Nothing is put off for longer: ten years.
pub const DELAY_MAX_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
/// A key is remembered for so long at most: 30 days.
pub const KEY_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// May start as soon as the queue lets it.
    Waiting,
    /// May start at a time to come: put off by its producer, or by a failure.
    Delayed,
    /// A worker has it, under a token.
    Active,
    /// Starts once its children are done.
    WaitingChildren,
    /// Done.
    Completed,
    /// Its attempts are used up, or its handler said that no further one would help.
    Failed,
    /// Set aside until an operator decides: its workers died of it, or it failed in a queue with a dead letter.
    Dead,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Waiting,
        State::Delayed,
        State::Active,
        State::WaitingChildren,
        State::Completed,
        State::Failed,
        State::Dead,
    ];

    /// As it is stored, shown and asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Delayed => "delayed",
            State::Active => "active",
            State::WaitingChildren => "waiting_children",
            State::Completed => "completed",
            State::Failed => "failed",
            State::Dead => "dead",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Nothing but an operator takes a job out of it.
    pub fn is_terminal(self) -> bool {
        matches!(self, State::Completed | State::Failed | State::Dead)
    }
}

/// What a producer may say of one job otherwise than its queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Own {
    pub attempts: Option<u32>,
    pub backoff: Option<Backoff>,
    /// Of an attempt, in milliseconds; 0 is none.
    pub timeout_ms: Option<u64>,
}

/// Adds with an equal key in the same queue give the job that is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    pub key: Name,
    /// For so many milliseconds from now; without it until the job ends.
    pub for_ms: Option<u64>,
}

/// An idempotency key: whoever repeats an add with it gets the job of the first, whatever became of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    pub key: Name,
    /// Remembered for so many milliseconds.
    pub for_ms: u64,
}

/// What is handed to the handler and never looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// What kind of job of its queue; may be empty.
    pub name: String,
    pub payload: Vec<u8>,
    /// `traceparent` of the request that added it.
    pub trace: Option<String>,
}

/// A job to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    pub body: Body,
    pub priority: u32,
    pub delay_ms: u64,
    pub group: Option<Name>,
    pub unique: Option<Unique>,
    pub idempotency: Option<Idempotency>,
    pub own: Own,
    /// What must be done before it starts; its delay begins after that.
    pub children: Vec<Child>,
}

/// What becomes of a parent whose child failed for good, is dead, or was removed before it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OnFailure {
    /// It fails too, with a reason that names the child.
    #[default]
    Fail,
    /// It starts all the same.
    Ignore,
}

impl OnFailure {
    pub const ALL: [OnFailure; 2] = [OnFailure::Fail, OnFailure::Ignore];

    /// As it is stored and asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            OnFailure::Fail => "fail",
            OnFailure::Ignore => "ignore",
        }
    }

    pub fn parse(text: &str) -> Option<OnFailure> {
        OnFailure::ALL.into_iter().find(|on_failure| on_failure.as_str() == text)
    }
}

/// A job that is added with its parent, into whatever queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    pub queue: Name,
    pub on_failure: OnFailure,
    pub job: NewJob,
}

impl NewJob {
    /// A plain job of this payload.
    pub fn new(payload: impl Into<Vec<u8>>) -> NewJob {
        NewJob { body: Body { payload: payload.into(), ..Body::default() }, ..NewJob::default() }
    }

    /// Bytes of its payload and of those of all below it.
    pub fn payload_bytes(&self) -> usize {
        let below: usize = self.children.iter().map(|child| child.job.payload_bytes()).sum();
        self.body.payload.len() + below
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    Completed,
    Failed,
    /// It took longer than it may; ended by us.
    Timeout,
    /// Nobody vouched for its worker any longer.
    Stalled,
    /// Given back by its worker without a verdict: it does not count.
    Released,
    /// None of its own: it failed before its first, because of a child.
    Child,
}

impl Ending {
    pub const ALL: [Ending; 6] =
        [Ending::Completed, Ending::Failed, Ending::Timeout, Ending::Stalled, Ending::Released, Ending::Child];

    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Completed => "completed",
            Ending::Failed => "failed",
            Ending::Timeout => "timeout",
            Ending::Stalled => "stalled",
            Ending::Released => "released",
            Ending::Child => "child",
        }
    }

    pub fn parse(text: &str) -> Option<Ending> {
        Ending::ALL.into_iter().find(|ending| ending.as_str() == text)
    }
}

/// An attempt that did not complete, as it is kept. Of one that did the job's own row tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which start of the job it was: 1, 2 …; 0 where it was none, and a child the reason: of those the last is kept.
    pub start: u32,
    pub worker: Name,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub ending: Ending,
    pub error: String,
    pub stack: Option<String>,
}

/// What is kept of a job beside its row, so that what is not there need not be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub attempts: bool,
    pub lines: bool,
    pub words: bool,
    /// Of its payload, begun ones whole; 0 of a job from before that was noted. A claim gives so many that fit.
    pub payload_kib: u16,
}

/// What few jobs have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    pub group: Option<Name>,
    pub unique: Option<Unique>,
    pub own: Own,
}

/// Who has an active job, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub worker: Name,
    /// Vouched for until then.
    pub until_ms: u64,
    /// What a beat renews it by; longer than the usual where the worker asked for it.
    pub length_ms: u64,
    /// When the attempt has taken too long; `u64::MAX` is never.
    pub deadline_ms: u64,
    /// Nobody's time is over before this: a restart of ours let nobody tell us that he is done.
    pub grace_ms: u64,
    /// When it is looked at next: never later than the two above.
    pub timer_ms: u64,
    /// It was taken before a restart of ours, or through another node, and it is not known that its worker was told so:
    /// that he lives does not vouch for it until he has named it.
    pub is_unheard: bool,
}

impl Lease {
    /// When the attempt has taken too long.
    pub fn late_ms(&self) -> u64 {
        self.deadline_ms.max(self.grace_ms)
    }

    /// Whether it is the time that is over, and not the lease. Where both are over at once after a restart of ours,
    /// nobody has vouched for the job since: its worker is gone, and that costs no attempt.
    pub fn is_late(&self) -> bool {
        self.late_ms() < self.until_ms || (self.late_ms() == self.until_ms && self.deadline_ms >= self.grace_ms)
    }

    /// When it is over, for one reason or the other.
    pub fn over_ms(&self) -> u64 {
        self.until_ms.min(self.late_ms())
    }
}

/// A job in memory. Small: a million of them wait.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub queue: u32,
    pub state: State,
    pub kept: Kept,
    pub priority: u32,
    /// Place in the order of its priority: when it was added, or became due. Of a delayed job when that will be; of one
    /// that was held back by its children, how long it is put off after them.
    pub ready_ms: u64,
    /// Attempts that ended and count.
    pub attempts: u32,
    pub starts: u32,
    pub stalls: u32,
    /// The last one given out; 0 before the first.
    pub token: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    pub extra: Option<Box<Extra>>,
    pub lease: Option<Box<Lease>>,
}

impl Job {
    pub fn group(&self) -> Option<&Name> {
        self.extra.as_ref().and_then(|extra| extra.group.as_ref())
    }

    pub fn unique(&self) -> Option<&Unique> {
        self.extra.as_ref().and_then(|extra| extra.unique.as_ref())
    }

    /// Its children have not let it start yet: it waits for them, or has ended because of one.
    pub fn is_held_back(&self) -> bool {
        match self.state {
            State::WaitingChildren => true,
            State::Failed | State::Dead => self.starts == 0,
            State::Waiting | State::Delayed | State::Active | State::Completed => false,
        }
    }

    pub fn own(&self) -> Own {
        self.extra.as_ref().map_or(Own::default(), |extra| extra.own)
    }
}
