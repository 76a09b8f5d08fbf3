//! What comes in from outside: the supervisor's messages, groups to take over, and the reports of our own tasks.

use crate::crew::{Given, Process};
use crate::event::Event as Said;
use crate::fleet::{Fleet, Inner, Output};
use crate::instance::{Event, Phase, Serial};
use crate::plan::Key;
use crate::ready::{self, Health, Problem, Ready, Target};
use mainstay_supervisor::proc::listeners_of_group;
use mainstay_supervisor::protocol::{Exit, Instance as Group, ToServer};
use nix::sys::signal::Signal;
use std::os::fd::OwnedFd;

impl Fleet {
    /// The group runs since before this server did.
    pub fn adopt(&mut self, group: Group, pipes: Option<(OwnedFd, OwnedFd)>) {
        let key: Key = (group.app.clone(), group.number);
        let now = self.now();
        if let Some((stdout, stderr)) = pipes {
            let (app, number, pid) = (group.app.clone(), group.number, group.pid);
            (self.outside.output)(Output { app, number, pid, stdout, stderr });
        }
        let place = self.member(&key).filter(|member| member.lives.len() < 2);
        let Some(app) = place.map(|member| member.app.clone()) else {
            self.strays.insert(group.pid, None);
            self.say(Said::Stray { label: format!("{}.{}", group.app, group.number), pid: group.pid });
            return;
        };
        let serial = self.serials.next();
        let mut process = Process::new(&app, Given::before(&app, group.port), now);
        process.tag = group.tag;
        process.pid = Some(group.pid);
        process.started_unix_us = Some(group.started_unix_us);
        process.adopted = true;
        self.places.insert(serial, key.clone());
        self.pids.insert(group.pid, serial);
        if let Some(member) = self.member_mut(&key) {
            member.lives.insert(serial, process);
            member.machine.adopt(serial, now);
        }
        let who = self.who(&key);
        self.say(Said::TakenOver { who, pid: group.pid });
        self.look_for_readiness(&key, serial);
        if let Some(exit) = group.exit {
            self.leader_exited(group.pid, exit);
        }
    }

    /// Numbers whose process was started with other settings than they follow now.
    pub fn outdated(&self) -> Vec<Key> {
        let all = self.crews.iter().flat_map(|(name, crew)| crew.members.iter().map(move |m| (name, m)));
        let outdated = all.filter(|(_, (_, m))| !m.machine.is_gone() && !m.runs_as(&m.app));
        outdated.map(|(name, (number, _))| (name.clone(), *number)).collect()
    }

    pub fn hear(&mut self, message: ToServer, descriptors: Vec<OwnedFd>) {
        match message {
            ToServer::Spawned { ticket, instance } => self.spawned(ticket, &instance, descriptors),
            ToServer::SpawnFailed { ticket, error } => {
                let Some(key) = self.places.get(&ticket).cloned() else { return };
                if let Some(process) = self.process_mut(&key, ticket) {
                    process.error = Some(error);
                }
                self.feed(&key, Event::SpawnFailed(ticket));
            }
            ToServer::LeaderExited { pid, exit } => self.leader_exited(pid, exit),
            ToServer::GroupEmpty { pid, exit } => {
                self.strays.remove(&pid);
                let Some((serial, key)) = self.place_of(pid) else { return };
                if let Some(process) = self.process_mut(&key, serial) {
                    process.exit = Some(exit);
                }
                self.feed(&key, Event::Emptied(serial, exit));
            }
            ToServer::Joined { instance } => self.adopt(instance, None),
            // The binary's own.
            _ => {}
        }
    }

    fn place_of(&self, pid: i32) -> Option<(Serial, Key)> {
        let serial = *self.pids.get(&pid)?;
        Some((serial, self.places.get(&serial)?.clone()))
    }

    fn spawned(&mut self, serial: Serial, group: &Group, descriptors: Vec<OwnedFd>) {
        let Some(key) = self.places.get(&serial).cloned() else {
            return self.kill(group.pid, Signal::SIGKILL);
        };
        let mut pipes = descriptors.into_iter();
        if let (Some(stdout), Some(stderr)) = (pipes.next(), pipes.next()) {
            let (app, number) = key.clone();
            (self.outside.output)(Output { app, number, pid: group.pid, stdout, stderr });
        }
        self.pids.insert(group.pid, serial);
        let port = self.process_mut(&key, serial).and_then(|process| {
            process.pid = Some(group.pid);
            process.started_unix_us = Some(group.started_unix_us);
            process.port()
        });
        let who = self.who(&key);
        self.say(Said::Started { who, pid: group.pid, port });
        self.feed(&key, Event::Spawned(serial));
        self.look_for_readiness(&key, serial);
    }

