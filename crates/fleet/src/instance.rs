//! One numbered instance of an app (`main.1`): what is to be done next, decided without touching anything.
//!
//! Must never: look at a clock, a process or a socket. All it knows comes in as an `Event`, all it wants goes
//! out as an `Effect`.
//!
//! Invariant: a number has one process group, and a second one only while the first is being replaced by it
//! (start the new, prove it ready, drain the old); without a port of its own it never has two.
//! Invariant: nothing is started in place of a group that is not empty.

mod life;

pub use life::{Life, Phase};

use crate::backoff::Backoff;
use mainstay_runtime::Millis;
use mainstay_supervisor::protocol::Exit;
use std::time::Duration;

/// Readiness is waited for this long before it is called late (DESIGN §10).
pub const READY: Duration = Duration::from_secs(60);
/// After `drain()` a core may have picked the upstream just before; only then does "nothing in flight" count.
pub const SETTLE: Duration = Duration::from_millis(100);

/// Names one life of an instance: the ticket it was spawned with. Never used twice in a server's life.
pub type Serial = u64;

/// What the app's settings say about its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A new group may run beside the old one while it takes over: it has a port of its own.
    pub overlap: bool,
    /// `restart = "on-failure"`: exit status 0 is the end.
    pub on_failure: bool,
    /// How long draining may take, and then again stopping, before it is cut short.
    pub limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A deadline may have passed.
    Tick,
    Spawned(Serial),
    SpawnFailed(Serial),
    Ready(Serial),
    /// The group's first process ended; `serving`: somebody of the group still listens where requests go.
    LeaderExited {
        serial: Serial,
        exit: Exit,
        serving: bool,
    },
    /// The group is empty.
    Emptied(Serial, Exit),
    /// Nothing is in flight to it.
    Quiet(Serial),
    /// Run: after `Down`, or for the first time.
    Up,
    /// Start anew: restart, changed settings, memory limit.
    Replace,
    /// Drain, stop, and stay away.
    Down,
    /// Stop at once, the edge has drained, and stay away.
    Halt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Spawn(Serial),
    Join(Serial),
    Drain(Serial),
    Leave(Serial),
    Term(Serial),
    Kill(Serial),
    /// The group is empty: nothing of this life is left.
    Forget(Serial),
    Say(Serial, Note),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Not ready after `READY`; it goes on waiting.
    Late,
    /// Ended unasked; `None`: could not be started.
    Exited(Option<Exit>),
    /// The fifth early exit in a row.
    CrashLoop,
    /// Exit status 0 and `restart = "on-failure"`.
    Finished,
    /// `Replace` is done: the new one serves, the old one is gone.
    Replaced,
    /// `Replace` failed. With overlap the old one serves on.
    Kept(Why),
    /// Still there long after SIGKILL.
    WouldNotStop,
    /// It did not end within the limit and was killed.
    HadToKill,
}

/// Why a replacement never took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NotReady,
    Exited(Exit),
    NotStarted,
}

/// Gives each life its serial.
#[derive(Debug, Default)]
pub struct Serials(Serial);

impl Serials {
    pub fn next(&mut self) -> Serial {
        self.0 += 1;
        self.0
    }
}

#[derive(Clone, Debug)]
pub struct Instance {
    rules: Rules,
    up: bool,
    /// The one that serves, or is to.
    main: Option<Life>,
    /// The one that is to take over from `main` once it is ready.
    next: Option<Life>,
    /// The one that `next` took over from.
    leaving: Option<Life>,
    backoff: Backoff,
    start_at: Option<Millis>,
    replacing: bool,
    /// `Replace` came while the last replacement was not over.
    again: bool,
    finished: bool,
}

type Out = Vec<Effect>;

impl Instance {
    pub fn new(rules: Rules) -> Instance {
        Instance {
            rules,
            up: true,
            main: None,
            next: None,
            leaving: None,
            backoff: Backoff::default(),
            start_at: None,
            replacing: false,
            again: false,
            finished: false,
        }
    }

