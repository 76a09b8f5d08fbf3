//! Several nodes on one Postgres, as their apps see them: each asks its own, each is given jobs, one takes over from
//! another.

use crate::jobs::{Asking, app, queue, starts};
use mainstay_e2e::{Mainstay, Setup, processes, wait_until};
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Instant;

fn node(url: &str, lines: &str) -> Setup {
    let store = "[store]\ndurable = \"postgres\"\n";
    app(&format!("{store}{}", queue("scan", lines))).env("DATABASE_URL", url)
}

/// The whole node at once: neither of its processes starts the other again, nor takes what is added now.
fn kill(node: &Mainstay) {
    node.signal(Signal::SIGSTOP);
    processes::signal(node.server(), Signal::SIGKILL);
    node.signal(Signal::SIGKILL);
}

/// J8: an app asks its own node, or adds in its own transaction, and each node's instances are given jobs.
#[test]
fn j8_on_postgres_every_node_answers_its_app_and_another_takes_over() {
    let postgres = Postgres::plain();
    every_node_answers_and_another_takes_over(&postgres, &postgres.url());
}

/// J8: the same through PgBouncer in transaction mode.
#[test]
fn j8_behind_pgbouncer_every_node_answers_its_app_and_another_takes_over() {
    let postgres = Postgres::plain();
    let bouncer = PgBouncer::before(&postgres);
    every_node_answers_and_another_takes_over(&postgres, &bouncer.url());
}

fn every_node_answers_and_another_takes_over(postgres: &Postgres, url: &str) {
    let node = || node(url, "concurrency = 4");
    let installed = node().verb(&["db", "install"]).ok();
    assert!(installed.contains("add_job: installed"), "{installed}");
    let first = node().ready("/");
    let asking = Asking::of(&first);
    let done = asking.add("scan", &json!({ "data": {} }));
    asking.until(done, "completed");
    let second = node().ready("/");
    wait_until("the second to stand by", || second.said().contains("stands by"));
    let there = Asking::of(&second);
    there.until(there.add("scan", &json!({ "data": {} })), "completed");
    postgres.psql("BEGIN; SELECT mainstay.add_job('scan', 'sql', '{}'); ROLLBACK");
    postgres.psql("SELECT mainstay.add_job('scan', 'sql', '{}')");
    // Kept as done, or the next node would do one again.
    wait_until("all three to be done", || there.counts("scan")["completed"] == 3);
    assert_eq!(starts(&first, "scan").len() + starts(&second, "scan").len(), 3);
    assert_eq!(there.get(&format!("/v1/jobs/{done}")).json(), asking.job(done));
    assert!(second.verb(&["jobs"]).ok().contains("scan"));
    let refused = there.ask("DELETE", "/v1/jobs/999", None, &[]);
    assert_eq!((refused.status, refused.text()), (404, asking.ask("DELETE", "/v1/jobs/999", None, &[]).text()));
    // Both are given some, and it does not matter which was asked.
    let mut added = 3;
    let is_shared = || [&first, &second].iter().all(|node| !starts(node, "scan").is_empty());
    while !is_shared() {
        assert!(added < 50, "one of two nodes is given everything");
        there.add("scan", &json!({ "data": { "slow": 50 } }));
        added += 1;
        wait_until("it to be given to one", || starts(&first, "scan").len() + starts(&second, "scan").len() == added);
    }
    wait_until("all to be done", || there.counts("scan")["completed"] == added);
    let before = starts(&second, "scan").len();
    kill(&first);
    postgres.psql("SELECT mainstay.add_job('scan', 'sql', '{}')");
    wait_until("the second to have taken over", || starts(&second, "scan").len() == before + 1);
    assert_eq!(Asking::of(&second).job(done)["state"], "completed");
}

/// J8: what a node was pushing that is killed as a whole is given to another, long before leases end.
#[test]
fn j8_what_a_node_that_dies_was_pushing_is_done_by_another() {
    let postgres = Postgres::plain();
    let node = || node(&postgres.url(), "concurrency = 8\ntimeout = \"5m\"");
    let first = node().ready("/");
    let asking = Asking::of(&first);
    let second = node().ready("/");
    Asking::of(&second);
    let held: Vec<u64> = loop {
        let all = || starts(&first, "scan").len() + starts(&second, "scan").len();
        let before = all();
        assert!(before < 8, "one of two nodes is given everything");
        asking.add("scan", &json!({ "data": { "slow": 120_000 } }));
        wait_until("it to be given to one", || all() == before + 1);
        let there: Vec<u64> = starts(&second, "scan").iter().filter_map(|line| line["id"].as_u64()).collect();
        if !there.is_empty() {
            break there;
        }
    };
    kill(&second);
    let began = Instant::now();
    let again = || -> Vec<u64> { starts(&first, "scan").iter().filter_map(|line| line["id"].as_u64()).collect() };
    wait_until("it to be given to the first", || held.iter().all(|id| again().contains(id)));
    println!("given to another after {:?}", began.elapsed());
    // A lease was renewed within ten seconds of its thirty.
    assert!(began.elapsed().as_secs() < 18, "{:?}", began.elapsed());
    let job: Value = asking.job(held[0]);
    assert_eq!((&job["failures"][0]["ending"], &job["attemptsMade"]), (&json!("stalled"), &json!(0)), "{job:#}");
    kill(&first);
}
