//! Rate limits as all cores share them: what is counted, for whom, and what became of it. Outlives every reload.

use crate::Network;
use crate::redis::Subject;
use crate::rules::Rule;
use crate::table::{Key, Table};
use crate::tally::{Counts, Refused, Routes, Sketch, Tally};
use crate::window::{Decision, Limit};
use mainstay_config::units::Per;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Rules ever named, over all reloads; one more is counted with the last.
const RULES_MAX: usize = 4096;
/// Users and tenants that can be shown by name.
const NAMES_MAX: usize = 1024;
/// Longest name that is shown.
const NAME_BYTES_MAX: usize = 128;
/// What a subject begins with: an IPv4 address, an IPv6 network, or else the hash of a name.
const V4: u64 = 1;
const V6: u64 = 2;
const HASHED: u64 = 1 << 63;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Rates(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    rules: Mutex<HashMap<String, Counted>>,
    routes: Routes,
    tenants: Mutex<Sketch>,
    names: RwLock<HashMap<[u64; 2], Box<str>>>,
    hashers: [RandomState; 2],
}

#[derive(Clone, Debug)]
struct Counted {
    id: u32,
    tally: Arc<Tally>,
}

/// A rule in force.
#[derive(Clone, Debug)]
pub struct InForce {
    pub rule: Rule,
    id: u32,
    tally: Arc<Tally>,
}

/// One request's place in a count.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    key: Key,
    limit: Limit,
}

/// Whose request it is, as far as that was proven.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    pub user: Option<&'a str>,
    pub tenant: Option<&'a str>,
    /// The tenant's, where limits differ by it.
    pub tier: Option<&'a str>,
}

/// One rule, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    pub quota: String,
    pub at: String,
    pub counts: Counts,
    /// Clients that count now.
    pub tracked: usize,
    /// The most used: who, how much, of how much.
    pub top: Vec<(String, u32, u32)>,
    pub lately: Refused,
    /// The names of those in `lately`.
    pub causes: Vec<(String, u64)>,
}

impl Rates {
    /// Whoever was counted by a rule of this name is counted by this one.
    pub fn in_force(&self, rule: &Rule) -> InForce {
        let mut rules = self.0.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let next = rules.len().min(RULES_MAX) as u32;
        let name = if rules.len() >= RULES_MAX && !rules.contains_key(&rule.name) { "other" } else { &rule.name };
        let counted = rules.entry(name.to_owned()).or_insert_with(|| Counted { id: next, tally: Arc::default() });
        InForce { rule: rule.clone(), id: counted.id, tally: counted.tally.clone() }
    }

    pub fn of_address(&self, rule: &InForce, address: IpAddr) -> Place {
        let subject = of_network(Network::of(address));
        Place { key: Key { rule: rule.id, subject }, limit: rule.rule.limit }
    }

    /// By what a header says, which may be a secret and is never kept.
    pub fn of_header(&self, rule: &InForce, value: &[u8]) -> Place {
        Place { key: Key { rule: rule.id, subject: self.hashed(value) }, limit: rule.rule.limit }
    }

    /// `None`: the rule is about nobody this is.
    pub fn of_identity(&self, rule: &InForce, who: &Who<'_>) -> Option<Place> {
        let name = who.counted_by(&rule.rule.per)?;
        let tier = who.tier.and_then(|tier| rule.rule.tiers.iter().find(|(name, _)| name == tier));
        let subject = self.hashed(name.as_bytes());
        let place =
            Place { key: Key { rule: rule.id, subject }, limit: tier.map_or(rule.rule.limit, |(_, limit)| *limit) };
        self.remember(subject, name);
        Some(place)
    }

    pub fn admit(&self, rule: &InForce, place: &Place, now_us: u64) -> Decision {
        let decision = self.count(place, now_us);
        self.judged(rule, place, decision.allowed, now_us);
        decision
    }

    /// Counts without a judgement: others count too.
    pub fn count(&self, place: &Place, now_us: u64) -> Decision {
        self.0.table.admit(place.key, now_us, &place.limit)
    }

    pub fn judged(&self, rule: &InForce, place: &Place, allowed: bool, now_us: u64) {
        match allowed {
            true => rule.tally.admitted(),
            false => rule.tally.refused(place.key.subject, now_us),
        }
    }

    pub fn admitted(&self, rule: &InForce) {
        rule.tally.admitted();
    }

    /// It was not admitted because nobody could be asked.
    pub fn undecided(&self, rule: &InForce) {
        rule.tally.undecided();
    }

