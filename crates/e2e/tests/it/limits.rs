//! Sizes, counts and times: what is too large, too many or too slow is refused with its code, and nobody else waits.

use crate::support::{before, in_front_of, judged, sent};
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Connection, Fault, Peer, Setup, curl, get, wait_until};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

#[test]
fn e14_a_header_of_64_kib_is_refused_and_the_next_request_served() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let large = "x".repeat(64 * 1024);
    let bytes = format!("GET /probe-large HTTP/1.1\r\nHost: a\r\nX-Large: {large}\r\n\r\n");
    judged(&mainstay, "64 KiB", &sent(&mainstay, "64 KiB", bytes.as_bytes()), 431, "header_too_large");

    let mega = "x".repeat(2 * 1024 * 1024);
    let bytes = format!("GET /probe-mega HTTP/1.1\r\nHost: a\r\nX-Large: {mega}\r\n\r\n");
    judged(&mainstay, "2 MiB", &sent(&mainstay, "2 MiB", bytes.as_bytes()), 431, "header_too_large");

    let many: String = (0..3000).map(|n| format!("X-{n}: 1\r\n")).collect();
    let bytes = format!("GET /probe-many HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    judged(&mainstay, "3000 headers", &sent(&mainstay, "3000 headers", bytes.as_bytes()), 431, "header_too_large");

    let long = "y".repeat(70_000);
    let bytes = format!("GET /probe-{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    judged(&mainstay, "long path", &sent(&mainstay, "long path", bytes.as_bytes()), 414, "uri_too_long");
    assert!(peer.holding("probe-").is_empty());
    assert_eq!(get(&mainstay.url("/next")).status, 200);
}

#[test]
fn c9_request_headers_up_to_16384_bytes_reach_the_app() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    // The whole head: request line, host, and one header that fills it up to 16,384 bytes.
    let start = "GET /probe-full HTTP/1.1\r\nHost: a\r\nX-Large: ";
    let fill = "x".repeat(16_384 - start.len() - 4);
    let bytes = format!("{start}{fill}\r\n\r\n");
    assert_eq!(bytes.len(), 16_384);
    assert_eq!(sent(&mainstay, "16,384 bytes", bytes.as_bytes()).status, 200);
    assert_eq!(peer.holding("probe-full")[0].header("x-large").map(str::len), Some(fill.len()));
}

#[test]
fn a_body_of_10_gb_is_refused_before_a_byte_of_it_is_read() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let bytes = b"POST /probe-10gb HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n";
    judged(&mainstay, "10 GB", &sent(&mainstay, "10 GB", bytes), 413, "body_too_large");
    assert!(peer.raw_holding("probe-10gb").is_empty(), "the upstream saw it");
}

