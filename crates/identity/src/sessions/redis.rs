//! Sessions in Redis: a copy that every node sees, and the word that one has ended.
//!
//! Invariant: what says "ended" is never written over, only outlived.

use super::id::Hash;
use super::kept::Said;
use super::policy::Policy;
use super::session::{Session, Stored};
use mainstay_store::redis::{Error, REQUEST_BUDGET, Redis, Script, Value, cmd};
use std::sync::LazyLock;
use std::time::Duration;

/// Where nodes tell each other of sessions that ended.
pub const CHANNEL: &str = "mainstay:sessions";
const PREFIX: &str = "mainstay:session:";
/// In place of a session that ended.
const ENDED: &str = "-";
/// A logout waits for it so long; after that it is told again by the upkeep.
const TELL_LIMIT: Duration = Duration::from_secs(1);

static FIND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local found = redis.call('GET', KEYS[1])\nif not found then return false end\n\
         return {found, redis.call('TTL', KEYS[1])}",
    )
});

#[derive(Clone)]
pub(crate) struct Shared(Redis);

impl Shared {
    pub fn new(redis: Redis) -> Shared {
        Shared(redis)
    }

    /// One round trip, within what a request may wait.
    pub async fn find(&self, hash: Hash, policy: &Policy, now_s: u64) -> Result<Said, Error> {
        let none: [&str; 0] = [];
        let found = self.0.script(&FIND, &[key(hash)], &none, REQUEST_BUDGET).await?;
        Ok(said(hash, &found, policy, now_s))
    }

    /// Unless there is a word of it already.
    pub async fn put(&self, stored: &Stored, policy: &Policy, now_s: u64) -> Result<(), Error> {
        let left_s = policy.left_s(stored.session.begun_s, stored.seen_s, now_s);
        if left_s == 0 {
            return Ok(());
        }
        let mut set = cmd("SET");
        set.arg(key(stored.session.hash)).arg(stored.session.text()).arg("EX").arg(left_s).arg("NX");
        self.0.ask(&set, TELL_LIMIT).await.map(drop)
    }

    /// It lives on from `seen_s`, if it lives.
    pub async fn seen(&self, hash: Hash, left_s: u64) -> Result<(), Error> {
        let mut expire = cmd("EXPIRE");
        expire.arg(key(hash)).arg(left_s.max(1));
        self.0.ask(&expire, REQUEST_BUDGET).await.map(drop)
    }

    /// Every node hears of it; one that does not now finds it when it asks.
    pub async fn end(&self, hash: Hash, policy: &Policy) -> Result<(), Error> {
        let mut set = cmd("SET");
        set.arg(key(hash)).arg(ENDED).arg("EX").arg(policy.life_s.max(1));
        self.0.ask(&set, TELL_LIMIT).await?;
        let mut publish = cmd("PUBLISH");
        publish.arg(CHANNEL).arg(hash.text());
        self.0.ask(&publish, TELL_LIMIT).await.map(drop)
    }
}

fn key(hash: Hash) -> String {
    format!("{PREFIX}{}", hash.text())
}

/// What the script gave. `EX` tells when it was used last.
fn said(hash: Hash, found: &Value, policy: &Policy, now_s: u64) -> Said {
    let Value::Array(pair) = found else { return Said::Unknown };
    let [Value::BulkString(text), Value::Int(left_s)] = &pair[..] else { return Said::Unknown };
    if text == ENDED.as_bytes() {
        return Said::Ended;
    }
    let session = std::str::from_utf8(text).ok().and_then(|text| Session::parse(hash, text, policy.longest_s));
    let Some(session) = session else { return Said::Unknown };
    let left_s = u64::try_from(*left_s).unwrap_or(0);
    let seen_s = (now_s + left_s).saturating_sub(policy.life_s).clamp(session.begun_s.min(now_s), now_s);
    Said::Lives(Box::new(Stored { session, seen_s }))
}

#[cfg(test)]
mod tests {
    use super::super::policy::plain;
    use super::super::session::of;
    use super::*;
    use crate::sessions::id::Id;

    #[test]
    fn what_redis_holds_is_read_and_rubbish_is_unknown() {
        let (hash, policy) = (Id::random().expect("random bytes").hash(), plain());
        let session = of("u1", hash, 1000);
        let held =
            |text: &str, left_s| Value::Array(vec![Value::BulkString(text.as_bytes().to_vec()), Value::Int(left_s)]);
        let stored = |seen_s| Said::Lives(Box::new(Stored { session: session.clone(), seen_s }));
        assert_eq!(said(hash, &held(&session.text(), 86_400 - 60), &policy, 5000), stored(4940));
        assert_eq!(said(hash, &held(&session.text(), 99_999_999), &policy, 5000), stored(5000), "not from the future");
        assert_eq!(said(hash, &held("-", 9), &policy, 5000), Said::Ended);
        for rubbish in [Value::Nil, Value::Int(1), held("x", 9), Value::Array(Vec::new())] {
            assert_eq!(said(hash, &rubbish, &policy, 5000), Said::Unknown);
        }
    }
}
