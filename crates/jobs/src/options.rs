//! `[jobs.NAME]`: what a queue does with its jobs, who it hands them to, and which of them are added by themselves.
//!
//! Parse and check alone: must never open a store, read a clock or make a queue.

use crate::backoff::{BACKOFF_MAX_MS, Backoff, Growth};
use crate::engine::{QUEUE_JOBS_MAX, QUEUES_MAX, SCHEDULES_MAX};
use crate::job::{DELAY_MAX_MS, NAME_BYTES_MAX, Name, NewJob, PAYLOAD_BYTES_MAX};
use crate::op::Refusal;
use crate::schedule::{CatchUp, EVERY_MIN_MS, Rule, Schedule};
use crate::settings::{Depth, Durability, Keep, Settings};
use mainstay_config::units::{Rate, rate, show_duration};
use mainstay_config::{Item, Position, Reader, Table};
use mainstay_limits::window::Limit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Attempts of a job, as the engine takes them from a producer.
const ATTEMPTS_MAX: i64 = 10_000;
/// Jobs of one queue that run at once; more are no limit any longer.
const CONCURRENCY_MAX: i64 = 100_000;
/// Times a job may lose its worker.
const STALLS_MAX: i64 = 1000;
/// Bytes of a path that jobs are handed to.
const PATH_BYTES_MAX: usize = 1024;
/// The keys of `[jobs]` itself: no queue can be called like one.
const REDIS: &str = "redis";
const STORE: &str = "store";
const LOOPBACK: &str = "an address of this machine alone, as \"127.0.0.1:6390\"";
const RATE: &str = "a number and a window, as \"5/60s\" or \"150/min smooth\"";
const PUSH: &str = "POST and a path, as \"POST /jobs/scan\"";

/// What the file says of jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// In the order of the file.
    pub queues: Vec<Queue>,
    /// The table is there.
    pub is_on: bool,
    /// Where queues are shown as Redis would show them.
    pub redis: Option<Redis>,
    pub truth: Truth,
}

/// `[jobs] store`: where the truth of jobs is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// In the store that lasts.
    #[default]
    Own,
    /// In the Redis of `[store.redis]`, shared with BullMQ's own producers and workers.
    BullMq { at: Position },
}

/// `[jobs] redis`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Of the loopback.
    pub address: SocketAddr,
    pub at: String,
}

/// One queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    pub name: Name,
    pub settings: Settings,
    /// `None`: its workers come and ask.
    pub push: Option<Push>,
    /// Where the app hears what became of jobs.
    pub events: Option<Push>,
    /// An address that hears when it wants more workers. It may hold a secret.
    pub hook: Option<String>,
    pub schedules: Vec<Planned>,
    pub at: String,
}

/// Jobs are handed to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Where, by POST.
    pub path: String,
}

/// A schedule of the file; where it stands is the store's to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: Name,
    pub rule: Rule,
    pub catch_up: CatchUp,
    /// What is added at each tick.
    pub job: NewJob,
    pub at: String,
}

impl Options {
    pub fn read(reader: &Reader) -> Options {
        let table = reader.table("jobs").doc("Jobs: work that must not be lost. A table for each queue");
        let is_on = table.exists();
        let truth = read_truth(&table);
        let redis = read_redis(&table, &truth);
        let mut queues: Vec<Queue> = Vec::new();
        let mut schedules: Vec<Name> = Vec::new();
        for table in reader.named("jobs") {
            let table = table.doc("One queue, by its name");
            let queue = read_queue(&table, &mut schedules);
            // Where a table stands in place of the address, that was said.
            if ![REDIS, STORE].contains(&table.name()) && is_name(&table, queues.len()) {
                judge(&table, &queue, &truth);
                queues.push(queue);
            }
        }
        Options { queues, is_on, redis, truth }
    }
}

