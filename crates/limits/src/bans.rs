//! Clients that are sent away for a growing time. Shared by all cores: each look takes one small table for the time
//! of one access, and none at all while nobody is banned.

use crate::Network;
use crate::options::Policy;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

const SHARDS: usize = 16;
/// Clients remembered a shard, banned or on the way there. Past it the one seen longest ago is forgotten, a banned
/// one last: an attacker with many addresses cannot make the table grow.
const CLIENTS_PER_SHARD_MAX: usize = 4096;
/// A client whose last ban ended this long ago begins anew.
const FORGIVEN_AFTER_MS: u64 = 7 * 24 * 3_600_000;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bans(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    policy: RwLock<Option<Arc<Policy>>>,
    /// A policy is there.
    on: AtomicBool,
    shards: [Mutex<HashMap<Network, Client>>; SHARDS],
    /// Clients with a ban that was not lifted; some may have run out.
    banned: AtomicUsize,
    refused: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Client {
    /// When its offences were, milliseconds.
    offences: Vec<u64>,
    /// 0: not banned.
    until_ms: u64,
    /// Bans so far.
    times: u32,
    seen_ms: u64,
    reason: Reason,
}

/// Why a client is banned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The last offence: a status and a path.
    Offence(u16, String),
    #[default]
    Operator,
}

/// One ban, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banned {
    pub client: String,
    pub left_s: u64,
    pub times: u32,
    pub reason: Reason,
}

/// Longest path kept with a ban.
const PATH_BYTES_MAX: usize = 100;

impl Bans {
    /// `None`: nobody is judged, and what bans there are do not count until there is a policy again.
    pub fn set_policy(&self, policy: Option<Policy>) {
        self.0.on.store(policy.is_some(), Relaxed);
        *self.0.policy.write().unwrap_or_else(PoisonError::into_inner) = policy.map(Arc::new);
    }

    fn policy(&self) -> Option<Arc<Policy>> {
        if !self.0.on.load(Relaxed) {
            return None;
        }
        self.0.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges an answer; true if it banned the client just now.
    pub fn answered(&self, client: IpAddr, status: u16, path: &str, now_ms: u64) -> bool {
        if !(400..500).contains(&status) || !self.0.on.load(Relaxed) {
            return false;
        }
        let Some(policy) = self.policy() else { return false };
        if !policy.is_offence(status, path) || policy.spares(client) {
            return false;
        }
        let network = Network::of(client);
        let mut shard = self.shard(network);
        let entry = self.entry(&mut shard, network, now_ms);
        if entry.until_ms > now_ms {
            return false;
        }
        let oldest = now_ms.saturating_sub(millis(policy.within));
        entry.offences.retain(|&at| at >= oldest);
        entry.offences.push(now_ms);
        if entry.offences.len() < policy.offences {
            return false;
        }
        entry.offences.clear();
        if entry.until_ms > 0 && now_ms.saturating_sub(entry.until_ms) > FORGIVEN_AFTER_MS {
            entry.times = 0;
        }
        let time = policy.time.saturating_mul(1 << entry.times.min(20)).min(policy.time_max.max(policy.time));
        self.begin(entry, now_ms, time, Reason::Offence(status, cut(path)));
        true
    }

    /// An operator's own ban; it counts with a policy or without.
    pub fn ban(&self, network: Network, time: Duration, now_ms: u64) {
        let mut shard = self.shard(network);
        let entry = self.entry(&mut shard, network, now_ms);
        self.begin(entry, now_ms, time, Reason::Operator);
    }

    fn begin(&self, entry: &mut Client, now_ms: u64, time: Duration, reason: Reason) {
        if entry.until_ms == 0 {
            self.0.banned.fetch_add(1, Relaxed);
        }
        entry.until_ms = now_ms.saturating_add(millis(time)).max(1);
        entry.times = entry.times.saturating_add(1);
        entry.reason = reason;
    }

    /// Costs one load while nobody is banned.
    pub fn is_banned(&self, client: IpAddr, now_ms: u64) -> bool {
        if self.0.banned.load(Relaxed) == 0 {
            return false;
        }
        let network = Network::of(client);
        let banned = self.shard(network).get(&network).is_some_and(|entry| entry.until_ms > now_ms);
        if banned {
            self.0.refused.fetch_add(1, Relaxed);
        }
        banned
    }

    /// True if there was a ban to lift. What the client did before is forgotten with it.
    pub fn lift(&self, network: Network, now_ms: u64) -> bool {
        let removed = self.shard(network).remove(&network);
        if removed.as_ref().is_some_and(|entry| entry.until_ms > 0) {
            self.0.banned.fetch_sub(1, Relaxed);
        }
        removed.is_some_and(|entry| entry.until_ms > now_ms)
    }

    /// Lifts all of them; how many there were.
    pub fn lift_all(&self, now_ms: u64) -> usize {
        let mut lifted = 0;
        for shard in &self.0.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let bans = shard.values().filter(|entry| entry.until_ms > 0).count();
            lifted += shard.values().filter(|entry| entry.until_ms > now_ms).count();
            self.0.banned.fetch_sub(bans, Relaxed);
            shard.clear();
        }
        lifted
    }

