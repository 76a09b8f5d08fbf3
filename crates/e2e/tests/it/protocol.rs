//! Requests no client should send, byte by byte: each is refused with its code, or made safe, judged by the bytes that
//! reached the upstream.

use crate::support::{before, in_front_of, judged, sent};
use mainstay_e2e::{Connection, Mainstay, Peer, Setup, wait_until};

/// Name, request, status, code.
type Probe = (&'static str, Vec<u8>, u16, &'static str);

fn head(name: &str, lines: &str) -> Vec<u8> {
    format!("POST /probe-{name} HTTP/1.1\r\n{lines}\r\n").into_bytes()
}

fn with_body(name: &str, lines: &str, body: &str) -> Vec<u8> {
    [head(name, lines), body.as_bytes().to_vec()].concat()
}

#[track_caller]
fn all_refused(mainstay: &Mainstay, peer: &Peer, probes: Vec<Probe>) {
    for (name, bytes, status, code) in probes {
        let response = sent(mainstay, name, &bytes);
        judged(mainstay, name, &response, status, code);
        let reached = peer.holding(&format!("probe-{name}"));
        assert!(reached.is_empty(), "{name} reached the upstream: {reached:?}");
    }
    assert_eq!(mainstay_e2e::get(&mainstay.url("/still-there")).status, 200, "the edge must go on");
}

