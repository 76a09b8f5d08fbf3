//! What the file says about the edge: `[edge]`, `[[route]]`, `[tls."host"]`, and of `[app.NAME]` what routing needs.

use crate::acme;
use crate::address::Trusted;
use crate::balance::Balance;
use crate::cache;
use crate::files::Files;
use crate::forwarded::Use;
use crate::https;
use crate::input;
use crate::path::Pattern;
use crate::providers;
use crate::respond;
use crate::upstream::Passive;
use mainstay_config::{Item, Position, Reader, Table, Value, units};
use mainstay_limits::{Policy, RateOptions, Rule, rules};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Largest weight of an upstream; schedules stay short.
const WEIGHT_MAX: i64 = 1000;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub listen: Vec<Listen>,
    /// The address was not chosen by anybody: the next free port will do.
    pub listen_is_default: bool,
    /// Certificates Mainstay gets by itself.
    pub acme: acme::Options,
    pub https: https::Options,
    pub trusted: Trusted,
    pub forwarded: Use,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub offered: Offered,
    pub cache: cache::Options,
    /// A stack trace in a 5xx body of the app is replaced by a plain error (E17).
    pub hide_traces: bool,
    pub apps: Vec<App>,
    pub routes: Vec<Route>,
    pub tls: Vec<TlsFiles>,
    /// Whom to send away, where the file says so.
    pub bans: Option<Policy>,
    /// How often who may ask.
    pub rate: RateOptions,
    /// What is shared is there; `None`: nothing is.
    pub redis: Option<mainstay_store::redis::Options>,
    /// How users are recognised, where the file says so.
    pub identity: mainstay_identity::Options,
    /// Paths where the app is given jobs; nobody else may ask for them.
    pub jobs: Vec<String>,
    /// Pages of this process.
    pub pages: Option<Pages>,
    pub respond: respond::Options,
    /// Signs the cookies of `balance = "sticky"` in place of the data folder's key: one for several hosts.
    pub sticky_secret: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: bool,
    /// Connections begin with the PROXY protocol.
    pub proxy_protocol: bool,
    pub at: String,
}

impl Listen {
    /// Nobody wrote it: on a machine without IPv6 it is left out.
    pub fn is_optional(&self) -> bool {
        self.at == BY_DOMAINS && self.address.is_ipv6()
    }
}

/// Where the addresses stand that follow from a domain.
const BY_DOMAINS: &str = "edge.domains";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    pub header: Duration,
    pub body: Duration,
    pub idle: Duration,
    pub send: Duration,
    pub connect: Duration,
    /// Until the first byte of the app's answer, and between two pieces of it; none without a file.
    pub response: Option<Duration>,
    /// Where `response` stands, for trails.
    pub response_rule: String,
    pub drain: Duration,
    pub upgrade_idle: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body in bytes; none without a file.
    pub body: Option<u64>,
    /// All header names and values of a request, in bytes.
    pub header: usize,
    pub connections: u32,
    /// Of one client; none without a file.
    pub connections_per_client: Option<u32>,
    /// TLS handshakes of one client that are not done.
    pub handshakes_per_client: u32,
    /// Where each of them stands, for trails.
    pub body_rule: String,
    pub header_rule: String,
    pub connections_rule: String,
    pub per_client_rule: String,
}

/// Who answers the guides' health and metrics paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// The app first; we, if it says 404 or nothing is ready.
    App,
    Mainstay,
    Off,
}

#[derive(Debug, Clone, PartialEq)]
pub struct App {
    pub name: String,
    pub routes: Vec<Pattern>,
    /// Where each of `routes` stands, for trails.
    pub at: String,
    pub balance: Balance,
    pub passive: Passive,
    pub probe: Probe,
    pub addresses: Vec<Address>,
    /// Its upstreams speak HTTP/2 without TLS, as gRPC servers do.
    pub http2: bool,
    /// Describes all of its operations.
    pub openapi: Option<input::Options>,
}