    /// A group that a server before this one started: it is waited for like a new one, and found ready at once.
    pub fn adopt(&mut self, serial: Serial, now: Millis) {
        let life = Life::new(serial, Phase::Waiting, now);
        match (&self.main, &self.next) {
            (None, _) => self.main = Some(life),
            (Some(_), None) => {
                self.next = Some(life);
                self.replacing = true;
            }
            (Some(_), Some(_)) => {}
        }
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub fn rules(&self) -> Rules {
        self.rules
    }

    pub fn main(&self) -> Option<&Life> {
        self.main.as_ref()
    }

    pub fn lives(&self) -> impl Iterator<Item = &Life> {
        [&self.main, &self.next, &self.leaving].into_iter().flatten()
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    pub fn is_gone(&self) -> bool {
        self.lives().next().is_none()
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    pub fn is_replacing(&self) -> bool {
        self.replacing
    }

    pub fn in_crash_loop(&self) -> bool {
        self.backoff.in_loop()
    }

    pub fn early_exits(&self) -> u32 {
        self.backoff.early_exits()
    }

    pub fn start_at(&self) -> Option<Millis> {
        self.start_at
    }

    /// When `Tick` is due at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        let start = self.may_start().then(|| self.start_at.unwrap_or(Millis(0)));
        self.lives().filter_map(|life| life.deadline(self.rules.limit)).chain(start).min()
    }

    /// The whole decision. Effects are carried out in their order.
    pub fn step(&mut self, now: Millis, event: Event, serials: &mut Serials) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Tick => {}
            Event::Spawned(serial) => self.spawned(serial, now, &mut out),
            Event::SpawnFailed(serial) => self.gone(serial, None, now, &mut out),
            Event::Ready(serial) => self.ready(serial, now, &mut out),
            Event::LeaderExited { serial, exit, serving } => {
                self.leader_exited(serial, exit, serving, now, &mut out);
            }
            Event::Emptied(serial, exit) => self.gone(serial, Some(exit), now, &mut out),
            Event::Quiet(serial) => self.quiet(serial, now, &mut out),
            Event::Up => self.up(now),
            Event::Replace => self.replace(now, serials, &mut out),
            Event::Down => self.down(now, &mut out),
            Event::Halt => self.halt(now, &mut out),
        }
        self.pass_time(now, &mut out);
        self.start_what_is_due(now, serials, &mut out);
        out
    }

    fn life(&mut self, serial: Serial) -> Option<&mut Life> {
        [&mut self.main, &mut self.next, &mut self.leaving].into_iter().flatten().find(|life| life.serial == serial)
    }

    fn spawned(&mut self, serial: Serial, now: Millis, out: &mut Out) {
        let Some(life) = self.life(serial) else { return };
        if life.phase != Phase::Starting {
            return;
        }
        life.enter(Phase::Waiting, now);
        if life.doomed {
            life.term(now, out);
        }
    }

    fn ready(&mut self, serial: Serial, now: Millis, out: &mut Out) {
        let Some(life) = self.life(serial) else { return };
        if life.phase != Phase::Waiting {
            return;
        }
        life.enter(Phase::Ready, now);
        life.ready_at = Some(now);
        life.joined = true;
        out.push(Effect::Join(serial));
        if self.next.as_ref().is_some_and(|next| next.serial == serial) {
            self.leaving = self.main.take();
            self.main = self.next.take();
            match &mut self.leaving {
                Some(old) => old.retire(now, out),
                None => self.replaced(serial, out),
            }
        } else if self.replacing && self.next.is_none() && self.leaving.is_none() {
            self.replaced(serial, out);
        }
    }

    fn replaced(&mut self, serial: Serial, out: &mut Out) {
        if std::mem::take(&mut self.replacing) {
            out.push(Effect::Say(serial, Note::Replaced));
        }
    }

    fn leader_exited(&mut self, serial: Serial, exit: Exit, serving: bool, now: Millis, out: &mut Out) {
        let Some(life) = self.life(serial) else { return };
        life.ended_at.get_or_insert(now);
        let goes_on = match life.phase {
            // `sh -c 'node server.js &'` is gone before the app listens.
            Phase::Starting | Phase::Waiting => exit == Exit::Code(0) && serving,
            Phase::Ready | Phase::Draining => serving,
            Phase::Stopping | Phase::Killed => return,
        };
        if goes_on {
            life.ended_at = None;
        } else {
            life.term(now, out);
        }
    }

    fn gone(&mut self, serial: Serial, exit: Option<Exit>, now: Millis, out: &mut Out) {
        if self.next.as_ref().is_some_and(|life| life.serial == serial) {
            if let Some(life) = self.next.take() {
                life.forget(out);
                self.kept(serial, life.asked, exit, out);
            }
        } else if self.leaving.as_ref().is_some_and(|life| life.serial == serial) {
            if let Some(life) = self.leaving.take() {
                life.forget(out);
                // Otherwise it is said when the new one serves.
                if self.main.as_ref().is_some_and(|main| main.phase == Phase::Ready) {
                    self.replaced(serial, out);
                }
            }
        } else if self.main.as_ref().is_some_and(|life| life.serial == serial)
            && let Some(life) = self.main.take()
        {
            life.forget(out);
            self.main_gone(&life, exit, now, out);
            self.main = self.next.take();
        }
    }

    /// A replacement is gone before it was ready. When we stopped it ourselves that was said already.
    fn kept(&mut self, serial: Serial, asked: bool, exit: Option<Exit>, out: &mut Out) {
        if std::mem::take(&mut self.replacing) && !asked {
            out.push(Effect::Say(serial, Note::Kept(exit.map_or(Why::NotStarted, Why::Exited))));
        }
    }

