//! What a stored answer is found by: scheme, host, path and query as the app sees them, and the request headers it
//! varies by. Pure. Never the path alone, and nothing that the app could see beyond it without it being here.

use crate::fields::{Fields, Name};
use crate::headers::Peer;
use crate::message::RequestHead;

/// Headers an answer may vary by, those of `cache_key` included; one with more is not stored.
pub const NAMES_MAX: usize = 8;

/// What goes into a key beside scheme, host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// `None`: the whole query.
    pub query: Option<Vec<String>>,
    /// In lower case.
    pub headers: Vec<String>,
}

/// Names of request headers, in lower case and in order; what an answer varies by.
pub type Names = std::sync::Arc<[Box<[u8]>]>;

/// A key as it is looked at for a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    pub host: &'a [u8],
    pub path: &'a [u8],
    /// Without its `?`.
    pub query: Option<&'a [u8]>,
}

/// Writes the key of this request, as it came from `peer` and before anything was rewritten.
pub fn write(out: &mut Vec<u8>, head: &RequestHead, peer: &Peer, parts: Option<&Parts>) {
    out.clear();
    out.push(if is_https(&head.fields, peer) { b's' } else { b'h' });
    out.extend(head.host().bytes().map(|b| b.to_ascii_lowercase()));
    out.push(0);
    // Whom we trust may tell the app of another host; a stranger's words are replaced by ours, which say the same.
    if peer.is_trusted {
        for name in [Name::ForwardedHost, Name::ForwardedPort] {
            head.fields.all(name).for_each(|value| out.extend(value.iter().map(u8::to_ascii_lowercase)));
            out.push(b' ');
        }
        head.fields.all(Name::Forwarded).for_each(|value| forwarded(out, value));
        for (name, value) in head.fields.iter().filter(|(name, _)| is_odd(name)) {
            out.extend(name.iter().map(u8::to_ascii_lowercase));
            out.push(b'=');
            out.extend_from_slice(value);
            out.push(b' ');
        }
    }
    out.push(0);
    out.extend_from_slice(head.path().as_bytes());
    let Some(query) = head.query() else { return };
    match parts.and_then(|p| p.query.as_ref()) {
        None => {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        Some(named) => chosen(out, query, named),
    }
}

/// Headers that change what some frameworks take a request to be: whom it is for, what it is about, how it is meant.
/// From whom we trust they are part of the key; a stranger's request with one passes the cache by.
pub fn is_odd(name: &[u8]) -> bool {
    const ODD: &[&[u8]] = &[
        b"x-original-url",
        b"x-original-uri",
        b"x-original-host",
        b"x-original-method",
        b"x-rewrite-url",
        b"x-host",
        b"x-http-host",
        b"x-http-host-override",
        b"x-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-url-scheme",
        b"x-scheme",
        b"x-script-name",
        b"x-proxyuser-ip",
        b"front-end-https",
    ];
    if !matches!(name.first(), Some(b'x' | b'X' | b'f' | b'F')) {
        return false;
    }
    let forwarding = name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"));
    (forwarding && Name::of(name).is_none()) || ODD.iter().any(|odd| odd.eq_ignore_ascii_case(name))
}

fn is_https(fields: &Fields, peer: &Peer) -> bool {
    match fields.get(Name::ForwardedProto) {
        Some(b"https") if peer.is_trusted => true,
        Some(b"http") if peer.is_trusted => false,
        _ => peer.tls,
    }
}

/// `host` and `proto` of `Forwarded`; its addresses change nothing of what is asked for.
fn forwarded(out: &mut Vec<u8>, value: &[u8]) {
    for pair in value.split(|b| matches!(b, b',' | b';')).map(<[u8]>::trim_ascii) {
        let name = pair.split(|&b| b == b'=').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto") {
            out.extend(pair.iter().map(u8::to_ascii_lowercase));
            out.push(b' ');
        }
    }
}

/// The named parameters, in the order they came. One that the app could read as a named one counts as such.
fn chosen(out: &mut Vec<u8>, query: &str, named: &[String]) {
    let counts = |pair: &str| {
        let name = pair.split('=').next().unwrap_or("");
        let plain = name.split('[').next().unwrap_or(name);
        named.iter().any(|n| n == plain) || name.contains(['%', '+']) || pair.contains(';')
    };
    let mut mark = b'?';
    for pair in query.split('&').filter(|pair| counts(pair)) {
        out.push(mark);
        out.extend_from_slice(pair.as_bytes());
        mark = b'&';
    }
}

