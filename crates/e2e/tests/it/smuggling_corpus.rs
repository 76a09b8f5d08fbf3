//! Requests that two servers could read in two ways, and for each what RFC 9112 makes of it: refused, or these
//! requests and no other.
//!
//! Spelling: each character is one byte (ISO 8859-1). `§` becomes the item's own name, `»` a whole second request,
//! `GET /§/second`, which is smuggled where the item says nothing of it.

use Say::{Bad, Half, Maybe, Next, No, Shut, Status, Yes};

/// A request an app may see: method, target, body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
}

/// What must become of the connection behind the requests that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It serves the next.
    Open,
    /// 400 (or this), and closed.
    Refused(u16),
    /// Closed without a word: nothing behind is believed.
    Closed,
    /// Not whole: the client goes away.
    Waits,
    /// Either refused whole, or as `Open`.
    Maybe,
}

#[derive(Debug, Clone)]
pub struct Item {
    pub class: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
    pub wants: Vec<Want>,
    pub then: Then,
}

/// What becomes of `POST /§` with these lines, and with this behind them. The text is the body that passes.
#[derive(Debug, Clone, Copy)]
enum Say {
    /// 400, closed, nothing passes.
    No,
    /// The same with another status.
    Status(u16),
    Yes(&'static str),
    /// And then `»`.
    Next(&'static str),
    /// And then the connection ends.
    Shut(&'static str),
    /// And then comes what is refused.
    Bad(&'static str),
    /// Or it is refused.
    Maybe(&'static str),
    /// It is not whole.
    Half,
}

type Post = (&'static str, &'static str, Say);
type Raw = (&'static str, &'static [(&'static str, &'static str, &'static str)], Then);

/// Every item, with names of their own.
pub fn all() -> Vec<Item> {
    let posts: [(&str, &str, &[Post]); 6] = [
        ("length", "", LENGTHS),
        ("coding", "", CODINGS),
        ("length and coding", "", BOTH),
        ("chunk", "Transfer-Encoding: chunked", CHUNKS),
        ("trailer", "Transfer-Encoding: chunked", TRAILERS),
        ("hop by hop", "", HOPS),
    ];
    let raws: [(&str, &[Raw]); 6] = [
        ("head", HEADS),
        ("request line", LINES),
        ("target", TARGETS),
        ("host", HOSTS),
        ("method", METHODS),
        ("pipeline", PIPELINES),
    ];
    let posts = posts.iter().flat_map(|(class, lines, rows)| {
        rows.iter().enumerate().map(|(n, row)| post(class, lines, row, n)).collect::<Vec<_>>()
    });
    let raws = raws
        .iter()
        .flat_map(|(class, rows)| rows.iter().enumerate().map(|(n, row)| raw(class, row, n)).collect::<Vec<_>>());
    posts.chain(raws).chain(large()).collect()
}

fn post(class: &'static str, lines: &str, (more, body, say): &Post, n: usize) -> Item {
    let name = name(class, n);
    let lines: String = [lines, more].iter().filter(|l| !l.is_empty()).map(|l| format!("{l}\r\n")).collect();
    let text = format!("POST /§ HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}");
    let first = |body: &str| want("POST", "/§", body, &name);
    let (wants, then) = match say {
        No => (vec![], Then::Refused(400)),
        Status(status) => (vec![], Then::Refused(*status)),
        Yes(body) => (vec![first(body)], Then::Open),
        Next(body) => (vec![first(body), want("GET", "/§/second", "", &name)], Then::Open),
        Shut(body) => (vec![first(body)], Then::Closed),
        Bad(body) => (vec![first(body)], Then::Refused(400)),
        Maybe(body) => (vec![first(body)], Then::Maybe),
        Half => (vec![], Then::Waits),
    };
    Item { class, bytes: bytes(&text, &name), name, wants, then }
}

fn raw(class: &'static str, (text, wants, then): &Raw, n: usize) -> Item {
    let name = name(class, n);
    let wants = wants.iter().map(|(method, target, body)| want(method, target, body, &name)).collect();
    Item { class, bytes: bytes(text, &name), wants, then: *then, name }
}

fn name(class: &str, n: usize) -> String {
    format!("{}-{n}", class.replace(' ', "-"))
}

pub fn want(method: &str, target: &str, body: &str, name: &str) -> Want {
    let text = |text: &str| text.replace('§', name);
    Want { method: method.to_owned(), target: text(target), body: latin(&text(body)) }
}

/// Each character as its byte.
pub fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a character of ISO 8859-1")).collect()
}

fn bytes(text: &str, name: &str) -> Vec<u8> {
    latin(&text.replace('»', "GET /§/second HTTP/1.1\r\nHost: a\r\n\r\n").replace('§', name))
}

/// What is too long to stand in a table.
fn large() -> Vec<Item> {
    let item = |n: usize, text: String, wants: &[(&str, &str)], then| {
        let name = name("large", n);
        let wants = wants.iter().map(|(target, body)| want("POST", target, body, &name)).collect();
        Item { class: "large", bytes: bytes(&text, &name), wants, then, name }
    };
    let head = |lines: &str| format!("POST /§ HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let chunked = head("Transfer-Encoding: chunked\r\n");
    let (zeros, letters) = ("0".repeat(200), "x".repeat(20_000));
    let long = format!("/§?{}", "x".repeat(6_000));
    vec![
        item(0, format!("{chunked}{zeros}5\r\nhello\r\n{zeros}\r\n\r\n"), &[("/§", "hello")], Then::Maybe),
        item(1, format!("{chunked}5;{letters}\r\nhello\r\n0\r\n\r\n"), &[], Then::Refused(400)),
        item(2, format!("{chunked}0\r\nX: {letters}\r\n\r\n"), &[], Then::Refused(400)),
        item(3, head(&format!("X: {letters}\r\nContent-Length: 5\r\n")) + "hello", &[], Then::Refused(431)),
        item(4, head(&format!("{}Content-Length: 5\r\n", "X: y\r\n".repeat(130))) + "hello", &[], Then::Refused(431)),
        item(5, format!("POST /§?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), &[], Then::Refused(414)),
        item(
            6,
            format!("POST {long} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            &[(&long, "hello")],
            Then::Open,
        ),
        item(7, head(&format!("Content-Length: {zeros}5\r\n")) + "hello", &[], Then::Refused(400)),
        item(
            8,
            head(&format!("{}Content-Length: 5\r\n", "X: y\r\n".repeat(80))) + "hello",
            &[("/§", "hello")],
            Then::Open,
        ),
        item(9, format!("{chunked}{}0\r\n\r\n", "1\r\nx\r\n".repeat(5_000)), &[("/§", &"x".repeat(5_000))], Then::Open),
    ]
}

const LENGTHS: &[Post] = &[
    ("Content-Length: 5", "hello»", Next("hello")),
    ("content-length: 5", "hello»", Next("hello")),
    ("CONTENT-LENGTH:5", "hello»", Next("hello")),
    ("Content-Length:\t5\t", "hello»", Next("hello")),
    ("Content-Length: 05", "hello»", Next("hello")),
    ("Content-Length: 0000000000000000005", "hello»", Next("hello")),
    ("Content-Length: 010", "0123456789»", Next("0123456789")),
    ("Content-Length: 0", "»", Next("")),
    ("Content-Length: 00", "»", Next("")),
    ("", "»", Next("")),
    ("X-Content-Length: 5", "»", Next("")),
    ("Content_Length: 5\r\nContent-Length: 0", "»", Next("")),
    ("Content_Length: 5", "»", Next("")),
    ("CONTENT_LENGTH: 34", "»", Next("")),
    ("Content.Length: 5", "»", Next("")),
    ("Content-Length: 5\r\nContent-Length: 6", "hello!", No),
    ("Content-Length: 6\r\nContent-Length: 5", "hello!", No),
    ("Content-Length: 5\r\nContent-Length: 5", "hello", No),
    ("Content-Length: 5\r\ncontent-length: 0", "hello", No),
    ("Content-Length: 0\r\nX: y\r\nContent-Length: 5", "hello", No),
    ("Content-Length: 5, 5", "hello", No),
    ("Content-Length: 5, 6", "hello!", No),
    ("Content-Length: 5,", "hello", No),
    ("Content-Length: ,5", "hello", No),
    ("Content-Length: +5", "hello", No),
    ("Content-Length: -5", "hello", No),
    ("Content-Length: -0", "", No),
    ("Content-Length: 0x5", "hello", No),
    ("Content-Length: 5h", "hello", No),
    ("Content-Length: 5 5", "hello", No),
    ("Content-Length: 5\t5", "hello", No),
    ("Content-Length: 5;q=1", "hello", No),
    ("Content-Length: 5.0", "hello", No),
    ("Content-Length: 5e0", "hello", No),
    ("Content-Length: 1_0", "0123456789", No),
    ("Content-Length: \"5\"", "hello", No),
    ("Content-Length: '5'", "hello", No),
    ("Content-Length: 5 hello", "hello", No),
    ("Content-Length:", "hello", No),
    ("Content-Length: ", "»", No),
    ("Content-Length: \u{b2}", "he", No),
    ("Content-Length: 5\u{a0}", "hello", No),
    ("Content-Length: \u{0b}5", "hello", No),
    ("Content-Length: \u{0c}5", "hello", No),
    ("Content-Length: 5\u{0}", "hello", No),
    ("Content-Length: \u{0}5", "hello", No),
    ("Content-Length: 5\u{7f}", "hello", No),
    ("Content-Length\u{0}: 5", "hello", No),
    ("Content-Length : 5", "hello", No),
    ("Content-Length\t: 5", "hello", No),
    ("Content-Length\u{0b}: 5", "hello", No),
    (" Content-Length: 5", "hello", No),
    ("\tContent-Length: 5", "hello", No),
    ("Content-Length:\r\n 5", "hello", No),
    ("Content-Length: 5\r\n 0", "hello", No),
    ("Content-Length: 5\rX: y", "hello", No),
    ("X: y\rContent-Length: 5", "hello", No),
    ("Content-Length: 5\nContent-Length: 6", "hello!", No),
    ("Content-Length: 99999999999999999999", "hello", No),
    ("Content-Length: 18446744073709551621", "hello", No),
    ("Content-Length: 4294967301", "hello", Status(413)),
    ("Content-Length: 9223372036854775807", "hello", Status(413)),
    ("Content-Length: 9999999999999999999", "hello", Status(413)),
    ("Content-Length: 3", "hello\r\n\r\n", Bad("hel")),
    ("Content-Length: 9", "hello", Half),
    ("Content-Length: 99", "»", Half),
];

const CODINGS: &[Post] = &[
    ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("transfer-encoding: CHUNKED", "5\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("TRANSFER-ENCODING:chunked", "5\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("Transfer-Encoding:\tchunked\t ", "5\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("X-Transfer-Encoding: chunked", "»", Next("")),
    ("Transfer-Encodings: chunked", "»", Next("")),
    ("Transfer_Encoding: chunked", "»", Next("")),
    ("TRANSFER_ENCODING: chunked\r\nContent-Length: 5", "0\r\n\r\n»", Next("0\r\n\r\n")),
    ("Transfer_Encoding: chunked", "0\r\n\r\n", Bad("")),
    ("Content-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n»", Next("0\r\n\r\n")),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunkedx", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunk", "0\r\n\r\n»", No),
    ("Transfer-Encoding: cow", "0\r\n\r\n»", No),
    ("Transfer-Encoding: identity", "»", No),
    ("Transfer-Encoding: gzip", "0\r\n\r\n»", No),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked, gzip", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n»", No),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked,", "0\r\n\r\n»", No),
    ("Transfer-Encoding: ,chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked; a=b", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked x", "0\r\n\r\n»", No),
    ("Transfer-Encoding: x chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n»", No),
    ("Transfer-Encoding: 'chunked'", "0\r\n\r\n»", No),
    ("Transfer-Encoding: [chunked]", "0\r\n\r\n»", No),
    ("Transfer-Encoding: ", "0\r\n\r\n»", No),
    ("Transfer-Encoding:", "»", No),
    ("Transfer-Encoding: \u{0b}chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\u{0b}", "0\r\n\r\n»", No),
    ("Transfer-Encoding: \u{0c}chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: \u{0}chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\u{0}", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\u{ff}", "0\r\n\r\n»", No),
    ("Transfer-Encoding: \u{a0}chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chun\u{ad}ked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunKed\u{85}", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n»", No),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow", "0\r\n\r\n»", No),
    ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding : chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding\t: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding\u{0b}: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding\u{0}: chunked", "0\r\n\r\n»", No),
    ("Transfer Encoding: chunked", "0\r\n\r\n»", No),
    ("\u{ff}Transfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding\r\n: chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n»", No),
    ("Transfer-Encoding: chunked\r\n , identity", "0\r\n\r\n»", No),
    (" Transfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("X: y\r\n\tTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("X: \u{0}\r\nTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("X: y\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", Maybe("hello")),
];

/// Both told: chunks win, and nothing behind is believed (RFC 9112 §6.1).
const BOTH: &[Post] = &[
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n»", Shut("hello")),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", "5\r\nhello\r\n0\r\n\r\n»", Shut("hello")),
    ("Content-Length: 0\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n»", Shut("hello")),
    ("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nX", Shut("")),
    ("Content-Length: 39\r\nTransfer-Encoding: chunked", "0\r\n\r\n»", Shut("")),
    ("Content-Length: 5\nTransfer-Encoding: chunked", "0\r\n\r\n»", Shut("")),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive", "0\r\n\r\n»", Shut("")),
    ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: content-length", "0\r\n\r\n»", Shut("")),
    ("Content-Length: 5\r\nTransfer-Encoding: xchunked", "0\r\n\r\n»", No),
    ("Content-Length: 5\r\nTransfer-Encoding: identity", "hello»", No),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked, identity", "0\r\n\r\n»", No),
    ("Content-Length: 5\r\nTransfer-Encoding : chunked", "0\r\n\r\n»", No),
    ("Content-Length: 5\r\nTransfer-Encoding:\u{0b}chunked", "0\r\n\r\n»", No),
    ("Content-Length: 5\r\nX: y\rTransfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("Content-Length: 5\r\n Transfer-Encoding: chunked", "0\r\n\r\n»", No),
    ("Content-Length: 5\r\nTransfer_Encoding: chunked", "0\r\n\r\n»", Next("0\r\n\r\n")),
    ("Content_Length: 34\r\nTransfer-Encoding: chunked", "0\r\n\r\n»", Next("")),
];

const CHUNKS: &[Post] = &[
    ("", "05\r\nhello\r\n00\r\n\r\n»", Next("hello")),
    ("", "A\r\n0123456789\r\n0\r\n\r\n»", Next("0123456789")),
    ("", "a\r\n0123456789\r\n0\r\n\r\n»", Next("0123456789")),
    ("", "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n»", Next("hello")),
    ("", "5;x\r\nhello\r\n0;y=z\r\n\r\n»", Next("hello")),
    ("", "5;x=\"y;z\"\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("", "5;;;\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("", "5;\u{ff}\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("", "5\r\n0\r\n\r\n\r\n0\r\n\r\n»", Next("0\r\n\r\n")),
    ("", "zz\r\nhello\r\n0\r\n\r\n", No),
    ("", "\r\nhello\r\n0\r\n\r\n", No),
    ("", "\r\n5\r\nhello\r\n0\r\n\r\n", No),
    ("", "-5\r\nhello\r\n0\r\n\r\n", No),
    ("", "+5\r\nhello\r\n0\r\n\r\n", No),
    ("", "-0\r\n\r\n", No),
    ("", "0x5\r\nhello\r\n0\r\n\r\n", No),
    ("", "0X0\r\n\r\n", No),
    ("", "5h\r\nhello\r\n0\r\n\r\n", No),
    ("", "5_0\r\nhello\r\n0\r\n\r\n", No),
    ("", "5 \r\nhello\r\n0\r\n\r\n", No),
    ("", "5\t\r\nhello\r\n0\r\n\r\n", No),
    ("", " 5\r\nhello\r\n0\r\n\r\n", No),
    ("", "5 5\r\nhello\r\n0\r\n\r\n", No),
    ("", "5,5\r\nhello\r\n0\r\n\r\n", No),
    ("", "5 ;x\r\nhello\r\n0\r\n\r\n", No),
    ("", ";x\r\nhello\r\n0\r\n\r\n", No),
    ("", "5\nhello\r\n0\r\n\r\n", No),
    ("", "5\rhello\r\n0\r\n\r\n", No),
    ("", "5\r\r\nhello\r\n0\r\n\r\n", No),
    ("", "5\u{0}\r\nhello\r\n0\r\n\r\n", No),
    ("", "5\u{0b}\r\nhello\r\n0\r\n\r\n", No),
    ("", "5;x\nhello\r\n0\r\n\r\n", No),
    ("", "5;x\ry\r\nhello\r\n0\r\n\r\n", No),
    ("", "5;x\u{0}y\r\nhello\r\n0\r\n\r\n", No),
    ("", "5;x=\"\r\n\"\r\nhello\r\n0\r\n\r\n", No),
    ("", "5\r\nhello0\r\n\r\n", No),
    ("", "5\r\nhello\n0\r\n\r\n", No),
    ("", "5\r\nhello\r0\r\n\r\n", No),
    ("", "5\r\nhello\n\r0\r\n\r\n", No),
    ("", "5\r\nhello\r\n\r\n0\r\n\r\n", No),
    ("", "5\r\nhell\r\n0\r\n\r\n", No),
    ("", "5\r\nhello!\r\n0\r\n\r\n", No),
    ("", "5\r\nhelloXX0\r\n\r\n", No),
    ("", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", No),
    ("", "10000000000000005\r\nhello\r\n0\r\n\r\n", No),
    ("", "\u{ef}\u{bc}\u{95}\r\nhello\r\n0\r\n\r\n", No),
    ("", "0\n\r\n»", No),
    ("", "0\n\n»", No),
    ("", "0\r\n\n»", No),
    ("", "0\r\r\n\r\n»", No),
    ("", "5\r\nhel", Half),
    ("", "5\r\nhello\r\n", Half),
    ("", "5\r\nhello\r\n0\r\n", Half),
    ("", "100000005\r\nhello\r\n0\r\n\r\n", Half),
    ("", "7fffffffffffffff\r\nhello\r\n0\r\n\r\n", Half),
];

const TRAILERS: &[Post] = &[
    ("Trailer: X-Sum", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n»", Next("hello")),
    ("", "5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n»", Next("hello")),
    ("Trailer: Content-Length", "5\r\nhello\r\n0\r\nContent-Length: 0\r\n\r\n»", Next("hello")),
    ("", "5\r\nhello\r\n0\r\nContent_Length: 50\r\n\r\n»", Next("hello")),
    ("", "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n»", Next("hello")),
    ("", "5\r\nhello\r\n0\r\nHost: evil\r\nConnection: close\r\n\r\n»", Next("hello")),
    ("", "5\r\nhello\r\n0\r\nExpect: 100-continue\r\nUpgrade: websocket\r\n\r\n»", Next("hello")),
    ("", "5\r\nhello\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n»", Next("hello")),
    ("", "0\r\nGET: /smuggled\r\nHost: a\r\n\r\n»", Next("")),
    ("", "0\r\nGET /§/smuggled HTTP/1.1\r\nHost: a\r\n\r\n", No),
    ("", "0\r\nX : a\r\n\r\n»", No),
    ("", "0\r\n X: a\r\n\r\n»", No),
    ("", "0\r\nX: a\r\n b\r\n\r\n»", No),
    ("", "0\r\nX: a\n\r\n»", No),
    ("", "0\r\nX: a\n\n»", No),
    ("", "0\r\nX: a\rb\r\n\r\n»", No),
    ("", "0\r\nX: \u{0}\r\n\r\n»", No),
    ("", "0\r\nX\u{0}: a\r\n\r\n»", No),
    ("", "0\r\nno colon\r\n\r\n»", No),
    ("", "0\r\n: nameless\r\n\r\n»", No),
    ("", "0\r\nX: a\r\n", Half),
];

/// Fields that are about one connection, and what naming a field in `Connection` may not do.
const HOPS: &[Post] = &[
    ("Connection: content-length\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Connection: Content-Length, close\r\nContent-Length: 5", "hello»", Shut("hello")),
    ("Connection: transfer-encoding\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n»", Next("hello")),
    ("Connection: host, mainstay-request-id\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Connection: close, x\r\nX: y\r\nContent-Length: 5", "hello»", Shut("hello")),
    ("Connection: keep-alive\r\nConnection: close\r\nContent-Length: 5", "hello»", Shut("hello")),
    ("Connection: CLOSE\r\nContent-Length: 5", "hello»", Shut("hello")),
    ("Connection: \"close\"\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Connection: expect\r\nExpect: 100-continue\r\nContent-Length: 5", "hello", Yes("hello")),
    ("Connection: upgrade\r\nUpgrade: foo\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", "hello»", Next("hello")),
    (
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked",
        "5\r\nhello\r\n0\r\n\r\n»",
        Next("hello"),
    ),
    ("Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Upgrade: websocket\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Keep-Alive: timeout=0, max=0\r\nProxy-Connection: close\r\nContent-Length: 5", "hello»", Next("hello")),
    ("TE: chunked\r\nConnection: TE\r\nContent-Length: 5", "hello»", Next("hello")),
    ("TE: trailers, chunked;q=0\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Expect: 100-continue\r\nContent-Length: 5", "hello", Yes("hello")),
    ("Expect: 100-Continue\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", Yes("hello")),
    ("Expect: 100-continue\r\nContent-Length: 0", "»", Next("")),
    ("Expect: 100-continue, 100-continue\r\nContent-Length: 5", "hello", Yes("hello")),
    ("Expect: 100-continuex\r\nContent-Length: 5", "hello", Yes("hello")),
    ("Expect: 200-ok\r\nContent-Length: 5", "hello", Yes("hello")),
    ("Expect:\r\nContent-Length: 5", "hello", Yes("hello")),
    ("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5", "hello", Yes("hello")),
    ("X-HTTP-Method-Override: GET\r\nContent-Length: 5", "hello»", Next("hello")),
    ("X-Forwarded-Host: evil\r\nX_Forwarded_For: 6.6.6.6\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Mainstay-Request-Id: r_forged\r\nContent-Length: 5", "hello»", Next("hello")),
    ("Mainstay_Request_Id: r_forged\r\nContent-Length: 5", "hello»", Next("hello")),
];

const HEADS: &[Raw] = &[
    ("GET /§ HTTP/1.1\nHost: a\n\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: y\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET /§ HTTP/1.1\r\nHost: a\n\n»", &[("GET", "/§", ""), ("GET", "/§/second", "")], Then::Maybe),
    ("\r\nGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("\n\nGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("\rGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    (" \r\nGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("\u{0}GET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: \u{e9}\u{ff}\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX:\r\nX_Y: z\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: z\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: one\r\n two\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: one\r\n\ttwo\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n \r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\u{0}b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\u{1}b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\u{1b}b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\u{7f}b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\rb: c\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX\u{0}: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX\u{e9}: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n(X): b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX@Y: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n\"X\": b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n:authority: evil\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX: y\r\n", &[], Then::Waits),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n\r", &[], Then::Waits),
];

const LINES: &[Raw] = &[
    ("GET  /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§  HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET\t/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\tHTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\u{0b}HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    (" GET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1 \r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\t\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ x HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1, x\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\r\n\r\n", &[], Then::Refused(400)),
    ("GET\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ \r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/0.9\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.2\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.10\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/01.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/2.0\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/2\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/3.7\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1,1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1. 1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/+1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1x\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ http/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTPS/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ FTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("PRI * HTTP/2.0\r\n\r\nGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("PROXY TCP4 6.6.6.6 10.0.0.1 1 2\r\nGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n»", &[], Then::Refused(400)),
    ("POST /§ HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", &[], Then::Refused(400)),
    ("POST /§ HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello»", &[("POST", "/§", "hello")], Then::Closed),
    ("GET /§ HTTP/1.0\r\n\r\n»", &[("GET", "/§", "")], Then::Closed),
    (
        "POST /§ HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello»",
        &[("POST", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    ("GET /§ HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: identity\r\n\r\n»", &[], Then::Refused(400)),
];

const TARGETS: &[Raw] = &[
    ("GET /§?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§?x=1", "")], Then::Open),
    ("GET /§#fragment HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET /§?x#y?z HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§?x", "")], Then::Maybe),
    ("GET /§\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§\\..\\x", "")], Then::Maybe),
    ("GET /§/../../x HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§/../../x", "")], Then::Maybe),
    ("GET /§/%2e%2e/x HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§/%2e%2e/x", "")], Then::Maybe),
    ("GET /§%00 HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§%00", "")], Then::Maybe),
    ("GET /§%0d%0aX:%20y HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§%0d%0aX:%20y", "")], Then::Maybe),
    (
        "GET /§%20HTTP/1.1%0d%0aHost:%20b HTTP/1.1\r\nHost: a\r\n\r\n",
        &[("GET", "/§%20HTTP/1.1%0d%0aHost:%20b", "")],
        Then::Maybe,
    ),
    ("GET /§%zz HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§%zz", "")], Then::Maybe),
    ("GET //§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "//§", "")], Then::Maybe),
    ("GET /§;x=y HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§;x=y", "")], Then::Open),
    ("GET /§\"<>{}|^` HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§\"<>{}|^`", "")], Then::Maybe),
    ("GET /§\u{c3}\u{a9} HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§\u{c3}\u{a9}", "")], Then::Maybe),
    ("GET /§\u{ff} HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\u{0} HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\u{1} HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§\rX HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET § HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET ?§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET */§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &[("OPTIONS", "*", "")], Then::Open),
    ("OPTIONS *§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET http://a/§ HTTP/1.1\r\nHost: b\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET HTTPS://a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET http://u:p@a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET http://a/§ HTTP/1.1\r\nHost: b@c\r\n\r\n", &[], Then::Refused(400)),
    ("GET http://a/§ HTTP/1.1\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET http://a/§ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET http://a?§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/?§", "")], Then::Open),
    ("GET http://a\\@b/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET http://a#@b/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/", "")], Then::Maybe),
    ("GET http://a,b/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET http:///§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET http:/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET http:§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET ftp://a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET file:///§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET ://a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /http://a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GET", "/http://a/§", "")], Then::Open),
    ("GET @a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
];

const HOSTS: &[Raw] = &[
    ("GET /§ HTTP/1.1\r\nhost:a:80\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\nHost:\r\n\r\n", &[("GET", "/§", "")], Then::Maybe),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nX-Host: b\r\nHost_: c\r\n\r\n", &[("GET", "/§", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nhOST:\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost : a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\n Host: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nX: y\r\n Host: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a, b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a@b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a/b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a?b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a#b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\\b\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: \"a\"\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", &[], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\u{0}\r\n\r\n", &[], Then::Refused(400)),
];

const METHODS: &[Raw] = &[
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello»",
        &[("GET", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n»",
        &[("GET", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n»",
        &[("GET", "/§", "")],
        Then::Closed,
    ),
    ("HEAD /§ HTTP/1.1\r\nHost: a\r\n\r\n»", &[("HEAD", "/§", ""), ("GET", "/§/second", "")], Then::Open),
    (
        "HEAD /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello»",
        &[("HEAD", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "HEAD /§ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n»",
        &[("HEAD", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "OPTIONS /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello»",
        &[("OPTIONS", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "DELETE /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello»",
        &[("DELETE", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    ("TRACE /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &[("TRACE", "/§", "hello")], Then::Maybe),
    ("PUT /§ HTTP/1.1\r\nHost: a\r\n\r\n»", &[("PUT", "/§", ""), ("GET", "/§/second", "")], Then::Open),
    ("get /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("get", "/§", "")], Then::Maybe),
    ("GETGET /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("GETGET", "/§", "")], Then::Maybe),
    ("!#$%&'*+-.^_`|~ /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[("!#$%&'*+-.^_`|~", "/§", "")], Then::Maybe),
    ("G(T /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GET: /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("GE\u{0}T /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("G\u{c9}T /§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(400)),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", &[], Then::Refused(405)),
    ("CONNECT /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &[], Then::Refused(405)),
    ("CONNECT http://a/§ HTTP/1.1\r\nHost: a\r\n\r\n", &[], Then::Refused(405)),
];

const PIPELINES: &[Raw] = &[
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\n\r\nGET /§/2 HTTP/1.1\r\nHost: a\r\n\r\nGET /§/3 HTTP/1.1\r\nHost: a\r\n\r\n",
        &[("GET", "/§", ""), ("GET", "/§/2", ""), ("GET", "/§/3", "")],
        Then::Open,
    ),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\n»", &[("GET", "/§", ""), ("GET", "/§/second", "")], Then::Open),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n\r\nhello\r\n\r\n", &[("GET", "/§", "")], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n", &[("GET", "/§", "")], Then::Refused(400)),
    ("GET /§ HTTP/1.1\r\nHost: a\r\n\r\n\u{0}\u{0}\r\n\r\n", &[("GET", "/§", "")], Then::Refused(400)),
    (
        "POST /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n»",
        &[("POST", "/§", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "POST /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nhello»",
        &[("POST", "/§", "hel"), ("loGET", "/§/second", "")],
        Then::Open,
    ),
    (
        "POST /§ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         POST /§/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello»",
        &[("POST", "/§", ""), ("POST", "/§/2", "hello"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "POST /§ HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: aaaa\r\n\r\n»",
        &[("POST", "/§", "GET /smuggled HTTP/1.1\r\nHost: aaaa\r\n"), ("GET", "/§/second", "")],
        Then::Open,
    ),
    ("GET /§ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n»", &[("GET", "/§", "")], Then::Closed),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n»",
        &[("GET", "/§", ""), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n»",
        &[("GET", "/§", ""), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 777\r\n\r\n»",
        &[("GET", "/§", ""), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n»",
        &[("GET", "/§", ""), ("GET", "/§/second", "")],
        Then::Open,
    ),
    (
        "GET /§ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n»",
        &[("GET", "/§", ""), ("GET", "/§/second", "")],
        Then::Open,
    ),
];
