//! Which answers are compressed on their way (E15), and what that changes in their heads. Pure.

use super::accept::Coding;
use super::vary;
use crate::fields::{Fields, Name};
use crate::message::ResponseHead;
use mainstay_config::{Item, Table, Value};

/// Below it the saving is smaller than the head that announces it.
const BODY_BYTES_MIN: u64 = 1024;
/// Types that are text in truth; `text/*` and whatever ends in `+json` or `+xml` are too.
const TYPES: [&str; 14] = [
    "application/json",
    "application/javascript",
    "application/xml",
    "application/manifest+json",
    "application/graphql",
    "application/wasm",
    "application/x-javascript",
    "application/vnd.ms-fontobject",
    "application/rtf",
    "application/x-sh",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/bmp",
];
/// Read as it comes: a piece that waits in an encoder is a piece too late.
const STREAMS: [&str; 4] =
    ["text/event-stream", "application/x-ndjson", "application/stream+json", "application/json-seq"];
/// They speak about the very bytes of the body.
const DIGESTS: [&str; 3] = ["content-digest", "digest", "content-md5"];

/// `compress = true | false | ["br", "gzip"]`. `Some([])`: off.
pub fn read(table: &Table) -> Option<Vec<Coding>> {
    const DOC: &str = "Compress answers a client takes compressed: true, false, or a list of zstd, br, gzip";
    const EXPECTED: &str = "true, false, or [\"zstd\", \"br\", \"gzip\"]";
    let item = table.key("compress").doc(DOC).value()?;
    let names: Vec<Item<Value>> = match item.value {
        Value::Boolean(true) => return Some(Coding::ALL.to_vec()),
        Value::Boolean(false) => return Some(Vec::new()),
        Value::List(list) => list,
        other => vec![Item::new(other, item.at.clone())],
    };
    let mut codings = Vec::new();
    for name in names {
        let known = match &name.value {
            Value::Text(text) => Coding::ALL.into_iter().find(|c| c.name() == text),
            _ => None,
        };
        match known {
            Some(coding) if !codings.contains(&coding) => codings.push(coding),
            Some(_) => {}
            None => table.fault(&name.at, format!("{} is no coding", name.value.found()), EXPECTED, None),
        }
    }
    Some(codings)
}

/// Whether a client that takes it may be sent this answer compressed. `has_body`: some of it follows the head, or
/// would if the request were not HEAD.
pub fn is_worthwhile(head: &ResponseHead, has_body: bool) -> bool {
    let fields = &head.fields;
    has_body
        && (200..600).contains(&head.status)
        && !matches!(head.status, 204..=206 | 304)
        && !fields.has(Name::ContentEncoding)
        && !fields.has_token(Name::CacheControl, "no-transform")
        && fields.get(Name::ContentLength).and_then(crate::http1::framing::length).is_none_or(|n| n >= BODY_BYTES_MIN)
        && fields.get(Name::ContentType).is_some_and(is_text)
        && !DIGESTS.iter().any(|name| fields.has_named(name.as_bytes()))
        && !fields.has_named(b"content-range")
}

pub fn is_text(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|&b| b == b';').unwrap_or(content_type.len());
    let kind = content_type[..end].trim_ascii();
    let is = |known: &&str| kind.eq_ignore_ascii_case(known.as_bytes());
    let ends = |end: &[u8]| kind.len() > end.len() && kind[kind.len() - end.len()..].eq_ignore_ascii_case(end);
    if STREAMS.iter().any(&is) {
        return false;
    }
    TYPES.iter().any(is)
        || kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
        || ends(b"+json")
        || ends(b"+xml")
}

/// The head of the compressed answer.
pub fn mark(fields: &mut Fields, coding: Coding) {
    fields.add(Name::ContentEncoding, coding.name().as_bytes());
    fields.remove(Name::ContentLength);
    // Ranges count the bytes of what is sent, and those are never the same twice.
    fields.remove_named(b"accept-ranges");
    if let Some(tag) = fields.find("etag").filter(|tag| tag.starts_with(b"\"")) {
        let weak = [b"W/", tag].concat();
        fields.remove_named(b"etag");
        fields.push(b"ETag", &weak);
    }
}

/// The answer depends on what the client takes, whether or not this one takes it.
pub fn depends(fields: &mut Fields) {
    vary(fields, "Accept-Encoding");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, pairs: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(status);
        pairs.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        head
    }

    #[test]
    fn only_what_gains_by_it_and_may_be_changed() {
        let json = ("Content-Type", "application/json; charset=utf-8");
        for (status, pairs, expected) in [
            (200, &[json][..], true),
            (500, &[json, ("Content-Length", "1024")], true),
            (200, &[json, ("Content-Length", "1023")], false),
            (200, &[json, ("Content-Encoding", "gzip")], false),
            (200, &[json, ("Content-Encoding", "identity")], false),
            (200, &[json, ("Cache-Control", "private, no-transform")], false),
            (200, &[json, ("Content-Digest", "sha-256=:x:")], false),
            (204, &[json], false),
            (206, &[json], false),
            (304, &[json], false),
            (200, &[], false),
            (200, &[("content-type", "image/png")], false),
            (200, &[("content-type", "video/mp4")], false),
            (200, &[("content-type", "text/event-stream")], false),
            (200, &[("content-type", "Text/Event-Stream; charset=utf-8")], false),
            (200, &[("content-type", "application/x-ndjson")], false),
            (200, &[("content-type", "application/grpc")], false),
            (200, &[("content-type", "TEXT/HTML")], true),
            (200, &[("content-type", "application/problem+json")], true),
            (200, &[("content-type", "image/svg+xml")], true),
        ] {
            assert_eq!(is_worthwhile(&head(status, pairs), true), expected, "{status} {pairs:?}");
        }
        assert!(!is_worthwhile(&head(200, &[json]), false));
    }

    #[test]
    fn a_tag_becomes_weak_and_the_length_goes() {
        let mut h = head(200, &[("Content-Length", "9999"), ("ETag", "\"a\""), ("Accept-Ranges", "bytes")]);
        mark(&mut h.fields, Coding::Br);
        assert_eq!(h.fields.find("etag"), Some(&b"W/\"a\""[..]));
        assert_eq!(h.fields.find("content-encoding"), Some(&b"br"[..]));
        assert!(!h.fields.has(Name::ContentLength) && !h.fields.has_named(b"accept-ranges"));
        let mut h = head(200, &[("ETag", "W/\"a\"")]);
        mark(&mut h.fields, Coding::Gzip);
        assert_eq!(h.fields.find("etag"), Some(&b"W/\"a\""[..]));
    }
}
