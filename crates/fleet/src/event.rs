//! What the fleet has to say, and how a person reads it.
//!
//! Must never: print anything itself, or a value of an environment.

mod words;

pub(crate) use words::{mib, span};

use crate::ready::{How, Seen};
use mainstay_supervisor::protocol::Exit;
use std::net::SocketAddr;
use std::time::Duration;

/// How loudly an event is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One instance, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub app: String,
    pub number: u32,
    /// How many instances the app has.
    pub of: u32,
}

/// All that is known about an end that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `None`: it could not be started; then `error` says why.
    pub exit: Option<Exit>,
    pub error: Option<String>,
    /// How long it ran.
    pub ran: Duration,
    /// Whether it was ready before.
    pub was_ready: bool,
    /// Where its group was last seen to listen.
    pub listening: Vec<SocketAddr>,
    /// Its last lines of output.
    pub lines: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Started {
        who: Who,
        pid: i32,
        port: Option<u16>,
    },
    /// A group that a server before this one started runs on.
    TakenOver {
        who: Who,
        pid: i32,
    },
    Ready {
        who: Who,
        line: String,
        address: Option<SocketAddr>,
        took: Duration,
        how: How,
    },
    /// This path of the app is asked from now on: it answered 2xx, and the file names none.
    HealthAdopted {
        app: String,
        path: String,
        status: u16,
    },
    /// It ignores its `PORT` and is used where it listens.
    Elsewhere {
        who: Who,
        port: u16,
        address: SocketAddr,
    },
    /// It ignores its `PORT`, and that cannot be helped from here.
    WrongPort {
        who: Who,
        port: u16,
        listening: Vec<SocketAddr>,
    },
    /// Others can reach it beside the edge, which guards it: it is not used.
    Exposed {
        who: Who,
        listening: Vec<SocketAddr>,
    },
    /// Not ready for a minute; it is waited for on.
    Late {
        who: Who,
        waited: Duration,
        port: Option<u16>,
        seen: Seen,
        lines: Vec<String>,
    },
    Exited {
        who: Who,
        end: End,
        again_in: Duration,
    },
    CrashLoop {
        who: Who,
        end: End,
        exits: u32,
    },
    /// Exit status 0 and `restart = "on-failure"`.
    Finished {
        who: Who,
    },
    Replaced {
        who: Who,
    },
    NotReplaced {
        who: Who,
        trouble: Trouble,
    },
    OverMemory {
        who: Who,
        rss_bytes: u64,
        limit_bytes: u64,
    },
    HadToKill {
        who: Who,
        limit: Duration,
    },
    WouldNotStop {
        who: Who,
        pid: i32,
    },
    /// A group that no setting asks for any more, left by a server before this one.
    Stray {
        label: String,
        pid: i32,
    },
}

/// Why a new instance did not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Ended(End),
    NotReady { app: String, waited: Duration, port: Option<u16>, seen: Seen, lines: Vec<String> },
}

impl Event {
    pub fn level(&self) -> Level {
        match self {
            Event::Started { .. } | Event::TakenOver { .. } => Level::Debug,
            Event::Ready { .. } | Event::HealthAdopted { .. } | Event::Finished { .. } | Event::Replaced { .. } => {
                Level::Info
            }
            Event::Elsewhere { .. }
            | Event::Late { .. }
            | Event::Exited { .. }
            | Event::OverMemory { .. }
            | Event::HadToKill { .. }
            | Event::Stray { .. } => Level::Warn,
            Event::WrongPort { .. }
            | Event::Exposed { .. }
            | Event::CrashLoop { .. }
            | Event::NotReplaced { .. }
            | Event::WouldNotStop { .. } => Level::Error,
        }
    }

    /// Which instance it is about; its number is absent where it is about the app.
    pub fn about(&self) -> (&str, Option<u32>) {
        match self {
            Event::HealthAdopted { app, .. } => (app, None),
            Event::Stray { label, .. } => (label, None),
            Event::Started { who, .. }
            | Event::TakenOver { who, .. }
            | Event::Ready { who, .. }
            | Event::Elsewhere { who, .. }
            | Event::WrongPort { who, .. }
            | Event::Exposed { who, .. }
            | Event::Late { who, .. }
            | Event::Exited { who, .. }
            | Event::CrashLoop { who, .. }
            | Event::Finished { who }
            | Event::Replaced { who }
            | Event::NotReplaced { who, .. }
            | Event::OverMemory { who, .. }
            | Event::HadToKill { who, .. }
            | Event::WouldNotStop { who, .. } => (&who.app, Some(who.number)),
        }
    }
}
