//! `cargo xtask bench edge`: CPU time of the proxy's processes for each request, beside nginx's, haproxy's and
//! caddy's, in one run.

use super::cells::{self, CONNECTIONS, Cell, Group};
use super::peer::{self, Peer};
use super::table::{Measured, Series};
use super::{Shuffle, h2load, wrk};
use crate::arguments::Arguments;
use crate::instance::{Running, Scratch};
use crate::{process, tools, workspace};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// wrk opens each before it asks: more would say more of wrk than of a proxy.
const CONNECTIONS_MAX: u32 = 1024;
pub const RUN_SECONDS: u32 = 2;
const WARM_UP_SECONDS: u32 = 1;
/// Fourteen cells of four proxies, two seconds each: eight minutes in all.
const ROUNDS: u32 = 3;
/// Hours, which is beyond anybody's patience.
const ROUNDS_MAX: u32 = 100;

/// What is done, and how often.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: u32,
    connections: u32,
}

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let (quick, json) = (arguments.flag("--quick"), arguments.flag("--json"));
    let rounds = arguments.value("--rounds")?.map(str::parse).transpose()?;
    let connections = arguments.value("--connections")?.map(str::parse).transpose()?.unwrap_or(CONNECTIONS);
    let cells = cells::chosen(arguments.value("--only")?, quick)?;
    let peers = match arguments.value("--peer")? {
        Some(named) => named.split(',').map(Peer::parse).collect::<Result<Vec<_>>>()?,
        None if quick => vec![Peer::Nginx],
        None => Peer::ALL.to_vec(),
    };
    arguments.finish()?;
    let plan = Plan { rounds: rounds.unwrap_or(if quick { 1 } else { ROUNDS }), connections };
    ensure!((1..=ROUNDS_MAX).contains(&plan.rounds), "`--rounds` is from 1 to {ROUNDS_MAX}");
    ensure!((1..=CONNECTIONS_MAX).contains(&connections), "`--connections` is from 1 to {CONNECTIONS_MAX}");
    let mut needed = vec![&tools::NGINX, &tools::WRK, &tools::OPENSSL];
    needed.extend(peers.iter().map(|peer| peer.tool()));
    if cells.iter().any(|cell| cell.group == Group::Http2) {
        needed.push(&tools::H2LOAD);
    }
    tools::require(&needed)?;

    let binary = workspace::dist_binary()?;
    let scratch = Scratch::new("edge")?;
    let (_upstream, upstream) = peer::nginx::upstream(&scratch.0)?;
    let mut proxies = vec![Running::start_mainstay(&binary, &scratch.0, upstream)?];
    for peer in &peers {
        proxies.push(peer.start(&scratch.0, upstream)?);
    }

    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64 | 1;
    let seconds = cells.len() as u32 * proxies.len() as u32 * (plan.rounds * RUN_SECONDS + WARM_UP_SECONDS);
    eprintln!("bench    {} cells, {} rounds, about {seconds} s; order by seed {seed}", cells.len(), plan.rounds);
    let series = measure(&proxies, &cells, plan, Shuffle(seed), &scratch.0)?;
    let peers = peers.into_iter().map(|peer| Ok((peer, peer.version()?))).collect::<Result<Vec<_>>>()?;
    let measured = Measured { mainstay: binary_version(&binary), peers, cells, series };
    if json {
        println!("{}", measured.as_json());
    } else {
        measured.print();
    }
    Ok(())
}

/// `[cell][proxy]`, every cell of every proxy in each round, in an order of its own.
fn measure(
    proxies: &[Running],
    cells: &[Cell],
    plan: Plan,
    mut shuffle: Shuffle,
    dir: &Path,
) -> Result<Vec<Vec<Series>>> {
    let one = || proxies.iter().map(|_| Series::default()).collect();
    let mut measured: Vec<Vec<Series>> = cells.iter().map(|_| one()).collect();
    for round in 0..plan.rounds {
        let all = |cell| (0..proxies.len()).map(move |proxy| (cell, proxy));
        let mut order: Vec<(usize, usize)> = (0..cells.len()).flat_map(all).collect();
        shuffle.order(&mut order);
        for (at, proxy) in order {
            let (cell, running) = (&cells[at], &proxies[proxy]);
            if round == 0 {
                load(running, cell, (plan.connections, WARM_UP_SECONDS), dir)?;
            }
            let before = process::cpu_micros(running.pid())?;
            let run = load(running, cell, (plan.connections, RUN_SECONDS), dir)?;
            let used = process::cpu_micros(running.pid())?.saturating_sub(before);
            measured[at][proxy].add(&run, used);
        }
    }
    Ok(measured)
}

pub fn load(proxy: &Running, cell: &Cell, (connections, seconds): (u32, u32), dir: &Path) -> Result<wrk::Run> {
    let path = cell.path;
    let url = if cell.tls {
        format!("https://localhost:{}{path}", proxy.ports.tls.port())
    } else {
        format!("http://{}{path}", proxy.ports.plain)
    };
    let load = wrk::Load {
        url: &url,
        connections: cell.connections(connections),
        seconds,
        close: cell.closes(),
        header: None,
    };
    match cell.group {
        Group::Http2 => h2load::run(load, cells::HTTP2_STREAMS, &dir.join("h2load.log")),
        _ => wrk::run(load),
    }
}

fn binary_version(binary: &Path) -> String {
    let output = std::process::Command::new(binary).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
