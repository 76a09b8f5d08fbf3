//! The guides' health paths: offered where the app has none, true in every word, silent about the inside.

use crate::support::{in_front_of, static_app};
use mainstay_e2e::peer::answer;
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, get, wait_for, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// An app without health paths of its own.
fn plain_app() -> Peer {
    Peer::with(|ask, out| match ask.path() {
        "/" => answer(out, 200, &[], b"the app"),
        _ => answer(out, 404, &[], b"the app has no such page"),
    })
}

fn is_iso_utc(value: &serde_json::Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 20 && text.contains('T') && text.ends_with('Z'))
}

#[test]
fn h1_health_is_ok_timestamp_uptime_version_and_environment() {
    let peer = plain_app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("APP_VERSION", "4.2.1").ready("/");
    let answer = get(&mainstay.url("/health"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(
        (&body["status"], &body["version"], &body["environment"]),
        (&"ok".into(), &"4.2.1".into(), &"development".into())
    );
    assert!(is_iso_utc(&body["timestamp"]) && body["uptime"].is_number(), "{body:#}");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    // H5: the same under the other guide's path, and always under our own.
    for path in ["/api/v1/health", "/.mainstay/health"] {
        assert_eq!(get(&mainstay.url(path)).json()["status"], "ok", "{path}");
    }
}

#[test]
fn h1_the_apps_own_health_page_wins() {
    let peer = Peer::labelled("the app's own words");
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    for path in ["/health", "/health/ready", "/api/health", "/metrics"] {
        assert_eq!(get(&mainstay.url(path)).text(), "the app's own words", "{path}");
    }
    let text = format!("{}[edge]\nhealth = \"mainstay\"\n", in_front_of(&[&peer]));
    let ours = Setup::file(&text).ready("/");
    assert_eq!(get(&ours.url("/health")).json()["status"], "ok");
    let none = plain_app();
    let text = format!("{}[edge]\nhealth = \"off\"\n", in_front_of(&[&none]));
    let off = Setup::file(&text).ready("/");
    assert_eq!(get(&off.url("/health")).text(), "the app has no such page");
}

#[test]
fn h2_live_answers_whatever_is_away_and_ready_does_not() {
    let peer = plain_app();
    let closed = Port::free();
    let database = format!("postgres://u:p@127.0.0.1:{}/app", closed.number);
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("DATABASE_URL", &database).ready("/");
    wait_until("ready to fall with the database", || get(&mainstay.url("/health/ready")).status == 503);
    assert_eq!(get(&mainstay.url("/health/live")).status, 200);
    assert_eq!(get(&mainstay.url("/api/health/ready")).status, 503);

    let whole = Setup::file(&in_front_of(&[&peer])).ready("/");
    assert_eq!(get(&whole.url("/health/ready")).status, 200);
    let ready = get(&whole.url("/api/health/ready"));
    assert_eq!((ready.status, ready.json()), (200, serde_json::json!({ "status": "ready" })));
}

#[test]
fn h2_ready_falls_and_comes_back_with_the_instances() {
    let mainstay = Setup::command(&["sh", "-c", "sleep 600"]).start();
    let live = get(&mainstay.url("/health/live"));
    assert_eq!(live.status, 200, "{live:?}");
    assert_eq!(get(&mainstay.url("/health/ready")).status, 503);
    assert_eq!(get(&mainstay.url("/.mainstay/health/ready")).status, 503);
}

/// A server that speaks as much Redis or Postgres as a probe without login needs.
fn store(says: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0u8; 1024];
                while let Ok(count) = stream.read(&mut buffer) {
                    if count == 0 || stream.write_all(&says(&buffer[..count])).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn detailed(mainstay: &Mainstay) -> serde_json::Value {
    get(&mainstay.url("/health/detailed")).json()
}

#[test]
fn h3_detailed_has_the_guides_shape_and_says_not_configured() {
    let peer = plain_app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let body = detailed(&mainstay);
    assert!(is_iso_utc(&body["timestamp"]), "{body:#}");
    for service in ["database", "redis", "blockchain"] {
        assert_eq!(body["services"][service]["status"], "not_configured", "{body:#}");
    }
    assert!(body["services"]["database"]["connections"].is_object(), "{body:#}");
    assert!(body["services"]["redis"]["memory"].is_object() && body["services"]["queues"].is_object(), "{body:#}");
    for value in [&body["services"]["database"]["latency"], &body["services"]["database"]["connections"]["active"]] {
        assert!(value.is_null(), "a value nobody measured: {body:#}");
    }
}

#[test]
fn h3_stores_are_probed_and_never_called_ok_without_proof() {
    let peer = plain_app();
    let redis = store(|_| b"+PONG\r\n".to_vec());
    let postgres = store(|_| b"N".to_vec());
    let mainstay = Setup::file(&in_front_of(&[&peer]))
        .env("DATABASE_URL", &format!("postgres://u:p@{postgres}/app"))
        .env("REDIS_URL", &format!("redis://{redis}"))
        .ready("/");
    let body = wait_for("both stores to be measured", || {
        let body = detailed(&mainstay);
        let measured = |name: &str| body["services"][name]["latency"].is_number();
        (measured("database") && measured("redis")).then_some(body)
    });
    assert_eq!(body["services"]["redis"]["status"], "ok", "{body:#}");
    assert!(body["services"]["redis"]["latency"].as_f64().is_some_and(|ms| ms > 0.0 && ms < 5000.0), "{body:#}");

    // Something that is no Postgres at all, and something that asks for a password.
    let stranger = store(|_| b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    let guarded = store(|_| b"-NOAUTH Authentication required.\r\n".to_vec());
    let mainstay = Setup::file(&in_front_of(&[&peer]))
        .env("DATABASE_URL", &format!("postgres://u:p@{stranger}/app"))
        .env("REDIS_URL", &format!("redis://:p@{guarded}"))
        .ready("/");
    let body = wait_for("both to be probed", || {
        let body = detailed(&mainstay);
        let known = |name: &str| body["services"][name]["status"] != "unknown";
        (known("database") && known("redis")).then_some(body)
    });
    assert_ne!(body["services"]["database"]["status"], "ok", "{body:#}");
    assert_eq!(get(&mainstay.url("/health/ready")).status, 503, "{body:#}");
}

#[test]
fn h4_api_health_counts_not_configured_as_healthy_and_a_degraded_service_as_503() {
    let peer = plain_app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let answer = get(&mainstay.url("/api/health"));
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body:#}");
    assert!(
        is_iso_utc(&body["timestamp"]) && body["uptime"].is_number() && body["environment"].is_string(),
        "{body:#}"
    );
    for service in ["database", "email", "stripe"] {
        assert_eq!(body["services"][service], "not_configured", "{body:#}");
    }
    let closed = Port::free();
    let away = Setup::file(&in_front_of(&[&peer]))
        .env("SMTP_HOST", "127.0.0.1")
        .env("SMTP_PORT", &closed.number.to_string())
        .ready("/");
    wait_until("a mail server that is away to be seen", || get(&away.url("/api/health")).status == 503);
}

#[test]
fn h5_api_v1_health_is_usable_as_the_path_of_active_checks() {
    // Mainstay before Mainstay: the outer one checks the inner one by this path.
    let peer = plain_app();
    let inner = Setup::file(&in_front_of(&[&peer])).ready("/");
    let text = format!(
        "[app.main]\nupstreams = [\"{}\"]\nhealth = {{ path = \"/api/v1/health\", interval = \"200ms\" }}\n",
        inner.edge()
    );
    let outer = Setup::file(&text).ready("/");
    assert_eq!(get(&outer.url("/")).text(), "the app");
    let status = outer.verb(&["status", "--json"]).json();
    assert_eq!(status["elsewhere"][0]["available"], true, "{status:#}");
}

#[test]
fn h6_public_health_paths_give_nothing_away_while_a_service_is_down() {
    let peer = plain_app();
    let closed = Port::free();
    let secret = "s3cr3t-passw0rd";
    let database = format!("postgres://dbuser:{secret}@localhost:{}/customers", closed.number);
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("DATABASE_URL", &database).ready("/");
    wait_until("the database to be seen as away", || get(&mainstay.url("/health/ready")).status == 503);
    let forwarded = ["-H", "X-Forwarded-For: 198.51.100.1"];
    for path in ["/health", "/health/live", "/health/ready", "/api/health", "/api/health/ready", "/api/v1/health"] {
        let url = mainstay.url(path);
        let mut arguments = forwarded.to_vec();
        arguments.push(&url);
        let text = curl(&arguments).text();
        let port = closed.number.to_string();
        for word in [secret, "dbuser", "customers", "localhost", "127.0.0.1", &port, "refused", "postgres:", "error"] {
            assert!(!text.contains(word), "{path} gives {word:?} away: {text}");
        }
    }
}

#[test]
fn h6_what_tells_of_the_inside_needs_this_machine_or_an_allowed_network() {
    let peer = plain_app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    for path in ["/health/detailed", "/health/metrics", "/metrics", "/api/v1/metrics", "/.mainstay/health/detailed"] {
        let near: Answer = get(&mainstay.url(path));
        assert_eq!(near.status, 200, "{path}: {near:?}");
        // Behind a tunnel everyone comes from loopback, but with forwarding headers.
        for header in ["X-Forwarded-For: 198.51.100.1", "Forwarded: for=198.51.100.1", "X-Real-IP: 198.51.100.1"] {
            let far = curl(&["-H", header, &mainstay.url(path)]);
            assert_eq!(far.status, 404, "{path} with {header}: {far:?}");
            assert!(!far.text().contains("services"), "{}", far.text());
        }
    }
}

#[test]
fn s5_the_inside_is_shown_to_who_brings_the_token_and_the_token_to_nobody() {
    let peer = plain_app();
    let token = "a-token-of-more-than-32-characters-for-this-test";
    let text = format!("{}\n[ops]\ntoken = \"${{OPS_TOKEN}}\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).env("OPS_TOKEN", token).ready("/");
    let url = mainstay.url("/api/v1/metrics");
    let from_far = |authorization: &str| {
        let authorization = format!("Authorization: {authorization}");
        curl(&["-H", "X-Forwarded-For: 198.51.100.1", "-H", &authorization, &url])
    };
    assert_eq!(from_far(&format!("Bearer {token}")).status, 200);
    for wrong in
        ["Bearer wrong", "Bearer", "Basic eDp5", &format!("Bearer {token}x"), &format!("Bearer {}", &token[1..])]
    {
        assert_eq!(from_far(wrong).status, 404, "{wrong}");
    }
    for verb in [&["config"][..], &["logs"], &["status"]] {
        let said = mainstay.verb(verb);
        assert!(!said.all().contains(token), "{verb:?} shows the token");
    }
    let short = Setup::file(&text).env("OPS_TOKEN", "short").verb(&["check"]);
    assert_eq!(short.code, Some(78), "{short:?}");
    assert!(short.all().contains("mainstay.toml:") && !short.all().contains("\"short\""), "{short:?}");
}

#[test]
fn h9_health_requests_are_left_out_of_the_access_log() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    for _ in 0..5 {
        get(&mainstay.url("/health"));
        get(&mainstay.url("/health/live"));
        get(&mainstay.url("/api/v1/health"));
    }
    assert_eq!(get(&mainstay.url("/the-last-one")).status, 404);
    let log = wait_for("the last request in the log", || {
        let log = mainstay.verb(&["logs", "--json"]).out;
        log.contains("/the-last-one").then_some(log)
    });
    let health: Vec<&str> =
        log.lines().filter(|line| line.contains("\"path\":\"/health") || line.contains("/api/v1/health")).collect();
    assert!(health.is_empty(), "{health:?}");
}

#[test]
fn health_paths_answer_while_the_app_hangs() {
    let peer = Peer::with(|ask, out| {
        if ask.path() == "/hang" {
            mainstay_e2e::wait::pause(std::time::Duration::from_secs(20));
        }
        answer(out, if ask.path() == "/" { 200 } else { 404 }, &[], b"x")
    });
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let mut hanging = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(mainstay.edge()).expect("connect");
        stream.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
        hanging.push(stream);
    }
    wait_until("the requests to hang at the app", || peer.holding("/hang").len() == 50);
    assert_eq!(get(&mainstay.url("/.mainstay/health/live")).status, 200);
    assert_eq!(mainstay.verb(&["status"]).code, Some(0));
}

#[test]
fn e17_what_a_refusal_points_to_is_a_page_of_the_edge_itself() {
    let peer = plain_app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let refused = get(&mainstay.url("/.mainstay/nothing")).json();
    assert_eq!(refused["code"], "no_route", "{refused:#}");
    let page = get(&mainstay.url(refused["type"].as_str().unwrap_or_default()));
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/markdown; charset=utf-8")), "{page:?}");
    assert!(page.text().starts_with("# no_route"), "{page:?}");
}
