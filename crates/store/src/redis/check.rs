//! Is this Redis fit for what it is to keep? Asked with our login, judged by pure rules, each with what to type.

use super::dial::{Dialer, Link};
use super::error::Error;
use super::info::{Facts, Memory, memory};
use super::options::{Node, Options, Place};
use ::redis::Value;
use mainstay_runtime::Clock;
use std::time::Duration;
use tokio::time::timeout;

/// `GETEX` came with it, by which a session is read and kept alive in one round trip.
const VERSION_LEAST: (u32, u32) = (6, 2);
/// Of its memory or its clients: from here on the end is near.
const NEARLY_FULL_PERCENT: u64 = 90;
/// Nodes of a cluster that are asked: beyond it somebody else watches it.
const NODES_MAX: usize = 64;

/// What is to be kept there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    pub limits: bool,
    pub sessions: bool,
    pub jobs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Warning,
    Fault,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub node: Node,
    pub what: String,
    /// What to type.
    pub fix: String,
}

/// Every server that could be asked, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub servers: Vec<Facts>,
    pub findings: Vec<Finding>,
}

/// Asks every server there is, within `limit` in all.
///
/// # Errors
/// When none can be reached, or it refuses us.
pub async fn check(options: &Options, uses: Uses, limit: Duration) -> Result<Report, Error> {
    let asking = async { facts(&dialer(options).await?).await };
    let servers = timeout(limit, asking).await.unwrap_or(Err(Error::Late))?;
    let findings = servers.iter().flat_map(|facts| judge(options, facts, uses)).collect();
    Ok(Report { servers, findings })
}

/// A login, a question and the memory in use; in a cluster the sum of its masters. With the latency of the question.
///
/// # Errors
/// When it does not answer as Redis does within `limit`.
pub async fn health(options: &Options, limit: Duration) -> Result<(Duration, Memory), Error> {
    let asking = async {
        let dialer = dialer(options).await?;
        let links = masters(&dialer, dialer.dial(limit).await?).await?;
        let mut sum = Memory { used: 0, max: Some(0) };
        let mut latency = Duration::ZERO;
        for link in &links {
            let began = Clock::micros();
            link.ask(&::redis::cmd("PING")).await.map_err(Error::answered)?;
            latency = latency.max(Duration::from_micros(Clock::micros().saturating_sub(began)));
            let said = memory(&info(link).await.unwrap_or_default());
            sum.used += said.used;
            sum.max = sum.max.zip(said.max).map(|(one, other)| one + other);
        }
        Ok((latency, sum))
    };
    timeout(limit, asking).await.unwrap_or(Err(Error::Late))
}

/// Off the thread that asks: without a file of its own the system's authorities are read, some hundred files.
async fn dialer(options: &Options) -> Result<Dialer, Error> {
    let options = options.clone();
    tokio::task::spawn_blocking(move || Dialer::new(&options)).await.unwrap_or(Err(Error::Away))
}

/// The link itself, or one to each master of a cluster that is whole.
async fn masters(dialer: &Dialer, link: Link) -> Result<Vec<Link>, Error> {
    if !matches!(link, Link::Many(_)) {
        return Ok(vec![link]);
    }
    let mut links = Vec::new();
    for (node, is_master) in members(dialer).await? {
        if is_master {
            links.push(dialer.node(&node, true).await?);
        }
    }
    Ok(links)
}

