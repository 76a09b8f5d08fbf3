//! The table of stored answers, shared by all cores: in shards, each locked for the time of a few steps and never for
//! a walk over all.
//!
//! Invariant: what is stored, and what is being collected to be stored, never takes more than `size` bytes together.

use super::counts::{AllCounts, Counts, add};
use super::flight::{End, Flight, Flying, Waiting};
use super::key::{Names, parse, selecting};
use super::purge::What;
use super::shard::{Resource, Shard, VARIANTS_MAX, Variant, base_cost};
use super::stored::Stored;
use crate::fields::Fields;
use mainstay_runtime::Clock;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;
/// Resources taken out in one look at a shard.
const EVICTED_A_LOOK_MAX: usize = 16;
/// Looks for room before an answer is not stored.
const LOOKS_MAX: usize = 4096;
/// Share of the room that answers on their way may take: a flood of large ones does not empty the cache.
const COLLECTING_SHARE: u64 = 4;
/// After an answer that was not to be stored nobody waits for its key this long.
const PASSES_MS: u64 = 10_000;
/// Slots looked at in one look of a walk over all.
const WALKED_A_LOOK: usize = 64;

#[derive(Debug)]
pub struct Store {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    size: AtomicU64,
    object: AtomicU64,
    used: AtomicU64,
    collecting: AtomicU64,
    /// Where room is looked for next.
    next: AtomicUsize,
    /// What set off before the last purge is not stored after it.
    purged_ms: AtomicU64,
    pub counts: AllCounts,
}

/// What a look found.
#[derive(Debug)]
pub enum Found {
    Stored(Arc<Stored>),
    /// The key is known, but not for such a request.
    OtherVariant,
    Nothing,
}

/// Who asks the app.
#[derive(Debug)]
pub enum Entered {
    /// We do.
    Fly(Flying),
    /// Somebody does already.
    Wait(Waiting),
    /// We do, and what comes is not stored.
    Alone,
    /// Something was stored since we looked.
    Again,
}

/// Room that was set aside for an answer on its way; given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    store: Arc<Store>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.store.used.fetch_sub(self.bytes, SeqCst);
        self.store.collecting.fetch_sub(self.bytes, SeqCst);
    }
}

impl Reserved {
    /// Makes it `bytes` in all; false if there is no room for more.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let granted = more == 0 || self.store.reserve_bytes(more);
        if granted {
            self.bytes += more;
        }
        granted
    }

    /// It belongs to what was stored from now on; what is too much of it goes back.
    fn keep(mut self, bytes: u64) {
        let kept = bytes.min(self.bytes);
        self.store.collecting.fetch_sub(kept, SeqCst);
        self.bytes -= kept;
    }
}

/// An answer that may be stored.
#[derive(Debug)]
pub struct Fresh {
    pub stored: Stored,
    pub names: Names,
    pub selecting: Box<[u8]>,
    pub begun_ms: u64,
}

/// The cache as `status` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub size: u64,
    pub used: u64,
    pub entries: usize,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            shards: Default::default(),
            hasher: RandomState::new(),
            size: AtomicU64::new(0),
            object: AtomicU64::new(0),
            used: AtomicU64::new(0),
            collecting: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            purged_ms: AtomicU64::new(0),
            counts: AllCounts::default(),
        }
    }
}

impl Store {
    /// Takes what is too much out at once; for the control thread.
    pub fn resize(&self, size: u64, object: u64) {
        self.size.store(size, SeqCst);
        self.object.store(object, SeqCst);
        for _ in 0..LOOKS_MAX {
            if self.used.load(SeqCst) <= size || !self.make_room() {
                break;
            }
        }
    }

    /// Largest body that is stored.
    pub fn object_max(&self) -> u64 {
        self.object.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.used.load(Relaxed) == 0
    }

    pub fn look(&self, key: &[u8], asked: &Fields, scratch: &mut Vec<u8>) -> Found {
        let mut shard = self.shard(key);
        let Some(resource) = shard.find(key) else { return Found::Nothing };
        if resource.variants.is_empty() {
            return Found::Nothing;
        }
        match variant(resource, asked, scratch) {
            Some(stored) => {
                resource.visited = true;
                Found::Stored(stored)
            }
            None => Found::OtherVariant,
        }
    }

