//! What the file and a producer say, in BullMQ's words; and what there is no word for. Pure.

use super::names::id_of;
use crate::backoff::{Backoff, Growth};
use crate::error::Error;
use crate::job::NewJob;
use crate::options::Queue;
use crate::schedule::CatchUp;
use crate::settings::{Keep, Settings};
use bullmq::options::{RedisConnectionOptions, TlsCerts};
use bullmq::types::{BackoffStrategy, KeepJobs, RemoveOnFinish};
use bullmq::{DeduplicationOptions, JobOptions};
use mainstay_store::redis;
use std::path::Path;

/// The name of a job that has none: BullMQ's jobs are all called something, and this is what Bull called them.
pub(super) const NAMELESS: &str = "__default__";

/// A job to be added.
pub(super) struct New {
    pub name: String,
    pub data: serde_json::Value,
    pub options: JobOptions,
}

/// What a queue of the file asks for and BullMQ has not, each with what to do about it.
pub(crate) fn unsupported(queue: &Queue) -> Vec<(&'static str, &'static str)> {
    let settings = &queue.settings;
    let durability = settings.durability == crate::settings::Durability::Os;
    let all_missed = queue.schedules.iter().any(|planned| planned.catch_up == CatchUp::All);
    let all = [
        (queue.name.contains(':'), "a colon in the name of a queue", "another name"),
        (all_missed, "catch_up = \"all\"", "catch_up = \"one\""),
        (settings.dead_letter, "dead_letter", "leave it out: what failed stays failed"),
        (durability, "durability", "leave it out: it is Redis's (appendfsync)"),
        (settings.rate.is_some_and(|rate| rate.smooth), "a smooth rate", "a rate as \"5/60s\""),
        (settings.backoff.jitter_percent > 0, "jitter", "leave it out"),
    ];
    all.into_iter().filter(|(is_asked, ..)| *is_asked).map(|(_, what, fix)| (what, fix)).collect()
}

/// How it is reached.
///
/// # Errors
/// When it is a cluster or found by sentinels, or a file of certificates cannot be read.
pub(super) fn link(options: &redis::Options) -> Result<RedisConnectionOptions, Error> {
    let redis::Place::Single(node) = &options.place else {
        return Err(Error::Unsupported("Redis Cluster and Sentinel"));
    };
    let database = u8::try_from(options.database).map_err(|_| Error::Unsupported("a database above 255"))?;
    let mut link = RedisConnectionOptions::new().host(&node.host).port(node.port).db(database);
    if let Some(password) = &options.password {
        link = link.password(&password.0);
        // A user without a password is nobody's.
        if let Some(user) = &options.user {
            link = link.username(user);
        }
    }
    if let Some(tls) = &options.tls {
        link = link.tls(true);
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| Error::Away(format!("{} cannot be read: {error}", path.display())))
        };
        let (cert, key) = match &tls.client {
            Some((cert, key)) => (Some(read(cert)?), Some(read(key)?)),
            None => (None, None),
        };
        let certs =
            TlsCerts { root_cert: tls.ca.as_deref().map(read).transpose()?, client_cert: cert, client_key: key };
        if tls.ca.is_some() || tls.client.is_some() {
            link = link.tls_certs(certs);
        }
    }
    Ok(link)
}

/// A job as BullMQ's own producers write one, with what its queue says where it says nothing.
///
/// # Errors
/// When it asks for what there is not.
pub(super) fn job(new: NewJob, settings: &Settings) -> Result<New, Error> {
    let asks = [
        (new.group.is_some(), "groups"),
        (!new.children.is_empty(), "children"),
        (new.own.timeout_ms.is_some(), "a timeout of one job"),
        (new.own.backoff.is_some_and(|backoff| backoff.jitter_percent > 0), "jitter"),
        (new.unique.is_some() && new.idempotency.is_some(), "a key beside an Idempotency-Key"),
    ];
    if let Some((_, what)) = asks.into_iter().find(|(is_asked, _)| *is_asked) {
        return Err(Error::Unsupported(what));
    }
    let data: serde_json::Value =
        serde_json::from_slice(&new.body.payload).map_err(|_| Error::Unsupported("data that is not JSON"))?;
    let name = if new.body.name.is_empty() { NAMELESS.to_owned() } else { new.body.name };
    let options = JobOptions {
        delay: (new.delay_ms > 0).then_some(new.delay_ms),
        priority: (new.priority > 0).then_some(new.priority),
        attempts: Some(new.own.attempts.unwrap_or(settings.attempts)),
        backoff: Some(backoff(new.own.backoff.unwrap_or(settings.backoff))),
        remove_on_complete: Some(kept(settings.completed)),
        remove_on_fail: Some(kept(settings.failed)),
        job_id: new.idempotency.map(|known| id_of(&known.key)),
        deduplication: new.unique.map(|unique| DeduplicationOptions {
            id: unique.key.to_string(),
            ttl: unique.for_ms,
            extend: None,
            replace: None,
            keep_last_if_active: None,
        }),
        ..JobOptions::default()
    };
    Ok(New { name, data, options })
}

