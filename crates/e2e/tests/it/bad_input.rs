//! What may go wrong around us: each with a clear message, and nothing else disturbed.

use crate::support::{in_front_of, ready_instances, static_app};
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Connection, Mainstay, Peer, Setup, curl, fixtures, get, wait_for, wait_until};
use std::net::TcpListener;

#[test]
fn a_port_in_use_by_another_process_is_named_with_its_owner_or_what_to_type() {
    let port = Port::free();
    let _other = TcpListener::bind(("127.0.0.1", port.number)).expect("bind");
    let peer = Peer::labelled("x");
    let text = format!("{}[edge]\nlisten = \"127.0.0.1:{}\"\n", in_front_of(&[&peer]), port.number);
    let ended = Setup::file(&text).without_port().ended();
    assert!(matches!(ended.code, Some(1 | 78)), "{:?} {}", ended.code, ended.all());
    for word in [port.number.to_string(), std::process::id().to_string(), "fix:".into(), "mainstay.toml:4".into()] {
        assert!(ended.err.contains(&word), "{word} is missing:\n{}", ended.err);
    }
}

#[test]
fn a_port_in_use_by_a_second_mainstay_is_named_as_that_and_the_first_goes_on() {
    let peer = Peer::labelled("first");
    let first = Setup::file(&in_front_of(&[&peer])).ready("/");
    let text = format!("{}[edge]\nlisten = \"{}\"\n", in_front_of(&[&peer]), first.edge());
    let second = Setup::file(&text).without_port().ended();
    assert!(matches!(second.code, Some(1 | 78)), "{:?} {}", second.code, second.all());
    assert!(second.err.to_lowercase().contains("mainstay"), "it does not say who holds it:\n{}", second.err);
    for _ in 0..20 {
        assert_eq!(get(&first.url("/")).text(), "first", "the second took a share of the port");
    }
}

#[test]
fn a_second_mainstay_in_the_same_folder_is_refused_and_the_first_goes_on() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    let other = Port::free();
    let second = mainstay.verb(&["run", "--listen", &format!("127.0.0.1:{}", other.number)]);
    assert!(matches!(second.code, Some(1 | 78)), "{:?} {}", second.code, second.all());
    assert!(second.err.contains(&mainstay.supervisor().to_string()), "it does not name the first:\n{}", second.err);
    assert_eq!(get(&mainstay.url("/")).status, 200);
    ready_instances(&mainstay, 1);
}

/// As on a terminal, and without a chosen address.
fn text(setup: Setup) -> Setup {
    setup.without_port().env("LOG_FORMAT", "text")
}

#[test]
fn in_development_without_an_address_the_next_free_port_is_taken() {
    let app = fixtures::static_app();
    let command = app.to_str().expect("a path");
    let mainstays: Vec<Mainstay> = (0..2).map(|_| text(Setup::command(&[command])).spawn()).collect();
    for mainstay in &mainstays {
        mainstay.says("open");
    }
    let production = Setup::file(&in_front_of(&[&Peer::labelled("x")])).without_port().env("NODE_ENV", "production");
    let _taken = TcpListener::bind("0.0.0.0:8080");
    let ended = production.ended();
    assert!(matches!(ended.code, Some(1 | 78)), "{:?} {}", ended.code, ended.all());
    assert!(ended.err.contains("8080"), "in production a taken port is an error:\n{}", ended.err);
}

#[test]
fn development_listens_on_both_loopback_addresses_and_on_nothing_else() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    let port = mainstay.edge().port();
    assert_eq!(get(&format!("http://[::1]:{port}/")).status, 200);
    assert_eq!(get(&format!("http://localhost:{port}/")).status, 200);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let everywhere = format!("00000000:{port:04X} 00000000:0000 0A");
    assert!(!table.contains(&everywhere), "it listens on every address");
}

