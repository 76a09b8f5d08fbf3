//! `mainstay upgrade` and SIGUSR2: another file takes over, and nobody notices.

use crate::support::{pids, ready_instances, static_app};
use mainstay_e2e::processes::{alive, signal};
use mainstay_e2e::strict::{Load, Mix};
use mainstay_e2e::{Connection, Mainstay, Setup, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

const CONNECTIONS: usize = 50;
const ROUNDS: usize = 20;

/// Two instances of the static app, and a drain of so many seconds.
pub fn started(drain: &str) -> Mainstay {
    let text = static_app(&format!("instances = 2\n[edge.timeouts]\ndrain = \"{drain}\"\n"));
    let mainstay = Setup::file(&text).own_binary().ready("/");
    ready_instances(&mainstay, 2);
    mainstay
}

/// What `status` says of an upgrade; `None` when there is none under way.
pub fn under_way(mainstay: &Mainstay) -> Option<String> {
    let ended = mainstay.verb(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&ended.out).unwrap_or_default();
    status["upgrade"]["text"].as_str().map(str::to_owned)
}

/// Every server of this supervisor.
pub fn servers(mainstay: &Mainstay) -> Vec<i32> {
    let is_server = |word: Option<&String>| word.is_some_and(|word| word == "server");
    let all = mainstay.processes().into_iter();
    let own = all.filter(|p| p.parent == mainstay.supervisor() && is_server(p.arguments.get(1)));
    own.map(|p| p.pid).collect()
}

/// One upgrade, whole: a new file, taken over, the old server gone, the supervisor of the new file.
#[track_caller]
pub fn upgraded(mainstay: &Mainstay, by_signal: bool) {
    let before = servers(mainstay);
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    if by_signal {
        mainstay.signal(Signal::SIGUSR2);
    } else {
        let ended = mainstay.verb(&["upgrade"]);
        assert_eq!(ended.code, Some(0), "{}", ended.all());
        assert!(ended.err.contains("upgraded to mainstay "), "{}", ended.all());
    }
    wait_until("one server, another one", || {
        let now = servers(mainstay);
        now.len() == 1 && !before.contains(&now[0])
    });
    wait_until("the upgrade to be over", || {
        mainstay.verb(&["status"]).code == Some(0) && under_way(mainstay).is_none() && runs_new_file(mainstay)
    });
}

fn runs_new_file(mainstay: &Mainstay) -> bool {
    let place = |path: String| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let new = place(mainstay.path().join("bin/mainstay").display().to_string());
    let of = |pid: i32| place(format!("/proc/{pid}/exe"));
    new.is_some() && of(mainstay.supervisor()) == new && servers(mainstay).iter().all(|pid| of(*pid) == new)
}

/// Access lines of the files, by path with query.
fn access_lines(mainstay: &Mainstay) -> usize {
    let folder = mainstay.path().join(".mainstay/logs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("logs").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a log file");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            count += usize::from(line["kind"] == "access" && line["path"] == "/number");
        }
    }
    count
}

fn console_lines(mainstay: &Mainstay) -> usize {
    let said = mainstay.said();
    let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["kind"] == "access" && line["path"] == "/number").count()
}

#[test]
fn r_upgrade_twenty_lose_nothing_and_write_every_line() {
    let mainstay = started("10s");
    let arguments = mainstay_e2e::processes::read(mainstay.supervisor()).expect("the supervisor").arguments;
    let before = pids(&mainstay);
    let (one, two) = Load::start(mainstay.edge(), CONNECTIONS * 2, Mix::Both);
    for round in 0..ROUNDS {
        one.goes_on(50);
        two.goes_on(50);
        upgraded(&mainstay, round % 2 == 1);
        assert_eq!(pids(&mainstay), before, "instances run on");
    }
    let (one, two) = (one.finish(), two.finish());
    println!(
        "{} requests of HTTP/1.1, {} of HTTP/2, {} of them for another connection",
        one.sent, two.sent, two.unsent
    );
    // A stream of each, at worst, was about to be opened when a connection was told to go.
    assert!(two.unsent <= (CONNECTIONS * ROUNDS) as u64, "{} refused", two.unsent);
    one.all_answered();
    two.all_answered();
    let now = mainstay_e2e::processes::read(mainstay.supervisor()).expect("the same pid").arguments;
    assert_eq!(now, arguments, "as it was typed");
    let sent = usize::try_from(one.sent + two.sent - one.unsent - two.unsent).expect("a count");
    wait_until("every request in the files", || access_lines(&mainstay) >= sent);
    assert_eq!((access_lines(&mainstay), console_lines(&mainstay)), (sent, sent));
}

