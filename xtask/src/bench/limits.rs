//! `cargo xtask bench limits`: one decision of a rate limit in memory, beside the crate `governor`; a limited request
//! beside nginx's `limit_req`; the memory of a tracked client.

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
    ensure!(chosen("memory") || chosen("http"), "`--only` is memory or http");
    let decisions = if chosen("memory") { decisions()? } else { Vec::new() };
    let requests = if chosen("http") { http::run()? } else { Vec::new() };
    if json {
        println!("{}", serde_json::json!({ "decisions": decisions, "requests": requests }));
        return Ok(());
    }
    print(&decisions);
    if chosen("http") {
        http::print(&requests);
    }
    Ok(())
}

fn decisions() -> Result<Vec<Value>> {
    println!("build    the benchmark of mainstay-limits with profile dist");
    let mut command = workspace::cargo();
    command.args(["bench", "--quiet", "--profile", "dist", "--package", "mainstay-limits", "--bench", "decision"]);
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
