//! `cargo xtask bench lossless`: what a client loses that never sends a request twice, while the proxy is reloaded a
//! hundred times and upgraded twenty times; first Mainstay, then nginx, by the same client, with the same changes.
//!
//! Fails if Mainstay did not answer every request. How a request is judged stands in `crates/e2e/src/strict.rs`.

use super::peer;
use super::replaced::{Mainstay, Nginx, Replaced};
use crate::arguments::Arguments;
use crate::instance::Scratch;
use crate::{keepalive, tools, workspace};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REQUESTS: u64 = 1_000_000;
/// Enough to keep two cores busy at a steady pace; half of them over TLS.
const CONNECTIONS: u32 = 128;
const RELOADS: usize = 100;
const UPGRADES: usize = 20;
/// One proxy's share of the run. Past it the run is given up.
const RUN_LIMIT: Duration = Duration::from_secs(20 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let json = arguments.flag("--json");
    let requests = arguments.value("--requests")?.map(str::parse).transpose()?.unwrap_or(REQUESTS);
    let connections = arguments.value("--connections")?.map(str::parse).transpose()?.unwrap_or(CONNECTIONS);
    arguments.finish()?;
    ensure!((1..=1024).contains(&connections), "`--connections` is from 1 to 1024");
    tools::require(&[&tools::NGINX, &tools::OPENSSL])?;

    let (binary, client) = (workspace::dist_binary()?, workspace::strict_client()?);
    let scratch = Scratch::new("lossless")?;
    let upstreams = [keepalive::numbered()?, keepalive::numbered()?];
    let mut load = Load { client: &client, requests, connections, peer: false };
    let ours = load.over(&mut Mainstay::start(&scratch.0, &binary, upstreams)?)?;
    load.peer = true;
    let theirs = load.over(&mut Nginx::start(&scratch.0, upstreams)?)?;
    if json {
        println!(
            "{}",
            serde_json::json!({ "mainstay": ours, "nginx": theirs, "nginx_version": peer::nginx::version()? })
        );
    } else {
        println!("mainstay  {}", binary.display());
        println!("nginx     {}", peer::nginx::version()?);
        println!(
            "{connections} connections, half of them over TLS; {RELOADS} reloads, {UPGRADES} upgrades; each once\n"
        );
        print(&ours, &theirs);
    }
    let unanswered = count(&ours, "sent").saturating_sub(count(&ours, "answered")) + count(&ours, "refused");
    ensure!(count(&ours, "sent") >= requests, "the strict client gave no account of its own: {ours}");
    if unanswered > 0 {
        bail!("{unanswered} requests of {} were not answered by the app: {}", count(&ours, "sent"), ours["examples"]);
    }
    Ok(())
}

struct Load<'a> {
    client: &'a Path,
    requests: u64,
    connections: u32,
    /// Not Mainstay: its 5xx carry no id of ours.
    peer: bool,
}

impl Load<'_> {
    /// What became of every request.
    fn over(&self, proxy: &mut dyn Replaced) -> Result<Value> {
        let ports = proxy.ports();
        let mut command = Command::new(self.client);
        command.args(["--plain", &ports.plain.to_string(), "--tls", &ports.tls.to_string()]);
        command.arg("--certificate").arg(proxy.chain()).args(["--connections", &self.connections.to_string()]);
        if self.peer {
            command.arg("--peer");
        }
        let mut sending = Sending::start(&mut command)?;
        // Every sixth event is an upgrade, spread evenly over the requests, the last well before the end.
        let events = RELOADS + UPGRADES;
        for event in 0..events {
            sending.until(self.requests * (event as u64 + 1) / (events as u64 + 1))?;
            if event % (events / UPGRADES) == 0 {
                proxy.upgrade().with_context(|| format!("upgrade at event {event}"))?;
            } else {
                proxy.reload(event).with_context(|| format!("reload at event {event}"))?;
            }
        }
        sending.until(self.requests)?;
        sending.finish()
    }
}

/// The strict client at work; killed if the run is given up.
struct Sending {
    child: Child,
    sent: Arc<AtomicU64>,
    reader: Option<std::thread::JoinHandle<Result<String>>>,
    begun: Instant,
}

impl Sending {
    fn start(command: &mut Command) -> Result<Sending> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the strict client")?;
        let sent = Arc::new(AtomicU64::new(0));
        let (out, shared) = (child.stdout.take().context("its output")?, sent.clone());
        let reader = Some(std::thread::spawn(move || read(out, &shared)));
        Ok(Sending { child, sent, reader, begun: Instant::now() })
    }

    fn until(&mut self, goal: u64) -> Result<()> {
        while self.sent.load(Ordering::Relaxed) < goal {
            if let Some(status) = self.child.try_wait()? {
                bail!("the strict client ended with {status}");
            }
            ensure!(self.begun.elapsed() < RUN_LIMIT, "{goal} requests were not sent in {} s", RUN_LIMIT.as_secs());
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// Lets what is under way end; the client's own account.
    fn finish(mut self) -> Result<Value> {
        drop(self.child.stdin.take());
        let last = self.reader.take().context("read twice")?.join().map_err(|_| anyhow::anyhow!("no account"))??;
        self.child.wait()?;
        serde_json::from_str(&last).with_context(|| format!("the strict client's account: {last}"))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `at N` again and again, then one line of JSON.
fn read(out: ChildStdout, sent: &AtomicU64) -> Result<String> {
    let mut last = String::new();
    for line in BufReader::new(out).lines() {
        let line = line?;
        match line.strip_prefix("at ").and_then(|number| number.parse().ok()) {
            Some(number) => sent.store(number, Ordering::Relaxed),
            None => last = line,
        }
    }
    Ok(last)
}

fn count(account: &Value, name: &str) -> u64 {
    account[name].as_u64().unwrap_or(0)
}

fn print(ours: &Value, theirs: &Value) {
    const COLUMNS: [&str; 6] = ["sent", "answered", "failed", "cut", "lost", "refused"];
    let head: Vec<String> = COLUMNS.iter().map(|name| format!("{name:>10}")).collect();
    println!("{:<10}{}{:>12}{:>9}", "", head.concat(), "lost of all", "req/s");
    for (name, account) in [("mainstay", ours), ("nginx", theirs)] {
        let counts: Vec<String> = COLUMNS.iter().map(|name| format!("{:>10}", count(account, name))).collect();
        let sent = count(account, "sent") as f64;
        let lost = count(account, "lost") as f64 / sent * 100.0;
        let rate = sent / account["seconds"].as_f64().unwrap_or(f64::NAN);
        println!("{name:<10}{}{lost:>10.4} %{rate:>9.0}", counts.concat());
    }
    for example in theirs["examples"].as_array().into_iter().flatten().take(3) {
        println!("nginx: {}", example.as_str().unwrap_or_default());
    }
    println!("\nfailed: a whole 5xx; cut: broken off behind its head; lost: no answer at all; refused: no connection");
}
