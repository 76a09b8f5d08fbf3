//! The sessions this node has seen lately, for the cores: a lookup instead of a question to a store.
//!
//! Sharded, each lock held for one lookup; two generations a shard, so that nobody can make it grow and what is used
//! stays. What falls out of it is still in the store.

use super::id::Hash;
use super::policy::{Age, Policy};
use super::session::{Session, Stored};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;
/// Sessions of a generation of a shard: 65,536 in all, some 40 MiB at 600 bytes each.
const GENERATION_MAX: usize = 2048;

#[derive(Debug, Default)]
pub(crate) struct Table {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Hash, State>,
    old: HashMap<Hash, State>,
}

#[derive(Debug, Clone)]
enum State {
    /// Kept, so that an answer of a store that was on its way meanwhile does not bring it back.
    Ended,
    Lives(Held),
}

#[derive(Debug, Clone)]
struct Held {
    session: Arc<Session>,
    seen_s: u64,
    /// On the monotonic clock: when a store last said that it lives. `None`: it is to be asked again.
    told_ms: Option<u64>,
}

/// What is known here of a session.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    Nothing,
    Ended,
    /// A store said so a while ago: it is to be asked, and this is what counts if it does not answer.
    Stale(Arc<Session>),
    /// `due`: it is to be written down that it was used; said once.
    Here {
        session: Arc<Session>,
        due: bool,
    },
}

impl Table {
    /// `fresh_ms`: so long a store's word counts; `None`: for ever, nobody else changes it.
    pub fn look(&self, hash: Hash, policy: &Policy, now_s: u64, now_ms: u64, fresh_ms: Option<u64>) -> Known {
        let mut shard = self.shard(hash);
        let held = match shard.find(hash) {
            None => return Known::Nothing,
            Some(State::Ended) => return Known::Ended,
            Some(State::Lives(held)) => held,
        };
        let age = policy.age(held.session.begun_s, held.seen_s, now_s);
        if age == Age::Over {
            // Elsewhere it may have been used since: the store says.
            shard.young.remove(&hash);
            return Known::Nothing;
        }
        let is_fresh = |fresh_ms| held.told_ms.is_some_and(|told_ms| now_ms.saturating_sub(told_ms) < fresh_ms);
        if !fresh_ms.is_none_or(is_fresh) {
            return Known::Stale(held.session.clone());
        }
        let due = age == Age::Due;
        if due {
            held.seen_s = now_s;
        }
        Known::Here { session: held.session.clone(), due }
    }

    /// What a store says. Gives it as it is kept; `None`: it has ended meanwhile.
    pub fn put(&self, stored: Stored, now_ms: u64) -> Option<Arc<Session>> {
        let hash = stored.session.hash;
        let mut shard = self.shard(hash);
        match shard.find(hash) {
            Some(State::Ended) => None,
            Some(State::Lives(held)) => {
                held.seen_s = held.seen_s.max(stored.seen_s);
                held.told_ms = Some(now_ms);
                if *held.session != stored.session {
                    held.session = Arc::new(stored.session);
                }
                Some(held.session.clone())
            }
            None => {
                let session = Arc::new(stored.session);
                let held = Held { session: session.clone(), seen_s: stored.seen_s, told_ms: Some(now_ms) };
                shard.insert(hash, State::Lives(held));
                Some(session)
            }
        }
    }

    /// It is not known here any more; a store may still know it.
    pub fn remove(&self, hash: Hash) {
        let mut shard = self.shard(hash);
        if let Some(State::Lives(_)) = shard.find(hash) {
            shard.young.remove(&hash);
        }
    }

    /// For good.
    pub fn end(&self, hash: Hash) {
        let mut shard = self.shard(hash);
        shard.old.remove(&hash);
        shard.insert(hash, State::Ended);
    }

