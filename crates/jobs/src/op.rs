//! What can be asked of the engine, and what it answers.

use crate::change::Change;
use crate::event::Event;
use crate::job::{Name, NewJob, State};
use crate::schedule::Schedule;
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Jobs a call adds or claims at most.
pub const BATCH_MAX: usize = 10_000;
/// KiB of payloads that a claim gives; a first job is given however large it is.
pub const CLAIM_KIB_MAX: u32 = 16 * 1024;
/// Jobs of one flow: a parent, its children, and all below them.
pub const FLOW_JOBS_MAX: usize = 1000;
/// Generations of a flow: a parent, its children, theirs …
pub const FLOW_LEVELS_MAX: usize = 8;
/// Jobs a call of an operator changes at most; it says whether there are more.
pub const SWEEP_MAX: u32 = 1000;
/// Milliseconds a lease lasts, each time it is renewed.
pub const LEASE_MS: u64 = 30_000;
/// The longest lease that can be asked for: a day.
pub const LEASE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// A worker that is disconnected may come back for so many milliseconds before its jobs are given to others.
pub const GRACE_MS: u64 = 5_000;

/// What can be asked. Of a node that stands by too, but for what is the business of the one that decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    /// From now on the queue does as these say.
    #[serde(skip)]
    Configure {
        queue: Name,
        settings: Box<Settings>,
    },
    /// All or none; those whose key is known are answered with the job that has it.
    Add {
        queue: Name,
        jobs: Vec<NewJob>,
    },
    /// A job that has an id already, from those that the engine never gives out; adding it again changes nothing.
    #[serde(skip)]
    Take {
        queue: Name,
        id: u64,
        job: Box<NewJob>,
    },
    Claim {
        queue: Name,
        worker: Name,
        max: u32,
    },
    Finish(Finish),
    /// The worker lives: what it holds is its own for another while. Answers which of these it has lost.
    Beat {
        worker: Name,
        holding: Vec<(u64, u64)>,
    },
    /// Its last connection is gone.
    Disconnect {
        worker: Name,
    },
    /// This attempt's worker will be heard of again within so many milliseconds, and may take as long.
    Extend {
        job: u64,
        token: u64,
        lease_ms: u64,
    },
    Progress {
        job: u64,
        token: u64,
        body: Vec<u8>,
    },
    Log {
        job: u64,
        token: u64,
        line: String,
    },
    Pause {
        queue: Name,
    },
    Resume {
        queue: Name,
    },
    /// A job that nobody has; if it was held back by its children, with all below it that has not ended.
    Remove {
        job: u64,
    },
    /// A delayed job starts now.
    Promote {
        job: u64,
    },
    /// A failed or dead job gets all its attempts anew; one that failed because of a child only once its children are
    /// done.
    Retry {
        job: u64,
    },
    /// Removes what waits, and with `delayed` what is put off too.
    Drain {
        queue: Name,
        delayed: bool,
        max: u32,
    },
    /// Removes what ended longer ago than this, oldest first.
    Clean {
        queue: Name,
        state: State,
        older_ms: u64,
        max: u32,
    },
    /// All that failed or is dead gets its attempts anew, oldest first.
    Redrive {
        queue: Name,
        state: State,
        max: u32,
    },
    /// Puts a schedule in the place of the one of the same name.
    Schedule(Box<Schedule>),
    Unschedule {
        schedule: Name,
    },
    /// Adds the jobs of the ticks that are due by the wall clock.
    #[serde(skip)]
    Fire {
        wall_ms: u64,
    },
    /// Claims were answered up to this token: whoever has a job by one of them knows it.
    #[serde(skip)]
    Answered {
        token: u64,
    },
    /// These were claimed by somebody who names all he has with each beat, and may not have been told of them: that he
    /// lives does not vouch for one until he has named it.
    #[serde(skip)]
    Unheard {
        held: Vec<(u64, u64)>,
    },
    /// Time passes.
    #[serde(skip)]
    Tick,
}

