//! Whether to ask Redis at all. Pure: the clock is an argument.
//!
//! Closed, it counts misses. Open, it admits nobody; the keeper's own probe, once a second at least, closes it again.
//! So a request pays for a Redis that is away only while the first misses are gathered.

use mainstay_runtime::Millis;
use std::time::Duration;

/// So many misses in a row, or within a second among many calls, are no accident.
pub const MISSES_MAX: u32 = 5;
/// Misses among answers are counted over this long.
const WINDOW: Duration = Duration::from_secs(1);
/// Below this share of a window's calls misses are the odd slow answer of a server that works: 1 in 10.
const SHARE_DIVISOR: u32 = 10;
/// The first probe comes soon, since most of what makes Redis late is short.
const PROBE_FIRST: Duration = Duration::from_millis(100);
/// Each further one after twice the time, up to this.
const PROBE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        since: Millis,
        calls: u32,
        misses: u32,
        in_a_row: u32,
    },
    Open {
        probe_at: Millis,
        wait: Duration,
    },
    /// A probe is under way.
    HalfOpen {
        wait: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker(State);

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker(State::Closed { since: Millis(0), calls: 0, misses: 0, in_a_row: 0 })
    }
}

impl Breaker {
    /// A call may be made.
    pub fn admits(&self) -> bool {
        matches!(self.0, State::Closed { .. })
    }

    /// A call was answered. One that began before the breaker opened changes nothing: the probe decides.
    pub fn answered(&mut self, now: Millis) {
        if let State::Closed { since, calls, misses, in_a_row } = &mut self.0 {
            roll(now, since, calls, misses);
            *calls = calls.saturating_add(1);
            *in_a_row = 0;
        }
    }

    /// A call was not answered in time. True when this one opened the breaker.
    pub fn missed(&mut self, now: Millis) -> bool {
        let State::Closed { since, calls, misses, in_a_row } = &mut self.0 else { return false };
        roll(now, since, calls, misses);
        *calls = calls.saturating_add(1);
        *misses += 1;
        *in_a_row += 1;
        let many = *misses >= MISSES_MAX && misses.saturating_mul(SHARE_DIVISOR) >= *calls;
        let opens = *in_a_row >= MISSES_MAX || many;
        if opens {
            self.0 = State::Open { probe_at: now.plus(PROBE_FIRST), wait: PROBE_FIRST };
        }
        opens
    }

    /// How long until the keeper is to probe; `None` while closed or while it does.
    pub fn probe_in(&self, now: Millis) -> Option<Duration> {
        match self.0 {
            State::Open { probe_at, .. } => Some(probe_at.since(now)),
            _ => None,
        }
    }

    /// The probe begins. False when there is nothing to probe, or not yet.
    pub fn probe(&mut self, now: Millis) -> bool {
        match self.0 {
            State::Open { probe_at, wait } if now >= probe_at => {
                self.0 = State::HalfOpen { wait };
                true
            }
            _ => false,
        }
    }

    /// The probe's outcome.
    pub fn probed(&mut self, now: Millis, answered: bool) {
        let State::HalfOpen { wait } = self.0 else { return };
        if answered {
            self.close(now);
            return;
        }
        let wait = wait.saturating_mul(2).min(PROBE_MAX);
        self.0 = State::Open { probe_at: now.plus(wait), wait };
    }

    /// A new link has answered.
    pub fn close(&mut self, now: Millis) {
        self.0 = State::Closed { since: now, calls: 0, misses: 0, in_a_row: 0 };
    }
}

fn roll(now: Millis, since: &mut Millis, calls: &mut u32, misses: &mut u32) {
    if now.since(*since) >= WINDOW {
        (*since, *calls, *misses) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn five_misses_in_a_row_open_it_and_an_answered_probe_closes_it() {
        let mut breaker = Breaker::default();
        for n in 1..MISSES_MAX {
            assert!(!breaker.missed(Millis(u64::from(n) * 5000)), "{n}");
        }
        assert!(breaker.admits());
        assert!(breaker.missed(Millis(60_000)));
        assert!(!breaker.admits() && !breaker.missed(Millis(60_001)));
        assert_eq!(breaker.probe_in(Millis(60_000)), Some(PROBE_FIRST));
        assert!(!breaker.probe(Millis(60_050)));
        assert!(breaker.probe(Millis(60_100)) && !breaker.probe(Millis(60_100)));
        assert!(!breaker.admits() && breaker.probe_in(Millis(60_100)).is_none());
        breaker.answered(Millis(60_110));
        assert!(!breaker.admits(), "an old call's answer does not close it");
        breaker.probed(Millis(60_150), true);
        assert!(breaker.admits());
    }

    #[test]
    fn an_answer_between_misses_starts_the_row_again_and_a_third_of_misses_opens_it_all_the_same() {
        let mut breaker = Breaker::default();
        for n in 0..100 {
            assert!(!breaker.missed(Millis(n * 1000)));
            breaker.answered(Millis(n * 1000));
        }
        let mut breaker = Breaker::default();
        let opened = (0..100).any(|_| {
            breaker.answered(Millis(10));
            breaker.answered(Millis(10));
            breaker.missed(Millis(10))
        });
        assert!(opened);
    }

    #[test]
    fn the_odd_slow_answer_among_many_opens_nothing() {
        let mut breaker = Breaker::default();
        for n in 0..10_000u64 {
            breaker.answered(Millis(n / 10));
            if n % 50 == 49 {
                assert!(!breaker.missed(Millis(n / 10)), "{n}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Answered,
        Missed,
        Probe(bool),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Answered),
            3 => Just(Step::Missed),
            2 => any::<bool>().prop_map(Step::Probe),
            2 => (0u64..3000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens: never open before five misses since it was last closed, always open after five in a row,
        /// and while it is open the next probe is at most a second away.
        #[test]
        fn it_opens_for_a_reason_and_is_probed_within_a_second(steps in prop::collection::vec(step(), 0..200)) {
            let (mut breaker, mut now, mut misses, mut row) = (Breaker::default(), Millis(0), 0, 0);
            for step in steps {
                let was_closed = breaker.admits();
                match step {
                    Step::Answered => {
                        breaker.answered(now);
                        row = 0;
                    }
                    Step::Missed => {
                        breaker.missed(now);
                        misses += 1;
                        row += 1;
                    }
                    Step::Probe(answered) => {
                        if breaker.probe(now) {
                            breaker.probed(now, answered);
                        }
                    }
                    Step::Wait(ms) => now = now.plus(Duration::from_millis(ms)),
                }
                if breaker.admits() {
                    prop_assert!(row < MISSES_MAX || !was_closed);
                    if !was_closed {
                        (misses, row) = (0, 0);
                    }
                } else {
                    prop_assert!(!was_closed || misses >= MISSES_MAX);
                    prop_assert!(breaker.probe_in(now).is_none_or(|wait| wait <= PROBE_MAX));
                }
            }
        }
    }
}
