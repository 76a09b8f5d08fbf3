//! Jobs as operators see and change them, and how they are shown to whoever asks, over the socket or over HTTP.

mod shown;

pub use shown::{child_shown, listed, payload, queue_shown, refused_shown, schedule_shown, shown};

use crate::api::children;
use crate::control::{JobAdded, JobAsked, JobsAsked, JobsListed, Refused, RuleAsked, ScheduleSet};
use crate::settings::chain;
use mainstay_jobs::engine::QueueGlance;
use mainstay_jobs::job::{Body, Own, Unique};
use mainstay_jobs::op::FLOW_JOBS_MAX;
use mainstay_jobs::schedule::{CatchUp, Rule, Schedule};
use mainstay_jobs::store::Detail;
use mainstay_jobs::{Child, Error, Jobs, LIST_MAX, NewJob, Refusal, State, Why};
use mainstay_runtime::Clock;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Jobs read at once for a list: each with an error of at most 4 KiB.
const PAGE: usize = 200;
/// Names of queues in a refusal.
const NAMES_MAX: usize = 10;
/// In the order in which an operator looks for something.
const LISTED: [State; 7] = [
    State::Active,
    State::Waiting,
    State::Delayed,
    State::WaitingChildren,
    State::Failed,
    State::Dead,
    State::Completed,
];

pub async fn run(jobs: Option<&Jobs>, asked: JobsAsked) -> Result<Value, Refused> {
    let Some(jobs) = jobs else {
        // No request has added any.
        if let JobsAsked::Traced { .. } = asked {
            return Ok(Value::Null);
        }
        return Err(Refused::new(
            "there is no queue   fix: [jobs.NAME] in mainstay.toml, then mainstay reload   if there is one, jobs are \
             not open: mainstay logs --level error",
        ));
    };
    match asked {
        JobsAsked::Queues => {
            let queues = jobs.queues().await.map_err(refused)?;
            Ok(json!({ "queues": queues.iter().map(queue_shown).collect::<Vec<_>>() }))
        }
        JobsAsked::List(asked) => list(jobs, asked).await,
        JobsAsked::Show { id, payload } => {
            let one = one(jobs, job(jobs, &id)?, payload).await.map_err(refused)?;
            one.ok_or_else(|| unknown(&id))
        }
        JobsAsked::Traced { trace_id, limit } => traced(jobs, &trace_id, limit).await,
        JobsAsked::Add(asked) => add(jobs, *asked).await,
        JobsAsked::Retry(id) => changed(jobs, &id, jobs.retry(job(jobs, &id)?).await),
        JobsAsked::Remove(id) => changed(jobs, &id, jobs.remove(job(jobs, &id)?).await),
        JobsAsked::Promote(id) => changed(jobs, &id, jobs.promote(job(jobs, &id)?).await),
        JobsAsked::Pause(queue) => {
            known(jobs, &queue).await?;
            jobs.pause(&queue).await.map_err(refused)?;
            Ok(queue_shown(&known(jobs, &queue).await?))
        }
        JobsAsked::Resume(queue) => {
            known(jobs, &queue).await?;
            jobs.resume(&queue).await.map_err(refused)?;
            Ok(queue_shown(&known(jobs, &queue).await?))
        }
        JobsAsked::Drain { queue, delayed } => {
            known(jobs, &queue).await?;
            let count = jobs.drain(&queue, delayed).await.map_err(refused)?;
            Ok(json!({ "queue": queue, "count": count }))
        }
        JobsAsked::Clean { queue, state, older_ms } => {
            known(jobs, &queue).await?;
            let count = jobs.clean(&queue, read(&state)?, Duration::from_millis(older_ms)).await.map_err(refused)?;
            Ok(json!({ "queue": queue, "count": count }))
        }
        JobsAsked::Redrive { queue, state } => redrive(jobs, &queue, state.as_deref()).await,
        JobsAsked::Refused => {
            let all = jobs.refused(LIST_MAX).await.map_err(refused)?;
            Ok(json!({ "refused": all.iter().map(refused_shown).collect::<Vec<_>>() }))
        }
        JobsAsked::DropRefused(id) => match (id, jobs.drop_refused(id).await.map_err(refused)?) {
            (Some(id), 0) => Err(Refused::new(format!(
                "there is no refused job {id}, or it is tried again at this moment   see: mainstay jobs refused"
            ))),
            (_, count) => Ok(json!({ "count": count })),
        },
        JobsAsked::Schedules => {
            let schedules = jobs.schedules().await.map_err(refused)?;
            Ok(json!({ "schedules": schedules.iter().map(schedule_shown).collect::<Vec<_>>() }))
        }
        JobsAsked::Schedule(asked) => schedule(jobs, *asked).await,
        JobsAsked::Unschedule(name) => {
            jobs.unschedule(&name).await.map_err(refused)?;
            Ok(json!({ "name": name }))
        }
    }
}

