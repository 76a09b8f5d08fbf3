//! Two processes and the groups of the instances, killed in every order.

use crate::support::{pids, ready_instances, static_app};
use mainstay_e2e::processes::{self, alive, signal};
use mainstay_e2e::strict::{Load, Mix};
use mainstay_e2e::wait::poll;
use mainstay_e2e::{Mainstay, Setup, curl, fixtures, get, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// DESIGN: SIGTERM, 5 s, SIGKILL; one second for all else.
const GONE_WITHIN: Duration = Duration::from_secs(6);
/// What a loaded machine may add before a bound given in the requirements is called broken.
const MACHINE: Duration = Duration::from_secs(4);

#[test]
fn a_killed_server_is_replaced_within_a_second_and_instances_keep_their_pids() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    let before = pids(&mainstay);
    for round in 0..3 {
        let old = mainstay.server();
        let killed = Instant::now();
        signal(old, Signal::SIGKILL);
        // The listener never closes: a connection made at any moment is answered, late at worst.
        let answer = get(&mainstay.url("/pid"));
        let took = killed.elapsed();
        println!("round {round}: answered {took:?} after the kill");
        // A connection that the dying server had accepted is cut; nothing is ever refused.
        assert!(answer.status == 200 || answer.exit == 52 || answer.exit == 56, "{answer:?}\n{}", mainstay.said());
        wait_until("service to be back", || get(&mainstay.url("/pid")).status == 200);
        assert!(killed.elapsed() < Duration::from_secs(1) + MACHINE, "back after {:?}", killed.elapsed());
        assert_ne!(mainstay.server(), old);
        assert_eq!(pids(&mainstay), before, "instances were touched");
    }
    mainstay.says("server");
    let status = mainstay.verb(&["status", "--json"]).json();
    assert_eq!(status["server_crashes"], 3, "{status:#}");
}

#[test]
fn no_connection_is_refused_while_the_server_is_killed_under_load() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    let load = Load::http1(mainstay.edge(), 20, Mix::Safe);
    for _ in 0..5 {
        load.goes_on(100);
        let old = mainstay.server();
        signal(old, Signal::SIGKILL);
        wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != old));
    }
    load.goes_on(100);
    let tally = load.finish();
    assert!(tally.refused.is_empty(), "{:?}", tally.refused);
    // Only what the dying servers had accepted is cut: at most one request a connection and kill.
    assert!(tally.lost.len() + tally.cut.len() <= 20 * 5, "{} of {} lost", tally.lost.len(), tally.sent);
    assert!(tally.answered > 500, "{tally:?}");
}

/// Kills the supervisor and waits until every process it had started is gone.
#[track_caller]
fn supervisor_killed(mainstay: &Mainstay) {
    let all: Vec<i32> = mainstay.processes().iter().map(|process| process.pid).collect();
    assert!(all.len() >= 3, "{:?}", mainstay.processes());
    let killed = Instant::now();
    signal(mainstay.supervisor(), Signal::SIGKILL);
    wait_until("every process to be gone", || mainstay.processes().is_empty());
    println!("{} processes were gone after {:?}", all.len(), killed.elapsed());
    assert!(killed.elapsed() < GONE_WITHIN + MACHINE, "gone after {:?}", killed.elapsed());
    assert!(all.iter().all(|pid| !alive(*pid)));
}

#[test]
fn a_killed_supervisor_takes_npm_sh_and_node_with_it() {
    let mainstay = Setup::command(&["npm", "start"]).node_app("slowdrain").ready("/");
    let names: Vec<String> = mainstay.instances().iter().map(|p| p.arguments.join(" ")).collect();
    assert!(names.iter().any(|name| name.starts_with("npm")), "{names:?}");
    assert!(names.iter().any(|name| name.contains("node index.js")), "{names:?}");
    supervisor_killed(&mainstay);
}

#[test]
fn a_killed_supervisor_takes_a_child_that_called_setsid_with_it() {
    let python = fixtures::python();
    let path = python.to_str().expect("a path");
    let mainstay = Setup::command(&[path, "leaves_by_setsid.py"]).python_app("awkward").ready("/");
    let runaway: i32 = wait_for("the runaway's pid", || {
        std::fs::read_to_string(mainstay.path().join("runaway.pid")).ok()?.parse().ok()
    });
    assert!(alive(runaway));
    assert_ne!(processes::read(runaway).expect("it lives").group, mainstay.instances()[0].group);
    supervisor_killed(&mainstay);
    assert!(!alive(runaway));
}

#[test]
fn a_killed_supervisor_takes_a_child_that_ignores_sigterm_with_it() {
    let mainstay = Setup::command(&["node", "ignores_sigterm.js"]).node_app("awkward").ready("/");
    supervisor_killed(&mainstay);
}

#[test]
fn supervisor_and_server_killed_at_once_leave_nothing_for_the_next_start() {
    let mainstay = Setup::command(&["npm", "start"]).node_app("slowdrain").ready("/");
    let (server, supervisor) = (mainstay.server(), mainstay.supervisor());
    let orphans: Vec<i32> = mainstay.instances().iter().map(|process| process.pid).collect();
    // Stopped first, so that neither has a moment to react to the other's end.
    signal(supervisor, Signal::SIGSTOP);
    signal(server, Signal::SIGSTOP);
    signal(server, Signal::SIGKILL);
    signal(supervisor, Signal::SIGKILL);
    wait_until("both to be gone", || !alive(server) && !alive(supervisor));
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    assert!(orphans.iter().all(|pid| !alive(*pid)), "orphans live beside the new start: {:?}", mainstay.processes());
    mainstay.answering("/");
}

