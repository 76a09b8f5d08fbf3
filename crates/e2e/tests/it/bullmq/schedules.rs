//! Schedules of the file and of an operator as BullMQ's job schedulers: its Node side lists them and works their ticks,
//! what the app made by itself is left alone, and of each tick there is one job.

use super::{Asking, MAIL, MAJORS, SCAN, app, kept, node, seen};
use mainstay_e2e::{Mainstay, wait_for, wait_until};
use mainstay_servers::redis::Redis;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TICKS: &str = "[[jobs.scan.schedule]]\nevery = \"1s\"\njob = \"tick\"\npayload = '{ \"to\": \"ann\" }'\n";
const NIGHT: &str =
    "[[jobs.mail.schedule]]\nname = \"night\"\ncron = \"0 3 * * *\"\nzone = \"Europe/Berlin\"\ncatch_up = \"one\"\n";

/// What BullMQ's own side says of a queue's schedulers, by their ids.
fn schedulers(redis: &Redis, major: &str, queue: &str) -> BTreeMap<String, Value> {
    let all = node("schedulers.js", &[major, &redis.port().to_string(), queue]);
    let all = all.as_array().cloned().unwrap_or_default();
    all.into_iter().map(|one| (one["key"].as_str().unwrap_or_default().to_owned(), one)).collect()
}

/// What we say of them, by their names.
fn schedules(mainstay: &Mainstay) -> BTreeMap<String, Value> {
    let all = mainstay.verb(&["jobs", "schedules", "--json"]).json();
    let all = all["schedules"].as_array().cloned().unwrap_or_default();
    all.into_iter().map(|one| (one["name"].as_str().unwrap_or_default().to_owned(), one)).collect()
}

/// How often the app was given each job of a tick.
fn starts(mainstay: &Mainstay) -> BTreeMap<String, usize> {
    let mut starts = BTreeMap::new();
    for line in seen(mainstay).iter().filter(|line| line["what"] == "start") {
        let id = line["id"].as_str().filter(|id| id.contains("repeat:"));
        id.into_iter().for_each(|id| *starts.entry(id.to_owned()).or_default() += 1);
    }
    starts
}

/// When a tick was due, of the id of its job.
fn due(id: &str) -> u64 {
    id.rsplit(':').next().and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("no time in {id}"))
}

/// Starts again what has been ended.
fn again(mainstay: Mainstay) -> Mainstay {
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    mainstay.answering("/given");
    Asking::of(&mainstay);
    mainstay
}

fn started_anew(mainstay: Mainstay) -> Mainstay {
    mainstay.signal(Signal::SIGTERM);
    again(mainstay)
}

