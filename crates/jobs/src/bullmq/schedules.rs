//! Schedules as BullMQ's job schedulers, which its Node side lists and works as its own.
//!
//! Ours are known by their ids: `mainstay/CATCH-UP/file/NAME` and `mainstay/CATCH-UP/set/NAME`. Invariants: one that
//! the app made is shown and never changed; of a tick there is one job, as its time is part of the job's id.

use super::{Bull, Queue, options};
use crate::engine::SCHEDULES_MAX;
use crate::error::Error;
use crate::job::{Body, NAME_BYTES_MAX, Name, NewJob, Own};
use crate::op::{Refusal, fits};
use crate::schedule::{CatchUp, LATE_MS, Rule, Schedule};
use bullmq::job_scheduler::{JobSchedulerJson, RepeatOptions};
use bullmq::{Job, JobOptions, JobState};
use serde_json::Value;
use std::sync::Arc;

/// Before the id of each of ours, and what stands between its parts: no colon, by which BullMQ 5 knows what is old.
const OURS: &str = "mainstay/";
/// Before the name of one that stands in the file, here and in Redis.
const OF_THE_FILE: (&str, &str) = ("file:", "file/");
/// Before that of one that an operator set, in Redis.
const SET: &str = "set/";
/// Before the name of one that the app made, when it is shown.
const OF_THE_APP: &str = "app:";
/// What is made up for: the next tick waits in Redis until a worker is there.
const CATCH_UPS: [CatchUp; 2] = [CatchUp::None, CatchUp::One];

impl Bull {
    /// One that stands there as it is asked for goes on where it stood.
    pub(super) async fn schedule(&self, schedule: Schedule) -> Result<(), Error> {
        if schedule.catch_up == CatchUp::All {
            return Err(Error::Unsupported("catch-up \"all\""));
        }
        fits("the name of a schedule", schedule.name.len(), NAME_BYTES_MAX)?;
        let queue = self.queue(&schedule.queue)?;
        let wanted = Wanted::of(&schedule, &queue)?;
        let id = id_of(&schedule.name, schedule.catch_up);
        self.let_go_of(&schedule.name, Some((&queue, &id))).await?;
        let found = self.asked(queue.of.get_job_scheduler(&id)).await?;
        let now_ms = self.clock.wall_ms();
        let is_late = match &found {
            Some(found) if wanted.is(found) => return Ok(()),
            // Its next tick is due and nobody has it yet: it is not left out.
            Some(found) => wanted.ticks_as(found) && found.next.is_some_and(|next_ms| next_ms <= now_ms),
            None if self.asked(queue.of.get_job_schedulers_count()).await? >= SCHEDULES_MAX as u64 => {
                return Err(Error::Refused(Refusal::TooMany(SCHEDULES_MAX)));
            }
            None => false,
        };
        let mut repeat = repeat_of(&schedule.rule, now_ms);
        repeat.immediately = (is_late && repeat.pattern.is_some()).then_some(true);
        self.upsert(&queue, &id, repeat, wanted).await
    }

    /// Ours alone.
    pub(super) async fn unschedule(&self, name: &Name) -> Result<(), Error> {
        if self.let_go_of(name, None).await? {
            return Ok(());
        }
        let is_the_apps = match name.strip_prefix(OF_THE_APP) {
            Some(id) => self.is_scheduler(id).await?,
            None => false,
        };
        match is_the_apps {
            true => Err(Error::Unsupported("removing a job scheduler that the app made")),
            false => Err(Error::Refused(Refusal::NoSuchSchedule(name.clone()))),
        }
    }

    /// Ours, and the app's own.
    pub async fn schedules(&self) -> Result<Vec<Schedule>, Error> {
        let queues: Vec<Arc<Queue>> = self.all().clone();
        let mut all = Vec::new();
        for queue in queues {
            let found = self.schedulers(&queue).await?;
            all.extend(found.iter().map(|found| read(found, &queue.name)));
        }
        Ok(all)
    }

    /// What nobody was there for is left out where that was asked for. To be called before a worker of ours is there.
    pub(super) async fn leave_out(&self, queue: &Queue) -> Result<(), Error> {
        let now_ms = self.clock.wall_ms();
        for found in self.schedulers(queue).await? {
            let is_missed = found.next.is_some_and(|next_ms| next_ms + LATE_MS < now_ms);
            let is_left_out = known(&found.key).is_some_and(|(catch_up, _)| catch_up == CatchUp::None);
            let Some(tick) = found.next.filter(|_| is_missed && is_left_out) else { continue };
            // Where another worker is there it was not missed, and is merely late.
            let state = self.asked(queue.of.get_job_state(&tick_of(&found.key, tick))).await?;
            if state == JobState::Delayed && self.asked(queue.of.get_workers_count()).await? == 0 {
                let rule = rule_of(&found);
                self.asked(queue.of.remove_job_scheduler(&found.key)).await?;
                self.upsert(queue, &found.key, repeat_of(&rule, now_ms), Wanted::found(&found)).await?;
            }
        }
        Ok(())
    }

