//! What was taken back before its time: tokens of a login that ended, and all tokens of a user made before a change.
//!
//! The cores ask at every request with a token of ours, so an answer is a look into a small table. Until the table was
//! read from the store nobody can say that a token still holds, and then nothing else is said.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Some 25 MB. Each lasts no longer than an access token, so this is 200,000 logouts in 15 minutes. Past it nothing
/// that was taken back becomes good again: all tokens made before that second are refused, and each client refreshes
/// once.
pub const REVOKED_MAX: usize = 200_000;
/// What the first requests of a server wait at most.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// So that cores and the service seldom wait for each other.
const SHARDS: usize = 16;

/// One thing that is refused from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revocation {
    /// Tokens of this user from before `generation`.
    User { id: String, generation: i64, until_s: i64 },
    /// Tokens that follow from this login.
    Login { id: String, until_s: i64 },
}

impl Revocation {
    /// After it every token it speaks of has expired anyway.
    pub fn until_s(&self) -> i64 {
        match self {
            Revocation::User { until_s, .. } | Revocation::Login { until_s, .. } => *until_s,
        }
    }
}

/// What one of our access tokens says of its own making.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    pub login: Option<String>,
    pub generation: Option<i64>,
    pub issued_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Good,
    Revoked,
    /// What was revoked is not known here yet.
    Unknown,
}

#[derive(Debug, Default)]
pub struct Revoked {
    is_loaded: AtomicBool,
    /// Nobody waits for it any more: the store is away.
    is_late: AtomicBool,
    changed: Notify,
    entries: AtomicUsize,
    /// Tokens made before it are refused: the table was full then.
    floor_s: AtomicU64,
    shards: [RwLock<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    users: HashMap<String, (i64, i64)>,
    logins: HashMap<String, i64>,
}

impl Shard {
    fn len(&self) -> usize {
        self.users.len() + self.logins.len()
    }
}

impl Revoked {
    /// Whoever keeps what was revoked has said all of it.
    pub fn loaded(&self) {
        self.is_loaded.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// The store cannot be opened for now.
    pub fn is_late(&self) {
        self.is_late.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// It makes sense to wait until all was read.
    pub fn is_awaited(&self) -> bool {
        !self.is_loaded.load(Ordering::Acquire) && !self.is_late.load(Ordering::Acquire)
    }

    /// A server that has just started reads it in a moment; a request can wait that long.
    pub async fn opened(&self) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        // Heard of from here on, so that what happens before the look is not missed.
        changed.as_mut().enable();
        if self.is_awaited() {
            let _ = tokio::time::timeout(OPEN_LIMIT, changed).await;
        }
    }

    pub fn standing(&self, user: &str, stamp: &Stamp) -> Standing {
        if !self.is_loaded.load(Ordering::Acquire) {
            return Standing::Unknown;
        }
        if stamp.issued_s < self.floor_s.load(Ordering::Acquire) {
            return Standing::Revoked;
        }
        if self.entries.load(Ordering::Acquire) == 0 {
            return Standing::Good;
        }
        let user_ended = self.read(user, |shard| {
            shard.users.get(user).is_some_and(|(least, _)| stamp.generation.is_none_or(|own| own < *least))
        });
        let login_ended =
            || stamp.login.as_ref().is_some_and(|login| self.read(login, |shard| shard.logins.contains_key(login)));
        if user_ended || login_ended() { Standing::Revoked } else { Standing::Good }
    }

    pub fn insert(&self, revocation: &Revocation, now_s: u64) {
        if u64::try_from(revocation.until_s()).unwrap_or(0) <= now_s {
            return;
        }
        if self.entries.load(Ordering::Acquire) >= REVOKED_MAX {
            self.forget(now_s);
            if self.entries.load(Ordering::Acquire) >= REVOKED_MAX {
                // What was made in this very second is refused as well: it may be what is taken back.
                self.floor_s.fetch_max(now_s + 1, Ordering::AcqRel);
                self.empty();
            }
        }
        let (Revocation::User { id, .. } | Revocation::Login { id, .. }) = revocation;
        let mut shard = self.shard(id).write().unwrap_or_else(PoisonError::into_inner);
        let before = shard.len();
        match revocation {
            Revocation::User { id, generation, until_s } => {
                let entry = shard.users.entry(id.clone()).or_insert((*generation, *until_s));
                *entry = (entry.0.max(*generation), entry.1.max(*until_s));
            }
            Revocation::Login { id, until_s } => {
                let entry = shard.logins.entry(id.clone()).or_insert(*until_s);
                *entry = (*entry).max(*until_s);
            }
        }
        // Counted before the lock is let go: a core that then looks finds it.
        self.entries.fetch_add(shard.len() - before, Ordering::AcqRel);
    }

    /// Drops what speaks of expired tokens alone.
    pub fn forget(&self, now_s: u64) {
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.users.retain(|_, (_, until_s)| *until_s > now_s);
            shard.logins.retain(|_, until_s| *until_s > now_s);
            self.entries.fetch_sub(before - shard.len(), Ordering::AcqRel);
        }
    }

    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn empty(&self) {
        self.forget(u64::MAX);
    }

