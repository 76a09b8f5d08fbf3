//! A job as it stands in Redis, told as ours are. Pure, but for the questions.

use super::{Bull, queue::Queue, trace};
use crate::change::{Progressed, Row};
use crate::error::Error;
use crate::job::{Attempt, Body, Ending, Kept, Name, Own, State, Unique};
use crate::queue::Counts;
use crate::store::{Detail, Line};
use bullmq::JobState;
use mainstay_store::redis::cmd;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

type Fields = HashMap<String, String>;

/// Lines of its log that are looked at.
const LINES_MAX: i64 = 1000;

impl Bull {
    pub(super) async fn counts(&self, queue: &Queue) -> Result<Counts, Error> {
        let found = self.asked(queue.of.get_job_counts()).await?;
        Ok(Counts {
            waiting: found.waiting + found.paused + found.prioritized,
            delayed: found.delayed,
            active: found.active,
            waiting_children: found.waiting_children,
            completed: found.completed,
            failed: found.failed,
            dead: 0,
        })
    }

    /// Ids in a state, in the order in which they will start; of those that ended the last first.
    pub(super) async fn ids(
        &self,
        queue: &Queue,
        state: State,
        skip: usize,
        most: usize,
    ) -> Result<Vec<String>, Error> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let range = |kind: &'static str, skip: usize, most: usize, asc: bool| async move {
            let kinds = [kind];
            self.asked(queue.of.get_ranges(&kinds, number(skip), number(skip.saturating_add(most) - 1), asc)).await
        };
        match state {
            State::Waiting => {
                let counts = self.asked(queue.of.get_job_counts()).await?;
                let plain = usize::try_from(counts.waiting + counts.paused).unwrap_or(usize::MAX);
                let mut ids = if skip < plain { range("waiting", skip, most, true).await? } else { Vec::new() };
                // BullMQ takes those with a priority once no other waits.
                let left = most.saturating_sub(ids.len());
                if left > 0 && counts.prioritized > 0 {
                    ids.extend(range("prioritized", skip.saturating_sub(plain), left, true).await?);
                }
                ids.truncate(most);
                Ok(ids)
            }
            State::Active => range("active", skip, most, true).await,
            State::Delayed => range("delayed", skip, most, true).await,
            State::WaitingChildren => range("waiting-children", skip, most, true).await,
            State::Completed => range("completed", skip, most, false).await,
            State::Failed => range("failed", skip, most, false).await,
            State::Dead => Ok(Vec::new()),
        }
    }

    /// Where a job stands, if it is there.
    pub(super) async fn state(&self, queue: &Queue, id: &str) -> Result<Option<State>, Error> {
        Ok(match self.asked(queue.of.get_job_state(id)).await? {
            JobState::Waiting | JobState::Prioritized => Some(State::Waiting),
            JobState::Active => Some(State::Active),
            JobState::Delayed => Some(State::Delayed),
            JobState::Completed => Some(State::Completed),
            JobState::Failed => Some(State::Failed),
            JobState::WaitingChildren => Some(State::WaitingChildren),
            JobState::Unknown => None,
        })
    }

    /// All that BullMQ keeps of a job, if it is there.
    pub(super) async fn detail(&self, queue: &Arc<Queue>, id: &str) -> Result<Option<Detail>, Error> {
        let key = queue.of.keys().job_key(id);
        // In this order: what is said to have ended has all that its end wrote.
        let state = self.state(queue, id).await?;
        let fields: Fields = self.asked(self.conn.cmd(cmd("HGETALL").arg(&key))).await?;
        let Some(state) = state.filter(|_| !fields.is_empty()) else { return Ok(None) };
        let mut lines = cmd("LRANGE");
        lines.arg(format!("{key}:logs")).arg(-LINES_MAX).arg(-1);
        let lines: Vec<String> = self.asked(self.conn.cmd(&mut lines)).await?;
        let number = self.number(queue.index, id);
        let deadline_ms = self.held().get(&number).map_or(u64::MAX, super::work::Lease::deadline);
        let mut detail = read(queue.index, number, state, &fields, &lines);
        detail.row.progressed.deadline_ms = deadline_ms;
        Ok(Some(detail))
    }
}

