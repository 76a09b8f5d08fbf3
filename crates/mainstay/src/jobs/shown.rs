//! Queues, jobs and schedules as JSON: one form for the control socket and for the HTTP API. Times are milliseconds
//! since 1970.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mainstay_config::units::show_duration;
use mainstay_jobs::engine::QueueGlance;
use mainstay_jobs::job::Attempt;
use mainstay_jobs::schedule::{Rule, Schedule};
use mainstay_jobs::store::{ChildDetail, Detail, Line, Refused};
use mainstay_jobs::{Durability, Growth, Jobs, State};
use mainstay_limits::window::Limit;
use mainstay_telemetry::TraceParent;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Bytes of errors and stack traces that are shown of a job, the newest: it may have ten thousand attempts.
const FAILURES_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of its log, the newest.
const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the error in a list.
const ERROR_BYTES_MAX: usize = 512;

pub fn queue_shown(queue: &QueueGlance) -> Value {
    let (counts, totals, settings) = (&queue.counts, &queue.totals, &queue.settings);
    let growth = match settings.backoff.growth {
        Growth::Fixed => "fixed",
        Growth::Exponential => "exponential",
    };
    let durability = match settings.durability {
        Durability::Fsync => "fsync",
        Durability::Os => "os",
    };
    json!({
        "name": &*queue.name,
        "waiting": counts.waiting, "delayed": counts.delayed, "active": counts.active,
        "waitingChildren": counts.waiting_children,
        "completed": counts.completed, "failed": counts.failed, "dead": counts.dead,
        "paused": queue.is_paused,
        "short": queue.is_short,
        "depth": { "waitingOver": settings.depth.waiting_over, "activeUnder": settings.depth.active_under },
        "concurrency": settings.concurrency,
        "rate": settings.rate.as_ref().map(rate),
        "attempts": settings.attempts,
        "backoff": {
            "kind": growth, "delayMs": settings.backoff.delay_ms, "jitterPercent": settings.backoff.jitter_percent,
        },
        "timeoutMs": settings.timeout_ms,
        "deadLetter": settings.dead_letter,
        "durability": durability,
        "totals": {
            "added": totals.added, "started": totals.started, "completed": totals.completed,
            "retried": totals.retried, "failed": totals.failed, "stalled": totals.stalled, "dead": totals.dead,
        },
    })
}

/// As the file has it.
fn rate(limit: &Limit) -> String {
    let window = show_duration(Duration::from_millis(u64::from(limit.window_ms)));
    format!("{}/{window}{}", limit.count, if limit.smooth { " smooth" } else { "" })
}

/// All of a job; its payload only where that is asked for.
pub fn shown(jobs: &Jobs, detail: &Detail, children: &[ChildDetail], queue: &QueueGlance, with_payload: bool) -> Value {
    let mut all = head(jobs, detail, queue);
    put(&mut all, "progress", detail.progress.as_deref());
    put(&mut all, "result", detail.result.as_deref());
    if with_payload {
        put(&mut all, "payload", Some(&detail.body.payload));
    }
    all.insert("children".to_owned(), children.iter().map(child_shown).collect());
    let bytes = |attempt: &Attempt| attempt.error.len() + attempt.stack.as_ref().map_or(0, String::len);
    let (failures, left_out) = newest(&detail.attempts, FAILURES_BYTES_MAX, bytes);
    all.insert("failures".to_owned(), failures.iter().map(failure).collect());
    all.insert("failuresLeftOut".to_owned(), left_out.into());
    let (lines, left_out) = newest(&detail.lines, LOG_BYTES_MAX, |line: &Line| line.line.len());
    let line = |line: &Line| json!({ "atMs": line.at_ms, "line": line.line });
    all.insert("log".to_owned(), lines.iter().map(line).collect());
    all.insert("logLeftOut".to_owned(), left_out.into());
    Value::Object(all)
}

/// A job in a list: with its last error, cut, and without what may be large.
pub fn listed(jobs: &Jobs, detail: &Detail, queue: &QueueGlance) -> Value {
    let mut all = head(jobs, detail, queue);
    let error = detail.attempts.last().map(|attempt| {
        let end = attempt.error.floor_char_boundary(ERROR_BYTES_MAX);
        attempt.error[..end].to_owned()
    });
    all.insert("error".to_owned(), error.into());
    Value::Object(all)
}

