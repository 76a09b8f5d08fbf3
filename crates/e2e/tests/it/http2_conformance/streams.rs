//! Streams, their states and their frames: RFC 9113 §5, §6.1 to §6.4, §6.10.

use super::Came::{Answered, GoneAway, Reset};
use super::Owed::{Connection, Nothing, OneOf, Served, Stream};
use super::connection::CODE;
use super::{Case, JUDGED, case, hold};
use mainstay_e2e::frames::*;

const GENERAL: &str = "h2 ends the connection, with the general code, where the stream alone would have done";
const CLOSED_BY: &str = "STREAM_CLOSED is owed; h2 has forgotten the stream and says that its number was used";

fn states() -> Vec<Case> {
    vec![
        case("5.1", "DATA on an idle stream", Connection(PROTOCOL_ERROR), |_| frame(DATA, END_STREAM, 1, b"x")),
        case("5.1", "RST_STREAM on an idle stream", Connection(PROTOCOL_ERROR), |_| reset(1, CANCEL)),
        case("5.1", "WINDOW_UPDATE on an idle stream", Connection(PROTOCOL_ERROR), |_| window_update(1, 10)),
        case("5.1", "CONTINUATION on an idle stream", Connection(PROTOCOL_ERROR), |ask| {
            frame(CONTINUATION, END_HEADERS, 1, &ask.with("GET", &[]))
        })
        .unseen(),
        case("5.1", "PRIORITY on an idle stream", Nothing, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        case("5.1", "DATA on a half-closed stream", Stream(STREAM_CLOSED), |ask| {
            [ask.get(1), frame(DATA, END_STREAM, 1, b"x")].concat()
        })
        .but(GoneAway(PROTOCOL_ERROR), GENERAL),
        case("5.1", "HEADERS on a half-closed stream", Stream(STREAM_CLOSED), |ask| [ask.get(1), ask.get(1)].concat())
            .but(GoneAway(PROTOCOL_ERROR), GENERAL),
        case("5.1", "CONTINUATION on a half-closed stream", Connection(PROTOCOL_ERROR), |ask| {
            [ask.get(1), frame(CONTINUATION, END_HEADERS, 1, &ask.block(&[]))].concat()
        }),
        case("5.1", "WINDOW_UPDATE and PRIORITY on a half-closed stream", Served, |ask| {
            [ask.get(1), window_update(1, 10), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])].concat()
        }),
        case("5.1", "DATA on a stream that was answered", Stream(STREAM_CLOSED), |_| frame(DATA, END_STREAM, 1, b"x"))
            .after(|ask| ask.get(1)),
        case("5.1", "HEADERS on a stream that was answered", Stream(STREAM_CLOSED), |ask| ask.get(1))
            .after(|ask| ask.get(1))
            .but(GoneAway(PROTOCOL_ERROR), CLOSED_BY),
        case("5.1", "CONTINUATION on a stream that was answered", Connection(PROTOCOL_ERROR), |ask| {
            frame(CONTINUATION, END_HEADERS, 1, &ask.block(&[]))
        })
        .after(|ask| ask.get(1)),
        case("5.1", "WINDOW_UPDATE, PRIORITY and RST_STREAM on a stream that was answered", Nothing, |_| {
            [window_update(1, 10), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), reset(1, CANCEL)].concat()
        })
        .after(|ask| ask.get(1)),
        case("5.1", "DATA on a stream that the client reset", Stream(STREAM_CLOSED), |ask| {
            [ask.post(1), reset(1, CANCEL), frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
        case("5.1", "HEADERS on a stream that the client reset", Stream(STREAM_CLOSED), |ask| {
            [ask.post(1), reset(1, CANCEL), ask.get(1)].concat()
        })
        .but(GoneAway(PROTOCOL_ERROR), GENERAL),
        case("5.1.1", "an even stream", Connection(PROTOCOL_ERROR), |ask| ask.get(2)).unseen().on(2),
        case("5.1.1", "a stream below the last", Connection(PROTOCOL_ERROR), |ask| ask.get(3))
            .unseen()
            .after(|_| super::get(5, "/before"))
            .on(5),
        case("5.1.1", "streams left out", Served, |ask| ask.get(77)).on(77),
        case("5.1.1", "a stream again", OneOf(&[GoneAway(PROTOCOL_ERROR), GoneAway(STREAM_CLOSED)]), |ask| ask.get(1))
            .after(|ask| ask.get(1)),
        case("5.3.2", "a stream that depends on itself", OneOf(&[Answered(200), Reset(PROTOCOL_ERROR)]), |ask| {
            let block = [&[0, 0, 0, 1, 16][..], &ask.with("GET", &[])].concat();
            frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &block)
        }),
        case("5.3.2", "priorities are nothing to us", Served, |ask| {
            let block = [&[0x80, 0, 0, 99, 255][..], &ask.with("GET", &[])].concat();
            frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &block)
        }),
    ]
}

