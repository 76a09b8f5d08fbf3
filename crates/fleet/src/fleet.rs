//! The state of the fleet, and the mechanism around the decisions: events go to an instance, its effects are done.
//!
//! Must never: wait. Everything here returns at once; what takes time is a task that reports.

use crate::crew::{Crew, Given, Member, Process};
use crate::environment::for_child;
use crate::event::{Event as Said, Trouble, Who};
use crate::instance::{Effect, Event, Instance, Phase, Serial, Serials};
use crate::options::{App, Options};
use crate::plan::Key;
use crate::ready::{self, Problem, Ready};
use crate::rollout::Rollout;
use mainstay_edge::Members;
use mainstay_runtime::Millis;
use mainstay_supervisor::proc::Processes;
use mainstay_supervisor::protocol::{Spawn, ToSupervisor};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often a draining instance is asked whether anything is in flight.
const QUIET_POLL: Duration = Duration::from_millis(25);

/// The fleet's surroundings. The callbacks are called in the middle of things: they must not call the `Handle`.
pub struct Outside {
    pub members: Members,
    /// To the supervisor; must not block.
    pub link: Box<dyn Fn(ToSupervisor)>,
    pub say: Box<dyn Fn(Said)>,
    /// The output of each process, as soon as it runs.
    pub output: Box<dyn Fn(Output)>,
    /// The last lines an instance wrote.
    pub tail: Tail,
}

/// From an app and a number to lines.
pub type Tail = Box<dyn Fn(&str, u32) -> Vec<String>>;

/// Where to read what a process writes.
#[derive(Debug)]
pub struct Output {
    pub app: String,
    pub number: u32,
    pub pid: i32,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What tasks of ours report.
#[derive(Debug)]
pub enum Inner {
    Ready(Serial, Ready),
    Problem(Serial, Problem),
    Measured(Box<Processes>),
}

pub struct Fleet {
    pub options: Options,
    pub crews: BTreeMap<String, Crew>,
    pub outside: Outside,
    pub inner: mpsc::Sender<Inner>,
    /// How replacements ended; looked at by `settle`.
    pub outcomes: Vec<(Key, Result<(), Trouble>)>,
    pub rollout: Option<Rollout>,
    pub queue: VecDeque<Rollout>,
    pub stopping: Option<crate::service::Stop>,
    pub measured_at: Millis,
    pub measuring: bool,
    pub serials: Serials,
    pub places: HashMap<Serial, Key>,
    pub pids: HashMap<i32, Serial>,
    /// Another server shares the instances: changes wait until it is gone.
    pub shared: bool,
    /// It is the other one that decides: here nothing is started, ended or said any more.
    pub retired: bool,
    /// Groups nobody asks for, and when each is killed.
    pub strays: BTreeMap<i32, Option<Millis>>,
    epoch: Instant,
}

impl Fleet {
    pub fn new(options: Options, outside: Outside, inner: mpsc::Sender<Inner>) -> Fleet {
        let mut fleet = Fleet {
            options: Options::default(),
            crews: BTreeMap::new(),
            outside,
            inner,
            outcomes: Vec::new(),
            rollout: None,
            queue: VecDeque::new(),
            stopping: None,
            measured_at: Millis(0),
            measuring: false,
            serials: Serials::default(),
            places: HashMap::new(),
            pids: HashMap::new(),
            shared: false,
            retired: false,
            strays: BTreeMap::new(),
            epoch: Instant::now(),
        };
        for app in &options.apps {
            for number in 1..=app.instances {
                fleet.add(&(app.name.clone(), number), app, options.drain());
            }
        }
        fleet.options = options;
        fleet
    }

    pub fn now(&self) -> Millis {
        Millis(0).plus(self.epoch.elapsed())
    }

    pub fn instant(&self, at: Millis) -> Instant {
        self.epoch + Duration::from_millis(at.0)
    }

    pub fn member(&self, key: &Key) -> Option<&Member> {
        self.crews.get(&key.0)?.members.get(&key.1)
    }

