//! Canonical paths and route patterns. Pure; the app always receives the original bytes.

use crate::readings;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A path as routes see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// Escapes of what means nothing to a router decoded, letters beyond ASCII escaped, `//`, `.` and `..` resolved,
    /// one trailing slash dropped, ASCII case folded.
    pub path: Cow<'a, str>,
    /// It still holds `%2f`, `%5c`, `%00`, `\` or `;`, which frameworks read in different ways, or a `%` that begins no
    /// escape: with what follows, once decoded, it may become one (`%%361` is `%61`, which is `a`).
    pub ambiguous: bool,
}

/// Brings `path` into the one form that patterns are compared with. Most paths already are and are borrowed.
pub fn canonical(path: &str) -> Canonical<'_> {
    if is_canonical(path.as_bytes()) {
        return Canonical { path: Cow::Borrowed(path), ambiguous: false };
    }
    let mut ambiguous = false;
    let out = resolve(path, means_nothing, &mut ambiguous);
    let path = String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Canonical { path: Cow::Owned(path.to_ascii_lowercase()), ambiguous }
}

/// Whether a canonical path is this one, or stands below it.
pub fn is_at_or_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The segments of the canonical path, their letters as they came: for what reads values out of them.
pub fn segments(path: &str) -> Vec<String> {
    let out = resolve(path, is_unreserved, &mut false);
    out.split(|&b| b == b'/').filter(|s| !s.is_empty()).map(|s| String::from_utf8_lossy(s).into_owned()).collect()
}

fn resolve(path: &str, decodes: fn(u8) -> bool, ambiguous: &mut bool) -> Vec<u8> {
    let decoded = decode(path.as_bytes(), decodes, ambiguous);
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len() + 1);
    for segment in decoded.split(|&b| b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|&b| b == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

fn is_canonical(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut last = 0u8;
    for &b in path {
        if b.is_ascii_uppercase() || !is_written(b) || matches!(b, b'%' | b'\\' | b';') {
            return false;
        }
        if last == b'/' && (b == b'/' || b == b'.') {
            return false;
        }
        last = b;
    }
    path.len() == 1 || last != b'/'
}

/// RFC 3986 §2.3: with and without an escape it is the same.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// To a router, those too that are reserved for others: every framework takes `%40me` for `@me`. What reads values out
/// of a segment may split it at a `,` and not at a `%2c`.
fn means_nothing(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,=:@".contains(&byte)
}

/// Decodes the escapes of what `decodes` names; of all else it keeps them, or makes them beyond ASCII.
fn decode(path: &[u8], decodes: fn(u8) -> bool, ambiguous: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut i = 0;
    while i < path.len() {
        let b = path[i];
        let escape = if b == b'%' { path.get(i + 1).zip(path.get(i + 2)) } else { None };
        match escape.and_then(|(&h, &l)| Some(hex(h)? << 4 | hex(l)?)) {
            Some(byte) => {
                if decodes(byte) {
                    out.push(byte);
                } else {
                    *ambiguous |= matches!(byte, b'/' | b'\\' | 0 | b'%');
                    out.extend_from_slice(&path[i..i + 3]);
                }
                i += 3;
            }
            None => {
                *ambiguous |= matches!(b, b'\\' | b';' | b'%');
                push(&mut out, b);
                i += 1;
            }
        }
    }
    out
}

fn is_written(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_control()
}

/// As a client writes it that keeps to what can be read.
fn push(out: &mut Vec<u8>, byte: u8) {
    match is_written(byte) {
        true => out.push(byte),
        false => out.extend_from_slice(format!("%{byte:02x}").as_bytes()),
    }
}

fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The other ways an ambiguous path could be read by what stands behind: escapes decoded once and twice, `\` as
/// `/`, and `;parameters` dropped. Canonical, so that routes can be compared.
pub fn readings(path: &str) -> Vec<String> {
    let once = unescape(path.as_bytes());
    let twice = unescape(&once);
    let plain = |bytes: &[u8]| {
        let slashes: Vec<u8> = bytes.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect();
        let segments = slashes.split(|&b| b == b'/').map(|s| s.split(|&b| b == b';' || b == 0).next().unwrap_or(s));
        let text = segments.map(String::from_utf8_lossy).collect::<Vec<_>>().join("/");
        canonical(&text).path.into_owned()
    };
    let mut all = vec![plain(path.as_bytes()), plain(&once), plain(&twice)];
    all.dedup();
    all
}

fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut i = 0;
    while i < path.len() {
        let escape = if path[i] == b'%' { path.get(i + 1).zip(path.get(i + 2)) } else { None };
        match escape.and_then(|(&h, &l)| Some(hex(h)? << 4 | hex(l)?)) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(path[i]);
                i += 1;
            }
        }
    }
    out
}

/// One entry: `[METHODS ][host]/literal/:name/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As it was written: the name of the route in metrics and trails.
    pub text: String,
    methods: Vec<String>,
    host: Option<String>,
    segments: Vec<Segment>,
    /// Ends in `*`: anything below, and the path without it too.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Name,
}

