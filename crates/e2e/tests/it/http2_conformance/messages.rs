//! Requests: RFC 9113 §8, and the CONNECT of RFC 8441. What is malformed never reaches the app.

use super::Came::{Answered, Ended};
use super::Owed::{Malformed, MalformedBody, Nothing, Refused, Served};
use super::{Case, JUDGED, case, hold};
use mainstay_e2e::frames::*;
use mainstay_e2e::hpack::literal;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/case");
const AUTHORITY: (&str, &str) = (":authority", "a.example");

/// A field as bytes: names and values that are no text too.
fn field(ask: &super::Asking, name: &[u8], value: &[u8]) -> Vec<u8> {
    let block = [ask.with("GET", &[]), literal(name, value)].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, JUDGED, &block)
}

fn bodies() -> Vec<Case> {
    vec![
        case("8.1", "a body in pieces, empty ones among them", Served, |ask| {
            let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
            [ask.post(1), data(0, b"a"), data(0, b""), data(0, b"b"), data(END_STREAM, b"")].concat()
        }),
        // hyper has no way to say 100 on a stream: whoever waits for it (RFC 9110 §10.1.1) waits as long as it likes.
        case("8.1", "a body that waits for nothing", Served, |ask| {
            [ask.post_with(1, &[("expect", "100-continue")]), frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("8.1", "trailers", Served, |ask| {
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(b"x-sum", b"1"));
            [ask.post(1), frame(DATA, 0, 1, b"x"), trailers].concat()
        }),
        case("8.1", "trailers that do not end the stream", MalformedBody, |ask| {
            let trailers = frame(HEADERS, END_HEADERS, 1, &literal(b"x-sum", b"1"));
            [ask.post(1), frame(DATA, 0, 1, b"x"), trailers, frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("8.1", "a pseudo-header field in trailers", MalformedBody, |ask| {
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(b":path", b"/other"));
            [ask.post(1), frame(DATA, 0, 1, b"x"), trailers].concat()
        })
        .but(Answered(200), "h2 drops it without a word, so it cannot be refused; it goes no further")
        .seen(),
        case("8.2", "a connection field in trailers", MalformedBody, |ask| {
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(b"transfer-encoding", b"chunked"));
            [ask.post(1), frame(DATA, 0, 1, b"x"), trailers].concat()
        }),
        case("8.1.1", "more body than content-length", MalformedBody, |ask| {
            [ask.post_with(1, &[("content-length", "1")]), frame(DATA, END_STREAM, 1, b"xy")].concat()
        }),
        case("8.1.1", "more body than content-length, in two frames", MalformedBody, |ask| {
            let head = ask.post_with(1, &[("content-length", "1")]);
            [head, frame(DATA, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"y")].concat()
        }),
        case("8.1.1", "less body than content-length", MalformedBody, |ask| {
            [ask.post_with(1, &[("content-length", "3")]), frame(DATA, END_STREAM, 1, b"xy")].concat()
        }),
        case("8.1.1", "less body than content-length, and trailers", MalformedBody, |ask| {
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(b"x-sum", b"1"));
            [ask.post_with(1, &[("content-length", "3")]), frame(DATA, 0, 1, b"xy"), trailers].concat()
        }),
        case("8.1.1", "a length, and an end of its own", Served, |ask| {
            let head = ask.post_with(1, &[("content-length", "1")]);
            [head, frame(DATA, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"")].concat()
        }),
        case("8.1.1", "a length, and trailers", Served, |ask| {
            let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(b"x-sum", b"1"));
            [ask.post_with(1, &[("content-length", "1")]), frame(DATA, 0, 1, b"x"), trailers].concat()
        }),
        case("8.1", "a body given up with no error", Nothing, |ask| {
            [ask.post(1), frame(DATA, 0, 1, b"half"), reset(1, NO_ERROR)].concat()
        })
        .half(),
        case("8.1", "a body of a length given up with no error", Nothing, |ask| {
            let head = ask.post_with(1, &[("content-length", "4")]);
            [head, frame(DATA, 0, 1, b"half"), reset(1, NO_ERROR)].concat()
        })
        .half(),
    ]
}

fn lengths() -> Vec<Case> {
    vec![
        case("8.1.1", "content-length and no body", Malformed, |ask| {
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &ask.with("POST", &[("content-length", "3")]))
        }),
        case("8.1.1", "two lengths", Malformed, |ask| {
            let head = ask.post_with(1, &[("content-length", "1"), ("content-length", "2")]);
            [head, frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("8.1.1", "one length twice", Served, |ask| {
            let head = ask.post_with(1, &[("content-length", "1"), ("content-length", "1")]);
            [head, frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("8.1.1", "an empty length", Malformed, |ask| {
            [ask.post_with(1, &[("content-length", "")]), frame(DATA, END_STREAM, 1, b"")].concat()
        }),
        case("8.1.1", "a length with a sign", Malformed, |ask| {
            [ask.post_with(1, &[("content-length", "+1")]), frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("8.1.1", "a list of lengths", Malformed, |ask| {
            [ask.post_with(1, &[("content-length", "1, 1")]), frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("8.1.1", "a length beyond all numbers", Malformed, |ask| {
            let head = ask.post_with(1, &[("content-length", "99999999999999999999")]);
            [head, frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        case("8.2", "a name in capitals", Malformed, |ask| ask.get_with(&[("X-Capital", "x")])),
        case("8.2.1", "a name with a blank", Malformed, |ask| field(ask, b"x y", b"x")),
        case("8.2.1", "a name with a line end", Malformed, |ask| field(ask, b"x\r\ny", b"x")),
        case("8.2.1", "a name with NUL", Malformed, |ask| field(ask, b"x\0", b"x")),
        case("8.2.1", "a name with a colon", Malformed, |ask| field(ask, b"x:y", b"x")),
        case("8.2.1", "a name with DEL", Malformed, |ask| field(ask, b"x\x7f", b"x")),
        case("8.2.1", "a name beyond ASCII", Malformed, |ask| field(ask, b"x\xc3\xa9", b"x")),
        case("8.2.1", "a name that is empty", Malformed, |ask| field(ask, b"", b"x")),
        case("8.2.1", "a value with NUL", Malformed, |ask| field(ask, b"x", b"a\0b")),
        case("8.2.1", "a value with LF", Malformed, |ask| field(ask, b"x", b"a\nb")),
        case("8.2.1", "a value with CR", Malformed, |ask| field(ask, b"x", b"a\rb")),
        case("8.2.1", "a value with a whole field in it", Malformed, |ask| field(ask, b"x", b"a\r\nhost: b\r\n")),
        case("8.2.1", "a value that begins with a blank", Malformed, |ask| field(ask, b"x", b" a")),
        case("8.2.1", "a value that ends with a blank", Malformed, |ask| field(ask, b"x", b"a ")),
        case("8.2.1", "a value that begins with a tab", Malformed, |ask| field(ask, b"x", b"\ta")),
        case("8.2.1", "a value that ends with a tab", Malformed, |ask| field(ask, b"x", b"a\t")),
        case("8.2.1", "a value with blanks, a tab and bytes beyond ASCII within", Served, |ask| {
            field(ask, b"x", b"a b\tc\xc3\xa9\xffd")
        }),
        case("8.2.1", "an empty value", Served, |ask| ask.get_with(&[("x-empty", "")])),
        case("8.2.2", "connection", Malformed, |ask| ask.get_with(&[("connection", "close")])),
        case("8.2.2", "keep-alive", Malformed, |ask| ask.get_with(&[("keep-alive", "timeout=5")])),
        case("8.2.2", "proxy-connection", Malformed, |ask| ask.get_with(&[("proxy-connection", "keep-alive")])),
        case("8.2.2", "upgrade", Malformed, |ask| ask.get_with(&[("upgrade", "websocket")])),
        case("8.2.2", "transfer-encoding", Malformed, |ask| ask.get_with(&[("transfer-encoding", "chunked")])),
        case("8.2.2", "te of a coding", Malformed, |ask| ask.get_with(&[("te", "gzip")])),
        case("8.2.2", "te of more than trailers", Malformed, |ask| ask.get_with(&[("te", "trailers, gzip")])),
        case("8.2.2", "te of trailers", Served, |ask| ask.get_with(&[("te", "trailers")])),
        case("8.2.2", "a connection field in the first of two frames", Malformed, |ask| {
            // The last field of the first frame is cut in two.
            let block = ask.with("GET", &[("connection", "close"), ("x-cut", "in two")]);
            let (first, second) = block.split_at(block.len() - 3);
            [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)].concat()
        })
        .but(Answered(200), "h2 forgets the fault at the frame's end; it has dropped the field, the app sees none")
        .seen(),
    ]
}

fn pseudo() -> Vec<Case> {
    vec![
        case("8.3", "an unknown pseudo-header field", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, AUTHORITY, (":unknown", "x")])
        }),
        case("8.3", "a pseudo-header field of answers", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")])
        }),
        case("8.3", "a pseudo-header field behind a field", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH])
        }),
        case("8.3", "an authority behind a field", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, ("x", "y"), AUTHORITY])
        }),
        case("8.3.1", "two methods", Malformed, |ask| ask.only(&[METHOD, METHOD, SCHEME, PATH, AUTHORITY])),
        case("8.3.1", "two schemes", Malformed, |ask| ask.only(&[METHOD, SCHEME, SCHEME, PATH, AUTHORITY])),
        case("8.3.1", "two paths", Malformed, |ask| ask.only(&[METHOD, SCHEME, PATH, PATH, AUTHORITY])),
        case("8.3.1", "two authorities", Malformed, |ask| ask.only(&[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY])),
        case("8.3.1", "two paths, the second in a frame of its own", Malformed, |ask| {
            let block = ask.block(&[METHOD, SCHEME, PATH, AUTHORITY, (":path", "/other")]);
            let (first, second) = block.split_at(block.len() - 3);
            [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)].concat()
        })
        .but(
            Answered(200),
            "h2 forgets the fault at the frame's end; it has dropped the second, the app sees the first",
        )
        .seen(),
        case("8.3.1", "no method", Malformed, |ask| ask.only(&[SCHEME, PATH, AUTHORITY])),
        case("8.3.1", "no scheme", Malformed, |ask| ask.only(&[METHOD, PATH, AUTHORITY])),
        case("8.3.1", "no path", Malformed, |ask| ask.only(&[METHOD, SCHEME, AUTHORITY])),
        case("8.3.1", "no path, and a host in place of the authority", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, ("host", "a.example")])
        }),
        case("8.3.1", "an empty path", Malformed, |ask| ask.only(&[METHOD, SCHEME, (":path", ""), AUTHORITY])),
        case("8.3.1", "a path without its slash", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "x"), AUTHORITY])
        }),
        case("8.3.1", "a path that is an address", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "http://b.example/case"), AUTHORITY])
        }),
    ]
}

