//! Queues that are shared with BullMQ: its own producers, workers, events and dashboard of two majors on one side, our
//! pushes, HTTP and verbs on the other, one Redis between them.

mod schedules;
mod together;

use mainstay_e2e::{Answer, Mainstay, Setup, curl, fixtures, get, wait_for, wait_until};
use mainstay_servers::redis::{Manner, Redis};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The two that are about.
const MAJORS: [&str; 2] = ["5", "6"];

/// As BullMQ's guides have it.
fn kept() -> Redis {
    manner(&[("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("maxmemory", "256mb")])
}

fn manner(lines: &[(&str, &str)]) -> Redis {
    let lines = lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Redis::start(Manner { lines, ..Manner::default() })
}

/// The app of the jobs' tests, with these tables, on this Redis.
fn app(redis: &Redis, tables: &str) -> Setup {
    let text = format!(
        "[app.main]\nrun = \"node index.js\"\n[store.redis]\nurl = \"{}\"\n[jobs]\nstore = \"bullmq\"\n{tables}",
        redis.url()
    );
    Setup::file(&text).node_app("jobs")
}

const SCAN: &str = "[jobs.scan]\npush = \"POST /jobs/scan\"\nconcurrency = 5\n\
    backoff = { kind = \"fixed\", delay = \"50ms\" }\n";
/// Nobody here works it.
const MAIL: &str = "[jobs.mail]\nbackoff = { kind = \"fixed\", delay = \"50ms\" }\n";

/// What an instance was given to ask with.
struct Asking {
    url: String,
    token: String,
}

impl Asking {
    #[track_caller]
    fn of(mainstay: &Mainstay) -> Asking {
        let given = get(&mainstay.url("/given")).json();
        let text = |name: &str| given[name].as_str().unwrap_or_else(|| panic!("no {name}: {given}")).to_owned();
        let asking = Asking { url: text("url"), token: text("token") };
        wait_until("jobs to be open", || asking.get("/v1/queues").status == 200);
        asking
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>, more: &[&str]) -> Answer {
        let (url, bearer) = (format!("{}{path}", self.url), format!("Authorization: Bearer {}", self.token));
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut words = vec!["-X", method, "-H", &bearer];
        if body.is_some() {
            words.extend(["-H", "content-type: application/json", "--data-binary", &text]);
        }
        words.extend_from_slice(more);
        words.push(&url);
        curl(&words)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, &[])
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body), &[])
    }

    #[track_caller]
    fn add(&self, queue: &str, job: &Value) -> String {
        let answer = self.post(&format!("/v1/queues/{queue}/jobs"), job);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap_or_else(|| panic!("no id: {answer:?}")).to_owned()
    }

    #[track_caller]
    fn until(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("job {id} to be {state}"), || {
            let job = self.get(&format!("/v1/jobs/{id}")).json();
            (job["state"] == state).then_some(job)
        })
    }

    fn counts(&self, queue: &str) -> Value {
        let queues = self.get("/v1/queues").json();
        let found = queues["queues"].as_array().and_then(|all| all.iter().find(|one| one["name"] == queue).cloned());
        found.unwrap_or(Value::Null)
    }
}

