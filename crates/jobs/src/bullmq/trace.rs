//! A job's `traceparent`, where BullMQ's telemetry keeps it: `tm` among the job's options, a JSON text of what is
//! handed on. Its Rust client neither writes nor reads it.
//!
//! Must never change another option, nor what stands in `tm` already.

use super::{Bull, Queue};
use bullmq::Job;
use mainstay_store::redis::cmd;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a `traceparent` may be at most, whoever wrote it: today's have 55 bytes.
const TRACE_BYTES_MAX: usize = 256;
/// A job of ours that is taken in the moment it is added waits so long for its trace to be there.
const NOTE_LIMIT: Duration = Duration::from_millis(200);
/// Jobs of one call of the script.
const NOTED_MAX: usize = 500;
/// Behind the other options, as the text they are.
const NOTE: &str = "for _, key in ipairs(KEYS) do \
     local all = redis.call('HGET', key, 'opts') \
     if all and string.sub(all, 1, 1) == '{' and string.sub(all, -1) == '}' \
     and not string.find(all, '\"tm\":', 1, true) then \
     local head = string.sub(all, 1, -2) \
     if #head > 1 then head = head .. ',' end \
     redis.call('HSET', key, 'opts', head .. '\"tm\":' .. ARGV[1] .. '}') end end return #KEYS";

impl Bull {
    /// Beside jobs that have just been added. One that is without is a job all the same.
    pub(super) async fn note_traces(&self, queue: &Queue, traced: &BTreeMap<String, Vec<&str>>) {
        for (trace, ids) in traced {
            for ids in ids.chunks(NOTED_MAX) {
                let mut script = cmd("EVAL");
                script.arg(NOTE).arg(ids.len());
                for id in ids {
                    script.arg(queue.of.keys().job_key(id));
                }
                if let Err(error) = self.asked(self.conn.cmd::<i64>(script.arg(noted(trace)))).await {
                    tracing::debug!(queue = &*queue.name, %error, "a trace is not kept");
                }
            }
        }
    }

    /// That of a job that was taken, of whose options this is the text.
    pub(super) async fn trace(&self, queue: &Queue, job: &Job, options: &str) -> Option<String> {
        let found = of_text(options);
        if found.is_some() || queue.noting.try_write().is_ok() {
            return found;
        }
        // Somebody here adds with a trace at this moment: it may be this one.
        let _ = tokio::time::timeout(NOTE_LIMIT, queue.noting.write()).await;
        let key = queue.of.keys().job_key(job.id());
        let options: Option<String> = self.asked(self.conn.cmd(cmd("HGET").arg(&key).arg("opts"))).await.ok()?;
        of_text(&options?)
    }
}

/// A JSON text in a JSON text.
fn noted(trace: &str) -> String {
    Value::String(json!({ "traceparent": trace }).to_string()).to_string()
}

fn of_text(options: &str) -> Option<String> {
    // Most have none, and are not read.
    if !options.contains("\"tm\"") {
        return None;
    }
    of(&serde_json::from_str(options).ok()?)
}

/// The `traceparent` among a job's options.
pub(super) fn of(options: &Value) -> Option<String> {
    let told: Value = serde_json::from_str(options["tm"].as_str()?).ok()?;
    let trace = told["traceparent"].as_str()?;
    let is_plain = trace.len() <= TRACE_BYTES_MAX && trace.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_noted_is_read_again() {
        let options = format!("{{\"attempts\":3,\"tm\":{}}}", noted(TRACE));
        assert_eq!(of_text(&options).as_deref(), Some(TRACE));
        // As BullMQ's Node side writes it, with more beside it.
        let node = json!({ "tm": json!({ "traceparent": TRACE, "tracestate": "a=b" }).to_string() });
        assert_eq!(of(&node).as_deref(), Some(TRACE));
    }

    #[test]
    fn what_is_none_is_left_out() {
        let long = "0".repeat(TRACE_BYTES_MAX + 1);
        for odd in [
            json!({}),
            json!({ "tm": null }),
            json!({ "tm": { "traceparent": TRACE } }),
            json!({ "tm": "no JSON" }),
            json!({ "tm": json!({ "traceparent": 7 }).to_string() }),
            json!({ "tm": json!({ "traceparent": "a\nb" }).to_string() }),
            json!({ "tm": json!({ "traceparent": long }).to_string() }),
        ] {
            assert_eq!(of(&odd), None, "{odd}");
        }
        assert_eq!(of_text("{\"tm\""), None);
    }
}
