//! Queues as Redis would show them, over real connections: `redis-cli` itself, and a client that does what no client
//! should.

use mainstay_jobs::job::{Body, Unique};
use mainstay_jobs::op::Finish;
use mainstay_jobs::resp::{self, Find, Limits, RANGE_MAX};
use mainstay_jobs::{Claim, Clock, Jobs, NewJob, Outcome, Place, Settings, Setup, store};
use mainstay_limits::window::Limit;
use mainstay_runtime::{Shutdown, Trigger};
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const BOUND: Duration = Duration::from_secs(30);
const START_MS: u64 = 1_767_225_600_000;

/// Jobs, the port they are shown at, and the clock they go by.
struct House {
    jobs: Jobs,
    address: SocketAddr,
    time: Arc<AtomicU64>,
    /// Jobs are away.
    is_away: Arc<AtomicBool>,
    served: Mutex<Option<JoinHandle<()>>>,
    trigger: Trigger,
    _folder: TempDir,
}

impl House {
    async fn new(settings: Settings) -> House {
        House::within(settings, Limits::default()).await
    }

    async fn within(settings: Settings, limits: Limits) -> House {
        let folder = tempfile::tempdir().expect("a folder");
        let time = Arc::new(AtomicU64::new(START_MS));
        let now = time.clone();
        let jobs = Jobs::open(Setup {
            place: Place::File(folder.path().join(store::FILE)),
            queues: vec![("scan".into(), settings)],
            clock: Clock::of(move || now.load(Ordering::SeqCst)),
            seed: 1,
            pusher: None,
        });
        let jobs = jobs.expect("opened");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (trigger, shutdown) = Shutdown::new();
        let is_away = Arc::<AtomicBool>::default();
        let (away, shown) = (is_away.clone(), jobs.clone());
        let find: Find = Arc::new(move || (!away.load(Ordering::SeqCst)).then(|| shown.clone()));
        let served = Mutex::new(Some(tokio::spawn(resp::serve_within(listener, find, shutdown, limits))));
        House { jobs, address, time, is_away, served, trigger, _folder: folder }
    }

    async fn pass(&self, time: Duration) {
        self.time.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        self.jobs.tick().await.expect("ticked");
    }

    async fn add(&self, jobs: Vec<NewJob>) -> Vec<u64> {
        let added = self.jobs.add("scan", jobs).await.expect("added");
        added.iter().map(|added| added.job).collect()
    }

    /// Starts the next one and ends it so.
    async fn end(&self, outcome: Option<Outcome>) -> u64 {
        let claim = Claim { queue: "scan".into(), worker: "w1".into(), max: 1, wait: Duration::ZERO };
        let work = self.jobs.claim(claim).await.expect("claimed").remove(0).claimed;
        if let Some(outcome) = outcome {
            let finish = Finish { job: work.job, token: work.token, outcome };
            let finished = self.jobs.finish(vec![finish], None).await.expect("finished");
            assert!(finished.ends[0].is_ok());
        }
        work.job
    }

    /// What `redis-cli` prints.
    async fn cli(&self, line: &str) -> String {
        let port = self.address.port().to_string();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let run = move || Command::new("redis-cli").args(["-p", &port]).args(words).output();
        let output = tokio::task::spawn_blocking(run).await.expect("ran").expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    async fn client(&self) -> Client {
        Client(BufReader::new(TcpStream::connect(self.address).await.expect("a connection")))
    }

    async fn stop(&self) {
        self.trigger.request();
        let served = self.served.lock().expect("no panic").take();
        tokio::time::timeout(BOUND, served.expect("once")).await.expect("in time").expect("served");
    }
}

/// A connection by hand.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.expect("sent");
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&request(line)).await;
        self.reply().await
    }

    /// The next reply: errors with their sign, arrays as `[a b]`, maps as `{a b}`.
    async fn reply(&mut self) -> String {
        tokio::time::timeout(BOUND, reply(&mut self.0)).await.expect("in time")
    }

    /// What comes until the other side closes.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(BOUND, self.0.read_to_end(&mut rest)).await.expect("closed in time");
        let _ = read;
        String::from_utf8_lossy(&rest).into_owned()
    }
}

