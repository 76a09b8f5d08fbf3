//! Answers that can be read in two ways, and answers nobody asked for: whoever sent the request sees an honest answer
//! or a visible end, and no other client ever gets what was left on the connection.
//!
//! The edge runs on one core, so that the next request is offered the connection of the one before.

use crate::support::{in_front_of, judged, on_one_core};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Connection, Fault, Mainstay, Peer, Setup, wait_until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the upstream would like somebody else to get.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

/// What the client that asked must see.
#[derive(Debug, Clone, Copy)]
enum Sees {
    /// This status and body.
    Body(u16, &'static str),
    /// 502, and why.
    Invalid,
    /// The beginning, and then the end of the connection.
    Cut,
}

use Sees::{Body, Cut, Invalid};

/// Head and body as the upstream writes them; `POISON` comes behind.
const ANSWERS: &[(&str, Sees)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Body(200, "hello")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Body(200, "")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\nhello", Body(200, "hello")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Body(200, "hello")),
    ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", Body(200, "hello")),
    ("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello", Body(200, "hello")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Body(200, "hello")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n", Body(200, "")),
    // Both told, and codings in HTTP/1.0: read, and nothing behind is believed (RFC 9112 §6.1).
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Body(200, "hello"),
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 90\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Body(200, "hello"),
    ),
    (
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Body(200, "hello"),
    ),
    // Answers that have no body whatever they say.
    ("HTTP/1.1 204 No Content\r\nContent-Length: 46\r\n\r\n", Body(204, "")),
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Body(204, "")),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 46\r\n\r\n", Body(304, "")),
    // Words in between.
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine", Body(200, "mine")),
    (
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 46\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine",
        Body(200, "mine"),
    ),
    ("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n", Invalid),
    ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", Invalid),
    // Lengths and codings that nobody can be sure of.
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Invalid),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Invalid),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Invalid),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Invalid),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", Invalid),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Invalid),
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: cow\r\n\r\n", Invalid),
    // Heads that are none.
    ("HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 O\rK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    ("HTTP/1.1 +20 OK\r\nContent-Length: 5\r\n\r\nhello", Invalid),
    // Chunks that are none.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", Cut),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\rb\r\n\r\n", Cut),
];

/// Answers `/answer-N` with the N-th of these and what is to poison, everything else with its own target.
fn poisonous() -> Peer {
    Peer::with(|ask, out| {
        let number = ask.path().strip_prefix("/answer-").and_then(|n| n.parse::<usize>().ok());
        let Some((bytes, _)) = number.and_then(|n| ANSWERS.get(n)) else {
            return answer(out, 200, &[], ask.target.as_bytes());
        };
        match out.write_all(format!("{bytes}{POISON}").as_bytes()) {
            Ok(()) => Then::Keep,
            Err(_) => Then::Close,
        }
    })
}

/// Somebody else asks, and gets his own answer.
#[track_caller]
fn own_answer(mainstay: &Mainstay, name: &str) {
    for round in 0..2 {
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        let path = format!("/marker-{round}-of-{name}");
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("send");
        let response = connection.response(false).unwrap_or_else(|fault| panic!("{name}: no answer: {fault:?}"));
        assert_eq!((response.status, response.text()), (200, path), "{name}");
    }
}

