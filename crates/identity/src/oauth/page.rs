//! What a person sees when a login by a provider did not work, and a program in its stead.

use super::fault::Fault;
use super::options::path;
use crate::exchange::{Answer, Asked};
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue};

/// A browser that opens an address, not a script that calls one.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html")),
    }
}

/// `provider`: its name in the path and as a person writes it, where it is one of the file's.
pub(crate) fn refusal(fault: &Fault, provider: Option<(&str, &str)>, asked: &Asked) -> Answer {
    let sentence = fault.sentence(provider.map_or("the provider", |(_, title)| title));
    let mut answer = Answer::problem(fault.status(), fault.code(), &sentence);
    if let Some(seconds) = fault.retry_after_s() {
        answer = answer.retry_after(seconds);
    }
    answer.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if wants_page(&asked.headers) {
        answer.body = Bytes::from(page(fault, &sentence, provider.map(|(name, _)| name), &asked.request_id));
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
        answer.headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    if *fault == Fault::Method {
        answer.headers.insert(ALLOW, HeaderValue::from_static("GET"));
    }
    answer
}

/// Nothing in it comes from the request but the id the edge gave it.
fn page(fault: &Fault, sentence: &str, provider: Option<&str>, id: &str) -> String {
    let again = provider.map(|name| format!("<p><a href=\"{}\">Start again</a></p>", path(name))).unwrap_or_default();
    let status = fault.status();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Login: {reason}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;\
         margin:18vh auto;padding:0 1.5rem}}h1{{font-size:1.4rem}}code{{font-size:.9rem;opacity:.75}}</style>\
         <h1>The login did not work</h1><p>{sentence}</p>{again}<p><code>{code} · {id}</code></p></html>\n",
        reason = status.canonical_reason().unwrap_or("Error"),
        code = fault.code(),
        id = id.replace(['<', '>', '&', '"', '\''], ""),
    )
}
