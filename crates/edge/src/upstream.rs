//! Upstreams: the addresses an app is served from, and what is known about each right now.
//!
//! The table is shared by all cores and the control thread; everything in it is an atomic, so that no core
//! waits for another.

use crate::balance::{Candidate, hash_bytes};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// First pause after a supervised instance refused a connection: it is restarting, and soon there.
const REFUSED_PAUSE_FIRST_MS: u64 = 50;

/// One address. Lives as long as anybody still talks to it, through any number of reloads.
#[derive(Debug)]
pub struct Upstream {
    /// Unique in this process, never used twice: the key of each core's connection pool.
    pub slot: u32,
    /// Name in `telemetry::Names`, as `main.1` or `api 10.0.0.1:3000`.
    pub name: u32,
    pub label: String,
    pub address: SocketAddr,
    weight: AtomicU32,
    /// A child of ours: a refused connection is retried from 50 ms, and restarts come from the fleet.
    pub supervised: bool,
    key: u64,
    /// What readiness adopted; asked by the active checks.
    probe_path: OnceLock<String>,
    health: Health,
}

/// Padded to cache lines of its own: every core counts here for every request.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Health {
    in_flight: AtomicU32,
    tunnels: AtomicU32,
    sockets: AtomicU32,
    draining: AtomicBool,
    probe_failed: AtomicBool,
    fails: AtomicU32,
    fails_since_ms: AtomicU64,
    /// 0 = not ejected.
    ejected_until_ms: AtomicU64,
    refusals: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
}

/// When failed requests take an upstream out (nginx's `max_fails` and `fail_timeout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// 0 = never.
    pub max_fails: u32,
    pub fail_timeout: Duration,
}

/// A request on its way to an upstream; counted until dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Upstream>);

impl InFlight {
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.health.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An upgraded connection; counted until dropped.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Arc<Upstream>,
    socket: bool,
}

impl Tunnel {
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// A WebSocket, which can be told to close.
    pub fn is_socket(&self) -> bool {
        self.socket
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.upstream.health.tunnels.fetch_sub(1, Ordering::Relaxed);
        if self.socket {
            self.upstream.health.sockets.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Upstream {
    pub fn new(slot: u32, name: u32, label: &str, address: SocketAddr, weight: u32, supervised: bool) -> Arc<Upstream> {
        Arc::new(Upstream {
            slot,
            name,
            label: label.to_owned(),
            address,
            weight: AtomicU32::new(weight.max(1)),
            supervised,
            // Of the label for a child, whose port changes at each start; of the address for the others.
            key: if supervised { hash_bytes(label.as_bytes()) } else { hash_bytes(address.to_string().as_bytes()) },
            probe_path: OnceLock::new(),
            health: Health::default(),
        })
    }

    /// Counts a request in, unless the upstream drains: whoever waits for `in_flight() == 0` after `drain()`
    /// misses none, because the count is raised before the flag is read.
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        self.health.in_flight.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(self.clone());
        if self.is_draining() {
            return None;
        }
        self.health.requests.fetch_add(1, Ordering::Relaxed);
        Some(guard)
    }

    pub fn tunnel(self: &Arc<Self>, socket: bool) -> Tunnel {
        self.health.tunnels.fetch_add(1, Ordering::Relaxed);
        if socket {
            self.health.sockets.fetch_add(1, Ordering::SeqCst);
        }
        Tunnel { upstream: self.clone(), socket }
    }

    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Counts from the next choice on; what is under way is not touched.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.max(1), Ordering::Relaxed);
    }

    /// Requests that were sent here and not yet finished; sockets in a tunnel are counted apart.
    pub fn in_flight(&self) -> u32 {
        self.health.in_flight.load(Ordering::SeqCst)
    }

    /// Upgraded connections (WebSocket and the like) open now.
    pub fn tunnels(&self) -> u32 {
        self.health.tunnels.load(Ordering::Relaxed)
    }

    /// WebSockets among them: a drain closes these, and waits until they are.
    pub fn sockets(&self) -> u32 {
        self.health.sockets.load(Ordering::SeqCst)
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

    /// The health path that readiness found; the first word stands.
    pub fn adopt_probe_path(&self, path: &str) {
        let _ = self.probe_path.set(path.to_owned());
    }

    pub fn probe_path(&self) -> Option<&str> {
        self.probe_path.get().map(String::as_str)
    }

    /// What the active probe found; true from the first.
    pub fn set_probe(&self, healthy: bool) {
        self.health.probe_failed.store(!healthy, Ordering::Relaxed);
    }

    pub fn is_probe_failed(&self) -> bool {
        self.health.probe_failed.load(Ordering::Relaxed)
    }

    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.health.ejected_until_ms.load(Ordering::Relaxed) > now_ms
    }