#[test]
fn r_upgrade_an_idle_connection_stays_open_and_closes_with_its_next_answer() {
    let mainstay = started("30s");
    let mut idle = Connection::open(mainstay.edge()).expect("connect");
    let ask = |n: u32| format!("GET /number?n={n} HTTP/1.1\r\nHost: a\r\n\r\n");
    idle.send(ask(1).as_bytes()).expect("send");
    assert_eq!(idle.response(false).expect("an answer").header("connection"), None);
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    mainstay.signal(Signal::SIGUSR2);
    let text = wait_for("the new server to serve", || under_way(&mainstay).filter(|text| text.contains("taken over")));
    assert_eq!(servers(&mainstay).len(), 2, "{text}");
    let refused = mainstay.verb(&["upgrade"]);
    assert_eq!(refused.code, Some(1), "{}", refused.all());
    assert!(refused.err.contains("an upgrade is under way"), "{}", refused.all());
    for verb in ["reload", "restart"] {
        let refused = mainstay.verb(&[verb]);
        assert!(refused.code == Some(1) && refused.err.contains("an upgrade is under way"), "{}", refused.all());
    }
    assert!(!idle.ended_while_idle(), "a client would have sent into a closed connection");
    idle.send(ask(2).as_bytes()).expect("send");
    let answer = idle.response(false).expect("an answer");
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("2", Some("close")));
    wait_until("the old server to end with its last connection", || servers(&mainstay).len() == 1);
    wait_until("the end of the upgrade", || under_way(&mainstay).is_none());
    mainstay.verb(&["reload"]).ok();
}

#[test]
fn r_upgrade_a_websocket_is_kept_until_the_limit_and_told_to_come_back() {
    const LIMIT: Duration = Duration::from_secs(5);
    let setup = Setup::command(&["node", "server.js"]).node_app("plainws");
    let mainstay = setup.env("GRACEFUL_SHUTDOWN_TIMEOUT", "5000").own_binary().ready("/");
    let stream = std::net::TcpStream::connect(mainstay.edge()).expect("connect");
    stream.set_read_timeout(Some(mainstay_e2e::BOUND)).expect("timeout");
    let url = format!("ws://{}/socket", mainstay.edge());
    let (mut socket, _) = tungstenite::client(url, stream).expect("handshake");
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    let began = Instant::now();
    mainstay.signal(Signal::SIGUSR2);
    wait_until("the new server to serve", || under_way(&mainstay).is_some_and(|text| text.contains("taken over")));
    let mut echoes = 0;
    while began.elapsed() < LIMIT - Duration::from_millis(500) {
        socket.send(Message::text(format!("{echoes}"))).expect("open until the limit");
        assert_eq!(socket.read().expect("an echo"), Message::text(format!("{echoes}")));
        echoes += 1;
        mainstay_e2e::wait::pause(Duration::from_millis(20));
    }
    let end = loop {
        match socket.read().expect("a close frame") {
            Message::Close(frame) => break frame.expect("a code"),
            other => println!("{other:?}"),
        }
    };
    println!("{echoes} echoes, closed with {} after {:?}", end.code, began.elapsed());
    assert_eq!(end.code, CloseCode::Restart);
    assert!(began.elapsed() >= LIMIT, "cut before the limit, after {:?}", began.elapsed());
    drop(socket);
    wait_until("the end of the upgrade", || servers(&mainstay).len() == 1 && under_way(&mainstay).is_none());
}

#[test]
fn r_upgrade_an_answer_under_way_is_finished() {
    let mainstay = started("30s");
    let mut slow = Connection::open(mainstay.edge()).expect("connect");
    slow.send(b"GET /number?n=7&ms=3000 HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    wait_until("the request to be under way", || {
        crate::support::instances(&mainstay).iter().any(|i| i["in_flight"].as_u64() == Some(1))
    });
    upgraded(&mainstay, false);
    assert!(slow.is_readable(), "the old server ended before its last answer");
    assert_eq!(slow.response(false).expect("an answer").text(), "7");
}

