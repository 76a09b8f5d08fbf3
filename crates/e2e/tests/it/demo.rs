//! `mainstay demo`: the first command of the README, used as a person uses its page.

use crate::support::{pids, ready_instances};
use mainstay_e2e::{Mainstay, Setup, curl, get, wait_until};
use std::collections::HashSet;
use std::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

fn demo() -> Mainstay {
    let mainstay = Setup::new().args(&["demo"]).env("LOG_FORMAT", "text").ready("/");
    ready_instances(&mainstay, 2);
    mainstay
}

#[test]
fn the_demo_serves_its_page_and_two_instances_take_turns() {
    let mainstay = demo();
    let page = get(&mainstay.url("/"));
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    for file in ["/page.css", "/page.js"] {
        assert!(page.text().contains(file.trim_start_matches('/')), "{}", page.text());
        assert_eq!(get(&mainstay.url(file)).status, 200, "{file}");
    }
    let mut seen = HashSet::new();
    wait_until("both instances to answer", || {
        let answer = get(&mainstay.url("/hello"));
        assert_eq!(answer.status, 200, "{answer:?}");
        seen.insert(answer.json()["instance"]["pid"].to_string());
        seen.len() == 2
    });
}

#[test]
fn the_demos_screen_says_what_runs_and_what_to_open() {
    let mainstay = demo();
    mainstay.says("open");
    let said = mainstay.screen();
    assert!(said.starts_with("mainstay 0.1"), "{said}");
    assert!(said.contains(&format!("http://127.0.0.1:{}", mainstay.edge().port())), "{said}");
    assert!(!said.contains("look "), "a line for what does not exist yet:\n{said}");
    assert_eq!(said.matches("app ").count().min(1), 1, "{said}");
}

#[test]
fn the_demos_slow_failing_and_crashing_requests_do_what_they_say() {
    let mainstay = demo();
    assert_eq!(get(&mainstay.url("/slow?ms=300")).json()["ms"], 300);
    let failed = get(&mainstay.url("/fail"));
    assert_eq!(failed.status, 500);
    assert!(mainstay.why(&failed.id()).contains("500"));
    let before = pids(&mainstay);
    let crashed = curl(&["-X", "POST", &mainstay.url("/crash")]);
    assert_eq!((crashed.status, crashed.json()["code"].as_str()), (502, Some("upstream_closed")), "{crashed:?}");
    assert!(mainstay.why(&crashed.id()).contains("upstream_closed"));
    wait_until("the crashed one to be replaced", || {
        let now = pids(&mainstay);
        now.len() == 2 && now != before
    });
    assert_eq!(curl(&["-d", "sent back", &mainstay.url("/echo")]).text(), "sent back");
}

#[test]
fn the_demos_websocket_answers() {
    let mainstay = demo();
    let stream = TcpStream::connect(mainstay.edge()).expect("connect");
    stream.set_read_timeout(Some(mainstay_e2e::BOUND)).expect("timeout");
    let url = format!("ws://{}/ws", mainstay.edge());
    let (mut socket, _) = tokio_tungstenite::tungstenite::client(url, stream).expect("handshake");
    socket.send(Message::text("hello there")).expect("send");
    let mut heard = false;
    for _ in 0..3 {
        heard |= socket.read().expect("a message") == Message::text("hello there");
        if heard {
            break;
        }
    }
    assert!(heard, "no echo");
}

#[test]
fn the_demo_runs_twice_side_by_side_without_a_word_about_ports() {
    let one = Setup::new().args(&["demo"]).env("LOG_FORMAT", "text").without_port().spawn();
    one.says("open");
    let two = Setup::new().args(&["demo"]).env("LOG_FORMAT", "text").without_port().spawn();
    two.says("open");
    let address = |mainstay: &Mainstay| {
        let said = mainstay.said();
        let at = said.find("http://").expect("an address");
        said[at..].split_whitespace().next().expect("an address").to_string()
    };
    assert_ne!(address(&one), address(&two));
    for mainstay in [&one, &two] {
        wait_until("the demo to answer", || get(&format!("{}/hello", address(mainstay))).status == 200);
    }
}