impl Planned {
    /// As it is set at a start: its first tick is the one after `wall_ms`.
    ///
    /// # Errors
    /// When its pattern or zone is not understood: a zone may be unknown to another machine.
    pub fn schedule(&self, queue: &Name, wall_ms: u64) -> Result<Schedule, Refusal> {
        let (name, rule) = (self.name.clone(), self.rule.clone());
        let schedule = Schedule::new(name, queue.clone(), rule, self.job.clone(), wall_ms)?;
        Ok(Schedule { catch_up: self.catch_up, ..schedule })
    }
}

fn read_redis(table: &Table, truth: &Truth) -> Option<Redis> {
    let doc = "Queues shown to whoever reads BullMQ's keys, as with `redis-cli -p 6390 LLEN bull:scan:wait`: nothing \
               can be changed there, and there is no password, so this machine alone is served. Unset: nobody listens";
    let address = table.key(REDIS).doc(doc).example("\"127.0.0.1:6390\"").opt_parsed(LOOPBACK, loopback)?;
    if *truth != Truth::Own {
        let what = "`redis` shows queues to whoever reads a Redis, and there is one";
        table.fault(&address.at, what, "leave it out: ask the Redis itself", None);
    }
    Some(Redis { address: address.value, at: address.at.to_string() })
}

fn read_truth(table: &Table) -> Truth {
    let doc = "Where queues are kept: with all else that must last (\"own\"), or in the Redis of [store.redis], shared \
               with BullMQ's own producers and workers (\"bullmq\")";
    let store = table.key(STORE).doc(doc).choice(&["own", "bullmq"], "own");
    if store.value == "bullmq" { Truth::BullMq { at: store.at } } else { Truth::Own }
}

