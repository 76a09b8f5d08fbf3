//! Ending: SIGTERM, SIGINT, `stop`; what is in flight is finished, and the exit codes are the documented ones.

use crate::support::{in_front_of, ready_instances, static_app};
use mainstay_e2e::processes::{alive, signal};
use mainstay_e2e::{Connection, Peer, Setup, get, wait_until};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn c5_sigterm_finishes_what_is_in_flight_and_ends_with_0() {
    let mut mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    let mut slow: Vec<Connection> = (0..10)
        .map(|n| {
            let mut connection = Connection::open(mainstay.edge()).expect("connect");
            let ask = format!("GET /number?n={n}&ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n");
            connection.send(ask.as_bytes()).expect("send");
            connection
        })
        .collect();
    wait_until("the requests to be in flight", || {
        let busy: u64 = crate::support::instances(&mainstay).iter().filter_map(|i| i["in_flight"].as_u64()).sum();
        busy == 10
    });
    mainstay.signal(Signal::SIGTERM);
    for (n, connection) in slow.iter_mut().enumerate() {
        let response = connection.response(false).expect("an answer, drained or not");
        assert_eq!((response.status, response.text()), (200, n.to_string()));
        assert_eq!(response.header("connection"), Some("close"), "{}", response.head);
    }
    let (status, took) = mainstay.end();
    assert_eq!(status.code(), Some(0), "{}", mainstay.said());
    println!("ended {took:?} after its last answer");
    assert!(mainstay.processes().is_empty(), "{:?}", mainstay.processes());
}

#[test]
fn c5_nothing_new_is_accepted_while_it_drains() {
    let gate = Arc::new(AtomicBool::new(false));
    let peer = Peer::behind(&gate);
    let mut mainstay = Setup::file(&in_front_of(&[&peer])).start();
    let mut slow = Connection::open(mainstay.edge()).expect("connect");
    slow.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
    wait_until("the request to be at the upstream", || !peer.holding("/slow").is_empty());
    mainstay.signal(Signal::SIGTERM);
    wait_until("new connections to be turned away", || Connection::open(mainstay.edge()).is_err());
    assert!(!slow.is_readable(), "new connections were taken, and left without an answer, until the drain was over");
    gate.store(true, Ordering::SeqCst);
    assert_eq!(slow.response(false).expect("the answer").text(), "late");
    assert_eq!(mainstay.end().0.code(), Some(0));
}

#[test]
fn c5_the_limit_of_a_drain_is_kept_by_variable_too() {
    let peer = Peer::slow(Duration::from_secs(100));
    let mut mainstay = Setup::file(&in_front_of(&[&peer])).env("GRACEFUL_SHUTDOWN_TIMEOUT", "1000").start();
    let mut slow = Connection::open(mainstay.edge()).expect("connect");
    slow.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
    wait_until("the request to be at the upstream", || !peer.holding("/slow").is_empty());
    let start = Instant::now();
    mainstay.signal(Signal::SIGTERM);
    let (status, _) = mainstay.end();
    assert_eq!(status.code(), Some(0), "{}", mainstay.said());
    assert!(start.elapsed() > Duration::from_millis(900), "it did not wait at all");
    assert!(start.elapsed() < Duration::from_secs(15), "the limit was not kept: {:?}", start.elapsed());
}

#[test]
fn c5_the_limit_of_a_drain_is_the_last_reloads() {
    let peer = Peer::slow(Duration::from_secs(100));
    let file = |drain: &str| format!("{}[edge.timeouts]\ndrain = \"{drain}\"\n", in_front_of(&[&peer]));
    let mut mainstay = Setup::file(&file("60s")).start();
    mainstay.write("mainstay.toml", &file("1s"));
    mainstay.verb(&["reload"]).ok();
    let mut slow = Connection::open(mainstay.edge()).expect("connect");
    slow.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
    wait_until("the request to be at the upstream", || !peer.holding("/slow").is_empty());
    let start = Instant::now();
    mainstay.signal(Signal::SIGTERM);
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
    assert!(start.elapsed() > Duration::from_millis(900), "it did not wait at all");
    assert!(start.elapsed() < Duration::from_secs(20), "the start's limit was kept: {:?}", start.elapsed());
}

