//! Process groups: their pipes, their signals, and when they are empty.

use crate::Test;
use crate::house::{House, runs, until};
use mainstay_supervisor::proc::{self, Processes};
use mainstay_supervisor::protocol::{Exit, ToServer, ToSupervisor};

pub const TESTS: &[Test] = &[
    ("groups::a_group_is_empty_later_than_its_leader", later_than_its_leader),
    ("groups::a_signal_reaches_the_whole_group_and_no_other", signals),
    ("groups::standard_input_stays_open", standard_input),
    ("groups::a_member_nobody_waits_for_does_not_keep_a_group", unwaited),
    ("groups::listeners_and_memory_of_a_group_are_found", facts),
    ("groups::a_missing_command_is_named", missing_command),
];

fn leader_exited(house: &House, group: i32) -> Exit {
    house.heard("the leader's end", |message| match message {
        ToServer::LeaderExited { pid, exit } if *pid == group => Some(*exit),
        _ => None,
    })
}

fn group_empty(house: &House, group: i32) -> Exit {
    house.heard("the group's end", |message| match message {
        ToServer::GroupEmpty { pid, exit } if *pid == group => Some(*exit),
        _ => None,
    })
}

fn later_than_its_leader() {
    let house = House::new("good");
    // As npm does: it ends, node goes on. The member ends when it is told to, not by time.
    let go = house.gate("go");
    let instance = house.shell("(read line < go) & exit 3");
    assert_eq!(leader_exited(&house, instance.pid), Exit::Code(3));
    let empty = |note: &(i32, usize, ToServer)| matches!(note.2, ToServer::GroupEmpty { .. });
    assert!(!house.notes().iter().any(empty));
    std::fs::write(go, "").unwrap();
    assert_eq!(group_empty(&house, instance.pid), Exit::Code(3));
    assert_eq!(house.notes().iter().filter(|note| empty(note)).count(), 1);
}

fn signals() {
    let house = House::new("good");
    let one = house.shell("sleep 300 & echo $! > child.pid; wait");
    let other = house.shell("exec sleep 300");
    let child = house.written("child.pid");
    // Our own group and pid 1 are none of the server's business.
    house.say(&ToSupervisor::Kill { pid: 1, signal: 9 });
    house.say(&ToSupervisor::Kill { pid: house.pid(), signal: 9 });
    house.say(&ToSupervisor::Kill { pid: one.pid, signal: 34 });
    assert_eq!(group_empty(&house, one.pid), Exit::Signal(34), "a real-time signal is one too");
    assert!(!runs(child) && runs(other.pid) && runs(house.pid()));
}

fn standard_input() {
    let house = House::new("good");
    let instance = house.shell("echo $$ > up; cat; echo ended > eof");
    house.written("up");
    // Something else goes its whole way meanwhile.
    let other = house.shell("exit 0");
    group_empty(&house, other.pid);
    assert!(runs(instance.pid) && !house.dir.path().join("eof").exists());
}

fn unwaited() {
    let house = House::new("good");
    let go = house.gate("go");
    // The parent leaves the group by setsid and never waits for its child, which stays in the group as a zombie.
    let program = "
import os, signal
if os.fork(): os._exit(0)
child = os.fork()
if child == 0:
    open('go').read()
    os._exit(0)
os.setsid()
open('parent.partial', 'w').write(str(os.getpid()))
os.rename('parent.partial', 'parent.pid')
signal.pause()
";
    std::fs::write(house.dir.path().join("program.py"), program).unwrap();
    let instance = house.shell("exec python3 program.py");
    let parent = house.written("parent.pid");
    leader_exited(&house, instance.pid);
    std::fs::write(go, "").unwrap();
    group_empty(&house, instance.pid);
    assert!(runs(parent));
}

fn facts() {
    let house = House::new("good");
    let program = "
import os, signal, socket
s = socket.create_server(('127.0.0.1', 0))
if os.fork() == 0: os.setsid()
open('port.partial', 'w').write(str(s.getsockname()[1]))
os.rename('port.partial', 'port')
signal.pause()
";
    std::fs::write(house.dir.path().join("listen.py"), program).unwrap();
    let instance = house.shell("python3 listen.py; true");
    let port = house.written("port");
    let found = until("the listener", || Some(proc::listeners_of_group(instance.pid)).filter(|all| !all.is_empty()));
    assert_eq!(found.len(), 1, "one socket, however many hold it: {found:?}");
    assert_eq!(found[0].0.to_string(), format!("127.0.0.1:{port}"));
    assert_ne!(found[0].1, instance.pid, "the process that listens, not the shell");
    let processes = until("three processes", || {
        Some(Processes::read()).filter(|processes| processes.family(instance.pid).len() == 3)
    });
    assert!(processes.resident_bytes(instance.pid) > 1 << 20);
    assert!(processes.descriptors(instance.pid) >= 9);
}

fn missing_command() {
    let house = House::new("good");
    let asked = house.ask(&["npmm", "start"]);
    let error = house.heard("the refusal", |message| match message {
        ToServer::SpawnFailed { ticket, error } if *ticket == asked => Some(error.clone()),
        _ => None,
    });
    assert!(error.starts_with("command not found: npmm; fix: "), "{error}");
}