fn read(queue: u32, job: u64, state: State, fields: &Fields, lines: &[String]) -> Detail {
    let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
    let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
    let options: Value = serde_json::from_str(text("opts")).unwrap_or_default();
    let attempts = options["attempts"].as_u64().unwrap_or(1).max(1);
    let created_ms = number("timestamp");
    // Of a retry it counts from the moment it was put off, which nobody keeps; from its start on is nearest.
    let from_ms = if number("atm") > 0 { number("processedOn") } else { created_ms };
    let worker = fields.get("pb").map(|worker| Name::from(worker.as_str()));
    let unique = fields.get("deid").map(|key| Unique { key: key.as_str().into(), for_ms: None });
    let progressed = Progressed {
        job,
        state,
        kept: Kept::default(),
        ready_ms: from_ms + number("delay"),
        attempts: small("atm"),
        starts: small("ats"),
        stalls: small("stc"),
        token: 0,
        started_ms: number("processedOn"),
        ended_ms: number("finishedOn"),
        worker: worker.clone(),
        deadline_ms: u64::MAX,
        lease_ms: 0,
    };
    let own = Own { attempts: Some(u32::try_from(attempts).unwrap_or(u32::MAX)), ..Own::default() };
    let worker = worker.unwrap_or_else(|| "".into());
    let attempts_of = || failures(text("failedReason"), text("stacktrace"), &worker, state);
    let bytes = |name: &str| fields.get(name).map(|text| text.as_bytes().to_vec());
    Detail {
        row: Row { queue, priority: small("priority"), created_ms, group: None, unique, own, progressed },
        body: Body {
            name: text("name").to_owned(),
            payload: text("data").as_bytes().to_vec(),
            trace: trace::of(&options),
        },
        payload_bytes: text("data").len(),
        result: bytes("returnvalue"),
        progress: bytes("progress").filter(|progress| progress != b"0"),
        attempts: match state {
            State::Failed => timed(attempts_of(), number("processedOn"), number("finishedOn")),
            _ => attempts_of(),
        },
        lines: lines.iter().map(|line| Line { at_ms: created_ms, line: line.clone() }).collect(),
        parent: None,
    }
}

/// Of the attempt that was the last the job has the times.
fn timed(mut all: Vec<Attempt>, started_ms: u64, ended_ms: u64) -> Vec<Attempt> {
    if let Some(last) = all.last_mut() {
        (last.started_ms, last.ended_ms) = (started_ms, ended_ms);
    }
    all
}

/// BullMQ keeps stack traces, oldest first, and the reason of the last failure.
fn failures(reason: &str, stacks: &str, worker: &Name, state: State) -> Vec<Attempt> {
    let stacks: Vec<String> = serde_json::from_str(stacks).unwrap_or_default();
    let first_line = |stack: &str| stack.lines().next().unwrap_or_default().to_owned();
    let attempt = |(at, stack): (usize, &String)| Attempt {
        start: u32::try_from(at + 1).unwrap_or(u32::MAX),
        worker: worker.clone(),
        started_ms: 0,
        ended_ms: 0,
        ending: Ending::Failed,
        error: first_line(stack),
        stack: Some(stack.clone()).filter(|stack| stack.contains('\n')),
    };
    let mut all: Vec<Attempt> = stacks.iter().enumerate().map(attempt).collect();
    if reason.is_empty() {
        return all;
    }
    match all.last_mut() {
        Some(last) => reason.clone_into(&mut last.error),
        // Nobody kept a stack trace: one that stalled too often, or another client's.
        None if state == State::Failed => all.extend([Attempt {
            start: 1,
            worker: worker.clone(),
            started_ms: 0,
            ended_ms: 0,
            ending: Ending::Failed,
            error: reason.to_owned(),
            stack: None,
        }]),
        None => {}
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_job_of_nodes_is_told_as_ours_are() {
        let fields = fields(&[
            ("name", "pdf"),
            ("data", r#"{"url":"a"}"#),
            ("opts", r#"{"attempts":3,"backoff":{"type":"fixed","delay":5}}"#),
            ("timestamp", "1000"),
            ("delay", "0"),
            ("priority", "0"),
            ("atm", "2"),
            ("ats", "3"),
            ("stc", "1"),
            ("processedOn", "2000"),
            ("finishedOn", "3000"),
            ("pb", "mainstay"),
            ("returnvalue", r#"{"ok":true}"#),
            ("failedReason", "broke"),
            ("stacktrace", r#"["Error: first\n    at a.js:1","second"]"#),
        ]);
        let detail = read(4, 7, State::Completed, &fields, &["a line".to_owned()]);
        let now = &detail.row.progressed;
        assert_eq!((detail.row.queue, now.job, now.attempts, now.starts, now.stalls), (4, 7, 2, 3, 1));
        assert_eq!((detail.row.own.attempts, now.started_ms, now.ended_ms), (Some(3), 2000, 3000));
        assert_eq!((&*detail.body.name, &*detail.body.payload), ("pdf", &br#"{"url":"a"}"#[..]));
        assert_eq!(detail.result.as_deref(), Some(&br#"{"ok":true}"#[..]));
        let errors: Vec<&str> = detail.attempts.iter().map(|attempt| &*attempt.error).collect();
        assert_eq!(errors, ["Error: first", "broke"]);
        assert_eq!(detail.attempts[0].stack.as_deref(), Some("Error: first\n    at a.js:1"));
        assert_eq!((detail.attempts[1].stack.as_deref(), &*detail.lines[0].line), (None, "a line"));
    }

    #[test]
    fn nothing_that_another_client_wrote_is_too_odd() {
        let odd = fields(&[("opts", "no JSON"), ("timestamp", "soon"), ("atm", "-1"), ("stacktrace", "{}")]);
        let detail = read(0, 1, State::Waiting, &odd, &[]);
        assert_eq!((detail.row.own.attempts, detail.row.created_ms, detail.attempts.len()), (Some(1), 0, 0));
        let stalled = fields(&[("failedReason", "job stalled more than allowable limit"), ("finishedOn", "3000")]);
        let detail = read(0, 1, State::Failed, &stalled, &[]);
        assert_eq!(detail.attempts[0].ended_ms, 3000);
        assert_eq!(detail.attempts[0].error, "job stalled more than allowable limit");
    }
}
