//! One decision counted in Redis, through the handle a core has, beside a bare `EVALSHA` of `redis-benchmark`:
//! `cargo xtask bench limits` runs this.
//!
//! Prints a JSON line a case: how many ask at a time, and both sides' median and 99th percentile of a call.

use mainstay_config::units::rate;
use mainstay_config::{Inputs, Reader};
use mainstay_limits::redis::{SCRIPT, Subject, ask, key};
use mainstay_limits::window::Limit;
use mainstay_runtime::Shutdown;
use mainstay_servers::Redis as Server;
use mainstay_store::redis::{Options, Redis, Script, State};
use std::rc::Rc;
use std::time::{Duration, Instant};

const CALLS: u32 = 50_000;
const ROUNDS: usize = 5;
/// Who is counted; of each a key of its own.
const CLIENTS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    // A test runner asks every target what tests it has.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let server = Server::plain();
    let limit = Limit::new(&rate("60000000/min", None).expect("a rate"));
    let sha = server.cli(&["SCRIPT", "LOAD", SCRIPT]).trim().to_owned();
    for at_once in [1, 50] {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(through_the_handle(&server, &limit, at_once));
            bare.push(by_redis_benchmark(&server, &limit, &sha, at_once));
        }
        let [ours, bare] = [medians(&ours), medians(&bare)];
        println!(
            "{{\"case\":\"a call of Redis, {at_once} at a time\",\"ours_p50_us\":{:.0},\"ours_p99_us\":{:.0},\
             \"bare_p50_us\":{:.0},\"bare_p99_us\":{:.0}}}",
            ours.0, ours.1, bare.0, bare.1
        );
    }
}

fn medians(rounds: &[(f64, f64)]) -> (f64, f64) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (median(rounds.iter().map(|(p50, _)| *p50).collect()), median(rounds.iter().map(|(_, p99)| *p99).collect()))
}

/// As a core asks: one connection, one thread.
fn through_the_handle(server: &Server, limit: &Limit, at_once: u32) -> (f64, f64) {
    let variables = [("REDIS_URL".to_owned(), server.url())];
    let options = Options::read(&Reader::new(&Inputs { environment: variables.into(), ..Inputs::default() }));
    let runtime = mainstay_runtime::local().expect("a runtime");
    runtime.block_on(async {
        let (redis, keeper) = Redis::new(&options.expect("an address")).expect("a handle");
        let (_running, shutdown) = Shutdown::new();
        tokio::task::spawn_local(keeper.run(shutdown));
        while redis.state() != State::Up {
            tokio::task::yield_now().await;
        }
        let (script, limit) = (Rc::new(Script::new(SCRIPT)), *limit);
        let one = |number: u32| {
            let (redis, script) = (redis.clone(), script.clone());
            tokio::task::spawn_local(async move {
                let mut took = Vec::new();
                for call in 0..CALLS / at_once {
                    let client = format!("{:012}", (number * 7919 + call) % CLIENTS);
                    let began = Instant::now();
                    let key = key("bench", Subject::Name(&client), &limit);
                    redis.script(&script, &[key], &ask(&limit, None), PATIENCE).await.expect("an answer");
                    took.push(began.elapsed().as_secs_f64() * 1e6);
                }
                took
            })
        };
        let tasks: Vec<_> = (0..at_once).map(one).collect();
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await.expect("a client"));
        }
        took.sort_by(f64::total_cmp);
        (took[took.len() / 2], took[took.len() * 99 / 100])
    })
}

/// A connection for each that asks, in C.
fn by_redis_benchmark(server: &Server, limit: &Limit, sha: &str, at_once: u32) -> (f64, f64) {
    let key = key("bench", Subject::Name("__rand_int__"), limit);
    let [calls, clients, at_once] = [CALLS, CLIENTS, at_once].map(|number| number.to_string());
    let mut words = vec!["-n", &calls, "-c", &at_once, "-r", &clients, "--csv", "EVALSHA", sha, "1", &key];
    let arguments = ask(limit, None);
    words.extend(arguments.iter().map(String::as_str));
    let text = server.benchmark(&words);
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms",…; the test is
    // the command, of which a comma may be a part.
    let line = text.lines().last().unwrap_or_default();
    let numbers: Vec<f64> = line.rsplit("\",\"").map(|word| word.trim_matches('"').parse().unwrap_or(-1.0)).collect();
    let [_, p99, _, p50, ..] = numbers[..] else { panic!("{text}") };
    (p50 * 1000.0, p99 * 1000.0)
}
