//! Passwords tried in vain, counted: by this node, and where instances share Redis by all of them together.
//!
//! An attempt takes its place before the password is compared and gives it back if it was right: so a hundred at once
//! are no more than a hundred. Without Redis, and while it is away, what this node has counted decides; it counts
//! beside Redis all the time, so an outage begins with no clean slate.

use super::hourly::{Hourly, WINDOW_S};
use aws_lc_rs::digest::{SHA256, digest};
use mainstay_store::redis::{REQUEST_BUDGET, Redis, Script, Value, cmd};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// ASVS 4.0.3, 2.2.1: at most a hundred failed attempts an hour on one account, of everybody who shows nothing of his.
const STRANGERS_MAX: u32 = 100;
/// Of one browser that was let in before, or of somebody who is in: whoever is that forgetful asks for a mail.
const KNOWN_MAX: u32 = 20;

/// KEYS: the count. ARGV: the most, seconds of its hour. Gives whether there was room, and else the seconds left.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local n = tonumber(redis.call('GET', KEYS[1]) or '0')\n\
         if n >= tonumber(ARGV[1]) then return {0, redis.call('TTL', KEYS[1])} end\n\
         redis.call('INCR', KEYS[1])\n\
         if n == 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end\n\
         return {1, 0}",
    )
});
/// Never below nothing: the hour may be over meanwhile.
static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if tonumber(redis.call('GET', KEYS[1]) or '0') > 0 then return redis.call('DECR', KEYS[1]) end\n\
         return 0",
    )
});

/// Whose attempts are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// All who try this address and show nothing.
    Strangers(String),
    /// A browser that was let into this account before, by its number.
    Device(String),
    /// Somebody who is in already and is asked again, by his id.
    Own(String),
    /// Whoever gave an account's password and is asked for a code: by the account, or by his browser's number where it
    /// was let in before.
    Code(String),
}

impl Who {
    fn most(&self) -> u32 {
        match self {
            Who::Strangers(_) => STRANGERS_MAX,
            Who::Device(_) | Who::Own(_) | Who::Code(_) => KNOWN_MAX,
        }
    }

    /// One name for each, whatever an address may hold.
    fn name(&self) -> String {
        match self {
            Who::Strangers(address) => format!("address {address}"),
            Who::Device(number) => format!("device {number}"),
            Who::Own(id) => format!("own {id}"),
            Who::Code(id) => format!("code {id}"),
        }
    }

    /// No address stands in Redis.
    fn key(&self) -> String {
        let hash = digest(&SHA256, self.name().as_bytes());
        let hash: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("mainstay:attempts:{{{hash}}}")
    }
}

/// Of one process.
#[derive(Debug)]
pub(crate) struct Attempts {
    strangers: Mutex<Hourly>,
    known: Mutex<Hourly>,
}

impl Default for Attempts {
    fn default() -> Attempts {
        let of = |most| Mutex::new(Hourly::of(most));
        Attempts { strangers: of(STRANGERS_MAX), known: of(KNOWN_MAX) }
    }
}

impl Attempts {
    /// Counts one attempt, or gives the seconds until there is room for one.
    pub async fn take(&self, who: &Who, redis: Option<&Redis>, now_s: u64) -> Result<(), u64> {
        self.of(who).take(&who.name(), now_s)?;
        let Some(redis) = redis else { return Ok(()) };
        let arguments = [who.most().to_string(), WINDOW_S.to_string()];
        let Ok(answer) = redis.script(&TAKE, &[who.key()], &arguments, REQUEST_BUDGET).await else { return Ok(()) };
        match refused_s(&answer) {
            None => Ok(()),
            Some(wait_s) => {
                self.of(who).give_back(&who.name());
                Err(wait_s)
            }
        }
    }

    /// What was taken was no wrong password: it was right, or nobody has looked at it.
    pub async fn give_back(&self, who: &Who, redis: Option<&Redis>) {
        self.of(who).give_back(&who.name());
        if let Some(redis) = redis {
            let none: [&str; 0] = [];
            // Lost, an attempt too many is counted.
            let _ = redis.script(&GIVE_BACK, &[who.key()], &none, REQUEST_BUDGET).await;
        }
    }

    /// Whoever it is has proved himself.
    pub async fn forget(&self, who: &Who, redis: Option<&Redis>) {
        self.of(who).forget(&who.name());
        if let Some(redis) = redis {
            let mut forget = cmd("DEL");
            forget.arg(who.key());
            // Lost, it is over within the hour.
            let _ = redis.ask(&forget, REQUEST_BUDGET).await;
        }
    }

    fn of(&self, who: &Who) -> MutexGuard<'_, Hourly> {
        let counted = match who {
            Who::Strangers(_) => &self.strangers,
            Who::Device(_) | Who::Own(_) | Who::Code(_) => &self.known,
        };
        counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the script gave. Whatever else stands under that key refuses nobody.
fn refused_s(answer: &Value) -> Option<u64> {
    let Value::Array(pair) = answer else { return None };
    let [Value::Int(0), Value::Int(left_s)] = &pair[..] else { return None };
    Some(u64::try_from(*left_s).unwrap_or(WINDOW_S).clamp(1, WINDOW_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read_and_rubbish_refuses_nobody() {
        let pair = |room, left_s| Value::Array(vec![Value::Int(room), Value::Int(left_s)]);
        for (answer, expected) in [
            (pair(1, 0), None),
            (pair(0, 90), Some(90)),
            (pair(0, 0), Some(1)),
            (pair(0, -1), Some(WINDOW_S)),
            (pair(0, 99_999), Some(WINDOW_S)),
            (Value::Nil, None),
            (Value::Array(Vec::new()), None),
        ] {
            assert_eq!(refused_s(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn nobody_is_counted_with_another_and_no_address_stands_in_a_key() {
        let name = || "jo@a".to_owned();
        let all = [Who::Strangers(name()), Who::Device(name()), Who::Own(name()), Who::Code(name())];
        let keys: std::collections::BTreeSet<String> = all.iter().map(Who::key).collect();
        assert_eq!(keys.len(), all.len());
        assert!(keys.iter().all(|key| !key.contains("jo@a") && key.len() < 64), "{keys:?}");
    }
}