pub fn parse(key: &[u8]) -> Parsed<'_> {
    let mut parts = key.get(1..).unwrap_or_default().splitn(3, |&b| b == 0);
    let host = parts.next().unwrap_or_default();
    let target = parts.nth(1).unwrap_or_default();
    let end = target.iter().position(|&b| b == b'?').unwrap_or(target.len());
    Parsed { host, path: &target[..end], query: target.get(end + 1..) }
}

/// How much of a key is its path and query.
pub fn target_bytes(key: &[u8]) -> usize {
    let parsed = parse(key);
    parsed.path.len() + parsed.query.map_or(0, |query| query.len() + 1)
}

/// The key of the same request over the other scheme.
pub fn other_scheme(key: &mut [u8]) {
    if let Some(first) = key.first_mut() {
        *first = if *first == b's' { b'h' } else { b's' };
    }
}

/// What an answer with this `Vary` is told apart by. `None`: by more than can be compared, so it is not stored.
pub fn names(answer: &Fields, parts: Option<&Parts>) -> Option<Names> {
    // In the key already.
    const KEYED: &[Name] = &[Name::Host, Name::ForwardedHost, Name::ForwardedProto, Name::ForwardedPort];
    // Ours, or of one connection: what the app saw is not what the next client sends.
    const NEVER: &[Name] = &[
        Name::ForwardedFor,
        Name::RealIp,
        Name::Forwarded,
        Name::Traceparent,
        Name::XRequestId,
        Name::RequestId,
        Name::Connection,
        Name::Te,
        Name::Upgrade,
        Name::Range,
    ];
    let mut all: Vec<Box<[u8]>> = Vec::new();
    for token in answer.tokens(Name::Vary) {
        let known = Name::of(token);
        if token == b"*" || known.is_some_and(|name| NEVER.contains(&name)) {
            return None;
        }
        if !known.is_some_and(|name| KEYED.contains(&name)) {
            all.push(token.to_ascii_lowercase().into());
        }
    }
    let given = parts.map_or(&[][..], |p| &p.headers);
    all.extend(given.iter().map(|name| name.as_bytes().into()));
    all.sort();
    all.dedup();
    (all.len() <= NAMES_MAX).then(|| all.into())
}

/// Writes what these headers of a request are: equal for two requests that may share an answer.
pub fn selecting(out: &mut Vec<u8>, names: &Names, asked: &Fields) {
    out.clear();
    for name in names.iter() {
        if Name::of(name) == Some(Name::AcceptEncoding) {
            codings(out, asked);
        } else {
            let between: &[u8] = if Name::of(name) == Some(Name::Cookie) { b"; " } else { b"," };
            for (i, value) in asked.named(name).enumerate() {
                out.extend_from_slice(if i == 0 { b"=" } else { between });
                out.extend_from_slice(value.trim_ascii());
            }
        }
        out.push(0);
    }
}

