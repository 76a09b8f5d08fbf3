//! Which services to look after, from the guides' variables (REQUIREMENTS §12). Of logins only that of Redis is kept,
//! because without it nobody knows whether the app is let in.

use crate::probes::{Place, Question, Target};
use crate::state::Watched;
use mainstay_config::url::{self, Url};
use mainstay_config::{Item, Reader};
use mainstay_store::redis;
use std::path::Path;

/// Where Debian's Postgres has its socket: what a URL without a host means, unless it means this machine by TCP.
const POSTGRES_SOCKETS: &str = "/var/run/postgresql";
const SMTP_PORT: u16 = 587;
/// SMTP with TLS from the first byte: there is no greeting to read.
const SMTPS_PORT: u16 = 465;

/// A target a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub database: Target,
    pub redis: Target,
    pub email: Target,
    pub stripe: Target,
    pub blockchain: Target,
}

impl Options {
    /// What cannot be asked is kept as unknown. A broken URL is the configuration's own fault to tell
    /// (`mainstay_config::checks`); a port that is none is warned of here, because the app may know better.
    /// `redis` is the store's, read once for everybody.
    pub fn read(reader: &Reader, redis: Option<&redis::Options>) -> Options {
        Options {
            database: database(reader),
            redis: redis_of(reader, redis),
            email: email(reader),
            stripe: if set(reader, "STRIPE_SECRET_KEY").is_some() { Target::Configured } else { Target::NotConfigured },
            blockchain: blockchain(reader),
        }
    }

    pub fn target(&self, service: Watched) -> &Target {
        match service {
            Watched::Database => &self.database,
            Watched::Redis => &self.redis,
            Watched::Email => &self.email,
            Watched::Stripe => &self.stripe,
            Watched::Blockchain => &self.blockchain,
        }
    }
}

/// A variable with something in it.
fn set(reader: &Reader, name: &str) -> Option<Item<String>> {
    reader.variable(name).map(|item| item.map(|text| text.trim().to_owned())).filter(|item| !item.is_empty())
}

/// The default if it is not set; None, with a warning, if it is no port.
fn port(reader: &Reader, name: &str, default: u16) -> Option<u16> {
    let Some(text) = set(reader, name) else { return Some(default) };
    let port = text.parse().ok().filter(|port| *port != 0);
    if port.is_none() {
        reader.warn(&text.at, format!("{name} is not a port"), format!("a number such as {default}"), None);
    }
    port
}

fn database(reader: &Reader) -> Target {
    let Some(text) = set(reader, "DATABASE_URL") else { return Target::NotConfigured };
    match url::parse(&text) {
        Ok(url) if url.is_postgres() => Target::Ask(Question::Postgres, postgres_places(&url)),
        _ => Target::Opaque,
    }
}

fn postgres_places(url: &Url) -> Vec<Place> {
    let socket = |folder: &str| Place::Unix(Path::new(folder).join(format!(".s.PGSQL.{}", url.port)));
    if let Some(folder) = url.param("host").filter(|host| host.starts_with('/')) {
        return vec![socket(folder)];
    }
    let place = |(host, port): &(String, u16)| match host.as_str() {
        "" => vec![socket(POSTGRES_SOCKETS), Place::Tcp { host: "localhost".to_owned(), port: *port }],
        folder if folder.starts_with('/') => vec![socket(folder)],
        host => vec![Place::Tcp { host: host.to_owned(), port: *port }],
    };
    url.hosts.iter().flat_map(place).collect()
}

/// As `[store.redis]` and the variables say it. What is named and cannot be read is unknown.
fn redis_of(reader: &Reader, options: Option<&redis::Options>) -> Target {
    let named = ["REDIS_URL", "REDIS_HOST", "REDIS_CLUSTER_NODES", "REDIS_SENTINELS"];
    match options {
        Some(options) => Target::Redis(Box::new(options.clone())),
        None if named.iter().any(|name| set(reader, name).is_some()) => Target::Opaque,
        None => Target::NotConfigured,
    }
}

fn email(reader: &Reader) -> Target {
    let Some(host) = set(reader, "SMTP_HOST") else {
        let key = set(reader, "SENDGRID_API_KEY").is_some();
        return if key { Target::Configured } else { Target::NotConfigured };
    };
    match port(reader, "SMTP_PORT", SMTP_PORT) {
        Some(SMTPS_PORT) | None => Target::Opaque,
        Some(port) => Target::Ask(Question::Smtp, vec![Place::Tcp { host: host.value, port }]),
    }
}