    /// Takes the lead for this key, or a place among those that wait. `seen`: what a look found; `lead`, `wait`: what
    /// this request may do.
    pub fn enter(self: &Arc<Store>, key: &[u8], asked: &Fields, entry: Entry<'_>, scratch: &mut Vec<u8>) -> Entered {
        if entry.lead && !self.hold_place(key, entry.counts) {
            return Entered::Alone;
        }
        let mut shard = self.shard(key);
        let Some(resource) = shard.find(key) else { return Entered::Alone };
        let now = variant(resource, asked, scratch);
        let same = match (&now, entry.seen) {
            (Some(now), Some(seen)) => Arc::ptr_eq(now, seen),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if !same {
            return Entered::Again;
        }
        let told_apart = (!resource.variants.is_empty()).then_some(&scratch[..]);
        let concerns = |flight: &&Arc<Flight>| match (&flight.selecting, told_apart) {
            (Some(theirs), Some(ours)) => **theirs == *ours,
            _ => true,
        };
        match resource.flights.iter().find(concerns) {
            Some(flight) if entry.wait && resource.passes_until_ms <= entry.now_ms => {
                flight.join().map_or(Entered::Alone, Entered::Wait)
            }
            Some(_) => Entered::Alone,
            None if entry.spare && resource.passes_until_ms > entry.now_ms => Entered::Alone,
            None if entry.lead => {
                let flight = Flight::new(told_apart);
                resource.flights.push(flight.clone());
                Entered::Fly(Flying::new(self.clone(), resource.key.clone(), flight))
            }
            None => Entered::Alone,
        }
    }

    /// A resource for this key, made where there is none; false if there is no room.
    fn hold_place(self: &Arc<Store>, key: &[u8], counts: &Arc<Counts>) -> bool {
        if self.shard(key).find(key).is_some() {
            return true;
        }
        let cost = base_cost(key);
        let Some(reserved) = self.reserve(cost) else { return false };
        let mut shard = self.shard(key);
        if shard.find(key).is_none() {
            shard.insert(Resource::new(key.into(), counts.clone()));
            count_in(counts, cost);
            drop(shard);
            reserved.keep(cost);
        }
        true
    }

    /// Sets room aside for an answer. `None`: there is none.
    pub fn reserve(self: &Arc<Store>, bytes: u64) -> Option<Reserved> {
        self.reserve_bytes(bytes).then(|| Reserved { store: self.clone(), bytes })
    }

    fn reserve_bytes(&self, bytes: u64) -> bool {
        let size = self.size.load(SeqCst);
        if self.collecting.fetch_add(bytes, SeqCst) + bytes > size / COLLECTING_SHARE {
            self.collecting.fetch_sub(bytes, SeqCst);
            return false;
        }
        for _ in 0..LOOKS_MAX {
            let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= size);
            if self.used.fetch_update(SeqCst, SeqCst, fits).is_ok() {
                return true;
            }
            if !self.make_room() {
                break;
            }
        }
        self.collecting.fetch_sub(bytes, SeqCst);
        false
    }

    /// Takes a few resources out of one shard; false if no shard has any that can go.
    fn make_room(&self) -> bool {
        for _ in 0..SHARDS {
            let turn = self.next.fetch_add(1, Relaxed) % SHARDS;
            let mut gone = Vec::with_capacity(EVICTED_A_LOOK_MAX);
            {
                let mut shard = lock(&self.shards[turn]);
                // The half that is newer stays in this look, however few there are.
                let most = shard.len().div_ceil(2).min(EVICTED_A_LOOK_MAX);
                gone.extend(std::iter::from_fn(|| shard.evict()).take(most));
            }
            if gone.is_empty() {
                continue;
            }
            for resource in &gone {
                add(&resource.counts.evicted);
                self.left(resource);
            }
            return true;
        }
        false
    }

    /// Counts a resource out that is in no shard any more.
    fn left(&self, resource: &Resource) {
        let cost = resource.cost();
        self.used.fetch_sub(cost, SeqCst);
        resource.counts.bytes.fetch_sub(cost, Relaxed);
        resource.counts.entries.fetch_sub(1, Relaxed);
    }

    /// Stores what a flight brought; true if it was.
    pub fn insert(&self, flying: &Flying, fresh: Fresh, reserved: Reserved) -> bool {
        let cost = fresh.stored.cost;
        let late = flying.flight.is_tainted() || fresh.begun_ms <= self.purged_ms.load(SeqCst);
        if late || cost > reserved.bytes {
            return false;
        }
        let (mut gone, mut freed) = (Vec::new(), 0);
        let mut shard = self.shard(&flying.key);
        let Some(resource) = shard.find(&flying.key) else { return false };
        // Looked at again under the lock: who taints holds it.
        if flying.flight.is_tainted() {
            return false;
        }
        if resource.names != fresh.names {
            gone.append(&mut resource.variants);
            resource.names = fresh.names;
        }
        let same = resource.variants.iter().position(|v| v.selecting == fresh.selecting);
        if let Some(at) = same.or((resource.variants.len() >= VARIANTS_MAX).then_some(0)) {
            gone.push(resource.variants.remove(at));
        }
        resource.variants.push(Variant { selecting: fresh.selecting, stored: Arc::new(fresh.stored) });
        resource.passes_until_ms = 0;
        freed += gone.iter().map(|v| v.stored.cost).sum::<u64>();
        let counts = resource.counts.clone();
        drop(shard);
        counts.bytes.fetch_add(cost, Relaxed);
        counts.bytes.fetch_sub(freed, Relaxed);
        add(&counts.stored);
        self.used.fetch_sub(freed, SeqCst);
        reserved.keep(cost);
        true
    }