#[test]
fn e14_a_body_without_length_is_cut_at_the_limit_and_a_route_may_have_its_own() {
    let peer = Peer::mirror();
    let rules = "[edge.limits]\nbody = \"100KB\"\n[[route]]\nmatch = \"POST /large/*\"\nbody = \"1MB\"\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let chunk = format!("{:x}\r\n{}\r\n", 50_000, "z".repeat(50_000));
    let body = format!("{chunk}{chunk}{chunk}0\r\n\r\n");
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let why =
        judged(&mainstay, "small", &sent(&mainstay, "small", post("/probe-small").as_bytes()), 413, "body_too_large");
    assert!(why.contains("mainstay.toml:4"), "`why` does not name the line of the limit:\n{why}");
    assert!(peer.holding("probe-small").is_empty(), "it became a whole request");
    assert_eq!(sent(&mainstay, "large", post("/large/probe").as_bytes()).status, 200);

    let too_large = format!("POST /large/x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1_000_001);
    let why = judged(&mainstay, "route", &sent(&mainstay, "route", too_large.as_bytes()), 413, "body_too_large");
    assert!(why.contains("mainstay.toml:6") || why.contains("mainstay.toml:7"), "no place of the rule:\n{why}");
}

#[test]
fn a_hundred_clients_that_send_a_byte_a_second_hold_nobody_up() {
    let peer = Peer::mirror();
    let rules = "[edge.timeouts]\nheader = \"2s\"\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let slow: Vec<Connection> = (0..100).map(|_| Connection::open(mainstay.edge()).expect("connect")).collect();
    let start = Instant::now();
    let head = b"GET /probe-slow HTTP/1.1\r\nHost: a\r\nX-Slow: 1111111111111111111111111111111111111111111111111111";
    let mut open: Vec<Option<Connection>> = slow.into_iter().map(Some).collect();
    let mut refusals = Vec::new();
    let mut next_byte = Instant::now();
    let mut sent_bytes = 0;
    wait_until("every slow client to be sent away", || {
        if next_byte <= Instant::now() && sent_bytes < head.len() {
            for connection in open.iter_mut().flatten() {
                let _ = connection.send(&head[sent_bytes..=sent_bytes]);
            }
            sent_bytes += 1;
            next_byte += Duration::from_secs(1);
        }
        let quick = Instant::now();
        assert_eq!(get(&mainstay.url("/quick")).status, 200);
        assert!(quick.elapsed() < Duration::from_secs(5), "an ordinary client waited {:?}", quick.elapsed());
        for slot in &mut open {
            if slot.as_mut().is_some_and(Connection::ended_while_idle) {
                refusals.push(slot.take().expect("a connection").response(false));
            }
        }
        open.iter().all(Option::is_none)
    });
    println!("100 slow clients were sent away after {:?}", start.elapsed());
    assert_eq!(refusals.len(), 100);
    let told = refusals.iter().flatten().next().expect("a refusal that says why");
    judged(&mainstay, "slow", told, 408, "request_timeout");
    assert!(peer.raw_holding("probe-slow").is_empty());
}

#[test]
fn a_client_that_pauses_within_its_body_is_told_so() {
    let peer = Peer::mirror();
    let rules = "[edge.timeouts]\nbody = \"1s\"\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let bytes = b"POST /probe-pause HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nonly this";
    judged(&mainstay, "pause", &sent(&mainstay, "pause", bytes), 408, "request_timeout");
    assert!(peer.holding("probe-pause").is_empty());
}

#[test]
fn an_idle_client_connection_is_closed_after_its_time() {
    let peer = Peer::mirror();
    let rules = "[edge.timeouts]\nidle = \"1s\"\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    connection.send(b"GET /once HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    assert_eq!(connection.response(false).expect("a response").status, 200);
    assert!(connection.rest().is_empty(), "bytes nobody asked for");
}

#[test]
fn one_connection_too_many_is_refused_and_room_is_made_again() {
    let peer = Peer::mirror();
    let rules = "[edge.limits]\nconnections = 10\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let mut held: Vec<Connection> = Vec::new();
    let refused = mainstay_e2e::wait_for("the limit of connections", || {
        let mut connection = Connection::open(mainstay.edge()).ok()?;
        let _ = connection.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        match connection.response(false) {
            Ok(response) if response.status == 503 => Some(response),
            Ok(response) => {
                assert_eq!(response.status, 200);
                held.push(connection);
                None
            }
            Err(fault) => panic!("refused without a word: {fault:?}"),
        }
    });
    assert!((9..=10).contains(&held.len()), "{} connections were let in", held.len());
    drop(held);
    wait_until("room for a new connection", || get(&mainstay.url("/again")).status == 200);
    judged(&mainstay, "connections", &refused, 503, "too_many_connections");
}

#[test]
fn e22_an_app_that_takes_too_long_is_a_504_settable_by_route() {
    let peer = Peer::with(|ask, out| {
        if ask.path() != "/" {
            mainstay_e2e::wait::pause(Duration::from_millis(2500));
        }
        answer(out, 200, &[], b"late")
    });
    let rules = "[edge.timeouts]\nresponse = \"1s\"\n[[route]]\nmatch = \"/reports/*\"\nresponse = \"20s\"\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let post = b"POST /probe-late HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let why = judged(&mainstay, "late", &sent(&mainstay, "late", post), 504, "upstream_timeout");
    assert!(why.contains("mainstay.toml:4"), "`why` does not name the line of the limit:\n{why}");
    assert_eq!(peer.holding("probe-late").len(), 1, "a POST is never repeated");
    assert_eq!(get(&mainstay.url("/reports/year")).text(), "late");
}

#[test]
fn e22_an_address_that_does_not_answer_the_connect_is_given_up_in_time() {
    // 192.0.2.0/24 is for documentation: nothing answers there, or it is refused at once.
    let text = "[app.main]\nupstreams = [\"192.0.2.1:9\"]\n[edge.timeouts]\nconnect = \"1s\"\n";
    let mainstay = Setup::file(text).start();
    let answer = curl(&["-X", "POST", &mainstay.url("/nowhere")]);
    assert!(matches!(answer.status, 502..=504), "{answer:?}");
    let code = answer.json()["code"].as_str().unwrap_or_default().to_string();
    assert!(["upstream_timeout", "upstream_refused", "no_instance"].contains(&code.as_str()), "{code}");
    assert!(mainstay.why(&answer.id()).contains(&code));
}

#[test]
fn a_client_that_leaves_is_recorded_as_gone_and_not_as_our_fault() {
    let peer = Peer::with(|ask, out| {
        if ask.path() != "/" {
            mainstay_e2e::wait::pause(Duration::from_millis(500));
        }
        answer(out, 200, &[("x-big", "1")], &vec![b'x'; 64 * 1024])
    });
    let mainstay = before(&peer);
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    connection.send(b"GET /probe-leaves HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    wait_until("the upstream to have it", || !peer.holding("probe-leaves").is_empty());
    drop(connection);
    wait_until("the log to tell it", || {
        let log = mainstay.verb(&["logs", "--json"]).out;
        log.lines().any(|line| line.contains("probe-leaves") && line.contains("client_gone"))
    });
}

#[test]
fn a_connection_that_is_only_opened_costs_nobody_anything() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let idle: Vec<Connection> = (0..500).map(|_| Connection::open(mainstay.edge()).expect("connect")).collect();
    assert_eq!(get(&mainstay.url("/among-them")).status, 200);
    for mut connection in idle {
        connection.stream.set_nonblocking(true).expect("nonblocking");
        let mut byte = [0u8; 1];
        let peeked = connection.stream.peek(&mut byte);
        assert!(matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock), "an idle connection was cut");
        connection.stream.set_nonblocking(false).expect("blocking");
        if let Err(Fault::Malformed(what)) = connection.send(b"").map_err(|e| Fault::Malformed(e.to_string())) {
            panic!("{what}");
        }
    }
}

#[test]
fn e22_an_app_that_takes_nothing_of_a_body_is_given_up() {
    // Accepts, answers `/`, and reads nothing of anything else.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            use std::io::{Read, Write};
            let mut start = [0; 6];
            if stream.read_exact(&mut start).is_ok() && &start == b"GET / " {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            }
            held.push(stream);
        }
    });
    let text = format!("[app.main]\nupstreams = [\"{address}\"]\n[edge.timeouts]\nresponse = \"1s\"\n");
    let mainstay = Setup::file(&text).ready("/");
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    let head = "POST /probe-deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n";
    let mut writer = connection.stream.try_clone().expect("clone");
    let body = [head.as_bytes(), &vec![b'x'; 9_000_000]].concat();
    std::thread::spawn(move || {
        use std::io::Write;
        let _ = writer.write_all(&body);
    });
    let response = connection.response(false).expect("an answer although the app takes nothing");
    judged(&mainstay, "deaf", &response, 504, "upstream_timeout");
}
