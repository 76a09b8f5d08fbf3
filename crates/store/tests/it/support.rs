//! A handle on a thread of its own kind, as a core has it.

use mainstay_config::{Inputs, Reader};
use mainstay_runtime::Shutdown;
use mainstay_servers::wait::BOUND;
use mainstay_store::redis::{Error, Options, Redis, Script, State, Value};
use std::future::Future;
use std::time::{Duration, Instant};

/// Options as the guides' variables give them.
pub fn options(environment: &[(&str, &str)]) -> Options {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let reader = Reader::new(&Inputs { environment, ..Inputs::default() });
    Options::read(&reader).expect("an address")
}

/// Runs on one thread, as a core does.
pub fn on_a_core<T>(work: impl Future<Output = T>) -> T {
    mainstay_runtime::local().expect("a runtime").block_on(work)
}

/// A handle with its keeper running, linked.
pub async fn linked(options: &Options) -> (Redis, mainstay_runtime::Trigger) {
    let (redis, keeper) = Redis::new(options).expect("a handle");
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(keeper.run(shutdown));
    until("a link", || redis.state() == State::Up).await;
    (redis, trigger)
}

/// Waits for a condition with the bound of all tests; gives the time it took.
pub async fn until(what: &str, holds: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}");
        look_again().await;
    }
    began.elapsed()
}

/// Like `until`, with a call between the looks.
pub async fn until_answered<F: Future<Output = Result<Value, Error>>>(what: &str, ask: impl Fn() -> F) -> Duration {
    let began = Instant::now();
    loop {
        let Err(error) = ask().await else { return began.elapsed() };
        assert!(began.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}: {error}");
        look_again().await;
    }
}

pub async fn look_again() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Counts up and says to what.
pub fn counting() -> Script {
    Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])")
}

/// As a request asks, in 50 ms: on a loaded machine it may fail for that alone.
pub async fn count(redis: &Redis, script: &Script, key: &str) -> Result<Value, Error> {
    redis.script(script, &[key], &["1"], mainstay_store::redis::REQUEST_BUDGET).await
}

/// The same with all the time there is, where a test wants an answer and exactly one.
pub async fn counted(redis: &Redis, script: &Script, key: &str) -> i64 {
    let Ok(Value::Int(number)) = redis.script(script, &[key], &["1"], BOUND).await else { panic!("no answer") };
    number
}
