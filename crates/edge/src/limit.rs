//! The gate of rate limits: which limits a request falls under, and what its client is told of them.
//!
//! All that match count, and a request that one of them refuses counts with none: the one that has it wait longest is
//! the one that is named. Must never say anything of limits on an answer where no file names one, nor change what the
//! app says of its own.

pub mod crawlers;
mod dns;
pub mod proxies;
pub mod shown;

use crate::body::{Answer, Body};
use crate::core::{Conn, Core};
use crate::fields::{Fields, Name};
use crate::headers;
use crate::local::Ours;
use crate::message::RequestHead;
use crate::options::Options;
use crate::path::Pattern;
use crate::proxy::Refusal;
use crate::request::Gate;
use crate::snapshot::Snapshot;
use crawlers::Skipping;
use http::Method;
use mainstay_config::units::Per;
use mainstay_limits::rates::{InForce, Place, Who};
use mainstay_limits::rules::Group;
use mainstay_limits::window::Decision;
use mainstay_limits::{Form, Rates, Rule};
use mainstay_telemetry::{Names, Verdict};
use std::net::IpAddr;

/// What an app may say of limits of its own; where it does, nothing of ours is added.
const SAID: [&[u8]; 5] =
    [b"ratelimit", b"ratelimit-policy", b"ratelimit-limit", b"ratelimit-remaining", b"ratelimit-reset"];

/// Limits of a snapshot.
#[derive(Debug, Default)]
pub struct Rules {
    on: bool,
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
}

/// Whose request it is. Whoever proves it puts it here, between the limits of addresses and those of users.
#[derive(Debug, Default)]
pub struct Identity {
    pub user: Option<String>,
    pub tenant: Option<String>,
    pub tier: Option<String>,
}

/// What one request counted for.
#[derive(Debug, Default)]
pub struct Limited {
    matched: Vec<u16>,
    counted: Vec<Counted>,
    told: Option<Told>,
}

#[derive(Debug)]
struct Counted {
    rule: u16,
    place: Place,
    mark_us: u64,
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
            skip_successful: rate.skip_successful,
            form: (rate.form != Form::Off).then_some(rate.form),
            skipping: Skipping::new(&rate.skip),
            ..Rules::default()
        };
        for rule in &rate.everywhere {
            let index = rules.place(rule, rates, names);
            rules.everywhere.push(index);
        }
        for Group { rule, routes } in &rate.groups {
            // What is no pattern was told of when it was read.
            let patterns = routes.iter().filter_map(|route| Pattern::parse(&route.value).ok()).collect();
            let index = rules.place(rule, rates, names);
            rules.routed.push((patterns, index));
        }
        for route in &options.routes {
            for rule in &route.limits {
                let index = rules.place(rule, rates, names);
                rules.routed.push((vec![route.pattern.clone()], index));
            }
        }
        rules.websocket = rate.websocket.as_ref().map(|rule| rules.place(rule, rates, names));
        rules
    }

    fn place(&mut self, rule: &Rule, rates: &Rates, names: &Names) -> u16 {
        let at = names.intern(&format!("{} {} ({})", rule.stands, rule.quota, rule.at));
        let window_s = u64::from(rule.limit.window_ms).div_ceil(1000);
        let policy = format!("{};w={window_s}", rule.limit.count);
        self.all.push(Placed { rule: rates.in_force(rule), at, window_s, policy });
        u16::try_from(self.all.len() - 1).unwrap_or(u16::MAX)
    }

    /// Which of them a request falls under; `host` in lower case without its port, `path` canonical.
    pub fn matching(&self, method: &str, host: &str, path: &str) -> Vec<u16> {
        if !self.on {
            return Vec::new();
        }
        let mut all = self.everywhere.clone();
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(method, host, path));
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

    pub fn in_force(&self) -> impl Iterator<Item = &InForce> {
        self.all.iter().map(|placed| &placed.rule)
    }

    pub fn skipping(&self) -> &Skipping {
        &self.skipping
    }
}

/// Gate: limits, where any is about this request. Those of addresses first, then those of whoever it was proven to be.
pub fn within(
    arrived: &Arrived<'_>,
    matched: Vec<u16>,
    identity: Option<&Identity>,
    limited: &mut Option<Box<Limited>>,
) -> Result<(), Refusal> {
    if matched.is_empty() {
        return Ok(());
    }
    before_identity(arrived, matched, limited)?;
    let Some(identity) = identity else { return Ok(()) };
    let now = (&arrived.core.shared.rates, arrived.core.now_us());
    after_identity(now, &arrived.snapshot.rate, identity, limited)
}

