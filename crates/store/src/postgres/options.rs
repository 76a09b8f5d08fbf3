//! Which Postgres: `[store.postgres]`, or `DATABASE_URL` where the file names no address. The URL is taken apart by
//! us: the client's own parser refuses half of what libpq and Prisma allow in it.

use crate::redis::Secret;
use mainstay_config::url::{self, Url};
use mainstay_config::{Item, Key, Position, Reader, Table};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where Debian's Postgres has its socket: what a URL without a host means.
const SOCKETS: &str = "/var/run/postgresql";
/// Connections of ours beside the app's own pool: most servers allow 100 in all.
const POOL_DEFAULT: i64 = 10;
const POOL_MAX: i64 = 1000;

/// What libpq or Prisma would keep of these and we do not, with what does the same.
const NOT_KEPT: &[(&str, &str)] = &[
    ("sslidentity", "sslcert and sslkey, as PEM"),
    ("sslpassword", "a key without a password that only its user can read"),
    ("sslcrl", "certificates of a short life"),
    ("sslcrldir", "certificates of a short life"),
    ("requirepeer", "sslmode=verify-full over TCP"),
    ("require_auth", "channel_binding=require"),
    ("service", "host, user and dbname in the url"),
    ("passfile", "the password in the url, by ${NAME} or DATABASE_URL_FILE"),
];

/// libpq's modes. Without one of the last two nobody's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Tcp(String, u16),
    /// Folder and port: `/var/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub mode: SslMode,
    pub root: Option<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub hosts: Vec<Host>,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub tls: Tls,
    /// Of several hosts the one that may be written to; of one, it is found out by the first write.
    pub writable_only: bool,
    /// The login is bound to the TLS session, or there is none.
    pub bound: bool,
    /// `-c name=value …`, or what a hosting service finds its customer by.
    pub server_options: Option<String>,
    pub pool: usize,
    pub wait: Duration,
    pub connect: Duration,
    pub idle: Duration,
    pub statement: Duration,
    /// PgBouncer in transaction mode is between: nothing may be set for a session.
    pub pgbouncer: bool,
    /// Where its address was said.
    pub at: Position,
}

impl Options {
    /// `None` where nobody says an address, the one said cannot be read, or nobody wants it: what an app's URL says is
    /// the app's business then.
    pub fn read(reader: &Reader, wanted: bool) -> Option<Options> {
        let doc = "How Postgres is reached. Without url DATABASE_URL says it.";
        let table = reader.table("store.postgres").doc(doc);
        let written = table
            .key("url")
            .doc("postgres://user:password@host:5432/database?sslmode=verify-full, with libpq's and Prisma's options")
            .example("\"${DATABASE_URL}\"")
            .opt_text();
        let limits = Limits::read(&table, wanted || table.exists());
        if !wanted {
            return None;
        }
        let from_file = written.is_some();
        let text = written.or_else(|| reader.variable("DATABASE_URL"))?;
        let parsed = match url::parse(&text) {
            Ok(url) if url.is_postgres() => url,
            Ok(_) if from_file => {
                table.fault(&text.at, "url is none of Postgres", "postgres://", None);
                return None;
            }
            Err(problem) if from_file => {
                table.fault(&text.at, format!("url {}", problem.what), problem.expected, Some(problem.fix.as_str()));
                return None;
            }
            // A variable that is broken or names another kind is told by the checks of variables.
            _ => return None,
        };
        let of = Asked { table: &table, url: &parsed, at: &text.at };
        of.refuse_what_is_not_kept();
        let hosts = hosts(&parsed);
        let user = parsed.user.clone().or_else(|| of.text("user")).unwrap_or_else(|| "postgres".to_owned());
        Some(Options {
            writable_only: hosts.len() > 1 || of.is_writable_asked(),
            bound: of.text("channel_binding").is_some_and(|word| word == "require"),
            server_options: of.text("options"),
            hosts,
            password: url::password(&text)
                .or_else(|| of.text("password"))
                .or_else(|| client_password(reader))
                .map(Secret),
            // As libpq has it: everybody's database has their name.
            database: parsed.database.clone().or_else(|| of.text("dbname")).unwrap_or_else(|| user.clone()),
            user,
            tls: tls(&of, reader.environment().production),
            pool: of.agreed("connection_limit", &limits.pool, |count| usize::try_from(count).ok()),
            wait: of.agreed_time("pool_timeout", &limits.wait),
            connect: of.agreed_time("connect_timeout", &limits.connect),
            idle: *limits.idle,
            statement: *limits.statement,
            pgbouncer: of.text("pgbouncer").is_some_and(|word| word == "true"),
            at: text.at.clone(),
        })
    }
}