    pub fn candidate(&self, now_ms: u64) -> Candidate {
        Candidate {
            weight: self.weight(),
            in_flight: self.in_flight(),
            available: !self.is_draining() && !self.is_probe_failed() && !self.is_ejected(now_ms),
            key: self.key,
        }
    }

    pub fn succeeded(&self) {
        // A plain load first: the line stays shared between the cores while all is well.
        if self.health.fails.load(Ordering::Relaxed) != 0 {
            self.health.fails.store(0, Ordering::Relaxed);
        }
        if self.health.refusals.load(Ordering::Relaxed) != 0 {
            self.health.refusals.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure; true if it took the upstream out just now.
    pub fn failed(&self, now_ms: u64, passive: Passive) -> bool {
        self.health.failures.fetch_add(1, Ordering::Relaxed);
        if passive.max_fails == 0 {
            return false;
        }
        let window_ms = millis(passive.fail_timeout);
        if now_ms.saturating_sub(self.health.fails_since_ms.load(Ordering::Relaxed)) > window_ms {
            self.health.fails_since_ms.store(now_ms, Ordering::Relaxed);
            self.health.fails.store(0, Ordering::Relaxed);
        }
        if self.health.fails.fetch_add(1, Ordering::Relaxed) + 1 < passive.max_fails {
            return false;
        }
        self.health.fails.store(0, Ordering::Relaxed);
        let until = now_ms + window_ms;
        self.health.ejected_until_ms.swap(until, Ordering::Relaxed) <= now_ms
    }

    /// A supervised instance refused the connection: pause from 50 ms, doubling up to `fail_timeout`.
    pub fn refused(&self, now_ms: u64, passive: Passive) {
        self.health.failures.fetch_add(1, Ordering::Relaxed);
        let doublings = self.health.refusals.fetch_add(1, Ordering::Relaxed).min(10);
        let pause = (REFUSED_PAUSE_FIRST_MS << doublings).min(millis(passive.fail_timeout).max(REFUSED_PAUSE_FIRST_MS));
        self.health.ejected_until_ms.fetch_max(now_ms + pause, Ordering::Relaxed);
    }

    /// Back at once, as an active probe that passes decides.
    pub fn readmit(&self) {
        self.health.ejected_until_ms.store(0, Ordering::Relaxed);
        self.succeeded();
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSIVE: Passive = Passive { max_fails: 3, fail_timeout: Duration::from_secs(30) };

    fn upstream(supervised: bool) -> Arc<Upstream> {
        Upstream::new(1, 0, "main.1", ([127, 0, 0, 1], 3000).into(), 1, supervised)
    }

    #[test]
    fn three_failures_within_the_window_eject_for_its_length() {
        let u = upstream(false);
        assert!(!u.failed(1_000, PASSIVE));
        assert!(!u.failed(2_000, PASSIVE));
        assert!(u.failed(3_000, PASSIVE));
        assert!(u.is_ejected(32_999) && !u.is_ejected(33_000));
    }

    #[test]
    fn failures_far_apart_or_with_a_success_between_do_not_eject() {
        let u = upstream(false);
        for now in [1_000, 40_000, 80_000, 120_000] {
            assert!(!u.failed(now, PASSIVE));
        }
        u.failed(120_001, PASSIVE);
        u.succeeded();
        assert!(!u.failed(120_002, PASSIVE));
        let never = Passive { max_fails: 0, ..PASSIVE };
        assert!((0..100).all(|i| !u.failed(200_000 + i, never)));
    }

    #[test]
    fn a_child_that_refuses_is_asked_again_from_50_ms() {
        let u = upstream(true);
        u.refused(1_000, PASSIVE);
        assert!(u.is_ejected(1_049) && !u.is_ejected(1_050));
        u.refused(1_050, PASSIVE);
        assert!(u.is_ejected(1_149) && !u.is_ejected(1_150));
        u.succeeded();
        u.refused(2_000, PASSIVE);
        assert!(!u.is_ejected(2_050));
    }

    #[test]
    fn a_draining_upstream_takes_nothing_new_and_counts_what_it_has() {
        let u = upstream(true);
        let one = u.begin().expect("open");
        u.drain();
        assert!(u.begin().is_none());
        assert_eq!(u.in_flight(), 1);
        drop(one);
        assert_eq!(u.in_flight(), 0);
    }
}