#[test]
fn a_child_that_never_listens_is_told_of_with_what_it_said() {
    let mainstay = Setup::command(&["node", "never_listens.js"]).node_app("awkward").start();
    // Held for a while, then an honest answer; nothing hangs for ever.
    let answer = curl(&["--max-time", "60", &mainstay.url("/")]);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("no_instance")), "{answer:?}");
    assert!(mainstay.why(&answer.id()).contains("no_instance"));
    let instance = wait_for("the instance in status", || crate::support::instances(&mainstay).pop());
    assert_ne!(instance["state"], "ready", "{instance}");
    assert!(mainstay.said().contains("I am busy and open no port"), "{}", mainstay.said());
    assert_eq!(mainstay.verb(&["health"]).code, Some(1));
}

#[test]
fn a_child_that_exits_at_once_does_not_stop_the_other_app() {
    let app = fixtures::static_app();
    let text = format!(
        "[app.good]\nrun = \"{}\"\nroutes = [\"/*\"]\n\
         [app.bad]\nrun = \"sh -c 'echo broken thing >&2; exit 9'\"\nroutes = [\"/bad/*\"]\n",
        app.display()
    );
    let mainstay = Setup::file(&text).ready("/");
    for _ in 0..10 {
        assert_eq!(get(&mainstay.url("/")).status, 200);
    }
    mainstay.says("exit status 9");
    mainstay.says("broken thing");
    let bad = curl(&["--max-time", "40", "-X", "POST", &mainstay.url("/bad/x")]);
    assert_eq!((bad.status, bad.json()["code"].as_str()), (503, Some("no_instance")), "{bad:?}");
    assert_eq!(get(&mainstay.url("/")).status, 200);
}

#[test]
fn an_app_that_ends_with_0_is_restarted_unless_told_otherwise() {
    let mainstay = Setup::file("[app.main]\nrun = \"sh -c 'echo once >> runs; exit 0'\"\nport = false\n").spawn();
    let runs = |mainstay: &Mainstay| {
        std::fs::read_to_string(mainstay.path().join("runs")).map_or(0, |text| text.lines().count())
    };
    wait_until("a second run", || runs(&mainstay) >= 2);
    let text = "[app.main]\nrun = \"sh -c 'echo once >> runs; exit 0'\"\nport = false\nrestart = \"on-failure\"\n\
                [app.other]\nrun = \"sleep 600\"\nport = false\n";
    let once = Setup::file(text).spawn();
    wait_until("the first run", || runs(&once) == 1);
    wait_until("its end to be shown", || {
        let status = once.verb(&["status"]);
        status.code == Some(0) && !status.out.contains("main.1  ready")
    });
    assert_eq!(runs(&once), 1);
}

#[test]
fn too_many_waiting_requests_are_refused_with_their_own_code() {
    let mainstay = Setup::command(&["sh", "-c", "sleep 600"]).start();
    let mut waiting: Vec<Connection> = (0..1300)
        .map(|_| {
            let mut connection = Connection::open(mainstay.edge()).expect("connect");
            connection.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
            connection
        })
        .collect();
    // 1000 may wait for an instance; the rest is told at once, the others after their ten seconds.
    let mut refused = Vec::new();
    wait_until("those past the limit to be told", || {
        let (told, still) = std::mem::take(&mut waiting).into_iter().partition(Connection::is_readable);
        waiting = still;
        refused.extend(told);
        refused.len() >= 300
    });
    let response = refused[0].response(false).expect("a refusal");
    assert!(response.header("retry-after").is_some(), "{}", response.head);
    crate::support::judged(&mainstay, "one too many", &response, 503, "hold_full");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let setup = Setup::file(&static_app("")).write("not-a-folder", "a file").env("MAINSTAY_DATA", "not-a-folder");
    let ended = setup.ended();
    assert!(matches!(ended.code, Some(1 | 70 | 78)), "{:?} {}", ended.code, ended.all());
    assert!(ended.err.contains("not-a-folder"), "{}", ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}
