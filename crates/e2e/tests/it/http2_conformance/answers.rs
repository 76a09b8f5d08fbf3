//! What the server says of itself: its settings, its answers, its leave (RFC 9113 §3, §5.1.2, §6.5, §6.8, §8, §9.2).

use super::{get, post};
use crate::http2::with_tls;
use crate::support::in_front_of;
use mainstay_e2e::frames::*;
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Mainstay, Peer, Setup, wait_until};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An app that says what HTTP/2 has no words for.
fn old_fashioned() -> Peer {
    Peer::with(|ask, out| {
        let said: &[u8] = match ask.path() {
            "/interim" => {
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
            "/hops" => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Named\r\nKeep-Alive: timeout=5\r\n\
                  X-Named: x\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTE: trailers\r\n\
                  X-CAPITALS: Yes\r\n\r\nok"
            }
            "/trailers" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"a\"\r\n\r\n",
            _ if ask.method == "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            _ => return answer(out, 200, &[("x-length", &ask.body.len().to_string())], b"ok"),
        };
        match out.write_all(said).is_ok() && ask.path() != "/cut" {
            true => Then::Keep,
            false => Then::Close,
        }
    })
}

fn before_old_fashioned() -> (Peer, Mainstay) {
    let peer = old_fashioned();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    (peer, mainstay)
}

#[test]
fn http2_conformance_the_servers_preface_and_its_acknowledgements() {
    let (_peer, mainstay) = before_old_fashioned();
    let mut client = Client::silent(mainstay.edge());
    client.send(PREFACE);
    client.send(&[settings(&[(0x99, 1)]), settings(&[]), frame(PING, 0, 0, b"12345678")].concat());
    let Next::Frame(first) = client.read() else { panic!("no preface") };
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0), "§3.4: SETTINGS, first of all");
    let told = first.settings();
    let of = |id: u16| told.iter().find(|(told, _)| *told == id).map(|(_, value)| *value);
    assert_eq!(of(ENABLE_CONNECT_PROTOCOL), Some(1), "RFC 8441 §3: {told:?}");
    assert!(of(ENABLE_PUSH).is_none_or(|push| push == 0), "§6.5.2: {told:?}");
    assert!(of(MAX_CONCURRENT_STREAMS).is_some_and(|count| (100..=1000).contains(&count)), "§5.1.2: {told:?}");
    assert!(of(MAX_HEADER_LIST_SIZE).is_some(), "heads are bounded, and that is said: {told:?}");
    let acknowledged = |frame: &Frame| frame.kind == SETTINGS && frame.flags == ACK && frame.payload.is_empty();
    client.until("the first acknowledgement (§6.5.3)", acknowledged);
    let mut seen = 0;
    client.until("an answer to PING (§6.7)", |frame| {
        seen += usize::from(acknowledged(frame));
        frame.kind == PING && frame.flags == ACK && frame.payload == b"12345678"
    });
    if seen == 0 {
        client.until("the second acknowledgement", acknowledged);
    }
}

#[test]
fn http2_conformance_answers_are_well_formed() {
    let (_peer, mainstay) = before_old_fashioned();
    let mut client = Client::open(mainstay.edge(), &[]);
    let mut stream = 1;
    let mut ask = |path: &str| {
        client.send(&get(stream, path));
        stream += 2;
        client.answer(stream - 2)
    };
    let interim = ask("/interim");
    assert_eq!((interim.status(), interim.body.as_slice()), (200, &b"ok"[..]), "§8.1: {interim:?}");
    let hops = ask("/hops");
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "x-named"] {
        assert_eq!(hops.field(name), None, "§8.2.2: {hops:?}");
    }
    assert_eq!(hops.field("x-capitals"), Some("Yes"), "§8.2: {hops:?}");
    assert!(hops.head[0].0 == ":status" && hops.head[1..].iter().all(|(name, _)| !name.starts_with(':')), "§8.3");
    let trailers = ask("/trailers");
    assert_eq!(trailers.trailers, [("x-sum".to_owned(), "1".to_owned())], "§8.1: {trailers:?}");
    assert_eq!((trailers.body.as_slice(), trailers.field("transfer-encoding")), (&b"ok"[..], None));
    let cut = ask("/cut");
    assert!(cut.reset.is_some_and(|code| code != NO_ERROR), "§8.1.1: cut short, and not said: {cut:?}");
    for path in ["/204", "/304"] {
        let empty = ask(path);
        assert_eq!((empty.body.len(), empty.frames.len(), empty.reset), (0, 1, None), "{path}: {empty:?}");
    }
}

#[test]
fn http2_conformance_a_head_is_answered_without_a_body() {
    let (_peer, mainstay) = before_old_fashioned();
    let mut client = Client::open(mainstay.edge(), &[]);
    let fields = [(":method", "HEAD"), (":scheme", "http"), (":path", "/x"), (":authority", "a.example")];
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &mainstay_e2e::hpack::block(&fields)));
    let reply = client.answer(1);
    assert_eq!((reply.status(), reply.field("content-length")), (200, Some("9")), "{reply:?}");
    assert_eq!(reply.frames.len(), 1, "a body, or an end of its own: {reply:?}");
}

