//! Sentinels: the master dies, and its replica is followed without a restart of ours.

use crate::support::{count, counted, counting, linked, look_again, on_a_core, options, until_answered};
use mainstay_runtime::Shutdown;
use mainstay_servers::Sentinels;
use mainstay_servers::sentinel::MASTER;
use mainstay_store::redis::{Heard, State, Uses, check, listen};
use std::time::Duration;

#[test]
fn d6_a_failover_is_followed_without_a_restart() {
    let password = "k3J9xQ_7vZt";
    let mut sentinels = Sentinels::start(Some(password));
    let list = sentinels.list();
    let options = options(&[
        ("REDIS_SENTINEL_ENABLED", "true"),
        ("REDIS_SENTINELS", &list),
        ("REDIS_MASTER_NAME", MASTER),
        ("REDIS_PASSWORD", password),
        ("REDIS_RETRY_DELAY", "100"),
    ]);
    on_a_core(async {
        let (redis, _running) = linked(&options).await;
        let script = counting();
        until_answered("the first answer", || count(&redis, &script, "a")).await;
        let (mut heard, listener) = listen(&options, &["news"]).expect("a listener");
        let (_trigger, shutdown) = Shutdown::new();
        tokio::spawn(listener.run(shutdown));
        assert_eq!(heard.recv().await, Some(Heard::Gap));
        let before = sentinels.master();
        sentinels.kill_master();
        let took = until_answered("the new master", || count(&redis, &script, "a")).await;
        let after = sentinels.master();
        assert_ne!(before, after);
        println!("answered by the new master {took:?} after kill -9 of the old one");
        assert_eq!(redis.state(), State::Up);
        assert_eq!(heard.recv().await, Some(Heard::Gap));
        let server = sentinels.servers.iter().find(|server| server.port() == after).expect("ours");
        server.cli(&["PUBLISH", "news", "two"]);
        assert_eq!(heard.recv().await, Some(Heard::Message { channel: "news".to_owned(), payload: b"two".to_vec() }));
        let report = check(&options, Uses::default(), Duration::from_secs(10)).await.expect("a report");
        assert_eq!(report.servers[0].node.port, after);
    });
}

/// The old master lives on and is made a replica: its refusal to write leads to the new one.
#[test]
fn a_master_that_was_demoted_is_left_for_the_new_one() {
    let sentinels = Sentinels::start(None);
    let list = sentinels.list();
    let options =
        options(&[("REDIS_SENTINEL_ENABLED", "true"), ("REDIS_SENTINELS", &list), ("REDIS_RETRY_DELAY", "100")]);
    on_a_core(async {
        let (redis, _running) = linked(&options).await;
        let script = counting();
        until_answered("the first answer", || count(&redis, &script, "a")).await;
        let before = sentinels.master();
        sentinels.fail_over();
        mainstay_servers::wait::wait_until("the failover", || sentinels.master() != before);
        let now = sentinels.servers.iter().find(|server| server.port() == sentinels.master()).expect("ours");
        let began = std::time::Instant::now();
        // What the old master takes until it knows is lost with it; then it refuses, and the new one is found.
        while !now.cli(&["GET", "b"]).trim().parse::<i64>().is_ok_and(|count| count > 0) {
            assert!(began.elapsed() < mainstay_servers::wait::BOUND, "no write reached the new master");
            let _ = count(&redis, &script, "b").await;
            look_again().await;
        }
        println!("written to the new master {:?} after the old one was demoted", began.elapsed());
    });
}

/// A partition: the old master keeps its connections and says nothing. No call waits longer than it was given, and the
/// replica is found when the sentinels have made it the master.
#[test]
fn a_master_that_hangs_is_left_for_the_one_that_the_sentinels_choose() {
    let sentinels = Sentinels::start(None);
    let list = sentinels.list();
    let options =
        options(&[("REDIS_SENTINEL_ENABLED", "true"), ("REDIS_SENTINELS", &list), ("REDIS_RETRY_DELAY", "100")]);
    on_a_core(async {
        let (redis, _running) = linked(&options).await;
        let script = counting();
        counted(&redis, &script, "a").await;
        let before = sentinels.master();
        let hanging = sentinels.servers.iter().find(|server| server.port() == before).expect("ours");
        hanging.pause();
        let took = until_answered("the new master", || count(&redis, &script, "a")).await;
        println!("answered by the new master {took:?} after the old one hung");
        assert_ne!(sentinels.master(), before);
        assert!(redis.counts().opened >= 1, "nobody waits for it once five have");
        // It comes back as a replica, and nothing goes to it.
        hanging.resume();
        mainstay_servers::wait::wait_until("the old master to be a replica", || {
            hanging.cli(&["ROLE"]).starts_with("slave")
        });
        counted(&redis, &script, "b").await;
        let now = sentinels.servers.iter().find(|server| server.port() != before).expect("ours");
        assert_eq!(now.cli(&["GET", "b"]).trim(), "1");
    });
}
