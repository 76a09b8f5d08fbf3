//! Any bytes at all for what is read of a stranger: paths, patterns, frames, forwarded chains, Engine.IO queries.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use crate::address::{Trusted, client};
use crate::affinity::{Affinity, Query, query};
use crate::fields::Name;
use crate::frames::Frames;
use crate::http2::is_malformed;
use crate::message::{RequestHead, Version};
use crate::path::{Canonical, Pattern, canonical, readings};
use crate::readings::{READINGS_MAX, Readings, every, folded};
use mainstay_config::units::range;
use std::net::IpAddr;

#[path = "../../config/tests/it/spelled.rs"]
pub mod spelled;
use spelled::spelled;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

const PATH_WORDS: [&str; 26] = [
    "/", "/", "/", "//", "..", ".", "/../", "/./", "%2e", "%2E", "%2f", "%5C", "%00", "%25", "%61", "%41", "%20",
    "%c3%a9", "%36", "1", "%", "\\", ";x=1", "admin", "A", "~",
];

#[test]
fn paths_have_one_form() {
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let path = spelled(bytes, &PATH_WORDS);
        let once = canonical(&path);
        assert!(once.path.starts_with('/') && !once.path.contains("//"), "{path:?}: {once:?}");
        assert!(once.path.len() == 1 || !once.path.ends_with('/'), "{path:?}: {once:?}");
        assert!(!once.path.split('/').any(|segment| segment == "." || segment == ".."), "{path:?}: {once:?}");
        assert!(!once.path.bytes().any(|byte| byte.is_ascii_uppercase()), "{path:?}: {once:?}");
        let twice = canonical(&once.path);
        assert!(once.ambiguous || twice == once, "{path:?}: {once:?} {twice:?}");
        // However it is escaped, it stays what it is.
        let escaped = canonical(&escaped(&once.path)).path.into_owned();
        assert!(once.ambiguous || escaped == once.path, "{path:?}: {once:?} {escaped:?}");
        let all = readings(&path);
        assert!(once.ambiguous || all.iter().any(|reading| *reading == once.path), "{path:?}: {once:?} {all:?}");
        assert!(all.iter().all(|reading| reading.starts_with('/')), "{path:?}: {all:?}");
    });
}

#[test]
fn the_ways_a_path_may_be_read_are_few_and_the_canonical_path_is_one() {
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let path = spelled(bytes, &PATH_WORDS);
        let own = canonical(&path).path.split('/').map(folded).collect::<Vec<_>>().join("/");
        if let Readings::Many(all) = every(&path) {
            assert!(all.len() <= READINGS_MAX && all.contains(&own), "{path:?}: {own:?} {all:?}");
            assert!(all.iter().all(|reading| reading.starts_with('/')), "{path:?}: {all:?}");
        }
        let rubbish = String::from_utf8_lossy(bytes);
        let _ = every(&rubbish);
    });
}

/// Letters and digits that are no part of an escape, as escapes.
fn escaped(path: &str) -> String {
    let mut out = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => out.extend([Some('%'), chars.next(), chars.next()].into_iter().flatten()),
            c if c.is_ascii_alphanumeric() => out.push_str(&format!("%{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

const PATTERN_WORDS: [&str; 18] = [
    "/",
    "/",
    "/*",
    "/:id",
    "/a",
    "/b",
    "/A",
    "*",
    "*.",
    "example.com",
    "GET",
    "POST",
    ",",
    "|",
    " ",
    ":",
    "%61",
    "..",
];

#[test]
fn patterns_are_read_as_they_are_shown_and_ranked_in_one_order() {
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        let read = |bytes| Pattern::parse(&spelled(bytes, &PATTERN_WORDS)).ok();
        let (Some(one), Some(other)) = (read(one), read(other)) else { return };
        assert_eq!(Pattern::parse(&one.text).as_ref(), Ok(&one));
        assert_eq!(one.specificity(&other), other.specificity(&one).reverse(), "{one:?} {other:?}");
        assert!(one.specificity(&one).is_eq() && one.same_requests(&other) == other.same_requests(&one));
    });
}

#[test]
fn a_path_is_matched_by_itself_and_by_everything() {
    let everything = Pattern::parse("/*").expect("a pattern");
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let spelled = spelled(bytes, &PATH_WORDS);
        let Canonical { path, ambiguous } = canonical(&spelled);
        let path = path.into_owned();
        assert!(everything.matches("GET", "x", &path), "{path:?}");
        // Unless it would be read as something else than a literal, or can be read in two ways.
        if ambiguous || path.contains(|c: char| c.is_whitespace() || c == '*') || path.contains("/:") {
            return;
        }
        let literal = Pattern::parse(&path).unwrap_or_else(|fault| panic!("{path:?}: {fault}"));
        assert!(literal.matches("GET", "x", &path), "{path:?}: {literal:?}");
        assert!(path == "/" || !literal.matches("GET", "x", "/"), "{path:?}: {literal:?}");
    });
}

