//! `cargo xtask bench jobs`: adds, full lives, latency and memory of Mainstay's jobs beside BullMQ, on a Redis that
//! has each write on the disk before it answers and on one that keeps nothing, and beside bunqueue.
//!
//! Every run is checked: each job that was added is started once and ended once, or the command fails.

mod client;
mod memory;
mod packages;
mod postgres;
mod report;
mod server;
mod threads;

use super::{Shuffle, median};
use crate::arguments::Arguments;
use crate::instance::Scratch;
use crate::{process, tools, workspace};
use anyhow::{Context, Result, bail, ensure};
use client::{Client, Script};
use packages::Bunqueue;
use serde_json::{Value, json};
use server::{Mainstay, Server};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use threads::Threads;

const ROUNDS: u32 = 3;
/// Jobs that push hands out at once.
const PUSHED_AT_ONCE: u32 = 50;
/// Of one run: fewer would be over within a few of the kernel's hundredths, more would not be more exact.
const COUNTS: std::ops::RangeInclusive<u64> = 100..=50_000;
/// Calls of one array.
const BULK: u64 = 1000;

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Single,
    Fifty,
    /// As fifty, but what a process adds in one turn of its event loop goes as one array.
    Gathered,
    Bulk,
    Push,
    Latency,
    Memory,
    Postgres,
}