/// What the app has seen, in its order.
fn seen(mainstay: &Mainstay) -> Vec<Value> {
    let text = std::fs::read_to_string(mainstay.path().join("seen.ndjson")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn node(name: &str, arguments: &[&str]) -> Value {
    let said = fixtures::finished(fixtures::bullmq_client(name, arguments));
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{name}: {e}: {said}"))
}

/// J1, J2, J10: BullMQ's own producer adds plain, delayed, prioritised and failing jobs, one by an id of its own; ours
/// hands them to the app, and the producer's QueueEvents see each end.
#[test]
fn j1_j2_j10_what_bullmqs_producers_add_is_pushed_and_they_see_it_end() {
    let redis = kept();
    let mainstay = app(&redis, &format!("{SCAN}events = \"POST /jobs/events\"\n")).ready("/");
    let asking = Asking::of(&mainstay);
    for major in MAJORS {
        let own = format!("order-{major}");
        let retried = json!({ "attempts": 2, "backoff": { "type": "fixed", "delay": 20 } });
        let jobs = json!([
            { "name": "plain", "data": { "n": 1, "ключ": "ö" } },
            { "name": "later", "data": { "n": 2 }, "opts": { "delay": 300 } },
            { "name": "first", "data": { "n": 3 }, "opts": { "priority": 2 } },
            { "name": "again", "data": { "fail": 1 }, "opts": retried },
            { "name": "never", "data": { "refuse": 422 }, "opts": { "attempts": 9 } },
            { "name": "own", "data": {}, "opts": { "jobId": own } },
        ]);
        let became = node("produce.js", &[major, &redis.port().to_string(), "scan", &jobs.to_string()]);
        let became_of = |at: usize| became["jobs"][at].clone();
        for at in [0, 1, 2, 3, 5] {
            let job = became_of(at);
            assert_eq!(job["event"], "completed", "BullMQ {major}: {job}");
            assert_eq!(job["returnvalue"]["success"], true, "BullMQ {major}: {job}");
            assert_eq!(job["processedBy"], "mainstay", "BullMQ {major}: {job}");
        }
        assert_eq!(became_of(0)["data"], json!({ "n": 1, "ключ": "ö" }), "a payload is as it was");
        assert_eq!((became_of(0)["attemptsMade"].as_u64(), became_of(3)["attemptsMade"].as_u64()), (Some(1), Some(2)));
        let never = became_of(4);
        assert_eq!((never["event"].as_str(), never["attemptsMade"].as_u64()), (Some("failed"), Some(1)), "{never}");
        assert!(never["failedReason"].as_str().is_some_and(|reason| reason.contains("no further attempt")), "{never}");
        // One that failed and was tried again has kept why, where it stood.
        let again = became_of(3);
        assert!(again["stacktrace"][0].as_str().is_some_and(|stack| stack.contains("at work")), "{again}");
        assert_eq!(became["workers"], 1, "BullMQ {major} knows our worker: {became}");
        let shown = asking.until(&format!("scan:{own}"), "completed");
        assert_eq!((shown["id"].as_str(), shown["name"].as_str()), (Some(&*format!("scan:{own}")), Some("own")));
        assert_eq!(shown["result"]["data"]["id"], format!("scan:{own}"), "{shown}");
    }
    let starts: Vec<Value> = seen(&mainstay).into_iter().filter(|line| line["what"] == "start").collect();
    assert!(starts.iter().all(|line| line["signed"] == true), "each is signed: {starts:?}");
    assert_eq!(starts.len(), 2 * 7);
    let counts = asking.counts("scan");
    assert_eq!((counts["completed"].as_u64(), counts["failed"].as_u64()), (Some(10), Some(2)), "{counts}");
    assert_eq!(redis.cli(&["LLEN", "bull:scan:wait"]).trim(), "0");
    let told = |event: &str, id: &str| {
        let lines = seen(&mainstay).into_iter().filter(|line| line["what"] == "told");
        let all: Vec<Value> = lines.flat_map(|line| line["events"].as_array().cloned().unwrap_or_default()).collect();
        all.iter().any(|one| one["event"] == event && one["id"] == id)
    };
    wait_until("the app to hear of it", || told("completed", "scan:order-6") && told("failed", "scan:5"));
    let metrics = asking.counts("scan");
    assert!(metrics["waiting"] == 0 && metrics["active"] == 0, "{metrics}");
}

/// What a job scheduler of BullMQ's adds goes on being added by our worker.
#[test]
fn a_scheduler_of_bullmqs_is_kept_going() {
    let redis = kept();
    let mainstay = app(&redis, SCAN).ready("/");
    Asking::of(&mainstay);
    for major in MAJORS {
        let before = seen(&mainstay).len();
        node("schedule.js", &[major, &redis.port().to_string(), "scan", &format!("tick-{major}"), "200"]);
        let is_it =
            |line: &Value| line["id"].as_str().is_some_and(|id| id.starts_with(&format!("scan:repeat:tick-{major}:")));
        wait_until("three ticks", || {
            seen(&mainstay).iter().skip(before).filter(|line| line["what"] == "start" && is_it(line)).count() >= 3
        });
    }
}

/// J3, J8: what is added over HTTP is worked by BullMQ's own workers, and told here as if it were ours.
#[test]
fn j3_j8_what_we_add_bullmqs_workers_do_and_we_show_what_they_gave() {
    let redis = kept();
    let mainstay = app(&redis, MAIL).ready("/");
    let asking = Asking::of(&mainstay);
    for major in MAJORS {
        let jobs = json!([
            { "name": "welcome", "data": { "to": "ann" } },
            { "name": "later", "data": { "to": "bob" }, "delay": "200ms" },
            { "name": "first", "data": { "to": "eve" }, "priority": 3 },
            { "name": "again", "data": { "fail": 1 }, "attempts": 2 },
        ]);
        let answer = asking.post("/v1/queues/mail/jobs", &jobs);
        assert_eq!(answer.status, 201, "{answer:?}");
        let id_of = |at: usize| answer.json()["jobs"][at]["id"].as_str().map(str::to_owned).expect("an id");
        let ids: Vec<String> = (0..4).map(id_of).collect();
        assert!(ids.iter().all(|id| id.starts_with("mail:")), "{ids:?}");
        let before = asking.counts("mail");
        assert_eq!((before["waiting"].as_u64(), before["delayed"].as_u64()), (Some(3), Some(1)), "{before}");
        assert_eq!(redis.cli(&["LLEN", "bull:mail:wait"]).trim(), "2", "J9; a priority has a set of its own");
        let done = node("work.js", &[major, &redis.port().to_string(), "mail", "4"]);
        assert_eq!(done.as_array().map(Vec::len), Some(4), "{done}");
        for (at, id) in ids.iter().enumerate() {
            let job = asking.until(id, "completed");
            assert_eq!(job["result"]["by"], format!("node {major}"), "{job}");
            assert_eq!(job["attemptsMade"], if at == 3 { 2 } else { 1 }, "{job}");
            assert_eq!(job["log"][0]["line"], "by node", "{job}");
        }
        let again = asking.until(&ids[3], "completed");
        assert!(again["failures"][0]["error"].as_str().is_some_and(|error| error.contains("failed 1")), "{again}");
        let first = done.as_array().and_then(|all| all.iter().find(|job| job["name"] == "welcome"));
        let opts = &first.expect("the first")["opts"];
        assert_eq!((&opts["attempts"], &opts["removeOnComplete"]), (&json!(3), &json!(100)), "{opts}");
        assert_eq!(opts["backoff"], json!({ "type": "fixed", "delay": 50 }), "{opts}");
    }
}

/// J6, J9: bull-board reads the queue that was filled and worked here.
#[test]
fn j6_j9_bull_board_reads_what_we_filled_and_worked() {
    let redis = kept();
    let mainstay = app(&redis, SCAN).ready("/");
    let asking = Asking::of(&mainstay);
    let id = asking.add("scan", &json!({ "name": "pdf", "data": { "url": "a" } }));
    asking.until(&id, "completed");
    let broken = asking.add("scan", &json!({ "name": "bad", "data": { "refuse": 404 } }));
    asking.until(&broken, "failed");
    let number = id.strip_prefix("scan:").expect("queue and id");
    for major in MAJORS {
        let board = node("board.js", &[major, &redis.port().to_string(), "scan", "completed", number]);
        let queue = &board["queue"];
        assert_eq!(queue["name"], "scan", "{board}");
        assert_eq!((&queue["counts"]["completed"], &queue["counts"]["failed"]), (&json!(1), &json!(1)), "{board}");
        assert_eq!(queue["jobs"][0]["name"], "pdf", "{board}");
        assert_eq!(queue["jobs"][0]["returnValue"]["success"], true, "{board}");
        assert_eq!(board["job"]["job"]["data"], json!({ "url": "a" }), "{board}");
    }
}

/// J3: a worker with nothing but HTTP takes jobs of BullMQ's and ends each by its token; a token of another changes
/// nothing; progress, a line of the log and a longer lease go by it.
#[test]
fn j3_a_worker_asks_over_http_and_ends_by_its_token() {
    let redis = kept();
    let mainstay = app(&redis, MAIL).ready("/");
    let asking = Asking::of(&mainstay);
    let claim = |wait_ms: u64| {
        let wanted = json!({ "worker": "w1", "max": 1, "waitMs": wait_ms });
        let answer = asking.post("/v1/queues/mail/claim", &wanted);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["jobs"][0].clone()
    };
    assert_eq!(claim(0), Value::Null);
    let id = asking.add("mail", &json!({ "name": "a", "data": { "n": 1 } }));
    let job = claim(10_000);
    assert_eq!((&job["id"], &job["data"], &job["attempt"]), (&json!(id), &json!({ "n": 1 }), &json!(1)), "{job}");
    let token = job["token"].clone();
    for (verb, word) in [
        ("progress", json!({ "token": token, "progress": 50 })),
        ("log", json!({ "token": token, "line": "half way" })),
        ("extend", json!({ "token": token, "lease": "1m" })),
    ] {
        let answer = asking.post(&format!("/v1/jobs/{id}/{verb}"), &word);
        assert_eq!(answer.status, 200, "{verb}: {answer:?}");
    }
    let beat = asking.post("/v1/workers/w1/beat", &json!({ "holding": [[id, token], ["mail:99", 1]] })).json();
    assert_eq!(beat["lost"], json!(["mail:99"]), "{beat}");
    let wrong = asking.post("/v1/jobs/finish", &json!({ "ends": [{ "id": id, "token": 1 }] }));
    assert_eq!((wrong.status, wrong.json()["code"].as_str()), (409, Some("stale_token")), "{wrong:?}");
    let failed = json!({ "ends": [{ "id": id, "token": token, "error": "broke", "stack": "Error: broke\n at w1" }] });
    assert_eq!(asking.post("/v1/jobs/finish", &failed).status, 200);
    let again = claim(10_000);
    assert_eq!((&again["id"], &again["attempt"]), (&json!(id), &json!(2)), "{again}");
    let next = json!({ "queue": "mail", "worker": "w1", "max": 1, "waitMs": 10_000 });
    let second = asking.add("mail", &json!({ "name": "b" }));
    let ends = json!({ "ends": [{ "id": id, "token": again["token"], "result": { "rows": 2 } }], "next": next });
    let finished = asking.post("/v1/jobs/finish", &ends).json();
    assert_eq!((&finished["ends"][0]["ok"], &finished["jobs"][0]["id"]), (&json!(true), &json!(second)), "{finished}");
    let shown = asking.until(&id, "completed");
    assert_eq!((&shown["result"], &shown["progress"]), (&json!({ "rows": 2 }), &json!(50)), "{shown}");
    assert_eq!(shown["log"][0]["line"], "half way", "{shown}");
    assert_eq!(shown["failures"][0]["error"], "broke", "{shown}");
    assert_eq!(shown["failures"][0]["stack"], "Error: broke\n at w1", "{shown}");
    let late = asking.post("/v1/jobs/finish", &json!({ "ends": [{ "id": id, "token": again["token"] }] }));
    assert_eq!((late.status, late.json()["code"].as_str()), (409, Some("stale_token")), "{late:?}");
}

/// J4, J10: attempts and timeout are ours to keep: a handler that does not answer has failed, and one that is told to
/// come later is not.
#[test]
fn j4_j10_a_timeout_is_a_failed_attempt_and_429_is_none() {
    let redis = kept();
    let tables = format!("{SCAN}timeout = \"1s\"\nattempts = 2\nkeep = {{ completed = 2, failed = 1 }}\n");
    let mainstay = app(&redis, &tables).ready("/");
    let asking = Asking::of(&mainstay);
    let slow = asking.add("scan", &json!({ "data": { "hang": true } }));
    let job = asking.until(&slow, "failed");
    assert_eq!((&job["attemptsMade"], job["failures"].as_array().map(Vec::len)), (&json!(2), Some(2)), "{job}");
    let busy = asking.add("scan", &json!({ "data": { "refuse": 429 } }));
    let asked = || -> Vec<u64> {
        let starts = seen(&mainstay).into_iter().filter(|line| line["id"] == *busy && line["what"] == "start");
        starts.filter_map(|line| line["at"].as_u64()).collect()
    };
    wait_until("the app to be asked three times", || asked().len() >= 3);
    // It said that it is busy: the queue rests for a second each time, also where it has no rate.
    let times = asked();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 950), "{times:?}");
    let job = asking.get(&format!("/v1/jobs/{busy}")).json();
    assert_eq!(job["attemptsMade"], 0, "{job}");
    wait_until("it to wait, and be gone", || {
        asking.ask("DELETE", &format!("/v1/jobs/{busy}"), None, &[]).status == 200
    });
    let ids: Vec<String> = (0..4).map(|n| asking.add("scan", &json!({ "data": { "n": n } }))).collect();
    wait_until("the newest two to be kept", || asking.counts("scan")["completed"] == 2);
    let is_gone = |id: &&String| asking.get(&format!("/v1/jobs/{id}")).status == 404;
    wait_until("those before them to be gone", || ids.iter().filter(is_gone).count() == 2);
}