/// `Accept-Encoding` as the set of codings a client takes: whichever of them an answer has, it can be read.
fn codings(out: &mut Vec<u8>, asked: &Fields) {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"br", b"zstd", b"deflate", b"x-gzip"];
    let refused = |token: &[u8]| {
        let weight = token.split(|&b| b == b';').nth(1).map(<[u8]>::trim_ascii);
        weight.is_some_and(|w| {
            w.len() >= 3 && w[..2].eq_ignore_ascii_case(b"q=") && w[2..].iter().all(|b| matches!(b, b'0' | b'.'))
        })
    };
    let mut set = 0u8;
    for token in asked.tokens(Name::AcceptEncoding) {
        let name = token.split(|&b| b == b';').next().unwrap_or(token).trim_ascii();
        match KNOWN.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            Some(_) if refused(token) => {}
            Some(i) => set |= 1 << i,
            None if name.eq_ignore_ascii_case(b"identity") && !refused(token) => {}
            // `*`, `identity;q=0`, or what we do not know: as it is written.
            None => {
                out.push(b'!');
                asked.all(Name::AcceptEncoding).for_each(|value| out.extend_from_slice(value));
                return;
            }
        }
    }
    // Never 0, which ends a header's part.
    out.push(b'@' + set);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, pairs: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_target(target).expect("target");
        pairs.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        head
    }

    fn peer(trusted: bool, tls: bool) -> Peer {
        Peer { address: [10, 0, 0, 1].into(), is_trusted: trusted, text: "10.0.0.1".into(), tls }
    }

    fn key(head: &RequestHead, trusted: bool, parts: Option<&Parts>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, head, &peer(trusted, false), parts);
        out
    }

    #[test]
    fn a_key_has_scheme_host_path_and_query() {
        let one = key(&head("/a?x=1", &[("host", "A.example:80")]), false, None);
        assert_eq!(one, b"ha.example:80\0\0/a?x=1");
        assert_eq!(parse(&one), Parsed { host: b"a.example:80", path: b"/a", query: Some(b"x=1") });
        for (target, host) in [("/a?x=2", "a.example:80"), ("/A?x=1", "a.example:80"), ("/a?x=1", "b.example")] {
            assert_ne!(key(&head(target, &[("host", host)]), false, None), one, "{target} {host}");
        }
        assert_ne!(key(&head("/a", &[("host", "a")]), false, None), key(&head("/a?", &[("host", "a")]), false, None));
        let mut tls = Vec::new();
        write(&mut tls, &head("/a?x=1", &[("host", "a.example:80")]), &peer(false, true), None);
        assert_ne!(tls, one);
        other_scheme(&mut tls);
        assert_eq!(tls, one);
        // The target names the host, whatever the field says.
        let absolute = head("http://a.example:80/a?x=1", &[("host", "other")]);
        assert_eq!(key(&absolute, false, None), one);
    }

    #[test]
    fn what_only_the_trusted_may_say_is_in_the_key_for_them_alone() {
        for (name, value) in [
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=1.2.3.4;host=evil"),
            ("x-forwarded-prefix", "/evil"),
        ] {
            let (plain, said) = (head("/", &[("host", "a")]), head("/", &[("host", "a"), (name, value)]));
            assert_eq!(key(&plain, false, None), key(&said, false, None), "a stranger's {name}");
            assert_ne!(key(&plain, true, None), key(&said, true, None), "a trusted {name}");
        }
        let said = head("/", &[("host", "a"), ("forwarded", "for=1.2.3.4")]);
        assert_eq!(key(&head("/", &[("host", "a")]), true, None), key(&said, true, None));
    }

    #[test]
    fn a_chosen_query_is_all_that_counts_but_for_disguises() {
        let parts = Parts { query: Some(vec!["page".into(), "q".into()]), headers: vec![] };
        let of = |target: &str| {
            let key = key(&head(target, &[("host", "a")]), false, Some(&parts));
            String::from_utf8_lossy(parse(&key).query.unwrap_or(b"-")).into_owned()
        };
        assert_eq!(of("/?utm=1&page=2&x&q=3"), "page=2&q=3");
        assert_eq!(of("/?utm=1"), "-");
        assert_eq!(of("/?page=1&page=2"), "page=1&page=2");
        assert_eq!(of("/?p%61ge=2"), "p%61ge=2", "the app decodes names");
        assert_eq!(of("/?page[]=2"), "page[]=2");
        assert_eq!(of("/?utm=1;page=2"), "utm=1;page=2", "some read ; as &");
    }

    #[test]
    fn what_an_answer_varies_by() {
        let vary = |value: &str| {
            let mut answer = Fields::default();
            answer.add(Name::Vary, value.as_bytes());
            names(&answer, None).map(|n| n.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            vary("Accept-Language, Accept-Encoding, accept-language"),
            Some(vec!["accept-encoding".into(), "accept-language".into()])
        );
        assert_eq!(vary("X-Forwarded-Proto, Host"), Some(vec![]));
        for never in ["*", "Accept, *", "X-Forwarded-For", "X-Request-Id", "a,b,c,d,e,f,g,h,i"] {
            assert_eq!(vary(never), None, "{never}");
        }
    }

    #[test]
    fn requests_that_may_share_an_answer_select_alike() {
        let of = |name: &str, values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|v| (name, *v)).collect();
            let mut out = Vec::new();
            let names: Names = vec![name.as_bytes().into()].into();
            selecting(&mut out, &names, &head("/", &pairs).fields);
            out
        };
        let coding = |values: &[&str]| of("accept-encoding", values);
        assert_eq!(coding(&["gzip, br"]), coding(&["br;q=0.9", "GZIP"]));
        assert_eq!(coding(&["gzip, br;q=0"]), coding(&["gzip"]));
        assert_eq!(coding(&["gzip, identity"]), coding(&["gzip"]));
        assert_eq!(coding(&[]), coding(&["identity"]));
        assert_ne!(coding(&["gzip"]), coding(&[]));
        assert_ne!(coding(&["*"]), coding(&["gzip"]));
        assert_ne!(coding(&["identity;q=0, gzip"]), coding(&["gzip"]));
        assert_eq!(of("accept-language", &["de", "en"]), of("accept-language", &["de,en"]));
        assert_eq!(of("cookie", &["a=1", "b=2"]), of("cookie", &["a=1; b=2"]), "crumbs of HTTP/2");
        assert_ne!(of("x-a", &[""]), of("x-a", &[]), "empty is not absent");
    }
}
