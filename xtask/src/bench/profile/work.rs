//! What is asked of a proxy while it is counted, and how it is started under valgrind or strace.

use super::callgrind::Counts;
use super::system;
use crate::bench::peer;
use crate::instance::{self, Ports, Running, Scratch};
use crate::keepalive;
use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 8;
/// Handshakes a second: one takes valgrind about thirty milliseconds.
const HANDSHAKES_PER_SECOND: &str = "20";
/// What a tool has to write its report.
const REPORT_PATIENCE: Duration = Duration::from_secs(30);
/// What wrk, by OpenSSL's defaults, names first and so gets; h2load would name another.
const CIPHER: &str = "--tls13-ciphers=TLS_AES_256_GCM_SHA384";
/// No load takes longer, in seconds: it would hang.
const LOAD_PATIENCE_SECONDS: &str = "120";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Small,
    Tls,
    Http2,
    Handshake,
    Large,
    LargeTls,
}

/// The proxy that is counted.
#[derive(Debug)]
pub enum Side<'a> {
    Mainstay(&'a Path),
    Nginx,
}

impl Work {
    const ALL: [Work; 6] = [Work::Small, Work::Tls, Work::Http2, Work::Handshake, Work::Large, Work::LargeTls];

    pub fn parse(word: &str) -> Result<Work> {
        match Work::ALL.into_iter().find(|work| work.name() == word) {
            Some(work) => Ok(work),
            None => bail!("`{word}`: expected {}", Work::ALL.map(Work::name).join(", ")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Work::Small => "small",
            Work::Tls => "tls",
            Work::Http2 => "http2",
            Work::Handshake => "handshake",
            Work::Large => "large",
            Work::LargeTls => "large-tls",
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Work::Small => "a request, 200 B, a kept connection",
            Work::Tls => "a request, 200 B, a kept connection with TLS",
            Work::Http2 => "a request, 200 B, HTTP/2",
            Work::Handshake => "a connection with TLS, one request on it, and its end",
            Work::Large => "a request, 1 MiB, a kept connection",
            Work::LargeTls => "a request, 1 MiB, a kept connection with TLS",
        }
    }

    /// The cell of `bench edge` that takes its time.
    pub fn cell(self) -> &'static str {
        match self {
            Work::Small => "200 B",
            Work::Tls => "200 B, TLS",
            Work::Http2 => "200 B, HTTP/2",
            Work::Handshake => "handshake",
            Work::Large => "1 MiB",
            Work::LargeTls => "1 MiB, TLS",
        }
    }

    /// Of the short and the long run.
    pub fn requests(self) -> [u32; 2] {
        match self {
            Work::Small | Work::Tls | Work::Http2 => [400, 2_400],
            Work::Handshake => [20, 120],
            Work::Large | Work::LargeTls => [40, 240],
        }
    }

    /// Asks so many times, and sees to it that each was answered.
    fn drive(self, ports: Ports, requests: u32) -> Result<()> {
        let url = |path| format!("https://localhost:{}{path}", ports.tls.port());
        let (some, all) = (format!("-c{CONNECTIONS}"), format!("-c{requests}"));
        match self {
            Work::Small => keepalive::ask(ports.plain, "/s", CONNECTIONS, requests),
            Work::Large => keepalive::ask(ports.plain, "/l", CONNECTIONS, requests),
            Work::Tls => h2load(&["--h1", &some, &url("/s")], requests),
            Work::LargeTls => h2load(&["--h1", &some, &url("/l")], requests),
            Work::Http2 => h2load(&[&some, &url("/s")], requests),
            Work::Handshake => h2load(&["--h1", &all, "-r", HANDSHAKES_PER_SECOND, &url("/s")], requests),
        }
    }

    fn is_plain(self) -> bool {
        matches!(self, Work::Small | Work::Large)
    }
}