/// A trace stands where BullMQ's telemetry has it: what an add over HTTP brings is given to whoever works the job, and
/// what a producer of Node's brings is in the push.
#[test]
fn a_traceparent_goes_with_a_job_both_ways() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let redis = kept();
    let mainstay = app(&redis, &format!("{SCAN}{MAIL}")).ready("/");
    let asking = Asking::of(&mainstay);
    let header = ["-H", &format!("traceparent: {TRACE}")];
    let pushed = |id: &str| {
        let starts = seen(&mainstay).into_iter().filter(|line| line["id"] == *id && line["what"] == "start");
        starts.map(|line| line["traceparent"].clone()).collect::<Vec<Value>>()
    };
    let jobs: Vec<Value> = (0..50).map(|n| json!({ "data": { "n": n } })).collect();
    let added = asking.ask("POST", "/v1/queues/scan/jobs", Some(&json!(jobs)), &header);
    assert_eq!(added.status, 201, "{added:?}");
    // Worked while they were added.
    for job in added.json()["jobs"].as_array().into_iter().flatten() {
        let id = job["id"].as_str().unwrap_or_default();
        asking.until(id, "completed");
        assert_eq!(pushed(id), [json!(TRACE)], "{id}");
    }
    for major in MAJORS {
        let added = asking.ask("POST", "/v1/queues/mail/jobs", Some(&json!({ "data": {} })), &header).json();
        let shown = asking.get(&format!("/v1/jobs/{}", added["id"].as_str().unwrap_or_default())).json();
        assert_eq!(shown["trace"], TRACE, "{shown}");
        let done = node("work.js", &[major, &redis.port().to_string(), "mail", "1"]);
        let told = done[0]["opts"]["telemetry"]["metadata"].as_str().and_then(|text| serde_json::from_str(text).ok());
        assert_eq!(told, Some(json!({ "traceparent": TRACE })), "{done}");
        assert_eq!((&done[0]["opts"]["attempts"], &done[0]["opts"]["removeOnFail"]), (&json!(3), &json!(500)));
        let telemetry = json!({ "metadata": json!({ "traceparent": TRACE, "tracestate": "a=b" }).to_string() });
        let jobs = json!([{ "name": "traced", "data": {}, "opts": { "telemetry": telemetry } }]);
        let became = node("produce.js", &[major, &redis.port().to_string(), "scan", &jobs.to_string()]);
        let id = format!("scan:{}", became["jobs"][0]["id"].as_str().unwrap_or_default());
        assert_eq!(pushed(&id), [json!(TRACE)], "BullMQ {major}");
    }
}