impl Part {
    const ALL: [(&'static str, Part); 8] = [
        ("single", Part::Single),
        ("fifty", Part::Fifty),
        ("gathered", Part::Gathered),
        ("bulk", Part::Bulk),
        ("push", Part::Push),
        ("latency", Part::Latency),
        ("memory", Part::Memory),
        ("postgres", Part::Postgres),
    ];

    fn chosen(only: Option<&str>) -> Result<Vec<Part>> {
        let Some(only) = only else { return Ok(Part::ALL.map(|(_, part)| part).to_vec()) };
        let part = |word: &str| match Part::ALL.into_iter().find(|(name, _)| *name == word) {
            Some((_, part)) => Ok(part),
            None => {
                let names = Part::ALL.map(|(name, _)| name).join(", ");
                bail!("`--only {word}`: expected one of {names}, or several with commas")
            }
        };
        only.split(',').map(part).collect()
    }

    /// How jobs are added and how many run at once, with the names of both cells and the jobs of the first look.
    fn load(self) -> Option<Load> {
        let load = |flight, adds, concurrency, cells, first| {
            Some(Load { flight, adds, concurrency, workers: 1, cells, first })
        };
        match self {
            Part::Single => load(1, Adds::Single, 1, ["add1", "process1", "life1"], 150),
            Part::Fifty => load(50, Adds::Single, 50, ["add50", "process50", "life50"], 1_000),
            Part::Gathered => load(50, Adds::Gathered, 50, ["gathered50", "process50", "life50_gathered"], 1_000),
            Part::Bulk => load(1, Adds::Arrays, 10, ["bulk", "process10", "life10"], 2_000),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adds {
    /// Each a call of its own.
    Single,
    /// What one turn of the event loop adds is one call.
    Gathered,
    /// A thousand a call.
    Arrays,
}

#[derive(Clone, Copy, Debug)]
struct Load {
    flight: u64,
    adds: Adds,
    /// Jobs that a worker takes and ends in one call.
    concurrency: u64,
    workers: u64,
    /// Of adding, of processing, and of both.
    cells: [&'static str; 3],
    first: u64,
}

/// A server with its durability, and who asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Mainstay,
    /// `durability = "os"`.
    Os,
    /// With our own client in place of Node's.
    Threads,
    /// The same with jobs in Postgres.
    Postgres,
    /// The same, asked of another node, which stands by.
    Standby,
    /// BullMQ where Redis waits for the disk.
    Always,
    /// BullMQ where Redis keeps nothing.
    Nothing,
    Bunqueue,
}

impl Peer {
    const ALL: [Peer; 8] = [
        Peer::Mainstay,
        Peer::Os,
        Peer::Threads,
        Peer::Postgres,
        Peer::Standby,
        Peer::Always,
        Peer::Nothing,
        Peer::Bunqueue,
    ];

    /// Our threads have no event loop to gather in.
    fn does(self, load: Load) -> bool {
        self != Peer::Threads || load.adds != Adds::Gathered
    }

    fn name(self) -> &'static str {
        match self {
            Peer::Mainstay => "mainstay",
            Peer::Os => "mainstay os",
            Peer::Threads => "mainstay Rust",
            Peer::Postgres => "Rust, Postgres",
            Peer::Standby => "Rust, standby",
            Peer::Always => "BullMQ always",
            Peer::Nothing => "BullMQ nothing",
            Peer::Bunqueue => "bunqueue",
        }
    }
}

/// How long it all may take.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: u32,
    /// Of adding and processing together.
    run_seconds: f64,
    idle_samples: u64,
    steady_samples: u64,
    backlog: u64,
}

const USUAL: Plan =
    Plan { rounds: ROUNDS, run_seconds: 1.6, idle_samples: 250, steady_samples: 600, backlog: 1_000_000 };
const QUICK: Plan = Plan { rounds: 1, run_seconds: 0.3, idle_samples: 30, steady_samples: 100, backlog: 20_000 };

/// Every value of every cell.
#[derive(Debug, Default)]
struct Samples(BTreeMap<(String, Peer), Vec<f64>>);

impl Samples {
    fn add(&mut self, cell: impl Into<String>, peer: Peer, value: f64) {
        self.0.entry((cell.into(), peer)).or_default().push(value);
    }

    fn median(&self, cell: &str, peer: Peer) -> Option<f64> {
        self.0.get(&(cell.to_owned(), peer)).map(|values| median(values.clone()))
    }
}

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let (quick, json) = (arguments.flag("--quick"), arguments.flag("--json"));
    let parts = Part::chosen(arguments.value("--only")?)?;
    arguments.finish()?;
    let is_beside = parts.iter().any(|part| *part != Part::Postgres);
    // The app is one of Node.
    tools::require(&[&tools::NODE])?;
    if is_beside {
        tools::require(&[&tools::REDIS, &tools::NPM])?;
    }
    if parts.contains(&Part::Postgres) {
        tools::require(&[&tools::POSTGRES])?;
    }
    let plan = if quick { QUICK } else { USUAL };
    let binary = workspace::dist_binary()?;
    let scratch = Scratch::new("jobs")?;
    let binary = std::fs::canonicalize(&binary).with_context(|| binary.display().to_string())?;
    let disk = disk(&scratch.0)?;
    eprintln!("disk     {disk}");
    let began = Instant::now();
    let mut samples = Samples::default();
    let mut heads = vec![("mainstay", binary.display().to_string()), ("disk", disk)];
    if is_beside {
        let installed = Installed::here(&binary)?;
        if parts.iter().any(|part| !matches!(part, Part::Memory | Part::Postgres)) {
            measure(&installed, &scratch.0, (&parts, plan), &mut samples)?;
        }
        if parts.contains(&Part::Memory) {
            memory::measure(&installed, &scratch.0, plan.backlog, &mut samples)?;
        }
        heads.push(("BullMQ", format!("{}, Redis {}", packages::bullmq_version()?, server::redis_version()?)));
        let bunqueue = installed.bunqueue.as_ref().map_or("left out", |bunqueue| &bunqueue.version);
        heads.push(("bunqueue", bunqueue.to_owned()));
    }
    if parts.contains(&Part::Postgres) {
        heads.push(("postgres", postgres::measure(&binary, &scratch.0, (plan, seed()?), &mut samples)?));
    }
    eprintln!("took     {:.0} s", began.elapsed().as_secs_f64());
    let report = report::Report { heads, samples: &samples, plan };
    if json {
        println!("{}", report.as_json())
    } else {
        report.print()
    }
    Ok(())
}

/// What the servers and clients are started from.
#[derive(Debug)]
struct Installed {
    binary: PathBuf,
    /// Of the scripts, with BullMQ.
    scripts: PathBuf,
    bunqueue: Option<Bunqueue>,
}

impl Installed {
    fn here(binary: &Path) -> Result<Installed> {
        let bunqueue = packages::bunqueue();
        if let Err(error) = &bunqueue {
            eprintln!("bunqueue is left out: {error:#}");
        }
        Ok(Installed { binary: binary.to_owned(), scripts: packages::bullmq()?, bunqueue: bunqueue.ok() })
    }

    fn of_mainstay(&self, mainstay: &Mainstay, queue: &str, dir: &Path) -> Result<Script> {
        let mut command = Command::new("node");
        command.args(["run.js", "mainstay", queue, &mainstay.seen()]).current_dir(&self.scripts);
        command.envs(mainstay.api.variables());
        Script::start(&mut command, &format!("mainstay-{queue}"), dir)
    }

    fn of_bullmq(&self, redis: &Server, dir: &Path) -> Result<Script> {
        let mut command = Command::new("node");
        command.args(["run.js", "bullmq", &redis.address().port().to_string()]).current_dir(&self.scripts);
        Script::start(&mut command, &format!("bullmq-{}", redis.address().port()), dir)
    }

