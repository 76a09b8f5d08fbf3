//! A request as identity sees it, and its answer: no socket, no version of HTTP, everything in memory and bounded.

use crate::identity::Identity;
use crate::sessions;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// The largest body anything under [`ROOT`] takes: a password, an address and a token have room many times over.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the service answers alone, where it is on.
pub const ROOT: &str = "/api/v1/auth";

#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// Canonical: no escapes of letters, no `..`, ASCII in small letters.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Bytes,
    pub client: IpAddr,
    pub https: bool,
    /// As the browser wrote it, with a port if it wrote one.
    pub host: String,
    pub request_id: String,
    /// Whom the gate recognised.
    pub identity: Option<Arc<Identity>>,
    /// The session he was recognised by, if it was a cookie.
    pub session: Option<sessions::Id>,
}

impl Asked {
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What stands behind [`ROOT`], without the slash; empty for the root itself.
    pub fn below(&self) -> &str {
        self.path.strip_prefix(ROOT).unwrap_or_default().trim_start_matches('/')
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(status: StatusCode, body: &Value) -> Answer {
        let mut answer = Answer::empty(status);
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.body = body.to_string().into();
        answer
    }

    /// Nothing of ours is ever kept by a cache on the way: it is about one client.
    pub fn empty(status: StatusCode) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Answer { status, headers, body: Bytes::new() }
    }

    /// 302: the browser comes with GET, whatever it came with before.
    pub fn redirect(location: &str) -> Answer {
        let Ok(location) = HeaderValue::from_str(location) else {
            return Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "There is nowhere to go from here.");
        };
        let mut answer = Answer::empty(StatusCode::FOUND);
        answer.headers.insert(LOCATION, location);
        answer
    }

    /// RFC 9457, with the guides' member `error` beside it.
    pub fn problem(status: StatusCode, code: &'static str, message: &str) -> Answer {
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": message,
            "code": code,
            "error": message,
        });
        let mut answer = Answer::json(status, &body);
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        answer
    }

    /// When to come again, in the header and, in a problem, beside its other members.
    pub fn retry_after(mut self, seconds: u32) -> Answer {
        self.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        if let Ok(Value::Object(mut body)) = serde_json::from_slice(&self.body) {
            body.insert("retryAfter".to_owned(), seconds.into());
            self.body = Value::Object(body).to_string().into();
        }
        self
    }

    /// The id by which `why` knows it, beside the other members of a problem.
    pub(crate) fn of_request(mut self, id: &str) -> Answer {
        if let Ok(Value::Object(mut body)) = serde_json::from_slice(&self.body) {
            body.insert("requestId".to_owned(), id.into());
            self.body = Value::Object(body).to_string().into();
        }
        self
    }

    /// More members of a body of JSON.
    pub(crate) fn and(mut self, more: Value) -> Answer {
        if let (Ok(Value::Object(mut body)), Value::Object(more)) = (serde_json::from_slice(&self.body), more) {
            body.extend(more);
            self.body = Value::Object(body).to_string().into();
        }
        self
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.headers.append(name, value);
        self
    }
}

/// Whether the service answers this path, and nobody else. Asked only where accounts or a provider are on.
pub fn is_ours(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_the_root_and_what_is_below() {
        for (path, ours) in [
            ("/api/v1/auth", true),
            ("/api/v1/auth/login", true),
            ("/api/v1/author", false),
            ("/api/v1", false),
            ("/x/api/v1/auth", false),
            ("/", false),
        ] {
            assert_eq!(is_ours(path), ours, "{path}");
        }
    }

    #[test]
    fn a_problem_has_the_guides_members_and_is_kept_by_nobody() {
        let answer = Answer::problem(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many requests.").retry_after(7);
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(
            (&body["error"], &body["retryAfter"], &body["status"]),
            (&json!("Too many requests."), &json!(7), &json!(429))
        );
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(Answer::redirect("https://a/\r\nx: y").status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(Answer::redirect("https://a/?b=c").headers[LOCATION], "https://a/?b=c");
    }
}
