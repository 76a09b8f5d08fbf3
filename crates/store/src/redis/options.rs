//! Which Redis, and how it is spoken to: `[store.redis]`, or the guides' variables where the file names no address.
//!
//! An address in the file stands against every variable: an app's own `REDIS_URL` may be a cache that evicts.

use mainstay_config::url::{self, Url};
use mainstay_config::{Item, Position, Reader, Table};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// What everybody's sentinel.conf calls it.
const MASTER: &str = "mymaster";
/// Databases past this are nobody's: Redis has 16 unless told otherwise.
const DATABASE_MAX: i64 = 1023;

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub host: String,
    pub port: u16,
}

/// In what shape it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Single(Node),
    Cluster(Vec<Node>),
    Sentinel { sentinels: Vec<Node>, master: String },
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("***")
    }
}

/// Files that decide whom to believe and who we are; without them the system's authorities and nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca: Option<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub place: Place,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: i64,
    pub tls: Option<Tls>,
    pub connect: Duration,
    /// Of jobs and administration; a request has 50 ms whatever is written here.
    pub command: Duration,
    pub keepalive: Duration,
    /// How often a command of jobs or administration is tried again, and after how long.
    pub retries: u32,
    pub retry_delay: Duration,
    /// Where its address was said.
    pub at: Position,
}

/// Where it is and who we are there.
struct Address {
    place: Place,
    user: Option<String>,
    password: Option<Secret>,
    database: i64,
    tls: bool,
    at: Position,
}

impl Options {
    /// `None` where nobody says an address, or the one said cannot be read.
    pub fn read(reader: &Reader) -> Option<Options> {
        let doc = "How Redis is reached. Without url the REDIS_… variables say it.";
        let table = reader.table("store.redis").doc(doc);
        let written = of_file(&table);
        let tls = table.key("tls").doc("TLS to Redis; a url of rediss:// has it anyway").opt_boolean();
        let files = files(&table);
        let connect = key(&table, "connect", "Longest connect").env_ms("REDIS_CONNECT_TIMEOUT_MS").duration("10s");
        let command = key(&table, "command", "Longest command of jobs and administration; requests have 50 ms")
            .env_ms("REDIS_COMMAND_TIMEOUT_MS")
            .duration("5s");
        let keepalive = key(&table, "keepalive", "TCP keep-alive").env_ms("REDIS_KEEPALIVE_MS").duration("30s");
        let retries = key(&table, "retries", "How often a command of jobs and administration is tried again")
            .env("REDIS_MAX_RETRIES")
            .integer(3, 0..=100);
        let cluster_retries = key(&table, "cluster_retries", "The same where Redis is a cluster")
            .env("REDIS_CLUSTER_RETRY_ATTEMPTS")
            .integer(3, 0..=100);
        let retry_delay = key(&table, "retry_delay", "Between two tries, and between two attempts to connect")
            .env_ms("REDIS_RETRY_DELAY")
            .duration("1s");
        let address = match written {
            Written::Yes(address) => *address,
            Written::Broken => return None,
            Written::No => of_variables(reader)?,
        };
        let tls = tls.map_or(address.tls, |switch| *switch || address.tls).then_some(files);
        let retries = if matches!(address.place, Place::Cluster(_)) { *cluster_retries } else { *retries };
        Some(Options {
            place: address.place,
            user: address.user,
            password: address.password,
            database: address.database,
            tls,
            connect: *connect,
            command: *command,
            keepalive: *keepalive,
            retries: u32::try_from(retries).unwrap_or(0),
            retry_delay: *retry_delay,
            at: address.at,
        })
    }

    /// What commands that are typed by hand begin with.
    pub fn by_hand(&self, node: &Node) -> String {
        let mut line = format!("redis-cli -h {} -p {}", node.host, node.port);
        if self.tls.is_some() {
            line.push_str(" --tls");
        }
        if self.password.is_some() {
            line.push_str(" --askpass");
        }
        line
    }
}

fn key(table: &Table, name: &str, doc: &str) -> mainstay_config::Key {
    table.key(name).doc(doc)
}

fn files(table: &Table) -> Tls {
    let file = |name: &str, doc: &str| key(table, name, doc).opt_text();
    let ca = file("ca", "File of the authority its certificate is believed by; else the system's");
    let cert = file("cert", "File of our certificate, where Redis asks for one");
    let secret = file("key", "File of its key");
    let path = beside;
    if let (Some(one), None) | (None, Some(one)) = (&cert, &secret) {
        table.fault(&one.at, "a certificate and its key come together", "cert = \"…\" and key = \"…\"", None);
    }
    let client = cert.as_ref().zip(secret.as_ref()).map(|(cert, key)| (path(cert), path(key)));
    Tls { ca: ca.as_ref().map(path), client }
}

/// A path relative to the file it stands in.
fn beside(path: &Item<String>) -> PathBuf {
    let folder = path.at.file().and_then(|file| Path::new(file).parent());
    folder.map_or_else(|| PathBuf::from(&path.value), |folder| folder.join(&path.value))
}

enum Written {
    Yes(Box<Address>),
    Broken,
    No,
}

