//! One round: Mainstay with six queues, workers and producers, a fault at its moment, and then until all is quiet.

use super::client::Client;
use super::found;
use super::journal::{self, Journal, Line, What};
use super::judge::{self, Case, Rules, Ticks, judge};
use super::producer::{Add, produce};
use super::strike::{Scene, movable};
use super::{Dice, Fault};
use crate::wait::{pause, poll};
use crate::{Mainstay, Setup, fixtures};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Queues, and how the judge knows them. `keep` is given where it is judged.
const QUEUES: &str = "
[jobs.rated]
rate = \"5/1s\"
stalls = 5
keep = { completed = 5000 }
[jobs.fifo]
concurrency = 1
stalls = 5
keep = { completed = 5000 }
[jobs.retried]
attempts = 4
backoff = { kind = \"fixed\", delay = \"100ms\" }
stalls = 5
keep = { completed = 5000 }
[jobs.kept]
attempts = 2
backoff = { kind = \"fixed\", delay = \"50ms\" }
stalls = 5
keep = { completed = 5, failed = 3 }
[jobs.pushed]
push = \"POST /jobs/pushed\"
concurrency = 3
attempts = 5
backoff = { kind = \"fixed\", delay = \"100ms\" }
stalls = 5
keep = { completed = 5000 }
[jobs.ticks]
stalls = 5
keep = { completed = 5000 }
";

/// Those that workers pull from.
const PULLED: [&str; 5] = ["rated", "fifo", "retried", "kept", "ticks"];
const EVERY_MS: u64 = 2000;
/// A jump of an hour leaves out what is more than a minute late; two looks lie a little apart.
const MISSED: (u64, u64) = ((3600 - 60) * 1000 / EVERY_MS - 3, (3600 - 60) * 1000 / EVERY_MS + 3);
/// A lease of 30 s that begins anew, what it kept waiting, and a loaded machine.
const QUIET_LIMIT: Duration = Duration::from_secs(120);
/// Jobs that are looked at in passing.
const SAMPLE: usize = 4;

/// What a round that holds has seen.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    pub acknowledged: u64,
    pub starts: u64,
    /// Jobs that were taken from a worker that was lost.
    pub rescues: u64,
}

/// Runs one; its journals and all that helps to understand it are in the folder.
///
/// # Errors
/// Every violation.
///
/// # Panics
/// When Mainstay does not start.
pub fn round(seed: u64, folder: &Path) -> Result<Tally, Vec<String>> {
    let fault = Fault::of(seed);
    let mut scene = opened(seed, fault, folder);
    let told = play(&mut scene, fault).map_err(|why| vec![why]);
    let told = told.and_then(|case| {
        let violations = judge(&case);
        let rescues = case.jobs.values().map(|job| job.stalls).sum();
        let starts = case.lines.iter().filter(|line| line.what == What::Start).count() as u64;
        let tally = Tally { acknowledged: case.acknowledged().len() as u64, starts, rescues };
        if violations.is_empty() { Ok(tally) } else { Err(violations) }
    });
    if told.is_err() {
        keep(&scene, folder);
    }
    told
}

/// What Mainstay said and wrote, beside the journals.
fn keep(scene: &Scene, folder: &Path) {
    let Some(mainstay) = &scene.mainstay else { return };
    let _ = std::fs::write(folder.join("said"), mainstay.said());
    for name in ["jobs.db", "jobs.db-wal"] {
        let _ = std::fs::copy(mainstay.path().join(".mainstay").join(name), folder.join(name));
    }
}

/// The program of this crate that is worker and app.
pub fn program() -> PathBuf {
    let path = fixtures::build_folder().join("crash");
    assert!(path.exists(), "{} is not built: cargo build --profile ci -p mainstay-e2e --bins", path.display());
    path
}

fn opened(seed: u64, fault: Fault, folder: &Path) -> Scene {
    let program = program();
    let app = folder.join("app.journal");
    // The app and its journal go by this machine's clock.
    let words = ["env", "-u", "LD_PRELOAD"].map(str::to_owned);
    let run: Vec<String> =
        words.into_iter().chain([program.display().to_string(), "app".to_owned(), app.display().to_string()]).collect();
    let setup = Setup::file(&format!("[app.main]\nrun = {}\n{QUEUES}", json!(run)));
    let setup = if fault.moves_the_clock() { movable(setup) } else { setup };
    let mainstay = setup.ready("/given");
    let client = Client::new(mainstay.edge());
    let journal = Arc::new(Journal::open(&folder.join("round.journal")));
    let dice = Dice::new(seed);
    let mut scene =
        Scene { mainstay: Some(mainstay), workers: Vec::new(), journal, folder: folder.to_path_buf(), client, dice };
    for name in ["w1", "w2"] {
        scene.workers.push((name.to_owned(), worker(scene.mainstay(), name, folder)));
    }
    scene
}

fn worker(mainstay: &Mainstay, name: &str, folder: &Path) -> Child {
    let mut command = Command::new(program());
    command.args(["worker", &mainstay.edge().to_string(), name]).arg(folder.join(format!("{name}.journal")));
    command.args(PULLED).stdin(Stdio::piped()).spawn().expect("a worker")
}

/// From the first add to the last look.
fn play(scene: &mut Scene, fault: Fault) -> Result<Case, String> {
    scene.up()?;
    scene.mainstay().verb(&["jobs", "schedule", "tick", "--queue", "ticks", "--every", "2s"]).ok();
    let (from_ms, before) = ticks(scene)?;
    let (edge, journal, folder) = (scene.mainstay().edge(), scene.journal.clone(), scene.folder.clone());
    let plans = plans(&mut scene.dice);
    let moment = Duration::from_millis(scene.dice.between(200, 1200));
    let is_over = AtomicBool::new(false);
    let sampled = Client::new(edge);
    std::thread::scope(|scope| -> Result<(), String> {
        let produced: Vec<_> = plans
            .iter()
            .map(|(name, adds)| {
                let (journal, dice) = (journal.clone(), scene.dice.clone());
                scope.spawn(move || produce(edge, name, adds, &journal, dice))
            })
            .collect();
        let sampling = scope.spawn(|| sample(sampled, &journal, &is_over, &folder));
        pause(moment);
        let struck = scene.strike(fault);
        let produced: Vec<_> = produced.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        let quiet = struck.and_then(|()| {
            produced.into_iter().try_for_each(|told| told.map_err(|_| "a producer panicked".to_owned())?)?;
            quiet(&mut scene.client, &["ticks"])
        });
        is_over.store(true, Ordering::SeqCst);
        let _ = sampling.join();
        quiet
    })?;
    let (to_ms, after) = ticks(scene)?;
    let looked_ms = if fault.moves_the_clock() { 0 } else { Line::now(What::Up).at_us / 1000 };
    let missed = if fault == Fault::ClockForward { MISSED } else { (0, 0) };
    let ticks = Ticks { every_ms: EVERY_MS, from_ms, to_ms, added: after - before, missed, looked_ms };
    scene.mainstay().verb(&["jobs", "unschedule", "tick"]).ok();
    quiet(&mut scene.client, &[])?;
    ended(scene, fault, ticks)
}

/// Who adds what. One alone adds to the queue whose order is judged.
fn plans(dice: &mut Dice) -> Vec<(&'static str, Vec<Add>)> {
    let mut plan = |name: &'static str, queues: &[(&'static str, u64)]| {
        let adds = (0..queues.iter().map(|(_, count)| count).sum::<u64>()).map(|number| {
            let mut at = number;
            let of = queues.iter().find(|(_, count)| {
                let is_here = at < *count;
                at = at.saturating_sub(*count);
                is_here
            });
            let queue = of.map_or("retried", |(queue, _)| *queue);
            let fail = match (queue, dice.below(10)) {
                ("retried", 0..3) => dice.between(1, 3),
                ("retried", 3) | ("kept", 0..3) => 9,
                ("pushed", 0..2) => 1,
                _ => 0,
            };
            Add::one(queue, &format!("{name}-{number}"), fail, dice.below(120), dice.between(5, 50))
        });
        (name, adds.collect::<Vec<_>>())
    };
    let mut plans = vec![
        plan("p0", &[("fifo", 14), ("rated", 8)]),
        plan("p1", &[("pushed", 12), ("kept", 12)]),
        plan("p2", &[("retried", 24)]),
    ];
    for (_, adds) in &mut plans {
        // Mixed; by one producer a queue's order stays what it is acknowledged in.
        for last in (1..adds.len()).rev() {
            adds.swap(last, dice.below(last as u64 + 1) as usize);
        }
    }
    plans
}