fn head(jobs: &Jobs, detail: &Detail, queue: &QueueGlance) -> Map<String, Value> {
    let (row, body) = (&detail.row, &detail.body);
    let now = &row.progressed;
    let at = |ms: u64| (ms > 0).then_some(ms);
    let is = |state| now.state == state;
    let head = json!({
        "id": jobs.id_of(now.job),
        "queue": &*queue.name,
        "name": body.name,
        "state": now.state.as_str(),
        "priority": row.priority,
        "attemptsMade": now.attempts,
        "attempts": row.own.attempts.unwrap_or(queue.settings.attempts),
        "starts": now.starts,
        "stalls": now.stalls,
        "timeoutMs": row.own.timeout_ms.unwrap_or(queue.settings.timeout_ms),
        "createdMs": row.created_ms,
        "startedMs": at(now.started_ms),
        "endedMs": at(now.ended_ms),
        "delayUntilMs": is(State::Delayed).then_some(now.ready_ms),
        "worker": now.worker.as_deref(),
        // Without a timeout there is none.
        "deadlineMs": (is(State::Active) && now.deadline_ms != u64::MAX).then_some(now.deadline_ms),
        "group": row.group.as_deref(),
        "key": row.unique.as_ref().map(|unique| &*unique.key),
        "trace": body.trace,
        "traceId": body.trace.as_deref().and_then(trace_id),
        "parent": detail.parent.map(|parent| jobs.id_of(parent)),
        "payloadBytes": detail.payload_bytes,
    });
    match head {
        Value::Object(head) => head,
        _ => Map::new(),
    }
}

/// That of a `traceparent`, if it is one.
fn trace_id(trace: &str) -> Option<&str> {
    TraceParent::parse(trace.as_bytes())?;
    trace.get(3..35)
}

/// A child, for its parent.
pub fn child_shown(child: &ChildDetail) -> Value {
    let mut all = Map::new();
    all.insert("id".to_owned(), child.job.into());
    all.insert("queue".to_owned(), (*child.queue).into());
    all.insert("state".to_owned(), child.state().into());
    all.insert("onFailure".to_owned(), child.on_failure.as_str().into());
    put(&mut all, "result", child.result.as_deref());
    if child.is_left_out {
        all.insert("resultLeftOut".to_owned(), true.into());
    }
    Value::Object(all)
}

fn failure(attempt: &Attempt) -> Value {
    json!({
        "attempt": attempt.start,
        "worker": &*attempt.worker,
        "startedMs": attempt.started_ms,
        "endedMs": attempt.ended_ms,
        "ending": attempt.ending.as_str(),
        "error": attempt.error,
        "stack": attempt.stack,
    })
}

/// The last of them that fit, at least one, and how many do not.
fn newest<T>(all: &[T], most: usize, bytes: impl Fn(&T) -> usize) -> (&[T], usize) {
    let mut sum = 0;
    let fits = all.iter().rev().take_while(|one| {
        sum += bytes(one);
        sum <= most
    });
    let left_out = all.len() - fits.count().max(1).min(all.len());
    (&all[left_out..], left_out)
}

/// As what it is if it is JSON, else in base64 under a name that says so.
fn put(to: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
        to.insert(name.to_owned(), Value::Null);
        return;
    };
    match serde_json::from_slice(bytes) {
        Ok(value) => to.insert(name.to_owned(), value),
        Err(_) => to.insert(format!("{name}Base64"), BASE64.encode(bytes).into()),
    };
}

/// What a handler is given: what was added is JSON, whoever added it.
pub fn payload(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!({ "base64": BASE64.encode(bytes) }))
}

/// A job that was added in SQL and is not taken over.
pub fn refused_shown(refused: &Refused) -> Value {
    json!({
        "id": refused.id, "queue": &*refused.queue, "name": refused.name, "addedMs": refused.added_ms,
        "againMs": refused.again_ms, "why": refused.why,
    })
}

pub fn schedule_shown(schedule: &Schedule) -> Value {
    let (cron, zone, every_ms) = match &schedule.rule {
        Rule::Cron { pattern, zone } => (Some(pattern), Some(zone), None),
        Rule::Every(every_ms) => (None, None, Some(*every_ms)),
    };
    let job = &schedule.job;
    json!({
        "name": &*schedule.name,
        "queue": &*schedule.queue,
        "cron": cron,
        "zone": zone,
        "everyMs": every_ms,
        "catchUp": schedule.catch_up.as_str(),
        "nextMs": (schedule.next_ms != u64::MAX).then_some(schedule.next_ms),
        "job": {
            "name": job.body.name, "priority": job.priority, "attempts": job.own.attempts,
            "group": job.group.as_deref(), "payloadBytes": job.body.payload.len(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_one_always_does() {
        let sizes = [4, 3, 2, 1];
        let fit = |most| newest(&sizes, most, |size| *size);
        assert_eq!(fit(3), (&sizes[2..], 2));
        assert_eq!(fit(0), (&sizes[3..], 3));
        assert_eq!(fit(100), (&sizes[..], 0));
        assert_eq!(newest(&[], 0, |_: &u8| 1), (&[][..], 0));
    }

    #[test]
    fn a_payload_is_json_or_says_that_it_is_not() {
        let mut to = Map::new();
        put(&mut to, "payload", Some(br#"{"a":[1,"b"]}"#));
        put(&mut to, "result", Some(b"\xff\x00"));
        put(&mut to, "progress", None);
        assert_eq!(Value::Object(to).to_string(), r#"{"payload":{"a":[1,"b"]},"resultBase64":"/wA=","progress":null}"#);
    }

    #[test]
    fn a_rate_reads_as_in_the_file() {
        let limit = |smooth| Limit { count: 5, window_ms: 60_000, smooth };
        assert_eq!((rate(&limit(false)), rate(&limit(true))), ("5/1m".to_owned(), "5/1m smooth".to_owned()));
    }
}
