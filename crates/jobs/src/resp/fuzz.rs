//! Any bytes at all for what clients of the port send.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use super::frame::{Parsed, Protocol, Reply, parse};
use super::{glob, keys};

#[path = "../../../config/tests/it/spelled.rs"]
mod spelled;
use spelled::spelled;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

const WORDS: [&str; 20] = [
    "*1\r\n",
    "*2\r\n",
    "*3\r\n",
    "$4\r\n",
    "$-1\r\n",
    "$0\r\n\r\n",
    "$4\r\nLLEN\r\n",
    "$14\r\nbull:scan:wait\r\n",
    "PING\r\n",
    "\r\n",
    "*",
    "$",
    "\"",
    "'",
    "\\x41",
    "LRANGE bull:scan:wait 0 -1\n",
    "*65\r\n",
    "$65537\r\n",
    "bull:",
    ":logs",
];

/// Requests of these bytes one after the other, and whether something broken stands behind them.
fn requests(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, usize, bool) {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match parse(&bytes[at..]) {
            Ok(Parsed::Whole(words, taken)) => {
                assert!(taken > 0 && at + taken <= bytes.len());
                at += taken;
                found.push(words);
            }
            Ok(Parsed::Partial) => return (found, at, false),
            Err(_) => return (found, at, true),
        }
    }
}

#[test]
fn requests_are_the_same_however_they_are_cut() {
    bolero::check!().with_iterations(INPUTS).with_max_len(64).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &WORDS).into_bytes();
        let whole = requests(&text);
        let cut = usize::from(bytes.first().copied().unwrap_or(0)) % (text.len() + 1);
        let (mut front, taken, is_broken) = requests(&text[..cut]);
        if is_broken {
            // What is broken stays so, whatever follows.
            assert_eq!((front, taken, true), whole);
            return;
        }
        let (behind, more, is_broken) = requests(&text[taken..]);
        front.extend(behind);
        assert_eq!((front, taken + more, is_broken), whole);
    });
}

#[test]
fn what_is_understood_is_written_so_that_it_is_understood_again() {
    bolero::check!().with_iterations(INPUTS).with_max_len(64).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &WORDS).into_bytes();
        for words in requests(&text).0.into_iter().filter(|words| !words.is_empty()) {
            let mut written = Vec::new();
            Reply::Array(words.iter().cloned().map(Reply::Bulk).collect()).write(Protocol::Two, &mut written);
            let length = written.len();
            assert_eq!(parse(&written), Ok(Parsed::Whole(words, length)));
        }
    });
}

#[test]
fn keys_and_patterns_of_any_bytes_are_read() {
    bolero::check!().with_iterations(INPUTS).with_max_len(64).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &["bull:", "scan:", "wait", "12", ":logs", "*", "[", "]", "^", "-", "\\", "?"]);
        let (pattern, name) = text.as_bytes().split_at(text.len() / 2);
        glob::matches(pattern, name);
        glob::matches(name, pattern);
        if let Some(key) = keys::Key::parse(text.as_bytes()) {
            // `waiting` is another name for what is listed as `wait`.
            let listed = keys::name(&key.queue, key.part);
            assert_eq!(keys::Key::parse(&listed), Some(key), "{text}");
        }
    });
}