    /// It was admitted by this rule and refused by another.
    pub fn taken_back(&self, rule: &InForce) {
        rule.tally.taken_back();
    }

    /// As if it had never come.
    pub fn give_back(&self, place: &Place, mark_us: u64) {
        self.0.table.give_back(place.key, mark_us, &place.limit);
    }

    /// Where a refusal happened. `other`: what has no place of its own.
    pub fn refused_at(&self, route: u32, other: u32) {
        self.0.routes.refused(route, other);
    }

    /// Whose refusal it was.
    pub fn refused_tenant(&self, tenant: Option<&str>) {
        if let Some(tenant) = tenant {
            let subject = self.hashed(tenant.as_bytes());
            self.remember(subject, tenant);
            self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner).count(subject);
        }
    }

    pub fn sweep(&self, now_us: u64) {
        self.0.table.sweep(now_us);
    }

    /// Clients remembered, and how many were forgotten for want of room.
    pub fn tracked(&self) -> (usize, u64) {
        (self.0.table.len(), self.0.table.forgotten())
    }

    pub fn routes(&self) -> Vec<(u32, u64)> {
        self.0.routes.all()
    }

    pub fn tenants(&self) -> Vec<(String, u64)> {
        let all = self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone().judge();
        all.top.iter().map(|(subject, count)| (self.show(*subject), *count)).collect()
    }

    pub fn counts(&self, rule: &InForce) -> Counts {
        rule.tally.counts()
    }

    pub fn lately(&self, rule: &InForce, now_us: u64) -> Refused {
        rule.tally.lately(now_us)
    }

    pub fn shown(&self, rule: &InForce, now_us: u64, most: usize) -> Shown {
        let limit = rule.rule.limit;
        let (tracked, top) = self.0.table.top(rule.id, now_us, &limit, most);
        let lately = rule.tally.lately(now_us);
        let causes = lately.top.iter().take(most).map(|(subject, count)| (self.show(*subject), *count)).collect();
        Shown {
            name: rule.rule.name.clone(),
            quota: rule.rule.quota.clone(),
            at: rule.rule.at.clone(),
            counts: rule.tally.counts(),
            tracked,
            top: top.iter().map(|usage| (self.show(usage.subject), usage.used, limit.count)).collect(),
            causes,
            lately,
        }
    }

    /// Forgets what is counted of somebody: an address, or the name of a user or tenant, or a header's value. How many
    /// counts there were.
    pub fn reset(&self, rules: &[&InForce], whom: &str) -> usize {
        let mut subjects = vec![self.named(whom).unwrap_or_else(|| self.hashed(whom.as_bytes()))];
        subjects.extend(Network::parse(whom).map(of_network));
        let keys = rules.iter().flat_map(|rule| subjects.iter().map(|&subject| Key { rule: rule.id, subject }));
        keys.filter(|key| self.0.table.forget(*key)).count()
    }

    /// Whether this is how the list shows what may not be shown: no other process knows whom it means.
    pub fn is_number(&self, whom: &str) -> bool {
        self.named(whom).is_some()
    }

    /// `#1f…` as the list shows what may not be shown.
    fn named(&self, text: &str) -> Option<[u64; 2]> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 32 && digits.is_ascii())?;
        let half = |text| u64::from_str_radix(text, 16).ok();
        Some([half(&digits[..16])?, half(&digits[16..])?])
    }

    fn hashed(&self, bytes: &[u8]) -> [u64; 2] {
        [self.0.hashers[0].hash_one(bytes) | HASHED, self.0.hashers[1].hash_one(bytes)]
    }

    fn remember(&self, subject: [u64; 2], name: &str) {
        let known = self.0.names.read().unwrap_or_else(PoisonError::into_inner).contains_key(&subject);
        if known || name.len() > NAME_BYTES_MAX {
            return;
        }
        let mut names = self.0.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            // Whoever is still here says its name with its next request.
            names.clear();
        }
        names.insert(subject, name.into());
    }

    fn show(&self, subject: [u64; 2]) -> String {
        match subject {
            [V4, bits] => Network::V4(bits as u32).to_string(),
            [V6, bits] => Network::V6(bits).to_string(),
            [high, low] => {
                let names = self.0.names.read().unwrap_or_else(PoisonError::into_inner);
                names.get(&subject).map_or_else(|| format!("#{high:016x}{low:016x}"), |name| name.to_string())
            }
        }
    }
}