/// The verbs of an operator, over ids as they are shown; what Node's producers called a job is acted upon too.
#[test]
fn j6_operators_see_and_change_jobs_by_the_ids_they_are_shown() {
    let redis = kept();
    let mainstay = app(&redis, MAIL).ready("/");
    let asking = Asking::of(&mainstay);
    let verb = |words: &[&str]| mainstay.verb(&[&["jobs"], words].concat()).ok();
    let key = ["-H", "Idempotency-Key: order-7"];
    let first = asking.ask("POST", "/v1/queues/mail/jobs", Some(&json!({ "name": "a" })), &key);
    assert_eq!((first.status, first.json()["id"].as_str()), (201, Some("mail:order-7")), "{first:?}");
    let again = asking.ask("POST", "/v1/queues/mail/jobs", Some(&json!({ "name": "a" })), &key);
    assert_eq!((again.status, again.json()["isNew"].as_bool()), (200, Some(false)), "{again:?}");
    let once = json!({ "key": "k", "delay": "1h" });
    let delayed = asking.add("mail", &once);
    let twice = asking.post("/v1/queues/mail/jobs", &once).json();
    assert_eq!((&twice["id"], &twice["isNew"]), (&json!(delayed), &json!(false)), "{twice}");
    assert!(verb(&["list", "mail"]).contains("mail:order-7"), "{}", verb(&["list", "mail"]));
    verb(&["promote", &delayed]);
    assert_eq!(asking.counts("mail")["waiting"], 2);
    verb(&["pause", "mail"]);
    assert!(verb(&[]).contains("paused"), "{}", verb(&[]));
    assert_eq!(redis.cli(&["HGET", "bull:mail:meta", "paused"]).trim(), "1");
    assert_eq!(asking.counts("mail")["waiting"], 2, "those of a paused queue are counted");
    verb(&["resume", "mail"]);
    let claimed = asking.post("/v1/queues/mail/claim", &json!({ "worker": "w", "waitMs": 10_000 })).json();
    let job = &claimed["jobs"][0];
    let refused = mainstay.verb(&["jobs", "remove", job["id"].as_str().unwrap_or_default()]);
    assert!(refused.all().contains("is active"), "{}", refused.all());
    let end = json!({ "ends": [{ "id": job["id"], "token": job["token"], "error": "no", "retry": false }] });
    assert_eq!(asking.post("/v1/jobs/finish", &end).status, 200);
    let failed = job["id"].as_str().unwrap_or_default();
    assert!(verb(&["show", failed]).contains("failed"), "{}", verb(&["show", failed]));
    verb(&["retry", failed]);
    assert_eq!(asking.get(&format!("/v1/jobs/{failed}")).json()["attemptsMade"], 0);
    assert!(verb(&["drain", "mail"]).contains('2'), "two waited");
    assert_eq!(asking.counts("mail")["waiting"], 0);
    assert!(mainstay.verb(&["jobs", "show", "mail:nobody"]).all().contains("there is no job mail:nobody"));
    assert_eq!(asking.get("/v1/jobs/mail:nobody").status, 404);
    assert_eq!(asking.get("/v1/jobs/12").status, 404, "without its queue nobody knows it");
    let stream = asking.ask("GET", "/v1/queues", None, &[]).json();
    assert_eq!(stream["queues"].as_array().map(Vec::len), Some(1), "{stream}");
}

