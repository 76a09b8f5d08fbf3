//! Keeps one handle linked: connects, notices what broke, follows a failover, and asks in the requests' stead whether
//! a server that was late is back. Runs on the thread of its handle.

use super::dial::Link;
use super::error::Error;
use super::handle::{REQUEST_BUDGET, Redis};
use super::options::Place;
use mainstay_runtime::{Clock, Shutdown};
use std::error::Error as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// While a link is there but late, a new one is tried for no longer than this: a server that takes longer to connect
/// cannot answer a request in 50 ms either, and a short try finds the end of a partition sooner. A cluster has as long
/// as at the first time: it may have to ask one node after another who serves what.
const REDIAL_LIMIT: Duration = Duration::from_secs(2);
/// Meanwhile the old link is asked so often.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How often the sentinels are asked whether the master is still the same, for the case that the old one lives on.
const MASTER_EVERY: Duration = Duration::from_secs(5);
/// An attempt to connect never follows another sooner than this, whatever the settings say.
const RETRY_LEAST: Duration = Duration::from_millis(50);

#[must_use = "a handle whose keeper does not run has no connection"]
pub struct Keeper(Redis);

impl Keeper {
    pub(super) fn new(redis: Redis) -> Keeper {
        Keeper(redis)
    }

    /// Until the end is asked for.
    pub async fn run(self, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.keep() => {}
        }
        self.0.0.link.store(None);
    }

    async fn keep(&self) {
        loop {
            match self.0.0.link.load_full() {
                None => self.connect().await,
                Some(link) => self.watch(link).await,
            }
        }
    }

    async fn connect(&self) {
        let dialer = &self.0.0.dialer;
        match dialer.dial(dialer.options.connect).await {
            Ok(link) => self.0.install(link, Clock::now()),
            Err(error) => {
                self.note(&error);
                sleep(dialer.options.retry_delay.max(RETRY_LEAST)).await;
            }
        }
    }

    /// Comes back when there is something new about the link.
    async fn watch(&self, link: Arc<Link>) {
        match self.0.breaker(|breaker| breaker.probe_in(Clock::now())) {
            Some(wait) => {
                tokio::select! {
                    () = sleep(wait) => self.probe(&link).await,
                    () = self.0.0.wake.notified() => {}
                }
            }
            None => {
                tokio::select! {
                    () = self.0.0.wake.notified() => {}
                    () = sleep(MASTER_EVERY) => self.follow(&link).await,
                }
            }
        }
    }

    /// The link that was late may answer again; else another may.
    async fn probe(&self, link: &Arc<Link>) {
        if !self.0.breaker(|breaker| breaker.probe(Clock::now())) {
            return;
        }
        if answers(link).await {
            self.0.breaker(|breaker| breaker.probed(Clock::now(), true));
            return;
        }
        tokio::select! {
            fresh = self.redial(link.node().is_none()) => match fresh {
                Some(fresh) => self.0.install(fresh, Clock::now()),
                None => self.0.breaker(|breaker| breaker.probed(Clock::now(), false)),
            },
            () = again(link) => self.0.breaker(|breaker| breaker.probed(Clock::now(), true)),
        }
    }

    /// A new link, if there is one and it answers.
    async fn redial(&self, is_cluster: bool) -> Option<Link> {
        let dialer = &self.0.0.dialer;
        let limit = if is_cluster { dialer.options.connect } else { REDIAL_LIMIT.min(dialer.options.connect) };
        match dialer.dial(limit).await {
            Ok(fresh) => answers(&fresh).await.then_some(fresh),
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    /// An old master that lives on as a replica, or alone behind a partition, is left for the new one.
    async fn follow(&self, link: &Arc<Link>) {
        if !matches!(self.0.0.dialer.options.place, Place::Sentinel { .. }) {
            return;
        }
        if let Ok(master) = self.0.0.dialer.master().await
            && link.node() != Some(&master)
        {
            self.0.drop_link(link);
        }
    }

    fn note(&self, error: &Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        *self.0.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// In as long as a request would wait. In a cluster PING goes to every master, and all must answer.
async fn answers(link: &Link) -> bool {
    matches!(timeout(REQUEST_BUDGET, link.ask(&::redis::cmd("PING"))).await, Ok(Ok(_)))
}

/// Comes back when the link answers again.
async fn again(link: &Link) {
    loop {
        sleep(PROBE_EVERY).await;
        if answers(link).await {
            return;
        }
    }
}