#[test]
fn framing_that_two_servers_could_read_in_two_ways_is_refused() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let m = "malformed_request";
    all_refused(
        &mainstay,
        &peer,
        vec![
            (
                "cl-twice",
                with_body("cl-twice", "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
                400,
                m,
            ),
            ("cl-list", with_body("cl-list", "Host: a\r\nContent-Length: 5, 6\r\n", "hello!"), 400, m),
            ("cl-plus", with_body("cl-plus", "Host: a\r\nContent-Length: +5\r\n", "hello"), 400, m),
            ("cl-minus", with_body("cl-minus", "Host: a\r\nContent-Length: -5\r\n", "hello"), 400, m),
            ("cl-hex", with_body("cl-hex", "Host: a\r\nContent-Length: 0x5\r\n", "hello"), 400, m),
            ("cl-space", with_body("cl-space", "Host: a\r\nContent-Length : 5\r\n", "hello"), 400, m),
            ("cl-huge", with_body("cl-huge", "Host: a\r\nContent-Length: 99999999999999999999\r\n", "hello"), 400, m),
            ("te-unknown", with_body("te-unknown", "Host: a\r\nTransfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400, m),
            (
                "te-not-last",
                with_body("te-not-last", "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
                400,
                m,
            ),
            ("te-space", with_body("te-space", "Host: a\r\nTransfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400, m),
            ("te-tab", with_body("te-tab", "Host: a\r\nTransfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"), 400, m),
        ],
    );
}

#[test]
fn heads_that_are_not_http_are_refused() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let m = "malformed_request";
    all_refused(
        &mainstay,
        &peer,
        vec![
            ("obs-fold", head("obs-fold", "Host: a\r\nX-Long: one\r\n two\r\n"), 400, m),
            ("fold-first", head("fold-first", " X: 1\r\nHost: a\r\n"), 400, m),
            ("nul-value", head("nul-value", "Host: a\r\nX-Nul: a\0b\r\n"), 400, m),
            ("nul-name", head("nul-name", "Host: a\r\nX\0Nul: ab\r\n"), 400, m),
            ("cr-value", head("cr-value", "Host: a\r\nX-Cr: a\rSet-Cookie: b\r\n"), 400, m),
            ("no-colon", head("no-colon", "Host: a\r\nnonsense\r\n"), 400, m),
            ("no-name", head("no-name", "Host: a\r\n: nameless\r\n"), 400, m),
            ("bad-version", b"GET /probe-bad-version HTTP/3.7\r\nHost: a\r\n\r\n".to_vec(), 400, m),
            ("no-version", b"GET /probe-no-version\r\nHost: a\r\n\r\n".to_vec(), 400, m),
            ("http-0-9", b"GET /probe-http-0-9\r\n\r\n".to_vec(), 400, m),
            ("two-spaces", b"GET  /probe-two-spaces  HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, m),
            ("bad-method", b"G(T /probe-bad-method HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400, m),
            ("tls-to-plain", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400, m),
            ("noise", (128u8..255).chain(*b"\r\n\r\n").collect(), 400, m),
        ],
    );
}

#[test]
fn a_request_names_exactly_one_host() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    all_refused(
        &mainstay,
        &peer,
        vec![
            ("no-host", head("no-host", "Content-Length: 0\r\n"), 400, "missing_host"),
            ("two-hosts", head("two-hosts", "Host: a\r\nHost: b\r\nContent-Length: 0\r\n"), 400, "repeated_host"),
            (
                "same-host-twice",
                head("same-host-twice", "Host: a\r\nHost: a\r\nContent-Length: 0\r\n"),
                400,
                "repeated_host",
            ),
            ("host-space", head("host-space", "Host: a b\r\nContent-Length: 0\r\n"), 400, "malformed_request"),
            ("host-userinfo", head("host-userinfo", "Host: a@b\r\nContent-Length: 0\r\n"), 400, "malformed_request"),
            ("host-path", head("host-path", "Host: a/b\r\nContent-Length: 0\r\n"), 400, "malformed_request"),
            (
                "host-bytes",
                [b"POST /probe-host-bytes HTTP/1.1\r\nHost: evil/\"<x>\xff\r\n\r\n".to_vec()].concat(),
                400,
                "malformed_request",
            ),
        ],
    );
}

#[test]
fn a_chunked_body_that_cannot_be_read_never_becomes_a_whole_request() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let bodies: [(&str, &[u8]); 9] = [
        ("size-letters", b"zz\r\nhello\r\n0\r\n\r\n"),
        ("size-empty", b"\r\nhello\r\n0\r\n\r\n"),
        ("size-minus", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("size-prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("size-overflow", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("size-bare-lf", b"5\nhello\r\n0\r\n\r\n"),
        ("no-crlf-after", b"5\r\nhelloX\r\n0\r\n\r\n"),
        ("lf-after", b"5\r\nhello\n0\r\n\r\n"),
        ("size-space", b"5 5\r\nhello\r\n0\r\n\r\n"),
    ];
    for (name, body) in bodies {
        let bytes = [head(name, "Host: a\r\nTransfer-Encoding: chunked\r\n"), body.to_vec()].concat();
        let response = sent(&mainstay, name, &bytes);
        judged(&mainstay, name, &response, 400, "malformed_request");
        let whole = peer.holding(&format!("probe-{name}"));
        assert!(whole.is_empty(), "{name} became a whole request: {whole:?}");
    }
}

#[test]
fn a_chunk_extension_of_any_size_does_not_reach_the_upstream() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let small = with_body("ext", "Host: a\r\nTransfer-Encoding: chunked\r\n", "5;secret=1\r\nhello\r\n0\r\n\r\n");
    assert_eq!(sent(&mainstay, "small extension", &small).status, 200);
    assert_eq!(peer.holding("probe-ext")[0].body, b"hello");
    assert!(!peer.raw_holding("probe-ext")[0].contains("secret"), "{:?}", peer.raw_holding("probe-ext"));

    let extension = "x".repeat(512 * 1024);
    let huge = format!("5;{extension}\r\nhello\r\n0\r\n\r\n");
    let huge = with_body("huge-ext", "Host: a\r\nTransfer-Encoding: chunked\r\n", &huge);
    judged(&mainstay, "huge extension", &sent(&mainstay, "huge extension", &huge), 400, "malformed_request");
    assert!(peer.holding("probe-huge-ext").is_empty());
}

#[test]
fn content_length_with_chunked_is_made_safe_the_length_is_dropped() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let lines = "Host: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let response = sent(&mainstay, "cl-te", &with_body("cl-te", lines, "5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!(response.status, 200, "{}", response.text());
    let ask = &peer.holding("probe-cl-te")[0];
    assert_eq!(ask.body, b"hello");
    assert_eq!(ask.header("transfer-encoding"), Some("chunked"), "{}", ask.head);
    assert!(!ask.has("content-length"), "{}", ask.head);

    // The other order, and what hides behind a length that is not believed.
    let lines = "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n";
    let hidden = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    connection.send(&with_body("te-cl", lines, hidden)).expect("send");
    assert_eq!(connection.response(false).expect("a response").status, 200);
    assert_eq!(peer.holding("probe-te-cl")[0].body, b"");
    // Somebody before us may have believed the length: nothing behind it is served.
    assert!(connection.response(false).is_err(), "the connection was used again");
    assert!(peer.holding("/smuggled").is_empty());
}

#[test]
fn headers_named_by_connection_end_here() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let lines = "Host: a\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nX-Open: 2\r\nKeep-Alive: timeout=9\r\n\
                 Proxy-Connection: keep-alive\r\nTE: gzip\r\nContent-Length: 5\r\n";
    assert_eq!(sent(&mainstay, "named", &with_body("named", lines, "hello")).status, 200);
    let ask = &peer.holding("probe-named")[0];
    for gone in ["x-secret", "keep-alive", "proxy-connection", "te"] {
        assert!(!ask.has(gone), "{gone} passed: {}", ask.head);
    }
    assert_eq!(ask.header("x-open"), Some("2"));

    // What frames or identifies a message cannot be taken away by naming it.
    let lines = "Host: a\r\nConnection: Content-Length, Host, Authorization, X-Forwarded-For\r\n\
                 Authorization: Bearer x\r\nContent-Length: 5\r\n";
    assert_eq!(sent(&mainstay, "protected", &with_body("protected", lines, "hello")).status, 200);
    let ask = &peer.holding("probe-protected")[0];
    assert_eq!((ask.body.as_slice(), ask.header("authorization")), (&b"hello"[..], Some("Bearer x")), "{}", ask.head);
    assert_eq!(ask.header("x-forwarded-for"), Some("127.0.0.1"), "{}", ask.head);
}

#[test]
fn bare_line_feeds_do_not_reach_the_upstream() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let response = sent(&mainstay, "bare-lf", b"GET /probe-bare-lf HTTP/1.1\nHost: a\nX-One: 1\n\n");
    let reached = peer.raw_holding("probe-bare-lf");
    if response.status == 200 {
        assert_eq!(reached.len(), 1);
        let bytes = reached[0].as_bytes();
        let bare = (0..bytes.len()).any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
        assert!(!bare, "a bare line feed reached the upstream: {:?}", reached[0]);
    } else {
        judged(&mainstay, "bare-lf", &response, 400, "malformed_request");
        assert!(reached.is_empty());
    }
}

#[test]
fn an_unknown_upgrade_opens_no_tunnel_for_what_follows() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    let first = "GET /probe-upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
    let second = "GET /pipelined HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    connection.send(format!("{first}{second}").as_bytes()).expect("send");
    assert_eq!(connection.response(false).expect("the first response").status, 200);
    // Served as a request of its own, or not at all; never as bytes in a tunnel nobody opened.
    let _ = connection.response(false);
    for ask in peer.holding("/pipelined") {
        assert_eq!(ask.header("x-forwarded-for"), Some("127.0.0.1"), "bytes were tunnelled: {}", ask.head);
    }
    assert_eq!(peer.holding("probe-upgrade")[0].body, b"");
}

#[test]
fn the_host_of_an_absolute_target_wins_and_the_upstream_sees_one_host() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let bytes = b"GET http://real.example/probe-absolute?x=1 HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(sent(&mainstay, "absolute", bytes).status, 200);
    let ask = &peer.holding("probe-absolute")[0];
    assert_eq!(ask.target, "/probe-absolute?x=1", "{}", ask.head);
    let hosts: Vec<_> = ask.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).collect();
    assert_eq!(hosts.len(), 1, "{}", ask.head);
    assert_eq!(hosts[0].1, "real.example", "{}", ask.head);
}

