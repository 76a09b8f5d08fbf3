//! One `redis-server`, as a test wants it: with a password, users, TLS, persistence, or none of it.

use crate::certificates::Authority;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::wait_until;
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How it is to behave.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    pub password: Option<String>,
    /// A user of its own beside the default one: name and password.
    pub user: Option<(String, String)>,
    /// Only TLS is spoken, with this authority's certificate.
    pub tls: Option<std::sync::Arc<Authority>>,
    /// Clients must show a certificate too.
    pub client_certificates: bool,
    /// Lines of redis.conf as `--name value`.
    pub lines: Vec<(String, String)>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Redis {
    manner: Manner,
    port: Port,
    folder: TempDir,
    process: Option<Process>,
}

impl Redis {
    pub fn plain() -> Redis {
        Redis::start(Manner::default())
    }

    pub fn with_password(password: &str) -> Redis {
        Redis::start(Manner { password: Some(password.to_owned()), ..Manner::default() })
    }

    /// Started, and it answers.
    pub fn start(manner: Manner) -> Redis {
        let folder = tempfile::tempdir().expect("a folder for Redis");
        let mut redis = Redis { manner, port: Port::free(), folder, process: None };
        redis.run();
        redis
    }

    /// Starts it (again) on the same port, with the data its persistence kept.
    pub fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(self.arguments()).current_dir(self.folder.path());
        self.process = Some(Process::start("redis-server", command, &self.folder.path().join("log")));
        wait_until("Redis to answer", || self.cli(&["PING"]).contains("PONG"));
    }

    fn arguments(&self) -> Vec<String> {
        let port = self.port.number.to_string();
        let mut all: Vec<String> = Vec::new();
        // Each word is an argument of its own; `save ""` has one that is empty.
        let mut add = |name: &str, value: &str| {
            all.push(format!("--{name}"));
            all.extend(value.split(' ').map(str::to_owned));
        };
        add("bind", "127.0.0.1");
        add("dir", &self.folder.path().display().to_string());
        match &self.manner.tls {
            None => add("port", &port),
            Some(authority) => {
                add("port", "0");
                add("tls-port", &port);
                add("tls-cert-file", &authority.server().cert.display().to_string());
                add("tls-key-file", &authority.server().key.display().to_string());
                add("tls-ca-cert-file", &authority.root().display().to_string());
                add("tls-auth-clients", if self.manner.client_certificates { "yes" } else { "no" });
                add("tls-replication", "yes");
            }
        }
        let set = |name: &str| self.manner.lines.iter().any(|(known, _)| known == name);
        if !set("save") {
            add("save", "");
        }
        if let Some(password) = &self.manner.password {
            add("requirepass", password);
            add("masterauth", password);
        }
        for (name, value) in &self.manner.lines {
            add(name, value);
        }
        if let Some((user, password)) = &self.manner.user {
            add("user", &format!("{user} on >{password} ~* &* +@all"));
        }
        all
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    /// As an app would be given it, login included.
    pub fn url(&self) -> String {
        let scheme = if self.manner.tls.is_some() { "rediss" } else { "redis" };
        let login = match (&self.manner.user, &self.manner.password) {
            (Some((user, password)), _) => format!("{user}:{password}@"),
            (None, Some(password)) => format!(":{password}@"),
            (None, None) => String::new(),
        };
        format!("{scheme}://{login}{}", self.address())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `redis-cli` prints, as the default user.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.number.to_string(), "--no-auth-warning"]);
        if let Some(password) = &self.manner.password {
            command.args(["-a", password]);
        }
        if let Some(authority) = &self.manner.tls {
            let path = |path: PathBuf| path.display().to_string();
            command.args(["--tls", "--cacert", &path(authority.root())]);
            command.args(["--cert", &path(authority.client().cert), "--key", &path(authority.client().key)]);
        }
        let output = command.args(words).output().unwrap_or_else(|e| panic!("redis-cli: {e}; try: cargo xtask test"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `redis-benchmark` prints of this server.
    pub fn benchmark(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-benchmark");
        let output = command.args(["-p", &self.port.number.to_string()]).args(words).output().expect("redis-benchmark");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Until a replica has all that was written here before this was called. Not `WAIT`: it asks for what its own
    /// connection wrote, which of a new one is nothing.
    pub fn wait_until_followed(&self) {
        let written = self.counted("master_repl_offset");
        wait_until("a replica to have what was written", || {
            let info = self.cli(&["INFO", "replication"]);
            let replicas = info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online"));
            let offsets =
                replicas.filter_map(|line| line.split_once("offset=")?.1.split(',').next()?.parse::<u64>().ok());
            offsets.max().is_some_and(|offset| offset >= written)
        });
    }

    /// A number that `INFO` gives under this name.
    pub fn counted(&self, name: &str) -> u64 {
        let info = self.cli(&["INFO"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it in its tracks: connections stay, nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }
}
