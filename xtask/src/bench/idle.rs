//! `cargo xtask bench idle`: memory at rest, memory of an idle connection, and how soon a request is answered.

use super::{median, peer};
use crate::arguments::Arguments;
use crate::instance::{self, Ports, Running, Scratch};
use crate::keepalive::{self, Client};
use crate::{process, tools, workspace};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Instant;

const CONNECTIONS: u32 = 1_000;
/// The upstream's, the proxy's and our own end of each, with room for the rest.
const DESCRIPTORS: u32 = 8_192;
const STARTS: u32 = 11;
/// DESIGN's bounds.
const SERVER_MIB_MAX: f64 = 25.0;
const CONNECTION_KIB_MAX: f64 = 16.0;
const START_MS_MAX: f64 = 100.0;

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let json = arguments.flag("--json");
    arguments.finish()?;
    tools::require(&[&tools::NGINX, &tools::OPENSSL])?;
    process::allow_descriptors(DESCRIPTORS)?;

    let binary = workspace::dist_binary()?;
    let scratch = Scratch::new("idle")?;
    let (_upstream, upstream) = peer::upstream(&scratch.0)?;
    let starts = (0..STARTS).map(|_| start_millis(&binary, &scratch.0, upstream)).collect::<Result<Vec<_>>>()?;

    let ports = Ports::free()?;
    let file = instance::configuration(&scratch.0, ports, upstream)?;
    let mainstay = Running::start(&mut instance::mainstay(&[], &binary, &file), "mainstay", &scratch.0, ports)?;
    let (supervisor, server) = resident(mainstay.pid())?;
    let each = connection_kib(&mainstay)?;
    let nginx_each = connection_kib(&peer::proxy(&scratch.0, upstream)?)?;

    let rows = [
        ("server_mib", "server at rest, MiB resident", server as f64 / 1024.0, Some(SERVER_MIB_MAX)),
        ("supervisor_mib", "supervisor at rest, MiB resident", supervisor as f64 / 1024.0, None),
        ("connection_kib", "each of 1000 idle connections, KiB", each, Some(CONNECTION_KIB_MAX)),
        ("nginx_connection_kib", "the same of nginx, KiB", nginx_each, None),
        ("start_ms", "from start to the first answer, ms (median)", median(starts), Some(START_MS_MAX)),
    ];
    if json {
        let object = rows.iter().map(|(key, _, value, _)| ((*key).to_owned(), (*value).into()));
        println!("{}", serde_json::Value::Object(object.collect()));
        return Ok(());
    }
    println!("nginx     {}", peer::version()?);
    for (_, name, value, max) in rows {
        let bound = match max {
            Some(max) if value > max => format!("   at most {max}  over"),
            Some(max) => format!("   at most {max}"),
            None => String::new(),
        };
        println!("{name:<44} {value:>8.1}{bound}");
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

/// What each kept connection adds to the whole tree, once it has been used and lies idle.
fn connection_kib(proxy: &Running) -> Result<f64> {
    let all = || -> Result<u64> { Ok(process::resident_kib(proxy.pid())?.iter().map(|(_, kib)| kib).sum()) };
    // What the first requests make the proxy keep for good is not the connections' own.
    keepalive::wait_until_served(proxy.ports.plain)?;
    let before = all()?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(proxy.ports.plain)?;
        client.get("/s")?;
        clients.push(client);
    }
    let after = all()?;
    drop(clients);
    Ok(after.saturating_sub(before) as f64 / f64::from(CONNECTIONS))
}
