//! Upgrades that come to nothing: whatever the new file does, what ran runs on, and the verb says what happened.

use crate::support::{pids, ready_instances};
use crate::upgrade::{servers, started, under_way, upgraded};
use mainstay_e2e::processes::signal;
use mainstay_e2e::strict::{Load, Mix};
use mainstay_e2e::{Connection, Ended, Mainstay, wait_until};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A program in the folder of this Mainstay.
fn program(mainstay: &Mainstay, name: &str, text: &str) -> PathBuf {
    let path = mainstay.path().join(name);
    mainstay.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    path
}

/// As the binary under test has it.
const PROTOCOL: u32 = 2;

/// A server that speaks as far as the protocol goes; `then` is what it does with it, in Python.
fn fake(mainstay: &Mainstay, protocol: u32, then: &str) -> PathBuf {
    let text = format!(
        "#!/usr/bin/env python3
import json, os, socket, struct, sys, time
supervisor = socket.socket(fileno=3)
def say(message):
    text = json.dumps(message).encode()
    supervisor.sendall(struct.pack('<I', len(text)) + text)
def hear():
    size, = struct.unpack('<I', supervisor.recv(4, socket.MSG_WAITALL))
    return json.loads(supervisor.recv(size, socket.MSG_WAITALL))
say({{'Here': {{'protocol': {protocol}, 'version': '9.9.9'}}}})
{then}
"
    );
    program(mainstay, "fake", &text)
}

#[track_caller]
fn refused(mainstay: &Mainstay, arguments: &[&str], expected: &[&str]) -> Ended {
    let ended = mainstay.verb(arguments);
    assert_eq!(ended.code, Some(1), "{}", ended.all());
    for text in expected {
        assert!(ended.err.contains(text), "no {text:?} in:\n{}", ended.all());
    }
    ended
}

/// The server, the instances and the requests are what they were.
#[track_caller]
fn unharmed(mainstay: &Mainstay, server: &[i32], instances: &[i32]) {
    assert_eq!((servers(mainstay).as_slice(), pids(mainstay).as_slice()), (server, instances));
    assert_eq!(under_way(mainstay), None);
}

#[test]
fn r_upgrade_to_what_cannot_start_changes_nothing() {
    let mainstay = started("10s");
    let (server, instances) = (servers(&mainstay), pids(&mainstay));
    let load = Load::http1(mainstay.edge(), 20, Mix::Both);
    load.goes_on(20);

    program(&mainstay, "exits", "#!/bin/sh\necho first words >&2\necho 'cannot do this' >&2\nexit 1\n");
    let words = ["ended (exit status 1) before it was ready", "nothing was changed", "first words\n", "cannot do this"];
    refused(&mainstay, &["upgrade", "--binary", "exits"], &words);
    unharmed(&mainstay, &server, &instances);

    let missing = ["No such file", "nothing was changed", "fix: put the new mainstay there"];
    refused(&mainstay, &["upgrade", "--binary", "/no/such/file"], &missing);
    mainstay.write("text", "no program");
    refused(&mainstay, &["upgrade", "--binary", "text"], &["it is not a program"]);
    mainstay.write("garbage", "\u{7f}ELF no program");
    program(&mainstay, "garbage", "\u{7f}ELF no program");
    refused(&mainstay, &["upgrade", "--binary", "garbage"], &["nothing was changed"]);

    for protocol in [0, 99] {
        fake(&mainstay, protocol, "time.sleep(600)");
        let other = format!("speaks protocol {protocol}");
        refused(&mainstay, &["upgrade", "--binary", "fake"], &["mainstay 9.9.9", &other, "fix: mainstay stop"]);
        unharmed(&mainstay, &server, &instances);
    }
    fake(&mainstay, PROTOCOL, "hear()\nsys.exit('these settings are not for me')");
    refused(&mainstay, &["upgrade", "--binary", "fake"], &["exit status 1", "these settings are not for me"]);
    unharmed(&mainstay, &server, &instances);

    load.goes_on(20);
    load.finish().all_answered();
    upgraded(&mainstay, false);
}

