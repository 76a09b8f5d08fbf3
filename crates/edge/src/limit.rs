//! The gate of rate limits: which limits a request falls under, and what its client is told of them.
//!
//! All that match count, and a request that one of them refuses counts with none: the one that has it wait longest is
//! the one that is named. Must never say anything of limits on an answer where no file names one, nor change what the
//! app says of its own.

pub mod crawlers;
mod dns;
pub mod logins;
pub mod proxies;
pub mod shown;
mod together;
mod told;

use crate::body::{Answer, Body};
use crate::core::{Conn, Core};
use crate::fields::Name;
use crate::headers;
use crate::local::Ours;
use crate::message::RequestHead;
use crate::options::Options;
use crate::path::Pattern;
use crate::proxy::Refusal;
use crate::redis::Allowance;
use crate::request::Gate;
use crate::snapshot::Snapshot;
use crawlers::Skipping;
use http::Method;
use mainstay_config::units::Per;
use mainstay_identity::Identity;
use mainstay_limits::rates::{InForce, Place, Who};
use mainstay_limits::redis::Subject;
use mainstay_limits::rules::Group;
use mainstay_limits::window::Decision;
use mainstay_limits::{Form, Network, Rates, Rule};
use mainstay_store::redis::Redis;
use mainstay_telemetry::{Names, Verdict};
use std::net::IpAddr;

/// What an app may say of limits of its own; where it does, nothing of ours is added.
const SAID: [&[u8]; 5] =
    [b"ratelimit", b"ratelimit-policy", b"ratelimit-limit", b"ratelimit-remaining", b"ratelimit-reset"];

/// Limits of a snapshot.
#[derive(Debug, Default)]
pub struct Rules {
    on: bool,
    /// Counted by several Mainstays together.
    shared: bool,
    skip_successful: bool,
    form: Option<Form>,
    all: Vec<Placed>,
    /// In `all`: for every request.
    everywhere: Vec<u16>,
    /// In `all`: for some.
    routed: Vec<(Vec<Pattern>, u16)>,
    websocket: Option<u16>,
    skipping: Skipping,
}

#[derive(Debug)]
struct Placed {
    rule: InForce,
    /// In `Names`.
    at: u32,
    window_s: u64,
    /// As it is told.
    policy: String,
    /// Whom it cannot count for everybody it does not admit.
    is_closed: bool,
}

/// What one request counted for.
#[derive(Debug, Default)]
pub struct Limited {
    matched: Vec<u16>,
    counted: Vec<Counted>,
    /// What Redis is still to be asked.
    expected: Vec<together::Asked>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Counted {
    rule: u16,
    place: Place,
    /// Its mark in the count of this Mainstay.
    here: Option<u64>,
    /// Its key and mark in that of all.
    there: Option<(String, u64)>,
}

/// The limit a client is told of: the one with the least left.
#[derive(Clone, Copy, Debug)]
struct Told {
    rule: u16,
    count: u32,
    decision: Decision,
}

/// A request at the gate.
pub struct Arrived<'a> {
    pub core: &'a Core,
    pub conn: &'a Conn,
    pub snapshot: &'a Snapshot,
    pub gate: &'a Gate<'a>,
    pub client: IpAddr,
    pub head: &'a RequestHead,
    pub body: &'a Body,
}

impl Rules {
    pub fn new(options: &Options, rates: &Rates, names: &Names) -> Rules {
        let rate = &options.rate;
        let routed = options.routes.iter().any(|route| !route.limits.is_empty());
        if !rate.enabled || !routed && !rate.limits_something() {
            return Rules::default();
        }
        let mut rules = Rules {
            on: true,
            shared: rate.shared,
            skip_successful: rate.skip_successful,
            form: (rate.form != Form::Off).then_some(rate.form),
            skipping: Skipping::new(&rate.skip),
            ..Rules::default()
        };
        for rule in &rate.everywhere {
            let index = rules.place(rule, options, rates, names);
            rules.everywhere.push(index);
        }
        for Group { rule, routes } in &rate.groups {
            // What is no pattern was told of when it was read.
            let patterns = routes.iter().filter_map(|route| Pattern::parse(&route.value).ok()).collect();
            let index = rules.place(rule, options, rates, names);
            rules.routed.push((patterns, index));
        }
        for route in &options.routes {
            for rule in &route.limits {
                let index = rules.place(rule, options, rates, names);
                rules.routed.push((vec![route.pattern.clone()], index));
            }
        }
        rules.websocket = rate.websocket.as_ref().map(|rule| rules.place(rule, options, rates, names));
        rules
    }

