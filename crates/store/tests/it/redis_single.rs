//! One Redis: scripts, logins, TLS, a restart, and what a check finds.

use crate::support::{count, counted, counting, linked, on_a_core, options, until, until_answered};
use mainstay_runtime::Shutdown;
use mainstay_servers::redis::{Manner, Redis as Server};
use mainstay_servers::{Authority, wait};
use mainstay_store::redis::{
    Error, Heard, Level, REQUEST_BUDGET, Redis, State, Uses, Value, check, cmd, health, listen,
};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_script_costs_one_round_trip_once_the_server_knows_it() {
    let server = Server::plain();
    on_a_core(async {
        let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
        let script = counting();
        counted(&redis, &script, "a").await;
        let before = server.counted("total_commands_processed");
        for _ in 0..100 {
            counted(&redis, &script, "a").await;
        }
        // 100 EVALSHA, each with its INCRBY, and our own two INFO.
        let spent = server.counted("total_commands_processed") - before;
        assert!((200..220).contains(&spent), "{spent}");
        server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(counted(&redis, &script, "a").await, 102, "a server that forgot it is told again");
        assert!(server.counted("evicted_scripts") == 0 && redis.state() == State::Up);
    });
}

#[test]
fn a_hundred_calls_at_once_share_one_connection() {
    let server = Server::plain();
    on_a_core(async {
        let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
        let mut command = cmd("INCR");
        command.arg("n");
        let calls = (0..100).map(|_| redis.ask(&command, LIMIT));
        let mut answers: Vec<i64> = Vec::new();
        for answer in futures_util::future::join_all(calls).await {
            let Ok(Value::Int(number)) = answer else { panic!("{answer:?}") };
            answers.push(number);
        }
        answers.sort_unstable();
        assert_eq!(answers, (1..=100).collect::<Vec<i64>>());
        assert_eq!(redis.counts().connected, 1);
    });
}

#[test]
fn passwords_users_and_tls_let_in_and_wrong_ones_say_so() {
    let authority = Arc::new(Authority::new("app"));
    let ca = authority.root().display().to_string();
    let by_password = Server::with_password("k3J9xQ_7vZt");
    let by_user = Server::start(Manner {
        password: Some("k3J9xQ_7vZt".to_owned()),
        user: Some(("bob".to_owned(), "Zt7v_Qx9J3k".to_owned())),
        ..Manner::default()
    });
    let by_tls = Server::start(Manner {
        password: Some("k3J9xQ_7vZt".to_owned()),
        tls: Some(authority.clone()),
        client_certificates: true,
        ..Manner::default()
    });
    let pair = authority.client();
    let file = format!(
        "[store.redis]\nurl = \"${{U}}\"\nca = \"{ca}\"\ncert = \"{}\"\nkey = \"{}\"\n",
        pair.cert.display(),
        pair.key.display()
    );
    on_a_core(async {
        for server in [&by_password, &by_user] {
            let (redis, _running) = linked(&options(&[("REDIS_URL", &server.url())])).await;
            let ping = ping();
            until_answered("a login", || redis.ask(&ping, REQUEST_BUDGET)).await;
        }
        let whom = cmd("ACL").arg("WHOAMI").clone();
        let (redis, _running) = linked(&options(&[("REDIS_URL", &by_user.url())])).await;
        assert_eq!(redis.patiently(&whom, true).await.expect("a name"), Value::BulkString(b"bob".to_vec()));
        let tls = with_file(&file, &[("U", &by_tls.url())]);
        let (redis, _running) = linked(&tls).await;
        redis.patiently(&ping(), true).await.expect("TLS with both certificates");
        // A switch makes redis:// TLS.
        let plain = by_tls.url().replace("rediss://", "redis://");
        let switched = with_file(&file.replace("ca =", "tls = true\nca ="), &[("U", &plain)]);
        health(&switched, LIMIT).await.expect("the switch");

        let wrong = options(&[("REDIS_URL", &by_password.url().replace("k3J9", "k3J8"))]);
        assert!(matches!(health(&wrong, LIMIT).await, Err(Error::Login(_))));
        let none = options(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &by_password.port().to_string())]);
        assert!(matches!(health(&none, LIMIT).await, Err(Error::Login(_))));
        let unbelieved = options(&[("REDIS_URL", &by_tls.url())]);
        assert!(matches!(health(&unbelieved, LIMIT).await, Err(Error::Certificate(_))));
        let (redis, _running) = unlinked(&wrong);
        until("the trouble to be told", || redis.trouble().is_some()).await;
        let trouble = redis.trouble().unwrap_or_default();
        assert!(trouble.starts_with("Redis refused the login") && !trouble.contains("k3J8"), "{trouble}");
    });
}

fn unlinked(options: &mainstay_store::redis::Options) -> (Redis, mainstay_runtime::Trigger) {
    let (redis, keeper) = Redis::new(options).expect("a handle");
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(keeper.run(shutdown));
    (redis, trigger)
}

fn with_file(file: &str, environment: &[(&str, &str)]) -> mainstay_store::redis::Options {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Some(mainstay_config::Text { path: "mainstay.toml".into(), text: file.to_owned() });
    let inputs = mainstay_config::Inputs { environment, file, ..mainstay_config::Inputs::default() };
    mainstay_store::redis::Options::read(&mainstay_config::Reader::new(&inputs)).expect("an address")
}

