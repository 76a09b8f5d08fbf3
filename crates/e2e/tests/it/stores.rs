//! Redis in every shape the guides name, as `/health/detailed` and `mainstay check` see it.

use crate::support::in_front_of;
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Mainstay, Peer, Setup, get, wait_for, wait_until};
use mainstay_servers::redis::{Manner, Redis};
use mainstay_servers::sentinel::MASTER;
use mainstay_servers::{Authority, Cluster, Sentinels};
use std::sync::Arc;

const PASSWORD: &str = "k3J9xQ_7vZt";

fn app() -> Peer {
    Peer::with(|ask, out| match ask.path() {
        "/" => answer(out, 200, &[], b"the app"),
        _ => answer(out, 404, &[], b"the app has no such page"),
    })
}

fn redis(mainstay: &Mainstay) -> serde_json::Value {
    get(&mainstay.url("/health/detailed")).json()["services"]["redis"].clone()
}

/// Waits for a verdict; `unknown` is one only where it is expected.
#[track_caller]
fn status_becomes(mainstay: &Mainstay, status: &str) -> serde_json::Value {
    wait_for(&format!("redis to be {status}"), || {
        let redis = redis(mainstay);
        (redis["status"] == status).then_some(redis)
    })
}

/// D6, H3: a password, a user and TLS by the switch; memory is shown, and one who is not let in is never green.
#[test]
fn d6_h3_redis_is_asked_with_its_login_and_its_memory_is_shown() {
    let peer = app();
    let authority = Arc::new(Authority::new("app"));
    let lines = [("maxmemory", "50mb")].map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let user = Some(("bob".to_owned(), "Zt7v_Qx9J3k".to_owned()));
    let by_user = Redis::start(Manner { password: Some(PASSWORD.to_owned()), user, lines, ..Manner::default() });
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("REDIS_URL", &by_user.url()).ready("/");
    let seen = status_becomes(&mainstay, "ok");
    assert!(seen["latency"].is_number(), "{seen:#}");
    assert_eq!(seen["memory"]["max"], "52MB", "{seen:#}");
    assert!(
        seen["memory"]["used"].as_str().is_some_and(|used| used.ends_with("KB") || used.ends_with("MB")),
        "{seen:#}"
    );

    let wrong = by_user.url().replace("Zt7v", "Zt7w");
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("REDIS_URL", &wrong).ready("/");
    status_becomes(&mainstay, "unavailable");
    let said = format!("{}{}", mainstay.said(), get(&mainstay.url("/health/detailed")).text());
    assert!(!said.contains("Zt7w"), "{said}");

    let tls =
        Redis::start(Manner { password: Some(PASSWORD.to_owned()), tls: Some(authority.clone()), ..Manner::default() });
    let plain = tls.url().replace("rediss://", "redis://");
    let ca = format!("[store.redis]\nca = \"{}\"\n", authority.root().display());
    let mainstay = Setup::file(&format!("{}{ca}", in_front_of(&[&peer])))
        .env("REDIS_URL", &plain)
        .env("REDIS_TLS_ENABLED", "true")
        .ready("/");
    status_becomes(&mainstay, "ok");
    // Without the authority nobody knows who answers, so it is told nothing.
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("REDIS_URL", &tls.url()).ready("/");
    wait_until("the certificate to be looked at", || tls.counted("total_connections_received") > 1);
    assert_eq!(redis(&mainstay)["status"], "unknown");
}

/// D6: a cluster of 3 + 3, and sentinels whose failover is followed without a restart.
#[test]
fn d6_a_cluster_and_sentinels_are_asked_as_what_they_are() {
    let peer = app();
    let cluster = Cluster::start(Some(PASSWORD));
    let mainstay = Setup::file(&in_front_of(&[&peer]))
        .env("REDIS_CLUSTER_ENABLED", "true")
        .env("REDIS_CLUSTER_NODES", &cluster.nodes())
        .env("REDIS_PASSWORD", PASSWORD)
        .ready("/");
    status_becomes(&mainstay, "ok");

    let mut sentinels = Sentinels::start(Some(PASSWORD));
    let mainstay = Setup::file(&in_front_of(&[&peer]))
        .env("REDIS_SENTINEL_ENABLED", "true")
        .env("REDIS_SENTINELS", &sentinels.list())
        .env("REDIS_MASTER_NAME", MASTER)
        .env("REDIS_PASSWORD", PASSWORD)
        .ready("/");
    status_becomes(&mainstay, "ok");
    let before = sentinels.master();
    sentinels.kill_master();
    wait_until("the failover", || sentinels.master() != before);
    // `check` of the verb asks now, and not in ten seconds.
    wait_until("the new master to be asked", || mainstay.verb(&["health"]).out.contains("redis            ok"));
    assert_eq!(get(&mainstay.url("/health/ready")).status, 200);
}