fn reply(from: &mut BufReader<TcpStream>) -> Pin<Box<dyn Future<Output = String> + '_>> {
    Box::pin(async move {
        let mut line = String::new();
        from.read_line(&mut line).await.expect("a line");
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut: {line:?}")).to_owned();
        let (sigil, text) = line.split_at(1);
        let count = || text.parse::<usize>().expect("a count");
        match sigil {
            "-" => line,
            "+" | ":" | "," => text.to_owned(),
            "_" => "nil".to_owned(),
            "$" if text == "-1" => "nil".to_owned(),
            "$" => {
                let mut bytes = vec![0; count() + 2];
                from.read_exact(&mut bytes).await.expect("a text");
                assert!(bytes.ends_with(b"\r\n"));
                String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
            }
            "*" | "%" => {
                let mut items = Vec::new();
                for _ in 0..count() * if sigil == "%" { 2 } else { 1 } {
                    items.push(reply(from).await);
                }
                let (open, close) = if sigil == "%" { ("{", "}") } else { ("[", "]") };
                format!("{open}{}{close}", items.join(" "))
            }
            other => panic!("{other}{text}"),
        }
    })
}

fn request(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).as_bytes()));
    bytes
}

fn named(name: &str, payload: &str) -> NewJob {
    NewJob { body: Body { name: name.to_owned(), payload: payload.into(), trace: None }, ..NewJob::default() }
}

fn failed(error: &str, retry: bool) -> Option<Outcome> {
    Some(Outcome::Failed { error: error.into(), stack: Some(format!("{error} at scan.js:7")), retry, wait_ms: None })
}

