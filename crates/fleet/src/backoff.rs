//! How long an instance waits before it is started again, and when that is called a crash loop.
//!
//! Must never: look at a clock or a process; it counts what it is told.

use mainstay_runtime::Millis;
use std::time::Duration;

/// An exit this soon after readiness (or before it) is early: the app did not really run.
pub const EARLY: Duration = Duration::from_secs(10);
/// This many early exits in a row are a crash loop.
pub const LOOP_EXITS: u32 = 5;
/// The first wait: long enough to let a port go, too short for a person to notice.
const FIRST_MS: u64 = 100;
/// The longest wait: a mended app is back within half a minute without anybody asking.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Early exits in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    early_exits: u32,
}

impl Backoff {
    /// The app ended unasked. Returns how long to wait before the next start.
    pub fn exited(&mut self, ready_at: Option<Millis>, ended_at: Millis) -> Duration {
        let early = ready_at.is_none_or(|ready| ended_at.since(ready) < EARLY);
        self.early_exits = if early { self.early_exits.saturating_add(1) } else { 0 };
        delay(self.early_exits)
    }

    /// True at the very exit that makes it a crash loop, so that it is said once.
    pub fn loop_begins(self) -> bool {
        self.early_exits == LOOP_EXITS
    }

    /// Within a crash loop each further exit is no news.
    pub fn in_loop(self) -> bool {
        self.early_exits >= LOOP_EXITS
    }

    pub fn early_exits(self) -> u32 {
        self.early_exits
    }

    /// Somebody asked for a fresh start.
    pub fn reset(&mut self) {
        self.early_exits = 0;
    }
}

/// Nothing after a real run, then doubling from 100 ms up to 30 s.
pub fn delay(early_exits: u32) -> Duration {
    if early_exits == 0 {
        return Duration::ZERO;
    }
    let doublings = (early_exits - 1).min(16);
    Duration::from_millis(FIRST_MS << doublings).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let waits: Vec<u64> = (0..12).map(|n| u64::try_from(delay(n).as_millis()).expect("small")).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn the_fifth_early_exit_is_the_loop_and_a_real_run_ends_it() {
        let mut backoff = Backoff::default();
        for n in 1..=7 {
            backoff.exited(Some(Millis(1000)), Millis(5000));
            assert_eq!(backoff.loop_begins(), n == 5, "exit {n}");
            assert_eq!(backoff.in_loop(), n >= 5, "exit {n}");
        }
        assert_eq!(backoff.exited(Some(Millis(1000)), Millis(11_000)), Duration::ZERO);
        assert!(!backoff.in_loop());
    }

    proptest! {
        #[test]
        fn bounded_and_never_shorter_after_one_more_early_exit(n in 0u32..1000) {
            prop_assert!(delay(n) <= LONGEST);
            prop_assert!(delay(n) <= delay(n + 1));
        }
    }
}
