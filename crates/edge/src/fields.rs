//! Header fields in the order and the letters they came in: one text, and where each line of it begins.
//!
//! A proxy reads few of the fields it passes on. A table keyed by name costs a hash and often an allocation a field
//! and forgets how the name was written; here a field costs the copy of its bytes, and the names that the edge itself
//! asks for are recognised once, so that asking for one is comparing numbers.

use std::fmt;

macro_rules! known {
    ($($variant:ident = $text:literal,)*) => {
        /// A name the edge knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Name { $($variant,)* }

        impl Name {
            const ALL: &'static [Name] = &[$(Name::$variant,)*];

            pub const fn text(self) -> &'static str {
                match self { $(Name::$variant => $text,)* }
            }
        }
    };
}

known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    Age = "age",
    Authorization = "authorization",
    CacheControl = "cache-control",
    CacheStatus = "cache-status",
    CacheTag = "cache-tag",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentLocation = "content-location",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Etag = "etag",
    Expect = "expect",
    Expires = "expires",
    Forwarded = "forwarded",
    ForwardedFor = "x-forwarded-for",
    ForwardedHost = "x-forwarded-host",
    ForwardedPort = "x-forwarded-port",
    ForwardedProto = "x-forwarded-proto",
    Host = "host",
    Http2Settings = "http2-settings",
    IdempotencyKey = "idempotency-key",
    IfMatch = "if-match",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    IfRange = "if-range",
    IfUnmodifiedSince = "if-unmodified-since",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Location = "location",
    Origin = "origin",
    Pragma = "pragma",
    ProxyConnection = "proxy-connection",
    Range = "range",
    RealIp = "x-real-ip",
    RequestId = "mainstay-request-id",
    RetryAfter = "retry-after",
    SecFetchMode = "sec-fetch-mode",
    SetCookie = "set-cookie",
    SurrogateKey = "surrogate-key",
    Te = "te",
    Traceparent = "traceparent",
    Trailer = "trailer",
    Hsts = "strict-transport-security",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    XRequestId = "x-request-id",
}

/// More names than bits in `Fields::present` would be lost without a word.
const _: () = assert!(Name::ALL.len() <= 64);

/// More than the longest name the edge knows, `strict-transport-security`, has.
const NAME_BYTES_MAX: usize = 26;

/// For each length of a name, those that have it: most names are told apart by their length.
const BY_LENGTH: [[Option<Name>; 8]; NAME_BYTES_MAX] = by_length();

const fn by_length() -> [[Option<Name>; 8]; NAME_BYTES_MAX] {
    let mut table = [[None; 8]; NAME_BYTES_MAX];
    let mut i = 0;
    while i < Name::ALL.len() {
        let length = Name::ALL[i].text().len();
        let mut free = 0;
        while table[length][free].is_some() {
            free += 1;
        }
        table[length][free] = Some(Name::ALL[i]);
        i += 1;
    }
    table
}

impl Name {
    pub fn of(name: &[u8]) -> Option<Name> {
        let candidates = BY_LENGTH.get(name.len())?;
        for candidate in candidates {
            let candidate = (*candidate)?;
            if candidate.text().as_bytes().eq_ignore_ascii_case(name) {
                return Some(candidate);
            }
        }
        None
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// One field of the text: its name, then its value, nothing between.
#[derive(Clone, Copy)]
struct Line {
    at: u32,
    name_bytes: u32,
    value_bytes: u32,
    known: Option<Name>,
}

/// Fields of one head. Reused from message to message: clearing keeps the room.
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// A bit for each known name that is there.
    present: u64,
}

impl Fields {
    /// For tests: these, in this order.
    #[cfg(test)]
    pub fn of(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        pairs.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        fields
    }

    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        self.present = 0;
    }

