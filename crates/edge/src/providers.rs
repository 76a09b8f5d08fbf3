//! Proxies that may be trusted by name (E20): where their requests come from, as they publish it.
//!
//! A list here is as old as this file. What is missing only costs the client's true address (the proxy's stands in
//! its place); nothing here may ever be wider than what the provider says it uses. CloudFront is left out: its list
//! is long and changes by the week.

use ipnet::IpNet;
use std::net::IpAddr;

/// As https://www.cloudflare.com/ips-v4 and /ips-v6 had it on 2026-02-11 (unchanged since 2021).
const CLOUDFLARE: &[&str] = &[
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];

/// As https://api.fastly.com/public-ip-list had it in 2026, in several independent copies.
const FASTLY: &[&str] = &[
    "23.235.32.0/20",
    "43.249.72.0/22",
    "103.244.50.0/24",
    "103.245.222.0/23",
    "103.245.224.0/24",
    "104.156.80.0/20",
    "140.248.64.0/18",
    "140.248.128.0/17",
    "146.75.0.0/17",
    "151.101.0.0/16",
    "157.52.64.0/18",
    "167.82.0.0/17",
    "167.82.128.0/20",
    "167.82.160.0/20",
    "167.82.224.0/20",
    "172.111.64.0/18",
    "185.31.16.0/22",
    "199.27.72.0/21",
    "199.232.0.0/16",
    "2a04:4e40::/32",
    "2a04:4e42::/32",
];

/// Google's front ends before instances, as https://cloud.google.com/load-balancing/docs/firewall-rules has it (2026).
const GOOGLE: &[&str] = &["35.191.0.0/16", "130.211.0.0/22", "2600:2d00:1:b029::/64", "2600:2d00:1:1::/64"];

/// Addresses no stranger on the internet can have: what an ALB, a VPC or a cluster's own balancer comes from
/// (RFC 1918, RFC 4193, loopback, link-local). Whoever is in the same network is believed too.
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

const ALL: [(&str, &[&str]); 4] =
    [("cloudflare", CLOUDFLARE), ("fastly", FASTLY), ("google", GOOGLE), ("private", PRIVATE)];

/// What is expected where a range is none of these.
pub const EXPECTED: &str = "a range, as \"10.0.0.0/8\", or cloudflare, fastly, google, private";

/// The ranges of a name.
pub fn ranges(name: &str) -> Option<impl Iterator<Item = IpNet>> {
    let (_, ranges) = ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(ranges.iter().filter_map(|range| range.parse().ok()))
}

/// The provider an address belongs to.
pub fn named(address: IpAddr) -> Option<&'static str> {
    let mut others = ALL.iter().map(|(name, _)| *name).filter(|name| *name != "private");
    others.find(|name| ranges(name).is_some_and(|mut all| all.any(|net| net.contains(&address))))
}

/// It is on the internet, and of no provider we know.
pub fn is_elsewhere(address: IpAddr) -> bool {
    let private = ranges("private").is_some_and(|mut all| all.any(|net| net.contains(&address)));
    !private && named(address).is_none()
}

/// Why a provider that people ask for is not among them.
pub fn advice(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "aws" | "alb" | "elb" | "nlb" => {
            Some("an ALB comes from the addresses of its subnets: name those, or \"private\"")
        }
        "cloudfront" => Some("CloudFront's list changes by the week: name its ranges from ip-ranges.json"),
        "gcp" | "gclb" => Some("\"google\""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_one_and_none_is_too_wide() {
        for (name, written) in ALL {
            let read: Vec<IpNet> = ranges(name).expect("known").collect();
            assert_eq!(read.len(), written.len(), "{name}");
            for net in read {
                assert_eq!(net, net.trunc(), "{name}: {net}");
                let least = if net.addr().is_ipv4() { 8 } else { 7 };
                assert!(net.prefix_len() >= least, "{name}: {net}");
            }
        }
        assert!(ranges("Cloudflare").is_some() && ranges("cloudfront").is_none());
        assert!(advice("cloudfront").is_some());
    }
}
