//! Any bytes at all for what comes from apps, clients and old files: child lines, trace headers, log files, secrets.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use crate::child::Output;
use crate::read::{Logs, Query};
use crate::{Level, Line, Redactor, Stream, TraceParent, files};
use mainstay_runtime::Millis;
use serde_json::Value;
use std::ops::ControlFlow;

#[path = "../../config/tests/it/spelled.rs"]
mod spelled;
use spelled::spelled;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;
/// For those that are written to a disk.
const FILE_INPUTS: usize = 2_000;
const NOON_US: u64 = 1_769_947_200_000_000;
const SECRET: &str = "p\"ss/w\u{f6}rd&1";

#[test]
fn trace_parents_are_written_as_they_were_read() {
    let words =
        ["00", "01", "cc", "ff", "-", "-", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "0", "A", "g"];
    bolero::check!().with_iterations(INPUTS).with_max_len(60).for_each(|bytes: &[u8]| {
        let n = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let part = |at: usize| ["00", "01", "ff", "7f"][usize::from(n(at)) % 4];
        let near = format!("{}-{:032x}-{:016x}-{}", part(0), n(1), n(2), part(3));
        let rest = spelled(bytes, &words);
        for header in
            [bytes.to_vec(), rest.clone().into_bytes(), near.clone().into_bytes(), (near + &rest).into_bytes()]
        {
            let Some(parent) = TraceParent::parse(&header) else { continue };
            let written = parent.format();
            assert_eq!(written[3..52], header[3..52], "ids are kept: {header:?}");
            assert_eq!(TraceParent::parse(&written), Some(parent));
            assert!(parent.trace_id != [0; 16] && parent.parent_id != [0; 8]);
        }
    });
}

const CHILD_WORDS: [&str; 40] = [
    "\n",
    "\n",
    "\r\n",
    "\r",
    "{",
    "}",
    "}\n",
    "{\"",
    "\":\"",
    "\",\"",
    "\"level\":\"warn\"",
    "\"level\":50",
    "\"msg\":\"m\"",
    "\"message\":",
    "\"time\":1769947200000",
    "\"time\":1e300",
    "\"time\":-1",
    "\"timestamp\":\"2026-02-01T12:00:00Z\"",
    "\"ts\":\"2026-13-99 25:61:61,999\"",
    "\"trace_id\":\"0AF7651916CD43DD8448EB211C80319C\"",
    "\"app\":\"evil\"",
    "\"instance\":\"main.9\"",
    "null",
    "[1,2]",
    "\"a\":{\"b\":[{}]}",
    ",",
    "ERROR",
    "[warn]",
    "Error: x",
    "    at f (a.js:1:1)",
    "Traceback (most recent call last):",
    "\u{1b}[31m",
    "\u{0}",
    "\u{feff}",
    "\u{2028}",
    "\\u0000",
    "\\",
    SECRET,
    "panicked at",
    "\"level\":\"error\",\"timestamp\":\"x\"",
];

/// What an instance's output becomes, pushed in pieces of this size.
fn lines(bytes: &[u8], size: usize) -> Vec<Line> {
    let mut output = Output::new("main", "main.1");
    let mut lines = Vec::new();
    for piece in bytes.chunks(size) {
        output.push(Stream::Stderr, piece, Millis(0), NOON_US, |line| lines.push(line));
    }
    output.end(Stream::Stderr, Millis(0), NOON_US, |line| lines.push(line));
    lines
}

#[test]
fn child_lines_are_the_same_however_they_are_cut_and_stay_lines() {
    let secrets = Redactor::new([("PASSWORD", SECRET)]);
    bolero::check!().with_iterations(INPUTS).with_max_len(40).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &CHILD_WORDS);
        for bytes in [bytes, text.as_bytes()] {
            let whole = lines(bytes, bytes.len().max(1));
            for size in [1, 3] {
                assert_eq!(format!("{:?}", lines(bytes, size)), format!("{whole:?}"), "{bytes:?}");
            }
            let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
            let open = usize::from(bytes.last().is_some_and(|byte| *byte != b'\n'));
            assert_eq!(whole.len(), newlines + open, "{bytes:?}");
            whole.iter().for_each(|line| is_written(line, &secrets));
        }
    });
}

