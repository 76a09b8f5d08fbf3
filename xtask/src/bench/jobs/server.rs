//! The servers of `bench jobs`, each of this run alone and on a free port: Mainstay, Redis with each write on the disk
//! before its answer and without any, bunqueue with a file.

use super::packages::{self, Bunqueue};
use super::threads::Api;
use crate::instance::{Ports, Running, mainstay, verb};
use crate::{keepalive, process, tools};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Far beyond what it is asked; by default it refuses what a load generator does.
const BUNQUEUE_REQUESTS_MAX: &str = "1000000000";

/// A running server and what its processes are.
#[derive(Debug)]
pub struct Server {
    running: Running,
    /// Set for Mainstay: whose processes alone count, beside those of the app it runs.
    program: Option<PathBuf>,
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.running.ports.plain
    }

    /// Its processes, without the app that Mainstay runs.
    pub fn pids(&self) -> Result<Vec<u32>> {
        match &self.program {
            Some(program) => process::running(self.running.pid(), program),
            None => process::tree(self.running.pid()),
        }
    }
}

/// Mainstay with its app.
#[derive(Debug)]
pub struct Mainstay {
    pub server: Server,
    pub api: Api,
    binary: PathBuf,
    file: PathBuf,
}

impl Mainstay {
    /// In production, jobs in a file or in this Postgres, with three queues: `bench`, `os` that does not wait for the
    /// disk, and `push`.
    pub fn start(binary: &Path, dir: &Path, postgres: Option<&str>) -> Result<Mainstay> {
        fs::create_dir_all(dir)?;
        let ports = Ports::free()?;
        let given = dir.join("given.json");
        let file = dir.join("mainstay.toml");
        fs::write(dir.join("app.js"), packages::APP)?;
        fs::write(&file, settings(ports, &given, postgres)?)?;
        let running = Running::spawn(&mut mainstay(&[], binary, &file), "mainstay", dir, ports)?;
        let said = || fs::read_to_string(dir.join("mainstay.out")).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while !given.exists() {
            ensure!(Instant::now() < deadline, "the app did not start:\n{}", said());
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let given: Value = serde_json::from_slice(&fs::read(&given)?)?;
        let api = Api::new(&given)?;
        while api.left("bench").is_err() {
            ensure!(Instant::now() < deadline, "its jobs do not open:\n{}", said());
            std::thread::park_timeout(Duration::from_millis(2));
        }
        keepalive::wait_until_open(ports.plain)?;
        let server = Server { running, program: Some(binary.to_owned()) };
        Ok(Mainstay { server, api, binary: binary.to_owned(), file })
    }

    /// `mainstay jobs pause push`, or `resume`.
    pub fn jobs(&self, word: &str) -> Result<()> {
        let output = verb(&self.binary, &self.file, &["jobs", word, "push"]).output()?;
        ensure!(output.status.success(), "mainstay jobs {word}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Where the app says what it was handed.
    pub fn seen(&self) -> String {
        format!("http://{}/seen", self.server.address())
    }
}

fn settings(ports: Ports, given: &Path, postgres: Option<&str>) -> Result<String> {
    // Production as root asks who runs the app.
    let user = if fs::metadata("/proc/self")?.uid() == 0 { "user = \"root\"" } else { "" };
    let queue = |name: &str, lines: &str| {
        format!(
            "[jobs.{name}]\nattempts = 3\nbackoff = {{ kind = \"exponential\", delay = \"2s\" }}\n\
             keep = {{ completed = 100, failed = 500 }}\n{lines}\n"
        )
    };
    let queues = [
        queue("bench", ""),
        queue("os", "durability = \"os\""),
        queue("push", &format!("push = \"POST /jobs/push\"\nconcurrency = {}", super::PUSHED_AT_ONCE)),
    ];
    let store = postgres.map_or_else(String::new, |url| {
        format!("[store]\ndurable = \"postgres\"\n[store.postgres]\nurl = \"{url}\"\n")
    });
    Ok(format!(
        "[app.main]\nrun = \"node app.js\"\n{user}\nenv = {{ GIVEN = \"{}\" }}\n\n\
         [edge]\nlisten = [\"{}\"]\nredirect = false\n\n{}{store}",
        given.display(),
        ports.plain,
        queues.concat()
    ))
}

/// A Postgres of its own, as it is without settings but for where it listens.
#[derive(Debug)]
pub struct Postgres {
    pub server: Server,
    programs: PathBuf,
}

impl Postgres {
    pub fn start(dir: &Path) -> Result<Postgres> {
        fs::create_dir_all(dir)?;
        let programs = postgres_programs()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let data = dir.join("data");
        // Root may not run it: Debian's package makes a user for it.
        let user = if fs::metadata("/proc/self")?.uid() == 0 { Some(user_of("postgres")?) } else { None };
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.current_dir(dir);
            command
        };
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
        }
        let made = command("initdb").args(["--username", "app", "--auth", "trust", "--pgdata"]).arg(&data).output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr).trim());
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&data).args(["-p", &address.port().to_string(), "-c", "listen_addresses=127.0.0.1"]);
        postgres.arg("-c").arg(format!("unix_socket_directories={}", dir.display()));
        let running = Running::spawn(&mut postgres, "postgres", dir, Ports { plain: address, tls: address })?;
        keepalive::wait_until_open(address).context("postgres does not listen")?;
        Ok(Postgres { server: Server { running, program: None }, programs })
    }

    /// Of the database that is there from the start.
    pub fn url(&self) -> String {
        format!("postgres://app@{}/postgres?sslmode=disable", self.server.address())
    }

    pub fn version(&self) -> Result<String> {
        let output = Command::new(self.programs.join("postgres")).arg("--version").output()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(format!("{version}, synchronous_commit on, its settings as they come"))
    }
}

