//! The fleet's loop on the control thread, and the handle others hold.
//!
//! Must never: block. It lives on a current-thread runtime, inside a `LocalSet`, beside the control socket.

use crate::crew::Given;
use crate::error::Error;
use crate::fleet::{Fleet, Inner, Outside};
use crate::instance::Event;
use crate::options::{Options, Port};
use crate::plan::Key;
use crate::rollout::{Changes, Rollout, Swap};
use crate::status::AppStatus;
use mainstay_supervisor::protocol::{Instance as Group, ToServer};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

/// Wishes that may wait to be looked at; each is looked at within a turn of the loop.
const COMMANDS: usize = 64;
/// Reports of our own tasks: at most three a process.
const REPORTS: usize = 256;

/// What the supervisor says, with the descriptors that came along.
pub type FromSupervisor = (ToServer, Vec<OwnedFd>);

pub struct Service {
    fleet: Rc<RefCell<Fleet>>,
    inner: mpsc::Receiver<Inner>,
    commands: mpsc::Receiver<Command>,
}

/// Cheap to clone; belongs to the control thread.
#[derive(Clone)]
pub struct Handle {
    fleet: Rc<RefCell<Fleet>>,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Restart(Option<String>, Option<u32>, oneshot::Sender<Result<u32, Error>>),
    Reload(Box<Options>, Swap, oneshot::Sender<Result<Changes, Error>>),
    Stop(Duration, oneshot::Sender<Stopped>),
    /// Something was changed from outside the loop.
    Look,
}

/// How the end went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Labels of those that had to be killed.
    pub killed: Vec<String>,
    /// Labels of those that are still there.
    pub left: Vec<String>,
}

/// An end that is under way.
pub struct Stop {
    replies: Vec<oneshot::Sender<Stopped>>,
}

impl Service {
    pub fn new(options: Options, outside: Outside) -> (Service, Handle) {
        let (inner_tx, inner) = mpsc::channel(REPORTS);
        let (commands_tx, commands) = mpsc::channel(COMMANDS);
        let fleet = Rc::new(RefCell::new(Fleet::new(options, outside, inner_tx)));
        let handle = Handle { fleet: fleet.clone(), commands: commands_tx };
        (Service { fleet, inner, commands }, handle)
    }

    /// Another server still uses the instances: until `Handle::alone` nothing that serves is replaced.
    pub fn share(&self) {
        self.fleet.borrow_mut().shared = true;
    }

    /// Takes over groups that a server before this one started. Before `run`, inside the `LocalSet`.
    pub fn adopt(&self, groups: Vec<(Group, Option<(OwnedFd, OwnedFd)>)>) {
        let mut groups = groups;
        groups.sort_by_key(|(group, _)| group.started_unix_us);
        let mut fleet = self.fleet.borrow_mut();
        for (group, pipes) in groups {
            fleet.adopt(group, pipes);
        }
        let outdated = fleet.outdated();
        if !outdated.is_empty() {
            fleet.enqueue(Rollout::quiet(outdated));
        }
    }

    /// Ends after `stop`, or when the supervisor is gone.
    pub async fn run(mut self, mut events: mpsc::Receiver<FromSupervisor>) {
        self.fleet.borrow_mut().tick();
        loop {
            let deadline = {
                let mut fleet = self.fleet.borrow_mut();
                fleet.settle();
                if fleet.is_over() {
                    return;
                }
                fleet.instant(fleet.deadline())
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some((message, descriptors)) => self.fleet.borrow_mut().hear(message, descriptors),
                    None => return,
                },
                Some(inner) = self.inner.recv() => self.fleet.borrow_mut().told(inner),
                Some(command) = self.commands.recv() => self.fleet.borrow_mut().obey(command),
                () = sleep_until(deadline) => self.fleet.borrow_mut().tick(),
            }
        }
    }
}

impl Handle {
    pub fn status(&self) -> Vec<AppStatus> {
        self.fleet.borrow().status()
    }

    /// A change is under way, or waits.
    pub fn is_changing(&self) -> bool {
        let fleet = self.fleet.borrow();
        fleet.rollout.is_some() || !fleet.queue.is_empty()
    }

    /// Names of apps with an instance that serves.
    pub fn serving(&self) -> Vec<String> {
        self.status().into_iter().filter(|app| app.ready > 0).map(|app| app.name).collect()
    }

    /// Another server has taken over: from now on this one follows what there is and decides nothing.
    pub fn retire(&self) {
        let mut fleet = self.fleet.borrow_mut();
        (fleet.shared, fleet.retired) = (true, true);
    }

    /// The server before this one is gone: changes that waited may begin, and the ports it had reserved are ours.
    pub fn alone(&self) {
        let mut fleet = self.fleet.borrow_mut();
        fleet.shared = false;
        let members = fleet.crews.values_mut().flat_map(|crew| crew.members.values_mut());
        for member in members {
            let app = member.app.clone();
            for process in member.lives.values_mut() {
                if let (Given::Fixed(port), Port::Own) = (&process.given, &app.port) {
                    process.given = Given::before(&app, Some(*port));
                }
            }
        }
        drop(fleet);
        // The loop looks again; a full queue means that it is about to anyhow.
        let _ = self.commands.try_send(Command::Look);
    }

