//! Figures: counted, never made up, by patterns and not by paths.

use crate::support::{in_front_of, ready_instances, static_app};
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Mainstay, Peer, Setup, curl, get, wait_for, wait_until};
use std::collections::HashMap;

fn app_without_metrics() -> Peer {
    Peer::with(|ask, out| match ask.path() {
        path if path.starts_with("/metrics") || path.starts_with("/health") || path.starts_with("/api/v1/metrics") => {
            answer(out, 404, &[], b"none")
        }
        "/broken" => answer(out, 500, &[], b"broken"),
        _ => answer(out, 200, &[], b"ok"),
    })
}

/// `name{labels}` → value.
fn exposition(mainstay: &Mainstay, path: &str) -> HashMap<String, f64> {
    let answer = get(&mainstay.url(path));
    assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{answer:?}");
    let text = answer.text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            (name.to_string(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
        })
        .collect()
}

/// The sum of all samples of `name` whose labels hold every one of `labels`.
fn sum(samples: &HashMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let fits = |key: &&String| key.starts_with(&format!("{name}{{")) && labels.iter().all(|label| key.contains(label));
    samples.keys().filter(fits).map(|key| samples[key]).sum()
}

#[test]
fn s4_requests_are_counted_by_method_route_and_status_under_both_paths() {
    let peer = app_without_metrics();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    for n in 0..30 {
        assert_eq!(get(&mainstay.url(&format!("/users/{n}/orders/{}", n * 7))).status, 200);
    }
    for _ in 0..3 {
        get(&mainstay.url("/broken"));
    }
    for path in ["/metrics", "/health/metrics"] {
        let samples = wait_for("the requests to be counted", || {
            let samples = exposition(&mainstay, path);
            (sum(&samples, "http_requests_total", &["route=\"/broken\""]) == 3.0).then_some(samples)
        });
        let users = ["method=\"GET\"", "route=\"/users/:id/orders/:id\"", "status=\"200\""];
        assert_eq!(sum(&samples, "http_requests_total", &users), 30.0, "{samples:#?}");
        assert_eq!(sum(&samples, "http_requests_total", &["route=\"/broken\"", "status=\"500\""]), 3.0);
        assert_eq!(sum(&samples, "http_request_duration_seconds_count", &users[..2]), 30.0);
        let bucket = |le: &str| sum(&samples, "http_request_duration_seconds_bucket", &[users[1], le]);
        assert_eq!(bucket("le=\"+Inf\""), 30.0);
        assert!(bucket("le=\"10\"") <= 30.0 && sum(&samples, "http_request_duration_seconds_sum", &users[..2]) > 0.0);
        let raw: Vec<&String> =
            samples.keys().filter(|key| key.contains("/users/1") || key.contains("/users/2")).collect();
        assert!(raw.is_empty(), "a raw id is a label: {raw:?}");
    }
}

