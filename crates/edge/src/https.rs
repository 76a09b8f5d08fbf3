//! From HTTP to HTTPS: which requests are sent there, and what browsers are told to remember. Pure.
//!
//! Invariant: no request that came by HTTPS, here or to a proxy in front, is redirected: there is no loop.

use crate::fields::{Fields, Name};
use crate::local::Ours;
use crate::message::ResponseHead;
use crate::tls::Certificates;
use mainstay_config::{Reader, Table};
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub redirect: bool,
    /// Port clients reach HTTPS at, where it is not the listener's own.
    pub port: Option<u16>,
    /// How long browsers insist on HTTPS; none: nothing is said.
    pub hsts: Option<Duration>,
}

impl Options {
    pub fn read(reader: &Reader, edge: &Table) -> Options {
        let careful = reader.environment().production && reader.has_file();
        let hsts = edge
            .key("hsts")
            .doc("How long browsers insist on HTTPS (default: 365d in production, with a file); \"0s\" says nothing")
            .opt_duration()
            .map_or(careful.then_some(YEAR), |time| Some(time.value).filter(|time| !time.is_zero()));
        Options {
            redirect: edge
                .key("redirect")
                .doc("Send plain requests to HTTPS (308), for hosts whose certificate clients believe")
                .boolean(true)
                .value,
            port: edge
                .key("https_port")
                .doc("Port clients reach HTTPS at, where it is mapped to the listener's")
                .opt_integer(1..=65_535)
                .and_then(|port| u16::try_from(port.value).ok()),
            hsts,
        }
    }
}

/// How a request came, as far as this is decided by it.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// Over a TLS listener of ours.
    pub tls: bool,
    /// A forwarding header says that a proxy in front was asked by HTTPS. Whoever sends it untruly is served plain,
    /// as asked; so nobody needs to be trusted for this.
    pub forwarded_https: bool,
    /// In lower case, without its port.
    pub host: &'a str,
    /// Health, metrics and tokens stay where machines ask for them.
    pub ours: Ours,
    /// Path and query as they came.
    pub target: &'a str,
}

/// In force with a snapshot.
#[derive(Debug, Clone)]
pub struct Https {
    /// `None`: nothing is redirected.
    port: Option<u16>,
    hsts: Option<String>,
    certificates: Certificates,
}

impl Https {
    /// `listens`: the ports of TLS listeners.
    pub fn new(options: &Options, listens: &[u16], certificates: Certificates) -> Https {
        let own = listens.iter().find(|port| **port == 443).or(listens.first()).copied();
        let port = own.filter(|_| options.redirect).map(|own| options.port.unwrap_or(own));
        let value = |time: Duration| format!("max-age={}", time.as_secs());
        Https { port, hsts: options.hsts.filter(|_| own.is_some()).map(value), certificates }
    }

    /// Something may be redirected: else nothing of the request needs to be read.
    pub fn is_on(&self) -> bool {
        self.port.is_some()
    }

    /// Where a plain request is sent with 308; `None`: it is served as it is. Only a host whose certificate clients
    /// believe is left for HTTPS: while there is none, plain is all a site has.
    pub fn redirect(&self, arrived: &Arrived<'_>) -> Option<String> {
        let port = self.port?;
        if arrived.tls
            || arrived.forwarded_https
            || !matches!(arrived.ours, Ours::No | Ours::Service | Ours::Pages)
            || !self.certificates.is_public(arrived.host)
        {
            return None;
        }
        Some(location(port, arrived.host, arrived.target))
    }

    /// `Strict-Transport-Security` for an answer over TLS, where the app set none. `host` in lower case, without its
    /// port.
    pub fn hsts(&self, tls: bool, host: &str) -> Option<&str> {
        self.hsts.as_deref().filter(|_| tls && self.certificates.is_public(host))
    }
}

/// A proxy in front says that it was asked by HTTPS.
pub fn is_forwarded(fields: &Fields) -> bool {
    let is_https = |text: &[u8]| text.trim_ascii().eq_ignore_ascii_case(b"https");
    let proto = |part: &[u8]| {
        let Some((name, value)) = std::str::from_utf8(part).ok().and_then(|part| part.split_once('=')) else {
            return false;
        };
        name.trim().eq_ignore_ascii_case("proto") && is_https(value.trim().trim_matches('"').as_bytes())
    };
    fields.tokens(Name::ForwardedProto).any(is_https)
        || fields.tokens(Name::Forwarded).any(|element| element.split(|&b| b == b';').any(proto))
}