/// An upstream that runs elsewhere: `host:port`, resolved again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub to: String,
    pub weight: u32,
    pub drain: bool,
}

/// Active checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `None`: TCP alone for addresses; for children the path that readiness adopted.
    pub path: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub fails: u32,
    pub passes: u32,
}

/// One `[[route]]`: settings for what it matches.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub pattern: Pattern,
    pub at: String,
    pub response: Option<Duration>,
    pub connect: Option<Duration>,
    pub body: Option<u64>,
    pub retry: Option<bool>,
    pub respond: respond::RouteOptions,
    pub files: Option<Files>,
    pub cache: cache::RouteOptions,
    /// Schemas its input must keep.
    pub input: Vec<input::Options>,
    pub limits: Vec<Rule>,
    pub identity: mainstay_identity::RouteOptions,
}

/// Pages for operators that this process answers, and who may see them: whoever has one of these roles; where users are
/// not recognised, this machine alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// They stand there and below.
    pub path: String,
    pub roles: Vec<String>,
    /// Where that stands.
    pub at: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub host: String,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub at: String,
}

impl Options {
    /// Paths by which the app is given what only Mainstay may give it.
    pub fn pushed(&self) -> impl Iterator<Item = &str> {
        self.identity.deliver().into_iter().chain(self.jobs.iter().map(String::as_str))
    }

    /// Some certificate can be served.
    pub fn serves_tls(&self) -> bool {
        !self.tls.is_empty() || self.acme.serve_tls()
    }

    /// Everything that says what input must keep.
    pub fn inputs(&self) -> impl Iterator<Item = &input::Options> {
        self.apps.iter().filter_map(|a| a.openapi.as_ref()).chain(self.routes.iter().flat_map(|r| &r.input))
    }

    pub fn read(reader: &Reader) -> Options {
        let edge = reader.table("edge");
        let with_file = reader.has_file();
        let tls = read_tls(reader);
        let given: Vec<String> = tls.iter().map(|files| files.host.clone()).collect();
        let acme = acme::Options::read(&edge, &given);
        let has_tls = !tls.is_empty() || acme.serve_tls();
        let (listen, listen_is_default) = read_listen(reader, &edge, has_tls, !acme.wanted.is_empty());
        if has_tls && !listen.iter().any(|l| l.tls) {
            edge.warn(
                &edge.position(),
                "there are certificates and no address speaks TLS",
                "",
                Some("[edge] listen = [\":80\", \":443\"], or { at = \":8443\", tls = true }"),
            );
        }
        let identity = mainstay_identity::Options::read(reader);
        let users = identity.verify.is_some();
        let routes = read_routes(reader, users);
        // Accounts bring limits of their own, so that the switches count for them too.
        let limited = identity.accounts.is_some() || routes.iter().any(|route| !route.limits.is_empty());
        let mut options = Options {
            redis: None,
            rate: RateOptions::read(reader, limited, users),
            listen,
            listen_is_default,
            acme,
            https: https::Options::read(reader, &edge),
            trusted: read_trusted(&edge),
            forwarded: Use::read(&edge),
            timeouts: read_timeouts(&edge.table("timeouts"), with_file),
            limits: read_limits(&edge.table("limits"), with_file),
            offered: read_offered(&edge),
            cache: cache::Options::read(&edge),
            hide_traces: edge
                .key("hide_traces")
                .doc("Replace an app's 5xx body that holds a stack trace by a plain error")
                .boolean(with_file && reader.environment().production)
                .value,
            apps: read_apps(reader, reader.command().is_some()),
            routes,
            tls,
            bans: Policy::read(reader),
            identity,
            jobs: Vec::new(),
            pages: None,
            respond: respond::Options::read(reader),
            sticky_secret: edge
                .key("sticky_secret")
                .doc("Signs sticky cookies where several hosts serve one name; unset: a key of the data folder")
                .secret()
                .opt_text()
                .map(|s| s.value),
        };
        crate::limit::logins::add(&mut options);
        check_apps(reader, &options.apps);
        check_proxy_protocol(&edge, &options);
        check_limits(reader, &options);
        check_guards(reader, &options);
        options
    }
}

