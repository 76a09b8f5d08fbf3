//! Flow control, both ways (RFC 9113 §5.2, §6.9), and the sizes that were agreed on (§4.2, §6.5.2, RFC 7541 §4.2).

use crate::support::in_front_of;
use mainstay_e2e::frames::*;
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Mainstay, Peer, Setup, wait_for, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{get, post};

/// Gives as many bytes as the path says, and heads as large.
fn generous() -> Peer {
    Peer::with(|ask, out| {
        let count = ask.path().rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        match ask.path().starts_with("/head/") {
            true => answer(out, 200, &[("x-large", &"h".repeat(count))], b"ok"),
            false => answer(out, 200, &[("x-always", "the same")], &vec![b'x'; count]),
        }
    })
}

fn before_generous() -> (Peer, Mainstay) {
    let peer = generous();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    (peer, mainstay)
}

/// Reads DATA until that many octets have come in all; more are a fault, then and up to a PING behind them.
#[track_caller]
fn exactly(client: &mut Client, had: &mut usize, wanted: usize) {
    while *had < wanted {
        *had += client.until("more of the body", |frame| frame.kind == DATA).payload.len();
        assert!(*had <= wanted, "{had} octets came, {wanted} were granted");
    }
    client.send(&frame(PING, 0, 0, b"no more?"));
    client.until("the PING's answer", |frame| {
        assert!(frame.kind != DATA || frame.payload.is_empty(), "more than {wanted} octets: {}", frame.payload.len());
        frame.kind == PING && frame.flags & ACK != 0
    });
}

#[test]
fn http2_conformance_our_answers_keep_within_a_streams_window() {
    let (_peer, mainstay) = before_generous();
    let mut client = Client::open(mainstay.edge(), &[(INITIAL_WINDOW_SIZE, 0)]);
    client.send(&get(1, "/bytes/1000"));
    let head = client.until("the head", |frame| frame.kind == HEADERS);
    client.heads.read(&head.payload).expect("a head");
    let mut had = 0;
    exactly(&mut client, &mut had, 0);
    client.send(&window_update(1, 1));
    exactly(&mut client, &mut had, 1);
    // The window of a stream that is open follows the setting (§6.9.2).
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 100)]));
    exactly(&mut client, &mut had, 101);
    // It may become negative: 40 - 100.
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 40)]));
    exactly(&mut client, &mut had, 101);
    client.send(&window_update(1, 60));
    exactly(&mut client, &mut had, 101);
    client.send(&window_update(1, 1));
    exactly(&mut client, &mut had, 102);
    client.send(&window_update(1, 10_000));
    exactly(&mut client, &mut had, 1000);
}

