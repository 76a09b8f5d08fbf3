//! Jobs through the handle, each add and each end acknowledged once it is on the disk: adds, full lives with the next
//! claim in the same call, and a million that wait.
//!
//! Prints a JSON line a case. `--quick` for a look. `--postgres` for the same on a private Postgres, with what a commit
//! of fifty ends and fifty starts costs as a statement a row and as arrays.

use mainstay_config::{Inputs, Reader};
use mainstay_jobs::op::Finish;
use mainstay_jobs::{Claim, Clock, Durability, Jobs, NewJob, Outcome, Place, Settings, Setup, store};
use mainstay_servers::postgres::{DATABASE, Postgres as Server};
use mainstay_store::postgres::{Begin, Options, Session, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAYLOAD: &[u8] = &[b'x'; 100];

fn main() {
    // A test runner asks every target what tests it has.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let is_quick = std::env::args().any(|word| word == "--quick");
    let jobs = if is_quick { 5_000 } else { 50_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if std::env::args().any(|word| word == "--postgres") {
        let server = Server::plain();
        runtime.block_on(statements(&server));
        rates(&runtime, jobs, |clients, durability| {
            let name = format!("case_{clients}_{durability:?}").to_lowercase();
            server.psql(&format!("CREATE DATABASE {name}"));
            open(Place::Postgres(Box::new(options(&server, &name))), durability)
        });
        return;
    }
    let folders = tempfile::tempdir_in(".").expect("a folder");
    rates(&runtime, jobs, |clients, durability| {
        let folder = folders.path().join(format!("{clients}-{durability:?}"));
        std::fs::create_dir(&folder).expect("a folder");
        open(file(&folder), durability)
    });
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let handle = open(file(folder.path()), Durability::Fsync);
    runtime.block_on(waiting(&handle, if is_quick { 50_000 } else { 1_000_000 }));
    runtime.block_on(handle.close());
    let before = resident_bytes();
    let began = Instant::now();
    let handle = open(file(folder.path()), Durability::Fsync);
    let (seconds, bytes) = (began.elapsed().as_secs_f64(), resident_bytes().saturating_sub(before));
    println!("{{\"case\":\"opened again\",\"seconds\":{seconds:.2},\"bytes\":{bytes}}}");
    runtime.block_on(handle.close());
}

fn rates(runtime: &tokio::runtime::Runtime, jobs: u32, open: impl Fn(u32, Durability) -> Jobs) {
    for durability in [Durability::Fsync, Durability::Os] {
        for clients in [1, 10, 50, 200] {
            let jobs = if clients == 1 { jobs / 10 } else { jobs };
            let handle = open(clients, durability);
            let adds = runtime.block_on(adds(&handle, jobs, clients));
            let lives = runtime.block_on(lives(&handle, jobs, clients));
            runtime.block_on(handle.close());
            println!(
                "{{\"case\":\"{durability:?}, {clients} at once\",\"adds_per_s\":{adds:.0},\"lives_per_s\":{lives:.0}}}"
            );
        }
    }
}

fn file(folder: &Path) -> Place {
    Place::File(folder.join(store::FILE))
}

fn options(server: &Server, database: &str) -> Options {
    let url = server.url();
    let (front, _) = url.rsplit_once('/').expect("a database");
    let environment = vec![("DATABASE_URL".to_owned(), format!("{front}/{database}"))];
    Options::read(&Reader::new(&Inputs { environment, ..Inputs::default() }), true).expect("an address")
}

/// A hundred rows changed in one transaction: a statement a row, all sent at once, and one
/// statement of arrays.
async fn statements(server: &Server) {
    const ROUNDS: u32 = 200;
    let session = Session::open(&options(server, DATABASE), Arc::default()).await.expect("a session");
    let make = "CREATE TABLE t (id BIGINT PRIMARY KEY, state TEXT, a BIGINT, b BIGINT, c BIGINT, d BIGINT, e BIGINT)
        WITH (fillfactor = 50); INSERT INTO t SELECT n, 'waiting', 0, 0, 0, 0, 0 FROM generate_series(1, 10000) AS n";
    session.client().batch_execute(make).await.expect("a table");
    let one = "UPDATE t SET state = $2, a = $3, b = $3, c = $3, d = $3, e = $3 WHERE id = $1";
    let many = "UPDATE t AS old SET state = new.s, a = new.n, b = new.n, c = new.n, d = new.n, e = new.n
        FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS new (i, s, n) WHERE old.id = new.i";
    let (one, many) = (session.prepare(one.to_owned()).await, session.prepare(many.to_owned()).await);
    let (one, many) = (one.expect("prepared"), many.expect("prepared"));
    for begin in [Begin::Synced, Begin::Unsynced] {
        for is_arrays in [false, true] {
            let began = Instant::now();
            for round in 0..ROUNDS {
                let ids: Vec<i64> = (0..100).map(|row| i64::from(round * 100 % 9000 + row + 1)).collect();
                let states = vec!["active"; ids.len()];
                let numbers: Vec<i64> = ids.iter().map(|id| id + 7).collect();
                let writes = match is_arrays {
                    true => vec![Write { statement: &many, values: vec![&ids, &states, &numbers] }],
                    false => (0..ids.len())
                        .map(|at| Write { statement: &one, values: vec![&ids[at], &states[at], &numbers[at]] })
                        .collect(),
                };
                session.transaction(begin, &writes).await.expect("committed");
            }
            let each = began.elapsed().as_secs_f64() * 1e3 / f64::from(ROUNDS);
            let how = if is_arrays { "arrays" } else { "a statement a row" };
            println!("{{\"case\":\"100 rows, {how}, {begin:?}\",\"ms\":{each:.2}}}");
        }
    }
}

fn open(place: Place, durability: Durability) -> Jobs {
    let settings = Settings { durability, ..Settings::default() };
    let queues = vec![("bench".into(), settings)];
    Jobs::open(Setup { place, queues, clock: Clock::system(), seed: 1, pusher: None }).expect("opened")
}

/// Adds a second.
async fn adds(jobs: &Jobs, count: u32, clients: u32) -> f64 {
    let began = Instant::now();
    let client = || {
        let jobs = jobs.clone();
        async move {
            for _ in 0..count / clients {
                jobs.add("bench", vec![NewJob::new(PAYLOAD)]).await.expect("added");
            }
        }
    };
    all((0..clients).map(|_| client())).await;
    f64::from(count) / began.elapsed().as_secs_f64()
}

/// Jobs a second that are claimed and completed, one at a time by each of the workers; every job once.
async fn lives(jobs: &Jobs, count: u32, workers: u32) -> f64 {
    let began = Instant::now();
    let worker = |number: u32| {
        let jobs = jobs.clone();
        async move {
            let name: mainstay_jobs::Name = format!("w{number}").into();
            let claim = Claim { queue: "bench".into(), worker: name, max: 1, wait: Duration::ZERO };
            let mut work = jobs.claim(claim.clone()).await.expect("claimed");
            let mut done = 0;
            while let Some(held) = work.pop() {
                let (job, token) = (held.claimed.job, held.claimed.token);
                let end = Finish { job, token, outcome: Outcome::Completed { result: None } };
                work = jobs.finish(vec![end], Some(claim.clone())).await.expect("finished").work;
                done += 1;
            }
            done
        }
    };
    let done: u32 = all((0..workers).map(worker)).await.into_iter().sum();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(done, count / workers * workers, "every job once");
    f64::from(done) / seconds
}

/// How long it takes to add many in arrays, what a waiting one takes in memory, and what a claim takes among them.
async fn waiting(jobs: &Jobs, count: u32) {
    let before = resident_bytes();
    let began = Instant::now();
    for _ in 0..count / 1000 {
        let array = (0..1000).map(|_| NewJob::new(PAYLOAD)).collect();
        jobs.add("bench", array).await.expect("added");
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    let bytes = resident_bytes().saturating_sub(before) / u64::from(count);
    let began = Instant::now();
    let claim = Claim { queue: "bench".into(), worker: "w".into(), max: 1000, wait: Duration::ZERO };
    jobs.claim(claim).await.expect("claimed");
    let claim_us = began.elapsed().as_secs_f64() * 1e6 / 1000.0;
    println!(
        "{{\"case\":\"{count} waiting\",\"array_adds_per_s\":{rate:.0},\"bytes_each\":{bytes},\
         \"claim_us\":{claim_us:.1}}}"
    );
}

#[allow(clippy::disallowed_methods)]
async fn all<T: Send + 'static>(tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.expect("a task"));
    }
    done
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
