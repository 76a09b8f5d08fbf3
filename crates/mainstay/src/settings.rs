//! Every block's options from one set of inputs: read and checked, nothing touched outside.
//!
//! Used alike by `run`, `check`, `config`, the server and every reload, so that they cannot disagree.

use ipnet::IpNet;
use mainstay_config::{Environment, Inputs, Reader, Report, Table, checks};
use mainstay_edge::is_at_or_below;
use mainstay_edge::options::{Listen, Pages};
use mainstay_identity::accounts::judge_roles;
use mainstay_identity::exchange::ROOT;
use mainstay_jobs::Truth;
use mainstay_store::redis::Place;
use mainstay_supervisor::protocol::ToSupervisor;
use mainstay_telemetry::Redactor;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// 32 characters are 128 bits even in hexadecimal.
const SECRET_CHARACTERS: i64 = 32;

/// Where the guides have their dashboard.
const PAGES: &str = "/admin/queues";
/// What is answered here by itself.
const OTHERS: [&str; 8] =
    ["/.mainstay", ROOT, "/health", "/metrics", "/api/health", "/api/v1/health", "/api/v1/metrics", "/.well-known"];

#[derive(Debug, Clone)]
pub struct Settings {
    pub environment: Environment,
    pub edge: mainstay_edge::Options,
    pub fleet: mainstay_fleet::Options,
    pub logs: mainstay_telemetry::Options,
    pub watch: mainstay_watch::Options,
    pub store: mainstay_store::Options,
    pub jobs: mainstay_jobs::Options,
    pub ops: Ops,
    /// `APP_VERSION`.
    pub app_version: Option<String>,
    /// Names and values that must not appear anywhere.
    pub secrets: Vec<(String, String)>,
}

impl Settings {
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Requests drain first, then each instance gets as long again to finish what it does.
    pub fn end_limit(&self) -> Duration {
        self.edge.timeouts.drain.saturating_mul(2)
    }

    /// `end_limit`, as the supervisor is told of it.
    pub fn stop_limit(&self) -> ToSupervisor {
        ToSupervisor::StopLimit { limit_ms: u64::try_from(self.end_limit().as_millis()).unwrap_or(u64::MAX) }
    }

    /// What is written correctly and will not work all the same: files that are missing or no certificates.
    pub fn prove(&self) -> Vec<String> {
        mainstay_edge::prove(&self.edge).iter().map(|error| chain(error)).collect()
    }

    /// The edge's options for the sockets there are: where nobody chose an address, those in use are the ones.
    pub fn edge_on(&self, have: &[SocketAddr]) -> mainstay_edge::Options {
        let mut edge = self.edge.clone();
        if edge.listen_is_default && !have.is_empty() {
            let listen = |address: &SocketAddr| Listen {
                address: *address,
                tls: false,
                proxy_protocol: false,
                at: "default".to_owned(),
            };
            edge.listen = have.iter().map(listen).collect();
        }
        edge
    }
}

/// `[ops]`: who may see the inside.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Ops {
    pub allow: Vec<IpNet>,
    /// `[ops.queues]`: where the pages of queues stand, and for whom.
    pub queues: Option<Pages>,
    /// Whoever brings it as `Authorization: Bearer` is let in from anywhere.
    token: Option<String>,
}

/// Without the token.
impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ops").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl Ops {
    fn read(reader: &Reader) -> Ops {
        let table = reader.table("ops");
        let allow = table
            .key("allow")
            .doc("Addresses or ranges that may read /health/detailed, /metrics and /api/v1/metrics")
            .ranges();
        let token = table
            .key("token")
            .doc("Bearer token that may read the same from anywhere, as \"${OPS_TOKEN}\"")
            .secret()
            .opt_text();
        if let Some(token) = &token
            && token.value.chars().count() < SECRET_CHARACTERS as usize
        {
            table.fault(
                &token.at,
                "the token of `[ops]` is too short".to_owned(),
                "32 characters or more",
                Some("`mainstay secret OPS_TOKEN` makes one"),
            );
        }
        Ops { allow, queues: read_pages(&table), token: token.map(|t| t.value) }
    }

    /// `authorization` as the header has it. Compared in a time that says nothing about the token.
    pub fn knows(&self, authorization: Option<&str>) -> bool {
        let (Some(token), Some(given)) = (&self.token, authorization) else { return false };
        let Some((scheme, given)) = given.split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer")
            && aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), given.trim().as_bytes()).is_ok()
    }

    pub fn allows(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.allow.iter().any(|net| net.contains(&peer))
    }
}