#[test]
fn connect_is_refused_and_trace_is_an_ordinary_method() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let connect = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n";
    let response = sent(&mainstay, "connect", connect);
    judged(&mainstay, "connect", &response, 405, "method_not_supported");
    assert!(peer.holding("CONNECT").is_empty());

    let trace = b"TRACE /probe-trace HTTP/1.1\r\nHost: a\r\nConnection: X-Secret\r\nX-Secret: 1\r\n\r\n";
    assert_eq!(sent(&mainstay, "trace", trace).status, 200);
    assert!(!peer.holding("probe-trace")[0].has("x-secret"));
}

#[test]
fn requests_in_a_row_on_one_connection_are_answered_in_order() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    let all: String = (0..20).map(|n| format!("GET /row-{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    connection.send(all.as_bytes()).expect("send");
    for n in 0..20 {
        let response = connection.response(false).expect("a response");
        let told: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(told["target"], format!("/row-{n}"));
    }
}

#[test]
fn an_old_client_without_host_is_served_and_its_connection_closed() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    connection.send(b"GET /probe-old HTTP/1.0\r\nHost: a\r\n\r\n").expect("send");
    let response = connection.response(false).expect("a response");
    assert_eq!(response.status, 200, "{}", response.head);
    assert!(response.header("transfer-encoding").is_none(), "chunks for HTTP/1.0: {}", response.head);
    assert!(connection.rest().is_empty());
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    connection.send(&head("expect", "Host: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n")).expect("send");
    assert_eq!(connection.any_response(false).expect("100").status, 100);
    connection.send(b"hello").expect("send");
    assert_eq!(connection.response(false).expect("a response").status, 200);
    assert_eq!(peer.holding("probe-expect")[0].body, b"hello");
}

