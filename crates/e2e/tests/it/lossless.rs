//! A strict client accounts for every request while the edge and the apps are reloaded, restarted and killed.

use crate::support::{pids, ready_instances, static_app};
use mainstay_e2e::processes::signal;
use mainstay_e2e::strict::{Load, Mix, Tally};
use mainstay_e2e::{Mainstay, Setup, wait_until};
use nix::sys::signal::Signal;
use std::collections::HashMap;

/// Half of them HTTP/1.1 connections, half HTTP/2 streams.
const CONNECTIONS: usize = 50;
const ROUNDS: usize = 20;

/// Enough that none of twenty kills is the fifth early end of one instance, which would be a crash loop.
const KILLED_INSTANCES: usize = 6;

/// A file for instances that die at once on SIGTERM and note every request they begin to work on.
fn file(instances: usize) -> String {
    let text = static_app(&format!("instances = {instances}\n[edge.timeouts]\ndrain = \"10s\"\n"));
    text.replace("static_app\"]", "static_app\", \"--journal\", \"journal\"]")
}

fn started(instances: usize) -> Mainstay {
    let mainstay = Setup::file(&file(instances)).ready("/");
    ready_instances(&mainstay, instances);
    mainstay
}

/// Requests of the app's own journal: how often each numbered POST was begun.
fn posts_begun(mainstay: &Mainstay) -> HashMap<String, usize> {
    let journal = std::fs::read_to_string(mainstay.path().join("journal")).unwrap_or_default();
    let mut begun = HashMap::new();
    for line in journal.lines().filter(|line| line.starts_with("POST ")) {
        *begun.entry(line.to_string()).or_insert(0) += 1;
    }
    begun
}

#[test]
fn c5_e11_twenty_reloads_lose_nothing() {
    let mainstay = started(2);
    let (one, two) = Load::start(mainstay.edge(), CONNECTIONS, Mix::Both);
    let before = pids(&mainstay);
    for round in 0..ROUNDS {
        one.goes_on(20);
        two.goes_on(20);
        let more = format!("[[route]]\nmatch = \"/round-{round}\"\nbody = \"{}KB\"\n", round + 1);
        mainstay.write("mainstay.toml", &format!("{}{more}", file(2)));
        if round % 2 == 0 {
            mainstay.verb(&["reload"]).ok();
        } else {
            mainstay.signal(Signal::SIGHUP);
        }
    }
    for tally in finished(one, two) {
        tally.all_answered();
    }
    assert_eq!(pids(&mainstay), before, "a reload of routes restarts nothing");
}

#[test]
fn r25_twenty_rolling_restarts_lose_nothing() {
    let mainstay = started(2);
    let (one, two) = Load::start(mainstay.edge(), CONNECTIONS, Mix::Both);
    for _ in 0..ROUNDS {
        let before = pids(&mainstay);
        one.goes_on(20);
        two.goes_on(20);
        mainstay.verb(&["restart"]).ok();
        let after = pids(&mainstay);
        assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} → {after:?}");
    }
    for tally in finished(one, two) {
        tally.all_answered();
    }
    let twice: Vec<_> = posts_begun(&mainstay).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "worked on more than once: {twice:?}");
}

#[test]
fn e3_twenty_killed_instances_lose_nothing_that_is_safe_to_repeat() {
    let mainstay = started(KILLED_INSTANCES);
    let (one, two) = Load::start(mainstay.edge(), CONNECTIONS, Mix::Safe);
    kill_instances(&mainstay, &one, &two);
    for tally in finished(one, two) {
        tally.nothing_lost();
        assert!(
            tally.honest.is_empty(),
            "safe to repeat, and yet failed: {:#?}",
            &tally.honest[..tally.honest.len().min(3)]
        );
        explained(&mainstay, &tally);
    }
}

#[test]
fn e3_twenty_killed_instances_answer_the_rest_honestly_and_nothing_runs_twice() {
    let mainstay = started(KILLED_INSTANCES);
    let load = Load::http1(mainstay.edge(), CONNECTIONS, Mix::Both);
    let other = Load::http2(mainstay.edge(), 0, Mix::Both);
    kill_instances(&mainstay, &load, &other);
    let _ = other.finish();
    let tally = load.finish();
    tally.nothing_lost();
    println!("{} sent, {} honest, {} cut", tally.sent, tally.honest.len(), tally.cut.len());
    let unsafe_alone = tally.honest.iter().all(|trouble| trouble.method == "POST");
    assert!(unsafe_alone, "a GET was given up: {:#?}", tally.honest);
    explained(&mainstay, &tally);
    let twice: Vec<_> = posts_begun(&mainstay).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "worked on more than once: {twice:?}");
}

fn kill_instances(mainstay: &Mainstay, one: &Load, two: &Load) {
    for round in 0..ROUNDS {
        one.goes_on(20);
        if two.sent() > 0 {
            two.goes_on(20);
        }
        let alive = pids(mainstay);
        let victim = alive[round % alive.len()];
        signal(victim, Signal::SIGKILL);
        wait_until("a replacement to be ready", || {
            let now = crate::support::instances(mainstay);
            now.iter().filter(|i| i["state"] == "ready" && i["pid"].as_i64() != Some(i64::from(victim))).count()
                == KILLED_INSTANCES
        });
    }
}

fn finished(one: Load, two: Load) -> [Tally; 2] {
    let both = [one.finish(), two.finish()];
    for (tally, name) in both.iter().zip(["HTTP/1.1", "HTTP/2"]) {
        println!(
            "{name}: {} sent, {} answered, {} honest, {} cut, {} unsent",
            tally.sent,
            tally.answered,
            tally.honest.len(),
            tally.cut.len(),
            tally.unsent
        );
    }
    both
}

/// Every failure the client was told of can be asked about.
fn explained(mainstay: &Mainstay, tally: &Tally) {
    for trouble in tally.honest.iter().chain(&tally.cut) {
        let why = mainstay.why(&trouble.id);
        assert!(why.contains("upstream_"), "{trouble:?}: {why}");
    }
}
