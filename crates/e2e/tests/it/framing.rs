//! What an upstream may do wrong: each is an honest answer with a code, or a visible cut, never a short success.

use crate::support::{before, in_front_of, judged, judged_answer, sent};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Connection, Fault, Peer, Setup, get};
use std::io::Write;

/// An upstream that answers `/` properly and all else with these bytes, then closes.
fn answering_with(bytes: &'static [u8]) -> Peer {
    Peer::with(move |ask, out| {
        if ask.path() == "/" {
            return answer(out, 200, &[], b"fine");
        }
        let _ = out.write_all(bytes);
        Then::Close
    })
}

#[test]
fn an_answer_that_is_not_http_is_a_502_that_says_so() {
    let answers: [(&str, &'static [u8]); 5] = [
        ("garbage", b"\x00\x01\x02 nothing of HTTP\r\n\r\n"),
        ("two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("bad-length", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"),
        ("bad-header", b"HTTP/1.1 200 OK\r\nX\0Y: 1\r\nContent-Length: 3\r\n\r\nabc"),
        ("bad-status", b"HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc"),
    ];
    for (name, bytes) in answers {
        let peer = answering_with(bytes);
        let mainstay = before(&peer);
        let post = format!("POST /{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let why = judged(&mainstay, name, &sent(&mainstay, name, post.as_bytes()), 502, "upstream_invalid");
        assert!(why.contains(&peer.address.to_string()), "`why` does not name the upstream:\n{why}");
    }
}

#[test]
fn a_connection_closed_before_the_answer_is_a_502_that_says_so() {
    let peer = answering_with(b"");
    let mainstay = before(&peer);
    let post = b"POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    judged(&mainstay, "closed", &sent(&mainstay, "closed", post), 502, "upstream_closed");
    assert_eq!(peer.holding("/closed").len(), 1, "a POST is never repeated");
}

#[test]
fn nobody_listening_is_a_502_that_says_so() {
    let peer = Peer::labelled("soon gone");
    let mainstay = before(&peer);
    peer.stop();
    drop(peer);
    let answer = mainstay_e2e::wait_for("the upstream to be seen as gone", || {
        let answer = mainstay_e2e::curl(&["-X", "POST", &mainstay.url("/gone")]);
        (answer.status >= 500 && answer.json()["code"] == "upstream_refused").then_some(answer)
    });
    judged_answer(&mainstay, "gone", &answer, 502, "upstream_refused");
}

#[test]
fn an_answer_that_breaks_off_is_a_visible_cut_with_an_id() {
    let bodies: [(&str, &'static [u8]); 3] = [
        ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789"),
        ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("bad-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
    ];
    for (name, bytes) in bodies {
        let peer = answering_with(bytes);
        let mainstay = before(&peer);
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        connection.send(format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("send");
        match connection.response(false) {
            Err(Fault::Cut(begun)) => {
                assert_eq!(begun.status, 200, "{name}");
                let why = mainstay.why(&begun.id());
                assert!(why.contains("upstream_cut"), "{name}: {why}");
            }
            other => panic!("{name}: expected a cut, got {other:?}"),
        }
    }
}

#[test]
fn an_answer_until_the_end_of_the_connection_arrives_whole() {
    let peer = answering_with(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
    let mainstay = before(&peer);
    let answer = get(&mainstay.url("/old"));
    assert_eq!((answer.status, answer.text().as_str(), answer.exit), (200, "until the end", 0));
}

#[test]
fn an_early_hint_does_not_confuse_the_answer() {
    let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
    let peer = answering_with(hint);
    let mainstay = before(&peer);
    let answer = get(&mainstay.url("/hint"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
}

#[test]
fn an_upgrade_answered_by_101_that_nobody_asked_for_is_no_tunnel() {
    let peer = answering_with(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\n");
    let mainstay = before(&peer);
    let post = b"POST /unasked HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    judged(&mainstay, "unasked 101", &sent(&mainstay, "unasked", post), 502, "upstream_invalid");
}

#[test]
fn trailers_pass_both_ways() {
    let peer = Peer::with(|ask, out| {
        if ask.path() == "/" {
            return answer(out, 200, &[], b"fine");
        }
        let seen = ask.trailers.first().map(|(_, value)| value.clone()).unwrap_or_default();
        let text = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             4\r\nbody\r\n0\r\nX-Sum: {seen}\r\n\r\n"
        );
        let _ = out.write_all(text.as_bytes());
        Then::Keep
    });
    let mainstay = before(&peer);
    let ask = b"POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Check\r\n\
                Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Check: 42\r\n\r\n";
    let response = sent(&mainstay, "trailers", ask);
    assert_eq!(response.text(), "body");
    assert_eq!(peer.holding("/trailers")[0].trailers, [("X-Check".to_string(), "42".to_string())]);
    assert_eq!(response.trailers.len(), 1, "{response:?}");
    assert_eq!(response.trailers[0].1, "42");
}

#[test]
fn e17_an_apps_own_error_bodies_pass_untouched_and_ours_are_structured() {
    let peer = Peer::with(|ask, out| match ask.path() {
        "/" => answer(out, 200, &[], b"fine"),
        _ => answer(out, 503, &[("content-type", "text/weird"), ("retry-after", "7")], b"own words"),
    });
    let mainstay = before(&peer);
    let theirs = get(&mainstay.url("/fails"));
    assert_eq!((theirs.status, theirs.text().as_str()), (503, "own words"));
    assert_eq!((theirs.header("content-type"), theirs.header("retry-after")), (Some("text/weird"), Some("7")));

    // A browser gets a page, a program gets JSON; both with the id and without a word about the inside.
    let text = format!("{}routes = [\"/only/*\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).start();
    let program = get(&mainstay.url("/elsewhere"));
    judged_answer(&mainstay, "no route", &program, 404, "no_route");
    let browser = mainstay_e2e::curl(&[
        "-H",
        "Accept: text/html,application/xhtml+xml",
        "-H",
        "Sec-Fetch-Mode: navigate",
        &mainstay.url("/elsewhere"),
    ]);
    assert_eq!(browser.status, 404);
    assert!(browser.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{browser:?}");
    assert!(browser.text().contains(&browser.id()), "{}", browser.text());
    for secret in [peer.address.to_string(), "panicked".into(), "mainstay.toml".into()] {
        assert!(!browser.text().contains(&secret) && !program.text().contains(&secret), "{}", browser.text());
    }
}

#[test]
fn e17_a_stack_trace_does_not_leave_in_production() {
    let trace = "Error: boom\n    at Object.<anonymous> (/srv/app/index.js:10:9)\n    at Module._compile (node:1:1)\n";
    let peer = Peer::with(move |ask, out| match ask.path() {
        "/" => answer(out, 200, &[], b"fine"),
        _ => answer(out, 500, &[("content-type", "text/html")], trace.as_bytes()),
    });
    let text = in_front_of(&[&peer]);
    let production = Setup::file(&text).env("NODE_ENV", "production").ready("/");
    let answer = get(&production.url("/boom"));
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("/srv/app"), "{}", answer.text());
    assert!(answer.id().starts_with("r_"));

    let development = Setup::file(&text).ready("/");
    assert!(get(&development.url("/boom")).text().contains("/srv/app"), "development shows what the app says");
}
