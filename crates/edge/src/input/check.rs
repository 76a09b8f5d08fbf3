//! The gate: parameters and body of one request against every schema it must keep, before the app is asked.
//!
//! All that is wrong is told at once. What could be read otherwise behind us is refused: another charset, a coding, a
//! media type nobody described.

use super::judge::Failed;
use super::load::What;
use super::openapi::{self, Api, is_json};
use super::parameter::Query;
use super::problem::{Place, Problem};
use super::room::Full;
use super::rules::{By, Rule, Rules};
use super::schema::Schema;
use crate::body::Body;
use crate::core::{Core, Finish};
use crate::fields::{Fields, Name};
use crate::http1::body::{Broken, Piece};
use crate::http1::buffer::Buffer;
use crate::http1::framing::Framing;
use crate::message::RequestHead;
use crate::path::{readings, segments};
use crate::proxy::Refusal;
use bytes::Bytes;
use mainstay_telemetry::{Names, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// One request at the gate.
#[derive(Debug)]
pub struct Asked<'a> {
    pub core: &'a Core,
    pub all: &'a Rules,
    pub rules: &'a [&'a Rule],
    pub head: &'a RequestHead,
    /// The path could be read in several ways.
    pub ambiguous: bool,
    /// Largest body, and in `Names` where that stands; `Names::NONE` for our own bound.
    pub limit: (u64, u32),
    /// For the client to send its body.
    pub pause: Duration,
}

/// What is said of the body.
enum Described<'a> {
    Schema(&'a Arc<Schema>),
    OpenApi(&'a openapi::Body),
}

/// What is to be done with the body, and so far wrong with the rest.
#[derive(Default)]
struct Found<'a> {
    problem: Problem,
    /// The first rule that was broken.
    by: Option<By<'a>>,
    wanted: Vec<(Described<'a>, bool, By<'a>)>,
}

impl<'a> Asked<'a> {
    fn refusal(&self, by: By<'a>, verdict: Verdict) -> Refusal {
        Refusal { rule: self.all.name(by), ..verdict.into() }
    }
}

impl<'a> Found<'a> {
    fn judged(&mut self, problem: Problem, by: By<'a>) {
        if !problem.is_empty() {
            self.by.get_or_insert(by);
            self.problem.append(problem);
        }
    }
}

/// Gives the body, which was read if it was checked. What is wrong goes to `told`.
pub async fn check(
    asked: &Asked<'_>,
    body: Body,
    finish: &mut Finish,
    told: &mut Option<Box<Problem>>,
) -> Result<Body, Refusal> {
    let mut found = Found::default();
    for rule in asked.rules {
        let by = By { rule, operation: None };
        match &rule.what {
            Some(What::Schema(schema)) => {
                found.wanted.push((Described::Schema(schema), carries_body(asked.head), by));
            }
            Some(What::OpenApi(api)) => described(asked, rule, api, &mut found)?,
            // Its file was gone when this server started; the log says so.
            None => return Err(asked.refusal(by, Verdict::Internal)),
        }
    }
    let body = checked(asked, body, finish, &mut found).await?;
    match found.by {
        None => Ok(body),
        Some(by) => {
            *told = Some(Box::new(found.problem));
            Err(asked.refusal(by, Verdict::InputInvalid))
        }
    }
}

/// Methods whose meaning is in their body.
fn carries_body(head: &RequestHead) -> bool {
    ["POST", "PUT", "PATCH"].iter().any(|method| head.method.as_str().eq_ignore_ascii_case(method))
}

