//! Socket.IO by its official client: polling finds its instance by the `sid` alone, without a cookie.

use crate::support::{pids, ready_instances};
use mainstay_e2e::{Mainstay, Setup, fixtures, get};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

fn express(instances: u32) -> Mainstay {
    let text = format!("[app.main]\nrun = \"node index.js\"\ninstances = {instances}\n");
    let mainstay = Setup::file(&text).node_app("express").ready("/");
    ready_instances(&mainstay, instances as usize);
    mainstay
}

#[test]
fn e4_socketio_works_by_polling_websocket_and_upgrade_on_one_instance() {
    let mainstay = express(1);
    let base = mainstay.url("");
    for transports in ["polling", "websocket", "polling,websocket"] {
        let said = fixtures::node_client("socketio.js", &[&base, transports, "5"]);
        assert_eq!(said.lines().count(), 5, "{transports}: {said}");
    }
}

#[test]
fn e5_socketio_polling_on_two_instances_without_a_cookie() {
    let mainstay = express(2);
    let base = mainstay.url("");
    // All from one address, each poll on a connection of its own: only the sid tells where a session lives.
    let said = fixtures::node_client("socketio.js", &[&base, "polling", "20"]);
    assert_eq!(said.lines().count(), 20, "{said}");
    let pids: HashSet<&str> =
        said.lines().filter_map(|line| line.split("\"pid\":").nth(1)?.split(',').next()).collect();
    assert_eq!(pids.len(), 2, "both instances are used: {said}");
    let said = fixtures::node_client("socketio.js", &[&base, "polling,websocket", "10"]);
    assert_eq!(said.lines().count(), 10, "{said}");
    let handshake = get(&mainstay.url("/socket.io/?EIO=4&transport=polling"));
    assert!(handshake.text().starts_with("0{\"sid\""), "{}", handshake.text());
    assert!(handshake.header("set-cookie").is_none(), "no cookie is needed: {handshake:?}");
}

#[test]
fn e5_a_session_nobody_knows_is_answered_by_the_app_and_not_by_us() {
    let mainstay = express(2);
    let answer = get(&mainstay.url("/socket.io/?EIO=4&transport=polling&sid=neverseen"));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("Session ID unknown"), "{}", answer.text());
}

/// A client that stays and echoes on demand.
struct Stayer {
    child: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Stayer {
    fn start(base: &str, transport: &str) -> Stayer {
        let mut child = Command::new("node")
            .arg(fixtures::folder().join("node/clients/socketio_stay.js"))
            .args([base, transport])
            .env("NODE_PATH", fixtures::node_modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run node");
        let input = child.stdin.take().expect("input");
        let lines = BufReader::new(child.stdout.take().expect("output")).lines();
        let mut stayer = Stayer { child, input, lines };
        let hello = stayer.line();
        assert!(hello.starts_with("hello"), "{hello}");
        stayer
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }

    fn echoes(&mut self, word: &str) {
        writeln!(self.input, "{word}").expect("write");
        let line = self.line();
        assert_eq!(line, format!("echoed {word}"));
    }
}

impl Drop for Stayer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn e5_polling_sessions_outlive_a_reload() {
    let mainstay = express(2);
    let mut clients: Vec<Stayer> = (0..4).map(|_| Stayer::start(&mainstay.url(""), "polling")).collect();
    clients.iter_mut().for_each(|client| client.echoes("before"));
    let before = pids(&mainstay);
    let text = "[app.main]\nrun = \"node index.js\"\ninstances = 2\n[[route]]\nmatch = \"/x\"\nbody = \"1KB\"\n";
    mainstay.write("mainstay.toml", text);
    mainstay.verb(&["reload"]).ok();
    clients.iter_mut().for_each(|client| client.echoes("after"));
    assert_eq!(pids(&mainstay), before, "a change of a route restarts nothing");
}
