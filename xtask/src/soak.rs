//! `cargo xtask soak AREA`: what the test run does for a minute, for as long as one likes. For jobs: rounds of crashes,
//! by the same program that the end-to-end tests drive (`crates/e2e/src/crash.rs`).

use crate::arguments::Arguments;
use crate::{tools, workspace};
use anyhow::{Result, bail, ensure};
use std::process::Command;

const ROUNDS: u64 = 1000;
/// Of the first round; the next have the numbers after it.
const SEED: u64 = 1000;
/// Rounds wait for leases of 30 s most of their time.
const LANES: u64 = 12;

pub fn jobs(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let mut number = |name: &str, usual: u64| -> Result<u64> {
        Ok(arguments.value(name)?.map(str::parse).transpose()?.unwrap_or(usual))
    };
    let (rounds, seed, lanes) = (number("--rounds", ROUNDS)?, number("--seed", SEED)?, number("--lanes", LANES)?);
    arguments.finish()?;
    ensure!((1..=64).contains(&lanes), "`--lanes` is from 1 to 64");
    tools::require(&[&tools::STRACE, &tools::FAKETIME, &tools::PYTHON, &tools::CURL])?;
    let (binary, harness) = (workspace::tested_binary()?, workspace::crash_harness()?);
    let folder = workspace::target()?.join("e2e/soak-jobs");
    println!("mainstay {}\n{rounds} rounds from seed {seed}, {lanes} at a time", binary.display());
    let mut command = Command::new(harness);
    command.arg("soak").arg("--folder").arg(folder).env("MAINSTAY_BIN", binary);
    for (flag, number) in [("--rounds", rounds), ("--seed", seed), ("--lanes", lanes)] {
        command.args([flag, &number.to_string()]);
    }
    if !command.status()?.success() {
        bail!("not every round held; a seed again: cargo xtask soak jobs --rounds 1 --seed SEED");
    }
    Ok(())
}
