//! Bodies of requests, as apps write them. What is wrong is told with the field it stands in.

use hyper::StatusCode;
use mainstay_config::units::duration;
use mainstay_jobs::job::{Body, Idempotency, Own, Unique};
use mainstay_jobs::op::{Finish, Outcome};
use mainstay_jobs::{Backoff, Child, Claim, Error, Growth, Jobs, Name, NewJob, OnFailure, Refusal, Why};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// How long an add is known by its `Idempotency-Key`: a day.
const IDEMPOTENCY_MS: u64 = 24 * 60 * 60 * 1000;
/// Jobs of one claim, each with its payload.
const CLAIM_MAX: u32 = 100;
/// A claim waits no longer, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Why nothing was done.
#[derive(Debug, Clone)]
pub struct Fault {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
}

impl Fault {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Fault {
        Fault { status, code, detail: detail.into() }
    }

    pub fn not_found(detail: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub fn bad(detail: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// Of a field of what stands at this place.
    fn within(self, at: &str) -> Fault {
        Fault { detail: format!("{at}.{}", self.detail), ..self }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let (status, code) = match &error {
            Error::Refused(refusal) => match refusal {
                Refusal::NoSuchJob(_) | Refusal::NoSuchQueue(_) | Refusal::NoSuchSchedule(_) => {
                    (StatusCode::NOT_FOUND, "not_found")
                }
                Refusal::Stale { .. } => (StatusCode::CONFLICT, "stale_token"),
                Refusal::WrongState { .. } | Refusal::Children { .. } => (StatusCode::CONFLICT, "wrong_state"),
                Refusal::Duplicate { .. } => (StatusCode::CONFLICT, "duplicate"),
                Refusal::Full(_) | Refusal::TooMany(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
                Refusal::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
                Refusal::NotThat(_) | Refusal::Pattern(_) | Refusal::Flow(_) => {
                    (StatusCode::BAD_REQUEST, "bad_request")
                }
            },
            Error::Named { why: Why::Gone, .. } => (StatusCode::NOT_FOUND, "not_found"),
            Error::Named { why: Why::WrongState(_), .. } => (StatusCode::CONFLICT, "wrong_state"),
            Error::Named { why: Why::Stale(_), .. } => (StatusCode::CONFLICT, "stale_token"),
            Error::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
            Error::BullMq(_) => (StatusCode::CONFLICT, "wrong_state"),
            Error::Store(_)
            | Error::Behind(_)
            | Error::Closed
            | Error::Unanswered
            | Error::Away(_)
            | Error::Unfit { .. } => (StatusCode::SERVICE_UNAVAILABLE, "jobs_away"),
        };
        Fault::new(status, code, crate::settings::chain(&error))
    }
}

/// # Errors
/// With the place of what is not understood.
pub fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::bad(format!("the body is not what is expected: {error}")))
}

/// A number of milliseconds, or a time as `"2s"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Time {
    Millis(u64),
    Written(String),
}

