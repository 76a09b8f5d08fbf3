//! The arithmetic against a plain list of times.

use super::*;
use proptest::prelude::*;

fn limit(count: u32, window_ms: u32) -> Limit {
    Limit { count, window_ms, smooth: false }
}

const fn ms(ms: u64) -> u64 {
    // Not at zero: what is long ago must be before it.
    1_000_000_000_000 + ms * 1000
}

/// How many of these times lie in the fullest window of this length.
fn fullest(times: &[u64], window_us: u64) -> usize {
    let within = |(i, from): (usize, &u64)| times[i..].iter().take_while(|t| **t - from < window_us).count();
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[test]
fn a_reader_of_the_guides_sees_exactly_as_many_and_then_when_to_come_again() {
    let limit = limit(5, 60_000);
    let mut state = State::new(&limit);
    for i in 0..5u32 {
        let decision = admit(ms(u64::from(i) * 1000), &mut state, &limit);
        assert!(decision.allowed && decision.remaining == 4 - i, "{decision:?}");
        assert_eq!(decision.reset_s(), 60 - i);
    }
    let refused = admit(ms(10_500), &mut state, &limit);
    assert!(!refused.allowed && refused.remaining == 0);
    assert_eq!(refused.reset_s(), 50, "49.5 s are begun 50");
    assert!(!admit(ms(59_999), &mut state, &limit).allowed);
    assert!(admit(ms(60_000), &mut state, &limit).allowed, "the first one has left");
    assert!(!admit(ms(60_999), &mut state, &limit).allowed);
    assert!(admit(ms(61_000), &mut state, &limit).allowed);
}

#[test]
fn a_changed_limit_forgives_nobody() {
    let numbers = [limit(5, 60_000), limit(100, 60_000), limit(1000, 60_000), limit(1000, 30_000), limit(300, 90_000)];
    for from in numbers {
        for to in numbers {
            let mut state = State::new(&from);
            (0..from.count).for_each(|_| assert!(admit(ms(0), &mut state, &from).allowed));
            let used = state.clone().used(ms(1000), &to);
            let expected = from.count.min(if to.kind() == Kind::Stamps { STAMPS_MAX } else { u32::MAX });
            assert!(used >= expected.min(to.count), "{from:?} → {to:?}: {used}");
            let decision = admit(ms(1000), &mut state, &to);
            assert_eq!(decision.allowed, from.count < to.count, "{from:?} → {to:?}: {decision:?}");
        }
    }
    // Lower, and then as many must leave as are too many.
    let mut state = State::new(&limit(10, 60_000));
    (0..10).for_each(|i| assert!(admit(ms(i * 1000), &mut state, &limit(10, 60_000)).allowed));
    let refused = admit(ms(20_000), &mut state, &limit(4, 60_000));
    assert_eq!((refused.allowed, refused.reset_us), (false, 46_000_000), "the seventh of ten was at 6 s");
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out_for_longer_than_two_windows() {
    let smooth = Limit { smooth: true, ..limit(60, 60_000) };
    for limit in [limit(1, 60_000), limit(1000, 60_000), smooth] {
        let mut state = State::new(&limit);
        while admit(ms(1_000_000_000), &mut state, &limit).allowed {}
        assert!(admit(ms(0), &mut state, &limit).allowed, "{limit:?}");
    }
}

#[test]
fn a_mark_gives_back_its_own_and_nothing_else() {
    let smooth = Limit { smooth: true, ..limit(60, 60_000) };
    for limit in [limit(3, 60_000), limit(200, 60_000), smooth] {
        let mut state = State::new(&limit);
        let first = admit(ms(0), &mut state, &limit);
        give_back(first.mark_us, &mut state, &limit);
        give_back(first.mark_us, &mut state, &limit);
        let at_once = if limit.smooth { 1 } else { limit.count };
        for i in 0..at_once {
            assert!(admit(ms(1), &mut state, &limit).allowed, "{limit:?}: {i}");
        }
        give_back(ms(100), &mut state, &limit);
        // Of 200 a part is 937.5 ms long, and any moment of it is as good.
        assert_eq!(admit(ms(1), &mut state, &limit).allowed, limit.count == 200, "{limit:?}");
    }
}

proptest! {
    /// Up to 128: what a list of the admitted times would say, to the millisecond.
    #[test]
    fn few_are_counted_exactly(
        count in 1u32..=128,
        window in 1u32..5000,
        gaps in prop::collection::vec(0u64..200, 1..400),
    ) {
        let limit = limit(count, window);
        let (mut state, mut log, mut now) = (State::new(&limit), Vec::<u64>::new(), ms(0));
        for gap in gaps {
            now += gap * 1000;
            let expected = log.iter().filter(|&&t| now - t < limit.window_us()).count() < count as usize;
            let decision = admit(now, &mut state, &limit);
            prop_assert_eq!(decision.allowed, expected);
            if expected { log.push(now); }
            let within = log.iter().filter(|&&t| now - t < limit.window_us()).count() as u32;
            prop_assert_eq!(decision.remaining, count - within);
            // Whoever waits as long as it is told is admitted, and no sooner.
            if !expected {
                prop_assert!(!admit(now + decision.reset_us - 1000, &mut state.clone(), &limit).allowed);
                prop_assert!(admit(now + decision.reset_us, &mut state.clone(), &limit).allowed);
            }
        }
        prop_assert!(fullest(&log, limit.window_us()) <= count as usize);
    }

    /// To the microsecond, and with cores whose clocks differ: never more than the limit in any window.
    #[test]
    fn never_more_than_the_limit_in_any_window(
        count in prop_oneof![1u32..20, 120u32..400],
        window in 1u32..3000,
        smooth in any::<bool>(),
        gaps in prop::collection::vec((0u64..20_000, 0u64..50), 1..1200),
    ) {
        let limit = Limit { smooth, ..limit(count, window) };
        let (mut state, mut log, mut clock) = (State::new(&limit), Vec::new(), ms(0));
        for (gap, late) in gaps {
            clock += gap;
            let decision = admit(clock - late, &mut state, &limit);
            if decision.allowed { log.push(clock); }
        }
        // `late` moves a request by up to 50 µs.
        prop_assert!(fullest(&log, limit.window_us() - 50) <= count as usize);
    }

    /// Above 128 and under steady overload: at least the limit in each window and a 64th.
    #[test]
    fn many_get_what_is_theirs(count in 129u32..600, window in 64u32..3000, gap in 1u64..300) {
        let limit = limit(count, window);
        let (mut state, mut log, mut now) = (State::new(&limit), Vec::<u64>::new(), ms(0));
        let span = limit.part_us() * (PARTS + 1);
        // Overload: more come in a window than are admitted.
        let gap = gap.min(limit.window_us() / u64::from(count) / 2).max(1);
        let mut offered = 0u64;
        while now < ms(0) + 3 * span && offered < 30_000 {
            let decision = admit(now, &mut state, &limit);
            if decision.allowed {
                log.push(now);
            } else {
                let again = now + decision.reset_us;
                prop_assert!(admit(again, &mut state.clone(), &limit).allowed);
                prop_assert!(!admit(again - 1, &mut state.clone(), &limit).allowed);
            }
            offered += 1;
            now += gap;
        }
        prop_assert!(fullest(&log, limit.window_us()) <= count as usize);
        let whole = (now - ms(0)) / span * u64::from(count);
        prop_assert!(log.len() as u64 >= whole, "{} of {whole}", log.len());
    }
}
