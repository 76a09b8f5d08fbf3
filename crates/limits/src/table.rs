//! What is known of every client under every limit: one table for all cores, sharded, and bounded whatever comes.
//!
//! Each look holds one shard for a few steps, however many clients there are: its room is taken once, nothing is moved
//! afterwards. A full shard makes room among a few entries: what is over goes first, and of what is not the one that
//! used the least of its limit. So nobody is locked out because others are many, and whoever has used up a limit is
//! forgotten last: to have one counter forgotten an attacker would have to use up as many others.

use crate::window::{self, Decision, Limit, State};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;
/// Clients and limits remembered together: with 100 stamps each about 120 MB, with one each 20 MB.
pub const KEYS_MAX: usize = 256 * 1024;
const KEYS_PER_SHARD_MAX: usize = KEYS_MAX / SHARDS;
/// Chains of a shard; two entries each at most, on average.
const CHAINS: usize = KEYS_PER_SHARD_MAX / 2;
/// Entries looked at where one must make room.
const LOOKED_AT: usize = 8;
/// Entries that a walk through all passes while it holds a shard.
const STEP: usize = 64;
const NONE: u32 = u32::MAX;

/// One client under one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub rule: u32,
    /// As `Subject` makes it.
    pub subject: [u64; 2],
}

#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    /// First entry of each chain; none before the first client.
    chains: Vec<u32>,
    entries: Vec<Entry>,
    /// First free entry, each naming the next.
    free: u32,
    used: usize,
    /// Where the next look for room begins.
    hand: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    next: u32,
    /// `None`: free.
    state: Option<State>,
    over_us: u64,
    /// Share of the limit that is used, of 255.
    share: u8,
}

/// As an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub subject: [u64; 2],
    pub used: u32,
}

impl Default for Table {
    fn default() -> Table {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard { free: NONE, ..Shard::default() })).collect();
        Table { shards, hasher: RandomState::new(), forgotten: AtomicU64::new(0) }
    }
}

impl Table {
    pub fn admit(&self, key: Key, now_us: u64, limit: &Limit) -> Decision {
        let (mut shard, chain) = self.find(key);
        let index = match shard.position(chain, key) {
            Some(index) => index,
            None => {
                let (index, forgot) = shard.add(chain, key, now_us, limit, |key| self.place(key).1);
                self.forgotten.fetch_add(u64::from(forgot), Relaxed);
                index
            }
        };
        shard.entries[index].admit(now_us, limit)
    }

    /// Takes one back that was admitted at `mark_us`.
    pub fn give_back(&self, key: Key, mark_us: u64, limit: &Limit) {
        let (mut shard, chain) = self.find(key);
        if let Some(index) = shard.position(chain, key)
            && let Some(state) = &mut shard.entries[index].state
        {
            window::give_back(mark_us, state, limit);
        }
    }

    /// True if anything was known.
    pub fn forget(&self, key: Key) -> bool {
        let (mut shard, chain) = self.find(key);
        let Some(index) = shard.position(chain, key) else { return false };
        shard.remove(index, chain);
        true
    }

    /// Who has used the most of a rule, at most so many. Looks at everything, a shard after the other.
    pub fn top(&self, rule: u32, now_us: u64, limit: &Limit, most: usize) -> (usize, Vec<Usage>) {
        let (mut all, mut tracked) = (Vec::new(), 0);
        for shard in &self.shards {
            in_steps(shard, |shard, index| {
                let entry = &mut shard.entries[index];
                let Some(state) = entry.state.as_mut().filter(|_| entry.key.rule == rule) else { return };
                let used = state.used(now_us, limit);
                if used > 0 {
                    tracked += 1;
                    all.push(Usage { subject: entry.key.subject, used });
                }
            });
            all.sort_unstable_by(|a, b| b.used.cmp(&a.used).then(a.subject.cmp(&b.subject)));
            all.truncate(most);
        }
        (tracked, all)
    }

