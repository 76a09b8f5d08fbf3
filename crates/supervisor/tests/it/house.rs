//! A supervisor under test: its folder, its process, and the notes its servers make.

use mainstay_supervisor::protocol::{Hello, Instance, Spawn, ToServer, ToSupervisor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition; the only wait there is.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A zombie is gone: it only waits for whoever adopted it.
pub fn runs(pid: i32) -> bool {
    mainstay_supervisor::proc::process(pid).is_some_and(|process| !process.zombie)
}

pub fn wait_gone(pids: &[i32]) -> Duration {
    let began = Instant::now();
    until(&format!("{pids:?} to be gone"), || (!pids.iter().any(|pid| runs(*pid))).then_some(()));
    began.elapsed()
}

pub struct House {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub supervisor: Child,
    tickets: Cell<u64>,
    /// Notes before this line belong to an earlier supervisor.
    from: usize,
}

impl House {
    pub fn new(mode: &str) -> House {
        let dir = tempfile::tempdir().unwrap();
        // Free a moment ago; the supervisor's own message would tell if somebody was quicker.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let supervisor = supervise(dir.path(), address, mode).spawn().unwrap();
        House { dir, address, supervisor, tickets: Cell::new(1), from: 0 }
    }

    /// A new supervisor for the same folder, after the end of the first.
    pub fn again(&mut self, mode: &str) {
        self.supervisor.wait().unwrap();
        self.from = self.all_notes().len();
        self.supervisor = supervise(self.dir.path(), self.address, mode).spawn().unwrap();
    }

    /// As `again`, started by a shell that has `MAINSTAY_BOOT` in its environment and adds 1 to the exit code.
    pub fn again_under_shell(&mut self, mode: &str, boot: &str) {
        self.supervisor.wait().unwrap();
        self.from = self.all_notes().len();
        let direct = supervise(self.dir.path(), self.address, mode);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "\"$@\"; exit $(($? + 1))", "sh"]).arg(direct.get_program()).args(direct.get_args());
        shell.env(mainstay_supervisor::BOOT_VARIABLE, boot).stdin(Stdio::null()).stderr(Stdio::piped());
        self.supervisor = shell.spawn().unwrap();
    }

    pub fn pid(&self) -> i32 {
        self.supervisor.id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn exit_code(&mut self) -> i32 {
        until("the supervisor to end", || self.supervisor.try_wait().unwrap()).code().unwrap()
    }

    fn all_notes(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("notes")).unwrap_or_default();
        // A server that was killed while it wrote leaves half a line.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Server, number of descriptors, message.
    pub fn notes(&self) -> Vec<(i32, usize, ToServer)> {
        let mut notes = self.all_notes();
        let notes = notes.drain(self.from.min(notes.len())..);
        let note = |note: serde_json::Value| {
            let message = serde_json::from_value(note["message"].clone()).unwrap();
            (note["server"].as_i64().unwrap() as i32, note["fds"].as_u64().unwrap() as usize, message)
        };
        notes.map(note).collect()
    }

    pub fn heard<T>(&self, what: &str, find: impl Fn(&ToServer) -> Option<T>) -> T {
        until(what, || self.notes().iter().find_map(|(_, _, message)| find(message)))
    }

    /// The n-th server of this supervisor (0 is the first), its hello, and how many descriptors came with it.
    pub fn hello(&self, crashes: u32) -> (i32, Hello, usize) {
        until(&format!("server {crashes}"), || {
            self.notes().into_iter().find_map(|(server, fds, message)| match message {
                ToServer::Hello(hello) if hello.crashes == crashes => Some((server, *hello, fds)),
                _ => None,
            })
        })
    }

    /// Has the server send a message, as the fleet would.
    pub fn say(&self, message: &ToSupervisor) {
        let path = self.dir.path().join("control");
        let mut control = until("the control socket", || UnixStream::connect(&path).ok());
        control.write_all(format!("{}\n", serde_json::to_string(message).unwrap()).as_bytes()).unwrap();
    }

    pub fn ask(&self, argv: &[&str]) -> u64 {
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        let env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
        let spec = Spawn {
            app: "main".into(),
            number: u32::try_from(ticket).unwrap(),
            port: None,
            argv: argv.iter().map(|part| (*part).to_owned()).collect(),
            dir: Some(self.dir.path().to_owned()),
            user: None,
            env,
            tag: format!("tag {ticket}"),
        };
        self.say(&ToSupervisor::Spawn { ticket, spec: Box::new(spec) });
        ticket
    }

    /// Starts a shell line as an instance.
    pub fn shell(&self, line: &str) -> Instance {
        let asked = self.ask(&["/bin/sh", "-c", line]);
        self.heard(&format!("instance {line:?}"), |message| match message {
            ToServer::Spawned { ticket, instance } if *ticket == asked => Some(instance.clone()),
            _ => None,
        })
    }

    /// A pid that an instance has written to a file of its directory.
    pub fn written(&self, name: &str) -> i32 {
        let path = self.dir.path().join(name);
        until(name, || std::fs::read_to_string(&path).ok()?.trim().parse().ok())
    }

    /// What reads `name` waits until the test writes to it.
    pub fn gate(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    /// Which server answers a connection.
    pub fn connect(&self) -> i32 {
        let mut text = String::new();
        TcpStream::connect(self.address).expect("never refused").read_to_string(&mut text).unwrap();
        text.trim().parse().unwrap()
    }
}

pub fn supervise(dir: &Path, address: SocketAddr, mode: &str) -> Command {
    let exe: PathBuf = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.arg("supervise").arg(dir).arg(address.to_string()).arg(mode);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Drop for House {
    fn drop(&mut self) {
        // Twice: at once, and everything with it. A supervisor that has ended already is fine.
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            let _ = self.supervisor.wait();
        }
    }
}

/// An instance that ignores SIGTERM, one that left its session, and one that lost its parents: five processes.
pub const STUBBORN: &str = "
    (trap '' TERM; echo $(exec sh -c 'echo $PPID') > deaf.pid; while :; do sleep 300; done) &
    setsid sh -c 'echo $$ > setsid.pid; exec sleep 300' &
    setsid sh -c 'trap \"\" TERM
        (echo $(exec sh -c \"echo \\$PPID\") > daemon.pid; while :; do sleep 300; done) & exit' &
    wait";