/// What a queue asks for and BullMQ has not.
fn judge(table: &Table, queue: &Queue, truth: &Truth) {
    if *truth == Truth::Own {
        return;
    }
    for (what, fix) in crate::bullmq::unsupported(queue) {
        let what = format!("{what}: not with [jobs] store = \"bullmq\"");
        table.fault(&table.position(), what, fix, None);
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let local = local.map(|port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    match local.or_else(|| text.parse().ok()) {
        None => Err("not an address and a port".to_owned()),
        Some(address) if address.port() == 0 => Err("a port of its own is needed".to_owned()),
        Some(address) if !address.ip().to_canonical().is_loopback() => {
            Err("others than this machine could read every job".to_owned())
        }
        Some(address) => Ok(address),
    }
}

/// A name goes into addresses and headers, and there is room for so many.
fn is_name(table: &Table, before: usize) -> bool {
    let name = table.name();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let what = format!("{} is no name of a queue", table.label());
        table.fault(&table.position(), what, format!("1 to {NAME_BYTES_MAX} bytes without control characters"), None);
        return false;
    }
    if before == QUEUES_MAX {
        table.fault(&table.position(), "one queue too many", format!("at most {QUEUES_MAX} queues"), None);
    }
    before < QUEUES_MAX
}

/// `planned`: names of the schedules so far.
fn read_queue(table: &Table, planned: &mut Vec<Name>) -> Queue {
    let usual = Settings::default();
    let concurrency = table
        .key("concurrency")
        .doc("Jobs that run at once, over all workers; unset: as many as workers take")
        .example("5")
        .opt_integer(1..=CONCURRENCY_MAX);
    let attempts = table
        .key("attempts")
        .doc("Attempts of a job, the first included")
        .integer(i64::from(usual.attempts), 1..=ATTEMPTS_MAX);
    let stalls = table
        .key("stalls")
        .doc("So often a job may lose its worker; once more and it is dead")
        .integer(i64::from(usual.stalls), 0..=STALLS_MAX);
    let dead_letter = table
        .key("dead_letter")
        .doc("Jobs whose attempts are used up are set aside as dead, until an operator decides")
        .boolean(usual.dead_letter);
    let [completed, failed, dead] = read_keep(table, &usual);
    let settings = Settings {
        concurrency: concurrency.map(|item| small(item.value)),
        rate: read_rate(table),
        attempts: small(attempts.value),
        backoff: read_backoff(table, usual.backoff),
        timeout_ms: read_timeout(table, usual.timeout_ms),
        stalls: small(stalls.value),
        dead_letter: dead_letter.value,
        completed,
        failed,
        dead,
        durability: read_durability(table),
        depth: read_depth(table, usual.depth),
    };
    let name: Name = table.name().into();
    let schedules = table.array("schedule").into_iter().filter_map(|table| read_schedule(&table, &name, planned));
    let schedules = schedules.collect();
    let events =
        "A path of your app that hears which jobs completed, failed, stalled or are dead; refused from outside";
    let doc = "A path of your app that is given each job; refused from outside. Unset: workers ask for jobs";
    let push = read_push(table, "push", doc, "\"POST /jobs/scan\"");
    let events = read_push(table, "events", events, "\"POST /jobs/events\"");
    if push.is_some() && push == events {
        table.fault(&table.position(), "`push` and `events` are one path", "a path for each", None);
    }
    Queue { push, events, hook: read_hook(table), settings, schedules, at: table.position().to_string(), name }
}

fn read_rate(table: &Table) -> Option<Limit> {
    let key = table
        .key("rate")
        .doc("At most so many starts in any window, over all workers and through restarts")
        .example("\"5/60s\"");
    let of_the_queue = |text: &str| match rate(text, None)? {
        Rate { per: Some(_), .. } => Err("a queue's rate has no `per`".to_owned()),
        rate => Ok(rate),
    };
    key.opt_parsed(RATE, of_the_queue).map(|rate| Limit::new(&rate.value))
}

fn read_backoff(queue: &Table, usual: Backoff) -> Backoff {
    let table = queue.table("backoff").doc("The wait before the next attempt");
    let kind = table
        .key("kind")
        .doc("How the wait grows with the failures: twice the one before, or the same each time")
        .choice(&["exponential", "fixed"], "exponential");
    let delay = table.key("delay").doc("The wait after the first failure").duration(&shown(usual.delay_ms));
    let jitter = table
        .key("jitter")
        .doc("By how many per cent of itself a wait may be shorter, so that jobs do not come back together")
        .integer(i64::from(usual.jitter_percent), 0..=100);
    Backoff {
        growth: if kind.value == "fixed" { Growth::Fixed } else { Growth::Exponential },
        delay_ms: bounded(&table, &delay, "delay", 0, BACKOFF_MAX_MS),
        jitter_percent: u8::try_from(jitter.value).unwrap_or(100),
    }
}

fn read_timeout(table: &Table, usual_ms: u64) -> u64 {
    let doc = "Time of an attempt, enforced by Mainstay; \"0s\": none";
    let timeout = table.key("timeout").doc(doc).duration(&shown(usual_ms));
    bounded(table, &timeout, "timeout", 0, DELAY_MAX_MS)
}

/// Of what is completed, failed and dead.
fn read_keep(queue: &Table, usual: &Settings) -> [Keep; 3] {
    let table = queue.table("keep").doc("How much of what has ended is kept");
    let one = |name: &str, usual: Keep| {
        let count = table
            .key(name)
            .doc(&format!("The newest so many that are {name}"))
            .integer(i64::from(usual.count), 0..=i64::try_from(QUEUE_JOBS_MAX).unwrap_or(i64::MAX));
        let name_for = format!("{name}_for");
        let age = table
            .key(&name_for)
            .doc(&format!("And none that is {name} for longer"))
            .example("\"7d\"")
            .opt_duration()
            .map(|age| bounded(&table, &age, &name_for, 1000, DELAY_MAX_MS));
        Keep { count: small(count.value), age_ms: age }
    };
    [one("completed", usual.completed), one("failed", usual.failed), one("dead", usual.dead)]
}

fn read_durability(table: &Table) -> Durability {
    let durability = table
        .key("durability")
        .doc("What an acknowledgement means: on the disk, or with the kernel (a power cut may lose some seconds)")
        .choice(&["fsync", "os"], "fsync");
    if durability.value == "os" { Durability::Os } else { Durability::Fsync }
}

fn read_depth(queue: &Table, usual: Depth) -> Depth {
    let table = queue.table("depth").doc("When a queue asks for more workers");
    let most = i64::try_from(QUEUE_JOBS_MAX).unwrap_or(i64::MAX);
    let one = |name: &str, doc: &str, usual: u64| {
        let number = table.key(name).doc(doc).integer(i64::try_from(usual).unwrap_or(most), 0..=most);
        u64::try_from(number.value).unwrap_or(usual)
    };
    Depth {
        waiting_over: one("waiting_over", "More than so many wait …", usual.waiting_over),
        active_under: one("active_under", "… while fewer than so many run", usual.active_under),
    }
}

/// Where a provider hears of the queue's depth.
fn read_hook(queue: &Table) -> Option<String> {
    const EXPECTED: &str = "an address, as \"https://api.example.com/scale?key=${KEY}\"";
    let is_port = |host: &str| match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    let is_address = |text: &str| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        match text.parse::<http::Uri>() {
            Ok(_) if host.contains('@') => Err("no password before the host".to_owned()),
            Ok(_) if !is_port(host) => Err("a port that is none".to_owned()),
            Ok(_) if !host.is_empty() && !text.contains('#') => Ok(text.to_owned()),
            _ => Err("no address of https:// or http://".to_owned()),
        }
    };
    let table = queue.table("depth");
    let key = table.key("hook").doc("Is told by POST when that begins and ends").example("\"${SCALE_URL}\"");
    key.secret().opt_parsed(EXPECTED, is_address).map(|hook| hook.value)
}

