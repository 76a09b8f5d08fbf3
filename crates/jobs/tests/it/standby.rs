//! Nodes that stand by: what is asked of them is done by the one that decides, with and without a pooler between.

use crate::ground::options;
use mainstay_jobs::job::Idempotency;
use mainstay_jobs::op::Finish;
use mainstay_jobs::{
    Child, Claim, Clock, Error, Jobs, NewJob, OnFailure, Outcome, Place, Refusal, Settings, Setup, State, What,
};
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres as Server;
use mainstay_servers::wait::{BOUND, pause};
use std::time::{Duration, Instant};

/// A server, and two nodes on it, of which the first decides.
struct Pair {
    first: Jobs,
    second: Jobs,
    _bouncer: Option<PgBouncer>,
    server: Server,
}

fn open(url: &str, pusher: &str) -> Jobs {
    let place = Place::Postgres(Box::new(options(url)));
    let queues = vec![("scan".into(), Settings::default())];
    Jobs::open(Setup { place, queues, clock: Clock::system(), seed: 1, pusher: Some(pusher.into()) }).expect("opened")
}

impl Pair {
    fn both() -> [Pair; 2] {
        [Pair::direct(), Pair::pooled()]
    }

    fn direct() -> Pair {
        let server = Server::plain();
        Pair::at(&server.url(), None, server)
    }

    fn pooled() -> Pair {
        let server = Server::plain();
        let bouncer = PgBouncer::before(&server);
        Pair::at(&bouncer.url(), Some(bouncer), server)
    }

    fn at(url: &str, bouncer: Option<PgBouncer>, server: Server) -> Pair {
        let (first, second) = (open(url, "push first"), open(url, "push second"));
        assert!(first.decides() && !second.decides());
        Pair { first, second, _bouncer: bouncer, server }
    }

    async fn close(self) {
        self.second.close().await;
        self.first.close().await;
    }
}

