//! What `bench jobs` prints: every cell of every peer, then each ratio beside its goal.

use super::{Peer, Plan, Samples};
use serde_json::{Map, Value, json};

/// A cell, what it is called, and its decimals.
type Row = (&'static str, &'static str, usize);

const RATES: [Row; 11] = [
    ("add1", "add, 1 in flight", 0),
    ("add50", "add, 50 in flight", 0),
    ("gathered50", "add, 50 in flight, gathered", 0),
    ("bulk", "add, arrays of 1000", 0),
    ("process1", "process, 1 at once", 0),
    ("process10", "process, 10 at once", 0),
    ("process20", "process, 20 at once", 0),
    ("process50", "process, 50 at once", 0),
    ("process4x20", "process, 4 workers of 20", 0),
    ("process4x50", "process, 4 workers of 50", 0),
    ("push50", "push to an app, 50 at once", 0),
];
const TIMES: [Row; 4] = [
    ("idle_p50", "added to started, idle, p50", 2),
    ("idle_p99", "added to started, idle, p99", 2),
    ("steady_p50", "added to started, 200/s, p50", 2),
    ("steady_p99", "added to started, 200/s, p99", 2),
];
const SERVER: [Row; 15] = [
    ("life1_server_us", "a full life: add 1, process 1", 0),
    ("life10_server_us", "a full life: arrays, process 10", 0),
    ("life50_server_us", "a full life: add 50, process 50", 0),
    ("life50_gathered_server_us", "a full life: add 50 gathered, process 50", 0),
    ("add1_server_us", "add, 1 in flight", 0),
    ("add50_server_us", "add, 50 in flight", 0),
    ("gathered50_server_us", "add, 50 in flight, gathered", 0),
    ("bulk_server_us", "add, arrays of 1000", 0),
    ("process1_server_us", "process, 1 at once", 0),
    ("process10_server_us", "process, 10 at once", 0),
    ("process20_server_us", "process, 20 at once", 0),
    ("process50_server_us", "process, 50 at once", 0),
    ("process4x20_server_us", "process, 4 workers of 20", 0),
    ("process4x50_server_us", "process, 4 workers of 50", 0),
    ("push50_server_us", "push to an app, 50 at once", 0),
];
const CLIENT: [Row; 8] = [
    ("add1_client_us", "add, 1 in flight", 0),
    ("add50_client_us", "add, 50 in flight", 0),
    ("gathered50_client_us", "add, 50 in flight, gathered", 0),
    ("bulk_client_us", "add, arrays of 1000", 0),
    ("process1_client_us", "process, 1 at once", 0),
    ("process10_client_us", "process, 10 at once", 0),
    ("process50_client_us", "process, 50 at once", 0),
    ("push50_client_us", "push to an app, 50 at once: the app", 0),
];
const MEMORY: [Row; 3] = [
    ("rest_server", "server at rest", 1),
    ("rest_worker", "a worker's process at rest", 1),
    ("backlog_server", "server with the backlog", 1),
];

