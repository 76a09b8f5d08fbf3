//! Jobs as the server uses them: over the real store, with a clock that is moved by hand.

use crate::ground::Ground;
use mainstay_jobs::job::{Body, Ending, Idempotency};
use mainstay_jobs::op::Finish;
use mainstay_jobs::schedule::{Rule, Schedule};
use mainstay_jobs::store::Detail;
use mainstay_jobs::{
    Child, Claim, Clock, Durability, Error, Jobs, Keep, NewJob, OnFailure, Outcome, Refusal, Settings, Setup, State,
    What, Work,
};
use mainstay_limits::window::Limit;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const START_MS: u64 = 1_767_225_600_000;

suite!(
    a_job_is_added_claimed_and_completed_with_its_result,
    tries_at_0_2_and_6_seconds_each_with_its_error_then_failed,
    a_stale_token_is_told_so_and_changes_nothing,
    a_disconnected_workers_job_is_anothers_within_six_seconds_unless_it_comes_back,
    a_claim_waits_for_an_add_and_the_first_to_wait_is_the_first_to_get,
    a_claim_that_nobody_waits_for_any_more_takes_nothing,
    ends_are_told_each_by_itself_and_bring_the_next_jobs,
    what_was_acknowledged_is_there_after_a_restart_with_the_tokens_of_before,
    a_job_whose_worker_died_with_us_loses_no_attempt_by_it,
    five_starts_in_any_sixty_seconds_over_restarts,
    an_add_that_is_repeated_gives_the_job_of_the_first,
    a_hundred_completed_are_kept_and_what_is_removed_is_gone,
    a_drain_of_more_than_a_piece_takes_all,
    dead_letters_wait_for_an_operator,
    a_commit_that_fails_is_said_and_what_was_kept_before_is_what_there_is,
    events_are_told_in_order_after_their_commit,
    a_schedule_adds_a_job_a_tick_and_stands_where_it_stood_after_a_restart,
    what_is_too_large_or_closed_is_said,
    a_delayed_job_starts_by_itself_when_it_is_due,
    a_deep_queue_asks_for_workers_until_it_is_no_longer_deep,
    a_worker_that_is_told_503_gives_back_and_the_queue_rests,
    attempts_are_changed_without_a_restart_for_jobs_that_wait_already,
    rows_of_a_queue_that_somebody_deleted_are_said_to_be_damaged,
    each_job_is_completed_once_though_claims_are_dropped_all_the_time,
    jobs_are_found_by_the_trace_they_were_added_with,
    a_list_is_read_without_what_may_be_large,
    a_claim_gives_what_fits_into_an_answer,
);

/// Jobs in a place of their own, and the clock they go by.
struct House {
    jobs: Jobs,
    time: Arc<AtomicU64>,
    ground: Ground,
}

impl House {
    fn new(ground: Ground, settings: Settings) -> House {
        let time = Arc::new(AtomicU64::new(START_MS));
        House { jobs: open(&ground, &time, settings).expect("opened"), time, ground }
    }

    async fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        self.jobs.tick().await.expect("ticked");
    }

    async fn counts(&self) -> mainstay_jobs::Counts {
        let queues = self.jobs.queues().await.expect("queues");
        queues.iter().find(|queue| &*queue.name == "scan").map(|queue| queue.counts).unwrap_or_default()
    }

    /// As after `kill -9`: the store is opened again, and the claims of before are known by their tokens alone.
    async fn reopen(&mut self, settings: Settings) {
        self.jobs.close().await;
        self.jobs = open(&self.ground, &self.time, settings).expect("opened again");
    }
}

fn open(ground: &Ground, time: &Arc<AtomicU64>, settings: Settings) -> Result<Jobs, Error> {
    let time = time.clone();
    Jobs::open(Setup {
        place: ground.place(),
        queues: vec![("scan".into(), settings)],
        clock: Clock::of(move || time.load(Ordering::SeqCst)),
        seed: 1,
        pusher: None,
    })
}

