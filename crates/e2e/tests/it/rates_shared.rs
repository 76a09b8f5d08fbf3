//! Limits that several Mainstays keep together, whatever becomes of the Redis they share.

use crate::rates::{Client, count, file};
use crate::support::{in_front_of, judged};
use mainstay_e2e::wait::pause;
use mainstay_e2e::{Mainstay, Peer, Setup, get, wait_until};
use mainstay_servers::redis::Redis;
use mainstay_servers::sentinel::MASTER;
use mainstay_servers::{Cluster, Sentinels};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const CLIENTS: usize = 50;
/// Between two questions of a client: who hammers leaves no processor for what is tested.
const PACE: Duration = Duration::from_millis(5);
/// Misses in a row after which a core asks no more.
pub const MISSES_MAX: u64 = 5;

fn sharing(peer: &Peer, redis: &str, rules: &str) -> Mainstay {
    let text = format!("{}[store]\nshared = \"redis\"\n{redis}{}", in_front_of(&[peer]), file(rules));
    let mainstay = Setup::file(&text).ready("/");
    until_up(&mainstay);
    mainstay
}

fn at(redis: &Redis) -> String {
    format!("[store.redis]\nurl = \"{}\"\n", redis.url())
}

/// How many cores there are, have a connection that answers, and leave one alone that does not.
pub fn seen(mainstay: &Mainstay) -> [u64; 3] {
    let shared = mainstay.verb(&["limits", "--json"]).json()["shared"].clone();
    ["cores", "up", "open"].map(|name| shared[name].as_u64().unwrap_or_else(|| panic!("no {name}: {shared}")))
}

pub fn until_up(mainstay: &Mainstay) {
    wait_until("every core to reach Redis", || matches!(seen(mainstay), [cores, up, _] if cores == up));
}

/// `mainstay_redis_calls_total` by its outcome.
pub fn calls(mainstay: &Mainstay) -> BTreeMap<String, u64> {
    let text = get(&mainstay.url("/.mainstay/health/metrics")).text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("mainstay_redis_calls_total{outcome=\""));
    lines.filter_map(|line| line.split_once("\"} ")).map(|(k, v)| (k.to_owned(), v.parse().expect("a count"))).collect()
}

/// Calls that were made.
pub fn made(calls: &BTreeMap<String, u64>) -> u64 {
    ["answered", "late", "failed"].iter().map(|outcome| calls[*outcome]).sum()
}

/// One answer: when it was asked for, when it came, and what it was.
type Seen = (Instant, Instant, u16);

/// `CLIENTS` connections that ask again and again, each at one of these in turn, until they are told to stop.
fn load(all: &[&Mainstay], ask: impl Fn(usize, &mut Client) -> u16 + Sync, stop: &AtomicBool) -> Vec<Seen> {
    at_pace(Some(PACE), all, ask, stop)
}