/// Gate: limits of addresses and of what headers say. `None`: no limit is about this request.
pub fn before_identity(
    arrived: &Arrived<'_>,
    matched: Vec<u16>,
    limited: &mut Option<Box<Limited>>,
) -> Result<(), Refusal> {
    if matched.is_empty() || arrived.is_spared() {
        return Ok(());
    }
    let rules = &arrived.snapshot.rate;
    let socket = rules.websocket.is_some() && arrived.is_socket();
    let mut all = Limited { matched, ..Limited::default() };
    all.matched.retain(|index| Some(*index) != rules.websocket || socket);
    let rates = &arrived.core.shared.rates;
    let result = all.ask((rates, arrived.core.now_us()), rules, |rule| match &rule.rule.per {
        Per::Ip => Some(rates.of_address(rule, arrived.client)),
        // Leaving it out is no way round: then the address counts.
        Per::Header(name) => Some(match arrived.head.fields.find(name) {
            Some(value) => rates.of_header(rule, value),
            None => rates.of_address(rule, arrived.client),
        }),
        Per::User | Per::Tenant => None,
    });
    *limited = Some(Box::new(all));
    result
}

/// Gate: limits of users and tenants.
pub fn after_identity(
    (rates, now_us): (&Rates, u64),
    rules: &Rules,
    identity: &Identity,
    limited: &mut Option<Box<Limited>>,
) -> Result<(), Refusal> {
    let Some(limited) = limited else { return Ok(()) };
    let who =
        Who { user: identity.user.as_deref(), tenant: identity.tenant.as_deref(), tier: identity.tier.as_deref() };
    let result = limited.ask((rates, now_us), rules, |rule| rates.of_identity(rule, &who));
    if result.is_err() {
        rates.refused_tenant(who.tenant);
    }
    result
}

