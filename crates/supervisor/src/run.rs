//! The supervisor's loop: one thread that waits for signals, for the server and for time, and never for anything else.
//!
//! Must never block on the server, and never lose track of a process it started.

use crate::instances::{INSTANCES_MAX, Instances};
use crate::limits::Limits;
use crate::listen::{self, Bound};
use crate::notify::Notify;
use crate::orphans::{Boot, Ending, Progress, TERM_LIMIT, group_lives};
use crate::protocol::{Exit, Handover, Hello, Instance, Listener, Spawn, ToServer, ToSupervisor};
use crate::server::{History, Next, Server};
use crate::upgrade::Upgrade;
use crate::{Data, Error, explain, kernel, proc, spawn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A group whose leader has gone tells nobody when its last member goes, so it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Members that have ended but that nobody waits for keep a group alive for the kernel; /proc tells, at a price.
const LOOK_THOROUGHLY_EVERY: Duration = Duration::from_secs(1);
/// While everything is being ended: one look through /proc at most this often.
const END_EVERY: Duration = Duration::from_millis(50);
/// On top of the configured drain, before a server that does not answer is ended.
const DRAIN_GRACE: Duration = Duration::from_secs(10);
/// A day: a drain without limit is a supervisor that cannot be stopped.
const STOP_LIMIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// For a server that has said `Drained` to end by itself. As long as anything else is given to end: nothing waits for
/// it, and one under a profiler writes down what it saw only now.
const GOODBYE_LIMIT: Duration = TERM_LIMIT;
/// Addresses and sockets of one configuration.
const LISTENERS_MAX: usize = 256;
const EXIT_USAGE: i32 = 2;
const EXIT_NEVER_READY: i32 = 69;
const EXIT_INTERNAL: i32 = 70;
const EXIT_CONFIGURATION: i32 = 78;

/// All that a supervisor needs; everything that can fail for a person's reasons has been done.
#[derive(Debug)]
pub struct Options {
    /// The server's program (this very one) and its arguments. It finds its end of the channel at descriptor 3.
    pub server: Vec<String>,
    /// Where an upgrade looks for the next one: the path this one was started from, links not resolved.
    pub program: PathBuf,
    pub data: Data,
    pub listeners: Vec<Bound>,
    /// The configuration in force, opaque.
    pub inputs: String,
    /// How long the configuration gives a drain.
    pub stop_limit: Duration,
}

/// Runs until a signal or the server ends it; returns the exit code. Call it on the main thread of a process that has
/// no other: children are tied to the thread that starts them.
pub fn run(options: Options) -> Result<i32, Error> {
    let signals = prepare()?;
    let mut supervisor = Supervisor::new(options);
    supervisor.start_server(Instant::now())?;
    supervisor.serve(&signals)
}

/// What a process needs before it may have children.
pub(crate) fn prepare() -> Result<SignalFd, Error> {
    let signals = signals()?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| Error::io("cannot become the parent of orphans")(errno.into()))?;
    kernel::close_inherited_at_exec();
    Ok(signals)
}

/// One line for the person who started us. A terminal that has gone away is no reason to end.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "mainstay: {text}");
}

fn signals() -> Result<SignalFd, Error> {
    let all = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2];
    let mask: SigSet = all.into_iter().collect();
    let set_up =
        mask.thread_block().and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC));
    set_up.map_err(|errno| Error::io("cannot receive signals")(errno.into()))
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) enum Phase {
    Serving,
    /// The server was asked to finish.
    Draining {
        until: Instant,
    },
    /// Nothing is served any more; what still runs is ended.
    Ending {
        code: i32,
        work: Ending,
        next: Instant,
        server_until: Instant,
    },
}

pub(crate) struct Supervisor {
    pub argv: Vec<String>,
    pub program: PathBuf,
    pub data: Data,
    pub boot: String,
    pub listeners: Vec<Bound>,
    pub inputs: String,
    pub stop_limit: Duration,
    pub started_unix_us: u64,
    pub limits: Limits,
    pub instances: Instances,
    pub server: Option<Server>,
    /// When the next server is due; set while there is none.
    pub start_at: Option<Instant>,
    pub history: History,
    pub phase: Phase,
    pub notify: Notify,
    /// SIGTERM or SIGINT has come once.
    pub asked: bool,
    pub looked: Instant,
    pub looked_thoroughly: Instant,
    pub upgrade: Upgrade,
}

impl Supervisor {
    fn new(options: Options) -> Supervisor {
        let Options { server, program, data, listeners, inputs, stop_limit } = options;
        Supervisor {
            argv: server,
            program,
            boot: data.boot(),
            data,
            listeners,
            inputs,
            stop_limit: stop_limit.min(STOP_LIMIT_MAX),
            started_unix_us: unix_micros(),
            limits: Limits::set_ours(),
            instances: Instances::default(),
            server: None,
            start_at: None,
            history: History::default(),
            phase: Phase::Serving,
            notify: Notify::from_environment(Instant::now()),
            asked: false,
            looked: Instant::now(),
            looked_thoroughly: Instant::now(),
            upgrade: Upgrade::default(),
        }
    }

