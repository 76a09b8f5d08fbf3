//! Learnt routes: for a path that no configured route names, a pattern with `:id`, within a cap.
//!
//! Invariant: the number of names is bounded whatever clients ask for, and a raw id never becomes one.

use crate::Names;
use crate::pattern::Pattern;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Patterns learnt over all cores; what comes after is `other`. With ten methods and a few statuses each this
/// stays a size Prometheus takes without complaint.
pub const LEARNT_MAX: usize = 500;
/// Of these, patterns seen only with an answer a guard gives before it looks whether the route exists (401 and
/// the like): such answers cost a client nothing, so they may not use up the cap.
pub const GUARDED_MAX: usize = 100;
/// A power of two, at least twice `LEARNT_MAX`, so that probes stay short.
const SLOTS: usize = 1024;

/// What all cores have learnt. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    shared: Arc<Shared>,
    names: Names,
}

#[derive(Debug, Default)]
struct Shared {
    /// Number of patterns, readable without the lock.
    learnt: AtomicU32,
    patterns: Mutex<Patterns>,
}

#[derive(Debug, Default)]
struct Patterns {
    /// Only ever appended to.
    all: Vec<(Arc<str>, u32)>,
    guarded: usize,
}

/// One core's copy, and its way to learn.
#[derive(Debug)]
pub struct Learner {
    routes: Routes,
    slots: Box<[Option<Known>]>,
    copied: u32,
    scratch: Pattern,
}

#[derive(Debug)]
struct Known {
    hash: u64,
    pattern: Arc<str>,
    name: u32,
}

/// What a status says about whether the path is a route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Route,
    /// Answered by a guard, perhaps before any route was looked for.
    Guard,
    None,
}

impl Routes {
    pub fn new(names: Names) -> Routes {
        Routes { shared: Arc::default(), names }
    }

    pub fn learner(&self) -> Learner {
        Learner {
            routes: self.clone(),
            slots: (0..SLOTS).map(|_| None).collect(),
            copied: 0,
            scratch: Pattern::default(),
        }
    }

    /// Patterns learnt so far, for `status` and the console.
    pub fn learnt(&self) -> Vec<Arc<str>> {
        let patterns = self.shared.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        patterns.all.iter().map(|(pattern, _)| pattern.clone()).collect()
    }

    /// O(1) but for names seen the first time; never held across anything that waits.
    fn learn(&self, pattern: &str, evidence: Evidence) {
        let mut patterns = self.shared.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = patterns.all.len() >= LEARNT_MAX;
        let is_guard_full = evidence == Evidence::Guard && patterns.guarded >= GUARDED_MAX;
        if is_full || is_guard_full || patterns.all.iter().any(|(known, _)| &**known == pattern) {
            return;
        }
        let name = self.names.intern(pattern);
        patterns.guarded += usize::from(evidence == Evidence::Guard);
        patterns.all.push((pattern.into(), name));
        self.shared.learnt.store(patterns.all.len() as u32, Ordering::Release);
    }
}

impl Learner {
    /// The name of this path's pattern; `Names::OTHER` if it is not known and this answer does not teach it.
    #[inline]
    pub fn route(&mut self, path: &str, status: u16) -> u32 {
        let Some(pattern) = self.scratch.of(path) else { return Names::OTHER };
        let hash = hash(pattern);
        match known(&self.slots, hash, pattern) {
            Some(name) => name,
            None => self.unknown(hash, status),
        }
    }

    /// The pattern in `scratch` is new to this core.
    #[cold]
    fn unknown(&mut self, hash: u64, status: u16) -> u32 {
        let pattern = String::from_utf8_lossy(self.scratch.last()).into_owned();
        if self.catch_up()
            && let Some(name) = known(&self.slots, hash, pattern.as_bytes())
        {
            return name;
        }
        let evidence = evidence(status);
        if evidence == Evidence::None || self.copied as usize >= LEARNT_MAX {
            return Names::OTHER;
        }
        self.routes.learn(&pattern, evidence);
        self.catch_up();
        known(&self.slots, hash, pattern.as_bytes()).unwrap_or(Names::OTHER)
    }

    /// Copies what other cores have learnt since. Returns whether there was anything.
    fn catch_up(&mut self) -> bool {
        if self.routes.shared.learnt.load(Ordering::Acquire) == self.copied {
            return false;
        }
        let patterns = self.routes.shared.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        for (pattern, name) in &patterns.all[self.copied as usize..] {
            let hash = hash(pattern.as_bytes());
            let mut index = hash as usize & (SLOTS - 1);
            while self.slots[index].is_some() {
                index = (index + 1) & (SLOTS - 1);
            }
            self.slots[index] = Some(Known { hash, pattern: pattern.clone(), name: *name });
        }
        self.copied = patterns.all.len() as u32;
        true
    }
}

#[inline]
fn known(slots: &[Option<Known>], hash: u64, pattern: &[u8]) -> Option<u32> {
    let mut index = hash as usize & (SLOTS - 1);
    while let Some(known) = &slots[index] {
        if known.hash == hash && known.pattern.as_bytes() == pattern {
            return Some(known.name);
        }
        index = (index + 1) & (SLOTS - 1);
    }
    None
}

fn evidence(status: u16) -> Evidence {
    match status {
        // Not there; or cut off by the edge before anything could be known.
        0 | 404 | 410 | 414 | 431 | 499 | 502 | 503 => Evidence::None,
        400 | 401 | 403 | 405 | 408 | 413 | 429 => Evidence::Guard,
        _ => Evidence::Route,
    }
}

/// Eight bytes at a time, one wide multiplication each. The table is capped, so no seed is needed.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let tail = tail.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(state, tail)
}

#[inline]
fn mix(state: u64, word: u64) -> u64 {
    let wide = u128::from(state ^ word ^ 0xe703_7ed1_a0b4_28db) * 0xa076_1d64_78bd_642f_u128;
    wide as u64 ^ (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_what_they_learn() {
        let names = Names::default();
        let routes = Routes::new(names.clone());
        let (mut a, mut b) = (routes.learner(), routes.learner());
        assert_eq!(a.route("/users/7", 404), Names::OTHER);
        let learnt = a.route("/users/7", 200);
        assert_eq!(&*names.get(learnt), "/users/:id");
        assert_eq!(b.route("/users/8", 404), learnt, "known to one core is known to all");
        assert_eq!(b.route("/wp-login.php", 404), Names::OTHER);
        assert_eq!(b.route("/wp-login.php", 503), Names::OTHER);
        assert_eq!(routes.learnt().len(), 1);
    }

    #[test]
    fn the_cap_holds_over_all_cores() {
        let names = Names::default();
        let routes = Routes::new(names.clone());
        let mut learners = [routes.learner(), routes.learner()];
        let word = |i: usize| {
            format!("/w/{}", (0..3).map(|k| (b'a' + (i / 26usize.pow(k) % 26) as u8) as char).collect::<String>())
        };
        for i in 0..2000 {
            learners[i % 2].route(&word(i), 401);
        }
        assert_eq!(routes.learnt().len(), GUARDED_MAX);
        for i in 0..2000 {
            learners[i % 2].route(&word(i), 200);
        }
        assert_eq!(routes.learnt().len(), LEARNT_MAX);
        assert_eq!(learners[0].route("/one/more", 200), Names::OTHER);
        assert_ne!(learners[1].route(&word(3), 404), Names::OTHER);
    }
}