fn claim(worker: &str, max: u32, wait: Duration) -> Claim {
    Claim { queue: "scan".into(), worker: worker.into(), max, wait }
}

async fn take(jobs: &Jobs, worker: &str) -> Vec<Work> {
    jobs.claim(claim(worker, 1, Duration::ZERO)).await.expect("claimed")
}

async fn add(jobs: &Jobs, payload: &str) -> u64 {
    jobs.add("scan", vec![NewJob::new(payload)]).await.expect("added")[0].job
}

fn failed(work: &Work, retry: bool) -> Finish {
    let outcome = Outcome::Failed { error: "no".into(), stack: Some("at scan.js:7".into()), retry, wait_ms: None };
    Finish { job: work.claimed.job, token: work.claimed.token, outcome }
}

async fn a_job_is_added_claimed_and_completed_with_its_result(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let mut new = NewJob::new(r#"{"url":"https://example.com"}"#);
    new.body.name = "page".into();
    new.body.trace = Some("00-1-2-01".into());
    let job = house.jobs.add("scan", vec![new.clone()]).await.expect("added")[0].job;
    let work = take(&house.jobs, "w").await;
    assert_eq!((work.len(), work[0].claimed.job, work[0].claimed.attempt), (1, job, 1));
    assert_eq!(work[0].body, new.body);
    assert_eq!(house.counts().await.active, 1);
    let token = work[0].claimed.token;
    house.jobs.progress(job, token, b"50".to_vec()).await.expect("progress");
    house.jobs.log(job, token, "half".into()).await.expect("logged");
    house.jobs.complete(job, token, Some(br#"{"success":true}"#.to_vec())).await.expect("completed");
    let detail = house.jobs.get(job).await.expect("read").expect("kept");
    assert_eq!(detail.row.progressed.state, State::Completed);
    assert_eq!(detail.result.as_deref(), Some(&br#"{"success":true}"#[..]));
    assert_eq!((detail.progress.as_deref(), &*detail.lines[0].line), (Some(&b"50"[..]), "half"));
    assert!(take(&house.jobs, "w").await.is_empty(), "completed once");
}

async fn tries_at_0_2_and_6_seconds_each_with_its_error_then_failed(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let job = add(&house.jobs, "x").await;
    let mut starts = Vec::new();
    for _ in 0..200 {
        if let Some(work) = take(&house.jobs, "w").await.first() {
            starts.push(house.time.load(Ordering::SeqCst) - START_MS);
            house.jobs.finish(vec![failed(work, true)], None).await.expect("finished");
        }
        house.pass(Duration::from_millis(50)).await;
    }
    assert_eq!(starts, [0, 2000, 6000]);
    let detail = house.jobs.get(job).await.expect("read").expect("kept");
    assert_eq!((detail.row.progressed.state, detail.attempts.len()), (State::Failed, 3));
    assert_eq!(detail.attempts[2].stack.as_deref(), Some("at scan.js:7"));
    // An operator gives it all its attempts anew.
    house.jobs.retry(job).await.expect("retried");
    assert_eq!(take(&house.jobs, "w").await[0].claimed.attempt, 1);
}

async fn a_stale_token_is_told_so_and_changes_nothing(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let job = add(&house.jobs, "x").await;
    let old = take(&house.jobs, "slow").await.remove(0);
    // Its timeout passes, and it waits for its second attempt.
    house.pass(Duration::from_secs(30)).await;
    house.pass(Duration::from_secs(2)).await;
    let new = take(&house.jobs, "quick").await.remove(0);
    assert!(new.claimed.token > old.claimed.token);
    let said = house.jobs.complete(job, old.claimed.token, None).await;
    assert!(matches!(said, Err(Error::Refused(Refusal::Stale { state: State::Active, .. }))), "{said:?}");
    assert_eq!(house.jobs.beat("slow", vec![(job, old.claimed.token)]).await.expect("beat"), [job]);
    house.jobs.complete(job, new.claimed.token, None).await.expect("the holder completes");
    let detail = house.jobs.get(job).await.expect("read").expect("kept");
    assert_eq!(detail.attempts.iter().map(|attempt| attempt.ending).collect::<Vec<_>>(), [Ending::Timeout]);
}

async fn a_disconnected_workers_job_is_anothers_within_six_seconds_unless_it_comes_back(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let job = add(&house.jobs, "x").await;
    take(&house.jobs, "w").await;
    house.jobs.disconnect("w").await.expect("disconnected");
    house.pass(Duration::from_millis(4900)).await;
    house.jobs.beat("w", Vec::new()).await.expect("it is back");
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(house.counts().await.active, 1, "it came back in time");
    house.jobs.disconnect("w").await.expect("disconnected");
    house.pass(Duration::from_secs(5)).await;
    let work = take(&house.jobs, "other").await;
    assert_eq!((work[0].claimed.job, work[0].claimed.attempt), (job, 1), "it costs no attempt");
}

async fn a_claim_waits_for_an_add_and_the_first_to_wait_is_the_first_to_get(ground: Ground) {
    let house = House::new(ground, Settings::default());
    // Looked at once, each is on its way, one behind the other.
    let mut first = Box::pin(house.jobs.claim(claim("a", 1, LONG)));
    assert!(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await.is_pending());
    let mut second = Box::pin(house.jobs.claim(claim("b", 1, LONG)));
    assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx))).await.is_pending());
    let job = add(&house.jobs, "x").await;
    let work = first.await.expect("claimed");
    assert_eq!(work[0].claimed.job, job);
    assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx))).await.is_pending());
    house.pass(LONG).await;
    assert!(second.await.expect("nothing").is_empty(), "it waited as long as it asked");
}