fn of_network(network: Network) -> [u64; 2] {
    match network {
        Network::V4(bits) => [V4, u64::from(bits)],
        Network::V6(bits) => [V6, bits],
    }
}

impl<'a> Who<'a> {
    /// Whom a rule per this counts; `None`: nobody this is.
    fn counted_by(&self, per: &Per) -> Option<&'a str> {
        match per {
            Per::User => self.user,
            Per::Tenant => self.tenant,
            Per::Ip | Per::Header(_) => None,
        }
    }

    /// Its place under a rule, and what all Mainstays call it.
    pub fn place(&self, rates: &Rates, rule: &InForce) -> Option<(Place, Subject<'a>)> {
        Some((rates.of_identity(rule, self)?, Subject::Name(self.counted_by(&rule.rule.per)?)))
    }
}

impl Place {
    pub fn limit(&self) -> Limit {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::units::rate;

    fn rule(per: Per, text: &str) -> Rule {
        let rate = rate(text, None).expect("rate");
        Rule { per, ..Rule::new("test".to_owned(), "mainstay.toml:1".to_owned(), &rate, Per::Ip) }
    }

    #[test]
    fn a_client_is_an_address_or_a_64_however_it_is_written() {
        let rates = Rates::default();
        let rule = rates.in_force(&rule(Per::Ip, "2/min"));
        let ask = |text: &str| rates.admit(&rule, &rates.of_address(&rule, text.parse().expect("ip")), 1).allowed;
        assert!(ask("192.0.2.1") && ask("::ffff:192.0.2.1") && !ask("192.0.2.1"));
        assert!(ask("2001:db8::1") && ask("2001:db8::ffff:1") && !ask("2001:db8::2"));
        assert!(ask("2001:db8:0:1::1"));
        let shown = rates.shown(&rule, 1, 5);
        assert_eq!((shown.counts.admitted, shown.counts.refused, shown.tracked), (5, 2, 3));
        assert_eq!(shown.top[0], ("192.0.2.1".to_owned(), 2, 2));
        assert!(shown.causes.contains(&("2001:db8::/64".to_owned(), 1)), "{shown:?}");
        assert_eq!(rates.reset(&[&rule], "2001:db8::77"), 1);
        assert!(ask("2001:db8::2"));
    }

    #[test]
    fn a_tenants_tier_decides_and_a_changed_one_forgives_nobody() {
        let rates = Rates::default();
        let mut base = rule(Per::Tenant, "2/min");
        base.tiers = vec![("pro".to_owned(), Limit { count: 5, window_ms: 60_000, smooth: false })];
        let rule = rates.in_force(&base);
        let ask = |rule: &InForce, tier| {
            let who = Who { tenant: Some("acme"), tier, ..Who::default() };
            let place = rates.of_identity(rule, &who).expect("a tenant");
            rates.admit(rule, &place, 1).allowed
        };
        assert!(ask(&rule, None) && ask(&rule, None) && !ask(&rule, Some("free")));
        assert!(ask(&rule, Some("pro")) && ask(&rule, Some("pro")) && ask(&rule, Some("pro")));
        assert!(!ask(&rule, Some("pro")));
        // A reload with another number.
        base.tiers[0].1.count = 7;
        let rule = rates.in_force(&base);
        assert!(ask(&rule, Some("pro")) && ask(&rule, Some("pro")) && !ask(&rule, Some("pro")));
        assert!(rates.of_identity(&rule, &Who::default()).is_none());
        assert_eq!(rates.shown(&rule, 1, 5).top[0].0, "acme");
        assert_eq!(rates.reset(&[&rule], "acme"), 1);
        assert!(ask(&rule, None));
    }

    #[test]
    fn a_headers_value_is_never_shown() {
        let rates = Rates::default();
        let rule = rates.in_force(&rule(Per::Header("x-api-key".to_owned()), "1/min"));
        let place = rates.of_header(&rule, b"sk_live_verysecret");
        assert!(rates.admit(&rule, &place, 1).allowed && !rates.admit(&rule, &place, 1).allowed);
        let shown = rates.shown(&rule, 1, 5);
        assert!(!format!("{shown:?}{rates:?}").contains("verysecret"));
        let shown = &shown.top[0].0;
        assert!(shown.starts_with('#'));
        assert!(rates.is_number(shown) && !rates.is_number("sk_live_verysecret") && !rates.is_number("#1f"));
        assert_eq!(rates.reset(&[&rule], shown), 1);
        rates.admit(&rule, &place, 1);
        assert_eq!(rates.reset(&[&rule], "sk_live_verysecret"), 1);
    }
}
