//! How many there are of each client: connections, or handshakes that are not done.

use crate::Network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// Holds as many entries as there are connections, which have a limit of their own.
#[derive(Clone, Debug, Default)]
pub struct Crowd(Arc<[Mutex<HashMap<Network, u32>>; SHARDS]>);

/// One of them; gives its place back when dropped.
#[derive(Debug)]
pub struct Entered {
    crowd: Crowd,
    network: Network,
}

impl Crowd {
    /// `None`: this client has `max` already.
    pub fn enter(&self, client: IpAddr, max: u32) -> Option<Entered> {
        let network = Network::of(client);
        let mut shard = self.shard(network);
        let count = shard.entry(network).or_insert(0);
        if *count >= max {
            // `max` may be 0, and then the entry is new.
            if *count == 0 {
                shard.remove(&network);
            }
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Entered { crowd: self.clone(), network })
    }

    pub fn count(&self, client: IpAddr) -> u32 {
        let network = Network::of(client);
        self.shard(network).get(&network).copied().unwrap_or(0)
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, u32>> {
        self.0[network.shard(SHARDS)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut shard = self.crowd.shard(self.network);
        if let Some(count) = shard.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_count_and_leaves_nothing_behind() {
        let crowd = Crowd::default();
        let (a, b): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let first = crowd.enter(a, 2).expect("first");
        let _second = crowd.enter(a, 2).expect("second");
        assert!(crowd.enter(a, 2).is_none());
        assert!(crowd.enter(b, 2).is_some());
        drop(first);
        assert!(crowd.enter(a, 2).is_some());
        assert_eq!((crowd.count(a), crowd.count(b)), (1, 0));
        assert!(crowd.enter(b, 0).is_none());
        assert!(crowd.0.iter().map(|s| s.lock().expect("lock").len()).sum::<usize>() == 1);
    }
}