/// Checks the parameters of the operation this is, if the document describes one.
fn described<'a>(asked: &Asked<'a>, rule: &'a Rule, api: &'a Api, found: &mut Found<'a>) -> Result<(), Refusal> {
    let method = asked.head.method.as_str();
    let path = segments(asked.head.path());
    let operation = api.find(method, &path);
    if asked.ambiguous {
        let this = operation.as_ref().map(|(o, _)| std::ptr::from_ref(*o));
        let differs = readings(asked.head.path()).iter().any(|reading| {
            let path = segments(reading);
            api.find(method, &path).map(|(o, _)| std::ptr::from_ref(o)) != this
        });
        if differs {
            return Err(asked.refusal(By { rule, operation: None }, Verdict::AmbiguousPath));
        }
    }
    let Some((operation, values)) = operation else { return Ok(()) };
    let by = By { rule, operation: Some(&operation.at) };
    let mut problem = Problem::default();
    let query = Query::read(asked.head.query().unwrap_or_default());
    for parameter in &operation.parameters {
        match parameter.place {
            Place::Query => parameter.check_query(&query, &mut problem),
            _ => {
                if let Some((_, value)) = values.iter().find(|(name, _)| *name == parameter.name) {
                    parameter.check_path(value, &mut problem);
                }
            }
        }
    }
    found.judged(problem, by);
    if let Some(body) = &operation.body {
        found.wanted.push((Described::OpenApi(body), body.required, by));
    }
    Ok(())
}

/// Reads and checks the body, if anything is said of it.
async fn checked<'a>(
    asked: &Asked<'a>,
    body: Body,
    finish: &mut Finish,
    found: &mut Found<'a>,
) -> Result<Body, Refusal> {
    if found.wanted.is_empty() || matches!(body, Body::Upgrade(_)) {
        return Ok(body);
    }
    if body.framing() == Framing::Absent {
        missing(found);
        return Ok(body);
    }
    let mut schemas = Vec::new();
    let kind = media_type(&asked.head.fields);
    for (described, _, by) in &found.wanted {
        let unsupported = || asked.refusal(*by, Verdict::UnsupportedMediaType);
        let kind = kind.as_deref().ok_or_else(unsupported)?;
        let schema = match described {
            Described::Schema(schema) if is_json(kind) => Some(*schema),
            Described::Schema(_) => return Err(unsupported()),
            Described::OpenApi(body) => body.of_type(kind).ok_or_else(unsupported)?.filter(|_| is_json(kind)),
        };
        if let Some(schema) = schema {
            if !is_plain(&asked.head.fields) {
                return Err(unsupported());
            }
            schemas.push((schema.clone(), *by));
        }
    }
    let Some((_, first)) = schemas.first() else { return Ok(body) };
    let (limit, limit_rule) = asked.limit;
    let too_large = || match limit_rule {
        Names::NONE => asked.refusal(*first, Verdict::BodyTooLarge),
        rule => Refusal { rule, ..Verdict::BodyTooLarge.into() },
    };
    let bytes = collect(asked.core, body, limit, asked.pause, finish, too_large).await?;
    if bytes.is_empty() {
        missing(found);
        return Ok(Body::Absent);
    }
    let first = *first;
    let (schemas, all): (Vec<_>, Vec<_>) = schemas.into_iter().unzip();
    let judged = asked.core.shared.judges.judge(bytes.clone(), schemas).await;
    let judged = judged.map_err(|failed| match failed {
        Failed::Busy => Refusal { retry_after: Some(1), ..Verdict::ServiceBusy.into() },
        Failed::Broken => Verdict::Internal.into(),
    })?;
    found.judged(judged.problem, all.get(judged.first).copied().unwrap_or(first));
    Ok(Body::Whole(bytes))
}

/// There is no body where one is required.
fn missing(found: &mut Found<'_>) {
    let Some(by) = found.wanted.iter().find(|(_, required, _)| *required).map(|(.., by)| *by) else { return };
    let mut problem = Problem::default();
    problem.add(Place::Body, "", "is required");
    found.judged(problem, by);
}

/// The media type in lower case and without parameters; `None` where it is not said, or said twice.
fn media_type(fields: &Fields) -> Option<String> {
    if fields.count(Name::ContentType) != 1 {
        return None;
    }
    let text = fields.text_of(Name::ContentType)?;
    let kind = text.split(';').next().unwrap_or_default().trim();
    (!kind.is_empty()).then(|| kind.to_ascii_lowercase())
}

