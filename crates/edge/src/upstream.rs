//! Upstreams: the addresses an app is served from, and what is known about each right now.
//!
//! The table is shared by all cores and the control thread; everything in it is an atomic, so that no core
//! waits for another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// One address. Lives as long as anybody still talks to it, through any number of reloads.
#[derive(Debug)]
pub struct Upstream {
    /// Unique in this process, never used twice: the key of each core's connection pool.
    pub slot: u32,
    /// Name in `telemetry::Names`, as `main.1` or `api 10.0.0.1:3000`.
    pub name: u32,
    pub label: String,
    pub address: SocketAddr,
    pub weight: u32,
    /// A child of ours: a refused connection is retried from 50 ms, and restarts come from the fleet.
    pub supervised: bool,
    health: Health,
}

/// Padded to a cache line of its own: two cores count here for every request.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Health {
    in_flight: AtomicU32,
    tunnels: AtomicU32,
    draining: AtomicBool,
    /// Active probes: true until `fails` in a row say otherwise.
    probe_failed: AtomicBool,
    /// Passive: failures within the current `fail_timeout` window, and when that window began (ms).
    fails: AtomicU32,
    fails_since: AtomicU64,
    /// Ejected until this instant (ms on `Clock`); 0 = not.
    ejected_until: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
}

impl Upstream {
    pub fn new(slot: u32, name: u32, label: &str, address: SocketAddr, weight: u32, supervised: bool) -> Arc<Upstream> {
        Arc::new(Upstream {
            slot,
            name,
            label: label.to_owned(),
            address,
            weight: weight.max(1),
            supervised,
            health: Health::default(),
        })
    }

    /// Requests that were sent here and not yet finished; sockets in a tunnel are counted apart.
    pub fn in_flight(&self) -> u32 {
        self.health.in_flight.load(Ordering::SeqCst)
    }

    /// Upgraded connections (WebSocket and the like) open now.
    pub fn tunnels(&self) -> u32 {
        self.health.tunnels.load(Ordering::Relaxed)
    }

    /// Requests ever sent here, and how many of them failed.
    pub fn totals(&self) -> (u64, u64) {
        (self.health.requests.load(Ordering::Relaxed), self.health.failures.load(Ordering::Relaxed))
    }

    /// No new request is sent here; those in flight finish. Not taken back.
    pub fn drain(&self) {
        self.health.draining.store(true, Ordering::SeqCst);
    }

    pub fn is_draining(&self) -> bool {
        self.health.draining.load(Ordering::SeqCst)
    }
}
