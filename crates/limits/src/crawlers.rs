//! Who is not limited: crawlers, by what they call themselves and by proof. A name alone is worth nothing: anybody can
//! say it, so it is their address that must belong to them, by its name and back.

use ipnet::IpNet;
use mainstay_config::{Item, Table, Value};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Entries of `skip`.
const SKIP_MAX: usize = 64;
/// Addresses whose name is known, or known to prove nothing. The oldest answers make room.
const KNOWN_MAX: usize = 4096;
/// How long a proof holds; addresses of crawlers move rarely.
const PROVEN_US: u64 = 24 * 3_600_000_000;
/// How long it is not asked again about somebody who was no crawler, or could not be looked up.
const REFUTED_US: u64 = 600_000_000;

/// Names that crawlers go by, and the domains their addresses have names in, as their owners publish them.
const CRAWLERS: &[(&str, &[&str])] = &[
    ("googlebot", &["googlebot.com", "google.com", "googleusercontent.com"]),
    ("bingbot", &["search.msn.com"]),
    ("applebot", &["applebot.apple.com"]),
    ("yandex", &["yandex.ru", "yandex.net", "yandex.com"]),
    ("baiduspider", &["crawl.baidu.com", "crawl.baidu.jp"]),
    ("petalbot", &["petalsearch.com", "aspiegel.com"]),
];

/// One kind of client that is not limited.
#[derive(Clone, Debug, PartialEq)]
pub struct Skip {
    /// Part of its `User-Agent`, in small letters.
    pub agent: String,
    /// Its address has a name in one of these, and that name has its address.
    pub domains: Vec<String>,
    /// Or its address is one of these.
    pub from: Vec<IpNet>,
}

/// What is known of an address that calls itself a crawler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Proven,
    Refuted,
    /// Nobody has looked yet.
    Unknown,
}

/// Which addresses were proven, for all cores.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<HashMap<IpAddr, Proof>>);

#[derive(Clone, Copy, Debug)]
struct Proof {
    /// Number of the domain list it fits, in `Skip`s; `None`: nobody's.
    agent: Option<u64>,
    until_us: u64,
}

impl Skip {
    pub fn fits(&self, agent: &[u8]) -> bool {
        let wanted = self.agent.as_bytes();
        !wanted.is_empty() && agent.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
    }

    pub fn is_from(&self, address: IpAddr) -> bool {
        self.from.iter().any(|net| net.contains(&address))
    }

    /// `host` without its last dot.
    pub fn owns(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.domains
            .iter()
            .any(|domain| host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }

    fn mark(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (&self.agent, &self.domains).hash(&mut hasher);
        hasher.finish()
    }
}

impl Proofs {
    pub fn standing(&self, address: IpAddr, skip: &Skip, now_us: u64) -> Standing {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&address) {
            Some(proof) if proof.until_us <= now_us => Standing::Unknown,
            Some(Proof { agent: Some(mark), .. }) if *mark == skip.mark() => Standing::Proven,
            // Asked about another crawler: nobody is two.
            Some(_) => Standing::Refuted,
            None => Standing::Unknown,
        }
    }

    pub fn note(&self, address: IpAddr, skip: &Skip, proven: bool, now_us: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KNOWN_MAX && !all.contains_key(&address) {
            // Impostors first, so that a flood of them does not push out the real one.
            let least = all.iter().min_by_key(|(_, proof)| (proof.agent.is_some(), proof.until_us)).map(|(a, _)| *a);
            least.and_then(|address| all.remove(&address));
        }
        let (agent, valid) = if proven { (Some(skip.mark()), PROVEN_US) } else { (None, REFUTED_US) };
        all.insert(address, Proof { agent, until_us: now_us + valid });
    }
}

