//! What operators ask of jobs, over a store of its own.

use super::*;
use mainstay_jobs::op::Finish;
use mainstay_jobs::{Claim, Clock as JobsClock, Outcome, Settings, Setup};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const START_MS: u64 = 1_700_000_000_000;

struct Place {
    jobs: Jobs,
    now_ms: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

/// Two attempts, no waits between them.
fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let now_ms = Arc::new(AtomicU64::new(START_MS));
    let clock = now_ms.clone();
    let mut settings = Settings { attempts: 2, ..Settings::default() };
    settings.backoff.delay_ms = 0;
    let setup = Setup {
        place: mainstay_jobs::Place::File(folder.path().join("jobs.db")),
        queues: vec![("scan".into(), settings), ("mail".into(), Settings::default())],
        clock: JobsClock::of(move || clock.load(Ordering::Relaxed)),
        seed: 7,
        pusher: None,
    };
    Place { jobs: Jobs::open(setup).expect("jobs"), now_ms, _folder: folder }
}

fn check<F: Future<Output = ()>>(test: impl FnOnce(Place) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let place = place();
    let jobs = place.jobs.clone();
    runtime.block_on(async {
        test(place).await;
        jobs.close().await;
    });
}

impl Place {
    async fn ask(&self, asked: JobsAsked) -> Result<Value, String> {
        run(Some(&self.jobs), asked).await.map_err(|refused| refused.message)
    }

    async fn add(&self, queue: &str, payload: &str, key: Option<&str>, delay_ms: u64) -> Result<Value, String> {
        let job = JobAsked { name: "pdf".to_owned(), payload: payload.to_owned(), ..JobAsked::default() };
        let key = key.map(str::to_owned);
        let added = JobAdded { queue: queue.to_owned(), job, delay_ms, key, ..JobAdded::default() };
        self.ask(JobsAsked::Add(Box::new(added))).await
    }

    /// One attempt of one job, at an end of its worker's choice.
    async fn attempt(&self, outcome: Outcome) {
        let claim = Claim { queue: "scan".into(), worker: "w1".into(), max: 1, wait: Duration::ZERO };
        let work = self.jobs.claim(claim).await.expect("a claim");
        let claimed = &work.first().expect("a job").claimed;
        self.jobs.log(claimed.job, claimed.token, "half way".to_owned()).await.expect("a log");
        self.now_ms.fetch_add(1000, Ordering::Relaxed);
        let finish = Finish { job: claimed.job, token: claimed.token, outcome };
        self.jobs.finish(vec![finish], None).await.expect("kept").ends.remove(0).expect("its own");
    }

    async fn fail(&self) {
        let stack = Some("Error: boom\n  at scan.js:3".to_owned());
        self.attempt(Outcome::Failed { error: "boom".to_owned(), stack, retry: true, wait_ms: Some(0) }).await;
    }
}

fn list(state: Option<&str>, skip: usize, limit: usize) -> JobsAsked {
    JobsAsked::List(JobsListed { queue: "scan".to_owned(), state: state.map(str::to_owned), skip, limit })
}