    fn main_gone(&mut self, life: &Life, exit: Option<Exit>, now: Millis, out: &mut Out) {
        if life.asked {
            self.start_at = Some(now);
            return;
        }
        let wait = self.backoff.exited(life.ready_at, life.ended_at.unwrap_or(now));
        self.start_at = Some(now.plus(wait));
        let succeeded = exit == Some(Exit::Code(0));
        if self.rules.on_failure && succeeded && self.next.is_none() {
            self.finished = true;
            out.push(Effect::Say(life.serial, Note::Finished));
        } else if self.backoff.loop_begins() {
            out.push(Effect::Say(life.serial, Note::CrashLoop));
        } else if !self.backoff.in_loop() {
            out.push(Effect::Say(life.serial, Note::Exited(exit)));
        }
        if self.next.is_none() && self.leaving.is_none() {
            self.kept(life.serial, false, exit, out);
        }
    }

    fn quiet(&mut self, serial: Serial, now: Millis, out: &mut Out) {
        let Some(life) = self.life(serial) else { return };
        if life.phase == Phase::Draining && now.since(life.since) >= SETTLE {
            life.term(now, out);
        }
    }

    /// Reports as a replacement does: `Replaced` once it serves, `Kept` when it does not come up.
    fn up(&mut self, now: Millis) {
        let runs = self.main.as_ref().is_some_and(|life| !life.asked);
        if self.up && runs {
            return;
        }
        self.up = true;
        self.finished = false;
        self.replacing = true;
        self.backoff.reset();
        self.start_at = Some(now);
    }

    fn replace(&mut self, now: Millis, serials: &mut Serials, out: &mut Out) {
        if !self.up || self.next.is_some() {
            return;
        }
        if self.leaving.is_some() {
            self.again = true;
            return;
        }
        self.backoff.reset();
        self.finished = false;
        self.replacing = true;
        self.start_at = Some(now);
        match &mut self.main {
            None => {}
            Some(_) if self.rules.overlap => {
                let serial = serials.next();
                self.next = Some(Life::new(serial, Phase::Starting, now));
                out.push(Effect::Spawn(serial));
            }
            Some(main) => main.retire(now, out),
        }
    }

    fn down(&mut self, now: Millis, out: &mut Out) {
        self.up = false;
        self.replacing = false;
        self.again = false;
        for life in [&mut self.main, &mut self.next, &mut self.leaving].into_iter().flatten() {
            life.retire(now, out);
        }
    }

    fn halt(&mut self, now: Millis, out: &mut Out) {
        self.up = false;
        self.replacing = false;
        self.again = false;
        for life in [&mut self.main, &mut self.next, &mut self.leaving].into_iter().flatten() {
            life.asked = true;
            life.stop(now, out);
        }
    }

    fn pass_time(&mut self, now: Millis, out: &mut Out) {
        let limit = self.rules.limit;
        let mut late = None;
        for life in [&mut self.main, &mut self.next, &mut self.leaving].into_iter().flatten() {
            if life.deadline(limit).is_none_or(|deadline| now < deadline) {
                continue;
            }
            match life.phase {
                Phase::Starting | Phase::Ready => {}
                Phase::Waiting => {
                    life.said_late = true;
                    // The replacement comes after the one it replaces; that one being late too is no news then.
                    late = Some(life.serial);
                }
                Phase::Draining => life.term(now, out),
                Phase::Stopping => {
                    life.enter(Phase::Killed, now);
                    out.push(Effect::Say(life.serial, Note::HadToKill));
                    out.push(Effect::Kill(life.serial));
                }
                Phase::Killed => {
                    life.said_late = true;
                    out.push(Effect::Say(life.serial, Note::WouldNotStop));
                }
            }
        }
        if let Some(serial) = late {
            self.late(serial, now, out);
        }
    }

    /// Late for the first time: a replacement has failed, anything else waits on.
    fn late(&mut self, serial: Serial, now: Millis, out: &mut Out) {
        if let Some(next) = self.next.as_mut().filter(|life| life.serial == serial) {
            next.asked = true;
            next.term(now, out);
            self.replacing = false;
            out.push(Effect::Say(serial, Note::Kept(Why::NotReady)));
        } else if std::mem::take(&mut self.replacing) {
            out.push(Effect::Say(serial, Note::Kept(Why::NotReady)));
        } else {
            out.push(Effect::Say(serial, Note::Late));
        }
    }

    /// Without a port of its own it must be alone.
    fn may_start(&self) -> bool {
        let alone = self.rules.overlap || self.next.is_none() && self.leaving.is_none();
        self.up && !self.finished && self.main.is_none() && alone
    }

    fn start_what_is_due(&mut self, now: Millis, serials: &mut Serials, out: &mut Out) {
        if self.may_start() && self.start_at.is_none_or(|at| at <= now) {
            let serial = serials.next();
            self.main = Some(Life::new(serial, Phase::Starting, now));
            self.start_at = None;
            out.push(Effect::Spawn(serial));
        }
        if self.again && self.leaving.is_none() {
            self.again = false;
            self.replace(now, serials, out);
        }
    }
}

#[cfg(test)]
mod tests;