/// `skip`: names of crawlers, or tables that say whose addresses they are.
pub fn read(table: &Table) -> Vec<Skip> {
    const EXPECTED: &str = "\"googlebot\", { agent = \"mybot\", domains = [\"bot.example\"] } or \
                            { agent = \"uptime\", from = [\"10.0.0.0/8\"] }";
    let key = table.key("skip").doc("Who is not limited: crawlers by name, proven by their address");
    let Some(value) = key.example("[\"googlebot\", \"bingbot\"]").value() else { return Vec::new() };
    let entries = match value.value {
        Value::List(entries) => entries,
        other => vec![Item { value: other, at: value.at.clone() }],
    };
    if entries.len() > SKIP_MAX {
        table.fault(&value.at, format!("{} entries", entries.len()), "at most 64", None);
    }
    let mut all = Vec::new();
    for entry in entries.into_iter().take(SKIP_MAX) {
        match entry.value {
            Value::Text(text) => {
                let agent = text.to_ascii_lowercase();
                match CRAWLERS.iter().find(|(name, _)| *name == agent) {
                    Some((_, domains)) => {
                        let domains = domains.iter().map(|d| (*d).to_owned()).collect();
                        all.push(Skip { agent, domains, from: Vec::new() });
                    }
                    None => {
                        let fix = format!("{{ agent = \"{agent}\", domains = [\"…\"] }}");
                        let what = format!("anybody can call itself `{text}`, and nothing says whose addresses it has");
                        table.fault(&entry.at, what, EXPECTED, Some(&fix));
                    }
                }
            }
            Value::Table(t) => all.extend(read_entry(&t, &entry.at)),
            _ => table.fault(&entry.at, "not a crawler", EXPECTED, None),
        }
    }
    all
}

fn read_entry(t: &Table, at: &mainstay_config::Position) -> Option<Skip> {
    let agent = t.key("agent").doc("Part of its User-Agent").opt_text();
    let texts = |key: &str, doc: &str| t.key(key).doc(doc).texts(&[]).value;
    let domains = texts("domains", "Domains that the names of its addresses end in");
    let mut from = Vec::new();
    for item in texts("from", "Addresses and ranges it comes from") {
        match item.value.parse().ok().or_else(|| item.value.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(net) => from.push(net),
            None => {
                let what = format!("`{}` is not an address or a range", item.value);
                t.fault(&item.at, what, "an address or a range, as \"10.0.0.0/8\"", None);
            }
        }
    }
    let Some(agent) = agent.filter(|agent| !agent.value.is_empty()) else {
        t.fault(at, "an entry without `agent`", "agent = \"mybot\"", None);
        return None;
    };
    if domains.is_empty() && from.is_empty() {
        let what = format!("anybody can call itself `{}`, and nothing says whose addresses it has", agent.value);
        t.fault(at, what, "domains = [\"bot.example\"] or from = [\"10.0.0.0/8\"]", None);
    }
    let plain = |item: Item<String>| item.value.trim_matches('.').to_ascii_lowercase();
    let domains = domains.into_iter().map(plain).filter(|domain| !domain.is_empty()).collect();
    Some(Skip { agent: agent.value.to_ascii_lowercase(), domains, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn google() -> Skip {
        let domains = vec!["googlebot.com".to_owned()];
        Skip { agent: "googlebot".to_owned(), domains, from: vec!["10.0.0.0/8".parse().expect("net")] }
    }

    #[test]
    fn a_name_must_end_in_a_whole_label() {
        let google = google();
        for (host, owned) in [
            ("crawl-66-249-66-1.googlebot.com", true),
            ("GoogleBot.com", true),
            ("evilgooglebot.com", false),
            ("googlebot.com.evil.example", false),
            ("", false),
        ] {
            assert_eq!(google.owns(host), owned, "{host}");
        }
        assert!(
            google.fits(b"Mozilla/5.0 (compatible; Googlebot/2.1)") && !google.fits(b"Mozilla") && !google.fits(b"")
        );
    }

    #[test]
    fn a_proof_ends_and_impostors_make_room_first() {
        let (proofs, google) = (Proofs::default(), google());
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        assert_eq!(proofs.standing(ip(1), &google, 0), Standing::Unknown);
        proofs.note(ip(1), &google, true, 0);
        (2..2 * KNOWN_MAX as u32).for_each(|n| proofs.note(ip(n), &google, false, 0));
        assert!(proofs.0.lock().expect("lock").len() <= KNOWN_MAX);
        assert_eq!(proofs.standing(ip(1), &google, PROVEN_US - 1), Standing::Proven);
        assert_eq!(proofs.standing(ip(1), &google, PROVEN_US), Standing::Unknown);
        let bing = Skip { agent: "bingbot".to_owned(), ..google.clone() };
        assert_eq!(proofs.standing(ip(1), &bing, 1), Standing::Refuted);
    }
}