#[test]
fn r_upgrade_to_what_hangs_is_given_up_and_a_second_one_is_refused_meanwhile() {
    let mainstay = started("10s");
    let (server, instances) = (servers(&mainstay), pids(&mainstay));
    let load = Load::http1(mainstay.edge(), 20, Mix::Both);
    program(&mainstay, "hangs", "#!/bin/sh\necho still here >&2\nsleep 600\n");
    std::thread::scope(|scope| {
        let hanging =
            scope.spawn(|| refused(&mainstay, &["upgrade", "--binary", "hangs"], &["within 10 s", "still here"]));
        wait_until("the first to be under way", || {
            under_way(&mainstay).is_some_and(|text| text.contains("being started"))
        });
        refused(&mainstay, &["upgrade"], &["an upgrade is under way"]);
        refused(&mainstay, &["reload"], &["an upgrade is under way"]);
        hanging.join().expect("the first verb");
    });
    unharmed(&mainstay, &server, &instances);
    let left: Vec<_> = mainstay.processes().into_iter().filter(|p| p.arguments.contains(&"600".to_owned())).collect();
    assert!(left.is_empty(), "it left something behind: {left:?}");
    load.goes_on(20);
    load.finish().all_answered();
}

#[test]
fn r_upgrade_an_instance_that_dies_while_the_new_file_is_on_trial_comes_back() {
    let mainstay = started("10s");
    let (server, instances) = (servers(&mainstay), pids(&mainstay));
    fake(&mainstay, PROTOCOL, "hear()\nopen('greeted', 'w').close()\ntime.sleep(600)");
    let asked = ["upgrade", "--binary", "fake"];
    std::thread::scope(|scope| {
        let trial = scope.spawn(|| refused(&mainstay, &asked, &["was not ready within 20 s", "it printed nothing"]));
        wait_until("the trial to be under way", || mainstay.path().join("greeted").exists());
        signal(instances[0], Signal::SIGKILL);
        wait_until("the end to be noticed", || ready_count(&mainstay) == 1);
        mainstay.answering("/");
        trial.join().expect("the verb");
    });
    ready_instances(&mainstay, 2);
    assert_eq!(servers(&mainstay), server);
    assert!(pids(&mainstay).contains(&instances[1]), "the other one was not touched");
    assert_eq!(mainstay.instances().len(), 2, "started once");
}

fn ready_count(mainstay: &Mainstay) -> usize {
    crate::support::instances(mainstay).iter().filter(|instance| instance["state"] == "ready").count()
}

#[test]
fn r_upgrade_to_what_crashes_once_it_is_ready_is_taken_back() {
    let mainstay = started("5s");
    let (server, instances) = (servers(&mainstay), pids(&mainstay));
    let load = Load::http1(mainstay.edge(), 20, Mix::Both);
    load.goes_on(20);
    fake(&mainstay, PROTOCOL, "hear()\nsay('Ready')\nsys.stderr.write('a fault of mine\\n')\nsys.exit(3)");
    let words = ["ended (exit status 3) after it had taken over", "a server of the old file", "a fault of mine"];
    // Keeps the old server until the new one's end is noticed, however slow the machine.
    let idle = Connection::open(mainstay.edge()).expect("connect");
    refused(&mainstay, &["upgrade", "--binary", "fake"], &words);
    drop(idle);
    wait_until("one server again", || servers(&mainstay).len() == 1 && servers(&mainstay) != server);
    load.goes_on(20);
    load.finish().all_answered();
    ready_instances(&mainstay, 2);
    assert_eq!(pids(&mainstay), instances);
    mainstay.verb(&["reload"]).ok();
    upgraded(&mainstay, false);
    assert_eq!(pids(&mainstay), instances);
}

#[test]
fn r_upgrade_whose_server_is_killed_right_after_it_took_over_is_taken_back() {
    let mainstay = started("5s");
    let (server, instances) = (servers(&mainstay), pids(&mainstay));
    // Keeps the old server for as long as its drain lasts.
    let idle = Connection::open(mainstay.edge()).expect("connect");
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    std::thread::scope(|scope| {
        let verb = scope.spawn(|| refused(&mainstay, &["upgrade"], &["killed by SIGKILL", "after it had taken over"]));
        wait_until("the new server to serve", || under_way(&mainstay).is_some_and(|text| text.contains("taken over")));
        let new = servers(&mainstay).into_iter().find(|pid| !server.contains(pid)).expect("the new server");
        signal(new, Signal::SIGKILL);
        verb.join().expect("the verb");
    });
    drop(idle);
    wait_until("one server again", || servers(&mainstay).len() == 1 && servers(&mainstay) != server);
    mainstay.answering("/");
    ready_instances(&mainstay, 2);
    assert_eq!(pids(&mainstay), instances);
    mainstay.verb(&["reload"]).ok();
    upgraded(&mainstay, true);
    assert_eq!(pids(&mainstay), instances);
}
