//! `cargo xtask bench edge`: CPU time of the proxy's processes for each request, beside nginx's, in one run.

use super::{Shuffle, median, peer, wrk};
use crate::arguments::Arguments;
use crate::instance::{self, Ports, Running, Scratch};
use crate::{process, tools, workspace};
use anyhow::{Result, ensure};
use std::time::{SystemTime, UNIX_EPOCH};

const CONNECTIONS: u32 = 64;
/// wrk opens each before it asks: more would say more of wrk than of a proxy.
const CONNECTIONS_MAX: u32 = 1024;
/// A handshake is worth a hundred requests: fewer at once, so that none waits for its turn alone.
const HANDSHAKES: u32 = 16;
const RUN_SECONDS: u32 = 2;
const WARM_UP_SECONDS: u32 = 1;
const ROUNDS: u32 = 5;
/// Twelve runs of two seconds a round: an hour is beyond anybody's patience.
const ROUNDS_MAX: u32 = 100;

/// One thing measured: a path, plain or TLS, and the ratio DESIGN asks for.
#[derive(Clone, Copy, Debug)]
struct Cell {
    name: &'static str,
    path: &'static str,
    tls: bool,
    /// A connection of its own for each request.
    close: bool,
    ratio_max: f64,
}

const fn cell(name: &'static str, path: &'static str, tls: bool, ratio_max: f64) -> Cell {
    Cell { name, path, tls, close: false, ratio_max }
}

const CELLS: [Cell; 9] = [
    cell("200 B", "/s", false, 1.05),
    cell("16 KiB", "/m", false, 0.9),
    cell("1 MiB", "/l", false, 0.6),
    cell("200 B, TLS", "/s", true, 0.9),
    cell("16 KiB, TLS", "/m", true, 0.9),
    cell("1 MiB, TLS", "/l", true, 0.6),
    // Out of the response cache, beside nginx's own static file.
    cell("cached 200 B", "/c", false, 1.0),
    cell("cached 16 KiB", "/cm", false, 1.0),
    Cell { close: true, ..cell("handshake", "/s", true, 0.7) },
];

/// What was measured of one proxy in one cell, a value a round.
#[derive(Debug, Default)]
struct Series {
    cpu_micros: Vec<f64>,
    requests_per_second: Vec<f64>,
    p99_ms: Vec<f64>,
    errors: u64,
}

impl Series {
    fn add(&mut self, run: &wrk::Run, cpu_micros: u64) {
        self.cpu_micros.push(cpu_micros as f64 / run.requests.max(1) as f64);
        self.requests_per_second.push(run.requests_per_second);
        self.p99_ms.push(run.p99_ms);
        self.errors += run.errors;
    }
}

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let (quick, json) = (arguments.flag("--quick"), arguments.flag("--json"));
    let rounds = arguments.value("--rounds")?.map(str::parse).transpose()?;
    let connections = arguments.value("--connections")?.map(str::parse).transpose()?.unwrap_or(CONNECTIONS);
    arguments.finish()?;
    let rounds = rounds.unwrap_or(if quick { 1 } else { ROUNDS });
    ensure!((1..=ROUNDS_MAX).contains(&rounds), "`--rounds` is from 1 to {ROUNDS_MAX}");
    ensure!((1..=CONNECTIONS_MAX).contains(&connections), "`--connections` is from 1 to {CONNECTIONS_MAX}");
    let cells = if quick { vec![CELLS[0], CELLS[3]] } else { CELLS.to_vec() };
    tools::require(&[&tools::NGINX, &tools::WRK, &tools::OPENSSL])?;

    let binary = workspace::dist_binary()?;
    let scratch = Scratch::new("edge")?;
    let (_upstream, upstream) = peer::upstream(&scratch.0)?;
    let nginx = peer::proxy(&scratch.0, upstream)?;
    let ports = Ports::free()?;
    let file = instance::configuration(&scratch.0, ports, upstream)?;
    let mainstay = Running::start(&mut instance::mainstay(&[], &binary, &file), "mainstay", &scratch.0, ports)?;

    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64 | 1;
    eprintln!("bench    {rounds} rounds of {} cells, {RUN_SECONDS} s each, order by seed {seed}", cells.len());
    let measured = measure(&[mainstay, nginx], &cells, (rounds, connections), Shuffle(seed))?;
    let versions = (binary_version(&binary), peer::version()?);
    if json {
        println!("{}", as_json(&cells, &measured, &versions));
    } else {
        print(&cells, &measured, &versions);
    }
    Ok(())
}

