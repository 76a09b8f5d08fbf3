//! The handle: what requests and services ask Redis with. Cheap to clone; made once a thread, beside its keeper.

use super::breaker::Breaker;
use super::dial::{Dialer, Link};
use super::error::{self, Error};
use super::keeper::Keeper;
use super::options::Options;
use super::script::Script;
use ::redis::{Cmd, ToRedisArgs, Value};
use arc_swap::ArcSwapOption;
use mainstay_runtime::{Clock, Millis};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// What a request waits for shared state, all of it together: with the tick of the timer and a core that has others to
/// serve, 50 ms at most.
pub const REQUEST_BUDGET: Duration = Duration::from_millis(44);
/// Who had less time than this left says nothing about the server by running out of it.
const FAIR_LIMIT: Duration = Duration::from_millis(10);
/// Calls of one handle under way at a time: more than a core has requests for in 50 ms, and a bound on what a hanging
/// server makes wait.
pub const IN_FLIGHT_MAX: u32 = 1024;

/// A connection of this thread's own, kept by a [`Keeper`].
#[derive(Clone)]
pub struct Redis(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) dialer: Dialer,
    pub(super) link: ArcSwapOption<Link>,
    breaker: Mutex<Breaker>,
    in_flight: AtomicU32,
    /// The keeper is to look: a link broke, or the breaker opened.
    pub(super) wake: Notify,
    /// Counted up with each new link, for those who wait for one.
    pub(super) linked: watch::Sender<u64>,
    counters: Counters,
    /// Why the last attempt to connect came to nothing.
    pub(super) trouble: Mutex<Option<String>>,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    spared: AtomicU64,
    opened: AtomicU64,
    longest_us: AtomicU64,
}

/// How often what happened, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that went to the server.
    pub calls: u64,
    /// Of these, not answered in time.
    pub late: u64,
    /// Of these, cut, or answered with an error.
    pub failed: u64,
    /// Calls that were not made: no link, an open breaker, too many under way.
    pub spared: u64,
    /// The breaker opened.
    pub opened: u64,
    /// Connections made.
    pub connected: u64,
    /// The longest a call of a request waited.
    pub longest_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// Linked, but it does not answer in time; nobody waits for it.
    Open,
    /// No link.
    Away,
}