    /// Until a signal or the server ends it.
    pub fn serve(&mut self, signals: &SignalFd) -> Result<i32, Error> {
        loop {
            self.become_next();
            self.wait(signals);
            let now = Instant::now();
            while let Ok(Some(info)) = signals.read_signal() {
                let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
                if let Some(code) = signal.and_then(|signal| self.signalled(signal, now)) {
                    return Ok(code);
                }
            }
            self.hear(now);
            self.reap(now);
            self.look(now);
            if let Some(code) = self.turn(now) {
                return Ok(code);
            }
            self.tell();
        }
    }

    /// Starts a server and hands it everything there is.
    fn start_server(&mut self, now: Instant) -> Result<(), Error> {
        self.start_at = None;
        let mut server = match Server::start(&self.argv, &self.boot) {
            Ok(server) => server,
            Err(error) if self.history.crashes == 0 => return Err(error),
            Err(error) => {
                say(&explain(&error));
                let next = self.history.crashed(false, Duration::ZERO);
                self.plan_next(next, EXIT_INTERNAL, now);
                return Ok(());
            }
        };
        self.note_server(server.pid);
        let (hello, fds) = self.hello(None);
        server.tell(&hello, fds);
        self.server = Some(server);
        self.tell();
        Ok(())
    }

    pub fn note_server(&self, pid: i32) {
        if let Some(process) = proc::process(pid)
            && let Err(error) = self.data.note_server(pid, process.start_ticks)
        {
            say(&explain(&error));
        }
    }

    /// All that a server needs, and the descriptors that go with it.
    pub fn hello(&mut self, handover: Option<Handover>) -> (ToServer, Vec<Arc<OwnedFd>>) {
        let (instances, pipes) = self.instances.hello();
        let hello = Hello {
            boot: self.boot.clone(),
            data: self.data.path().to_owned(),
            inputs: self.inputs.clone(),
            listeners: self.listeners.iter().map(|bound| bound.listener.clone()).collect(),
            instances,
            crashes: self.history.crashes,
            started_unix_us: self.started_unix_us,
            memory: if handover.is_some() { None } else { self.upgrade.memory.take() },
            handover,
        };
        let fds = self.listeners.iter().map(Bound::shared).chain(pipes).collect();
        (ToServer::Hello(Box::new(hello)), fds)
    }

    fn plan_next(&mut self, next: Next, code: i32, now: Instant) {
        match next {
            Next::After(wait) => self.start_at = Some(now + wait),
            Next::GiveUp => {
                say(&format!("the server ended {} times before it was ever ready; giving up", self.history.crashes));
                self.begin_ending(if code == 0 { EXIT_INTERNAL } else { code }, now);
            }
        }
    }

