//! What a server says of itself: `INFO`, and what `CONFIG GET` adds where it is allowed. Pure.

use super::options::Node;
use std::collections::HashMap;

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub used: u64,
    /// `None`: no bound, or a server that does not say.
    pub max: Option<u64>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub node: Node,
    /// `7.0.15`
    pub version: String,
    pub is_master: bool,
    pub memory: Memory,
    /// `noeviction`
    pub policy: String,
    pub clients: u64,
    pub clients_max: Option<u64>,
    pub appends: bool,
    /// `everysec`; unknown where `CONFIG` is barred.
    pub fsync: Option<String>,
    /// `900 1 300 10`; empty: no snapshots.
    pub save: Option<String>,
    /// The last snapshot or rewrite failed.
    pub write_failed: bool,
    /// It answers whoever comes, without a password.
    pub open: bool,
    /// It is here: nobody else's packets reach it, unless it listens elsewhere too.
    pub is_local: bool,
}

/// Lines of `name:value`.
pub fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

pub fn memory(info: &str) -> Memory {
    let fields = fields(info);
    let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
    Memory { used: number("used_memory").unwrap_or(0), max: number("maxmemory").filter(|max| *max > 0) }
}

impl Facts {
    /// `config` are the pairs that `CONFIG GET` gave.
    pub fn of(node: &Node, info: &str, config: &[(String, String)], open: bool) -> Facts {
        let fields = fields(info);
        let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
        let given = |name: &str| config.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let bad = |name: &str| fields.get(name).is_some_and(|value| *value != "ok");
        Facts {
            node: node.clone(),
            version: text("redis_version").unwrap_or_default(),
            is_master: fields.get("role").is_none_or(|role| *role == "master"),
            memory: memory(info),
            policy: text("maxmemory_policy").or_else(|| given("maxmemory-policy")).unwrap_or_default(),
            clients: number("connected_clients").unwrap_or(0),
            clients_max: number("maxclients").or_else(|| given("maxclients").and_then(|max| max.parse().ok())),
            appends: fields.get("aof_enabled") == Some(&"1"),
            fsync: given("appendfsync"),
            save: given("save"),
            write_failed: bad("rdb_last_bgsave_status") || bad("aof_last_write_status"),
            open,
            is_local: ["127.0.0.1", "localhost", "::1"].contains(&node.host.as_str()),
        }
    }

    /// Major and minor.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.').map(str::parse);
        parts.next()?.ok().zip(parts.next()?.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Clients\r\nconnected_clients:3\r\nmaxclients:10000\r\n\
        # Memory\r\nused_memory:1048576\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\n\
        rdb_last_bgsave_status:ok\r\naof_enabled:1\r\naof_last_write_status:ok\r\n# Replication\r\nrole:master\r\n";

    #[test]
    fn what_redis_7_says_is_read() {
        let node = Node { host: "localhost".to_owned(), port: 1 };
        let config = [("save".to_owned(), "900 1".to_owned())];
        let facts = Facts::of(&node, INFO, &config, false);
        assert_eq!((facts.version(), facts.clients, facts.clients_max), (Some((7, 0)), 3, Some(10_000)));
        assert_eq!(facts.memory, Memory { used: 1_048_576, max: None });
        assert_eq!((facts.policy.as_str(), facts.save.as_deref(), facts.fsync), ("noeviction", Some("900 1"), None));
        assert!(facts.appends && facts.is_master && facts.is_local && !facts.write_failed);
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let node = Node { host: "r".to_owned(), port: 1 };
        let facts = Facts::of(&node, "nonsense\n", &[], true);
        assert_eq!((facts.version(), facts.memory.max, facts.clients_max), (None, None, None));
        assert!(!facts.appends && !facts.is_local && facts.open);
    }
}
