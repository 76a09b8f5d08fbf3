//! `cargo xtask bench idle`: memory at rest, memory of an idle connection beside nginx's, and how soon a request is
//! answered.

use super::held::{self, Held};
use super::{median, peer};
use crate::arguments::Arguments;
use crate::instance::{self, Ports, Running, Scratch};
use crate::{process, tools, workspace};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Instant;

/// Two sizes: what belongs to each connection is the same in both, what grows once is not.
const CONNECTIONS: [u32; 2] = [1_000, 10_000];
/// A client needs a port of its own for each, and the kernel has 28,000 of them.
const CONNECTIONS_MAX: u32 = 14_000;
/// With TLS: each begins with a handshake.
const TLS_CONNECTIONS: u32 = 1_000;
/// Besides one for each connection: the proxies' own and an upstream's.
const DESCRIPTORS_BESIDES: u32 = 2_000;
const STARTS: u32 = 11;
/// DESIGN's bounds.
const SERVER_MIB_MAX: f64 = 25.0;
const CONNECTION_KIB_MAX: f64 = 16.0;
const START_MS_MAX: f64 = 100.0;

/// One line of the report.
#[derive(Debug)]
struct Row {
    key: String,
    name: String,
    value: f64,
    /// The same of nginx.
    nginx: Option<f64>,
    max: Option<f64>,
}

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let json = arguments.flag("--json");
    let counts = match arguments.value("--connections")? {
        Some(said) => said.split(',').map(|word| Ok(word.parse()?)).collect::<Result<Vec<u32>>>()?,
        None => CONNECTIONS.to_vec(),
    };
    arguments.finish()?;
    ensure!(
        counts.iter().all(|count| (1..=CONNECTIONS_MAX).contains(count)),
        "`--connections` are from 1 to {CONNECTIONS_MAX}, several with commas"
    );
    tools::require(&[&tools::NGINX, &tools::OPENSSL, &tools::H2LOAD])?;
    let most = counts.iter().copied().max().unwrap_or_default().max(TLS_CONNECTIONS);
    process::allow_descriptors(most + DESCRIPTORS_BESIDES)?;

    let binary = workspace::dist_binary()?;
    let scratch = Scratch::new("idle")?;
    let dir = &scratch.0;
    let (_upstream, upstream) = peer::nginx::upstream(dir)?;
    let starts = (0..STARTS).map(|_| start_millis(&binary, dir, upstream)).collect::<Result<Vec<_>>>()?;
    let rest = Running::start_mainstay(&binary, dir, upstream)?;
    let (supervisor, server) = resident(rest.pid())?;
    rest.stop()?;

    let mut rows = vec![
        row("server_mib", "server at rest, MiB resident", server as f64 / 1024.0, Some(SERVER_MIB_MAX)),
        row("supervisor_mib", "supervisor at rest, MiB resident", supervisor as f64 / 1024.0, None),
        row("start_ms", "from start to the first answer, ms (median)", median(starts), Some(START_MS_MAX)),
    ];
    let plain = counts.into_iter().map(|count| (count, Held::Plain));
    for (count, held) in plain.chain([(TLS_CONNECTIONS, Held::Tls), (TLS_CONNECTIONS, Held::Http2)]) {
        // A proxy of its own for each: what one made it keep is not the next one's.
        let ours = held::each_kib(&Running::start_mainstay(&binary, dir, upstream)?, held, count, dir)?;
        let theirs = held::each_kib(&peer::nginx::start(dir, upstream)?, held, count, dir)?;
        rows.push(Row {
            key: format!("connection_{}_{count}_kib", held.key()),
            name: format!("each of {count} idle connections{}, KiB", held.words()),
            value: ours,
            nginx: Some(theirs),
            max: Some(CONNECTION_KIB_MAX),
        });
    }
    print(&rows, json)
}

fn row(key: &str, name: &str, value: f64, max: Option<f64>) -> Row {
    Row { key: key.to_owned(), name: name.to_owned(), value, nginx: None, max }
}

fn print(rows: &[Row], json: bool) -> Result<()> {
    if json {
        let values = rows.iter().map(|row| (row.key.clone(), row.value.into()));
        let beside = rows.iter().filter_map(|row| Some((format!("nginx_{}", row.key), row.nginx?.into())));
        println!("{}", serde_json::Value::Object(values.chain(beside).collect()));
        return Ok(());
    }
    println!("nginx     {}\n", peer::nginx::version()?);
    println!("{:<52} {:>8} {:>8}", "", "mainstay", "nginx");
    for Row { name, value, nginx, max, .. } in rows {
        let beside = nginx.map_or_else(String::new, |nginx| format!("{nginx:.1}"));
        let bound = match max {
            Some(max) if value > max => format!("   at most {max}  over"),
            Some(max) => format!("   at most {max}"),
            None => String::new(),
        };
        println!("{}", format!("{name:<52} {value:>8.1} {beside:>8}{bound}").trim_end());
    }
    Ok(())
}

/// From the start of the process to a whole answer of the app through it.
fn start_millis(binary: &Path, dir: &Path, upstream: std::net::SocketAddr) -> Result<f64> {
    let ports = Ports::free()?;
    let file = instance::configuration(dir, ports, upstream)?;
    let begun = Instant::now();
    let running = Running::start(&mut instance::mainstay(&[], binary, &file), "mainstay", dir, ports)?;
    let took = begun.elapsed().as_secs_f64() * 1_000.0;
    running.stop()?;
    Ok(took)
}

/// KiB of supervisor and server.
fn resident(pid: u32) -> Result<(u64, u64)> {
    let processes = process::resident_kib(pid)?;
    let supervisor = processes.first().context("no supervisor")?.1;
    let server = processes.iter().skip(1).find(|(command, _)| command.contains(" server"));
    Ok((supervisor, server.context("no process called `mainstay server`")?.1))
}
