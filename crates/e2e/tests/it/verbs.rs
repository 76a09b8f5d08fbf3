//! The verbs as a person types them.

use crate::support::{in_front_of, pids, ready_instances, static_app};
use mainstay_e2e::{Peer, Setup, curl, get, wait_until};

#[test]
fn status_shows_apps_instances_and_listeners() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    let json = mainstay.verb(&["status", "--json"]).json();
    assert_eq!(json["pid"].as_i64(), Some(i64::from(mainstay.supervisor())), "{json:#}");
    assert!(json["listening"].to_string().contains(&mainstay.edge().port().to_string()), "{json:#}");
    assert_eq!(json["apps"][0]["instances"].as_array().map(Vec::len), Some(2));
    let text = mainstay.verb(&["status"]).ok();
    for word in ["main.1", "main.2", "ready", &pids(&mainstay)[0].to_string()] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
}

#[test]
fn verbs_without_a_server_say_so_and_end_with_1() {
    let setup = Setup::new();
    for words in [vec!["status"], vec!["health"], vec!["reload"], vec!["restart"], vec!["stop"], vec!["why", "abc"]] {
        let ended = setup.verb(&words);
        assert_eq!(ended.code, Some(1), "{words:?}: {}", ended.all());
        assert!(ended.err.contains("mainstay run"), "{words:?} does not say what to type:\n{}", ended.err);
    }
}

#[test]
fn r25_restart_replaces_one_app_or_one_instance() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    let pid_of = |number: u64| {
        let name = format!("main.{number}");
        crate::support::instances(&mainstay)
            .iter()
            .find(|i| i["label"] == name.as_str())
            .and_then(|i| i["pid"].as_i64())
    };
    let (one, two) = (pid_of(1), pid_of(2));
    mainstay.verb(&["restart", "main", "2"]).ok();
    ready_instances(&mainstay, 2);
    assert_eq!(pid_of(1), one, "the other instance was restarted");
    assert_ne!(pid_of(2), two);
    let two = pid_of(2);
    mainstay.verb(&["restart", "main.1"]).ok();
    ready_instances(&mainstay, 2);
    assert_ne!(pid_of(1), one);
    assert_eq!(pid_of(2), two);
    let before = pids(&mainstay);
    mainstay.verb(&["restart"]).ok();
    ready_instances(&mainstay, 2);
    assert!(pids(&mainstay).iter().all(|pid| !before.contains(pid)));
    let unknown = mainstay.verb(&["restart", "nobody"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.all());
    assert!(unknown.err.contains("nobody") && unknown.err.contains("main"), "{}", unknown.err);
    let unknown = mainstay.verb(&["restart", "main", "9"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.all());
}

#[test]
fn a_restart_that_fails_keeps_the_old_instance() {
    let script = format!("[ -e broken ] && exit 3; exec {}", mainstay_e2e::fixtures::static_app().display());
    let text = format!("[app.main]\nrun = \"sh -c '{script}'\"\n");
    let mainstay = Setup::file(&text).ready("/");
    let before = pids(&mainstay);
    std::fs::write(mainstay.path().join("broken"), "").expect("write");
    let ended = mainstay.verb(&["restart"]);
    assert_ne!(ended.code, Some(0), "{}", ended.all());
    assert_eq!(get(&mainstay.url("/")).status, 200);
    assert!(before.iter().all(|pid| mainstay_e2e::processes::alive(*pid)), "the old instance was given up");
}

#[test]
fn h8_health_is_a_line_a_service_and_an_exit_code() {
    let peer = Peer::labelled("up");
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let ended = mainstay.verb(&["health"]);
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    assert!(ended.out.lines().count() >= 2, "{}", ended.out);
    assert!(ended.out.contains("database") && ended.out.contains("not_configured"), "{}", ended.out);
    let verbose = mainstay.verb(&["health", "--verbose"]).ok();
    assert!(verbose.len() > ended.out.len(), "{verbose}");

    let closed = mainstay_e2e::ports::Port::free();
    let url = format!("postgres://app:secret@127.0.0.1:{}/app", closed.number);
    let away = Setup::file(&in_front_of(&[&peer])).env("DATABASE_URL", &url).ready("/");
    wait_until("the database to be seen as away", || away.verb(&["health"]).code == Some(1));
    let ended = away.verb(&["health"]);
    assert!(ended.out.contains("database"), "{}", ended.all());
    assert!(!ended.all().contains("secret"), "{}", ended.all());
}

#[test]
fn why_takes_a_unique_end_of_an_id_and_says_when_it_knows_none() {
    let peer = Peer::labelled("x");
    let text = format!("{}routes = [\"/only/*\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    let refused = get(&mainstay.url("/elsewhere"));
    assert_eq!(refused.status, 404);
    let id = refused.id();
    let whole = mainstay.why(&id);
    for word in ["no_route", "GET", "/elsewhere", "404", &id] {
        assert!(whole.contains(word), "{word} is missing:\n{whole}");
    }
    let short = &id[id.len() - 8..];
    assert_eq!(mainstay.verb(&["why", short]).ok(), whole);
    let json = mainstay.verb(&["why", "--json", &id]).json();
    assert!(json.to_string().contains("no_route"), "{json:#}");
    let unknown = mainstay.verb(&["why", "r_00000000000000000000000000"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.all());
    assert!(!unknown.err.is_empty());
}

#[test]
fn why_still_knows_after_the_server_was_killed() {
    let peer = Peer::labelled("x");
    let text = format!("{}routes = [\"/only/*\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    let id = get(&mainstay.url("/elsewhere")).id();
    assert!(mainstay.why(&id).contains("no_route"));
    let old = mainstay.server();
    mainstay_e2e::processes::signal(old, nix::sys::signal::Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != old));
    wait_until("service to be back", || get(&mainstay.url("/only/x")).status == 200);
    assert!(mainstay.why(&id).contains("no_route"));
}

#[test]
fn the_control_socket_is_the_owners_alone_and_nothing_of_it_is_on_the_edge() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let path = std::fs::read_to_string(mainstay.path().join(".mainstay/control.path")).expect("the socket's path");
    let metadata = std::fs::metadata(path.trim()).expect("the socket");
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    for path in ["/.mainstay/status", "/.mainstay/stop", "/.mainstay/why", "/.mainstay/reload"] {
        let answer = curl(&["-X", "POST", &mainstay.url(path)]);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    assert!(peer.holding("/.mainstay/").is_empty(), "our own paths are ours alone");
}