/// In the file it is one line of JSON, found by what it is and by nothing that the child wrote, without the secret.
fn is_written(line: &Line, secrets: &Redactor) {
    let mut out = Vec::new();
    line.write_json("production", secrets, &mut out);
    let text = String::from_utf8(out).expect("UTF-8");
    let body = text.strip_suffix('\n').expect("a line");
    assert!(!body.bytes().any(|byte| byte < b' '), "{body:?}");
    let value: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!((&value["app"], &value["instance"]), (&Value::from("main"), &Value::from("main.1")), "{body}");
    let query = |instance: &str| Query {
        level: Some(line.level),
        app: Some("main".to_owned()),
        instance: Some(instance.to_owned()),
        kind: Some("app".to_owned()),
        ..Query::default()
    };
    assert!(query("main.1").matches(body) && query("1").matches(body), "{body}");
    assert!(!query("main.9").matches(body) && !query("9").matches(body), "{body}");
    if line.level > Level::Error {
        assert!(!Query { level: Some(Level::Error), ..Query::default() }.matches(body), "{body}");
    }
    assert!(!secrets.is_match(body) && !body.contains(SECRET), "{body}");
    let mut shown = Vec::new();
    line.write_text(false, secrets, &mut shown);
    let shown = String::from_utf8(shown).expect("UTF-8");
    assert!(!shown.contains(SECRET) && !shown.contains('\u{1b}'), "{shown:?}");
}

const FILE_WORDS: [&str; 8] = [
    "\n",
    "\n",
    "\n",
    "{\"level\":\"info\",\"timestamp\":\"2026-02-01T12:00:00.000Z\",\"kind\":\"app\",\"app\":\"main\"}\n",
    "{\"level\":\"error\",\"timestamp\":\"2026-02-01T12:00:01.000Z\"",
    "{\"level\":\"",
    "{\"torn",
    "}",
];

#[test]
fn a_log_file_of_any_bytes_reads_the_same_from_both_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let logs = Logs::new(dir.path());
    bolero::check!().with_iterations(FILE_INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        for content in [bytes.to_vec(), spelled(bytes, &FILE_WORDS).into_bytes()] {
            std::fs::write(files::path(dir.path(), 1), &content).expect("a segment");
            for query in [Query::default(), Query { level: Some(Level::Error), ..Query::default() }] {
                let mut forwards = Vec::new();
                let each = |line: &str| {
                    forwards.push(line.to_owned());
                    ControlFlow::Continue(())
                };
                logs.read(&query, each).expect("read");
                let mut backwards = logs.last(&query, 1000).expect("read");
                backwards.reverse();
                assert_eq!(forwards, backwards, "{content:?}");
                assert!(forwards.iter().all(|line| query.matches(line)));
            }
        }
    });
}

#[test]
fn no_secret_is_left_in_any_text() {
    const OTHER: &str = "rd&1sk_live_42";
    let redactor = Redactor::new([("PASSWORD", SECRET), ("KEY", OTHER)]);
    let words = [
        "p\"ss",
        "/w\u{f6}",
        "rd&1",
        "sk_live_42",
        SECRET,
        OTHER,
        "p\\\"ss\\/w\u{f6}rd\\u0026",
        "1",
        " ",
        "%22",
        "\u{f6}",
    ];
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        for out in [redactor.text(&text), redactor.cut_text(&text)] {
            assert!(!redactor.is_match(&out) && !out.contains(SECRET) && !out.contains(OTHER), "{text:?}: {out:?}");
        }
        if !redactor.is_match(&text) {
            assert_eq!(redactor.text(&text), text);
        }
        // However it is cut, no beginning of a secret of four bytes or more is left at the end.
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let out = redactor.cut_text(&text[..cut]);
            for secret in [SECRET, OTHER] {
                let mut beginnings = (4..secret.len()).filter(|len| secret.is_char_boundary(*len));
                assert!(!beginnings.any(|len| out.ends_with(&secret[..len])), "{:?}: {out:?}", &text[..cut]);
            }
        }
    });
}
