//! What a limit costs a request: CPU time beside the same proxy without one, in turn, and beside what it is usually
//! done with: nginx's `limit_req`, and express-rate-limit where Redis counts.

use super::super::{median, peer, wrk};
use crate::instance::{Ports, Running, Scratch, configuration, mainstay};
use crate::{keepalive, process, tools, workspace};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

const CONNECTIONS: u32 = 64;
const RUN_SECONDS: u32 = 2;
const ROUNDS: usize = 5;
/// DESIGN's and this bench's own: a limit, a token and a role cost a request no more.
const GATES_GOAL_MICROS: f64 = 15.0;

/// What stands beside ours.
#[derive(Clone, Copy)]
enum Beside {
    Nobody,
    /// A line of nginx's `http`, and one of its server.
    Nginx(&'static str, &'static str),
    /// With express-rate-limit and rate-limit-redis, less the same app without them.
    Express,
}

struct Case {
    name: &'static str,
    mainstay: &'static str,
    beside: Beside,
    is_refused: bool,
    in_redis: bool,
    by_token: bool,
}

const USUAL: Case =
    Case { name: "", mainstay: "", beside: Beside::Nobody, is_refused: false, in_redis: false, by_token: false };

const CASES: [Case; 5] = [
    Case { name: "no limit", beside: Beside::Nginx("", ""), ..USUAL },
    Case {
        name: "admitted, a million a second",
        mainstay: "[limits]\nip = \"60000000/min\"\n",
        beside: Beside::Nginx(
            "limit_req_zone $binary_remote_addr zone=z:1m rate=1000000r/s;",
            "limit_req zone=z burst=100000 nodelay;",
        ),
        ..USUAL
    },
    Case {
        name: "refused, 100 a minute",
        mainstay: "[limits]\nip = \"100/min\"\n",
        beside: Beside::Nginx(
            "limit_req_zone $binary_remote_addr zone=z:1m rate=100r/m;",
            "limit_req zone=z burst=99 nodelay; limit_req_status 429;",
        ),
        is_refused: true,
        ..USUAL
    },
    Case {
        name: "admitted, with a token's role",
        mainstay: "[limits]\nip = \"60000000/min\"\nuser = \"60000000/min\"\n\
                   [identity]\nverify = { secret = \"${JWT_SECRET}\" }\n\
                   [[route]]\nmatch = \"/s\"\nroles = [\"member\"]\n",
        by_token: true,
        ..USUAL
    },
    Case {
        name: "admitted, counted in Redis",
        mainstay: "[limits]\nip = \"60000000/min\"\n",
        beside: Beside::Express,
        in_redis: true,
        ..USUAL
    },
];

/// What was measured of one server in one case.
#[derive(Debug, Default)]
struct Side {
    cpu_micros: Vec<f64>,
    p99_ms: Vec<f64>,
    per_second: Vec<f64>,
}

pub fn run() -> Result<Vec<Value>> {
    tools::require(&[&tools::NGINX, &tools::WRK, &tools::OPENSSL, &tools::REDIS, &tools::NODE, &tools::NPM])?;
    let binary = workspace::dist_binary()?;
    CASES.iter().map(|case| measured(case, &binary)).collect()
}

/// All in turn, so that what the machine does meanwhile hits all.
fn measured(case: &Case, binary: &Path) -> Result<Value> {
    let scratch = Scratch::new("limits")?;
    let dir = &scratch.0;
    let (_upstream, upstream) = peer::nginx::upstream(dir)?;
    let redis = if case.in_redis { Some(redis(dir)?) } else { None };
    let address = redis.as_ref().map(|redis| redis.ports.plain);
    let shared = |address| format!("[store]\nshared = \"redis\"\n[store.redis]\nurl = \"redis://{address}\"\n");
    let lines = format!("{}{}", address.map(shared).unwrap_or_default(), case.mainstay);
    let secret = random_text()?;
    let header = if case.by_token { Some(format!("Authorization: Bearer {}", token(&secret)?)) } else { None };
    let bare = Running::start_mainstay(binary, &folder(dir, "bare")?, upstream)?;
    let ours = ours(binary, &folder(dir, "limited")?, upstream, (&lines, &secret))?;
    let [theirs, theirs_bare] = beside(case, dir, upstream, address)?;
    let mut sides: [Side; 4] = Default::default();
    let proxies = [(Some(&bare), false), (Some(&ours), true), (theirs_bare.as_ref(), false), (theirs.as_ref(), true)];
    for round in 0..=ROUNDS {
        for (side, (proxy, is_limited)) in sides.iter_mut().zip(proxies) {
            let Some(proxy) = proxy else { continue };
            // The first warms all up.
            let side = if round == 0 { &mut Side::default() } else { side };
            side.add(proxy, case.is_refused && is_limited, header.as_deref())?;
        }
    }
    let [bare, ours, theirs_bare, theirs] = sides.map(|side| side.medians());
    Ok(json!({ "case": case.name, "bare": bare, "ours": ours, "peer_bare": theirs_bare, "peer": theirs,
               "peer_name": match case.beside { Beside::Express => "express-rate-limit", _ => "nginx" } }))
}

