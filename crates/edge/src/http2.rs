//! HTTP/2 between hyper and the gates: heads into ours, answers into hyper's.

use crate::body::{Answer, Body, Http2Body};
use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::message::{RequestHead, ResponseHead, Version};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

/// A stream's request as the gates read it.
pub fn request(core: &Core, request: Request<Incoming>) -> (Box<RequestHead>, Body) {
    let (parts, body) = request.into_parts();
    let mut head = core.heads.request();
    head.method = parts.method;
    head.version = Version::Http2;
    append(&mut head.fields, &parts.headers);
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    // hyper has read it as a target of this form already.
    let _ = head.set_target(target);
    head.authority = parts.uri.authority().map(|a| {
        let text = a.as_str();
        text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
    });
    (head, Body::Http2(body))
}

fn append(fields: &mut Fields, map: &HeaderMap) {
    for (name, value) in map {
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
}

pub fn fields(map: &HeaderMap) -> Fields {
    let mut fields = Fields::default();
    append(&mut fields, map);
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
