//! What a client reads when the edge says no: `application/problem+json` (RFC 9457), or a page in a browser.

use crate::fields::Name;
use crate::input::problem::Problem;
use crate::message::ResponseHead;
use bytes::Bytes;
use http::StatusCode;
use mainstay_runtime::Clock;
use mainstay_telemetry::id::Ids;
use mainstay_telemetry::{RequestId, Verdict};

/// Where the page of a code is, on this very edge: no address elsewhere that could go away.
const PAGES: &str = "/.mainstay/errors/";

/// The refusal as a response. `retry_after` in seconds.
pub fn response(
    verdict: Verdict,
    id: RequestId,
    page_wanted: bool,
    retry_after: Option<u32>,
) -> (Box<ResponseHead>, Bytes) {
    with_fields(verdict, id, page_wanted, retry_after, None)
}

/// The same, with the fields of an input that are broken.
pub fn with_fields(
    verdict: Verdict,
    id: RequestId,
    page_wanted: bool,
    retry_after: Option<u32>,
    fields: Option<&Problem>,
) -> (Box<ResponseHead>, Bytes) {
    let status = StatusCode::from_u16(verdict.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match page_wanted {
        true => page(verdict, id, status, fields),
        false => problem(verdict, id, status, retry_after, fields),
    };
    let mut head = Box::new(ResponseHead::new(status.as_u16()));
    let kind = if page_wanted { "text/html; charset=utf-8" } else { "application/problem+json" };
    head.fields.add(Name::ContentType, kind.as_bytes());
    head.fields.add(Name::CacheControl, b"no-store");
    if let Some(challenge) = challenge(verdict) {
        head.fields.push(b"WWW-Authenticate", challenge);
    }
    if let Some(seconds) = retry_after {
        head.fields.add(Name::RetryAfter, seconds.to_string().as_bytes());
    }
    (head, body.into())
}

/// What a 401 must say of how to come back (RFC 9110 §11.6.1, RFC 6750 §3).
fn challenge(verdict: Verdict) -> Option<&'static [u8]> {
    match verdict {
        Verdict::LoginRequired => Some(b"Bearer"),
        Verdict::TokenInvalid => Some(b"Bearer error=\"invalid_token\""),
        Verdict::TokenExpired => Some(b"Bearer error=\"invalid_token\", error_description=\"expired\""),
        _ => None,
    }
}

/// A browser that opens an address, not a script that calls one.
pub fn wants_page(fetch_mode: Option<&[u8]>, accept: Option<&[u8]>) -> bool {
    match fetch_mode {
        Some(mode) => mode == b"navigate",
        None => accept.is_some_and(|a| a.starts_with(b"text/html")),
    }
}

/// The guides' members `error` and `retryAfter` beside those of RFC 9457.
fn problem(
    verdict: Verdict,
    id: RequestId,
    status: StatusCode,
    retry_after: Option<u32>,
    fields: Option<&Problem>,
) -> String {
    let mut body = serde_json::json!({
        "type": format!("{PAGES}{}", verdict.code()),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": verdict.sentence(),
        "code": verdict.code(),
        "error": verdict.sentence(),
        "requestId": id.to_string(),
    });
    if let Some(seconds) = retry_after {
        body["retryAfter"] = seconds.into();
    }
    if let Some(fields) = fields {
        fields.tell(&mut body);
    }
    body.to_string()
}

/// Nothing in it comes from the request but the names of fields, which are escaped.
fn page(verdict: Verdict, id: RequestId, status: StatusCode, fields: Option<&Problem>) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{code} {reason}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;\
         margin:18vh auto;padding:0 1.5rem}}h1{{font-size:1.4rem}}code{{font-size:.9rem;opacity:.75}}</style>\
         <h1>{code} {reason}</h1><p>{sentence}</p>{fields}<p><code>{name} · {id}</code></p></html>\n",
        code = status.as_u16(),
        reason = status.canonical_reason().unwrap_or("Error"),
        sentence = verdict.sentence(),
        name = verdict.code(),
        fields = fields.map(Problem::html).unwrap_or_default(),
    )
}

/// A refusal of what is no request: nothing was read that could be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    pub verdict: Verdict,
    pub id: RequestId,
    pub unix_us: u64,
}

impl Own {
    pub fn new(status: u16) -> Own {
        let verdict = match status {
            408 => Verdict::RequestTimeout,
            414 => Verdict::UriTooLong,
            431 => Verdict::HeaderTooLarge,
            _ => Verdict::MalformedRequest,
        };
        let unix_us = Clock::unix_micros();
        // Without random bytes the id is only less random; it never decides anything.
        let mut ids = Ids::new().unwrap_or_else(|_| Ids::seeded(Clock::micros()));
        Own { verdict, id: ids.request(unix_us), unix_us }
    }

    /// The whole answer, head and body.
    pub fn bytes(&self) -> Bytes {
        let (head, body) = response(self.verdict, self.id, false, None);
        let text = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nmainstay-request-id: {id}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n",
            head.status,
            head.reason(),
            body.len(),
            id = self.id,
        );
        [text.as_bytes(), &body].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RequestId {
        Ids::seeded(1).request(1_795_000_000_000_000)
    }

    #[test]
    fn a_script_reads_json_and_a_browser_a_page() {
        for (mode, accept, page) in [
            (None, None, false),
            (None, Some("*/*"), false),
            (None, Some("text/html,*/*"), true),
            (Some("navigate"), None, true),
            (Some("cors"), Some("text/html,*/*"), false),
        ] {
            let told = wants_page(mode.map(str::as_bytes), accept.map(str::as_bytes));
            assert_eq!(told, page, "{mode:?} {accept:?}");
        }
        let (head, body) = response(Verdict::HoldFull, id(), false, Some(1));
        assert_eq!(head.status, 503);
        assert_eq!(head.fields.get(Name::RetryAfter), Some(&b"1"[..]));
        let body: serde_json::Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(body["code"], "hold_full");
        assert_eq!(body["retryAfter"], 1);
        assert_eq!(body["error"], Verdict::HoldFull.sentence());
        assert!(response(Verdict::NoRoute, id(), true, None).1.starts_with(b"<!doctype html>"));
    }

    #[test]
    fn what_is_no_request_gets_our_words() {
        for (status, code) in
            [(400, "malformed_request"), (408, "request_timeout"), (431, "header_too_large"), (414, "uri_too_long")]
        {
            let own = Own::new(status);
            let bytes = own.bytes();
            let text = std::str::from_utf8(&bytes).expect("text");
            assert!(text.contains(&format!("\"code\":\"{code}\"")), "{text}");
            assert!(text.contains(&format!("mainstay-request-id: {}", own.id)));
        }
    }
}