/// The ratio of ours to a peer's, and what is wanted of it.
#[derive(Debug)]
struct Goal {
    what: &'static str,
    ours: (&'static str, Peer),
    theirs: (&'static str, Peer),
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// Said, not judged.
    Nothing,
}

impl Wanted {
    fn is_reached(self, ratio: f64) -> Option<bool> {
        match self {
            Wanted::AtLeast(least) => Some(ratio >= least),
            Wanted::AtMost(most) => Some(ratio <= most),
            Wanted::Nothing => None,
        }
    }

    fn words(self) -> String {
        match self {
            Wanted::AtLeast(least) => format!("≥ {least}"),
            Wanted::AtMost(most) => format!("≤ {most}"),
            Wanted::Nothing => "-".to_owned(),
        }
    }
}

fn goals() -> Vec<Goal> {
    use Peer::{Always, Bunqueue, Mainstay, Nothing, Os};
    use Wanted::{AtLeast, AtMost};
    let same = |what, cell, ours, peer, wanted| Goal { what, ours: (cell, ours), theirs: (cell, peer), wanted };
    // Beside the better of both ways of the peer.
    let gathered = |peer, cell, wanted| {
        let what = "add, 50 in flight, gathered";
        Goal { what, ours: ("gathered50", Mainstay), theirs: (cell, peer), wanted }
    };
    let memory = |what, ours, theirs, wanted| Goal { what, ours: (ours, Mainstay), theirs: (theirs, Nothing), wanted };
    vec![
        same("add, 1 in flight", "add1", Mainstay, Always, AtLeast(1.0)),
        same("add, 50 in flight", "add50", Mainstay, Always, AtLeast(3.0)),
        gathered(Always, "add50", AtLeast(3.0)),
        same("add, arrays of 1000", "bulk", Mainstay, Always, AtLeast(6.0)),
        same("process, 1 at once", "process1", Mainstay, Always, AtLeast(1.0)),
        same("process, 10 at once", "process10", Mainstay, Always, AtLeast(2.0)),
        same("process, 50 at once", "process50", Mainstay, Always, AtLeast(3.0)),
        same("added to started, idle, p50", "idle_p50", Mainstay, Always, AtMost(1.0)),
        same("added to started, idle, p99", "idle_p99", Mainstay, Always, AtMost(0.5)),
        same("added to started, 200/s, p50", "steady_p50", Mainstay, Always, Wanted::Nothing),
        same("added to started, 200/s, p99", "steady_p99", Mainstay, Always, Wanted::Nothing),
        same("server CPU of a life, 50", "life50_server_us", Mainstay, Always, AtMost(0.4)),
        same("server CPU of a life, 50, gathered", "life50_gathered_server_us", Mainstay, Always, AtMost(0.4)),
        same("add, 1 in flight", "add1", Mainstay, Nothing, Wanted::Nothing),
        same("add, 1 in flight, os", "add1", Os, Nothing, Wanted::Nothing),
        same("add, 50 in flight", "add50", Mainstay, Nothing, AtLeast(1.5)),
        gathered(Nothing, "add50", AtLeast(1.5)),
        same("add, arrays of 1000", "bulk", Mainstay, Nothing, AtLeast(4.0)),
        same("process, 1 at once", "process1", Mainstay, Nothing, Wanted::Nothing),
        same("process, 10 at once", "process10", Mainstay, Nothing, AtLeast(1.5)),
        same("process, 10 at once, os", "process10", Os, Nothing, AtLeast(1.5)),
        same("process, 50 at once", "process50", Mainstay, Nothing, AtLeast(2.0)),
        same("process, 50 at once, os", "process50", Os, Nothing, AtLeast(2.0)),
        same("added to started, idle, p50, os", "idle_p50", Os, Nothing, AtMost(0.5)),
        same("added to started, idle, p99, os", "idle_p99", Os, Nothing, AtMost(0.5)),
        same("added to started, 200/s, p50, os", "steady_p50", Os, Nothing, Wanted::Nothing),
        same("added to started, 200/s, p99, os", "steady_p99", Os, Nothing, Wanted::Nothing),
        same("server CPU of a life, 50", "life50_server_us", Mainstay, Nothing, AtMost(0.4)),
        same("server CPU of a life, 50, gathered", "life50_gathered_server_us", Mainstay, Nothing, AtMost(0.4)),
        memory("memory at rest, beside Redis and a worker", "rest_server", "rest_both", AtMost(0.5)),
        memory("memory at rest, a worker on both sides", "rest_both", "rest_both", Wanted::Nothing),
        memory("memory at rest, beside Redis alone", "rest_server", "rest_server", Wanted::Nothing),
        memory("backlog, beside Redis and a worker", "backlog_server", "backlog_both", AtMost(0.5)),
        memory("backlog, beside Redis alone", "backlog_server", "backlog_server", Wanted::Nothing),
        same("add, 50 in flight", "add50", Mainstay, Bunqueue, AtLeast(3.0)),
        gathered(Bunqueue, "gathered50", AtLeast(3.0)),
        same("process, 10 at once", "process10", Mainstay, Bunqueue, AtLeast(3.0)),
    ]
}

/// Claimed, completed and on the disk of Postgres, from 20 jobs a call on: a second, by any of these.
const RATE_WANTED: f64 = 10_000.0;
const RATES_JUDGED: [&str; 4] = ["process20", "process50", "process4x20", "process4x50"];

#[derive(Debug)]
pub struct Report<'a> {
    pub heads: Vec<(&'static str, String)>,
    pub samples: &'a Samples,
    pub plan: Plan,
}

impl Report<'_> {
    pub fn as_json(&self) -> Value {
        let mut cells = Map::new();
        for ((cell, peer), values) in &self.samples.0 {
            let of = cells.entry(cell.clone()).or_insert_with(|| json!({}));
            of[peer.name()] = json!({ "median": super::median(values.clone()), "rounds": values });
        }
        let goals = goals().into_iter().filter_map(|goal| {
            let ratio = self.ratio(&goal)?;
            Some(json!({
                "what": goal.what, "ours": goal.ours.1.name(), "beside": goal.theirs.1.name(), "ratio": ratio,
                "goal": goal.wanted.words(), "reached": goal.wanted.is_reached(ratio),
                "ratio_of_the_client_in_rust": self.ratio_of_threads(&goal),
            }))
        });
        let heads: Map<String, Value> = self.heads.iter().map(|(name, said)| ((*name).into(), json!(said))).collect();
        let rates = self.rates().map(|(what, rate, is_reached)| {
            json!({ "what": what, "beside": Peer::Postgres.name(), "a_second": rate, "goal": RATE_WANTED,
                    "reached": is_reached })
        });
        let goals = goals.chain(rates);
        json!({ "of": heads, "backlog": self.plan.backlog, "cells": cells, "goals": goals.collect::<Vec<_>>() })
    }

    pub fn print(&self) {
        for (name, said) in &self.heads {
            println!("{name:<9} {said}");
        }
        let rounds = format!("median of {} rounds", self.plan.rounds);
        self.table(&format!("jobs a second, {rounds}"), &RATES);
        self.table(&format!("ms, {rounds}"), &TIMES);
        self.table("CPU µs of the server a job", &SERVER);
        self.table("CPU µs of the load client a job (bunqueue's runs on Bun, `Rust` is threads of ours)", &CLIENT);
        self.table(&format!("MiB resident, backlog of {} jobs", self.plan.backlog), &MEMORY);
        for (what, rate, is_reached) in self.rates() {
            let judged = if is_reached { "reached" } else { "not reached" };
            println!("in Postgres, {what:<29} {rate:>7.0}/s  goal ≥ {RATE_WANTED}/s  {judged}");
        }
        if !goals().iter().any(|goal| self.ratio(goal).is_some()) {
            return;
        }
        println!("\n{:<42} {:<15} {:>7} {:>7}  {:<12} with our client in Rust", "ratio", "beside", "ours", "goal", "");
        for goal in goals() {
            let Some(ratio) = self.ratio(&goal) else { continue };
            let judged = match goal.wanted.is_reached(ratio) {
                Some(true) => "reached",
                Some(false) => "not reached",
                None => "",
            };
            let threads = self.ratio_of_threads(&goal).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let (beside, wanted) = (goal.theirs.1.name(), goal.wanted.words());
            let line = format!("{:<42} {beside:<15} {ratio:>7.2} {wanted:>7}  {judged:<12} {threads}", goal.what);
            println!("{}", line.trim_end());
        }
        println!(
            "`always`: Redis answers once a write is on the disk, as mainstay does; `nothing`: Redis writes nothing; \
             bunqueue: durable"
        );
    }

    /// Jobs a second in Postgres, and whether that is enough.
    fn rates(&self) -> impl Iterator<Item = (&'static str, f64, bool)> {
        RATES.iter().filter(|(cell, ..)| RATES_JUDGED.contains(cell)).filter_map(|(cell, what, _)| {
            let rate = self.samples.median(cell, Peer::Postgres)?;
            Some((*what, rate, rate >= RATE_WANTED))
        })
    }

    /// Of what was measured of nobody nothing is printed.
    fn table(&self, head: &str, rows: &[Row]) {
        let value = |cell: &str, peer| self.samples.median(cell, peer);
        let is_there = |cell: &str| Peer::ALL.into_iter().any(|peer| value(cell, peer).is_some());
        if !rows.iter().any(|(cell, ..)| is_there(cell)) {
            return;
        }
        println!("\n{head}");
        let measured = |peer: &Peer| rows.iter().any(|(cell, ..)| value(cell, *peer).is_some());
        let peers: Vec<Peer> = Peer::ALL.into_iter().filter(measured).collect();
        let names: String = peers.iter().map(|peer| format!(" {:>14}", peer.name())).collect();
        println!("{:<42}{names}", "");
        for (cell, name, decimals) in rows.iter().filter(|(cell, ..)| is_there(cell)) {
            let text = |peer| value(cell, peer).map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"));
            let values: String = peers.iter().map(|peer| format!(" {:>14}", text(*peer))).collect();
            println!("{name:<42}{values}");
        }
    }

    fn ratio(&self, goal: &Goal) -> Option<f64> {
        self.of(goal.ours, goal.theirs)
    }

    /// The same with the client in Rust, where that was measured.
    fn ratio_of_threads(&self, goal: &Goal) -> Option<f64> {
        let is_ours = goal.ours.1 == Peer::Mainstay;
        is_ours.then(|| self.of((goal.ours.0, Peer::Threads), goal.theirs)).flatten()
    }

    fn of(&self, ours: (&str, Peer), theirs: (&str, Peer)) -> Option<f64> {
        let ratio = self.samples.median(ours.0, ours.1)? / self.samples.median(theirs.0, theirs.1)?;
        ratio.is_finite().then_some(ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::super::USUAL;
    use super::*;

    #[test]
    fn a_ratio_is_judged_and_what_was_not_measured_is_left_out() {
        let mut samples = Samples::default();
        samples.add("add50", Peer::Mainstay, 900.0);
        samples.add("add50", Peer::Threads, 1500.0);
        samples.add("add50", Peer::Always, 400.0);
        let report = Report { heads: vec![("disk", "ext4".to_owned())], samples: &samples, plan: USUAL };
        let told = report.as_json();
        let goals = told["goals"].as_array().unwrap();
        assert_eq!(goals.len(), 1, "{goals:?}");
        assert_eq!((&goals[0]["ratio"], &goals[0]["reached"]), (&json!(2.25), &json!(false)));
        assert_eq!(goals[0]["ratio_of_the_client_in_rust"], 3.75);
        report.print();
    }
}