/// `308 Permanent Redirect` keeps method and body.
pub fn response(to: &str) -> Box<ResponseHead> {
    let mut head = Box::new(ResponseHead::new(308));
    head.fields.add(Name::Location, to.as_bytes());
    head
}

fn location(port: u16, host: &str, target: &str) -> String {
    // `OPTIONS *` and absolute forms have no path of their own.
    let target = if target.starts_with('/') { target } else { "/" };
    match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme;
    use crate::tls::Kept;
    use std::sync::Arc;

    fn https(options: &Options, listens: &[u16]) -> Https {
        let certificates = Certificates::new().expect("tls");
        let kept = |name: &str, is_public| Kept {
            names: vec![name.to_owned()],
            key: Arc::new(acme::stand_in(&[name.to_owned()]).expect("key")),
            is_public,
        };
        certificates.set_kept(vec![kept("a.example", true), kept("new.example", false)]);
        Https::new(options, listens, certificates)
    }

    const ON: Options = Options { redirect: true, port: None, hsts: Some(YEAR) };
    const PLAIN: Arrived<'_> =
        Arrived { tls: false, forwarded_https: false, host: "a.example", ours: Ours::No, target: "/x?y=1" };

    #[test]
    fn plain_requests_are_sent_to_https_once() {
        let https = https(&ON, &[8443, 443]);
        let to = |arrived: Arrived<'_>| https.redirect(&arrived);
        assert_eq!(to(PLAIN).as_deref(), Some("https://a.example/x?y=1"));
        assert_eq!(to(Arrived { target: "*", ..PLAIN }).as_deref(), Some("https://a.example/"));
        for arrived in [
            Arrived { tls: true, ..PLAIN },
            Arrived { forwarded_https: true, ..PLAIN },
            Arrived { ours: Ours::Offered, ..PLAIN },
            Arrived { ours: Ours::Alone, ..PLAIN },
            Arrived { ours: Ours::Token, ..PLAIN },
            Arrived { host: "new.example", ..PLAIN },
            Arrived { host: "127.0.0.1", ..PLAIN },
            Arrived { host: "", ..PLAIN },
        ] {
            assert_eq!(to(arrived), None, "{arrived:?}");
        }
    }

    #[test]
    fn a_proxy_that_was_asked_by_https_is_believed() {
        for (name, value, forwarded) in [
            ("x-forwarded-proto", "https", true),
            ("x-forwarded-proto", "HTTPS, http", true),
            ("x-forwarded-proto", "http", false),
            ("forwarded", "for=1.2.3.4;proto=https", true),
            ("forwarded", "for=1.2.3.4; Proto=\"https\", for=2.3.4.5", true),
            ("forwarded", "for=https;host=proto", false),
            ("x-other", "https", false),
        ] {
            let mut fields = Fields::default();
            fields.push(name.as_bytes(), value.as_bytes());
            assert_eq!(is_forwarded(&fields), forwarded, "{name}: {value}");
        }
    }

    #[test]
    fn the_port_is_the_listeners_or_the_one_it_is_mapped_from() {
        let to = |options: &Options, listens: &[u16]| https(options, listens).redirect(&PLAIN);
        assert_eq!(to(&ON, &[8443]).expect("there"), "https://a.example:8443/x?y=1");
        assert_eq!(to(&Options { port: Some(443), ..ON }, &[8443]).expect("there"), "https://a.example/x?y=1");
        assert_eq!(to(&ON, &[]), None);
        assert_eq!(to(&Options { redirect: false, ..ON }, &[443]), None);
    }

    #[test]
    fn browsers_are_told_only_over_tls_and_only_of_what_they_believe() {
        let on = https(&ON, &[443]);
        assert_eq!(on.hsts(true, "a.example").expect("said"), "max-age=31536000");
        assert_eq!(on.hsts(false, "a.example"), None);
        assert_eq!(on.hsts(true, "new.example"), None);
        assert_eq!(https(&Options { hsts: None, ..ON }, &[443]).hsts(true, "a.example"), None);
        assert_eq!(https(&ON, &[]).hsts(true, "a.example"), None);
    }
}
