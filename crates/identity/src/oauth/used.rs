//! States that came back: each is good once, whatever became of it.
//!
//! Two generations: when the young one is old or full it becomes the old one. Nobody can make it grow; whoever floods
//! it makes an old state good again for a while, and then the provider's code, which is good once too, still is not.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// States of one generation: 128 KiB for both.
const GENERATION_MAX: usize = 4096;

type Digest = [u8; 16];

#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    since_s: u64,
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

impl Used {
    /// `true` the first time.
    pub fn takes(&self, state: &str, now_s: u64) -> bool {
        let mut digest = [0; 16];
        let whole = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, state.as_bytes());
        digest.copy_from_slice(&whole.as_ref()[..16]);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not keep a generation for ever.
        let is_old = now_s.abs_diff(all.since_s) >= super::pending::LIFE_S;
        if is_old || all.young.len() >= GENERATION_MAX {
            all.old = std::mem::take(&mut all.young);
            all.since_s = now_s;
        }
        !all.old.contains(&digest) && all.young.insert(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_good_once_as_long_as_it_lives_and_the_table_is_bounded() {
        let used = Used::default();
        for start_s in [1000, 1300, 1599, 5000] {
            let state = format!("s{start_s}");
            assert!(used.takes(&state, start_s));
            for later_s in [0, 1, 300, 599] {
                assert!(!used.takes(&state, start_s + later_s), "{start_s} {later_s}");
            }
        }
        for number in 0..20_000 {
            assert!(used.takes(&number.to_string(), 6000));
            assert!(!used.takes(&number.to_string(), 6000));
        }
        let all = used.0.lock().expect("lock");
        assert!(all.young.len() <= GENERATION_MAX && all.old.len() <= GENERATION_MAX);
    }
}
