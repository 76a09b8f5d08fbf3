//! What a proxy does to headers: what belongs to one connection ends there, and forwarding headers tell the truth.

use crate::address::Trusted;
use crate::fields::{Fields, Name};
use crate::message::RequestHead;
use std::net::IpAddr;

/// Headers that name the client or what it asked for.
pub const FORWARDING: &[Name] = &[
    Name::Forwarded,
    Name::RealIp,
    Name::ForwardedFor,
    Name::ForwardedHost,
    Name::ForwardedPort,
    Name::ForwardedProto,
];

/// What a connection knows about its other end, computed once.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: IpAddr,
    pub is_trusted: bool,
    /// The peer's address as text, for `X-Forwarded-For` and `X-Real-IP`.
    pub text: Box<str>,
    pub tls: bool,
}

impl Peer {
    pub fn new(address: IpAddr, trusted: &Trusted, tls: bool) -> Peer {
        let address = crate::address::plain(address);
        Peer { address, is_trusted: trusted.contains(address), text: address.to_string().into(), tls }
    }
}

/// The client's address: the peer's, or what a trusted peer says of it.
pub fn client(fields: &Fields, peer: &Peer, trusted: &Trusted) -> IpAddr {
    if !peer.is_trusted {
        return peer.address;
    }
    let values: Vec<&str> = fields.all(Name::ForwardedFor).filter_map(|v| std::str::from_utf8(v).ok()).collect();
    crate::address::client(peer.address, trusted, values.into_iter(), fields.text_of(Name::RealIp))
}

/// Makes a client's headers those of a request of ours. `upgrade` keeps the two that ask for a tunnel.
pub fn to_upstream(head: &mut RequestHead, peer: &Peer, client: IpAddr, upgrade: bool) {
    if let Some(authority) = head.authority.take() {
        head.fields.set(Name::Host, authority.as_bytes());
    }
    let fields = &mut head.fields;
    end_to_end(fields, upgrade);
    if !fields.has(Name::Host) {
        // HTTP/1.0 and HTTP/2 need none, the app's HTTP/1.1 does (RFC 9112 §3.2).
        fields.add(Name::Host, b"");
    }
    let scheme: &[u8] = if peer.tls { b"https" } else { b"http" };
    // A proxy that is trusted writes these names as they are; the twin is its client's.
    drop_twins(fields);
    if !peer.is_trusted {
        if fields.has_any(FORWARDING) {
            FORWARDING.iter().for_each(|&name| fields.remove(name));
        }
        fields.add(Name::ForwardedFor, peer.text.as_bytes());
        fields.add(Name::RealIp, peer.text.as_bytes());
        fields.add(Name::ForwardedProto, scheme);
        copy_host(fields);
        return;
    }
    // What it says was taken over before, where the proxy is one that writes it; else anybody may have written it.
    fields.remove(Name::Forwarded);
    append_forwarded_for(fields, peer);
    fields.set(Name::RealIp, client.to_string().as_bytes());
    if !matches!(fields.get(Name::ForwardedProto), Some(b"http" | b"https")) {
        fields.set(Name::ForwardedProto, scheme);
    }
    if !fields.has(Name::ForwardedHost) {
        copy_host(fields);
    }
}

/// `X_Forwarded_For` is `X-Forwarded-For` to every app behind a gateway interface: a twin of a name that we vouch for,
/// or that frames, does not pass.
fn drop_twins(fields: &mut Fields) {
    let is_twin = |name: &&[u8]| {
        let dashed: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
        Name::of(&dashed).is_some_and(|known| {
            FORWARDING.contains(&known)
                || matches!(known, Name::ContentLength | Name::TransferEncoding | Name::Host | Name::RequestId)
        })
    };
    let twins: Vec<Vec<u8>> =
        fields.iter().map(|(name, _)| name).filter(|n| n.contains(&b'_')).filter(is_twin).map(<[u8]>::to_vec).collect();
    twins.iter().for_each(|name| fields.remove_named(name));
}