/// What the journal says of it; nothing of what changed nothing.
pub fn deed(asked: &JobsAsked, answer: &Value) -> Option<(&'static str, String)> {
    let count = |queue: &str| format!("{} of {queue}", answer["count"]);
    Some(match asked {
        JobsAsked::Queues | JobsAsked::List(_) | JobsAsked::Show { .. } => return None,
        JobsAsked::Traced { .. } | JobsAsked::Refused | JobsAsked::Schedules => return None,
        JobsAsked::DropRefused(None) if answer["count"] == 0 => return None,
        JobsAsked::DropRefused(None) => ("refused jobs dropped", answer["count"].to_string()),
        JobsAsked::DropRefused(Some(id)) => ("refused job dropped", id.to_string()),
        JobsAsked::Add(_) if answer["isNew"] == false => return None,
        JobsAsked::Add(asked) => ("job added", format!("{} to {}", said(&answer["id"]), asked.queue)),
        JobsAsked::Retry(id) => ("job retried", id.clone()),
        JobsAsked::Remove(id) => ("job removed", id.clone()),
        JobsAsked::Promote(id) => ("job promoted", id.clone()),
        JobsAsked::Pause(queue) => ("queue paused", queue.clone()),
        JobsAsked::Resume(queue) => ("queue resumed", queue.clone()),
        JobsAsked::Drain { queue, .. } => ("queue drained", count(queue)),
        JobsAsked::Clean { queue, state, .. } => ("queue cleaned", format!("{} that were {state}", count(queue))),
        JobsAsked::Redrive { queue, .. } => ("queue redriven", count(queue)),
        JobsAsked::Schedule(asked) => ("schedule set", format!("{} for {}", asked.name, asked.queue)),
        JobsAsked::Unschedule(name) => ("schedule removed", name.clone()),
    })
}