/// Every node that the first one to answer knows of, and whether it is a master.
async fn members(dialer: &Dialer) -> Result<Vec<(Node, bool)>, Error> {
    let Place::Cluster(seeds) = &dialer.options.place else { return Ok(Vec::new()) };
    let mut last = Error::Away;
    for seed in seeds {
        let asking = async {
            let link = dialer.node(seed, true).await?;
            let mut command = ::redis::cmd("CLUSTER");
            command.arg("NODES");
            text(link.ask(&command).await.map_err(Error::answered)?).ok_or(Error::Away)
        };
        match asking.await {
            Ok(nodes) => return Ok(nodes.lines().filter_map(member).take(NODES_MAX).collect()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `<id> 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460`; None for one that has failed.
fn member(line: &str) -> Option<(Node, bool)> {
    let mut words = line.split(' ').skip(1);
    let (address, _) = words.next()?.split_once('@')?;
    let (host, port) = address.rsplit_once(':')?;
    let flags = words.next()?;
    let gone = ["fail", "noaddr", "handshake"].iter().any(|flag| flags.split(',').any(|word| word == *flag));
    let node = Node { host: host.to_owned(), port: port.parse().ok()? };
    (!gone && !host.is_empty()).then(|| (node, flags.contains("master")))
}

async fn facts(dialer: &Dialer) -> Result<Vec<Facts>, Error> {
    let nodes = match &dialer.options.place {
        Place::Single(node) => vec![node.clone()],
        Place::Cluster(_) => members(dialer).await?.into_iter().map(|(node, _)| node).collect(),
        Place::Sentinel { .. } => vec![dialer.master().await?],
    };
    let mut all = Vec::new();
    for node in &nodes {
        let link = dialer.node(node, true).await?;
        let said = info(&link).await?;
        let config = config(&link).await;
        all.push(Facts::of(node, &said, &config, is_open(dialer, node).await));
    }
    Ok(all)
}

async fn info(link: &Link) -> Result<String, Error> {
    let answer = link.ask(&::redis::cmd("INFO")).await.map_err(Error::answered)?;
    Ok(text(answer).unwrap_or_default())
}

/// Barred by most who rent Redis out: then it is not known.
async fn config(link: &Link) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in ["save", "appendfsync", "maxclients", "maxmemory-policy"] {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let answer = link.ask(&command).await.ok();
        let pairs: Option<Vec<String>> = answer.and_then(|answer| ::redis::from_redis_value(answer).ok());
        if let Some([name, value]) = pairs.as_deref() {
            all.push((name.clone(), value.clone()));
        }
    }
    all
}

/// It lets in whoever comes. Nothing secret is sent to find out.
async fn is_open(dialer: &Dialer, node: &Node) -> bool {
    match dialer.node(node, false).await {
        Ok(link) => link.ask(&::redis::cmd("PING")).await.is_ok(),
        Err(_) => false,
    }
}

fn text(value: Value) -> Option<String> {
    ::redis::from_redis_value(value).ok()
}

/// What is wrong with one server. Pure.
pub fn judge(options: &Options, facts: &Facts, uses: Uses) -> Vec<Finding> {
    let hand = options.by_hand(&facts.node);
    let mut all = Vec::new();
    let mut say = |level: Level, what: String, fix: String| {
        all.push(Finding { level, node: facts.node.clone(), what, fix });
    };
    let set = |name: &str, value: &str| format!("{hand} CONFIG SET {name} {value}, and the same line in redis.conf");
    let keeps = uses.sessions || uses.jobs;
    match facts.version() {
        Some(version) if version < VERSION_LEAST => {
            let (major, minor) = VERSION_LEAST;
            let fix = format!("install Redis {major}.{minor} or newer");
            say(Level::Fault, format!("Redis {} is too old", facts.version), fix);
        }
        None => say(Level::Warning, "it does not say its version".to_owned(), format!("{hand} INFO server")),
        Some(_) => {}
    }
    if facts.open {
        let level = if facts.is_local { Level::Warning } else { Level::Fault };
        let fix = "requirepass in redis.conf, with what `mainstay secret REDIS_PASSWORD` prints".to_owned();
        say(level, "it lets in whoever comes, without a password".to_owned(), fix);
    }
    if facts.policy.starts_with("allkeys-") || keeps && facts.policy.starts_with("volatile-") {
        let what = format!("maxmemory-policy {} throws away what was to be kept", facts.policy);
        // Of jobs the locks have an end of life, and whoever loses one loses the job to another.
        let (level, what) = match (keeps, uses.jobs || facts.policy.starts_with("allkeys-")) {
            (true, true) => (Level::Fault, what),
            (true, false) => (Level::Warning, format!("{what} once it has an end of life, as sessions have")),
            (false, _) => {
                (Level::Warning, format!("maxmemory-policy {} may forget who has used up a limit", facts.policy))
            }
        };
        say(level, what, set("maxmemory-policy", "noeviction"));
    }
    memory_findings(facts, &mut say, &set);
    persistence_findings(facts, keeps, uses.jobs, &mut say, &set);
    if let Some(max) = facts.clients_max.filter(|max| facts.clients.saturating_mul(100) >= max * NEARLY_FULL_PERCENT) {
        let what = format!("{} of {max} clients are connected", facts.clients);
        say(Level::Warning, what, set("maxclients", &(max * 2).to_string()));
    }
    all
}

fn memory_findings(facts: &Facts, say: &mut impl FnMut(Level, String, String), set: &impl Fn(&str, &str) -> String) {
    match facts.memory.max {
        None => {
            let what = "maxmemory is not set: it grows until the machine has no memory left".to_owned();
            say(Level::Warning, what, set("maxmemory", "256mb"));
        }
        Some(max) if facts.memory.used.saturating_mul(100) >= max.saturating_mul(NEARLY_FULL_PERCENT) => {
            let percent = facts.memory.used.saturating_mul(100) / max.max(1);
            let what = format!("{percent} % of its memory are in use");
            say(Level::Warning, what, set("maxmemory", &max.saturating_mul(2).to_string()));
        }
        Some(_) => {}
    }
}

fn persistence_findings(
    facts: &Facts,
    keeps: bool,
    jobs: bool,
    say: &mut impl FnMut(Level, String, String),
    set: &impl Fn(&str, &str) -> String,
) {
    if facts.write_failed {
        let fix = "free space where its dir is, then redis-cli BGSAVE".to_owned();
        say(Level::Fault, "its last write to disk failed".to_owned(), fix);
    }
    let snapshots = facts.save.as_ref().is_none_or(|save| !save.is_empty());
    if keeps && !facts.appends {
        let (level, what) = match (jobs, snapshots) {
            (true, _) => (Level::Warning, "appendonly is off: jobs of the last minutes are lost with the process"),
            (false, true) => {
                (Level::Warning, "appendonly is off: sessions of the last minutes are lost with the process")
            }
            (false, false) => (Level::Warning, "nothing is written to disk: a restart logs everybody out"),
        };
        say(level, what.to_owned(), set("appendonly", "yes"));
    }
    if keeps && facts.appends && facts.fsync.as_deref() == Some("no") {
        say(
            Level::Warning,
            "appendfsync is no: a power cut loses up to 30 s".to_owned(),
            set("appendfsync", "everysec"),
        );
    }
    if keeps && facts.save.as_deref() == Some("") {
        let what = "save is empty: there are no snapshots to back up".to_owned();
        say(Level::Warning, what, set("save", "\"900 1 300 10 60 10000\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::{Inputs, Reader};

    fn options() -> Options {
        let environment = vec![("REDIS_URL".to_owned(), "redis://:hunter22@127.0.0.1:7000".to_owned())];
        Options::read(&Reader::new(&Inputs { environment, ..Inputs::default() })).expect("options")
    }

    fn good() -> Facts {
        Facts {
            node: Node { host: "127.0.0.1".to_owned(), port: 7000 },
            version: "7.0.15".to_owned(),
            is_master: true,
            memory: Memory { used: 10, max: Some(1000) },
            policy: "noeviction".to_owned(),
            clients: 1,
            clients_max: Some(10_000),
            appends: true,
            fsync: Some("everysec".to_owned()),
            save: Some("900 1".to_owned()),
            write_failed: false,
            open: false,
            is_local: true,
        }
    }

    const SESSIONS: Uses = Uses { limits: true, sessions: true, jobs: false };
    const LIMITS: Uses = Uses { limits: true, sessions: false, jobs: false };
    const JOBS: Uses = Uses { limits: false, sessions: false, jobs: true };

    fn worst(facts: &Facts, uses: Uses) -> Option<Level> {
        judge(&options(), facts, uses).into_iter().map(|finding| finding.level).max()
    }

    #[test]
    fn a_good_server_has_no_findings() {
        for uses in [SESSIONS, LIMITS, JOBS] {
            assert_eq!(judge(&options(), &good(), uses), []);
        }
    }

    #[test]
    fn one_that_evicts_is_a_fault_for_sessions_and_jobs_and_a_warning_for_limits() {
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            let facts = Facts { policy: policy.to_owned(), ..good() };
            assert_eq!(worst(&facts, SESSIONS), Some(Level::Fault));
            assert_eq!(worst(&facts, JOBS), Some(Level::Fault));
            assert_eq!(worst(&facts, LIMITS), Some(Level::Warning));
        }
        let facts = Facts { policy: "volatile-lru".to_owned(), ..good() };
        assert_eq!((worst(&facts, SESSIONS), worst(&facts, LIMITS)), (Some(Level::Warning), None));
        assert_eq!(worst(&facts, JOBS), Some(Level::Fault));
    }

    #[test]
    fn each_other_fault_is_found_and_says_what_to_type_without_a_secret() {
        let cases = [
            (Facts { version: "6.0.9".to_owned(), ..good() }, LIMITS, Level::Fault, "install"),
            (Facts { open: true, ..good() }, LIMITS, Level::Warning, "requirepass"),
            (Facts { open: true, is_local: false, ..good() }, LIMITS, Level::Fault, "requirepass"),
            (Facts { memory: Memory { used: 1, max: None }, ..good() }, LIMITS, Level::Warning, "maxmemory 256mb"),
            (Facts { memory: Memory { used: 95, max: Some(100) }, ..good() }, LIMITS, Level::Warning, "maxmemory 200"),
            (Facts { appends: false, ..good() }, SESSIONS, Level::Warning, "appendonly yes"),
            (Facts { appends: false, ..good() }, JOBS, Level::Warning, "appendonly yes"),
            (Facts { fsync: Some("no".to_owned()), ..good() }, JOBS, Level::Warning, "appendfsync everysec"),
            (Facts { save: Some(String::new()), ..good() }, JOBS, Level::Warning, "save"),
            (Facts { write_failed: true, ..good() }, LIMITS, Level::Fault, "BGSAVE"),
            (Facts { clients: 9_500, ..good() }, LIMITS, Level::Warning, "maxclients 20000"),
        ];
        for (facts, uses, level, fix) in cases {
            let findings = judge(&options(), &facts, uses);
            assert_eq!((findings.len(), findings[0].level), (1, level), "{findings:?}");
            assert!(findings[0].fix.contains(fix), "{findings:?}");
            assert!(!format!("{findings:?}").contains("hunter22"));
        }
        assert_eq!(worst(&Facts { appends: false, save: Some(String::new()), ..good() }, LIMITS), None);
    }

    #[test]
    fn lines_of_cluster_nodes_are_read() {
        let line = "07c3 127.0.0.1:30004@31004,host slave e7d1 0 1426238317239 4 connected";
        assert_eq!(member(line), Some((Node { host: "127.0.0.1".to_owned(), port: 30_004 }, false)));
        assert_eq!(member("07c3 ::1:1@2 myself,master - 0 0 1 connected 0-5460").map(|(_, master)| master), Some(true));
        for gone in ["x 1.2.3.4:1@2 master,fail - 0 0 1 disconnected", "x :0@0 master,noaddr - 0", "", "x y"] {
            assert_eq!(member(gone), None, "{gone}");
        }
    }
}
