//! `cargo xtask bench limits`: one decision of a rate limit in memory, beside the crate `governor`; a limited request
//! beside nginx's `limit_req` and express-rate-limit; a call of Redis beside a bare one; the memory of a client.

mod http;

use crate::arguments::Arguments;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let json = arguments.flag("--json");
    let only = arguments.value("--only")?.map(str::to_owned);
    arguments.finish()?;
    let chosen = |part: &str| only.as_deref().is_none_or(|only| only == part);
    ensure!(["memory", "redis", "http"].into_iter().any(chosen), "`--only` is memory, redis or http");
    let decisions = if chosen("memory") { cases("decision")? } else { Vec::new() };
    let calls = if chosen("redis") { cases("call")? } else { Vec::new() };
    let requests = if chosen("http") { http::run()? } else { Vec::new() };
    if json {
        println!("{}", serde_json::json!({ "decisions": decisions, "calls": calls, "requests": requests }));
        return Ok(());
    }
    print(&decisions);
    print_calls(&calls);
    if chosen("http") {
        http::print(&requests);
    }
    Ok(())
}

/// What a benchmark of `mainstay-limits` prints, a JSON line a case.
fn cases(name: &str) -> Result<Vec<Value>> {
    println!("build    the benchmark of mainstay-limits with profile dist");
    let mut command = workspace::cargo();
    command.args(["bench", "--quiet", "--profile", "dist", "--package", "mainstay-limits", "--bench", name]);
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cargo bench")?;
    if !output.status.success() {
        bail!("the benchmark failed: its own message stands above");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let cases = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>();
    if cases.is_empty() {
        bail!("the benchmark printed no case: {text}");
    }
    Ok(cases)
}

fn print_calls(cases: &[Value]) {
    if cases.is_empty() {
        return;
    }
    println!(
        "\n{:<40} {:>21}   {:>21} {:>9}",
        "µs a call, median of 5 rounds in turn", "mainstay", "bare EVALSHA", "ratio"
    );
    println!("{:<40} {:>10} {:>10}   {:>10} {:>10} {:>9}", "", "p50", "p99", "p50", "p99", "of p99");
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap_or_default();
        let numbers = ["ours_p50_us", "ours_p99_us", "bare_p50_us", "bare_p99_us"].map(number);
        let name = case["case"].as_str().unwrap_or_default();
        let [ours, ours_p99, bare, bare_p99] = numbers;
        println!(
            "{name:<40} {ours:>10.0} {ours_p99:>10.0}   {bare:>10.0} {bare_p99:>10.0} {:>9.2}",
            ours_p99 / bare_p99
        );
    }
}

fn print(cases: &[Value]) {
    if cases.is_empty() {
        return;
    }
    println!("{:<56} {:>9} {:>12} {:>7}", "ns a decision, median of 9 rounds in turn", "mainstay", "governor", "ratio");
    for case in cases {
        if let Some(bytes) = case["bytes"].as_f64() {
            println!("{:<56} {bytes:>9.1} B", case["case"].as_str().unwrap_or_default());
            continue;
        }
        let number = |key: &str| case[key].as_f64().unwrap_or_default();
        let (ours, theirs) = (number("ours_ns"), number("governor_ns"));
        let name = case["case"].as_str().unwrap_or_default();
        println!("{name:<56} {ours:>9.1} {theirs:>12.1} {:>7.2}", ours / theirs);
    }
    println!("governor counts by GCRA, which admits up to twice its number in one window; ours keeps every window");
}
