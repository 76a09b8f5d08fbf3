//! Floods of HTTP/2 frames that cost a client nothing: the memory of the server stays bounded, and others are served.

use crate::support::{before, in_front_of};
use mainstay_e2e::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, RST_STREAM, SETTINGS,
    frame, settings, window_update,
};
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Mainstay, Peer, Setup, get, processes, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// `GET http://a/`: three entries of the static table, and `:authority: a`.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// What the server may have grown by while a flood of megabytes went on; the flood itself is many times as large.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// How long a flood goes on if the server does not end it.
const FLOOD: Duration = Duration::from_secs(4);

/// A connection that has said its preface; what the server says is read and thrown away.
fn connected(mainstay: &Mainstay) -> TcpStream {
    let mut stream = TcpStream::connect(mainstay.edge()).expect("connect");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("timeout");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).expect("preface");
    let mut reader = stream.try_clone().expect("clone");
    std::thread::spawn(move || {
        let mut sink = [0; 64 * 1024];
        while reader.read(&mut sink).is_ok_and(|n| n > 0) {}
    });
    stream
}

fn resident_kib(mainstay: &Mainstay) -> u64 {
    processes::resident(mainstay.server()).expect("the server's memory") / 1024
}

/// Sends what `next` gives until the server ends the connection or the time is over. Bytes sent, largest growth in
/// KiB, and whether the server ended it.
fn flood(mainstay: &Mainstay, mut next: impl FnMut(u32) -> Vec<u8>) -> (usize, u64, bool) {
    assert_eq!(get(&mainstay.url("/")).status, 200);
    let before = resident_kib(mainstay);
    let mut stream = connected(mainstay);
    let (begun, mut sent, mut largest, mut ended, mut turn) = (Instant::now(), 0, 0, false, 0u32);
    while begun.elapsed() < FLOOD && !ended {
        let mut bytes = Vec::new();
        for _ in 0..500 {
            bytes.extend(next(turn));
            turn += 1;
        }
        match stream.write_all(&bytes) {
            Ok(()) => sent += bytes.len(),
            // A server that takes no more has bounded its memory too.
            Err(error) => ended = !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
        largest = largest.max(resident_kib(mainstay).saturating_sub(before));
    }
    (sent, largest, ended)
}

#[track_caller]
fn bounded(name: &str, mainstay: &Mainstay, (sent, grown, ended): (usize, u64, bool)) {
    println!("{name}: {} KiB sent, memory grew by {grown} KiB at most, ended by the server: {ended}", sent / 1024);
    assert!(grown <= GROWTH_KIB_MAX, "{name}: the server grew by {grown} KiB");
    wait_until("others to be served", || get(&mainstay.url("/")).status == 200);
}

#[test]
fn e14_a_rapid_reset_flood_is_ended() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let told = flood(&mainstay, |turn| {
        let stream = turn * 2 + 1;
        [frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())]
            .concat()
    });
    assert!(told.2, "a client that resets what it asks goes on for ever");
    bounded("rapid reset", &mainstay, told);
}

#[test]
fn e14_a_head_without_end_is_ended() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    // A literal of 100 bytes a frame, and never END_HEADERS.
    let line = [&[0x00, 0x04][..], b"name", &[100], &[b'v'; 100]].concat();
    let told = flood(&mainstay, |turn| match turn {
        0 => frame(HEADERS, END_STREAM, 1, REQUEST),
        _ => frame(CONTINUATION, 0, 1, &line),
    });
    assert!(told.2, "a head may go on for ever");
    bounded("CONTINUATION", &mainstay, told);
}

#[test]
fn e14_settings_and_pings_are_answered_within_bounds() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let settings = flood(&mainstay, |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
    bounded("SETTINGS", &mainstay, settings);
    let pings = flood(&mainstay, |turn| frame(PING, 0, 0, &u64::from(turn).to_be_bytes()));
    bounded("PING", &mainstay, pings);
}

#[test]
fn e14_a_small_head_that_unpacks_to_a_large_one_is_refused() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    // One entry of 4,000 bytes into the dynamic table, then 4,000 references of one byte to it: 16 MB of fields.
    let entry = [&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &vec![b'y'; 4000]].concat();
    let bomb = [REQUEST, &entry, &vec![0xbe; 4000]].concat();
    let told = flood(&mainstay, |turn| frame(HEADERS, END_STREAM | END_HEADERS, turn * 2 + 1, &bomb));
    bounded("HPACK", &mainstay, told);
    assert!(peer.holding("yyyy").is_empty(), "it reached the upstream");
}

#[test]
fn e14_streams_that_the_server_itself_has_to_reset_are_ended() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    // Each is asked for, and broken by a window beyond all bounds: no RST_STREAM of the client's that could be counted.
    let told = flood(&mainstay, |turn| {
        let stream = turn * 2 + 1;
        let asked = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        [asked, window_update(stream, 0x7fff_ffff)].concat()
    });
    assert!(told.2, "a client that has its streams reset goes on for ever");
    bounded("resets by the server", &mainstay, told);
}

#[test]
fn e14_large_answers_that_nobody_reads_are_bounded() {
    let large = vec![b'x'; 4 << 20];
    let peer = Peer::with(move |ask, out| match ask.path() {
        "/large" => answer(out, 200, &[], &large),
        _ => answer(out, 200, &[], b"ok"),
    });
    let mainstay = before(&peer);
    let path = [&[0x82, 0x86, 0x04, 6][..], b"/large", &[0x41, 0x01, b'a']].concat();
    let told = flood(&mainstay, |turn| match turn {
        0 => settings(&[(INITIAL_WINDOW_SIZE, 0)]),
        1..=250 => frame(HEADERS, END_STREAM | END_HEADERS, turn * 2 - 1, &path),
        _ => frame(PING, 0, 0, &[0; 8]),
    });
    bounded("1000 MiB of answers, no window", &mainstay, told);
    assert!(peer.holding("/large").len() > 100, "they were not asked for");
}

#[test]
fn e14_empty_data_without_end_is_bounded() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let told = flood(&mainstay, |turn| match turn {
        0 => frame(HEADERS, END_HEADERS, 1, &[0x83, 0x86, 0x84, 0x41, 0x01, b'a']),
        _ => frame(DATA, 0, 1, &[]),
    });
    bounded("empty DATA", &mainstay, told);
}

#[test]
fn a_path_that_is_only_a_query_is_a_request_like_any_other() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let mut stream = connected(&mainstay);
    let path = |path: &str| [&[0x82, 0x86, 0x04, path.len() as u8][..], path.as_bytes(), &[0x41, 0x01, b'a']].concat();
    for (stream_id, text) in [(1, "/long-enough-to-be-remembered"), (3, "?foo"), (5, "/after")] {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream_id, &path(text));
        stream.write_all(&head).expect("send");
        wait_until("the connection to go on", || text == "?foo" || !peer.holding(text).is_empty());
    }
    assert!(!mainstay.said().contains("panicked"), "{}", mainstay.said());
}
