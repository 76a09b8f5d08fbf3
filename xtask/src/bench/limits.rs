//! `cargo xtask bench limits`: one decision of a rate limit in memory, beside the crate `governor`.

use crate::arguments::Arguments;
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde_json::Value;

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let json = arguments.flag("--json");
    arguments.finish()?;
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
    if json {
        println!("{}", Value::Array(cases));
        return Ok(());
    }
    println!("{:<56} {:>9} {:>12} {:>7}", "ns a decision, median of 9 rounds in turn", "mainstay", "governor", "ratio");
    for case in cases {
        let number = |key: &str| case[key].as_f64().unwrap_or_default();
        let (ours, theirs) = (number("ours_ns"), number("governor_ns"));
        let name = case["case"].as_str().unwrap_or_default();
        println!("{name:<56} {ours:>9.1} {theirs:>12.1} {:>7.2}", ours / theirs);
    }
    println!("governor counts by GCRA, which admits up to twice its number in one window; ours keeps every window");
    Ok(())
}