    /// A flight is over.
    pub fn landed(&self, key: &[u8], flight: &Arc<Flight>, end: End, now_ms: u64) {
        let mut shard = self.shard(key);
        let Some(resource) = shard.find(key) else { return };
        resource.flights.retain(|f| !Arc::ptr_eq(f, flight));
        if end == End::GoOn {
            resource.passes_until_ms = now_ms + PASSES_MS;
        } else if resource.variants.is_empty() && resource.flights.is_empty() {
            let gone = shard.remove(key);
            drop(shard);
            gone.iter().for_each(|resource| self.left(resource));
        }
    }

    /// A flight took too long: what it brings is not stored, somebody else may lead, and for a while nobody waits.
    pub fn overtake(&self, key: &[u8], flight: &Arc<Flight>, now_ms: u64) {
        if let Some(resource) = self.shard(key).find(key) {
            flight.taint();
            resource.flights.retain(|f| !Arc::ptr_eq(f, flight));
            resource.passes_until_ms = now_ms + PASSES_MS;
        }
    }

    /// The app changed what is behind this key, or says that what is stored is wrong.
    pub fn invalidate(&self, key: &[u8]) {
        let gone = {
            let mut shard = self.shard(key);
            let Some(resource) = shard.find(key) else { return };
            resource.flights.iter().for_each(|flight| flight.taint());
            match resource.flights.is_empty() {
                true => shard.remove(key),
                false => {
                    let variants = std::mem::take(&mut resource.variants);
                    let counts = resource.counts.clone();
                    drop(shard);
                    let cost = variants.iter().map(|v| v.stored.cost).sum();
                    self.used.fetch_sub(cost, SeqCst);
                    counts.bytes.fetch_sub(cost, Relaxed);
                    None
                }
            }
        };
        if let Some(resource) = gone {
            self.left(&resource);
        }
    }

    /// Takes out all that `what` names; the number of stored answers that went. For the control thread.
    pub fn purge(&self, what: &What) -> usize {
        self.purged_ms.fetch_max(Clock::now().0, SeqCst);
        let mut purged = 0;
        for shard in &self.shards {
            let mut from = 0;
            loop {
                let (gone, walked) = self.purge_some(shard, from, what);
                purged += gone;
                if walked == 0 {
                    break;
                }
                from += walked;
            }
        }
        purged
    }

    fn purge_some(&self, shard: &Mutex<Shard>, from: usize, what: &What) -> (usize, usize) {
        let mut shard = lock(shard);
        let to = shard.slots().min(from + WALKED_A_LOOK);
        let mut keys = Vec::new();
        for index in from..to {
            let Some(resource) = shard.slot(index) else { continue };
            let hit = match what {
                What::Tag(tag) => resource.variants.iter().any(|v| v.stored.tags.iter().any(|t| **t == **tag)),
                other => other.names(&parse(&resource.key)),
            };
            if hit {
                keys.push((resource.key.clone(), resource.variants.len()));
            }
        }
        drop(shard);
        keys.iter().for_each(|(key, _)| self.invalidate(key));
        (keys.iter().map(|(_, variants)| variants).sum(), to - from)
    }

    pub fn totals(&self) -> Totals {
        let entries = self.shards.iter().map(|shard| lock(shard).len()).sum();
        Totals { size: self.size.load(Relaxed), used: self.used.load(Relaxed), entries }
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(self.hasher.hash_one(key) % SHARDS as u64) as usize])
    }
}

/// What a request may do where nothing that it can use is stored.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub seen: Option<&'a Arc<Stored>>,
    pub lead: bool,
    pub wait: bool,
    /// Nobody waits for it: not at all where the last try came to nothing.
    pub spare: bool,
    pub now_ms: u64,
    pub counts: &'a Arc<Counts>,
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The variant for such a request; `scratch` holds what it is told apart by.
fn variant(resource: &Resource, asked: &Fields, scratch: &mut Vec<u8>) -> Option<Arc<Stored>> {
    selecting(scratch, &resource.names, asked);
    resource.variants.iter().find(|v| *v.selecting == scratch[..]).map(|v| v.stored.clone())
}

fn count_in(counts: &Counts, cost: u64) {
    counts.bytes.fetch_add(cost, Relaxed);
    add(&counts.entries);
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
