//! Asked to end: once, twice, and with a server that does not listen.

use crate::Test;
use crate::house::{House, STUBBORN, runs, until, wait_gone};
use mainstay_supervisor::protocol::{ToServer, ToSupervisor};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

pub const TESTS: &[Test] = &[
    ("ends::a_signal_drains_and_what_is_left_is_ended", a_signal_drains),
    ("ends::a_second_signal_ends_everything_at_once", a_second_signal),
    ("ends::a_server_that_does_not_answer_is_ended", a_deaf_server),
    ("ends::a_server_that_dies_in_a_drain_ends_it", a_server_dies_in_a_drain),
    ("ends::a_terminals_ctrl_c_reaches_the_supervisor_alone", ctrl_c),
    ("ends::a_server_may_end_it_all_unasked", unasked),
    ("ends::sighup_is_a_reload", sighup),
];

fn a_signal_drains() {
    let mut house = House::new("good");
    let (server, _, _) = house.hello(0);
    let instance = house.shell(STUBBORN);
    let mut pids: Vec<i32> = ["deaf.pid", "setsid.pid", "daemon.pid"].map(|name| house.written(name)).into();
    pids.extend([instance.pid, server]);
    house.signal(Signal::SIGTERM);
    assert_eq!(house.exit_code(), 0);
    assert!(!pids.iter().any(|pid| runs(*pid)), "nothing is left when it ends");
    assert!(!house.dir.path().join("control").exists());
}

fn a_second_signal() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut house = House::new("deaf");
        let (server, _, _) = house.hello(0);
        let instance = house.shell(STUBBORN);
        let mut pids: Vec<i32> = ["deaf.pid", "setsid.pid", "daemon.pid"].map(|name| house.written(name)).into();
        pids.extend([instance.pid, server]);
        house.signal(signal);
        house.heard("drain", |message| matches!(message, ToServer::Drain).then_some(()));
        assert!(runs(instance.pid), "the server decides when instances end");
        house.signal(signal);
        assert_eq!(house.exit_code(), code);
        wait_gone(&pids);
    }
}

fn a_deaf_server() {
    let mut house = House::new("deaf");
    house.say(&ToSupervisor::StopLimit { limit_ms: 0 });
    let instance = house.shell("exec sleep 300");
    house.signal(Signal::SIGTERM);
    assert_eq!(house.exit_code(), 70);
    assert!(!runs(instance.pid));
}

fn a_server_dies_in_a_drain() {
    let mut house = House::new("deaf");
    let (server, _, _) = house.hello(0);
    let instance = house.shell("exec sleep 300");
    house.signal(Signal::SIGTERM);
    house.heard("drain", |message| matches!(message, ToServer::Drain).then_some(()));
    nix::sys::signal::kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    assert_eq!(house.exit_code(), 70);
    assert!(!runs(instance.pid));
}

fn ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = crate::house::supervise(dir.path(), address, "deaf");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut supervisor = command.spawn().unwrap();
    let notes = || std::fs::read_to_string(dir.path().join("notes")).unwrap_or_default();
    let server = until("the server", || {
        let note: serde_json::Value = serde_json::from_str(notes().lines().next()?).ok()?;
        i32::try_from(note["server"].as_i64()?).ok()
    });
    killpg(Pid::from_raw(supervisor.id() as i32), Signal::SIGINT).unwrap();
    until("drain", || notes().contains("Drain").then_some(()));
    assert!(runs(server), "not in the foreground group");
    killpg(Pid::from_raw(supervisor.id() as i32), Signal::SIGINT).unwrap();
    let ended = until("the end", || supervisor.try_wait().unwrap());
    assert_eq!(ended.code(), Some(130));
    wait_gone(&[server]);
}

fn unasked() {
    let mut house = House::new("good");
    house.hello(0);
    let instance = house.shell("exec sleep 300");
    house.say(&ToSupervisor::Drained { code: 69 });
    assert_eq!(house.exit_code(), 69);
    assert!(!runs(instance.pid));
}

fn sighup() {
    let house = House::new("good");
    house.hello(0);
    house.signal(Signal::SIGHUP);
    house.heard("reload", |message| matches!(message, ToServer::Reload).then_some(()));
}
