//! `[edge.bans]`: off until the table is there.

use ipnet::IpNet;
use mainstay_config::Reader;
use std::net::IpAddr;
use std::time::Duration;

/// Offences remembered of one client.
pub(crate) const OFFENCES_MAX: i64 = 64;

/// When a client is sent away, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub offences: usize,
    pub within: Duration,
    /// The first time; each further time twice as long, up to `time_max`.
    pub time: Duration,
    pub time_max: Duration,
    /// Statuses that are an offence.
    pub statuses: Vec<u16>,
    /// Paths that only scanners ask for are an offence where the app has nothing there.
    pub scanners: bool,
    pub paths: Vec<String>,
    /// Never banned, besides this machine.
    pub spare: Vec<IpNet>,
    /// Where it stands, for trails.
    pub at: String,
}

impl Policy {
    pub fn read(reader: &Reader) -> Option<Policy> {
        let table = reader.table("edge.bans");
        let policy = Policy {
            offences: table
                .key("offences")
                .doc("Offences within `within` that ban a client")
                .integer(5, 1..=OFFENCES_MAX)
                .value as usize,
            within: table.key("within").doc("How long an offence counts").duration("10m").value,
            time: table
                .key("time")
                .doc("How long the first ban lasts; each further one lasts twice as long")
                .duration("10m")
                .value,
            time_max: table.key("time_max").doc("Longest ban").duration("7d").value,
            statuses: statuses(&table),
            scanners: table
                .key("scanners")
                .doc("Paths that only scanners ask for are an offence where the app has nothing there")
                .boolean(true)
                .value,
            paths: texts(&table, "paths", "More beginnings of paths that only scanners ask for"),
            spare: table.key("spare").doc("Addresses and ranges that are never banned").ranges(),
            at: table.position().to_string(),
        };
        table.exists().then_some(policy)
    }

    pub fn spares(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.spare.iter().any(|net| net.contains(&address))
    }

    /// Whether this answer to this client is an offence.
    pub fn is_offence(&self, status: u16, path: &str) -> bool {
        self.statuses.contains(&status)
            || self.scanners
                && matches!(status, 400 | 403 | 404 | 405)
                && crate::scanners::is_scanned(path, &self.paths)
    }
}

fn texts(table: &mainstay_config::Table, key: &str, doc: &'static str) -> Vec<String> {
    table.key(key).doc(doc).texts(&[]).value.into_iter().map(|item| item.value).collect()
}

fn statuses(table: &mainstay_config::Table) -> Vec<u16> {
    let items = table.key("statuses").doc("Statuses of an answer that are an offence").texts(&["401", "429"]);
    let mut statuses = Vec::new();
    for item in items.value {
        match item.value.parse() {
            Ok(status @ 400..=499) => statuses.push(status),
            _ => table.fault(
                &item.at,
                format!("`{}` is no status of a client's fault", item.value),
                "statuses from 400 to 499, as [\"401\", \"429\"]",
                None,
            ),
        }
    }
    statuses
}