#[test]
fn http2_conformance_our_answers_keep_within_the_connections_window() {
    let (_peer, mainstay) = before_generous();
    let mut client = Client::open(mainstay.edge(), &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
    client.send(&[get(1, "/bytes/50000"), get(3, "/bytes/50000")].concat());
    let mut had = 0;
    exactly(&mut client, &mut had, 65535);
    client.send(&window_update(0, 1));
    exactly(&mut client, &mut had, 65536);
    // A stream without a body needs no window.
    client.send(&get(5, "/bytes/0"));
    let empty = client.until("an answer without a body", |frame| frame.stream == 5 && frame.kind == HEADERS);
    client.heads.read(&empty.payload).expect("a head");
    client.send(&window_update(0, 1 << 20));
    exactly(&mut client, &mut had, 100_000);
}

#[test]
fn http2_conformance_our_frames_keep_within_the_size_agreed() {
    let (_peer, mainstay) = before_generous();
    for (agreed, values) in [(16384, &[][..]), (20_000, &[(MAX_FRAME_SIZE, 20_000)][..])] {
        let mut client = Client::open(mainstay.edge(), &[values, &[(INITIAL_WINDOW_SIZE, 1 << 20)]].concat());
        client.send(&[window_update(0, 1 << 20), get(1, "/bytes/300000")].concat());
        let reply = client.answer(1);
        assert_eq!((reply.status(), reply.body.len()), (200, 300_000));
        let largest = reply.frames.iter().map(|(_, size)| *size).max();
        assert!(largest <= Some(agreed), "a frame of {largest:?} octets, {agreed} were agreed");
        // A head larger than a frame goes on in CONTINUATION, and nothing comes in between (§4.3).
        client.send(&get(3, "/head/40000"));
        let first = client.until("a head", |frame| frame.kind == HEADERS);
        let (mut block, mut flags) = (first.payload, first.flags);
        while flags & END_HEADERS == 0 {
            let Next::Frame(next) = client.read() else { panic!("no more of the head") };
            assert_eq!((next.kind, next.stream), (CONTINUATION, 3), "within a head");
            assert!(next.payload.len() <= agreed);
            block.extend(next.payload);
            flags = next.flags;
        }
        let fields = client.heads.read(&block).expect("a head");
        assert!(fields.iter().any(|(name, value)| name == "x-large" && value.len() == 40_000));
    }
}

#[test]
fn http2_conformance_our_heads_keep_within_the_table_agreed() {
    let (_peer, mainstay) = before_generous();
    for size in [0, 100, 4096, 65536] {
        let mut client = Client::open(mainstay.edge(), &[(HEADER_TABLE_SIZE, size)]);
        // Until it is acknowledged the table may have its old size.
        client.until("the acknowledgement", |frame| frame.kind == SETTINGS && frame.flags & ACK != 0);
        client.heads.agree(size as usize);
        for stream in [1, 3, 5] {
            client.send(&get(stream, "/bytes/1"));
            let reply = client.answer(stream);
            assert_eq!((reply.status(), reply.field("x-always")), (200, Some("the same")), "{size}");
            assert!(client.heads.size() <= size as usize, "{} octets are remembered", client.heads.size());
        }
    }
}

/// Answers everything but `/stuck`, whose body it never reads; those connections are kept.
fn reluctant() -> (SocketAddr, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let (address, stuck) = (listener.local_addr().expect("an address"), Arc::<Mutex<Vec<TcpStream>>>::default());
    let kept = stuck.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let kept = kept.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.push(byte[0]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    if head.starts_with(b"POST /stuck") {
                        return kept.lock().expect("lock").push(stream);
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    head.clear();
                }
            });
        }
    });
    (address, stuck)
}

fn before_reluctant(lines: &str) -> (Mainstay, Arc<Mutex<Vec<TcpStream>>>) {
    let (address, stuck) = reluctant();
    (Setup::file(&format!("[app.main]\nupstreams = [\"{address}\"]\n{lines}")).ready("/"), stuck)
}

/// As little as shows that the server takes no more; were it only slow, the test would be weaker and not wrong.
const QUIET: Duration = Duration::from_millis(300);

/// Fills every buffer on the way to an app that reads nothing, within the windows. The octets that went.
fn fill(client: &mut Client, stream: u32) -> i64 {
    let (mut connection, mut own, mut sent) = (65535i64, 65535i64, 0);
    loop {
        while connection >= 16384 && own >= 16384 {
            client.send(&frame(DATA, 0, stream, &[b'x'; 16384]));
            (connection, own, sent) = (connection - 16384, own - 16384, sent + 16384);
        }
        match client.read_within(QUIET) {
            Next::Frame(frame) if frame.kind == WINDOW_UPDATE && frame.stream == 0 => {
                connection += i64::from(frame.number(0));
            }
            Next::Frame(frame) if frame.kind == WINDOW_UPDATE => own += i64::from(frame.number(0)),
            Next::Frame(frame) if frame.kind == SETTINGS => {
                let wide = frame.settings().iter().find(|(id, _)| *id == INITIAL_WINDOW_SIZE).map(|(_, size)| *size);
                own += i64::from(wide.unwrap_or(65535)) - 65535;
            }
            Next::Frame(frame) => panic!("while the body goes: {frame:?}"),
            Next::Silence => return sent,
            Next::End => panic!("the connection ended after {sent} octets"),
        }
    }
}

