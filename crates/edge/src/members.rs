//! Who serves each app right now: the lists cores choose from, changed by the fleet and by reloads.

use crate::balance::schedule;
use crate::upstream::Upstream;
use arc_swap::ArcSwap;
use mainstay_telemetry::Names;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One app's upstreams, and the turn of its round robin. Kept through reloads.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    /// In `telemetry::Names`.
    pub id: u32,
    list: ArcSwap<List>,
    turn: AtomicUsize,
    /// Told at each change: requests that are held wait for it.
    pub changed: Notify,
    pub held: AtomicU32,
}

/// A list is replaced whole, never changed.
#[derive(Debug, Default)]
pub struct List {
    pub upstreams: Vec<Arc<Upstream>>,
    pub schedule: Vec<u16>,
}

/// An address elsewhere, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub label: String,
    pub address: SocketAddr,
    pub weight: u32,
    /// It finishes what it has and gets nothing new.
    pub drain: bool,
}

/// Every app's group, by name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Members(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Names,
    groups: Mutex<HashMap<String, Arc<Group>>>,
    next_slot: AtomicU32,
}

impl Group {
    pub fn list(&self) -> arc_swap::Guard<Arc<List>> {
        self.list.load()
    }

    pub fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn replace(&self, upstreams: Vec<Arc<Upstream>>) {
        let weights: Vec<u32> = upstreams.iter().map(|u| u.weight()).collect();
        self.list.store(Arc::new(List { upstreams, schedule: schedule(&weights) }));
        self.changed.notify_waiters();
    }
}

impl Members {
    pub fn new(names: Names) -> Members {
        Members(Arc::new(Inner { names, groups: Mutex::default(), next_slot: AtomicU32::new(1) }))
    }

    /// The group of this app, made at its first mention.
    pub fn group(&self, app: &str) -> Arc<Group> {
        let mut groups = lock(&self.0.groups);
        groups
            .entry(app.to_owned())
            .or_insert_with(|| {
                Arc::new(Group {
                    name: app.to_owned(),
                    id: self.0.names.intern(app),
                    list: ArcSwap::default(),
                    turn: AtomicUsize::new(0),
                    changed: Notify::new(),
                    held: AtomicU32::new(0),
                })
            })
            .clone()
    }

    pub fn groups(&self) -> Vec<Arc<Group>> {
        let mut all: Vec<_> = lock(&self.0.groups).values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A supervised instance is ready: it gets requests from now on.
    pub fn join(&self, app: &str, label: &str, address: SocketAddr, weight: u32) -> Arc<Upstream> {
        let upstream = self.make(label, address, weight, true);
        let group = self.group(app);
        let mut upstreams = group.list().upstreams.clone();
        upstreams.push(upstream.clone());
        upstreams.sort_by(|a, b| natural(&a.label).cmp(&natural(&b.label)).then(a.slot.cmp(&b.slot)));
        group.replace(upstreams);
        upstream
    }

    /// Forgets an upstream; each core closes its idle connections to what drains.
    pub fn leave(&self, upstream: &Upstream) {
        upstream.drain();
        for group in self.groups() {
            if group.list().upstreams.iter().any(|u| u.slot == upstream.slot) {
                let rest = group.list().upstreams.iter().filter(|u| u.slot != upstream.slot).cloned().collect();
                group.replace(rest);
            }
        }
    }

    /// Makes these addresses the app's unsupervised upstreams; those that stay keep their state and their sockets.
    pub fn set_addresses(&self, app: &str, wanted: &[Wanted]) {
        let group = self.group(app);
        let old = group.list().upstreams.clone();
        let mut gone: Vec<Arc<Upstream>> = old.iter().filter(|u| !u.supervised).cloned().collect();
        let mut next: Vec<Arc<Upstream>> = old.iter().filter(|u| u.supervised).cloned().collect();
        let mut changed = false;
        for Wanted { label, address, weight, drain } in wanted {
            // A drain is not taken back: one that shall serve again begins anew.
            let is = |u: &Arc<Upstream>| u.address == *address && u.label == *label && (*drain || !u.is_draining());
            let upstream = match gone.iter().position(is) {
                Some(i) => gone.swap_remove(i),
                None => self.make(label, *address, *weight, false),
            };
            changed |= upstream.weight() != *weight || upstream.is_draining() != *drain;
            upstream.set_weight(*weight);
            if *drain {
                upstream.drain();
            }
            next.push(upstream);
        }
        if !changed && gone.is_empty() && next.len() == old.len() {
            return;
        }
        group.replace(next);
        for upstream in gone {
            self.leave(&upstream);
        }
    }

    fn make(&self, label: &str, address: SocketAddr, weight: u32, supervised: bool) -> Arc<Upstream> {
        let slot = self.0.next_slot.fetch_add(1, Ordering::Relaxed);
        Upstream::new(slot, self.0.names.intern(label), label, address, weight, supervised)
    }
}

/// `main.10` after `main.9`.
fn natural(label: &str) -> (&str, u32) {
    match label.rsplit_once('.') {
        Some((app, number)) => (app, number.parse().unwrap_or(u32::MAX)),
        None => (label, 0),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(group: &Group) -> Vec<String> {
        group.list().upstreams.iter().map(|u| u.label.clone()).collect()
    }

    #[test]
    fn members_join_in_order_and_leave_at_once() {
        let members = Members::new(Names::default());
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let ten = members.join("main", "main.10", at(1), 1);
        members.join("main", "main.9", at(2), 1);
        let group = members.group("main");
        assert_eq!(labels(&group), ["main.9", "main.10"]);
        members.leave(&ten);
        assert_eq!(labels(&group), ["main.9"]);
        assert!(ten.is_draining());
    }

    #[test]
    fn addresses_that_stay_keep_their_state() {
        let members = Members::new(Names::default());
        let at = |port: u16| Wanted {
            label: "x".to_owned(),
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            weight: 1,
            drain: false,
        };
        members.set_addresses("api", &[at(1), at(2)]);
        let group = members.group("api");
        let first = group.list().upstreams[0].slot;
        members.set_addresses("api", &[at(1), at(3)]);
        assert_eq!(group.list().upstreams[0].slot, first);
        assert_eq!(group.list().upstreams.len(), 2);

        // Another weight is the same upstream; a drain ends it, and coming back is a new beginning.
        members.set_addresses("api", &[Wanted { weight: 5, ..at(1) }, at(3)]);
        assert_eq!((group.list().upstreams[0].slot, group.list().upstreams[0].weight()), (first, 5));
        assert!(!group.list().upstreams[0].is_draining());
        members.set_addresses("api", &[Wanted { drain: true, ..at(1) }, at(3)]);
        assert_eq!(group.list().upstreams[0].slot, first);
        assert!(group.list().upstreams[0].is_draining());
        members.set_addresses("api", &[at(1), at(3)]);
        assert_ne!(group.list().upstreams[0].slot, first);
        assert!(!group.list().upstreams[0].is_draining());
    }
}
