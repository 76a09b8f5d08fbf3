//! One signal that says "finish and end", seen by everybody who holds a `Shutdown`.

use tokio::sync::watch;

/// The side that asks for the end. Dropping it asks too, so that a lost owner cannot leave tasks behind.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// The side that is told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    pub fn new() -> (Trigger, Shutdown) {
        let (tx, rx) = watch::channel(false);
        (Trigger(tx), Shutdown(rx))
    }

    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Resolves once the end is asked for; at once if it was already.
    pub async fn requested(&self) {
        let mut rx = self.0.clone();
        let _ = rx.wait_for(|asked| *asked).await;
    }
}

impl Trigger {
    /// Idempotent.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_and_a_dropped_trigger_both_end() {
        let (trigger, shutdown) = Shutdown::new();
        assert!(!shutdown.is_requested());
        trigger.request();
        trigger.request();
        shutdown.requested().await;
        assert!(shutdown.is_requested());

        let (trigger, shutdown) = Shutdown::new();
        drop(trigger);
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
