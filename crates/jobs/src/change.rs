//! What is to be kept, in the engine's words: the changes it makes, and the records it is made of again after a crash.
//!
//! Invariant: an engine that restores the records which all its changes add up to decides as the one that made them,
//! except that every lease begins anew.

use crate::job::{Attempt, Body, Kept, Name, OnFailure, Own, State, Unique};
use crate::schedule::Schedule;

/// A number that is kept. The first two are counters, kept ahead of their use, so that no number is given twice
/// whatever is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    Ids,
    Tokens,
    /// Claims were answered up to this token, as far as was kept by then: behind, and never ahead.
    Answered,
}

/// Which kind a key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Of a job, for as long as that is live or for a time.
    Unique,
    /// Of an add.
    Idempotency,
    /// Of a tick of a schedule.
    Tick,
}

/// How many started when, in microseconds, oldest first.
pub type Starts = Vec<(u64, u32)>;

/// One change. All of a batch are committed, or none.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Reserve {
        counter: Counter,
        ceiling: u64,
    },
    Queue {
        id: u32,
        name: Name,
        is_paused: bool,
    },
    Starts {
        queue: u32,
        starts: Starts,
    },
    Insert {
        row: Box<Row>,
        body: Box<Body>,
    },
    Update(Box<Progressed>),
    Attempt {
        job: u64,
        attempt: Box<Attempt>,
    },
    Result {
        job: u64,
        result: Vec<u8>,
    },
    Progress {
        job: u64,
        progress: Vec<u8>,
    },
    Line {
        job: u64,
        at_ms: u64,
        line: String,
    },
    Remove {
        job: u64,
        kept: Kept,
    },
    /// A job has a parent; both are inserted by then.
    Link(Link),
    /// A child is removed next, in this state: what it gave stays with its link.
    ChildGone {
        child: u64,
        state: State,
    },
    /// The links of all children of a parent are gone.
    Unlink {
        parent: u64,
    },
    Key {
        key: Key,
        held: Held,
    },
    KeyGone {
        key: Key,
    },
    Schedule(Box<Schedule>),
    Unschedule {
        name: Name,
    },
    /// What an app has added in a transaction of its own is among the jobs now, or was there already.
    Taken {
        entry: u64,
    },
    /// It cannot be one of them: it stays where it is, with the reason.
    SetAside {
        entry: u64,
        why: String,
    },
}

/// A job as it is kept, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub queue: u32,
    pub priority: u32,
    pub created_ms: u64,
    pub group: Option<Name>,
    pub unique: Option<Unique>,
    pub own: Own,
    pub progressed: Progressed,
}

/// What of a job changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progressed {
    pub job: u64,
    pub state: State,
    pub kept: Kept,
    pub ready_ms: u64,
    pub attempts: u32,
    pub starts: u32,
    pub stalls: u32,
    pub token: u64,
    pub started_ms: u64,
    pub ended_ms: u64,
    /// Of an active or a completed job.
    pub worker: Option<Name>,
    /// Of an active one; `u64::MAX` is never.
    pub deadline_ms: u64,
    /// Of an active one.
    pub lease_ms: u64,
}

/// That a parent waits for a child. It is there for as long as the parent is, whatever becomes of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub child: u64,
    pub parent: u64,
    /// Of the child.
    pub queue: u32,
    pub on_failure: OnFailure,
    /// State of the child when it was removed.
    pub gone: Option<State>,
}

/// A key of a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub queue: u32,
    pub kind: KeyKind,
    pub key: Name,
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub job: u64,
    /// Without it until the job ends.
    pub until_ms: Option<u64>,
}

/// What there is at a start. Queues come before jobs, in the order of their ids; jobs in the order of theirs; links
/// after jobs, in the order of the children.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Reserved { counter: Counter, ceiling: u64 },
    Queue { id: u32, name: Name, is_paused: bool },
    Starts { queue: u32, starts: Starts },
    Job(Box<Row>),
    Link(Link),
    Key { key: Key, held: Held },
    Schedule(Box<Schedule>),
}
