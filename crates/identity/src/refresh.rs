//! When an issuer's keys are fetched: often enough to follow it, seldom enough that nobody's tokens make us a flood.

/// Issuers announce new keys hours ahead.
const EVERY_MS: u64 = 10 * 60 * 1000;
/// A token may name any key, so its wish is followed this often at most.
const WISH_EVERY_MS: u64 = 30 * 1000;
const BACKOFF_MIN_MS: u64 = 1000;
const BACKOFF_MAX_MS: u64 = 60 * 1000;

#[derive(Debug, Default, Clone, Copy)]
pub struct Refresh {
    tried_ms: Option<u64>,
    /// Since the last success.
    failures: u32,
}

impl Refresh {
    /// `wished`: a token named a key that is not here.
    pub fn is_due(&self, now_ms: u64, wished: bool) -> bool {
        let Some(tried_ms) = self.tried_ms else { return true };
        let wait_ms = match (self.failures, wished) {
            (0, false) => EVERY_MS,
            (0, true) => WISH_EVERY_MS,
            (failures, _) => (BACKOFF_MIN_MS << failures.min(16).saturating_sub(1)).min(BACKOFF_MAX_MS),
        };
        now_ms.saturating_sub(tried_ms) >= wait_ms
    }

    /// `true` where this is news: the first failure, or the success after one.
    pub fn tried(&mut self, now_ms: u64, succeeded: bool) -> bool {
        let news = if succeeded { self.failures > 0 } else { self.failures == 0 };
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        self.tried_ms = Some(now_ms);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_seldom_and_sooner_for_a_wish_but_never_as_often_as_somebody_likes() {
        let mut refresh = Refresh::default();
        assert!(refresh.is_due(0, false));
        assert!(!refresh.tried(0, true));
        for (now_ms, wished, due) in [
            (1, false, false),
            (599_999, false, false),
            (600_000, false, true),
            (29_999, true, false),
            (30_000, true, true),
        ] {
            assert_eq!(refresh.is_due(now_ms, wished), due, "{now_ms} {wished}");
        }
        let wishes = (0..600_000).step_by(100).filter(|now_ms| {
            let due = refresh.is_due(*now_ms, true);
            if due {
                refresh.tried(*now_ms, true);
            }
            due
        });
        assert_eq!(wishes.count(), 19);
    }

    #[test]
    fn failures_are_spaced_and_told_once() {
        let mut refresh = Refresh::default();
        assert!(refresh.tried(0, false) && !refresh.is_due(999, true) && refresh.is_due(1000, false));
        assert!(!refresh.tried(1000, false) && !refresh.is_due(2999, true) && refresh.is_due(3000, false));
        for _ in 0..100 {
            assert!(!refresh.tried(5000, false));
        }
        assert!(!refresh.is_due(64_999, true) && refresh.is_due(65_000, false));
        assert!(refresh.tried(70_000, true), "that it works again is news");
    }
}
