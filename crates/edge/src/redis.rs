//! Each core's own connection to Redis, where something of the edge is shared through it, and what one request may
//! wait for it: 50 ms in all, whoever asks.
//!
//! Connected by a keeper on the core's own thread, never by a request; while it is away nobody waits.

use mainstay_config::Reader;
use mainstay_runtime::{Shutdown, Trigger};
use mainstay_store::redis::{Counts, Error, Keeper, Options, REQUEST_BUDGET, Redis, State};
use mainstay_store::{Options as Stores, Shared};
use mainstay_telemetry::metrics::exposition::{Exposition, Kind};
use std::cell::RefCell;
use std::time::Duration;

/// A core's connection before its thread has it; empty where nothing is shared.
#[derive(Default)]
pub struct Link(Option<(Redis, Keeper)>);

/// What a core has of it; a reload may put another in its place.
#[derive(Default)]
pub struct Own(RefCell<Option<(Redis, Trigger)>>);

/// Those of all cores.
#[derive(Clone, Default)]
pub struct Links(Vec<Redis>);

/// What is left of the time one request has for shared state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    spent: Duration,
}

/// How the cores see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub cores: usize,
    pub up: usize,
    /// Linked, but too late: nobody waits for it.
    pub open: usize,
}

impl Links {
    /// Opens nothing: one for each core, or none where nothing is shared.
    ///
    /// # Errors
    /// When a certificate of its settings cannot be used.
    pub fn new(options: Option<&Options>, cores: usize) -> Result<(Links, Vec<Link>), Error> {
        let Some(options) = options else { return Ok((Links::default(), (0..cores).map(|_| Link(None)).collect())) };
        let made = (0..cores).map(|_| Redis::new(options)).collect::<Result<Vec<_>, _>>()?;
        let links = Links(made.iter().map(|(redis, _)| redis.clone()).collect());
        Ok((links, made.into_iter().map(|made| Link(Some(made))).collect()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For whoever has no core of its own.
    pub fn any(&self) -> Option<Redis> {
        self.0.iter().find(|redis| redis.state() == State::Up).or_else(|| self.0.first()).cloned()
    }

    pub fn seen(&self) -> Seen {
        let count = |state| self.0.iter().filter(|redis| redis.state() == state).count();
        Seen { cores: self.0.len(), up: count(State::Up), open: count(State::Open) }
    }

    /// Why there is no connection, as the last attempt saw it.
    pub fn trouble(&self) -> Option<String> {
        self.0.iter().find_map(Redis::trouble)
    }

    /// How often a breaker of theirs opened.
    pub fn opened(&self) -> u64 {
        self.0.iter().map(|redis| redis.counts().opened).sum()
    }

    /// The families of the metrics page.
    pub fn expose(&self, out: &mut Exposition) {
        if self.is_empty() {
            return;
        }
        let all: Vec<Counts> = self.0.iter().map(Redis::counts).collect();
        let sum = |of: fn(&Counts) -> u64| all.iter().map(of).sum::<u64>();
        let (calls, late, failed) = (sum(|c| c.calls), sum(|c| c.late), sum(|c| c.failed));
        let help = "Calls to Redis: answered, late, failed, and spared because it was away.";
        let mut family = out.family("mainstay_redis_calls_total", Kind::Counter, help);
        family.sample(&[("outcome", "answered")], calls.saturating_sub(late + failed));
        family.sample(&[("outcome", "late")], late);
        family.sample(&[("outcome", "failed")], failed);
        family.sample(&[("outcome", "spared")], sum(|c| c.spared));
        let seen = self.seen();
        let mut family = out.family("mainstay_redis_cores", Kind::Gauge, "Cores by how they see Redis.");
        for (state, count) in [("up", seen.up), ("open", seen.open), ("away", seen.cores - seen.up - seen.open)] {
            family.sample(&[("state", state)], count as u64);
        }
        let help = "How often a core left a Redis alone that was late.";
        out.family("mainstay_redis_opened_total", Kind::Counter, help).sample(&[], sum(|c| c.opened));
        let longest = all.iter().map(|c| c.longest_us).max().unwrap_or_default();
        out.family("mainstay_redis_longest_wait_seconds", Kind::Gauge, "The longest a request waited for Redis.")
            .real(&[], longest as f64 / 1e6);
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Links").field(&self.seen()).finish()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.0.is_some()).finish()
    }
}

impl Own {
    /// On the core's thread. The keeper of the one before ends, and with it its connection.
    pub fn take_up(&self, link: Link) {
        let kept = link.0.map(|(redis, keeper)| {
            let (trigger, shutdown) = Shutdown::new();
            tokio::task::spawn_local(keeper.run(shutdown));
            (redis, trigger)
        });
        self.0.replace(kept);
    }

    pub fn get(&self) -> Option<Redis> {
        self.0.borrow().as_ref().map(|(redis, _)| redis.clone())
    }
}

impl Allowance {
    pub fn left(&self) -> Duration {
        REQUEST_BUDGET.saturating_sub(self.spent)
    }

    pub fn spend(&mut self, took: Duration) {
        self.spent += took;
    }
}

impl crate::Options {
    /// Where limits are counted, now that it is known which stores there are. A connection is kept where anything is
    /// shared, so that a reload that adds a limit finds one.
    pub fn share(&mut self, reader: &Reader, store: &Stores) {
        let wanted = self.rate.in_redis.as_ref().map_or(store.shared == Shared::Redis, |own| own.value);
        if let (true, Some(own), None) = (wanted, &self.rate.in_redis, &store.redis) {
            let (what, expected) = ("store = \"redis\" names no server", "an address in [store.redis] or in REDIS_URL");
            reader.fault(&own.at, what, expected, Some("REDIS_URL=redis://…"));
        }
        self.rate.shared = wanted && store.redis.is_some();
        self.redis = store.redis.clone().filter(|_| self.rate.shared || store.shared == Shared::Redis);
    }
}
