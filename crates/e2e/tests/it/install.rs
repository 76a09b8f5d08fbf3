//! What an operator installs and systemd runs: the file of `init`, the unit, what systemd is told, log files by name.

use crate::support::{in_front_of, ready_instances, static_app};
use mainstay_e2e::processes::{alive, environment, signal};
use mainstay_e2e::wait::poll;
use mainstay_e2e::{Mainstay, Manager, Peer, Setup, get, wait_until};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine, short enough for a test: asked at half of it.
const WATCHDOG: Duration = Duration::from_millis(600);

fn told(manager: &Manager, setup: Setup) -> Setup {
    setup.env("NOTIFY_SOCKET", &manager.name).env("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string())
}

/// C7: the file that `init` writes is one that `run` starts and serves with.
#[test]
fn c7_what_init_writes_is_checked_and_serves() {
    let setup = Setup::new().node_app("express");
    let said = setup.verb(&["init"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(setup.verb(&["check"]).code, Some(0));
    let mainstay = setup.ready("/");
    assert_eq!(ready_instances(&mainstay, 2).len(), 2, "two instances, as nothing speaks against it");
    assert!(mainstay.said().contains("file mainstay.toml"), "{}", mainstay.said());
}

/// R27: systemd is told of the first serving, of a reload and its end, of stopping; in this order, and once each.
#[test]
fn r27_the_manager_is_told_ready_reloading_and_stopping_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let manager = Manager::at(folder.path());
    let peer = Peer::labelled("one");
    let file = in_front_of(&[&peer]);
    let mut mainstay = told(&manager, Setup::file(&file)).start();
    manager.hears("READY=1", 1);
    mainstay.write("mainstay.toml", &format!("{file}[edge.timeouts]\nidle = \"9s\"\n"));
    mainstay.signal(Signal::SIGHUP);
    manager.hears("READY=1", 2);
    // A file that is refused changes nothing, and the unit is as ready as before: its status says why.
    mainstay.write("mainstay.toml", "[edge]\nlisten = 7.5\n");
    mainstay.signal(Signal::SIGHUP);
    manager.hears("READY=1", 3);
    mainstay.signal(Signal::SIGTERM);
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
    let states = ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"];
    assert_eq!(manager.states(), states, "{:#?}", manager.told());
    let all = manager.told();
    let reloading: Vec<&String> = all.iter().filter(|message| message.contains("RELOADING=1")).collect();
    assert!(reloading.iter().all(|message| message.contains("\nMONOTONIC_USEC=")), "{all:#?}");
    let refused = all.iter().find(|message| message.contains("STATUS=serving; not reloaded: ")).expect("a status");
    assert!(refused.contains("mainstay.toml:2:"), "where the fault is: {refused}");
    // Told on the way out of a server that was there to say it.
    assert!(all.last().is_some_and(|last| last.starts_with("STOPPING=1") || last == "WATCHDOG=1\n"), "{all:#?}");
}

/// R27: life is told of only while the server answers; a replaced one is ready again.
#[test]
fn r27_the_watchdog_hears_of_a_server_that_answers_and_of_no_other() {
    let manager = Manager::in_the_abstract("watchdog");
    let mainstay = told(&manager, Setup::file(&static_app("instances = 1"))).ready("/");
    manager.hears("WATCHDOG=1", 3);
    let server = mainstay.server();
    signal(server, Signal::SIGSTOP);
    // One answer may have been on its way.
    wait_until("silence from a stuck server", || {
        let before = manager.count("WATCHDOG=1");
        let start = Instant::now();
        poll(WATCHDOG * 2, || (manager.count("WATCHDOG=1") > before).then_some(())).is_none()
            && start.elapsed() >= WATCHDOG * 2
    });
    let silent = manager.count("WATCHDOG=1");
    signal(server, Signal::SIGCONT);
    manager.hears("WATCHDOG=1", silent + 2);
    signal(server, Signal::SIGKILL);
    manager.hears("READY=1", 2);
    let replaced = manager.count("WATCHDOG=1");
    manager.hears("WATCHDOG=1", replaced + 2);
    assert!(!alive(server));
}

/// R27: whoever holds the manager's variables would answer for us: neither the server nor an instance has them.
#[test]
fn r27_nobody_but_the_supervisor_has_the_managers_variables() {
    let manager = Manager::in_the_abstract("variables");
    let setup = told(&manager, Setup::file(&static_app("instances = 1"))).env("JOURNAL_STREAM", "8:1");
    let mainstay = setup.ready("/");
    let instance = mainstay.instances();
    assert_eq!(instance.len(), 1, "{instance:?}");
    for pid in [mainstay.server(), instance[0].pid] {
        let variables = environment(pid);
        assert!(variables.iter().any(|pair| pair.starts_with("MAINSTAY_BOOT=")), "{variables:?}");
        let ours = |pair: &&String| pair.starts_with("NOTIFY_SOCKET=") || pair.starts_with("WATCHDOG_");
        assert_eq!(variables.iter().find(ours), None, "pid {pid}");
    }
    assert!(!environment(instance[0].pid).iter().any(|pair| pair.starts_with("JOURNAL_STREAM=")));
}

/// R27: without a manager, and with one that has gone, everything is as it was.
#[test]
fn r27_a_manager_that_does_not_listen_stops_nothing() {
    let setup = Setup::file(&static_app("instances = 1")).env("NOTIFY_SOCKET", "/nowhere/notify");
    let mut mainstay = setup.env("WATCHDOG_USEC", "20000").ready("/");
    mainstay.signal(Signal::SIGTERM);
    assert_eq!(mainstay.end().0.code(), Some(0), "{}", mainstay.said());
}

/// R4: the unit of `init --systemd` is one that systemd takes, and finds safe: at most 3.0 of 10.
#[test]
fn r4_the_unit_is_valid_and_exposes_no_more_than_3_of_10() {
    let setup =
        Setup::file("[app.main]\nrun = \"npm start\"\n[edge.timeouts]\ndrain = \"20s\"\n").write("package.json", "{}");
    let said = setup.verb(&["init", "--systemd"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let files = std::fs::read_dir(setup.path()).expect("list").flatten();
    let unit = files.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "service"));
    let unit = unit.expect("a unit");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    assert_eq!(setup.verb(&["init", "--systemd", "--print"]).ok(), text);
    assert_eq!(setup.verb(&["init", "--systemd"]).code, Some(1), "a unit that is there stays");
    // Twice the drain is what requests and instances may take; the supervisor ends by itself before that.
    assert!(text.contains("\nTimeoutStopSec=70\n"), "{text}");
    for line in ["KillMode=mixed", "AmbientCapabilities=CAP_NET_BIND_SERVICE", "LimitNOFILE=65536", "WatchdogSec=30"] {
        assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
    }
    assert!(!text.lines().any(|line| line.starts_with("MemoryDenyWriteExecute")), "node would not start");

    let unit = unit.to_str().expect("a path");
    let analysed = analyze(&["security", "--offline=true", "--no-pager", unit]);
    println!("{}", analysed.lines().last().unwrap_or_default());
    let level =
        analysed.lines().rev().find_map(|line| line.split_once("Overall exposure level for ")).expect("a level");
    let level: f32 = level.1.split_whitespace().find_map(|word| word.parse().ok()).expect("a number");
    assert!(level <= 3.0, "{level}\n{analysed}");
    // Everything in it is a key that systemd knows, with a value it reads.
    let verified = analyze(&["verify", "--man=no", unit]);
    let about_ours: Vec<&str> = verified.lines().filter(|line| line.contains(".service:")).collect();
    assert_eq!(about_ours, Vec::<&str>::new(), "{verified}");
}

fn analyze(arguments: &[&str]) -> String {
    let output = Command::new("systemd-analyze").args(arguments).output().expect("systemd-analyze");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// S2: `logs/error.log` holds errors alone, `logs/combined.log` everything, beside the console; each within its bound.
#[test]
fn s2_error_and_combined_logs_are_written_and_bounded() {
    let lines = "[logs]\ndir = \"logs\"\nfile_size = \"64KiB\"\n";
    let file = format!("{}\n{lines}", static_app(&format!("instances = 1\n{}", crate::support::as_ourselves())));
    let mainstay = Setup::file(&file).env("NODE_ENV", "production").ready("/");
    let folder = mainstay.path().join("logs");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    get(&mainstay.url("/status/500"));
    get(&mainstay.url("/fine"));
    wait_until("both requests in combined.log", || {
        let all = read("combined.log");
        all.contains("/status/500") && all.contains("/fine")
    });
    wait_until("the failed one in error.log", || read("error.log").contains("/status/500"));
    for line in read("error.log").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        assert_eq!(line["level"], "error", "{line}");
    }
    assert!(read("combined.log").lines().any(|line| line.contains("\"level\":\"info\"")));
    assert!(mainstay.said().contains("/fine"), "the console goes on:\n{}", mainstay.said());

    let files = |mainstay: &Mainstay| {
        let entries = std::fs::read_dir(mainstay.path().join("logs")).expect("list").flatten();
        let mut files: Vec<(String, u64)> = entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len())))
            .filter(|(name, _)| name.starts_with("combined.log"))
            .collect();
        files.sort();
        files
    };
    let filler = mainstay.url(&format!("/print?line={}", "x".repeat(6000)));
    let mut asked = 0;
    while files(&mainstay).len() < 5 {
        asked += 1;
        assert!(asked < 500, "{:?}", files(&mainstay));
        get(&filler);
    }
    // Past the fifth, what came first is gone.
    (0..22).for_each(|_| drop(get(&filler)));
    let names = ["combined.log", "combined.log.1", "combined.log.2", "combined.log.3", "combined.log.4"];
    wait_until("the first requests to be rotated out", || names.iter().all(|name| !read(name).contains("GET /fine")));
    let all = files(&mainstay);
    assert_eq!(all.len(), 5, "{all:?}");
    assert!(all.iter().all(|(_, bytes)| *bytes <= 65_536), "{all:?}");
}
