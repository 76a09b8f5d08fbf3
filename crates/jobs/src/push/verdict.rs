//! What the app's answer to a job means. Pure: the wall clock is an argument.
//!
//! Must never take a silence, a cut or a redirect for a job that is done.

use super::links::{Answer, Trouble};
use crate::op::{LEASE_MAX_MS, Outcome};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use mainstay_config::units::duration;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// How long an app that answers 202 asks to be left alone.
const LEASE: &str = "mainstay-lease";
/// Bytes of an answer that are kept as the error, where it is not JSON that says more.
const ERROR_BYTES_MAX: usize = 1024;
/// The shortest hold, and that of who says nothing: a queue that is given back at once would only be asked again.
pub(super) const HOLD_MS: u64 = 1000;
/// The longest hold: a slip in `Retry-After` must not stop a queue for a day.
const HOLD_MAX_MS: u64 = 60 * 60 * 1000;

/// What becomes of the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    End(Outcome),
    /// The app ends it by its token, within this time.
    Lease(Duration),
}

/// `wall_ms`: milliseconds since 1970.
pub(super) fn judge(answer: Result<Answer, Trouble>, wall_ms: u64) -> Verdict {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Trouble::Unreachable(why)) => return held(format!("the app cannot be reached: {why}"), HOLD_MS),
        Err(Trouble::Cut(why)) => return failed(format!("the answer was cut: {why}"), None, true),
        Err(Trouble::Late) => return failed("no answer within the time of the attempt".to_owned(), None, true),
    };
    let status = answer.status;
    if status == StatusCode::ACCEPTED && answer.headers.contains_key(LEASE) {
        return match lease(&answer.headers) {
            Some(lease) => Verdict::Lease(lease),
            None => failed("Mainstay-Lease is not a duration from 1s to 1d, as 10m".to_owned(), None, false),
        };
    }
    match status.as_u16() {
        200..=299 => {
            let result = (answer.is_whole && !answer.body.is_empty()).then_some(answer.body);
            Verdict::End(Outcome::Completed { result })
        }
        429 | 503 => held(error(&answer).0, hold_ms(&answer.headers, wall_ms)),
        408 | 409 | 425 | 500..=599 => {
            let (error, stack) = error(&answer);
            failed(error, stack, true)
        }
        _ => {
            let (error, stack) = error(&answer);
            failed(error, stack, false)
        }
    }
}

fn failed(error: String, stack: Option<String>, retry: bool) -> Verdict {
    Verdict::End(Outcome::Failed { error, stack, retry, wait_ms: None })
}

pub(super) fn held(error: String, hold_ms: u64) -> Verdict {
    Verdict::End(Outcome::Released { error, hold_ms })
}

fn lease(headers: &HeaderMap) -> Option<Duration> {
    let lease = duration(headers.get(LEASE)?.to_str().ok()?).ok()?;
    let most = Duration::from_millis(LEASE_MAX_MS);
    (Duration::from_secs(1)..=most).contains(&lease).then_some(lease)
}

/// `Retry-After`: seconds, or a date.
fn hold_ms(headers: &HeaderMap, wall_ms: u64) -> u64 {
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map_or("", str::trim);
    let asked_ms = match text.parse::<u64>() {
        Ok(seconds) => seconds.saturating_mul(1000),
        Err(_) => match httpdate::parse_http_date(text).map(|date| date.duration_since(UNIX_EPOCH)) {
            Ok(Ok(date)) => u64::try_from(date.as_millis()).unwrap_or(u64::MAX).saturating_sub(wall_ms),
            _ => 0,
        },
    };
    asked_ms.clamp(HOLD_MS, HOLD_MAX_MS)
}