    fn place(&mut self, rule: &Rule, options: &Options, rates: &Rates, names: &Names) -> u16 {
        let at = names.intern(&format!("{} {} ({})", rule.stands, rule.quota, rule.at));
        let window_s = u64::from(rule.limit.window_ms).div_ceil(1000);
        let policy = format!("{};w={window_s}", rule.limit.count);
        let is_closed = rule.closed.unwrap_or(options.rate.closed);
        self.all.push(Placed { rule: rates.in_force(rule), at, window_s, policy, is_closed });
        u16::try_from(self.all.len() - 1).unwrap_or(u16::MAX)
    }

    /// Which of them a request falls under, HEAD under those of GET, whose handler answers it; `host` in lower case
    /// without its port, `path` canonical.
    pub fn matching(&self, method: &str, host: &str, path: &str) -> Vec<u16> {
        if !self.on {
            return Vec::new();
        }
        let mut all = self.everywhere.clone();
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.covers(method, host, path));
        all.extend(self.routed.iter().filter(|(patterns, _)| fits(patterns)).map(|(_, index)| *index));
        // Known only once its headers are looked at; `before_identity` takes it out again.
        all.extend(self.websocket);
        all
    }

    /// What is limited by its path, and in `Names` where that stands.
    pub fn patterns(&self) -> impl Iterator<Item = (&Pattern, u32)> {
        let at = |index: u16| self.all.get(usize::from(index)).map_or(Names::NONE, |placed| placed.at);
        self.routed.iter().flat_map(move |(patterns, index)| patterns.iter().map(move |pattern| (pattern, at(*index))))
    }

    /// Whom to ask; `None`: this Mainstay counts for itself.
    fn through(&self, core: &Core) -> Option<Redis> {
        if self.shared { core.redis.get() } else { None }
    }

    pub fn is_shared(&self) -> bool {
        self.shared
    }

    pub fn in_force(&self) -> impl Iterator<Item = &InForce> {
        self.all.iter().map(|placed| &placed.rule)
    }

    pub fn skipping(&self) -> &Skipping {
        &self.skipping
    }
}

/// Gate: limits of addresses and of what headers say, of those that `matched`. Those that are shared are asked in
/// `after_identity`, together with the others: one round trip for all.
pub fn before_identity(
    arrived: &Arrived<'_>,
    matched: Vec<u16>,
    limited: &mut Option<Box<Limited>>,
) -> Result<(), Refusal> {
    if arrived.is_spared() {
        return Ok(());
    }
    let (core, rules) = (arrived.core, &arrived.snapshot.rate);
    let socket = rules.websocket.is_some() && arrived.is_socket();
    let mut all = Box::new(Limited { matched, ..Limited::default() });
    all.matched.retain(|index| Some(*index) != rules.websocket || socket);
    let result = match rules.through(core) {
        None => all.ask((&core.shared.rates, core.now_us()), rules, |rule| arrived.place(rule)),
        Some(redis) => all.expect((core, &redis), rules, |rule| arrived.place(rule)),
    };
    *limited = Some(all);
    result
}

/// Whom they count.
pub fn who(identity: &Identity) -> Who<'_> {
    Who { user: Some(&identity.user), tenant: identity.tenant.as_deref(), tier: identity.tier.as_deref() }
}

/// Gate: limits of users and tenants, and what is still to be asked of all.
pub async fn after_identity(
    (core, rules): (&Core, &Rules),
    who: &Who<'_>,
    limited: &mut Limited,
    allowance: &mut Allowance,
) -> Result<(), Refusal> {
    let (rates, redis) = (&core.shared.rates, rules.through(core));
    let place = |rule: &InForce| who.place(rates, rule);
    let result = match &redis {
        None => limited.ask((rates, core.now_us()), rules, place),
        Some(redis) => limited.expect((core, redis), rules, place),
    };
    let result = match result {
        Ok(()) if !limited.expected.is_empty() => {
            Box::pin(limited.ask_all((core, redis.as_ref()), rules, allowance)).await
        }
        result => result,
    };
    if result.is_err() {
        rates.refused_tenant(who.tenant);
    }
    result
}

