//! Limits as operators see them: what each admitted and refused, who uses most of it, and who causes the refusals.

use super::Rules;
use crate::core::Shared;
use crate::redis::Seen;
use mainstay_config::units::Per;
use mainstay_limits::rates::{InForce, Shown};
use mainstay_limits::redis::{Subject, keys};
use mainstay_limits::{Network, Refused};
use mainstay_runtime::Clock;
use mainstay_store::redis::{Error, Value, cmd};
use mainstay_telemetry::Names;
use mainstay_telemetry::metrics::exposition::{Exposition, Kind};
use std::time::Duration;

/// Somebody waits for it at a terminal.
const FORGET_LIMIT: Duration = Duration::from_secs(2);

/// Where a Mainstay tells those that count with it whom to forget.
pub const RESETS: &str = "mainstay:limits";

/// What was forgotten of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Counts there were, here or in Redis.
    pub counts: usize,
    pub reach: Reach,
}

/// Who forgot it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This Mainstay, which counts for itself.
    Here,
    /// This Mainstay, which alone knows whom the list's number means: in Redis it goes on.
    Number,
    /// Redis and this Mainstay. Others were not told: it may be a header's value, or Redis passes nothing on.
    Redis,
    /// Redis, and every Mainstay that counts there.
    Everywhere,
}

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

    /// Forgets what is counted of somebody, in Redis and by all Mainstays where they count together.
    ///
    /// # Errors
    /// When Redis does not say that it forgot them.
    pub async fn reset(&self, whom: &str) -> Result<Forgotten, Error> {
        let snapshot = self.shared.snapshot.load_full();
        let rules: Vec<&InForce> = snapshot.rate.in_force().collect();
        let here = self.shared.rates.reset(&rules, whom);
        let Some(redis) = self.shared.links.load().any().filter(|_| snapshot.rate.is_shared()) else {
            return Ok(Forgotten { counts: here, reach: Reach::Here });
        };
        if self.shared.rates.is_number(whom) {
            return Ok(Forgotten { counts: here, reach: Reach::Number });
        }
        let network = Network::parse(whom).map(Subject::Network);
        // What a header says may be a secret, and is told to nobody.
        let mut is_public = network.is_some() || !rules.iter().any(|rule| matches!(rule.rule.per, Per::Header(_)));
        let subjects = [Subject::Name(whom), Subject::Secret(whom.as_bytes())].into_iter().chain(network);
        let mut there = 0;
        for subject in subjects {
            for rule in &rules {
                let mut forget = cmd("DEL");
                forget.arg(&keys(&rule.rule.name, subject));
                if let Value::Int(count) = redis.ask(&forget, FORGET_LIMIT).await? {
                    there += usize::try_from(count).unwrap_or(0);
                    is_public |= count > 0 && matches!(subject, Subject::Name(_));
                }
            }
        }
        let mut tell = cmd("PUBLISH");
        tell.arg(RESETS).arg(whom);
        let is_told = is_public && redis.ask(&tell, FORGET_LIMIT).await.is_ok();
        let reach = if is_told { Reach::Everywhere } else { Reach::Redis };
        Ok(Forgotten { counts: here.max(there), reach })
    }

    /// Forgets here what another Mainstay was told to forget.
    pub fn forget_too(&self, whom: &str) {
        let snapshot = self.shared.snapshot.load_full();
        let rules: Vec<&InForce> = snapshot.rate.in_force().collect();
        self.shared.rates.reset(&rules, whom);
    }

    /// How the cores see Redis, whatever they share there, and how often one of them left it alone. No cores: they
    /// share nothing.
    pub fn links(&self) -> (Seen, u64) {
        let links = self.shared.links.load();
        (links.seen(), links.opened())
    }

    /// How the cores see the Redis they count in; `None`: they count for themselves.
    pub fn store(&self) -> Option<(Seen, Option<String>)> {
        let links = self.shared.links.load();
        let is_shared = self.shared.snapshot.load().rate.is_shared() && !links.is_empty();
        is_shared.then(|| (links.seen(), links.trouble()))
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
        self.shared.links.load().expose(out);
        let (snapshot, rates) = (self.shared.snapshot.load(), &self.shared.rates);
        if snapshot.rate.in_force().next().is_none() {
            return;
        }
        let mut family =
            out.family("mainstay_limit_decisions_total", Kind::Counter, "Requests a limit admitted or refused.");
        for rule in snapshot.rate.in_force() {
            let counts = rates.counts(rule);
            let mut sample = |outcome, n| family.sample(&[("rule", &rule.rule.name), ("outcome", outcome)], n);
            sample("admitted", counts.admitted);
            sample("refused", counts.refused);
            if snapshot.rate.is_shared() {
                sample("undecided", counts.undecided);
            }
        }
        self.expose_causes(&snapshot.rate, out);
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

    /// Whether a few clients or many are refused.
    fn expose_causes(&self, rules: &Rules, out: &mut Exposition) {
        let now_us = Clock::micros();
        let lately: Vec<(&str, Refused)> =
            rules.in_force().map(|rule| (rule.rule.name.as_str(), self.shared.rates.lately(rule, now_us))).collect();
        let help = "Clients a limit refused in the last minutes, about.";
        let mut family = out.family("mainstay_limit_refused_clients", Kind::Gauge, help);
        lately.iter().for_each(|(rule, refused)| family.sample(&[("rule", rule)], refused.clients));
        let help = "1: a few clients cause at least half of the refusals of the last minutes.";
        let mut family = out.family("mainstay_limit_refused_few", Kind::Gauge, help);
        lately.iter().for_each(|(rule, refused)| family.sample(&[("rule", rule)], u8::from(refused.few)));
        let help = "Refusals of the tenants that had the most, at most.";
        let mut family = out.family("mainstay_limit_tenant_refusals", Kind::Gauge, help);
        for (tenant, count) in self.tenants() {
            family.sample(&[("tenant", &tenant)], count);
        }
    }
}
