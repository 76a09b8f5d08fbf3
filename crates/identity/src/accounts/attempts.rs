//! Wrong passwords of one account, from wherever they come: the limit by address of the client knows nothing of ten
//! thousand clients that try one password each.

use std::collections::HashMap;

/// ASVS 4.0.3, 2.2.1: at most a hundred failed attempts an hour on one account.
pub(crate) const FAILURES_MAX: u32 = 100;
const WINDOW_S: u64 = 3600;
/// Of a generation, 16 bytes each. To push somebody's count out one has to fail twice as often, at a hash each.
const GENERATION_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Attempts {
    young: HashMap<u64, Failed>,
    old: HashMap<u64, Failed>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    since_s: u64,
    times: u32,
}

impl Attempts {
    /// Seconds until another attempt on this address is looked at; `None`: now.
    pub fn wait_s(&self, address: &str, now_s: u64) -> Option<u64> {
        let key = key(address);
        let failed = self.young.get(&key).or_else(|| self.old.get(&key))?;
        let left_s = (failed.since_s + WINDOW_S).saturating_sub(now_s);
        (failed.times >= FAILURES_MAX && left_s > 0).then_some(left_s.min(WINDOW_S))
    }

    pub fn failed(&mut self, address: &str, now_s: u64) {
        let key = key(address);
        let known = self.young.remove(&key).or_else(|| self.old.remove(&key));
        let known = known.filter(|failed| now_s.saturating_sub(failed.since_s) < WINDOW_S);
        let failed = known.unwrap_or(Failed { since_s: now_s, times: 0 });
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Failed { times: failed.times.saturating_add(1), ..failed });
    }

    pub fn succeeded(&mut self, address: &str) {
        let key = key(address);
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

/// Two addresses that share one would share a count: nobody can find such a pair for a given address in time.
fn key(address: &str) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, address.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hundred_and_first_waits_until_the_hour_is_over_and_a_success_forgets() {
        let mut attempts = Attempts::default();
        for at in 0..100 {
            assert_eq!(attempts.wait_s("jo@a", 1000 + at), None, "{at}");
            attempts.failed("jo@a", 1000 + at);
        }
        assert_eq!(attempts.wait_s("jo@a", 1100), Some(3500));
        assert_eq!(attempts.wait_s("eve@a", 1100), None);
        assert_eq!(attempts.wait_s("jo@a", 4600), None);
        attempts.failed("jo@a", 4600);
        assert_eq!(attempts.wait_s("jo@a", 4601), None, "a new hour begins");
        for _ in 0..100 {
            attempts.failed("jo@a", 5000);
        }
        attempts.succeeded("jo@a");
        assert_eq!(attempts.wait_s("jo@a", 5000), None);
    }

    #[test]
    fn it_never_grows_past_its_room() {
        let mut attempts = Attempts::default();
        for number in 0..200_000 {
            attempts.failed(&number.to_string(), 1);
        }
        assert!(attempts.young.len() <= GENERATION_MAX && attempts.old.len() <= GENERATION_MAX);
    }
}
