//! When a certificate is ordered, renewed, warned of. Pure functions of the time and what is known.

use serde::{Deserialize, Serialize};

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3600;
pub const DAY_S: u64 = 24 * HOUR_S;
/// Waits after the first, second … failed attempt. Let's Encrypt allows five failed validations an hour a name: this
/// makes four in the first hour, then fewer.
const BACKOFF_S: [u64; 7] = [MINUTE_S, 5 * MINUTE_S, 15 * MINUTE_S, HOUR_S, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S];
/// An authority that says "too many" without a time is left alone this long.
const LIMITED_S: u64 = HOUR_S;
/// Longest we stay away: the longest window of Let's Encrypt's limits is a week.
pub const LIMITED_MAX_S: u64 = 8 * DAY_S;
/// Nobody needs to hear of a certificate of a year three months before it ends.
const WARN_MAX_S: u64 = 21 * DAY_S;
/// How often the authority is asked for a better time to renew, at most and at least.
const ASK_MIN_S: u64 = HOUR_S;
const ASK_MAX_S: u64 = DAY_S;
/// One that could not say is asked again after this (RFC 9773 §4.3.3).
pub const ASK_FAILED_S: u64 = 6 * HOUR_S;
/// Who wants a certificate renewed that is younger than this may want the same of the next: longer than any wait.
const YOUNG_S: u64 = DAY_S;

/// From when until when a certificate is good, in seconds of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    pub from_s: u64,
    pub until_s: u64,
}

impl Validity {
    fn life_s(self) -> u64 {
        self.until_s.saturating_sub(self.from_s)
    }

    /// Where nobody says otherwise, a certificate is renewed at two thirds of its life.
    pub fn renewal_s(self) -> u64 {
        self.from_s + self.life_s() / 3 * 2
    }

    /// From here on its end is worth a warning: a quarter of its life, three weeks at most. A renewal that works is
    /// long done by then.
    pub fn warning_s(self) -> u64 {
        self.until_s.saturating_sub((self.life_s() / 4).min(WARN_MAX_S))
    }
}

/// What is remembered of one certificate between attempts and restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Attempts in a row without a certificate.
    pub failures: u32,
    /// No attempt before this.
    pub next_s: u64,
    pub last_error: Option<String>,
    /// The directory the certificate came from.
    pub ca: Option<String>,
    /// Chosen within the window the authority suggests (RFC 9773).
    pub renew_at_s: Option<u64>,
    /// The authority is asked again for that window.
    pub ask_at_s: u64,
    /// When it was ordered; 0 where nobody wrote it down.
    pub ordered_s: u64,
    /// Serial number of the certificate that was revoked: while that one is in force, another is due.
    pub revoked: Option<String>,
}

impl Progress {
    /// Written down *before* an attempt, so that one that ends in a crash counts as failed.
    /// `chance` is in 0..1000 and spreads those who failed together.
    pub fn begun(&self, now_s: u64, chance: u64) -> Progress {
        let failures = self.failures.saturating_add(1);
        let next_s = now_s + backoff_s(failures, chance);
        Progress { failures, next_s, ..self.clone() }
    }

    /// A certificate that is due again at once (a wrong clock, a very short life, an authority that wants renewed what
    /// it has just issued) waits like a failure.
    pub fn done(&self, now_s: u64, ca: &str, validity: Validity) -> Progress {
        let was_young = self.ordered_s > 0 && now_s < self.ordered_s + YOUNG_S;
        let due = validity.renewal_s() <= now_s || (was_young && self.renew_at_s.is_some_and(|at| at <= now_s));
        Progress {
            failures: if due { self.failures } else { 0 },
            next_s: if due { self.next_s } else { 0 },
            last_error: None,
            ca: Some(ca.to_owned()),
            renew_at_s: None,
            ask_at_s: 0,
            ordered_s: now_s,
            revoked: None,
        }
    }
}

fn backoff_s(failures: u32, chance: u64) -> u64 {
    let step = usize::try_from(failures.max(1) - 1).unwrap_or(usize::MAX).min(BACKOFF_S.len() - 1);
    let base = BACKOFF_S[step];
    base + base * chance.min(1000) / 10_000
}

/// What to do with one certificate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Order,
    /// Nothing before this second.
    Wait(u64),
}

pub fn next(now_s: u64, held: Option<Validity>, progress: &Progress) -> Step {
    let due_s = held.map_or(0, |validity| renewal_s(validity, progress));
    // Further away than any wait of ours: the clock was set back meanwhile.
    let next_s = if progress.next_s > now_s + 2 * BACKOFF_S[BACKOFF_S.len() - 1] { 0 } else { progress.next_s };
    match due_s.max(next_s) {
        at if at <= now_s => Step::Order,
        at => Step::Wait(at),
    }
}

/// When it is renewed: where the authority wants it, and never after three quarters of what was left at two thirds.
pub fn renewal_s(validity: Validity, progress: &Progress) -> u64 {
    let own = validity.renewal_s();
    let latest = own + validity.until_s.saturating_sub(own) / 4 * 3;
    progress.renew_at_s.map_or(own, |at| at.min(latest))
}

/// A moment within the suggested window; at once where it has begun already.
pub fn within(window: (u64, u64), chance: u64) -> u64 {
    let (start, end) = window;
    start + end.saturating_sub(start) / 1000 * chance.min(1000)
}