#[test]
fn what_stands_behind_an_answer_is_nobodys() {
    let peer = poisonous();
    let mainstay = on_one_core(&format!("{}max_fails = 0\n", in_front_of(&[&peer])), "/there");
    for (number, (bytes, sees)) in ANSWERS.iter().enumerate() {
        // A connection to the upstream that has served before is there.
        own_answer(&mainstay, "nobody");
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        let post = format!("POST /answer-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        connection.send(post.as_bytes()).expect("send");
        match (sees, connection.response(false)) {
            (Body(status, body), Ok(seen)) => {
                assert_eq!((seen.status, seen.text().as_str()), (*status, *body), "{bytes}")
            }
            (Invalid, Ok(seen)) => drop(judged(&mainstay, bytes, &seen, 502, "upstream_invalid")),
            (Cut, Err(Fault::Cut(seen))) => assert!(!seen.text().contains("poison"), "{bytes}: {seen:?}"),
            (_, seen) => panic!("{bytes}: {sees:?} expected: {seen:?}"),
        }
        // The same client's next request, where its connection lives on.
        let _ = connection.send(b"GET /own HTTP/1.1\r\nHost: a\r\n\r\n");
        match connection.response(false) {
            Ok(seen) => assert_eq!(seen.text(), "/own", "{bytes}"),
            Err(fault) => assert!(matches!((sees, &fault), (Cut, Fault::Closed)), "{bytes}: {fault:?}"),
        }
        own_answer(&mainstay, &format!("answer-{number}"));
    }
    assert!(peer.connections() < peer.all().len(), "no connection was used twice: nothing was shown");
}

#[test]
fn the_answer_to_a_head_has_no_body_and_what_comes_as_one_is_nobodys() {
    let peer = poisonous();
    let mainstay = on_one_core(&in_front_of(&[&peer]), "/there");
    for number in [0, 6, 8] {
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        let head = format!("HEAD /answer-{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.send(format!("{head}GET /own HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("send");
        assert_eq!(connection.response(true).expect("an answer").status, 200, "{number}");
        assert_eq!(connection.response(false).expect("an answer").text(), "/own", "{number}");
        own_answer(&mainstay, &format!("head-{number}"));
    }
}

#[test]
fn an_answer_nobody_asked_for_is_nobodys() {
    let last: Arc<Mutex<Option<TcpStream>>> = Arc::default();
    let held = last.clone();
    let peer = Peer::with(move |ask, out| {
        *held.lock().expect("lock") = out.try_clone().ok();
        answer(out, 200, &[], ask.target.as_bytes())
    });
    let mainstay = on_one_core(&in_front_of(&[&peer]), "/there");
    for round in 0..20 {
        own_answer(&mainstay, &format!("before-{round}"));
        // The connection is idle now, and its answer lies there before the next request does.
        let idle = last.lock().expect("lock").take();
        idle.expect("a connection").write_all(POISON.as_bytes()).expect("write");
        own_answer(&mainstay, &format!("behind-{round}"));
    }
}

#[test]
fn any_number_of_words_in_between_is_borne_until_the_answer_is_due() {
    let peer = Peer::with(|ask, out| {
        let words = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
        match ask.path() {
            "/many" => (0..50).for_each(|_| drop(out.write_all(words.as_bytes()))),
            "/endless" => while out.write_all(words.as_bytes()).is_ok() {},
            _ => {}
        }
        answer(out, 200, &[], ask.target.as_bytes())
    });
    let text = format!("{}[edge.timeouts]\nresponse = \"1s\"\n", in_front_of(&[&peer]));
    let mainstay = on_one_core(&text, "/there");
    assert_eq!(mainstay_e2e::get(&mainstay.url("/many")).text(), "/many");
    let mut endless = Connection::open(mainstay.edge()).expect("connect");
    endless.send(b"POST /endless HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
    // The only core serves the others meanwhile.
    own_answer(&mainstay, "meanwhile");
    let response = endless.response(false).expect("an answer");
    judged(&mainstay, "endless", &response, 504, "upstream_timeout");
    own_answer(&mainstay, "afterwards");
}

/// Reads heads alone: whatever follows one is the next. Answers each at once with its target.
fn careless(heads: &Arc<Mutex<Vec<(usize, String)>>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind an upstream");
    let address = listener.local_addr().expect("an address");
    let heads = heads.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let heads = heads.clone();
            std::thread::spawn(move || answer_heads(stream, number, &heads));
        }
    });
    address
}

fn answer_heads(mut stream: TcpStream, number: usize, heads: &Mutex<Vec<(usize, String)>>) {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        while let Some(end) = kept.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = kept.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            heads.lock().expect("lock").push((number, head));
            answer(&mut stream, 200, &[], target.as_bytes());
        }
    }
}

#[test]
fn an_answer_before_its_request_was_whole_leaves_nothing_behind() {
    let heads = Arc::default();
    let address = careless(&heads);
    let text = format!("[app.main]\nupstreams = [\"{address}\"]\n");
    let mainstay = on_one_core(&text, "/there");
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    // Not all of it: an upstream that answers what it was given whole a second time is not to be told from a slow one.
    for sent in [0, 10, hidden.len() - 1] {
        own_answer(&mainstay, "nobody");
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        let head = format!("POST /early-{sent} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", hidden.len());
        connection.send(format!("{head}{}", &hidden[..sent]).as_bytes()).expect("send");
        assert_eq!(connection.response(false).expect("an answer").text(), format!("/early-{sent}"));
        own_answer(&mainstay, &format!("early-{sent}"));
        // The rest of the body is no request of its own to us, even where it is one to the upstream.
        let _ = connection.send(format!("{}GET /own HTTP/1.1\r\nHost: a\r\n\r\n", &hidden[sent..]).as_bytes());
        match connection.response(false) {
            Ok(seen) => assert_eq!(seen.text(), "/own"),
            Err(fault) => assert!(matches!(fault, Fault::Closed), "{fault:?}"),
        }
        own_answer(&mainstay, &format!("after-{sent}"));
    }
    let heads = heads.lock().expect("lock").clone();
    let marked: Vec<_> = heads.iter().filter(|(_, head)| head.contains("/marker-")).collect();
    assert!(marked.iter().all(|(_, head)| head.starts_with("GET /marker-")), "{heads:?}");
}

#[test]
fn a_socket_that_was_declined_is_no_tunnel_and_its_connection_nobodys() {
    let peer = Peer::with(|ask, out| match ask.path() {
        "/declined" => {
            let head = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 5\r\n\r\nhello";
            drop(out.write_all(format!("{head}{POISON}").as_bytes()));
            Then::Keep
        }
        _ => answer(out, 200, &[], ask.target.as_bytes()),
    });
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/there");
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    let upgrade = "GET /declined HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\nMainstay-Request-Id: r_forged\r\n\r\n";
    connection.send(format!("{upgrade}{hidden}").as_bytes()).expect("send");
    let declined = connection.response(false).expect("an answer");
    assert_eq!((declined.status, declined.text().as_str()), (426, "hello"));
    assert_eq!(connection.response(false).expect("an answer").text(), "/hidden");
    wait_until("the hidden request to be seen", || peer.holding("/hidden").len() == 1);
    let seen = &peer.holding("/hidden")[0];
    assert!(seen.header("mainstay-request-id").is_some_and(|id| id != "r_forged"), "it was tunnelled: {}", seen.head);
    own_answer(&mainstay, "declined");
}