/// Looks at jobs while all goes on, so that one that leaves its end is seen.
fn sample(mut client: Client, journal: &Journal, is_over: &AtomicBool, folder: &Path) {
    let mut dice = Dice::new(7);
    while !is_over.load(Ordering::SeqCst) {
        pause(Duration::from_millis(200));
        let ids: Vec<u64> =
            journal::read(folder).into_iter().filter(|line| line.what == What::Added).map(|line| line.job).collect();
        for _ in 0..SAMPLE.min(ids.len()) {
            let id = ids[dice.below(ids.len() as u64) as usize];
            if let Ok(Some(job)) = found::job(&mut client, id) {
                journal.write(&Line::now(What::State).queue(&job.queue).job(id, 0).word(&job.state));
            }
        }
    }
}

/// Until nothing is to be done any more; a queue that is `but` may go on.
fn quiet(client: &mut Client, but: &[&str]) -> Result<(), String> {
    let mut last = String::new();
    let is_quiet = || {
        let counts = found::counts(client);
        last = format!("{counts:?}");
        let counts = counts.ok()?;
        let judged = counts.iter().filter(|(queue, _)| !but.contains(&queue.as_str()));
        judged.map(|(_, of)| of[..3].iter().sum::<u64>()).sum::<u64>().eq(&0).then_some(())
    };
    poll(QUIET_LIMIT, is_quiet)
        .map(drop)
        .ok_or(())
        .map_err(|()| format!("not quiet within {} s: {last}", QUIET_LIMIT.as_secs()))
}