impl Arrived<'_> {
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
    fn ask(
        &mut self,
        (rates, now_us): (&Rates, u64),
        rules: &Rules,
        place: impl Fn(&InForce) -> Option<Place>,
    ) -> Result<(), Refusal> {
        let mut refused: Option<Told> = None;
        for &index in &self.matched {
            let Some(placed) = rules.all.get(usize::from(index)) else { continue };
            let Some(place) = place(&placed.rule) else { continue };
            let decision = rates.admit(&placed.rule, &place, now_us);
            let told = Told { rule: index, count: place.limit().count, decision };
            if !decision.allowed {
                if refused.is_none_or(|other| other.decision.reset_us < decision.reset_us) {
                    refused = Some(told);
                }
                continue;
            }
            self.counted.push(Counted { rule: index, place, mark_us: decision.mark_us });
            let left = |told: &Told| (told.decision.remaining, u64::MAX - told.decision.reset_us);
            if self.told.as_ref().is_none_or(|other| left(&told) < left(other)) {
                self.told = Some(told);
            }
        }
        let Some(told) = refused else { return Ok(()) };
        self.give_back(rates, rules, true);
        self.told = Some(told);
        Err(Refusal {
            rule: rules.all.get(usize::from(told.rule)).map_or(Names::NONE, |placed| placed.at),
            retry_after: Some(told.decision.reset_s().max(1)),
            ..Verdict::TooManyRequests.into()
        })
    }

    fn give_back(&mut self, rates: &Rates, rules: &Rules, refused: bool) {
        let spared = |counted: &Counted| refused || Some(counted.rule) != rules.websocket;
        for counted in self.counted.drain(..).filter(spared) {
            if let Some(placed) = rules.all.get(usize::from(counted.rule)) {
                rates.give_back(&placed.rule, &counted.place, counted.mark_us, refused);
            }
        }
    }

    /// The answer is there: what is not to count is given back, and the client told what is left.
    pub fn end(mut self, rates: &Rates, rules: &Rules, answer: &mut Answer) {
        if rules.skip_successful && answer.head.status < 400 {
            self.give_back(rates, rules, false);
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

impl Told {
    fn write(&self, form: Form, placed: &Placed, fields: &mut Fields) {
        let (count, left, window) = (self.count, self.decision.remaining, placed.window_s);
        let mut reset = u64::from(self.decision.reset_s().max(1));
        if self.decision.allowed {
            // A moment is rounded to the end of its millisecond: not a second longer for that.
            reset = reset.min(window);
        }
        if form == Form::Draft10 {
            let label = &placed.rule.rule.label;
            fields.push(b"RateLimit-Policy", format!("\"{label}\";q={count};w={window}").as_bytes());
            return fields.push(b"RateLimit", format!("\"{label}\";r={left};t={reset}").as_bytes());
        }
        match count == placed.rule.rule.limit.count {
            true => fields.push(b"RateLimit-Policy", placed.policy.as_bytes()),
            // That of a tier.
            false => fields.push(b"RateLimit-Policy", format!("{count};w={window}").as_bytes()),
        }
        let numbers: [(&[u8], u64); 3] =
            [(b"RateLimit-Limit", count.into()), (b"RateLimit-Remaining", left.into()), (b"RateLimit-Reset", reset)];
        let mut room = [0; 20];
        numbers.iter().for_each(|(name, number)| fields.push(name, decimal(*number, &mut room)));
    }
}

/// Twenty digits hold any number of 64 bits.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::{Inputs, Reader, Text};

    /// A whole millisecond: what is rounded to its end lies there already.
    const NOW: u64 = 1_000_000;

    fn rules(text: &str, rates: &Rates) -> Rules {
        let file = Some(Text { path: "mainstay.toml".into(), text: text.to_owned() });
        let reader = Reader::new(&Inputs { file, ..Inputs::default() });
        Rules::new(&Options::read(&reader), rates, &Names::default())
    }

    fn identity(user: &str, tenant: &str) -> Identity {
        Identity { user: Some(user.to_owned()), tenant: Some(tenant.to_owned()), tier: None }
    }

    /// As the gate asks: the address first, then whoever it is.
    fn ask(rates: &Rates, rules: &Rules, identity: &Identity) -> (Result<(), Refusal>, Box<Limited>) {
        let mut limited = Box::new(Limited { matched: rules.matching("GET", "", "/api/x"), ..Limited::default() });
        let address =
            |rule: &InForce| (rule.rule.per == Per::Ip).then(|| rates.of_address(rule, [192, 0, 2, 1].into()));
        limited.ask((rates, NOW), rules, address).expect("the address is within its limit");
        let mut limited = Some(limited);
        let result = after_identity((rates, NOW), rules, identity, &mut limited);
        (result, limited.expect("limited"))
    }

    #[test]
    fn without_a_word_in_the_file_nothing_is_looked_at() {
        let rules = rules("[app.a]\nupstreams = [\"127.0.0.1:1\"]\n", &Rates::default());
        assert!(!rules.on && rules.matching("GET", "", "/").is_empty());
    }

    #[test]
    fn a_user_over_the_limit_costs_neither_the_address_nor_the_tenant_anything() {
        let rates = Rates::default();
        let text = "[limits]\nip = \"100/min\"\nuser = \"3/min\"\ntenant = \"10/min\"\n\
                    [[route]]\nmatch = \"/api/*\"\nlimit = \"200/min per tenant\"\n";
        let rules = rules(text, &rates);
        for left in [2, 1, 0] {
            let (result, limited) = ask(&rates, &rules, &identity("ann", "acme"));
            assert!(result.is_ok());
            // The least that is left is the user's.
            assert_eq!(limited.told.map(|told| told.decision.remaining), Some(left));
        }
        for _ in 0..50 {
            let (result, limited) = ask(&rates, &rules, &identity("ann", "acme"));
            let refusal = result.expect_err("over the limit");
            assert_eq!((refusal.verdict, refusal.retry_after), (Verdict::TooManyRequests, Some(60)));
            assert!(limited.counted.is_empty());
        }
        // Three of the tenant's ten are used, and three of the address's hundred.
        for user in ["ben", "cid", "ben", "cid", "ben", "cid"] {
            assert!(ask(&rates, &rules, &identity(user, "acme")).0.is_ok());
        }
        let (result, limited) = ask(&rates, &rules, &Identity::default());
        assert!(result.is_ok());
        assert_eq!(limited.told.map(|told| told.decision.remaining), Some(90));
        assert!(ask(&rates, &rules, &identity("dan", "acme")).0.is_ok());
        assert!(ask(&rates, &rules, &identity("eve", "acme")).0.is_err(), "the tenant has ten");
        assert!(ask(&rates, &rules, &identity("ann", "other")).0.is_err(), "a user stays the same one");
        assert!(ask(&rates, &rules, &identity("fay", "other")).0.is_ok());
        assert_eq!(rates.tenants()[0], ("acme".to_owned(), 51));
    }
}
