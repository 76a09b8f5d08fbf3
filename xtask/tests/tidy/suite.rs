//! How tests are written, and calls that stand in one place only.

use crate::tree::{self, File};

/// Where a wait of a fixed length is right, with the reason. Everywhere else a test waits on a condition.
const SLEEPS: &[(&str, &str)] = &[
    ("crates/e2e/src/wait.rs", "the one place that looks again and again, with a bound"),
    ("crates/e2e/src/bin/static_app.rs", "an app that answers slowly"),
    ("crates/e2e/src/peer.rs", "a peer that answers slowly"),
];

/// A call, the paths that may make it, and why nobody else may.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("Command::new(", &["crates/supervisor/", "crates/e2e/", "xtask/"], "the supervisor alone starts processes"),
    (
        "TcpListener::bind(",
        // The demo's backend is an app like any other.
        &["crates/supervisor/", "crates/mainstay/src/demo/", "crates/e2e/", "xtask/"],
        "the supervisor alone holds listening sockets",
    ),
    ("#[ignore", &[], "a flaky test is mended or deleted, never ignored"),
    ("#![allow(unsafe_code)]", &["crates/supervisor/src/", "crates/edge/src/"], "unsafe stays in few small modules"),
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

/// `sleep(…)` by whatever path, but not `asleep(…)`.
fn calls_sleep(line: &str) -> bool {
    let before = |at: usize| line[..at].chars().next_back();
    line.match_indices("sleep(").any(|(at, _)| !before(at).is_some_and(|c| c.is_alphanumeric() || c == '_'))
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
