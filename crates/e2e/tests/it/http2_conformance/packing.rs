//! HPACK: RFC 7541, and RFC 9113 §4.3. A block that cannot be read ends the connection: both sides' tables are one.

use super::Came::{Answered, GoneAway};
use super::Owed::{Connection, Malformed, Served};
use super::{Asking, Case, case, hold};
use mainstay_e2e::frames::*;
use mainstay_e2e::hpack::{integer, literal, remembered};

const CODE: &str = "the connection ends as it must; h2 says PROTOCOL_ERROR of every block that it cannot read";

/// An ordinary request, and behind its block what is to be judged.
fn followed_by(ask: &Asking, bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&ask.with("GET", &[])[..], bytes].concat())
}

/// The same with this before it.
fn led_by(ask: &Asking, stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &[bytes, &ask.with("GET", &[])[..]].concat())
}

/// A field whose value is this string, marked as packed.
fn packed(value: &[u8]) -> Vec<u8> {
    [&[0x00, 0x01, b'x'][..], &integer(0x80, 7, value.len()), value].concat()
}

fn unreadable(name: &'static str, section: &'static str, sends: super::Bytes) -> Case {
    case(section, name, Connection(COMPRESSION_ERROR), sends).but(GoneAway(PROTOCOL_ERROR), CODE).unseen()
}

fn unreadable_blocks() -> Vec<Case> {
    vec![
        unreadable("an entry beyond the table", "7541 2.3.3", |ask| followed_by(ask, &[0x80 | 70])),
        unreadable("a name beyond the table", "7541 2.3.3", |ask| {
            followed_by(ask, &[&integer(0x40, 6, 70)[..], &[1, b'x']].concat())
        }),
        unreadable("an entry 0", "7541 6.1", |ask| followed_by(ask, &[0x80])),
        unreadable("a table larger than was agreed", "7541 6.3", |ask| led_by(ask, 1, &integer(0x20, 5, 4097))),
        unreadable("a change of the table behind a field", "7541 4.2", |ask| followed_by(ask, &integer(0x20, 5, 100))),
        unreadable("an entry that a smaller table has lost", "7541 4.3", |ask| {
            // Of two entries the newer alone has room.
            let two = [remembered(b"x-a", &[b'a'; 20]), remembered(b"x-b", &[b'b'; 20])].concat();
            let learnt = frame(HEADERS, END_STREAM | END_HEADERS, 1, &[ask_nobody(), two].concat());
            let shrunk = [integer(0x20, 5, 60), ask.with("GET", &[]), vec![0x80 | 63]].concat();
            [learnt, frame(HEADERS, END_STREAM | END_HEADERS, 3, &shrunk)].concat()
        }),
        unreadable("a number beyond 32 bits", "7541 5.1", |ask| {
            followed_by(ask, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])
        }),
        unreadable("a number without end", "7541 5.1", |ask| followed_by(ask, &[0xff, 0x80])),
        unreadable("a string without end", "7541 5.2", |ask| followed_by(ask, &[0x00, 0x01, b'x', 0x05, b'y'])),
        unreadable("the end of a string packed within it", "7541 5.2", |ask| {
            followed_by(ask, &packed(&[0xff, 0xff, 0xff, 0xff]))
        }),
        unreadable("a string filled up by more than seven bits", "7541 5.2", |ask| {
            // `a` of five bits, and eleven ones.
            followed_by(ask, &packed(&[0b0001_1111, 0xff]))
        }),
        unreadable("a string filled up by noughts", "7541 5.2", |ask| followed_by(ask, &packed(&[0b0001_1000]))),
        unreadable("a name without a value", "7541 6.2", |ask| followed_by(ask, &[0x00, 0x01, b'x'])),
    ]
}

/// A request that no case counts.
fn ask_nobody() -> Vec<u8> {
    mainstay_e2e::hpack::block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")])
}

fn readable_blocks() -> Vec<Case> {
    vec![
        case("7541 6.3", "the table changed twice before the first field", Served, |ask| {
            led_by(ask, 1, &[integer(0x20, 5, 0), integer(0x20, 5, 4096)].concat())
        }),
        case("7541 4.2", "a change of the table between two frames of a head", Connection(COMPRESSION_ERROR), |ask| {
            let block = ask.with("GET", &[]);
            let change = [integer(0x20, 5, 100), literal(b"x", b"y")].concat();
            [frame(HEADERS, END_STREAM, 1, &block), frame(CONTINUATION, END_HEADERS, 1, &change)].concat()
        })
        .but(
            Answered(200),
            "h2 takes a frame's beginning for the head's; both tables change alike, nothing is read anew",
        ),
        case("7541 6.2.3", "a field never to be remembered", Served, |ask| {
            followed_by(ask, &[&[0x10][..], &literal(b"x-secret", b"y")[1..]].concat())
        }),
        case("7541 5.2", "packed strings", Served, |ask| followed_by(ask, &packed(&[0b0001_1111]))),
        case("7541 2.3.2", "a field remembered", Served, |ask| {
            [followed_by(ask, &remembered(b"x-kept", b"kept")), led_by(ask, 3, &[])].concat()
        }),
        case("9113 4.3", "a malformed head changes the table all the same", Malformed, |ask| {
            let mut block = ask.with("GET", &[("connection", "close")]);
            block.extend(remembered(b"x-kept", b"kept"));
            let refers = [ask_nobody(), vec![0x80 | 62]].concat();
            let refers = frame(HEADERS, END_STREAM | END_HEADERS, 3, &refers);
            [frame(HEADERS, END_STREAM | END_HEADERS, 1, &block), refers].concat()
        }),
        case("9113 4.3", "the head of a stream that is refused changes the table all the same", Served, |ask| {
            let learns = [ask_nobody(), remembered(b"x-kept", b"kept")].concat();
            let learns = [frame(HEADERS, END_HEADERS, 3, &learns), reset(3, CANCEL)].concat();
            let refers = [ask.with("GET", &[]), vec![0x80 | 62]].concat();
            [learns, frame(HEADERS, END_STREAM | END_HEADERS, 5, &refers)].concat()
        })
        .on(5),
    ]
}

#[test]
fn http2_conformance_unreadable_blocks() {
    hold(&unreadable_blocks());
}

#[test]
fn http2_conformance_readable_blocks() {
    hold(&readable_blocks());
}
