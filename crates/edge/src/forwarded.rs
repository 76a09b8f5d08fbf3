//! `Forwarded` (RFC 7239): read from proxies that are named to write it, and written for apps that want it. Pure.

use crate::address::{Trusted, plain};
use crate::fields::{Fields, Name};
use crate::headers::{FORWARDING, Peer};
use mainstay_config::Table;
use std::net::{IpAddr, SocketAddr};

/// Elements looked at; a longer chain is cut from the left, where the lies are.
const ELEMENTS_MAX: usize = 32;

/// What the file wants of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Trusted proxies write it, and what they pass on of `X-Forwarded-*` may be anybody's.
    pub reads: bool,
    /// The app gets it.
    pub writes: bool,
}

impl Use {
    pub fn read(edge: &Table) -> Use {
        let item = edge
            .key("forwarded")
            .doc("Forwarded (RFC 7239): read of trusted proxies in place of X-Forwarded-*, written for the app")
            .choice(&["off", "read", "write", "both"], "off");
        let text = item.value.as_str();
        Use { reads: matches!(text, "read" | "both"), writes: matches!(text, "write" | "both") }
    }

    /// Puts what a trusted peer's `Forwarded` says where everybody looks for it.
    pub fn adopt(self, fields: &mut Fields, peer: &Peer, trusted: &Trusted) {
        if !self.reads || !peer.is_trusted {
            return;
        }
        let lines: Vec<String> =
            fields.all(Name::Forwarded).filter_map(|v| std::str::from_utf8(v).ok()).map(str::to_owned).collect();
        let told = self::client(peer.address, trusted, lines.iter().map(String::as_str));
        FORWARDING.iter().for_each(|&name| fields.remove(name));
        if told.client != peer.address {
            fields.add(Name::ForwardedFor, told.client.to_string().as_bytes());
        }
        if let Some(https) = told.https {
            fields.add(Name::ForwardedProto, if https { b"https" } else { b"http" });
        }
        if let Some(host) = told.host {
            fields.add(Name::ForwardedHost, host.as_bytes());
        }
    }

    /// Tells the app, once the other headers are what they will be.
    pub fn write(self, fields: &mut Fields, peer: &Peer, client: IpAddr) {
        if !self.writes {
            return;
        }
        let https = fields.get(Name::ForwardedProto) == Some(b"https");
        let host = fields.text_of(Name::ForwardedHost).filter(|h| is_host(h)).map(str::to_owned);
        let mut line = element(client, https, host.as_deref());
        if client != peer.address {
            line.push_str(", ");
            line.push_str(&element(peer.address, peer.tls, None));
        }
        fields.set(Name::Forwarded, line.as_bytes());
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
}

/// One proxy's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element<'a> {
    /// `None`: hidden, unknown, or no address.
    pub client: Option<IpAddr>,
    pub https: Option<bool>,
    pub host: Option<&'a str>,
}

/// What a chain says once the proxies that wrote it are believed as far as they are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<'a> {
    pub client: IpAddr,
    pub https: Option<bool>,
    pub host: Option<&'a str>,
}

/// The client behind `peer`, as `address::client` finds it in `X-Forwarded-For`: from the right, the first that is not
/// a trusted proxy itself. Of the rest of its element `proto` and `host` are believed.
pub fn client<'a>(peer: IpAddr, trusted: &Trusted, values: impl DoubleEndedIterator<Item = &'a str>) -> Told<'a> {
    let mut told = Told { client: peer, https: None, host: None };
    let mut seen = 0;
    for value in values.rev() {
        let Some(elements) = elements(value) else { return told };
        for element in elements.into_iter().rev() {
            seen += 1;
            (told.https, told.host) = (element.https.or(told.https), element.host.or(told.host));
            let Some(address) = element.client else { return told };
            told.client = address;
            if !trusted.contains(address) || seen == ELEMENTS_MAX {
                return told;
            }
        }
    }
    told
}

/// The elements of one line; `None` where it is not written as the standard has it.
fn elements(line: &str) -> Option<Vec<Element<'_>>> {
    let mut all = vec![Element::default()];
    let mut rest = line.trim();
    while !rest.is_empty() {
        match rest.as_bytes()[0] {
            b',' => {
                all.push(Element::default());
                rest = rest[1..].trim_start();
            }
            b';' | b' ' | b'\t' => rest = rest[1..].trim_start(),
            _ => {
                let (name, after) = rest.split_once('=')?;
                let (value, after) = value(after)?;
                rest = after.trim_start();
                if !(rest.is_empty() || rest.starts_with([',', ';'])) {
                    return None;
                }
                all.last_mut()?.take(name.trim(), value);
            }
        }
    }
    Some(all)
}

