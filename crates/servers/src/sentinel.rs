//! A master, a replica and three sentinels that fail over by themselves.

use crate::ports::Port;
use crate::process::Process;
use crate::redis::{Manner, Redis};
use crate::wait::wait_until;
use std::process::Command;
use tempfile::TempDir;

pub const MASTER: &str = "mymaster";
const SENTINELS: usize = 3;

#[derive(Debug)]
pub struct Sentinels {
    /// Two; which of them is the master changes.
    pub servers: Vec<Redis>,
    sentinels: Vec<(Port, Process)>,
    _folder: TempDir,
}

impl Sentinels {
    pub fn start(password: Option<&str>) -> Sentinels {
        let with =
            |lines: Vec<(String, String)>| Manner { password: password.map(str::to_owned), lines, ..Manner::default() };
        let first = Redis::start(with(Vec::new()));
        let of = ("replicaof".to_owned(), format!("127.0.0.1 {}", first.port()));
        let second = Redis::start(with(vec![of]));
        wait_until("the replica to follow", || second.cli(&["INFO", "replication"]).contains("master_link_status:up"));
        let folder = tempfile::tempdir().expect("a folder for sentinels");
        let sentinels = (0..SENTINELS).map(|number| sentinel(folder.path(), number, first.port(), password)).collect();
        let all = Sentinels { servers: vec![first, second], sentinels, _folder: folder };
        wait_until("the sentinels to know each other", || {
            all.sentinels.iter().all(|(port, _)| {
                let said = ask(port.number, &["SENTINEL", "MASTER", MASTER]);
                let lines: Vec<&str> = said.lines().collect();
                let after = |name: &str| lines.iter().position(|line| *line == name).and_then(|at| lines.get(at + 1));
                after("num-other-sentinels") == Some(&"2") && after("num-slaves") == Some(&"1")
            })
        });
        all
    }

    /// `REDIS_SENTINELS`.
    pub fn list(&self) -> String {
        let all: Vec<String> = self.sentinels.iter().map(|(port, _)| format!("127.0.0.1:{}", port.number)).collect();
        all.join(",")
    }

    /// The port of the master, as the sentinels say.
    pub fn master(&self) -> u16 {
        let said = ask(self.sentinels[0].0.number, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        said.lines().nth(1).and_then(|port| port.trim().parse().ok()).expect("a master")
    }

    /// Has them choose another master while the old one lives.
    pub fn fail_over(&self) {
        let said = ask(self.sentinels[0].0.number, &["SENTINEL", "FAILOVER", MASTER]);
        assert_eq!(said.trim(), "OK");
    }

    /// `kill -9` of the one that is the master.
    pub fn kill_master(&mut self) {
        let port = self.master();
        self.servers.iter_mut().find(|server| server.port() == port).expect("one of ours").kill();
    }
}

fn sentinel(folder: &std::path::Path, number: usize, master: u16, password: Option<&str>) -> (Port, Process) {
    let port = Port::free();
    let file = folder.join(format!("sentinel{number}.conf"));
    let mut text = format!(
        "port {}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 3000\n",
        port.number
    );
    if let Some(password) = password {
        text.push_str(&format!("sentinel auth-pass {MASTER} {password}\n"));
    }
    std::fs::write(&file, text).expect("write");
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel").current_dir(folder);
    (port, Process::start("sentinel", command, &folder.join(format!("log{number}"))))
}

fn ask(port: u16, words: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    let output = command.args(["-p", &port.to_string()]).args(words).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