fn copy_host(fields: &mut Fields) {
    let mut room = [0; 256];
    let Some(host) = fields.get(Name::Host).filter(|host| !host.is_empty()) else { return };
    // A name has at most 253 letters (RFC 1035 §2.3.4); what is longer is copied the slow way.
    match room.get_mut(..host.len()) {
        Some(copy) => {
            copy.copy_from_slice(host);
            let length = host.len();
            fields.add(Name::ForwardedHost, &room[..length]);
        }
        None => {
            let host = host.to_vec();
            fields.add(Name::ForwardedHost, &host);
        }
    }
}

fn append_forwarded_for(fields: &mut Fields, peer: &Peer) {
    let mut chain: Vec<u8> = Vec::new();
    for value in fields.all(Name::ForwardedFor) {
        chain.extend_from_slice(value);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.text.as_bytes());
    fields.set(Name::ForwardedFor, &chain);
}

/// Removes what is about one connection (RFC 9110 §7.6.1), and what `Connection` names. `upgrade` keeps the two
/// headers of an upgrade.
pub fn end_to_end(fields: &mut Fields, upgrade: bool) {
    const HOP_BY_HOP: &[Name] = &[
        Name::Connection,
        Name::KeepAlive,
        Name::ProxyConnection,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::Te,
        Name::Http2Settings,
    ];
    if !fields.has_any(HOP_BY_HOP) {
        return;
    }
    let protocol = if upgrade { fields.get(Name::Upgrade).map(<[u8]>::to_vec) } else { None };
    let trailers = fields.get(Name::Te).is_some_and(|te| te.eq_ignore_ascii_case(b"trailers"));
    if fields.has(Name::Connection) {
        let named: Vec<Vec<u8>> =
            fields.tokens(Name::Connection).filter(|name| !is_protected(name)).map(<[u8]>::to_vec).collect();
        for name in named {
            fields.remove_named(&name);
        }
    }
    for &name in HOP_BY_HOP {
        // What is left of it says that trailers are welcome, and that is for whoever makes them.
        if name != Name::Te || !trailers {
            fields.remove(name);
        }
    }
    if let Some(protocol) = protocol {
        fields.add(Name::Connection, b"upgrade");
        fields.add(Name::Upgrade, &protocol);
    }
}

/// Naming one of these in `Connection` would change what the message is or whom it seems to come from.
fn is_protected(name: &[u8]) -> bool {
    const PROTECTED: &[Name] = &[
        Name::Host,
        Name::ContentLength,
        Name::ContentType,
        Name::Cookie,
        Name::Authorization,
        Name::Te,
        Name::Forwarded,
        Name::RealIp,
    ];
    Name::of(name).is_some_and(|known| PROTECTED.contains(&known))
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}

/// `Upgrade` together with `Connection: upgrade`.
pub fn wants_upgrade(fields: &Fields) -> bool {
    fields.has(Name::Upgrade) && fields.has_token(Name::Connection, "upgrade")
}

/// HTTP/2 may send a cookie in crumbs; HTTP/1 has one line (RFC 9113 §8.2.3).
pub fn join_cookies(fields: &mut Fields) {
    if fields.count(Name::Cookie) > 1 {
        let crumbs: Vec<&[u8]> = fields.all(Name::Cookie).collect();
        let joined = crumbs.join(&b"; "[..]);
        fields.set(Name::Cookie, &joined);
    }
}

