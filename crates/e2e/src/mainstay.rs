//! The real binary in a folder of its own, on a port of its own, ended whatever happens to the test.

use crate::ports::Port;
use crate::processes::{self, MARK, Process};
use crate::wait::{poll, wait_for};
use nix::sys::signal::Signal;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// What is to be started.
#[derive(Debug)]
pub struct Setup {
    folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    port: Port,
    named_by_port: bool,
    mark: String,
    /// What the binary is started by: another user, as root.
    wrapper: Vec<String>,
    /// Its own copy of the binary, which a test may replace.
    own: Option<PathBuf>,
}

/// A running `mainstay`.
#[derive(Debug)]
pub struct Mainstay {
    setup: Setup,
    child: Child,
    round: u32,
}

/// A verb, or a `run`, that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Both outputs, for messages whose place is not the point.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "expected exit 0:\n{}", self.all());
        self.out
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("not JSON ({e}):\n{out}"))
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Setup {
    /// No file, no arguments; the edge's address is named by `PORT`, as the guides name it.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Setup {
        let folder = tempfile::Builder::new().prefix("mainstay-e2e-").tempdir().expect("a folder for mainstay");
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let setup = Setup {
            folder,
            arguments: Vec::new(),
            environment: Vec::new(),
            port: Port::free(),
            named_by_port: true,
            mark,
            wrapper: Vec::new(),
            own: None,
        };
        setup.args(&["run"])
    }

    /// `mainstay run` with this `mainstay.toml`.
    pub fn file(text: &str) -> Setup {
        Setup::new().write("mainstay.toml", text)
    }

    /// `mainstay run -- command`, without a file.
    pub fn command(command: &[&str]) -> Setup {
        let mut words = vec!["run", "--"];
        words.extend_from_slice(command);
        Setup::new().args(&words)
    }

    /// The address is named in the file (or by a flag), not by `PORT`.
    pub fn without_port(mut self) -> Setup {
        self.named_by_port = false;
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Setup {
        self.arguments = arguments.iter().map(|word| (*word).to_string()).collect();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn write(self, name: &str, text: &str) -> Setup {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("create a folder");
        std::fs::write(path, text).expect("write a file");
        self
    }

    /// Started by these words, which must end in exec of the words that follow them. They get the folder as it is.
    pub fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(|word| (*word).to_string()).collect();
        self
    }

    /// Runs a copy of the binary, `bin/mainstay` in its folder, so that it can be replaced.
    pub fn own_binary(mut self) -> Setup {
        let path = self.path().join("bin/mainstay");
        std::fs::create_dir_all(self.path().join("bin")).expect("create a folder");
        std::fs::copy(binary(), &path).expect("copy the binary");
        self.own = Some(path);
        self
    }

    /// What is run.
    pub fn binary(&self) -> PathBuf {
        self.own.clone().unwrap_or_else(binary)
    }

    /// A starter app of `fixtures/node/apps`.
    pub fn node_app(self, name: &str) -> Setup {
        crate::fixtures::node_app(name, self.folder.path());
        self
    }

    /// A starter app of `fixtures/python/apps`.
    pub fn python_app(self, name: &str) -> Setup {
        crate::fixtures::python_app(name, self.folder.path());
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest);
                command
            }
            None => Command::new(self.binary()),
        };
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "HOME", "LANG", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let runtime = self.folder.path().join("runtime");
        let _ = std::fs::create_dir(&runtime);
        command.env("XDG_RUNTIME_DIR", &runtime).env(MARK, &self.mark);
        if self.named_by_port {
            command.env("PORT", self.port.number.to_string());
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs to the end: for what must be refused, and for verbs that need no server.
    #[track_caller]
    pub fn ended(&self) -> Ended {
        let words: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.verb(&words)
    }

    /// Runs one verb in this folder and environment.
    #[track_caller]
    pub fn verb(&self, arguments: &[&str]) -> Ended {
        let round = COUNT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.file_named("verb-out", round), self.file_named("verb-err", round));
        let mut command = self.prepared(arguments);
        command.stdout(create(&out)).stderr(create(&err));
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
        let status = poll(Duration::from_secs(90), || child.try_wait().expect("wait for a verb"));
        let ended = |code| Ended { code, out: read(&out), err: read(&err) };
        match status {
            Some((status, _)) => ended(status.code()),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("`mainstay {}` did not end:\n{}", arguments.join(" "), ended(None).all());
            }
        }
    }

    fn file_named(&self, name: &str, round: u32) -> PathBuf {
        self.folder.path().join(format!(".{name}-{round}"))
    }

    /// Starts, and waits for nothing.
    pub fn spawn(self) -> Mainstay {
        Mainstay::launch(self, 0)
    }

    /// Starts, and waits until the edge accepts.
    #[track_caller]
    pub fn start(self) -> Mainstay {
        let mut mainstay = self.spawn();
        mainstay.accepting();
        mainstay
    }

    /// Starts, and waits until `path` is answered with a status below 500.
    #[track_caller]
    pub fn ready(self, path: &str) -> Mainstay {
        let mainstay = self.start();
        mainstay.answering(path);
        mainstay
    }
}