impl Arrived<'_> {
    fn place(&self, rule: &InForce) -> Option<(Place, Subject<'_>)> {
        let rates = &self.core.shared.rates;
        let address = || (rates.of_address(rule, self.client), Subject::Network(Network::of(self.client)));
        match &rule.rule.per {
            Per::Ip => Some(address()),
            // Leaving it out is no way round: then the address counts.
            Per::Header(name) => Some(match self.head.fields.find(name) {
                Some(value) => (rates.of_header(rule, value), Subject::Secret(value)),
                None => address(),
            }),
            Per::User | Per::Tenant => None,
        }
    }

    /// Health checks, an authority's tokens, and proven crawlers.
    fn is_spared(&self) -> bool {
        let reads = matches!(self.head.method, Method::GET | Method::HEAD);
        let health = self.gate.health || self.is_probe();
        reads && (health || self.gate.ours == Ours::Token)
            || self.snapshot.rate.skipping.spares(self.core, self.client, &self.head.fields)
    }

    /// Of the app's own.
    fn is_probe(&self) -> bool {
        self.gate.served.and_then(|served| served.app.probe.path.as_deref()) == Some(self.head.path())
    }

    fn is_socket(&self) -> bool {
        let fields = &self.head.fields;
        matches!(self.body, Body::Upgrade(_))
            || self.conn.http1.is_some()
                && headers::wants_upgrade(fields)
                && fields.has_token(Name::Upgrade, "websocket")
    }
}

impl Limited {
    /// Asks every rule that `place` knows somebody for. One refusal, and none of them has counted it.
    fn ask<'a>(
        &mut self,
        (rates, now_us): (&Rates, u64),
        rules: &Rules,
        place: impl Fn(&InForce) -> Option<(Place, Subject<'a>)>,
    ) -> Result<(), Refusal> {
        let mut refused: Option<Told> = None;
        for at in 0..self.matched.len() {
            let index = self.matched[at];
            let Some(placed) = rules.all.get(usize::from(index)) else { continue };
            let Some((place, _)) = place(&placed.rule) else { continue };
            let decision = rates.admit(&placed.rule, &place, now_us);
            let told = Told { rule: index, count: place.limit().count, decision };
            if decision.allowed {
                self.counted.push(Counted { rule: index, place, here: Some(decision.mark_us), there: None });
                self.admitted(told);
            } else if refused.is_none_or(|other| other.decision.reset_us < decision.reset_us) {
                refused = Some(told);
            }
        }
        let Some(told) = refused else { return Ok(()) };
        self.take_back((rates, None), rules);
        Err(self.refused(told, rules))
    }

    /// The one with the least left is told.
    fn admitted(&mut self, told: Told) {
        let left = |told: &Told| (told.decision.remaining, u64::MAX - told.decision.reset_us);
        if self.told.as_ref().is_none_or(|other| left(&told) < left(other)) {
            self.told = Some(told);
        }
    }

    fn refused(&mut self, told: Told, rules: &Rules) -> Refusal {
        self.told = Some(told);
        Refusal {
            rule: rules.all.get(usize::from(told.rule)).map_or(Names::NONE, |placed| placed.at),
            retry_after: Some(told.decision.reset_s().max(1)),
            ..Verdict::TooManyRequests.into()
        }
    }

    /// Another limit refused it: none of them counted it.
    fn take_back(&mut self, (rates, redis): (&Rates, Option<&Redis>), rules: &Rules) {
        for counted in self.counted.drain(..) {
            if let Some(placed) = rules.all.get(usize::from(counted.rule)) {
                rates.taken_back(&placed.rule);
            }
            counted.forget(rates, redis);
        }
    }

    /// The answer is there: what is not to count is given back, and the client told what is left.
    pub fn end(mut self, core: &Core, rules: &Rules, answer: &mut Answer) {
        if rules.skip_successful && answer.head.status < 400 {
            let (rates, redis) = (&core.shared.rates, rules.through(core));
            let spared = self.counted.drain(..).filter(|counted| Some(counted.rule) != rules.websocket);
            spared.for_each(|counted| counted.forget(rates, redis.as_ref()));
            if let Some(told) = &mut self.told
                && Some(told.rule) != rules.websocket
            {
                told.decision.remaining = (told.decision.remaining + 1).min(told.count);
            }
        }
        let (Some(told), Some(form)) = (self.told, rules.form) else { return };
        let fields = &mut answer.head.fields;
        if SAID.iter().any(|name| fields.has_named(name)) {
            return;
        }
        if let Some(placed) = rules.all.get(usize::from(told.rule)) {
            told.write(form, placed, fields);
        }
    }
}

impl Counted {
    /// As if it had never come.
    fn forget(self, rates: &Rates, redis: Option<&Redis>) {
        if let Some(mark_us) = self.here {
            rates.give_back(&self.place, mark_us);
        }
        if let (Some(there), Some(redis)) = (self.there, redis) {
            together::take_back(redis, there, &self.place);
        }
    }
}

#[cfg(test)]
#[path = "limit/tests.rs"]
mod tests;