/// Seconds of `Keep-Alive: timeout=N`.
pub fn keep_alive_timeout(fields: &Fields) -> Option<u64> {
    let value = fields.text_of(Name::KeepAlive)?;
    let timeout = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        for (name, value) in pairs {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn peer(trusted: bool) -> Peer {
        Peer { address: [10, 0, 0, 1].into(), is_trusted: trusted, text: "10.0.0.1".into(), tls: true }
    }

    fn text<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
        head.fields.find(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    #[test]
    fn a_strangers_forwarding_headers_are_replaced() {
        let mut h = head(&[
            ("host", "a.example"),
            ("x-forwarded-for", "6.6.6.6"),
            ("X-Real-IP", "6.6.6.6"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=6.6.6.6"),
            ("X_Forwarded_For", "6.6.6.6"),
            ("content_length", "5"),
        ]);
        to_upstream(&mut h, &peer(false), [10, 0, 0, 1].into(), false);
        for (name, value) in [
            ("x-forwarded-for", Some("10.0.0.1")),
            ("x-real-ip", Some("10.0.0.1")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-host", Some("a.example")),
            ("forwarded", None),
            ("x-forwarded-port", None),
        ] {
            assert_eq!(text(&h, name), value, "{name}");
        }
        assert_eq!(h.fields.len(), 5);
    }

    #[test]
    fn a_trusted_proxys_words_are_kept_and_the_chain_grows() {
        let mut h = head(&[
            ("host", "a"),
            ("x-forwarded-for", "6.6.6.6, 1.2.3.4"),
            ("x-forwarded-proto", "http"),
            ("X_Forwarded_For", "10.6.6.6"),
            ("Content_Length", "5"),
        ]);
        to_upstream(&mut h, &peer(true), [1, 2, 3, 4].into(), false);
        assert_eq!(text(&h, "x-forwarded-for"), Some("6.6.6.6, 1.2.3.4, 10.0.0.1"));
        assert_eq!(text(&h, "x-real-ip"), Some("1.2.3.4"));
        assert_eq!(text(&h, "x-forwarded-proto"), Some("http"));
        // Its client's way round it.
        assert_eq!((text(&h, "x_forwarded_for"), text(&h, "content_length")), (None, None));
    }

    #[test]
    fn headers_named_by_connection_go_but_not_those_that_frame_or_identify() {
        let mut h = head(&[
            ("connection", "close, X-Secret, Host, X-Forwarded-For"),
            ("connection", "authorization"),
            ("x-secret", "1"),
            ("host", "a"),
            ("authorization", "b"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate"),
            ("upgrade", "foo"),
        ]);
        to_upstream(&mut h, &peer(false), [10, 0, 0, 1].into(), false);
        for gone in ["connection", "x-secret", "keep-alive", "te", "upgrade"] {
            assert_eq!(text(&h, gone), None, "{gone}");
        }
        assert!(h.fields.has(Name::Host) && h.fields.has(Name::Authorization) && h.fields.has(Name::ForwardedFor));
    }

    #[test]
    fn an_upgrade_keeps_its_two_headers() {
        let mut h = head(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(wants_upgrade(&h.fields));
        assert!(!wants_upgrade(&head(&[("upgrade", "websocket")]).fields));
        to_upstream(&mut h, &peer(false), [10, 0, 0, 1].into(), true);
        assert_eq!((text(&h, "connection"), text(&h, "upgrade")), (Some("upgrade"), Some("websocket")));
    }

    #[test]
    fn the_target_names_the_host() {
        let mut h = head(&[("Host", "other")]);
        h.set_target("http://real.example/x").expect("target");
        to_upstream(&mut h, &peer(false), [10, 0, 0, 1].into(), false);
        assert_eq!((text(&h, "host"), h.fields.count(Name::Host)), (Some("real.example"), 1));
        assert_eq!(text(&h, "x-forwarded-host"), Some("real.example"));
    }

    #[test]
    fn cookies_are_joined_and_timeouts_read() {
        let mut h = head(&[("cookie", "a=1"), ("cookie", "b=2"), ("keep-alive", "timeout=5, max=100")]);
        join_cookies(&mut h.fields);
        assert_eq!(text(&h, "cookie"), Some("a=1; b=2"));
        assert_eq!(keep_alive_timeout(&h.fields), Some(5));
        assert_eq!(keep_alive_timeout(&head(&[("keep-alive", "max=1")]).fields), None);
    }
}