fn ping() -> mainstay_store::redis::Cmd {
    cmd("PING")
}

#[test]
fn a_server_that_was_killed_is_found_again_and_messages_are_heard_again() {
    let mut server = Server::start(Manner {
        lines: vec![("appendonly".to_owned(), "yes".to_owned()), ("appendfsync".to_owned(), "always".to_owned())],
        ..Manner::default()
    });
    let options = options(&[("REDIS_URL", &server.url()), ("REDIS_RETRY_DELAY", "100")]);
    on_a_core(async {
        let (redis, _running) = linked(&options).await;
        let (mut heard, listener) = listen(&options, &["news"]).expect("a listener");
        let (_trigger, shutdown) = Shutdown::new();
        tokio::spawn(listener.run(shutdown));
        assert_eq!(heard.recv().await, Some(Heard::Gap));
        server.cli(&["PUBLISH", "news", "one"]);
        let message =
            |text: &str| Some(Heard::Message { channel: "news".to_owned(), payload: text.as_bytes().to_vec() });
        assert_eq!(heard.recv().await, message("one"));
        let script = counting();
        assert_eq!(counted(&redis, &script, "kept").await, 1);

        server.kill();
        until("the loss to be noticed", || redis.state() == State::Away || !is_up(&redis)).await;
        let before = redis.counts();
        for _ in 0..1000 {
            assert!(count(&redis, &script, "kept").await.is_err());
        }
        let after = redis.counts();
        assert_eq!(after.calls, before.calls, "a call without a link touches nothing");
        server.run();
        let took = until_answered("the link again", || count(&redis, &script, "kept")).await;
        println!("linked again {took:?} after the restart");
        // One that came too late for its caller may have been counted all the same.
        let kept: i64 = server.cli(&["GET", "kept"]).trim().parse().expect("a number");
        assert!(kept >= 2, "{kept}: what was written with appendfsync always is there after kill -9");
        // What was said in between is lost, and that is told.
        assert_eq!(heard.recv().await, Some(Heard::Gap));
        server.cli(&["PUBLISH", "news", "two"]);
        assert_eq!(heard.recv().await, message("two"));
    });
}

/// Makes a call so that a broken link shows.
fn is_up(redis: &Redis) -> bool {
    let redis = redis.clone();
    tokio::spawn(async move { redis.ask(&ping(), REQUEST_BUDGET).await });
    true
}

#[test]
fn a_patient_command_waits_for_a_server_that_comes_late() {
    let mut server = Server::plain();
    let options = options(&[("REDIS_URL", &server.url()), ("REDIS_RETRY_DELAY", "50")]);
    server.kill();
    on_a_core(async {
        let (redis, _running) = unlinked(&options);
        let asking = tokio::spawn(async move { redis.patiently(&ping(), true).await });
        let server = tokio::task::spawn_blocking(move || {
            server.run();
            server
        });
        let _server = server.await.expect("started");
        asking.await.expect("no panic").expect("an answer once it is there");
    });
}

/// D10: an allkeys policy is a fault where sessions live, and each finding says what to type.
#[test]
fn d10_a_check_finds_what_is_wrong_with_a_real_server() {
    let bad = Server::start(Manner {
        lines: [("maxmemory", "50mb"), ("maxmemory-policy", "allkeys-lru")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Manner::default()
    });
    let good = Server::start(Manner {
        password: Some("k3J9xQ_7vZt".to_owned()),
        lines: [("maxmemory", "50mb"), ("appendonly", "yes"), ("save", "900 1 300 10")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Manner::default()
    });
    on_a_core(async {
        let sessions = Uses { limits: true, sessions: true, jobs: false };
        let report = check(&options(&[("REDIS_URL", &bad.url())]), sessions, LIMIT).await.expect("a report");
        let words: Vec<(Level, &str)> = report.findings.iter().map(|f| (f.level, f.what.as_str())).collect();
        assert!(words.iter().any(|(l, w)| *l == Level::Fault && w.contains("allkeys-lru")), "{words:?}");
        assert!(words.iter().any(|(_, w)| w.contains("without a password")), "{words:?}");
        assert!(words.iter().any(|(_, w)| w.contains("nothing is written to disk")), "{words:?}");
        let limits = Uses { limits: true, ..Uses::default() };
        let report = check(&options(&[("REDIS_URL", &bad.url())]), limits, LIMIT).await.expect("a report");
        assert!(report.findings.iter().all(|finding| finding.level == Level::Warning), "{report:?}");
        let report = check(&options(&[("REDIS_URL", &good.url())]), sessions, LIMIT).await.expect("a report");
        assert_eq!(report.findings, []);
        assert_eq!(report.servers[0].memory.max, Some(50 * 1024 * 1024));
        let (_, memory) = health(&options(&[("REDIS_URL", &good.url())]), LIMIT).await.expect("health");
        assert!(memory.used > 100_000 && memory.max == Some(50 * 1024 * 1024), "{memory:?}");
    });
    wait::wait_until("nobody of ours to be left", || good.counted("connected_clients") <= 1);
}