fn addresses() -> Vec<Case> {
    vec![
        case("8.3.1", "a path that is only a query", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "?case"), AUTHORITY])
        }),
        case("8.3.1", "a path that is only a fragment", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "#case"), AUTHORITY])
        }),
        case("8.3.1", "a path with a fragment", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "/case#there"), AUTHORITY])
        })
        .but(Answered(200), "the library of addresses cuts it off before it is seen; the app gets the rest, as we do")
        .seen(),
        case("8.3.1", "a path with a blank", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "/case HTTP/1.1"), AUTHORITY])
        }),
        case("8.3.1", "a path with a line end", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, (":path", "/case\r\nx: y"), AUTHORITY])
        }),
        case("8.3.1", "a path with NUL", Malformed, |ask| ask.only(&[METHOD, SCHEME, (":path", "/case\0"), AUTHORITY])),
        case("8.3.1", "an asterisk of GET", Malformed, |ask| ask.only(&[METHOD, SCHEME, (":path", "*"), AUTHORITY])),
        case("8.3.1", "an asterisk of OPTIONS", Served, |ask| {
            ask.only(&[(":method", "OPTIONS"), SCHEME, (":path", "*"), AUTHORITY])
        }),
        case("8.3.1", "a method with a blank", Malformed, |ask| {
            ask.only(&[(":method", "GET /other"), SCHEME, PATH, AUTHORITY])
        }),
        case("8.3.1", "an empty method", Malformed, |ask| ask.only(&[(":method", ""), SCHEME, PATH, AUTHORITY])),
        case("8.3.1", "a scheme that is none", Malformed, |ask| {
            ask.only(&[METHOD, (":scheme", "h t"), PATH, AUTHORITY])
        }),
        case("8.3.1", "an authority with a user", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, (":authority", "user@a.example")])
        }),
        case("8.3.1", "an authority that is none", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, (":authority", "a.example/x")])
        }),
        case("8.3.1", "an empty authority", Malformed, |ask| ask.only(&[METHOD, SCHEME, PATH, (":authority", "")])),
        case("8.3.1", "a host in place of the authority", Served, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, ("host", "a.example")])
        }),
        case("8.3.1", "a host that agrees with the authority", Served, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, AUTHORITY, ("host", "A.example:80")])
        }),
        case("8.3.1", "a host that says another than the authority", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, AUTHORITY, ("host", "b.example")])
        }),
        case("8.3.1", "two hosts", Malformed, |ask| {
            ask.only(&[METHOD, SCHEME, PATH, ("host", "a.example"), ("host", "a.example")])
        }),
    ]
}