    pub fn member_mut(&mut self, key: &Key) -> Option<&mut Member> {
        self.crews.get_mut(&key.0)?.members.get_mut(&key.1)
    }

    /// A number that is to exist from now on, following these settings. Nothing is started by this alone.
    pub fn add(&mut self, key: &Key, app: &Rc<App>, drain: Duration) {
        let crew = self.crews.entry(key.0.clone()).or_insert_with(|| Crew::new(app.clone()));
        let rules = app.rules(drain, crew.elsewhere);
        let member = crew.members.entry(key.1).or_insert_with(|| Member::new(app.clone(), Instance::new(rules)));
        member.app = app.clone();
        member.machine.set_rules(rules);
    }

    pub fn process_mut(&mut self, key: &Key, serial: Serial) -> Option<&mut Process> {
        self.member_mut(key)?.lives.get_mut(&serial)
    }

    /// A decision, and everything that follows from it.
    pub fn feed(&mut self, key: &Key, event: Event) {
        let mut pending = VecDeque::from([event]);
        while let Some(event) = pending.pop_front() {
            let now = self.now();
            let Some(crew) = self.crews.get_mut(&key.0) else { return };
            let Some(member) = crew.members.get_mut(&key.1) else { return };
            for effect in member.machine.step(now, event, &mut self.serials) {
                pending.extend(self.carry_out(key, effect));
            }
        }
    }

    fn carry_out(&mut self, key: &Key, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn(serial) => return self.spawn(key, serial),
            Effect::Join(serial) => self.join(key, serial),
            Effect::Drain(serial) => {
                if let Some(upstream) = self.process_mut(key, serial).and_then(|process| process.upstream.as_ref()) {
                    upstream.drain();
                }
            }
            Effect::Leave(serial) => {
                if let Some(upstream) = self.process_mut(key, serial).and_then(|process| process.upstream.take()) {
                    self.outside.members.leave(&upstream);
                }
            }
            Effect::Term(serial) => self.signal(key, serial, Signal::SIGTERM),
            Effect::Kill(serial) => self.signal(key, serial, Signal::SIGKILL),
            Effect::Forget(serial) => self.forget(key, serial),
            Effect::Say(serial, note) => self.note(key, serial, note),
        }
        None
    }

    fn spawn(&mut self, key: &Key, serial: Serial) -> Option<Event> {
        if self.retired {
            // The other server starts it, and `Joined` tells of it.
            return None;
        }
        let now = self.now();
        let taken = self.taken_ports();
        let member = self.member_mut(key)?;
        let app = member.app.clone();
        if member.last.is_some() && !member.machine.is_replacing() {
            member.restarts = member.restarts.saturating_add(1);
        }
        let (given, error) = match Given::to(&app, &taken) {
            Ok(given) => (given, None),
            Err(error) => (Given::Nothing, Some(error)),
        };
        let port = given.port();
        let mut process = Process::new(&app, given, now);
        let failed = error.is_some();
        process.error = error;
        member.lives.insert(serial, process);
        self.places.insert(serial, key.clone());
        if failed {
            return Some(Event::SpawnFailed(serial));
        }
        let spec = Spawn {
            app: key.0.clone(),
            number: key.1,
            port,
            argv: app.argv.clone(),
            dir: app.dir.clone(),
            user: app.user.clone(),
            env: for_child(&app.env, port),
            tag: app.tag(),
        };
        (self.outside.link)(ToSupervisor::Spawn { ticket: serial, spec: Box::new(spec) });
        None
    }

    fn taken_ports(&self) -> BTreeSet<u16> {
        let members = self.crews.values().flat_map(|crew| crew.members.values());
        let processes = members.flat_map(|member| member.lives.values());
        processes.flat_map(|process| [process.port(), process.address.map(|a| a.port())]).flatten().collect()
    }

