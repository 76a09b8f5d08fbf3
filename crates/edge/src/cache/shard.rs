//! One part of the table: resources by key, and the order in which they make room (SIEVE: a hand goes from the oldest
//! to the newest, passes over what was used since it came by, and takes what was not).

use super::counts::Counts;
use super::flight::Flight;
use super::key::Names;
use super::stored::Stored;
use std::collections::HashMap;
use std::sync::Arc;

const NONE: u32 = u32::MAX;
/// Variants of one key. The oldest makes room for one more.
pub const VARIANTS_MAX: usize = 16;
/// Resources the hand passes over at most before it takes one that was used: no look may take long.
const STEPS_MAX: usize = 64;
/// What a resource costs beside its key and its variants: its slot, its place in the map, its counts.
const RESOURCE_BYTES: u64 = 320;

/// All that is stored under one key.
#[derive(Debug)]
pub struct Resource {
    pub key: Arc<[u8]>,
    /// What its variants are told apart by.
    pub names: Names,
    pub variants: Vec<Variant>,
    /// Requests under way for it. While there are any it stays.
    pub flights: Vec<Arc<Flight>>,
    /// Until then nobody waits: the last answer was not to be stored.
    pub passes_until_ms: u64,
    pub counts: Arc<Counts>,
    pub visited: bool,
    newer: u32,
    older: u32,
}

#[derive(Debug)]
pub struct Variant {
    pub selecting: Box<[u8]>,
    pub stored: Arc<Stored>,
}

impl Resource {
    pub fn new(key: Arc<[u8]>, counts: Arc<Counts>) -> Resource {
        Resource {
            key,
            names: Names::from([]),
            variants: Vec::new(),
            flights: Vec::new(),
            passes_until_ms: 0,
            counts,
            visited: false,
            newer: NONE,
            older: NONE,
        }
    }

    pub fn cost(&self) -> u64 {
        base_cost(&self.key) + self.variants.iter().map(|v| v.stored.cost).sum::<u64>()
    }
}

pub fn base_cost(key: &[u8]) -> u64 {
    // The key stands in the map and in the slot, but once in memory.
    RESOURCE_BYTES + key.len() as u64
}

#[derive(Debug)]
pub struct Shard {
    map: HashMap<Arc<[u8]>, u32>,
    slots: Vec<Option<Resource>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    hand: u32,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard { map: HashMap::new(), slots: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE, hand: NONE }
    }
}

impl Shard {
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Slots there are, used or not: the bound of a walk over all.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    pub fn slot(&mut self, index: usize) -> Option<&mut Resource> {
        self.slots.get_mut(index)?.as_mut()
    }

    pub fn find(&mut self, key: &[u8]) -> Option<&mut Resource> {
        let index = *self.map.get(key)?;
        self.at(index)
    }

