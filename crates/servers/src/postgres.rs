//! A private Postgres: `initdb` and `postgres` of this machine, as an unprivileged user, since root may not run it.

use crate::certificates::Authority;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::wait_until;
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

pub const USER: &str = "app";
pub const PASSWORD: &str = "correct-horse-9";
pub const DATABASE: &str = "app";

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Postgres {
    port: Port,
    folder: TempDir,
    process: Option<Process>,
    tls: Option<Arc<Authority>>,
}

impl Postgres {
    pub fn plain() -> Postgres {
        Postgres::start(None)
    }

    /// With TLS only TLS is let in, and over TCP the password is always asked for.
    pub fn start(tls: Option<Arc<Authority>>) -> Postgres {
        let folder = tempfile::tempdir().expect("a folder for Postgres");
        owned(folder.path());
        let postgres = Postgres { port: Port::free(), folder, process: None, tls };
        let secret = postgres.folder.path().join("secret");
        std::fs::write(&secret, PASSWORD).expect("write");
        owned(&secret);
        let mut initdb = postgres.command("initdb");
        initdb.args([
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]);
        initdb.arg("--pwfile").arg(&secret).arg("--pgdata").arg(postgres.data());
        let output = initdb.output().unwrap_or_else(|e| panic!("initdb: {e}; try: cargo xtask test"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut postgres = postgres.configured();
        postgres.run();
        postgres.psql_in("postgres", &format!("CREATE DATABASE {DATABASE}"));
        postgres
    }

    fn configured(self) -> Postgres {
        let Some(authority) = &self.tls else { return self };
        for (from, to) in [
            (authority.root(), "ca.pem"),
            (authority.server().cert, "server.pem"),
            (authority.server().key, "server.key"),
        ] {
            let to = self.folder.path().join(to);
            std::fs::copy(from, &to).expect("copy a certificate");
            owned(&to);
        }
        let rules = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.data().join("pg_hba.conf"), rules).expect("write");
        self
    }

    /// Starts it (again) on the same port and data.
    pub fn run(&mut self) {
        // After `kill -9` the shared memory stays for as long as the last child lives: tried until it is let in.
        self.process = None;
        wait_until("Postgres to answer", || {
            if self.process.as_mut().is_none_or(Process::has_ended) {
                let command = self.server();
                self.process = Some(Process::start("postgres", command, &self.folder.path().join("log")));
            }
            self.try_psql("postgres", "SELECT 1").is_ok()
        });
    }

    fn server(&self) -> Command {
        let mut command = self.command("postgres");
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        command.arg("-D").arg(self.data()).args(["-p", &self.port.number.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1,127.0.0.2", "-c", "fsync=on", "-c", "max_connections=40"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.path().display()));
        if self.tls.is_some() {
            command.args(["-c", "ssl=on"]);
            command.arg("-c").arg(format!("ssl_cert_file={}", path("server.pem")));
            command.arg("-c").arg(format!("ssl_key_file={}", path("server.key")));
            command.arg("-c").arg(format!("ssl_ca_file={}", path("ca.pem")));
        }
        command
    }

    /// `kill -9` of the postmaster; its children end by themselves, and a restart waits for them.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it in its tracks, backends and all: connections stay, nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// A backend answers whatever its postmaster does.
    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        process.signal(signal);
        let id = process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("its children");
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), signal);
        }
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// As an app would be given it.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{DATABASE}", self.port.number)
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What psql prints, a row a line.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in(DATABASE, sql)
    }

    /// The same in another database than the app's.
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|said| panic!("psql {sql}: {said}"))
    }

    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(program("psql"));
        psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "5").args(["-X", "-A", "-t", "-q"]);
        psql.arg("-h").arg(self.folder.path()).args(["-p", &self.port.number.to_string()]);
        let output = psql.args(["-U", USER, "-d", database, "-v", "ON_ERROR_STOP=1", "-c", sql]).output();
        let output = output.unwrap_or_else(|e| panic!("psql: {e}; try: cargo xtask test"));
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.current_dir(self.folder.path());
        if let Some(user) = unprivileged() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

/// Debian keeps the server's programs out of everybody's `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

/// Who runs it when we are root: the user that Debian's package makes.
pub(crate) fn unprivileged() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let named = |name: &str| User::from_name(name).ok().flatten();
    Some(named("postgres").or_else(|| named("nobody")).expect("the user postgres; try: cargo xtask test"))
}

pub(crate) fn owned(path: &Path) {
    if let Some(user) = unprivileged() {
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).expect("chown");
    }
}