/// Without a pace: as fast as they are answered.
fn at_pace(
    pace: Option<Duration>,
    all: &[&Mainstay],
    ask: impl Fn(usize, &mut Client) -> u16 + Sync,
    stop: &AtomicBool,
) -> Vec<Seen> {
    std::thread::scope(|scope| {
        let one = |number: usize| {
            let ask = &ask;
            scope.spawn(move || {
                let mut client = Client::new(all[number % all.len()], "203.0.113.7");
                let mut seen = Vec::new();
                while !stop.load(Relaxed) {
                    let sent = Instant::now();
                    let status = ask(number, &mut client);
                    seen.push((sent, Instant::now(), status));
                    if let Some(pace) = pace {
                        pause(pace);
                    }
                }
                seen
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(one).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    })
}

/// The most answers that certainly lie within one window.
fn most_within(admitted: &[Seen], window: Duration) -> usize {
    let inside =
        |from: Instant| admitted.iter().filter(|(sent, came, _)| *sent >= from && *came < from + window).count();
    admitted.iter().map(|(sent, ..)| inside(*sent)).max().unwrap_or(0)
}

/// The fewest that may lie within one window, of those that begin with the load or behind an answer that was admitted;
/// a window that the load did not outlast says nothing. Also how many windows that were.
fn fewest_within(admitted: &[Seen], begin: Instant, end: Instant, window: Duration) -> (usize, usize) {
    let inside =
        |from: Instant| admitted.iter().filter(|(sent, came, _)| *came > from && *sent <= from + window).count();
    let begins = std::iter::once(begin).chain(admitted.iter().map(|(_, came, _)| *came));
    let whole: Vec<usize> = begins.filter(|from| *from + window <= end).map(inside).collect();
    (whole.iter().copied().min().unwrap_or(0), whole.len())
}

/// L4: a minute's hundred, at full pace and for more than two minutes.
#[test]
fn l4_in_any_minute_a_hundred_pass_three_mainstays_under_fifty_clients() {
    const MINUTE: Duration = Duration::from_secs(60);
    let (peer, redis) = (Peer::labelled("fine"), Redis::plain());
    let rules = "[limits]\nip = \"100/min\"\non_outage = \"refuse\"\n";
    let three = [0; 3].map(|_| sharing(&peer, &at(&redis), rules));
    let all: Vec<&Mainstay> = three.iter().collect();
    let of = |outcome: &str| three.iter().map(|mainstay| calls(mainstay)[outcome]).sum::<u64>();
    let before = of("late") + of("failed");
    let (stop, begin) = (AtomicBool::new(false), Instant::now());
    let mut answers = std::thread::scope(|scope| {
        let load = scope.spawn(|| at_pace(None, &all, |_, client| client.ask("GET /", "").status, &stop));
        // One condition may take no longer than half a minute; this is five of them.
        for part in 1..=5 {
            wait_until("a part of two minutes to pass", || begin.elapsed() > part * Duration::from_secs(25));
        }
        stop.store(true, Relaxed);
        load.join().expect("the load")
    });
    answers.sort_unstable();
    // Whoever could not be counted in time was not admitted, and may have counted all the same.
    let lost = usize::try_from(of("late") + of("failed") - before).expect("a number");
    assert!(answers.iter().all(|(.., status)| [200, 429, 503].contains(status)));
    let statuses: Vec<u16> = answers.iter().map(|(.., status)| *status).collect();
    assert!(count(&statuses, 503) == 0 || lost > 0, "{} were not counted", count(&statuses, 503));
    let admitted: Vec<Seen> = answers.iter().filter(|(.., status)| *status == 200).copied().collect();
    let slowest = answers.iter().map(|(sent, came, _)| *came - *sent).max().unwrap_or_default();
    let silence = answers.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or_default();
    // Where nobody asked, nobody was admitted: the longest pause of this machine is not the limit's.
    let slack = slowest + silence + Duration::from_millis(20);
    let end = answers[answers.len() - 1].0;
    let (fewest, windows) = fewest_within(&admitted, answers[0].0, end, MINUTE + slack);
    let most = most_within(&admitted, MINUTE);
    println!(
        "{} asked, {} passed, {lost} lost; {fewest} to {most} in each of {windows} minutes (and {slack:?})",
        answers.len(),
        admitted.len()
    );
    assert!(most <= 100, "{most} in a minute");
    assert!(windows > 100 && fewest + lost >= 99, "{fewest} in one of {windows} minutes, {lost} lost");
}

#[test]
fn l4_three_mainstays_admit_together_what_one_would() {
    const WINDOW: Duration = Duration::from_secs(2);
    let (peer, redis) = (Peer::labelled("fine"), Redis::plain());
    // Whoever cannot be counted is not admitted: on a machine that is busy an answer of Redis may come late.
    let rules = "[limits]\non_outage = \"refuse\"\n[[route]]\nmatch = \"/short\"\nlimit = \"100/2s\"\n\
                 [[route]]\nmatch = \"/minute\"\nlimit = \"100/min\"\n";
    let three = [0; 3].map(|_| sharing(&peer, &at(&redis), rules));
    let all: Vec<&Mainstay> = three.iter().collect();

    // A minute's hundred, asked for six times as often in one moment.
    let (never, asked) = (AtomicBool::new(false), std::sync::Mutex::new(0));
    let take = || {
        let mut asked = asked.lock().expect("a count");
        *asked += 1;
        never.store(*asked >= 600, Relaxed);
    };
    let answers = load(&all, |_, client| (take(), client.ask("GET /minute", "").status).1, &never);
    exactly(&answers.iter().map(|(.., status)| *status).collect::<Vec<u16>>(), 100);

    // Four windows. Each answer lies somewhere between its question and its coming.
    let stop = AtomicBool::new(false);
    let late = || three.iter().map(|mainstay| calls(mainstay)["late"]).sum::<u64>();
    let (begin, before) = (Instant::now(), late());
    let mut answers = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&all, |_, client| client.ask("GET /short", "").status, &stop));
        wait_until("four windows to pass", || begin.elapsed() > WINDOW * 4);
        stop.store(true, Relaxed);
        load.join().expect("the load")
    });
    // An answer of Redis that came too late may have counted all the same.
    let late = late() - before;
    answers.sort_unstable();
    assert!(answers.iter().all(|(.., status)| [200, 429, 503].contains(status)));
    let admitted: Vec<Seen> = answers.iter().filter(|(.., status)| *status == 200).copied().collect();
    let most = most_within(&admitted, WINDOW);
    // Where nobody asked, nobody was admitted: the longest pause of this machine is not the limit's.
    let slowest = answers.iter().map(|(sent, came, _)| *came - *sent).max().unwrap_or_default();
    let silence = answers.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or_default();
    let window = WINDOW + slowest + silence + Duration::from_millis(20);
    let windows = (answers[answers.len() - 1].0 - answers[0].0).as_micros() / window.as_micros();
    let (asked, passed) = (answers.len(), admitted.len());
    println!("{asked} asked, {passed} passed, {late} late, at most {most} within {WINDOW:?}; {windows} of {window:?}");
    assert!(most <= 100, "{most} within {WINDOW:?}");
    assert!(windows >= 1 && passed as u128 + u128::from(late) >= 99 * windows, "{passed} in {windows} of {window:?}");
}

