//! `cargo xtask count`: instructions and heap allocations a request in user space, counted by valgrind. Unlike
//! time they do not depend on what else the machine does, so a test can hold them.

use crate::arguments::Arguments;
use crate::instance::{self, Ports, Running, Scratch};
use crate::keepalive;
use crate::{tools, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// DESIGN's goals for a small request through every gate, with the log on.
const INSTRUCTIONS_GOAL: f64 = 35_000.0;
const ALLOCATIONS_GOAL: f64 = 12.0;

/// What fails: a ratchet 5 % above the last count. Lower it with every gain; it is never raised.
const INSTRUCTIONS_MAX: f64 = 29_000.0;
const ALLOCATIONS_MAX: f64 = ALLOCATIONS_GOAL;

/// Two runs of different length: what start and stop cost is the same in both and falls out of the difference.
const FEW_REQUESTS: u32 = 400;
const MANY_REQUESTS: u32 = 2_400;
/// As many kept connections as a small load generator opens.
const CONNECTIONS: u32 = 8;

/// What is counted, with valgrind's tool and the line that holds its total.
#[derive(Clone, Copy, Debug)]
struct Counter {
    name: &'static str,
    goal: f64,
    max: f64,
    arguments: &'static [&'static str],
    total: fn(&str) -> Option<u64>,
}

const COUNTERS: [Counter; 2] = [
    Counter {
        name: "instructions",
        goal: INSTRUCTIONS_GOAL,
        max: INSTRUCTIONS_MAX,
        arguments: &["--tool=callgrind", "--callgrind-out-file=callgrind.%p"],
        total: |log| number_after(log, "Collected : "),
    },
    Counter {
        name: "allocations",
        goal: ALLOCATIONS_GOAL,
        max: ALLOCATIONS_MAX,
        arguments: &["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"],
        total: |log| number_after(log, "total heap usage: "),
    },
];

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let json = arguments.flag("--json");
    arguments.finish()?;
    tools::require(&[&tools::VALGRIND])?;
    let binary = workspace::dist_binary()?;
    let mut over = Vec::new();
    let mut report = serde_json::Map::new();
    for counter in COUNTERS {
        let few = total(&counter, &binary, FEW_REQUESTS)?;
        let many = total(&counter, &binary, MANY_REQUESTS)?;
        let each = (many as f64 - few as f64) / f64::from(MANY_REQUESTS - FEW_REQUESTS);
        report.insert(counter.name.into(), each.into());
        if !json {
            let reached = if each <= counter.goal { "reached" } else { "not reached" };
            let (name, goal, max) = (counter.name, counter.goal, counter.max);
            println!("{name:<13} {each:>9.1} a request   goal {goal} {reached}   fails above {max}");
        }
        if each > counter.max {
            over.push(format!("{each:.1} {} a request, at most {}", counter.name, counter.max));
        }
    }
    if json {
        println!("{}", serde_json::Value::Object(report));
    }
    if !over.is_empty() {
        bail!("over the bound: {}", over.join("; "));
    }
    Ok(())
}

/// Everything the server process counted from its start to its end, with that many requests served.
fn total(counter: &Counter, binary: &Path, requests: u32) -> Result<u64> {
    let scratch = Scratch::new(counter.name)?;
    let dir = &scratch.0;
    let ports = Ports::free()?;
    let file = instance::plain_configuration(dir, ports, keepalive::upstream()?)?;
    // The server is a child of the supervisor; each process writes a log of its own.
    let log = format!("--log-file={}/valgrind.%p", dir.display());
    let mut wrapper = vec!["valgrind", "--trace-children=yes", &log];
    wrapper.extend(counter.arguments);
    let running = Running::start(&mut instance::mainstay(&wrapper, binary, &file), counter.name, dir, ports)?;
    keepalive::ask(ports.plain, "/s", CONNECTIONS, requests)?;
    running.stop()?;
    server_log(dir).and_then(|log| (counter.total)(&log).with_context(|| format!("no total in:\n{log}")))
}

/// The log of the process that was started as `mainstay server`.
fn server_log(dir: &Path) -> Result<String> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("valgrind.") {
            continue;
        }
        let log = fs::read_to_string(entry.path())?;
        if log.lines().any(|line| line.contains("Command:") && line.contains(" server")) {
            return Ok(log);
        }
    }
    bail!("no log of a server process; is it still started as `mainstay server`?")
}

/// The number behind a label in one of valgrind's `==PID== label 1,234 …` lines.
fn number_after(log: &str, label: &str) -> Option<u64> {
    let (_, rest) = log.rsplit_once(label)?;
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_valgrinds_own_lines() {
        let callgrind = "==7== Events    : Ir\n==7== Collected : 1234567\n";
        assert_eq!((COUNTERS[0].total)(callgrind), Some(1_234_567));
        let memcheck = "==7==   total heap usage: 12,345 allocs, 12,300 frees, 9 bytes allocated\n";
        assert_eq!((COUNTERS[1].total)(memcheck), Some(12_345));
        assert_eq!((COUNTERS[1].total)("==7== nothing\n"), None);
    }
}
