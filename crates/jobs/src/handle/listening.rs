//! What happens to jobs, as those hear it who want to know.

use crate::event::Event;
use crate::nodes::Far;
use tokio::sync::{broadcast, watch};

/// What happens, one after the other.
pub struct Stream {
    pub(super) decides: watch::Receiver<bool>,
    pub(super) source: Source,
}

pub(super) enum Source {
    Here(broadcast::Receiver<Event>),
    There(broadcast::Receiver<Far>),
}

impl Stream {
    /// # Errors
    /// When some were lost, or nothing more comes from where they came from: then another is to be asked for.
    pub async fn next(&mut self) -> Result<Event, broadcast::error::RecvError> {
        use broadcast::error::RecvError;
        let next = async {
            match &mut self.source {
                Source::Here(events) => events.recv().await,
                Source::There(events) => events.recv().await?.map_err(RecvError::Lagged),
            }
        };
        tokio::select! {
            biased;
            next = next => next,
            Ok(()) = self.decides.changed() => Err(RecvError::Closed),
        }
    }
}

/// What happens, for as long as somebody wants to know: each event wakes whoever listens, job after job.
#[derive(Debug, Default)]
pub struct Listening(Option<broadcast::Receiver<Event>>);

impl Listening {
    /// From now on, or no more.
    pub fn while_wanted(&mut self, events: impl FnOnce() -> broadcast::Receiver<Event>, is_wanted: bool) {
        match is_wanted {
            true if self.0.is_none() => self.0 = Some(events()),
            true => {}
            false => self.0 = None,
        }
    }

    /// Comes back with the next, and never while nothing is wanted.
    ///
    /// # Errors
    /// When some were lost, or jobs are closed.
    pub async fn next(&mut self) -> Result<Event, broadcast::error::RecvError> {
        match &mut self.0 {
            Some(events) => events.recv().await,
            None => std::future::pending().await,
        }
    }

    /// The next, if it is there already.
    pub(crate) fn try_next(&mut self) -> Option<Result<Event, broadcast::error::RecvError>> {
        use broadcast::error::{RecvError, TryRecvError};
        match self.0.as_mut()?.try_recv() {
            Ok(event) => Some(Ok(event)),
            Err(TryRecvError::Lagged(lost)) => Some(Err(RecvError::Lagged(lost))),
            Err(TryRecvError::Closed | TryRecvError::Empty) => None,
        }
    }

    /// Nothing is there that was not taken.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(broadcast::Receiver::is_empty)
    }
}