/// D10: what is wrong with the server is told with what to type; a good one has nothing against it.
#[test]
fn d10_check_asks_the_redis_of_the_store_what_it_is_like() {
    let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let lru = Redis::start(Manner { lines: of(&[("maxmemory-policy", "allkeys-lru")]), ..Manner::default() });
    let file = "[app.main]\nrun = \"true\"\n[store]\nshared = \"redis\"\n";
    let checked = Setup::file(file).env("REDIS_URL", &lru.url()).args(&["check"]).ended();
    let said = checked.all();
    assert_eq!(checked.code, Some(0), "{said}");
    for part in ["allkeys-lru", "CONFIG SET maxmemory-policy noeviction", "maxmemory is not set", "requirepass"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert!(said.contains("environment REDIS_URL"), "{said}");

    let lines = of(&[("maxmemory", "50mb"), ("appendonly", "yes"), ("save", "900 1")]);
    let good = Redis::start(Manner { password: Some(PASSWORD.to_owned()), lines, ..Manner::default() });
    let checked = Setup::file(file).env("REDIS_URL", &good.url()).args(&["check"]).ended();
    assert!(checked.code == Some(0) && checked.all().contains("0 faults, 0 warnings"), "{}", checked.all());

    // A server that starts says the same, and serves.
    let peer = app();
    let text = format!("{}[store]\nshared = \"redis\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).env("REDIS_URL", &lru.url()).ready("/");
    wait_until("the warning", || {
        let said = mainstay.said();
        said.contains("maxmemory-policy allkeys-lru") && said.contains("CONFIG SET maxmemory-policy noeviction")
    });

    // Nothing is asked where nothing is kept there: the app's cache may be as it is.
    let memory = Setup::file("[app.main]\nrun = \"true\"\n").env("REDIS_URL", &lru.url()).args(&["check"]).ended();
    assert!(memory.all().contains("0 faults, 0 warnings"), "{}", memory.all());
    let nowhere = Setup::file(file).args(&["check"]).ended();
    assert!(nowhere.code == Some(78) && nowhere.all().contains("names no server"), "{}", nowhere.all());
}

/// What happened is told, also after the server was killed and after an upgrade; by whom, where somebody did it.
#[test]
fn d_the_journal_tells_of_starts_reloads_bans_and_health() {
    let peer = app();
    let redis = Redis::plain();
    let text = in_front_of(&[&peer]);
    let mainstay = Setup::file(&text).env("REDIS_URL", &redis.url()).ready("/");
    status_becomes(&mainstay, "ok");
    mainstay.write("mainstay.toml", &format!("{text}[edge.timeouts]\nidle = \"41s\"\n"));
    mainstay.verb(&["reload"]).ok();
    mainstay.write("mainstay.toml", "[edge]\nlissten = 1\n");
    assert_ne!(mainstay.verb(&["reload"]).code, Some(0));
    mainstay.verb(&["bans", "add", "192.0.2.7"]).ok();
    mainstay.verb(&["bans", "lift", "192.0.2.7"]).ok();
    drop(redis);
    let entries = |words: &[&str]| {
        let journal = mainstay.verb(&[&["journal", "--json"], words].concat()).json();
        journal["entries"].as_array().expect("entries").clone()
    };
    wait_until("the loss of Redis to be told", || {
        entries(&["--kind", "health"]).iter().any(|e| e["text"] == "redis is unavailable")
    });
    let kinds: Vec<String> = entries(&[]).iter().map(|e| e["kind"].as_str().unwrap_or_default().to_owned()).collect();
    for kind in ["started", "config", "config_refused", "admin", "ban_lifted", "health"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind} in {kinds:?}");
    }
    let config = &entries(&["--kind", "config"])[0];
    assert!(config["text"].as_str().is_some_and(|text| text.contains("edge.timeouts.idle")), "{config:#}");
    assert_eq!(config["actor"], "operator");
    assert!(entries(&["--audit"]).iter().all(|e| e["class"] == "audit"));
    let server = mainstay.verb(&["status", "--json"]).json()["server_pid"].as_i64().expect("a pid");
    mainstay_e2e::processes::signal(i32::try_from(server).expect("a pid"), nix::sys::signal::Signal::SIGKILL);
    wait_until("the new server's first word, after all the old one's", || {
        let ended = mainstay.verb(&["journal", "--json"]);
        ended.code == Some(0) && ended.out.contains("\"replaced\"") && ended.out.contains("\"started\"")
    });
    let text = mainstay.verb(&["journal", "--since", "1h"]).ok();
    assert!(text.lines().any(|line| line.contains("the server died; mainstay")), "{text}");
}

/// It goes from server to server: each upgrade finds what the ones before wrote, and nothing is lost on the way.
#[test]
fn r_upgrade_the_journal_is_handed_over_whole() {
    let mainstay = crate::upgrade::started("5s");
    let kinds = || {
        let journal = mainstay.verb(&["journal", "--json"]);
        let journal: serde_json::Value = serde_json::from_str(&journal.out).unwrap_or_default();
        let entries = journal["entries"].as_array().cloned().unwrap_or_default();
        let kinds = entries.iter().map(|entry| entry["kind"].as_str().unwrap_or_default().to_owned());
        (kinds.collect::<Vec<String>>(), journal["lost"].as_u64())
    };
    for round in 0..5 {
        // Noted at the last moment of a server: written before the next one opens the file.
        mainstay.verb(&["bans", "add", &format!("192.0.2.{round}")]).ok();
        crate::upgrade::upgraded(&mainstay, round % 2 == 0);
    }
    wait_until("the last upgrade to be told", || kinds().0.iter().filter(|kind| *kind == "upgraded").count() == 5);
    let (all, lost) = kinds();
    let count = |kind: &str| all.iter().filter(|known| *known == kind).count();
    assert_eq!((count("started"), count("admin"), count("replaced"), lost), (1, 5, 0, Some(0)), "{all:?}");
    assert_eq!(all[0], "started");
}

/// A damaged file is named and left as it is; the journal is not needed in order to serve.
#[test]
fn d_a_journal_that_cannot_be_opened_keeps_nobody_from_serving() {
    let peer = app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    mainstay.verb(&["stop"]).ok();
    mainstay.write(".mainstay/mainstay.db", &"no database ".repeat(1000));
    let mainstay = { mainstay }.again();
    wait_until("the trouble to be told", || mainstay.said().contains("no journal is kept for now"));
    assert!(mainstay.said().contains("restore the last backup"), "{}", mainstay.said());
    assert_eq!(get(&mainstay.url("/")).status, 200);
    let refused = mainstay.verb(&["journal"]);
    assert!(
        refused.code != Some(0) && refused.all().contains("the store of the journal did not answer"),
        "{}",
        refused.all()
    );
    let kept = std::fs::read_to_string(mainstay.path().join(".mainstay/mainstay.db")).expect("as it was");
    assert!(kept.starts_with("no database "));
}

/// D6: a Redis that hangs is told within the bound of a check, and requests do not notice.
#[test]
fn d6_a_redis_that_hangs_is_unavailable_and_requests_go_on() {
    let peer = app();
    let redis = Redis::with_password(PASSWORD);
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("REDIS_URL", &redis.url()).ready("/");
    status_becomes(&mainstay, "ok");
    redis.pause();
    status_becomes(&mainstay, "unavailable");
    for _ in 0..20 {
        assert_eq!(get(&mainstay.url("/")).status, 200);
    }
    redis.resume();
    status_becomes(&mainstay, "ok");
}

/// The same on Postgres, in a schema of its own; and behind PgBouncer.
#[test]
fn d_the_journal_is_kept_in_postgres_where_the_file_says_so() {
    let peer = app();
    let (postgres, behind) = (mainstay_servers::Postgres::plain(), mainstay_servers::Postgres::plain());
    let bouncer = mainstay_servers::PgBouncer::before(&behind);
    for (postgres, url) in [(&postgres, postgres.url()), (&behind, bouncer.url())] {
        let file = format!("{}[store]\ndurable = \"postgres\"\n", in_front_of(&[&peer]));
        let mainstay = Setup::file(&file).env("DATABASE_URL", &url).ready("/");
        wait_until("the start to be told", || mainstay.verb(&["journal"]).out.contains("serves (development"));
        assert_eq!(postgres.psql("SELECT kind FROM mainstay.journal WHERE kind = 'started'"), "started");
        assert!(!mainstay.path().join(".mainstay/mainstay.db").exists());
    }
}