impl Time {
    fn ms(&self, field: &str) -> Result<u64, Fault> {
        match self {
            Time::Millis(ms) => Ok(*ms),
            Time::Written(text) => duration(text)
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
                .map_err(|why| Fault::bad(format!("{field}: `{text}` {why}; milliseconds, or a time as \"2s\""))),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waits {
    #[serde(rename = "type", alias = "kind")]
    growth: String,
    delay: Time,
    #[serde(default)]
    jitter: u8,
}

/// One job to be added.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Add {
    name: String,
    data: Value,
    delay: Option<Time>,
    priority: u32,
    attempts: Option<u32>,
    backoff: Option<Waits>,
    timeout: Option<Time>,
    /// While a job of this key is not done there is no second.
    key: Option<String>,
    /// The key is kept for so long instead.
    key_for: Option<Time>,
    group: Option<String>,
    /// What must be done before it starts.
    children: Vec<Add>,
    /// Of a child.
    queue: Option<String>,
    /// Of a child: what becomes of its parent when it fails.
    on_failure: Option<String>,
}

/// What must be done before a job: an array of jobs, each with its queue.
///
/// # Errors
/// With the place of what is not understood.
pub fn children(text: &str) -> Result<Vec<Child>, Fault> {
    let all = read::<Vec<Add>>(text.as_bytes())?.into_iter().enumerate();
    all.map(|(number, add)| add.child(None).map_err(|fault| fault.within(&format!("children[{number}]")))).collect()
}

/// One, or several that are added together or not at all.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Adds {
    Many(Vec<Add>),
    One(Box<Add>),
}

impl Add {
    /// `idempotency`: the request's key, and which of its jobs this is. `trace`: of the request that adds it.
    pub fn job(self, idempotency: Option<(&str, usize)>, trace: Option<&str>) -> Result<NewJob, Fault> {
        for (field, is_there) in [("queue", self.queue.is_some()), ("onFailure", self.on_failure.is_some())] {
            if is_there {
                return Err(Fault::bad(format!("{field}: only a child has one; the queue of this job is in the path")));
            }
        }
        self.whole(idempotency, trace)
    }

    fn child(mut self, trace: Option<&str>) -> Result<Child, Fault> {
        let queue = self.queue.take().filter(|queue| !queue.is_empty());
        let queue = queue.ok_or_else(|| Fault::bad("queue: it is not there"))?.into();
        let on_failure = match self.on_failure.take() {
            None => OnFailure::default(),
            Some(text) => {
                OnFailure::parse(&text).ok_or_else(|| Fault::bad(format!("onFailure: `{text}`; fail or ignore")))?
            }
        };
        Ok(Child { queue, on_failure, job: self.whole(None, trace)? })
    }