fn read_offered(edge: &Table) -> Offered {
    let item = edge
        .key("health")
        .doc("Who answers /health, /metrics and the like: the app first, always Mainstay, or nobody but the app")
        .choice(&["app", "mainstay", "off"], "app");
    match item.value.as_str() {
        "mainstay" => Offered::Mainstay,
        "off" => Offered::Off,
        _ => Offered::App,
    }
}

fn read_trusted(edge: &Table) -> Trusted {
    let ranges = edge
        .key("trusted_proxies")
        .doc("Addresses, ranges or providers whose forwarding headers are believed; nobody else's are")
        .texts(&[]);
    let mut nets = Vec::new();
    for range in &ranges.value {
        if let Some(ranges) = providers::ranges(&range.value) {
            nets.extend(ranges.map(|net| (net, range.at.to_string())));
            continue;
        }
        match units::range(&range.value) {
            Ok(net) => nets.push((net, range.at.to_string())),
            Err(wrong) => {
                let what = format!("`{}` {wrong}", range.value);
                edge.fault(&range.at, what, providers::EXPECTED, providers::advice(&range.value));
            }
        }
    }
    Trusted::new(nets)
}

fn read_timeouts(t: &Table, with_file: bool) -> Timeouts {
    let drain = t
        .key("drain")
        .doc("How long requests and children may take to finish when Mainstay stops or an instance is replaced")
        .env_ms("GRACEFUL_SHUTDOWN_TIMEOUT")
        .duration("30s");
    let response = t.key("response").doc("Longest wait for the app: for its first byte, and between two pieces");
    let response = if with_file { Some(response.duration("60s")) } else { response.opt_duration() };
    Timeouts {
        header: t.key("header").doc("Longest time for a client to send its headers").duration("10s").value,
        body: t.key("body").doc("Longest pause of a client within its body").duration("60s").value,
        idle: t.key("idle").doc("How long a client's idle connection stays open").duration("75s").value,
        send: t.key("send").doc("Longest pause of a client that does not read its answer").duration("5m").value,
        connect: t.key("connect").doc("Longest wait for a connection to the app").duration("5s").value,
        response_rule: rule("edge.timeouts.response", response.as_ref().map(|r| &r.at)),
        response: response.map(|r| r.value),
        drain: drain.value,
        upgrade_idle: t.key("upgrade_idle").doc("How long an idle socket stays open").duration("1d").value,
    }
}

/// A setting and its place, as a trail names it: `edge.limits.body (mainstay.toml:12)`.
fn rule(key: &str, at: Option<&Position>) -> String {
    at.map_or_else(|| key.to_owned(), |at| format!("{key} ({at})"))
}

fn read_limits(t: &Table, with_file: bool) -> Limits {
    let body = t.key("body").doc("Largest request body");
    let body = if with_file { Some(body.size("10MB")) } else { body.opt_size() };
    let header = t.key("header").doc("All header names and values of one request");
    // Node itself takes 16 KiB; without a file nothing that works bare may fail, so there is room above.
    let header = header.size(if with_file { "16KiB" } else { "32KiB" });
    let connections = t
        .key("connections")
        .doc("Open client connections; one more is refused with 503")
        .integer(20_000, 1..=1_000_000);
    let per_client = t.key("connections_per_client").doc("Open connections of one client (an IPv6 /64 is one)");
    let per_client =
        if with_file { Some(per_client.integer(1000, 1..=1_000_000)) } else { per_client.opt_integer(1..=1_000_000) };
    let handshakes = t
        .key("handshakes_per_client")
        .doc("TLS handshakes of one client that are not done")
        .integer(if with_file { 100 } else { 10_000 }, 1..=1_000_000);
    Limits {
        per_client_rule: rule("edge.limits.connections_per_client", per_client.as_ref().map(|limit| &limit.at)),
        connections_per_client: per_client.as_ref().map(|limit| limit.value as u32),
        handshakes_per_client: handshakes.value as u32,
        body_rule: rule("edge.limits.body", body.as_ref().map(|b| &b.at)),
        body: body.map(|b| b.value),
        header_rule: rule("edge.limits.header", Some(&header.at)),
        header: usize::try_from(header.value).unwrap_or(usize::MAX).clamp(1024, 1 << 20),
        connections_rule: rule("edge.limits.connections", Some(&connections.at)),
        connections: connections.value as u32,
    }
}