/// So many were admitted, or may have been: an answer of Redis that came too late may have counted.
#[track_caller]
fn exactly(statuses: &[u16], expected: usize) {
    let (admitted, undecided) = (count(statuses, 200), count(statuses, 503));
    assert!(admitted <= expected && admitted + undecided >= expected, "{expected} of {statuses:?}");
}

/// What two limits do while Redis is away: one counts here, the other refuses.
const POLICIES: &str = "[[route]]\nmatch = \"/a\"\nlimit = \"1000000/min\"\n\
                        [[route]]\nmatch = \"/few\"\nlimit = \"3/min\"\n\
                        [[route]]\nmatch = \"/b\"\nlimit = \"1000000/min\"\non_outage = \"refuse\"\n";

/// The limits hold as written while no core asks Redis, and nobody asks it.
#[track_caller]
fn policy_holds(mainstay: &Mainstay, client: &str) {
    let before = made(&calls(mainstay));
    let mut asking = Client::new(mainstay, client);
    assert!(asking.statuses("GET /a", 200).iter().all(|status| *status == 200));
    assert_eq!(asking.statuses("GET /few", 5), [200, 200, 200, 429, 429], "counted here");
    let refused = asking.ask("GET /b", "");
    assert_eq!(refused.header("retry-after"), Some("1"), "{}", refused.head);
    let why = judged(mainstay, "one that cannot be counted", &refused, 503, "service_busy");
    assert!(why.contains("route /b 1000000/1m per ip (mainstay.toml:"), "{why}");
    assert_eq!(made(&calls(mainstay)), before, "somebody waited for a Redis that is left alone");
}

