//! Jobs handed to an app over HTTP: a small server in this process answers as an app would, well and badly.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_jobs::job::Ending;
use mainstay_jobs::options::{Options, Push, Queue};
use mainstay_jobs::push::{Find, Instance};
use mainstay_jobs::store::{self, Detail};
use mainstay_jobs::{Backoff, Clock, Growth, Jobs, NewJob, Place, Pusher, Settings, Setup, State};
use mainstay_runtime::{Shutdown, Trigger};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Of every wait: whatever takes longer is broken.
const BOUND: Duration = Duration::from_secs(30);
const KEY: &str = "the key of this start";

/// What the app was given.
#[derive(Clone, Debug)]
struct Seen {
    headers: HeaderMap,
    body: Bytes,
    /// Which request it was: 1, 2 …
    number: usize,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// `None`: the connection is cut.
type Said = Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + Send>>;
type Handler = Arc<dyn Fn(Seen) -> Said + Send + Sync>;

struct App {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl App {
    async fn start(handler: impl Fn(Seen) -> Said + Send + Sync + 'static) -> App {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (handler, book): (Handler, _) = (Arc::new(handler), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served(stream, handler.clone(), book.clone()));
            }
        });
        App { address, seen }
    }

    /// Answers all alike.
    async fn saying(status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) -> App {
        App::start(move |_| said(status, headers, body)).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the book").clone()
    }
}

async fn served(stream: TcpStream, handler: Handler, book: Arc<Mutex<Vec<Seen>>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, book) = (handler.clone(), book.clone());
        async move {
            let (head, body) = request.into_parts();
            assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/jobs/scan"));
            let body = body.collect().await.expect("a body").to_bytes();
            let seen = {
                let mut book = book.lock().expect("the book");
                let seen = Seen { headers: head.headers, body, number: book.len() + 1 };
                book.push(seen.clone());
                seen
            };
            handler(seen).await.ok_or_else(|| std::io::Error::other("cut on purpose"))
        }
    });
    // How a connection ends is what some tests are about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn said(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Said {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let response = response.body(Full::new(body.into())).expect("a response");
    Box::pin(async move { Some(response) })
}

/// Jobs, and a pusher that hands those of `scan` to the app.
struct House {
    jobs: Jobs,
    app_serves: Arc<AtomicBool>,
    /// How often an instance was looked for.
    looks: Arc<AtomicUsize>,
    options: watch::Sender<Arc<Options>>,
    trigger: Trigger,
    give_up: Trigger,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl House {
    fn new(settings: Settings, address: SocketAddr) -> House {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::system();
        let queues = vec![("scan".into(), settings.clone())];
        let setup = Setup {
            place: Place::File(folder.path().join(store::FILE)),
            queues,
            clock: clock.clone(),
            seed: 1,
            pusher: None,
        };
        let jobs = Jobs::open(setup).expect("opened");
        let app_serves = Arc::new(AtomicBool::new(true));
        let looks = Arc::new(AtomicUsize::new(0));
        let (serves, count) = (app_serves.clone(), looks.clone());
        let find: Find = Arc::new(move |path| {
            assert_eq!(path, "/jobs/scan");
            count.fetch_add(1, Ordering::SeqCst);
            serves.load(Ordering::SeqCst).then(|| Instance { address, key: KEY.into() })
        });
        let (options, told) = watch::channel(Arc::new(pushed(settings)));
        let (trigger, shutdown) = Shutdown::new();
        let pusher = Pusher::new(jobs.clone(), "push-1".into(), find).with_clock(clock);
        let (give_up, given_up) = Shutdown::new();
        let task = tokio::spawn(pusher.run(told, shutdown, given_up));
        House { jobs, app_serves, looks, options, trigger, give_up, task, _folder: folder }
    }

    async fn add(&self, payload: &str) -> u64 {
        self.jobs.add("scan", vec![NewJob::new(payload)]).await.expect("added")[0].job
    }

    async fn detail(&self, job: u64) -> Detail {
        self.jobs.get(job).await.expect("read").expect("kept")
    }

    /// Waits until the job is in this state.
    async fn until(&self, job: u64, state: State) -> Detail {
        let began = Instant::now();
        loop {
            let detail = self.detail(job).await;
            if detail.row.progressed.state == state {
                return detail;
            }
            assert!(began.elapsed() < BOUND, "waited in vain for {state:?}: {detail:?}");
            look_again().await;
        }
    }

    async fn stop(&mut self) {
        self.trigger.request();
        tokio::time::timeout(BOUND, &mut self.task).await.expect("it ends").expect("without a panic");
    }
}

fn pushed(settings: Settings) -> Options {
    let push = Some(Push { path: "/jobs/scan".to_owned() });
    let queue = Queue { name: "scan".into(), settings, push, ..Queue::default() };
    Options { queues: vec![queue], is_on: true, ..Options::default() }
}

/// Waits of a test's length.
fn quick() -> Settings {
    let backoff = Backoff { growth: Growth::Fixed, delay_ms: 10, jitter_percent: 0 };
    Settings { backoff, ..Settings::default() }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}");
        look_again().await;
    }
}

