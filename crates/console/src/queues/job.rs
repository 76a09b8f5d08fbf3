//! One job with its attempts.

use super::{actions, header, text};
use crate::html::{Place, Text, in_query, page, span, when};
use serde_json::Value;
use std::fmt::Write;

/// What comes in is what `mainstay jobs show ID --payload --json` prints.
pub fn job(place: &Place<'_>, job: &Value) -> String {
    let (id, queue, state) = (super::id(job), text(job, "queue"), text(job, "state"));
    let title = format!("Job {id}");
    let mut inner = header(place, &title, queue);
    let _ = write!(
        inner,
        "<p><span class=\"badge {state}\">{state}</span> {} of \
         <a href=\"{}/list?queue={}&amp;state={state}\">{}</a> {}</p>",
        Text(text(job, "name")),
        Text(place.root),
        in_query(queue),
        Text(queue),
        actions(place, &id, state),
        state = Text(state),
    );
    inner += &facts(place, job);
    for name in ["payload", "progress", "result"] {
        inner += &value(job, name);
    }
    inner += &failures(place, job);
    inner += &log(place, job);
    page(place.root, &title, None, &inner)
}

fn facts(place: &Place<'_>, job: &Value) -> String {
    let mut list = String::from("<dl>");
    let mut fact = |name: &str, shown: String| {
        if !shown.is_empty() {
            let _ = write!(list, "<dt>{name}</dt><dd>{}</dd>", Text(&shown));
        }
    };
    let number = |name: &str| job[name].as_u64();
    let at = |name: &str| number(name).map(|at| when(place.now_ms, at)).unwrap_or_default();
    fact("attempts", format!("{} of {}", job["attemptsMade"], job["attempts"]));
    fact("worker lost", number("stalls").filter(|n| *n > 0).map(|n| format!("{n} times")).unwrap_or_default());
    fact("priority", number("priority").filter(|n| *n > 0).map(|n| n.to_string()).unwrap_or_default());
    fact("added", at("createdMs"));
    fact("starts", at("delayUntilMs"));
    fact("started", at("startedMs"));
    fact("ended", at("endedMs"));
    fact("must end", at("deadlineMs"));
    fact("timeout", number("timeoutMs").filter(|ms| *ms > 0).map(span).unwrap_or_default());
    for name in ["worker", "group", "key", "trace"] {
        fact(name, text(job, name).to_owned());
    }
    fact("its request", job["traceId"].as_str().map(|id| format!("mainstay why {id}")).unwrap_or_default());
    list + "</dl>"
}

/// JSON as one reads it; what is none in base64.
fn value(job: &Value, name: &str) -> String {
    let shown = match (&job[name], job[format!("{name}Base64")].as_str()) {
        (Value::Null, None) => return String::new(),
        (_, Some(base64)) => format!("base64: {base64}"),
        (value, None) => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let title = if name == "payload" { "data" } else { name };
    format!("<h2>{title}</h2><pre>{}</pre>", Text(&shown))
}

fn failures(place: &Place<'_>, job: &Value) -> String {
    let Some(all) = job["failures"].as_array().filter(|all| !all.is_empty()) else { return String::new() };
    let mut shown = String::from("<h2>Attempts that did not complete</h2>");
    shown += &left_out(job, "failuresLeftOut");
    for one in all.iter().rev() {
        // BullMQ keeps no times of an attempt that was not the last.
        let ended = one["endedMs"].as_u64().filter(|at| *at > 0);
        let ended = ended.map(|at| format!("{} · ", when(place.now_ms, at))).unwrap_or_default();
        let _ = write!(
            shown,
            "<p><strong>{}</strong> {} <span class=\"soft\">{ended}{}</span></p><pre>{}",
            one["attempt"],
            Text(text(one, "ending")),
            Text(text(one, "worker")),
            Text(text(one, "error")),
        );
        if let Some(stack) = one["stack"].as_str() {
            let _ = write!(shown, "\n{}", Text(stack));
        }
        shown += "</pre>";
    }
    shown
}

fn log(place: &Place<'_>, job: &Value) -> String {
    let Some(all) = job["log"].as_array().filter(|all| !all.is_empty()) else { return String::new() };
    let mut shown = format!("<h2>Log</h2>{}<pre>", left_out(job, "logLeftOut"));
    for one in all {
        let at = one["atMs"].as_u64().map(|at| when(place.now_ms, at)).unwrap_or_default();
        let _ = writeln!(shown, "{at:>12}  {}", Text(text(one, "line")));
    }
    shown + "</pre>"
}

fn left_out(job: &Value, name: &str) -> String {
    match job[name].as_u64() {
        Some(count) if count > 0 => format!("<p class=\"soft\">{count} older ones are left out here</p>"),
        _ => String::new(),
    }
}