fn claim(worker: &str, wait: Duration) -> Claim {
    Claim { queue: "scan".into(), worker: worker.into(), max: 10, wait }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn add(jobs: &Jobs, payload: &str) -> Result<u64, Error> {
    Ok(jobs.add("scan", vec![NewJob::new(payload)]).await?[0].job)
}

#[tokio::test]
async fn what_is_asked_of_a_node_that_stands_by_is_answered_as_by_the_one_that_decides() {
    for pair in Pair::both() {
        let (first, second) = (&pair.first, &pair.second);
        // A key is one key, whichever node is asked.
        let keyed = || {
            let idempotency = Some(Idempotency { key: "k".into(), for_ms: 60_000 });
            vec![NewJob { idempotency, ..NewJob::new(vec![0, 255, b'x']) }]
        };
        let added = second.add("scan", keyed()).await.expect("added")[0];
        assert!(added.is_new);
        let again = first.add("scan", keyed()).await.expect("added")[0];
        assert_eq!((again.job, again.is_new), (added.job, false));
        // Counts, lists and the job itself.
        assert_eq!(second.queues().await.expect("queues"), first.queues().await.expect("queues"));
        let listed = second.list("scan", State::Waiting, 0, 10).await.expect("listed");
        assert_eq!(listed.iter().map(|job| job.row.progressed.job).collect::<Vec<_>>(), [added.job]);
        assert!(second.get(added.job).await.expect("read").is_some());
        // Its bytes, and a token that holds on either node.
        let work = second.claim(claim("w", Duration::ZERO)).await.expect("claimed").remove(0);
        assert_eq!((work.claimed.job, &work.body.payload[..]), (added.job, &[0, 255, b'x'][..]));
        assert_eq!(&*second.workers().await.expect("workers")[0], "w");
        second.progress(added.job, work.claimed.token, b"{}".to_vec()).await.expect("noted");
        first.complete(added.job, work.claimed.token, None).await.expect("completed");
        // Refusals are the same, in kind and words.
        let stale = || Finish { job: added.job, token: 1, outcome: Outcome::Completed { result: None } };
        let mut ends = second.finish(vec![stale()], None).await.expect("asked").ends;
        let expected = refusal(first.finish(vec![stale()], None).await.expect("asked").ends.remove(0));
        assert_eq!(refusal(ends.remove(0)), expected);
        assert_eq!(refusal(second.remove(999).await), refusal(first.remove(999).await));
        let large = || vec![NewJob::new(vec![b'x'; 2 * 1024 * 1024])];
        assert_eq!(refusal(second.add("scan", large()).await), refusal(first.add("scan", large()).await));
        // What children gave reaches a parent that starts on the other node.
        let child = Child { queue: "scan".into(), on_failure: OnFailure::Fail, job: NewJob::new("1") };
        let parent = NewJob { children: vec![child], ..NewJob::new("2") };
        let parent = second.add("scan", vec![parent]).await.expect("added")[0].job;
        let child = first.claim(claim("w", Duration::ZERO)).await.expect("claimed").remove(0).claimed;
        second.complete(child.job, child.token, Some(b"7".to_vec())).await.expect("completed");
        let work = second.claim(claim("w", Duration::ZERO)).await.expect("claimed").remove(0);
        assert_eq!((work.claimed.job, work.children[0].result.as_deref()), (parent, Some(&b"7"[..])));
        pair.close().await;
    }
}

#[tokio::test]
async fn a_claim_that_waits_on_either_node_is_given_what_comes() {
    for pair in Pair::both() {
        for turn in 0..3 {
            let (second, first) = (pair.second.clone(), pair.first.clone());
            let waiting = tokio::spawn(async move { second.claim(claim("far", Duration::from_secs(20))).await });
            let job = add(&first, &turn.to_string()).await.expect("added");
            let work = waiting.await.expect("joined").expect("claimed").remove(0);
            assert_eq!(work.claimed.job, job);
            pair.second.complete(job, work.claimed.token, None).await.expect("completed");
        }
        pair.close().await;
    }
}

#[tokio::test]
async fn what_comes_for_somebody_who_has_left_is_given_to_another() {
    for pair in Pair::both() {
        let left =
            tokio::time::timeout(Duration::from_millis(300), pair.second.claim(claim("left", Duration::from_secs(20))));
        left.await.expect_err("nothing to take");
        let job = add(&pair.first, "x").await.expect("added");
        let began = Instant::now();
        let work = loop {
            let found = pair.first.claim(claim("stays", Duration::from_secs(1))).await.expect("claimed");
            if !found.is_empty() {
                break found;
            }
            assert!(began.elapsed() < BOUND, "nobody has given it back");
        };
        assert_eq!((work[0].claimed.job, work[0].claimed.attempt), (job, 1), "it costs no attempt");
        pair.close().await;
    }
}

#[tokio::test]
async fn what_happens_is_told_on_every_node_until_another_decides() {
    for pair in Pair::both() {
        let (mut here, mut there) = (pair.first.stream(), pair.second.stream());
        // Heard of as soon as the other node knows that somebody listens.
        let mut added = Vec::new();
        let first = loop {
            added.push(add(&pair.first, "x").await.expect("added"));
            match tokio::time::timeout(Duration::from_millis(50), there.next()).await {
                Ok(event) => break event.expect("an event"),
                Err(_) => assert!(added.len() < 200, "nothing is heard"),
            }
        };
        assert!(added.contains(&first.job) && first.what == What::Added, "{first:?}");
        assert_eq!(here.next().await.expect("an event").job, added[0]);
        // Another decides: whoever listens is to ask anew.
        pair.first.close().await;
        while there.next().await.is_ok() {}
        assert!(pair.second.decides());
        pair.second.close().await;
    }
}

#[tokio::test]
async fn claims_whose_callers_have_left_stand_in_nobodys_way() {
    for pair in Pair::both() {
        let mut all: Vec<_> =
            (0..20).map(|_| Box::pin(pair.second.claim(claim("left", Duration::from_secs(60))))).collect();
        for waiting in &mut all {
            let is_sent = tokio::time::timeout(Duration::from_millis(10), waiting).await;
            is_sent.expect_err("nothing to take");
        }
        drop(all);
        // Each that still stands there is given a job that comes, and gives it back: one start more.
        let began = Instant::now();
        loop {
            let job = add(&pair.first, "x").await.expect("added");
            let work = loop {
                let found = pair.first.claim(claim("stays", Duration::from_millis(100))).await.expect("claimed");
                if !found.is_empty() {
                    break found;
                }
                assert!(began.elapsed() < BOUND, "nobody has given it back");
            };
            let starts = pair.first.get(job).await.expect("read").expect("there").row.progressed.starts;
            pair.first.complete(job, work[0].claimed.token, None).await.expect("completed");
            if starts == 1 {
                break;
            }
            assert!(began.elapsed() < BOUND, "they wait still");
            pause(Duration::from_millis(100));
        }
        pair.close().await;
    }
}

#[tokio::test]
async fn a_node_that_is_closed_asks_nothing_more_of_postgres() {
    let pair = Pair::direct();
    pair.second.queues().await.expect("queues");
    pair.first.close().await;
    let opened = || -> u64 {
        // Written down by each connection when it ends.
        let sessions = "SELECT pg_stat_clear_snapshot(); SELECT sessions FROM pg_stat_database WHERE datname = 'app'";
        pair.server.psql(sessions).trim().parse().expect("a number")
    };
    let began = Instant::now();
    while !pair.second.decides() {
        assert!(began.elapsed() < BOUND, "nobody decides");
        pause(Duration::from_millis(20));
    }
    let before = opened();
    for _ in 0..20 {
        pause(Duration::from_millis(50));
        add(&pair.second, "x").await.expect("added");
    }
    let after = opened();
    assert!(after - before < 10, "{} connections in a second", after - before);
    pair.second.close().await;
}

#[tokio::test]
async fn a_node_shows_that_it_lives_and_falls_silent() {
    for pair in Pair::both() {
        let heard = async |expected: bool| {
            let began = Instant::now();
            while pair.first.is_heard("push second") != expected {
                assert!(began.elapsed() < BOUND, "heard: {expected}");
                pause(Duration::from_millis(20));
            }
        };
        heard(true).await;
        pair.second.close().await;
        heard(false).await;
        pair.first.close().await;
    }
}

/// A call is done once at most, and one that was acknowledged is kept: while every connection is cut again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_at_a_takeover_are_done_once_at_most() {
    let pair = Pair::direct();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let producers: Vec<_> = (0..4)
        .map(|number| {
            let (jobs, stopped) = ([&pair.first, &pair.second][number % 2].clone(), stopped.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for round in 0.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let payload = format!("\"{number} {round}\"");
                    match add(&jobs, &payload).await {
                        Ok(_) => acknowledged.push(payload),
                        Err(_) => pause(Duration::from_millis(10)),
                    }
                }
                acknowledged
            })
        })
        .collect();
    for round in 0..4 {
        pause(Duration::from_millis(500));
        let own = "pid <> pg_backend_pid() AND application_name = 'mainstay'";
        pair.server.psql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}"));
        let began = Instant::now();
        while add(&pair.second, &format!("\"after {round}\"")).await.is_err() {
            assert!(began.elapsed() < BOUND, "nobody decides");
            pause(Duration::from_millis(20));
        }
    }
    stop.send_replace(true);
    let mut all = Vec::new();
    for producer in producers {
        all.extend(producer.await.expect("joined"));
    }
    println!("{} acknowledged", all.len());
    assert!(all.len() > 20);
    let kept = pair.server.psql("SELECT convert_from(payload, 'UTF8') FROM mainstay.jobs_body ORDER BY 1");
    let kept: Vec<&str> = kept.lines().collect();
    assert!(kept.windows(2).all(|two| two[0] != two[1] || two[0].contains("after")), "something was done twice");
    let missing: Vec<_> = all.iter().filter(|payload| !kept.contains(&payload.as_str())).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    pair.close().await;
}