fn backoff(backoff: Backoff) -> BackoffStrategy {
    match backoff.growth {
        // Twice nothing, a hundred times over, is past what BullMQ's clients can count.
        _ if backoff.delay_ms == 0 => BackoffStrategy::Fixed(0),
        Growth::Fixed => BackoffStrategy::Fixed(backoff.delay_ms),
        Growth::Exponential => BackoffStrategy::Exponential(backoff.delay_ms),
    }
}

/// BullMQ counts ages in seconds.
pub(super) fn kept(keep: Keep) -> RemoveOnFinish {
    let count = usize::try_from(keep.count).unwrap_or(usize::MAX);
    match keep.age_ms {
        None => RemoveOnFinish::Count(count),
        Some(age_ms) => {
            RemoveOnFinish::Options(KeepJobs { age: Some(age_ms.div_ceil(1000)), count: Some(count), limit: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Body, Child, Idempotency, OnFailure, Own, Unique};
    use mainstay_limits::window::Limit;

    fn body() -> Body {
        Body { payload: b"{\"a\":1}".to_vec(), ..Body::default() }
    }

    #[test]
    fn a_job_says_what_its_queue_says_and_what_it_says_itself() {
        let settings = Settings::default();
        let plain = job(NewJob { body: body(), ..NewJob::default() }, &settings).expect("a job");
        let text = serde_json::to_value(&plain.options).expect("JSON");
        let expected = serde_json::json!({
            "attempts": 3, "backoff": { "type": "exponential", "delay": 2000 },
            "removeOnComplete": 100, "removeOnFail": 500,
        });
        assert_eq!(text, expected);
        let own = Own {
            attempts: Some(5),
            backoff: Some(Backoff { growth: Growth::Fixed, delay_ms: 7, jitter_percent: 0 }),
            timeout_ms: None,
        };
        let idempotency = Some(Idempotency { key: "a:7".into(), for_ms: 1 });
        let new = NewJob { body: body(), own, idempotency, delay_ms: 9, priority: 3, ..NewJob::default() };
        let settings = Settings { completed: Keep { count: 2, age_ms: Some(1500) }, ..settings };
        let text = serde_json::to_value(&job(new, &settings).expect("a job").options).expect("JSON");
        let expected = serde_json::json!({
            "attempts": 5, "backoff": { "type": "fixed", "delay": 7 }, "delay": 9, "priority": 3, "jobId": "a%3A7",
            "removeOnComplete": { "age": 2, "count": 2 }, "removeOnFail": 500,
        });
        assert_eq!(text, expected);
    }

    #[test]
    fn what_bullmq_has_not_is_named() {
        let new = || NewJob { body: body(), ..NewJob::default() };
        let child = Child { queue: "a".into(), on_failure: OnFailure::Fail, job: new() };
        let key = Unique { key: "k".into(), for_ms: None };
        let known = Idempotency { key: "k".into(), for_ms: 1 };
        let jitter = Backoff { growth: Growth::Fixed, delay_ms: 7, jitter_percent: 5 };
        for (asked, named) in [
            (NewJob { group: Some("t".into()), ..new() }, "groups"),
            (NewJob { children: vec![child], ..new() }, "children"),
            (NewJob { own: Own { timeout_ms: Some(1), ..Own::default() }, ..new() }, "a timeout of one job"),
            (NewJob { own: Own { backoff: Some(jitter), ..Own::default() }, ..new() }, "jitter"),
            (NewJob { unique: Some(key), idempotency: Some(known), ..new() }, "a key beside an Idempotency-Key"),
            (NewJob { body: Body::default(), ..new() }, "data that is not JSON"),
        ] {
            let Err(Error::Unsupported(what)) = job(asked, &Settings::default()) else { panic!("{named}") };
            assert_eq!(what, named);
        }
    }

    #[test]
    fn of_a_queue_everything_that_is_not_there_is_said_at_once() {
        let rate = Some(Limit { count: 1, window_ms: 1000, smooth: true });
        let settings = Settings { rate, dead_letter: true, ..Settings::default() };
        let queue = Queue { name: "a:b".into(), settings, ..Queue::default() };
        let said: Vec<&str> = unsupported(&queue).into_iter().map(|(what, _)| what).collect();
        assert_eq!(said, ["a colon in the name of a queue", "dead_letter", "a smooth rate"]);
        assert!(unsupported(&Queue { name: "a".into(), ..Queue::default() }).is_empty());
    }
}