fn read_push(table: &Table, key: &str, doc: &str, example: &str) -> Option<Push> {
    let is_post = |text: &str| {
        let is_clear = |byte: u8| byte.is_ascii_graphic() && !b"?#*:\\".contains(&byte);
        match text.split_once(' ') {
            Some(("POST", path)) if path.len() > PATH_BYTES_MAX => Err("is too long".to_owned()),
            Some(("POST", path)) if path.starts_with('/') && path.bytes().all(is_clear) => Ok(path.to_owned()),
            Some((method, path)) if method != "POST" && path.starts_with('/') => {
                Err("it is handed over by POST".to_owned())
            }
            _ => Err("not POST and a path".to_owned()),
        }
    };
    let key = table.key(key).doc(doc).example(example);
    key.opt_parsed(PUSH, is_post).map(|path| Push { path: path.value })
}

/// `[[jobs.NAME.schedule]]`
fn read_schedule(table: &Table, queue: &Name, taken: &mut Vec<Name>) -> Option<Planned> {
    let name = table.key("name").doc("What it is called, over all queues; unset: as its queue").opt_text();
    let cron = table.key("cron").doc("Five fields, or six with seconds in front").example("\"0 3 * * *\"").opt_text();
    let zone = table.key("zone").doc("Time zone of `cron`, as IANA names it").text("UTC");
    let every =
        table.key("every").doc("In place of `cron`: at whole multiples of it").example("\"10m\"").opt_duration();
    let catch_up = table
        .key("catch_up")
        .doc("What becomes of ticks that Mainstay was not there for")
        .choice(&["none", "one", "all"], "none");
    let job = table.key("job").doc("Name of the jobs it adds").opt_text();
    let payload = table.key("payload").doc("Payload of the jobs it adds, as JSON").text("{}");
    let (rule, at) = match (cron, every) {
        (Some(cron), None) => (Rule::Cron { pattern: cron.value, zone: zone.value }, cron.at),
        (None, Some(every)) => (Rule::Every(bounded(table, &every, "every", EVERY_MIN_MS, DELAY_MAX_MS)), every.at),
        // What describes every key has neither.
        (None, None) if table.position().is_default() => return None,
        (cron, _) => {
            let what = if cron.is_some() { "both `cron` and `every`" } else { "neither `cron` nor `every`" };
            table.fault(&table.position(), format!("a schedule with {what}"), "cron = \"0 3 * * *\"", None);
            return None;
        }
    };
    check_payload(table, &payload);
    let mut new = NewJob::new(payload.value);
    new.body.name = job.map(|job| job.value).unwrap_or_default();
    let name = name.map_or_else(|| queue.clone(), |name| name.value.into());
    let catch_up = CatchUp::parse(&catch_up.value).unwrap_or(CatchUp::None);
    let planned = Planned { name, rule, catch_up, job: new, at: table.position().to_string() };
    // Any moment will do: that it is understood does not depend on it.
    if let Err(refused) = planned.schedule(queue, 0) {
        table.fault(&at, refused.to_string(), "a pattern as \"0 3 * * *\" and a zone as \"Europe/Berlin\"", None);
        return None;
    }
    is_free(table, &planned, taken).then_some(planned)
}