/// As libpq takes it where the address has none.
fn client_password(reader: &Reader) -> Option<String> {
    reader.variable("PGPASSWORD").map(|item| item.value).filter(|password| !password.is_empty())
}

/// What keys and variables say of the pool.
struct Limits {
    pool: Item<usize>,
    wait: Item<Duration>,
    connect: Item<Duration>,
    idle: Item<Duration>,
    statement: Item<Duration>,
}

impl Limits {
    /// The variables are those of the app's own pool: they count only where Postgres is wanted, and two of them that
    /// disagree are nobody's fault otherwise.
    fn read(table: &Table, wanted: bool) -> Limits {
        let key = |name: &str, doc: &str| table.key(name).doc(doc);
        let count = |key: Key, names: [&str; 2]| if wanted { key.env(names[0]).env(names[1]) } else { key };
        let time = |key: Key, names: &[&str]| match wanted {
            true => names.iter().fold(key, |key, name| key.env_ms(name)),
            false => key,
        };
        let pool =
            count(key("pool", "Connections at most, beside those of the app"), ["DATABASE_POOL_MAX", "DB_POOL_MAX"])
                .integer(POOL_DEFAULT, 1..=POOL_MAX);
        let connect = time(key("connect", "Longest connect"), &["DB_CONNECTION_TIMEOUT_MS"]).duration("10s");
        let idle = key("idle", "A connection that is idle for so long is closed");
        let statement = key("statement", "Longest statement");
        Limits {
            pool: pool.map(|count| usize::try_from(count).unwrap_or(1)),
            wait: key("wait", "Longest wait for a free connection").duration("10s"),
            connect,
            idle: time(idle, &["DATABASE_IDLE_TIMEOUT", "DB_IDLE_TIMEOUT_MS"]).duration("30s"),
            statement: time(statement, &["DATABASE_STATEMENT_TIMEOUT", "DB_STATEMENT_TIMEOUT_MS"]).duration("30s"),
        }
    }
}

/// What a URL's parameters say, with where it stands.
struct Asked<'a> {
    table: &'a Table,
    url: &'a Url,
    at: &'a Position,
}

impl Asked<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.url.param(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn fault(&self, name: &str, expected: &str) {
        self.table.fault(self.at, format!("{name} of the url cannot be read"), expected, None);
    }

    /// A promise of safety that is not kept must not be passed over in silence.
    fn refuse_what_is_not_kept(&self) {
        for (name, instead) in NOT_KEPT {
            if self.text(name).is_some() {
                let what = format!("{name} of the url is not known to this version of mainstay");
                self.table.fault(self.at, what, *instead, Some("take it out of the url"));
            }
        }
    }

    /// What lasts must be written: a server that cannot be is none.
    fn is_writable_asked(&self) -> bool {
        match self.text("target_session_attrs").as_deref() {
            None | Some("any") => false,
            Some("read-write" | "primary") => true,
            Some(_) => {
                self.fault("target_session_attrs", "any, read-write or primary");
                true
            }
        }
    }

    /// The URL counts before a default; where somebody else says something else, that is named and the URL counts.
    fn agreed<T: PartialEq + Copy + std::fmt::Debug>(
        &self,
        name: &str,
        said: &Item<T>,
        read: impl Fn(u64) -> Option<T>,
    ) -> T {
        let Some(text) = self.text(name) else { return said.value };
        let Some(asked) = text.parse().ok().and_then(read) else {
            self.fault(name, "a whole number");
            return said.value;
        };
        if !said.is_default() && said.value != asked {
            let what = format!("{name} of the url and {} name one setting and disagree", said.at);
            self.table.fault(self.at, what, "one value", Some("take one of them away"));
        }
        asked
    }

    /// In seconds; 0 is "for ever" to libpq and to Prisma, and no wait of ours is.
    fn agreed_time(&self, name: &str, said: &Item<Duration>) -> Duration {
        self.agreed(name, said, |seconds| (seconds > 0).then(|| Duration::from_secs(seconds)))
    }
}