    /// Sleeps until a signal, a message, or the next thing that is due.
    fn wait(&self, signals: &SignalFd) {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let serving = self.server.as_ref().and_then(Server::socket);
        for (socket, writing) in serving.into_iter().chain(self.upgrade_sockets()) {
            let write = if writing { PollFlags::POLLOUT } else { PollFlags::empty() };
            fds.push(PollFd::new(socket, PollFlags::POLLIN | write));
        }
        let timeout = self.due().map_or(PollTimeout::NONE, |due| {
            // Rounded up, or the last millisecond would be spent in a circle.
            let wait = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        // EINTR and ENOMEM alike: the next turn looks at everything anyhow.
        let _ = poll(&mut fds, timeout);
    }

    fn due(&self) -> Option<Instant> {
        let (end, server_end) = match &self.phase {
            Phase::Serving => (None, None),
            Phase::Draining { until } => (Some(*until), None),
            Phase::Ending { next, server_until, .. } => {
                (Some(*next), self.server.as_ref().map(|_| (*server_until).max(*next)))
            }
        };
        let look = self.instances.lingering().then(|| self.looked + LOOK_EVERY);
        let closed = self.server.as_ref().and_then(Server::deadline);
        let start = self.start_at.filter(|_| self.is_released());
        [start, end, server_end, look, closed, self.upgrade_due(), self.notify.due()].into_iter().flatten().min()
    }

    /// `Some` ends the process at once.
    fn signalled(&mut self, signal: Signal, now: Instant) -> Option<i32> {
        match signal {
            Signal::SIGHUP => {
                if let (Phase::Serving, Some(server)) = (&self.phase, &mut self.server) {
                    self.notify.reloading();
                    server.tell(&ToServer::Reload, Vec::new());
                }
            }
            Signal::SIGUSR2 if matches!(self.phase, Phase::Serving) => self.ask_for_upgrade(),
            Signal::SIGTERM | Signal::SIGINT if self.asked => {
                let mut ending = Ending::new(Boot::Exactly(self.boot.clone()), self.instances.groups());
                ending = ending.with_descendants(None);
                ending.kill();
                return Some(128 + signal as i32);
            }
            Signal::SIGTERM | Signal::SIGINT => {
                self.asked = true;
                self.begin_draining(now);
            }
            _ => {}
        }
        None
    }

    pub fn begin_draining(&mut self, now: Instant) {
        // Its instances are needed by one that still finishes.
        if !matches!(self.phase, Phase::Serving) || self.stop_upgrade() {
            return;
        }
        self.notify.stopping("finishing what is in flight");
        match self.server.as_mut().filter(|server| server.socket().is_some()) {
            Some(server) => {
                server.tell(&ToServer::Drain, Vec::new());
                self.phase = Phase::Draining { until: now + self.stop_limit + DRAIN_GRACE };
            }
            None => self.begin_ending(0, now),
        }
    }

    fn begin_ending(&mut self, code: i32, now: Instant) {
        if matches!(self.phase, Phase::Ending { .. }) {
            return;
        }
        self.notify.stopping("ending what still runs");
        self.start_at = None;
        self.listeners.clear();
        let server = self.server.as_ref().map(|server| server.pid);
        let boot = Boot::Exactly(self.boot.clone());
        let work = Ending::new(boot, self.instances.groups()).with_descendants(server);
        self.phase = Phase::Ending { code, work, next: now, server_until: now + GOODBYE_LIMIT };
    }

    fn hear(&mut self, now: Instant) {
        self.hear_upgrade(now);
        let Some(server) = &mut self.server else { return };
        for message in server.hear() {
            self.heard_or_kept(message, now);
        }
        if let Some(server) = &mut self.server {
            server.end_if_closed(now);
        }
    }

    pub fn heard(&mut self, message: ToSupervisor, now: Instant) {
        match message {
            ToSupervisor::Spawn { ticket, spec } => self.spawn(ticket, *spec),
            ToSupervisor::Kill { pid, signal } => {
                // Only groups we hold, and never the question "does it exist" (0). Gone meanwhile is no error.
                if self.instances.has_group(pid) && signal > 0 {
                    let _ = kernel::signal_group(pid, signal);
                }
            }
            ToSupervisor::Listen { ticket, listener } => self.listen(ticket, listener),
            ToSupervisor::Unlisten { listener } => self.listeners.retain(|bound| bound.listener != listener),
            ToSupervisor::Ready => {
                self.history.ready();
                self.notify.ready();
                if let Some(server) = &mut self.server {
                    server.ready = true;
                }
            }
            ToSupervisor::Alive => self.notify.alive(),
            ToSupervisor::Reloaded { refused } => self.notify.reloaded(refused.as_deref()),
            ToSupervisor::Adopt { inputs } => self.inputs = inputs,
            ToSupervisor::StopLimit { limit_ms } => {
                self.stop_limit = Duration::from_millis(limit_ms).min(STOP_LIMIT_MAX);
            }
            ToSupervisor::Drained { code } => self.begin_ending(code, now),
            ToSupervisor::Upgrade { binary, serving } => self.begin_upgrade(binary, serving, now),
            ToSupervisor::Taken => self.upgrade.taken(),
            // Of our own kind, or greeted elsewhere; nothing was asked to be released.
            ToSupervisor::Here { .. } | ToSupervisor::Released { .. } => {}
        }
    }

    fn spawn(&mut self, ticket: u64, spec: Spawn) {
        let started = if matches!(self.phase, Phase::Ending { .. }) {
            Err(Error::Spawn("mainstay is stopping".into()))
        } else if self.instances.len() >= INSTANCES_MAX {
            Err(Error::Spawn(format!("there are {INSTANCES_MAX} instances already, the most one mainstay runs")))
        } else {
            spawn::start(&spec, &self.boot, self.limits)
        };
        let (message, fds) = match started {
            Ok(started) => {
                let Spawn { app, number, port, tag, .. } = spec;
                let (pid, started_unix_us) = (started.pid, unix_micros());
                let instance = Instance { pid, app, number, port, started_unix_us, tag, exit: None };
                let fds = self.instances.add(instance.clone(), started);
                self.tell_retiring(&ToServer::Joined { instance: instance.clone() });
                (ToServer::Spawned { ticket, instance }, fds)
            }
            Err(error) => (ToServer::SpawnFailed { ticket, error: explain(&error) }, Vec::new()),
        };
        if let Some(server) = &mut self.server {
            server.tell(&message, fds);
        }
    }

    fn listen(&mut self, ticket: u64, listener: Listener) {
        let held = self.listeners.iter().find(|bound| bound.listener == listener);
        let answer = match held {
            Some(bound) => Ok((bound.listener.clone(), bound.shared())),
            None if self.listeners.len() >= LISTENERS_MAX => {
                Err(format!("there are {LISTENERS_MAX} listeners already, the most one mainstay has"))
            }
            None => match listen::bind(&listener) {
                Ok(bound) => {
                    let answer = (bound.listener.clone(), bound.shared());
                    self.listeners.push(bound);
                    Ok(answer)
                }
                Err(error) => Err(explain(&error)),
            },
        };
        let Some(server) = &mut self.server else { return };
        match answer {
            Ok((listener, fd)) => server.tell(&ToServer::Listening { ticket, listener }, vec![fd]),
            Err(error) => server.tell(&ToServer::ListenFailed { ticket, error }, Vec::new()),
        }
    }

    /// Waits for every child that has ended: the server, leaders, and orphans that came to us.
    fn reap(&mut self, now: Instant) {
        while let Some((pid, exit)) = kernel::reap() {
            if self.server.as_ref().is_some_and(|server| server.pid == pid) {
                self.server_ended(exit, now);
            } else if !self.beside_ended(pid, exit, now) {
                self.instances.ended(pid, exit);
            }
        }
    }

    fn server_ended(&mut self, exit: Exit, now: Instant) {
        let Some(mut server) = self.server.take() else { return };
        for message in server.last_words() {
            match message {
                ToSupervisor::Ready => {
                    server.ready = true;
                    self.history.ready();
                }
                // Nobody is left to take the answer; the next server decides for itself.
                ToSupervisor::Spawn { .. } | ToSupervisor::Listen { .. } | ToSupervisor::Upgrade { .. } => {}
                other => self.heard(other, now),
            }
        }
        self.give_up_candidate("was given up: the server that served ended");
        self.successor_ended(exit);
        match self.phase {
            Phase::Ending { .. } => {}
            Phase::Draining { .. } => self.begin_ending(code_of(exit), now),
            Phase::Serving => match exit {
                // Its own decision, and the next one would decide the same.
                Exit::Code(code @ (EXIT_USAGE | EXIT_NEVER_READY | EXIT_CONFIGURATION))
                    if !self.history.was_ready() =>
                {
                    self.begin_ending(code, now);
                }
                _ => {
                    let count = self.instances.groups().len();
                    say(&format!("the server ended ({exit}); starting the next one, {count} process groups run on"));
                    self.notify.status("the server ended; the next one is starting");
                    let next = self.history.crashed(server.ready, server.lived(now));
                    self.plan_next(next, code_of(exit), now);
                }
            },
        }
    }

    /// Finds groups that have become empty.
    fn look(&mut self, now: Instant) {
        if !self.instances.lingering() {
            return;
        }
        let thorough = now.saturating_duration_since(self.looked_thoroughly) >= LOOK_THOROUGHLY_EVERY;
        self.looked = now;
        if thorough {
            self.looked_thoroughly = now;
        }
        self.instances.look(|group| group_lives(group, thorough));
    }

    /// What time brings. `Some` is the exit code.
    fn turn(&mut self, now: Instant) -> Option<i32> {
        let ready = self.server.as_mut().filter(|server| server.ready && server.socket().is_some());
        if self.notify.asks(now, ready.is_some())
            && let Some(server) = ready
        {
            server.tell(&ToServer::AreYouAlive, Vec::new());
        }
        self.turn_upgrade(now);
        if self.start_at.is_some_and(|due| now >= due)
            && self.is_released()
            && let Err(error) = self.start_server(now)
        {
            say(&explain(&error));
        }
        if matches!(self.phase, Phase::Draining { until } if now >= until) {
            say("the server did not finish in time and is ended");
            if let Some(server) = &mut self.server {
                server.kill();
            }
            self.begin_ending(EXIT_INTERNAL, now);
        }
        let Phase::Ending { code, work, next, server_until } = &mut self.phase else { return None };
        if let Some(server) = self.server.as_mut().filter(|_| now >= *server_until) {
            server.kill();
        }
        if now < *next {
            return None;
        }
        *next = now + END_EVERY;
        let progress = work.step(now);
        if progress == Progress::Stuck {
            say("some processes do not end, not even by SIGKILL: ps -eo pid,stat,args shows them in state D");
        }
        (progress != Progress::Waiting && self.server.is_none()).then_some(*code)
    }

    fn tell(&mut self) {
        self.flush_beside();
        let Some(server) = self.server.as_mut().filter(|server| server.socket().is_some()) else { return };
        let news = self.instances.news();
        for message in &news {
            server.tell(message, Vec::new());
        }
        server.flush();
        self.tell_beside(&news);
        self.flush_beside();
    }
}

/// The exit code of ours that says what became of the server.
fn code_of(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(_) => EXIT_INTERNAL,
    }
}