/// What BullMQ has not is said by its name, of the file and of a call.
#[test]
fn what_bullmq_has_not_is_named_and_nothing_is_half_done() {
    let redis = kept();
    let unsupported = "[jobs.scan]\ndead_letter = true\nrate = \"5/60s smooth\"\nbackoff = { jitter = 5 }\n\
        durability = \"os\"\n[[jobs.scan.schedule]]\nevery = \"1m\"\ncatch_up = \"all\"\n";
    let said = app(&redis, unsupported).verb(&["check"]).all();
    for named in
        ["dead_letter: not with", "a smooth rate: not", "jitter: not", "durability: not", "catch_up = \"all\": not"]
    {
        assert!(said.contains(named), "{named}: {said}");
    }
    let shown = app(&redis, MAIL).write("x", "").args(&[]).verb(&["check"]).all();
    assert!(!shown.contains("not with"), "{shown}");
    let nowhere = "[app.main]\nrun = \"node index.js\"\n[jobs]\nstore = \"bullmq\"\n[jobs.mail]\n";
    let said = Setup::file(nowhere).node_app("jobs").verb(&["check"]).all();
    assert!(said.contains("names no server") && said.contains("REDIS_URL"), "{said}");
    let mainstay = app(&redis, MAIL).ready("/");
    let asking = Asking::of(&mainstay);
    for (job, named) in [
        (json!({ "group": "t" }), "groups"),
        (json!({ "children": [{ "queue": "mail" }] }), "children"),
        (json!({ "timeout": "1s" }), "a timeout of one job"),
        (json!({ "backoff": { "type": "fixed", "delay": 1, "jitter": 9 } }), "jitter"),
    ] {
        let answer = asking.post("/v1/queues/mail/jobs", &json!([{ "data": 1 }, job]));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (501, Some("unsupported")), "{answer:?}");
        assert!(answer.text().contains(named), "{answer:?}");
    }
    assert_eq!(asking.counts("mail")["waiting"], 0, "nothing of the arrays was added");
}