fn read_listen(reader: &Reader, edge: &Table, has_tls: bool, has_domains: bool) -> (Vec<Listen>, bool) {
    let production = reader.environment().production;
    let mut listen = Vec::new();
    if let Some(value) = edge.key("listen").doc("Addresses of the edge: \":80\", \"127.0.0.1:8080\"").value() {
        let entries = match value.value {
            Value::List(entries) => entries,
            other => vec![Item { value: other, at: value.at.clone() }],
        };
        for entry in entries {
            read_listen_entry(edge, entry, has_tls, production, &mut listen);
        }
    }
    if !listen.is_empty() {
        return (listen, false);
    }
    // PORT and HOST name the edge's address wherever they are found.
    let port = edge.key("port").doc("Port of the edge, where `listen` is not set").env("PORT").opt_integer(1..=65_535);
    let host = edge.key("host").doc("Address of the edge, where `listen` is not set").env("HOST").opt_text();
    let chosen = port.is_some();
    let at = port.as_ref().map_or("default".to_owned(), |p| p.at.to_string());
    let port = port.map_or(8080, |p| p.value as u16);
    let hosts = match host {
        Some(host) => match host.value.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) if host.value == "localhost" => loopback(),
            Err(_) => {
                let what = format!("`{}` is not an IP address", host.value);
                edge.fault(&host.at, &what, "an address of this machine, as 127.0.0.1 or ::", None);
                loopback()
            }
        },
        None if production => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        None => loopback(),
    };
    let on = |port: u16, tls: bool, at: &str| {
        let at = at.to_owned();
        hosts.iter().map(move |ip| Listen { address: (*ip, port).into(), tls, proxy_protocol: false, at: at.clone() })
    };
    if !has_domains {
        return (on(port, false, &at).collect(), !chosen);
    }
    // A domain is all it takes; a PORT that an app's own settings name is listened on besides.
    let mut listen: Vec<Listen> = on(80, false, BY_DOMAINS).chain(on(443, true, BY_DOMAINS)).collect();
    if chosen && port != 80 && port != 443 {
        listen.extend(on(port, false, &at));
    }
    (listen, false)
}

fn loopback() -> Vec<IpAddr> {
    vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
}

