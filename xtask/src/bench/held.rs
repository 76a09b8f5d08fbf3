//! Connections that are used once and then lie idle, and what each adds to a proxy's memory.

use crate::instance::Running;
use crate::keepalive::{self, Client};
use crate::process;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the connections are opened and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// By ourselves.
    Plain,
    /// By h2load, which speaks TLS.
    Tls,
    Http2,
}

/// h2load asks a second time after this; it is stopped long before.
const HOLD_MS: u64 = 120_000;
/// Handshakes a second: no more than one core can have.
const CONNECTIONS_PER_SECOND: &str = "200";
/// Until all have been opened, asked and answered.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory that has not changed for so many looks has settled.
const STEADY_LOOKS: u32 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Held {
    pub fn key(self) -> &'static str {
        match self {
            Held::Plain => "plain",
            Held::Tls => "tls",
            Held::Http2 => "http2",
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Held::Plain => "",
            Held::Tls => " with TLS",
            Held::Http2 => " of HTTP/2",
        }
    }
}

/// What each kept connection adds to the whole tree, once it has been used and lies idle.
pub fn each_kib(proxy: &Running, held: Held, count: u32, dir: &Path) -> Result<f64> {
    // What the first requests make the proxy keep for good is not the connections' own.
    keepalive::wait_until_served(proxy.ports.plain)?;
    let before = resident_kib(proxy)?;
    let after = match held {
        Held::Plain => {
            let mut clients = Vec::new();
            for _ in 0..count {
                let mut client = Client::connect(proxy.ports.plain)?;
                client.get("/s")?;
                clients.push(client);
            }
            let after = resident_kib(proxy)?;
            drop(clients);
            after
        }
        Held::Tls | Held::Http2 => {
            let mut clients = Clients(h2load(proxy, held, count, dir)?);
            settled_kib(proxy, count, &mut clients.0)?
        }
    };
    Ok(after.saturating_sub(before) as f64 / f64::from(count))
}

fn resident_kib(proxy: &Running) -> Result<u64> {
    Ok(process::resident_kib(proxy.pid())?.iter().map(|(_, kib)| kib).sum())
}

/// h2load, stopped when dropped.
struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each client asks once when it has connected, and a second time when we have long looked.
fn h2load(proxy: &Running, held: Held, count: u32, dir: &Path) -> Result<Child> {
    let script = dir.join("timing");
    let url = format!("https://localhost:{}/s", proxy.ports.tls.port());
    fs::write(&script, format!("0\t{url}\n{HOLD_MS}\t{url}\n"))?;
    let mut command = Command::new("h2load");
    command.args(["-t1", "-n2", &format!("-c{count}"), "-r", CONNECTIONS_PER_SECOND]);
    if held == Held::Tls {
        command.arg("--h1");
    }
    command.arg(format!("--timing-script-file={}", script.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("h2load")
}

/// The memory of the proxy once that many connections are there and nothing changes any more.
fn settled_kib(proxy: &Running, count: u32, clients: &mut Child) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut steady) = (0, 0);
    loop {
        if let Some(status) = clients.try_wait()? {
            bail!("h2load ended too early: {status}");
        }
        let there = established(proxy.ports.tls.port())?;
        let now = resident_kib(proxy)?;
        steady = if now == last && there >= count { steady + 1 } else { 0 };
        if steady >= STEADY_LOOKS {
            return Ok(now);
        }
        if Instant::now() > deadline {
            bail!("after {} s {there} of {count} connections are there", PATIENCE.as_secs());
        }
        last = now;
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Connections a port has taken, as the kernel lists them.
fn established(port: u16) -> Result<u32> {
    let text = fs::read_to_string("/proc/net/tcp").context("/proc/net/tcp")?;
    let local = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_here = fields.next().is_some_and(|address| address.ends_with(&local));
        is_here && fields.nth(1) == Some("01")
    };
    Ok(text.lines().filter(is_one).count() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_lists_what_a_port_has_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let _served = listener.accept().unwrap();
        assert_eq!(established(address.port()).unwrap(), 1);
    }
}