/// A Redis that evicts is refused with what to type, and the app is served all the same; one without a log is told of.
#[test]
fn a_redis_that_evicts_is_refused_and_one_without_a_log_is_told_of() {
    let lines = [("appendonly", "yes"), ("maxmemory", "64mb"), ("maxmemory-policy", "allkeys-lru")];
    let redis = manner(&lines);
    let said = app(&redis, MAIL).verb(&["check"]).all();
    assert!(said.contains("maxmemory-policy allkeys-lru") && said.contains("CONFIG SET maxmemory-policy"), "{said}");
    let mainstay = app(&redis, MAIL).ready("/");
    wait_until("the refusal to be said", || mainstay.said().contains("CONFIG SET maxmemory-policy noeviction"));
    let given = get(&mainstay.url("/given")).json();
    let bearer = format!("Authorization: Bearer {}", given["token"].as_str().unwrap_or_default());
    let queues = format!("{}/v1/queues", given["url"].as_str().unwrap_or_default());
    assert_eq!(curl(&["-H", &bearer, &queues]).status, 503);
    // What was told is done: it opens by itself.
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    wait_until("jobs to be open", || curl(&["-H", &bearer, &queues]).status == 200);

    let forgets = manner(&[("maxmemory", "64mb")]);
    let said = app(&forgets, MAIL).verb(&["check"]).all();
    assert!(said.contains("appendonly is off"), "{said}");
    let mainstay = app(&forgets, MAIL).ready("/");
    Asking::of(&mainstay);
    wait_until("it to be told", || mainstay.said().contains("appendonly is off"));
}