/// What the app says of it, after its status; and its stack trace.
fn error(answer: &Answer) -> (String, Option<String>) {
    let json: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (said, stack) = match &json {
        // `{ error: "…" }`, `{ error: { message: "…" } }` or `{ message: "…" }`.
        Some(json) => {
            let inner = &json["error"];
            let said = text(inner).or_else(|| text(&inner["message"])).or_else(|| text(&json["message"]));
            (said, text(&json["stack"]).or_else(|| text(&inner["stack"])))
        }
        None => (None, None),
    };
    let said = said.unwrap_or_else(|| {
        let most = answer.body.len().min(ERROR_BYTES_MAX);
        String::from_utf8_lossy(&answer.body[..most]).into_owned()
    });
    let said = said.trim();
    let error = if said.is_empty() { answer.status.to_string() } else { format!("{}: {said}", answer.status) };
    (error, stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a value"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: map, body: body.as_bytes().to_vec(), is_whole: true }
    }

    fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> Verdict {
        judge(Ok(answer(status, headers, body)), NOW_MS)
    }

    fn error_of(verdict: Verdict) -> (String, Option<String>, bool) {
        match verdict {
            Verdict::End(Outcome::Failed { error, stack, retry, wait_ms: None }) => (error, stack, retry),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn done_with_its_result_or_without() {
        let completed = |result| Verdict::End(Outcome::Completed { result });
        assert_eq!(of(200, &[], "{}"), completed(Some(b"{}".to_vec())));
        assert_eq!(of(204, &[], ""), completed(None));
        assert_eq!(of(202, &[], ""), completed(None));
        assert_eq!(judge(Ok(Answer { is_whole: false, ..answer(200, &[], "half") }), NOW_MS), completed(None));
        assert_eq!(of(202, &[("mainstay-lease", "10m")], ""), Verdict::Lease(Duration::from_secs(600)));
        assert_eq!(of(200, &[("mainstay-lease", "10m")], ""), completed(None));
        for lease in ["ten", "0s", "2d", "10"] {
            assert!(!error_of(of(202, &[("mainstay-lease", lease)], "")).2, "{lease}");
        }
    }

    #[test]
    fn which_answers_are_tried_again() {
        for status in [408, 409, 425, 500, 502, 504, 599] {
            assert!(error_of(of(status, &[], "")).2, "{status}");
        }
        for status in [400, 401, 404, 410, 413, 422, 301, 302, 303, 304, 307, 308, 101] {
            assert!(!error_of(of(status, &[], "")).2, "{status}");
        }
        assert!(error_of(judge(Err(Trouble::Cut("reset".into())), NOW_MS)).2);
        assert!(error_of(judge(Err(Trouble::Late), NOW_MS)).2);
    }

    #[test]
    fn a_hold_is_as_long_as_asked_within_bounds() {
        let hold_of = |verdict| match verdict {
            Verdict::End(Outcome::Released { hold_ms, .. }) => hold_ms,
            other => panic!("{other:?}"),
        };
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(NOW_MS + 90_000));
        let past = httpdate::fmt_http_date(UNIX_EPOCH);
        for (text, hold_ms) in [
            ("7", 7000),
            ("0", 1000),
            ("7200", HOLD_MAX_MS),
            ("99999999999999999999", 1000),
            (&*date, 90_000),
            (&*past, 1000),
            ("soon", 1000),
            ("-1", 1000),
        ] {
            assert_eq!(hold_of(of(429, &[("retry-after", text)], "")), hold_ms, "{text}");
            assert_eq!(hold_of(of(503, &[("retry-after", text)], "")), hold_ms, "{text}");
        }
        assert_eq!(hold_of(of(429, &[], "")), 1000);
        assert_eq!(hold_of(judge(Err(Trouble::Unreachable("refused".into())), NOW_MS)), 1000);
    }

    #[test]
    fn the_error_is_what_the_app_says() {
        let said = |body: &str| {
            let (error, stack, _) = error_of(of(500, &[], body));
            (error.strip_prefix("500 Internal Server Error").expect("the status").to_owned(), stack)
        };
        let stack = Some("at scan.js:7".to_owned());
        assert_eq!(said(""), (String::new(), None));
        assert_eq!(said("it broke\n"), (": it broke".into(), None));
        assert_eq!(said(r#"{"error":"broke","stack":"at scan.js:7"}"#), (": broke".into(), stack.clone()));
        assert_eq!(said(r#"{"error":{"message":"broke","stack":"at scan.js:7"}}"#), (": broke".into(), stack));
        assert_eq!(said(r#"{"statusCode":500,"message":"broke"}"#), (": broke".into(), None));
        assert_eq!(said("[7]"), (": [7]".into(), None));
        assert_eq!(said(&"é".repeat(2000)).0.chars().count(), 2 + 512);
    }
}
