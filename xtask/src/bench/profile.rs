//! `cargo xtask bench profile`: where every instruction, allocation, system call and microsecond of a request goes,
//! ours beside nginx's. Counts are the difference of a short and a long run: what start and stop cost is the same in
//! both and falls out.

mod callgrind;
mod parts;
mod system;
mod work;

use super::cells::{self, CONNECTIONS};
use super::peer;
use super::{edge, median};
use crate::arguments::Arguments;
use crate::instance::{Running, Scratch};
use crate::{process, tools, workspace};
use anyhow::Result;
use parts::Part;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use work::{Side, Work};

/// Two seconds each of both proxies.
const ROUNDS: u32 = 3;
/// Calls that are rarer than once in twenty requests are summed up: start, stop and the clock's ticks.
const RARE_CALLS: f64 = 0.05;

/// The hand-written path that was measured before there was a codec of our own: no log, no time limits, no checks.
const PROTOTYPE: &str = "a prototype without log, limits and checks, measured once on 2026-11-21: \
    8,943 instructions, 4.0 allocations, 4.12 system calls, 27.9 µs (3.6 of them user)";

/// What one proxy does for a request.
#[derive(Debug)]
struct Profile {
    instructions: BTreeMap<Part, f64>,
    allocations: BTreeMap<Part, f64>,
    calls: BTreeMap<String, f64>,
}

pub fn run(words: &[&str]) -> Result<()> {
    let (works, flags): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| !word.starts_with('-'));
    Arguments::new(&flags).finish()?;
    let works = works.into_iter().map(Work::parse).collect::<Result<Vec<_>>>()?;
    let works = if works.is_empty() { vec![Work::Small] } else { works };
    tools::require(&[&tools::NGINX, &tools::WRK, &tools::OPENSSL, &tools::H2LOAD, &tools::VALGRIND, &tools::STRACE])?;
    let binary = workspace::symbols_binary()?;
    let scratch = Scratch::new("profile")?;
    let (_upstream, upstream) = peer::nginx::upstream(&scratch.0)?;
    println!("nginx     {}", peer::nginx::version()?);
    for work in works {
        let ours = profile(&Side::Mainstay(&binary), work, upstream)?;
        let theirs = profile(&Side::Nginx, work, upstream)?;
        let micros = micros(&binary, work, &scratch.0, upstream)?;
        println!("\n{}", work.words());
        print_parts(&ours, &theirs);
        print_calls(&ours.calls, &theirs.calls);
        print_micros(&micros);
        if work == Work::Small {
            println!("{PROTOTYPE}");
        }
    }
    Ok(())
}

fn profile(side: &Side<'_>, work: Work, upstream: SocketAddr) -> Result<Profile> {
    let [few, many] = work.requests();
    let requests = f64::from(many - few);
    let short = work::counted(side, work, few, upstream)?;
    let difference = work::counted(side, work, many, upstream)?.less(&short);
    let short = work::traced(side, work, few, upstream)?;
    let long = work::traced(side, work, many, upstream)?;
    let calls = long.into_iter().map(|(name, count)| {
        let more = count as f64 - short.get(&name).map_or(0.0, |count| *count as f64);
        // Less in the longer run is a start that waited less.
        (name, more.max(0.0) / requests)
    });
    let a_request = |parts: BTreeMap<Part, f64>| parts.into_iter().map(|(part, sum)| (part, sum / requests)).collect();
    Ok(Profile {
        instructions: a_request(parts::instructions(&difference)),
        allocations: a_request(parts::allocations(&difference)),
        calls: calls.collect(),
    })
}