    /// Names and values, as a limit counts them: each line with ": " and its end.
    pub fn size(&self) -> usize {
        self.lines.iter().map(|l| (l.name_bytes + l.value_bytes) as usize + 4).sum()
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|l| (self.name_of(l), self.value_of(l)))
    }

    /// Known names with their values.
    pub fn iter_known(&self) -> impl Iterator<Item = (Name, &[u8])> {
        self.lines.iter().filter_map(|l| Some((l.known?, self.value_of(l))))
    }

    pub fn has(&self, name: Name) -> bool {
        self.present & name.bit() != 0
    }

    /// Any of these is there.
    pub fn has_any(&self, names: &[Name]) -> bool {
        self.present & names.iter().fold(0, |bits, n| bits | n.bit()) != 0
    }

    pub fn count(&self, name: Name) -> usize {
        if self.has(name) { self.all(name).count() } else { 0 }
    }

    /// The first of this name.
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        if self.has(name) { self.all(name).next() } else { None }
    }

    pub fn text_of(&self, name: Name) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |l| l.known == Some(name)).map(|l| self.value_of(l))
    }

    /// The elements of a list that may stand on several lines (RFC 9110 §5.6.1).
    pub fn tokens(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let lines = if self.has(name) { &self.lines[..] } else { &[] };
        let values = lines.iter().filter(move |l| l.known == Some(name)).map(|l| self.value_of(l));
        values.flat_map(|v| v.split(|&b| b == b',')).map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
    }

    /// One of the elements is this, in whatever letters.
    pub fn has_token(&self, name: Name, token: &str) -> bool {
        self.tokens(name).any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// A field of this name is there, whether or not the edge knows the name.
    pub fn has_named(&self, name: &[u8]) -> bool {
        self.named(name).next().is_some()
    }

    /// All of a name as a message gives it.
    pub fn named(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        let known = Name::of(name);
        let is_it = move |line: &&Line| match known {
            Some(_) => line.known == known,
            None => line.known.is_none() && self.name_of(line).eq_ignore_ascii_case(name),
        };
        self.lines.iter().filter(is_it).map(|l| self.value_of(l))
    }

    /// Becomes a copy of these, in the room it has.
    pub fn copy_from(&mut self, other: &Fields) {
        self.text.clear();
        self.text.extend_from_slice(&other.text);
        self.lines.clear();
        self.lines.extend_from_slice(&other.lines);
        self.present = other.present;
    }

    /// The first field of any name.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.named(name.as_bytes()).next()
    }

    /// Appends a field whose name and value have been proved to be such.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_as(Name::of(name), name, value);
    }

    pub fn add(&mut self, name: Name, value: &[u8]) {
        self.push_as(Some(name), name.text().as_bytes(), value);
    }

    /// Replaces all of this name by one.
    pub fn set(&mut self, name: Name, value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    pub fn remove(&mut self, name: Name) {
        if self.has(name) {
            self.lines.retain(|l| l.known != Some(name));
            self.present &= !name.bit();
        }
    }

    /// Removes a name as a message gives it.
    pub fn remove_named(&mut self, name: &[u8]) {
        if let Some(known) = Name::of(name) {
            return self.remove(known);
        }
        let text = &self.text;
        self.lines.retain(|l| {
            let at = l.at as usize;
            !text[at..at + l.name_bytes as usize].eq_ignore_ascii_case(name)
        });
    }

    /// Removes every field whose name is one of those.
    pub fn remove_where(&mut self, is_it: impl Fn(&[u8]) -> bool) {
        let text = &self.text;
        let before = self.lines.len();
        self.lines.retain(|l| !is_it(&text[l.at as usize..(l.at + l.name_bytes) as usize]));
        if self.lines.len() < before {
            self.present = self.lines.iter().filter_map(|l| l.known).fold(0, |bits, name| bits | name.bit());
        }
    }

    /// Removes every name that begins so; `prefix` is in small letters.
    pub fn remove_prefixed(&mut self, prefix: &[u8]) {
        self.remove_where(|name| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    }

    /// Writes each as `name: value` and the end of its line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.text.len() + self.lines.len() * 4);
        for line in &self.lines {
            let (at, name, value) = (line.at as usize, line.name_bytes as usize, line.value_bytes as usize);
            let text = &self.text[at..at + name + value];
            out.extend_from_slice(&text[..name]);
            out.extend_from_slice(b": ");
            out.extend_from_slice(&text[name..]);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn push_as(&mut self, known: Option<Name>, name: &[u8], value: &[u8]) {
        // A head is bounded far below 4 GiB: the casts lose nothing.
        let line =
            Line { at: self.text.len() as u32, name_bytes: name.len() as u32, value_bytes: value.len() as u32, known };
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.lines.push(line);
        if let Some(known) = known {
            self.present |= known.bit();
        }
    }

    fn name_of(&self, line: &Line) -> &[u8] {
        let at = line.at as usize;
        &self.text[at..at + line.name_bytes as usize]
    }

    fn value_of(&self, line: &Line) -> &[u8] {
        let at = (line.at + line.name_bytes) as usize;
        &self.text[at..at + line.value_bytes as usize]
    }
}

/// A field's value may be a password: only names are shown.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_known_name_is_known_in_any_letters() {
        for &name in Name::ALL {
            assert_eq!(Name::of(name.text().as_bytes()), Some(name));
            assert_eq!(Name::of(name.text().to_ascii_uppercase().as_bytes()), Some(name));
            assert_eq!(Name::of(format!("{}x", name.text()).as_bytes()), None);
        }
        assert_eq!(Name::of(b""), None);
        assert_eq!(Name::of(&[b'x'; 100]), None);
    }

    #[test]
    fn letters_and_order_stay_and_the_first_of_a_name_is_found() {
        let f = Fields::of(&[("HOST", "a"), ("X-One", "1"), ("cookie", "a=1"), ("Cookie", "b=2"), ("x-one", "2")]);
        assert_eq!(f.get(Name::Host), Some(&b"a"[..]));
        assert_eq!(f.count(Name::Cookie), 2);
        assert_eq!(f.find("x-ONE"), Some(&b"1"[..]));
        let mut text = Vec::new();
        f.write(&mut text);
        assert_eq!(text, b"HOST: a\r\nX-One: 1\r\ncookie: a=1\r\nCookie: b=2\r\nx-one: 2\r\n");
        assert_eq!(f.size(), text.len());
    }

    #[test]
    fn tokens_of_several_lines_are_one_list() {
        let f = Fields::of(&[("Connection", "keep-alive, X-A"), ("connection", " ,Upgrade")]);
        let all: Vec<_> = f.tokens(Name::Connection).collect();
        assert_eq!(all, [&b"keep-alive"[..], b"X-A", b"Upgrade"]);
        assert!(f.has_token(Name::Connection, "upgrade") && !f.has_token(Name::Connection, "close"));
        assert!(!f.has_token(Name::Upgrade, "websocket"));
    }

    #[test]
    fn nothing_of_a_value_is_shown_for_debugging() {
        assert_eq!(format!("{:?}", Fields::of(&[("Authorization", "Bearer secret")])), r#"["Authorization"]"#);
    }

    proptest! {
        /// Against a plain list of pairs.
        #[test]
        fn behaves_as_a_list_of_pairs(
            ops in prop::collection::vec(
                (0..4u8, prop::sample::select(vec!["Host", "te", "X-A", "x-b", "TE"]), "[a-z]{0,5}"),
                0..40,
            ),
        ) {
            let mut model: Vec<(String, String)> = Vec::new();
            let mut f = Fields::default();
            for (op, name, value) in ops {
                match (op, Name::of(name.as_bytes())) {
                    (0, _) => {
                        model.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
                        f.remove_named(name.as_bytes());
                    }
                    (1, Some(known)) => {
                        model.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
                        model.push((known.text().to_owned(), value.clone()));
                        f.set(known, value.as_bytes());
                    }
                    _ => {
                        model.push((name.to_owned(), value.clone()));
                        f.push(name.as_bytes(), value.as_bytes());
                    }
                }
            }
            let all: Vec<(String, String)> = f
                .iter()
                .map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), String::from_utf8_lossy(v).into_owned()))
                .collect();
            prop_assert_eq!(&all, &model);
            for &name in Name::ALL {
                let there = model.iter().any(|(n, _)| n.eq_ignore_ascii_case(name.text()));
                prop_assert_eq!(f.has(name), there);
            }
        }
    }
}