    fn join(&mut self, key: &Key, serial: Serial) {
        let Some(address) = self.process_mut(key, serial).and_then(|process| process.address) else { return };
        let upstream = self.outside.members.join(&key.0, &format!("{}.{}", key.0, key.1), address, 1);
        if let Some(process) = self.process_mut(key, serial) {
            // Asked on by the edge's checks, unless the file names another.
            if let Some(ready::How::Health { path, .. }) = &process.how {
                upstream.adopt_probe_path(path);
            }
            process.upstream = Some(upstream);
        }
    }

    fn signal(&mut self, key: &Key, serial: Serial, signal: Signal) {
        let Some(process) = self.process_mut(key, serial) else { return };
        if let Some(probe) = process.probe.take() {
            probe.abort();
        }
        process.asked |= process.exit.is_none();
        if let Some(pid) = process.pid {
            self.kill(pid, signal);
        }
    }

    pub fn kill(&self, pid: i32, signal: Signal) {
        if self.retired {
            return;
        }
        (self.outside.link)(ToSupervisor::Kill { pid, signal: signal as i32 });
    }

    fn forget(&mut self, key: &Key, serial: Serial) {
        self.places.remove(&serial);
        let Some(member) = self.member_mut(key) else { return };
        let Some(process) = member.lives.remove(&serial) else { return };
        let pid = process.pid;
        member.last = Some((serial, process));
        if let Some(pid) = pid {
            self.pids.remove(&pid);
        }
    }

    pub fn who(&self, key: &Key) -> Who {
        let of = self.member(key).map_or(1, |member| member.app.instances);
        Who { app: key.0.clone(), number: key.1, of }
    }

    pub fn say(&self, event: Said) {
        if self.retired {
            return;
        }
        (self.outside.say)(event);
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Millis {
        let now = self.now();
        let members = || self.crews.values().flat_map(|crew| crew.members.values());
        let drains = members().any(|m| m.machine.lives().any(|life| life.phase == Phase::Draining));
        let machines = members().filter_map(|member| member.machine.deadline());
        let strays = self.strays.values().map(|kill_at| kill_at.unwrap_or(now));
        let quiet = drains.then(|| now.plus(QUIET_POLL));
        machines.chain(strays).chain(quiet).chain([self.next_measurement()]).min().unwrap_or(now)
    }

    pub fn tick(&mut self) {
        let now = self.now();
        let keys = self.crews.iter().flat_map(|(name, c)| c.members.keys().map(move |n| (name.clone(), *n)));
        for key in keys.collect::<Vec<Key>>() {
            for serial in self.quiet_ones(&key) {
                self.feed(&key, Event::Quiet(serial));
            }
            let due = self.member(&key).and_then(|member| member.machine.deadline()).is_some_and(|at| at <= now);
            if due {
                self.feed(&key, Event::Tick);
            }
        }
        self.stop_strays(now);
        self.measure();
    }

    fn quiet_ones(&self, key: &Key) -> Vec<Serial> {
        let Some(member) = self.member(key) else { return Vec::new() };
        let drains = member.machine.lives().filter(|life| life.phase == Phase::Draining);
        let idle = |serial: &Serial| {
            let upstream = member.lives.get(serial).and_then(|process| process.upstream.as_ref());
            upstream.is_none_or(|upstream| upstream.in_flight() == 0 && upstream.sockets() == 0)
        };
        drains.map(|life| life.serial).filter(idle).collect()
    }

    fn stop_strays(&mut self, now: Millis) {
        let limit = self.options.drain();
        let due: Vec<i32> =
            self.strays.iter().filter(|(_, at)| at.is_none_or(|at| at <= now)).map(|(p, _)| *p).collect();
        for pid in due {
            let first = self.strays.get(&pid).is_some_and(Option::is_none);
            self.kill(pid, if first { Signal::SIGTERM } else { Signal::SIGKILL });
            self.strays.insert(pid, Some(now.plus(limit.max(Duration::from_secs(1)))));
        }
    }
}
