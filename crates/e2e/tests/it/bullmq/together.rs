//! Several on one Redis: two Mainstays with the same queues, and ids that a producer of BullMQ's chose in a browser.

use super::{Asking, MAJORS, SCAN, app, kept, node, seen};
use mainstay_e2e::{Mainstay, fixtures, processes, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What the apps of all have seen of this kind, by when.
fn lines(all: &[&Mainstay], what: &str) -> Vec<(u64, Value)> {
    let mut found: Vec<(u64, Value)> = all
        .iter()
        .flat_map(|one| seen(one))
        .filter(|line| line["what"] == what)
        .map(|line| (at(&line), line))
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found
}

fn at(line: &Value) -> u64 {
    line["at"].as_u64().unwrap_or_default()
}

fn counted(lines: &[(u64, Value)]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    lines.iter().for_each(|(_, line)| *counted.entry(line["id"].to_string()).or_default() += 1);
    counted
}

/// The most that ran at once, over all.
fn most(all: &[&Mainstay]) -> i64 {
    let of = |what: &'static str, by: i64| lines(all, what).into_iter().map(move |(at, _)| (at, by));
    let mut steps: Vec<(u64, i64)> = of("start", 1).chain(of("end", -1)).collect();
    // In one millisecond an end came first.
    steps.sort_by_key(|(at, by)| (*at, *by));
    let mut now = 0;
    steps
        .into_iter()
        .map(|(_, by)| {
            now += by;
            now
        })
        .max()
        .unwrap_or(0)
}

/// Each job starts once, whoever added it; concurrency and rate hold over both.
#[test]
fn j1_j3_two_share_the_queues_and_concurrency_and_rate_hold_over_both() {
    let redis = kept();
    let tables =
        format!("{SCAN}[jobs.rated]\npush = \"POST /jobs/rated\"\nrate = \"5/2s\"\n").replace("= 5\n", "= 3\n");
    let (one, other) = (app(&redis, &tables).ready("/"), app(&redis, &tables).ready("/"));
    let both = [&one, &other];
    let asking = both.map(Asking::of);
    let jobs: Vec<Value> = (0..30).map(|n| json!({ "data": { "n": n, "slow": 100 } })).collect();
    for asking in &asking {
        assert_eq!(asking.post("/v1/queues/scan/jobs", &json!(jobs)).status, 201);
    }
    wait_until("all to be done", || lines(&both, "end").len() >= 60);
    wait_until("both to know it", || asking.iter().all(|one| one.counts("scan")["completed"] == 60));
    let starts = lines(&both, "start");
    let counted = counted(&starts);
    assert!(counted.len() == 60 && counted.values().all(|count| *count == 1), "{counted:?}");
    assert!((2..=3).contains(&most(&both)), "{} ran at once", most(&both));

    // One says that it is busy: both rest.
    let busy = asking[0].add("scan", &json!({ "data": { "refuse": 429 } }));
    let asked = || lines(&both, "start").into_iter().filter(|(_, line)| line["id"] == *busy).map(|(at, _)| at);
    wait_until("the apps to be asked three times", || asked().count() >= 3);
    let times: Vec<u64> = asked().collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 950), "{times:?}");
    wait_until("it to be gone", || asking[0].ask("DELETE", &format!("/v1/jobs/{busy}"), None, &[]).status == 200);

    let before = lines(&both, "end").len();
    let jobs: Vec<Value> = (0..15).map(|n| json!({ "data": { "n": n } })).collect();
    assert_eq!(asking[0].post("/v1/queues/rated/jobs", &json!(jobs)).status, 201);
    wait_until("those of the rate to be done", || lines(&both, "end").len() >= before + 15);
    let rated: Vec<u64> =
        lines(&both, "start").iter().filter(|(_, line)| line["queue"] == "rated").map(|(at, _)| *at).collect();
    assert_eq!(rated.len(), 15);
    // Three windows of five: the third is a whole one after the first, give or take the way to the app.
    assert!(rated[10] - rated[0] >= 1900, "{rated:?}");
}

/// One is killed with all it is: what it had is worked by the other, once more and no more often.
#[test]
fn j8_what_one_had_when_it_was_killed_is_worked_by_the_other() {
    let redis = kept();
    let one = app(&redis, SCAN).ready("/");
    let asking = Asking::of(&one);
    let ids: BTreeSet<String> = (0..3).map(|_| asking.add("scan", &json!({ "data": { "slow": 4000 } }))).collect();
    wait_until("it to have them", || lines(&[&one], "start").len() == 3);
    let other = app(&redis, SCAN).ready("/");
    let asking = Asking::of(&other);
    let server = one.server();
    processes::signal(one.supervisor(), Signal::SIGKILL);
    processes::signal(server, Signal::SIGKILL);
    wait_until("the other to have them", || lines(&[&other], "start").len() >= 3);
    for id in &ids {
        let job = asking.until(id, "completed");
        assert_eq!((&job["attemptsMade"], &job["stalls"]), (&json!(1), &json!(1)), "{job}");
    }
    let counted = counted(&lines(&[&one, &other], "start"));
    assert!(counted.len() == 3 && counted.values().all(|count| *count == 2), "{counted:?}");
}

/// J6: links, retry, search and removal go by ids that hold whatever a producer put into them.
#[test]
fn j6_ids_that_a_producer_chose_work_on_the_pages_and_in_paths() {
    let redis = kept();
    let mainstay = app(&redis, &format!("{SCAN}[ops.queues]\n")).ready("/");
    let asking = Asking::of(&mainstay);
    for major in MAJORS {
        let ids =
            [format!("order:7/ä b:{major}"), format!("{major}.a..b/../%2e?#&+<b>'\"=\\"), format!("ends {major} ")];
        let opts = |id: &String| json!({ "name": "own", "data": { "refuse": 422 }, "opts": { "jobId": id } });
        let jobs: Vec<Value> = ids.iter().map(opts).collect();
        node("produce.js", &[major, &redis.port().to_string(), "scan", &json!(jobs).to_string()]);
        let shown: Vec<String> = ids.iter().map(|id| format!("scan:{id}")).collect();
        for id in &shown {
            let path: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let job = asking.until(&path, "failed");
            assert_eq!(job["id"], *id, "{job}");
            let retried = asking.ask("POST", &format!("/v1/jobs/{path}/retry"), None, &[]);
            assert_eq!(retried.status, 200, "{id}: {retried:?}");
            asking.until(&path, "failed");
        }
        let asked = json!({ "app": mainstay.url(""), "ids": shown });
        let told = fixtures::node_client("queue_ids.js", &[&asked.to_string()]);
        let told: Value = serde_json::from_str(&told).expect("what queue_ids.js prints");
        assert_eq!(told["complaints"], json!([]), "{told:#}");
        for (at, id) in shown.iter().enumerate() {
            let job = &told["jobs"][at];
            // A browser shows blanks at an end as none.
            let title = format!("Job {id}");
            let title = title.trim();
            assert_eq!(job["title"], title, "{job:#}");
            assert_eq!(job["back"]["title"], title, "it comes back to the page of the job: {job:#}");
            assert_eq!(job["found"], title, "{job:#}");
            let left = job["left"].as_array().cloned().unwrap_or_default();
            assert!(!left.contains(&json!(id)) && left.len() == shown.len() - at - 1, "{job:#}");
        }
    }
}