#[test]
fn l4_a_redis_that_is_killed_stops_nobody() {
    let (peer, mut redis) = (Peer::labelled("fine"), Redis::plain());
    let mainstay = sharing(&peer, &at(&redis), POLICIES);
    let stop = AtomicBool::new(false);
    let paths = ["GET /a", "GET /b"];
    let answers = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&[&mainstay], |number, client| client.ask(paths[number % 2], "").status, &stop));
        wait_until("calls", || made(&calls(&mainstay)) > 100);
        redis.kill();
        wait_until("every core to notice", || seen(&mainstay)[1] == 0);
        policy_holds(&mainstay, "203.0.113.8");
        mainstay.says("Redis");
        assert!(mainstay.verb(&["limits"]).ok().contains("Redis is away"));
        redis.run();
        until_up(&mainstay);
        stop.store(true, Relaxed);
        load.join().expect("the load")
    });
    // Nobody got anything else, and nobody was cut.
    assert!(answers.iter().all(|(.., status)| [200, 503].contains(status)));
    let before = made(&calls(&mainstay));
    assert_eq!(Client::new(&mainstay, "203.0.113.8").ask("GET /b", "").status, 200);
    assert!(made(&calls(&mainstay)) > before, "it is asked again");
}

#[test]
fn l4_a_redis_that_hangs_for_ten_seconds_is_waited_for_a_few_times_and_then_by_nobody() {
    let (peer, redis) = (Peer::labelled("fine"), Redis::plain());
    let mainstay = sharing(&peer, &at(&redis), POLICIES);
    let stop = AtomicBool::new(false);
    let (late, answers) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&[&mainstay], |_, client| client.ask("GET /a", "").status, &stop));
        wait_until("calls", || made(&calls(&mainstay)) > 100);
        let before = calls(&mainstay);
        redis.pause();
        let paused = Instant::now();
        wait_until("every core to leave it alone", || matches!(seen(&mainstay), [cores, 0, open] if open == cores));
        policy_holds(&mainstay, "203.0.113.8");
        let late = calls(&mainstay)["late"] - before["late"];
        wait_until("ten seconds to pass", || paused.elapsed() > Duration::from_secs(10));
        assert_eq!(calls(&mainstay)["late"] - before["late"], late, "somebody waited after the breaker had opened");
        redis.resume();
        until_up(&mainstay);
        stop.store(true, Relaxed);
        (late, load.join().expect("the load"))
    });
    let slowest = answers.iter().map(|(sent, came, _)| *came - *sent).max().unwrap_or_default();
    println!("{} answers, {late} waited for Redis, the slowest took {slowest:?}", answers.len());
    assert!(answers.iter().all(|(.., status)| *status == 200));
    // One of each client at most that was on its way, and those that opened the breaker of each core.
    let cores = seen(&mainstay)[0];
    assert!(late <= CLIENTS as u64 + MISSES_MAX * cores, "{late} waited");
}

#[test]
fn l4_what_redis_forgot_is_not_forgiven_and_what_it_knows_outlives_a_mainstay() {
    let (peer, mut redis) = (Peer::labelled("fine"), Redis::plain());
    let rules = "[limits]\nip = \"10/min\"\non_outage = \"refuse\"\n";
    let one = sharing(&peer, &at(&redis), rules);
    let statuses = |mainstay: &Mainstay, times| Client::new(mainstay, "203.0.113.7").statuses("GET /", times);
    exactly(&statuses(&one, 8), 8);
    // Another Mainstay, and this one anew: what was counted stays counted.
    let other = sharing(&peer, &at(&redis), rules);
    exactly(&statuses(&other, 4), 2);
    one.verb(&["stop"]).ok();
    let mut one = one.again();
    one.accepting();
    until_up(&one);
    exactly(&statuses(&one, 3), 0);
    assert!(one.verb(&["limits", "reset", "203.0.113.7"]).ok().contains("counts forgotten"));
    let before = statuses(&one, 12);
    exactly(&before, 10);
    let keys = redis.cli(&["KEYS", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("mainstay:limit:")), "{keys}");
    // It comes back without what it knew; whoever was admitted is remembered here.
    redis.kill();
    redis.run();
    until_up(&one);
    let after = statuses(&one, 5);
    assert!(count(&after, 429) >= 1 && count(&before, 200) + count(&after, 200) <= 10, "{before:?} {after:?}");
}

