//! A proxy in front that nobody named: all its clients would count as one. Found by who sends forwarding headers.
//!
//! Only tells; whom to believe is said in the file alone, because anybody can send such a header.

use crate::address::Trusted;
use crate::providers;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Peers counted apart; the rest count together.
const PEERS_MAX: usize = 8;
/// Fewer say nothing.
const REQUESTS_MIN: u64 = 100;
/// More than this share of them come from one peer.
const SHARE_PERCENT: u64 = 90;
/// Peers that were told of; a ninth is left alone.
const TOLD_MAX: usize = 8;

/// Requests with forwarding headers, by the peer they came from, of those that are not believed.
#[derive(Debug, Default)]
pub struct Unnamed(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u64,
    peers: Vec<(IpAddr, u64)>,
    told: Vec<IpAddr>,
}

/// A peer that looks like a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub peer: IpAddr,
    pub percent: u64,
}

impl Unnamed {
    pub fn seen(&self, peer: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total += 1;
        if let Some((_, count)) = counts.peers.iter_mut().find(|(known, _)| *known == peer) {
            *count += 1;
        } else if counts.peers.len() < PEERS_MAX {
            counts.peers.push((peer, 1));
        } else if let Some(least) = counts.peers.iter_mut().min_by_key(|(_, count)| *count) {
            *least = (peer, 1);
        }
    }

    /// Once for each peer. What was counted before is worth half from now on.
    pub fn suspect(&self) -> Option<Suspect> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, most) = (counts.total, counts.peers.iter().max_by_key(|(_, count)| *count).copied());
        counts.total /= 2;
        counts.peers.iter_mut().for_each(|(_, count)| *count /= 2);
        let (peer, count) = most?;
        let is_new = counts.told.len() < TOLD_MAX && !counts.told.contains(&peer);
        if total < REQUESTS_MIN || count * 100 <= total * SHARE_PERCENT || !is_new {
            return None;
        }
        counts.told.push(peer);
        Some(Suspect { peer, percent: count * 100 / total })
    }

    /// A reload may have named it, or taken it out again.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Counts::default();
    }
}

impl Suspect {
    /// What is told, with the line to type.
    pub fn sentence(&self, trusted: &Trusted) -> String {
        let Suspect { peer, percent } = self;
        let named = providers::named(*peer).map_or_else(|| peer.to_string(), str::to_owned);
        let fix = match trusted.places().next() {
            None => format!("[edge] trusted_proxies = [\"{named}\"]"),
            Some(at) => format!("add \"{named}\" to trusted_proxies ({at})"),
        };
        // Whoever is on the internet may want to be taken for a proxy.
        let doubt = if providers::is_elsewhere(*peer) { ", if that is your proxy" } else { "" };
        format!(
            "{percent} % of the requests with forwarding headers come from {peer}, which is not trusted: all its \
             clients count as one, in limits, bans and logs   fix{doubt}: {fix}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn one_peer_that_forwards_nearly_everything_is_told_of_once() {
        let unnamed = Unnamed::default();
        (0..95).for_each(|_| unnamed.seen(ip("10.0.0.5")));
        assert_eq!(unnamed.suspect(), None, "too few to say");
        (0..200).for_each(|_| unnamed.seen(ip("10.0.0.5")));
        (0..8u8).for_each(|i| unnamed.seen([192, 0, 2, i].into()));
        let suspect = unnamed.suspect().expect("a proxy");
        assert_eq!((suspect.peer, suspect.percent), (ip("10.0.0.5"), 96));
        (0..200).for_each(|_| unnamed.seen(ip("10.0.0.5")));
        assert_eq!(unnamed.suspect(), None, "it was told");
        unnamed.forget();
        (0..200).for_each(|_| unnamed.seen(ip("10.0.0.5")));
        assert!(unnamed.suspect().is_some());
    }

    #[test]
    fn many_strangers_that_forward_are_no_proxy() {
        let unnamed = Unnamed::default();
        for i in 0..10_000u32 {
            unnamed.seen(IpAddr::from((0xc000_0200 + i % 100).to_be_bytes()));
        }
        assert_eq!(unnamed.suspect(), None);
    }

    #[test]
    fn the_sentence_names_the_line_and_doubts_strangers() {
        let near = Suspect { peer: ip("10.0.0.5"), percent: 97 };
        let text = near.sentence(&Trusted::default());
        assert!(text.ends_with("fix: [edge] trusted_proxies = [\"10.0.0.5\"]"), "{text}");
        let trusted = Trusted::new(vec![("10.9.0.0/16".parse().expect("net"), "mainstay.toml:7".to_owned())]);
        assert!(near.sentence(&trusted).ends_with("add \"10.0.0.5\" to trusted_proxies (mainstay.toml:7)"));
        let far = Suspect { peer: ip("203.0.113.9"), percent: 97 }.sentence(&Trusted::default());
        assert!(far.contains("fix, if that is your proxy: "), "{far}");
        let cloud = Suspect { peer: ip("104.16.1.1"), percent: 97 }.sentence(&Trusted::default());
        assert!(cloud.contains("trusted_proxies = [\"cloudflare\"]"), "{cloud}");
    }
}