fn read_listen_entry(edge: &Table, entry: Item<Value>, has_tls: bool, production: bool, out: &mut Vec<Listen>) {
    const EXPECTED: &str = "\":80\", \"127.0.0.1:8080\" or { at = \":8443\", tls = true }";
    let (text, tls, proxy_protocol, at) = match entry.value {
        Value::Text(text) => (text, None, false, entry.at),
        Value::Integer(port) if (1..=65_535).contains(&port) => (format!(":{port}"), None, false, entry.at),
        Value::Table(table) => {
            let tls = table.key("tls").doc("TLS on this address").boolean(false).value;
            let proxy_protocol = table
                .key("proxy_protocol")
                .doc("Connections begin with the PROXY protocol, of trusted_proxies alone")
                .boolean(false)
                .value;
            match table.key("at").doc("The address").opt_text() {
                Some(text) => (text.value, Some(tls), proxy_protocol, text.at),
                None => return edge.fault(&entry.at, "an address without `at`", EXPECTED, None),
            }
        }
        _ => return edge.fault(&entry.at, "not an address", EXPECTED, None),
    };
    match parse_listen(&text, production) {
        Some(addresses) => {
            for address in addresses {
                // ":443" alone means TLS where there is a certificate.
                let tls = tls.unwrap_or(address.port() == 443 && has_tls);
                if tls && !has_tls {
                    edge.fault(
                        &at,
                        format!("TLS on {text} without a certificate"),
                        "a domain in [edge] domains, or a [tls.\"host\"] with cert and key",
                        None,
                    );
                }
                if !out.iter().any(|l| l.address == address) {
                    out.push(Listen { address, tls, proxy_protocol, at: at.to_string() });
                }
            }
        }
        None => edge.fault(&at, format!("`{text}` is not an address"), EXPECTED, None),
    }
}

fn parse_listen(text: &str, production: bool) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(vec![address]);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|&p| p > 0)?),
        None => ("", text.parse::<u16>().ok().filter(|&p| p > 0)?),
    };
    let ips = match host {
        "" if production => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        "" | "localhost" => loopback(),
        "*" => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        _ => return None,
    };
    Some(ips.into_iter().map(|ip| (ip, port).into()).collect())
}

fn read_apps(reader: &Reader, command: bool) -> Vec<App> {
    let tables = reader.named("app");
    // Which port, if a number, is the fleet's to read.
    let with_port = |t: &Table| !matches!(t.key("port").value().map(|v| v.value), Some(Value::Boolean(false)));
    let mut apps = Vec::new();
    for table in &tables {
        if with_port(table) {
            apps.push(read_app(table));
        } else if table.key("routes").opt_texts().is_some() {
            table.fault(&table.position(), "routes of an app without a port", "`port = true`, or no routes", None);
        }
    }
    if command && !tables.iter().any(|t| t.name() == "main") {
        apps.push(read_app(&reader.table("app.main")));
    }
    let only = apps.len() == 1;
    for app in &mut apps {
        // The only app with a port gets everything.
        if app.routes.is_empty() && only {
            app.routes.extend(Pattern::parse("/*").ok());
        }
    }
    apps
}

fn read_app(table: &Table) -> App {
    let mut routes = Vec::new();
    if let Some(list) = table.key("routes").doc("What this app serves: \"/api/*\", \"api.example.com/*\"").opt_texts() {
        for item in &list.value {
            match Pattern::parse(&item.value) {
                Ok(pattern) => routes.push(pattern),
                Err(what) => table.fault(&item.at, &what, "a pattern, as \"/api/*\" or \"api.example.com/*\"", None),
            }
        }
    }
    let balance = table
        .key("balance")
        .doc("How requests are spread over the instances")
        .choice(&["round_robin", "least_conn", "ip_hash", "sticky"], "round_robin");
    App {
        name: table.name().to_owned(),
        routes,
        at: table.position().to_string(),
        balance: match balance.value.as_str() {
            "least_conn" => Balance::LeastConn,
            "ip_hash" => Balance::IpHash,
            "sticky" => Balance::Sticky,
            _ => Balance::RoundRobin,
        },
        passive: Passive {
            max_fails: table
                .key("max_fails")
                .doc("Failed requests within fail_timeout that take an upstream out; 0 = never")
                .integer(3, 0..=1000)
                .value as u32,
            fail_timeout: table.key("fail_timeout").doc("Window of max_fails, and the time out").duration("30s").value,
        },
        probe: read_probe(table),
        addresses: read_addresses(table),
        openapi: input::Options::read_openapi(table),
        http2: table
            .key("protocol")
            .doc("What the app speaks: \"http/1.1\", or \"h2c\" (HTTP/2 without TLS, as gRPC servers do)")
            .choice(&["http/1.1", "h2c"], "http/1.1")
            .value
            == "h2c",
    }
}

