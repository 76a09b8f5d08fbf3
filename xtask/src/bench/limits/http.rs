//! What a limit costs a request: CPU time beside the same proxy without one, and nginx's `limit_req` beside it; with
//! the counts in a private Redis as well.

use super::super::{peer, wrk};
use crate::instance::{Ports, Running, Scratch, configuration, mainstay};
use crate::{keepalive, process, tools, workspace};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

const CONNECTIONS: u32 = 64;
const RUN_SECONDS: u32 = 2;
const ROUNDS: usize = 5;

/// One way to limit, as both write it.
struct Case {
    name: &'static str,
    mainstay: &'static str,
    /// Lines of `http`, and of the server. `None`: nginx has no such thing.
    nginx: Option<(&'static str, &'static str)>,
    is_refused: bool,
    in_redis: bool,
}

const CASES: [Case; 4] = [
    Case { name: "no limit", mainstay: "", nginx: Some(("", "")), is_refused: false, in_redis: false },
    Case {
        name: "admitted, a million a second",
        mainstay: "[limits]\nip = \"60000000/min\"\n",
        nginx: Some((
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1000000r/s;",
            "limit_req zone=z burst=100000 nodelay;",
        )),
        is_refused: false,
        in_redis: false,
    },
    Case {
        name: "refused, 100 a minute",
        mainstay: "[limits]\nip = \"100/min\"\n",
        nginx: Some((
            "limit_req_zone $binary_remote_addr zone=z:1m rate=100r/m;",
            "limit_req zone=z burst=99 nodelay; limit_req_status 429;",
        )),
        is_refused: true,
        in_redis: false,
    },
    Case {
        name: "admitted, counted in Redis",
        mainstay: "[limits]\nip = \"60000000/min\"\n",
        nginx: None,
        is_refused: false,
        in_redis: true,
    },
];

/// What was measured of one side in one case.
#[derive(Debug, Default)]
struct Side {
    cpu_micros: Vec<f64>,
    p99_ms: Vec<f64>,
    per_second: Vec<f64>,
}

pub fn run() -> Result<Vec<Value>> {
    tools::require(&[&tools::NGINX, &tools::WRK, &tools::OPENSSL, &tools::REDIS])?;
    let binary = workspace::dist_binary()?;
    CASES.iter().map(|case| measured(case, &binary)).collect()
}

/// Both in turn, so that what the machine does meanwhile hits both.
fn measured(case: &Case, binary: &Path) -> Result<Value> {
    let scratch = Scratch::new("limits")?;
    let (_upstream, upstream) = peer::nginx::upstream(&scratch.0)?;
    let redis = if case.in_redis { Some(redis(&scratch.0)?) } else { None };
    let lines = match &redis {
        Some(redis) => format!(
            "[store]\nshared = \"redis\"\n[store.redis]\nurl = \"redis://{}\"\n{}",
            redis.ports.plain, case.mainstay
        ),
        None => case.mainstay.to_owned(),
    };
    let ours = ours(binary, &scratch.0, upstream, &lines)?;
    let theirs = match case.nginx {
        Some(lines) => Some(peer::nginx::limited(&scratch.0, upstream, lines)?),
        None => None,
    };
    let (mut us, mut them) = (Side::default(), Side::default());
    for round in 0..=ROUNDS {
        // The first warms both up.
        let (us, them) = if round == 0 { (&mut Side::default(), &mut Side::default()) } else { (&mut us, &mut them) };
        us.add(&ours, case)?;
        if let Some(theirs) = &theirs {
            them.add(theirs, case)?;
        }
    }
    Ok(json!({ "case": case.name, "ours": us.medians(), "nginx": theirs.is_some().then(|| them.medians()) }))
}

impl Side {
    fn add(&mut self, proxy: &Running, case: &Case) -> Result<()> {
        let url = format!("http://{}/s", proxy.ports.plain);
        let load = wrk::Load { url: &url, connections: CONNECTIONS, seconds: RUN_SECONDS, close: false };
        let before = process::cpu_micros(proxy.pid())?;
        let run = if case.is_refused { wrk::run_whatever_is_answered(load)? } else { wrk::run(load)? };
        let used = process::cpu_micros(proxy.pid())?.saturating_sub(before);
        self.cpu_micros.push(used as f64 / run.requests.max(1) as f64);
        self.p99_ms.push(run.p99_ms);
        self.per_second.push(run.requests_per_second);
        Ok(())
    }

    fn medians(&self) -> Value {
        let of = |values: &Vec<f64>| super::super::median(values.clone());
        json!({ "cpu_us": of(&self.cpu_micros), "p99_ms": of(&self.p99_ms), "per_second": of(&self.per_second) })
    }
}

/// Mainstay as `bench edge` measures it, with a limit besides.
fn ours(binary: &Path, dir: &Path, upstream: SocketAddr, lines: &str) -> Result<Running> {
    let ports = Ports::free()?;
    let file = configuration(dir, ports, upstream)?;
    let text = fs::read_to_string(&file)?;
    fs::write(&file, format!("{text}\n{lines}"))?;
    Running::start(&mut mainstay(&[], binary, &file), "mainstay", dir, ports)
}

/// A Redis that keeps nothing.
fn redis(dir: &Path) -> Result<Running> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"]);
    let running = Running::spawn(command.arg("--dir").arg(dir), "redis", dir, Ports { plain: address, tls: address })?;
    keepalive::wait_until_open(address).context("redis-server does not listen")?;
    Ok(running)
}

pub fn print(cases: &[Value]) {
    println!("\n{:<32} {:>30} {:>30} {:>6}", "", "mainstay", "nginx", "");
    println!(
        "{:<32} {:>10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>6}",
        "", "CPU µs", "req/s", "p99 ms", "CPU µs", "req/s", "p99 ms", "ratio"
    );
    for case in cases {
        let number = |side: &str, key: &str| case[side][key].as_f64();
        let numbers = |side: &str| match (number(side, "cpu_us"), number(side, "per_second"), number(side, "p99_ms")) {
            (Some(cpu), Some(rate), Some(p99)) => format!("{cpu:>10.1} {rate:>9.0} {p99:>9.2}"),
            _ => format!("{:>10} {:>9} {:>9}", "-", "-", "-"),
        };
        let ratio = number("ours", "cpu_us")
            .zip(number("nginx", "cpu_us"))
            .map_or_else(|| "-".to_owned(), |(a, b)| format!("{:.2}", a / b));
        println!(
            "{:<32} {} {} {ratio:>6}",
            case["case"].as_str().unwrap_or_default(),
            numbers("ours"),
            numbers("nginx")
        );
    }
}
