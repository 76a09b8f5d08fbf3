//! The same conversation with an app, bare and behind Mainstay, written down so that the two can be compared.

use crate::curl::{Answer, curl};
use std::fmt::Write;

/// Headers that differ by nature: the date, ids, and what belongs to one connection alone.
const ASIDE: [&str; 7] =
    ["date", "connection", "keep-alive", "mainstay-request-id", "x-request-id", "traceparent", "tracestate"];

/// What the app may see more of behind an edge: forwarding headers and ids.
const GIVEN: [&str; 9] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
    "mainstay-request-id",
    "traceparent",
    "connection",
];

/// A conversation so far.
#[derive(Debug, Default)]
pub struct Transcript {
    text: String,
}

impl Transcript {
    /// One request by curl against `base`; `name` stands before its answer.
    pub fn ask(&mut self, base: &str, name: &str, path: &str, arguments: &[&str]) -> Answer {
        let url = format!("{base}{path}");
        let mut all = arguments.to_vec();
        all.push(&url);
        let answer = curl(&all);
        self.note(name, &told(&answer));
        answer
    }

    /// Something a client of its own saw.
    pub fn note(&mut self, name: &str, what: &str) {
        let _ = writeln!(self.text, "--- {name}\n{what}");
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Status, headers (sorted, lower case) and body of an answer.
fn told(answer: &Answer) -> String {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !ASIDE.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    format!("{} (curl {})\n{}\n\n{}", answer.status, answer.exit, headers.join("\n"), answer.text())
}

/// `[name, value]` pairs the app received, as its `/headers` tells them, without what an edge may add.
pub fn received(answer: &Answer) -> Vec<String> {
    let told = answer.json();
    let pairs = told.as_object().map(|map| map.iter().map(|(k, v)| (k.clone(), v.to_string())).collect::<Vec<_>>());
    let mut lines: Vec<String> = pairs
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, _)| !GIVEN.contains(&name.to_lowercase().as_str()))
        .map(|(name, value)| format!("{}: {value}", name.to_lowercase()))
        .collect();
    lines.sort();
    lines
}

/// Panics at the first line that differs.
#[track_caller]
pub fn same(bare: &Transcript, behind: &Transcript) {
    let (mut left, mut right) = (bare.text.lines(), behind.text.lines());
    let mut section = "";
    loop {
        let (one, two) = (left.next(), right.next());
        if one.is_none() && two.is_none() {
            return;
        }
        if let Some(line) = one.filter(|line| line.starts_with("--- ")) {
            section = line;
        }
        assert_eq!(
            one, two,
            "bare and behind differ in {section}\n=== bare\n{}\n=== behind\n{}",
            bare.text, behind.text
        );
    }
}