async fn look_again() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

fn endings(detail: &Detail) -> Vec<Ending> {
    detail.attempts.iter().map(|attempt| attempt.ending).collect()
}

fn signature_holds(seen: &Seen) -> bool {
    let signature = seen.header("webhook-signature").strip_prefix("v1,").expect("a version");
    let tag = STANDARD.decode(signature).expect("base64");
    let mut signed = format!("{}.{}.", seen.header("webhook-id"), seen.header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&seen.body);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), &signed, &tag).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_handed_over_with_what_it_is_and_its_answer_is_its_result() {
    let app = App::saying(200, &[], r#"{"pages":7}"#).await;
    let mut house = House::new(quick(), app.address);
    let mut new = NewJob::new(r#"{"url":"https://example.com"}"#);
    new.body.name = "page 1".into();
    new.body.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    let job = house.jobs.add("scan", vec![new.clone()]).await.expect("added")[0].job;
    let detail = house.until(job, State::Completed).await;
    assert_eq!(detail.result.as_deref(), Some(&br#"{"pages":7}"#[..]));
    let seen = app.seen().remove(0);
    assert_eq!(&seen.body[..], &new.body.payload[..]);
    assert!(signature_holds(&seen), "{seen:?}");
    let id = job.to_string();
    for (name, value) in [
        ("mainstay-job-id", &*id),
        ("idempotency-key", &id),
        ("webhook-id", &id),
        ("mainstay-job-queue", "scan"),
        ("mainstay-job-name", "page%201"),
        ("mainstay-job-attempt", "1"),
        ("mainstay-job-max-attempts", "3"),
        ("content-type", "application/json"),
        ("traceparent", new.body.trace.as_deref().expect("a trace")),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let number = |name| seen.header(name).parse::<u64>().expect(name);
    assert!(number("mainstay-job-deadline") / 1000 >= number("webhook-timestamp"));
    assert!(number("mainstay-job-token") > 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_and_its_error_is_kept() {
    let broke = r#"{"error":"no disk","stack":"at scan.js:7"}"#;
    let app = App::start(move |seen| match seen.number {
        1 => said(500, &[], broke),
        // Cut before a byte of the answer.
        2 => Box::pin(async { None }),
        _ => said(204, &[], ""),
    })
    .await;
    let mut house = House::new(quick(), app.address);
    let job = house.add("{}").await;
    let detail = house.until(job, State::Completed).await;
    assert_eq!(endings(&detail)[0], Ending::Failed);
    assert_eq!(detail.attempts[0].error, "500 Internal Server Error: no disk");
    assert_eq!(detail.attempts[0].stack.as_deref(), Some("at scan.js:7"));
    assert_eq!(detail.result, None);
    // A connection that rested and died is asked again on a new one: that is no attempt.
    assert_eq!(app.seen().iter().map(|seen| seen.header("mainstay-job-attempt")).collect::<Vec<_>>(), ["1", "2", "2"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_attempt_would_mend_fails_at_once() {
    let app = App::start(|seen| match &seen.body[..] {
        b"404" => said(404, &[], "no such page"),
        b"413" => said(413, &[], ""),
        _ => said(307, &[("location", "http://127.0.0.1:1/elsewhere")], ""),
    })
    .await;
    let mut house = House::new(quick(), app.address);
    for (payload, error) in
        [("404", "404 Not Found: no such page"), ("413", "413 Payload Too Large"), ("307", "307 Temporary Redirect")]
    {
        let job = house.add(payload).await;
        let detail = house.until(job, State::Failed).await;
        assert_eq!((endings(&detail), &*detail.attempts[0].error), (vec![Ending::Failed], error));
    }
    assert_eq!(app.seen().len(), 3, "a redirect is not followed");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_busy_holds_the_queue_and_costs_no_attempt() {
    let app = App::start(|seen| match seen.number {
        1 => said(429, &[("retry-after", "1")], ""),
        2 => said(503, &[], ""),
        _ => said(200, &[], ""),
    })
    .await;
    let mut house = House::new(Settings { attempts: 1, ..quick() }, app.address);
    let began = Instant::now();
    let job = house.add("{}").await;
    let detail = house.until(job, State::Completed).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(endings(&detail), [Ending::Released; 2]);
    assert!(app.seen().iter().all(|seen| seen.header("mainstay-job-attempt") == "1"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_asks_for_a_lease_ends_the_job_by_its_token() {
    let app = App::saying(202, &[("mainstay-lease", "10m")], "").await;
    let mut house = House::new(Settings { timeout_ms: 2000, ..quick() }, app.address);
    let job = house.add("{}").await;
    until("the job to be handed over", || !app.seen().is_empty()).await;
    house.stop().await;
    // Nothing was given back, and its time is the lease's.
    let detail = house.detail(job).await;
    assert_eq!((detail.row.progressed.state, detail.attempts.len()), (State::Active, 0));
    let token = app.seen()[0].header("mainstay-job-token").parse().expect("a token");
    house.jobs.complete(job, token, Some(b"late".to_vec())).await.expect("its token holds");
    let detail = house.detail(job).await;
    assert_eq!((detail.row.progressed.state, detail.result.as_deref()), (State::Completed, Some(&b"late"[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_hangs_is_left_when_the_time_of_the_attempt_is_over() {
    let app = App::start(|seen| match seen.number {
        1 => Box::pin(std::future::pending()),
        _ => said(200, &[], ""),
    })
    .await;
    let mut house = House::new(Settings { timeout_ms: 300, ..quick() }, app.address);
    let job = house.add("{}").await;
    let detail = house.until(job, State::Completed).await;
    assert_eq!(endings(&detail), [Ending::Timeout]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_burnt_while_the_app_is_away() {
    let app = App::saying(200, &[], "").await;
    let mut house = House::new(Settings { attempts: 1, ..quick() }, app.address);
    house.app_serves.store(false, Ordering::SeqCst);
    // One claim may have been waiting when the app went away.
    let (first, job) = (house.add("{}").await, house.add("{}").await);
    let looks = house.looks.load(Ordering::SeqCst);
    until("it to be looked for again and again", || house.looks.load(Ordering::SeqCst) > looks + 4).await;
    assert!(app.seen().is_empty());
    assert_eq!(endings(&house.detail(job).await), [], "nobody has had it");
    house.app_serves.store(true, Ordering::SeqCst);
    let detail = house.until(job, State::Completed).await;
    assert!(endings(&detail).iter().all(|ending| *ending == Ending::Released), "{detail:?}");
    house.until(first, State::Completed).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_made_costs_no_attempt() {
    let refused = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = refused.local_addr().expect("its address");
    drop(refused);
    let mut house = House::new(Settings { attempts: 1, ..quick() }, address);
    let job = house.add("{}").await;
    let began = Instant::now();
    while house.detail(job).await.attempts.is_empty() {
        assert!(began.elapsed() < BOUND, "nobody tried");
        look_again().await;
    }
    let detail = house.detail(job).await;
    assert_eq!(detail.attempts[0].ending, Ending::Released);
    assert!(detail.attempts[0].error.contains("cannot be reached"), "{detail:?}");
    assert_ne!(detail.row.progressed.state, State::Failed);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_too_large_is_left_out() {
    let app = App::start(|seen| said(200, &[], "x".repeat(64 * 1024 + usize::from(seen.number == 1)))).await;
    let mut house = House::new(Settings { concurrency: Some(1), ..quick() }, app.address);
    let (large, fits) = (house.add("1").await, house.add("2").await);
    assert_eq!(house.until(large, State::Completed).await.result, None);
    assert_eq!(house.until(fits, State::Completed).await.result.map(|result| result.len()), Some(64 * 1024));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_run_at_once_than_the_queue_lets() {
    let (running, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let (now, peak) = (running.clone(), most.clone());
    let app = App::start(move |_| {
        let (now, peak) = (now.clone(), peak.clone());
        Box::pin(async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            look_again().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Some(Response::new(Full::default()))
        })
    })
    .await;
    let mut house = House::new(Settings { concurrency: Some(3), ..quick() }, app.address);
    let added = house.jobs.add("scan", (0..60).map(|_| NewJob::new("{}")).collect()).await.expect("added");
    for job in &added {
        house.until(job.job, State::Completed).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(app.seen().len(), 60, "each once");
    assert!(app.seen().iter().all(signature_holds));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lies_about_its_length_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 8192];
            let _ = stream.read(&mut head).await;
            let answer: &[u8] = match count.fetch_add(1, Ordering::SeqCst) {
                0 => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
                1 => b"this is not HTTP\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone",
            };
            let _ = stream.write_all(answer).await;
        }
    });
    let mut house = House::new(quick(), address);
    let job = house.add("{}").await;
    let detail = house.until(job, State::Completed).await;
    assert_eq!(endings(&detail), [Ending::Failed; 2]);
    assert!(detail.attempts.iter().all(|attempt| attempt.error.contains("cut")), "{detail:?}");
    assert_eq!(detail.result.as_deref(), Some(&b"done"[..]));
    // Its connection was closed behind it: the next job has a new one and does not notice.
    let next = house.add("{}").await;
    assert_eq!(endings(&house.until(next, State::Completed).await), []);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_at_the_end_is_waited_for_and_what_takes_too_long_is_given_back() {
    let answer = Arc::new(Notify::new());
    let waits = answer.clone();
    let app = App::start(move |seen| {
        let waits = waits.clone();
        Box::pin(async move {
            match &seen.body[..] {
                b"slow" => waits.notified().await,
                _ => std::future::pending().await,
            }
            Some(Response::new(Full::default()))
        })
    })
    .await;
    let mut house = House::new(Settings { attempts: 1, timeout_ms: 0, ..quick() }, app.address);
    let (slow, hangs) = (house.add("slow").await, house.add("hangs").await);
    until("both to be handed over", || app.seen().len() == 2).await;
    house.trigger.request();
    let later = house.add("later").await;
    answer.notify_one();
    house.until(slow, State::Completed).await;
    house.give_up.request();
    house.stop().await;
    let detail = house.detail(hangs).await;
    assert_eq!((detail.row.progressed.state, &endings(&detail)[..]), (State::Waiting, &[Ending::Released][..]));
    // Where a claim still waited for it, it was given back at once.
    assert_eq!(house.detail(later).await.row.progressed.state, State::Waiting);
    assert_eq!(app.seen().len(), 2, "no more is handed over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_pushed_no_longer_waits_for_its_workers_and_comes_back() {
    let app = App::saying(200, &[], "").await;
    let mut house = House::new(quick(), app.address);
    let job = house.add("{}").await;
    house.until(job, State::Completed).await;
    house.options.send_replace(Arc::new(Options { is_on: true, ..Options::default() }));
    // Whoever asks first gets it: the lane has let go of its claim once this one is served.
    let began = Instant::now();
    let taken = loop {
        house.add("{}").await;
        let claim = mainstay_jobs::Claim { queue: "scan".into(), worker: "w".into(), max: 1, wait: Duration::ZERO };
        if let Some(work) = house.jobs.claim(claim).await.expect("claimed").pop() {
            break work;
        }
        assert!(began.elapsed() < BOUND, "the lane goes on");
    };
    house.jobs.complete(taken.claimed.job, taken.claimed.token, None).await.expect("completed");
    house.options.send_replace(Arc::new(pushed(Settings { concurrency: Some(1), ..quick() })));
    let job = house.add("{}").await;
    house.until(job, State::Completed).await;
    house.stop().await;
}
