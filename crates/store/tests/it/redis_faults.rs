//! A Redis that hangs: it accepts, reads, and says nothing.

use crate::support::{count, counted, counting, linked, look_again, on_a_core, options, until, until_answered};
use mainstay_runtime::Clock;
use mainstay_servers::redis::Redis as Server;
use mainstay_servers::wait::BOUND;
use mainstay_store::redis::{Error, IN_FLIGHT_MAX, MISSES_MAX, News, Outage, REQUEST_BUDGET, SETTLED, State, cmd};
use std::time::{Duration, Instant};

#[test]
fn a_server_that_hangs_is_waited_for_five_times_and_then_left_alone_until_it_answers() {
    let server = Server::plain();
    on_a_core(async {
        let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
        let script = counting();
        until_answered("the first answer", || count(&redis, &script, "a")).await;
        let before = redis.counts();
        server.pause();
        let began = Instant::now();
        for _ in 0..MISSES_MAX {
            assert!(matches!(count(&redis, &script, "a").await, Err(Error::Late)));
        }
        println!("open after {:?}, longest wait {} µs", began.elapsed(), redis.counts().longest_us);
        assert_eq!(redis.state(), State::Open);
        let opened = redis.counts();
        assert_eq!((opened.late - before.late, opened.opened - before.opened), (u64::from(MISSES_MAX), 1));
        for _ in 0..1000 {
            assert!(matches!(count(&redis, &script, "a").await, Err(Error::Open)));
        }
        let left_alone = redis.counts();
        assert_eq!(left_alone.calls, opened.calls, "an open breaker lets no call near the socket");
        assert_eq!(left_alone.spared - opened.spared, 1000);
        server.resume();
        let took = until("the breaker to close", || redis.state() == State::Up).await;
        println!("closed {took:?} after the server went on");
        until_answered("an answer again", || count(&redis, &script, "a")).await;
    });
}

#[test]
fn while_it_hangs_the_probes_are_the_keepers_and_no_request_waits() {
    let server = Server::plain();
    on_a_core(async {
        let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
        let script = counting();
        until_answered("the first answer", || count(&redis, &script, "a")).await;
        server.pause();
        until("the breaker to open", || {
            let (caller, script) = (redis.clone(), script.clone());
            tokio::spawn(async move { count(&caller, &script, "a").await });
            redis.state() == State::Open
        })
        .await;
        let opened = redis.counts();
        // Long enough for several probes; every look is a request that comes back at once.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            assert!(matches!(count(&redis, &script, "a").await, Err(Error::Open)));
            look_again().await;
        }
        assert_eq!(redis.counts().calls, opened.calls);
        server.resume();
        until("the breaker to close", || redis.state() == State::Up).await;
    });
}

/// As the journal tells it: of two handles that notice each for itself, one pair.
#[test]
fn an_outage_of_several_handles_is_told_once_and_ended_once() {
    let server = Server::plain();
    on_a_core(async {
        let options = options(&[("REDIS_URL", &server.url())]);
        let ((one, _first), (other, _second)) = (linked(&options).await, linked(&options).await);
        let mut outage = Outage::default();
        let mut look = || {
            let is_up = one.state() == State::Up && other.state() == State::Up;
            outage.look(Clock::now(), is_up, one.counts().opened + other.counts().opened)
        };
        assert_eq!(look(), None);
        server.pause();
        let (ping, began) = (cmd("PING"), Instant::now());
        let mut news = Vec::new();
        while one.state() == State::Up || other.state() == State::Up {
            assert!(began.elapsed() < BOUND, "no breaker opened");
            // One after the other.
            let redis = if one.state() == State::Up { &one } else { &other };
            let _ = redis.ask(&ping, REQUEST_BUDGET).await;
            news.extend(look());
        }
        assert_eq!(news, [News::Began]);
        let opened = Instant::now();
        server.resume();
        until("both to be back", || one.state() == State::Up && other.state() == State::Up).await;
        let longest = began.elapsed();
        while news.len() < 2 {
            assert!(opened.elapsed() < BOUND, "it never ends");
            news.extend(look());
            look_again().await;
        }
        let News::Ended(lasted) = news[1] else { panic!("{news:?}") };
        assert!(lasted <= longest + Duration::from_secs(1) && opened.elapsed() >= SETTLED, "{lasted:?} of {longest:?}");
        println!("lasted {lasted:?}");
        for _ in 0..20 {
            assert_eq!(look(), None);
            look_again().await;
        }
    });
}

#[test]
fn more_calls_than_there_is_room_for_are_refused_and_not_queued() {
    let server = Server::plain();
    on_a_core(async {
        let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
        let ping = cmd("PING");
        until_answered("the first answer", || redis.ask(&ping, REQUEST_BUDGET)).await;
        server.pause();
        let limit = Duration::from_secs(1);
        let many = (0..IN_FLIGHT_MAX + 100).map(|_| redis.ask(&ping, limit));
        let answers = futures_util::future::join_all(many).await;
        let busy = answers.iter().filter(|answer| matches!(answer, Err(Error::Busy))).count();
        assert_eq!(busy, 100);
        server.resume();
        until("the breaker to close", || redis.state() == State::Up).await;
        until_answered("an answer again", || redis.ask(&ping, REQUEST_BUDGET)).await;
    });
}

/// With `noeviction` a full server refuses to write: said at once, nobody is kept waiting, and nothing is forgotten.
#[test]
fn a_server_without_room_says_so_at_once_and_is_not_left_alone() {
    let server = Server::plain();
    on_a_core(async {
        let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
        let script = counting();
        assert_eq!(counted(&redis, &script, "a").await, 1);
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        for _ in 0..2 * MISSES_MAX {
            let answer = redis.script(&script, &["a"], &["1"], BOUND).await;
            let Err(Error::Answer(error)) = answer else { panic!("{answer:?}") };
            assert!(error.to_string().contains("OOM"), "{error}");
        }
        assert_eq!(redis.state(), State::Up);
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(counted(&redis, &script, "a").await, 2);
    });
}
