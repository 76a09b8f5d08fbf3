//! HTTP/2 between hyper and the gates: heads into ours, answers into hyper's.

pub mod arriving;
pub mod upstream;

use crate::body::{Answer, Body, Http2Body};
use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::http1::framing::{self, is_trailer};
use crate::message::{RequestHead, ResponseHead, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;

/// A stream's request as the gates read it.
pub fn request(core: &Core, mut request: Request<Incoming>) -> (Box<RequestHead>, Body) {
    let upgrade = request.extensions().get::<Protocol>().is_some_and(|p| p.as_str() == "websocket");
    let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut head = core.heads.request();
    head.method = parts.method;
    head.version = Version::Http2;
    append(&mut head.fields, &parts.headers);
    // What is no path leaves none: `is_malformed` tells.
    let path = parts.uri.path_and_query().filter(|path| !is_absent(path)).map_or("", |p| p.as_str());
    let _ = head.set_target(if path.starts_with('/') || path == "*" { path } else { "" });
    head.authority = parts.uri.authority().map(|a| a.as_str().to_owned());
    match upgrade {
        Some(upgrade) => {
            as_http1_upgrade(&mut head, core);
            (head, Body::Upgrade(upgrade))
        }
        None => (head, body.into()),
    }
}

/// A path that was never there calls itself `/`, but does not equal it.
fn is_absent(path: &PathAndQuery) -> bool {
    path.as_str() == "/" && *path != PathAndQuery::from_static("/")
}

/// What hyper lets pass of a malformed request (RFC 9113 §8.1.1): it must not reach an app, which may read it otherwise
/// than whoever stands before us.
pub fn is_malformed(head: &RequestHead) -> bool {
    // No path, one that does not begin with a slash, or all of a server asked for by what is no OPTIONS (§8.3.1).
    let path = head.target().is_empty() || head.target() == "*" && head.method != Method::OPTIONS;
    let authority = head.authority.as_deref().is_some_and(|authority| {
        // Nobody's user belongs here, and two names are one too many (§8.3.1).
        let other = |host: &str| !same_host(authority, host);
        authority.contains('@') || head.fields.text_of(Name::Host).is_some_and(other)
    });
    let length = head.fields.get(Name::ContentLength).is_some_and(|value| framing::length(value).is_none());
    path || authority || length || head.fields.iter().any(|(_, value)| has_outer_blank(value))
}

/// No value begins or ends with a blank (RFC 9113 §8.2.1); one that does may be a framing field to somebody else.
fn has_outer_blank(value: &[u8]) -> bool {
    [value.first(), value.last()].into_iter().flatten().any(|&end| matches!(end, b' ' | b'\t'))
}

/// These name the same host; a port that goes without saying may go unsaid.
fn same_host(one: &str, other: &str) -> bool {
    let plain =
        |text: &str| text.strip_suffix(":443").or_else(|| text.strip_suffix(":80")).map_or(text.len(), str::len);
    one.eq_ignore_ascii_case(other)
        || (plain(one) == one.len()) != (plain(other) == other.len())
            && one[..plain(one)].eq_ignore_ascii_case(&other[..plain(other)])
}

/// A WebSocket asked for by `CONNECT` (RFC 8441 §5) as an app that speaks HTTP/1.1 expects it.
fn as_http1_upgrade(head: &mut RequestHead, core: &Core) {
    head.method = Method::GET;
    head.fields.set(Name::Connection, b"upgrade");
    head.fields.set(Name::Upgrade, b"websocket");
    // The client's own is nothing here (RFC 8441 §5), and two would be one too many.
    head.fields.remove_named(b"sec-websocket-key");
    // A nonce that the answer would prove to have been read; on HTTP/2 nobody asks for that proof.
    let (nonce, _) = core.trace_and_span();
    head.fields.push(b"sec-websocket-key", BASE64.encode(nonce).as_bytes());
}

/// The answer to a `CONNECT`: 200, and none of what only HTTP/1.1 says.
pub fn as_connect_answer(head: &mut ResponseHead) {
    head.status = 200;
    head.reason.clear();
    for name in [Name::Connection, Name::Upgrade] {
        head.fields.remove(name);
    }
    head.fields.remove_named(b"sec-websocket-accept");
}

fn append(fields: &mut Fields, map: &HeaderMap) {
    for (name, value) in map {
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Of these trailers, those that may stand behind a body.
pub fn trailers(map: &HeaderMap) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in map {
        if is_trailer(name.as_str().as_bytes()) {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    fields
}

pub fn header_map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// An answer as hyper sends it. A tunnel has no place here.
pub fn response(core: &Core, mut answer: Answer) -> Response<Http2Body> {
    let head: Box<ResponseHead> = std::mem::take(&mut answer.head);
    let mut response = Response::new(Http2Body(answer));
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = header_map(&head.fields);
    response.headers_mut().remove(Name::Connection.text());
    core.heads.release_response(head);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, target: &str, authority: Option<&str>, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.method = method.parse().expect("a method");
        let _ = head.set_target(target);
        head.authority = authority.map(str::to_owned);
        fields.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        head
    }

    #[test]
    fn a_path_that_is_absent_is_told_from_the_shortest() {
        let of = |uri: &str| uri.parse::<http::Uri>().expect(uri).path_and_query().cloned().expect(uri);
        assert!(!is_absent(&of("/")) && !is_absent(&of("*")) && !is_absent(&of("/?a")));
        let none = http::Uri::from_parts(http::uri::Parts::default()).expect("nothing at all");
        assert!(is_absent(none.path_and_query().expect("it calls itself one")));
        assert!(is_absent(&PathAndQuery::try_from("#a").expect("a fragment alone")));
    }

    #[test]
    fn what_hyper_lets_pass_is_seen() {
        let host = Some("a.example");
        for (method, target, authority, fields) in [
            ("GET", "/", host, &[][..]),
            ("OPTIONS", "*", host, &[]),
            ("GET", "/", None, &[("host", "a.example")]),
            ("GET", "/", host, &[("host", "A.EXAMPLE"), ("x", ""), ("y", "a \t b")]),
            ("GET", "/", host, &[("host", "a.example:443")]),
            ("GET", "/", Some("a.example:80"), &[("host", "a.example"), ("content-length", "0")]),
        ] {
            assert!(
                !is_malformed(&asked(method, target, authority, fields)),
                "{method} {target} {authority:?} {fields:?}"
            );
        }
        for (method, target, authority, fields) in [
            ("GET", "", host, &[][..]),
            ("GET", "?a", host, &[]),
            ("GET", "*", host, &[]),
            ("GET", "/", Some("u@a.example"), &[]),
            ("GET", "/", host, &[("host", "b.example")]),
            ("GET", "/", host, &[("host", "")]),
            ("GET", "/", Some("a.example:80"), &[("host", "a.example:443")]),
            ("GET", "/", Some("a.example:8080"), &[("host", "a.example")]),
            ("GET", "/", host, &[("x", " a")]),
            ("GET", "/", host, &[("x", "a\t")]),
            ("GET", "/", host, &[("x", " ")]),
            ("POST", "/", host, &[("content-length", "")]),
            ("POST", "/", host, &[("content-length", "+1")]),
        ] {
            assert!(
                is_malformed(&asked(method, target, authority, fields)),
                "{method} {target} {authority:?} {fields:?}"
            );
        }
    }
}
