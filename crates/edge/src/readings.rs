//! Every way in which what stands behind may read a path: one server resolves `..` and the next does not, one decodes
//! `%2f`, one cuts `;x`, one folds the Kelvin sign into `k`. A guard holds for all of them.
//!
//! Pure. Must never leave a reading out because it is unlikely: that would be the one somebody looks for.

use crate::path::canonical;
use std::collections::BTreeSet;

/// Beyond this a path that can be read in several ways is taken to be any path at all: nobody's links look like that,
/// and spelling out two hundred readings of 8 KiB would cost more than the request.
const SEVERAL_BYTES_MAX: usize = 1024;

/// Three depths of escapes, four changes that are made or not, four shapes; and the canonical path.
#[cfg(test)]
pub const READINGS_MAX: usize = 3 * 16 * 4 + 1;

#[derive(Debug, PartialEq, Eq)]
pub enum Readings {
    /// The canonical path and no other.
    One,
    /// Each in the form of `canonical`, letters folded beyond ASCII too.
    Many(BTreeSet<String>),
    Anything,
}

pub fn every(path: &str) -> Readings {
    let raw = path.as_bytes();
    if is_plain(raw) {
        return Readings::One;
    }
    if raw.len() > SEVERAL_BYTES_MAX {
        return Readings::Anything;
    }
    let once = unescape(raw);
    let twice = unescape(&once);
    let mut all = BTreeSet::from([raw.to_vec(), once, twice]);
    for also in [slashes, parameters, end, host] {
        let more: Vec<Vec<u8>> = all.iter().map(|bytes| also(bytes)).collect();
        all.extend(more);
    }
    let own = canonical(path).path.split('/').map(folded).collect::<Vec<_>>().join("/");
    Readings::Many(all.iter().flat_map(|bytes| shapes(bytes)).chain([own]).collect())
}

/// Whoever reads it, it is what `canonical` makes of it.
fn is_plain(path: &[u8]) -> bool {
    let odd = |b: &u8| !b.is_ascii_graphic() || matches!(b, b'%' | b'\\' | b';' | b'#' | b'?');
    path.first() == Some(&b'/') && !path.iter().any(odd) && !path.windows(2).any(|w| w == b"//" || w == b"/.")
}

/// `%61`, `%u0061`, and the overlong forms of ASCII in UTF-8 that careless decoders take.
pub fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut i = 0;
    while i < path.len() {
        let (byte, length) = escape(&path[i..]).unwrap_or((path[i], 1));
        out.push(byte);
        i += length;
    }
    overlong(&out)
}

fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let number = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let hex = |range: std::ops::Range<usize>| {
        let digits = text.get(range).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        number(digits).and_then(|n| u8::try_from(n).ok())
    };
    match text {
        [b'%', b'u' | b'U', ..] => Some((hex(2..6)?, 6)),
        [b'%', ..] => Some((hex(1..3)?, 3)),
        _ => None,
    }
}

fn overlong(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, length) = match rest {
            [0xc0 | 0xc1, low @ 0x80..=0xbf, ..] => ((first & 1) << 6 | low & 0x3f, 2),
            [0xe0, high @ (0x80 | 0x81), low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 3),
            [0xf0, 0x80, high @ (0x80 | 0x81), low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 4),
            _ => (first, 1),
        };
        out.push(byte);
        rest = after.get(length - 1..).unwrap_or_default();
    }
    out
}

/// `\` is `/` to browsers and to whoever reads addresses as they do.
fn slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect()
}

/// `/a;x=1/b` is `/a/b` to servlets and their like.
fn parameters(path: &[u8]) -> Vec<u8> {
    let cut = |segment: &[u8]| segment.split(|&b| b == b';' || b == 0).next().unwrap_or_default().to_vec();
    path.split(|&b| b == b'/').map(cut).collect::<Vec<_>>().join(&b'/')
}

/// What was escaped may end the path for whoever decodes before it cuts; white space at its end is often dropped.
fn end(path: &[u8]) -> Vec<u8> {
    let cut = path.split(|b| matches!(b, 0 | b'?' | b'#')).next().unwrap_or_default();
    // `find-my-way`, of Fastify, ends the path at the first `;` too.
    let cut = cut.split(|&b| b == b';').next().unwrap_or_default();
    let kept = cut.iter().rposition(|b| !b.is_ascii_whitespace() && !b.is_ascii_control()).map_or(0, |last| last + 1);
    cut[..kept].to_vec()
}

/// `//x/a` is `/a` on the host `x` to whoever resolves it against an address (`new URL(request.url, base)`).
fn host(path: &[u8]) -> Vec<u8> {
    let rest = path.strip_prefix(b"//").unwrap_or_default();
    match rest.iter().position(|&b| b == b'/') {
        Some(slash) => rest[slash..].to_vec(),
        None => path.to_vec(),
    }
}

/// With `.` and `..` resolved and as they stand, with empty segments dropped and kept.
fn shapes(path: &[u8]) -> Vec<String> {
    let text = fold(&String::from_utf8_lossy(path));
    let segments: Vec<String> = text.split('/').skip(usize::from(text.starts_with('/'))).map(written).collect();
    let joined = |segments: &[&str]| match segments.join("/") {
        path if path.is_empty() => "/".to_owned(),
        path => format!("/{path}"),
    };
    let resolved = resolved(segments.iter().map(String::as_str));
    let filled = |segments: &[&str]| joined(&segments.iter().copied().filter(|s| !s.is_empty()).collect::<Vec<_>>());
    let all: Vec<&str> = segments.iter().map(String::as_str).collect();
    let merged = canonical(&joined(&all)).path.into_owned();
    vec![merged, filled(&resolved), filled(&all), joined(&all)]
}

