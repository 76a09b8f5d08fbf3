//! What happened to jobs, as the app, the metrics and the pages are told. Only of what was committed.

use crate::job::Name;

/// Something that happened in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub queue: Name,
    /// 0 where it is of the whole queue.
    pub job: u64,
    pub at_ms: u64,
    pub what: What,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Added,
    /// Which start it is: 1, 2 …
    Started {
        start: u32,
    },
    Progress,
    Completed,
    /// An attempt failed, and another follows after this wait.
    Retried {
        wait_ms: u64,
    },
    /// Its attempts are used up.
    Failed,
    /// It lost its worker, and starts again.
    Stalled,
    Dead,
    /// Given back by its worker, without a verdict.
    Released,
    Removed,
    /// Set to wait again by an operator.
    Revived,
    /// All that it waited for is done.
    ChildrenDone,
    Paused,
    Resumed,
    /// Nothing is left to do.
    Drained,
    /// More wait and fewer run than the queue is set for; `false`: no longer.
    Short(bool),
}

impl What {
    /// As it is counted and told.
    pub fn as_str(&self) -> &'static str {
        match self {
            What::Added => "added",
            What::Started { .. } => "started",
            What::Progress => "progress",
            What::Completed => "completed",
            What::Retried { .. } => "retried",
            What::Failed => "failed",
            What::Stalled => "stalled",
            What::Dead => "dead",
            What::Released => "released",
            What::Removed => "removed",
            What::Revived => "revived",
            What::ChildrenDone => "children_done",
            What::Paused => "paused",
            What::Resumed => "resumed",
            What::Drained => "drained",
            What::Short(true) => "short",
            What::Short(false) => "enough",
        }
    }
}