fn folder(dir: &Path, name: &str) -> Result<std::path::PathBuf> {
    let folder = dir.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The peer with its limit, and without where that is measured too.
fn beside(case: &Case, dir: &Path, upstream: SocketAddr, redis: Option<SocketAddr>) -> Result<[Option<Running>; 2]> {
    Ok(match case.beside {
        Beside::Nobody => [None, None],
        Beside::Nginx(zone, limit) => [Some(peer::nginx::limited(dir, upstream, (zone, limit))?), None],
        Beside::Express => [Some(peer::express::start(dir, redis)?), Some(peer::express::start(dir, None)?)],
    })
}

impl Side {
    fn add(&mut self, proxy: &Running, is_refused: bool, header: Option<&str>) -> Result<()> {
        let url = format!("http://{}/s", proxy.ports.plain);
        let load = wrk::Load { url: &url, connections: CONNECTIONS, seconds: RUN_SECONDS, close: false, header };
        let before = process::cpu_micros(proxy.pid())?;
        let run = if is_refused { wrk::run_whatever_is_answered(load)? } else { wrk::run(load)? };
        let used = process::cpu_micros(proxy.pid())?.saturating_sub(before);
        self.cpu_micros.push(used as f64 / run.requests.max(1) as f64);
        self.p99_ms.push(run.p99_ms);
        self.per_second.push(run.requests_per_second);
        Ok(())
    }

    /// Of nobody: nothing.
    fn medians(self) -> Option<Value> {
        let of = |values: &Vec<f64>| median(values.clone());
        let measured = json!({
            "cpu_us": of(&self.cpu_micros), "p99_ms": of(&self.p99_ms), "per_second": of(&self.per_second),
        });
        (!self.cpu_micros.is_empty()).then_some(measured)
    }
}

/// Mainstay as `bench edge` measures it, with a limit besides.
fn ours(binary: &Path, dir: &Path, upstream: SocketAddr, (lines, secret): (&str, &str)) -> Result<Running> {
    let ports = Ports::free()?;
    let file = configuration(dir, ports, upstream)?;
    let text = fs::read_to_string(&file)?;
    fs::write(&file, format!("{text}\n{lines}"))?;
    let running = Running::spawn(mainstay(&[], binary, &file).env("JWT_SECRET", secret), "mainstay", dir, ports)?;
    keepalive::wait_until_open(ports.plain)
        .with_context(|| fs::read_to_string(dir.join("mainstay.out")).unwrap_or_default())?;
    Ok(running)
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

fn random_text() -> Result<String> {
    shell("openssl rand -hex 32", &[])
}

/// Of a member, by HS256, for an hour.
fn token(secret: &str) -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let claims = json!({ "sub": "u1", "roles": ["member"], "iat": now, "exp": now + 3600 }).to_string();
    let script = r#"url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
head=$(printf '{"alg":"HS256","typ":"JWT"}' | url).$(printf '%s' "$CLAIMS" | url)
printf '%s.%s' "$head" "$(printf '%s' "$head" | openssl dgst -sha256 -hmac "$SECRET" -binary | url)""#;
    shell(script, &[("CLAIMS", &claims), ("SECRET", secret)])
}

fn shell(script: &str, variables: &[(&str, &str)]) -> Result<String> {
    let output = Command::new("sh").args(["-c", script]).envs(variables.iter().copied()).output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

pub fn print(cases: &[Value]) {
    println!("\nCPU µs a request; `beyond`: what it costs more than the same server without it");
    println!(
        "{:<32} {:>9} {:>9} {:>9} {:>9} | {:<20} {:>9} {:>9} {:>9} | {:>6}",
        "", "mainstay", "beyond", "req/s", "p99 ms", "peer", "CPU µs", "beyond", "p99 ms", "ratio"
    );
    for case in cases {
        let number = |side: &str, key: &str| case[side][key].as_f64();
        let text = |number: Option<f64>, decimals: usize| {
            number.map_or_else(|| "-".to_owned(), |number| format!("{number:.decimals$}"))
        };
        let beyond = |with: &str, without: &str| Some(number(with, "cpu_us")? - number(without, "cpu_us")?);
        let ratio = number("ours", "cpu_us").zip(number("peer", "cpu_us")).map(|(ours, theirs)| ours / theirs);
        println!(
            "{:<32} {:>9} {:>9} {:>9} {:>9} | {:<20} {:>9} {:>9} {:>9} | {:>6}",
            case["case"].as_str().unwrap_or_default(),
            text(number("ours", "cpu_us"), 1),
            text(beyond("ours", "bare"), 1),
            text(number("ours", "per_second"), 0),
            text(number("ours", "p99_ms"), 2),
            if case["peer"].is_null() { "-" } else { case["peer_name"].as_str().unwrap_or_default() },
            text(number("peer", "cpu_us"), 1),
            text(beyond("peer", "peer_bare"), 1),
            text(number("peer", "p99_ms"), 2),
            text(ratio, 2)
        );
    }
    println!("goal: a limit, a token and a role together at most {GATES_GOAL_MICROS} µs beyond the bare edge");
}