async fn a_claim_that_nobody_waits_for_any_more_takes_nothing(ground: Ground) {
    let house = House::new(ground, Settings::default());
    for _ in 0..20 {
        let left = house.jobs.claim(claim("gone", 1, LONG));
        tokio::time::timeout(Duration::ZERO, left).await.expect_err("nothing is there");
    }
    let job = add(&house.jobs, "x").await;
    let work = house.jobs.claim(claim("here", 1, LONG)).await.expect("claimed");
    assert_eq!((work[0].claimed.job, work[0].claimed.attempt), (job, 1));
}

async fn ends_are_told_each_by_itself_and_bring_the_next_jobs(ground: Ground) {
    let house = House::new(ground, Settings::default());
    for payload in ["a", "b", "c"] {
        add(&house.jobs, payload).await;
    }
    let work = house.jobs.claim(claim("w", 2, Duration::ZERO)).await.expect("claimed");
    let done =
        |work: &Work, token| Finish { job: work.claimed.job, token, outcome: Outcome::Completed { result: None } };
    let ends = vec![done(&work[0], work[0].claimed.token), done(&work[1], 1 << 40)];
    let finished = house.jobs.finish(ends, Some(claim("w", 5, Duration::ZERO))).await.expect("finished");
    assert!(finished.ends[0].is_ok());
    assert!(matches!(finished.ends[1], Err(Error::Refused(Refusal::Stale { .. }))));
    assert_eq!(finished.work.iter().map(|work| &work.body.payload[..]).collect::<Vec<_>>(), [b"c"]);
}

async fn what_was_acknowledged_is_there_after_a_restart_with_the_tokens_of_before(ground: Ground) {
    let mut house = House::new(ground, Settings::default());
    let ids: Vec<u64> = [add(&house.jobs, "a").await, add(&house.jobs, "b").await].to_vec();
    let held = take(&house.jobs, "w").await.remove(0);
    house.jobs.pause("scan").await.expect("paused");
    house.reopen(Settings::default()).await;
    assert_eq!((house.counts().await.active, house.counts().await.waiting), (1, 1));
    assert!(take(&house.jobs, "w").await.is_empty(), "it is paused still");
    house.jobs.resume("scan").await.expect("resumed");
    house.jobs.complete(ids[0], held.claimed.token, None).await.expect("its token holds");
    let next = take(&house.jobs, "w").await.remove(0);
    assert_eq!(next.claimed.job, ids[1]);
    assert!(next.claimed.token > held.claimed.token);
    assert!(add(&house.jobs, "c").await > ids[1]);
}