#[test]
fn s4_routes_are_learnt_within_a_bound_and_named_patterns_win() {
    let peer = app_without_metrics();
    let text = format!("{}[[route]]\nmatch = \"/shop/:product\"\nbody = \"1KB\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    for path in [
        "/shop/blue-shoes",
        "/shop/red-shoes",
        "/files/550e8400-e29b-41d4-a716-446655440000",
        "/files/123e4567-e89b-12d3-a456-426614174000",
        "/commit/9fceb02d0ae598e95dc970b74767f19372d61af8",
    ] {
        assert_eq!(get(&mainstay.url(path)).status, 200);
    }
    let mut connection = mainstay_e2e::Connection::open(mainstay.edge()).expect("connect");
    for n in 0..3000 {
        let word: String = format!("{n}").bytes().map(|digit| char::from(b'a' + (digit - b'0'))).collect();
        connection.send(format!("GET /{word}-page HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("send");
        assert_eq!(connection.response(false).expect("a response").status, 200);
    }
    let samples = wait_for("all of it to be counted", || {
        let samples = exposition(&mainstay, "/metrics");
        (sum(&samples, "http_requests_total", &[]) >= 3005.0).then_some(samples)
    });
    assert_eq!(sum(&samples, "http_requests_total", &["route=\"/shop/:product\""]), 2.0);
    assert_eq!(sum(&samples, "http_requests_total", &["route=\"/files/:id\""]), 2.0);
    assert_eq!(sum(&samples, "http_requests_total", &["route=\"/commit/:id\""]), 1.0);
    assert!(sum(&samples, "http_requests_total", &["route=\"other\""]) > 0.0, "no bound on labels");
    let routes = samples.keys().filter(|key| key.starts_with("http_requests_total")).count();
    assert!(routes < 2500, "{routes} label sets");
    assert!(!samples.keys().any(|key| key.contains("shoes")));
}

#[test]
fn s4_a_scan_for_holes_does_not_become_labels() {
    let peer = Peer::with(|_, out| answer(out, 404, &[], b"none"));
    let mainstay = Setup::file(&in_front_of(&[&peer])).start();
    for word in ["wp-admin", "phpmyadmin", "dot-env", "backup.zip", "cgi-bin"] {
        get(&mainstay.url(&format!("/{word}/x.php")));
    }
    let samples = wait_for("the scan to be counted", || {
        let samples = exposition(&mainstay, "/metrics");
        (sum(&samples, "http_requests_total", &["status=\"404\""]) >= 5.0).then_some(samples)
    });
    assert!(!samples.keys().any(|key| key.contains("wp-admin") || key.contains("phpmyadmin")), "{samples:#?}");
}

#[test]
fn s4_connections_retries_and_refusals_are_counted() {
    let peer = app_without_metrics();
    let text = format!("{}[edge.limits]\nbody = \"1KB\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    let body = "x".repeat(2000);
    assert_eq!(curl(&["-d", &body, &mainstay.url("/p")]).status, 413);
    let samples = wait_for("the refusal to be counted", || {
        let samples = exposition(&mainstay, "/metrics");
        (sum(&samples, "mainstay_refusals_total", &["code=\"body_too_large\""]) == 1.0).then_some(samples)
    });
    let active = samples.iter().find(|(key, _)| key.contains("connections") && key.contains("active"));
    assert!(active.is_some(), "active connections are missing: {:?}", samples.keys());
    assert!(samples.keys().any(|key| key.contains("websocket")), "WebSocket connections are missing");
}

#[test]
fn s5_metrics_as_json_are_measured() {
    let peer = app_without_metrics();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    for _ in 0..20 {
        get(&mainstay.url("/fine"));
    }
    for _ in 0..4 {
        get(&mainstay.url("/broken"));
    }
    let body = wait_for("the requests to be counted", || {
        let body = get(&mainstay.url("/api/v1/metrics")).json();
        (body["requests"]["failed"].as_u64() >= Some(4)).then_some(body)
    });
    let number = |pointer: &str| {
        body.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {body:#}"))
    };
    assert!(number("/requests/total") >= 24.0 && number("/requests/successful") >= 20.0, "{body:#}");
    let (average, p95, p99, max) = (
        number("/performance/averageResponseTime"),
        number("/performance/p95ResponseTime"),
        number("/performance/p99ResponseTime"),
        number("/performance/maxResponseTime"),
    );
    assert!(0.0 < average && average <= max && p95 <= p99 && p99 <= max, "{body:#}");
    assert_eq!(body["errors"]["byType"]["http_500"], 4, "{body:#}");
    let recent = body["errors"]["recent"].as_array().expect("recent errors");
    assert!(recent.iter().any(|error| error["route"] == "/broken" && error["requestId"].is_string()), "{body:#}");
    assert!(body.to_string().contains("uptime") && body.to_string().contains("memory"), "{body:#}");
    // Nothing we cannot know yet is invented.
    assert!(
        body["database"].is_null()
            || body["database"].to_string().contains("null")
            || body["database"].to_string().contains("not_configured"),
        "{body:#}"
    );
}

#[test]
fn s17_each_instance_shows_heap_and_uptime_taken_from_the_app() {
    let text = "[app.main]\nrun = \"node shows_metrics.js\"\ninstances = 2\n[edge]\nhealth = \"mainstay\"\n";
    let mainstay = Setup::file(text).node_app("awkward").ready("/");
    ready_instances(&mainstay, 2);
    let names = [
        "nodejs_heap_size_total_bytes",
        "nodejs_heap_size_used_bytes",
        "nodejs_external_memory_bytes",
        "nodejs_process_uptime_seconds",
    ];
    // An app that counts whole seconds shows an uptime of 0 in its first.
    wait_until("both instances to show all four figures", || {
        let samples = exposition(&mainstay, "/health/metrics");
        names.iter().all(|name| ["main.1", "main.2"].iter().all(|i| sum(&samples, name, &[i]) > 0.0))
    });
}

#[test]
fn s17_any_other_app_shows_process_memory_and_uptime() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    let samples = wait_for("the instance's figures", || {
        let samples = exposition(&mainstay, "/health/metrics");
        samples.keys().any(|key| key.contains("main.1") && key.contains("memory")).then_some(samples)
    });
    let pid = crate::support::pids(&mainstay)[0];
    wait_until("the memory to be what the kernel says", || {
        let samples = exposition(&mainstay, "/health/metrics");
        let memory = samples.iter().find(|(key, _)| key.contains("main.1") && key.contains("memory")).map(|(_, n)| *n);
        let real = mainstay_e2e::processes::resident(pid).expect("resident memory") as f64;
        memory.is_some_and(|memory| (memory / real - 1.0).abs() < 0.5)
    });
    assert!(samples.keys().any(|key| key.contains("main.1") && key.contains("uptime")), "{samples:#?}");
    assert!(!samples.keys().any(|key| key.starts_with("nodejs_heap")), "a heap nobody showed");
}
