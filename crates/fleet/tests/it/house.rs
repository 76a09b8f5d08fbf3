//! A house for one test: a service, the supervisor's part played here, and small python apps.

use mainstay_edge::Members;
use mainstay_fleet::{
    App, Event, FromSupervisor, Handle, InstanceStatus, Options, Output, Outside, Port, Restart, Service, State,
};
use mainstay_supervisor::protocol::{Exit, Instance, Spawn, ToServer, ToSupervisor};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Answers 200 on `/health`, ends on SIGTERM. Its first argument changes that.
const APP: &str = r"
import os, sys, signal, time
from http.server import HTTPServer, BaseHTTPRequestHandler
mode = sys.argv[1] if len(sys.argv) > 1 else ''
if mode == 'stubborn': signal.signal(signal.SIGTERM, signal.SIG_IGN)
else: signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
if mode == 'broken': print('Error: it is broken', file=sys.stderr, flush=True); sys.exit(3)
if mode.startswith('unless:') and os.path.exists(mode[7:]): print('Error: not twice', flush=True); sys.exit(4)
if mode == 'worker': time.sleep(600)
if mode == 'fat': ballast = bytearray(120 * 1024 * 1024)
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == '/health' else 404)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *a): pass
HTTPServer(('127.0.0.1', int(mode[5:] if mode.startswith('port:') else os.environ['PORT'])), H).serve_forever()
";

pub fn app(name: &str, mode: &str, instances: u32) -> App {
    let path = std::env::var("PATH").unwrap_or_default();
    App {
        name: name.to_owned(),
        line: format!("python3 app.py {mode}"),
        argv: ["python3", "-c", APP, mode].map(str::to_owned).to_vec(),
        instances,
        port: if mode == "worker" { Port::None } else { Port::Own },
        dir: None,
        user: None,
        env: vec![("PATH".to_owned(), path)],
        memory_limit: None,
        restart: Restart::Always,
        exposed: false,
        closed: false,
        health: None,
    }
}

pub fn options(apps: &[App]) -> Options {
    Options { apps: apps.iter().cloned().map(Rc::new).collect(), drain: Some(Duration::from_secs(10)) }
}

type Tails = Arc<Mutex<HashMap<(String, u32), Vec<String>>>>;

/// The supervisor's part: starts groups, signals them, tells of their ends. Lives on when the service is replaced.
#[derive(Clone)]
pub struct Supervisor {
    running: Arc<Mutex<HashMap<i32, Instance>>>,
    /// To the service of the moment.
    to_service: Arc<Mutex<Option<mpsc::Sender<FromSupervisor>>>>,
    pub signals: Arc<Mutex<Vec<(i32, i32)>>>,
}

impl Supervisor {
    pub fn new() -> Supervisor {
        Supervisor { running: Arc::default(), to_service: Arc::default(), signals: Arc::default() }
    }

    pub fn instances(&self) -> Vec<Instance> {
        self.running.lock().expect("lock").values().cloned().collect()
    }

    fn obey(&self, message: ToSupervisor) {
        match message {
            ToSupervisor::Spawn { ticket, spec } => self.spawn(ticket, &spec),
            ToSupervisor::Kill { pid, signal } => {
                self.signals.lock().expect("lock").push((pid, signal));
                let _ = killpg(Pid::from_raw(pid), Signal::try_from(signal).expect("a signal"));
            }
            other => panic!("not the fleet's: {other:?}"),
        }
    }

    fn spawn(&self, ticket: u64, spec: &Spawn) {
        let mut command = Command::new(&spec.argv[0]);
        command.args(&spec.argv[1..]).process_group(0).env_clear().envs(spec.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return self.tell(ToServer::SpawnFailed { ticket, error: error.to_string() }, Vec::new()),
        };
        let pid = i32::try_from(child.id()).expect("a pid");
        let pipes = vec![child.stdout.take().expect("stdout").into(), child.stderr.take().expect("stderr").into()];
        let instance = Instance {
            pid,
            app: spec.app.clone(),
            number: spec.number,
            port: spec.port,
            started_unix_us: mainstay_runtime::Clock::unix_micros(),
            tag: spec.tag.clone(),
            exit: None,
        };
        self.running.lock().expect("lock").insert(pid, instance.clone());
        self.tell(ToServer::Spawned { ticket, instance }, pipes);
        let me = self.clone();
        thread::spawn(move || {
            let status = child.wait().expect("its end");
            let exit = status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code);
            me.tell(ToServer::LeaderExited { pid, exit }, Vec::new());
            while killpg(Pid::from_raw(pid), None) != Err(Errno::ESRCH) {
                thread::yield_now();
            }
            me.running.lock().expect("lock").remove(&pid);
            me.tell(ToServer::GroupEmpty { pid, exit }, Vec::new());
        });
    }

    /// A message that finds no service is lost, as when the server is dead.
    fn tell(&self, message: ToServer, descriptors: Vec<OwnedFd>) {
        if let Some(service) = &*self.to_service.lock().expect("lock") {
            let _ = service.try_send((message, descriptors));
        }
    }
}

