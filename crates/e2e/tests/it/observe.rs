//! The access log, the application log, the verbs that read them: what was written is what happened, without secrets.

use crate::support::{in_front_of, ready_instances, static_app};
use mainstay_e2e::{Mainstay, Peer, Setup, curl, get, wait_for, wait_until};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Lines of `logs --json` that hold this text, as JSON; waits for the first.
#[track_caller]
fn lines(mainstay: &Mainstay, more: &[&str], text: &str) -> Vec<serde_json::Value> {
    let mut words = vec!["logs", "--json", "--tail", "10000"];
    words.extend_from_slice(more);
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("a line that is not JSON ({e}): {line}"));
    wait_for(&format!("a line of the log with {text:?}"), || {
        let log = mainstay.verb(&words).out;
        let found: Vec<serde_json::Value> = log.lines().filter(|line| line.contains(text)).map(parse).collect();
        (!found.is_empty()).then_some(found)
    })
}

#[test]
fn s1_an_access_line_is_json_with_everything_the_guides_name() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let answer = curl(&["-H", &parent, "-A", "agent-47", "-d", "12345", &mainstay.url("/users/42?token=hidden-query")]);
    let line = &lines(&mainstay, &[], &answer.id())[0];
    assert_eq!(line["level"], "info", "{line:#}");
    assert!(line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{line:#}");
    assert_eq!((&line["service"], &line["environment"]), (&"main".into(), &"development".into()), "{line:#}");
    assert!(line["message"].as_str().is_some_and(|message| message.contains("/users/42")), "{line:#}");
    assert_eq!(line["traceId"], trace, "{line:#}");
    assert_eq!(line["requestId"], answer.id());
    assert!(line["duration"].as_f64().is_some_and(|ms| ms > 0.0), "{line:#}");
    assert_eq!(
        (&line["method"], &line["status"], &line["bytesIn"]),
        (&"POST".into(), &200.into(), &5.into()),
        "{line:#}"
    );
    assert_eq!((&line["client"], &line["agent"]), (&"127.0.0.1".into(), &"agent-47".into()), "{line:#}");
    assert!(!line.to_string().contains("hidden-query"), "the query is in the log: {line:#}");
}

#[test]
fn s1_levels_go_by_what_happened() {
    let peer = Peer::labelled("x");
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let failed = get(&mainstay.url("/status/500")).id();
    let missing = get(&mainstay.url("/status/404")).id();
    assert_eq!(lines(&mainstay, &[], &failed)[0]["level"], "error");
    assert_eq!(lines(&mainstay, &[], &missing)[0]["level"], "info");
    // S11: only errors, by the flag as by the guide's `level=error`.
    let errors = lines(&mainstay, &["--level", "error"], &failed);
    assert_eq!(errors.len(), 1);
    let all = mainstay.verb(&["logs", "--json", "--level", "error"]).out;
    assert!(!all.contains(&missing), "{all}");
}

#[test]
fn s1_what_the_app_prints_keeps_its_fields_and_loses_its_secrets() {
    let secret = "sup3r-s3cret-value-of-a-token-1234567890";
    let mainstay =
        Setup::file(&static_app("")).env("JWT_SECRET", secret).env("PAYMENT_API_KEY", "pk-9876543210abcdef").ready("/");
    let print = |line: &str| {
        let escaped: String = line.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(get(&mainstay.url(&format!("/print?line={escaped}"))).text(), "printed");
    };
    print(r#"{"level":"warn","msg":"own json","user":{"id":7}}"#);
    let line = &lines(&mainstay, &[], "own json")[0];
    assert_eq!(line["level"], "warn", "{line:#}");
    assert!(
        line["app"]["user"]["id"] == 7 || line["app.user"]["id"] == 7 || line.to_string().contains(r#""id":7"#),
        "{line:#}"
    );
    print("plain words of the app");
    assert!(lines(&mainstay, &[], "plain words")[0]["message"].as_str().is_some_and(|m| m.contains("plain words")));

    print(&format!("leaking {secret} and pk-9876543210abcdef at once"));
    let line = lines(&mainstay, &[], "leaking")[0].to_string();
    assert!(!line.contains(secret) && !line.contains("pk-9876543210abcdef"), "{line}");
    // In base64 too, at any of its three offsets.
    let encoded = mainstay_e2e::fixtures::python_script(
        "import base64,sys;print(base64.b64encode(sys.argv[1].encode()).decode())",
        &[secret],
    );
    print(&format!("encoded {} end", encoded.trim()));
    let line = lines(&mainstay, &[], "encoded")[0].to_string();
    assert!(!line.contains(encoded.trim()), "{line}");
    let files = all_files(&mainstay);
    assert!(!files.contains(secret) && !files.contains("pk-9876543210abcdef"), "a secret stands in the data folder");
    assert!(!mainstay.said().contains(secret));
}

/// Everything in the data folder, as text.
fn all_files(mainstay: &Mainstay) -> String {
    let mut text = String::new();
    let mut folders = vec![mainstay.path().join(".mainstay")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the data folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()));
            }
        }
    }
    text
}