/// Its timeout is no longer than a lease: both are over at once then.
async fn a_job_whose_worker_died_with_us_loses_no_attempt_by_it(ground: Ground) {
    let settings = Settings { attempts: 1, timeout_ms: 30_000, ..Settings::default() };
    let mut house = House::new(ground, settings.clone());
    add(&house.jobs, "a").await;
    add(&house.jobs, "b").await;
    let lost = take(&house.jobs, "gone").await.remove(0);
    let slow = take(&house.jobs, "slow").await.remove(0);
    house.pass(Duration::from_secs(1)).await;
    house.reopen(settings).await;
    house.pass(Duration::from_secs(20)).await;
    house.jobs.beat("slow", Vec::new()).await.expect("heard");
    house.pass(Duration::from_secs(11)).await;
    let again = take(&house.jobs, "other").await.remove(0);
    assert_eq!((again.claimed.job, again.claimed.attempt), (lost.claimed.job, 1));
    // Somebody vouched for this one: it has taken too long.
    let counts = house.counts().await;
    assert_eq!((counts.active, counts.failed), (1, 1), "{slow:?}");
}

async fn five_starts_in_any_sixty_seconds_over_restarts(ground: Ground) {
    let rate = Limit { count: 5, window_ms: 60_000, smooth: false };
    let settings = Settings { rate: Some(rate), ..Settings::default() };
    let mut house = House::new(ground, settings.clone());
    house.jobs.add("scan", (0..20).map(|_| NewJob::new("x")).collect()).await.expect("added");
    let mut starts: Vec<u64> = Vec::new();
    for round in 0..30 {
        for work in house.jobs.claim(claim("w", 3, Duration::ZERO)).await.expect("claimed") {
            starts.push(house.time.load(Ordering::SeqCst));
            house.jobs.complete(work.claimed.job, work.claimed.token, None).await.expect("completed");
        }
        if round % 3 == 0 {
            house.reopen(settings.clone()).await;
        }
        house.pass(Duration::from_millis(7_300)).await;
    }
    assert!(starts.windows(6).all(|six| six[5] - six[0] >= 60_000), "{starts:?}");
    assert_eq!(starts.len(), 20, "as many as the rate lets: {starts:?}");
}

async fn an_add_that_is_repeated_gives_the_job_of_the_first(ground: Ground) {
    let mut house = House::new(ground, Settings::default());
    let new = || {
        let idempotency = Some(Idempotency { key: "order-7".into(), for_ms: 60_000 });
        NewJob { idempotency, ..NewJob::new("x") }
    };
    let first = house.jobs.add("scan", vec![new(), new()]).await.expect("added");
    assert_eq!((first[0].job, first[0].is_new, first[1].is_new), (first[1].job, true, false));
    house.reopen(Settings::default()).await;
    let again = house.jobs.add("scan", vec![new()]).await.expect("known");
    assert_eq!((again[0].job, again[0].is_new), (first[0].job, false));
    house.pass(Duration::from_secs(60)).await;
    assert!(house.jobs.add("scan", vec![new()]).await.expect("added")[0].is_new, "it is forgotten by then");
}

