//! What is connected: a request's account goes on to the jobs that it added, and a job's back to its request; a parent
//! is told what its children gave.

use crate::jobs::{Asking, app, queue, seen};
use mainstay_e2e::{Answer, Mainstay, curl, get, wait_for, wait_until};
use mainstay_servers::postgres::Postgres;
use serde_json::{Value, json};

/// An order over the edge, and the id of the job that the app added for it.
#[track_caller]
fn order(mainstay: &Mainstay, job: &Value) -> (Answer, u64) {
    let answer = curl(&["-d", &job.to_string(), &mainstay.url("/order")]);
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.json()["id"].as_u64().unwrap_or_else(|| panic!("no id: {answer:?}"));
    (answer, id)
}

/// Lines of the account, from the one of jobs on.
fn jobs_of(account: &str) -> Vec<&str> {
    account.lines().skip_while(|line| !line.starts_with("  jobs ")).collect()
}

#[track_caller]
fn account(mainstay: &Mainstay, id: &str) -> Value {
    let text = mainstay.verb(&["why", id, "--json"]).ok();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// J11, O4: `mainstay why ID` shows a job that is done, one that failed thrice, and the children of a flow.
#[test]
fn j11_the_account_of_a_request_goes_on_to_its_jobs() {
    let tables = format!("{}{}", queue("scan", "attempts = 3"), queue("payment", ""));
    let mainstay = app(&tables).ready("/");
    let asking = Asking::of(&mainstay);
    let (good, done) = order(&mainstay, &json!({ "name": "pdf", "data": {} }));
    let (bad, failed) = order(&mainstay, &json!({ "name": "deep", "data": { "fail": 9 } }));
    let children = json!([{ "queue": "payment", "data": {} }, { "queue": "payment", "data": {} }]);
    let (flow, parent) = order(&mainstay, &json!({ "name": "sum", "children": children }));
    for (id, state) in [(done, "completed"), (failed, "failed"), (parent, "completed")] {
        asking.until(id, state);
    }

    let text = mainstay.why(&good.id());
    let lines = jobs_of(&text);
    assert!(lines.len() == 1 && lines[0].contains("scan ") && lines[0].contains("completed   1/3"), "{text}");
    let text = mainstay.why(&bad.id());
    let lines = jobs_of(&text);
    assert!(lines[0].contains("deep") && lines[0].contains("failed      3/3"), "{text}");
    assert!(lines[0].contains("failed 3"), "the last error: {text}");

    let told = account(&mainstay, &bad.id());
    let job = &told["jobs"][0];
    assert_eq!((&job["id"], &job["state"], &job["attemptsMade"]), (&json!(failed), &json!("failed"), &json!(3)));
    assert_eq!((&job["traceId"], &told["moreJobs"]), (&told["traceId"], &json!(false)));
    let told = account(&mainstay, &flow.id());
    let of = |job: &Value| (job["queue"].as_str().map(str::to_owned), job["parent"].as_u64());
    let found: Vec<_> = told["jobs"].as_array().expect("jobs").iter().map(of).collect();
    let payment = || (Some("payment".to_owned()), Some(parent));
    assert_eq!(found, [(Some("scan".to_owned()), None), payment(), payment()], "{told:#}");

    // The way back; and a request that added nothing says nothing of jobs.
    let shown = mainstay.verb(&["jobs", "show", &failed.to_string()]).ok();
    assert!(shown.contains(&format!("request   mainstay why {}", bad.id())), "{shown}");
    let idle = get(&mainstay.url("/"));
    assert!(jobs_of(&mainstay.why(&idle.id())).is_empty());
}

/// What is known of jobs is in their file: it is there after a restart. Without a server the rest of the account is.
#[test]
fn j11_the_account_is_there_after_a_restart() {
    let mut mainstay = app(&queue("scan", "attempts = 1")).ready("/");
    let asking = Asking::of(&mainstay);
    let (answer, id) = order(&mainstay, &json!({ "data": { "fail": 1 } }));
    asking.until(id, "failed");
    mainstay.why(&answer.id());
    mainstay.verb(&["stop"]).ok();
    mainstay.end();
    let ended = mainstay.verb(&["why", &answer.id()]);
    assert!(ended.code == Some(0) && jobs_of(&ended.out).is_empty(), "{}", ended.all());
    let mainstay = mainstay.again();
    mainstay.answering("/");
    let lines = wait_for("the job to be told of", || {
        let text = mainstay.verb(&["why", &answer.id()]).out;
        let lines: Vec<String> = jobs_of(&text).into_iter().map(str::to_owned).collect();
        lines.iter().any(|line| line.contains("failed")).then_some(lines)
    });
    assert!(lines[0].contains("1/1") && lines[0].contains("failed 1"), "{lines:?}");
}

/// J1: a flow by the verb, and a parent that is pushed asks for its children by the path it is given.
#[test]
fn j1_a_flow_is_added_by_the_verb_and_its_parent_is_told_where_to_ask() {
    let mainstay = app(&format!("{}{}", queue("scan", ""), queue("payment", ""))).ready("/");
    let asking = Asking::of(&mainstay);
    let below = r#"[{"queue":"scan","data":{}},{"queue":"scan","data":{},"children":[{"queue":"scan","data":{}}]}]"#;
    mainstay.write("below.json", below);
    let file = format!("@{}", mainstay.path().join("below.json").display());
    let added = mainstay.verb(&["jobs", "add", "payment", "--name", "sum", "--children", &file]).ok();
    let parent = added.split(' ').next().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id: {added}"));
    assert!(added.contains("starts after its children"), "{added}");
    asking.until(parent, "completed");
    let told = seen(&mainstay);
    let told: Vec<&Value> = told.iter().filter(|line| line["what"] == "children" && line["id"] == parent).collect();
    let children = told[0]["children"].as_array().expect("children");
    assert!(children.len() == 2 && children.iter().all(|child| child["result"]["success"] == true), "{told:?}");
    for (given, why) in [
        ("[", "--children is no JSON"),
        ("{}", "expected an array"),
        ("[{}]", "children[0].queue: it is not there"),
        (r#"[{"queue":"none"}]"#, "there is no queue `none`"),
        (r#"[{"queue":"scan","key":""}]"#, "children[0].key: it is empty"),
    ] {
        let refused = mainstay.verb(&["jobs", "add", "payment", "--children", given]);
        assert!(refused.code != Some(0) && refused.all().contains(why), "{given}: {}", refused.all());
    }
    assert_eq!(asking.counts("payment")["waitingChildren"], 0);
}

/// J8: what was added in SQL and cannot be a job is shown with the reason, counted, told of, and dropped.
#[test]
fn j8_what_cannot_be_taken_over_is_shown_and_dropped() {
    let postgres = Postgres::plain();
    let text = format!("[store]\ndurable = \"postgres\"\n{}", queue("scan", ""));
    let mainstay = app(&text).env("DATABASE_URL", &postgres.url()).ready("/");
    let asking = Asking::of(&mainstay);
    assert!(mainstay.verb(&["jobs", "refused"]).all().contains("there is none"));
    let bad = "INSERT INTO mainstay.jobs_inbox (queue, name, payload, priority, delay_ms)
               VALUES ('scan', 'bad', '1', 999999999, 0)";
    (0..3).for_each(|_| drop(postgres.psql(bad)));
    let refused = || mainstay.verb(&["jobs", "refused", "--json"]).json()["refused"].as_array().cloned();
    let all = wait_for("all to be refused", || refused().filter(|all| all.len() == 3));
    assert!(all[0]["why"].as_str().is_some_and(|why| why.contains("the priority is 999999999")), "{all:?}");
    postgres.psql("SELECT mainstay.add_job('scan', 'good', '{}')");
    wait_until("the good one to be done", || asking.counts("scan")["completed"] == 1);
    let metrics = get(&mainstay.url("/.mainstay/health/metrics")).text();
    assert!(metrics.contains("queue_jobs_refused{queue=\"scan\"} 3"), "{metrics}");
    wait_until("the journal to say it", || {
        mainstay.verb(&["journal"]).all().contains("the inbox of scan is refused, 3")
    });

    let id = all[1]["id"].to_string();
    let lines = mainstay.verb(&["jobs", "refused"]).ok();
    assert!(lines.lines().count() == 3 && lines.contains(&id) && lines.contains("bad"), "{lines}");
    // Of one that is tried again at this moment it is said that it may be.
    wait_until("one to be dropped", || mainstay.verb(&["jobs", "refused", "--drop", &id]).code == Some(0));
    assert!(mainstay.verb(&["jobs", "refused", "--drop", "7"]).all().contains("there is no refused job 7"));
    wait_until("the rest to be dropped", || {
        mainstay.verb(&["jobs", "refused", "--drop-all"]).ok();
        refused().is_some_and(|all| all.is_empty())
    });
    wait_until("the journal to say that too", || {
        let said = mainstay.verb(&["journal"]).all();
        said.contains("the inbox of scan is clear") && said.contains("refused job dropped")
    });
    assert_eq!(asking.counts("scan")["completed"], 1);
}
