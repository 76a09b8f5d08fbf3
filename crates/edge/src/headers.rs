//! Which headers pass, which are ours, and what is said about the client. The only place that edits headers.

use crate::address::Trusted;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use std::net::IpAddr;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("mainstay-request-id");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Which of the headers that matter to the edge are there, found in one pass: looking each up costs more than
/// reading the few that a request has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Has(u16);

impl Has {
    const CONNECTION: Has = Has(1);
    const KEEP_ALIVE: Has = Has(1 << 1);
    const PROXY_CONNECTION: Has = Has(1 << 2);
    const TRANSFER_ENCODING: Has = Has(1 << 3);
    pub const UPGRADE: Has = Has(1 << 4);
    const TE: Has = Has(1 << 5);
    /// Any header that names the client or what it asked for.
    pub const FORWARDED: Has = Has(1 << 6);
    pub const REQUEST_ID: Has = Has(1 << 7);
    pub const IDEMPOTENCY_KEY: Has = Has(1 << 8);

    pub fn any(self, other: Has) -> bool {
        self.0 & other.0 != 0
    }

    /// What this name says.
    fn of(name: &HeaderName) -> Has {
        match name.as_str() {
            "connection" => Has::CONNECTION,
            "keep-alive" => Has::KEEP_ALIVE,
            "proxy-connection" => Has::PROXY_CONNECTION,
            "transfer-encoding" => Has::TRANSFER_ENCODING,
            "upgrade" => Has::UPGRADE,
            "te" => Has::TE,
            "forwarded" | "x-real-ip" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port"
            | "x-forwarded-proto" => Has::FORWARDED,
            "x-request-id" => Has::REQUEST_ID,
            "idempotency-key" => Has::IDEMPOTENCY_KEY,
            _ => Has(0),
        }
    }

    pub fn in_all(headers: &HeaderMap) -> Has {
        Has(headers.keys().fold(0, |all, name| all | Has::of(name).0))
    }
}

/// What one pass over a request's headers finds.
#[derive(Debug, Default)]
pub struct Seen<'a> {
    pub has: Has,
    /// Names and values, as a limit counts them.
    pub size: usize,
    pub hosts: usize,
    pub host: Option<&'a HeaderValue>,
    pub agent: Option<&'a HeaderValue>,
    pub request_id: Option<&'a HeaderValue>,
    pub traceparent: Option<&'a HeaderValue>,
    pub accept: Option<&'a HeaderValue>,
    pub fetch_mode: Option<&'a HeaderValue>,
}

impl<'a> Seen<'a> {
    pub fn new(headers: &'a HeaderMap) -> Seen<'a> {
        let mut seen = Seen::default();
        for (name, value) in headers {
            // ": " and the line's end.
            seen.size += name.as_str().len() + value.len() + 4;
            match name.as_str() {
                "host" => {
                    seen.hosts += 1;
                    seen.host = Some(value);
                }
                "user-agent" => seen.agent = Some(value),
                "accept" => seen.accept = Some(value),
                "traceparent" => seen.traceparent = Some(value),
                "sec-fetch-mode" => seen.fetch_mode = Some(value),
                "x-request-id" => {
                    seen.request_id = Some(value);
                    seen.has.0 |= Has::REQUEST_ID.0;
                }
                _ => seen.has.0 |= Has::of(name).0,
            }
        }
        seen
    }
}

/// What a connection knows about its other end, computed once.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: IpAddr,
    pub is_trusted: bool,
    /// The peer's address as text, for `X-Forwarded-For` and `X-Real-IP`.
    pub text: HeaderValue,
    pub tls: bool,
}

impl Peer {
    pub fn new(address: IpAddr, trusted: &Trusted, tls: bool) -> Peer {
        let address = crate::address::plain(address);
        let text = HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Peer { address, is_trusted: trusted.contains(address), text, tls }
    }
}

/// The client's address, and whether any forwarding header was there, believed or not.
pub fn client(headers: &HeaderMap, peer: &Peer, trusted: &Trusted) -> IpAddr {
    if !peer.is_trusted {
        return peer.address;
    }
    let values: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).collect();
    let real_ip = headers.get(REAL_IP).and_then(|v| v.to_str().ok());
    crate::address::client(peer.address, trusted, values.into_iter(), real_ip)
}