async fn a_hundred_completed_are_kept_and_what_is_removed_is_gone(ground: Ground) {
    let house =
        House::new(ground, Settings { completed: Keep { count: 3, age_ms: Some(10_000) }, ..Settings::default() });
    let mut all = Vec::new();
    for _ in 0..5 {
        let job = add(&house.jobs, "x").await;
        let work = take(&house.jobs, "w").await.remove(0);
        house.jobs.complete(job, work.claimed.token, None).await.expect("completed");
        all.push(job);
    }
    assert_eq!(house.counts().await.completed, 3);
    assert_eq!(house.jobs.get(all[1]).await.expect("read"), None);
    let listed = house.jobs.list("scan", State::Completed, 0, 10).await.expect("listed");
    assert_eq!(listed.iter().map(|detail| detail.row.progressed.job).collect::<Vec<_>>(), [all[4], all[3], all[2]]);
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(house.counts().await.completed, 0, "too old");
}

fn traced(trace: &str) -> NewJob {
    let mut job = NewJob::new("x");
    job.body.trace = Some(trace.to_owned());
    job
}

async fn jobs_are_found_by_the_trace_they_were_added_with(ground: Ground) {
    let mut house = House::new(ground, Settings { attempts: 1, ..Settings::default() });
    let [one, other] = ["4bf92f3577b34da6a3ce929d0e0e4736", "0bf92f3577b34da6a3ce929d0e0e4736"];
    let header = |id: &str| format!("00-{id}-00f067aa0ba902b7-01");
    let mut parent = traced(&header(one));
    let child = Child { queue: "mail".into(), on_failure: OnFailure::Ignore, job: traced(&header(one)) };
    parent.children.push(child);
    let first = house.jobs.add("scan", vec![parent, traced(&header(other))]).await.expect("added");
    // Others between them, so that they are not in one piece of the index; and what is no trace at all.
    let many = (0..2500).map(|_| NewJob::new("x")).chain([traced("no trace"), traced("")]).collect();
    house.jobs.add("scan", many).await.expect("added");
    let last = house.jobs.add("scan", vec![traced(&header(one)), traced(&header(other))]).await.expect("added");
    house.reopen(Settings { attempts: 1, ..Settings::default() }).await;
    let ids = |found: Vec<Detail>| found.iter().map(|detail| detail.row.progressed.job).collect::<Vec<u64>>();
    let found = ids(house.jobs.traced(one, 10).await.expect("found"));
    assert_eq!(found, [first[0].job, first[0].job + 1, last[0].job], "with the child");
    assert_eq!(ids(house.jobs.traced(one, 2).await.expect("found")), found[..2]);
    assert_eq!(ids(house.jobs.traced(other, 10).await.expect("found")), [first[1].job, last[1].job]);
    for nobody in ["", "4736", "a3ce929d0e0e47364bf92f3577b34da6"] {
        assert!(house.jobs.traced(nobody, 10).await.expect("found").is_empty(), "{nobody}");
    }
    // What became of it is read with it, and what is removed is gone from there too.
    let work = take(&house.jobs, "w").await.remove(0);
    assert_eq!(work.claimed.job, first[1].job);
    house.jobs.finish(vec![failed(&work, false)], None).await.expect("finished");
    let found = house.jobs.traced(other, 10).await.expect("found");
    assert_eq!((found[0].row.progressed.state, found[0].attempts[0].ending), (State::Failed, Ending::Failed));
    house.jobs.remove(first[1].job).await.expect("removed");
    assert_eq!(ids(house.jobs.traced(other, 10).await.expect("found")), [last[1].job]);
}