/// The next tick, and the jobs of those before it.
fn ticks(scene: &mut Scene) -> Result<(u64, u64), String> {
    let next = |scene: &Scene| {
        let told = scene.mainstay().verb(&["jobs", "schedules", "--json"]).json();
        told["schedules"][0]["nextMs"].as_u64().ok_or(format!("no next tick: {told}"))
    };
    for _ in 0..30 {
        let before = next(scene)?;
        let counts = found::counts(&mut scene.client)?;
        if next(scene)? == before {
            return Ok((before, counts.get("ticks").map_or(0, |of| of.iter().sum())));
        }
    }
    Err("the schedule does not stand still".to_owned())
}

/// What is there now, told by all who know.
fn ended(scene: &mut Scene, fault: Fault, ticks: Ticks) -> Result<Case, String> {
    scene.end_workers();
    let client = &mut scene.client;
    let counts = found::counts(client)?;
    let queues: Vec<String> = counts.keys().cloned().collect();
    let (ids, listed) = found::listed(client, &queues)?;
    let lines = journal::read(&scene.folder);
    come_late(client, &lines, &scene.journal)?;
    let known: BTreeSet<u64> = ids.into_iter().chain(lines.iter().map(|line| line.job).filter(|id| *id > 0)).collect();
    let jobs = found::jobs(client, known)?;
    let metrics = crate::get(&scene.mainstay().url("/.mainstay/health/metrics")).text();
    let mut told = BTreeMap::from([
        ("list".to_owned(), listed),
        ("metrics".to_owned(), found::by_metrics(&metrics, &counts)),
        ("api".to_owned(), counts),
    ]);
    scene.mainstay().verb(&["stop"]).ok();
    let (status, _) = scene.mainstay.as_mut().ok_or("mainstay is gone")?.end();
    if !status.success() {
        return Err(format!("a stop ended with {status}"));
    }
    let file = scene.mainstay().path().join(".mainstay/jobs.db");
    told.insert("file".to_owned(), found::in_file(&file, &queues)?);
    Ok(Case {
        lines: journal::read(&scene.folder),
        jobs,
        rules: rules(),
        ticks,
        counts: told,
        is_calm: fault.is_calm(),
        is_moved: fault.moves_the_clock(),
    })
}

/// Every attempt is over by now: whoever says something of one is too late.
fn come_late(client: &mut Client, lines: &[Line], journal: &Journal) -> Result<(), String> {
    let starts: Vec<&Line> = lines.iter().filter(|line| line.what == What::Start).collect();
    let end = |line: &&Line| json!({ "id": line.job, "token": line.token, "error": "too late" });
    for some in starts.chunks(50) {
        let ends: Vec<Value> = some.iter().map(end).collect();
        let (status, told) = client.post("/v1/jobs/finish", &json!({ "ends": ends }))?;
        let answers = told["ends"].as_array().cloned().unwrap_or_default();
        if answers.len() != some.len() && !(some.len() == 1 && matches!(status, 404 | 409)) {
            return Err(format!("late ends were answered {status}: {told}"));
        }
        for (line, answer) in some.iter().zip(&answers).filter(|(_, answer)| answer["ok"] == true) {
            let end = Line::now(What::Ended).queue(&line.queue).job(line.job, line.token);
            journal.write(&end.who("late").word(answer));
        }
    }
    Ok(())
}

fn rules() -> BTreeMap<String, Rules> {
    let stalls = 5;
    let of = |concurrency, rate, keep| judge::Rules { concurrency, rate, keep, stalls };
    BTreeMap::from([
        ("rated".to_owned(), of(None, Some((5, 1000)), None)),
        ("fifo".to_owned(), of(Some(1), None, None)),
        ("retried".to_owned(), of(None, None, None)),
        ("kept".to_owned(), of(None, None, Some((5, 3)))),
        ("pushed".to_owned(), of(Some(3), None, None)),
        ("ticks".to_owned(), of(None, None, None)),
    ])
}