    /// The longest first.
    pub fn list(&self, now_ms: u64) -> Vec<Banned> {
        let mut all = Vec::new();
        for shard in &self.0.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().filter(|(_, entry)| entry.until_ms > now_ms).map(|(network, entry)| Banned {
                client: network.to_string(),
                left_s: (entry.until_ms - now_ms).div_ceil(1000),
                times: entry.times,
                reason: entry.reason.clone(),
            }));
        }
        all.sort_by(|a, b| b.left_s.cmp(&a.left_s).then_with(|| a.client.cmp(&b.client)));
        all
    }

    /// Puts bans back that another server told of.
    pub fn restore(&self, bans: &[Banned], now_ms: u64) {
        for banned in bans {
            let Some(network) = Network::parse(&banned.client) else { continue };
            let mut shard = self.shard(network);
            let entry = self.entry(&mut shard, network, now_ms);
            self.begin(entry, now_ms, Duration::from_secs(banned.left_s), banned.reason.clone());
            entry.times = banned.times;
        }
    }

    /// Connections and requests refused so far.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    fn entry<'a>(&self, shard: &'a mut HashMap<Network, Client>, network: Network, now_ms: u64) -> &'a mut Client {
        if shard.len() >= CLIENTS_PER_SHARD_MAX && !shard.contains_key(&network) {
            // One that was never banned goes first, then one whose ban is over, then the one with the shortest left.
            let least = shard.iter().min_by_key(|(_, e)| (e.until_ms > now_ms, e.until_ms, e.seen_ms)).map(|(n, _)| *n);
            if let Some(removed) = least.and_then(|network| shard.remove(&network))
                && removed.until_ms > 0
            {
                self.0.banned.fetch_sub(1, Relaxed);
            }
        }
        let entry = shard.entry(network).or_default();
        entry.seen_ms = now_ms;
        entry
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, Client>> {
        self.0.shards[network.shard(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(path: &str) -> String {
    let mut end = path.len().min(PATH_BYTES_MAX);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path[..end].to_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    fn policy() -> Policy {
        Policy {
            offences: 5,
            within: Duration::from_secs(600),
            time: Duration::from_secs(600),
            time_max: Duration::from_secs(3600),
            statuses: vec![401, 429],
            scanners: true,
            paths: Vec::new(),
            spare: vec!["198.51.100.0/24".parse().expect("net")],
            at: String::new(),
        }
    }

    fn bans() -> Bans {
        let bans = Bans::default();
        bans.set_policy(Some(policy()));
        bans
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// So many offences at once; whether the last one banned.
    fn offend(bans: &Bans, client: IpAddr, times: usize, now_ms: u64) -> bool {
        (0..times).fold(false, |_, _| bans.answered(client, 401, "/login", now_ms))
    }

    #[test]
    fn five_offences_in_ten_minutes_are_ten_minutes_out_and_then_longer() {
        let bans = bans();
        assert!(!offend(&bans, ip(1), 4, 0));
        assert!(!bans.is_banned(ip(1), 0));
        assert!(offend(&bans, ip(1), 1, 9 * MINUTE));
        assert!(bans.is_banned(ip(1), 19 * MINUTE - 1) && !bans.is_banned(ip(1), 19 * MINUTE));
        assert!(!bans.is_banned(ip(2), 10 * MINUTE));
        // Again: twice as long, and never longer than the longest.
        let mut now = 20 * MINUTE;
        for minutes in [20, 40, 60, 60] {
            assert!(offend(&bans, ip(1), 5, now));
            assert!(bans.is_banned(ip(1), now + minutes * MINUTE - 1), "{minutes}");
            assert!(!bans.is_banned(ip(1), now + minutes * MINUTE), "{minutes}");
            now += (minutes + 1) * MINUTE;
        }
    }

    #[test]
    fn offences_far_apart_good_answers_and_friends_do_not_count() {
        let bans = bans();
        for i in 0..50 {
            assert!(!bans.answered(ip(1), 401, "/", i * 3 * MINUTE));
            assert!(!bans.answered(ip(2), 200, "/", i));
            assert!(!bans.answered(ip(2), 404, "/missing", i));
            assert!(!bans.answered([127, 0, 0, 1].into(), 401, "/", i));
            assert!(!bans.answered([198, 51, 100, 9].into(), 401, "/", i));
        }
        bans.set_policy(None);
        assert!(!offend(&bans, ip(3), 50, 0));
    }

    #[test]
    fn a_scanner_is_out_where_the_app_has_nothing_there() {
        let bans = bans();
        for path in ["/.env", "/wp-login.php", "/.git/config", "/phpmyadmin/"] {
            assert!(!bans.answered(ip(1), 404, path, 0));
            assert!(!bans.answered(ip(2), 200, path, 0));
        }
        assert!(bans.answered(ip(1), 404, "/cgi-bin/x", 0));
        let list = bans.list(0);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].reason, Reason::Offence(404, "/cgi-bin/x".to_owned()));
    }

    #[test]
    fn an_operator_bans_lifts_and_sees() {
        let bans = bans();
        let network = Network::of(ip(7));
        bans.ban(network, Duration::from_secs(60), 0);
        assert!(bans.is_banned(ip(7), 59_999));
        assert!(bans.lift(network, 1_000) && !bans.lift(network, 1_000));
        assert!(!bans.is_banned(ip(7), 1_000));
        offend(&bans, ip(8), 5, 0);
        offend(&bans, ip(9), 5, 0);
        let (told, other) = (bans.list(0), Bans::default());
        other.restore(&told, 5_000);
        assert_eq!(other.list(5_000), told);
        assert_eq!(bans.lift_all(0), 2);
        assert!(bans.list(0).is_empty() && bans.0.banned.load(Relaxed) == 0);
    }

    #[test]
    fn many_addresses_do_not_make_the_table_grow_nor_free_the_banned() {
        let bans = bans();
        offend(&bans, ip(1), 5, 0);
        for i in 0..(SHARDS * CLIENTS_PER_SHARD_MAX * 2) as u32 {
            bans.answered(IpAddr::V4((0x0a00_0000 + i).into()), 401, "/", 1 + u64::from(i) / 1000);
        }
        let held: usize = bans.0.shards.iter().map(|s| s.lock().expect("lock").len()).sum();
        assert!(held <= SHARDS * CLIENTS_PER_SHARD_MAX, "{held}");
        assert!(bans.is_banned(ip(1), 1_000));
    }

    proptest! {
        /// Against a list of times: banned exactly when five offences lie within ten minutes.
        #[test]
        fn bans_as_a_naive_list_would(gaps in prop::collection::vec(0..4 * MINUTE, 1..40)) {
            let bans = bans();
            let (mut now, mut log, mut until, mut times) = (0, Vec::new(), 0, 0u32);
            for gap in gaps {
                now += gap;
                let banned = bans.answered(ip(1), 429, "/", now);
                let mut expected = false;
                if now >= until {
                    log.retain(|&at| at + 10 * MINUTE >= now);
                    log.push(now);
                    if log.len() >= 5 {
                        log.clear();
                        until = now + ((10 * MINUTE) << times).min(60 * MINUTE);
                        times += 1;
                        expected = true;
                    }
                }
                prop_assert_eq!(banned, expected);
                prop_assert_eq!(bans.is_banned(ip(1), now), now < until);
            }
        }
    }
}
