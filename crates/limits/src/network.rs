//! What counts as one client: an IPv4 address, or the /64 an IPv6 client can choose its addresses from.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    V4(u32),
    V6(u64),
}

impl Network {
    pub fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(v4) => Network::V4(v4.to_bits()),
            IpAddr::V6(v6) => Network::V6((v6.to_bits() >> 64) as u64),
        }
    }

    /// From `192.0.2.7`, `2001:db8::1` or `2001:db8::/64`.
    pub fn parse(text: &str) -> Option<Network> {
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse().ok().map(Network::of)
    }

    pub fn is_within(self, net: &IpNet) -> bool {
        net.contains(&self.first())
    }

    fn first(self) -> IpAddr {
        match self {
            Network::V4(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            Network::V6(bits) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits) << 64)),
        }
    }

    /// Which of so many tables holds it. Mixed, because neighbours attack together.
    pub(crate) fn shard(self, shards: usize) -> usize {
        let bits = match self {
            Network::V4(bits) => u64::from(bits),
            Network::V6(bits) => bits,
        };
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % shards
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::V4(_) => self.first().fmt(f),
            Network::V6(_) => write!(f, "{}/64", self.first()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_an_address_or_a_64() {
        let of = |text: &str| Network::of(text.parse().expect("address"));
        assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.7"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        for text in ["192.0.2.7", "2001:db8:1:2::/64"] {
            assert_eq!(Network::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Network::parse("somebody"), None);
    }
}
