//! A reload is a transaction: only what changed is touched, and a bad file changes nothing and says why.

use crate::support::{in_front_of, pids, ready_instances, static_app};
use mainstay_e2e::{Peer, Setup, curl, get, wait_until};

#[test]
fn e11_upstreams_are_added_and_removed_by_a_reload() {
    let (one, two) = (Peer::labelled("one"), Peer::labelled("two"));
    let mainstay = Setup::file(&in_front_of(&[&one])).ready("/");
    assert_eq!(get(&mainstay.url("/x")).text(), "one");
    mainstay.write("mainstay.toml", &in_front_of(&[&one, &two]));
    mainstay.verb(&["reload"]).ok();
    wait_until("the added one", || get(&mainstay.url("/x")).text() == "two");
    mainstay.write("mainstay.toml", &in_front_of(&[&two]));
    mainstay.verb(&["reload"]).ok();
    wait_until("the removed one to be gone", || (0..10).all(|_| get(&mainstay.url("/x")).text() == "two"));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    let (server, before) = (mainstay.server(), pids(&mainstay));
    mainstay.write("mainstay.toml", &static_app("instances = 3\nintances = 4"));
    let ended = mainstay.verb(&["reload"]);
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    assert!(ended.err.contains("mainstay.toml:4") && ended.err.contains("intances"), "{}", ended.err);
    mainstay.write("mainstay.toml", "this is [not TOML");
    let ended = mainstay.verb(&["reload"]);
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    assert!(ended.err.contains("mainstay.toml:1"), "{}", ended.err);
    assert_eq!((mainstay.server(), pids(&mainstay)), (server, before.clone()));
    assert_eq!(get(&mainstay.url("/")).status, 200);

    // Even a server that dies now comes back with the configuration that was in force.
    mainstay_e2e::processes::signal(server, nix::sys::signal::Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
    wait_until("service to be back", || get(&mainstay.url("/")).status == 200);
    assert_eq!(pids(&mainstay), before);
}

#[test]
fn a_bad_file_is_told_of_on_sighup_too() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    mainstay.write("mainstay.toml", "[app.main]\nrun = 5\n");
    mainstay.signal(nix::sys::signal::Signal::SIGHUP);
    mainstay.says("mainstay.toml:2");
    assert_eq!(get(&mainstay.url("/")).status, 200);
}

#[test]
fn r1_only_what_changed_is_touched() {
    let app = mainstay_e2e::fixtures::static_app();
    let text = |instances: u32, word: &str| {
        format!(
            "[app.web]\nrun = \"{0}\"\ninstances = {instances}\nroutes = [\"/*\"]\n\
             [app.api]\nrun = \"{0}\"\nroutes = [\"/api/*\"]\nenv = {{ WORD = \"{word}\" }}\n",
            app.display()
        )
    };
    let mainstay = Setup::file(&text(1, "one")).ready("/");
    ready_instances(&mainstay, 2);
    let of = |name: &str| -> Vec<i64> {
        let all = crate::support::instances(&mainstay);
        let named = all.iter().filter(|i| i["label"].as_str().is_some_and(|n| n.starts_with(name)));
        named.filter_map(|i| i["pid"].as_i64()).collect()
    };
    let (web, api) = (of("web"), of("api"));
    mainstay.write("mainstay.toml", &text(3, "one"));
    mainstay.verb(&["reload"]).ok();
    ready_instances(&mainstay, 4);
    assert!(of("web").contains(&web[0]), "the running instance was restarted for the sake of new ones");
    assert_eq!(of("api"), api, "the other app was touched");

    let web = of("web");
    mainstay.write("mainstay.toml", &text(3, "two"));
    mainstay.verb(&["reload"]).ok();
    wait_until("the changed app to run anew", || {
        let now = of("api");
        now.len() == 1 && now != api
    });
    assert_eq!(of("web"), web, "the unchanged app was touched");
    let word = get(&mainstay.url("/variable?name=WORD"));
    assert_eq!(word.status, 200);

    mainstay.write("mainstay.toml", &text(1, "two"));
    mainstay.verb(&["reload"]).ok();
    ready_instances(&mainstay, 2);
    assert_eq!(get(&mainstay.url("/")).status, 200);
}

#[test]
fn an_address_is_added_and_taken_away_without_touching_the_other() {
    let peer = Peer::labelled("here");
    let ports = [mainstay_e2e::ports::Port::free(), mainstay_e2e::ports::Port::free()];
    let text = |ports: &[u16]| {
        let list: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        format!("{}[edge]\nlisten = [{}]\n", in_front_of(&[&peer]), list.join(", "))
    };
    let (a, b) = (ports[0].number, ports[1].number);
    let mainstay = Setup::file(&text(&[a])).without_port().spawn();
    let at = |port: u16| get(&format!("http://127.0.0.1:{port}/")).status;
    wait_until("the first address", || at(a) == 200);
    let mut kept = mainstay_e2e::Connection::open(([127, 0, 0, 1], a).into()).expect("connect");
    mainstay.write("mainstay.toml", &text(&[a, b]));
    mainstay.verb(&["reload"]).ok();
    assert_eq!((at(a), at(b)), (200, 200));
    mainstay.write("mainstay.toml", &text(&[b]));
    mainstay.verb(&["reload"]).ok();
    wait_until("the first address to be closed", || at(a) == 0);
    assert_eq!(at(b), 200);
    kept.send(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    assert_eq!(kept.response(false).expect("an answer on the open connection").status, 200);
}

#[test]
fn an_address_that_is_taken_fails_the_reload_and_changes_nothing() {
    let peer = Peer::labelled("here");
    let (mine, other) = (mainstay_e2e::ports::Port::free(), Peer::labelled("another process"));
    let text =
        |more: &str| format!("{}[edge]\nlisten = [\"127.0.0.1:{}\"{more}]\n", in_front_of(&[&peer]), mine.number);
    let mainstay = Setup::file(&text("")).without_port().spawn();
    wait_until("the address", || get(&format!("http://127.0.0.1:{}/", mine.number)).status == 200);
    mainstay.write("mainstay.toml", &text(&format!(", \"{}\"", other.address)));
    let ended = mainstay.verb(&["reload"]);
    assert_ne!(ended.code, Some(0), "{}", ended.all());
    assert!(ended.err.contains(&other.address.port().to_string()), "{}", ended.err);
    assert_eq!(get(&format!("http://127.0.0.1:{}/", mine.number)).text(), "here");
}

#[test]
fn a_limit_that_is_changed_counts_for_the_next_request_on_an_open_connection() {
    let peer = Peer::mirror();
    let text = |limit: &str| format!("{}[edge.limits]\nbody = \"{limit}\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text("1KB")).ready("/");
    let body = "x".repeat(5000);
    assert_eq!(curl(&["-d", &body, &mainstay.url("/p")]).status, 413);
    mainstay.write("mainstay.toml", &text("10KB"));
    mainstay.verb(&["reload"]).ok();
    assert_eq!(curl(&["-d", &body, &mainstay.url("/p")]).status, 200);
}
