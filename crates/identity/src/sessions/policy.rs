//! `[identity.sessions]`: how long a session lives and what its cookie is like; and the decision whether one still
//! does. Pure.

use mainstay_config::{Reader, Table, secret};
use std::time::Duration;

/// What a guide's app signs its cookies with.
const SECRET_VARIABLE: &str = "SESSION_SECRET";
const DOMAIN_VARIABLE: &str = "COOKIE_DOMAIN";
/// Whoever asks again and again costs one write in so long.
const SEEN_EVERY_S: u64 = 60;
/// Of a short life, the part after which it is written down that somebody was here.
const SEEN_PART: u64 = 8;
/// Shorter, and a slow page would log its reader out.
const LIFE_MIN: Duration = Duration::from_secs(60);
/// Browsers keep no cookie for longer.
const LONGEST_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
/// In development there may be no TLS, without which browsers refuse the names that begin with two underscores.
const PLAIN_NAME: &str = "mainstay-session";

/// Sessions are on.
#[derive(Clone, PartialEq, Eq)]
pub struct Policy {
    /// Since it was used last.
    pub life_s: u64,
    /// Since it began, however much it is used.
    pub longest_s: u64,
    pub cookie: String,
    pub domain: Option<String>,
    /// The cookie goes over TLS alone.
    pub secure: bool,
    /// What CSRF tokens are signed with, beside the session's own secret.
    pub secret: Option<String>,
    pub at: String,
}

/// Without the secret.
impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Policy { life_s, longest_s, cookie, domain, secure, .. } = self;
        write!(f, "Policy({life_s} s, {longest_s} s, {cookie}, {domain:?}, {secure})")
    }
}

/// What a session's times say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Over,
    Alive,
    /// Alive, and it is time to write down that it was used.
    Due,
}

impl Policy {
    /// `None`: no sessions.
    pub fn read(reader: &Reader, identity: &Table) -> Option<Policy> {
        let table = identity
            .table("sessions")
            .doc("Sessions by cookie, for browsers: where this table is written, a login begins one");
        let production = reader.environment().production;
        let life = table.key("life").doc("How long a session lives that nobody uses").duration("24h");
        let longest = table.key("longest").doc("How long a session lives at most, used or not").duration("30d");
        let domain = table
            .key("domain")
            .doc("Domain whose hosts share the cookie; unset: the host that set it alone")
            .env(DOMAIN_VARIABLE)
            .opt_parsed("a domain, as \"example.com\"", is_domain);
        let usual = match (production, &domain) {
            (false, _) => PLAIN_NAME,
            (true, None) => "__Host-session",
            (true, Some(_)) => "__Secure-session",
        };
        let cookie = table
            .key("cookie")
            .doc("Name of the cookie (default: __Host-session; with a domain, or in development, another)")
            .opt_parsed("letters, digits, - and _", is_name);
        let secret = table
            .key("secret")
            .doc("Signs CSRF tokens, together with the session's own secret; a new one makes clients fetch new tokens")
            .env(SECRET_VARIABLE)
            .secret()
            .opt_text();
        if !table.exists() {
            return None;
        }
        for (item, least, most) in [(&life, LIFE_MIN, longest.value), (&longest, life.value, LONGEST_MAX)] {
            if item.value < least || item.value > most {
                let expected = format!("from {} s to {} s", least.as_secs(), most.as_secs());
                table.fault(&item.at, "sessions cannot live for so long, or so short", expected, None);
            }
        }
        if let Some(cookie) = &cookie
            && domain.is_some()
            && cookie.value.starts_with("__Host-")
        {
            let what = "browsers refuse a cookie whose name begins with __Host- and that has a domain";
            table.fault(&cookie.at, what, "another name, or no domain", None);
        }
        let named = cookie.as_ref().is_some_and(|cookie| cookie.value.starts_with("__"));
        if let Some(secret) = &secret
            && table.has("secret")
            && let Some(weakness) = secret::weakness(SECRET_VARIABLE, &secret.value)
        {
            let fix = format!("mainstay secret {SECRET_VARIABLE}");
            let expected = "a secret nobody can guess";
            match production {
                true => table.fault(&secret.at, weakness, expected, Some(&fix)),
                false => table.warn(&secret.at, weakness, expected, Some(&fix)),
            }
        }
        Some(Policy {
            life_s: life.value.as_secs(),
            longest_s: longest.value.as_secs(),
            cookie: cookie.map_or_else(|| usual.to_owned(), |cookie| cookie.value),
            domain: domain.map(|domain| domain.value),
            secure: production || named,
            secret: secret.map(|secret| secret.value),
            at: table.position().to_string(),
        })
    }

    pub fn age(&self, begun_s: u64, seen_s: u64, now_s: u64) -> Age {
        let idle_s = now_s.saturating_sub(seen_s);
        if idle_s >= self.life_s || now_s.saturating_sub(begun_s) >= self.longest_s {
            Age::Over
        } else if idle_s >= self.seen_every_s() {
            Age::Due
        } else {
            Age::Alive
        }
    }