    /// Gives back the memory of those who left.
    pub fn sweep(&self, now_us: u64) {
        for shard in &self.shards {
            in_steps(shard, |shard, index| {
                if shard.entries[index].is_over(now_us) {
                    let chain = self.place(shard.entries[index].key).1;
                    shard.remove(index, chain);
                }
            });
        }
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).used).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Clients that were forgotten while they still counted, because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    fn place(&self, key: Key) -> (usize, usize) {
        let hash = self.hasher.hash_one(key) as usize;
        (hash % SHARDS, hash / SHARDS % CHAINS)
    }

    fn find(&self, key: Key) -> (MutexGuard<'_, Shard>, usize) {
        let (shard, chain) = self.place(key);
        (lock(&self.shards[shard]), chain)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every entry, a few while the shard is held: no request waits for a walk through all of them.
fn in_steps(shard: &Mutex<Shard>, mut look: impl FnMut(&mut Shard, usize)) {
    let mut from = 0;
    loop {
        let mut shard = lock(shard);
        let to = (from + STEP).min(shard.entries.len());
        (from..to).for_each(|index| look(&mut shard, index));
        if to == shard.entries.len() {
            return;
        }
        from = to;
    }
}

impl Entry {
    fn admit(&mut self, now_us: u64, limit: &Limit) -> Decision {
        let state = self.state.get_or_insert_with(|| State::new(limit));
        let decision = window::admit(now_us, state, limit);
        self.over_us = state.over_us(limit);
        let used = u64::from(limit.count - decision.remaining.min(limit.count));
        self.share = u8::try_from(used * 255 / u64::from(limit.count.max(1))).unwrap_or(u8::MAX);
        decision
    }

    fn is_over(&self, now_us: u64) -> bool {
        self.state.is_some() && self.over_us <= now_us
    }
}

impl Shard {
    fn position(&self, chain: usize, key: Key) -> Option<usize> {
        let mut index = *self.chains.get(chain)?;
        while index != NONE {
            let entry = &self.entries[index as usize];
            if entry.key == key {
                return Some(index as usize);
            }
            index = entry.next;
        }
        None
    }

    /// Room for a client that is not there yet; `true` if one that still counted made it.
    fn add(
        &mut self,
        chain: usize,
        key: Key,
        now_us: u64,
        limit: &Limit,
        chain_of: impl Fn(Key) -> usize,
    ) -> (usize, bool) {
        if self.chains.is_empty() {
            // Never again: what is not used yet takes no memory.
            self.chains = vec![NONE; CHAINS];
            self.entries.reserve_exact(KEYS_PER_SHARD_MAX);
        }
        let mut forgot = false;
        if self.free == NONE && self.entries.len() >= KEYS_PER_SHARD_MAX {
            let least = self.least(now_us);
            forgot = !self.entries[least].is_over(now_us);
            self.remove(least, chain_of(self.entries[least].key));
        }
        let next = self.chains[chain];
        let state = Some(State::new(limit));
        let entry = Entry { key, next, state, over_us: now_us, share: 0 };
        let index = match self.free {
            NONE => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
            free => {
                let index = free as usize;
                self.free = self.entries[index].next;
                self.entries[index] = entry;
                index
            }
        };
        self.chains[chain] = index as u32;
        self.used += 1;
        (index, forgot)
    }

    /// Whom to forget, of the few the hand points at: one that is over, or the one that used the least. They lie far
    /// apart: neighbours came together, and may have used up their limits together.
    fn least(&mut self, now_us: u64) -> usize {
        let apart = (self.entries.len() / LOOKED_AT).max(1);
        let looked_at = (0..LOOKED_AT).map(|step| (self.hand + step * apart) % self.entries.len());
        let least = looked_at.min_by_key(|&index| {
            let entry = &self.entries[index];
            (!entry.is_over(now_us), entry.share, entry.over_us)
        });
        self.hand = (self.hand + 1) % self.entries.len();
        least.unwrap_or(0)
    }

    fn remove(&mut self, index: usize, chain: usize) {
        let next = self.entries[index].next;
        let mut at = self.chains[chain];
        if at as usize == index {
            self.chains[chain] = next;
        } else {
            while self.entries[at as usize].next as usize != index {
                at = self.entries[at as usize].next;
            }
            self.entries[at as usize].next = next;
        }
        let entry = &mut self.entries[index];
        // Never asked for again under this key.
        entry.state = None;
        entry.next = self.free;
        self.free = index as u32;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { count: 5, window_ms: 60_000, smooth: false };

    fn key(n: u64) -> Key {
        Key { rule: 1, subject: [0, n] }
    }

    #[test]
    fn an_entry_and_its_share_of_the_chains_take_less_than_a_hundred_bytes() {
        let each = size_of::<Entry>() + size_of::<u32>() * CHAINS / KEYS_PER_SHARD_MAX;
        assert!(each <= 100, "{each}");
    }

    #[test]
    fn each_client_has_its_own_and_a_free_place_is_used_again() {
        let table = Table::default();
        for i in 0..1000 {
            (0..5).for_each(|_| assert!(table.admit(key(i), 1, &LIMIT).allowed));
            assert!(!table.admit(key(i), 1, &LIMIT).allowed);
        }
        assert!(table.forget(key(7)) && !table.forget(key(7)));
        assert!(table.admit(key(7), 1, &LIMIT).allowed);
        assert_eq!(table.len(), 1000);
        let (tracked, top) = table.top(1, 1, &LIMIT, 3);
        assert_eq!((tracked, top.len(), top[0].used), (1000, 3, 5));
        assert_eq!(table.top(2, 1, &LIMIT, 3).0, 0);
        table.sweep(59_000_000);
        assert_eq!(table.len(), 1000);
        table.sweep(61_000_000);
        assert!(table.is_empty());
        for i in 0..1000 {
            assert!(table.admit(key(i), 62_000_000, &LIMIT).allowed);
        }
        let held: usize = table.shards.iter().map(|s| lock(s).entries.len()).sum();
        assert_eq!(held, 1000, "free places were not used again");
    }

    #[test]
    fn endless_addresses_neither_grow_it_nor_free_who_used_up_a_limit_nor_lock_out_anybody() {
        let table = Table::default();
        (0..200).for_each(|i| (0..5).for_each(|_| assert!(table.admit(key(i), 1, &LIMIT).allowed)));
        for i in 0..3 * KEYS_MAX as u64 {
            assert!(table.admit(key(1_000_000 + i), 1 + i / 100, &LIMIT).allowed, "{i} is locked out");
        }
        assert!(table.len() <= KEYS_MAX);
        assert!(table.forgotten() >= KEYS_MAX as u64);
        for i in 0..200 {
            assert!(!table.admit(key(i), 10_000, &LIMIT).allowed, "{i} was forgotten");
        }
        // A window later all are over: nobody who counts is forgotten for a new one.
        let before = table.forgotten();
        for i in 0..10_000 {
            table.admit(key(9_000_000 + i), 61_000_000, &LIMIT);
        }
        assert_eq!(table.forgotten(), before);
    }
}