    /// All of a user, but one, for good.
    pub fn end_all(&self, user: &str, but: Option<Hash>) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { young, old } = &mut *shard;
            for (hash, state) in young.iter_mut().chain(old.iter_mut()) {
                if matches!(state, State::Lives(held) if held.session.identity.user == user) && Some(*hash) != but {
                    *state = State::Ended;
                }
            }
        }
    }

    /// News may have been missed: every session is asked for again.
    pub fn doubt(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { young, old } = &mut *shard;
            for state in young.values_mut().chain(old.values_mut()) {
                if let State::Lives(held) = state {
                    held.told_ms = None;
                }
            }
        }
    }

    /// What is known of it, however old.
    pub fn peek(&self, hash: Hash) -> Option<Stored> {
        let mut shard = self.shard(hash);
        match shard.find(hash)? {
            State::Lives(held) => Some(Stored { session: (*held.session).clone(), seen_s: held.seen_s }),
            State::Ended => None,
        }
    }

    fn shard(&self, hash: Hash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(hash.0[0]) % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn find(&mut self, hash: Hash) -> Option<&mut State> {
        if !self.young.contains_key(&hash) {
            let state = self.old.remove(&hash)?;
            self.insert(hash, state);
        }
        self.young.get_mut(&hash)
    }

    fn insert(&mut self, hash: Hash, state: State) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, state);
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::plain;
    use super::super::session::of;
    use super::*;

    fn hash(number: u32) -> Hash {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Hash(bytes)
    }

    fn stored(user: &str, number: u32) -> Stored {
        Stored { session: of(user, hash(number), 1000), seen_s: 1000 }
    }

    #[test]
    fn a_session_is_here_until_it_is_stale_over_or_ended() {
        let (table, policy) = (Table::default(), plain());
        let look = |now_s, now_ms| match table.look(hash(1), &policy, now_s, now_ms, Some(5000)) {
            Known::Nothing => "nothing",
            Known::Ended => "ended",
            Known::Stale(_) => "stale",
            Known::Here { due: true, .. } => "due",
            Known::Here { due: false, .. } => "here",
        };
        assert_eq!(look(1000, 10), "nothing");
        table.put(stored("u1", 1), 10);
        assert_eq!(look(1000, 5009), "here");
        assert_eq!(look(1060, 5009), "due");
        assert_eq!(look(1060, 5009), "here", "said once");
        assert_eq!(look(1060, 5010), "stale");
        table.put(stored("u1", 1), 5010);
        assert_eq!(look(1061, 5011), "here", "an older word does not take back that it was used");
        table.doubt();
        assert_eq!(look(1061, 5011), "stale");
        assert!(
            matches!(table.look(hash(1), &policy, 1061, 99_999, None), Known::Here { .. }),
            "nobody else changes it"
        );
        assert_eq!(look(1060 + policy.life_s, 5011), "nothing");
        table.put(stored("u1", 1), 1);
        table.remove(hash(1));
        assert_eq!(look(1000, 1), "nothing");
        table.put(stored("u1", 1), 1);
        table.end(hash(1));
        assert!(table.put(stored("u1", 1), 1).is_none(), "an answer that was on its way");
        table.remove(hash(1));
        assert_eq!(look(1000, 1), "ended");
    }

    #[test]
    fn all_of_a_user_go_but_the_one() {
        let table = Table::default();
        for (user, number) in [("u1", 1), ("u1", 2), ("u2", 3), ("u1", 4)] {
            table.put(stored(user, number), 1);
        }
        table.end_all("u1", Some(hash(2)));
        let left: Vec<u32> = (1..5).filter(|number| table.peek(hash(*number)).is_some()).collect();
        assert_eq!(left, [2, 3]);
    }

    #[test]
    fn nobody_makes_it_grow_and_what_is_used_stays() {
        let table = Table::default();
        table.put(stored("u", 0), 1);
        for number in 1..200_000 {
            table.put(stored("u", number), 1);
            if number % 1000 == 0 {
                assert!(table.peek(hash(0)).is_some(), "{number}");
            }
        }
        let held: usize = table.shards.iter().map(|shard| lock(shard)).map(|s| s.young.len() + s.old.len()).sum();
        assert!(held <= SHARDS * GENERATION_MAX * 2, "{held}");
    }
}
