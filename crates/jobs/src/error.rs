//! What a caller is told when it did not get what it asked for.

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
}

impl From<mainstay_store::Error> for Error {
    fn from(error: mainstay_store::Error) -> Error {
        Error::Store(Arc::new(error))
    }
}