fn read_probe(table: &Table) -> Probe {
    let t = table.table("health");
    let path = t.key("path").doc("Path of the active checks; none: TCP, or what readiness found").opt_text();
    if let Some(path) = &path
        && !path.value.starts_with('/')
    {
        t.fault(&path.at, format!("`{}` is not a path", path.value), "a path, as \"/health\"", None);
    }
    Probe {
        path: path.map(|p| p.value),
        interval: t.key("interval").doc("Time between two checks").duration("10s").value,
        timeout: t.key("timeout").doc("Longest wait for an answer").duration("5s").value,
        fails: t.key("fails").doc("Failed checks in a row that take it out").integer(3, 1..=100).value as u32,
        passes: t.key("passes").doc("Passed checks in a row that bring it back").integer(2, 1..=100).value as u32,
    }
}

fn read_addresses(table: &Table) -> Vec<Address> {
    const EXPECTED: &str = "\"10.0.0.1:3000\" or { to = \"10.0.0.2:3000\", weight = 2 }";
    let Some(value) = table.key("upstreams").doc("Addresses this app is served from, where it runs elsewhere").value()
    else {
        return Vec::new();
    };
    let entries = match value.value {
        Value::List(entries) => entries,
        other => vec![Item { value: other, at: value.at.clone() }],
    };
    if entries.is_empty() {
        table.fault(&value.at, "no upstream", EXPECTED, None);
    }
    let mut out = Vec::new();
    for entry in entries {
        let (to, weight, drain, at): (String, u32, bool, Position) = match entry.value {
            Value::Text(to) => (to, 1, false, entry.at),
            Value::Table(t) => {
                let weight = t.key("weight").doc("Share of the requests").integer(1, 1..=WEIGHT_MAX).value as u32;
                let drain = t.key("drain").doc("Finishes what it has and gets nothing new").boolean(false).value;
                match t.key("to").doc("host:port").opt_text() {
                    Some(to) => (to.value, weight, drain, to.at),
                    None => {
                        table.fault(&entry.at, "an upstream without `to`", EXPECTED, None);
                        continue;
                    }
                }
            }
            _ => {
                table.fault(&entry.at, "not an upstream", EXPECTED, None);
                continue;
            }
        };
        let to = to.strip_prefix("http://").unwrap_or(&to).trim_end_matches('/').to_owned();
        let port = to.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match port {
            Some((host, port)) if !host.is_empty() && port > 0 && !host.contains('/') => {
                out.push(Address { to, weight, drain });
            }
            _ => table.fault(&at, format!("`{to}` is not host:port"), EXPECTED, None),
        }
    }
    out
}

fn read_routes(reader: &Reader, users: bool) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for t in reader.array("route") {
        let Some(text) = t.key("match").doc("[METHODS ][host]path this entry is about").opt_text() else {
            t.fault(&t.position(), "a route without `match`", "match = \"POST /api/v1/auth/login\"", None);
            continue;
        };
        let pattern = match Pattern::parse(&text.value) {
            Ok(pattern) => pattern,
            Err(what) => {
                t.fault(&text.at, &what, "a pattern, as \"POST /api/v1/auth/login\"", None);
                continue;
            }
        };
        if let Some(other) = routes.iter().find(|r| r.pattern.same_requests(&pattern)) {
            let what = format!("`{}` matches the same requests as {}", pattern.text, other.at);
            t.fault(&text.at, &what, "one entry for each pattern", None);
        }
        let body = t.key("body").doc("Largest request body on this route").opt_size();
        routes.push(Route {
            pattern,
            at: format!("route `{}` ({})", text.value, text.at),
            response: t.key("response").doc("Longest wait for the app on this route").opt_duration().map(|d| d.value),
            connect: t
                .key("connect")
                .doc("Longest wait for a connection on this route")
                .opt_duration()
                .map(|d| d.value),
            input: input::Options::read_route(&t, body.as_ref()),
            body: body.map(|s| s.value),
            retry: t
                .key("retry")
                .doc("true: repeat requests that carry an Idempotency-Key; false: never repeat")
                .opt_boolean()
                .map(|b| b.value),
            respond: respond::RouteOptions::read(&t, reader.environment().production),
            files: Files::read(&t),
            cache: cache::RouteOptions::read(&t),
            limits: rules::read_route(&t, &text.value, users),
            identity: mainstay_identity::RouteOptions::read(&t),
        });
    }
    routes.sort_by(|a, b| b.pattern.specificity(&a.pattern));
    routes
}