    fn of_bunqueue(&self, installed: &Bunqueue, server: &Server, dir: &Path) -> Result<Script> {
        let mut command = Command::new(&installed.bun);
        command.args(["run.js", "bunqueue", &server.address().port().to_string()]).current_dir(&installed.folder);
        Script::start(&mut command, "bunqueue", dir)
    }
}

/// A client of a server, and the server's processes.
#[derive(Debug)]
struct Side {
    peer: Peer,
    client: Client,
    pids: Vec<u32>,
}

/// What one call of the client came to.
#[derive(Debug)]
struct Phase {
    told: Value,
    server_micros: u64,
}

impl Phase {
    fn number(&self, name: &str) -> f64 {
        self.told[name].as_f64().unwrap_or_default()
    }
}

impl Side {
    fn new(peer: Peer, script: Script, server: &Server) -> Result<Side> {
        Ok(Side { peer, client: Client::Script(Box::new(script)), pids: server.pids()? })
    }

    fn phase(&mut self, asked: &Value) -> Result<Phase> {
        let before = process::cpu_micros_of(&self.pids)?;
        let told = self.client.ask(asked).with_context(|| format!("{}: {asked}", self.peer.name()))?;
        Ok(Phase { told, server_micros: process::cpu_micros_of(&self.pids)?.saturating_sub(before) })
    }

    /// Adds so many and has them processed; what each took.
    fn live(&mut self, load: Load, count: u64) -> Result<[Phase; 2]> {
        let (bulk, gathered) = (load.adds == Adds::Arrays, load.adds == Adds::Gathered);
        let add = json!({ "do": "add", "count": count, "flight": load.flight, "bulk": bulk, "gathered": gathered });
        let added = self.phase(&add)?;
        Ok([added, self.phase(&json!({ "do": "process", "concurrency": load.concurrency, "workers": load.workers }))?])
    }
}

fn measure(installed: &Installed, dir: &Path, (parts, plan): (&[Part], Plan), samples: &mut Samples) -> Result<()> {
    let mainstay = Mainstay::start(&installed.binary, &dir.join("mainstay"), None)?;
    let always = server::redis(&dir.join("always"), true)?;
    let nothing = server::redis(&dir.join("nothing"), false)?;
    let mut sides = vec![
        Side::new(Peer::Mainstay, installed.of_mainstay(&mainstay, "bench", dir)?, &mainstay.server)?,
        Side::new(Peer::Os, installed.of_mainstay(&mainstay, "os", dir)?, &mainstay.server)?,
        Side {
            peer: Peer::Threads,
            client: Client::Threads(Threads::new(mainstay.api.clone())),
            pids: mainstay.server.pids()?,
        },
        Side::new(Peer::Always, installed.of_bullmq(&always, dir)?, &always)?,
        Side::new(Peer::Nothing, installed.of_bullmq(&nothing, dir)?, &nothing)?,
    ];
    let bunqueue = installed.bunqueue.as_ref().map(|at| server::bunqueue(at, &dir.join("bunqueue"))).transpose()?;
    if let Some((at, server)) = installed.bunqueue.as_ref().zip(bunqueue.as_ref()) {
        sides.push(Side::new(Peer::Bunqueue, installed.of_bunqueue(at, server, dir)?, server)?);
    }
    let mut pushed = Side::new(Peer::Mainstay, installed.of_mainstay(&mainstay, "push", dir)?, &mainstay.server)?;
    let counts = counts(&mut sides, parts, plan)?;
    let seed = seed()?;
    eprintln!("bench    {} rounds; order by seed {seed}", plan.rounds);
    let mut shuffle = Shuffle(seed);
    for round in 1..=plan.rounds {
        for part in parts {
            let mut order: Vec<usize> = (0..sides.len()).collect();
            shuffle.order(&mut order);
            for at in order {
                let side = &mut sides[at];
                let said = match part.load() {
                    Some(load) if !side.peer.does(load) => continue,
                    Some(load) => lives(side, load, counts[&(*part, side.peer)], samples)?,
                    None if *part == Part::Latency => latency(side, plan, samples)?,
                    None => continue,
                };
                eprintln!("round {round}  {:<8} {:<15} {said}", format!("{part:?}").to_lowercase(), side.peer.name());
            }
            if *part == Part::Push {
                let said = push(&mainstay, &mut pushed, plan, samples)?;
                eprintln!("round {round}  push     {:<15} {said}", "mainstay");
            }
        }
    }
    Ok(())
}

fn seed() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64 | 1)
}

/// So many jobs of each that a run takes as long as planned, by two looks, which warm all up.
fn counts(sides: &mut [Side], parts: &[Part], plan: Plan) -> Result<BTreeMap<(Part, Peer), u64>> {
    let mut counts = BTreeMap::new();
    for (part, load) in parts.iter().filter_map(|part| Some((*part, part.load()?))) {
        for side in sides.iter_mut().filter(|side| side.peer.does(load)) {
            // The first finds code that is not compiled yet.
            let warming = fitting(side, load, load.first, plan.run_seconds / 3.0)?;
            let count = fitting(side, load, warming, plan.run_seconds)?;
            eprintln!("look     {:<8} {:<15} {count} jobs a run", format!("{part:?}").to_lowercase(), side.peer.name());
            counts.insert((part, side.peer), count);
        }
    }
    Ok(counts)
}