/// Both majors see what the file says; a tick starts once, at whole multiples, also where the server is killed or the
/// whole is started anew; what the file no longer says is gone, and what the app made is there.
#[test]
fn schedules_of_the_file_tick_once_and_are_bullmqs_job_schedulers() {
    let redis = kept();
    let with = |ticks: &str, night: &str| {
        let url = redis.url();
        format!(
            "[app.main]\nrun = \"node index.js\"\n[store.redis]\nurl = \"{url}\"\n[jobs]\nstore = \"bullmq\"\n\
             {SCAN}{ticks}{MAIL}{night}"
        )
    };
    node("schedule.js", &["5", &redis.port().to_string(), "mail", "own", "3600000"]);
    let mainstay = app(&redis, &format!("{SCAN}{TICKS}{MAIL}{NIGHT}")).ready("/");
    Asking::of(&mainstay);
    wait_until("the schedules to be there", || schedules(&mainstay).len() == 3);
    for major in MAJORS {
        let scan = schedulers(&redis, major, "scan");
        let tick = &scan["mainstay/none/file/scan"];
        assert_eq!((tick["every"].as_u64(), tick["name"].as_str()), (Some(1000), Some("tick")), "{scan:?}");
        assert_eq!(tick["template"]["data"], json!({ "to": "ann" }), "{tick}");
        assert_eq!(tick["template"]["opts"]["attempts"], 3, "{tick}");
        let mail = schedulers(&redis, major, "mail");
        let night = &mail["mainstay/one/file/night"];
        assert_eq!((&night["pattern"], &night["tz"]), (&json!("0 3 * * *"), &json!("Europe/Berlin")), "{mail:?}");
        assert!(mail.contains_key("own"), "{mail:?}");
    }
    let shown = schedules(&mainstay);
    assert_eq!(shown["file:night"]["catchUp"], "one", "{shown:?}");
    assert_eq!((&shown["file:scan"]["everyMs"], &shown["app:own"]["everyMs"]), (&json!(1000), &json!(3_600_000)));
    let refused = mainstay.verb(&["jobs", "unschedule", "app:own"]).all();
    assert!(refused.contains("removing a job scheduler that the app made"), "{refused}");
    wait_until("three ticks", || starts(&mainstay).len() >= 3);
    let next = shown["file:night"]["nextMs"].clone();
    // The next begins when one has just been done.
    let ended = |count: usize| {
        seen(&mainstay).iter().filter(|line| line["what"] == "end").count() > count && starts(&mainstay).len() > count
    };
    let before = starts(&mainstay).len();
    wait_until("one more to be done", || ended(before));
    mainstay_e2e::processes::signal(mainstay.server(), Signal::SIGKILL);
    wait_until("ticks to go on", || starts(&mainstay).len() >= before + 4);
    let mainstay = started_anew(mainstay);
    let before = starts(&mainstay).len();
    wait_until("ticks to go on after a start", || starts(&mainstay).len() >= before + 3);
    assert_eq!(schedules(&mainstay)["file:night"]["nextMs"], next, "it stands where it stood");
    let all = starts(&mainstay);
    assert!(all.iter().all(|(id, count)| *count == 1 && due(id).is_multiple_of(1000)), "{all:?}");

    mainstay.write("mainstay.toml", &with("", ""));
    mainstay.verb(&["reload"]).ok();
    wait_until("the file's to be gone", || schedules(&mainstay).keys().eq(["app:own"]));
    assert!(schedulers(&redis, "6", "mail").keys().eq(["own"]));
    assert_eq!(redis.cli(&["ZCARD", "bull:scan:delayed"]).trim(), "0", "its next tick is gone too");
}