impl Redis {
    /// Reads files of certificates, connects nothing: the keeper does, once it runs on this thread.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn new(options: &Options) -> Result<(Redis, Keeper), Error> {
        let redis = Redis(Arc::new(Shared {
            dialer: Dialer::new(options)?,
            link: ArcSwapOption::empty(),
            breaker: Mutex::default(),
            in_flight: AtomicU32::new(0),
            wake: Notify::new(),
            linked: watch::Sender::new(0),
            counters: Counters::default(),
            trouble: Mutex::default(),
        }));
        Ok((redis.clone(), Keeper::new(redis)))
    }

    /// Runs a script for a request: one round trip, two the first time a server sees it. All keys of a script share a
    /// hash tag.
    ///
    /// # Errors
    /// At once while Redis is away or left alone, else within `within`.
    pub async fn script<K: ToRedisArgs, A: ToRedisArgs>(
        &self,
        script: &Script,
        keys: &[K],
        args: &[A],
        within: Duration,
    ) -> Result<Value, Error> {
        let began = Clock::micros();
        match self.ask(&script.by_name(keys, args), within).await {
            Err(Error::Answer(error)) if is_unknown_script(&error) => {
                let spent = Duration::from_micros(Clock::micros().saturating_sub(began));
                self.ask(&script.whole(keys, args), within.saturating_sub(spent)).await
            }
            answer => answer,
        }
    }

    /// Asks for a request, one round trip.
    ///
    /// # Errors
    /// At once while Redis is away or left alone, else within `within`.
    pub async fn ask(&self, command: &Cmd, within: Duration) -> Result<Value, Error> {
        let shared = &*self.0;
        let spare = |error: Error| {
            shared.counters.spared.fetch_add(1, Ordering::Relaxed);
            Err(error)
        };
        if !self.breaker(|breaker| breaker.admits()) {
            return spare(Error::Open);
        }
        if within.is_zero() {
            return spare(Error::Late);
        }
        let Some(link) = shared.link.load_full() else { return spare(Error::Away) };
        let Some(_turn) = Turn::take(shared) else { return spare(Error::Busy) };
        shared.counters.calls.fetch_add(1, Ordering::Relaxed);
        let began = Clock::micros();
        let answer = timeout(within, link.ask(command)).await;
        shared.counters.longest_us.fetch_max(Clock::micros().saturating_sub(began), Ordering::Relaxed);
        match answer {
            Ok(Ok(value)) => {
                self.breaker(|breaker| breaker.answered(Clock::now()));
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(&link, error)),
            Err(_) => {
                shared.counters.late.fetch_add(1, Ordering::Relaxed);
                if within >= FAIR_LIMIT {
                    self.missed();
                }
                Err(Error::Late)
            }
        }
    }

    /// Asks for jobs or administration: waits for a link, has the time of `[store.redis] command`, and tries again as
    /// often as `retries` says where nothing can have happened twice, or `repeatable` says that it may.
    ///
    /// # Errors
    /// Those of the last try.
    pub async fn patiently(&self, command: &Cmd, repeatable: bool) -> Result<Value, Error> {
        let options = &self.0.dialer.options;
        let mut tried = 0;
        loop {
            let error = match self.once(command).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let again = match &error {
                Error::Away => true,
                Error::Late | Error::Broken(_) => repeatable,
                Error::Answer(error) => error::is_unfit(error),
                _ => false,
            };
            tried += 1;
            if !again || tried > options.retries {
                return Err(error);
            }
            tokio::time::sleep(options.retry_delay).await;
        }
    }

    async fn once(&self, command: &Cmd) -> Result<Value, Error> {
        let options = &self.0.dialer.options;
        let link = self.linked(options.connect).await?;
        let Some(_turn) = Turn::take(&self.0) else { return Err(Error::Busy) };
        self.0.counters.calls.fetch_add(1, Ordering::Relaxed);
        match timeout(options.command, link.ask(command)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(&link, error)),
            Err(_) => Err(Error::Late),
        }
    }

    /// The link, once there is one.
    async fn linked(&self, limit: Duration) -> Result<Arc<Link>, Error> {
        let mut news = self.0.linked.subscribe();
        let waiting = async {
            loop {
                if let Some(link) = self.0.link.load_full() {
                    return Ok(link);
                }
                if news.changed().await.is_err() {
                    return Err(Error::Away);
                }
            }
        };
        timeout(limit, waiting).await.unwrap_or(Err(Error::Away))
    }

    /// What an error means for the link and the breaker.
    fn failed(&self, link: &Arc<Link>, error: ::redis::RedisError) -> Error {
        self.0.counters.failed.fetch_add(1, Ordering::Relaxed);
        let demoted = error::is_demoted(&error);
        let error = Error::answered(error);
        if error.is_answer() {
            self.breaker(|breaker| breaker.answered(Clock::now()));
            return error;
        }
        // A cluster's connection mends itself; one link that broke or leads to a replica is of no more use.
        let single = link.node().is_some();
        if single && (demoted || matches!(error, Error::Broken(_))) {
            self.drop_link(link);
        } else {
            self.missed();
        }
        error
    }

    /// Forgets this link, if it is still the one in use, and has the keeper make another.
    pub(super) fn drop_link(&self, broken: &Arc<Link>) {
        let current = self.0.link.load();
        if current.as_ref().is_some_and(|link| Arc::ptr_eq(link, broken)) {
            self.0.link.store(None);
        }
        self.0.wake.notify_one();
    }

    fn missed(&self) {
        if self.breaker(|breaker| breaker.missed(Clock::now())) {
            self.0.counters.opened.fetch_add(1, Ordering::Relaxed);
            self.0.wake.notify_one();
        }
    }

    pub(super) fn breaker<T>(&self, with: impl FnOnce(&mut Breaker) -> T) -> T {
        with(&mut self.0.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn install(&self, link: Link, now: Millis) {
        self.0.link.store(Some(Arc::new(link)));
        self.breaker(|breaker| breaker.close(now));
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.linked.send_modify(|links| *links += 1);
    }

    pub fn state(&self) -> State {
        if self.0.link.load().is_none() {
            return State::Away;
        }
        if self.breaker(|breaker| breaker.admits()) { State::Up } else { State::Open }
    }

    /// Why there is no link, as the last attempt saw it; for logs and operators.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        Counts {
            calls: get(&counters.calls),
            late: get(&counters.late),
            failed: get(&counters.failed),
            spared: get(&counters.spared),
            opened: get(&counters.opened),
            connected: *self.0.linked.borrow(),
            longest_us: get(&counters.longest_us),
        }
    }
}

fn is_unknown_script(error: &::redis::RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// One of `IN_FLIGHT_MAX`.
struct Turn<'a>(&'a AtomicU32);

impl Turn<'_> {
    fn take(shared: &Shared) -> Option<Turn<'_>> {
        let taken = Turn(&shared.in_flight);
        // Given back at once by the drop where it is one too many.
        (shared.in_flight.fetch_add(1, Ordering::Relaxed) < IN_FLIGHT_MAX).then_some(taken)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