fn check_payload(table: &Table, payload: &Item<String>) {
    if payload.value.len() > PAYLOAD_BYTES_MAX {
        table.fault(&payload.at, "the payload is too large", format!("at most {PAYLOAD_BYTES_MAX} bytes"), None);
    } else if let Err(error) = serde_json::from_str::<serde_json::Value>(&payload.value) {
        let what = format!("the payload is not JSON: line {}, column {}", error.line(), error.column());
        table.fault(&payload.at, what, "JSON, as payload = '{ \"all\": true }'", None);
    }
}

/// Names of schedules are one list over all queues; `taken` are those read before.
fn is_free(table: &Table, planned: &Planned, taken: &mut Vec<Name>) -> bool {
    let fits = |text: &str| text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    let (what, expected) = if planned.name.is_empty() || !fits(&planned.name) || !fits(&planned.job.body.name) {
        let expected = format!("1 to {NAME_BYTES_MAX} bytes without control characters");
        ("`name` or `job` of a schedule cannot be one".to_owned(), expected)
    } else if taken.contains(&planned.name) {
        (format!("two schedules are called \"{}\"", planned.name), "a `name` of its own".to_owned())
    } else if taken.len() == SCHEDULES_MAX {
        ("one schedule too many".to_owned(), format!("at most {SCHEDULES_MAX} schedules"))
    } else {
        taken.push(planned.name.clone());
        return true;
    };
    table.fault(&table.position(), what, expected, None);
    false
}

/// In milliseconds; a fault where it is out of range.
fn bounded(table: &Table, item: &Item<Duration>, key: &str, least_ms: u64, most_ms: u64) -> u64 {
    let found_ms = u64::try_from(item.value.as_millis()).unwrap_or(u64::MAX);
    if !(least_ms..=most_ms).contains(&found_ms) {
        let expected = format!("{} to {}", shown(least_ms), shown(most_ms));
        table.fault(&item.at, format!("`{key}` of {}", show_duration(item.value)), expected, None);
    }
    found_ms.clamp(least_ms, most_ms)
}

fn shown(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}