/// Nothing asks a chain yet: unknown where one is named.
fn blockchain(reader: &Reader) -> Target {
    let named = ["BASE_SEPOLIA_RPC_URL", "BASE_MAINNET_RPC_URL"].iter().any(|name| set(reader, name).is_some());
    if named { Target::Opaque } else { Target::NotConfigured }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::Inputs;

    fn options(environment: &[(&str, &str)]) -> (Options, usize) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let reader = Reader::new(&Inputs { environment, ..Inputs::default() });
        let options = Options::read(&reader, redis::Options::read(&reader).as_ref());
        (options, reader.finish().warnings.len())
    }

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.to_owned(), port }
    }

    fn socket(path: &str) -> Place {
        Place::Unix(path.into())
    }

    #[test]
    fn nothing_set_is_nothing_configured() {
        assert_eq!(options(&[]), (Options::default(), 0));
        let empty = options(&[("DATABASE_URL", ""), ("REDIS_URL", " "), ("SMTP_HOST", ""), ("STRIPE_SECRET_KEY", "")]);
        assert_eq!(empty.0, Options::default());
    }

    #[test]
    fn a_database_url_gives_places_and_nothing_else() {
        for (text, places) in [
            ("postgres://u:p@db:5433/x", vec![tcp("db", 5433)]),
            ("postgresql://u:p@db/x?sslmode=require&schema=a", vec![tcp("db", 5432)]),
            ("postgres://a:1,b:2/x", vec![tcp("a", 1), tcp("b", 2)]),
            ("postgres://[::1]/x", vec![tcp("::1", 5432)]),
            ("postgres:///x?host=/tmp", vec![socket("/tmp/.s.PGSQL.5432")]),
            ("postgres://u@localhost/x?host=/run/pg", vec![socket("/run/pg/.s.PGSQL.5432")]),
            ("postgres://%2Frun%2Fpg/x", vec![socket("/run/pg/.s.PGSQL.5432")]),
            ("postgres:///x", vec![socket("/var/run/postgresql/.s.PGSQL.5432"), tcp("localhost", 5432)]),
        ] {
            let (options, _) = options(&[("DATABASE_URL", text)]);
            assert_eq!(options.database, Target::Ask(Question::Postgres, places), "{text}");
        }
        for text in ["mysql://u:p@db/x", "file:./dev.db", "prisma://x", "redis://x", "postgres://u:p/w@db/x"] {
            assert_eq!(options(&[("DATABASE_URL", text)]).0.database, Target::Opaque, "{text}");
        }
    }

    #[test]
    fn redis_is_asked_as_its_own_options_say_and_unknown_where_they_cannot_be_read() {
        let of = |environment: &[(&str, &str)]| options(environment).0.redis;
        for environment in [
            [("REDIS_URL", "redis://:pw@r:1"), ("", "")],
            [("REDIS_HOST", "r"), ("REDIS_PORT", "7000")],
            [("REDIS_CLUSTER_NODES", "a:1,b:2"), ("REDIS_CLUSTER_ENABLED", "true")],
            [("REDIS_SENTINELS", "s:1"), ("REDIS_SENTINEL_ENABLED", "true")],
        ] {
            assert!(matches!(of(&environment), Target::Redis(_)), "{environment:?}");
        }
        for environment in [("REDIS_URL", "unix:///run/redis.sock"), ("REDIS_CLUSTER_NODES", "a:1,b:2")] {
            assert_eq!(of(&[environment]), Target::Opaque, "{environment:?}");
        }
        assert_eq!(of(&[("REDIS_HOST", "r"), ("REDIS_PORT", "x")]), Target::Opaque);
    }

    #[test]
    fn a_port_that_is_none_is_warned_of_and_asked_nothing() {
        let (options, warnings) = options(&[("SMTP_HOST", "m"), ("SMTP_PORT", "0")]);
        assert_eq!((options.email, warnings), (Target::Opaque, 1));
    }

    #[test]
    fn mail_stripe_and_chain() {
        let of = |environment: &[(&str, &str)]| options(environment).0;
        let smtp = |port| Target::Ask(Question::Smtp, vec![tcp("m", port)]);
        assert_eq!(of(&[("SMTP_HOST", "m")]).email, smtp(587));
        assert_eq!(of(&[("SMTP_HOST", "m"), ("SMTP_PORT", "25")]).email, smtp(25));
        assert_eq!(of(&[("SMTP_HOST", "m"), ("SMTP_PORT", "465")]).email, Target::Opaque);
        assert_eq!(of(&[("SENDGRID_API_KEY", "SG.x")]).email, Target::Configured);
        assert_eq!(of(&[("STRIPE_SECRET_KEY", "sk_x")]).stripe, Target::Configured);
        assert_eq!(of(&[("BASE_SEPOLIA_RPC_URL", "https://x")]).blockchain, Target::Opaque);
        assert_eq!(of(&[("BASE_MAINNET_RPC_URL", "https://x")]).blockchain, Target::Opaque);
    }

    #[test]
    fn no_secret_is_shown() {
        let (options, _) = options(&[
            ("DATABASE_URL", "postgres://someone:hunter22@db/private"),
            ("REDIS_URL", "redis://other:hunter22@r"),
            ("STRIPE_SECRET_KEY", "hunter22"),
        ]);
        let text = format!("{options:?}");
        for word in ["hunter22", "someone", "private"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}