    fn leader_exited(&mut self, pid: i32, exit: Exit) {
        let Some((serial, key)) = self.place_of(pid) else { return };
        let Some(member) = self.member_mut(&key) else { return };
        let phase = member.phase(serial);
        let Some(process) = member.lives.get_mut(&serial) else { return };
        process.exit = Some(exit);
        let (address, port) = (process.address, process.port());
        let serving = match phase {
            Some(Phase::Ready | Phase::Draining) => {
                let listening = listeners_of_group(pid).into_iter().map(|(listener, _)| listener.port());
                address.is_some_and(|address| listening.into_iter().any(|port| port == address.port()))
            }
            Some(Phase::Starting | Phase::Waiting) => port.is_some(),
            _ => false,
        };
        self.feed(&key, Event::LeaderExited { serial, exit, serving });
    }

    fn look_for_readiness(&mut self, key: &Key, serial: Serial) {
        let Some(crew) = self.crews.get_mut(&key.0) else { return };
        let Some(member) = crew.members.get_mut(&key.1) else { return };
        if member.phase(serial) != Some(Phase::Waiting) {
            return;
        }
        let health = match (&member.app.health, &crew.adopted) {
            (Some(path), _) => Health::Named(path.clone()),
            (None, Some(path)) => Health::Adopted(path.clone()),
            (None, None) => Health::Unknown,
        };
        let alone = member.app.instances == 1 && member.app.port == crate::options::Port::Own;
        let closed = member.app.closed;
        let Some(process) = member.lives.get_mut(&serial) else { return };
        let Some(group) = process.pid else { return };
        let target = Target { group, port: process.port(), alone, health, adopted: process.adopted, closed };
        let seen = process.seen.clone();
        let (inner, problems) = (self.inner.clone(), self.inner.clone());
        let task = tokio::task::spawn_local(async move {
            // A full queue loses a warning, never readiness.
            let say = |problem| drop(problems.try_send(Inner::Problem(serial, problem)));
            let ready = ready::wait(target, seen, say).await;
            let _ = inner.send(Inner::Ready(serial, ready)).await;
        });
        process.probe = Some(task.abort_handle());
    }

    pub fn told(&mut self, inner: Inner) {
        match inner {
            Inner::Ready(serial, ready) => self.ready(serial, ready),
            Inner::Problem(serial, problem) => self.problem(serial, problem),
            Inner::Measured(processes) => self.measured(&processes),
        }
    }

    fn ready(&mut self, serial: Serial, ready: Ready) {
        let Some(key) = self.places.get(&serial).cloned() else { return };
        let now = self.now();
        let drain = self.options.drain();
        let Some(crew) = self.crews.get_mut(&key.0) else { return };
        let Some(member) = crew.members.get_mut(&key.1) else { return };
        if member.phase(serial) != Some(Phase::Waiting) {
            return;
        }
        crew.elsewhere = ready.elsewhere;
        member.machine.set_rules(member.app.rules(drain, ready.elsewhere));
        let line = member.app.line.clone();
        let named = member.app.health.is_some();
        let Some(process) = member.lives.get_mut(&serial) else { return };
        let took = now.since(process.spawned_at);
        process.address = ready.address;
        process.how = Some(ready.how.clone());
        process.ready_ms = u64::try_from(took.as_millis()).ok();
        process.probe = None;
        let port = process.port();
        self.adopt_health(&key, named, &ready);
        self.feed(&key, Event::Ready(serial));
        let who = self.who(&key);
        if let (true, Some(port), Some(address)) = (ready.elsewhere, port, ready.address) {
            self.say(Said::Elsewhere { who: who.clone(), port, address });
        }
        self.say(Said::Ready { who, line, address: ready.address, took, how: ready.how });
    }

    fn adopt_health(&mut self, key: &Key, named: bool, ready: &Ready) {
        let ready::How::Health { path, status } = &ready.how else { return };
        let Some(crew) = self.crews.get_mut(&key.0) else { return };
        if !named && crew.adopted.as_ref() != Some(path) {
            crew.adopted = Some(path.clone());
            self.say(Said::HealthAdopted { app: key.0.clone(), path: path.clone(), status: *status });
        }
    }

    fn problem(&mut self, serial: Serial, problem: Problem) {
        let Some(key) = self.places.get(&serial).cloned() else { return };
        let who = self.who(&key);
        let port = self.process_mut(&key, serial).and_then(|process| process.port()).unwrap_or_default();
        match problem {
            Problem::WrongPort { listening, alone: _ } => self.say(Said::WrongPort { who, port, listening }),
            Problem::Exposed { listening } => self.say(Said::Exposed { who, listening }),
        }
    }
}
