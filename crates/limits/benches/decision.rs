//! One decision in memory beside `governor`, the usual crate for it: `cargo xtask bench limits` runs this.
//!
//! Prints a JSON line a case: the case, ours and governor's nanoseconds a decision, the median of rounds in turn.

use governor::{Quota, RateLimiter};
use mainstay_config::units::{Per, rate};
use mainstay_limits::{Rates, Rule};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Instant;

const ROUNDS: usize = 9;
const DECISIONS: u32 = 400_000;

fn main() {
    // A test runner asks every target what tests it has.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    for requests in [1u32, 100] {
        println!("{{\"case\":\"memory of a client with {requests} requests\",\"bytes\":{:.1}}}", bytes(requests));
    }
    for clients in [1u32, 1_000, 100_000] {
        for (count, name) in [(100u32, "of 100 a minute, mostly refused"), (1_000_000, "of a million a minute")] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.push(mainstay(clients, count));
                theirs.push(governor(clients, count));
            }
            let (ours, theirs) = (median(ours), median(theirs));
            println!("{{\"case\":\"{clients} clients {name}\",\"ours_ns\":{ours:.1},\"governor_ns\":{theirs:.1}}}");
        }
    }
}

/// Resident memory that each of many clients takes, all it needs with it: its entry, its moments, what malloc adds.
fn bytes(requests: u32) -> f64 {
    const CLIENTS: u32 = 200_000;
    let rates = Rates::default();
    let rate = rate("100/min", None).expect("a rate");
    let rule = rates.in_force(&Rule::new("bench".to_owned(), String::new(), &rate, Per::Ip));
    let before = resident();
    for i in 0..CLIENTS * requests {
        let place = rates.of_address(&rule, address(i, CLIENTS));
        black_box(rates.admit(&rule, &place, u64::from(i / CLIENTS) + 1));
    }
    (resident() - before) as f64 / f64::from(CLIENTS)
}

/// Of this process, by the page.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn address(i: u32, clients: u32) -> IpAddr {
    // Spread, so that neither side profits from neighbours.
    Ipv4Addr::from_bits((i % clients).wrapping_mul(2_654_435_761)).into()
}

/// With the clock read for each, as governor does.
fn mainstay(clients: u32, count: u32) -> f64 {
    let rates = Rates::default();
    let rate = rate(&format!("{count}/min"), None).expect("a rate");
    let rule = rates.in_force(&Rule::new("bench".to_owned(), String::new(), &rate, Per::Ip));
    let epoch = Instant::now();
    timed(|i| {
        let now_us = epoch.elapsed().as_micros() as u64 + 1;
        let place = rates.of_address(&rule, address(i, clients));
        rates.admit(&rule, &place, now_us).allowed
    })
}

fn governor(clients: u32, count: u32) -> f64 {
    let quota = Quota::per_minute(NonZeroU32::new(count).expect("not zero"));
    let limiter = RateLimiter::dashmap(quota);
    timed(|i| limiter.check_key(&address(i, clients)).is_ok())
}

fn timed(mut decide: impl FnMut(u32) -> bool) -> f64 {
    let begun = Instant::now();
    for i in 0..DECISIONS {
        black_box(decide(black_box(i)));
    }
    begun.elapsed().as_nanos() as f64 / f64::from(DECISIONS)
}
