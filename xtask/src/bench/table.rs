//! What was measured, as a table for each peer and as JSON.

use super::cells::Cell;
use super::median;
use super::peer::Peer;
use super::wrk::Run;

/// What was measured of one proxy in one cell, a value a round.
#[derive(Debug, Default)]
pub struct Series {
    cpu_micros: Vec<f64>,
    requests_per_second: Vec<f64>,
    p99_ms: Vec<f64>,
    errors: u64,
}

impl Series {
    pub fn add(&mut self, run: &Run, cpu_micros: u64) {
        self.cpu_micros.push(cpu_micros as f64 / run.requests.max(1) as f64);
        self.requests_per_second.push(run.requests_per_second);
        self.p99_ms.push(run.p99_ms);
        self.errors += run.errors;
    }

    fn medians(&self) -> [f64; 3] {
        [&self.cpu_micros, &self.requests_per_second, &self.p99_ms].map(|values| median(values.clone()))
    }

    fn numbers(&self) -> String {
        let [cpu, rate, p99] = self.medians();
        format!("{cpu:>13.1} {rate:>6.0} {p99:>6.1}")
    }
}

/// A whole run: `series[cell][proxy]`, Mainstay first and then the peers in their order.
#[derive(Debug)]
pub struct Measured {
    pub mainstay: String,
    pub peers: Vec<(Peer, String)>,
    pub cells: Vec<Cell>,
    pub series: Vec<Vec<Series>>,
}

impl Measured {
    pub fn print(&self) {
        println!("mainstay  {}, profile dist", self.mainstay);
        for (peer, version) in &self.peers {
            println!("{:<9} {version}", peer.name());
        }
        println!("CPU µs a request of the proxy's processes, requests/s, p99 ms; medians");
        for (at, (peer, _)) in self.peers.iter().enumerate() {
            self.print_beside(*peer, at + 1);
        }
    }

    fn print_beside(&self, peer: Peer, at: usize) {
        let judged = peer == Peer::Nginx;
        println!(
            "\n{:<20} {:>27} {:>27}   {:>6}{}",
            "",
            "mainstay  cpu    rps    p99",
            format!("{}  cpu    rps    p99", peer.name()),
            "ratio",
            if judged { "   at most" } else { "" }
        );
        for (cell, series) in self.cells.iter().zip(&self.series) {
            let ratio = ratio(&series[0], &series[at]);
            let bound = match judged {
                true if ratio > cell.ratio_max => format!("  {:>7.2}x  over", cell.ratio_max),
                true => format!("  {:>7.2}x", cell.ratio_max),
                false => String::new(),
            };
            println!("{:<20} {} {}   {ratio:>5.2}x{bound}", cell.name, series[0].numbers(), series[at].numbers());
            for (name, series) in [("mainstay", &series[0]), (peer.name(), &series[at])] {
                if series.errors > 0 {
                    println!("{:<20} {name}: {} timeouts or cut connections", "", series.errors);
                }
            }
        }
    }

    pub fn as_json(&self) -> serde_json::Value {
        let series = |series: &Series| {
            let [cpu, rate, p99] = series.medians();
            serde_json::json!({ "cpu_us": cpu, "rps": rate, "p99_ms": p99, "errors": series.errors })
        };
        let cells = self.cells.iter().zip(&self.series).map(|(cell, all)| {
            let mut object = serde_json::json!({ "cell": cell.name, "mainstay": series(&all[0]) });
            for ((peer, _), theirs) in self.peers.iter().zip(&all[1..]) {
                let mut beside = series(theirs);
                beside["ratio"] = ratio(&all[0], theirs).into();
                if *peer == Peer::Nginx {
                    beside["ratio_max"] = cell.ratio_max.into();
                }
                object[peer.name()] = beside;
            }
            object
        });
        let mut whole = serde_json::json!({ "mainstay": self.mainstay, "cells": cells.collect::<Vec<_>>() });
        for (peer, version) in &self.peers {
            whole[peer.name()] = version.as_str().into();
        }
        whole
    }
}

fn ratio(ours: &Series, theirs: &Series) -> f64 {
    median(ours.cpu_micros.clone()) / median(theirs.cpu_micros.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cells;

    #[test]
    fn a_ratio_is_of_what_a_request_costs() {
        let run = |requests| Run { requests, requests_per_second: 1.0, p99_ms: 1.0, errors: 0 };
        let (mut ours, mut theirs) = (Series::default(), Series::default());
        ours.add(&run(100), 1_000);
        theirs.add(&run(50), 1_000);
        let measured = Measured {
            mainstay: String::new(),
            peers: vec![(Peer::Nginx, "nginx/1".to_owned())],
            cells: cells::chosen(Some("handshake"), false).unwrap(),
            series: vec![vec![ours, theirs]],
        };
        let json = measured.as_json();
        assert_eq!(json["cells"][0]["nginx"]["ratio"], 0.5);
        assert_eq!(json["nginx"], "nginx/1");
    }
}
