//! A job as a request: its payload as it was given, what it is in headers, and a signature after the Standard Webhooks.
//!
//! Pure: the wall clock is an argument. Must never look into the payload.

use super::Instance;
use crate::handle::Work;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use std::fmt::Write as _;

/// The request of one attempt; `id` is the job as it is known outside, `unix_s` stands in its signature.
///
/// # Errors
/// When the path or a name cannot stand in a request.
pub(super) fn request(
    queue: &str,
    path: &str,
    (id, work): (&str, Work),
    instance: &Instance,
    unix_s: u64,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let Work { claimed, body, .. } = work;
    let id = escaped(id);
    let mut request = Request::post(path)
        .header(HOST, instance.address.to_string())
        .header(USER_AGENT, "mainstay")
        .header(CONTENT_TYPE, "application/json")
        .header("mainstay-job-id", &id)
        .header("mainstay-job-queue", escaped(queue))
        .header("mainstay-job-attempt", claimed.attempt)
        .header("mainstay-job-max-attempts", claimed.attempts)
        .header("mainstay-job-token", claimed.token)
        .header("idempotency-key", &id)
        .header("webhook-id", &id)
        .header("webhook-timestamp", unix_s)
        .header("webhook-signature", signature(&instance.key, &id, unix_s, &body.payload));
    if claimed.deadline_ms != u64::MAX {
        request = request.header("mainstay-job-deadline", claimed.deadline_ms);
    }
    if claimed.is_parent {
        request = request.header("mainstay-job-children", format!("/v1/jobs/{id}/children"));
    }
    if !body.name.is_empty() {
        request = request.header("mainstay-job-name", escaped(&body.name));
    }
    // Whoever added the job may have said anything.
    if let Some(trace) = body.trace.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok()) {
        request = request.header("traceparent", trace);
    }
    request.body(Full::new(Bytes::from(body.payload)))
}

/// `v1,` and the HMAC-SHA256 of id, time and body. The key is taken as the bytes of its text.
pub(super) fn signature(key: &str, id: &str, unix_s: u64, payload: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{id}.{unix_s}.").as_bytes());
    signing.update(payload);
    format!("v1,{}", STANDARD.encode(signing.sign().as_ref()))
}

/// A name in a header: what is not visible ASCII, and `%`, so that `decodeURIComponent` gives the name.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            // A String takes whatever it is given.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Body;
    use crate::op::Claimed;

    fn work(name: &str, trace: Option<&str>, deadline_ms: u64) -> Work {
        let claimed = Claimed { job: 7, token: 9, attempt: 2, attempts: 3, deadline_ms, group: None, is_parent: false };
        let body = Body { name: name.to_owned(), payload: b"{}".to_vec(), trace: trace.map(str::to_owned) };
        Work { claimed, body, children: Vec::new() }
    }

    fn made(queue: &str, work: Work) -> Request<Full<Bytes>> {
        let instance = Instance { address: ([127, 0, 0, 1], 3000).into(), key: "secret".into() };
        request(queue, "/jobs/scan", ("7", work), &instance, 1_767_225_600).expect("a request")
    }

    #[test]
    fn a_request_says_what_the_job_is() {
        let request = made("scan", work("page", Some("00-1-2-01"), 1_767_225_630_000));
        let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        for (name, value) in [
            ("host", "127.0.0.1:3000"),
            ("content-type", "application/json"),
            ("mainstay-job-id", "7"),
            ("mainstay-job-queue", "scan"),
            ("mainstay-job-name", "page"),
            ("mainstay-job-attempt", "2"),
            ("mainstay-job-max-attempts", "3"),
            ("mainstay-job-deadline", "1767225630000"),
            ("mainstay-job-token", "9"),
            ("idempotency-key", "7"),
            ("traceparent", "00-1-2-01"),
            ("webhook-id", "7"),
            ("webhook-timestamp", "1767225600"),
            // printf '7.1767225600.{}' | openssl dgst -sha256 -hmac secret -binary | base64
            ("webhook-signature", "v1,jAy3T8MMXfHoN7Hv2aJp67G1ZnhfXJikni9eANlxy6A="),
        ] {
            assert_eq!(said(name), value, "{name}");
        }
    }

    #[test]
    fn what_a_producer_says_cannot_break_a_request() {
        let request = made("e mail/ü", work("a\r\nx: 1%", Some("a\nb"), u64::MAX));
        assert_eq!(request.headers()["mainstay-job-queue"], "e%20mail/%C3%BC");
        assert_eq!(request.headers()["mainstay-job-name"], "a%0D%0Ax:%201%25");
        assert!(!request.headers().contains_key("traceparent"));
        assert!(!request.headers().contains_key("mainstay-job-deadline"));
        assert!(!made("a", work("", None, 1)).headers().contains_key("mainstay-job-name"));
        assert!(!made("a", work("", None, 1)).headers().contains_key("mainstay-job-children"));
    }

    #[test]
    fn a_parent_is_told_where_what_its_children_gave_is() {
        let mut work = work("sum", None, 1);
        work.claimed.is_parent = true;
        assert_eq!(made("a", work).headers()["mainstay-job-children"], "/v1/jobs/7/children");
    }
}
