//! Whose request it is: the client's address, believed from named proxies alone. Pure.

use ipnet::IpNet;
use std::net::IpAddr;

/// Longest chain of `X-Forwarded-For` entries looked at; a longer one is cut from the left, where the lies are.
const FORWARDED_HOPS_MAX: usize = 32;

/// The addresses whose forwarding headers are believed, each with the place that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted(Vec<(IpNet, String)>);

impl Trusted {
    pub fn new(nets: Vec<(IpNet, String)>) -> Trusted {
        Trusted(nets)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.position(address).is_some()
    }

    /// Which entry vouches for this address.
    pub fn position(&self, address: IpAddr) -> Option<usize> {
        self.0.iter().position(|(net, _)| net.contains(&address))
    }

    /// Where the entries stand, in their order.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, at)| at.as_str())
    }
}

/// `::ffff:10.0.0.1` is 10.0.0.1: one client must not have two addresses.
pub fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The client behind `peer`. `forwarded_for` yields the header's values in order; only asked if `peer` is trusted.
///
/// The rightmost address that is not itself a trusted proxy is the client: everything left of it could have been
/// written by the client. An entry that is not an address ends the walk.
pub fn client<'a>(
    peer: IpAddr,
    trusted: &Trusted,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    real_ip: Option<&str>,
) -> IpAddr {
    if !trusted.contains(peer) {
        return peer;
    }
    let mut client = peer;
    let mut seen = 0;
    for value in forwarded_for.rev() {
        for entry in value.rsplit(',') {
            seen += 1;
            let Some(address) = entry_address(entry) else { return client };
            client = address;
            if !trusted.contains(address) || seen == FORWARDED_HOPS_MAX {
                return client;
            }
        }
    }
    if seen == 0 {
        return real_ip.and_then(entry_address).unwrap_or(peer);
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(plain(address));
    }
    let bare = match entry.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => entry.rsplit_once(':')?.0,
    };
    bare.parse::<IpAddr>().ok().map(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::units::range;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn who(peer: &str, headers: &[&str]) -> String {
        let nets = ["10.0.0.0/8", "fd00::/8"].map(|net| (range(net).expect("net"), "mainstay.toml:3".to_owned()));
        let trusted = Trusted::new(nets.into());
        client(ip(peer), &trusted, headers.iter().copied(), Some("198.51.100.9")).to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(who("203.0.113.5", &["1.2.3.4"]), "203.0.113.5");
        assert_eq!(who("203.0.113.5", &["10.0.0.1, 1.2.3.4"]), "203.0.113.5");
    }

    #[test]
    fn behind_a_trusted_proxy_the_rightmost_stranger_is_the_client() {
        assert_eq!(who("10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(who("10.0.0.1", &["6.6.6.6, 1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(who("10.0.0.1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(who("10.0.0.1", &["1.2.3.4:5678, [fd00::1]:80"]), "1.2.3.4");
        assert_eq!(who("10.0.0.1", &["::ffff:1.2.3.4"]), "1.2.3.4");
        assert_eq!(who("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn rubbish_ends_the_walk_and_an_absent_header_falls_back() {
        assert_eq!(who("10.0.0.1", &["1.2.3.4, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(who("10.0.0.1", &[]), "198.51.100.9");
        let long = vec!["10.0.0.9"; 100].join(",");
        assert_eq!(who("10.0.0.1", &[&format!("1.1.1.1,{long}")]), "10.0.0.9");
    }

    #[test]
    fn ranges_are_read_or_refused() {
        assert!(range("10.0.0.1").is_ok());
        assert!(range("10.0.0.0/33").is_err());
        assert!(range("cloudfare").is_err());
    }
}
