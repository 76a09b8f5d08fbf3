//! A Redis that is cut off while people are logged in: connections stay, nothing answers.

use crate::rates_shared::{MISSES_MAX, calls, made, seen, until_up};
use crate::sessions::{Browser, setup};
use mainstay_e2e::wait::pause;
use mainstay_e2e::{Connection, Mainstay, Peer, get, wait_until};
use mainstay_servers::Redis;
use mainstay_servers::postgres::Postgres;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const CLIENTS: usize = 50;
/// Between two questions of a client: who hammers leaves no processor for what is tested.
const PACE: Duration = Duration::from_millis(10);
/// What a request may wait for Redis, and what this machine may take to notice that the time is over.
const BUDGET: Duration = Duration::from_millis(50);
const SLACK: Duration = Duration::from_millis(150);
/// Where others may end a session too, a node asks again so often.
const FRESH: Duration = Duration::from_secs(5);

/// One answer: when it was asked for, how long it took, and what it was.
type Seen = (Instant, Duration, u16);

/// Connections that ask who they are, each as one of these browsers at one of the nodes, until they are told to stop.
fn load(nodes: &[&Mainstay], cookies: &[String], stop: &AtomicBool) -> Vec<Seen> {
    std::thread::scope(|scope| {
        let one = |number: usize| {
            let (node, cookie) = (nodes[number % nodes.len()], &cookies[number % cookies.len()]);
            let request = format!("GET /me HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n", node.edge());
            scope.spawn(move || {
                let mut connection = Connection::open(node.edge()).expect("connect");
                let mut seen = Vec::new();
                while !stop.load(Relaxed) {
                    let sent = Instant::now();
                    connection.send(request.as_bytes()).expect("send");
                    let answer = connection.response(false).expect("a response");
                    let took_away = answer.header("set-cookie").is_some_and(|line| line.contains("Max-Age=0"));
                    assert!(!took_away, "logged out: {}", answer.head);
                    seen.push((sent, sent.elapsed(), answer.status));
                    pause(PACE);
                }
                seen
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    })
}

/// `mainstay_redis_longest_wait_seconds`: of all requests so far.
fn longest(mainstay: &Mainstay) -> Duration {
    let text = get(&mainstay.url("/.mainstay/health/metrics")).text();
    let line = text.lines().find_map(|line| line.strip_prefix("mainstay_redis_longest_wait_seconds "));
    Duration::from_secs_f64(line.and_then(|seconds| seconds.parse().ok()).expect("a time"))
}

fn are_left_alone(nodes: &[&Mainstay]) -> bool {
    nodes.iter().all(|node| matches!(seen(node), [cores, 0, open] if open == cores))
}

/// I5, D6: three nodes under load, and a Redis that is cut off for ten seconds.
#[test]
fn i5_d6_a_redis_that_is_cut_off_for_ten_seconds_logs_nobody_out_and_holds_up_nobody() {
    let (peer, redis, postgres) = (Peer::mirror(), Redis::plain(), Postgres::plain());
    // Each request is counted in Redis too: so it can be seen whether one asked it.
    let lines = "[store]\nshared = \"redis\"\ndurable = \"postgres\"\n[limits]\nip = \"100000000/min\"\n";
    let three = [0; 3]
        .map(|_| setup(&peer, lines).env("REDIS_URL", &redis.url()).env("DATABASE_URL", &postgres.url()).ready("/"));
    let nodes: Vec<&Mainstay> = three.iter().collect();
    nodes.iter().for_each(|node| until_up(node));
    let browsers: Vec<Browser> =
        (0..10).map(|n| Browser::registered(nodes[n % 3], &format!("u{n}@example.com"))).collect();
    let leaving = Browser::registered(nodes[0], "leaving@example.com");
    for node in &nodes {
        assert!(browsers.iter().chain([&leaving]).all(|browser| browser.at(node).get("/me").status == 200));
    }
    let cookies: Vec<String> = browsers.iter().map(|browser| browser.cookie.clone()).collect();

    let stop = AtomicBool::new(false);
    let waited = || nodes.iter().map(|node| calls(node)["late"]).sum::<u64>();
    let asked = || nodes.iter().map(|node| made(&calls(node))).sum::<u64>();
    let (late, answers, cut, joined) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&nodes, &cookies, &stop));
        wait_until("calls of every node", || nodes.iter().all(|node| made(&calls(node)) > 100));
        let before = waited();
        redis.pause();
        let cut = Instant::now();
        wait_until("every core to leave it alone", || are_left_alone(&nodes));
        let (late, made) = (waited() - before, asked());
        // Who logs out meanwhile is out: here at once, elsewhere as soon as it looks again.
        let own = leaving.sessions()[0]["id"].as_str().expect("an id").to_owned();
        let ended = leaving.asks("DELETE", &format!("/api/v1/auth/sessions/{own}")).status;
        assert_eq!((ended, leaving.get("/me").status), (204, 401));
        let took =
            wait_until("the others to know", || nodes.iter().all(|node| leaving.at(node).get("/me").status == 401));
        wait_until("ten seconds to pass", || cut.elapsed() > Duration::from_secs(10));
        assert_eq!((waited() - before, asked()), (late, made), "somebody asked it after the breakers had opened");
        redis.resume();
        nodes.iter().for_each(|node| until_up(node));
        let joined = Instant::now();
        wait_until("some more answers", || joined.elapsed() > Duration::from_secs(1));
        stop.store(true, Relaxed);
        println!("a logout was known everywhere after {took:?}");
        (late, load.join().expect("the load"), cut, joined)
    });
    judge(&nodes, &answers, late, cut, joined);
    for node in &nodes {
        assert!(browsers.iter().all(|browser| browser.at(node).get("/me").status == 200));
        assert_eq!(leaving.at(node).get("/me").status, 401, "out for good");
    }
}

fn judge(nodes: &[&Mainstay], answers: &[Seen], late: u64, cut: Instant, joined: Instant) {
    let others = answers.iter().filter(|(.., status)| *status != 200).count();
    let slowest = answers.iter().map(|(_, took, _)| *took).max().unwrap_or_default();
    let waits: Vec<Duration> = nodes.iter().map(|node| longest(node)).collect();
    // By then the breaker of the sessions' own link has opened too: each node has asked for each session again.
    let after = answers.iter().filter(|(sent, ..)| *sent > cut + FRESH + Duration::from_secs(1) && *sent < joined);
    let after: Vec<Duration> = after.map(|(_, took, _)| *took).collect();
    let slow = after.iter().filter(|took| **took >= BUDGET).count();
    println!(
        "{} answers, {others} of them not 200, the slowest took {slowest:?}; {late} waited for Redis, \
         at most {waits:?}; {slow} of {} took {BUDGET:?} once it was left alone",
        answers.len(),
        after.len()
    );
    assert_eq!(others, 0, "somebody was logged out or turned away");
    // One of each client at most that was on its way, and those that opened the breaker of each core.
    let cores: u64 = nodes.iter().map(|node| seen(node)[0]).sum();
    assert!(late <= CLIENTS as u64 + MISSES_MAX * cores, "{late} waited");
    assert!(waits.iter().all(|wait| *wait <= BUDGET + SLACK), "{waits:?}");
    // Whoever still waited for it would be among these each time; a busy machine is so now and then.
    assert!(after.len() > 100 && slow * 50 <= after.len(), "{slow} of {} were slow", after.len());
}