#[test]
fn a_path_that_can_be_read_two_ways_is_refused_only_where_a_route_guards() {
    let peer = Peer::mirror();
    let text = format!("{}\n[[route]]\nmatch = \"/guarded/*\"\nbody = \"1KB\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    // Read in one way these fall under the route, read in another they do not.
    for path in ["/guarded%2fx", "/guarded%252fx", "/guarded/..%5cx", "/guarded;a/b", "/open/..%2fguarded/x"] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let why = judged(&mainstay, path, &sent(&mainstay, path, bytes.as_bytes()), 400, "ambiguous_path");
        assert!(why.contains("mainstay.toml:4") || why.contains("mainstay.toml:5"), "no place of the rule:\n{why}");
    }
    // Read in whatever way, the same routes hold.
    for path in ["/open/a%2fb", "/open/a;b", "/open/%7Euser", "/guarded/a%2fb", "/guarded/a;b"] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(sent(&mainstay, path, bytes.as_bytes()).status, 200, "{path}");
        assert_eq!(peer.holding(path).len(), 1, "the app receives the original bytes of {path}");
    }
}

#[test]
fn a_broken_connection_leaves_the_others_alone() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let mut good = Connection::open(mainstay.edge()).expect("connect");
    for n in 0..50 {
        let mut bad = Connection::open(mainstay.edge()).expect("connect");
        let _ = bad.send(&vec![n as u8; 512]);
        drop(bad);
        good.send(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
        assert_eq!(good.response(false).expect("a response").status, 200);
    }
    wait_until("the edge to go on", || mainstay_e2e::get(&mainstay.url("/")).status == 200);
}

#[test]
fn spellings_that_a_gateway_interface_folds_into_a_name_of_ours_do_not_pass() {
    let peer = Peer::mirror();
    let mainstay = before(&peer);
    let lines = "Host: a\r\nX_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nContent_Length: 5\r\nX_Own: 1\r\n";
    let bytes = format!("GET /probe-twins HTTP/1.1\r\n{lines}\r\n");
    assert_eq!(sent(&mainstay, "twins", bytes.as_bytes()).status, 200);
    let ask = &peer.holding("probe-twins")[0];
    for gone in ["x_forwarded_for", "x_real_ip", "content_length"] {
        assert!(!ask.has(gone), "{gone} passed: {}", ask.head);
    }
    assert_eq!(ask.header("x_own"), Some("1"));
}

#[test]
fn an_old_client_gets_no_chunks_and_an_app_always_a_host() {
    let peer = Peer::with(|ask, out| {
        use std::io::Write;
        if ask.path() == "/" {
            return mainstay_e2e::peer::answer(out, 200, &[], b"fine");
        }
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        mainstay_e2e::peer::Then::Keep
    });
    let mainstay = before(&peer);
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    connection.send(b"GET /probe-1-0 HTTP/1.0\r\n\r\n").expect("send");
    let all = String::from_utf8_lossy(&connection.rest()).into_owned();
    assert!(!all.to_lowercase().contains("transfer-encoding") && all.ends_with("\r\n\r\nok"), "{all}");
    assert!(peer.holding("probe-1-0")[0].has("host"), "{}", peer.holding("probe-1-0")[0].head);
}
