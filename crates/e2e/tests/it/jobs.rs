//! Jobs as an app, its workers and an operator see them: by push, by pull with nothing but HTTP, through crashes. The
//! app writes down what it was given before it answers; that is the journal everything is held against.

use mainstay_e2e::crash::client::Client;
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, fixtures, get, processes, wait_for, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// B's four queues.
const FOUR: [(&str, u64); 4] = [("protocol", 2), ("scan", 5), ("validation", 3), ("payment", 2)];

/// An app that is given jobs, with these tables.
pub fn app(tables: &str) -> Setup {
    let text = format!("[app.main]\nrun = \"node index.js\"\n{tables}");
    Setup::file(&text).node_app("jobs")
}

pub fn queue(name: &str, lines: &str) -> String {
    format!(
        "[jobs.{name}]\npush = \"POST /jobs/{name}\"\nbackoff = {{ kind = \"fixed\", delay = \"50ms\" }}\n{lines}\n"
    )
}

/// What an instance was given to ask with.
pub struct Asking {
    url: String,
    token: String,
}

impl Asking {
    #[track_caller]
    pub fn of(mainstay: &Mainstay) -> Asking {
        let given = get(&mainstay.url("/given")).json();
        let text = |name: &str| given[name].as_str().unwrap_or_else(|| panic!("no {name}: {given}")).to_owned();
        let asking = Asking { url: text("url"), token: text("token") };
        wait_until("jobs to be open", || asking.get("/v1/queues").status == 200);
        asking
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>, more: &[&str]) -> Answer {
        let (url, bearer) = (format!("{}{path}", self.url), format!("Authorization: Bearer {}", self.token));
        // In a file: a megabyte is no argument.
        let file = tempfile::NamedTempFile::new().expect("a file");
        let from = format!("@{}", file.path().display());
        let mut words = vec!["-X", method, "-H", &bearer];
        if let Some(body) = body {
            std::fs::write(file.path(), body.to_string()).expect("write");
            words.extend(["-H", "content-type: application/json", "--data-binary", &from]);
        }
        words.extend_from_slice(more);
        words.push(&url);
        curl(&words)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body), &[])
    }

    /// The id of a job that was added.
    #[track_caller]
    pub fn add(&self, queue: &str, job: &Value) -> u64 {
        let answer = self.post(&format!("/v1/queues/{queue}/jobs"), job);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_u64().unwrap_or_else(|| panic!("no id: {answer:?}"))
    }

    #[track_caller]
    pub fn job(&self, id: u64) -> Value {
        let answer = self.get(&format!("/v1/jobs/{id}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    #[track_caller]
    pub fn until(&self, id: u64, state: &str) -> Value {
        wait_for(&format!("job {id} to be {state}"), || {
            let job = self.job(id);
            (job["state"] == state).then_some(job)
        })
    }

    pub fn counts(&self, queue: &str) -> Value {
        let queues = self.get("/v1/queues").json();
        let found = queues["queues"].as_array().and_then(|all| all.iter().find(|one| one["name"] == queue).cloned());
        found.unwrap_or(Value::Null)
    }
}

/// What the app has seen, in its order.
pub fn seen(mainstay: &Mainstay) -> Vec<Value> {
    let text = std::fs::read_to_string(mainstay.path().join("seen.ndjson")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

pub fn starts(mainstay: &Mainstay, queue: &str) -> Vec<Value> {
    seen(mainstay).into_iter().filter(|line| line["what"] == "start" && line["queue"] == queue).collect()
}

/// J1, J2, J10: four queues with their concurrency, each job failing twice before it is done, the result kept.
#[test]
fn j1_j2_j10_four_queues_by_push_with_retries_results_and_their_concurrency() {
    let tables: String =
        FOUR.iter().map(|(name, many)| queue(name, &format!("concurrency = {many}\nattempts = 3"))).collect();
    let mainstay = app(&tables).ready("/");
    let asking = Asking::of(&mainstay);
    let mut ids = BTreeMap::new();
    for (name, _) in FOUR {
        let jobs: Vec<Value> = (0..12).map(|_| json!({ "name": "work", "data": { "fail": 2, "slow": 20 } })).collect();
        let answer = asking.post(&format!("/v1/queues/{name}/jobs"), &json!(jobs));
        assert_eq!(answer.status, 201, "{answer:?}");
        let added = answer.json()["jobs"].as_array().cloned().unwrap_or_default();
        ids.insert(name, added.iter().filter_map(|job| job["id"].as_u64()).collect::<Vec<_>>());
    }
    for (name, many) in FOUR {
        assert_eq!(ids[name].len(), 12);
        for id in &ids[name] {
            let job = asking.until(*id, "completed");
            assert_eq!(job["result"], json!({ "success": true, "data": { "id": id, "queue": name } }), "{job}");
            assert_eq!(job["failures"].as_array().map(Vec::len), Some(2), "{job}");
        }
        let starts = starts(&mainstay, name);
        assert_eq!(starts.len(), 36, "{name}");
        let most = starts.iter().filter_map(|line| line["running"].as_u64()).max();
        assert!(most <= Some(many), "{name}: {most:?} at once");
        assert!(starts.iter().all(|line| line["signed"] == true), "each is signed with the app's token");
    }
    // J10: attempts and backoff of one job's own.
    let own = json!({ "data": { "fail": 9 }, "attempts": 2, "backoff": { "type": "fixed", "delay": 10 } });
    let job = asking.until(asking.add("scan", &own), "failed");
    assert_eq!(job["failures"].as_array().map(Vec::len), Some(2), "{job}");
}

/// J3: at most 5 starts in any window, over a server that is killed meanwhile.
#[test]
fn j3_five_starts_in_a_window_hold_through_a_crash() {
    let mainstay = app(&queue("protocol", "rate = \"5/2s\"\nconcurrency = 10")).ready("/");
    let asking = Asking::of(&mainstay);
    let jobs: Vec<Value> = (0..14).map(|_| json!({ "data": {} })).collect();
    assert_eq!(asking.post("/v1/queues/protocol/jobs", &json!(jobs)).status, 201);
    wait_until("the first window", || starts(&mainstay, "protocol").len() >= 5);
    processes::signal(mainstay.server(), Signal::SIGKILL);
    wait_until("all of them", || {
        asking.get("/v1/queues").status == 200 && { asking.counts("protocol")["completed"] == 14 }
    });
    // As the app saw them, those that a crash made it do twice too. A request takes its time to arrive: two rounds of
    // five and one of another five at most lie in any time that is shorter than a window by that.
    let mut at: Vec<u64> = starts(&mainstay, "protocol").iter().filter_map(|line| line["at"].as_u64()).collect();
    at.sort_unstable();
    assert!(at.len() >= 14, "{at:?}");
    for six in at.windows(6) {
        assert!(six[5] - six[0] >= 1500, "six starts within {} ms: {at:?}", six[5] - six[0]);
    }
}

/// J4: what is kept, and the timeout that we enforce.
#[test]
fn j4_the_last_are_kept_and_what_takes_too_long_is_ended() {
    let lines = "timeout = \"300ms\"\nattempts = 1\nkeep = { completed = 10, failed = 5 }";
    let mainstay = app(&queue("email", lines)).ready("/");
    let asking = Asking::of(&mainstay);
    let hung = asking.until(asking.add("email", &json!({ "data": { "hang": true } })), "failed");
    assert_eq!(hung["failures"][0]["ending"], "timeout", "{hung}");
    let many = |data: Value| {
        let jobs: Vec<Value> = (0..20).map(|_| json!({ "data": data })).collect();
        assert_eq!(asking.post("/v1/queues/email/jobs", &json!(jobs)).status, 201);
    };
    many(json!({}));
    many(json!({ "refuse": 422 }));
    wait_until("all to end", || {
        let counts = asking.counts("email");
        ["waiting", "active", "delayed"].iter().all(|state| counts[*state] == 0)
    });
    let counts = asking.counts("email");
    assert_eq!((&counts["completed"], &counts["failed"]), (&json!(10), &json!(5)), "{counts}");
}

/// J8: whatever is killed, what was acknowledged is done.
#[test]
fn j8_nothing_that_was_acknowledged_is_lost_whatever_is_killed() {
    let mainstay = app(&queue("scan", "concurrency = 4\nattempts = 5\nstalls = 5")).ready("/");
    let asking = Asking::of(&mainstay);
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        for number in 0..10 {
            let key = format!("Idempotency-Key: k{round}-{number}");
            let body = json!({ "data": { "slow": 30 } });
            // Who is not answered asks again with the same key, as any client does.
            let id = wait_for("an acknowledgement", || {
                let answer = asking.ask("POST", "/v1/queues/scan/jobs", Some(&body), &["-H", &key, "-m", "5"]);
                matches!(answer.status, 200 | 201).then(|| answer.json()["id"].as_u64()).flatten()
            });
            acknowledged.push(id);
            if number == 5 {
                match round % 2 {
                    0 => processes::signal(mainstay.server(), Signal::SIGKILL),
                    _ => mainstay.instances().iter().for_each(|one| processes::signal(one.pid, Signal::SIGKILL)),
                }
            }
        }
    }
    acknowledged.sort_unstable();
    acknowledged.dedup();
    assert_eq!(acknowledged.len(), 40, "each key is one job");
    for id in acknowledged {
        let job = wait_for(&format!("job {id}"), || {
            let answer = asking.get(&format!("/v1/jobs/{id}"));
            (answer.status == 200).then(|| answer.json()).filter(|job| job["state"] == "completed")
        });
        assert_eq!(job["result"]["success"], true, "{job}");
    }
    // Twice only where a crash was: the app knows of each.
    let twice = starts(&mainstay, "scan").len() - 40;
    assert!(twice <= 4 * 5, "{twice} started again for four crashes of five at most");
}

/// J5, S4: what happened is told to whoever listens, and counted.
#[test]
fn j5_s4_events_are_told_and_counted() {
    let mainstay = app(&queue("email", "attempts = 1")).ready("/");
    let asking = Asking::of(&mainstay);
    let file = mainstay.path().join("events");
    let bearer = format!("Authorization: Bearer {}", asking.token);
    let url = format!("{}/v1/events?queue=email", asking.url);
    let mut listening = std::process::Command::new("curl")
        .args(["-sN", "-m", "30", "-H", &bearer, "-o"])
        .arg(&file)
        .arg(&url)
        .spawn()
        .expect("curl");
    let told = |what: &str| {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains(&format!("event: {what}\n"))
    };
    wait_until("events of a first job", || {
        asking.add("email", &json!({ "data": {} }));
        told("completed")
    });
    asking.until(asking.add("email", &json!({ "data": { "fail": 1 } })), "failed");
    wait_until("the failure to be told", || told("failed") && told("added") && told("started"));
    let _ = listening.kill();
    let _ = listening.wait();
    let metrics = get(&mainstay.url("/.mainstay/health/metrics")).text();
    for line in [
        "queue_jobs_waiting{queue=\"email\"} 0",
        "queue_jobs_active{queue=\"email\"} 0",
        "queue_job_events_total{queue=\"email\",event=\"failed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

/// J5: the app is handed what became of its jobs, in order, again while it is deaf, and by nobody else.
#[test]
fn j5_the_app_is_handed_what_became_of_its_jobs() {
    let lines = "attempts = 1\nconcurrency = 1\nevents = \"POST /jobs/events\"";
    let mainstay = app(&queue("scan", lines)).ready("/");
    mainstay.write("deaf", "");
    let asking = Asking::of(&mainstay);
    let good = asking.add("scan", &json!({ "data": {} }));
    let bad = asking.add("scan", &json!({ "data": { "fail": 9 } }));
    asking.until(bad, "failed");
    let told = || seen(&mainstay).into_iter().filter(|line| line["what"] == "told").collect::<Vec<_>>();
    wait_until("it to be told again", || told().len() >= 2);
    std::fs::remove_file(mainstay.path().join("deaf")).expect("remove");
    let heard = |line: &Value| line["events"].to_string();
    wait_until("both to be told", || {
        let all: String = told().iter().map(heard).collect();
        all.contains("completed") && all.contains("failed")
    });
    let all: Vec<Value> =
        told().iter().flat_map(|line| line["events"].as_array().cloned().unwrap_or_default()).collect();
    let last: Vec<(u64, &str)> =
        all.iter().rev().take(2).rev().filter_map(|one| Some((one["id"].as_u64()?, one["event"].as_str()?))).collect();
    assert_eq!(last, [(good, "completed"), (bad, "failed")], "{all:?}");
    assert!(told().iter().all(|line| line["signed"] == true && line["lost"] == 0));
    let count = told().len();
    assert_eq!(curl(&["-d", "{\"events\":[]}", &mainstay.url("/jobs/events")]).status, 404);
    assert_eq!(told().len(), count, "nobody else tells it");
}

/// J7: a provider's hook hears that workers are wanted, again after a refusal, and that they are not any more.
#[test]
fn j7_a_hook_hears_when_more_workers_are_wanted_and_when_no_longer() {
    let asked = AtomicUsize::new(0);
    let provider = Peer::with(move |_, out| {
        let status = if asked.fetch_add(1, Ordering::SeqCst) == 0 { 500 } else { 200 };
        mainstay_e2e::peer::answer(out, status, &[], b"")
    });
    let depth = format!(
        "depth = {{ waiting_over = 2, active_under = 5, hook = \"http://{}/scale?key=${{SCALE_KEY}}\" }}",
        provider.address
    );
    let setup = app(&format!("[jobs.scan]\n{depth}\n")).env("SCALE_KEY", "kU3vX9qLw2Zr7TnB5sYd8Hf1Gj4Mc6Pa0e");
    let mainstay = setup.ready("/");
    let asking = Asking::of(&mainstay);
    let jobs: Vec<Value> = (0..3).map(|_| json!({ "data": 1 })).collect();
    asking.post("/v1/queues/scan/jobs", &json!(jobs));
    let words = || -> Vec<Value> {
        let asks = provider.holding("/scale");
        asks.iter().filter_map(|ask| serde_json::from_slice(&ask.body).ok()).collect()
    };
    let wants = |wanted: bool| words().iter().filter(|word| word["wantsWorkers"] == wanted).count();
    wait_until("the hook to be told twice", || wants(true) == 2);
    let mut word = words().into_iter().rfind(|word| word["wantsWorkers"] == true).expect("a word");
    assert!(word["atMs"].take().as_u64().is_some_and(|at| at > 1_700_000_000_000));
    assert_eq!(word, json!({ "queue": "scan", "wantsWorkers": true, "waiting": 3, "active": 0, "atMs": null }));
    assert!(provider.holding("/scale")[0].target.contains("key=kU3v"));
    asking.post("/v1/queues/scan/claim", &json!({ "worker": "w", "max": 2 }));
    wait_until("the hook to be told that it is enough", || {
        words().last().is_some_and(|word| word["wantsWorkers"] == false)
    });
    let metrics = get(&mainstay.url("/.mainstay/health/metrics")).text();
    assert!(metrics.contains("queue_wants_workers{queue=\"scan\"} 0"), "{metrics}");
    assert!(!mainstay.said().contains("kU3v"), "the address is a secret");
}

/// J8, J10: any backend is a worker, in any language, with nothing but HTTP.
#[test]
fn j8_workers_of_node_and_python_pull_with_nothing_but_http() {
    let mainstay = app("[jobs.plain]\nattempts = 1\n").ready("/");
    let asking = Asking::of(&mainstay);
    let jobs: Vec<Value> = (0..30).map(|number| json!({ "data": { "number": number } })).collect();
    assert_eq!(asking.post("/v1/queues/plain/jobs", &json!(jobs)).status, 201);
    let by = |text: String| serde_json::from_str::<Vec<u64>>(text.trim()).expect("ids");
    let words = [asking.url.as_str(), &asking.token, "plain", "15"];
    let mut done = by(fixtures::node_client("jobs_worker.js", &words));
    done.extend(by(fixtures::python_client("jobs_worker.py", &words)));
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), 30, "each was given once");
    assert_eq!(asking.counts("plain")["completed"], 30);
}

/// J8: a worker that dies is noticed by its connection, long before its lease of 30 s has passed.
#[test]
fn j8_the_jobs_of_a_worker_that_dies_are_given_to_others() {
    let mainstay = app("[jobs.plain]\n").ready("/");
    let asking = Asking::of(&mainstay);
    let id = asking.add("plain", &json!({ "data": {} }));
    let bearer = format!("Authorization: Bearer {}", asking.token);
    let there = mainstay.path().join("there");
    let mut worker = std::process::Command::new("curl")
        .args(["-sN", "-H", &bearer, &format!("{}/v1/workers/w1/presence", asking.url), "-o"])
        .arg(&there)
        .spawn()
        .expect("curl");
    wait_until("the worker to be there", || std::fs::read(&there).is_ok_and(|told| !told.is_empty()));
    let claim = |worker: &str| {
        let wanted = json!({ "worker": worker, "max": 1, "waitMs": 1000 });
        asking.post("/v1/queues/plain/claim", &wanted).json()["jobs"].get(0).cloned()
    };
    let first = claim("w1").expect("the job");
    assert_eq!(first["id"], id);
    let _ = worker.kill();
    let _ = worker.wait();
    let again = wait_for("the job to be given to another", || claim("w2"));
    assert_eq!((&again["id"], &again["attempt"]), (&json!(id), &json!(1)), "being rescued is no attempt");
    assert!(again["token"].as_u64() > first["token"].as_u64());
    // The one that was dead comes back with its old token: too late.
    let end = |job: &Value| asking.post("/v1/jobs/finish", &json!({ "ends": [{ "id": id, "token": job["token"] }] }));
    assert_eq!(end(&first).status, 409);
    assert_eq!(end(&again).status, 200);
    assert_eq!(asking.job(id)["failures"][0]["ending"], "stalled");
}

/// J8: what takes long is neither lost nor counted against by a new file, and what the app ends by itself is left
/// to it.
#[test]
fn j8_an_upgrade_loses_no_job_kills_none_and_refuses_no_add() {
    let tables = queue("slow", "timeout = \"1m\"") + &queue("later", "timeout = \"1m\"");
    let mainstay = app(&tables).own_binary().ready("/");
    let asking = Asking::of(&mainstay);
    let slow = asking.add("slow", &json!({ "data": { "slow": 4000 } }));
    let later = asking.add("later", &json!({ "data": { "later": "10m" } }));
    wait_until("both to be handed over", || seen(&mainstay).iter().filter(|line| line["what"] == "start").count() == 2);
    for _ in 0..2 {
        crate::upgrade::upgraded(&mainstay, false);
        asking.add("slow", &json!({ "data": {} }));
    }
    let job = asking.until(slow, "completed");
    let endings = job["failures"].as_array().cloned().unwrap_or_default();
    assert!(endings.iter().all(|one| one["ending"] == "released"), "{job}");
    let start = starts(&mainstay, "later");
    assert_eq!((start.len(), asking.job(later)["state"].as_str()), (1, Some("active")), "{start:?}");
    let token: u64 = start[0]["token"].as_str().and_then(|token| token.parse().ok()).expect("a token");
    let end = json!({ "ends": [{ "id": later, "token": token, "result": 7 }] });
    assert_eq!(asking.post("/v1/jobs/finish", &end).status, 200);
    assert_eq!(asking.job(later)["result"], 7);
}

/// J8: a stop waits for what is being done, and what was not begun is there at the next start.
#[test]
fn j8_a_stop_waits_for_what_runs_and_the_rest_is_there_again() {
    let mainstay = app(&queue("scan", "concurrency = 1")).ready("/");
    let asking = Asking::of(&mainstay);
    let ids: Vec<u64> = (0..3).map(|_| asking.add("scan", &json!({ "data": { "slow": 700 } }))).collect();
    wait_until("the first to be handed over", || starts(&mainstay, "scan").len() == 1);
    mainstay.verb(&["stop"]).ok();
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    mainstay.answering("/");
    let asking = Asking::of(&mainstay);
    let first = asking.until(ids[0], "completed");
    assert_eq!(first["failures"], json!([]), "it was waited for: {first}");
    ids.iter().for_each(|id| drop(asking.until(*id, "completed")));
    assert_eq!(starts(&mainstay, "scan").len(), 3, "each once");
}

/// A reload that comes to nothing takes nobody's token away.
#[test]
fn j1_a_refused_reload_leaves_apps_their_tokens() {
    let mainstay = app("[jobs.scan]\n").ready("/");
    let asking = Asking::of(&mainstay);
    let text = std::fs::read_to_string(mainstay.path().join("mainstay.toml")).expect("the file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let other = text.replace("[app.main]", "[app.web]");
    mainstay.write("mainstay.toml", &format!("{other}\n[edge]\nlisten = [\"127.0.0.1:{port}\"]\n"));
    let refused = mainstay.verb(&["reload"]);
    assert!(refused.all().contains("nothing was changed"), "{}", refused.all());
    asking.add("scan", &json!({ "data": 1 }));
}

/// J11: why each failed, another try of one or of all, and settings that a reload changes.
#[test]
fn j11_failures_are_shown_and_tried_again_and_settings_change_without_a_restart() {
    let mainstay = app(&queue("scan", "attempts = 2")).ready("/");
    let asking = Asking::of(&mainstay);
    let id = asking.add("scan", &json!({ "name": "deep", "data": { "fail": 3 } }));
    asking.until(id, "failed");
    let shown = mainstay.verb(&["jobs", "show", &id.to_string()]).ok();
    for word in ["failed", "deep", "failed 1", "failed 2", "at work"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let text = std::fs::read_to_string(mainstay.path().join("mainstay.toml")).expect("the file");
    mainstay.write("mainstay.toml", &text.replace("attempts = 2", "attempts = 4"));
    mainstay.verb(&["reload"]).ok();
    let other = asking.add("scan", &json!({ "data": { "fail": 3 } }));
    asking.until(other, "completed");
    mainstay.verb(&["jobs", "retry", &id.to_string()]).ok();
    asking.until(id, "completed");
    let ids: Vec<u64> = (0..3).map(|_| asking.add("scan", &json!({ "data": { "fail": 1 }, "attempts": 1 }))).collect();
    ids.iter().for_each(|id| drop(asking.until(*id, "failed")));
    mainstay.verb(&["jobs", "pause", "scan"]).ok();
    mainstay.verb(&["jobs", "redrive", "scan"]).ok();
    assert_eq!(asking.counts("scan")["waiting"], 3);
    assert!(mainstay.verb(&["jobs"]).ok().contains("paused"));
    mainstay.verb(&["jobs", "resume", "scan"]).ok();
    ids.iter().for_each(|id| drop(asking.until(*id, "failed")));
}

/// What only Mainstay may give the app, and whom Mainstay answers.
#[test]
fn j1_nobody_else_gives_the_app_jobs_and_nobody_else_asks_for_them() {
    let mainstay = app(&queue("scan", "")).ready("/");
    let asking = Asking::of(&mainstay);
    for path in ["/jobs/scan", "/JOBS//scan", "/x/../jobs/scan", "/%6aobs/scan"] {
        let answer = curl(&["--path-as-is", "-d", "{}", &mainstay.url(path)]);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    assert_eq!(starts(&mainstay, "scan").len(), 0);
    let url = format!("{}/v1/queues", asking.url);
    let bearer = format!("Authorization: Bearer {}", asking.token);
    for (name, words, status) in [
        ("no token", vec![], 401),
        ("a wrong token", vec!["-H", "Authorization: Bearer mat_x"], 401),
        ("a page", vec!["-H", &bearer, "-H", "Origin: http://evil.example"], 403),
        ("another name", vec!["-H", &bearer, "-H", "Host: evil.example"], 403),
        ("all is right", vec!["-H", &bearer], 200),
    ] {
        let mut words = words;
        words.push(&url);
        assert_eq!(curl(&words).status, status, "{name}");
    }
    assert!(!mainstay.said().contains(&asking.token));
}

/// Bad input is told and changes nothing.
#[test]
fn j1_bad_input_is_told_and_changes_nothing() {
    let mainstay = app(&queue("scan", "")).ready("/");
    let asking = Asking::of(&mainstay);
    let large = "x".repeat(1_100_000);
    for (name, path, body, status, word) in [
        ("no JSON", "/v1/queues/scan/jobs", json!("x"), 400, "the body is not what is expected"),
        ("a field nobody knows", "/v1/queues/scan/jobs", json!({ "dat": 1 }), 400, "unknown field"),
        ("a payload too large", "/v1/queues/scan/jobs", json!({ "data": large }), 413, "most"),
        ("a stale token", "/v1/jobs/finish", json!({ "ends": [{ "id": 999, "token": 1 }] }), 404, "no job 999"),
        ("no path", "/v1/nothing", json!({}), 404, "there is no"),
    ] {
        let answer = asking.post(path, &body);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(word), "{name}: {}", answer.text());
    }
    // The token of an attempt that is over changes nothing.
    let id = asking.add("scan", &json!({ "data": {} }));
    asking.until(id, "completed");
    let stale = asking.post("/v1/jobs/finish", &json!({ "ends": [{ "id": id, "token": 1, "error": "late" }] }));
    assert_eq!((stale.status, stale.json()["code"].as_str()), (409, Some("stale_token")), "{stale:?}");
    assert_eq!(asking.job(id)["state"], "completed");
    for (lines, word) in [
        ("[jobs.scan]\nconcurrency = 0\n", "concurrency"),
        ("[jobs.scan]\nrate = \"5\"\n", "rate"),
        ("[jobs.scan]\npush = \"/jobs\"\n", "POST"),
        ("[jobs.scan]\nbackoff = { kind = \"odd\", delay = \"1s\" }\n", "exponential"),
    ] {
        let text = format!("[app.main]\nrun = \"node index.js\"\n{lines}");
        let ended = Setup::file(&text).verb(&["check"]);
        assert!(ended.all().contains(word) && ended.all().contains("mainstay.toml:"), "{lines}: {}", ended.all());
    }
}

/// J9: the depth of a queue, by a command.
#[test]
fn j9_depths_are_read_by_a_command() {
    let mainstay = app("[jobs.scan]\n").ready("/");
    let asking = Asking::of(&mainstay);
    for number in 0..3 {
        asking.add("scan", &json!({ "data": number }));
    }
    let shown = mainstay.verb(&["jobs", "--json"]).json();
    assert_eq!(shown["queues"][0]["waiting"], 3, "{shown}");
    let refused = Setup::file("[app.main]\nrun = \"node index.js\"\n").node_app("jobs").ready("/");
    let none = refused.verb(&["jobs"]);
    assert!(none.all().contains("[jobs."), "{}", none.all());
}

/// J9: what reads a Redis reads depths, with no Redis; the guide's name for it too.
#[test]
fn j9_redis_cli_reads_depths_without_a_redis() {
    let port = Port::free();
    let mainstay = app(&format!("[jobs]\nredis = \"127.0.0.1:{}\"\n[jobs.scan]\n", port.number)).ready("/");
    let asking = Asking::of(&mainstay);
    let id = asking.add("scan", &json!({ "name": "deep", "data": 1 }));
    asking.add("scan", &json!({ "data": 2 }));
    let ask = |words: &[&str]| {
        let number = port.number.to_string();
        let asked = Command::new("redis-cli").args(["-p", &number]).args(words).output().expect("redis-cli");
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    };
    wait_until("the port to answer", || ask(&["PING"]) == "PONG");
    assert_eq!(ask(&["LLEN", "bull:scan:wait"]), "2");
    assert_eq!(ask(&["LLEN", "bull:scan:waiting"]), "2");
    assert_eq!(ask(&["HGET", &format!("bull:scan:{id}"), "name"]), "deep");
    assert!(ask(&["LPUSH", "bull:scan:wait", "x"]).contains("READONLY"));
    // The next server answers there too.
    processes::signal(mainstay.server(), Signal::SIGKILL);
    wait_until("the port to answer again", || ask(&["LLEN", "bull:scan:wait"]) == "2");
}

/// J9: the port is opened, moved and closed by a reload, whole or not at all.
#[test]
fn j9_the_port_for_redis_cli_follows_a_reload() {
    let mainstay = app("[jobs.scan]\n").ready("/");
    let asking = Asking::of(&mainstay);
    asking.add("scan", &json!({ "data": 1 }));
    let plain = std::fs::read_to_string(mainstay.path().join("mainstay.toml")).expect("the file");
    let [first, second] = [Port::free(), Port::free()];
    let depth = |port: &Port| {
        let words = ["-p", &port.number.to_string(), "LLEN", "bull:scan:wait"];
        let asked = Command::new("redis-cli").args(words).output().expect("redis-cli");
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    };
    let at = |port: &Port| format!("{plain}\n[jobs]\nredis = \"127.0.0.1:{}\"\n", port.number);
    mainstay.write("mainstay.toml", &at(&first));
    mainstay.verb(&["reload"]).ok();
    wait_until("the first port to answer", || depth(&first) == "1");
    mainstay.write("mainstay.toml", &at(&second));
    mainstay.verb(&["reload"]).ok();
    wait_until("the second port to answer", || depth(&second) == "1");
    wait_until("the first to be closed", || depth(&first).is_empty());
    // Somebody else is there: nothing changes.
    let taken = std::net::TcpListener::bind(("127.0.0.1", first.number)).expect("the port is free again");
    mainstay.write("mainstay.toml", &at(&first));
    let refused = mainstay.verb(&["reload"]);
    assert!(refused.all().contains("nothing was changed: [jobs] redis at 127.0.0.1"), "{}", refused.all());
    assert_eq!(depth(&second), "1");
    drop(taken);
    // The next server has the port of the last reload, and none once it is taken out.
    processes::signal(mainstay.server(), Signal::SIGKILL);
    wait_until("the port to answer again", || depth(&second) == "1");
    mainstay.write("mainstay.toml", &plain);
    mainstay.verb(&["reload"]).ok();
    wait_until("the second to be closed", || depth(&second).is_empty());
}

/// Flows: a parent over two queues starts with what its children gave.
#[test]
fn j1_a_parent_starts_after_its_children_and_is_told_what_they_gave() {
    let mainstay = app(&format!("{}{}", queue("scan", ""), queue("payment", ""))).ready("/");
    let asking = Asking::of(&mainstay);
    let children = json!([{ "queue": "scan", "data": {} }, { "queue": "scan", "data": { "slow": 30 } }]);
    let parent = asking.add("payment", &json!({ "name": "sum", "children": children }));
    let done = asking.until(parent, "completed");
    let told = done["children"].as_array().expect("children");
    assert!(told.iter().all(|child| child["state"] == "completed" && child["result"]["success"] == true), "{done:#}");
    let started = starts(&mainstay, "payment")[0]["at"].as_u64();
    let last = seen(&mainstay).into_iter().filter(|line| line["what"] == "end" && line["queue"] == "scan");
    assert!(started >= last.filter_map(|line| line["at"].as_u64()).max(), "{:?}", seen(&mainstay));
    assert!(mainstay.verb(&["jobs", "show", &parent.to_string()]).ok().contains("scan"));
}

/// More kept connections than the thread of jobs answers by itself: each adds, takes and ends, all at the same time.
#[test]
fn j8_forty_kept_connections_add_take_and_end_at_once() {
    const CONNECTIONS: usize = 40;
    let mainstay = app("[jobs.pulled]\n").ready("/given");
    Asking::of(&mainstay);
    let (edge, together) = (mainstay.edge(), std::sync::Barrier::new(CONNECTIONS));
    let one = |number: usize| {
        let mut client = Client::new(edge);
        let opened = client.get("/v1/queues");
        together.wait();
        let added: Vec<_> = (0..5).map(|_| client.post("/v1/queues/pulled/jobs", &json!({ "data": number }))).collect();
        together.wait();
        let take = json!({ "worker": format!("w{number}"), "max": 5, "waitMs": 5000 });
        let taken = client.post("/v1/queues/pulled/claim", &take);
        let jobs = taken.as_ref().ok().and_then(|(_, told)| told["jobs"].as_array().cloned()).unwrap_or_default();
        let ends: Vec<Value> = jobs.iter().map(|job| json!({ "id": job["id"], "token": job["token"] })).collect();
        let ended = client.post("/v1/jobs/finish", &json!({ "ends": ends }));
        // Not before: whoever fails here must not leave the others waiting.
        opened.expect("opened");
        for added in added {
            assert_eq!(added.expect("added").0, 201);
        }
        let (_, ended) = ended.expect("ended");
        assert!(ended["ends"].as_array().is_some_and(|ends| ends.iter().all(|end| end["ok"] == true)), "{ended}");
        jobs.iter().filter_map(|job| job["id"].as_u64()).collect::<Vec<u64>>()
    };
    let ids: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a connection")).collect()
    });
    let once: std::collections::BTreeSet<&u64> = ids.iter().collect();
    assert_eq!((ids.len(), once.len()), (5 * CONNECTIONS, 5 * CONNECTIONS), "each job once");
}