#[test]
fn c5_a_drain_under_npm_start_is_as_long_as_the_apps_own() {
    let mut mainstay = Setup::command(&["npm", "start"]).node_app("slowdrain").ready("/");
    let node: i32 = get(&mainstay.url("/")).text().parse().expect("node's pid");
    let start = Instant::now();
    mainstay.signal(Signal::SIGTERM);
    let (status, _) = mainstay.end();
    assert_eq!(status.code(), Some(0), "{}", mainstay.said());
    let drained = std::fs::read_to_string(mainstay.path().join("drained")).unwrap_or_default();
    assert_eq!(drained, "all work done", "node was killed before it was done, after {:?}", start.elapsed());
    assert!(!alive(node) && mainstay.processes().is_empty());
}

#[test]
fn c5_a_child_that_ignores_sigterm_is_killed_at_the_limit() {
    let mut mainstay = Setup::command(&["node", "ignores_sigterm.js"])
        .node_app("awkward")
        .env("GRACEFUL_SHUTDOWN_TIMEOUT", "1500")
        .ready("/");
    mainstay.signal(Signal::SIGTERM);
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
    assert!(mainstay.processes().is_empty());
    assert!(mainstay.said().contains("I heard, and I stay"), "{}", mainstay.said());
}

#[test]
fn sigint_drains_and_ends_with_0() {
    let mut mainstay = Setup::file(&static_app("")).ready("/");
    mainstay.signal(Signal::SIGINT);
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
    assert!(mainstay.processes().is_empty());
}

#[test]
fn a_second_signal_ends_at_once_with_130_or_143() {
    for (which, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let peer = Peer::slow(Duration::from_secs(100));
        let mut mainstay = Setup::file(&in_front_of(&[&peer])).start();
        let mut slow = Connection::open(mainstay.edge()).expect("connect");
        slow.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
        wait_until("the request to be at the upstream", || !peer.holding("/slow").is_empty());
        mainstay.signal(which);
        wait_until("the drain to begin", || Connection::open(mainstay.edge()).is_err());
        let start = Instant::now();
        mainstay.signal(which);
        let (status, _) = mainstay.end();
        assert!(status.code() == Some(code), "{which}: {status:?} {:?}\n{}", status.signal(), mainstay.said());
        assert!(start.elapsed() < Duration::from_secs(10));
        wait_until("all processes to be gone", || mainstay.processes().is_empty());
    }
}

#[test]
fn stop_drains_and_ends_and_a_second_stop_says_that_nothing_runs() {
    let mut mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    mainstay.verb(&["stop"]).ok();
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
    assert!(mainstay.processes().is_empty());
    let again = mainstay.verb(&["stop"]);
    assert_eq!(again.code, Some(1), "{}", again.all());
    assert!(!again.err.is_empty());
}

#[test]
fn c5_a_keep_alive_connection_is_told_to_close_with_its_next_answer() {
    let gate = Arc::new(AtomicBool::new(false));
    let peer = Peer::behind(&gate);
    let mut mainstay = Setup::file(&in_front_of(&[&peer])).start();
    let mut idle = Connection::open(mainstay.edge()).expect("connect");
    let mut slow = Connection::open(mainstay.edge()).expect("connect");
    for connection in [&mut idle, &mut slow] {
        connection.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
        assert_eq!(connection.response(false).expect("an answer").status, 200);
    }
    slow.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
    wait_until("the request to be at the upstream", || !peer.holding("/slow").is_empty());
    mainstay.signal(Signal::SIGTERM);
    wait_until("the drain to begin", || Connection::open(mainstay.edge()).is_err());
    // The idle connection is not cut under a client that is about to use it.
    // It is told so by an answer, of which one may have been on its way when the drain began.
    wait_until("an answer that tells it to close", || {
        idle.send(b"GET /during HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
        let during = idle.response(false).expect("an answer during the drain");
        assert_eq!(during.status, 200, "{}", during.head);
        during.header("connection") == Some("close")
    });
    gate.store(true, Ordering::SeqCst);
    assert_eq!(slow.response(false).expect("the slow answer").status, 200);
    assert_eq!(mainstay.end().0.code(), Some(0));
}

#[test]
fn sighup_is_a_reload_and_no_end() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    let (server, before) = (mainstay.server(), crate::support::pids(&mainstay));
    signal(mainstay.supervisor(), Signal::SIGHUP);
    mainstay.says("reload");
    assert_eq!((mainstay.server(), crate::support::pids(&mainstay)), (server, before));
    assert_eq!(get(&mainstay.url("/")).status, 200);
}
