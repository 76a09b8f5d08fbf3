//! How long a job waits after a failure. Pure: the randomness of jitter is drawn from a seed that is given.

use serde::{Deserialize, Serialize};

/// Longer than this nothing waits, however often it failed: a day.
pub const BACKOFF_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// How the wait grows with the failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Growth {
    /// The same each time.
    Fixed,
    /// Twice the wait before.
    Exponential,
}

/// The wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    pub growth: Growth,
    /// After the first failure, in milliseconds.
    pub delay_ms: u64,
    /// By how much of itself a wait may be shorter, in per cent, 0 to 100: so that jobs that failed together do not
    /// come back together.
    pub jitter_percent: u8,
}

impl Backoff {
    /// The wait after failure number `failures` (1, 2 …), in milliseconds. `draw` is any number: equal draws wait
    /// equally long.
    pub fn wait_ms(&self, failures: u32, draw: u64) -> u64 {
        let doublings = match self.growth {
            Growth::Fixed => 0,
            Growth::Exponential => failures.saturating_sub(1).min(63),
        };
        let full = self.delay_ms.saturating_mul(1 << doublings).min(BACKOFF_MAX_MS);
        let spread = full * u64::from(self.jitter_percent.min(100)) / 100;
        if spread == 0 { full } else { full - mix(draw) % (spread + 1) }
    }
}

/// Spreads a number over all 64 bits (SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff(growth: Growth, delay_ms: u64, jitter_percent: u8) -> Backoff {
        Backoff { growth, delay_ms, jitter_percent }
    }

    #[test]
    fn two_seconds_double_and_fixed_stay() {
        let waits = |growth| (1..=4).map(|n| backoff(growth, 2000, 0).wait_ms(n, 7)).collect::<Vec<_>>();
        assert_eq!(waits(Growth::Exponential), [2000, 4000, 8000, 16_000]);
        assert_eq!(waits(Growth::Fixed), [2000; 4]);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_nothing_overflows(
            delay in any::<u64>(), jitter in any::<u8>(), failures in any::<u32>(), draw in any::<u64>(),
        ) {
            let full = backoff(Growth::Exponential, delay, 0).wait_ms(failures, draw);
            let drawn = backoff(Growth::Exponential, delay, jitter).wait_ms(failures, draw);
            prop_assert!(drawn <= full && full <= BACKOFF_MAX_MS);
            prop_assert!(drawn >= full - full * u64::from(jitter.min(100)) / 100);
        }
    }

    #[test]
    fn jitter_spreads() {
        let half = backoff(Growth::Fixed, 1000, 50);
        let waits: std::collections::BTreeSet<u64> = (0..200).map(|draw| half.wait_ms(1, draw)).collect();
        assert!(waits.len() > 100, "{} different waits of 200", waits.len());
    }
}