    /// The job of a tick has been taken: the next is set now, as Node's workers do, and not when it has ended.
    pub(super) async fn tick(&self, queue: &Queue, job: &Job) {
        let Some(id) = job.repeat_job_key().filter(|id| known(id).is_some()) else { return };
        if let Err(error) = self.next_tick(queue, id, job.id()).await {
            // The worker sets it when the job ends.
            tracing::debug!(queue = &*queue.name, schedule = id, %error, "a next tick is not set yet");
        }
    }

    async fn next_tick(&self, queue: &Queue, id: &str, job: &str) -> Result<(), Error> {
        let Some(found) = self.asked(queue.of.get_job_scheduler(id)).await? else { return Ok(()) };
        // Of a job that is tried again it has been set.
        if found.next.is_none_or(|tick| tick_of(id, tick) != job) {
            return Ok(());
        }
        let repeat = RepeatOptions {
            pattern: found.pattern.clone(),
            tz: found.tz.clone(),
            every: found.every,
            start_date: found.start_date,
            ..RepeatOptions::default()
        };
        self.upsert(queue, id, repeat, Wanted::found(&found)).await
    }

    async fn upsert(&self, queue: &Queue, id: &str, repeat: RepeatOptions, wanted: Wanted) -> Result<(), Error> {
        let Wanted { name, data, options, .. } = wanted;
        self.asked(queue.of.upsert_job_scheduler(id, repeat, Some(&name), Some(data), Some(options))).await.map(drop)
    }

    async fn schedulers(&self, queue: &Queue) -> Result<Vec<JobSchedulerJson>, Error> {
        let last = isize::try_from(SCHEDULES_MAX).unwrap_or(isize::MAX) - 1;
        self.asked(queue.of.get_job_schedulers(0, last, true)).await
    }

    /// Whether there was one of this name, beside the one that stays.
    async fn let_go_of(&self, name: &str, stays: Option<(&Arc<Queue>, &str)>) -> Result<bool, Error> {
        let queues: Vec<Arc<Queue>> = self.all().clone();
        let mut was_there = false;
        for queue in queues {
            for id in CATCH_UPS.map(|catch_up| id_of(name, catch_up)) {
                if stays.is_none_or(|(stays, kept)| stays.index != queue.index || kept != id) {
                    was_there |= self.asked(queue.of.remove_job_scheduler(&id)).await?;
                }
            }
        }
        Ok(was_there)
    }