/// Debian keeps them out of everybody's `PATH`.
fn postgres_programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("no Postgres in /usr/lib/postgresql")?.flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.retain(|folder| folder.join("postgres").exists());
    found.sort();
    found.pop().context("no Postgres in /usr/lib/postgresql")
}

fn user_of(name: &str) -> Result<(u32, u32)> {
    let id = |flag: &str| -> Result<u32> {
        let output = Command::new("id").args([flag, name]).output()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().with_context(|| format!("there is no user {name}"))
    };
    Ok((id("-u")?, id("-g")?))
}

/// `is_durable`: each write is on the disk before it is answered; else none is ever written.
pub fn redis(dir: &Path, is_durable: bool) -> Result<Server> {
    fs::create_dir_all(dir)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
    match is_durable {
        true => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        false => command.args(["--appendonly", "no"]),
    };
    let running = Running::spawn(command.arg("--dir").arg(dir), "redis", dir, Ports { plain: address, tls: address })?;
    keepalive::wait_until_open(address).context("redis-server does not listen")?;
    Ok(Server { running, program: None })
}

pub fn bunqueue(installed: &Bunqueue, dir: &Path) -> Result<Server> {
    fs::create_dir_all(dir)?;
    // Of the two the second is its HTTP, which nobody asks.
    let ports = Ports::free()?;
    let mut command = Command::new(&installed.bun);
    command.arg(installed.folder.join("node_modules/bunqueue/dist/cli/index.js")).args([
        "start",
        "--host",
        "127.0.0.1",
    ]);
    command.args(["--tcp-port", &ports.plain.port().to_string(), "--http-port", &ports.tls.port().to_string()]);
    command.args(["--max-completed-jobs", "100", "--data-path"]).arg(dir.join("jobs.db"));
    command.env("RATE_LIMIT_MAX_REQUESTS", BUNQUEUE_REQUESTS_MAX).current_dir(dir);
    let running = Running::spawn(&mut command, "bunqueue", dir, ports)?;
    keepalive::wait_until_open(ports.plain).with_context(|| {
        format!("bunqueue does not listen: {}", fs::read_to_string(dir.join("bunqueue.out")).unwrap_or_default())
    })?;
    Ok(Server { running, program: None })
}

/// What Redis says of itself.
pub fn redis_version() -> Result<String> {
    tools::require(&[&tools::REDIS])?;
    let output = Command::new("redis-server").arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(version.context("redis-server names no version")?.to_owned())
}