/// Neither compressed nor in another charset: what is checked is what the app reads.
fn is_plain(fields: &Fields) -> bool {
    let coded = fields.all(Name::ContentEncoding).any(|c| !c.is_empty() && !c.eq_ignore_ascii_case(b"identity"));
    let text = fields.text_of(Name::ContentType).unwrap_or_default();
    let charset = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    };
    !coded && text.split(';').skip(1).filter_map(charset).all(|c| matches!(c.as_str(), "utf-8" | "utf8" | "us-ascii"))
}

/// Reads a body whole, within its limit, its time, and the room there is for all. `too_large` names the limit.
pub async fn collect(
    core: &Core,
    body: Body,
    limit: u64,
    pause: Duration,
    finish: &mut Finish,
    too_large: impl Fn() -> Refusal,
) -> Result<Bytes, Refusal> {
    if matches!(body.framing(), Framing::Length(size) if size > limit) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(pause, read(core, body, limit));
    let bytes = match read.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(Unread::TooLarge)) => return Err(too_large()),
        Ok(Err(Unread::Full)) => return Err(Refusal { retry_after: Some(1), ..Verdict::ServiceBusy.into() }),
        Ok(Err(Unread::Broken(Broken::Malformed))) => return Err(Verdict::MalformedRequest.into()),
        Ok(Err(Unread::Broken(Broken::Gone))) => return Err(Verdict::ClientGone.into()),
        Err(_) => return Err(Verdict::RequestTimeout.into()),
    };
    finish.note(|r| r.bytes_in = bytes.len() as u64);
    Ok(bytes)
}

enum Unread {
    TooLarge,
    Full,
    Broken(Broken),
}

async fn read(core: &Core, mut body: Body, limit: u64) -> Result<Bytes, Unread> {
    let mut all = core.shared.room.body();
    loop {
        let mut out = Buffer::default();
        let piece = std::future::poll_fn(|cx| body.poll_into(cx, core, &mut out, false)).await;
        let put = all.put(out.filled());
        core.buffers.discard(&mut out);
        match (piece.map_err(Unread::Broken)?, put) {
            (_, Err(Full)) => return Err(Unread::Full),
            (Piece::End(_), _) => return Ok(all.into_bytes()),
            (Piece::Data(_), _) if all.len() as u64 > limit => return Err(Unread::TooLarge),
            (Piece::Data(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_app_reads_as_the_same_json_is_json() {
        for (lines, kind, plain) in [
            (&[("content-type", "application/json")][..], Some("application/json"), true),
            (&[("content-type", "Application/JSON ; Charset=\"UTF-8\"")], Some("application/json"), true),
            (&[("content-type", "application/vnd.x+json")], Some("application/vnd.x+json"), true),
            (&[("content-type", "application/json; charset=utf-16")], Some("application/json"), false),
            (&[("content-type", "application/json; charset=utf-8; charset=utf-7")], Some("application/json"), false),
            (&[("content-type", "application/json"), ("content-encoding", "gzip")], Some("application/json"), false),
            (&[("content-type", "application/json"), ("content-encoding", "identity")], Some("application/json"), true),
            (&[("content-type", "application/json"), ("content-type", "text/plain")], None, true),
            (&[("content-type", "application/json, text/plain")], Some("application/json, text/plain"), true),
            (&[("content-type", "")], None, true),
            (&[], None, true),
        ] {
            let fields = Fields::of(lines);
            assert_eq!(media_type(&fields).as_deref(), kind, "{lines:?}");
            assert_eq!(is_plain(&fields), plain, "{lines:?}");
        }
        for (kind, json) in [
            ("application/json", true),
            ("application/problem+json", true),
            ("text/json", false),
            ("application/jsonx", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_json(kind), json, "{kind}");
        }
    }
}