#[test]
fn l4_d6_a_cluster_and_sentinels_with_a_failover_count_alike() {
    let peer = Peer::labelled("fine");
    let rules = "[limits]\nip = \"40/min\"\non_outage = \"refuse\"\n";
    let cluster = Cluster::start(None);
    let lines = format!("[store.redis]\nurl = \"redis://{}\"\ncluster = true\n", cluster.nodes());
    let two = [0; 2].map(|_| sharing(&peer, &lines, rules));
    for client in ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"] {
        exactly(&Client::new(&two[0], client).statuses("GET /", 30), 30);
        exactly(&Client::new(&two[1], client).statuses("GET /", 30), 10);
    }
    drop((two, cluster));

    let mut sentinels = Sentinels::start(None);
    let lines = format!("[store.redis]\nurl = \"redis://{}\"\nsentinel = \"{MASTER}\"\n", sentinels.list());
    let two = [0; 2].map(|_| sharing(&peer, &lines, rules));
    exactly(&Client::new(&two[0], "203.0.113.1").statuses("GET /", 30), 30);
    let before = sentinels.master();
    // A replica follows a little later; what it knows is what counts on.
    let master = sentinels.servers.iter().find(|server| server.port() == before);
    master.expect("one of ours").wait_until_followed();
    sentinels.kill_master();
    wait_until("the failover", || sentinels.master() != before);
    two.iter().for_each(until_up);
    exactly(&Client::new(&two[1], "203.0.113.1").statuses("GET /", 30), 10);
}

/// L4: what all of them admitted through one is forgotten by that one too, whichever of them is told.
#[test]
fn l4_a_reset_reaches_every_mainstay_that_counts_there() {
    let (peer, redis) = (Peer::labelled("fine"), Redis::plain());
    let rules = "[limits]\nip = \"10/min\"\n[[route]]\nmatch = \"/key\"\nlimit = \"3/min per key:x-api-key\"\n";
    let two = [0; 2].map(|_| sharing(&peer, &at(&redis), rules));
    let mut client = Client::new(&two[0], "203.0.113.7");
    exactly(&client.statuses("GET /", 12), 10);
    let told = || redis.cli(&["PUBSUB", "NUMSUB", "mainstay:limits"]);
    wait_until("both to listen", || told().contains('2'));
    let said = two[1].verb(&["limits", "reset", "203.0.113.7"]).ok();
    assert!(said.contains("in Redis and by every Mainstay that counts there"), "{said}");
    wait_until("the other to forget too", || client.ask("GET /", "").status == 200);
    // A header's value is told to nobody.
    let mut other = Client::new(&two[0], "203.0.113.8");
    let keyed = |client: &mut Client| client.ask("GET /key", "X-Api-Key: sk_live_1\r\n").status;
    let statuses: Vec<u16> = (0..4).map(|_| keyed(&mut other)).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let said = two[1].verb(&["limits", "reset", "sk_live_1"]).ok();
    assert!(said.contains("in Redis and here"), "{said}");
    assert_eq!(keyed(&mut Client::new(&two[1], "203.0.113.8")), 200);
}

/// L4: the journal has one pair, however many cores there are.
#[test]
fn l4_an_outage_of_redis_is_two_lines_of_the_journal() {
    let (peer, redis) = (Peer::labelled("fine"), Redis::plain());
    let mainstay = sharing(&peer, &at(&redis), POLICIES);
    let lines = || {
        let told = mainstay.verb(&["journal", "--kind", "breaker", "--json"]).json();
        let entries = told["entries"].as_array().expect("entries").clone();
        entries.iter().map(|entry| entry["text"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(), Vec::<String>::new());
    redis.pause();
    let mut asking = Client::new(&mainstay, "203.0.113.7");
    wait_until("it to be noted", || {
        assert_eq!(asking.ask("GET /a", "").status, 200);
        !lines().is_empty()
    });
    redis.resume();
    until_up(&mainstay);
    wait_until("its end to be noted", || lines().len() == 2);
    let mut both = lines();
    both.sort();
    assert!(both[0].starts_with("redis is asked again after ") && both[1] == "redis is left alone", "{both:?}");
}