/// The job of this id, whether it is there or not.
fn job(jobs: &Jobs, id: &str) -> Result<u64, Refused> {
    jobs.job_of(id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Refused {
    Refused::new(format!("there is no job {id}   see: mainstay jobs list QUEUE   (what ended is kept for a while)"))
}

fn changed(jobs: &Jobs, id: &str, done: Result<(), Error>) -> Result<Value, Refused> {
    done.map_err(refused)?;
    Ok(json!({ "id": jobs.job_of(id).map(|job| jobs.id_of(job)) }))
}

/// An id as people read it.
fn said(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// The queue of this name, if there is one.
///
/// # Errors
/// When jobs are closed.
pub async fn queue(jobs: &Jobs, name: &str) -> Result<Option<QueueGlance>, Error> {
    Ok(jobs.queues().await?.into_iter().find(|queue| &*queue.name == name))
}

/// Or which there are: a slip of the pen makes no queue.
async fn known(jobs: &Jobs, name: &str) -> Result<QueueGlance, Refused> {
    if let Some(queue) = queue(jobs, name).await.map_err(refused)? {
        return Ok(queue);
    }
    let queues = jobs.queues().await.map_err(refused)?;
    let mut names: Vec<&str> = queues.iter().map(|queue| &*queue.name).take(NAMES_MAX).collect();
    names.extend((queues.len() > NAMES_MAX).then_some("…"));
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
    Err(Refused::new(format!("there is no queue `{name}`, {there}   a new one: [jobs.NAME] in mainstay.toml")))
}

fn read(state: &str) -> Result<State, Refused> {
    State::parse(state).ok_or_else(|| Refused::new(no_state(state)))
}

/// For a person who typed one that there is not.
pub fn no_state(state: &str) -> String {
    format!("there is no state `{state}`, there are {}", State::ALL.map(State::as_str).join(", "))
}

async fn list(jobs: &Jobs, asked: JobsListed) -> Result<Value, Refused> {
    let queue = known(jobs, &asked.queue).await?;
    let states = match &asked.state {
        Some(state) => vec![read(state)?],
        None => LISTED.to_vec(),
    };
    let limit = asked.limit.clamp(1, LIST_MAX);
    let found = page(jobs, &queue, &states, asked.skip, limit).await.map_err(refused)?;
    let all: u64 = states.iter().map(|state| queue.counts.of(*state)).sum();
    let left = all.saturating_sub((asked.skip + found.len()) as u64);
    Ok(json!({ "queue": &*queue.name, "jobs": found, "left": left }))
}

/// Jobs of these states, one state after the other, without payloads, results and stack traces.
///
/// # Errors
/// When jobs are closed, or the disk fails.
pub async fn page(
    jobs: &Jobs,
    queue: &QueueGlance,
    states: &[State],
    mut skip: usize,
    limit: usize,
) -> Result<Vec<Value>, Error> {
    let mut found = Vec::new();
    for state in states {
        let there = usize::try_from(queue.counts.of(*state)).unwrap_or(usize::MAX);
        if skip >= there {
            skip -= there;
            continue;
        }
        while found.len() < limit {
            let most = PAGE.min(limit - found.len());
            let details = jobs.lines(&queue.name, *state, skip, most).await?;
            found.extend(details.iter().map(|detail| listed(jobs, detail, queue)));
            skip += most;
            if details.len() < most {
                break;
            }
        }
        skip = 0;
    }
    Ok(found)
}

/// What a request has added, and all that was added on its behalf: what carries its trace.
async fn traced(jobs: &Jobs, trace_id: &str, limit: usize) -> Result<Value, Refused> {
    let limit = limit.clamp(1, LIST_MAX - 1);
    let queues = jobs.queues().await.map_err(refused)?;
    let found = jobs.traced(trace_id, limit + 1).await.map_err(refused)?;
    let of = |detail: &Detail| Some(listed(jobs, detail, queues.get(detail.row.queue as usize)?));
    let all: Vec<Value> = found.iter().take(limit).filter_map(of).collect();
    Ok(json!({ "jobs": all, "more": found.len() > limit }))
}

/// All of a job, if it is there.
///
/// # Errors
/// When jobs are closed, or the disk fails.
pub async fn one(jobs: &Jobs, id: u64, with_payload: bool) -> Result<Option<Value>, Error> {
    let Some(detail) = jobs.get(id).await? else { return Ok(None) };
    // A job knows its queue by number, and queues are listed in the order of their numbers.
    let queue = jobs.queues().await?.into_iter().nth(detail.row.queue as usize);
    let children = jobs.children(id, 0, FLOW_JOBS_MAX).await?;
    Ok(queue.map(|queue| shown(jobs, &detail, &children, &queue, with_payload)))
}

async fn add(jobs: &Jobs, asked: JobAdded) -> Result<Value, Refused> {
    known(jobs, &asked.queue).await?;
    let unique = asked.key.map(|key| Unique { key: key.into(), for_ms: None });
    let children = match asked.children.is_empty() {
        true => Vec::new(),
        false => children(&asked.children).map_err(|fault| Refused::new(fault.detail))?,
    };
    let mut queues = BTreeSet::new();
    children.iter().for_each(|child| queues_of(child, &mut queues));
    for queue in queues {
        known(jobs, queue).await?;
    }
    let job = NewJob { delay_ms: asked.delay_ms, unique, children, ..new(asked.job) };
    let added = jobs.add(&asked.queue, vec![job]).await.map_err(refused)?;
    let one = added.first().ok_or_else(|| Refused::new("nothing was added"))?;
    Ok(json!({ "id": jobs.id_of(one.job), "queue": asked.queue, "isNew": one.is_new }))
}

/// Of a child and of all below it.
fn queues_of<'a>(child: &'a Child, queues: &mut BTreeSet<&'a str>) {
    queues.insert(&child.queue);
    child.job.children.iter().for_each(|child| queues_of(child, queues));
}

fn new(asked: JobAsked) -> NewJob {
    NewJob {
        body: Body { name: asked.name, payload: asked.payload.into_bytes(), trace: None },
        priority: asked.priority,
        group: asked.group.map(Into::into),
        own: Own { attempts: asked.attempts, ..Own::default() },
        ..NewJob::default()
    }
}

async fn redrive(jobs: &Jobs, queue: &str, state: Option<&str>) -> Result<Value, Refused> {
    known(jobs, queue).await?;
    let states = match state {
        Some(state) => vec![read(state)?],
        None => vec![State::Failed, State::Dead],
    };
    let mut count = 0;
    for state in states {
        count += jobs.redrive(queue, state).await.map_err(refused)?;
    }
    Ok(json!({ "queue": queue, "count": count }))
}

async fn schedule(jobs: &Jobs, asked: ScheduleSet) -> Result<Value, Refused> {
    known(jobs, &asked.queue).await?;
    let catch_up = CatchUp::parse(&asked.catch_up)
        .ok_or_else(|| Refused::new(format!("--catch-up is none, one or all, and not `{}`", asked.catch_up)))?;
    let rule = match asked.rule {
        RuleAsked::Cron { pattern, zone } => Rule::Cron { pattern, zone },
        RuleAsked::EveryMs(every_ms) => Rule::Every(every_ms),
    };
    let wall_ms = Clock::unix_micros() / 1000;
    let made = Schedule::new(asked.name.as_str().into(), asked.queue.into(), rule, new(asked.job), wall_ms);
    let made = made.map_err(|refusal| refused(Error::Refused(refusal)))?;
    jobs.schedule(Schedule { catch_up, ..made }).await.map_err(refused)?;
    // One that was there with the same rule stands where it stood.
    let all = jobs.schedules().await.map_err(refused)?;
    Ok(all.iter().find(|schedule| *schedule.name == *asked.name).map_or(Value::Null, schedule_shown))
}

/// What was wrong, and what to type.
fn refused(error: Error) -> Refused {
    let next = match &error {
        Error::Refused(refusal) => advice(refusal),
        Error::Store(_) => "see: mainstay logs --level error".to_owned(),
        Error::Behind(_) => "the disk is slow or busy; try again".to_owned(),
        Error::Closed => "the server ends or hands over; try again".to_owned(),
        Error::Named { why: Why::Gone, .. } => {
            "see: mainstay jobs list QUEUE   (what ended is kept for a while)".to_owned()
        }
        Error::Named { job, why: Why::WrongState(_) | Why::Stale(_) } => format!("see: mainstay jobs show {job}"),
        Error::Unsupported(_) | Error::BullMq(_) => "see: docs/jobs.md, Beside BullMQ".to_owned(),
        Error::Away(_) => "see: mainstay check, mainstay logs --level error".to_owned(),
        Error::Unfit { .. } => "see: mainstay check".to_owned(),
        Error::Unanswered => "see: mainstay jobs, and try again".to_owned(),
    };
    Refused::new(format!("{}   {next}", chain(&error)))
}

fn advice(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NoSuchJob(_) => "see: mainstay jobs list QUEUE   (what ended is kept for a while)".to_owned(),
        Refusal::NoSuchQueue(_) => "see: mainstay jobs".to_owned(),
        Refusal::NoSuchSchedule(_) => "see: mainstay jobs schedules".to_owned(),
        Refusal::Stale { job, .. } => format!("see: mainstay jobs show {job}"),
        Refusal::WrongState { job, state } => match state {
            State::Waiting => "it starts in its turn".to_owned(),
            State::Delayed => format!("to start it now: mainstay jobs promote {job}"),
            State::Active => "a worker has it; try again when that is done".to_owned(),
            State::WaitingChildren => format!("it starts once its children are done: mainstay jobs show {job}"),
            State::Completed => "to do it again: mainstay jobs add QUEUE --payload …".to_owned(),
            State::Failed | State::Dead => format!("to start it again: mainstay jobs retry {job}"),
        },
        Refusal::NotThat(_) => {
            "clean takes completed, failed and dead; redrive failed and dead; what waits: mainstay jobs drain QUEUE"
                .to_owned()
        }
        Refusal::Children { child, .. } => {
            format!("see: mainstay jobs show {child}   if it failed: mainstay jobs retry {child}")
        }
        Refusal::Flow(_) => "see: docs/jobs.md".to_owned(),
        Refusal::Duplicate { job } => format!("see: mainstay jobs show {job}"),
        Refusal::Full(_) => "make room: mainstay jobs drain QUEUE, or jobs clean QUEUE --state … --older …".to_owned(),
        Refusal::TooMany(_) => "see: mainstay jobs, and mainstay jobs schedules".to_owned(),
        Refusal::TooLong { .. } => "give less".to_owned(),
        Refusal::Pattern(_) => {
            "expected --cron \"0 3 * * *\" (minute, hour, day, month, weekday; seconds in front if there are six) \
             with --tz as Europe/Berlin, or --every 1s at least"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