/// A number whose range was checked.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::{Inputs, Report, Text};

    fn read(text: &str) -> (Options, Report) {
        let file = Some(Text { path: "mainstay.toml".into(), text: text.to_owned() });
        let reader = Reader::new(&Inputs { file, ..Inputs::default() });
        (Options::read(&reader), reader.finish())
    }

    fn good(text: &str) -> Options {
        let (options, report) = read(text);
        assert!(report.faults.is_empty(), "{}", report.render(false));
        options
    }

    #[test]
    fn a_queue_that_says_nothing_is_as_the_guides_have_it() {
        assert_eq!(good(""), Options::default());
        let options = good("[jobs]\n");
        assert!(options.is_on && options.queues.is_empty());
        let options = good("[jobs.scan]\n");
        assert!(options.is_on);
        let scan = &options.queues[0];
        assert_eq!((&*scan.name, &scan.settings, &scan.push), ("scan", &Settings::default(), &None));
        assert_eq!(scan.at, "mainstay.toml:1");
    }

    #[test]
    fn queues_are_shown_by_resp_where_the_file_says_so() {
        assert_eq!(good("[jobs.scan]\n").redis, None);
        let options = good("[jobs]\nredis = \"127.0.0.1:6390\"\n[jobs.scan]\n[jobs.redis2]\n");
        let address = "127.0.0.1:6390".parse().expect("an address");
        assert_eq!(options.redis, Some(Redis { address, at: "mainstay.toml:2".to_owned() }));
        assert_eq!(options.queues.iter().map(|queue| &*queue.name).collect::<Vec<_>>(), ["scan", "redis2"]);
        for (text, expected) in
            [("localhost:1", "127.0.0.1:1"), ("[::1]:6390", "[::1]:6390"), ("127.0.0.9:7", "127.0.0.9:7")]
        {
            let redis = good(&format!("[jobs]\nredis = \"{text}\"\n")).redis.expect(text);
            assert_eq!(redis.address.to_string(), expected);
        }
    }

    #[test]
    fn queues_are_bullmqs_where_the_file_says_so_and_what_it_has_not_is_a_fault() {
        assert_eq!(good("[jobs.scan]\n").truth, Truth::Own);
        let options = good("[jobs]\nstore = \"bullmq\"\n[jobs.scan]\n");
        assert!(matches!(options.truth, Truth::BullMq { .. }), "{options:?}");
        let both = "[jobs]\nstore = \"bullmq\"\nredis = \"127.0.0.1:6390\"\n[jobs.scan]\ndead_letter = true\n";
        let (_, report) = read(both);
        let said = report.render(false);
        assert_eq!(report.faults.len(), 2, "{said}");
        assert!(said.contains("dead_letter: not with") && said.contains("ask the Redis itself"), "{said}");
    }

    #[test]
    fn a_queue_called_as_the_key_is_told_from_it_and_refused_once() {
        let (options, report) = read("[jobs.redis]\nattempts = 2\n[jobs.scan]\n");
        let said = report.render(false);
        assert_eq!((options.queues.len(), options.redis, report.faults.len()), (1, None, 1), "{said}");
        assert!(said.contains("mainstay.toml:1") && said.contains("\"redis\" in [jobs]"), "{said}");
    }

    #[test]
    fn the_designs_queue_and_every_other_key() {
        let options = good(
            "[jobs.scan]\nconcurrency = 5\nattempts = 3\nbackoff = { kind = \"exponential\", delay = \"2s\" }\n\
             rate = \"5/60s\"\ntimeout = \"30s\"\npush = \"POST /jobs/scan\"\n\
             [jobs.\"email queue\"]\nbackoff = { kind = \"fixed\", delay = \"1m\", jitter = 25 }\n\
             rate = \"150/min smooth\"\ntimeout = \"0s\"\nstalls = 0\ndead_letter = true\ndurability = \"os\"\n\
             keep = { completed = 7, failed = 8, dead = 9, completed_for = \"7d\", dead_for = \"30d\" }\n\
             depth = { waiting_over = 100, active_under = 2 }\n",
        );
        let [scan, email] = &options.queues[..] else { panic!("{options:?}") };
        let rate = Some(Limit { count: 5, window_ms: 60_000, smooth: false });
        assert_eq!(scan.settings, Settings { concurrency: Some(5), rate, ..Settings::default() });
        assert_eq!(scan.push, Some(Push { path: "/jobs/scan".to_owned() }));
        let expected = Settings {
            concurrency: None,
            rate: Some(Limit { count: 150, window_ms: 60_000, smooth: true }),
            attempts: 3,
            backoff: Backoff { growth: Growth::Fixed, delay_ms: 60_000, jitter_percent: 25 },
            timeout_ms: 0,
            stalls: 0,
            dead_letter: true,
            completed: Keep { count: 7, age_ms: Some(7 * 86_400_000) },
            failed: Keep { count: 8, age_ms: None },
            dead: Keep { count: 9, age_ms: Some(30 * 86_400_000) },
            durability: Durability::Os,
            depth: Depth { waiting_over: 100, active_under: 2 },
        };
        assert_eq!((&*email.name, &email.settings, &*email.at), ("email queue", &expected, "mainstay.toml:8"));
    }

    #[test]
    fn schedules_are_read_and_checked() {
        let options = good(
            "[jobs.sweep]\n[[jobs.sweep.schedule]]\ncron = \"0 3 * * *\"\nzone = \"Europe/Berlin\"\n\
             catch_up = \"one\"\njob = \"all\"\npayload = '{ \"deep\": true }'\n\
             [[jobs.sweep.schedule]]\nname = \"often\"\nevery = \"10m\"\n",
        );
        let [night, often] = &options.queues[0].schedules[..] else { panic!("{options:?}") };
        assert_eq!((&*night.name, night.catch_up, &*night.job.body.name), ("sweep", CatchUp::One, "all"));
        assert_eq!(night.job.body.payload, br#"{ "deep": true }"#);
        assert_eq!((&*often.name, &often.rule, &*often.at), ("often", &Rule::Every(600_000), "mainstay.toml:8"));
        let set = night.schedule(&"sweep".into(), 1_767_225_600_000).expect("understood");
        // 1 January, 3 o'clock in Berlin.
        assert_eq!((set.next_ms, set.catch_up), (1_767_225_600_000 + 2 * 3_600_000, CatchUp::One));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let long = "x".repeat(300);
        let schedule = |keys: &str| format!("[jobs.a]\n[[jobs.a.schedule]]\n{keys}\n");
        for (text, words) in [
            ("[jobs]\nscan = 5\n".to_owned(), "a table"),
            ("[jobs]\nredis = \"0.0.0.0:6390\"\n".to_owned(), "others than this machine"),
            ("[jobs]\nredis = \"10.0.0.7:6390\"\n".to_owned(), "an address of this machine alone"),
            ("[jobs]\nredis = \"[::]:6390\"\n".to_owned(), "others than this machine"),
            ("[jobs]\nredis = \"127.0.0.1\"\n".to_owned(), "not an address and a port"),
            ("[jobs]\nredis = \"127.0.0.1:0\"\n".to_owned(), "a port of its own"),
            ("[jobs]\nredis = \"redis://127.0.0.1:6390\"\n".to_owned(), "not an address and a port"),
            ("[jobs]\nredis = 6390\n".to_owned(), "not an address and a port"),
            ("[jobs]\nredis = [\"127.0.0.1:6390\"]\n".to_owned(), "an address of this machine alone"),
            ("[jobs]\nredi = \"127.0.0.1:6390\"\n".to_owned(), "\"redi\" in [jobs] is not a table"),
            ("[jobs.a]\nconcurrency = 0\n".to_owned(), "a whole number from 1"),
            ("[jobs.a]\nattempts = 0\n".to_owned(), "a whole number from 1"),
            ("[jobs.a]\nattempt = 3\n".to_owned(), "attempts"),
            ("[jobs.a]\nbackoff = \"2s\"\n".to_owned(), "not a table"),
            ("[jobs.a]\nbackoff = { kind = \"linear\" }\n".to_owned(), "\"exponential\" or \"fixed\""),
            ("[jobs.a]\nbackoff = { delay = \"2d\" }\n".to_owned(), "0s to 1d"),
            ("[jobs.a]\nbackoff = { jitter = 101 }\n".to_owned(), "from 0 to 100"),
            ("[jobs.a]\nrate = \"5/60s per ip\"\n".to_owned(), "has no `per`"),
            ("[jobs.a]\nrate = \"5\"\n".to_owned(), "no window"),
            ("[jobs.a]\ntimeout = 30\n".to_owned(), "a duration"),
            ("[jobs.a]\ntimeout = \"20000d\"\n".to_owned(), "`timeout` of"),
            ("[jobs.a]\nkeep = { completed = -1 }\n".to_owned(), "a whole number from 0"),
            ("[jobs.a]\nkeep = { failed_for = \"1ms\" }\n".to_owned(), "`failed_for` of 1ms"),
            ("[jobs.a]\nkeep = { all = 7 }\n".to_owned(), "all"),
            ("[jobs.a]\nstalls = -1\n".to_owned(), "a whole number from 0"),
            ("[jobs.a]\ndurability = \"ram\"\n".to_owned(), "\"fsync\" or \"os\""),
            ("[jobs.a]\ndepth = { waiting_over = \"x\" }\n".to_owned(), "a whole number from 0"),
            ("[jobs.a]\npush = \"POST /a\"\nevents = \"POST /a\"\n".to_owned(), "one path"),
            ("[jobs.a]\ndepth = { hook = \"ftp://x/\" }\n".to_owned(), "no address of"),
            ("[jobs.a]\ndepth = { hook = \"https://bob:word@x/\" }\n".to_owned(), "no password before"),
            ("[jobs.a]\ndepth = { hook = \"https://x:99999/\" }\n".to_owned(), "a port that is none"),
            ("[jobs.a]\npush = \"GET /jobs/a\"\n".to_owned(), "handed over by POST"),
            ("[jobs.a]\npush = \"/jobs/a\"\n".to_owned(), "POST and a path"),
            ("[jobs.a]\npush = \"POST http://x/jobs\"\n".to_owned(), "POST and a path"),
            ("[jobs.a]\npush = \"POST /jobs/:id\"\n".to_owned(), "POST and a path"),
            ("[jobs.a]\npush = \"POST /jobs?x=1\"\n".to_owned(), "POST and a path"),
            (format!("[jobs.{long}]\n"), "no name of a queue"),
            ("[jobs.\"\"]\n".to_owned(), "no name of a queue"),
            ("[jobs.\"a\\nb\"]\n".to_owned(), "no name of a queue"),
            (schedule("zone = \"UTC\""), "neither `cron` nor `every`"),
            (schedule("cron = \"0 3 * * *\"\nevery = \"1m\""), "both `cron` and `every`"),
            (schedule("cron = \"0 3 * *\""), "not understood"),
            (schedule("cron = \"0 3 * * *\"\nzone = \"Mars/Olympus\""), "not understood"),
            (schedule("every = \"1ms\""), "`every` of 1ms"),
            (schedule("every = \"1m\"\npayload = \"{\""), "not JSON"),
            (schedule("every = \"1m\"\n[[jobs.a.schedule]]\nevery = \"2m\""), "two schedules are called \"a\""),
        ] {
            let (_, report) = read(&text);
            let said = report.render(false);
            assert!(said.contains(words) && said.contains("mainstay.toml:"), "{text}: {said}");
        }
    }

    #[test]
    fn every_key_is_in_the_reference_and_faults_of_none() {
        let reader = Reader::describe();
        Options::read(&reader);
        let report = reader.finish();
        assert!(report.faults.is_empty(), "{}", report.render(false));
        let reference = report.reference();
        for key in ["redis", "rate", "push", "timeout", "waiting_over", "completed_for", "jitter", "cron", "catch_up"] {
            assert!(reference.contains(key), "{key}: {reference}");
        }
    }
}