fn h2load(words: &[&str], requests: u32) -> Result<()> {
    let mut command = Command::new("timeout");
    command.args([LOAD_PATIENCE_SECONDS, "h2load", "-t1", CIPHER, &format!("-n{requests}")]).args(words);
    let output = command.output().context("h2load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let codes = text.lines().find_map(|line| line.strip_prefix("status codes: ")).unwrap_or_default();
    ensure!(codes.starts_with(&format!("{requests} 2xx,")), "h2load: not every request was answered with 200\n{text}");
    Ok(())
}

impl Side<'_> {
    /// Starts it under a wrapper that leaves it its process number.
    fn start(&self, wrapper: &[&str], work: Work, dir: &Path, upstream: SocketAddr) -> Result<Running> {
        match self {
            Side::Nginx => peer::nginx::start_under(wrapper, dir, upstream),
            Side::Mainstay(binary) => {
                let ports = Ports::free()?;
                let file = match work.is_plain() {
                    true => instance::plain_configuration(dir, ports, upstream)?,
                    false => instance::configuration(dir, ports, upstream)?,
                };
                Running::start(&mut instance::mainstay(wrapper, binary, &file), "mainstay", dir, ports)
            }
        }
    }
}

/// Everything counted by callgrind: of Mainstay the server alone, of nginx master and workers.
pub fn counted(side: &Side<'_>, work: Work, requests: u32, upstream: SocketAddr) -> Result<Counts> {
    let scratch = Scratch::new("counted")?;
    let dir = &scratch.0;
    let log = format!("--log-file={}/valgrind.%p", dir.display());
    let out = format!("--callgrind-out-file={}/callgrind.%p", dir.display());
    let wrapper = ["valgrind", "--trace-children=yes", &log, "--tool=callgrind", &out];
    let running = side.start(&wrapper, work, dir, upstream)?;
    work.drive(running.ports, requests)?;
    // Asked for now: at its end a server may be stopped before valgrind has written everything.
    let pids = process::tree(running.pid())?;
    let mut counts = Counts::default();
    for pid in pids {
        let text = dump(pid, dir)?;
        let command = text.lines().find(|line| line.starts_with("cmd:")).unwrap_or_default();
        if matches!(side, Side::Nginx) || command.ends_with(" server") {
            counts.add(&text);
        }
    }
    running.stop()?;
    ensure!(!counts.instructions.is_empty(), "no process called `mainstay server` was counted");
    Ok(counts)
}

/// What a process has counted up to now.
fn dump(pid: u32, dir: &Path) -> Result<String> {
    let output = Command::new("callgrind_control").args(["--dump", &pid.to_string()]).output();
    let output = output.context("callgrind_control")?;
    let file = dir.join(format!("callgrind.{pid}.1"));
    whole(&file, |text| text.lines().any(|line| line.starts_with("totals:")).then(|| text.to_owned()))
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Calls of the whole tree, by name.
pub fn traced(side: &Side<'_>, work: Work, requests: u32, upstream: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let scratch = Scratch::new("traced")?;
    let dir = &scratch.0;
    let file = dir.join("strace");
    let out = file.display().to_string();
    // -D: strace is the child, so that what we stop is the proxy.
    let running = side.start(&["strace", "-D", "-f", "-c", "-S", "name", "-o", &out], work, dir, upstream)?;
    work.drive(running.ports, requests)?;
    running.stop()?;
    whole(&file, system::parse)
}

/// Reads a report once it is whole.
fn whole<T>(file: &Path, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + REPORT_PATIENCE;
    loop {
        if let Some(report) = read(&fs::read_to_string(file).unwrap_or_default()) {
            return Ok(report);
        }
        if Instant::now() > deadline {
            bail!("{} is not written whole after {} s", file.display(), REPORT_PATIENCE.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cells;

    #[test]
    fn every_work_has_a_name_and_a_cell_that_takes_its_time() {
        for work in Work::ALL {
            assert_eq!(Work::parse(work.name()).unwrap(), work);
            cells::named(work.cell()).unwrap();
            assert!(work.requests().iter().all(|count| count % CONNECTIONS == 0 || work == Work::Handshake));
        }
        assert!(Work::parse("huge").is_err());
    }
}
