//! The instances of one app, and what is known about each of their processes.
//!
//! Must never: decide; `instance` does that.

use crate::instance::{Instance, Phase, Serial};
use crate::options::{App, Port};
use crate::ports::{self, Reserved};
use crate::ready::{How, Seen};
use mainstay_edge::upstream::Upstream;
use mainstay_runtime::Millis;
use mainstay_supervisor::protocol::Exit;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// One app. Kept while any of its instances is left, even if no setting names it any more.
#[derive(Debug)]
pub struct Crew {
    pub app: Rc<App>,
    pub members: BTreeMap<u32, Member>,
    /// The health path that answered 2xx where the file names none.
    pub adopted: Option<String>,
    /// Its instance listens where it likes and not on its `PORT`: two cannot run beside each other.
    pub elsewhere: bool,
}

/// One number of the app.
#[derive(Debug)]
pub struct Member {
    /// The settings this number follows: what its next process is started with.
    pub app: Rc<App>,
    pub machine: Instance,
    pub lives: BTreeMap<Serial, Process>,
    /// The process that ended last.
    pub last: Option<(Serial, Process)>,
    pub restarts: u32,
    pub memory_restart_at: Option<Millis>,
    /// Was killed, or is still there, in the course of `stop`.
    pub killed: bool,
    pub hangs: bool,
}

#[derive(Debug)]
pub struct Process {
    pub tag: String,
    pub pid: Option<i32>,
    pub given: Given,
    pub spawned_at: Millis,
    pub started_unix_us: Option<u64>,
    /// Its leader's end.
    pub exit: Option<Exit>,
    pub error: Option<String>,
    pub address: Option<SocketAddr>,
    pub upstream: Option<Arc<Upstream>>,
    pub probe: Option<AbortHandle>,
    pub seen: Rc<RefCell<Seen>>,
    pub ready_ms: Option<u64>,
    pub how: Option<How>,
    /// It ran before this server.
    pub adopted: bool,
    /// It was told to end, so how it ended is no news.
    pub asked: bool,
    pub usage: Option<Usage>,
}

/// The last measurement of a group.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub at: Millis,
    pub rss_bytes: u64,
    pub cpu_ticks: u64,
    pub cpu_percent: Option<f64>,
    pub descriptors: u64,
}

impl Crew {
    pub fn new(app: Rc<App>) -> Crew {
        Crew { app, members: BTreeMap::new(), adopted: None, elsewhere: false }
    }
}

impl Member {
    pub fn new(app: Rc<App>, machine: Instance) -> Member {
        Member {
            app,
            machine,
            lives: BTreeMap::new(),
            last: None,
            restarts: 0,
            memory_restart_at: None,
            killed: false,
            hangs: false,
        }
    }

    pub fn phase(&self, serial: Serial) -> Option<Phase> {
        self.machine.lives().find(|life| life.serial == serial).map(|life| life.phase)
    }

    /// A process by its serial, the one that ended last included.
    pub fn process(&self, serial: Serial) -> Option<&Process> {
        let last = self.last.as_ref().filter(|(ended, _)| *ended == serial).map(|(_, process)| process);
        self.lives.get(&serial).or(last)
    }

    /// Whether what serves was started with these settings.
    pub fn runs_as(&self, app: &App) -> bool {
        let tag = app.tag();
        self.machine.main().and_then(|life| self.lives.get(&life.serial)).is_some_and(|process| process.tag == tag)
    }
}

impl Process {
    pub fn new(app: &App, given: Given, now: Millis) -> Process {
        Process {
            tag: app.tag(),
            pid: None,
            given,
            spawned_at: now,
            started_unix_us: None,
            exit: None,
            error: None,
            address: None,
            upstream: None,
            probe: None,
            seen: Rc::default(),
            ready_ms: None,
            how: None,
            adopted: false,
            asked: false,
            usage: None,
        }
    }
}

impl Process {
    pub fn port(&self) -> Option<u16> {
        self.given.port()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            probe.abort();
        }
    }
}

/// The port a new process of the app is told to take.
#[derive(Debug)]
pub enum Given {
    Nothing,
    Fixed(u16),
    Own(Reserved),
}

impl Given {
    /// `Err`: none is free.
    pub fn to(app: &App, taken: &BTreeSet<u16>) -> Result<Given, String> {
        match app.port {
            Port::None => Ok(Given::Nothing),
            Port::Fixed(port) => Ok(Given::Fixed(port)),
            Port::Own => ports::choose(taken)
                .map(Given::Own)
                .ok_or_else(|| format!("no port from {} to {} is free", ports::FIRST, ports::LAST)),
        }
    }

    /// What a group that was started by a server before this one was given.
    pub fn before(app: &App, port: Option<u16>) -> Given {
        match port {
            None => Given::Nothing,
            Some(port) if app.port == Port::Own => ports::reserve(port).map_or(Given::Fixed(port), Given::Own),
            Some(port) => Given::Fixed(port),
        }
    }

    pub fn port(&self) -> Option<u16> {
        match self {
            Given::Nothing => None,
            Given::Fixed(port) => Some(*port),
            Given::Own(reserved) => Some(reserved.port),
        }
    }
}