/// A job in each state, and two that wait: 1 completed, 2 failed, 3 dead … as the ids say.
async fn full() -> House {
    let rate = Some(Limit { count: 50, window_ms: 60_000, smooth: false });
    let house = House::new(Settings { concurrency: Some(5), rate, ..Settings::default() }).await;
    house.add(vec![named("pdf", "{\"n\":1}"), named("pdf", "{\"n\":2}"), named("pdf", "{\"n\":3}")]).await;
    house.end(Some(Outcome::Completed { result: Some(b"{\"clean\":true}".to_vec()) })).await;
    house.end(failed("no such page", false)).await;
    let third = house.end(None).await;
    house.jobs.disconnect("w1").await.expect("gone");
    // Its worker is lost twice: it is set aside as dead.
    house.pass(Duration::from_secs(6)).await;
    assert_eq!(house.end(None).await, third);
    house.jobs.disconnect("w1").await.expect("gone");
    house.pass(Duration::from_secs(6)).await;
    let unique = Some(Unique { key: "k1".into(), for_ms: None });
    house.add(vec![named("run", "{}"), NewJob { delay_ms: 60_000, ..named("later", "{}") }]).await;
    house.add(vec![NewJob { priority: 7, ..named("low", "{}") }, NewJob { unique, ..named("wait", "{}") }]).await;
    assert_eq!(house.end(None).await, 4);
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_finds_every_key_of_bullmq() {
    let house = full().await;
    // What happened before has been told of when this comes back.
    house.pass(Duration::ZERO).await;
    let mut events = house.jobs.events();
    let delayed = (START_MS + 12_000 + 60_000) * 4096;
    for (line, expected) in [
        ("LLEN bull:scan:wait", "2".to_owned()),
        ("LLEN bull:scan:waiting", "2".to_owned()),
        ("LRANGE bull:scan:wait 0 -1", "6\n7".to_owned()),
        ("LRANGE bull:scan:wait -1 -1", "7".to_owned()),
        ("LINDEX bull:scan:wait 0", "6".to_owned()),
        ("LINDEX bull:scan:wait 9", String::new()),
        ("LLEN bull:scan:active", "1".to_owned()),
        ("LRANGE bull:scan:active 0 -1", "4".to_owned()),
        ("LLEN bull:scan:paused", "0".to_owned()),
        ("LLEN bull:nobody:wait", "0".to_owned()),
        ("LRANGE bull:nobody:wait 0 -1", String::new()),
        ("ZCARD bull:scan:prioritized", "0".to_owned()),
        ("ZCARD bull:scan:delayed", "1".to_owned()),
        ("ZRANGE bull:scan:delayed 0 -1 WITHSCORES", format!("5\n{delayed}")),
        ("ZSCORE bull:scan:delayed 5", delayed.to_string()),
        ("ZCARD bull:scan:completed", "1".to_owned()),
        ("ZRANGE bull:scan:completed 0 -1 WITHSCORES", format!("1\n{START_MS}")),
        ("ZCOUNT bull:scan:completed -inf +inf", "1".to_owned()),
        ("ZCOUNT bull:scan:completed -inf (1767225600000", "0".to_owned()),
        ("ZCOUNT bull:scan:completed 1767225600000 +inf", "1".to_owned()),
        ("ZRANGE bull:scan:failed 0 -1", "2".to_owned()),
        ("ZREVRANGE bull:scan:dead 0 -1", "3".to_owned()),
        ("ZSCORE bull:scan:completed 2", String::new()),
        ("ZCARD bull:scan:waiting-children", "0".to_owned()),
        ("TYPE bull:scan:wait", "list".to_owned()),
        ("TYPE bull:scan:delayed", "zset".to_owned()),
        ("TYPE bull:scan:1", "hash".to_owned()),
        ("TYPE bull:scan:id", "string".to_owned()),
        ("TYPE bull:scan:events", "none".to_owned()),
        ("TTL bull:scan:meta", "-1".to_owned()),
        ("TTL bull:nobody:meta", "-2".to_owned()),
        ("EXISTS bull:scan:wait bull:scan:1 bull:scan:paused bull:scan:99 bull:other:1", "2".to_owned()),
        ("HGET bull:scan:meta concurrency", "5".to_owned()),
        ("HMGET bull:scan:meta max duration paused", "50\n60000".to_owned()),
        ("GET bull:scan:id", "7".to_owned()),
        ("STRLEN bull:scan:id", "1".to_owned()),
        ("HGET bull:scan:1 name", "pdf".to_owned()),
        ("HGET bull:scan:1 data", "{\"n\":1}".to_owned()),
        ("HGET bull:scan:1 returnvalue", "{\"clean\":true}".to_owned()),
        ("HMGET bull:scan:2 failedReason stacktrace atm ats", {
            "no such page\n[\"no such page at scan.js:7\"]\n1\n1".to_owned()
        }),
        ("HGET bull:scan:3 stc", "2".to_owned()),
        ("HGET bull:scan:5 delay", "60000".to_owned()),
        ("HGET bull:scan:6 priority", "7".to_owned()),
        ("HGET bull:scan:7 deid", "k1".to_owned()),
        ("HGET bull:scan:7 processedOn", String::new()),
        ("HGETALL bull:other:7", String::new()),
        ("HLEN bull:scan:99", "0".to_owned()),
        ("PING", "PONG".to_owned()),
        ("ECHO hello", "hello".to_owned()),
        ("-n 0 PING", "PONG".to_owned()),
        ("DBSIZE", "15".to_owned()),
        ("-3 ZRANGE bull:scan:failed 0 -1 WITHSCORES", format!("2\n{START_MS}")),
    ] {
        assert_eq!(house.cli(line).await, expected, "{line}");
    }
    assert!(events.try_recv().is_err(), "whatever was read, nothing happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_keeps_what_waits_where_it_is() {
    let house = full().await;
    house.jobs.pause("scan").await.expect("paused");
    for (line, expected) in
        [("HGET bull:scan:meta paused", "1"), ("LLEN bull:scan:wait", "2"), ("LLEN bull:scan:paused", "0")]
    {
        assert_eq!(house.cli(line).await, expected, "{line}");
    }
    house.jobs.resume("scan").await.expect("resumed");
    assert_eq!(house.cli("HEXISTS bull:scan:meta paused").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_fields_are_bullmqs() {
    let house = full().await;
    let mut client = house.client().await;
    let opts = |priority: u32, delay: u64| {
        let backoff = serde_json::json!({ "type": "exponential", "delay": 2000 });
        serde_json::json!({
            "attempts": 3, "backoff": backoff, "delay": delay, "priority": priority, "timeout": 30_000,
        })
    };
    let completed = format!(
        "[name pdf data {{\"n\":1}} opts {} timestamp {START_MS} delay 0 priority 0 atm 1 ats 1 processedOn {START_MS} \
         finishedOn {START_MS} pb w1 returnvalue {{\"clean\":true}}]",
        opts(0, 0)
    );
    assert_eq!(client.ask("HGETALL bull:scan:1").await, completed);
    let at_ms = START_MS + 12_000;
    let delayed =
        format!("[name later data {{}} opts {} timestamp {at_ms} delay 60000 priority 0 atm 0 ats 0]", opts(0, 60_000));
    assert_eq!(client.ask("HGETALL bull:scan:5").await, delayed);
    assert_eq!(client.ask("HLEN bull:scan:5").await, "8");
    assert_eq!(client.ask("HKEYS bull:scan:5").await, "[name data opts timestamp delay priority atm ats]");
    assert_eq!(client.ask("HEXISTS bull:scan:5 finishedOn").await, "0");
    assert_eq!(client.ask("HSTRLEN bull:scan:5 name").await, "5");
    let meta = format!("[version mainstay:{} concurrency 5 max 50 duration 60000]", env!("CARGO_PKG_VERSION"));
    assert_eq!(client.ask("HGETALL bull:scan:meta").await, meta);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_log_and_progress_are_there_while_it_runs() {
    let house = House::new(Settings::default()).await;
    house.add(vec![named("pdf", "{}")]).await;
    let claim = Claim { queue: "scan".into(), worker: "w1".into(), max: 1, wait: Duration::ZERO };
    let work = house.jobs.claim(claim).await.expect("claimed").remove(0).claimed;
    let mut client = house.client().await;
    assert_eq!(client.ask("TYPE bull:scan:1:logs").await, "none");
    for line in ["a quarter", "half way"] {
        house.jobs.log(work.job, work.token, line.into()).await.expect("kept");
    }
    house.jobs.progress(work.job, work.token, b"50".to_vec()).await.expect("kept");
    assert_eq!(client.ask("LLEN bull:scan:1:logs").await, "2");
    assert_eq!(client.ask("LRANGE bull:scan:1:logs 0 -1").await, "[a quarter half way]");
    assert_eq!(client.ask("LINDEX bull:scan:1:logs -1").await, "half way");
    assert_eq!(client.ask("TYPE bull:scan:1:logs").await, "list");
    assert_eq!(client.ask("HGET bull:scan:1 progress").await, "50");
    assert_eq!(client.ask("LLEN bull:other:1:logs").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_changed_and_what_is_wrong_is_said() {
    let house = full().await;
    let mut client = house.client().await;
    for (line, words) in [
        ("LPUSH bull:scan:wait 1", "-READONLY no LPUSH here, this port only reads: mainstay jobs add"),
        ("del bull:scan:1", "-READONLY no DEL here, this port only reads: mainstay jobs remove"),
        ("FLUSHALL", "-READONLY no FLUSHALL here, this port only reads: mainstay jobs drain"),
        ("BZPOPMIN bull:scan:marker 1", "-READONLY no BZPOPMIN here"),
        ("EVALSHA abc 0", "-READONLY no EVALSHA here"),
        ("SET a b", "-READONLY no SET here"),
        ("MULTI", "-ERR no transactions here"),
        ("NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b'"),
        ("LLEN", "-ERR wrong number of arguments for 'llen' command"),
        ("LLEN a b", "-ERR wrong number of arguments for 'llen' command"),
        ("LLEN bull:scan:delayed", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("ZCARD bull:scan:wait", "-WRONGTYPE"),
        ("GET bull:scan:1", "-WRONGTYPE"),
        ("HGETALL bull:scan:id", "-WRONGTYPE"),
        ("LRANGE bull:scan:wait a b", "-ERR value is not an integer"),
        ("ZRANGE bull:scan:failed 0 1 BYSCORE", "-ERR BYSCORE is not answered here"),
        ("ZRANGE bull:scan:failed 0 1 NOSUCH", "-ERR syntax error"),
        ("ZCOUNT bull:scan:failed x 1", "-ERR min or max is not a float"),
        ("SELECT 1", "-ERR DB index is out of range"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO x", "-ERR Protocol version is not an integer"),
        ("HELLO 3 AUTH someone x", "-WRONGPASS"),
        ("AUTH secret", "-ERR AUTH <password> called without any password"),
        ("CLIENT KILL x", "-ERR unknown subcommand 'KILL' of CLIENT"),
        ("CLIENT SETNAME a\tb", "-ERR Client names cannot contain spaces"),
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN 0 COUNT", "-ERR syntax error"),
    ] {
        let said = client.ask(line).await;
        assert!(said.starts_with(words), "{line}: {said}");
    }
    // A kind that does not fit is of no matter where nothing is.
    assert_eq!(client.ask("LLEN bull:nobody:failed").await, "0");
    assert_eq!(client.ask("PING").await, "PONG");
    assert_eq!(client.ask("LLEN bull:scan:wait").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_are_greeted_as_by_redis() {
    let house = full().await;
    let mut client = house.client().await;
    for (line, expected) in [
        ("CLIENT SETINFO LIB-NAME ioredis", "OK"),
        ("CLIENT SETNAME backend", "OK"),
        ("CLIENT GETNAME", "backend"),
        ("CLIENT ID", "1"),
        ("SELECT 0", "OK"),
        ("ping", "PONG"),
        ("PING x", "x"),
        ("AUTH default anything", "OK"),
        ("COMMAND INFO llen nosuch", "[[llen 2 [readonly] 1 1 1] nil]"),
        ("COMMAND DOCS ttl", "[ttl [summary -1: no key ends by itself]]"),
        ("HMGET bull:scan:nobody a", "[nil]"),
    ] {
        assert_eq!(client.ask(line).await, expected, "{line}");
    }
    let hello = client.ask("HELLO 3 AUTH default x SETNAME other").await;
    assert!(hello.starts_with("{server redis version 7.2.0 proto 3 id 1 mode standalone role master"), "{hello}");
    assert!(client.ask("CLIENT INFO").await.contains("name=other db=0 resp=3"));
    assert_eq!(client.ask("HGET bull:scan:7 nosuch").await, "nil");
    assert!(client.ask("HGETALL bull:scan:7").await.starts_with("{name wait data {} opts"));
    assert_eq!(client.ask("ZRANGE bull:scan:failed 0 0 WITHSCORES").await, format!("[[2 {START_MS}]]"));
    assert_eq!(client.ask("RESET").await, "RESET");
    assert!(client.ask("HELLO").await.starts_with("[server redis version"));
    let info = client.ask("INFO").await;
    for line in ["redis_version:7.2.0", "maxmemory_policy:noeviction", "loading:0", "role:master", "db0:keys=15,"] {
        assert!(info.contains(line), "{line}: {info}");
    }
    assert!(!info.contains("used_memory:0\r"), "{info}");
    let memory = client.ask("INFO memory").await;
    assert!(memory.starts_with("# Memory\r\nused_memory:") && !memory.contains("redis_version"), "{memory}");
    assert_eq!(client.ask("QUIT").await, "OK");
    assert_eq!(client.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_listed_once_and_patterns_hold() {
    let house = full().await;
    let mut client = house.client().await;
    let listed = client.ask("KEYS bull:scan:*").await;
    let of_queue = ["wait", "delayed", "active", "completed", "failed", "dead", "meta", "id"];
    let names = of_queue.iter().map(|name| (*name).to_owned()).chain((1..8).map(|id: u32| id.to_string()));
    let expected: Vec<String> = names.map(|name| format!("bull:scan:{name}")).collect();
    assert_eq!(listed, format!("[{}]", expected.join(" ")));
    assert_eq!(client.ask("KEYS bull:*:wait").await, "[bull:scan:wait]");
    assert_eq!(client.ask("KEYS *:[12]").await, "[bull:scan:1 bull:scan:2]");
    assert_eq!(client.ask("KEYS other:*").await, "[]");
    let long = format!("KEYS {}", "*a".repeat(300));
    assert!(client.ask(&long).await.starts_with("-ERR a pattern has at most"));
    assert_eq!(house.cli("--scan --pattern bull:*:meta").await, "bull:scan:meta");
    assert_eq!(client.ask("SCAN 0 TYPE zset COUNT 100").await, {
        "[4294967296 [bull:scan:delayed bull:scan:completed bull:scan:failed bull:scan:dead]]"
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_gives_each_job_once_while_others_come_and_go() {
    let house = House::new(Settings::default()).await;
    let all = house.add((0..3000).map(|_| named("pdf", "{}")).collect()).await;
    let mut client = house.client().await;
    let (mut cursor, mut found, mut removed) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let said = client.ask(&format!("SCAN {cursor} MATCH bull:scan:[1-9]* COUNT 500")).await;
        let (next, keys) = said[1..].split_once(" [").expect("a cursor and keys");
        found.extend(keys.trim_end_matches(']').split(' ').filter(|key| !key.is_empty()).map(str::to_owned));
        // What waited first is there no more, and more comes at the end.
        removed += 1;
        house.jobs.remove(all[removed - 1]).await.expect("removed");
        house.add(vec![named("new", "{}")]).await;
        cursor = next.to_owned();
        if cursor == "0" {
            break;
        }
    }
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!(unique.len(), found.len(), "none twice");
    assert!(all.iter().skip(removed).all(|id| unique.contains(&format!("bull:scan:{id}"))), "none left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_bounded_and_told_so() {
    let house = House::new(Settings::default()).await;
    house.add((0..RANGE_MAX + 1).map(|_| named("pdf", "{}")).collect()).await;
    let mut client = house.client().await;
    assert_eq!(client.ask("LLEN bull:scan:wait").await, (RANGE_MAX + 1).to_string());
    let refused = client.ask("LRANGE bull:scan:wait 0 -1").await;
    assert!(refused.starts_with("-ERR 5001 members, and a range gives at most 5000"), "{refused}");
    let ids = client.ask("LRANGE bull:scan:wait 0 4999").await;
    assert!(ids.starts_with("[5001 5000 4999") && ids.ends_with("4 3 2]"), "the newest first");
    assert_eq!(client.ask("LRANGE bull:scan:wait -1 -1").await, "[1]");
    assert_eq!(client.ask("ZCARD bull:scan:completed").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_bounded_whatever_is_asked_for() {
    let house = House::new(Settings::default()).await;
    let payload = format!("\"{}\"", "x".repeat(1_000_000));
    house.add(vec![named("large", &payload)]).await;
    let mut client = house.client().await;
    assert_eq!(client.ask("HGET bull:scan:1 data").await, payload);
    assert_eq!(client.ask("HSTRLEN bull:scan:1 data").await, payload.len().to_string());
    let refused = client.ask(&format!("HMGET bull:scan:1{}", " data".repeat(60))).await;
    assert!(refused.starts_with("-ERR the reply would have more than 2097152 bytes"), "{refused}");
    assert_eq!(client.ask("PING").await, "PONG");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_pipelined_and_may_come_a_byte_at_a_time() {
    let house = full().await;
    let client = house.client().await;
    let mut all = Vec::new();
    for number in 0..10_000 {
        all.extend(request(&format!("ECHO {number}")));
        all.extend(b"LLEN bull:scan:wait\r\n");
    }
    let sending = tokio::spawn(async move {
        let (mut read, mut write) = client.0.into_inner().into_split();
        let writing = tokio::spawn(async move { write.write_all(&all).await.map(|()| write) });
        let mut text = Vec::new();
        let expected: String =
            (0..10_000).map(|number| format!("${}\r\n{number}\r\n:2\r\n", number.to_string().len())).collect();
        while text.len() < expected.len() {
            assert!(read.read_buf(&mut text).await.expect("replies") > 0);
        }
        assert!(text == expected.as_bytes());
        writing.await.expect("no panic").expect("sent");
    });
    tokio::time::timeout(BOUND, sending).await.expect("in time").expect("each in its place");
    let mut client = house.client().await;
    for byte in [request("LLEN bull:scan:wait"), b"\r\n*0\r\nPING\r\n".to_vec()].concat() {
        client.send(&[byte]).await;
    }
    assert_eq!((client.reply().await, client.reply().await), ("2".to_owned(), "PONG".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_end_their_connection_and_no_other() {
    let house = full().await;
    let mut other = house.client().await;
    for (bytes, expected) in [
        (&b"*1\r\nPING\r\n"[..], "-ERR Protocol error: expected '$', got 'P'\r\n"),
        (b"PING\r\n*x\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*65\r\n", "-ERR Protocol error: a request has at most 64 words here\r\n"),
        (b"*1\r\n$70000\r\n", "-ERR Protocol error: a word has at most 65536 bytes here\r\n"),
        (b"ECHO \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (&[b'a'; 5000], "-ERR Protocol error: too big inline request\r\n"),
        (&[0xff; 5000], "-ERR Protocol error: too big inline request\r\n"),
        // A page in a browser, made to speak to this port: not even what it brought in front is answered.
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nLLEN bull:scan:wait\r\n", ""),
        (b"LLEN bull:scan:wait\r\nHost: 127.0.0.1\r\n", ""),
    ] {
        let mut client = house.client().await;
        client.send(bytes).await;
        assert_eq!(client.rest().await, expected, "{}", bytes.escape_ascii());
        assert_eq!(other.ask("PING").await, "PONG");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_let_go_of_and_harms_nobody() {
    let limits = Limits { send: Duration::from_millis(200), ..Limits::default() };
    let house = House::within(Settings::default(), limits).await;
    house.add(vec![named("large", &format!("\"{}\"", "x".repeat(1_000_000)))]).await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        let mut client = house.client().await;
        client.send(&request("HGETALL bull:scan:1").repeat(50)).await;
        greedy.push(client);
    }
    let mut client = house.client().await;
    let began = Instant::now();
    while !client.ask("INFO clients").await.contains("connected_clients:1\r") {
        assert_eq!(client.ask("LLEN bull:scan:wait").await, "1");
        assert!(began.elapsed() < BOUND, "they are held for ever");
    }
    assert!(client.ask("HGET bull:scan:1 data").await.len() > 1_000_000, "their turns are free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixty_fifth_connection_is_told_that_it_is_one_too_many() {
    let house = full().await;
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut client = house.client().await;
        assert_eq!(client.ask("PING").await, "PONG");
        held.push(client);
    }
    assert_eq!(house.client().await.rest().await, "-ERR max number of clients reached\r\n");
    assert_eq!(held[63].ask("LLEN bull:scan:wait").await, "2");
    drop(held.pop());
    let began = Instant::now();
    while house.cli("PING").await != "PONG" {
        assert!(began.elapsed() < BOUND, "its place is not given to another");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_nothing_is_closed_however_it_dribbles() {
    let house = House::within(Settings::default(), Limits { idle: Duration::from_millis(200), ..Limits::default() });
    let house = house.await;
    let mut silent = house.client().await;
    assert_eq!(silent.ask("PING").await, "PONG");
    assert_eq!(silent.rest().await, "");
    let mut dribbling = house.client().await;
    let began = Instant::now();
    // No request is ever whole.
    while dribbling.0.get_mut().write_all(b"x").await.is_ok() {
        assert!(began.elapsed() < BOUND, "it may do so for ever");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_jobs_are_away_clients_are_told_to_wait_and_at_the_end_they_are_let_go() {
    let house = full().await;
    let mut client = house.client().await;
    house.is_away.store(true, Ordering::SeqCst);
    for line in ["LLEN bull:scan:wait", "LLEN other", "TYPE bull:scan:1", "KEYS *", "SCAN 0", "DBSIZE", "HGETALL a"] {
        let said = client.ask(line).await;
        assert!(said.starts_with("-LOADING jobs are not open"), "{line}: {said}");
    }
    assert_eq!(client.ask("PING").await, "PONG");
    let info = client.ask("INFO").await;
    assert!(info.contains("loading:1") && !info.contains("db0:"), "{info}");
    house.is_away.store(false, Ordering::SeqCst);
    assert_eq!(client.ask("LLEN bull:scan:wait").await, "2");
    house.jobs.close().await;
    assert!(client.ask("LLEN bull:scan:wait").await.starts_with("-LOADING"));
    house.stop().await;
    assert_eq!(client.rest().await, "");
    assert!(TcpStream::connect(house.address).await.is_err());
}

#[tokio::test]
async fn others_than_this_machine_are_not_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let (_trigger, shutdown) = Shutdown::new();
    let served = resp::serve(listener, Arc::new(|| None), shutdown);
    tokio::time::timeout(BOUND, served).await.expect("at once");
}
