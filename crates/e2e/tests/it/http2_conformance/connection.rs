//! Preface, frames and the frames of the connection: RFC 9113 §3, §4, §6.5 to §6.8.

use super::Came::GoneAway;
use super::Owed::{Connection, Nothing, OneOf, Served, Stream};
use super::{Case, JUDGED, case, hold};
use mainstay_e2e::frames::*;

pub const CODE: &str = "the connection ends as it must; h2 has one code, PROTOCOL_ERROR, for what it cannot read";

fn framing() -> Vec<Case> {
    vec![
        case("3.4", "requests right behind the preface", Served, |ask| ask.get(1)),
        case("3.4", "SETTINGS missing from the preface", Connection(PROTOCOL_ERROR), |ask| {
            [PREFACE, &ask.get(1)].concat()
        })
        .bare()
        .but(super::Came::Answered(200), "h2 takes the settings nobody sent for the defaults, which they are"),
        case("3.4", "a second preface", OneOf(&[GoneAway(FRAME_SIZE_ERROR), GoneAway(PROTOCOL_ERROR)]), |_| {
            PREFACE.to_vec()
        }),
        case("4.1", "an unknown type of frame", Served, |ask| {
            [frame(0xbe, 0xff, 0, b"what is this"), ask.get(1), frame(0xbe, 0xff, 1, b"and this")].concat()
        }),
        case("4.1", "flags that mean nothing here", Served, |ask| {
            let block = ask.with("GET", &[]);
            let head = frame(HEADERS, END_STREAM | END_HEADERS | 0xd2, 1, &block);
            [frame(PING, 0xfe, 0, &[0; 8]), frame(SETTINGS, 0xfe, 0, &[]), head].concat()
        }),
        case("4.1", "the reserved bit", Served, |ask| {
            let mut bytes = ask.get(1);
            bytes[5] |= 0x80;
            bytes
        }),
        case("4.2", "a frame of exactly the largest size", Served, |ask| {
            [ask.post(1), frame(DATA, END_STREAM, 1, &[b'x'; 16384])].concat()
        }),
        case("4.2", "DATA beyond the largest size", Stream(FRAME_SIZE_ERROR), |ask| {
            [ask.post(1), frame(DATA, END_STREAM, 1, &[b'x'; 16385])].concat()
        }),
        case("4.2", "HEADERS beyond the largest size", Connection(FRAME_SIZE_ERROR), |ask| {
            ask.get_with(&[("x-large", "x".repeat(16385).as_str())])
        })
        .unseen(),
        case("4.2", "SETTINGS beyond the largest size", Connection(FRAME_SIZE_ERROR), |_| settings(&[(0x99, 1); 2731])),
        case("4.2", "a frame of an unknown type beyond the largest size", Connection(FRAME_SIZE_ERROR), |_| {
            frame(0xbe, 0, 0, &[0; 16385])
        }),
        case("4.3", "PRIORITY within a head", Connection(PROTOCOL_ERROR), |ask| {
            let block = ask.with("GET", &[]);
            let begun = frame(HEADERS, END_STREAM, 1, &block);
            [begun, frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        })
        .unseen(),
        case("4.3", "HEADERS of another stream within a head", Connection(PROTOCOL_ERROR), |ask| {
            let block = ask.with("GET", &[]);
            let begun = frame(HEADERS, END_STREAM, 1, &block);
            [begun, ask.get(3), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        })
        .unseen(),
        case("4.3", "DATA within a head", Connection(PROTOCOL_ERROR), |ask| {
            let begun = frame(HEADERS, 0, 1, &ask.with("POST", &[]));
            [begun, frame(DATA, END_STREAM, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        })
        .unseen(),
        case("4.3", "SETTINGS within a head", Connection(PROTOCOL_ERROR), |ask| {
            [frame(HEADERS, END_STREAM, 1, &ask.with("GET", &[])), settings(&[])].concat()
        })
        .unseen(),
        case("5.5", "an unknown frame within a head", Connection(PROTOCOL_ERROR), |ask| {
            let begun = frame(HEADERS, END_STREAM, 1, &ask.with("GET", &[]));
            [begun, frame(0xbe, 0, 0, &[]), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        })
        .unseen(),
        case("5.5", "an unknown setting", Served, |ask| [settings(&[(0x99, 7), (0, 1)]), ask.get(1)].concat()),
    ]
}

fn of_the_connection() -> Vec<Case> {
    vec![
        case("6.5", "an acknowledgement with a payload", Connection(FRAME_SIZE_ERROR), |_| {
            frame(SETTINGS, ACK, 0, &[0; 6])
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.5", "SETTINGS of a stream", Connection(PROTOCOL_ERROR), |_| frame(SETTINGS, 0, 1, &[])),
        case("6.5", "SETTINGS of no multiple of six octets", Connection(FRAME_SIZE_ERROR), |_| {
            frame(SETTINGS, 0, 0, &[0, 3, 0])
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.5.2", "ENABLE_PUSH of 2", Connection(PROTOCOL_ERROR), |_| settings(&[(ENABLE_PUSH, 2)])),
        case("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", Connection(FLOW_CONTROL_ERROR), |_| {
            settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)])
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.5.2", "MAX_FRAME_SIZE too small", Connection(PROTOCOL_ERROR), |_| settings(&[(MAX_FRAME_SIZE, 16383)])),
        case("6.5.2", "MAX_FRAME_SIZE too large", Connection(PROTOCOL_ERROR), |_| {
            settings(&[(MAX_FRAME_SIZE, 1 << 24)])
        }),
        case("8441 3", "ENABLE_CONNECT_PROTOCOL of 2", Connection(PROTOCOL_ERROR), |_| {
            settings(&[(ENABLE_CONNECT_PROTOCOL, 2)])
        }),
        case("6.5.3", "one setting twice, the last counts", Served, |ask| {
            [settings(&[(INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 65535)]), ask.get(1)].concat()
        }),
        case("6.6", "PUSH_PROMISE of a client", Connection(PROTOCOL_ERROR), |ask| {
            let promise = [&[0, 0, 0, 2][..], &ask.with("GET", &[])].concat();
            [ask.post(1), frame(PUSH_PROMISE, END_HEADERS, 1, &promise)].concat()
        }),
        case("6.7", "PING of a stream", Connection(PROTOCOL_ERROR), |_| frame(PING, 0, 1, &[0; 8])),
        case("6.7", "PING of seven octets", Connection(FRAME_SIZE_ERROR), |_| frame(PING, 0, 0, &[0; 7]))
            .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.7", "PING of nine octets", Connection(FRAME_SIZE_ERROR), |_| frame(PING, 0, 0, &[0; 9]))
            .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.7", "an answer to no PING", Nothing, |_| frame(PING, ACK, 0, b"no ping!")),
        case("6.8", "GOAWAY of a stream", Connection(PROTOCOL_ERROR), |_| frame(GOAWAY, 0, 1, &[0; 8])),
        case("6.8", "GOAWAY of four octets", Connection(FRAME_SIZE_ERROR), |_| frame(GOAWAY, 0, 0, &[0; 4]))
            .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.9", "WINDOW_UPDATE by nothing", Connection(PROTOCOL_ERROR), |_| window_update(0, 0)),
        case("6.9", "WINDOW_UPDATE by nothing, of a stream", Stream(PROTOCOL_ERROR), |ask| {
            [ask.post(1), window_update(JUDGED, 0)].concat()
        }),
        case("6.9", "WINDOW_UPDATE of three octets", Connection(FRAME_SIZE_ERROR), |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.9.1", "a window of the connection beyond 2^31-1", Connection(FLOW_CONTROL_ERROR), |_| {
            window_update(0, 0x7fff_ffff)
        }),
        case("6.9.1", "a window of a stream beyond 2^31-1", Stream(FLOW_CONTROL_ERROR), |ask| {
            [ask.post(1), window_update(JUDGED, 0x7fff_ffff)].concat()
        }),
        case("6.9.2", "a window beyond 2^31-1 by SETTINGS", Connection(FLOW_CONTROL_ERROR), |ask| {
            let wide = window_update(JUDGED, 0x7fff_ffff - 65535);
            [ask.post(1), wide, settings(&[(INITIAL_WINDOW_SIZE, 65536)])].concat()
        }),
    ]
}

/// A preface that is none is no HTTP/2 at all on a port that speaks both: an answer of HTTP/1, and the end.
#[test]
fn http2_conformance_a_wrong_preface_ends_the_connection() {
    let (peer, mainstay) = super::started();
    for wrong in [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r ", b"\0\0\0\x04\0\0\0\0\0"]
    {
        let mut client = Client::silent(mainstay.edge());
        client.send(wrong);
        client.half_close();
        let said = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(said.starts_with("HTTP/1.1 4") || said.starts_with("HTTP/1.1 5") || said.is_empty(), "{said}");
    }
    assert!(peer.raw_holding("PRI").is_empty());
}

#[test]
fn http2_conformance_prefaces_and_frames() {
    hold(&framing());
}

#[test]
fn http2_conformance_frames_of_the_connection() {
    hold(&of_the_connection());
}