    /// One instance, one app, or everything: one after the other, losing nothing. Says how many.
    pub async fn restart(&self, app: Option<&str>, number: Option<u32>) -> Result<u32, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Restart(app.map(str::to_owned), number, reply);
        self.commands.send(command).await.map_err(|_| Error::Stopping)?;
        answer.await.unwrap_or(Err(Error::Stopping))
    }

    /// Makes these options the ones in force, or changes nothing. `swap` is called in between: see [`Swap`].
    pub async fn reload(&self, options: Options, swap: Swap) -> Result<Changes, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Reload(Box::new(options), swap, reply);
        self.commands.send(command).await.map_err(|_| Error::Stopping)?;
        answer.await.unwrap_or(Err(Error::Stopping))
    }

    /// Ends every group: SIGTERM now, SIGKILL after `limit`. The edge has drained before.
    pub async fn stop(&self, limit: Duration) -> Stopped {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Stop(limit, reply)).await.is_err() {
            return Stopped::default();
        }
        answer.await.unwrap_or_default()
    }
}

impl Fleet {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Restart(app, number, reply) => match self.targets(app.as_deref(), number) {
                Ok(keys) => self.enqueue(Rollout::restart(keys, reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Reload(options, swap, reply) => self.enqueue(Rollout::reload(*options, swap, reply)),
            Command::Stop(limit, reply) => self.stop(limit, reply),
            Command::Look => {}
        }
    }

    fn targets(&self, app: Option<&str>, number: Option<u32>) -> Result<Vec<Key>, Error> {
        let Some(name) = app else {
            return match number {
                Some(_) => Err(Error::NumberWithoutApp),
                None => Ok(self.options.apps.iter().flat_map(|app| keys(&app.name, 1..=app.instances)).collect()),
            };
        };
        let Some(app) = self.options.app(name) else {
            let known: Vec<&str> = self.options.apps.iter().map(|app| app.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Error::NoSuchApp { name: name.to_owned(), known });
        };
        match number {
            None => Ok(keys(name, 1..=app.instances).collect()),
            Some(number) if (1..=app.instances).contains(&number) => Ok(vec![(name.to_owned(), number)]),
            Some(number) => Err(Error::NoSuchInstance { app: name.to_owned(), number, count: app.instances }),
        }
    }

    fn stop(&mut self, limit: Duration, reply: oneshot::Sender<Stopped>) {
        if let Some(stop) = &mut self.stopping {
            return stop.replies.push(reply);
        }
        self.stopping = Some(Stop { replies: vec![reply] });
        for rollout in self.rollout.take().into_iter().chain(std::mem::take(&mut self.queue)) {
            rollout.refuse(Error::Stopping);
        }
        for key in self.keys() {
            if let Some(member) = self.member_mut(&key) {
                let rules = member.machine.rules();
                member.machine.set_rules(crate::instance::Rules { limit, ..rules });
                member.killed = false;
            }
            self.feed(&key, Event::Halt);
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        let all = self.crews.iter().flat_map(|(name, crew)| crew.members.keys().map(move |n| (name.clone(), *n)));
        all.collect()
    }

    /// What follows when everything that came in is dealt with.
    fn settle(&mut self) {
        self.advance();
        if self.stopping.is_none() {
            self.bury();
        }
    }

    /// Numbers that are to be gone and are.
    fn bury(&mut self) {
        for crew in self.crews.values_mut() {
            crew.members.retain(|_, member| member.machine.is_up() || !member.machine.is_gone());
        }
        let options = &self.options;
        let busy = self.rollout.is_some();
        self.crews.retain(|name, crew| !crew.members.is_empty() || busy || options.app(name).is_some());
    }

    /// Everybody is gone, or will not go. Answers those who wait for it.
    fn is_over(&mut self) -> bool {
        let members = || self.crews.iter().flat_map(|(name, crew)| crew.members.iter().map(move |m| (name, m)));
        let over = self.stopping.is_some()
            && self.strays.is_empty()
            && members().all(|(_, (_, member))| member.machine.is_gone() || member.hangs);
        if !over {
            return false;
        }
        let labels = |which: &dyn Fn(&crate::crew::Member) -> bool| -> Vec<String> {
            members().filter(|(_, (_, m))| which(m)).map(|(name, (number, _))| format!("{name}.{number}")).collect()
        };
        let stopped = Stopped {
            killed: labels(&|member| member.killed),
            left: labels(&|member| member.hangs && !member.machine.is_gone()),
        };
        for reply in self.stopping.take().into_iter().flat_map(|stop| stop.replies) {
            let _ = reply.send(stopped.clone());
        }
        true
    }
}

fn keys(app: &str, numbers: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = Key> {
    numbers.map(move |number| (app.to_owned(), number))
}