fn of_file(table: &Table) -> Written {
    let url = key(table, "url", "redis://user:password@host:6379/0; hosts of a cluster or sentinels with commas")
        .example("\"${REDIS_URL}\"")
        .opt_text();
    let password = key(table, "password", "Password, where the url has none").secret().opt_text();
    let cluster = key(table, "cluster", "The hosts are nodes of a Redis Cluster").boolean(false);
    let sentinel = key(table, "sentinel", "The hosts are sentinels; the name of the master they watch")
        .example("\"mymaster\"")
        .opt_text();
    let Some(url) = url else { return Written::No };
    if *cluster && let Some(name) = &sentinel {
        table.fault(&name.at, "cluster and sentinel exclude each other", "one of them", None);
    }
    let parsed = match url::parse(&url) {
        Ok(parsed) if !parsed.is_postgres() => parsed,
        Ok(_) => {
            table.fault(&url.at, "url is none of Redis", "redis:// or rediss://", None);
            return Written::Broken;
        }
        Err(problem) => {
            table.fault(&url.at, format!("url {}", problem.what), problem.expected, Some(problem.fix.as_str()));
            return Written::Broken;
        }
    };
    let mut address = of_url(&parsed, &url, *cluster);
    if let Some(name) = sentinel {
        let sentinels = nodes(&parsed.hosts);
        address.place = Place::Sentinel { sentinels, master: name.value };
    }
    if address.password.is_none() {
        address.password = password.map(|item| Secret(item.value));
    }
    warn_of_database(&address, |what| table.warn(&url.at, what, "no /number at the end of the url", None));
    Written::Yes(Box::new(address))
}

fn nodes(hosts: &[(String, u16)]) -> Vec<Node> {
    hosts.iter().map(|(host, port)| Node { host: host.clone(), port: *port }).collect()
}

fn of_url(url: &Url, text: &Item<String>, cluster: bool) -> Address {
    let hosts = nodes(&url.hosts);
    let place = match hosts.as_slice() {
        [node] if !cluster => Place::Single(node.clone()),
        _ => Place::Cluster(hosts),
    };
    let number = url.database.as_deref().and_then(|name| name.parse().ok());
    Address {
        place,
        user: url.user.clone(),
        password: url::password(text).map(Secret),
        database: number.filter(|number| (0..=DATABASE_MAX).contains(number)).unwrap_or(0),
        tls: url.is_tls(),
        at: text.at.clone(),
    }
}

/// A cluster has one database.
fn warn_of_database(address: &Address, warn: impl Fn(&str)) {
    if matches!(address.place, Place::Cluster(_)) && address.database != 0 {
        warn("a Redis Cluster has only database 0");
    }
}

/// A variable with something in it.
fn set(reader: &Reader, name: &str) -> Option<Item<String>> {
    reader.variable(name).map(|item| item.map(|text| text.trim().to_owned())).filter(|item| !item.is_empty())
}

fn is_true(reader: &Reader, name: &str) -> bool {
    set(reader, name).is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on"))
}

/// Sentinel and Cluster have switches of their own; then the URL, then host and port.
fn of_variables(reader: &Reader) -> Option<Address> {
    let text = set(reader, "REDIS_URL");
    let parsed = text.as_ref().and_then(|text| url::parse(text).ok()).filter(|url| !url.is_postgres());
    let by_url = text.as_ref().zip(parsed.as_ref()).map(|(text, url)| of_url(url, text, false));
    let sentinels = set(reader, "REDIS_SENTINELS").filter(|_| is_true(reader, "REDIS_SENTINEL_ENABLED"));
    let cluster = is_true(reader, "REDIS_CLUSTER_ENABLED");
    let cluster_nodes = set(reader, "REDIS_CLUSTER_NODES").filter(|_| cluster);
    let bare = |place: Place, at: Position| {
        let of = by_url.as_ref();
        Address {
            place,
            user: of.and_then(|url| url.user.clone()),
            password: of.and_then(|url| url.password.clone()),
            database: of.map_or(0, |url| url.database),
            tls: of.is_some_and(|url| url.tls),
            at,
        }
    };
    let mut address = if let Some(list) = sentinels {
        let master = set(reader, "REDIS_MASTER_NAME").map_or(MASTER.to_owned(), |name| name.value);
        bare(Place::Sentinel { sentinels: hosts(reader, "REDIS_SENTINELS", &list, SENTINEL_PORT)?, master }, list.at)
    } else if let Some(list) = cluster_nodes {
        bare(Place::Cluster(hosts(reader, "REDIS_CLUSTER_NODES", &list, PORT)?), list.at)
    } else if let (Some(text), Some(url)) = (&text, &parsed) {
        of_url(url, text, cluster)
    } else if text.is_some() {
        // Broken or of another kind: told by the checks of variables.
        return None;
    } else {
        let host = set(reader, "REDIS_HOST")?;
        let port = match set(reader, "REDIS_PORT") {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => PORT,
        };
        bare(Place::Single(Node { host: host.value, port }), host.at)
    };
    address.tls |= is_true(reader, "REDIS_TLS_ENABLED");
    if address.password.is_none() {
        address.password = set(reader, "REDIS_PASSWORD").map(|item| Secret(item.value));
    }
    warn_of_database(&address, |what| reader.warn(&address.at, what, "no /number at the end of the url", None));
    Some(address)
}

/// `host:port,host:port`, with or without a scheme before each.
fn hosts(reader: &Reader, name: &str, list: &Item<String>, default: u16) -> Option<Vec<Node>> {
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let part = part.split_once("://").map_or(part, |(_, rest)| rest);
        let part = part.rsplit_once('@').map_or(part, |(_, host)| host);
        let with_port = match part.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => part.to_owned(),
            _ => format!("{part}:{default}"),
        };
        match url::parse(&format!("redis://{with_port}")) {
            Ok(url) => all.extend(nodes(&url.hosts)),
            Err(problem) => {
                reader.warn(&list.at, format!("{name} {}", problem.what), "host:port with commas", None);
                return None;
            }
        }
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests;