/// What a test sees.
pub struct House {
    pub handle: Handle,
    pub members: Members,
    pub events: Rc<RefCell<Vec<Event>>>,
    pub supervisor: Supervisor,
}

impl House {
    pub fn instances(&self) -> Vec<InstanceStatus> {
        self.handle.status().into_iter().flat_map(|app| app.instances).collect()
    }

    /// Process ids of those that are ready, by label.
    pub fn ready(&self) -> Vec<(String, i32)> {
        let ready = self.instances().into_iter().filter(|instance| instance.state == State::Ready);
        ready.filter_map(|instance| Some((instance.label, instance.pid?))).collect()
    }

    pub fn pid(&self, label: &str) -> i32 {
        let found = self.ready().into_iter().find(|(known, _)| known == label);
        found.unwrap_or_else(|| panic!("{label} is not ready")).1
    }

    pub fn said(&self) -> String {
        self.events.borrow().iter().map(|event| format!("{event}\n")).collect()
    }

    /// How many get requests.
    pub fn serving(&self, app: &str) -> usize {
        self.members.group(app).list().upstreams.iter().filter(|upstream| !upstream.is_draining()).count()
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&House) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let (status, said) = (self.handle.status(), self.said());
            assert!(start.elapsed() < Duration::from_secs(30), "never {what}\n{status:#?}\n{said}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_ready(&self, count: usize) {
        self.until(&format!("{count} ready"), |house| house.ready().len() == count).await;
    }
}

/// Ends what is left, whatever became of the test.
struct Cleaner(Supervisor);

impl Drop for Cleaner {
    fn drop(&mut self) {
        for instance in self.0.instances() {
            let _ = killpg(Pid::from_raw(instance.pid), Signal::SIGKILL);
        }
    }
}

fn listen(tails: &Tails, output: Output) {
    let key = (output.app, output.number);
    for pipe in [output.stdout, output.stderr] {
        let (tails, key) = (tails.clone(), key.clone());
        thread::spawn(move || {
            for line in BufReader::new(File::from(pipe)).lines().map_while(Result::ok) {
                tails.lock().expect("lock").entry(key.clone()).or_default().push(line);
            }
        });
    }
}

/// Runs a test with a service that was given these options.
pub fn with(options: Options, test: impl AsyncFnOnce(&House)) {
    let supervisor = Supervisor::new();
    let _cleaner = Cleaner(supervisor.clone());
    again(options, &supervisor, test);
}

/// A service takes over what the supervisor still runs; it ends with the test, its instances do not.
pub fn again(options: Options, supervisor: &Supervisor, test: impl AsyncFnOnce(&House)) {
    let (runtime, local) = mainstay_runtime::current_thread().expect("a runtime");
    local.block_on(&runtime, async {
        let members = Members::new(Default::default());
        let events: Rc<RefCell<Vec<Event>>> = Rc::default();
        let tails = Tails::default();
        let (to_service, from_supervisor) = mpsc::channel(256);
        *supervisor.to_service.lock().expect("lock") = Some(to_service);
        let (link, said, heard, tail) = (supervisor.clone(), events.clone(), tails.clone(), tails);
        let outside = Outside {
            members: members.clone(),
            link: Box::new(move |message| link.obey(message)),
            say: Box::new(move |event| said.borrow_mut().push(event)),
            output: Box::new(move |output| listen(&heard, output)),
            tail: Box::new(move |app, number| {
                tail.lock().expect("lock").get(&(app.to_owned(), number)).cloned().unwrap_or_default()
            }),
        };
        let (service, handle) = Service::new(options, outside);
        service.adopt(supervisor.instances().into_iter().map(|instance| (instance, None)).collect());
        tokio::task::spawn_local(service.run(from_supervisor));
        test(&House { handle, members, events, supervisor: supervisor.clone() }).await;
    });
    *supervisor.to_service.lock().expect("lock") = None;
}

/// The groups of a house that outlives its service.
pub fn lasting(test: impl FnOnce(&Supervisor)) {
    let supervisor = Supervisor::new();
    let _cleaner = Cleaner(supervisor.clone());
    test(&supervisor);
}

pub fn kill(pid: i32, signal: Signal) {
    killpg(Pid::from_raw(pid), signal).expect("the group exists");
}

pub fn is_alive(pid: i32) -> bool {
    killpg(Pid::from_raw(pid), None).is_ok()
}