/// Reads all blocks. The settings are usable only if the report has no faults.
pub fn read(inputs: &Inputs) -> (Settings, Report) {
    let reader = Reader::new(inputs);
    let settings = from(&reader, inputs);
    (settings, reader.finish())
}

/// A report that knows every key there is, for the reference and the schema.
pub fn describe() -> Report {
    let reader = Reader::describe();
    from(&reader, &Inputs::default());
    reader.finish()
}

fn from(reader: &Reader, inputs: &Inputs) -> Settings {
    let mut edge = mainstay_edge::Options::read(reader);
    let health = |name: &str| edge.apps.iter().find(|app| app.name == name)?.probe.path.clone();
    let guarded = edge.identity.is_on() && reader.environment().production;
    let fleet = mainstay_fleet::Options::read(reader, inputs).under_edge(edge.timeouts.drain, health).guarded(guarded);
    let logs = mainstay_telemetry::Options::read(reader);
    let store = mainstay_store::Options::read(reader);
    edge.share(reader, &store);
    let watch = mainstay_watch::Options::read(reader, store.redis.as_ref());
    let jobs = mainstay_jobs::Options::read(reader);
    judge_shared_jobs(reader, &store, &jobs);
    let handed = jobs.queues.iter().flat_map(|queue| queue.push.iter().chain(&queue.events));
    edge.jobs = handed.map(|push| push.path.clone()).collect();
    let ops = Ops::read(reader);
    edge.pages.clone_from(&ops.queues);
    judge_pages(reader, &edge, &jobs);
    check_variables(reader);
    Settings {
        environment: reader.environment().clone(),
        edge,
        fleet,
        logs,
        watch,
        store,
        jobs,
        ops,
        app_version: reader.variable("APP_VERSION").map(|version| version.value),
        secrets: reader.secrets(),
    }
}

/// `[ops.queues]`.
fn read_pages(ops: &Table) -> Option<Pages> {
    let table = ops.table("queues").doc("Pages of queues and jobs, for whoever has one of these roles");
    let is_on = table.exists();
    let path = table.key("path").doc("They stand there and below").text(PAGES);
    let roles = table.key("roles").doc("Any of these roles will do").texts(&["admin"]);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-_.".contains(&byte);
    let rest = path.value.strip_prefix('/').unwrap_or_default();
    let is_path = !rest.is_empty() && rest.bytes().all(plain) && rest.split('/').all(|s| !matches!(s, "" | "." | ".."));
    // Ours, or what begins like it: an app's own would be taken from it, and ours with it.
    let takes = |other: &str| is_at_or_below(&path.value, other) || is_at_or_below(other, &path.value);
    let taken = OTHERS.iter().any(|other| takes(other));
    if is_on && (!is_path || taken) {
        let expected = format!("a path of their own in small letters without a slash at its end, as \"{PAGES}\"");
        table.fault(&path.at, format!("the pages cannot stand at `{}`", path.value), expected, None);
        return None;
    }
    let names: Vec<String> = roles.value.into_iter().map(|role| role.value).collect();
    let judged = if names.is_empty() { Err("there is none".to_owned()) } else { judge_roles(&names) };
    if is_on && let Err(why) = judged {
        table.fault(&table.position(), format!("`roles`: {why}"), "names of roles, as [\"admin\"]", None);
        return None;
    }
    is_on.then(|| Pages { path: path.value, roles: names, at: table.position().to_string() })
}