impl Pattern {
    /// Reads `POST /api/v1/auth/login`, `GET,HEAD /files/*`, `api.example.com/*`, `www.example.com`.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let trimmed = text.trim();
        let (methods, target) = match trimmed.rsplit_once(char::is_whitespace) {
            Some((methods, target)) => (parse_methods(methods)?, target),
            None => (Vec::new(), trimmed),
        };
        let (host, path) = match target.find('/') {
            Some(0) => (None, target),
            Some(slash) => (Some(parse_host(&target[..slash])?), &target[slash..]),
            None if target == "*" => (None, "/*"),
            None => (Some(parse_host(target)?), "/*"),
        };
        let (segments, open) = parse_segments(path)?;
        Ok(Pattern { text: trimmed.to_owned(), methods, host, segments, open })
    }

    /// `host` without its port and in lower case; `path` canonical.
    pub fn matches(&self, method: &str, host: &str, path: &str) -> bool {
        if !self.methods.is_empty() && !self.methods.iter().any(|m| m.eq_ignore_ascii_case(method)) {
            return false;
        }
        if self.host.as_deref().is_some_and(|wanted| !host_matches(wanted, host)) {
            return false;
        }
        self.matches_path(path)
    }

    /// As `matches`, whatever the host.
    pub fn matches_anywhere(&self, method: &str, path: &str) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|m| m.eq_ignore_ascii_case(method)))
            && self.matches_path(path)
    }

    /// As `matches`, but what is said of GET holds for HEAD too: frameworks answer both by one handler.
    pub fn covers(&self, method: &str, host: &str, path: &str) -> bool {
        self.covers_method(method) && self.covers_path(host, path)
    }

    pub fn covers_method(&self, method: &str) -> bool {
        let named = |method: &str| self.methods.iter().any(|own| own.eq_ignore_ascii_case(method));
        self.methods.is_empty() || named(method) || method.eq_ignore_ascii_case("HEAD") && named("GET")
    }

    pub fn covers_path(&self, host: &str, path: &str) -> bool {
        self.host.as_deref().is_none_or(|wanted| host_matches(wanted, host)) && self.matches_path(path)
    }

    /// For paths whose letters are folded beyond ASCII.
    pub fn folded(&self) -> Pattern {
        let fold = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(readings::folded(text)),
            Segment::Name => Segment::Name,
        };
        Pattern { segments: self.segments.iter().map(fold).collect(), ..self.clone() }
    }

    fn matches_path(&self, path: &str) -> bool {
        if self.segments.is_empty() && self.open {
            return true;
        }
        let mut rest = path.strip_prefix('/').unwrap_or(path);
        for segment in &self.segments {
            if rest.is_empty() {
                return false;
            }
            let (head, tail) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                Segment::Literal(literal) if literal != head => return false,
                _ => rest = tail,
            }
        }
        rest.is_empty() || self.open
    }

    /// Greater means more specific: literal › `:name` › `*`, longer › shorter, method › none, host › none.
    pub fn specificity(&self, other: &Pattern) -> Ordering {
        let rank = |p: &Pattern, i: usize| match p.segments.get(i) {
            Some(Segment::Literal(_)) => 3,
            Some(Segment::Name) => 2,
            None if p.open => 1,
            None => 0,
        };
        let longest = self.segments.len().max(other.segments.len());
        for i in 0..longest {
            match rank(self, i).cmp(&rank(other, i)) {
                Ordering::Equal => {}
                different => return different,
            }
        }
        (self.segments.len().cmp(&other.segments.len()))
            .then(other.open.cmp(&self.open))
            .then((!self.methods.is_empty()).cmp(&!other.methods.is_empty()))
            .then(self.host.is_some().cmp(&other.host.is_some()))
    }

    /// Two entries that match the very same requests, so that one of them could never win.
    pub fn same_requests(&self, other: &Pattern) -> bool {
        self.host == other.host
            && self.segments == other.segments
            && self.open == other.open
            && (self.methods.is_empty() && other.methods.is_empty()
                || self.methods.iter().any(|m| other.methods.contains(m)))
    }

    pub fn names_host(&self) -> bool {
        self.host.is_some()
    }

    pub fn is_everything(&self) -> bool {
        self.methods.is_empty() && self.host.is_none() && self.segments.is_empty() && self.open
    }
}

fn parse_methods(text: &str) -> Result<Vec<String>, String> {
    let words = text.split(|c: char| c == ',' || c == '|' || c.is_whitespace()).filter(|m| !m.is_empty());
    let methods: Vec<String> = words.map(str::to_owned).collect();
    match methods.iter().find(|m| !m.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')) {
        Some(bad) => Err(format!("`{bad}` is not a method; methods are written as GET or GET,POST")),
        None => Ok(methods),
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    let host = text.to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'[' | b']' | b':');
    if name.is_empty() || !name.bytes().all(fits) {
        return Err(format!("`{text}` is not a host name; a path begins with `/`"));
    }
    Ok(host)
}