#[test]
fn s1_long_lines_are_cut_and_a_flood_is_counted_while_the_app_serves() {
    let mainstay = Setup::command(&["node", "floods.js"]).node_app("awkward").ready("/");
    for _ in 0..20 {
        assert_eq!(get(&mainstay.url("/")).text(), "still serving");
    }
    let log = wait_for("lines of the flood", || {
        let log = mainstay.verb(&["logs", "--json", "--tail", "1000"]).out;
        log.contains("flood").then_some(log)
    });
    assert!(log.lines().all(|line| line.len() < 64 * 1024), "a line was not cut");
    wait_until("the rest to be counted", || {
        let log = mainstay.verb(&["logs", "--json", "--tail", "10000"]).out;
        log.lines().any(|line| line.contains("dropped") || line.contains("more lines") || line.contains("not written"))
    });
    assert_eq!(mainstay.verb(&["status"]).code, Some(0), "control must answer through a flood");
}

#[test]
fn s1_in_production_the_console_is_json_and_info() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).env("NODE_ENV", "production").ready("/");
    get(&mainstay.url("/marked-request"));
    mainstay.says("marked-request");
    let said = mainstay.said();
    let line = said.lines().find(|line| line.contains("marked-request")).expect("a line");
    assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    assert!(!said.contains("\"level\":\"debug\""), "{said}");
    assert!(!said.contains('\x1b'), "colours without a terminal");
}

#[test]
fn s1_a_clients_path_cannot_write_to_the_terminal_or_forge_a_line() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let agent = "x\"} {\"level\":\"error\",\"message\":\"forged";
    let answer = curl(&["--globoff", "-A", agent, &mainstay.url("/a%0a%1b[31mred")]);
    let found = lines(&mainstay, &[], &answer.id());
    assert_eq!((found.len(), found[0]["level"].as_str()), (1, Some("info")), "{found:?}");
    let raw = "GET /caf\u{e9}\u{202e}x HTTP/1.1\r\nHost: a\r\n\r\n";
    let _ = mainstay_e2e::wire::exchange(mainstay.edge(), raw.as_bytes());
    assert!(!mainstay.said().contains('\x1b') && !mainstay.verb(&["logs"]).out.contains('\x1b'));
}

#[test]
fn s11_logs_tail_filter_by_instance_and_time() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    for n in 0..150 {
        get(&mainstay.url(&format!("/app/row-{n}")));
    }
    lines(&mainstay, &[], "/app/row-149");
    let tail = mainstay.verb(&["logs"]).ok();
    assert!(tail.contains("/app/row-149"), "{tail}");
    assert_eq!(tail.lines().count(), 100, "the last 100 by default");
    assert_eq!(mainstay.verb(&["logs", "--tail", "7"]).ok().lines().count(), 7);
    let one = mainstay.verb(&["logs", "--json", "--instance", "main.1", "--tail", "1000"]).ok();
    assert!(!one.is_empty() && one.lines().all(|line| line.contains("main.1")), "{one}");
    assert!(mainstay.verb(&["logs", "--since", "24h", "--tail", "1000"]).ok().contains("/app/row-0 "));
    let none = mainstay.verb(&["logs", "--since", "nonsense"]);
    assert_eq!(none.code, Some(2), "{}", none.all());
}

#[test]
fn s11_logs_follow_shows_lines_as_they_come() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let mut follower = Command::new(mainstay_e2e::mainstay::binary())
        .args(["logs", "--follow", "--json"])
        .current_dir(mainstay.path())
        .env("XDG_RUNTIME_DIR", mainstay.path().join("runtime"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("run logs --follow");
    let out = BufReader::new(follower.stdout.take().expect("output"));
    get(&mainstay.url("/first-followed"));
    let mut seen = out.lines().map_while(Result::ok);
    assert!(seen.any(|line| line.contains("/first-followed")));
    get(&mainstay.url("/second-followed"));
    assert!(seen.any(|line| line.contains("/second-followed")));
    let _ = follower.kill();
    let _ = follower.wait();
}

#[test]
fn s11_logs_work_after_the_server_crashed_and_after_everything_ended() {
    let peer = Peer::mirror();
    let mut mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    get(&mainstay.url("/before-the-crash"));
    lines(&mainstay, &[], "/before-the-crash");
    let old = mainstay.server();
    mainstay_e2e::processes::signal(old, nix::sys::signal::Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != old));
    assert!(mainstay.verb(&["logs", "--since", "24h"]).ok().contains("/before-the-crash"));
    wait_until("service to be back", || get(&mainstay.url("/after-the-crash")).status == 200);
    mainstay.verb(&["stop"]).ok();
    mainstay.end();
    let log = mainstay.verb(&["logs", "--since", "24h", "--tail", "1000"]).ok();
    assert!(log.contains("/before-the-crash") && log.contains("/after-the-crash"), "{log}");
}

#[test]
fn s1_log_files_are_bounded_and_stay_readable_while_they_turn_over() {
    let peer = Peer::mirror();
    let text = format!("{}[logs]\nsize = \"2MB\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    let load = mainstay_e2e::strict::Load::http1(mainstay.edge(), 20, mainstay_e2e::strict::Mix::Safe);
    // The mirror does not echo numbers: the load is here for its lines alone.
    load.goes_on(10_000);
    load.finish();
    let folder = mainstay.path().join(".mainstay/logs");
    wait_until("the files to be within their bound", || {
        let sizes = std::fs::read_dir(&folder).expect("the log folder").flatten();
        sizes.map(|entry| entry.metadata().map_or(0, |file| file.len())).sum::<u64>() < 3_000_000
    });
    let log = mainstay.verb(&["logs", "--json", "--tail", "1000"]).ok();
    assert_eq!(log.lines().count(), 1000);
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}