/// Where frames end, read at one go with nothing remembered.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0_usize);
    while let Some(second) = bytes.get(at + 1) {
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let Some(long) = bytes.get(at + 2..at + 2 + extended) else { break };
        let long = long.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let payload = if extended == 0 { u64::from(second & 0x7f) } else { long };
        let end = usize::try_from(payload).ok().and_then(|payload| (at + 2 + extended + mask).checked_add(payload));
        match end {
            Some(end) if end <= bytes.len() => {
                ends.push(end);
                at = end;
            }
            _ => break,
        }
    }
    ends
}

#[test]
fn frames_end_where_they_end_however_they_are_cut() {
    bolero::check!().with_iterations(INPUTS).with_max_len(400).for_each(|bytes: &[u8]| {
        let expected = ends(bytes);
        let is_between = expected.last().copied().unwrap_or(0) == bytes.len();
        for size in [1, 2, 7, bytes.len().max(1)] {
            let (mut frames, mut found, mut passed) = (Frames::default(), Vec::new(), 0);
            for mut piece in bytes.chunks(size) {
                while let Some(end) = frames.first_end(piece) {
                    passed += end;
                    found.push(passed);
                    piece = &piece[end..];
                }
                passed += piece.len();
            }
            assert_eq!(found, expected, "cut by {size}: {bytes:02x?}");
            assert_eq!(frames.is_between(), is_between, "{bytes:02x?}");
        }
        let mut frames = Frames::default();
        frames.pass(bytes);
        assert_eq!(frames.is_between(), is_between, "{bytes:02x?}");
    });
}

const HEAD_WORDS: [&str; 20] = [
    "|",
    "|",
    "|",
    "/",
    "?",
    "*",
    "#",
    "@",
    ":",
    "80",
    ":80",
    ":443",
    "a.example",
    "A.Example",
    " ",
    "\t",
    "\u{e9}",
    "\0",
    "0",
    "-1",
];

/// Target, authority, host, length, any field: what passes is what an app may be given.
#[test]
fn what_is_left_of_a_malformed_request_over_http2_goes_no_further() {
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &HEAD_WORDS);
        let mut parts = text.split('|');
        let mut head = RequestHead::default();
        head.version = Version::Http2;
        let _ = head.set_target(parts.next().unwrap_or_default());
        head.authority = parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        for name in ["host", "content-length", "x"] {
            let Some(part) = parts.next().filter(|part| !part.is_empty()) else { continue };
            head.fields.push(name.as_bytes(), part.as_bytes());
        }
        if is_malformed(&head) {
            return;
        }
        assert!(head.target().starts_with('/'), "{text:?}");
        assert!(!head.authority.as_deref().unwrap_or("").contains('@'), "{text:?}");
        let mut fields = head.fields.iter();
        assert!(fields.all(|(_, value)| value.trim_ascii().len() == value.len()), "{text:?}");
        let length = head.fields.get(Name::ContentLength);
        assert!(length.is_none_or(|length| !length.is_empty() && length.iter().all(u8::is_ascii_digit)), "{text:?}");
        if let (Some(authority), Some(host)) = (head.authority.clone(), head.fields.text_of(Name::Host)) {
            let (name, other) = (authority.split(':').next(), host.split(':').next());
            assert!(name.zip(other).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other)), "{text:?}");
            let mut turned = head.clone();
            turned.authority = Some(host.to_owned());
            turned.fields.set(Name::Host, authority.as_bytes());
            let blank = authority.trim_ascii().len() != authority.len();
            assert!(blank || !is_malformed(&turned), "one way only: {text:?}");
        }
    });
}

