//! How often an hour something may happen to one account, from wherever it comes: the limit by address of the client
//! knows nothing of ten thousand clients that try one password each, or have one mail sent each.

use std::collections::HashMap;

/// It begins with the first time.
pub(crate) const WINDOW_S: u64 = 3600;
/// One mail without a token: whoever gets it need not do anything.
pub(crate) const NOTICES_MAX: u32 = 1;
/// Of a generation, 16 bytes each. To push somebody's count out one has to come twice as often, at a hash each.
const GENERATION_MAX: usize = 65_536;

#[derive(Debug)]
pub(crate) struct Hourly {
    most: u32,
    young: HashMap<u64, Counted>,
    old: HashMap<u64, Counted>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    since_s: u64,
    times: u32,
}

impl Hourly {
    pub fn of(most: u32) -> Hourly {
        Hourly { most, young: HashMap::new(), old: HashMap::new() }
    }

    /// Seconds until it may happen to this address again; `None`: now.
    pub fn wait_s(&self, address: &str, now_s: u64) -> Option<u64> {
        let key = key(address);
        let counted = self.young.get(&key).or_else(|| self.old.get(&key))?;
        let left_s = (counted.since_s + WINDOW_S).saturating_sub(now_s);
        (counted.times >= self.most && left_s > 0).then_some(left_s.min(WINDOW_S))
    }

    pub fn count(&mut self, address: &str, now_s: u64) {
        let key = key(address);
        let known = self.young.remove(&key).or_else(|| self.old.remove(&key));
        let known = known.filter(|counted| now_s.saturating_sub(counted.since_s) < WINDOW_S);
        let counted = known.unwrap_or(Counted { since_s: now_s, times: 0 });
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, Counted { times: counted.times.saturating_add(1), ..counted });
    }

    /// Counts one more, or gives the seconds until there is room for it.
    pub fn take(&mut self, address: &str, now_s: u64) -> Result<(), u64> {
        match self.wait_s(address, now_s) {
            Some(wait_s) => Err(wait_s),
            None => {
                self.count(address, now_s);
                Ok(())
            }
        }
    }

    /// One that was taken did not count.
    pub fn give_back(&mut self, address: &str) {
        let key = key(address);
        let (young, old) = (&mut self.young, &mut self.old);
        if let Some(counted) = young.get_mut(&key).or_else(|| old.get_mut(&key)) {
            counted.times = counted.times.saturating_sub(1);
        }
    }

    pub fn forget(&mut self, address: &str) {
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
        let mut attempts = Hourly::of(100);
        for at in 0..100 {
            assert_eq!(attempts.wait_s("jo@a", 1000 + at), None, "{at}");
            attempts.count("jo@a", 1000 + at);
        }
        assert_eq!(attempts.wait_s("jo@a", 1100), Some(3500));
        assert_eq!(attempts.wait_s("eve@a", 1100), None);
        assert_eq!(attempts.wait_s("jo@a", 4600), None);
        attempts.count("jo@a", 4600);
        assert_eq!(attempts.wait_s("jo@a", 4601), None, "a new hour begins");
        for _ in 0..100 {
            attempts.count("jo@a", 5000);
        }
        attempts.forget("jo@a");
        assert_eq!(attempts.wait_s("jo@a", 5000), None);
    }

    #[test]
    fn what_is_given_back_may_be_taken_again_and_no_more() {
        let mut attempts = Hourly::of(2);
        assert_eq!([1, 2, 3].map(|at| attempts.take("jo@a", at)), [Ok(()), Ok(()), Err(3598)]);
        attempts.give_back("jo@a");
        assert_eq!([4, 5].map(|at| attempts.take("jo@a", at)), [Ok(()), Err(3596)]);
        for _ in 0..5 {
            attempts.give_back("jo@a");
        }
        attempts.give_back("nobody@a");
        assert_eq!([6, 7, 8].map(|at| attempts.take("jo@a", at)), [Ok(()), Ok(()), Err(3593)]);
    }

    #[test]
    fn it_never_grows_past_its_room() {
        let mut attempts = Hourly::of(100);
        for number in 0..200_000 {
            attempts.count(&number.to_string(), 1);
        }
        assert!(attempts.young.len() <= GENERATION_MAX && attempts.old.len() <= GENERATION_MAX);
    }
}
