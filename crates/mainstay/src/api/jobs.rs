//! The verbs of jobs: add, look, claim, finish.

use super::asked::{Add, Adds, Beat, Ends, Fault, Wanted, Word, read};
use super::events;
use super::serve::{Open, json, wrong_method};
use crate::bodies::{self, Body};
use crate::jobs::{child_shown, one, page, payload, queue_shown};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use mainstay_jobs::{Jobs, LIST_MAX, State, Work};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;

/// Where a list says no number.
const SHOWN: usize = 100;
/// Jobs of one call.
const ADDS_MAX: usize = 10_000;

/// What a path names.
enum Place<'a> {
    Queues,
    Jobs(&'a str),
    Claim(&'a str),
    Finish,
    Job(&'a str),
    Children(&'a str),
    Verb(&'a str, &'a str),
    Beat(&'a str),
    Presence(&'a str),
    Events,
}

pub async fn answer(jobs: &Jobs, open: &Open, head: &Parts, body: &[u8]) -> Result<Response<Body>, Fault> {
    let path = head.uri.path();
    let decoded = |text: &str| percent_decoded(text);
    let segments: Vec<String> = path.trim_matches('/').split('/').map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let place = place(&segments).ok_or_else(|| Fault::not_found(format!("there is no {path}   see: docs/jobs.md")))?;
    let (get, post) = (head.method == Method::GET, head.method == Method::POST);
    match place {
        Place::Queues if get => {
            let queues: Vec<Value> = jobs.queues().await?.iter().map(queue_shown).collect();
            Ok(json(StatusCode::OK, &json!({ "queues": queues })))
        }
        Place::Jobs(queue) if post => add(jobs, queue, head, body).await,
        Place::Jobs(queue) if get => list(jobs, queue, head).await,
        Place::Claim(queue) if post => {
            let claim = read::<Wanted>(body)?.claim(Some(queue))?;
            let work = if open.is_ending.load(Relaxed) { Vec::new() } else { jobs.claim(claim).await? };
            let mut text = b"{".to_vec();
            write_jobs(&mut text, &work, &|job| jobs.id_of(job));
            Ok(written(text))
        }
        Place::Finish if post => finish(jobs, open, body).await,
        Place::Job(id) if get => {
            let found = one(jobs, known(jobs, id)?, true).await?;
            Ok(json(StatusCode::OK, &found.ok_or_else(|| unknown(id))?))
        }
        Place::Children(id) if get => children(jobs, id, head).await,
        Place::Job(id) if head.method == Method::DELETE => done(jobs.remove(known(jobs, id)?).await),
        Place::Verb(id, verb) if post => word(jobs, known(jobs, id)?, verb, body).await,
        Place::Beat(worker) if post => {
            let beat = if body.is_empty() { Beat::default() } else { read(body)? };
            let lost = lost(jobs, worker, beat).await?;
            Ok(json(StatusCode::OK, &json!({ "lost": lost })))
        }
        Place::Presence(worker) if get => Ok(events::presence(jobs, open.workers.clone(), worker.to_owned())),
        Place::Events if get => Ok(events::stream(jobs, query(head, "queue"))),
        Place::Queues | Place::Events | Place::Presence(_) | Place::Children(_) => Err(wrong_method(&[Method::GET])),
        Place::Jobs(_) => Err(wrong_method(&[Method::GET, Method::POST])),
        Place::Job(_) => Err(wrong_method(&[Method::GET, Method::DELETE])),
        Place::Claim(_) | Place::Finish | Place::Verb(..) | Place::Beat(_) => Err(wrong_method(&[Method::POST])),
    }
}

fn place<'a>(segments: &[&'a str]) -> Option<Place<'a>> {
    Some(match segments {
        ["v1", "queues"] => Place::Queues,
        ["v1", "queues", queue, "jobs"] if !queue.is_empty() => Place::Jobs(queue),
        ["v1", "queues", queue, "claim"] if !queue.is_empty() => Place::Claim(queue),
        ["v1", "jobs", "finish"] => Place::Finish,
        ["v1", "jobs", id] => Place::Job(id),
        ["v1", "jobs", id, "children"] => Place::Children(id),
        ["v1", "jobs", id, verb @ ("retry" | "promote" | "progress" | "log" | "extend")] => Place::Verb(id, verb),
        ["v1", "workers", worker, "beat"] if !worker.is_empty() => Place::Beat(worker),
        ["v1", "workers", worker, "presence"] if !worker.is_empty() => Place::Presence(worker),
        ["v1", "events"] => Place::Events,
        _ => return None,
    })
}

/// All of them, or none.
async fn add(jobs: &Jobs, queue: &str, head: &Parts, body: &[u8]) -> Result<Response<Body>, Fault> {
    let trace = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
    let key = head.headers.get("idempotency-key").map(|value| value.to_str().ok().filter(|key| !key.is_empty()));
    // Left out silently it would add twice, and an empty one would be everybody's.
    let key = match key {
        Some(None) => return Err(Fault::bad("Idempotency-Key: it is empty, or holds more than visible ASCII")),
        key => key.flatten(),
    };
    // What is no array is read as one job, so that its faults are told by name.
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let adds = if is_array { Adds::Many(read(body)?) } else { Adds::One(Box::new(read::<Add>(body)?)) };
    let (adds, single) = match adds {
        Adds::Many(all) => (all, false),
        Adds::One(one) => (vec![*one], true),
    };
    if adds.len() > ADDS_MAX {
        let text = format!("{} jobs in one call; at most {ADDS_MAX}", adds.len());
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
    }
    let jobs_of = |(number, add): (usize, Add)| add.job(key.map(|key| (key, number)), trace);
    let new = adds.into_iter().enumerate().map(jobs_of).collect::<Result<Vec<_>, _>>()?;
    let added = jobs.add(queue, new).await?;
    let one = |added: &mainstay_jobs::op::Added| json!({ "id": jobs.id_of(added.job), "isNew": added.is_new });
    let status = if added.iter().any(|added| added.is_new) { StatusCode::CREATED } else { StatusCode::OK };
    Ok(match added.first() {
        Some(first) if single => json(status, &one(first)),
        _ => json(status, &json!({ "jobs": added.iter().map(one).collect::<Vec<_>>() })),
    })
}

async fn list(jobs: &Jobs, queue: &str, head: &Parts) -> Result<Response<Body>, Fault> {
    let text = query(head, "state").unwrap_or_else(|| "waiting".to_owned());
    let state = State::parse(&text).ok_or_else(|| {
        let known: Vec<&str> = State::ALL.into_iter().map(State::as_str).collect();
        Fault::bad(format!("state: `{text}`; {}", known.join(", ")))
    })?;
    let (skip, limit) = part(head)?;
    let queues = jobs.queues().await?;
    let of = queues.iter().find(|one| *one.name == *queue);
    let of = of.ok_or_else(|| Fault::not_found(format!("there is no queue {queue}")))?;
    let found = page(jobs, of, &[state], skip, limit).await?;
    Ok(json(StatusCode::OK, &json!({ "jobs": found })))
}

/// How many are left out of what was asked for, and how many are given.
fn part(head: &Parts) -> Result<(usize, usize), Fault> {
    let number = |name: &str, usual: usize| match query(head, name) {
        None => Ok(usual),
        Some(text) => text.parse().map_err(|_| Fault::bad(format!("{name}: `{text}` is no number"))),
    };
    Ok((number("skip", 0)?, number("limit", SHOWN)?.min(LIST_MAX)))
}

async fn children(jobs: &Jobs, id: &str, head: &Parts) -> Result<Response<Body>, Fault> {
    let (skip, limit) = part(head)?;
    let job = known(jobs, id)?;
    let found = jobs.children(job, skip, limit).await?;
    if found.is_empty() && jobs.get(job).await?.is_none() {
        return Err(unknown(id));
    }
    Ok(json(StatusCode::OK, &json!({ "children": found.iter().map(child_shown).collect::<Vec<_>>() })))
}

/// Each by itself; with one alone, its fault is the answer.
async fn finish(jobs: &Jobs, open: &Open, body: &[u8]) -> Result<Response<Body>, Fault> {
    let Ends { ends, next } = read(body)?;
    let ids: Vec<Value> = ends.iter().map(|end| end.id.shown()).collect();
    let is_alone = ids.len() == 1 && next.is_none();
    let ends = ends.into_iter().map(|end| end.finish(jobs)).collect::<Result<Vec<_>, Fault>>()?;
    let next = next.map(|wanted| wanted.claim(None)).transpose()?;
    let next = next.filter(|_| !open.is_ending.load(Relaxed));
    let mut finished = jobs.finish(ends, next.clone()).await?;
    // There was nothing to take with them: then it is waited for.
    if let Some(claim) = next.filter(|claim| finished.work.is_empty() && !claim.wait.is_zero()) {
        // The ends are kept, whatever becomes of the claim.
        finished.work = jobs.claim(claim).await.unwrap_or_default();
    }
    let mut text = b"{\"ends\":[".to_vec();
    for (at, (id, end)) in ids.into_iter().zip(finished.ends).enumerate() {
        if at > 0 {
            text.push(b',');
        }
        match end.map_err(Fault::from) {
            Ok(()) => write(&mut text, format_args!("{{\"id\":{id},\"ok\":true}}")),
            Err(fault) if is_alone => return Err(fault),
            Err(fault) => {
                let told = json!({ "id": id, "ok": false, "code": fault.code, "error": fault.detail });
                write(&mut text, format_args!("{told}"));
            }
        }
    }
    text.extend_from_slice(b"],");
    write_jobs(&mut text, &finished.work, &|job| jobs.id_of(job));
    Ok(written(text))
}

async fn word(jobs: &Jobs, id: u64, verb: &str, body: &[u8]) -> Result<Response<Body>, Fault> {
    match verb {
        "retry" => return done(jobs.retry(id).await),
        "promote" => return done(jobs.promote(id).await),
        _ => {}
    }
    let word: Word = read(body)?;
    let missing = |field: &str| Fault::bad(format!("{field} is not there"));
    match verb {
        "progress" => {
            let progress = word.progress.as_ref().ok_or_else(|| missing("progress"))?;
            done(jobs.progress(id, word.token, serde_json::to_vec(progress).unwrap_or_default()).await)
        }
        "log" => done(jobs.log(id, word.token, word.line.ok_or_else(|| missing("line"))?).await),
        _ => {
            let lease = word.lease()?.ok_or_else(|| missing("lease"))?;
            done(jobs.extend(id, word.token, lease).await)
        }
    }
}

fn done(result: Result<(), mainstay_jobs::Error>) -> Result<Response<Body>, Fault> {
    result?;
    Ok(json(StatusCode::OK, &json!({ "ok": true })))
}

/// Which of these the worker has lost; what nobody knows it cannot have.
async fn lost(jobs: &Jobs, worker: &str, beat: Beat) -> Result<Vec<Value>, Fault> {
    let (mut holding, mut lost) = (Vec::new(), Vec::new());
    for (id, token) in beat.holding {
        match jobs.job_of(id.as_str()) {
            Some(job) => holding.push((job, token)),
            None => lost.push(id.shown()),
        }
    }
    lost.extend(jobs.beat(worker, holding).await?.into_iter().map(|job| jobs.id_of(job)));
    Ok(lost)
}

/// The job of this id, whether it is there or not.
fn known(jobs: &Jobs, id: &str) -> Result<u64, Fault> {
    jobs.job_of(id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Fault {
    Fault::not_found(format!("there is no job {id}"))
}

/// What is asked for most is written as it is told, without a tree of it: jobs for their worker, and the end of an
/// object that was begun.
fn write_jobs(to: &mut Vec<u8>, work: &[Work], id_of: &dyn Fn(u64) -> Value) {
    to.extend_from_slice(b"\"jobs\":[");
    for (at, work) in work.iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        write_job(to, work, &id_of(work.claimed.job));
    }
    to.extend_from_slice(b"]}\n");
}

/// A job for its worker.
fn write_job(to: &mut Vec<u8>, work: &Work, id: &Value) {
    let (claimed, body) = (&work.claimed, &work.body);
    let deadline = (claimed.deadline_ms != u64::MAX).then_some(claimed.deadline_ms);
    write(to, format_args!("{{\"id\":{id},\"token\":{},\"name\":", claimed.token));
    write_value(to, &body.name);
    to.extend_from_slice(b",\"data\":");
    write_payload(to, &body.payload);
    write(to, format_args!(",\"attempt\":{},\"attempts\":{},\"deadlineMs\":", claimed.attempt, claimed.attempts));
    write_value(to, &deadline);
    to.extend_from_slice(b",\"group\":");
    write_value(to, &claimed.group.as_deref());
    to.extend_from_slice(b",\"traceparent\":");
    write_value(to, &body.trace);
    if claimed.is_parent {
        to.extend_from_slice(b",\"children\":");
        write_value(to, &work.children.iter().map(child_shown).collect::<Value>());
    }
    to.push(b'}');
}

/// What was added is JSON, whoever added it: where that is so it goes on as it is.
fn write_payload(to: &mut Vec<u8>, bytes: &[u8]) {
    let is_json = std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match is_json {
        true => to.extend_from_slice(bytes),
        false => write_value(to, &payload(bytes)),
    }
}

/// Memory takes whatever is written to it, and a value of ours is always one of JSON's.
fn write_value(to: &mut Vec<u8>, value: &impl serde::Serialize) {
    let _ = serde_json::to_writer(to, value);
}

fn write(to: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(text);
}

fn written(text: Vec<u8>) -> Response<Body> {
    bodies::response(StatusCode::OK, "application/json", bodies::bytes(text))
}

/// The first value of this name, decoded.
fn query(head: &Parts, name: &str) -> Option<String> {
    let pairs = head.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| percent_decoded(value))
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_jobs::op::Claimed;

    fn work(payload: &[u8], group: Option<&str>) -> Work {
        let claimed = Claimed {
            job: 7,
            token: 9,
            attempt: 1,
            attempts: 3,
            deadline_ms: if group.is_some() { 5 } else { u64::MAX },
            group: group.map(Into::into),
            is_parent: false,
        };
        let body = mainstay_jobs::job::Body { name: "a \"b\"".into(), payload: payload.to_vec(), trace: None };
        Work { claimed, body, children: Vec::new() }
    }

    #[test]
    fn jobs_are_json_whatever_is_in_them() {
        let all = [
            work(b"{\"n\":[1.50,\"\xc3\xa9\"]}", None),
            work(b"", Some("g")),
            work(b"\xff{", None),
            work(b"{}}", None),
        ];
        let mut text = b"{".to_vec();
        write_jobs(&mut text, &all, &Value::from);
        let told: Value = serde_json::from_slice(&text).expect("JSON");
        let data: Vec<&Value> = told["jobs"].as_array().expect("jobs").iter().map(|job| &job["data"]).collect();
        assert_eq!(
            data,
            [
                &json!({ "n": [1.5, "\u{e9}"] }),
                &Value::Null,
                &json!({ "base64": "/3s=" }),
                &json!({ "base64": "e319" }),
            ]
        );
        assert_eq!(
            told["jobs"][1],
            json!({
                "id": 7, "token": 9, "name": "a \"b\"", "data": null, "attempt": 1, "attempts": 3, "deadlineMs": 5,
                "group": "g", "traceparent": null,
            })
        );
        let mut none = b"{".to_vec();
        write_jobs(&mut none, &[], &Value::from);
        assert_eq!(none, b"{\"jobs\":[]}\n");
    }
}