impl Op {
    /// Whether a node that stands by may ask it of the one that decides. What it says of its queues counts once it
    /// decides itself.
    pub(crate) fn can_be_passed_on(&self) -> bool {
        match self {
            Op::Configure { .. }
            | Op::Take { .. }
            | Op::Fire { .. }
            | Op::Answered { .. }
            | Op::Unheard { .. }
            | Op::Tick => false,
            Op::Add { .. }
            | Op::Claim { .. }
            | Op::Finish(_)
            | Op::Beat { .. }
            | Op::Disconnect { .. }
            | Op::Extend { .. }
            | Op::Progress { .. }
            | Op::Log { .. }
            | Op::Pause { .. }
            | Op::Resume { .. }
            | Op::Remove { .. }
            | Op::Promote { .. }
            | Op::Retry { .. }
            | Op::Drain { .. }
            | Op::Clean { .. }
            | Op::Redrive { .. }
            | Op::Schedule(_)
            | Op::Unschedule { .. } => true,
        }
    }
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    pub job: u64,
    pub token: u64,
    pub outcome: Outcome,
}

/// What its worker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Completed {
        result: Option<Vec<u8>>,
    },
    Failed {
        error: String,
        stack: Option<String>,
        /// `false`: no further attempt would help.
        retry: bool,
        /// Instead of the backoff, in milliseconds.
        wait_ms: Option<u64>,
    },
    /// It was not the job: it waits again in its place, and nothing of its queue starts for so many milliseconds.
    Released {
        error: String,
        hold_ms: u64,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Added(Vec<Added>),
    Claimed(Vec<Claimed>),
    /// Which of those a worker held it has lost.
    Lost(Vec<u64>),
    /// So many were changed; there may be more.
    Swept {
        count: u32,
        more: bool,
    },
}

/// One job that was added, or was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    pub job: u64,
    pub is_new: bool,
}

/// One job that its worker has from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    pub job: u64,
    /// Higher than any this job had before; whatever is said about the attempt carries it.
    pub token: u64,
    /// Which attempt it is: 1, 2 …; one that was stalled or released does not count.
    pub attempt: u32,
    pub attempts: u32,
    /// When it has taken too long, on the engine's clock; `u64::MAX` is never.
    pub deadline_ms: u64,
    pub group: Option<Name>,
    /// It waited for children, and what they gave is kept.
    pub is_parent: bool,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    #[error("there is no job {0}")]
    NoSuchJob(u64),
    #[error("there is no queue {0}")]
    NoSuchQueue(Name),
    #[error("there is no schedule {0}")]
    NoSuchSchedule(Name),
    /// Somebody else has it by now, or nobody.
    #[error("job {job} is {} and the token is not its own", state.as_str())]
    Stale { job: u64, state: State },
    #[error("job {job} is {}", state.as_str())]
    WrongState { job: u64, state: State },
    #[error("jobs that are {} cannot be asked for that", .0.as_str())]
    NotThat(State),
    #[error("job {job} has its key now")]
    Duplicate { job: u64 },
    /// Which of its children is not done.
    #[error("job {job} starts after its children, and {child} is not done")]
    Children { job: u64, child: u64 },
    #[error("{0}")]
    Flow(Cow<'static, str>),
    #[error("the queue holds {0} jobs and takes no more")]
    Full(u64),
    #[error("there are {0} queues, schedules or keys and no room for one more")]
    TooMany(usize),
    #[error("{what} is {found} where {most} is the most")]
    TooLong { what: Cow<'static, str>, found: usize, most: usize },
    #[error("the pattern is not understood: {0}")]
    Pattern(String),
}

/// What follows of an op: to be committed together, and the events told after that.
#[derive(Debug, Default)]
pub struct Effects {
    pub changes: Vec<Change>,
    pub events: Vec<Event>,
    /// Some change must be on the disk before it is acknowledged.
    pub fsync: bool,
}

impl Effects {
    pub fn clear(&mut self) {
        self.changes.clear();
        self.events.clear();
        self.fsync = false;
    }
}

pub(crate) fn fits(what: &'static str, found: usize, most: usize) -> Result<(), Refusal> {
    if found <= most { Ok(()) } else { Err(Refusal::TooLong { what: what.into(), found, most }) }
}
