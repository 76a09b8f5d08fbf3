//! What passes, and how it arrives.

use crate::house::{House, PATIENCE, Upstream, ok, read_response};
use std::io::{Read, Write};
use std::time::Instant;

const FILE: &str = "[app.api]\nupstreams = [\"UPSTREAM\"]\n";

#[test]
fn a_request_passes_and_says_who_asked() {
    let upstream = Upstream::new(|_, _| ok("hello"));
    let house = House::new(FILE, upstream.address);
    let answer = house.raw(b"GET /Path//x?q=1 HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    assert!(answer.contains("mainstay-request-id: r_") && answer.contains("x-request-id: r_"), "{answer}");
    let head = upstream.heads().remove(0);
    for line in ["GET /Path//x?q=1 HTTP/1.1", "host: a.example", "x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(head.contains("x-forwarded-proto: http") && head.contains("traceparent: 00-"), "{head}");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::new(|n, _| ok(&n.to_string()));
    let house = House::new(FILE, upstream.address);
    let mut stream = house.connect();
    for n in 1..=5 {
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").expect("write");
        assert!(read_response(&mut stream).ends_with(&n.to_string()));
    }
    let (requests, failures) = house.handle.members().group("api").list().upstreams[0].totals();
    assert_eq!((requests, failures), (5, 0));
}

#[test]
fn a_dead_kept_connection_is_replaced_and_a_post_is_not_repeated_once_sent() {
    // Each connection serves one request well, and dies at the second.
    let upstream = Upstream::new(|n, _| if n % 2 == 1 { ok("fine") } else { Vec::new() });
    let house = House::new(FILE, upstream.address);
    for _ in 0..3 {
        assert!(house.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("fine"));
    }
    let mut stream = house.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("write");
    assert!(read_response(&mut stream).ends_with("fine"));
    let before = upstream.heads().len();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("write");
    let answer = read_response(&mut stream);
    let sent = upstream.heads()[before..].iter().filter(|h| h.starts_with("POST")).count();
    assert_eq!(sent, 1, "{answer}");
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_closed"), "{answer}");
}

#[test]
fn a_chunked_answer_streams_and_a_cut_is_visible() {
    let upstream = Upstream::new(|_, head| {
        let end = if head.starts_with("GET /cut") { "5\r\nhel" } else { "5\r\nhello\r\n0\r\n\r\n" };
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{end}").into_bytes()
    });
    let house = House::new(FILE, upstream.address);
    let mut stream = house.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("write");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("read");
    assert!(all.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{all}");
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let upstream = Upstream::new(|_, head| {
        assert!(head.contains("upgrade: foo"), "{head}");
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nfirst".to_vec()
    });
    let house = House::new(FILE, upstream.address);
    let mut stream = house.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n").expect("write");
    let mut all = String::new();
    let mut buf = [0; 256];
    while !all.ends_with("first") {
        let n = stream.read(&mut buf).expect("read");
        assert!(n > 0, "{all}");
        all.push_str(&String::from_utf8_lossy(&buf[..n]));
    }
    assert!(all.starts_with("HTTP/1.1 101"), "{all}");
}

#[test]
fn two_upstreams_take_turns_and_a_503_is_asked_of_the_other() {
    let good = Upstream::new(|_, _| ok("good"));
    let bad = Upstream::new(|_, _| b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec());
    let file = format!("[app.api]\nupstreams = [\"UPSTREAM\", \"{}\"]\n", bad.address);
    let house = House::new(&file, good.address);
    for _ in 0..4 {
        assert!(house.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("good"));
    }
    assert!(!bad.heads().is_empty(), "never asked");
    let post = house.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 200") || post.starts_with("HTTP/1.1 503"), "{post}");
}

#[test]
fn what_happened_is_counted_under_the_learnt_pattern() {
    let upstream = Upstream::new(|_, _| ok(""));
    let mut house = House::new(FILE, upstream.address);
    house.raw(b"GET /users/17 HTTP/1.1\r\nHost: a\r\n\r\n");
    house.raw(b"GET /users/18 HTTP/1.1\r\nHost: a\r\n\r\n");
    let started = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        assert!(started.elapsed() < PATIENCE, "{seen:?}");
        for ring in &mut house.rings {
            ring.drain(|r| seen.push((r.status, r.path.as_str().to_owned())));
        }
        std::thread::yield_now();
    }
    let mut text = mainstay_telemetry::metrics::Exposition::default();
    house.metrics.expose(&mut text);
    let text = text.finish();
    assert!(text.contains(r#"http_requests_total{method="GET",route="/users/:id",status="200"} 2"#), "{text}");
}