fn frames_of_streams() -> Vec<Case> {
    vec![
        case("6.1", "DATA of no stream", Connection(PROTOCOL_ERROR), |_| frame(DATA, 0, 0, b"x")),
        case("6.1", "padded DATA", Served, |ask| {
            [ask.post_with(1, &[("content-length", "4")]), frame(DATA, END_STREAM | PADDED, 1, b"\x03body\0\0\0")]
                .concat()
        }),
        case("6.1", "DATA padded by all of its payload", Connection(PROTOCOL_ERROR), |ask| {
            [ask.post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06body\0")].concat()
        }),
        case("6.1", "padded DATA without the padding's length", Connection(FRAME_SIZE_ERROR), |ask| {
            [ask.post(1), frame(DATA, END_STREAM | PADDED, 1, &[])].concat()
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.2", "HEADERS of no stream", Connection(PROTOCOL_ERROR), |ask| ask.get(0)).unseen(),
        case("6.2", "padded HEADERS", Served, |ask| {
            let block = [&[2][..], &ask.with("GET", &[]), &[0, 0]].concat();
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &block)
        }),
        case("6.2", "HEADERS padded beyond their payload", Connection(PROTOCOL_ERROR), |ask| {
            let block = [&[255][..], &ask.with("GET", &[]), &[0, 0]].concat();
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &block)
        })
        .unseen(),
        case("6.2", "HEADERS too short for their priority", Connection(FRAME_SIZE_ERROR), |_| {
            frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, &[0, 0, 0])
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.3", "PRIORITY of no stream", Connection(PROTOCOL_ERROR), |_| frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 1])),
        case("6.3", "PRIORITY of four octets", Stream(FRAME_SIZE_ERROR), |ask| {
            [ask.post(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 3])].concat()
        })
        .but(GoneAway(PROTOCOL_ERROR), GENERAL),
        case("6.4", "RST_STREAM of no stream", Connection(PROTOCOL_ERROR), |_| reset(0, CANCEL)),
        case("6.4", "RST_STREAM of three octets", Connection(FRAME_SIZE_ERROR), |ask| {
            [ask.post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0])].concat()
        })
        .but(GoneAway(PROTOCOL_ERROR), CODE),
        case("6.10", "a head in four frames", Served, |ask| {
            let block = ask.with("GET", &[("x-long", "x".repeat(100).as_str())]);
            let (a, b) = block.split_at(3);
            let (b, c) = b.split_at(30);
            let begun = [frame(HEADERS, END_STREAM, JUDGED, a), frame(CONTINUATION, 0, 1, b)].concat();
            [begun, frame(CONTINUATION, 0, 1, &[]), frame(CONTINUATION, END_HEADERS, 1, c)].concat()
        }),
        case("6.10", "CONTINUATION of no stream", Connection(PROTOCOL_ERROR), |ask| {
            [frame(HEADERS, END_STREAM, 1, &ask.with("GET", &[])), frame(CONTINUATION, END_HEADERS, 0, &[])].concat()
        })
        .unseen(),
        case("6.10", "CONTINUATION of another stream", Connection(PROTOCOL_ERROR), |ask| {
            [frame(HEADERS, END_STREAM, 1, &ask.with("GET", &[])), frame(CONTINUATION, END_HEADERS, 3, &[])].concat()
        })
        .unseen(),
        case("6.10", "CONTINUATION behind a whole head", Connection(PROTOCOL_ERROR), |ask| {
            [ask.get(1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        }),
        case("6.10", "CONTINUATION behind DATA", Connection(PROTOCOL_ERROR), |ask| {
            [ask.post(1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &[])].concat()
        }),
    ]
}

#[test]
fn http2_conformance_states_of_streams() {
    hold(&states());
}

#[test]
fn http2_conformance_frames_of_streams() {
    hold(&frames_of_streams());
}