impl Mainstay {
    fn launch(setup: Setup, round: u32) -> Mainstay {
        let words: Vec<&str> = setup.arguments.iter().map(String::as_str).collect();
        let mut command = setup.prepared(&words);
        command.stdout(create(&setup.file_named("out", round))).stderr(create(&setup.file_named("err", round)));
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
        Mainstay { setup, child, round }
    }

    /// Waits until the edge accepts.
    #[track_caller]
    pub fn accepting(&mut self) {
        let address = self.edge();
        let found = poll(crate::BOUND, || {
            if TcpStream::connect(address).is_ok() {
                return Some(true);
            }
            self.child.try_wait().expect("wait for mainstay").map(|_| false)
        });
        match found {
            Some((true, _)) => {}
            Some((false, _)) => panic!("mainstay ended instead of listening on {address}:\n{}", self.said()),
            None => panic!("mainstay does not listen on {address}:\n{}", self.said()),
        }
    }

    #[track_caller]
    pub fn answering(&self, path: &str) {
        let url = self.url(path);
        if poll(crate::BOUND, || (1..500).contains(&crate::get(&url).status).then_some(())).is_none() {
            panic!("{path} is not answered: {:?}\n{}", crate::get(&url), self.said());
        }
    }

    pub fn edge(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.setup.port()))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.edge())
    }

    pub fn path(&self) -> &Path {
        self.setup.path()
    }

    /// Writes a file beside `mainstay.toml` while it runs.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("write a file");
    }

    /// Puts another file at the path it was started from, as a package manager does: whole, by a rename.
    pub fn replace_binary(&self, with: &Path) {
        let own = self.setup.binary();
        let partial = own.with_extension("partial");
        std::fs::copy(with, &partial).expect("copy a binary");
        std::fs::rename(&partial, own).expect("rename a binary");
    }

    /// Everything it has printed.
    pub fn said(&self) -> String {
        let read_named = |name| read(&self.setup.file_named(name, self.round));
        format!("{}{}", read_named("out"), read_named("err"))
    }

    /// What it says to a person, without the log lines on stdout.
    pub fn screen(&self) -> String {
        read(&self.setup.file_named("err", self.round))
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub fn says(&self, text: &str) {
        if poll(crate::BOUND, || self.said().contains(text).then_some(())).is_none() {
            panic!("it never said {text:?}:\n{}", self.said());
        }
    }

    /// Runs a verb against it.
    #[track_caller]
    pub fn verb(&self, arguments: &[&str]) -> Ended {
        self.setup.verb(arguments)
    }

    /// `mainstay why ID`, waiting until the trail has been written.
    #[track_caller]
    pub fn why(&self, id: &str) -> String {
        assert!(id.starts_with("r_"), "not a request id: {id:?}");
        let mut last = String::new();
        let found = poll(crate::BOUND, || {
            let ended = self.verb(&["why", id]);
            last = ended.all();
            (ended.code == Some(0)).then_some(ended.out)
        });
        match found {
            Some((text, _)) => text,
            None => panic!("`why {id}` knows nothing: {last}\n{}", self.said()),
        }
    }

    pub fn supervisor(&self) -> i32 {
        self.child.id() as i32
    }

    /// The server's process, if it lives.
    pub fn find_server(&self) -> Option<i32> {
        // Not by its mark: only root may read its environment.
        let is_server =
            |p: &Process| p.parent == self.supervisor() && p.arguments.get(1).is_some_and(|w| w == "server");
        processes::all().find(is_server).map(|process| process.pid)
    }

    #[track_caller]
    pub fn server(&self) -> i32 {
        wait_for("the server's process", || self.find_server())
    }

    /// Every process it started, itself included.
    pub fn processes(&self) -> Vec<Process> {
        let mut found = processes::carrying(MARK, &self.setup.mark);
        let own = [Some(self.supervisor()), self.find_server()].into_iter().flatten();
        for pid in own.filter(|pid| !found.iter().any(|process| process.pid == *pid)).collect::<Vec<_>>() {
            found.extend(processes::read(pid));
        }
        found
    }

    /// Every process of every instance: all but supervisor and server.
    pub fn instances(&self) -> Vec<Process> {
        let own = [Some(self.supervisor()), self.find_server()];
        let mine = self.setup.binary();
        let is_verb = |p: &Process| p.arguments.first().is_some_and(|word| Path::new(word) == mine);
        self.processes().into_iter().filter(|p| !own.contains(&Some(p.pid)) && !is_verb(p)).collect()
    }

    pub fn signal(&self, signal: Signal) {
        processes::signal(self.supervisor(), signal);
    }

    /// Waits for the end of the supervisor.
    #[track_caller]
    pub fn end(&mut self) -> (std::process::ExitStatus, Duration) {
        match poll(Duration::from_secs(60), || self.child.try_wait().expect("wait for mainstay")) {
            Some(ended) => ended,
            None => panic!("mainstay does not end:\n{}", self.said()),
        }
    }

    /// Starts again in the same folder, after the end of the first.
    #[track_caller]
    pub fn again(mut self) -> Mainstay {
        let _ = self.child.wait();
        let round = self.round + 1;
        let setup = self.setup.moved();
        Mainstay::launch(setup, round)
    }
}