/// How a client's headers become those of one try. Applied to a copy for each, so that what is copied is the few
/// headers that came, not the many that go.
#[derive(Debug)]
pub struct Rewrite<'a> {
    pub has: Has,
    pub peer: &'a Peer,
    pub client: IpAddr,
    pub upgrade: bool,
    /// The target named it, in place of `Host` (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    pub authority: Option<HeaderValue>,
    pub id: HeaderValue,
    pub traceparent: HeaderValue,
}

impl Rewrite<'_> {
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let Some(host) = &self.authority {
            headers.insert(HOST, host.clone());
        }
        to_upstream(headers, self.has, self.peer, self.client, self.upgrade);
        if !self.has.any(Has::REQUEST_ID) {
            headers.insert(X_REQUEST_ID, self.id.clone());
        }
        headers.insert(REQUEST_ID, self.id.clone());
        headers.insert(TRACEPARENT, self.traceparent.clone());
    }
}

/// Makes a client's headers those of a request of ours: hop-by-hop headers go, forwarding headers tell the truth.
/// `upgrade` keeps the two headers that ask for a tunnel.
fn to_upstream(headers: &mut HeaderMap, has: Has, peer: &Peer, client: IpAddr, upgrade: bool) {
    let wanted = if upgrade { headers.remove(UPGRADE) } else { None };
    strip_hop_by_hop(headers, has);
    if let Some(protocol) = wanted {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let scheme = HeaderValue::from_static(if peer.tls { "https" } else { "http" });
    if !peer.is_trusted {
        if has.any(Has::FORWARDED) {
            headers.remove(FORWARDED);
            headers.remove(FORWARDED_PORT);
        }
        headers.insert(FORWARDED_FOR, peer.text.clone());
        headers.insert(REAL_IP, peer.text.clone());
        headers.insert(FORWARDED_PROTO, scheme);
        match headers.get(HOST).cloned() {
            Some(host) => headers.insert(FORWARDED_HOST, host),
            None => headers.remove(FORWARDED_HOST),
        };
        return;
    }
    append_forwarded_for(headers, peer);
    if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
        headers.insert(REAL_IP, client);
    }
    let proto = headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes);
    if !matches!(proto, Some(b"http" | b"https")) {
        headers.insert(FORWARDED_PROTO, scheme);
    }
    if !headers.contains_key(FORWARDED_HOST)
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(FORWARDED_HOST, host);
    }
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: &Peer) {
    let mut chain: Vec<u8> = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.text.as_bytes());
    headers.insert(FORWARDED_FOR, HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.text.clone()));
}