/// Those before the path, else those of `?host=a,b&port=1,2`, else the socket of this machine.
fn hosts(url: &Url) -> Vec<Host> {
    let host = |host: &str, port: u16| match host {
        "" => Host::Unix(SOCKETS.into(), port),
        folder if folder.starts_with('/') => Host::Unix(folder.into(), port),
        host => Host::Tcp(host.to_owned(), port),
    };
    let Some(listed) = url.param("host") else {
        return url.hosts.iter().map(|(name, port)| host(name, *port)).collect();
    };
    let ports: Vec<u16> = url.param("port").unwrap_or("").split(',').filter_map(|port| port.parse().ok()).collect();
    // One port is that of all.
    let port = |at: usize| *ports.get(at).or(ports.last()).unwrap_or(&url.port);
    listed.split(',').enumerate().map(|(at, name)| host(name.trim(), port(at))).collect()
}

fn is_near(hosts: &[Host]) -> bool {
    hosts.iter().all(|host| match host {
        Host::Unix(..) => true,
        Host::Tcp(host, _) => ["localhost", "127.0.0.1", "::1"].contains(&host.as_str()),
    })
}

/// `sslcert` with `sslkey` is who we are (libpq); alone it is whom to believe (Prisma). A root makes `require` verify,
/// as libpq has it.
fn tls(of: &Asked<'_>, production: bool) -> Tls {
    let folder = of.at.file().and_then(|file| Path::new(file).parent());
    let path = |name: &str| of.text(name).map(|file| folder.map_or_else(|| PathBuf::from(&file), |f| f.join(&file)));
    // libpq's word for the authorities of the system; with it nothing less than all is verified.
    let by_system = of.text("sslrootcert").is_some_and(|word| word == "system");
    let (cert, key, mut root) = (path("sslcert"), path("sslkey"), path("sslrootcert").filter(|_| !by_system));
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(cert), None) => {
            root = root.or(Some(cert));
            None
        }
        (None, Some(_)) => {
            of.fault("sslkey", "sslcert beside it");
            None
        }
        (None, None) => None,
    };
    let strict = by_system || of.text("sslaccept").is_some_and(|word| word == "strict");
    let is_on = of.text("ssl").is_some_and(|word| word == "true" || word == "1");
    let mode = match of.text("sslmode").as_deref().or(is_on.then_some("require")) {
        Some("disable") => SslMode::Disable,
        Some("allow" | "prefer") | None if !strict => SslMode::Prefer,
        Some("allow" | "prefer") | None => SslMode::VerifyFull,
        Some("require" | "no-verify" | "verify-ca") if strict => SslMode::VerifyFull,
        Some("no-verify") => SslMode::Require,
        Some("require") if root.is_some() => SslMode::VerifyCa,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) => {
            of.fault("sslmode", "disable, prefer, require, verify-ca or verify-full");
            SslMode::VerifyFull
        }
    };
    let weak = matches!(mode, SslMode::Disable | SslMode::Prefer);
    if production && weak && !is_near(&hosts(of.url)) {
        let what = "nothing makes the connection to Postgres TLS";
        of.table.warn(of.at, what, "sslmode=verify-full in production", Some("?sslmode=verify-full"));
    }
    Tls { mode, root, client }
}

#[cfg(test)]
mod tests;