impl Setup {
    /// The same setup for a new start; the old one keeps an empty folder to drop.
    fn moved(&mut self) -> Setup {
        let empty = tempfile::tempdir().expect("a folder");
        Setup {
            folder: std::mem::replace(&mut self.folder, empty),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            port: std::mem::replace(&mut self.port, Port::free()),
            named_by_port: self.named_by_port,
            own: None,
            mark: std::mem::replace(&mut self.mark, "gone".into()),
            wrapper: self.wrapper.clone(),
        }
    }
}

impl Drop for Mainstay {
    fn drop(&mut self) {
        if std::thread::panicking() && self.setup.mark != "gone" {
            eprintln!("--- what mainstay said ---\n{}", self.said());
        }
        // These two hide their mark from all but root. The supervisor is still ours to wait for, so its pid is its own.
        if matches!(self.child.try_wait(), Ok(None)) {
            let server = self.find_server();
            let _ = self.child.kill();
            server.into_iter().for_each(|pid| processes::signal(pid, Signal::SIGKILL));
        }
        processes::end_all(&self.setup.mark);
        let _ = self.child.wait();
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("MAINSTAY_BIN")
        .map_or_else(|| crate::fixtures::build_folder().join("mainstay"), PathBuf::from);
    assert!(path.exists(), "{} is not built: cargo build --profile ci -p mainstay", path.display());
    path
}

fn create(path: &Path) -> std::fs::File {
    std::fs::File::create(path).expect("create a file for output")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