async fn a_list_is_read_without_what_may_be_large(ground: Ground) {
    let house = House::new(ground, Settings { attempts: 3, ..Settings::default() });
    let job = add(&house.jobs, "a payload").await;
    for _ in 0..2 {
        house.pass(Duration::from_secs(60)).await;
        let work = take(&house.jobs, "w").await.remove(0);
        house.jobs.log(job, work.claimed.token, "a line".to_owned()).await.expect("logged");
        house.jobs.progress(job, work.claimed.token, b"1".to_vec()).await.expect("told");
        let outcome = Outcome::Failed {
            error: format!("failed {}", work.claimed.attempt),
            stack: Some("at work".to_owned()),
            retry: true,
            wait_ms: None,
        };
        house.jobs.finish(vec![Finish { job, token: work.claimed.token, outcome }], None).await.expect("finished");
    }
    let whole = house.jobs.list("scan", State::Delayed, 0, 10).await.expect("listed").remove(0);
    let line = house.jobs.lines("scan", State::Delayed, 0, 10).await.expect("listed").remove(0);
    assert_eq!((whole.attempts.len(), whole.lines.len(), whole.payload_bytes), (2, 2, 9));
    let mut last = whole.attempts[1].clone();
    last.stack = None;
    let body = Body { payload: Vec::new(), ..whole.body.clone() };
    let expected = Detail { body, attempts: vec![last], lines: Vec::new(), progress: None, ..whole };
    assert_eq!(line, expected);
}

async fn a_claim_gives_what_fits_into_an_answer(ground: Ground) {
    let mut house = House::new(ground, Settings::default());
    let large = || NewJob::new(vec![b'x'; 1024 * 1024]);
    for _ in 0..2 {
        house.jobs.add("scan", (0..12).map(|_| large()).collect()).await.expect("added");
    }
    house.jobs.add("scan", (0..100).map(|_| NewJob::new("small")).collect()).await.expect("added");
    let claim = |max| Claim { queue: "scan".into(), worker: "w".into(), max, wait: Duration::ZERO };
    assert_eq!(house.jobs.claim(claim(100)).await.expect("claimed").len(), 16);
    house.reopen(Settings::default()).await;
    // 8 of a MiB, and 8 MiB are left: small ones take a KiB each.
    assert_eq!(house.jobs.claim(claim(200)).await.expect("claimed").len(), 108);
    // What few may start is not held up by what there is no room for.
    house.jobs.add("scan", vec![large()]).await.expect("added");
    assert_eq!(house.jobs.claim(claim(1)).await.expect("claimed").len(), 1);
}

async fn a_drain_of_more_than_a_piece_takes_all(ground: Ground) {
    let house = House::new(ground, Settings::default());
    house.jobs.add("scan", (0..2500).map(|_| NewJob::new("x")).collect()).await.expect("added");
    assert_eq!(house.jobs.drain("scan", true).await.expect("drained"), 2500);
    assert_eq!(house.counts().await, mainstay_jobs::Counts::default());
    let unknown = house.jobs.drain("none", true).await;
    assert!(matches!(unknown, Err(Error::Refused(Refusal::NoSuchQueue(_)))), "{unknown:?}");
}

async fn dead_letters_wait_for_an_operator(ground: Ground) {
    let house = House::new(ground, Settings { attempts: 1, dead_letter: true, ..Settings::default() });
    let job = add(&house.jobs, "x").await;
    let work = take(&house.jobs, "w").await.remove(0);
    house.jobs.finish(vec![failed(&work, true)], None).await.expect("finished");
    assert_eq!(house.counts().await.dead, 1);
    assert_eq!(house.jobs.redrive("scan", State::Dead).await.expect("redriven"), 1);
    assert_eq!(take(&house.jobs, "w").await[0].claimed.job, job);
}

async fn a_commit_that_fails_is_said_and_what_was_kept_before_is_what_there_is(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let kept = add(&house.jobs, "kept").await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE disk_full; END';
        CREATE TRIGGER refuse BEFORE INSERT ON mainstay.jobs_body EXECUTE FUNCTION refuse()";
    let held = house.ground.tamper("BEGIN IMMEDIATE", refuse);
    let said = house.jobs.add("scan", vec![NewJob::new("lost")]).await;
    assert!(matches!(said, Err(Error::Store(_))), "{said:?}");
    drop(held);
    drop(house.ground.tamper("SELECT 1", "DROP TRIGGER refuse ON mainstay.jobs_body"));
    let next = add(&house.jobs, "next").await;
    assert!(next > kept);
    let waiting = house.jobs.list("scan", State::Waiting, 0, 10).await.expect("listed");
    let payloads: Vec<&[u8]> = waiting.iter().map(|detail| &detail.body.payload[..]).collect();
    assert_eq!(payloads, [&b"kept"[..], b"next"]);
}