#[test]
fn http2_conformance_cookie_crumbs_reach_the_app_as_one_field() {
    let (peer, mainstay) = before_old_fashioned();
    let mut client = Client::open(mainstay.edge(), &[]);
    client.send(&post(1, "/crumbs", &[("cookie", "a=1"), ("x-between", "x"), ("cookie", "b=2"), ("cookie", "c=3")]));
    client.send(&frame(DATA, END_STREAM, 1, b"body"));
    assert_eq!(client.answer(1).field("x-length"), Some("4"));
    let seen = peer.holding("/crumbs").pop().expect("it reached the app");
    assert_eq!(seen.header("cookie"), Some("a=1; b=2; c=3"), "§8.2.3: {}", seen.head);
    assert_eq!(seen.head.to_ascii_lowercase().matches("cookie:").count(), 1, "{}", seen.head);
}

#[test]
fn http2_conformance_streams_beyond_the_limit_are_refused_and_may_come_again() {
    let (peer, mainstay) = before_old_fashioned();
    let mut client = Client::open(mainstay.edge(), &[]);
    let told = client.until("the server's settings", |frame| frame.kind == SETTINGS && frame.flags == 0).settings();
    let limit = told.iter().find(|(id, _)| *id == MAX_CONCURRENT_STREAMS).map_or(100, |(_, value)| *value);
    // Open, and not yet asked: their bodies are to come.
    let streams: Vec<u32> = (0..=limit).map(|number| number * 2 + 1).collect();
    for stream in &streams {
        client.send(&post(*stream, "/one-of-many", &[("content-length", "1")]));
    }
    let beyond = limit * 2 + 1;
    let refused = client.until("a refusal", |frame| frame.kind == RST_STREAM);
    assert_eq!((refused.stream, refused.number(0)), (beyond, REFUSED_STREAM), "§5.1.2");
    client.send(&frame(DATA, END_STREAM, 1, b"x"));
    assert_eq!(client.answer(1).status(), 200);
    client.send(&get(beyond + 2, "/again"));
    assert_eq!(client.answer(beyond + 2).status(), 200);
    assert_eq!(peer.holding("/one-of-many").len(), 1, "only one of them was whole");
}

#[test]
fn http2_conformance_a_client_that_goes_away_gets_what_it_asked_for() {
    let (_peer, mainstay) = before_old_fashioned();
    let mut client = Client::open(mainstay.edge(), &[]);
    client.send(&post(1, "/last", &[]));
    client.send(&frame(GOAWAY, 0, 0, &[0; 8]));
    client.send(&frame(DATA, END_STREAM, 1, b"body"));
    let reply = client.answer(1);
    assert_eq!((reply.status(), reply.field("x-length")), (200, Some("4")), "§6.8: {reply:?}");
    while client.read() != Next::End {}
}

/// The next GOAWAY.
#[track_caller]
fn gone(client: &mut Client) -> Frame {
    loop {
        match client.read() {
            Next::Frame(frame) if frame.kind == GOAWAY => return frame,
            Next::Frame(_) => {}
            other => panic!("{other:?} before a GOAWAY"),
        }
    }
}

#[test]
fn http2_conformance_a_server_that_goes_away_says_so_twice_and_serves_what_came_between() {
    let gate = Arc::new(AtomicBool::new(false));
    let peer = Peer::behind(&gate);
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let mut client = Client::open(mainstay.edge(), &[]);
    client.send(&get(1, "/slow"));
    wait_until("the app to have it", || !peer.holding("/slow").is_empty());
    mainstay.signal(Signal::SIGTERM);
    let first = gone(&mut client);
    assert_eq!((first.number(0), first.number(1)), (0x7fff_ffff, NO_ERROR), "§6.8: the first names no stream");
    let ping = client.until("a PING behind it", |frame| frame.kind == PING);
    // On its way while the server spoke.
    client.send(&get(3, "/between"));
    assert_eq!(client.answer(3).status(), 200);
    // The PING behind the first is answered: now it is clear what the client can have sent.
    client.send(&frame(PING, ACK, 0, &ping.payload));
    let second = gone(&mut client);
    assert_eq!((second.number(0), second.number(1)), (3, NO_ERROR), "§6.8: the second names the last");
    gate.store(true, Ordering::SeqCst);
    assert_eq!(client.answer(1).status(), 200);
    while client.read() != Next::End {}
}

/// TLS as §9.2 has it: 1.2 with what is not on its list of what is forbidden, or newer; HTTP/2 by ALPN alone (§3.2).
#[test]
fn http2_conformance_over_tls() {
    let (peer, tls) = (Peer::mirror(), Port::free());
    let mainstay = with_tls(&peer, &tls);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, tls.number));
    let name = ["-servername", "api.example.com"];
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Client::over_tls(address, &[&name[..], &[version, "-alpn", "h2"]].concat());
        client.greet(&[]);
        client.send(&get(1, "/over-tls"));
        assert_eq!(client.answer(1).status(), 200, "{version}");
        client.send(&window_update(0, 0));
        let away = gone(&mut client);
        assert_eq!(away.number(1), PROTOCOL_ERROR, "{version}");
    }
    for forbidden in ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256"] {
        let mut client =
            Client::over_tls(address, &[&name[..], &["-tls1_2", "-cipher", forbidden, "-alpn", "h2"]].concat());
        client.greet(&[]);
        assert_eq!(client.read(), Next::End, "{forbidden}");
    }
    let asked_for = peer.all().len();
    for alpn in [&[][..], &["-alpn", "http/1.1"]] {
        let mut client = Client::over_tls(address, &[&name[..], alpn].concat());
        client.greet(&[]);
        client.send(&get(1, "/not-agreed-on"));
        let said = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 "), "{alpn:?}: HTTP/2 that was not agreed on: {said:?}");
    }
    assert!(peer.holding("/not-agreed-on").is_empty() && peer.all().len() >= asked_for);
    assert!(!mainstay.said().contains("panicked"), "{}", mainstay.said());
}
