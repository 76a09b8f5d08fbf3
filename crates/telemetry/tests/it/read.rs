//! Log files read back: forwards, backwards and following, against a naive reading of the same lines.

use mainstay_telemetry::Level;
use mainstay_telemetry::files::{Bounds, Files, path, segments};
use mainstay_telemetry::read::{Logs, Position, Query};
use mainstay_telemetry::time::iso;
use proptest::prelude::*;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

const NOON_US: u64 = 1_769_947_200_000_000;

fn line(i: usize, level: Level, instance: &str, padding: usize) -> String {
    let at = iso(NOON_US + i as u64 * 1_000_000);
    let text = "x".repeat(padding);
    format!(
        "{{\"level\":\"{level}\",\"timestamp\":\"{at}\",\"kind\":\"app\",\"message\":\"{i} {text}\",\"app\":\"main\",\
         \"instance\":\"{instance}\",\"app.meta\":{{\"instance\":\"main.9\"}}}}"
    )
}

fn files(dir: &Path, bytes: u64) -> Files {
    let bounds = Bounds { keep: Duration::from_secs(1 << 40), bytes };
    Files::open(dir, bounds, NOON_US).expect("open")
}

fn read(logs: &Logs, query: &Query) -> Vec<String> {
    let mut lines = Vec::new();
    let each = |line: &str| {
        lines.push(line.to_owned());
        ControlFlow::Continue(())
    };
    logs.read(query, each).expect("read");
    lines
}

#[test]
fn filters_hold_together() {
    let dir = tempfile::tempdir().expect("folder");
    let logs = Logs::new(dir.path());
    assert_eq!(read(&logs, &Query::default()), Vec::<String>::new());
    let mut files = files(dir.path(), 1 << 30);
    let all: Vec<String> = (0..20).map(|i| line(i, Level::ALL[i % 5], ["main.1", "main.12"][i % 2], 5)).collect();
    files.write((all.join("\n") + "\nnot one of ours\n{\"torn").as_bytes(), NOON_US).expect("write");
    let numbers = |query: Query| -> Vec<usize> {
        let forwards = read(&logs, &query);
        let mut backwards = logs.last(&query, 100).expect("read");
        backwards.reverse();
        assert_eq!(forwards, backwards);
        forwards.iter().map(|line| all.iter().position(|l| l == line).expect("known")).collect()
    };
    let none = Query::default();
    assert_eq!(numbers(none.clone()).len(), 20);
    assert_eq!(numbers(Query { level: Some(Level::Error), ..none.clone() }), [0, 5, 10, 15]);
    assert_eq!(numbers(Query { instance: Some("main.1".into()), ..none.clone() }).len(), 10);
    assert_eq!(numbers(Query { instance: Some("12".into()), ..none.clone() }).len(), 10);
    assert_eq!(numbers(Query { instance: Some("main.9".into()), ..none.clone() }).len(), 0);
    assert_eq!(numbers(Query { since_unix_us: Some(NOON_US + 18_000_000), ..none.clone() }), [18, 19]);
    assert_eq!(numbers(Query { contains: Some("\"7 ".into()), ..none.clone() }), [7]);
    assert_eq!(numbers(Query { app: Some("other".into()), ..none.clone() }).len(), 0);
    assert_eq!(numbers(Query { level: Some(Level::Warn), ..none.clone() }).len(), 8);
    assert_eq!(read(&logs, &Query { tail: Some(3), ..none }), all[17..]);
}