async fn events_are_told_in_order_after_their_commit(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let mut events = house.jobs.events();
    let job = add(&house.jobs, "x").await;
    let work = take(&house.jobs, "w").await.remove(0);
    house.jobs.complete(job, work.claimed.token, None).await.expect("completed");
    let mut told = Vec::new();
    while told.last() != Some(&What::Drained) {
        told.push(events.recv().await.expect("an event").what);
    }
    assert_eq!(told, [What::Added, What::Started { start: 1 }, What::Completed, What::Drained]);
}

async fn a_schedule_adds_a_job_a_tick_and_stands_where_it_stood_after_a_restart(ground: Ground) {
    let mut house = House::new(ground, Settings::default());
    let schedule = |now_ms| {
        let rule = Rule::Cron { pattern: "*/10 * * * *".into(), zone: "Europe/Berlin".into() };
        Schedule::new("sweep".into(), "scan".into(), rule, NewJob::new("sweep"), now_ms).expect("understood")
    };
    house.jobs.schedule(schedule(START_MS)).await.expect("set");
    house.pass(Duration::from_secs(600)).await;
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(house.counts().await.waiting, 1);
    house.reopen(Settings::default()).await;
    house.jobs.schedule(schedule(START_MS + 601_000)).await.expect("set again");
    house.pass(Duration::from_secs(599)).await;
    assert_eq!(house.counts().await.waiting, 2);
    assert_eq!(house.jobs.schedules().await.expect("listed").len(), 1);
    house.jobs.unschedule("sweep").await.expect("taken away");
    house.pass(Duration::from_secs(6000)).await;
    assert_eq!(house.counts().await.waiting, 2);
}

async fn what_is_too_large_or_closed_is_said(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let large = house.jobs.add("scan", vec![NewJob::new(vec![0; 1024 * 1024 + 1])]).await;
    assert!(matches!(large, Err(Error::Refused(Refusal::TooLong { .. }))), "{large:?}");
    assert_eq!(house.counts().await.waiting, 0);
    house.jobs.close().await;
    house.jobs.close().await;
    let closed = house.jobs.add("scan", vec![NewJob::new("x")]).await;
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
}

async fn a_delayed_job_starts_by_itself_when_it_is_due(ground: Ground) {
    let queues = vec![("scan".into(), Settings::default())];
    let jobs = Jobs::open(Setup { place: ground.place(), queues, clock: Clock::system(), seed: 1, pusher: None })
        .expect("opened");
    let began = std::time::Instant::now();
    jobs.add("scan", vec![NewJob { delay_ms: 30, ..NewJob::new("x") }]).await.expect("added");
    let work = jobs.claim(claim("w", 1, LONG)).await.expect("claimed");
    assert_eq!(work.len(), 1);
    assert!(began.elapsed() >= Duration::from_millis(29), "{:?}", began.elapsed());
    jobs.close().await;
}

async fn a_deep_queue_asks_for_workers_until_it_is_no_longer_deep(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let mut events = house.jobs.events();
    house.jobs.add("scan", (0..12).map(|_| NewJob::new("x")).collect()).await.expect("added");
    let mut turns = Vec::new();
    house.jobs.claim(claim("w", 12, Duration::ZERO)).await.expect("claimed");
    while turns.len() < 2 {
        if let What::Short(is_short) = events.recv().await.expect("an event").what {
            turns.push(is_short);
        }
    }
    assert_eq!(turns, [true, false]);
}