/// The server is killed while the app has a job: BullMQ finds the job stalled, and it runs again.
#[test]
fn j8_a_job_that_was_pushed_when_the_server_was_killed_runs_again() {
    let redis = kept();
    let mainstay = app(&redis, SCAN).ready("/");
    let asking = Asking::of(&mainstay);
    let id = asking.add("scan", &json!({ "data": { "slow": 2500 } }));
    let starts = || seen(&mainstay).iter().filter(|line| line["what"] == "start" && line["id"] == *id).count();
    wait_until("the app to have it", || starts() == 1);
    mainstay_e2e::processes::signal(mainstay.server(), Signal::SIGKILL);
    wait_until("it to run again", || starts() == 2);
    let asking = Asking::of(&mainstay);
    let job = asking.until(&id, "completed");
    assert_eq!((&job["attemptsMade"], &job["stalls"]), (&json!(1), &json!(1)), "{job}");
}

/// Redis is killed and comes back: calls are refused meanwhile, what was under way ends, and work goes on.
#[test]
fn j8_redis_is_killed_and_comes_back_and_work_goes_on() {
    let mut redis = kept();
    let mainstay = app(&redis, SCAN).ready("/");
    let asking = Asking::of(&mainstay);
    let under_way = asking.add("scan", &json!({ "data": { "slow": 1500 } }));
    wait_until("the app to have it", || seen(&mainstay).iter().any(|line| line["id"] == *under_way));
    redis.kill();
    let refused = asking.post("/v1/queues/scan/jobs", &json!({ "data": {} }));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("jobs_away")), "{refused:?}");
    assert_eq!(get(&mainstay.url("/")).status, 200, "the app is served all the same");
    redis.run();
    let job = asking.until(&under_way, "completed");
    assert_eq!(job["result"]["success"], true, "{job}");
    let after = wait_for("a job to be added", || {
        let answer = asking.post("/v1/queues/scan/jobs", &json!({ "data": {} }));
        (answer.status == 201).then(|| answer.json()["id"].as_str().map(str::to_owned).expect("an id"))
    });
    asking.until(&after, "completed");
}
