//! The fleet as it is now, for `status`, health documents and metrics.

use crate::crew::{Crew, Member, Process};
use crate::event::{mib, span};
use crate::fleet::Fleet;
use crate::instance::{Life, Phase};
use crate::options::Port;
use crate::ready::How;
use mainstay_runtime::Clock;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    pub name: String,
    /// The command as the operator wrote it.
    pub run: String,
    /// Takes requests.
    pub traffic: bool,
    /// How many there should be, and how many serve.
    pub wanted: u32,
    pub ready: u32,
    /// The health path in force: the file's, or the one that answered.
    pub health: Option<String>,
    pub memory_limit_bytes: Option<u64>,
    pub instances: Vec<InstanceStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Starting,
    /// Runs, and is not ready yet.
    Waiting,
    Ready,
    Draining,
    Stopping,
    /// Ended; will be started again soon.
    Down,
    CrashLoop,
    /// Exit status 0 and `restart = "on-failure"`.
    Finished,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// `main.1`; two lines bear the same while one replaces the other.
    pub label: String,
    pub number: u32,
    pub state: State,
    pub pid: Option<i32>,
    pub port: Option<u16>,
    pub address: Option<String>,
    pub started_unix_us: Option<u64>,
    pub uptime_ms: u64,
    /// How long it took to be ready, and what said so.
    pub ready_ms: Option<u64>,
    pub ready_by: Option<How>,
    /// How often this number was started again unasked, since the server began.
    pub restarts: u32,
    /// Measured every 2 s; absent until then.
    pub rss_bytes: Option<u64>,
    /// Percent of one processor.
    pub cpu_percent: Option<f64>,
    pub descriptors: Option<u64>,
    pub in_flight: u32,
    pub tunnels: u32,
    /// How the one before it ended, if nobody asked for that.
    pub last_exit: Option<String>,
    /// In words, while it is not ready.
    pub why_not_ready: Option<String>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Starting => "starting",
            State::Waiting => "waiting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Stopping => "stopping",
            State::Down => "down",
            State::CrashLoop => "crash loop",
            State::Finished => "finished",
        })
    }
}

/// The app's line, then one a instance.
impl fmt::Display for AppStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app      {}   {}   {} of {} ready", self.name, self.run, self.ready, self.wanted)?;
        if let Some(path) = &self.health {
            write!(f, "   GET {path}")?;
        }
        for instance in &self.instances {
            write!(f, "\n         {instance}")?;
        }
        Ok(())
    }
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {:<10}", self.label, self.state)?;
        if let Some(pid) = self.pid {
            write!(f, "   pid {pid}   up {}", span(Duration::from_millis(self.uptime_ms)))?;
        }
        if let Some(address) = &self.address {
            write!(f, "   {address}")?;
        }
        if let (Some(rss), Some(cpu)) = (self.rss_bytes, self.cpu_percent) {
            write!(f, "   {} MiB   {cpu:.1} % cpu", mib(rss))?;
        }
        if self.restarts > 0 {
            let times = if self.restarts == 1 { "restart" } else { "restarts" };
            write!(f, "   {} {times}", self.restarts)?;
        }
        if let Some(exit) = &self.last_exit {
            write!(f, "   last: {exit}")?;
        }
        match &self.why_not_ready {
            Some(why) => write!(f, "   {why}"),
            None => Ok(()),
        }
    }
}

impl Fleet {
    pub fn status(&self) -> Vec<AppStatus> {
        let shown = self.crews.iter().filter(|(_, crew)| !crew.members.is_empty());
        shown.map(|(name, crew)| self.app_status(name, crew)).collect()
    }

