//! A Redis Cluster of three masters with a replica each, made with `redis-cli --cluster create` as a reader would.

use crate::redis::{Manner, Redis};
use crate::wait::wait_until;
use std::process::Command;

/// Masters and replicas together.
pub const NODES: usize = 6;

#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Formed, and every node says so.
    pub fn start(password: Option<&str>) -> Cluster {
        let lines =
            [("cluster-enabled", "yes"), ("cluster-node-timeout", "2000"), ("cluster-replica-validity-factor", "0")];
        let lines = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let manner = Manner { password: password.map(str::to_owned), lines, ..Manner::default() };
        let nodes: Vec<Redis> = (0..NODES).map(|_| Redis::start(manner.clone())).collect();
        let mut create = Command::new("redis-cli");
        if let Some(password) = password {
            create.args(["--no-auth-warning", "-a", password]);
        }
        create.args(["--cluster", "create"]).args(nodes.iter().map(Redis::address));
        let output = create.args(["--cluster-replicas", "1", "--cluster-yes"]).output().expect("redis-cli");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Cluster { nodes };
        cluster.wait_until_whole();
        cluster
    }

    /// Every living node sees all slots served and, with all six alive, each master its replica.
    pub fn wait_until_whole(&self) {
        wait_until("the cluster to be whole", || {
            self.nodes.iter().all(|node| {
                let seen = node.cli(&["CLUSTER", "NODES"]);
                let replicas = seen.lines().filter(|line| line.contains("slave") && !line.contains("fail")).count();
                node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") && replicas == NODES / 2
            })
        });
    }

    /// `REDIS_CLUSTER_NODES`.
    pub fn nodes(&self) -> String {
        self.nodes.iter().map(Redis::address).collect::<Vec<_>>().join(",")
    }

    pub fn node(&self, number: usize) -> &Redis {
        &self.nodes[number]
    }

    /// The one that serves this key now.
    pub fn master_of(&mut self, key: &str) -> &mut Redis {
        let slot: u32 = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).trim().parse().expect("a slot");
        let seen = self.nodes[0].cli(&["CLUSTER", "NODES"]);
        let holds = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = first.parse::<u32>().ok().zip(last.parse::<u32>().ok());
            range.is_some_and(|(first, last)| (first..=last).contains(&slot))
        };
        let line = seen.lines().find(|line| line.split(' ').skip(8).any(holds)).expect("a master");
        let address = line.split(' ').nth(1).and_then(|word| word.split('@').next()).expect("an address");
        self.nodes.iter_mut().find(|node| node.address() == address).expect("one of ours")
    }
}
