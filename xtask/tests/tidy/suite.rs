//! How tests are written, and calls that stand in one place only.

use crate::tree::{self, File};
use std::collections::BTreeSet;

/// Where a wait of a fixed length is right, with the reason. Everywhere else a test waits on a condition.
const SLEEPS: &[(&str, &str)] = &[
    ("crates/servers/src/wait.rs", "the one place that looks again and again, with a bound"),
    ("crates/store/tests/it/support.rs", "looks again and again, with a bound, and lets the runtime work meanwhile"),
    ("crates/identity/tests/it/place.rs", "looks again and again, with a bound, and lets the runtime work meanwhile"),
    (
        "crates/identity/tests/it/sessions.rs",
        "looks again and again, with a bound, and lets the runtime work meanwhile",
    ),
    ("crates/jobs/tests/it/push.rs", "looks again and again, with a bound, and lets the runtime work meanwhile"),
    ("crates/fleet/tests/it/house.rs", "looks again and again, with a bound"),
    ("crates/fleet/tests/it/restart.rs", "nothing may happen meanwhile, and only time can show that"),
    ("crates/e2e/src/bin/static_app.rs", "an app that answers slowly"),
    ("crates/e2e/src/peer.rs", "a peer that answers slowly"),
];

/// A call, the paths that may make it, and why nobody else may.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        "Command::new(",
        &["crates/supervisor/", "crates/e2e/", "crates/servers/", "xtask/"],
        "the supervisor alone starts processes",
    ),
    (
        "TcpListener::bind(",
        // The demo's backend is an app like any other.
        &["crates/supervisor/", "crates/mainstay/src/demo", "crates/e2e/", "crates/servers/", "xtask/"],
        "the supervisor alone holds listening sockets",
    ),
    ("#[ignore", &[], "a flaky test is mended or deleted, never ignored"),
    ("#![allow(unsafe_code)]", &["crates/supervisor/src/", "crates/edge/src/"], "unsafe stays in few small modules"),
];

/// Requirement rows the project serves so far; each is shown by an end-to-end test that carries its id.
const ROWS: [&str; 76] = [
    "C1", "C2", "C3", "C4", "C5", "C7", "C8", "C9", "D6", "D10", "H1", "H2", "H3", "H4", "H5", "H6", "H8", "H9", "E1",
    "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "E12", "E13", "E14", "E15", "E16", "E17", "E18",
    "E19", "E20", "E21", "E22", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "L1", "L2", "L3", "L4", "L5", "L6", "L7",
    "L8", "R1", "R4", "R25", "R27", "S1", "S2", "S4", "S5", "S11", "S17", "J1", "J2", "J3", "J4", "J5", "J6", "J7",
    "J8", "J9", "J10", "J11",
];

#[test]
fn no_test_sleeps() {
    let mut faults = Vec::new();
    for file in tree::rust().iter().filter(|file| !file.path.starts_with("xtask/tests/tidy/")) {
        for (number, line) in file.text.lines().enumerate().skip(tests_begin(file)) {
            if calls_sleep(line) && !SLEEPS.iter().any(|(path, _)| *path == file.path) {
                faults.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    tree::none("a test waits on a condition with a bound, never for a time", faults);
}

#[test]
fn every_requirement_row_has_an_end_to_end_test() {
    let tests = tree::below("crates/e2e/tests", "rs");
    let shown: BTreeSet<String> = tests.iter().flat_map(|file| rows_named(&file.text)).collect();
    let faults = ROWS.iter().filter(|row| !shown.contains(**row)).map(|row| (*row).to_owned()).collect();
    tree::none("no test of crates/e2e names the row in its name or in its doc comment", faults);
}

/// Ids in the names and doc comments of tests: `fn h1_…`, `/// H1: …`.
fn rows_named(text: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for line in text.lines().map(str::trim_start) {
        let name = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "));
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        let split =
            |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
        rows.extend(name.map(|name| split(&name.to_ascii_uppercase())).unwrap_or_default());
        rows.extend(comment.map(split).unwrap_or_default());
    }
    rows
}

/// `sleep(…)` by whatever path, but not `asleep(…)`, and not the `time.sleep(…)` of a script in a string.
fn calls_sleep(line: &str) -> bool {
    let before = |at: usize| line[..at].chars().next_back();
    line.match_indices("sleep(").any(|(at, _)| !before(at).is_some_and(|c| c.is_alphanumeric() || "_.".contains(c)))
}

/// Number of lines before the tests of a file; a file of tests alone has none.
fn tests_begin(file: &File) -> usize {
    let tests =
        file.path.starts_with("crates/e2e/") || file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let begin = || file.text.lines().position(|line| line.trim() == "#[cfg(test)]");
    if tests { 0 } else { begin().unwrap_or(usize::MAX) }
}

#[test]
fn calls_with_one_place_stay_there() {
    let mut faults = Vec::new();
    for file in tree::rust().iter().filter(|file| !file.path.starts_with("xtask/tests/tidy/")) {
        for (call, places, reason) in ONLY_IN {
            let allowed = places.iter().any(|place| file.path.contains(place));
            let lines = product(file).enumerate().filter(|(_, line)| !allowed && line.contains(call));
            faults.extend(lines.map(|(number, _)| format!("{}:{}: {call}: {reason}", file.path, number + 1)));
        }
    }
    tree::none("a call outside its place", faults);
}

/// The lines before the unit tests, comments aside; an ignored test is looked for everywhere.
fn product(file: &File) -> impl Iterator<Item = &str> {
    let end = tests_begin(file);
    let kept = move |(number, line): (usize, _)| if number < end { line } else { "" };
    let ignored = |line: &str| line.trim_start().starts_with("#[ignore");
    file.text.lines().enumerate().map(move |(number, line)| {
        if ignored(line) {
            return line;
        }
        let line = kept((number, line));
        if line.trim_start().starts_with("//") { "" } else { line }
    })
}

#[test]
fn an_ignored_test_is_seen_among_unit_tests_and_a_comment_is_not_a_call() {
    let file = File { path: String::new(), text: "// Command::new(\nfoo\n#[cfg(test)]\nbar\n  #[ignore]\n".into() };
    assert_eq!(product(&file).collect::<Vec<_>>(), ["", "foo", "", "", "  #[ignore]"]);
}