    fn read<T>(&self, id: &str, look: impl FnOnce(&Shard) -> T) -> T {
        look(&self.shard(id).read().unwrap_or_else(PoisonError::into_inner))
    }

    fn shard(&self, id: &str) -> &RwLock<Shard> {
        // Ids are random, so their last letters spread well.
        let sum: usize = id.bytes().rev().take(4).map(usize::from).sum();
        &self.shards[sum % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(login: &str, generation: i64) -> Stamp {
        Stamp { login: Some(login.to_owned()), generation: Some(generation), issued_s: 100 }
    }

    fn user(id: &str, generation: i64) -> Revocation {
        Revocation::User { id: id.to_owned(), generation, until_s: 1000 }
    }

    #[test]
    fn a_user_by_generation_a_login_by_its_id_and_nothing_before_all_was_read() {
        let revoked = Revoked::default();
        assert_eq!(revoked.standing("u", &stamp("f", 0)), Standing::Unknown);
        revoked.loaded();
        assert_eq!(revoked.standing("u", &stamp("f", 0)), Standing::Good);
        revoked.insert(&user("u", 2), 100);
        revoked.insert(&user("u", 1), 100);
        for (user, generation, standing) in [
            ("u", Some(0), Standing::Revoked),
            ("u", Some(1), Standing::Revoked),
            ("u", Some(2), Standing::Good),
            ("u", None, Standing::Revoked),
            ("v", Some(0), Standing::Good),
        ] {
            let stamp = Stamp { generation, ..stamp("f", 0) };
            assert_eq!(revoked.standing(user, &stamp), standing, "{user} {generation:?}");
        }
        revoked.insert(&Revocation::Login { id: "f".to_owned(), until_s: 1000 }, 100);
        assert_eq!(revoked.standing("v", &stamp("f", 0)), Standing::Revoked);
        assert_eq!(revoked.standing("v", &stamp("g", 0)), Standing::Good);
        revoked.forget(999);
        assert_eq!(revoked.len(), 2);
        revoked.forget(1000);
        assert!(revoked.is_empty());
        revoked.insert(&user("w", 1), 1000);
        assert!(revoked.is_empty(), "it is over already");
    }

    #[test]
    fn a_full_table_refuses_more_and_never_less() {
        let revoked = Revoked::default();
        revoked.loaded();
        for number in 0..REVOKED_MAX {
            revoked.insert(&user(&format!("u{number}"), 1), 100);
        }
        revoked.insert(&user("one more", 1), 200);
        assert!(revoked.len() <= REVOKED_MAX);
        assert_eq!(revoked.standing("u7", &stamp("f", 0)), Standing::Revoked, "made before it was full");
        assert_eq!(revoked.standing("anybody", &stamp("f", 0)), Standing::Revoked);
        let later = Stamp { issued_s: 201, ..stamp("f", 0) };
        assert_eq!(revoked.standing("anybody", &later), Standing::Good);
        assert_eq!(revoked.standing("one more", &later), Standing::Revoked);
    }
}
