//! What a client may say in HTTP/2 that would be another request in HTTP/1.1 (RFC 9113 §8.2, §8.3, §10.3).
//!
//! Spelled as in `smuggling_corpus`.

use crate::smuggling_corpus::{Want, latin, want};
use mainstay_e2e::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, frame};
use mainstay_e2e::hpack::literal;

/// How the stream ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With its head.
    Head,
    /// With its body; `|` parts its frames.
    Body(&'static str),
    /// With trailers.
    Trailers(&'static str, &'static [(&'static str, &'static str)]),
    /// Not at all: the client goes away.
    Never(&'static str),
}

#[derive(Debug, Clone, Copy)]
enum Say {
    /// Reset, or answered by the edge; nothing of it reaches the app.
    No,
    /// The app sees this method, target and body.
    Yes(&'static str, &'static str, &'static str),
    /// Either.
    Maybe(&'static str, &'static str, &'static str),
}

#[derive(Debug, Clone)]
pub struct Item {
    pub class: &'static str,
    pub name: String,
    /// Frames of stream 1.
    pub bytes: Vec<u8>,
    pub want: Option<Want>,
    /// It may as well be refused.
    pub may_refuse: bool,
    /// What of it may reach the app before the edge knows that it breaks off, or is not what it said.
    pub begun: Option<Want>,
    /// It never ends.
    pub half: bool,
}

type Row = (&'static [(&'static str, &'static str)], End, Say);

pub fn all() -> Vec<Item> {
    let classes: [(&str, &[Row]); 3] =
        [("http2 length", LENGTHS), ("http2 fields", FIELDS), ("http2 pseudo-headers", PSEUDO)];
    classes.iter().flat_map(|(class, rows)| rows.iter().enumerate().map(|(n, row)| item(class, row, n))).collect()
}

/// `:method` and the like are put before the row's fields where the row has none of them.
fn item(class: &'static str, (fields, end, say): &Row, n: usize) -> Item {
    let name = format!("{}-{n}", class.replace(' ', "-"));
    let text = |text: &str| latin(&text.replace('§', &name));
    let block =
        |fields: &[(&str, &str)]| fields.iter().flat_map(|(n, v)| literal(&text(n), &text(v))).collect::<Vec<_>>();
    let usual = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/§")];
    let own = fields.iter().any(|(name, _)| name.starts_with(':') && name.len() > 1);
    let head = match own {
        true => block(fields),
        false => block(&[&usual[..], fields].concat()),
    };
    let flags = if matches!(end, End::Head) { END_HEADERS | END_STREAM } else { END_HEADERS };
    let mut bytes = frame(HEADERS, flags, 1, &head);
    let (body, last) = match end {
        End::Head => (None, 0),
        End::Body(body) => (Some(body), END_STREAM),
        End::Trailers(body, _) | End::Never(body) => (Some(body), 0),
    };
    if let Some(body) = body {
        let pieces: Vec<&str> = body.split('|').collect();
        for (i, piece) in pieces.iter().enumerate() {
            let flags = if i + 1 == pieces.len() { last } else { 0 };
            bytes.extend(frame(DATA, flags, 1, &text(piece)));
        }
    }
    if let End::Trailers(_, trailers) = end {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    let begun = body.map(|body| want("POST", "/§", &body.replace('|', ""), &name));
    let (want, may_refuse) = match say {
        Say::No => (None, true),
        Say::Yes(method, target, body) => (Some(want(method, target, body, &name)), false),
        Say::Maybe(method, target, body) => (Some(want(method, target, body, &name)), true),
    };
    Item { class, bytes, want, may_refuse, begun, half: matches!(end, End::Never(_)), name }
}

use End::{Body, Head, Never, Trailers};
use Say::{Maybe, No, Yes};

/// Chunks and a request, as they would look to an app that reads them as framing.
const HIDDEN: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

const LENGTHS: &[Row] = &[
    (&[], Head, Yes("POST", "/§", "")),
    (&[], Body("hello"), Yes("POST", "/§", "hello")),
    (&[], Body("hel|lo|"), Yes("POST", "/§", "hello")),
    (&[], Body(""), Yes("POST", "/§", "")),
    (&[("content-length", "5")], Body("hello"), Yes("POST", "/§", "hello")),
    (&[("content-length", "5")], Body("h|ello|"), Yes("POST", "/§", "hello")),
    (&[("content-length", "05")], Body("hello"), Maybe("POST", "/§", "hello")),
    (&[("content-length", "0")], Head, Yes("POST", "/§", "")),
    (&[("content-length", "0")], Body(""), Yes("POST", "/§", "")),
    (&[("content-length", "5"), ("content-length", "5")], Body("hello"), Maybe("POST", "/§", "hello")),
    (&[("content-length", "")], Body(""), Maybe("POST", "/§", "")),
    (&[("content-length", "")], Head, Maybe("POST", "/§", "")),
    (&[("content-length", "")], Body("hello"), No),
    (&[("content-length", ""), ("content-length", "0")], Body(""), Maybe("POST", "/§", "")),
    (&[], Body(HIDDEN), Yes("POST", "/§", HIDDEN)),
    (&[("content-length", "40")], Body(HIDDEN), Yes("POST", "/§", HIDDEN)),
    (&[("content-length", "5")], Body("hel"), No),
    (&[("content-length", "3")], Body("hello"), No),
    (&[("content-length", "0")], Body(HIDDEN), Maybe("POST", "/§", "")),
    (&[("content-length", "5")], Body(HIDDEN), No),
    (&[("content-length", "5")], Head, No),
    (&[("content-length", "5")], Body(""), No),
    (&[("content-length", "5"), ("content-length", "6")], Body("hello"), No),
    (&[("content-length", "6"), ("content-length", "5")], Body("hello"), No),
    (&[("content-length", "5"), ("content-length", "x")], Body("hello"), No),
    (&[("content-length", "5,5")], Body("hello"), No),
    (&[("content-length", "5, 6")], Body("hello"), No),
    (&[("content-length", "+5")], Body("hello"), No),
    (&[("content-length", "-5")], Body("hello"), No),
    (&[("content-length", "0x5")], Body("hello"), No),
    (&[("content-length", " 5")], Body("hello"), No),
    (&[("content-length", "5 ")], Body("hello"), No),
    (&[("content-length", "99999999999999999999")], Body("hello"), No),
    (&[("content-length", "5")], Trailers("hel", &[("x", "y")]), No),
    (&[("content-length", "5")], Trailers("hello", &[("x-sum", "1")]), Yes("POST", "/§", "hello")),
    (&[], Trailers("hello", &[("content-length", "50")]), Maybe("POST", "/§", "hello")),
    (&[], Trailers("hello", &[("transfer-encoding", "chunked")]), Maybe("POST", "/§", "hello")),
    (&[], Trailers("hello", &[("x\r\ny", "z")]), No),
    (&[], Trailers("hello", &[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")]), No),
    (&[], Trailers("hello", &[(":path", "/smuggled")]), Maybe("POST", "/§", "hello")),
    (&[("content-length", "5")], Never("hel"), Maybe("POST", "/§", "hello")),
    (&[], Never("hello"), Maybe("POST", "/§", "hello")),
];

const FIELDS: &[Row] = &[
    (&[("cookie", "a=1"), ("cookie", "b=2")], Head, Yes("POST", "/§", "")),
    (&[("te", "trailers")], Head, Yes("POST", "/§", "")),
    (&[("expect", "100-continue")], Body("hello"), Yes("POST", "/§", "hello")),
    (&[("content_length", "50")], Body("hello"), Yes("POST", "/§", "hello")),
    (&[("transfer_encoding", "chunked")], Body(HIDDEN), Yes("POST", "/§", HIDDEN)),
    (&[("transfer_encoding", "chunked"), ("content-length", "40")], Body(HIDDEN), Yes("POST", "/§", HIDDEN)),
    (&[("x-forwarded-for", "6.6.6.6"), ("mainstay-request-id", "r_x")], Head, Yes("POST", "/§", "")),
    (&[("x", "\u{e9}\u{ff}")], Head, Yes("POST", "/§", "")),
    (&[("host", "b")], Head, Maybe("POST", "/§", "")),
    (&[("host", "a"), ("host", "b")], Head, No),
    (&[("host", "a\r\nx: y")], Head, No),
    (&[("transfer-encoding", "chunked")], Body(HIDDEN), No),
    (&[("transfer-encoding", "chunked"), ("content-length", "40")], Body(HIDDEN), No),
    (&[("transfer-encoding", "identity")], Head, No),
    (&[("Transfer-Encoding", "chunked")], Body(HIDDEN), No),
    (&[("transfer-encoding ", "chunked")], Body(HIDDEN), No),
    (&[("transfer-encoding: chunked\r\nx", "y")], Body(HIDDEN), No),
    (&[("x", "y\r\ntransfer-encoding: chunked")], Body(HIDDEN), No),
    (&[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")], Head, No),
    (&[("x", "y\ntransfer-encoding: chunked")], Body(HIDDEN), No),
    (&[("x", "y\rtransfer-encoding: chunked")], Body(HIDDEN), No),
    (&[("x", "y\u{0}z")], Head, No),
    (&[("x", "y\u{1}z")], Head, No),
    (&[("x", " y")], Head, Maybe("POST", "/§", "")),
    (&[("X-Upper", "y")], Head, No),
    (&[("x y", "z")], Head, No),
    (&[("x:y", "z")], Head, No),
    (&[("x\u{0}y", "z")], Head, No),
    (&[("x\u{e9}", "z")], Head, No),
    (&[("", "z")], Head, No),
    (&[(":", "z")], Head, No),
    (&[("connection", "close")], Head, No),
    (&[("connection", "content-length"), ("content-length", "5")], Body("hello"), No),
    (&[("keep-alive", "timeout=5")], Head, No),
    (&[("proxy-connection", "close")], Head, No),
    (&[("upgrade", "websocket")], Head, No),
    (&[("te", "gzip")], Head, No),
];

const PSEUDO: &[Row] = &[
    (
        &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§?x=1")],
        Head,
        Yes("GET", "/§?x=1", ""),
    ),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/§"), ("host", "a")], Head, Yes("GET", "/§", "")),
    (&[(":method", "GET"), (":scheme", "http"), (":path", "/§")], Head, Maybe("GET", "/§", "")),
    (&[(":method", "HEAD"), (":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, Maybe("HEAD", "/§", "")),
    (
        &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§")],
        Body(HIDDEN),
        Yes("GET", "/§", HIDDEN),
    ),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§ HTTP/1.1\r\nx: y")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§ HTTP/1.1")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§\tx")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§\n")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§\u{0}")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "*")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "?§")], Head, Maybe("GET", "/?§", "")),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "http://evil/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "evil/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "@evil/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§#x")], Head, Maybe("GET", "/§", "")),
    (
        &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§"), (":path", "/smuggled")],
        Head,
        No,
    ),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a")], Head, No),
    (&[(":method", "GET / HTTP/1.1\r\nx: y"), (":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GET /smuggled HTTP/1.1"), (":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", ""), (":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GE\u{0}T"), (":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":scheme", "http"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a\r\nx: y"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a b"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a/b"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a,b"), (":path", "/§")], Head, No),
    (
        &[(":method", "GET"), (":scheme", "http"), (":authority", "u:p@a"), (":path", "/§")],
        Head,
        Maybe("GET", "/§", ""),
    ),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":authority", "b"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http\r\nx: y"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http://a/x?"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§"), (":status", "200")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/§"), (":x", "y")], Head, No),
    (&[(":method", "GET"), (":scheme", "http"), ("x", "y"), (":authority", "a"), (":path", "/§")], Head, No),
    (&[(":method", "CONNECT"), (":authority", "a:80")], Head, No),
    (&[(":method", "CONNECT"), (":scheme", "http"), (":authority", "a:80"), (":path", "/§")], Head, No),
    (
        &[(":method", "GET"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", "/§")],
        Head,
        No,
    ),
    (
        &[(":method", "CONNECT"), (":protocol", "other"), (":scheme", "http"), (":authority", "a"), (":path", "/§")],
        Head,
        No,
    ),
    (
        &[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/§"),
            ("content-length", "39"),
        ],
        Never(HIDDEN),
        No,
    ),
    (
        &[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/§"),
            ("content-length", ""),
        ],
        Head,
        Maybe("GET", "/§", ""),
    ),
];
