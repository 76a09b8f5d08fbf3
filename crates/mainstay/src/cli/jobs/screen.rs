//! Queues, jobs and schedules for a terminal. Pure: the time is an argument.
//!
//! Must never pass on a control character: what an app wrote is not a command for this terminal.

use crate::control::answer::ago;
use crate::control::{JobAdded, JobsListed};
use mainstay_config::units::{show_duration, show_size};
use mainstay_telemetry::time;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Bytes of a payload, a result or a progress on the screen; all of it is in the JSON.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Characters of an error in a list.
const ERROR_CHARS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
pub struct Queue {
    name: String,
    waiting: u64,
    delayed: u64,
    active: u64,
    completed: u64,
    failed: u64,
    dead: u64,
    paused: bool,
    short: bool,
    depth: Depth,
    concurrency: Option<u32>,
    rate: Option<String>,
    #[serde(default, rename = "waitingChildren")]
    waiting_children: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Depth {
    waiting_over: u64,
    active_under: u64,
}

/// A number, or a queue and what BullMQ calls the job.
#[derive(Debug, Deserialize)]
struct Id(Value);

impl std::fmt::Display for Id {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(&self.0.as_str().map_or_else(|| self.0.to_string(), flat))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    id: Id,
    queue: String,
    name: String,
    state: String,
    priority: u32,
    attempts_made: u32,
    attempts: u32,
    stalls: u32,
    timeout_ms: u64,
    created_ms: u64,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
    delay_until_ms: Option<u64>,
    worker: Option<String>,
    deadline_ms: Option<u64>,
    group: Option<String>,
    key: Option<String>,
    trace: Option<String>,
    trace_id: Option<String>,
    /// Known to whoever reads the log files.
    request_id: Option<String>,
    payload_bytes: u64,
    /// In a list.
    error: Option<String>,
    #[serde(default)]
    failures: Vec<Failure>,
    #[serde(default)]
    failures_left_out: u64,
    #[serde(default)]
    log: Vec<Logged>,
    #[serde(default)]
    log_left_out: u64,
    progress: Option<Value>,
    progress_base64: Option<String>,
    result: Option<Value>,
    result_base64: Option<String>,
    payload: Option<Value>,
    payload_base64: Option<String>,
    parent: Option<Id>,
    #[serde(default)]
    children: Vec<Child>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Child {
    id: Id,
    queue: String,
    state: String,
    on_failure: String,
    result: Option<Value>,
    result_base64: Option<String>,
    #[serde(default)]
    result_left_out: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    attempt: u32,
    worker: String,
    started_ms: u64,
    ended_ms: u64,
    ending: String,
    error: String,
    stack: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logged {
    at_ms: u64,
    line: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    name: String,
    queue: String,
    cron: Option<String>,
    zone: Option<String>,
    every_ms: Option<u64>,
    catch_up: String,
    next_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    id: u64,
    queue: String,
    name: String,
    added_ms: u64,
    why: String,
}

/// What was added in SQL and is not taken over.
pub fn refused(refused: &Refused, now_ms: u64) -> String {
    let Refused { id, queue, name, added_ms, why } = refused;
    let since = ago(now_ms.saturating_sub(*added_ms) / 1000);
    format!("{id:<18} {:<16} {:<16} added {since} ago   {}", flat(queue), flat(name), flat(why))
}

pub fn queues(all: &[Queue]) -> Vec<String> {
    let width = all.iter().map(|queue| queue.name.chars().count()).max().unwrap_or(0);
    all.iter().map(|queue| format!("{:<width$}   {}", flat(&queue.name), counts(queue))).collect()
}

fn counts(queue: &Queue) -> String {
    let Queue { waiting, delayed, active, completed, failed, dead, .. } = queue;
    let mut line = format!(
        "{waiting:>6} waiting   {delayed:>6} delayed   {active:>4} active   {completed:>5} completed   \
         {failed:>4} failed   {dead:>4} dead"
    );
    if queue.waiting_children > 0 {
        line.push_str(&format!("   {} wait for children", queue.waiting_children));
    }
    line.extend(queue.concurrency.map(|most| format!("   {most} at once")));
    line.extend(queue.rate.iter().map(|rate| format!("   {rate}")));
    if queue.paused {
        line.push_str("   paused");
    }
    if queue.short {
        let Depth { waiting_over, active_under } = queue.depth;
        line.push_str(&format!("   short of workers: more than {waiting_over} wait, fewer than {active_under} run"));
    }
    line
}

/// One job in a list.
pub fn line(job: &Job, now_ms: u64) -> String {
    let name = if job.name.is_empty() { "-".to_owned() } else { flat(&job.name) };
    let attempts = format!("{}/{}", job.attempts_made, job.attempts);
    let mut line = format!("{:<8} {name:<20} {:<9} {attempts:>5}   {}", job.id, job.state, age(job, now_ms));
    if let Some(error) = job.error.as_ref().filter(|error| !error.is_empty() && job.state != "completed") {
        let error = flat(error);
        let cut: String = error.chars().take(ERROR_CHARS_MAX).collect();
        let more = if cut.len() < error.len() { "…" } else { "" };
        line.push_str(&format!("   {cut}{more}"));
    }
    line
}

/// The same among jobs of other queues.
pub fn line_with_queue(job: &Job, now_ms: u64) -> String {
    format!("{:<16} {}", flat(&job.queue), line(job, now_ms))
}

/// Of the state it is in.
fn age(job: &Job, now_ms: u64) -> String {
    let since = |at_ms: u64| ago(now_ms.saturating_sub(at_ms) / 1000);
    match (job.delay_until_ms, job.ended_ms, job.started_ms) {
        (Some(until_ms), _, _) if until_ms <= now_ms => "due".to_owned(),
        (Some(until_ms), _, _) => format!("in {}", ago((until_ms - now_ms).div_ceil(1000))),
        (None, Some(ended_ms), _) => format!("{} ago", since(ended_ms)),
        (None, None, Some(started_ms)) if job.state == "active" => format!("for {}", since(started_ms)),
        _ => format!("added {} ago", since(job.created_ms)),
    }
}

/// What a list says beside its lines.
pub fn more(list: &JobsListed, found: usize, left: u64) -> Vec<String> {
    let state = list.state.as_ref().map(|state| format!(" --state {state}")).unwrap_or_default();
    let (queue, next) = (&list.queue, list.skip + found);
    if left > 0 {
        let limit = list.limit;
        return vec![format!("{left} more: mainstay jobs list {queue}{state} --skip {next} --limit {limit}")];
    }
    if found > 0 {
        return Vec::new();
    }
    let which = list.state.as_ref().map(|state| format!(" that is {state}")).unwrap_or_default();
    vec![format!("there is no job{which} in {queue}")]
}

/// All of one.
pub fn job(job: &Job, with_payload: bool, now_ms: u64) -> Vec<String> {
    let name = if job.name.is_empty() { String::new() } else { format!("   {}", flat(&job.name)) };
    let mut lines = vec![format!("{}   {}{name}   {}   {}", job.id, flat(&job.queue), job.state, age(job, now_ms))];
    lines.push(format!("attempts  {} of {}{}", job.attempts_made, job.attempts, beside(job)));
    lines.push(format!("added     {}", iso(job.created_ms)));
    let times =
        [("due", job.delay_until_ms), ("started", job.started_ms), ("late", job.deadline_ms), ("ended", job.ended_ms)];
    lines.extend(times.into_iter().filter_map(|(word, at_ms)| Some(format!("{word:<9} {}", iso(at_ms?)))));
    let names = [("worker", &job.worker), ("group", &job.group), ("key", &job.key), ("trace", &job.trace)];
    let some = |(word, name): (&str, &Option<String>)| Some(format!("{word:<9} {}", flat(name.as_ref()?)));
    lines.extend(names.into_iter().filter_map(some));
    let request = job.request_id.as_ref().or(job.trace_id.as_ref());
    lines.extend(request.map(|id| format!("request   mainstay why {}", flat(id))));
    lines.extend(job.parent.as_ref().map(|parent| format!("parent    {parent}")));
    lines.extend(job.children.iter().map(child));
    if job.failures_left_out > 0 {
        lines.push(format!("{} older attempts are not shown", job.failures_left_out));
    }
    job.failures.iter().for_each(|failure| lines.extend(attempt(failure)));
    lines.extend(body("progress", job.progress.as_ref(), job.progress_base64.as_ref()));
    if job.log_left_out > 0 {
        lines.push(format!("{} older lines of the log are not shown", job.log_left_out));
    }
    lines.extend(job.log.iter().map(|logged| format!("log       {}  {}", iso(logged.at_ms), flat(&logged.line))));
    lines.extend(body("result", job.result.as_ref(), job.result_base64.as_ref()));
    match with_payload {
        true => lines.extend(body("payload", job.payload.as_ref(), job.payload_base64.as_ref())),
        false => lines.push(format!("payload   {}   shown with --payload", show_size(job.payload_bytes))),
    }
    lines
}

fn child(child: &Child) -> String {
    let mut line = format!("child     {:<8} {}   {}", child.id, flat(&child.queue), flat(&child.state));
    if child.on_failure == "ignore" {
        line.push_str("   may fail");
    }
    let result = match (&child.result, &child.result_base64) {
        (Some(value), _) => flat(&value.to_string()),
        (None, Some(base64)) => format!("{base64} (base64)"),
        (None, None) if child.result_left_out => "with a result that is not shown here".to_owned(),
        (None, None) => return line,
    };
    let cut: String = result.chars().take(ERROR_CHARS_MAX).collect();
    let more = if cut.len() < result.len() { "…" } else { "" };
    line.push_str(&format!("   {cut}{more}"));
    line
}

/// What is not as it mostly is.
fn beside(job: &Job) -> String {
    let mut line = String::new();
    if job.stalls > 0 {
        line.push_str(&format!("   lost its worker {} times", job.stalls));
    }
    if job.priority > 0 {
        line.push_str(&format!("   priority {}", job.priority));
    }
    if job.timeout_ms > 0 {
        line.push_str(&format!("   timeout {}", show_duration(Duration::from_millis(job.timeout_ms))));
    }
    line
}

fn attempt(failure: &Failure) -> Vec<String> {
    let Failure { attempt, ending, worker, .. } = failure;
    let took = show_duration(Duration::from_millis(failure.ended_ms.saturating_sub(failure.started_ms)));
    let head = match failure.ended_ms {
        // BullMQ keeps no times of an attempt that was not the last.
        0 => format!("start {attempt}   {ending}   by {}", flat(worker)),
        at_ms => format!("start {attempt}   {ending} after {took}   {}   by {}", iso(at_ms), flat(worker)),
    };
    let mut lines = vec![head];
    let stack = failure.stack.as_deref().unwrap_or_default();
    // Most traces begin with the error.
    if !stack.contains(failure.error.as_str()) || failure.error.is_empty() {
        lines.extend(failure.error.lines().map(|line| format!("  {}", flat(line))));
    }
    lines.extend(stack.lines().map(|line| format!("  {}", flat(line))));
    lines
}

fn body(word: &str, json: Option<&Value>, base64: Option<&String>) -> Option<String> {
    let text = match (json, base64) {
        (Some(value), _) => value.to_string(),
        (None, Some(base64)) => format!("{base64}   (base64)"),
        (None, None) => return None,
    };
    let text = flat(&text);
    let end = text.floor_char_boundary(BODY_BYTES_MAX);
    let more =
        if end < text.len() { format!("…   {} in all: --json", show_size(text.len() as u64)) } else { String::new() };
    Some(format!("{word:<9} {}{more}", &text[..end]))
}

pub fn added(asked: &JobAdded, answer: &Value) -> String {
    let (id, queue) = (Id(answer["id"].clone()), &asked.queue);
    if answer["isNew"] == false {
        return format!("{id} is in {queue} with this key; nothing was added");
    }
    if !asked.children.is_empty() {
        return format!("{id} added to {queue}, starts after its children   see: mainstay jobs show {id}");
    }
    match asked.delay_ms {
        0 => format!("{id} added to {queue}"),
        delay_ms => format!("{id} added to {queue}, starts in {}", show_duration(Duration::from_millis(delay_ms))),
    }
}

pub fn schedule(schedule: &Schedule, now_ms: u64) -> String {
    let rule = match (&schedule.cron, schedule.every_ms) {
        (Some(cron), _) => format!("{} {}", flat(cron), flat(schedule.zone.as_deref().unwrap_or("UTC"))),
        (None, every_ms) => format!("every {}", show_duration(Duration::from_millis(every_ms.unwrap_or(0)))),
    };
    let next = match schedule.next_ms {
        None => "never again".to_owned(),
        Some(next_ms) if next_ms <= now_ms => format!("due since {}", iso(next_ms)),
        Some(next_ms) => format!("next {} (in {})", iso(next_ms), ago((next_ms - now_ms).div_ceil(1000))),
    };
    let (name, queue) = (flat(&schedule.name), flat(&schedule.queue));
    format!("{name:<20} {queue:<16} {rule:<28} catch-up {:<4}   {next}", schedule.catch_up)
}

fn iso(ms: u64) -> String {
    time::iso(ms.saturating_mul(1000))
}

/// On one line, and without what a terminal would obey.
fn flat(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' | '\r' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW_MS: u64 = 1_700_000_060_000;

    fn one(more: &Value) -> Job {
        let mut all = json!({
            "id": 12, "queue": "scan", "name": "pdf", "state": "waiting", "priority": 0, "attemptsMade": 0,
            "attempts": 3, "starts": 0, "stalls": 0, "timeoutMs": 30_000, "createdMs": 1_700_000_000_000_u64,
            "payloadBytes": 11,
        });
        for (key, value) in more.as_object().expect("an object") {
            all[key] = value.clone();
        }
        serde_json::from_value(all).expect("a job")
    }

    #[test]
    fn a_queue_says_what_it_holds_and_what_it_is_short_of() {
        let queue = json!({
            "name": "scan", "waiting": 12, "delayed": 0, "active": 1, "completed": 100, "failed": 3, "dead": 0,
            "paused": false, "short": true, "depth": { "waitingOver": 10, "activeUnder": 5 }, "concurrency": 5,
            "rate": "5/1m",
        });
        let lines = queues(&[serde_json::from_value(queue).expect("a queue")]);
        assert!(lines[0].starts_with("scan       12 waiting        0 delayed"), "{lines:?}");
        assert!(lines[0].ends_with("5 at once   5/1m   short of workers: more than 10 wait, fewer than 5 run"));
    }

    #[test]
    fn a_line_says_how_far_a_job_is() {
        assert_eq!(line(&one(&json!({})), NOW_MS), "12       pdf                  waiting     0/3   added 1m 0s ago");
        let delayed = one(&json!({ "state": "delayed", "delayUntilMs": NOW_MS + 9_500 }));
        assert!(line(&delayed, NOW_MS).ends_with("in 10s"));
        let error = format!("boom\n\u{1b}[2J{}", "x".repeat(200));
        let failed = one(&json!({ "state": "failed", "endedMs": NOW_MS - 5000, "attemptsMade": 3, "error": error }));
        let shown = line(&failed, NOW_MS);
        assert!(shown.contains("3/3   5s ago   boom \u{fffd}[2Jxxx") && shown.ends_with("x…"), "{shown}");
    }

    #[test]
    fn one_is_shown_with_its_attempts_and_its_payload_when_asked() {
        let failures = json!([{
            "attempt": 1, "worker": "w1", "startedMs": 1_700_000_001_000_u64, "endedMs": 1_700_000_002_500_u64,
            "ending": "failed", "error": "boom", "stack": "Error: boom\n    at scan.js:3",
        }]);
        let log = json!([{ "atMs": 1_700_000_002_000_u64, "line": "half way" }]);
        let shown = one(&json!({
            "failures": failures, "log": log, "progress": 50, "result": null, "payload": { "url": "a" },
            "startedMs": 1_700_000_001_000_u64,
        }));
        let text = job(&shown, true, NOW_MS).join("\n");
        let attempt = "start 1   failed after 1s500ms   2023-11-14T22:13:22.500Z   by w1\n  Error: boom\n      at scan";
        assert!(text.contains(attempt), "{text}");
        let untimed =
            json!({ "attempt": 1, "worker": "w1", "startedMs": 0, "endedMs": 0, "ending": "failed", "error": "boom" });
        let text = job(&one(&json!({ "failures": [untimed] })), false, NOW_MS).join("\n");
        assert!(text.contains("start 1   failed   by w1\n  boom") && !text.contains("1970"), "{text}");
        let text = job(&shown, true, NOW_MS).join("\n");
        for words in ["attempts  0 of 3   timeout 30s", "progress  50", "  half way", "payload   {\"url\":\"a\"}"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("result"), "{text}");
        assert!(job(&shown, false, NOW_MS).last().is_some_and(|line| line.ends_with("shown with --payload")));
        let large = one(&json!({ "payload": "x".repeat(BODY_BYTES_MAX * 2) }));
        let text = job(&large, true, NOW_MS).join("\n");
        assert!(text.len() < BODY_BYTES_MAX + 1000 && text.contains("in all: --json"));
    }

    #[test]
    fn a_parent_is_shown_with_its_children_and_what_they_gave() {
        let child = |more: Value| {
            let mut all =
                json!({ "id": 13, "queue": "mail", "state": "completed", "onFailure": "fail", "result": null });
            more.as_object().expect("an object").iter().for_each(|(key, value)| all[key] = value.clone());
            all
        };
        let children = [
            child(json!({ "result": { "a": "x".repeat(200) } })),
            child(json!({ "id": 14, "state": "removed", "onFailure": "ignore" })),
        ];
        let text = job(&one(&json!({ "state": "waiting_children", "parent": 7, "children": children })), false, NOW_MS);
        assert_eq!(text[0], "12   scan   pdf   waiting_children   added 1m 0s ago");
        assert!(text.contains(&"parent    7".to_owned()), "{text:?}");
        let [first, second] = [&text[4], &text[5]];
        assert!(
            first.starts_with("child     13       mail   completed   {\"a\":\"xxx") && first.ends_with("x…"),
            "{first}"
        );
        assert_eq!(second, "child     14       mail   removed   may fail");
    }

    #[test]
    fn a_list_says_how_it_goes_on() {
        let list = |state: Option<&str>| JobsListed {
            queue: "scan".to_owned(),
            state: state.map(str::to_owned),
            skip: 20,
            limit: 20,
        };
        let next = "7 more: mainstay jobs list scan --state failed --skip 40 --limit 20";
        assert_eq!(more(&list(Some("failed")), 20, 7), [next]);
        assert_eq!(more(&list(Some("dead")), 0, 0), ["there is no job that is dead in scan"]);
        assert!(more(&list(None), 3, 0).is_empty());
    }

    #[test]
    fn a_schedule_says_when_it_is_next() {
        let at = |more: Value| {
            let mut all = json!({ "name": "nightly", "queue": "scan", "catchUp": "one" });
            for (key, value) in more.as_object().expect("an object") {
                all[key] = value.clone();
            }
            schedule(&serde_json::from_value(all).expect("a schedule"), NOW_MS)
        };
        let cron = at(json!({ "cron": "0 3 * * *", "zone": "Europe/Berlin", "nextMs": NOW_MS + 3_600_000 }));
        assert!(cron.contains("0 3 * * * Europe/Berlin") && cron.ends_with("(in 1h 0m)"), "{cron}");
        let every = at(json!({ "everyMs": 3_600_000, "nextMs": NOW_MS }));
        assert!(every.contains("every 1h") && every.contains("due since 2023-11-14T22:14:20.000Z"), "{every}");
    }

    #[test]
    fn what_was_added_says_when_it_starts() {
        let asked = |delay_ms| JobAdded { queue: "scan".to_owned(), delay_ms, ..JobAdded::default() };
        let new = json!({ "id": 7, "isNew": true });
        assert_eq!(added(&asked(0), &new), "7 added to scan");
        assert_eq!(added(&asked(10_000), &new), "7 added to scan, starts in 10s");
        assert!(added(&asked(0), &json!({ "id": 7, "isNew": false })).contains("nothing was added"));
    }
}