/// User and system time a request of each side, medians.
fn micros(binary: &Path, work: Work, dir: &Path, upstream: SocketAddr) -> Result<[[f64; 2]; 2]> {
    let cell = cells::named(work.cell())?;
    let proxies = [Running::start_mainstay(binary, dir, upstream)?, peer::nginx::start(dir, upstream)?];
    let mut measured: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (proxy, [user, system]) in proxies.iter().zip(&mut measured) {
            let before = process::cpu_micros_split(proxy.pid())?;
            let run = edge::load(proxy, &cell, (CONNECTIONS, edge::RUN_SECONDS), dir)?;
            let after = process::cpu_micros_split(proxy.pid())?;
            for (values, (before, after)) in [user, system].into_iter().zip(before.into_iter().zip(after)) {
                values.push(after.saturating_sub(before) as f64 / run.requests.max(1) as f64);
            }
        }
    }
    Ok(measured.map(|side| side.map(median)))
}

fn print_parts(ours: &Profile, theirs: &Profile) {
    println!("{:<44} {:>21}   {:>19}", "", "instructions", "allocations");
    println!("{:<44} {:>10} {:>10}   {:>9} {:>9}", "", "mainstay", "nginx", "mainstay", "nginx");
    let cell = |values: &BTreeMap<Part, f64>, part: Part, decimals: usize| {
        let value = values.get(&part).copied().unwrap_or(0.0);
        if value.abs() < 0.05 { String::new() } else { thousands(value, decimals) }
    };
    for part in Part::ALL {
        let row = [
            cell(&ours.instructions, part, 0),
            cell(&theirs.instructions, part, 0),
            cell(&ours.allocations, part, 1),
            cell(&theirs.allocations, part, 1),
        ];
        if row.iter().any(|cell| !cell.is_empty()) {
            let [a, b, c, d] = row;
            println!("{:<44} {a:>10} {b:>10}   {c:>9} {d:>9}", part.words());
        }
    }
    let sum = |values: &BTreeMap<Part, f64>, decimals| thousands(values.values().sum(), decimals);
    println!(
        "{:<44} {:>10} {:>10}   {:>9} {:>9}",
        "in all",
        sum(&ours.instructions, 0),
        sum(&theirs.instructions, 0),
        sum(&ours.allocations, 1),
        sum(&theirs.allocations, 1)
    );
}

fn print_calls(ours: &BTreeMap<String, f64>, theirs: &BTreeMap<String, f64>) {
    println!("\n{:<44} {:>10} {:>10}", "system calls", "mainstay", "nginx");
    let of = |calls: &BTreeMap<String, f64>, name: &str| calls.get(name).copied().unwrap_or(0.0);
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by(|a, b| (of(ours, b) + of(theirs, b)).total_cmp(&(of(ours, a) + of(theirs, a))));
    let mut rare = [0.0, 0.0];
    for name in names {
        let counts = [of(ours, name), of(theirs, name)];
        if counts.iter().all(|count| count.abs() < RARE_CALLS) {
            rare = [rare[0] + counts[0], rare[1] + counts[1]];
            continue;
        }
        println!("{name:<44} {:>10.2} {:>10.2}", counts[0], counts[1]);
    }
    let sum = |calls: &BTreeMap<String, f64>| calls.values().sum::<f64>();
    // No minus before a nought.
    let rare = rare.map(|sum: f64| (sum * 100.0).round() / 100.0 + 0.0);
    println!("{:<44} {:>10.2} {:>10.2}", "others", rare[0], rare[1]);
    println!("{:<44} {:>10.2} {:>10.2}", "in all", sum(ours), sum(theirs));
}

fn print_micros([ours, theirs]: &[[f64; 2]; 2]) {
    println!("\n{:<44} {:>10} {:>10}", "µs of CPU", "mainstay", "nginx");
    for (name, ours, theirs) in [("user", ours[0], theirs[0]), ("system", ours[1], theirs[1])] {
        println!("{name:<44} {ours:>10.1} {theirs:>10.1}");
    }
    println!("{:<44} {:>10.1} {:>10.1}", "in all", ours.iter().sum::<f64>(), theirs.iter().sum::<f64>());
}

/// `12,345` or `1.2`.
fn thousands(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (value, decimals, text) in
            [(0.0, 0, "0"), (999.0, 0, "999"), (-1234567.0, 0, "-1,234,567"), (2.34, 1, "2.3")]
        {
            assert_eq!(thousands(value, decimals), text);
        }
    }
}