/// Jobs that take so many seconds, by a run of `count`.
fn fitting(side: &mut Side, load: Load, count: u64, seconds: f64) -> Result<u64> {
    let took: f64 = side.live(load, count)?.iter().map(|phase| phase.number("seconds")).sum();
    let fits = (seconds * count as f64 / took.max(f64::EPSILON)) as u64;
    let fits = fits.clamp(*COUNTS.start(), *COUNTS.end());
    Ok(if load.adds == Adds::Arrays { fits.next_multiple_of(BULK) } else { fits })
}

/// Adds, and then their processing; what a job cost server and client in each and in both.
fn lives(side: &mut Side, load: Load, count: u64, samples: &mut Samples) -> Result<String> {
    let phases = side.live(load, count)?;
    let jobs = count as f64;
    let mut said = Vec::new();
    for (phase, cell) in phases.iter().zip(load.cells) {
        let rate = jobs / phase.number("seconds");
        samples.add(cell, side.peer, rate);
        samples.add(format!("{cell}_server_us"), side.peer, phase.server_micros as f64 / jobs);
        samples.add(format!("{cell}_client_us"), side.peer, phase.number("cpu_us") / jobs);
        said.push(format!("{cell} {rate:.0}/s"));
    }
    let both: u64 = phases.iter().map(|phase| phase.server_micros).sum();
    samples.add(format!("{}_server_us", load.cells[2]), side.peer, both as f64 / jobs);
    Ok(said.join("  "))
}

/// Nobody's threads: they wait for nothing.
fn latency(side: &mut Side, plan: Plan, samples: &mut Samples) -> Result<String> {
    if side.peer == Peer::Threads {
        return Ok("-".to_owned());
    }
    let idle = side.phase(&json!({ "do": "latency", "count": plan.idle_samples }))?;
    let steady = side.phase(&json!({ "do": "latency", "count": plan.steady_samples, "every": 5 }))?;
    let mut said = Vec::new();
    for (phase, cell) in [(idle, "idle"), (steady, "steady")] {
        for share in ["p50", "p99"] {
            let value = phase.number(&format!("{share}_ms"));
            samples.add(format!("{cell}_{share}"), side.peer, value);
            said.push(format!("{cell} {share} {value:.2} ms"));
        }
    }
    Ok(said.join("  "))
}

/// Jobs that wait while the queue is paused; the app says when the first and the last came.
fn push(mainstay: &Mainstay, side: &mut Side, plan: Plan, samples: &mut Samples) -> Result<String> {
    let count = ((plan.run_seconds * 4_000.0) as u64).next_multiple_of(BULK);
    mainstay.jobs("pause")?;
    side.phase(&json!({ "do": "add", "count": count, "flight": 1, "bulk": true }))?;
    let before = process::cpu_micros_of(&side.pids)?;
    mainstay.jobs("resume")?;
    let pushed = side.phase(&json!({ "do": "pushed", "count": count }))?;
    let used = process::cpu_micros_of(&side.pids)?.saturating_sub(before);
    let rate = count as f64 / pushed.number("seconds");
    samples.add("push50", Peer::Mainstay, rate);
    samples.add("push50_server_us", Peer::Mainstay, used as f64 / count as f64);
    samples.add("push50_client_us", Peer::Mainstay, pushed.number("cpu_us") / count as f64);
    Ok(format!("push50 {rate:.0}/s"))
}

/// The file system of a folder and what one small write to its disk takes: durable rates stand and fall with it.
fn disk(dir: &Path) -> Result<String> {
    let output = Command::new("df").arg("--output=fstype").arg(dir).output().context("df")?;
    let kind = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    ensure!(kind != "tmpfs", "{} is memory: set TMPDIR to a folder on a disk", dir.display());
    let path = dir.join("sync");
    let mut file = File::create(&path)?;
    let mut took = Vec::new();
    for _ in 0..101 {
        let began = Instant::now();
        file.write_all(&[b'x'; 4096])?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(format!("{kind}, a write of 4 KiB and fdatasync {:.0} µs (median of 101)", median(took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_by_name() {
        assert_eq!(Part::chosen(Some("fifty,memory")).unwrap(), [Part::Fifty, Part::Memory]);
        assert_eq!(Part::chosen(None).unwrap().len(), 8);
        assert!(Part::chosen(Some("fivty")).is_err());
    }

    #[test]
    fn a_cell_is_its_median() {
        let mut samples = Samples::default();
        for value in [3.0, 1.0, 2.0] {
            samples.add("add1", Peer::Mainstay, value);
        }
        assert_eq!(samples.median("add1", Peer::Mainstay), Some(2.0));
        assert_eq!(samples.median("add1", Peer::Os), None);
    }
}
