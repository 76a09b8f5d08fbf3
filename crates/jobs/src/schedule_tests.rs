//! Ticks over clock changes, misses and restarts.

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().expect("a time").as_millisecond()).expect("after 1970")
}

fn cron(pattern: &str, zone: &str, from: &str) -> Schedule {
    let rule = Rule::Cron { pattern: pattern.into(), zone: zone.into() };
    Schedule::new("s".into(), "q".into(), rule, NewJob::default(), at(from)).expect("a schedule")
}

/// All ticks up to a time, looked at every `step_ms`.
fn ticks(schedule: &mut Schedule, from: &str, to: &str, step_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut wall_ms = at(from);
    while wall_ms <= at(to) {
        let due = schedule.due(wall_ms).expect("due");
        schedule.next_ms = due.next_ms;
        found.extend(due.ticks);
        wall_ms += step_ms;
    }
    let text = |ms: u64| Timestamp::from_millisecond(ms as i64).expect("a time").to_string();
    found.into_iter().map(text).collect()
}

#[test]
fn half_past_two_ticks_once_a_day_through_both_clock_changes() {
    // Spring: 02:30 does not exist on 29 March 2026 in Berlin, and runs at 03:00 or 03:30 of that day instead.
    let mut spring = cron("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z");
    let found = ticks(&mut spring, "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z", 30_000);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "2026-03-28T01:30:00Z");
    assert!(found[1].starts_with("2026-03-29T01:"), "{found:?}");
    assert_eq!(found[2], "2026-03-30T00:30:00Z");
    // Autumn: 02:30 is there twice on 25 October 2026, and runs once.
    let mut autumn = cron("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
    let found = ticks(&mut autumn, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z", 30_000);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn every_minute_of_an_hour_exactly_once_however_it_is_looked_at() {
    for step_ms in [999, 1000, 7001, 59_000] {
        let mut schedule = cron("* * * * *", "UTC", "2026-01-01T00:00:30Z");
        let found = ticks(&mut schedule, "2026-01-01T00:00:30Z", "2026-01-01T01:01:00Z", step_ms);
        let mut once = found.clone();
        once.dedup();
        assert_eq!(once, found, "doubled");
        assert!((60..=61).contains(&found.len()), "{step_ms} ms: {} ticks", found.len());
    }
}

#[test]
fn missed_ticks_are_dropped_or_one_or_all_as_asked() {
    let missed = |catch_up| {
        let mut schedule = cron("0 * * * *", "UTC", "2026-01-01T00:30:00Z");
        schedule.catch_up = catch_up;
        let due = schedule.due(at("2026-01-01T05:30:00Z")).expect("due");
        assert_eq!(due.next_ms, at("2026-01-01T06:00:00Z"), "{catch_up:?}");
        due.ticks
    };
    assert_eq!(missed(CatchUp::None), Vec::<u64>::new());
    assert_eq!(missed(CatchUp::One), [at("2026-01-01T05:00:00Z")]);
    assert_eq!(missed(CatchUp::All), (1..=5).map(|h| at("2026-01-01T00:00:00Z") + h * HOUR_MS).collect::<Vec<_>>());
}

#[test]
fn a_tick_that_is_merely_late_runs_whatever_is_asked() {
    let schedule = cron("0 * * * *", "UTC", "2026-01-01T00:30:00Z");
    let due = schedule.due(at("2026-01-01T01:00:59Z")).expect("due");
    assert_eq!((due.ticks.len(), due.next_ms), (1, at("2026-01-01T02:00:00Z")));
}

#[test]
fn a_long_absence_is_made_up_for_in_pieces() {
    let rule = Rule::Every(1000);
    let mut schedule = Schedule::new("s".into(), "q".into(), rule, NewJob::default(), 0).expect("a schedule");
    schedule.catch_up = CatchUp::All;
    let mut all = Vec::new();
    for _ in 0..3 {
        let due = schedule.due(2_500_000).expect("due");
        schedule.next_ms = due.next_ms;
        assert!(due.ticks.len() <= TICKS_MAX);
        all.extend(due.ticks);
    }
    assert_eq!(all, (1..=2500).map(|n| n * 1000).collect::<Vec<u64>>());
}

#[test]
fn what_is_not_understood_is_refused_in_words() {
    for (pattern, zone) in [("61 * * * *", "UTC"), ("* * *", "UTC"), ("", "UTC"), ("* * * * *", "Mars/Phobos")] {
        let rule = Rule::Cron { pattern: pattern.into(), zone: zone.into() };
        let refused = Schedule::new("s".into(), "q".into(), rule, NewJob::default(), 0);
        assert!(matches!(refused, Err(Refusal::Pattern(_))), "{pattern} {zone}: {refused:?}");
    }
    let rule = Rule::Every(10);
    assert!(Schedule::new("s".into(), "q".into(), rule, NewJob::default(), 0).is_err());
    let never = Rule::Cron { pattern: "0 0 30 2 *".into(), zone: "UTC".into() };
    assert!(Schedule::new("s".into(), "q".into(), never, NewJob::default(), 0).is_err());
}
