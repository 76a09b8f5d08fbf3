//! HTTP/2 between hyper and the gates: heads into ours, answers into hyper's.

pub mod upstream;

use crate::body::{Answer, Body, Http2Body};
use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::http1::framing::is_trailer;
use crate::message::{RequestHead, ResponseHead, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};
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
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    if head.set_target(target).is_err() {
        // `?query` alone, which hyper lets pass.
        let _ = head.set_target(&format!("/{target}"));
    }
    one_length(&mut head.fields);
    head.authority = parts.uri.authority().map(|a| {
        let text = a.as_str();
        text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
    });
    match upgrade {
        Some(upgrade) => {
            as_http1_upgrade(&mut head, core);
            (head, Body::Upgrade(upgrade))
        }
        None => (head, Body::Http2(body)),
    }
}

/// Lengths that agree were let pass by hyper; an app that speaks HTTP/1.1 gets one of them.
fn one_length(fields: &mut Fields) {
    if fields.count(Name::ContentLength) > 1 {
        let first = fields.get(Name::ContentLength).unwrap_or_default().to_vec();
        fields.set(Name::ContentLength, &first);
    }
}

/// A WebSocket asked for by `CONNECT` (RFC 8441 §5) as an app that speaks HTTP/1.1 expects it.
fn as_http1_upgrade(head: &mut RequestHead, core: &Core) {
    head.method = Method::GET;
    head.fields.set(Name::Connection, b"upgrade");
    head.fields.set(Name::Upgrade, b"websocket");
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
