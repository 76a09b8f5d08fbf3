//! What is refused: by which code, and with nothing reaching the upstream.

use crate::house::{House, Upstream, ok};

const FILE: &str = "[app.api]\nupstreams = [\"UPSTREAM\"]\n[edge.limits]\nbody = \"1KB\"\n";

fn code(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let id = answer.lines().find_map(|l| l.strip_prefix("mainstay-request-id: ")).unwrap_or("").trim();
    assert_eq!(value["requestId"], id, "{answer}");
    value["code"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn what_is_no_request_is_refused_with_a_code_and_never_sent_on() {
    let upstream = Upstream::new(|_, _| ok(""));
    let house = House::new(FILE, upstream.address);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let uri = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(66_000));
    let cases: &[(&str, &[u8], &str)] = &[
        ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "repeated_host"),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", "missing_host"),
        ("odd host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "malformed_request"),
        ("garbage", b"\x16\x03\x01 what\r\n\r\n", "malformed_request"),
        ("space before colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "malformed_request"),
        ("nul", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "malformed_request"),
        ("obs-fold", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "malformed_request"),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "malformed_request",
        ),
        ("signed length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", "malformed_request"),
        ("odd coding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "malformed_request"),
        ("connect", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "method_not_supported"),
        ("16 KiB of headers", long.as_bytes(), "header_too_large"),
        ("64 KiB of headers", huge.as_bytes(), "header_too_large"),
        ("long target", uri.as_bytes(), "uri_too_long"),
        ("10 GB", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n", "body_too_large"),
        ("ours", b"GET /.mainstay/%2f HTTP/1.1\r\nHost: a\r\n\r\n", "ambiguous_path"),
    ];
    for (name, bytes, expected) in cases {
        let answer = house.raw(bytes);
        assert_eq!(code(&answer), *expected, "{name}: {answer}");
    }
    assert_eq!(upstream.heads(), Vec::<String>::new());
}

#[test]
fn length_and_chunks_together_are_made_safe() {
    let upstream = Upstream::new(|_, _| ok("fine"));
    let house = House::new(FILE, upstream.address);
    let both = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(house.raw(both).ends_with("fine"));
    let head = upstream.heads().remove(0).to_ascii_lowercase();
    assert!(!(head.contains("content-length: 4") && head.contains("transfer-encoding")), "{head}");
}

#[test]
fn an_upstream_that_is_not_there_is_an_honest_502() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let house = House::new(FILE, closed);
    let answer = house.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(code(&answer), "upstream_refused");
    let browser = house.raw(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    assert!(browser.contains("<!doctype html>"), "{browser}");
}

#[test]
fn an_app_that_speaks_no_http_is_a_502_too() {
    let upstream = Upstream::new(|_, _| b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n\r\n".to_vec());
    let house = House::new(FILE, upstream.address);
    let answer = house.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(code(&answer), "upstream_invalid");
}