fn read_tls(reader: &Reader) -> Vec<TlsFiles> {
    let mut out = Vec::new();
    for t in reader.named("tls") {
        let cert = t.key("cert").doc("Certificate chain, PEM").opt_text();
        let key = t.key("key").doc("Private key, PEM").opt_text();
        match (cert, key) {
            (Some(cert), Some(key)) => out.push(TlsFiles {
                host: t.name().to_ascii_lowercase(),
                cert: beside(&cert),
                key: beside(&key),
                at: t.position().to_string(),
            }),
            _ => t.fault(
                &t.position(),
                "a certificate needs both files",
                "cert = \"chain.pem\", key = \"key.pem\"",
                None,
            ),
        }
    }
    out
}

/// A path relative to the file it stands in.
pub fn beside(path: &Item<String>) -> PathBuf {
    let folder = path.at.file().and_then(|file| std::path::Path::new(file).parent());
    folder.map_or_else(|| PathBuf::from(&path.value), |folder| folder.join(&path.value))
}

/// A guard that nobody could pass.
fn check_guards(reader: &Reader, options: &Options) {
    if options.identity.verify.is_some() {
        return;
    }
    for table in reader.array("route").iter().filter(|table| table.has("roles") || table.has("auth")) {
        let what = "a route is guarded, and nothing says how users are recognised";
        table.fault(&table.position(), what, "[identity] with verify = { … }", None);
    }
}

/// A listener that only trusted peers may use, and none is.
fn check_proxy_protocol(edge: &Table, options: &Options) {
    if let Some(listen) = options.listen.iter().find(|l| l.proxy_protocol)
        && options.trusted.places().next().is_none()
    {
        let what = format!("the PROXY protocol on {} is believed of nobody", listen.address);
        edge.fault(&edge.position(), what, "trusted_proxies = [\"10.0.0.0/8\"], the balancer's addresses", None);
    }
}

/// What `[limits]` says of paths.
fn check_limits(reader: &Reader, options: &Options) {
    let table = reader.table("limits");
    for route in options.rate.groups.iter().flat_map(|group| &group.routes) {
        if let Err(what) = Pattern::parse(&route.value) {
            table.fault(&route.at, &what, "a pattern, as \"/api/*\"", None);
        }
    }
}

/// Two apps that claim the same requests, and apps that nothing reaches.
fn check_apps(reader: &Reader, apps: &[App]) {
    let claims: Vec<(&App, &Pattern)> = apps.iter().flat_map(|a| a.routes.iter().map(move |r| (a, r))).collect();
    for (i, (app, pattern)) in claims.iter().enumerate() {
        if let Some((other, _)) = claims[..i].iter().find(|(_, p)| p.same_requests(pattern)) {
            let table = reader.table(&format!("app.{}", app.name));
            let what = format!("`{}` is claimed by app {} too ({})", pattern.text, other.name, other.at);
            table.fault(&table.position(), &what, "each pattern in one app's routes", None);
        }
    }
    for app in apps.iter().filter(|a| a.routes.is_empty()) {
        let table = reader.table(&format!("app.{}", app.name));
        let what = format!("app {} has a port and no routes", app.name);
        table.fault(&table.position(), &what, "routes = [\"/…/*\"], or port = false", None);
    }
}