/// A token or a quoted text, and what follows it. A text with a backslash in it is nobody's address.
fn value(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => {
            let (inside, after) = quoted.split_once('"')?;
            (!inside.contains('\\')).then_some((inside, after))
        }
        None => {
            let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
            let (token, after) = text.split_at(end);
            (!token.is_empty() && !token.contains(['"', '='])).then_some((token, after))
        }
    }
}

impl<'a> Element<'a> {
    fn take(&mut self, name: &str, value: &'a str) {
        if name.eq_ignore_ascii_case("for") {
            self.client = node(value);
        } else if name.eq_ignore_ascii_case("proto") {
            self.https = match value {
                v if v.eq_ignore_ascii_case("https") => Some(true),
                v if v.eq_ignore_ascii_case("http") => Some(false),
                _ => None,
            };
        } else if name.eq_ignore_ascii_case("host") {
            self.host = Some(value).filter(|h| is_host(h));
        }
    }
}

/// `192.0.2.43`, `192.0.2.43:47011`, `[2001:db8:cafe::17]`, `[2001:db8:cafe::17]:4711`.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inside.parse().ok().map(|v6: std::net::Ipv6Addr| plain(v6.into()));
    }
    text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|s| s.ip())).map(plain)
}

/// One element: who asked us, how, and for which host.
pub fn element(client: IpAddr, https: bool, host: Option<&str>) -> String {
    let node = match client {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let proto = if https { "https" } else { "http" };
    match host {
        Some(host) => format!("for={node};host=\"{host}\";proto={proto}"),
        None => format!("for={node};proto={proto}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::units::range;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn trusted() -> Trusted {
        Trusted::new(vec![(range("10.0.0.0/8").expect("net"), String::new())])
    }

    fn who(lines: &[&str]) -> String {
        client(ip("10.0.0.1"), &trusted(), lines.iter().copied()).client.to_string()
    }

    #[test]
    fn the_rightmost_stranger_is_the_client() {
        for (lines, expected) in [
            (&["for=192.0.2.43"][..], "192.0.2.43"),
            (&["For=\"[2001:db8:cafe::17]:4711\";proto=http"], "2001:db8:cafe::17"),
            (&["for=6.6.6.6, for=192.0.2.43;by=203.0.113.1, for=10.0.0.2"], "192.0.2.43"),
            (&["for=6.6.6.6", "for=\"192.0.2.43:80\""], "192.0.2.43"),
            (&["for=6.6.6.6, for=unknown"], "10.0.0.1"),
            (&["for=6.6.6.6, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["for=6.6.6.6, for=\"unclosed"], "10.0.0.1"),
            (&["for=\"6.6.6.6, for=1.1.1.1\""], "10.0.0.1"),
            (&["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(who(lines), expected, "{lines:?}");
        }
        let long = vec!["for=10.0.0.9"; 100].join(",");
        assert_eq!(who(&[&format!("for=1.1.1.1,{long}")]), "10.0.0.9");
    }

    #[test]
    fn scheme_and_host_come_from_the_believed_part() {
        let lines = ["for=6.6.6.6;proto=https;host=evil.example, for=192.0.2.43;proto=http;host=\"a.example:80\""];
        let told = client(ip("10.0.0.1"), &trusted(), lines.into_iter());
        assert_eq!((told.https, told.host), (Some(false), Some("a.example:80")));
    }

    proptest! {
        /// What we write is what we read.
        #[test]
        fn an_element_comes_back(v4: [u8; 4], v6: [u16; 8], six: bool, https: bool) {
            let address = if six { plain(IpAddr::from(v6)) } else { IpAddr::from(v4) };
            let line = element(address, https, Some("a.example:8080"));
            let expected = Element { client: Some(address), https: Some(https), host: Some("a.example:8080") };
            prop_assert_eq!(elements(&line), Some(vec![expected]));
        }

        #[test]
        fn nothing_makes_it_panic(line in "([fF]or|proto|host|=|;|,|\"|\\[|\\]|[0-9.:a-f]| |\\PC){0,30}") {
            let told = client(ip("10.0.0.1"), &trusted(), [line.as_str()].into_iter());
            prop_assert!(told.host.is_none_or(|h| !h.contains(['"', '\r', '\n'])));
        }
    }
}
