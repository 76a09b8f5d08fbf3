//! What the cache counted, a route each: bounded by the routes that the file names.

use mainstay_telemetry::Names;
use mainstay_telemetry::metrics::exposition::{Exposition, Kind};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Routes counted apart; a file with more cached routes has the rest counted as one.
const ROUTES_MAX: usize = 1024;

/// One route's. Padded to cache lines of its own: every core counts here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    pub hits: AtomicU64,
    pub stale: AtomicU64,
    pub misses: AtomicU64,
    /// The app said that what is stored is still good.
    pub revalidated: AtomicU64,
    /// Waited for another's answer, and got it.
    pub collapsed: AtomicU64,
    pub bypassed: AtomicU64,
    pub stored: AtomicU64,
    pub evicted: AtomicU64,
    pub entries: AtomicU64,
    pub bytes: AtomicU64,
}

/// All of them, kept through reloads.
#[derive(Debug, Default)]
pub struct AllCounts(Mutex<BTreeMap<u32, Arc<Counts>>>);

/// One route's, as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteCounts {
    pub route: String,
    pub hits: u64,
    pub stale: u64,
    pub misses: u64,
    pub revalidated: u64,
    pub collapsed: u64,
    pub bypassed: u64,
    pub stored: u64,
    pub evicted: u64,
    pub entries: u64,
    pub bytes: u64,
}

pub fn add(cell: &AtomicU64) {
    cell.fetch_add(1, Relaxed);
}

impl AllCounts {
    /// Those of this route, by its number in `Names`.
    pub fn of(&self, route: u32) -> Arc<Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let route = if all.len() < ROUTES_MAX || all.contains_key(&route) { route } else { Names::OTHER };
        all.entry(route).or_default().clone()
    }

    pub fn read(&self, names: &Names) -> Vec<RouteCounts> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |(route, c): (&u32, &Arc<Counts>)| RouteCounts {
            route: names.get(*route).to_string(),
            hits: c.hits.load(Relaxed),
            stale: c.stale.load(Relaxed),
            misses: c.misses.load(Relaxed),
            revalidated: c.revalidated.load(Relaxed),
            collapsed: c.collapsed.load(Relaxed),
            bypassed: c.bypassed.load(Relaxed),
            stored: c.stored.load(Relaxed),
            evicted: c.evicted.load(Relaxed),
            entries: c.entries.load(Relaxed),
            bytes: c.bytes.load(Relaxed),
        };
        all.iter().map(one).collect()
    }
}

/// The families of the metrics page.
pub fn expose(routes: &[RouteCounts], out: &mut Exposition) {
    if routes.is_empty() {
        return;
    }
    let help = "Requests of cached routes, by what the cache did.";
    let mut requests = out.family("mainstay_cache_requests_total", Kind::Counter, help);
    for r in routes {
        let outcomes = [
            ("hit", r.hits),
            ("stale", r.stale),
            ("miss", r.misses),
            ("revalidated", r.revalidated),
            ("collapsed", r.collapsed),
            ("bypass", r.bypassed),
        ];
        for (outcome, count) in outcomes {
            requests.sample(&[("route", &r.route), ("outcome", outcome)], count);
        }
    }
    type Read = fn(&RouteCounts) -> u64;
    let others: [(&str, Kind, &str, Read); 4] = [
        ("mainstay_cache_stored_total", Kind::Counter, "Answers stored.", |r| r.stored),
        ("mainstay_cache_evictions_total", Kind::Counter, "Entries that made room for others.", |r| r.evicted),
        ("mainstay_cache_entries", Kind::Gauge, "Entries stored now.", |r| r.entries),
        ("mainstay_cache_bytes", Kind::Gauge, "Bytes stored now, with what keeping them costs.", |r| r.bytes),
    ];
    for (name, kind, help, read) in others {
        let mut family = out.family(name, kind, help);
        for r in routes {
            family.sample(&[("route", &r.route)], read(r));
        }
    }
}