/// Queues that are BullMQ's need a Redis of their kind.
fn judge_shared_jobs(reader: &Reader, store: &mainstay_store::Options, jobs: &mainstay_jobs::Options) {
    let Truth::BullMq { at } = &jobs.truth else { return };
    let expected = "an address in [store.redis] or in REDIS_URL";
    match &store.redis {
        None => reader.fault(at, "store = \"bullmq\" names no server", expected, Some("REDIS_URL=redis://…")),
        Some(redis) if !matches!(redis.place, Place::Single(_)) => {
            let what = "Redis Cluster and Sentinel: not with [jobs] store = \"bullmq\"";
            reader.fault(&redis.at, what, "one server", None);
        }
        Some(redis) if redis.database > i64::from(u8::MAX) => {
            reader.fault(&redis.at, "a database above 255: not with [jobs] store = \"bullmq\"", "0 to 255", None);
        }
        Some(_) => {}
    }
}

/// Pages that nobody can see, that everybody can, or that show nothing.
fn judge_pages(reader: &Reader, edge: &mainstay_edge::Options, jobs: &mainstay_jobs::Options) {
    let Some(pages) = &edge.pages else { return };
    let at = reader.table("ops").table("queues").position();
    if !jobs.is_on {
        let fix = Some("[jobs.NAME] makes a queue");
        reader.warn(&at, "[ops.queues] has nothing to show: there are no jobs", "a queue", fix);
    }
    for pushed in
        edge.pushed().filter(|pushed| is_at_or_below(pushed, &pages.path) || is_at_or_below(&pages.path, pushed))
    {
        let what = format!("[ops.queues] stands at {}, where the app is handed what comes to {pushed}", pages.path);
        reader.fault(&at, what, "a path of their own", None);
    }
    // A proxy on this machine that says nothing of itself would show them to everybody.
    if !edge.identity.is_on() && reader.environment().production {
        let fix = Some("[identity] recognises users; without it: mainstay jobs");
        reader.fault(&at, "[ops.queues] is for everybody: no user is recognised", "[identity]", fix);
    }
}

/// A weak or sample secret is refused in production and told of in development (C3); so is a broken URL (C2).
fn check_variables(reader: &Reader) {
    let least = reader
        .table("secrets")
        .key("characters")
        .doc("Fewest characters of JWT_SECRET, JWT_REFRESH_SECRET and SESSION_SECRET")
        .integer(SECRET_CHARACTERS, SECRET_CHARACTERS..=1024);
    checks::variables(reader, usize::try_from(least.value).ok());
}

/// An error and its causes in one line, for people.
pub fn chain(error: &dyn std::error::Error) -> String {
    mainstay_supervisor::explain(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::units;

    #[test]
    fn pages_that_would_stand_in_the_way_or_open_to_all_are_faults() {
        let said = |more: &str, production: bool| {
            let text =
                format!("[app.main]\nrun = \"x\"\n[jobs.scan]\npush = \"POST /work/scan\"\n[ops.queues]\n{more}");
            let environment = if production { "production" } else { "development" };
            let environment = vec![("NODE_ENV".to_owned(), environment.to_owned())];
            let inputs = Inputs { environment, ..Inputs::of_file(text) };
            read(&inputs).1.render(false)
        };
        assert_eq!(said("", false), "");
        assert!(said("", true).contains("is for everybody"), "{}", said("", true));
        for path in
            ["/", "admin", "/Admin", "/a/", "/a//b", "/a/../b", "/api", "/api/v1/auth", "/health", "/.mainstay/q"]
        {
            let said = said(&format!("path = \"{path}\"\n"), false);
            assert!(said.contains("cannot stand at") && said.contains("mainstay.toml:"), "{path}: {said}");
        }
        for path in ["/work", "/work/scan", "/work/scan/q"] {
            let said = said(&format!("path = \"{path}\"\n"), false);
            assert!(said.contains("is handed what comes to /work/scan"), "{path}: {said}");
        }
        for roles in ["[]", "[\"a,b\"]"] {
            let said = said(&format!("roles = {roles}\n"), false);
            assert!(said.contains("`roles`"), "{roles}: {said}");
        }
    }

    #[test]
    fn an_allowed_network_is_matched_by_its_plain_address() {
        let allow = ["10.0.0.0/8", "::1"].map(|text| units::range(text).expect("net")).into();
        let ops = Ops { allow, ..Ops::default() };
        for (peer, allowed) in [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("::1", true), ("11.0.0.1", false)] {
            assert_eq!(ops.allows(peer.parse().expect("address")), allowed, "{peer}");
        }
    }
}