#[test]
fn following_sees_every_line_once_through_rotation() {
    let dir = tempfile::tempdir().expect("folder");
    let mut files = files(dir.path(), 16 << 20);
    let logs = Logs::new(dir.path());
    let mut expected = Vec::new();
    let write = |files: &mut Files, expected: &mut Vec<String>, count: usize| {
        for _ in 0..count {
            let text = line(expected.len(), Level::Info, "main.1", 5000);
            files.write(format!("{text}\n").as_bytes(), NOON_US).expect("write");
            expected.push(text);
        }
    };
    write(&mut files, &mut expected, 10);
    let mut seen = Vec::new();
    let query = Query { tail: Some(4), ..Query::default() };
    let mut each = |line: &str| {
        seen.push(line.to_owned());
        ControlFlow::Continue(())
    };
    let mut position = logs.read(&query, &mut each).expect("read");
    for count in [0, 1, 700, 3, 500] {
        write(&mut files, &mut expected, count);
        logs.follow(&query, &mut position, &mut each).expect("follow");
    }
    let all = segments(dir.path()).expect("list");
    assert!(all.len() > 3, "{}", all.len());
    // Half a line is not a line yet.
    let newest = path(dir.path(), all.last().expect("one").number);
    let mut file = std::fs::OpenOptions::new().append(true).open(&newest).expect("open");
    let text = line(expected.len(), Level::Info, "main.1", 5);
    file.write_all(&text.as_bytes()[..40]).expect("write");
    logs.follow(&query, &mut position, &mut each).expect("follow");
    file.write_all(format!("{}\n", &text[40..]).as_bytes()).expect("write");
    logs.follow(&query, &mut position, &mut each).expect("follow");
    expected.push(text);
    assert!(seen == expected[6..], "{} of {}", seen.len(), expected.len() - 6);
    // From a position whose segment was deleted it goes on with what there is.
    std::fs::remove_file(path(dir.path(), all[0].number)).expect("delete");
    let mut start = Position { segment: all[0].number, offset: 77, before: None };
    let mut count = 0;
    logs.follow(&query, &mut start, |_| {
        count += 1;
        ControlFlow::Continue(())
    })
    .expect("follow");
    assert!(count > 100 && start == position);
}

#[test]
fn following_sees_the_lines_of_two_servers_while_one_takes_over() {
    let dir = tempfile::tempdir().expect("folder");
    let mut old = files(dir.path(), 16 << 20);
    let mut new = Files::beside(dir.path(), Bounds { keep: Duration::from_secs(1 << 40), bytes: 16 << 20 });
    let logs = Logs::new(dir.path());
    let mut written = 0;
    let mut write = |files: &mut Files| {
        let text = line(written, Level::Info, "main.1", 50);
        written += 1;
        files.write(format!("{text}\n").as_bytes(), NOON_US).expect("write");
        text
    };
    let mut expected = vec![write(&mut old)];
    let mut seen = Vec::new();
    let query = Query::default();
    let mut each = |line: &str| {
        seen.push(line.to_owned());
        ControlFlow::Continue(())
    };
    let mut position = logs.read(&query, &mut each).expect("read");
    for _ in 0..3 {
        expected.push(write(&mut old));
        expected.push(write(&mut new));
        logs.follow(&query, &mut position, &mut each).expect("follow");
    }
    // Whoever begins to follow meanwhile misses none either.
    let mut late =
        logs.read(&Query { tail: Some(0), ..Query::default() }, |_| ControlFlow::Continue(())).expect("read");
    expected.extend([write(&mut old), write(&mut new)]);
    logs.follow(&query, &mut position, &mut each).expect("follow");
    let mut seen_late = 0;
    logs.follow(&query, &mut late, |_| {
        seen_late += 1;
        ControlFlow::Continue(())
    })
    .expect("follow");
    assert_eq!((seen, seen_late), (expected, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_last_lines_are_the_last_lines(
        lengths in proptest::collection::vec(prop_oneof![0usize..200, 60_000usize..140_000], 1..30),
        tail in 1usize..40, torn in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().expect("folder");
        let mut files = files(dir.path(), 1 << 20);
        let mut all = Vec::new();
        for (i, length) in lengths.iter().enumerate() {
            let text = line(i, Level::Info, "main.1", *length);
            files.write(format!("{text}\n").as_bytes(), NOON_US).expect("write");
            all.push(text);
        }
        if torn {
            files.write(b"{\"level\":\"info\",\"timestamp\":\"2026", NOON_US).expect("write");
        }
        let logs = Logs::new(dir.path());
        let kept = read(&logs, &Query::default());
        prop_assert!(all.ends_with(&kept));
        let last = read(&logs, &Query { tail: Some(tail), ..Query::default() });
        prop_assert_eq!(&last[..], &kept[kept.len().saturating_sub(tail)..]);
    }
}