    /// Seconds it has left, used or not.
    pub fn left_s(&self, begun_s: u64, seen_s: u64, now_s: u64) -> u64 {
        let idle = (seen_s + self.life_s).saturating_sub(now_s);
        idle.min(self.ends_s(begun_s).saturating_sub(now_s))
    }

    /// Whatever is done with it.
    pub fn ends_s(&self, begun_s: u64) -> u64 {
        begun_s.saturating_add(self.longest_s)
    }

    fn seen_every_s(&self) -> u64 {
        SEEN_EVERY_S.min(self.life_s / SEEN_PART).max(1)
    }
}

fn is_domain(text: &str) -> Result<String, String> {
    let plain = text.trim().trim_start_matches('.').to_ascii_lowercase();
    let fits = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if plain.len() <= 253
        && plain.contains('.')
        && plain.split('.').all(fits)
        && plain.parse::<std::net::IpAddr>().is_err()
    {
        Ok(plain)
    } else {
        Err("is no domain a cookie can have".to_owned())
    }
}

fn is_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits { Ok(text.to_owned()) } else { Err("is no name for a cookie".to_owned()) }
}

/// For tests: 24 hours, and what browsers accept without TLS.
#[cfg(test)]
pub(crate) fn plain() -> Policy {
    Policy {
        life_s: 86_400,
        longest_s: 30 * 86_400,
        cookie: PLAIN_NAME.to_owned(),
        domain: None,
        secure: false,
        secret: None,
        at: "mainstay.toml:1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::{Inputs, Text};
    use proptest::prelude::*;

    fn read(file: &str, production: bool, environment: &[(&str, &str)]) -> (Option<Policy>, Vec<String>) {
        let mut environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        environment.push(("MAINSTAY_ENV".to_owned(), if production { "production" } else { "development" }.to_owned()));
        let file = Some(Text { path: "mainstay.toml".into(), text: file.to_owned() });
        let reader = Reader::new(&Inputs { environment, file, ..Inputs::default() });
        let policy = Policy::read(&reader, &reader.table("identity"));
        (policy, reader.finish().faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_cookie_is_named_by_what_browsers_make_of_the_name() {
        let table = "[identity.sessions]\n";
        for (file, production, environment, cookie, secure) in [
            (table.to_owned(), false, &[][..], "mainstay-session", false),
            (table.to_owned(), true, &[], "__Host-session", true),
            (table.to_owned(), true, &[("COOKIE_DOMAIN", ".Example.com")], "__Secure-session", true),
            (format!("{table}cookie = \"sid\"\n"), true, &[], "sid", true),
            (format!("{table}cookie = \"__Host-s\"\n"), false, &[], "__Host-s", true),
        ] {
            let (policy, faults) = read(&file, production, environment);
            let policy = policy.unwrap_or_else(|| panic!("{faults:?}"));
            assert_eq!((policy.cookie.as_str(), policy.secure, faults), (cookie, secure, Vec::new()), "{file}");
            assert_eq!(policy.domain.as_deref(), environment.first().map(|_| "example.com"));
        }
        assert!(read("", true, &[("SESSION_SECRET", "x"), ("COOKIE_DOMAIN", "a.b")]).0.is_none(), "off");
    }

    #[test]
    fn what_browsers_or_readers_would_refuse_is_a_fault() {
        for (line, said) in [
            ("life = \"1s\"", "so short"),
            ("life = \"31d\"", "so long"),
            ("longest = \"401d\"", "so long"),
            ("domain = \"localhost\"", "no domain"),
            ("domain = \"10.0.0.1\"", "no domain"),
            ("cookie = \"a b\"", "no name"),
            ("cookie = \"__Host-a\"\ndomain = \"a.example\"", "__Host-"),
        ] {
            let (_, faults) = read(&format!("[identity.sessions]\n{line}\n"), false, &[]);
            assert!(faults.iter().any(|fault| fault.contains(said)), "{line}: {faults:?}");
        }
    }

    proptest! {
        /// A session in use lives, one that is not ends, none lives beyond its longest.
        #[test]
        fn a_session_rolls_while_it_is_used_and_no_longer(
            life_s in 60u64..200_000,
            more_s in 0u64..3_000_000,
            steps in proptest::collection::vec(0u64..100_000, 1..60),
        ) {
            let policy = Policy { life_s, longest_s: life_s + more_s, ..plain() };
            let (begun_s, mut seen_s, mut now_s) = (1_000_000, 1_000_000, 1_000_000);
            for step in steps {
                now_s += step;
                let age = policy.age(begun_s, seen_s, now_s);
                let over = now_s - seen_s >= life_s || now_s - begun_s >= policy.longest_s;
                prop_assert_eq!(age == Age::Over, over);
                prop_assert_eq!(policy.left_s(begun_s, seen_s, now_s) == 0, over);
                match age {
                    Age::Over => break,
                    Age::Due => seen_s = now_s,
                    // What is not written down is at most an eighth of its life, and a minute.
                    Age::Alive => prop_assert!(now_s - seen_s < 60.min(life_s / 8).max(1)),
                }
            }
        }
    }
}