/// As RFC 3986 §5.2.4 has it, where an empty segment is one.
fn resolved<'a>(segments: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out = Vec::new();
    for segment in segments {
        match segment {
            "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// As it would stand in a canonical path.
fn written(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for b in segment.bytes() {
        let stays = b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@;\\".contains(&b);
        match stays {
            true => out.push(char::from(b)),
            false => out.push_str(&format!("%{b:02x}")),
        }
    }
    out
}

/// A canonical text, its letters folded.
pub fn folded(text: &str) -> String {
    written(&fold(&String::from_utf8_lossy(&unescape(text.as_bytes()))))
}

/// What is one letter to somebody who compares without case, or takes a letter's full-width form for the letter:
/// `re.IGNORECASE` has `K` (U+212A) for `k`, `ſ` for `s`, `ı` and `İ` for `i`.
fn fold(text: &str) -> String {
    let narrow = |c: char| match u32::from(c) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xff01 + 0x21).unwrap_or(c),
        0x130 => 'i',
        _ => c,
    };
    text.chars().map(narrow).flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Pattern;
    use proptest::prelude::*;

    fn reads(pattern: &str, path: &str) -> bool {
        let pattern = Pattern::parse(pattern).expect(pattern).folded();
        match every(path) {
            Readings::One => pattern.covers("GET", "", &canonical(path).path),
            Readings::Many(all) => all.iter().any(|reading| pattern.covers("GET", "", reading)),
            Readings::Anything => true,
        }
    }

    #[test]
    fn whatever_some_server_takes_for_the_path_is_among_its_readings() {
        for path in [
            "/api/admin/tasks",
            "/API/Admin/tasks/",
            "//api/admin/tasks",
            "/api/./admin/x/../tasks",
            "/%61pi/admin/task%73",
            "/%2561pi/admin/tasks",
            "/api%2fadmin%2Ftasks",
            "/api%5cadmin/tasks",
            "/api\\admin\\tasks",
            "/api;x=1/admin/tasks;y",
            "/api/admin/tasks;/",
            "/api/admin/tasks%3bx",
            "/api/admin/tasks%00.js",
            "/api/admin/tasks%3f/open",
            "/api/admin/tasks%23",
            "/api/admin/tasks%0a",
            "/api/admin/tasks%20",
            "/api/admin/tas%e2%84%aas",
            "/ap%c4%b1/adm%C4%B0n/ta%c5%bfks",
            "/\u{ff41}pi/admin/tasks",
            "/api/%ef%bd%81dmin/tasks",
            "/api%c0%afadmin/t%c1%a1sks",
            "/api%e0%80%afadmin%f0%80%80%aftasks",
            "/%u0061pi/admin/tasks",
            "//host/api/admin/tasks",
            "/\\host/api/admin/tasks",
            "/api/admin/x//../tasks",
            "/api/admin//../admin/tasks",
            "/x/..%2fapi/admin/tasks",
        ] {
            assert!(reads("/api/admin/tasks", path), "{path}: {:?}", every(path));
        }
        // RFC 3986 takes the empty segment away, not `api`.
        assert!(reads("/api/tasks", "/api//../tasks"));
        // A server that leaves `..` alone has a user of that name.
        for path in ["/users/..", "/users/%2e%2e", "/users/.", "/users/a%2fb%5cc", "/users%2fa%5cb", "/users/a\\b"] {
            assert!(reads("/users/:id", path), "{path}: {:?}", every(path));
        }
        assert!(reads("/files/*", "/files/../open") && reads("/open", "/files/../open"));
    }

    #[test]
    fn what_nobody_takes_for_the_path_is_not() {
        for path in [
            "/",
            "/api/admin",
            "/api/admin/tasks2",
            "/api/admin/tasks.json",
            "/open",
            "/open/caf%c3%a9",
            "/open/a%20b",
            "/open;x=1",
            "/open/%40me",
            "/api/%25",
        ] {
            assert!(!reads("/api/admin/tasks", path), "{path}: {:?}", every(path));
        }
    }

    #[test]
    fn a_pattern_is_compared_as_it_was_meant() {
        for (pattern, path) in [
            ("/@me", "/%40me"),
            ("/@me", "/@ME"),
            ("/b\u{fc}ro", "/b%c3%bcro"),
            ("/b\u{fc}ro", "/B%C3%9CRO"),
            ("/b%C3%BCro", "/b\u{fc}ro"),
            ("/a%20b", "/a%20b"),
            ("/a%20b", "/a%2520b"),
            ("/b\u{fc}ro/:id", "/b%C3%BCro/7"),
        ] {
            assert!(reads(pattern, path), "{pattern} {path}: {:?}", every(path));
        }
    }

    #[test]
    fn a_long_odd_path_is_taken_for_anything_and_a_long_plain_one_is_not() {
        assert_eq!(every(&format!("/%61{}", "a".repeat(SEVERAL_BYTES_MAX))), Readings::Anything);
        assert_eq!(every(&format!("/{}", "a".repeat(8000))), Readings::One);
    }

    proptest! {
        #[test]
        fn the_readings_of_a_path_are_few_and_the_canonical_one_is_among_them(
            path in "/[a-zA-Z0-9./%~@é-]{0,40}",
        ) {
            let own = canonical(&path);
            match every(&path) {
                Readings::Many(all) if !own.ambiguous => {
                    prop_assert!(all.len() <= READINGS_MAX, "{}", all.len());
                    prop_assert!(all.iter().all(|reading| reading.starts_with('/')), "{own:?}: {all:?}");
                    let written = own.path.split('/').map(folded).collect::<Vec<_>>().join("/");
                    prop_assert!(all.contains(&written), "{own:?}: {all:?}");
                }
                Readings::One | Readings::Many(_) => {}
                Readings::Anything => prop_assert!(false),
            }
        }
    }
}
