//! Which instance holds a Socket.IO session: learnt from the handshake's `sid`, so that polling works with several
//! instances, without a cookie, and behind one address.

use crate::balance::hash_bytes;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A polling session is asked for at least every 45 s (ping interval and timeout of Engine.IO 4); twice that.
const SESSION_IDLE_MS: u64 = 90_000;
/// Sessions remembered a shard. Past it the stale ones go, then no new one is learnt until some are.
const SESSIONS_PER_SHARD_MAX: usize = 16_384;
const SHARDS: usize = 16;
/// A full shard looks for stale sessions at most this often: a flood of handshakes must not make each one slow.
const SWEEP_EVERY_MS: u64 = 1000;
/// A handshake's `sid` stands at the very beginning of its body.
const HANDSHAKE_BYTES_MAX: usize = 512;

/// Shared among cores; each look takes one shard for the time of one table access.
#[derive(Debug, Default)]
pub struct Affinity {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    sessions: HashMap<u64, Session>,
    swept_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    slot: u32,
    seen_ms: u64,
}

/// What a query says of Engine.IO.
#[derive(Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Not Engine.IO.
    Other,
    /// A polling handshake: the answer will name a session.
    Handshake,
    /// A request of this session.
    Session(&'a str),
}

/// Reads `EIO=4&transport=polling&sid=…` in any order.
pub fn query(query: Option<&str>) -> Query<'_> {
    let Some(query) = query else { return Query::Other };
    let (mut engine, mut polling, mut sid) = (false, false, None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("EIO", _)) => engine = true,
            Some(("transport", transport)) => polling = transport == "polling",
            Some(("sid", value)) if !value.is_empty() => sid = Some(value),
            _ => {}
        }
    }
    match sid {
        _ if !engine => Query::Other,
        Some(sid) => Query::Session(sid),
        None if polling => Query::Handshake,
        None => Query::Other,
    }
}

impl Affinity {
    /// Takes the `sid` out of a handshake's first bytes: `0{"sid":"…"` (Engine.IO 4), `96:0{"sid":"…"` (3).
    pub fn learn(&self, body: &[u8], slot: u32, now_ms: u64) {
        if let Some(sid) = sid(&body[..body.len().min(HANDSHAKE_BYTES_MAX)]) {
            let key = hash_bytes(sid);
            let mut shard = self.shard(key);
            let full = shard.sessions.len() >= SESSIONS_PER_SHARD_MAX;
            if full && now_ms.saturating_sub(shard.swept_ms) >= SWEEP_EVERY_MS {
                shard.swept_ms = now_ms;
                shard.sessions.retain(|_, s| now_ms.saturating_sub(s.seen_ms) <= SESSION_IDLE_MS);
            }
            if shard.sessions.len() < SESSIONS_PER_SHARD_MAX {
                shard.sessions.insert(key, Session { slot, seen_ms: now_ms });
            }
        }
    }

    /// The slot of the upstream that holds this session.
    pub fn find(&self, sid: &str, now_ms: u64) -> Option<u32> {
        let key = hash_bytes(sid.as_bytes());
        let mut shard = self.shard(key);
        let session = shard.sessions.get_mut(&key)?;
        session.seen_ms = now_ms;
        Some(session.slot)
    }

    /// Every session that was asked for lately, and its slot; least lately first.
    pub fn all(&self, now_ms: u64) -> Vec<(u64, u32)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = shard.sessions.iter().filter(|(_, s)| now_ms.saturating_sub(s.seen_ms) <= SESSION_IDLE_MS);
            all.extend(fresh.map(|(key, session)| (session.seen_ms, *key, session.slot)));
        }
        all.sort_unstable();
        all.into_iter().map(|(_, key, slot)| (key, slot)).collect()
    }

    /// A session that was learnt by the server before this one. What was learnt here is newer.
    pub fn adopt(&self, key: u64, slot: u32, now_ms: u64) {
        let mut shard = self.shard(key);
        if shard.sessions.len() < SESSIONS_PER_SHARD_MAX {
            shard.sessions.entry(key).or_insert(Session { slot, seen_ms: now_ms });
        }
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).sessions.len()).sum()
    }

    fn shard(&self, key: u64) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[(key % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sid(body: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"sid\":\"";
    let start = body.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let length = body[start..].iter().position(|&b| b == b'"')?;
    (length > 0).then(|| &body[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_in_any_order() {
        assert_eq!(query(Some("EIO=4&transport=polling&t=x")), Query::Handshake);
        assert_eq!(query(Some("transport=polling&sid=abc&EIO=4")), Query::Session("abc"));
        assert_eq!(query(Some("EIO=4&transport=websocket&sid=abc")), Query::Session("abc"));
        assert_eq!(query(Some("EIO=4&transport=websocket")), Query::Other);
        assert_eq!(query(Some("sid=abc")), Query::Other);
        assert_eq!(query(None), Query::Other);
    }

    #[test]
    fn a_session_stays_with_the_instance_that_opened_it() {
        let affinity = Affinity::default();
        affinity.learn(br#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"]}"#, 7, 1_000);
        affinity.learn(br#"96:0{"sid":"old","upgrades":[]}2:40"#, 8, 1_000);
        assert_eq!(affinity.find("lv_VI97HAXpY6yYWAAAC", 2_000), Some(7));
        assert_eq!(affinity.find("old", 2_000), Some(8));
        assert_eq!(affinity.find("unknown", 2_000), None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_silent() {
        let affinity = Affinity::default();
        let max = SHARDS * SESSIONS_PER_SHARD_MAX;
        for i in 0..2 * max {
            affinity.learn(format!(r#"0{{"sid":"s{i}"}}"#).as_bytes(), 1, 0);
        }
        assert!(affinity.len() <= max);
        affinity.learn(br#"0{"sid":"late"}"#, 2, SESSION_IDLE_MS + 1);
        assert_eq!(affinity.find("late", SESSION_IDLE_MS + 1), Some(2));
    }

    #[test]
    fn rubbish_teaches_nothing() {
        let affinity = Affinity::default();
        for body in [&b""[..], b"0{\"sid\":\"", b"0{\"sid\":\"\"}", b"{\"code\":1}"] {
            affinity.learn(body, 1, 0);
        }
        assert_eq!(affinity.len(), 0);
    }
}