    fn at(&mut self, index: u32) -> Option<&mut Resource> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// The key must not be there.
    pub fn insert(&mut self, mut resource: Resource) -> Option<&mut Resource> {
        resource.older = self.newest;
        resource.newer = NONE;
        let key = resource.key.clone();
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(resource);
                index
            }
            None => {
                self.slots.push(Some(resource));
                // Far fewer fit into memory.
                (self.slots.len() - 1) as u32
            }
        };
        let newest = self.newest;
        match self.at(newest) {
            Some(previous) => previous.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.map.insert(key, index);
        self.at(index)
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Resource> {
        let index = self.map.remove(key)?;
        let resource = self.slots.get_mut(index as usize)?.take()?;
        if self.hand == index {
            self.hand = resource.newer;
        }
        match self.at(resource.older) {
            Some(older) => older.newer = resource.newer,
            None => self.oldest = resource.newer,
        }
        match self.at(resource.newer) {
            Some(newer) => newer.older = resource.older,
            None => self.newest = resource.older,
        }
        self.free.push(index);
        Some(resource)
    }

    /// Takes one out to make room. `None`: there is none, or all that were looked at are in use.
    pub fn evict(&mut self) -> Option<Resource> {
        let mut found = None;
        for step in 0..STEPS_MAX {
            let index = if self.hand == NONE { self.oldest } else { self.hand };
            let last = step + 1 == STEPS_MAX;
            let resource = self.at(index)?;
            self.hand = {
                let used = std::mem::take(&mut resource.visited);
                if resource.flights.is_empty() && (!used || last) {
                    found = Some(resource.key.clone());
                }
                resource.newer
            };
            if found.is_some() {
                break;
            }
        }
        self.remove(&found?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    fn put(shard: &mut Shard, name: u64) {
        let key: Arc<[u8]> = name.to_string().into_bytes().into();
        shard.insert(Resource::new(key, Arc::default()));
    }

    fn ask(shard: &mut Shard, name: u64) -> bool {
        match shard.find(name.to_string().as_bytes()) {
            Some(resource) => {
                resource.visited = true;
                true
            }
            None => false,
        }
    }

    proptest! {
        /// Against a map: what was put and not taken out is there, and the chain holds each once.
        #[test]
        fn behaves_as_a_map_that_forgets(ops in prop::collection::vec((0..4u8, 0..20u64), 0..200)) {
            let mut shard = Shard::default();
            let mut model: BTreeMap<u64, ()> = BTreeMap::new();
            for (op, name) in ops {
                match op {
                    0 => {
                        let there = shard.remove(name.to_string().as_bytes()).is_some();
                        prop_assert_eq!(there, model.remove(&name).is_some());
                    }
                    1 => match shard.evict() {
                        Some(gone) => {
                            let name = String::from_utf8_lossy(&gone.key).parse::<u64>().expect("a number");
                            prop_assert!(model.remove(&name).is_some());
                        }
                        None => prop_assert!(model.is_empty()),
                    },
                    2 => prop_assert_eq!(ask(&mut shard, name), model.contains_key(&name)),
                    _ => {
                        if model.insert(name, ()).is_none() {
                            put(&mut shard, name);
                        }
                    }
                }
                prop_assert_eq!(shard.len(), model.len());
                let mut seen = 0;
                let mut index = shard.oldest;
                while let Some(resource) = shard.at(index) {
                    seen += 1;
                    index = resource.newer;
                }
                prop_assert_eq!(seen, model.len());
            }
        }
    }

    #[test]
    fn what_is_under_way_stays() {
        let mut shard = Shard::default();
        put(&mut shard, 1);
        shard.find(b"1").expect("there").flights.push(Flight::new(None));
        assert!(shard.evict().is_none());
        put(&mut shard, 2);
        assert_eq!(&*shard.evict().expect("one").key, b"2");
    }

    /// A sequence as caches see them: a few keys asked for often, many once, and a crawler that walks over all.
    fn requests() -> Vec<u64> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let mut all = Vec::new();
        for i in 0..200_000u64 {
            // About Zipf's law: the logarithm of the rank is even.
            let rank = ((next() % 10_000) as f64 / 10_000.0 * (20_000f64).ln()).exp() as u64;
            all.push(rank);
            if i % 4 == 0 {
                all.push(1_000_000 + i / 4 % 30_000);
            }
        }
        all
    }

    #[test]
    fn it_keeps_more_of_what_is_asked_for_than_first_in_first_out_and_least_recently_used() {
        const ROOM: usize = 1000;
        let (mut sieve, mut fifo, mut lru) = (0u32, 0u32, 0u32);
        let mut shard = Shard::default();
        let mut queue: VecDeque<u64> = VecDeque::new();
        let mut in_queue = std::collections::HashSet::new();
        let (mut times, mut by_time) = (std::collections::HashMap::new(), BTreeMap::new());
        for (now, name) in requests().into_iter().enumerate() {
            match ask(&mut shard, name) {
                true => sieve += 1,
                false => {
                    if shard.len() == ROOM {
                        shard.evict();
                    }
                    put(&mut shard, name);
                }
            }
            if in_queue.contains(&name) {
                fifo += 1;
            } else {
                if queue.len() == ROOM {
                    in_queue.remove(&queue.pop_front().expect("one"));
                }
                queue.push_back(name);
                in_queue.insert(name);
            }
            match times.insert(name, now) {
                Some(before) => {
                    lru += 1;
                    by_time.remove(&before);
                }
                None if times.len() > ROOM => {
                    let (_, oldest) = by_time.pop_first().expect("one");
                    times.remove(&oldest);
                }
                None => {}
            }
            by_time.insert(now, name);
        }
        println!("hits of 250,000: sieve {sieve}, lru {lru}, fifo {fifo}");
        assert!(sieve > lru && lru > fifo, "sieve {sieve}, lru {lru}, fifo {fifo}");
    }
}