fn connects() -> Vec<Case> {
    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const SOCKET: (&str, &str) = (":protocol", "websocket");
    vec![
        case("8.5", "a tunnel to somewhere", Refused, |ask| ask.only(&[CONNECT, (":authority", "a.example:443")]))
            .unseen(),
        case("8.5", "a tunnel to nowhere", Malformed, |ask| ask.only(&[CONNECT])),
        case("8.5", "a tunnel with a scheme", Malformed, |ask| ask.only(&[CONNECT, SCHEME, AUTHORITY])),
        case("8.5", "a tunnel with a path", Malformed, |ask| ask.only(&[CONNECT, PATH, AUTHORITY])),
        case("8.5", "a tunnel with a length and no body", Malformed, |ask| {
            ask.only(&[CONNECT, AUTHORITY, ("content-length", "5")])
        }),
        case("8.5", "a tunnel with a length", Refused, |ask| {
            frame(HEADERS, END_HEADERS, 1, &ask.block(&[CONNECT, AUTHORITY, ("content-length", "5")]))
        })
        .but(Ended, "hyper ends the whole connection, which is its client's alone, and says so in its log only")
        .unseen(),
        case("8441 4", "a protocol without CONNECT", Malformed, |ask| {
            ask.only(&[METHOD, SOCKET, SCHEME, PATH, AUTHORITY])
        }),
        case("8441 4", "a protocol without a scheme", Malformed, |ask| ask.only(&[CONNECT, SOCKET, PATH, AUTHORITY])),
        case("8441 4", "a protocol without a path", Malformed, |ask| ask.only(&[CONNECT, SOCKET, SCHEME, AUTHORITY])),
        case("8441 4", "a protocol that nobody speaks", Refused, |ask| {
            ask.only(&[CONNECT, (":protocol", "connect-udp"), SCHEME, PATH, AUTHORITY])
        })
        .unseen(),
        // The mirror answers 200 in place of 101, which to CONNECT would mean that there is a socket.
        case("8441 5", "a WebSocket that the app does not take", Refused, |ask| {
            ask.only(&[CONNECT, SOCKET, SCHEME, PATH, AUTHORITY, ("sec-websocket-version", "13")])
        }),
    ]
}

#[test]
fn http2_conformance_bodies() {
    hold(&bodies());
    hold(&lengths());
}

#[test]
fn http2_conformance_fields() {
    hold(&fields());
}

#[test]
fn http2_conformance_pseudo_header_fields() {
    hold(&pseudo());
    hold(&addresses());
}

#[test]
fn http2_conformance_tunnels() {
    hold(&connects());
}
