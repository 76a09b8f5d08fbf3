//! A job, and a queue's own values, as BullMQ names their fields.

use crate::backoff::{Backoff, Growth};
use crate::engine::QueueGlance;
use crate::job::State;
use crate::settings::Settings;
use crate::store::Detail;
use serde_json::json;

/// Fields in their order; a field that has no value is not there.
pub type Fields = Vec<(&'static str, Vec<u8>)>;

/// Stack traces that are told of; as many as BullMQ keeps.
const STACKS_MAX: usize = 10;

/// `bull:QUEUE:meta`
pub fn of_queue(queue: &QueueGlance) -> Fields {
    let mut fields = vec![("version", format!("mainstay:{}", env!("CARGO_PKG_VERSION")).into_bytes())];
    if queue.is_paused {
        fields.push(("paused", b"1".to_vec()));
    }
    let number = |number: u32| number.to_string().into_bytes();
    fields.extend(queue.settings.concurrency.map(|most| ("concurrency", number(most))));
    if let Some(rate) = &queue.settings.rate {
        fields.extend([("max", number(rate.count)), ("duration", number(rate.window_ms))]);
    }
    fields
}

/// `bull:QUEUE:ID`, of a queue with these settings.
pub fn of_job(detail: &Detail, settings: &Settings) -> Fields {
    let (row, at) = (&detail.row, &detail.row.progressed);
    let last_ended_ms = detail.attempts.last().map_or(0, |attempt| attempt.ended_ms);
    let delay_ms = match at.state {
        State::Delayed => at.ready_ms.saturating_sub(row.created_ms.max(last_ended_ms)),
        _ => 0,
    };
    let number = |number: u64| number.to_string().into_bytes();
    let mut fields = vec![
        ("name", detail.body.name.clone().into_bytes()),
        ("data", detail.body.payload.clone()),
        ("opts", opts(detail, settings, delay_ms).into_bytes()),
        ("timestamp", number(row.created_ms)),
        ("delay", number(delay_ms)),
        ("priority", number(row.priority.into())),
        ("atm", number(at.attempts.into())),
        ("ats", number(at.starts.into())),
    ];
    if at.stalls > 0 {
        fields.push(("stc", number(at.stalls.into())));
    }
    if at.starts > 0 {
        fields.push(("processedOn", number(at.started_ms)));
    }
    if at.state.is_terminal() {
        fields.push(("finishedOn", number(at.ended_ms)));
    }
    fields.extend(at.worker.as_ref().map(|worker| ("pb", worker.as_bytes().to_vec())));
    fields.extend(row.unique.as_ref().map(|unique| ("deid", unique.key.as_bytes().to_vec())));
    fields.extend(detail.progress.clone().map(|progress| ("progress", progress)));
    fields.extend(detail.result.clone().map(|result| ("returnvalue", result)));
    if let Some(last) = detail.attempts.last() {
        fields.push(("failedReason", last.error.clone().into_bytes()));
        let first = detail.attempts.len().saturating_sub(STACKS_MAX);
        let stacks: Vec<&str> = detail.attempts[first..]
            .iter()
            .map(|attempt| attempt.stack.as_ref().unwrap_or(&attempt.error).as_str())
            .collect();
        fields.push(("stacktrace", json!(stacks).to_string().into_bytes()));
    }
    fields
}

/// What holds for the job, said by its producer or by its queue.
fn opts(detail: &Detail, settings: &Settings, delay_ms: u64) -> String {
    let own = &detail.row.own;
    let Backoff { growth, delay_ms: backoff_ms, jitter_percent } = own.backoff.unwrap_or(settings.backoff);
    let growth = if growth == Growth::Fixed { "fixed" } else { "exponential" };
    let mut backoff = json!({ "type": growth, "delay": backoff_ms });
    if jitter_percent > 0 {
        // A share of the wait, as BullMQ has it.
        backoff["jitter"] = json!(f64::from(jitter_percent) / 100.0);
    }
    let mut opts = json!({
        "attempts": own.attempts.unwrap_or(settings.attempts),
        "backoff": backoff,
        "delay": delay_ms,
        "priority": detail.row.priority,
        "timeout": own.timeout_ms.unwrap_or(settings.timeout_ms),
    });
    if let Some(unique) = &detail.row.unique {
        opts["de"] = json!({ "id": &*unique.key });
    }
    opts.to_string()
}