    async fn is_scheduler(&self, id: &str) -> Result<bool, Error> {
        let queues: Vec<Arc<Queue>> = self.all().clone();
        for queue in queues {
            if self.asked(queue.of.get_job_scheduler(id)).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a scheduler adds, and when.
struct Wanted {
    rule: Rule,
    name: String,
    data: Value,
    options: JobOptions,
}

impl Wanted {
    fn of(schedule: &Schedule, queue: &Queue) -> Result<Wanted, Error> {
        let job = NewJob { delay_ms: 0, unique: None, idempotency: None, ..schedule.job.clone() };
        let options::New { name, data, options } = options::job(job, &queue.settings())?;
        Ok(Wanted { rule: schedule.rule.clone(), name, data, options })
    }

    /// As it stands in Redis.
    fn found(found: &JobSchedulerJson) -> Wanted {
        let options = found.opts.clone().and_then(|options| serde_json::from_value(options).ok()).unwrap_or_default();
        // BullMQ keeps no data that are an empty object.
        let data = found.data.clone().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        Wanted { rule: rule_of(found), name: found.name.clone(), data, options }
    }

    fn is(&self, found: &JobSchedulerJson) -> bool {
        let there = Wanted::found(found);
        let options = |one: &Wanted| serde_json::to_value(&one.options).unwrap_or_default();
        self.ticks_as(found) && self.name == there.name && self.data == there.data && options(self) == options(&there)
    }

    fn ticks_as(&self, found: &JobSchedulerJson) -> bool {
        self.rule == rule_of(found)
    }
}

/// A first tick of `every` is at the next whole multiple, as all that follow.
fn repeat_of(rule: &Rule, now_ms: u64) -> RepeatOptions {
    match rule {
        Rule::Cron { pattern, zone } => {
            RepeatOptions { pattern: Some(pattern.clone()), tz: Some(zone.clone()), ..RepeatOptions::default() }
        }
        Rule::Every(every_ms) => {
            let first_ms = now_ms.checked_div(*every_ms).and_then(|passed| (passed + 1).checked_mul(*every_ms));
            RepeatOptions { every: Some(*every_ms), start_date: first_ms, ..RepeatOptions::default() }
        }
    }
}

fn rule_of(found: &JobSchedulerJson) -> Rule {
    match found.every {
        Some(every_ms) => Rule::Every(every_ms),
        None => Rule::Cron {
            pattern: found.pattern.clone().unwrap_or_default(),
            zone: found.tz.clone().unwrap_or_else(|| "UTC".to_owned()),
        },
    }
}

/// One as it is shown.
fn read(found: &JobSchedulerJson, queue: &Name) -> Schedule {
    let (catch_up, name) =
        known(&found.key).unwrap_or_else(|| (CatchUp::One, format!("{OF_THE_APP}{}", found.key).as_str().into()));
    let Wanted { rule, name: job, data, options } = Wanted::found(found);
    let payload = serde_json::to_vec(&data).unwrap_or_default();
    let body = Body { name: if job == options::NAMELESS { String::new() } else { job }, payload, trace: None };
    let own = Own { attempts: options.attempts, ..Own::default() };
    let job = NewJob { body, own, priority: options.priority.unwrap_or(0), ..NewJob::default() };
    Schedule { name, queue: queue.clone(), rule, catch_up, job, next_ms: found.next.unwrap_or(u64::MAX) }
}

/// The id of the job of a tick.
fn tick_of(id: &str, tick_ms: u64) -> String {
    format!("repeat:{id}:{tick_ms}")
}

fn id_of(name: &str, catch_up: CatchUp) -> String {
    let (kind, name) = match name.strip_prefix(OF_THE_FILE.0) {
        Some(name) => (OF_THE_FILE.1, name),
        None => (SET, name),
    };
    let mut id = format!("{OURS}{}/{kind}", catch_up.as_str());
    for character in name.chars() {
        match character {
            '%' => id.push_str("%25"),
            ':' => id.push_str("%3A"),
            other => id.push(other),
        }
    }
    id
}

/// How one of ours makes up for what was missed, and what it is called here.
fn known(id: &str) -> Option<(CatchUp, Name)> {
    let (catch_up, rest) = id.strip_prefix(OURS)?.split_once('/')?;
    let catch_up = CatchUp::parse(catch_up).filter(|catch_up| CATCH_UPS.contains(catch_up))?;
    let plain = |name: &str| name.replace("%3A", ":").replace("%25", "%");
    let name = match rest.strip_prefix(OF_THE_FILE.1) {
        Some(name) => format!("{}{}", OF_THE_FILE.0, plain(name)),
        None => plain(rest.strip_prefix(SET)?),
    };
    Some((catch_up, name.as_str().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use serde_json::json;

    #[test]
    fn ours_are_known_by_their_ids_and_no_other_is() {
        for name in ["file:night", "night", "file:a:b", "a/b%3A", "%253A:", "repeat:x", "file:"] {
            for catch_up in CATCH_UPS {
                let id = id_of(name, catch_up);
                assert!(!id.contains(':'), "{id}");
                assert_eq!(known(&id), Some((catch_up, name.into())), "{id}");
            }
        }
        assert_eq!(id_of("file:night", CatchUp::None), "mainstay/none/file/night");
        for id in ["night", "mainstay/night", "mainstay/all/set/night", "mainstay/none/night", "mainstay:none:night"] {
            assert_eq!(known(id), None, "{id}");
        }
    }

    #[test]
    fn what_stands_in_redis_is_as_it_was_asked_for() {
        let rule = Rule::Cron { pattern: "0 3 * * *".into(), zone: "Europe/Berlin".into() };
        let new = options::job(NewJob::new("{}"), &Settings::default()).expect("a job");
        let wanted = Wanted { rule, name: new.name, data: new.data, options: new.options };
        let there = json!({
            "key": "mainstay/none/file/night", "name": "__default__", "pattern": "0 3 * * *", "tz": "Europe/Berlin",
            "next": 1_767_225_600_000_u64,
            "opts": { "removeOnFail": 500, "backoff": { "delay": 2000, "type": "exponential" }, "attempts": 3,
                      "removeOnComplete": 100 },
        });
        let found = |change: &str, to: Value| {
            let mut there = there.clone();
            there[change] = to;
            serde_json::from_value::<JobSchedulerJson>(there).expect("a scheduler")
        };
        assert!(wanted.is(&found("iterationCount", json!(7))));
        for (change, to) in [
            ("pattern", json!("0 4 * * *")),
            ("tz", json!("UTC")),
            ("name", json!("pdf")),
            ("data", json!({ "a": 1 })),
            ("opts", json!({ "attempts": 3 })),
            ("every", json!(1000)),
        ] {
            assert!(!wanted.is(&found(change, to)), "{change}");
        }
        let shown = read(&found("iterationCount", json!(7)), &"scan".into());
        assert_eq!((&*shown.name, shown.next_ms, &*shown.job.body.name), ("file:night", 1_767_225_600_000, ""));
        assert_eq!(&*read(&found("key", json!("tick")), &"scan".into()).name, "app:tick");
    }

    #[test]
    fn the_first_tick_is_at_a_whole_multiple() {
        assert_eq!(repeat_of(&Rule::Every(600), 1250).start_date, Some(1800));
        assert_eq!(repeat_of(&Rule::Every(600), 1200).start_date, Some(1800));
        assert_eq!(repeat_of(&Rule::Every(0), 1200).start_date, None);
    }
}
