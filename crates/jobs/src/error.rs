//! What a caller is told when it did not get what it asked for.

use crate::job::{Name, State};
use crate::op::Refusal;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was changed, and asking again will not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was changed; all that were asked together were told the same.
    #[error("jobs cannot be kept")]
    Store(#[source] Arc<mainstay_store::Error>),
    #[error("jobs are behind: {0:?} passed before there was room")]
    Behind(Duration),
    #[error("jobs are closed")]
    Closed,
    /// Of a node that stands by.
    #[error("the node that runs the jobs did not answer in time; whether it was done is not known")]
    Unanswered,
    /// Of a job of BullMQ, by the name it has outside.
    #[error("{}", .why.of(.job))]
    Named { job: Name, why: Why },
    /// Queues are BullMQ's, which has no such thing, or its client has not.
    #[error("{0}: not with queues of BullMQ ([jobs] store = \"bullmq\")")]
    Unsupported(&'static str),
    /// BullMQ's Redis does not answer; whether it did what it was asked is not known.
    #[error("the Redis of jobs is away: {0}")]
    Away(String),
    /// It would throw jobs away.
    #[error("the Redis of jobs: {what}   fix: {fix}")]
    Unfit { what: String, fix: String },
    #[error("BullMQ says no: {0}")]
    BullMq(String),
}

/// Why nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Gone,
    WrongState(State),
    /// The token is not its own.
    Stale(State),
}

impl Why {
    fn of(self, job: &str) -> String {
        match self {
            Why::Gone => format!("there is no job {job}"),
            Why::WrongState(state) => format!("job {job} is {}", state.as_str()),
            Why::Stale(state) => format!("job {job} is {} and the token is not its own", state.as_str()),
        }
    }
}

impl Error {
    /// Another node decides.
    pub fn is_standby(&self) -> bool {
        matches!(self, Error::Store(error) if matches!(**error, mainstay_store::Error::Standby))
    }
}

impl From<mainstay_store::Error> for Error {
    fn from(error: mainstay_store::Error) -> Error {
        Error::Store(Arc::new(error))
    }
}
