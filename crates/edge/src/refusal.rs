//! What a client reads when the edge says no: `application/problem+json` (RFC 9457), or a page in a browser.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use mainstay_runtime::Clock;
use mainstay_telemetry::id::Ids;
use mainstay_telemetry::{RequestId, Verdict};

/// Where the page of a code is, on this very edge: no address elsewhere that could go away.
const PAGES: &str = "/.mainstay/errors/";

/// The refusal as a response. `retry_after` in seconds.
pub fn response(verdict: Verdict, id: RequestId, page_wanted: bool, retry_after: Option<u32>) -> Response<Bytes> {
    let status = StatusCode::from_u16(verdict.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = if page_wanted { page(verdict, id, status) } else { problem(verdict, id, status, retry_after) };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let out = response.headers_mut();
    let kind = if page_wanted { "text/html; charset=utf-8" } else { "application/problem+json" };
    out.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        out.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A browser that opens an address, not a script that calls one.
pub fn wants_page(fetch_mode: Option<&HeaderValue>, accept: Option<&HeaderValue>) -> bool {
    match fetch_mode {
        Some(mode) => mode.as_bytes() == b"navigate",
        None => accept.is_some_and(|a| a.as_bytes().starts_with(b"text/html")),
    }
}

/// The guides' members `error` and `retryAfter` beside those of RFC 9457.
fn problem(verdict: Verdict, id: RequestId, status: StatusCode, retry_after: Option<u32>) -> String {
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
    body.to_string()
}

/// Nothing in it comes from the request, so nothing needs escaping.
fn page(verdict: Verdict, id: RequestId, status: StatusCode) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{code} {reason}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;\
         margin:18vh auto;padding:0 1.5rem}}h1{{font-size:1.4rem}}code{{font-size:.9rem;opacity:.75}}</style>\
         <h1>{code} {reason}</h1><p>{sentence}</p><p><code>{name} · {id}</code></p></html>\n",
        code = status.as_u16(),
        reason = status.canonical_reason().unwrap_or("Error"),
        sentence = verdict.sentence(),
        name = verdict.code(),
    )
}

/// A refusal written by us in place of hyper's own answer to something that is not HTTP.
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

    /// From the head hyper was about to send: `HTTP/1.1 431 …`.
    pub fn from_head(head: &[u8]) -> Own {
        let digits = head.get(9..12).and_then(|d| std::str::from_utf8(d).ok());
        Own::new(digits.and_then(|d| d.parse().ok()).unwrap_or(400))
    }

    /// The whole answer, head and body.
    pub fn bytes(&self) -> Bytes {
        let response = response(self.verdict, self.id, false, None);
        let status = response.status();
        let body = response.body();
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nmainstay-request-id: {id}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or("Error"),
            body.len(),
            id = self.id,
        );
        [head.as_bytes(), body].concat().into()
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
        let (any, html) = (HeaderValue::from_static("*/*"), HeaderValue::from_static("text/html,*/*"));
        let (navigate, cors) = (HeaderValue::from_static("navigate"), HeaderValue::from_static("cors"));
        for (mode, accept, page) in [
            (None, None, false),
            (None, Some(&any), false),
            (None, Some(&html), true),
            (Some(&navigate), None, true),
            (Some(&cors), Some(&html), false),
        ] {
            assert_eq!(wants_page(mode, accept), page, "{mode:?} {accept:?}");
        }
        let json = response(Verdict::HoldFull, id(), false, Some(1));
        assert_eq!(json.status(), 503);
        assert_eq!(json.headers()[RETRY_AFTER], "1");
        let body: serde_json::Value = serde_json::from_slice(json.body()).expect("json");
        assert_eq!(body["code"], "hold_full");
        assert_eq!(body["retryAfter"], 1);
        assert_eq!(body["error"], Verdict::HoldFull.sentence());
        assert!(response(Verdict::NoRoute, id(), true, None).body().starts_with(b"<!doctype html>"));
    }

    #[test]
    fn what_hyper_refuses_gets_our_words() {
        for (head, code) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "malformed_request"),
            (b"HTTP/1.1 431 Request Header Fields Too Large\r\n", "header_too_large"),
            (b"HTTP/1.1 414 URI Too Long\r\n", "uri_too_long"),
            (b"HTTP", "malformed_request"),
        ] {
            let own = Own::from_head(head);
            let bytes = own.bytes();
            let text = std::str::from_utf8(&bytes).expect("text");
            assert!(text.contains(&format!("\"code\":\"{code}\"")), "{text}");
            assert!(text.contains(&format!("mainstay-request-id: {}", own.id)));
        }
    }
}