/// `[cell][proxy]`, every cell of both proxies in each round, in an order of its own.
fn measure(
    proxies: &[Running; 2],
    cells: &[Cell],
    (rounds, connections): (u32, u32),
    mut shuffle: Shuffle,
) -> Result<Vec<[Series; 2]>> {
    let mut measured: Vec<[Series; 2]> = cells.iter().map(|_| Default::default()).collect();
    for round in 0..rounds {
        let mut order: Vec<(usize, usize)> = (0..cells.len()).flat_map(|cell| [(cell, 0), (cell, 1)]).collect();
        shuffle.order(&mut order);
        for (cell, proxy) in order {
            let Running { ports, .. } = &proxies[proxy];
            let Cell { path, tls, close, .. } = cells[cell];
            let url = if tls {
                format!("https://localhost:{}{path}", ports.tls.port())
            } else {
                format!("http://{}{path}", ports.plain)
            };
            let connections = if close { connections.min(HANDSHAKES) } else { connections };
            let load = |seconds| wrk::Load { url: &url, connections, seconds, close };
            if round == 0 {
                wrk::run(load(WARM_UP_SECONDS))?;
            }
            let before = process::cpu_micros(proxies[proxy].pid())?;
            let run = wrk::run(load(RUN_SECONDS))?;
            let used = process::cpu_micros(proxies[proxy].pid())? - before;
            measured[cell][proxy].add(&run, used);
        }
    }
    Ok(measured)
}

fn print(cells: &[Cell], measured: &[[Series; 2]], (mainstay, nginx): &(String, String)) {
    println!("mainstay  {mainstay}, profile dist\nnginx     {nginx}");
    println!("CPU µs a request of the proxy's processes, requests/s, p99 ms; medians\n");
    println!(
        "{:<14} {:>26} {:>26}   {:>6}  {:>8}",
        "", "mainstay  cpu    rps   p99", "nginx  cpu    rps   p99", "ratio", "at most"
    );
    for (cell, [ours, theirs]) in cells.iter().zip(measured) {
        let ratio = ratio(ours, theirs);
        let judged = if ratio <= cell.ratio_max { "" } else { "  over" };
        println!(
            "{:<14} {} {}   {ratio:>5.2}x  {:>7.2}x{judged}",
            cell.name,
            numbers(ours),
            numbers(theirs),
            cell.ratio_max
        );
        for (name, series) in [("mainstay", ours), ("nginx", theirs)] {
            if series.errors > 0 {
                println!("{:<14} {name}: {} timeouts or cut connections", "", series.errors);
            }
        }
    }
}

fn numbers(series: &Series) -> String {
    let [cpu, rate, p99] = medians(series);
    format!("{cpu:>13.1} {rate:>6.0} {p99:>5.1}")
}

fn medians(series: &Series) -> [f64; 3] {
    [&series.cpu_micros, &series.requests_per_second, &series.p99_ms].map(|values| median(values.clone()))
}

fn ratio(ours: &Series, theirs: &Series) -> f64 {
    median(ours.cpu_micros.clone()) / median(theirs.cpu_micros.clone())
}

fn as_json(cells: &[Cell], measured: &[[Series; 2]], (mainstay, nginx): &(String, String)) -> serde_json::Value {
    let series = |series: &Series| {
        let [cpu, rate, p99] = medians(series);
        serde_json::json!({ "cpu_us": cpu, "rps": rate, "p99_ms": p99, "errors": series.errors })
    };
    let cells = cells.iter().zip(measured).map(|(cell, [ours, theirs])| {
        serde_json::json!({
            "cell": cell.name, "mainstay": series(ours), "nginx": series(theirs),
            "ratio": ratio(ours, theirs), "ratio_max": cell.ratio_max,
        })
    });
    serde_json::json!({ "mainstay": mainstay, "nginx": nginx, "cells": cells.collect::<Vec<_>>() })
}

fn binary_version(binary: &std::path::Path) -> String {
    let output = std::process::Command::new(binary).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