#[test]
fn r_upgrade_an_instance_that_dies_meanwhile_is_replaced_for_both_servers() {
    let text = static_app("[edge.timeouts]\ndrain = \"30s\"\n");
    let mainstay = Setup::file(&text).own_binary().ready("/");
    let mut idle = Connection::open(mainstay.edge()).expect("connect");
    idle.send(b"GET /number?n=1 HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    idle.response(false).expect("an answer");
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    mainstay.signal(Signal::SIGUSR2);
    wait_until("the new server to serve", || under_way(&mainstay).is_some_and(|text| text.contains("taken over")));
    let before = pids(&mainstay);
    signal(before[0], Signal::SIGKILL);
    wait_until("another instance", || {
        let now = pids(&mainstay);
        now.len() == 1 && now != before
    });
    ready_instances(&mainstay, 1);
    idle.send(b"GET /number?n=2 HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    assert_eq!(idle.response(false).expect("an answer of the old server").text(), "2");
    wait_until("the end of the upgrade", || servers(&mainstay).len() == 1 && under_way(&mainstay).is_none());
    let all = mainstay.instances();
    assert_eq!(all.len(), 1, "started once: {all:?}");
}

#[test]
fn r_upgrade_no_line_of_an_app_is_lost_or_torn() {
    let counting = "i=0; while :; do i=$((i+1)); printf 'count '; sleep 0.01; echo \"$i;\"; done";
    let text = format!("[app.main]\nrun = [\"/bin/sh\", \"-c\", '''{counting}''']\nport = false\n");
    let mainstay = Setup::file(&text).own_binary().start();
    mainstay.says("count 10;");
    for round in 0..5 {
        upgraded(&mainstay, round % 2 == 1);
    }
    let printed = mainstay.said().matches("count ").count();
    mainstay.says(&format!("count {};", printed + 10));
    let mut seen: HashMap<String, usize> = HashMap::new();
    for entry in std::fs::read_dir(mainstay.path().join(".mainstay/logs")).expect("logs").flatten() {
        for line in std::fs::read_to_string(entry.path()).expect("a file").lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            if line["kind"] == "app" {
                *seen.entry(line["message"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
    }
    for number in 1..=printed + 10 {
        assert_eq!(seen.remove(&format!("count {number};")), Some(1), "line {number}");
    }
    assert!(seen.keys().all(|line| line.starts_with("count ") && line.ends_with(';')), "torn: {seen:?}");
}

#[test]
fn r_upgrade_then_a_crash_a_reload_a_restart_and_the_end_are_as_ever() {
    let mut mainstay = started("10s");
    upgraded(&mainstay, false);
    let before = pids(&mainstay);
    let server = mainstay.server();
    signal(server, Signal::SIGKILL);
    wait_until("another server", || servers(&mainstay).iter().any(|pid| *pid != server));
    ready_instances(&mainstay, 2);
    assert_eq!(pids(&mainstay), before);
    let text = static_app("instances = 3\n[edge.timeouts]\ndrain = \"10s\"\n");
    mainstay.write("mainstay.toml", &text);
    mainstay.verb(&["reload"]).ok();
    ready_instances(&mainstay, 3);
    mainstay.verb(&["restart"]).ok();
    upgraded(&mainstay, true);
    assert_eq!(ready_instances(&mainstay, 3).len(), 3, "the configuration in force is handed on");
    mainstay.verb(&["stop"]).ok();
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
    assert!(mainstay.processes().is_empty(), "{:?}", mainstay.processes());
    let again = mainstay.again();
    again.answering("/");
}

#[test]
fn r_upgrade_a_killed_supervisor_of_the_new_file_leaves_nothing_behind() {
    let mut mainstay = started("10s");
    upgraded(&mainstay, false);
    let all: Vec<i32> = mainstay.processes().iter().map(|p| p.pid).collect();
    assert_eq!(all.len(), 4);
    signal(mainstay.supervisor(), Signal::SIGKILL);
    mainstay.end();
    wait_until("everything to be gone", || !all.iter().any(|pid| alive(*pid)));
}

#[test]
fn r_upgrade_sigterm_meanwhile_finishes_and_ends() {
    let mut mainstay = started("20s");
    let mut slow = Connection::open(mainstay.edge()).expect("connect");
    slow.send(b"GET /number?n=7&ms=2000 HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    let mut idle = Connection::open(mainstay.edge()).expect("connect");
    wait_until("the request to be under way", || {
        crate::support::instances(&mainstay).iter().any(|i| i["in_flight"].as_u64() == Some(1))
    });
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    mainstay.signal(Signal::SIGUSR2);
    wait_until("the new server to serve", || under_way(&mainstay).is_some_and(|text| text.contains("taken over")));
    mainstay.signal(Signal::SIGTERM);
    assert_eq!(slow.response(false).expect("an answer").text(), "7");
    let (status, took) = mainstay.end();
    assert_eq!(status.code(), Some(0), "{}", mainstay.said());
    assert!(took < Duration::from_secs(15), "the idle connection was waited for: {took:?}");
    assert!(idle.ended_while_idle() && mainstay.processes().is_empty());
}

#[test]
fn r_upgrade_by_another_path_and_by_a_link() {
    let setup = Setup::file(&static_app("")).own_binary();
    std::fs::rename(setup.path().join("bin/mainstay"), setup.path().join("bin/one")).expect("rename");
    std::os::unix::fs::symlink("one", setup.path().join("bin/mainstay")).expect("a link");
    let mainstay = setup.ready("/");
    let bin = mainstay.path().join("bin");
    let runs = |name: &str| {
        let link = std::fs::read_link(format!("/proc/{}/exe", mainstay.supervisor())).expect("a link");
        link == std::fs::canonicalize(bin.join(name)).expect("a path")
    };
    std::fs::copy(bin.join("one"), bin.join("two")).expect("copy");
    std::fs::copy(bin.join("one"), bin.join("three")).expect("copy");
    std::os::unix::fs::symlink("two", bin.join("next")).expect("a link");
    std::fs::rename(bin.join("next"), bin.join("mainstay")).expect("rename");
    mainstay.verb(&["upgrade"]).ok();
    assert!(runs("two"), "the link is followed anew");
    mainstay.verb(&["upgrade", "--binary", "bin/three"]).ok();
    assert!(runs("three"));
    let mut name = String::new();
    let comm = format!("/proc/{}/comm", mainstay.supervisor());
    std::fs::File::open(comm).and_then(|mut file| file.read_to_string(&mut name)).expect("a name");
    assert_eq!(name.trim(), "three", "`ps` shows the program's own name");
}
