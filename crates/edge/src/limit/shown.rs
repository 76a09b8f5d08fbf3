//! Limits as operators see them: what each admitted and refused, who uses most of it, and who causes the refusals.

use crate::core::Shared;
use mainstay_limits::rates::{InForce, Shown};
use mainstay_runtime::Clock;
use mainstay_telemetry::Names;
use mainstay_telemetry::metrics::exposition::{Exposition, Kind};

/// Borrowed from the edge for one look.
#[derive(Debug)]
pub struct Limits<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) names: &'a Names,
}

impl Limits<'_> {
    /// Each rule in force, with at most so many of its clients.
    pub fn shown(&self, most: usize) -> Vec<Shown> {
        let (snapshot, now_us) = (self.shared.snapshot.load(), Clock::micros());
        snapshot.rate.in_force().map(|rule| self.shared.rates.shown(rule, now_us, most)).collect()
    }

    /// Forgets what is counted of somebody; how many counts there were.
    pub fn reset(&self, whom: &str) -> usize {
        let snapshot = self.shared.snapshot.load();
        let rules: Vec<&InForce> = snapshot.rate.in_force().collect();
        self.shared.rates.reset(&rules, whom)
    }

    /// Refusals by route.
    pub fn routes(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> =
            self.shared.rates.routes().iter().map(|(route, n)| (self.names.get(*route).to_string(), *n)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    /// Refusals by tenant, the most frequent.
    pub fn tenants(&self) -> Vec<(String, u64)> {
        self.shared.rates.tenants()
    }

    /// Clients remembered, and how many were forgotten while they still counted.
    pub fn tracked(&self) -> (usize, u64) {
        self.shared.rates.tracked()
    }

    /// Gives back the memory of clients that left.
    pub fn sweep(&self) {
        self.shared.rates.sweep(Clock::micros());
    }

    /// A proxy in front that nobody named, and the line to type. Once for each.
    pub fn unnamed_proxy(&self) -> Option<String> {
        let suspect = self.shared.unnamed.suspect()?;
        Some(suspect.sentence(&self.shared.snapshot.load().trusted))
    }

    /// The families of the metrics page: bounded by the rules of the file, and by the routes there are.
    pub fn expose(&self, out: &mut Exposition) {
        let (snapshot, rates) = (self.shared.snapshot.load(), &self.shared.rates);
        if snapshot.rate.in_force().next().is_none() {
            return;
        }
        let mut family =
            out.family("mainstay_limit_decisions_total", Kind::Counter, "Requests a limit admitted or refused.");
        for rule in snapshot.rate.in_force() {
            let (admitted, refused) = rates.counts(rule);
            family.sample(&[("rule", &rule.rule.name), ("outcome", "admitted")], admitted);
            family.sample(&[("rule", &rule.rule.name), ("outcome", "refused")], refused);
        }
        let help = "Requests refused by limits, by their route.";
        let mut family = out.family("mainstay_limit_refusals_total", Kind::Counter, help);
        for (route, count) in self.routes() {
            family.sample(&[("route", &route)], count);
        }
        let (tracked, forgotten) = rates.tracked();
        out.family("mainstay_limit_clients", Kind::Gauge, "Clients and limits that are remembered.")
            .sample(&[], tracked as u64);
        let help = "Clients forgotten while they still counted, because there were too many.";
        out.family("mainstay_limit_forgotten_total", Kind::Counter, help).sample(&[], forgotten);
    }
}