    fn app_status(&self, name: &str, crew: &Crew) -> AppStatus {
        let is_ready = |m: &&Member| m.machine.is_up() && m.machine.lives().any(|life| life.phase == Phase::Ready);
        let ready = crew.members.values().filter(is_ready).count();
        AppStatus {
            name: name.to_owned(),
            run: crew.app.line.clone(),
            traffic: crew.app.port != Port::None,
            wanted: self.options.app(name).map_or(0, |app| app.instances),
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            health: crew.app.health.clone().or_else(|| crew.adopted.clone()),
            memory_limit_bytes: crew.app.memory_limit,
            instances: crew.members.iter().flat_map(|(n, member)| self.member_status(name, *n, member)).collect(),
        }
    }

    fn member_status(&self, app: &str, number: u32, member: &Member) -> Vec<InstanceStatus> {
        let mut all: Vec<InstanceStatus> =
            member.machine.lives().map(|life| self.life_status(app, number, member, life)).collect();
        if all.is_empty() {
            let mut down = blank(app, number, member);
            down.state = match (member.machine.is_finished(), member.machine.in_crash_loop()) {
                (true, _) => State::Finished,
                (_, true) => State::CrashLoop,
                _ => State::Down,
            };
            down.why_not_ready = member
                .machine
                .start_at()
                .filter(|_| down.state != State::Finished)
                .map(|at| format!("will be started again in {}", span(at.since(self.now()))));
            all.push(down);
        }
        all
    }

    fn life_status(&self, app: &str, number: u32, member: &Member, life: &Life) -> InstanceStatus {
        let mut status = blank(app, number, member);
        status.state = match life.phase {
            Phase::Starting => State::Starting,
            Phase::Waiting => State::Waiting,
            Phase::Ready => State::Ready,
            Phase::Draining => State::Draining,
            Phase::Stopping | Phase::Killed => State::Stopping,
        };
        let Some(process) = member.lives.get(&life.serial) else { return status };
        status.pid = process.pid;
        status.port = process.port();
        status.address = process.address.map(|address| address.to_string());
        status.started_unix_us = process.started_unix_us;
        let started = process.started_unix_us.unwrap_or(u64::MAX);
        status.uptime_ms = Clock::unix_micros().saturating_sub(started) / 1000;
        status.ready_ms = process.ready_ms;
        status.ready_by = process.how.clone();
        if let Some(usage) = &process.usage {
            status.rss_bytes = Some(usage.rss_bytes);
            status.cpu_percent = usage.cpu_percent;
            status.descriptors = Some(usage.descriptors);
        }
        if let Some(upstream) = &process.upstream {
            status.in_flight = upstream.in_flight();
            status.tunnels = upstream.tunnels();
        }
        if life.phase == Phase::Waiting {
            status.why_not_ready = Some(why_waiting(process));
        }
        status
    }
}

fn blank(app: &str, number: u32, member: &Member) -> InstanceStatus {
    let news = member.last.as_ref().filter(|(_, process)| !process.asked);
    let last = news.map(|(_, process)| match (&process.exit, &process.error) {
        (Some(exit), _) => exit.to_string(),
        (None, Some(error)) => error.clone(),
        (None, None) => "could not be started".to_owned(),
    });
    InstanceStatus {
        label: format!("{app}.{number}"),
        number,
        state: State::Down,
        pid: None,
        port: None,
        address: None,
        started_unix_us: None,
        uptime_ms: 0,
        ready_ms: None,
        ready_by: None,
        restarts: member.restarts,
        rss_bytes: None,
        cpu_percent: None,
        descriptors: None,
        in_flight: 0,
        tunnels: 0,
        last_exit: last,
        why_not_ready: None,
    }
}

fn why_waiting(process: &Process) -> String {
    let seen = process.seen.borrow();
    let listening: Vec<String> = seen.listening.iter().map(ToString::to_string).collect();
    match (&seen.answer, process.port()) {
        (Some(answer), _) => answer.clone(),
        (None, None) => "just started".to_owned(),
        (None, Some(port)) if listening.is_empty() => format!("listens on no port, its PORT is {port}"),
        (None, Some(port)) => format!("listens on {}, its PORT is {port}", listening.join(", ")),
    }
}