/// The ticks of a schedule of ours are jobs for BullMQ's own workers, which set the next.
#[test]
fn bullmqs_workers_are_given_the_ticks_of_ours() {
    let redis = kept();
    let ticks = TICKS.replace("jobs.scan", "jobs.mail");
    let mainstay = app(&redis, &format!("{MAIL}{ticks}")).ready("/");
    Asking::of(&mainstay);
    wait_until("the schedule to be there", || schedules(&mainstay).len() == 1);
    let mut ids = Vec::new();
    for major in MAJORS {
        let done = node("work.js", &[major, &redis.port().to_string(), "mail", "3"]);
        for job in done.as_array().into_iter().flatten() {
            assert_eq!((&job["name"], &job["data"]), (&json!("tick"), &json!({ "to": "ann" })), "{job}");
            assert_eq!(job["opts"]["attempts"], 3, "{job}");
            ids.push(job["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert!(ids.len() >= 6 && ids.iter().all(|id| id.starts_with("repeat:mainstay/none/file/mail:")), "{ids:?}");
    let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    assert_eq!(schedules(&mainstay)["file:mail"]["everyMs"], 1000, "it goes on");
}

/// A job that takes longer than the time between two ticks does not hold up the next.
#[test]
fn a_tick_comes_while_the_job_of_the_last_one_runs() {
    let redis = kept();
    let ticks = TICKS.replace("{ \"to\": \"ann\" }", "{ \"slow\": 2500 }");
    let mainstay = app(&redis, &format!("{SCAN}{ticks}")).ready("/");
    Asking::of(&mainstay);
    wait_until("two at once", || seen(&mainstay).iter().any(|line| line["running"].as_u64() >= Some(2)));
}

/// Set by the verb it goes on where it stood through a start; set anew it ticks anew; then it is removed.
#[test]
fn an_operator_sets_changes_and_removes_a_schedule() {
    let redis = kept();
    let mainstay = app(&redis, MAIL).ready("/");
    Asking::of(&mainstay);
    let set = |words: &[&str]| {
        mainstay.verb(&[&["jobs", "schedule", "a:b", "--queue", "mail", "--json"], words].concat()).json()
    };
    let hourly = set(&["--every", "1h", "--payload", "{\"deep\":true}", "--name", "sweep"]);
    assert_eq!((&hourly["everyMs"], &hourly["catchUp"]), (&json!(3_600_000), &json!("none")), "{hourly}");
    assert_eq!(hourly["nextMs"].as_u64().map(|ms| ms % 3_600_000), Some(0), "{hourly}");
    let again = set(&["--every", "1h", "--payload", "{\"deep\":true}", "--name", "sweep"]);
    assert_eq!(again["nextMs"], hourly["nextMs"]);
    let there = schedulers(&redis, "6", "mail");
    assert_eq!(there["mainstay/none/set/a%3Ab"]["template"]["data"], json!({ "deep": true }), "{there:?}");
    let daily = set(&["--cron", "30 4 * * *", "--tz", "Asia/Tokyo", "--catch-up", "one"]);
    assert_eq!((&daily["cron"], &daily["zone"]), (&json!("30 4 * * *"), &json!("Asia/Tokyo")), "{daily}");
    // 04:30 in Tokyo is 19:30 UTC.
    assert_eq!(daily["nextMs"].as_u64().map(|ms| ms % 86_400_000), Some((19 * 60 + 30) * 60_000), "{daily}");
    assert!(schedulers(&redis, "5", "mail").keys().eq(["mainstay/one/set/a%3Ab"]));
    let refused = mainstay.verb(&["jobs", "schedule", "x", "--queue", "mail", "--every", "1h", "--catch-up", "all"]);
    assert!(refused.all().contains("catch-up \"all\": not with queues of BullMQ"), "{}", refused.all());
    let mainstay = started_anew(mainstay);
    let shown = wait_for("it to be shown", || schedules(&mainstay).remove("a:b"));
    assert_eq!(shown["nextMs"], daily["nextMs"]);
    mainstay.verb(&["jobs", "unschedule", "a:b"]).ok();
    assert!(schedulers(&redis, "6", "mail").is_empty());
    assert!(mainstay.verb(&["jobs", "unschedule", "a:b"]).all().contains("there is no schedule a:b"));
}

/// Moves the tick that is waited for two hours back, as if nobody had been there.
const MISSED: &str = "local id, at = ARGV[1], redis.call('ZSCORE', 'bull:scan:repeat', ARGV[1]) \
    local was = string.format('%.0f', at - 7200000) \
    local new, old = 'repeat:' .. id .. ':' .. was, 'repeat:' .. id .. ':' .. at \
    redis.call('RENAME', 'bull:scan:' .. old, 'bull:scan:' .. new) \
    redis.call('ZREM', 'bull:scan:delayed', old) \
    redis.call('ZADD', 'bull:scan:delayed', string.format('%.0f', was * 4096), new) \
    redis.call('ZADD', 'bull:scan:repeat', was, id) return new";

/// Of ticks that nobody was there for none runs, or one, as asked.
#[test]
fn what_was_missed_is_left_out_or_run_once() {
    let redis = kept();
    let mut tables = SCAN.to_owned();
    for (name, rule, catch_up) in [
        ("none-cron", "cron = \"0 * * * *\"", "none"),
        ("none-every", "every = \"1h\"", "none"),
        ("one-cron", "cron = \"0 * * * *\"", "one"),
        ("one-every", "every = \"1h\"", "one"),
    ] {
        tables += &format!("[[jobs.scan.schedule]]\nname = \"{name}\"\n{rule}\ncatch_up = \"{catch_up}\"\n");
    }
    let mut mainstay = app(&redis, &tables).ready("/");
    Asking::of(&mainstay);
    wait_until("the schedules to be there", || schedules(&mainstay).len() == 4);
    mainstay.signal(Signal::SIGTERM);
    mainstay.end();
    let missed = |id: &str| format!("scan:{}", redis.cli(&["EVAL", MISSED, "0", id]).trim().trim_matches('"'));
    let left_out = ["mainstay/none/file/none-cron", "mainstay/none/file/none-every"].map(missed);
    let run = ["mainstay/one/file/one-cron", "mainstay/one/file/one-every"].map(missed);
    let mainstay = again(mainstay);
    wait_until("those that were missed to run", || run.iter().all(|id| starts(&mainstay).get(id) == Some(&1)));
    let all = starts(&mainstay);
    assert!(left_out.iter().all(|id| !all.contains_key(id)), "{all:?}");
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let is_next =
        |one: &Value| one["nextMs"].as_u64().is_some_and(|ms| u128::from(ms) > now_ms && ms.is_multiple_of(3_600_000));
    wait_until("each to have its next tick", || {
        let shown = schedules(&mainstay);
        shown.len() == 4 && shown.values().all(is_next)
    });
}