#[test]
fn a_job_is_shown_with_every_attempt_and_started_again() {
    check(async |place| {
        let id = place.add("scan", r#"{"url":"a"}"#, None, 0).await.expect("added")["id"].as_u64().expect("an id");
        place.fail().await;
        place.fail().await;
        let shown = place.ask(JobsAsked::Show { id: id.to_string(), payload: false }).await.expect("shown");
        assert_eq!(
            (&shown["state"], &shown["attemptsMade"], &shown["attempts"]),
            (&json!("failed"), &json!(2), &json!(2))
        );
        assert_eq!(
            (&shown["queue"], &shown["name"], &shown["startedMs"]),
            (&json!("scan"), &json!("pdf"), &json!(START_MS + 1000))
        );
        assert_eq!(shown["failures"][1]["stack"], "Error: boom\n  at scan.js:3");
        assert_eq!((&shown["log"][0]["line"], &shown["payloadBytes"]), (&json!("half way"), &json!(11)));
        assert!(shown.get("payload").is_none(), "{shown}");
        let listed = place.ask(list(None, 0, 10)).await.expect("listed");
        assert_eq!((&listed["jobs"][0]["error"], &listed["left"]), (&json!("boom"), &json!(0)));
        let message = place.ask(JobsAsked::Promote(id.to_string())).await.expect_err("failed");
        assert!(message.ends_with(&format!("mainstay jobs retry {id}")), "{message}");
        place.ask(JobsAsked::Retry(id.to_string())).await.expect("retried");
        place.attempt(Outcome::Completed { result: Some(b"[1]".to_vec()) }).await;
        let shown = place.ask(JobsAsked::Show { id: id.to_string(), payload: true }).await.expect("shown");
        assert_eq!((&shown["payload"]["url"], &shown["result"]), (&json!("a"), &json!([1])));
        let clean = JobsAsked::Clean { queue: "scan".to_owned(), state: "completed".to_owned(), older_ms: 0 };
        let answer = place.ask(clean.clone()).await.expect("cleaned");
        let said = ("queue cleaned", "1 of scan that were completed".to_owned());
        assert_eq!(deed(&clean, &answer), Some(said));
        assert!(
            place
                .ask(JobsAsked::Show { id: id.to_string(), payload: true })
                .await
                .expect_err("gone")
                .contains("no job")
        );
    });
}

#[test]
fn a_list_goes_through_the_states_and_says_what_is_left() {
    check(async |place| {
        for number in 0..45 {
            place.add("scan", &number.to_string(), None, if number < 5 { 60_000 } else { 0 }).await.expect("added");
        }
        let ids = |answer: &Value| -> Vec<u64> {
            answer["jobs"].as_array().expect("jobs").iter().map(|job| job["id"].as_u64().expect("an id")).collect()
        };
        let first = place.ask(list(None, 0, 42)).await.expect("listed");
        assert_eq!((ids(&first).len(), ids(&first)[0], ids(&first)[40]), (42, 6, 1));
        assert_eq!(first["left"], 3);
        let rest = place.ask(list(None, 42, 42)).await.expect("listed");
        assert_eq!((ids(&rest), &rest["left"]), (vec![3, 4, 5], &json!(0)));
        let delayed = place.ask(list(Some("delayed"), 1, 2)).await.expect("listed");
        assert_eq!((ids(&delayed), &delayed["jobs"][0]["delayUntilMs"]), (vec![2, 3], &json!(START_MS + 60_000)));
        assert!(place.ask(list(Some("paused"), 0, 1)).await.expect_err("no state").contains("there are waiting"));
        place.ask(JobsAsked::Promote("1".to_owned())).await.expect("promoted");
        let drained = place.ask(JobsAsked::Drain { queue: "scan".to_owned(), delayed: true }).await;
        assert_eq!(drained.expect("drained")["count"], 45);
    });
}

#[test]
fn a_queue_that_is_not_there_is_not_made_by_a_slip() {
    check(async |place| {
        for asked in [
            JobsAsked::Pause("scna".to_owned()),
            JobsAsked::Resume("scna".to_owned()),
            JobsAsked::Drain { queue: "scna".to_owned(), delayed: false },
            JobsAsked::Redrive { queue: "scna".to_owned(), state: None },
        ] {
            let message = place.ask(asked).await.expect_err("no such queue");
            assert!(message.contains("`scna`") && message.contains("scan"), "{message}");
        }
        assert!(place.add("scna", "{}", None, 0).await.is_err());
        let paused = place.ask(JobsAsked::Pause("mail".to_owned())).await.expect("paused");
        assert_eq!(paused["paused"], true);
        let queues = place.ask(JobsAsked::Queues).await.expect("queues");
        assert_eq!(queues["queues"].as_array().map(Vec::len), Some(2));
        assert!(run(None, JobsAsked::Queues).await.expect_err("none").message.contains("[jobs.NAME]"));
    });
}

#[test]
fn a_key_gives_the_job_that_is_there() {
    check(async |place| {
        let first = place.add("scan", "1", Some("k"), 0).await.expect("added");
        let second = place.add("scan", "2", Some("k"), 0).await.expect("there");
        assert_eq!((&second["id"], &second["isNew"]), (&first["id"], &json!(false)));
        let asked = JobsAsked::Add(Box::new(JobAdded { queue: "scan".to_owned(), ..JobAdded::default() }));
        assert_eq!(deed(&asked, &second), None);
        assert_eq!(deed(&asked, &first), Some(("job added", "1 to scan".to_owned())));
    });
}

#[test]
fn a_schedule_says_when_it_ticks_or_what_was_expected() {
    check(async |place| {
        let set = |rule| {
            JobsAsked::Schedule(Box::new(ScheduleSet {
                name: "nightly".to_owned(),
                queue: "scan".to_owned(),
                rule,
                catch_up: "one".to_owned(),
                job: JobAsked::default(),
            }))
        };
        let cron = |pattern: &str, zone: &str| RuleAsked::Cron { pattern: pattern.to_owned(), zone: zone.to_owned() };
        let made = place.ask(set(cron("0 3 * * *", "Europe/Berlin"))).await.expect("set");
        assert_eq!((&made["cron"], &made["catchUp"]), (&json!("0 3 * * *"), &json!("one")));
        assert!(made["nextMs"].as_u64().is_some_and(|next| next > START_MS), "{made}");
        for rule in [cron("0 3 * *", "UTC"), cron("0 3 * * *", "Mars/Phobos"), RuleAsked::EveryMs(10)] {
            let message = place.ask(set(rule)).await.expect_err("refused");
            assert!(message.contains("expected --cron"), "{message}");
        }
        let all = place.ask(JobsAsked::Schedules).await.expect("all");
        assert_eq!(all["schedules"].as_array().map(Vec::len), Some(1));
        place.ask(JobsAsked::Unschedule("nightly".to_owned())).await.expect("gone");
        let message = place.ask(JobsAsked::Unschedule("nightly".to_owned())).await.expect_err("gone");
        assert!(message.contains("mainstay jobs schedules"), "{message}");
    });
}
