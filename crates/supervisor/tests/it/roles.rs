//! The two processes under test. The server does nothing of its own: it writes down what it hears, passes on what
//! the test tells it over the control socket, and answers connections.

use mainstay_supervisor::protocol::{Hello, Listener, ToServer, ToSupervisor};
use mainstay_supervisor::{Channel, Data, Options, channel, explain, listen, orphans, run};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// `supervise DIR ADDRESS SERVER-MODE`: data, control socket and the server's notes are in DIR.
pub fn supervise(arguments: &[String]) -> ExitCode {
    let [dir, address, mode] = arguments else { panic!("supervise DIR ADDRESS MODE, got {arguments:?}") };
    let dir = PathBuf::from(dir);
    let prepared = Data::open(&dir.join("data")).and_then(|data| {
        orphans::end_older_boots(&data);
        let tcp = listen::bind(&Listener::Tcp(address.parse().unwrap()))?;
        let control = listen::bind(&Listener::Control(dir.join("control")))?;
        let exe = std::env::current_exe().unwrap().display().to_string();
        let program = PathBuf::from(&exe);
        let server = vec![exe, "server".into(), dir.display().to_string(), mode.clone()];
        let (inputs, stop_limit) = ("first".into(), Duration::from_secs(20));
        run(Options { server, program, data, listeners: vec![tcp, control], inputs, stop_limit })
    });
    match prepared {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap()),
        Err(error) => {
            eprintln!("{}", explain(&error));
            ExitCode::from(1)
        }
    }
}

/// `server DIR MODE`. MODE: `good`, `deaf` (does not answer Drain), `exit N` (before it is ready).
pub fn server(arguments: &[String]) -> ExitCode {
    let (dir, mode) = (PathBuf::from(&arguments[0]), arguments[1].as_str());
    if let Some(code) = mode.strip_prefix("exit ") {
        return ExitCode::from(code.parse::<u8>().unwrap());
    }
    let (sender, mut receiver) = Channel::from_fd(channel::SERVER_DESCRIPTOR).unwrap().split();
    let mut notes = Notes::open(&dir);
    let (hello, fds) = receiver.recv::<ToServer>().unwrap().expect("a hello");
    let ToServer::Hello(hello) = hello else { panic!("{hello:?}") };
    notes.write(&ToServer::Hello(hello.clone()), fds.len());
    let mut groups: Vec<i32> = hello.instances.iter().map(|instance| instance.pid).collect();
    let mut fds = fds.into_iter();
    for (listener, fd) in hello.listeners.iter().zip(fds.by_ref()) {
        serve(listener, fd, sender.clone());
    }
    // Kept open and unread, but for the one line a test asks of each.
    let mut pipes: Vec<OwnedFd> = fds.collect();
    if mode == "first-lines" && hello.crashes > 0 {
        write_first_lines(&dir, &hello, &pipes);
    }
    sender.send(&ToSupervisor::Ready, &[]).unwrap();
    while let Some((message, fds)) = receiver.recv::<ToServer>().unwrap() {
        notes.write(&message, fds.len());
        pipes.extend(fds);
        match message {
            ToServer::Spawned { instance, .. } => groups.push(instance.pid),
            ToServer::GroupEmpty { pid, .. } => groups.retain(|group| *group != pid),
            ToServer::Drain if mode != "deaf" => {
                sender.send(&ToSupervisor::Drained { code: 0 }, &[]).unwrap();
                return ExitCode::SUCCESS;
            }
            _ => {}
        }
    }
    // End of file: the supervisor is gone.
    orphans::end_everything(&hello.boot, &groups);
    ExitCode::SUCCESS
}

/// One line an event: the server's pid, the number of descriptors, the message.
struct Notes(File);

impl Notes {
    fn open(dir: &Path) -> Notes {
        Notes(OpenOptions::new().create(true).append(true).open(dir.join("notes")).unwrap())
    }

    fn write(&mut self, message: &ToServer, fds: usize) {
        let note = serde_json::json!({ "server": std::process::id(), "fds": fds, "message": message });
        self.0.write_all(format!("{note}\n").as_bytes()).unwrap();
    }
}

fn write_first_lines(dir: &Path, hello: &Hello, pipes: &[OwnedFd]) {
    let mut text = String::new();
    for (instance, pair) in hello.instances.iter().zip(pipes.chunks(2)) {
        for pipe in pair {
            let mut line = String::new();
            BufReader::new(File::from(pipe.try_clone().unwrap())).read_line(&mut line).unwrap();
            text.push_str(&format!("{} {line}", instance.number));
        }
    }
    std::fs::write(dir.join("lines.partial"), text).unwrap();
    std::fs::rename(dir.join("lines.partial"), dir.join("lines")).unwrap();
}

fn serve(listener: &Listener, fd: OwnedFd, sender: channel::Sender) {
    match listener {
        Listener::Tcp(_) | Listener::Api(_) | Listener::Resp(_) | Listener::Console(_) => {
            let listener = TcpListener::from(fd);
            listener.set_nonblocking(false).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let _ = writeln!(stream.unwrap(), "{}", std::process::id());
                }
            });
        }
        Listener::Control(_) => {
            let listener = UnixListener::from(fd);
            listener.set_nonblocking(false).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    for line in BufReader::new(stream.unwrap()).lines() {
                        let message: ToSupervisor = serde_json::from_str(&line.unwrap()).unwrap();
                        sender.send(&message, &[]).unwrap();
                    }
                }
            });
        }
    }
}