fn parse_segments(path: &str) -> Result<(Vec<Segment>, bool), String> {
    let mut segments = Vec::new();
    let mut open = false;
    for part in path.split('/').filter(|s| !s.is_empty()) {
        if open {
            return Err("`*` may only be the last segment".to_owned());
        }
        if part == "*" {
            open = true;
        } else if part.contains('*') {
            return Err(format!("`{part}`: `*` stands for whole segments"));
        } else if let Some(name) = part.strip_prefix(':') {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(format!("`{part}` is not a name; write `:id`"));
            }
            segments.push(Segment::Name);
        } else {
            let decoded = decode(part.as_bytes(), means_nothing, &mut false);
            segments.push(Segment::Literal(String::from_utf8_lossy(&decoded).to_ascii_lowercase()));
        }
    }
    Ok((segments, open))
}

fn host_matches(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix("*.") {
        // One label, as in a certificate.
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => wanted == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canon(path: &str) -> (String, bool) {
        let c = canonical(path);
        (c.path.into_owned(), c.ambiguous)
    }

    #[test]
    fn every_spelling_of_a_path_has_one_form() {
        for spelling in ["/admin", "/admin/", "//admin", "/x/../admin", "/./admin", "/%61dmin", "/ADMIN", "/%2e/admin"]
        {
            assert_eq!(canon(spelling), ("/admin".to_owned(), false), "{spelling}");
        }
        assert_eq!(canon("/../.."), ("/".to_owned(), false));
        assert_eq!(canon(""), ("/".to_owned(), false));
        assert_eq!(canon("/a%20b"), ("/a%20b".to_owned(), false));
        assert_eq!(canon("/%40me%2B%3a"), ("/@me+:".to_owned(), false));
        assert_eq!(canon("/b\u{fc}ro"), canon("/b%C3%BCro"));
    }

    #[test]
    fn segments_keep_what_may_part_a_value() {
        assert_eq!(segments("/A/%2e%2e/b%2Cc,d/%41"), ["b%2Cc,d", "A"]);
    }

    #[test]
    fn what_frameworks_read_differently_is_flagged() {
        for path in ["/a%2fb", "/a%2Fb", "/a%5cb", "/a%00", "/a\\b", "/a;b=c", "/a%252f", "/%%361"] {
            assert!(canon(path).1, "{path}");
        }
    }

    #[test]
    fn every_way_to_read_a_path_is_known() {
        for path in [
            "/a%2fadmin",
            "/a%252fadmin",
            "/a%5cadmin",
            "/a\\admin",
            "/a;x=1/admin",
            "/b/..%2fa/admin",
            "/a/admin%00.js",
            "/a/%%361dmin",
        ] {
            assert!(readings(path).iter().any(|r| r == "/a/admin"), "{path}: {:?}", readings(path));
        }
    }

    #[test]
    fn patterns_match_what_they_say() {
        let cases = [
            ("/api/*", "GET", "x", "/api", true),
            ("/api/*", "GET", "x", "/api/v1/users", true),
            ("/api/*", "GET", "x", "/apis", false),
            ("/users/:id", "GET", "x", "/users/7", true),
            ("/users/:id", "GET", "x", "/users", false),
            ("/users/:id", "GET", "x", "/users/7/posts", false),
            ("POST /login", "GET", "x", "/login", false),
            // A pattern may be written as people read it.
            ("/b\u{fc}ro", "GET", "x", "/b%c3%bcro", true),
            ("/a%20b/%40me", "GET", "x", "/a%20b/@me", true),
            // Some servers read `post` as POST.
            ("POST /login", "post", "x", "/login", true),
            ("GET,HEAD /login", "HEAD", "x", "/login", true),
            ("api.example.com/*", "GET", "api.example.com", "/", true),
            ("api.example.com", "GET", "www.example.com", "/", false),
            ("*.example.com", "GET", "a.example.com", "/z", true),
            ("*.example.com", "GET", "a.b.example.com", "/z", false),
            ("/", "GET", "x", "/", true),
            ("/", "GET", "x", "/a", false),
            ("*", "GET", "x", "/a", true),
        ];
        for (pattern, method, host, path, expected) in cases {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(method, host, path), expected, "{pattern} {method} {host}{path}");
        }
    }

    #[test]
    fn the_more_specific_wins() {
        let order = ["GET /a/b", "/a/b", "/a/:x", "/a/*", "x.com/*", "/*"];
        for pair in order.windows(2) {
            let (a, b) = (Pattern::parse(pair[0]).expect("a"), Pattern::parse(pair[1]).expect("b"));
            assert_eq!(a.specificity(&b), Ordering::Greater, "{} over {}", pair[0], pair[1]);
            assert_eq!(b.specificity(&a), Ordering::Less);
        }
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        for bad in ["/a/*/b", "/a*", "/:", "G3T /x", "no slash", "exa$mple/"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixpoint_and_never_climbs(path in "/[a-zA-Z0-9./%;\\\\~ -]{0,40}") {
            let Canonical { path: once, ambiguous } = canonical(&path);
            prop_assert!(ambiguous || canonical(&once).path == once);
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.split('/').any(|s| s == ".." || s == "."));
        }
    }
}
