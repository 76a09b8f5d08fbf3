//! When a request may be sent again. Pure.

use http::Method;

/// Further tries after the first; holding is not a try.
pub const TRIES_MORE_MAX: usize = 2;

/// Bodies up to this are kept, so that they can be sent again.
pub const KEPT_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Safe to send twice by definition (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// Whether a request whose connection died, or that got 502, 503 or 504, may be repeated: `kept` says that its
/// body is absent or was kept, `key` that it carries an `Idempotency-Key`, `route` is the route's `retry`.
pub fn may_repeat(method: &Method, kept: bool, key: bool, route: Option<bool>) -> bool {
    match route {
        Some(false) => false,
        Some(true) => kept && (is_idempotent(method) || key),
        None => kept && is_idempotent(method),
    }
}

/// Seconds the budget looks back.
const WINDOW_SECONDS: usize = 10;
/// Repeats always allowed within the window, so that a quiet service repeats at all.
const REPEATS_FLOOR: u32 = 100;
/// Share of the window's requests that may be repeats.
const REPEATS_PERCENT: u32 = 20;

/// Keeps repeats from multiplying an outage: at most 20 % of the last 10 s and 100 more, a core.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: [(u64, u32, u32); WINDOW_SECONDS],
}

impl Budget {
    pub fn request(&mut self, now_ms: u64) {
        self.second(now_ms).1 += 1;
    }

    /// True, and counted, if one more repeat is within the budget.
    pub fn repeat(&mut self, now_ms: u64) -> bool {
        let oldest = (now_ms / 1000).saturating_sub(WINDOW_SECONDS as u64 - 1);
        let recent = self.seconds.iter().filter(|s| s.0 >= oldest);
        let (requests, repeats) = recent.fold((0u32, 0u32), |(a, b), s| (a.saturating_add(s.1), b.saturating_add(s.2)));
        if repeats >= REPEATS_FLOOR.saturating_add(requests / 100 * REPEATS_PERCENT) {
            return false;
        }
        self.second(now_ms).2 += 1;
        true
    }

    fn second(&mut self, now_ms: u64) -> &mut (u64, u32, u32) {
        let second = now_ms / 1000;
        let slot = &mut self.seconds[(second % WINDOW_SECONDS as u64) as usize];
        if slot.0 != second {
            *slot = (second, 0, 0);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_twice() {
        let cases = [
            (Method::GET, true, false, None, true),
            (Method::PUT, true, false, None, true),
            (Method::PUT, false, false, None, false),
            (Method::POST, true, false, None, false),
            (Method::POST, true, true, None, false),
            (Method::POST, true, true, Some(true), true),
            (Method::POST, true, false, Some(true), false),
            (Method::POST, false, true, Some(true), false),
            (Method::PATCH, true, false, Some(true), false),
            (Method::GET, true, true, Some(false), false),
        ];
        for (method, kept, key, route, expected) in cases {
            assert_eq!(may_repeat(&method, kept, key, route), expected, "{method} {kept} {key} {route:?}");
        }
    }

    #[test]
    fn repeats_stay_within_a_fifth_of_the_last_ten_seconds() {
        let mut budget = Budget::default();
        for _ in 0..1000 {
            budget.request(5_000);
        }
        let granted = (0..1000).filter(|_| budget.repeat(6_000)).count();
        assert_eq!(granted, 300);
        assert!(!budget.repeat(14_000));
        assert!(budget.repeat(17_000));
    }
}