    /// With all below it.
    fn whole(mut self, idempotency: Option<(&str, usize)>, trace: Option<&str>) -> Result<NewJob, Fault> {
        let below = std::mem::take(&mut self.children).into_iter().enumerate();
        let child = |(number, child): (usize, Add)| {
            child.child(trace).map_err(|fault| fault.within(&format!("children[{number}]")))
        };
        let children = below.map(child).collect::<Result<Vec<_>, _>>()?;
        let ms = |time: &Option<Time>, field| time.as_ref().map(|time| time.ms(field)).transpose();
        let backoff = self.backoff.as_ref().map(Waits::backoff).transpose()?;
        let for_ms = ms(&self.key_for, "keyFor")?;
        let name = |text: &str| -> Name { text.into() };
        if self.key.as_deref() == Some("") {
            return Err(Fault::bad("key: it is empty"));
        }
        if self.key.is_none() && for_ms.is_some() {
            return Err(Fault::bad("keyFor: there is no key that it is for"));
        }
        Ok(NewJob {
            body: Body {
                payload: serde_json::to_vec(&self.data).unwrap_or_default(),
                name: self.name.clone(),
                trace: trace.map(str::to_owned),
            },
            priority: self.priority,
            delay_ms: ms(&self.delay, "delay")?.unwrap_or(0),
            group: self.group.as_deref().map(name),
            unique: self.key.as_deref().map(|key| Unique { key: name(key), for_ms }),
            idempotency: idempotency.map(|(key, number)| Idempotency {
                key: if number == 0 { name(key) } else { name(&format!("{key}\n{number}")) },
                for_ms: IDEMPOTENCY_MS,
            }),
            own: Own { attempts: self.attempts, backoff, timeout_ms: ms(&self.timeout, "timeout")? },
            children,
        })
    }
}

impl Waits {
    fn backoff(&self) -> Result<Backoff, Fault> {
        let growth = match self.growth.as_str() {
            "fixed" => Growth::Fixed,
            "exponential" => Growth::Exponential,
            other => return Err(Fault::bad(format!("backoff.type: `{other}`; fixed or exponential"))),
        };
        if self.jitter > 100 {
            return Err(Fault::bad("backoff.jitter: 0 to 100 per cent"));
        }
        Ok(Backoff { growth, delay_ms: self.delay.ms("backoff.delay")?, jitter_percent: self.jitter })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wanted {
    worker: String,
    #[serde(default = "one")]
    max: u32,
    #[serde(default)]
    wait_ms: u64,
    /// Of a claim that comes with the end of others.
    queue: Option<String>,
}

fn one() -> u32 {
    1
}

impl Wanted {
    pub fn claim(self, queue: Option<&str>) -> Result<Claim, Fault> {
        let Some(queue) = queue.or(self.queue.as_deref()) else { return Err(Fault::bad("next.queue is not there")) };
        Ok(Claim {
            queue: queue.into(),
            worker: self.worker.as_str().into(),
            max: self.max.min(CLAIM_MAX),
            wait: Duration::from_millis(self.wait_ms).min(WAIT_MAX),
        })
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    pub ends: Vec<End>,
    pub next: Option<Wanted>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct End {
    pub id: Id,
    token: u64,
    /// Of one that is done.
    result: Option<Value>,
    /// Why it is not; without it, it is done.
    error: Option<String>,
    stack: Option<String>,
    /// `false`: no further attempt would help.
    retry: Option<bool>,
    /// Instead of the backoff.
    wait_ms: Option<u64>,
}

/// A job, as it is known outside: a number, or a queue and what BullMQ calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an id of a job")]
        enum Written {
            Number(u64),
            Text(String),
        }
        Ok(match Written::deserialize(from)? {
            Written::Number(number) => Id(number.to_string()),
            Written::Text(text) => Id(text),
        })
    }
}

impl Id {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it was written.
    pub fn shown(&self) -> Value {
        self.0.parse::<u64>().map_or_else(|_| self.0.as_str().into(), Value::from)
    }
}

impl End {
    /// # Errors
    /// When there cannot be such a job.
    pub fn finish(self, jobs: &Jobs) -> Result<Finish, Fault> {
        let job = jobs.job_of(self.id.as_str());
        let job = job.ok_or_else(|| Fault::not_found(format!("there is no job {}", self.id.as_str())))?;
        Ok(Finish { job, token: self.token, outcome: self.outcome() })
    }

    fn outcome(self) -> Outcome {
        match self.error {
            None => {
                Outcome::Completed { result: self.result.map(|value| serde_json::to_vec(&value).unwrap_or_default()) }
            }
            Some(error) => {
                Outcome::Failed { error, stack: self.stack, retry: self.retry.unwrap_or(true), wait_ms: self.wait_ms }
            }
        }
    }
}

/// What a worker says of one attempt while it runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Word {
    pub token: u64,
    pub progress: Option<Value>,
    pub line: Option<String>,
    pub lease: Option<Time>,
}

impl Word {
    pub fn lease(&self) -> Result<Option<Duration>, Fault> {
        self.lease.as_ref().map(|time| time.ms("lease").map(Duration::from_millis)).transpose()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beat {
    /// Pairs of a job and its token.
    pub holding: Vec<(Id, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Result<NewJob, Fault> {
        read::<Add>(text.as_bytes())?.job(Some(("k", 2)), Some("00-a-b-01"))
    }

    #[test]
    fn a_job_is_read_as_an_app_writes_it() {
        let job = job(r#"{"name":"mail","data":{"to":1},"delay":"2s","attempts":5,"key":"u1","keyFor":60000,
                "backoff":{"type":"fixed","delay":500},"timeout":"1m","group":"t1","priority":3}"#)
        .expect("a job");
        assert_eq!((job.body.payload.as_slice(), job.delay_ms, job.priority), (&br#"{"to":1}"#[..], 2000, 3));
        let backoff = Backoff { growth: Growth::Fixed, delay_ms: 500, jitter_percent: 0 };
        assert_eq!(job.own, Own { attempts: Some(5), backoff: Some(backoff), timeout_ms: Some(60_000) });
        assert_eq!(job.unique, Some(Unique { key: "u1".into(), for_ms: Some(60_000) }));
        assert_eq!(job.idempotency.map(|known| known.key), Some("k\n2".into()));
        assert_eq!(job.body.trace.as_deref(), Some("00-a-b-01"));
    }

    #[test]
    fn children_are_read_with_their_queues_and_theirs() {
        let job = job(r#"{"data":1,"children":[{"queue":"a","data":2},
                {"queue":"b","onFailure":"ignore","delay":5,"children":[{"queue":"c"}]}]}"#)
        .expect("a flow");
        let [first, second] = <[Child; 2]>::try_from(job.children).expect("two");
        assert_eq!((&*first.queue, first.on_failure, first.job.idempotency), ("a", OnFailure::Fail, None));
        assert_eq!((&*second.queue, second.on_failure, second.job.delay_ms), ("b", OnFailure::Ignore, 5));
        assert_eq!((&*second.job.children[0].queue, second.job.body.trace.as_deref()), ("c", Some("00-a-b-01")));
    }

    #[test]
    fn children_alone_are_read_as_those_of_a_job() {
        let all = children(r#"[{"queue":"a"},{"queue":"b","onFailure":"ignore","children":[{"queue":"c"}]}]"#);
        let all = all.expect("children");
        assert_eq!((all.len(), &*all[1].queue, &*all[1].job.children[0].queue), (2, "b", "c"));
        for (text, expected) in [
            ("{}", "the body is not what is expected"),
            ("[{}]", "children[0].queue: it is not there"),
            (r#"[{"queue":"a","children":[{"data":1}]}]"#, "children[0].children[0].queue: it is not there"),
        ] {
            let fault = children(text).expect_err(text);
            assert!(fault.detail.contains(expected), "{text}: {}", fault.detail);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        for (text, expected) in [
            ("{", "the body is not what is expected"),
            (r#"{"dat":1}"#, "unknown field `dat`"),
            (r#"{"delay":"soon"}"#, "delay: `soon`"),
            (r#"{"backoff":{"type":"odd","delay":1}}"#, "fixed or exponential"),
            (r#"{"backoff":{"type":"fixed","delay":1,"jitter":101}}"#, "0 to 100"),
            (r#"{"keyFor":1}"#, "no key"),
            (r#"{"key":""}"#, "it is empty"),
            (r#"{"attempts":-1}"#, "attempts"),
            (r#"{"queue":"a"}"#, "queue: only a child has one"),
            (r#"{"children":[{"data":1}]}"#, "children[0].queue: it is not there"),
            (r#"{"children":[{"queue":"a","onFailure":"wait"}]}"#, "children[0].onFailure: `wait`"),
            (
                r#"{"children":[{"queue":"a","children":[{"queue":"b","delay":"soon"}]}]}"#,
                "children[0].children[0].delay: `soon`",
            ),
        ] {
            let fault = job(text).expect_err(text);
            assert_eq!(fault.status, StatusCode::BAD_REQUEST, "{text}");
            assert!(fault.detail.contains(expected) || expected == "attempts", "{text}: {}", fault.detail);
        }
    }

    #[test]
    fn an_end_without_an_error_is_done() {
        let ends: Ends =
            read(br#"{"ends":[{"id":1,"token":2},{"id":"scan:a-3","token":4,"error":"no","retry":false}]}"#)
                .expect("ends");
        let [done, failed] = <[End; 2]>::try_from(ends.ends).expect("two");
        assert_eq!((done.id.shown(), failed.id.shown()), (1.into(), "scan:a-3".into()));
        assert_eq!(done.outcome(), Outcome::Completed { result: None });
        assert!(matches!(failed.outcome(), Outcome::Failed { retry: false, wait_ms: None, .. }));
    }
}