/// Makes an upstream's headers those of our response.
pub fn to_client(headers: &mut HeaderMap, has: Has, upgraded: bool) {
    let protocol = if upgraded { headers.remove(UPGRADE) } else { None };
    strip_hop_by_hop(headers, has);
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Headers about one connection (RFC 9110 §7.6.1), and those that `Connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap, has: Has) {
    if has.any(Has::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| !is_protected(name))
            .collect();
        headers.remove(CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    let gone = [
        (Has::KEEP_ALIVE, KEEP_ALIVE),
        (Has::PROXY_CONNECTION, PROXY_CONNECTION),
        (Has::TRANSFER_ENCODING, TRANSFER_ENCODING),
        (Has::UPGRADE, UPGRADE),
    ];
    for (flag, name) in gone {
        if has.any(flag) {
            headers.remove(name);
        }
    }
    if has.any(Has::TE) && headers.get(TE).is_some_and(|te| te.as_bytes() != b"trailers") {
        headers.remove(TE);
    }
}

/// Naming one of these in `Connection` would change what the message is or whom it seems to come from.
fn is_protected(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, COOKIE, http::header::AUTHORIZATION, http::header::CONTENT_TYPE, TE].contains(name)
        || name.as_str().starts_with("x-forwarded-")
        || *name == REAL_IP
        || *name == FORWARDED
}

/// `Upgrade` together with `Connection: upgrade`.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && headers.get_all(CONNECTION).iter().any(|v| {
            v.as_bytes().split(|&b| b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        })
}

/// HTTP/2 may send a cookie in crumbs; HTTP/1 has one line (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Seconds of `Keep-Alive: timeout=N`.
pub fn keep_alive_timeout(headers: &HeaderMap, has: Has) -> Option<u64> {
    if !has.any(Has::KEEP_ALIVE) {
        return None;
    }
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn peer(trusted: bool) -> Peer {
        Peer {
            address: [10, 0, 0, 1].into(),
            is_trusted: trusted,
            text: HeaderValue::from_static("10.0.0.1"),
            tls: true,
        }
    }

    #[test]
    fn a_strangers_forwarding_headers_are_replaced() {
        let mut h = map(&[
            ("host", "a.example"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
        ]);
        let has = Has::in_all(&h);
        to_upstream(&mut h, has, &peer(false), [10, 0, 0, 1].into(), false);
        assert_eq!(h["x-forwarded-for"], "10.0.0.1");
        assert_eq!(h["x-real-ip"], "10.0.0.1");
        assert_eq!(h["x-forwarded-proto"], "https");
        assert_eq!(h["x-forwarded-host"], "a.example");
        assert!(!h.contains_key("forwarded") && !h.contains_key("x-forwarded-port"));
    }

    #[test]
    fn a_trusted_proxys_words_are_kept_and_the_chain_grows() {
        let mut h = map(&[("host", "a"), ("x-forwarded-for", "6.6.6.6, 1.2.3.4"), ("x-forwarded-proto", "http")]);
        let has = Has::in_all(&h);
        to_upstream(&mut h, has, &peer(true), [1, 2, 3, 4].into(), false);
        assert_eq!(h["x-forwarded-for"], "6.6.6.6, 1.2.3.4, 10.0.0.1");
        assert_eq!(h["x-real-ip"], "1.2.3.4");
        assert_eq!(h["x-forwarded-proto"], "http");
    }

    #[test]
    fn headers_named_by_connection_go_but_not_those_that_frame_or_identify() {
        let mut h = map(&[
            ("connection", "close, X-Secret, Host"),
            ("connection", "authorization"),
            ("x-secret", "1"),
            ("host", "a"),
            ("authorization", "b"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate"),
            ("upgrade", "foo"),
        ]);
        let has = Has::in_all(&h);
        to_upstream(&mut h, has, &peer(false), [10, 0, 0, 1].into(), false);
        for gone in ["connection", "x-secret", "keep-alive", "te", "upgrade"] {
            assert!(!h.contains_key(gone), "{gone}");
        }
        assert!(h.contains_key("host") && h.contains_key("authorization"));
    }

    #[test]
    fn an_upgrade_keeps_its_two_headers() {
        let h = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(wants_upgrade(&h));
        assert!(!wants_upgrade(&map(&[("upgrade", "websocket")])));
        let mut out = h;
        let has = Has::in_all(&out);
        to_upstream(&mut out, has, &peer(false), [10, 0, 0, 1].into(), true);
        assert_eq!(out["connection"], "upgrade");
        assert_eq!(out["upgrade"], "websocket");
    }

    #[test]
    fn one_pass_sees_what_matters() {
        let h = map(&[("host", "a"), ("host", "b"), ("accept", "*/*"), ("upgrade", "x"), ("x-request-id", "7")]);
        let seen = Seen::new(&h);
        assert_eq!((seen.hosts, seen.size), (2, 4 + 4 + 6 + 7 + 12 + 7 + 5 * 4));
        assert_eq!(seen.has, Has::in_all(&h));
        assert!(seen.has.any(Has::UPGRADE) && seen.has.any(Has::REQUEST_ID) && !seen.has.any(Has::FORWARDED));
        assert!(seen.accept.is_some() && seen.agent.is_none());
    }

    #[test]
    fn cookies_are_joined_and_timeouts_read() {
        let mut h = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("keep-alive", "timeout=5, max=100")]);
        join_cookies(&mut h);
        assert_eq!(h["cookie"], "a=1; b=2");
        assert_eq!(keep_alive_timeout(&h, Has::in_all(&h)), Some(5));
        let other = map(&[("keep-alive", "max=1")]);
        assert_eq!(keep_alive_timeout(&other, Has::in_all(&other)), None);
    }
}
