//! What stops a start, and what a start must not disturb.

use crate::Test;
use crate::house::{House, supervise};
use mainstay_supervisor::protocol::{Listener, ToServer, ToSupervisor};
use std::io::Read as _;
use std::net::TcpListener;

pub const TESTS: &[Test] = &[
    ("starts::a_second_start_in_the_same_folder_is_refused", second_start),
    ("starts::a_port_in_use_names_its_holder", port_in_use),
    ("starts::listeners_come_and_go", listeners_come_and_go),
    ("starts::no_descriptor_of_ours_reaches_an_instance", descriptors),
    ("starts::an_unchanged_folder_keeps_its_id", same_id),
    ("starts::an_ancestor_with_an_older_boot_is_spared", ancestor),
];

fn refused(dir: &std::path::Path, address: std::net::SocketAddr) -> String {
    let mut child = supervise(dir, address, "good").spawn().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
    text
}

fn second_start() {
    let house = House::new("good");
    let instance = house.shell("exec sleep 300");
    let text = refused(house.dir.path(), "127.0.0.1:0".parse().unwrap());
    assert!(text.contains(&format!("(pid {})", house.pid())) && text.contains("mainstay stop"), "{text}");
    assert!(crate::house::runs(instance.pid), "the first one's instances are none of the second's");
    house.connect();
}

fn port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = refused(dir.path(), held.local_addr().unwrap());
    let me = format!("(pid {})", std::process::id());
    assert!(text.contains(&me) && text.contains("--listen :"), "{text}");

    let house = House::new("good");
    house.hello(0);
    let text = refused(dir.path(), house.address);
    assert!(text.contains(&format!("another mainstay (pid {})", house.pid())), "{text}");

    let program = "
import os, signal, socket
s = socket.create_server(('127.0.0.1', 0))
open('port.partial', 'w').write(str(s.getsockname()[1]))
os.rename('port.partial', 'port')
signal.pause()
";
    std::fs::write(house.dir.path().join("listen.py"), program).unwrap();
    let instance = house.shell("exec python3 listen.py");
    let port = house.written("port");
    let text = refused(dir.path(), format!("0.0.0.0:{port}").parse().unwrap());
    assert!(text.contains(&format!("(pid {}), an app that a mainstay runs", instance.pid)), "{text}");
}

fn listeners_come_and_go() {
    let house = House::new("good");
    let (_, hello, fds) = house.hello(0);
    assert_eq!((hello.listeners.len(), fds), (2, 2));
    house.say(&ToSupervisor::Listen { ticket: 1, listener: Listener::Tcp("127.0.0.1:0".parse().unwrap()) });
    let listener = house.heard("the listener", |message| match message {
        ToServer::Listening { ticket: 1, listener } => Some(listener.clone()),
        _ => None,
    });
    assert!(matches!(listener, Listener::Tcp(address) if address.port() != 0));
    house.say(&ToSupervisor::Unlisten { listener });
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener::Tcp(taken.local_addr().unwrap());
    house.say(&ToSupervisor::Listen { ticket: 2, listener });
    let error = house.heard("the refusal", |message| match message {
        ToServer::ListenFailed { ticket: 2, error } => Some(error.clone()),
        _ => None,
    });
    assert!(error.contains("is held by"), "{error}");
    let server = house.hello(0).0;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(house.hello(1).1.listeners.len(), 2, "what was given up is not handed on");
}

fn descriptors() {
    let house = House::new("good");
    let instance = house.shell("exec sleep 300");
    // The loader has a library open for a moment behind exec; a descriptor of ours would stay.
    crate::house::until("standard input, output and error, and nothing else", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", instance.pid)).ok()?;
        (name == "sleep\n" && mainstay_supervisor::proc::descriptors(instance.pid) == Some(3)).then_some(())
    });
}

fn same_id() {
    let mut house = House::new("good");
    let first = house.hello(0).1.boot;
    house.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(house.exit_code(), 0);
    house.again("good");
    let second = house.hello(0).1.boot;
    assert_eq!(first.strip_suffix(":1"), second.strip_suffix(":2"));
}

fn ancestor() {
    let mut house = House::new("good");
    let boot = house.hello(0).1.boot;
    house.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(house.exit_code(), 0);
    // As from a terminal within the app: the shell carries an older boot of the very folder.
    house.again_under_shell("good", &boot);
    assert_ne!(house.hello(0).1.boot, boot);
    house.say(&ToSupervisor::Drained { code: 3 });
    assert_eq!(house.exit_code(), 3 + 1, "the shell lived to say so");
}
