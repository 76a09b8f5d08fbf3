//! Either process, or both, killed without warning.

use crate::Test;
use crate::house::{House, STUBBORN, runs, until, wait_gone};
use mainstay_supervisor::protocol::{Exit, ToServer, ToSupervisor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read as _;
use std::net::TcpStream;

pub const TESTS: &[Test] = &[
    ("crashes::a_killed_server_is_replaced_and_nothing_else_happens", a_killed_server_is_replaced),
    ("crashes::ends_while_there_is_no_server_are_told_to_the_next", ends_are_not_lost),
    ("crashes::a_hundred_instances_are_handed_over_with_their_pipes", a_hundred_instances),
    ("crashes::a_server_that_never_gets_ready_is_given_up", a_server_never_ready),
    ("crashes::a_server_that_decides_to_end_is_believed", a_server_that_decides),
    ("crashes::a_killed_supervisor_leaves_nothing_behind", a_killed_supervisor),
    ("crashes::both_killed_leave_nothing_to_the_next_start", both_killed),
    ("crashes::a_start_while_the_last_server_still_cleans_up", start_during_clean_up),
    ("crashes::a_supervisor_under_a_supervisor_goes_with_it", nested),
];

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn a_killed_server_is_replaced() {
    let house = House::new("good");
    let (first, _, _) = house.hello(0);
    let instance = house.shell("exec sleep 300");
    house.say(&ToSupervisor::Adopt { inputs: "second".into() });
    // A later answer shows that the adoption has been taken.
    house.shell("exec sleep 300");
    assert_eq!(house.connect(), first);
    for crashes in 1..=3 {
        let (before, _, _) = house.hello(crashes - 1);
        kill_9(before);
        // Between two servers the backlog takes connections; the next one answers them.
        let began = std::time::Instant::now();
        let mut early = TcpStream::connect(house.address).expect("never refused");
        let (server, hello, fds) = house.hello(crashes);
        let mut text = String::new();
        // One that the dying server had accepted is cut; that is the kernel's doing.
        if early.read_to_string(&mut text).is_ok() && !text.is_empty() {
            assert_eq!(text.trim(), server.to_string());
        }
        assert_eq!(house.connect(), server);
        println!("  replaced and answering after {:.1?}", began.elapsed());
        assert_eq!((hello.inputs.as_str(), hello.instances.len(), fds), ("second", 2, 2 + 4));
        assert_eq!((hello.instances[0].pid, &hello.instances[0].tag), (instance.pid, &instance.tag));
        assert!(hello.instances[0].exit.is_none());
    }
    assert!(runs(instance.pid));
}

fn ends_are_not_lost() {
    let house = House::new("good");
    let (server, _, _) = house.hello(0);
    let gone = house.shell("exec sleep 300");
    let leader = house.shell("sleep 300 & echo $! > child.pid; wait");
    let child = house.written("child.pid");
    // The supervisor stands still, so that the ends fall between two servers for certain.
    house.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", house.pid());
    until("the supervisor to stand still", || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    kill_9(server);
    kill_9(gone.pid);
    kill_9(leader.pid);
    wait_gone(&[server, gone.pid, leader.pid]);
    house.signal(Signal::SIGCONT);
    let (next, hello, _) = house.hello(1);
    let told = until("the ends", || {
        let notes = house.notes();
        let after = notes.iter().filter(|(server, _, _)| *server == next).map(|(_, _, message)| message);
        let pids: Vec<_> = after
            .filter_map(|message| match message {
                ToServer::LeaderExited { pid, exit } => Some((*pid, false, *exit)),
                ToServer::GroupEmpty { pid, exit } => Some((*pid, true, *exit)),
                _ => None,
            })
            .collect();
        (pids.len() == 3).then_some(pids)
    });
    let listed: Vec<i32> = hello.instances.iter().filter(|one| one.exit.is_none()).map(|one| one.pid).collect();
    assert_eq!(listed, [gone.pid, leader.pid], "listed as if they still ran");
    let killed = Exit::Signal(9);
    assert!(told.contains(&(gone.pid, false, killed)) && told.contains(&(gone.pid, true, killed)), "{told:?}");
    assert!(told.contains(&(leader.pid, false, killed)), "{told:?}");
    kill_9(next);
    let (_, hello, _) = house.hello(2);
    let left: Vec<_> = hello.instances.iter().map(|one| (one.pid, one.exit)).collect();
    assert_eq!(left, [(leader.pid, Some(killed))], "told before, and its group lives");
    assert!(runs(child));
}

fn a_hundred_instances() {
    let house = House::new("first-lines");
    let (server, _, _) = house.hello(0);
    for _ in 0..100 {
        house.ask(&["/bin/sh", "-c", "echo out; echo err >&2; exec sleep 300"]);
    }
    let spawned = |message: &ToServer| matches!(message, ToServer::Spawned { .. });
    until("100 instances", || (house.notes().iter().filter(|note| spawned(&note.2)).count() == 100).then_some(()));
    kill_9(server);
    let (_, hello, fds) = house.hello(1);
    assert_eq!((hello.instances.len(), fds), (100, 2 + 200));
    let lines = until("the first lines", || std::fs::read_to_string(house.dir.path().join("lines")).ok());
    let expected: Vec<String> =
        hello.instances.iter().flat_map(|one| [format!("{} out", one.number), format!("{} err", one.number)]).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
}

fn a_server_never_ready() {
    let mut house = House::new("exit 9");
    assert_eq!(house.exit_code(), 9);
    let mut house = House::new("exit 0");
    assert_eq!(house.exit_code(), 70, "an end nobody asked for is not success");
}

fn a_server_that_decides() {
    let mut house = House::new("exit 78");
    assert_eq!(house.exit_code(), 78);
    let mut said = String::new();
    house.supervisor.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!said.contains("next one"), "no second try: {said}");
}

fn stubborn(house: &House) -> Vec<i32> {
    let instance = house.shell(STUBBORN);
    let mut pids: Vec<i32> = ["deaf.pid", "setsid.pid", "daemon.pid"].map(|name| house.written(name)).into();
    pids.push(instance.pid);
    assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    pids
}

fn a_killed_supervisor() {
    let mut house = House::new("good");
    let (server, _, _) = house.hello(0);
    let mut pids = stubborn(&house);
    pids.push(server);
    kill_9(house.pid());
    println!("  everything gone after {:.1?}", wait_gone(&pids));
    house.supervisor.wait().unwrap();
}

fn both_killed() {
    let mut house = House::new("good");
    let (server, _, _) = house.hello(0);
    let pids = stubborn(&house);
    kill_9(server);
    kill_9(house.pid());
    let left = pids.iter().filter(|pid| runs(**pid)).count();
    assert!(left >= 1, "what ignores SIGTERM outlives both");
    house.again("good");
    let (_, hello, _) = house.hello(0);
    assert!(!pids.iter().any(|pid| runs(*pid)), "gone before anything was bound");
    assert!(hello.boot.ends_with(":2") && hello.instances.is_empty());
}

fn start_during_clean_up() {
    let mut house = House::new("good");
    let (server, _, _) = house.hello(0);
    let mut pids = stubborn(&house);
    pids.push(server);
    kill_9(house.pid());
    // The old server still has the port, the control socket and five seconds to go.
    house.again("good");
    let (next, hello, _) = house.hello(0);
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert!(hello.boot.ends_with(":2"));
    assert_eq!(house.connect(), next);
}

fn nested() {
    let mut house = House::new("good");
    house.hello(0);
    let inner = house.dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let exe = std::env::current_exe().unwrap();
    let line = format!("exec {} supervise {} 127.0.0.1:0 good", exe.display(), inner.display());
    let supervisor = house.shell(&line).pid;
    let notes = || std::fs::read_to_string(inner.join("notes")).unwrap_or_default();
    let server = until("the inner server", || {
        let note: serde_json::Value = serde_json::from_str(notes().lines().next()?).ok()?;
        i32::try_from(note["server"].as_i64()?).ok()
    });
    kill_9(house.pid());
    wait_gone(&[supervisor, server]);
    house.supervisor.wait().unwrap();
}