const CHAIN_WORDS: [&str; 21] = [
    ",",
    ", ",
    ",",
    "10.0.0.1",
    "10.255.255.255",
    "1.2.3.4",
    "6.6.6.6",
    "fd00::1",
    "[fd00::2]:80",
    "[2001:db8::1]",
    ":80",
    "::ffff:10.0.0.3",
    "::ffff:6.6.6.6",
    "unknown",
    "_hidden",
    "[",
    "]",
    "for=",
    "\"",
    " ",
    "|",
];

#[test]
fn nobody_chooses_its_own_address() {
    let nets = ["10.0.0.0/8", "fd00::/8"].map(|net| (range(net).expect("a range"), String::new()));
    let trusted = Trusted::new(nets.into());
    let stranger: IpAddr = "203.0.113.5".parse().expect("an address");
    let proxy: IpAddr = "10.0.0.9".parse().expect("an address");
    bolero::check!().with_iterations(INPUTS).with_max_len(32).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &CHAIN_WORDS);
        // Several headers are one list.
        let headers: Vec<&str> = text.split('|').collect();
        assert_eq!(client(stranger, &trusted, headers.iter().copied(), Some(&text)), stranger, "{text:?}");
        let found = client(proxy, &trusted, headers.iter().copied(), None);
        assert_eq!(found, client(proxy, &trusted, std::iter::once(headers.join(",").as_str()), None), "{text:?}");
        if trusted.contains(found) {
            return;
        }
        // The first stranger from the right: what it claims itself, to the left, changes nothing.
        for claim in ["1.1.1.1", "10.0.0.1", "rubbish"] {
            let claimed: Vec<&str> = std::iter::once(claim).chain(headers.iter().copied()).collect();
            assert_eq!(client(proxy, &trusted, claimed.iter().copied(), Some(claim)), found, "{claim} {text:?}");
        }
    });
}

#[test]
fn ranges_are_read_as_they_are_shown() {
    let words = ["10", ".", ".", "0", "255", "/", "/8", "/128", ":", "::", "fd00", "ffff", "%eth0", " "];
    bolero::check!().with_iterations(INPUTS).with_max_len(8).for_each(|bytes: &[u8]| {
        if let Ok(net) = range(&spelled(bytes, &words)) {
            assert_eq!(range(&net.to_string()), Ok(net));
            assert!(net.contains(&net.network()));
        }
    });
}

#[test]
fn queries_name_a_session_that_stands_in_them() {
    let words = ["&", "&", "=", "EIO=4", "EIO", "sid=", "sid=abc", "transport=", "polling", "websocket", "&t=x", "%"];
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        let read = query(Some(&text));
        match read {
            Query::Session(sid) => assert!(!sid.is_empty() && text.contains(&format!("sid={sid}")), "{text:?}"),
            Query::Handshake => assert!(text.contains("transport=polling"), "{text:?}"),
            Query::Other => {}
        }
        assert!(read == Query::Other || text.contains("EIO="), "{text:?}");
        assert_eq!(query(Some(&format!("t=x&{text}&b64=1"))), read, "{text:?}");
    });
}

#[test]
fn handshakes_teach_the_session_they_name_or_nothing() {
    bolero::check!().with_iterations(INPUTS).with_max_len(600).for_each(|bytes: &[u8]| {
        let affinity = Affinity::default();
        affinity.learn(bytes, 1, 0);
        affinity.learn(spelled(bytes, &["0{", "\"sid\":\"", "\"", ",", "}"]).as_bytes(), 1, 0);
        assert!(affinity.len() <= 2);
        let sid: String = spelled(bytes, &["a", "-", "_"]).chars().filter(|c| *c != '"').take(20).collect();
        if !sid.is_empty() {
            affinity.learn(format!("96:0{{\"sid\":\"{sid}\",\"upgrades\":[]}}").as_bytes(), 7, 1);
            assert_eq!(affinity.find(&sid, 2), Some(7), "{sid:?}");
        }
    });
}
