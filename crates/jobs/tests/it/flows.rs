//! Flows as the server uses them: over the real store, with a clock that is moved by hand.

use crate::ground::Ground;
use mainstay_jobs::job::{Ending, Idempotency};
use mainstay_jobs::op::{Finish, LEASE_MS};
use mainstay_jobs::schedule::{Rule, Schedule};
use mainstay_jobs::{
    Child, Claim, Clock, Error, Jobs, Keep, NewJob, OnFailure, Outcome, Refusal, Settings, Setup, State, Work,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const START_MS: u64 = 1_767_225_600_000;

suite!(
    a_parent_starts_after_its_children_and_is_given_what_they_gave,
    a_child_that_fails_fails_its_parent_until_it_is_tried_again,
    a_child_whose_failure_is_no_matter_lets_its_parent_start,
    a_flow_is_added_once_and_whole_or_not_at_all,
    flows_are_bounded_and_schedules_have_none,
    results_past_a_quarter_megabyte_are_asked_for_piece_by_piece,
    a_parent_is_removed_with_what_it_waits_for_unless_that_runs,
);

struct House {
    jobs: Jobs,
    time: Arc<AtomicU64>,
    ground: Ground,
}

/// Nothing that is completed is kept, and nothing is tried twice.
fn open(ground: &Ground, time: &Arc<AtomicU64>) -> Jobs {
    let time = time.clone();
    let completed = Keep { count: 0, age_ms: None };
    let settings = Settings { completed, attempts: 1, timeout_ms: 0, ..Settings::default() };
    let queues = ["report", "fetch", "parse"].map(|queue| (queue.into(), settings.clone()));
    let clock = Clock::of(move || time.load(Ordering::SeqCst));
    Jobs::open(Setup { place: ground.place(), queues: queues.to_vec(), clock, seed: 1, pusher: None }).expect("opened")
}

impl House {
    fn new(ground: Ground) -> House {
        let time = Arc::new(AtomicU64::new(START_MS));
        House { jobs: open(&ground, &time), time, ground }
    }

    async fn reopen(&mut self) {
        self.jobs.close().await;
        self.jobs = open(&self.ground, &self.time);
    }

    async fn pass(&self, ms: u64) {
        self.time.fetch_add(ms, Ordering::SeqCst);
        self.jobs.tick().await.expect("ticked");
    }

    async fn add(&self, job: NewJob) -> Result<u64, Error> {
        Ok(self.jobs.add("report", vec![job]).await?[0].job)
    }

    async fn take(&self, queue: &str) -> Option<Work> {
        let claim = Claim { queue: queue.into(), worker: "w".into(), max: 1, wait: Duration::ZERO };
        self.jobs.claim(claim).await.expect("claimed").pop()
    }

    /// The next of this queue is completed, with this result.
    async fn complete(&self, queue: &str, result: &str) -> u64 {
        let work = self.take(queue).await.expect("a job");
        let result = Some(result.as_bytes().to_vec());
        self.jobs.complete(work.claimed.job, work.claimed.token, result).await.expect("completed");
        work.claimed.job
    }

    async fn fail(&self, queue: &str) -> u64 {
        let work = self.take(queue).await.expect("a job");
        let outcome = Outcome::Failed { error: "no".into(), stack: None, retry: false, wait_ms: None };
        let finish = Finish { job: work.claimed.job, token: work.claimed.token, outcome };
        self.jobs.finish(vec![finish], None).await.expect("kept").ends.remove(0).expect("its own");
        work.claimed.job
    }

    async fn state(&self, job: u64) -> Option<State> {
        self.jobs.get(job).await.expect("read").map(|detail| detail.row.progressed.state)
    }
}

fn child(queue: &str, job: NewJob) -> Child {
    Child { queue: queue.into(), on_failure: OnFailure::Fail, job }
}

fn parent(children: Vec<Child>) -> NewJob {
    NewJob { children, ..NewJob::new("report") }
}

fn refused<T>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

async fn a_parent_starts_after_its_children_and_is_given_what_they_gave(ground: Ground) {
    let mut house = House::new(ground);
    let parse = NewJob { children: vec![child("fetch", NewJob::new("1"))], ..NewJob::new("parse") };
    let flow = NewJob { delay_ms: 5000, ..parent(vec![child("fetch", NewJob::new("2")), child("parse", parse)]) };
    let id = house.add(flow).await.expect("added");
    let children = house.jobs.children(id, 0, 10).await.expect("read");
    assert_eq!(children.iter().map(|child| &*child.queue).collect::<Vec<_>>(), ["fetch", "parse"]);
    assert_eq!(house.jobs.get(children[1].job).await.expect("read").expect("there").parent, Some(id));
    assert_eq!(house.state(id).await, Some(State::WaitingChildren));
    assert!(house.take("report").await.is_none() && house.take("parse").await.is_none());
    house.complete("fetch", "[1]").await;
    house.complete("fetch", "[2]").await;
    house.reopen().await;
    house.complete("parse", "[3]").await;
    // Of what is completed nothing is kept: what they gave is there all the same, after a crash too.
    assert_eq!(house.state(children[0].job).await, None);
    assert_eq!(house.state(id).await, Some(State::Delayed));
    house.reopen().await;
    house.pass(5000).await;
    let work = house.take("report").await.expect("the parent");
    let given: Vec<_> = work.children.iter().map(|child| (child.job, child.state(), child.result.as_deref())).collect();
    let expected = [(children[0].job, "completed", Some(&b"[1]"[..])), (children[1].job, "completed", Some(b"[3]"))];
    assert_eq!((work.claimed.job, given), (id, expected.to_vec()));
    // Its worker is lost: whoever has it next is given the same.
    house.pass(LEASE_MS + 1).await;
    assert_eq!(house.take("report").await.expect("again").children, work.children);
}

async fn a_child_that_fails_fails_its_parent_until_it_is_tried_again(ground: Ground) {
    let house = House::new(ground);
    let id = house.add(parent(vec![child("fetch", NewJob::new("1")), child("parse", NewJob::new("2"))])).await;
    let id = id.expect("added");
    let failed = house.fail("fetch").await;
    let detail = house.jobs.get(id).await.expect("read").expect("there");
    assert_eq!((detail.row.progressed.state, detail.attempts[0].ending), (State::Failed, Ending::Child));
    assert!(detail.attempts[0].error.contains(&format!("child {failed} failed")), "{:?}", detail.attempts);
    // The other goes on; the parent cannot start without the first.
    house.complete("parse", "2").await;
    assert_eq!(refused(house.jobs.retry(id).await), Refusal::Children { job: id, child: failed });
    house.jobs.retry(failed).await.expect("retried");
    assert_eq!(house.state(id).await, Some(State::WaitingChildren));
    house.fail("fetch").await;
    assert_eq!(house.state(id).await, Some(State::Failed));
    assert_eq!(house.jobs.get(id).await.expect("read").expect("there").attempts.len(), 1, "the last reason");
    assert_eq!(house.jobs.redrive("fetch", State::Failed).await.expect("redriven"), 1);
    house.complete("fetch", "1").await;
    assert_eq!(house.take("report").await.expect("the parent").children.len(), 2);
}

async fn a_child_whose_failure_is_no_matter_lets_its_parent_start(ground: Ground) {
    let house = House::new(ground);
    let some = |queue: &str| Child { on_failure: OnFailure::Ignore, ..child(queue, NewJob::new("1")) };
    house.add(parent(vec![some("fetch"), some("parse")])).await.expect("added");
    house.fail("fetch").await;
    assert_eq!(house.jobs.drain("parse", false).await.expect("drained"), 1);
    let work = house.take("report").await.expect("the parent");
    assert_eq!(work.children.iter().map(|child| child.state()).collect::<Vec<_>>(), ["failed", "removed"]);
}

async fn a_flow_is_added_once_and_whole_or_not_at_all(ground: Ground) {
    let house = House::new(ground);
    let flow = |key: &str, child_key: Option<&str>| {
        let unique = child_key.map(|key| mainstay_jobs::job::Unique { key: key.into(), for_ms: None });
        let idempotency = Some(Idempotency { key: key.into(), for_ms: 60_000 });
        let below = child("fetch", NewJob { unique, ..NewJob::new("x") });
        NewJob { idempotency, ..parent(vec![below, child("new", NewJob::new("y"))]) }
    };
    let first = house.add(flow("a", Some("k"))).await.expect("added");
    assert_eq!(house.add(flow("a", Some("k"))).await.expect("known"), first);
    let holder = house.jobs.children(first, 0, 1).await.expect("read")[0].job;
    let half = house.jobs.add("report", vec![NewJob::new("z"), flow("b", Some("k"))]).await;
    assert_eq!(refused(half), Refusal::Duplicate { job: holder });
    let twice = house.jobs.add("report", vec![flow("b", Some("l")), flow("c", Some("l"))]).await;
    assert!(matches!(refused(twice), Refusal::Flow(_)));
    let queues = house.jobs.queues().await.expect("queues");
    let counts: Vec<_> =
        queues.iter().map(|queue| (&*queue.name, queue.counts.waiting + queue.counts.waiting_children)).collect();
    assert_eq!(counts, [("fetch", 1), ("parse", 0), ("report", 1), ("new", 1)]);
}

async fn flows_are_bounded_and_schedules_have_none(ground: Ground) {
    let house = House::new(ground);
    let chain = |levels: usize| (1..levels).fold(NewJob::new("x"), |below, _| parent(vec![child("fetch", below)]));
    let wide = |jobs: usize| parent((1..jobs).map(|_| child("fetch", NewJob::new("x"))).collect());
    for job in [chain(9), wide(1001)] {
        assert!(matches!(refused(house.add(job).await), Refusal::TooLong { .. }));
    }
    house.add(chain(8)).await.expect("eight levels");
    house.add(wide(1000)).await.expect("a thousand jobs");
    let many = house.jobs.add("report", (0..11).map(|_| wide(1000)).collect()).await;
    assert!(matches!(refused(many), Refusal::TooLong { found: 11_000, .. }));
    let schedule = Schedule::new("s".into(), "report".into(), Rule::Every(60_000), wide(2), START_MS).expect("made");
    assert!(matches!(refused(house.jobs.schedule(schedule).await), Refusal::Flow(_)));
}

async fn results_past_a_quarter_megabyte_are_asked_for_piece_by_piece(ground: Ground) {
    let house = House::new(ground);
    let id = house.add(parent((0..6).map(|_| child("fetch", NewJob::new("x"))).collect())).await.expect("added");
    let large = "x".repeat(60_000);
    for _ in 0..6 {
        house.complete("fetch", &large).await;
    }
    let work = house.take("report").await.expect("the parent");
    let given = |children: &[mainstay_jobs::store::ChildDetail]| -> Vec<(bool, bool)> {
        children.iter().map(|child| (child.result.is_some(), child.is_left_out)).collect()
    };
    let (here, left_out) = ((true, false), (false, true));
    assert_eq!(given(&work.children), [here, here, here, here, left_out, left_out]);
    assert_eq!(given(&house.jobs.children(id, 4, 10).await.expect("read")), [here, here]);
}

async fn a_parent_is_removed_with_what_it_waits_for_unless_that_runs(ground: Ground) {
    let house = House::new(ground);
    let parse = NewJob { children: vec![child("fetch", NewJob::new("1"))], ..NewJob::new("parse") };
    let flow = || parent(vec![child("fetch", NewJob::new("2")), child("parse", parse.clone())]);
    let id = house.add(flow()).await.expect("added");
    let active = house.take("fetch").await.expect("a child").claimed;
    let refusal = Refusal::WrongState { job: active.job, state: State::Active };
    assert_eq!(refused(house.jobs.remove(id).await), refusal);
    house.jobs.complete(active.job, active.token, None).await.expect("completed");
    house.jobs.remove(id).await.expect("removed");
    for queue in house.jobs.queues().await.expect("queues") {
        assert_eq!(queue.counts, mainstay_jobs::Counts::default(), "{}", queue.name);
    }
    assert!(house.jobs.children(id, 0, 10).await.expect("read").is_empty());
    // A child that is removed is missed.
    let id = house.add(flow()).await.expect("added");
    let child = house.jobs.children(id, 0, 1).await.expect("read")[0].job;
    house.jobs.remove(child).await.expect("removed");
    let detail = house.jobs.get(id).await.expect("read").expect("there");
    assert!(detail.attempts[0].error.contains("was removed before it was done"), "{:?}", detail.attempts);
    assert_eq!(refused(house.jobs.retry(id).await), Refusal::Children { job: id, child });
}