#[test]
fn a_crashed_instance_is_started_again_and_the_others_serve_meanwhile() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    ready_instances(&mainstay, 2);
    let victim = pids(&mainstay)[0];
    signal(victim, Signal::SIGKILL);
    for _ in 0..20 {
        assert_eq!(get(&mainstay.url("/pid")).status, 200);
    }
    let ready = ready_instances(&mainstay, 2);
    assert!(ready.iter().all(|instance| instance["pid"].as_i64() != Some(i64::from(victim))));
    assert!(ready.iter().any(|instance| instance["restarts"].as_u64() == Some(1)), "{ready:?}");
}

#[test]
fn a_crash_loop_is_said_once_with_the_last_lines_the_exit_status_and_the_ports() {
    let mainstay = Setup::command(&["node", "exits_at_once.js"]).node_app("awkward").start();
    mainstay.says("times in a row");
    let said = mainstay.said();
    assert!(said.contains("cannot find the flux capacitor"), "the child's last lines are missing:\n{said}");
    assert!(said.contains("exit status 3"), "the exit status is missing:\n{said}");
    assert_eq!(said.matches("times in a row").count(), 1, "said more than once:\n{said}");
    // It is retried for ever, and meanwhile the edge answers honestly.
    let answer = curl(&["--max-time", "30", &mainstay.url("/")]);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("no_instance")), "{answer:?}");
}

#[test]
fn a_child_that_listens_elsewhere_is_found_and_the_screen_says_so() {
    let port = mainstay_e2e::ports::Port::free();
    let number = port.number.to_string();
    let mainstay = Setup::command(&["node", "hard_coded.js", &number]).node_app("awkward").ready("/");
    assert_eq!(get(&mainstay.url("/")).text(), "hard-coded");
    // Lines reach the console a moment after what they tell of.
    wait_until("the screen to name the port and what to change", || {
        let said = mainstay.said();
        said.contains(&number) && said.contains("PORT")
    });
}

#[test]
fn a_child_with_two_other_ports_is_told_of_with_both_of_them() {
    let ports = [mainstay_e2e::ports::Port::free(), mainstay_e2e::ports::Port::free()];
    let numbers = ports.each_ref().map(|port| port.number.to_string());
    let script = format!("node hard_coded.js {} & exec node hard_coded.js {}", numbers[0], numbers[1]);
    let mainstay = Setup::command(&["sh", "-c", &script]).node_app("awkward").start();
    wait_until("status to say why it is not ready", || {
        let why = mainstay.verb(&["status"]).out;
        numbers.iter().all(|number| why.contains(number))
    });
    let said = mainstay.verb(&["status"]).out;
    assert!(said.contains("PORT"), "no word of what to change:\n{said}");
}

#[test]
fn two_folders_run_side_by_side_and_children_get_ports_of_their_own() {
    let all: Vec<Mainstay> = (0..3).map(|_| Setup::file(&static_app("instances = 2")).start()).collect();
    let mut addresses: Vec<String> = Vec::new();
    for mainstay in &all {
        let ready = ready_instances(mainstay, 2);
        addresses.extend(ready.iter().filter_map(|instance| instance["address"].as_str().map(String::from)));
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 6, "{addresses:?}");
}

#[test]
fn a_child_keeps_its_stdin_open_and_its_environment() {
    // A shell gives its background jobs /dev/null, so the child's own stdin is kept as descriptor 3.
    let command = "cat <&3 > seen-stdin; echo stdin ended > ended";
    let script = format!("exec 3<&0; ({command}) & exec {}", fixtures::static_app().display());
    let mainstay = Setup::command(&["sh", "-c", &script])
        .env("MY_OWN", "kept")
        .env("NODE_OPTIONS", "--max-old-space-size=2048 --max-http-header-size=16384")
        .ready("/");
    let variable = |name: &str| get(&mainstay.url(&format!("/variable?name={name}"))).text();
    assert_eq!(variable("MY_OWN"), "kept");
    // C9: handed on as it is.
    assert_eq!(variable("NODE_OPTIONS"), "--max-old-space-size=2048 --max-http-header-size=16384");
    assert_eq!(variable("HOST"), "127.0.0.1");
    assert_ne!(variable("PORT"), mainstay.edge().port().to_string());
    let ended = poll(Duration::from_secs(1), || mainstay.path().join("ended").exists().then_some(()));
    assert!(ended.is_none(), "stdin ended: `esbuild --watch` would stop");
}

#[test]
fn r25_past_its_memory_limit_an_instance_is_restarted_without_a_lost_request() {
    let mainstay = Setup::file(&static_app("instances = 2\nmemory_limit = \"60MiB\"")).ready("/");
    ready_instances(&mainstay, 2);
    let before = pids(&mainstay);
    let load = Load::http1(mainstay.edge(), 10, Mix::Safe);
    load.goes_on(50);
    assert_eq!(curl(&["-X", "POST", &mainstay.url("/grow?mb=100")]).status, 200);
    wait_until("the grown instance to be replaced", || {
        let now = pids(&mainstay);
        now.len() == 2 && now.iter().any(|pid| !before.contains(pid))
    });
    load.goes_on(50);
    load.finish().all_answered();
    mainstay.says("memory");
}

#[test]
fn an_instances_output_is_in_the_log_with_its_name() {
    let mainstay = Setup::file(&static_app("instances = 2")).ready("/");
    assert_eq!(get(&mainstay.url("/print?line=a%20line%20of%20the%20app")).status, 200);
    let line = wait_for("the line in the log", || {
        let log = mainstay.verb(&["logs", "--json"]).out;
        log.lines().find(|line| line.contains("a line of the app")).map(String::from)
    });
    assert!(line.contains("main.1") || line.contains("main.2"), "{line}");
}