/// When to ask for the window again.
pub fn ask_again_s(now_s: u64, told_s: u64) -> u64 {
    now_s + told_s.clamp(ASK_MIN_S, ASK_MAX_S)
}

/// Until when an authority that said "too many" is left alone.
pub fn limited_until_s(now_s: u64, told_s: Option<u64>) -> u64 {
    now_s + told_s.unwrap_or(LIMITED_S).clamp(MINUTE_S, LIMITED_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINETY: Validity = Validity { from_s: 1_000_000, until_s: 1_000_000 + 90 * DAY_S };

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_and_warned_of_before_its_end() {
        assert_eq!(NINETY.renewal_s(), 1_000_000 + 60 * DAY_S);
        assert_eq!(NINETY.warning_s(), 1_000_000 + 69 * DAY_S);
        let week = Validity { from_s: 0, until_s: 8 * DAY_S };
        assert_eq!(week.warning_s(), 6 * DAY_S);
        let fresh = Progress::default();
        assert_eq!(next(1_000_000, Some(NINETY), &fresh), Step::Wait(NINETY.renewal_s()));
        assert_eq!(next(NINETY.renewal_s(), Some(NINETY), &fresh), Step::Order);
        assert_eq!(next(5, None, &fresh), Step::Order);
    }

    #[test]
    fn the_window_of_the_authority_moves_the_renewal_but_never_past_the_end() {
        let early = Progress { renew_at_s: Some(1_000_100), ..Progress::default() };
        assert_eq!(next(1_000_100, Some(NINETY), &early), Step::Order);
        let late = Progress { renew_at_s: Some(u64::MAX), ..Progress::default() };
        let at = renewal_s(NINETY, &late);
        assert!(at > NINETY.renewal_s() && at < NINETY.until_s, "{at}");
        for chance in [0, 500, 1000, 5000] {
            assert!((10_000..=20_000).contains(&within((10_000, 20_000), chance)));
        }
        assert_eq!(within((20_000, 10_000), 500), 20_000);
    }

    /// A CA counts: four attempts in the first hour, nine in the first day, whatever restarts in between.
    #[test]
    fn failures_are_spaced_and_survive_a_restart() {
        for chance in [0, 1000] {
            let mut progress = Progress::default();
            let mut attempts = Vec::new();
            let mut now = 1_000_000;
            while now < 1_000_000 + DAY_S {
                match next(now, None, &progress) {
                    Step::Order => {
                        progress = progress.begun(now, chance);
                        // A crash, and what was written is read again.
                        progress =
                            serde_json::from_str(&serde_json::to_string(&progress).expect("json")).expect("json");
                        attempts.push(now);
                    }
                    Step::Wait(at) => now = at,
                }
            }
            let within = |s: u64| attempts.iter().filter(|at| **at < 1_000_000 + s).count();
            assert!(within(HOUR_S) <= 4, "{attempts:?}");
            assert!((7..=9).contains(&within(DAY_S)), "{attempts:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_due_at_once_does_not_loop() {
        let now = NINETY.until_s + 5;
        let begun = Progress::default().begun(now, 0);
        let done = begun.done(now, "ca", NINETY);
        assert!(matches!(next(now + 1, Some(NINETY), &done), Step::Wait(_)));
        let good = begun.done(1_000_500, "ca", NINETY);
        assert_eq!((good.failures, good.next_s), (0, 0));
    }

    /// An authority whose every answer is "renew now" gets one order at once, and then as after failures.
    #[test]
    fn an_authority_that_always_says_now_is_not_asked_for_ever() {
        let (mut progress, mut now) = (Progress::default(), NINETY.from_s);
        let mut orders = Vec::new();
        while now < NINETY.from_s + DAY_S {
            match next(now, orders.last().map(|_| NINETY), &progress) {
                Step::Wait(at) => now = at,
                Step::Order => {
                    orders.push(now);
                    progress = progress.begun(now, 0).done(now, "ca", NINETY);
                    progress.renew_at_s = Some(now - 1);
                    now += 5;
                }
            }
        }
        let within = |s: u64| orders.iter().filter(|at| **at < NINETY.from_s + s).count();
        assert!((2..=5).contains(&within(HOUR_S)), "{orders:?}");
        assert!(within(DAY_S) <= 20, "{orders:?}");
        // One that asks weeks later is heard at once.
        let later = Progress { renew_at_s: Some(1), ..progress }.begun(NINETY.renewal_s(), 0);
        assert_eq!(later.done(NINETY.renewal_s() - 9, "ca", NINETY).failures, 0);
    }

    #[test]
    fn a_clock_set_back_does_not_stop_renewals() {
        let progress = Progress { failures: 3, next_s: 9_000_000, ..Progress::default() };
        assert_eq!(next(1_000_000, None, &progress), Step::Order);
    }

    #[test]
    fn limits_are_kept_within_reason() {
        assert_eq!(limited_until_s(0, Some(7200)), 7200);
        assert_eq!(limited_until_s(0, None), LIMITED_S);
        assert_eq!(limited_until_s(0, Some(u64::MAX)), LIMITED_MAX_S);
        assert_eq!(ask_again_s(0, 5), ASK_MIN_S);
        assert_eq!(ask_again_s(0, u64::MAX), ASK_MAX_S);
    }
}