#[test]
fn http2_conformance_a_client_that_sends_beyond_its_window_is_stopped() {
    let (mainstay, _stuck) = before_reluctant("[edge.limits]\nbody = \"1GB\"\n");
    let mut client = Client::open(mainstay.edge(), &[]);
    client.send(&post(1, "/stuck", &[]));
    let sent = fill(&mut client, 1);
    println!("{} KiB until the windows were shut", sent / 1024);
    // Twice the largest window, and a frame.
    for _ in 0..200 {
        client.send(&frame(DATA, 0, 1, &[b'x'; 16384]));
    }
    let code = loop {
        match client.read() {
            Next::Frame(frame) if frame.kind == GOAWAY => break frame.number(1),
            Next::Frame(frame) if frame.kind == RST_STREAM => break frame.number(0),
            Next::Frame(_) => {}
            other => panic!("{other:?}: as if there were no window"),
        }
    };
    assert_eq!(code, FLOW_CONTROL_ERROR);
}

/// The connection between these two, as the kernel tells its state: `01` is established.
fn state(ours: SocketAddr, theirs: SocketAddr) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let ends = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let row = table.lines().find(|line| line.contains(&format!("{} {}", ends(ours), ends(theirs))))?;
    row.split_whitespace().nth(3).map(str::to_owned)
}

/// A request that its client takes back ends at once, whatever its body waits for (§5.1: closed): the app's connection
/// is closed, not used until some deadline.
#[track_caller]
fn taken_back(lines: &str) {
    let (mainstay, stuck) = before_reluctant(lines);
    let mut client = Client::open(mainstay.edge(), &[]);
    client.send(&post(1, "/stuck", &[("content-length", "900000000")]));
    let sent = fill(&mut client, 1);
    let (app, edge) = wait_for("the app to have it", || {
        let kept = stuck.lock().expect("lock");
        let stream = kept.first()?;
        Some((stream.local_addr().ok()?, stream.peer_addr().ok()?))
    });
    assert_eq!(state(edge, app).as_deref(), Some("01"), "before");
    client.send(&reset(1, CANCEL));
    let took = wait_until("the app's connection to be closed", || state(edge, app).as_deref() != Some("01"));
    println!("{} KiB on their way, ended after {took:?}", sent / 1024);
    client.send(&get(3, "/next"));
    assert_eq!(client.answer(3).status(), 200);
}

#[test]
fn http2_conformance_a_reset_ends_an_upload_that_is_stuck() {
    taken_back("[edge.limits]\nbody = \"1GB\"\n");
}

/// Speaks HTTP/2, grants no more than a body's first window, and tells the kinds of the frames it gets.
fn narrow() -> (SocketAddr, Receiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let (address, (tell, told)) = (listener.local_addr().expect("an address"), sync_channel(1000));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), tell) = (stream, tell.clone()) else { return };
            std::thread::spawn(move || {
                let mut preface = [0; PREFACE.len()];
                if stream.read_exact(&mut preface).is_err() || preface != PREFACE {
                    return;
                }
                let mut client = Client::accepted(stream);
                client.send(&settings(&[]));
                while let Next::Frame(frame) = client.read() {
                    let _ = tell.send(frame.kind);
                }
            });
        }
    });
    (address, told)
}

#[test]
fn http2_conformance_a_reset_is_passed_on_to_an_app_that_speaks_http2() {
    let (address, told) = narrow();
    let text = format!("[app.main]\nupstreams = [\"{address}\"]\nprotocol = \"h2c\"\n[edge.limits]\nbody = \"1GB\"\n");
    let mainstay = Setup::file(&text).start();
    let mut client = Client::open(mainstay.edge(), &[]);
    client.send(&post(1, "/stuck", &[("content-length", "900000000")]));
    let sent = fill(&mut client, 1);
    client.send(&reset(1, CANCEL));
    let mut seen = Vec::new();
    while !seen.contains(&RST_STREAM) {
        seen.push(told.recv_timeout(mainstay_e2e::BOUND).unwrap_or_else(|e| panic!("{e}: {sent} octets, {seen:?}")));
    }
    assert!(seen.contains(&HEADERS) && seen.contains(&DATA), "{seen:?}");
}
