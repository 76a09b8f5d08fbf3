//! What should run: the part of `[app.NAME]` that is about processes.
//!
//! Must never: start, open or bind anything; reading the same inputs twice gives the same options.

mod read;

use crate::environment::Variables;
use crate::instance::Rules;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// Until the binary says what `[edge.timeouts] drain` is.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// By name, each at most once.
    pub apps: Vec<Rc<App>>,
    /// How long an instance may drain, and then again take to stop. `None`: 30 s.
    pub drain: Option<Duration>,
}

/// Where an app takes its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Each instance has one of its own, given by us.
    Own,
    /// Always this one, so there is one instance.
    Fixed(u16),
    /// No traffic: healthy is alive.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    /// Exit status 0 is the end.
    OnFailure,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub name: String,
    /// As the operator wrote it, for messages.
    pub line: String,
    /// Program and arguments; a shell line is `["/bin/sh", "-c", LINE]`.
    pub argv: Vec<String>,
    pub instances: u32,
    pub port: Port,
    pub dir: Option<PathBuf>,
    pub user: Option<String>,
    /// Everything but `PORT` and `HOST`, sorted by name.
    pub env: Variables,
    /// Bytes of a group's resident memory; above it the instance is replaced.
    pub memory_limit: Option<u64>,
    pub restart: Restart,
    /// May listen on a public address although the edge guards it.
    pub exposed: bool,
    /// It must not: others would walk round what the edge asks of them.
    pub closed: bool,
    /// Health path that the file names; readiness needs a 2xx from it.
    pub health: Option<String>,
}

impl Options {
    /// What `[edge]` says about our instances: the drain limit, and each app's health path.
    pub fn under_edge(mut self, drain: Duration, health: impl Fn(&str) -> Option<String>) -> Options {
        self.drain = Some(drain);
        for app in &mut self.apps {
            let path = health(&app.name);
            Rc::make_mut(app).health = path;
        }
        self
    }

    /// The edge lets come whom it recognises, and this is production: whoever reached a child itself would walk round.
    pub fn guarded(mut self, guarded: bool) -> Options {
        for app in self.apps.iter_mut().filter(|app| guarded && !app.exposed) {
            Rc::make_mut(app).closed = true;
        }
        self
    }

    pub fn drain(&self) -> Duration {
        self.drain.unwrap_or(DRAIN)
    }

    pub fn app(&self, name: &str) -> Option<&Rc<App>> {
        self.apps.iter().find(|app| app.name == name)
    }
}

impl App {
    /// Hash of all that a running process was started with. While it stays the same the process may stay.
    pub fn tag(&self) -> String {
        let mut hash = Fnv::default();
        hash.list(self.argv.iter().map(String::as_str));
        hash.list(self.dir.iter().map(|dir| dir.to_str().unwrap_or("\u{fffd}")));
        hash.list(self.user.iter().map(String::as_str));
        hash.list(self.env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
        hash.list([format!("{:?}", self.port).as_str()].into_iter());
        // Only where it is so: one that was started before anybody asked is looked at again by being replaced.
        if self.closed {
            hash.list(["closed"].into_iter());
        }
        format!("{:016x}", hash.0)
    }

    pub fn rules(&self, drain: Duration, elsewhere: bool) -> Rules {
        Rules {
            overlap: self.port == Port::Own && !elsewhere,
            on_failure: self.restart == Restart::OnFailure,
            limit: drain,
        }
    }
}

/// FNV-1a: the same in every build, so that a tag outlives the server that made it.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Texts and lists end by a byte that no text holds, so that no two lists read the same.
    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        for text in texts {
            self.bytes(text.as_bytes());
            self.bytes(&[0xff]);
        }
        self.bytes(&[0xfe]);
    }
}
