//! Resident memory at rest, with a worker that has done one job, and with a million jobs that wait: of fresh servers,
//! one after the other.

use super::client::Script;
use super::server::{self, Mainstay, Server};
use super::{Installed, Peer, Samples};
use crate::process;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::Path;

pub fn measure(installed: &Installed, dir: &Path, backlog: u64, samples: &mut Samples) -> Result<()> {
    let mainstay = Mainstay::start(&installed.binary, &dir.join("mainstay-memory"), None)?;
    let mut one = |peer, server: &Server, worker, filler| -> Result<()> {
        of(peer, (server, worker, filler), backlog, samples).with_context(|| format!("memory of {}", peer.name()))
    };
    let script = || installed.of_mainstay(&mainstay, "bench", dir);
    one(Peer::Mainstay, &mainstay.server, script()?, script()?)?;
    drop(mainstay);
    let redis = server::redis(&dir.join("nothing-memory"), false)?;
    let script = || installed.of_bullmq(&redis, dir);
    one(Peer::Nothing, &redis, script()?, script()?)?;
    drop(redis);
    if let Some(at) = &installed.bunqueue {
        let server = server::bunqueue(at, &dir.join("bunqueue-memory"))?;
        let script = || installed.of_bunqueue(at, &server, dir);
        one(Peer::Bunqueue, &server, script()?, script()?)?;
    }
    Ok(())
}

fn of(
    peer: Peer,
    (server, mut worker, mut filler): (&Server, Script, Script),
    backlog: u64,
    samples: &mut Samples,
) -> Result<()> {
    worker.ask(&json!({ "do": "wait" }))?;
    let mib = |pids: &[u32]| -> Result<f64> { Ok(process::resident_kib_of(pids)? as f64 / 1024.0) };
    let (rest, waiting) = (mib(&server.pids()?)?, mib(&[worker.pid()])?);
    worker.ask(&json!({ "do": "rest" }))?;
    let filled = filler.ask(&json!({ "do": "backlog", "count": backlog }))?;
    ensure!(filled["left"] == backlog, "{} of {backlog} jobs wait", filled["left"]);
    let full = mib(&server.pids()?)?;
    for (cell, value) in [
        ("rest_server", rest),
        ("rest_worker", waiting),
        ("rest_both", rest + waiting),
        ("backlog_server", full),
        ("backlog_both", full + waiting),
    ] {
        samples.add(cell, peer, value);
    }
    eprintln!(
        "memory   {:<15} {rest:.0} MiB at rest, its worker {waiting:.0} MiB; {backlog} jobs wait: {full:.0} MiB",
        peer.name()
    );
    Ok(())
}