async fn a_worker_that_is_told_503_gives_back_and_the_queue_rests(ground: Ground) {
    let house = House::new(ground, Settings::default());
    let job = add(&house.jobs, "x").await;
    let work = take(&house.jobs, "w").await.remove(0);
    let outcome = Outcome::Released { error: "503".into(), hold_ms: 5000 };
    let end = Finish { job, token: work.claimed.token, outcome };
    house.jobs.finish(vec![end], None).await.expect("finished");
    assert!(take(&house.jobs, "w").await.is_empty(), "it rests");
    house.pass(Duration::from_secs(5)).await;
    assert_eq!(take(&house.jobs, "w").await[0].claimed.attempt, 1, "it did not count");
}

async fn attempts_are_changed_without_a_restart_for_jobs_that_wait_already(ground: Ground) {
    let house = House::new(ground, Settings::default());
    add(&house.jobs, "x").await;
    house.jobs.configure("scan", Settings { attempts: 1, ..Settings::default() }).await.expect("configured");
    let work = take(&house.jobs, "w").await.remove(0);
    house.jobs.finish(vec![failed(&work, true)], None).await.expect("finished");
    assert_eq!(house.counts().await.failed, 1);
}

async fn rows_of_a_queue_that_somebody_deleted_are_said_to_be_damaged(ground: Ground) {
    let house = House::new(ground, Settings::default());
    add(&house.jobs, "x").await;
    house.jobs.close().await;
    drop(house.ground.tamper("DELETE FROM queue", "DELETE FROM mainstay.jobs_queue"));
    let Err(Error::Store(said)) = open(&house.ground, &house.time, Settings::default()) else {
        panic!("it was opened");
    };
    assert!(said.to_string().contains("damaged (there is no queue number 0)"), "{said}");
}

/// Eight producers and eight workers at once; every third claim is dropped after a moment, with whatever it got.
async fn each_job_is_completed_once_though_claims_are_dropped_all_the_time(ground: Ground) {
    const EACH: u32 = 150;
    let left = Arc::new(AtomicU64::new(u64::from(8 * EACH)));
    let queues = vec![("scan".into(), Settings { durability: Durability::Os, ..Settings::default() })];
    let jobs = Jobs::open(Setup { place: ground.place(), queues, clock: Clock::system(), seed: 1, pusher: None })
        .expect("opened");
    let produce = |jobs: Jobs| async move {
        for _ in 0..EACH {
            add(&jobs, "x").await;
        }
        Vec::new()
    };
    let consume = |jobs: Jobs, number: u64, left: Arc<AtomicU64>| async move {
        let name = format!("w{number}");
        let (mut done, mut round) = (Vec::new(), number);
        while left.load(Ordering::SeqCst) > 0 {
            round += 1;
            let asked = jobs.claim(claim(&name, 2, Duration::from_millis(500)));
            let work = if round.is_multiple_of(3) {
                let moment = Duration::from_micros(round * 37 % 900);
                tokio::time::timeout(moment, asked).await.unwrap_or(Ok(Vec::new())).expect("claimed")
            } else {
                asked.await.expect("claimed")
            };
            for work in work {
                jobs.complete(work.claimed.job, work.claimed.token, None).await.expect("it is ours");
                done.push(work.claimed.job);
                left.fetch_sub(1, Ordering::SeqCst);
            }
        }
        done
    };
    let producers: Vec<_> = (0..8).map(|_| tokio::spawn(produce(jobs.clone()))).collect();
    let workers: Vec<_> = (0..8).map(|number| tokio::spawn(consume(jobs.clone(), number, left.clone()))).collect();
    let mut done: Vec<u64> = Vec::new();
    for task in producers.into_iter().chain(workers) {
        done.extend(task.await.expect("joined"));
    }
    let all = done.len();
    done.sort_unstable();
    done.dedup();
    assert_eq!((all, done.len()), (8 * EACH as usize, 8 * EACH as usize), "each once");
    let totals = jobs.queues().await.expect("queues")[0].totals;
    // What a dropped claim had got was given back at once, and not found when its lease was over.
    assert_eq!((totals.stalled, totals.retried), (0, 0), "{totals:?}");
    jobs.close().await;
}
