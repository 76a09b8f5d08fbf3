//! What the service manager is told (`sd_notify(3)`): ready, reloading, stopping, and that the server answers.
//!
//! One datagram a message to `$NOTIFY_SOCKET`; never waits, and never fails anything: without a manager it does
//! nothing. Life is told of only after the server has answered: a timer alone would call a stuck server healthy.

use crate::kernel;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How the service manager is found. Ours alone: who inherits them would answer for us.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// More often than this would be a load of its own.
const WATCHDOG_MIN: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(crate) struct Notify {
    socket: Option<UnixDatagram>,
    reloading: bool,
    stopping: bool,
    watchdog: Option<Watchdog>,
}

/// The server is asked at half the time within which the manager wants to hear of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watchdog {
    every: Duration,
    next: Instant,
    /// Asked, and not answered yet.
    waiting: bool,
}

impl Notify {
    pub fn from_environment(now: Instant) -> Notify {
        let [socket, every, pid] = VARIABLES.map(|name| std::env::var(name).ok());
        Notify::new(socket.as_deref(), watchdog_interval(every.as_deref(), pid.as_deref(), std::process::id()), now)
    }

    fn new(socket: Option<&str>, watchdog: Option<Duration>, now: Instant) -> Notify {
        let socket = socket.and_then(|name| connected(name).ok());
        let watchdog = watchdog.filter(|_| socket.is_some());
        let watchdog = watchdog.map(|every| Watchdog { every, next: now + every, waiting: false });
        Notify { socket, watchdog, ..Notify::default() }
    }

    /// The server serves; also the end of a reload, when the server that was to do it died.
    pub fn ready(&mut self) {
        self.reloading = false;
        // A server that comes after another has been asked nothing yet.
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.waiting = false;
        }
        if !self.stopping {
            self.send("READY=1\nSTATUS=serving\n");
        }
    }

    pub fn reloading(&mut self) {
        if self.stopping || self.reloading {
            return;
        }
        self.reloading = true;
        let micros = kernel::monotonic_micros();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration again\n"));
    }

    /// `refused` is why nothing was changed.
    pub fn reloaded(&mut self, refused: Option<&str>) {
        if !std::mem::take(&mut self.reloading) || self.stopping {
            return;
        }
        let status = refused.map_or("serving".to_owned(), |why| {
            // The first fault and its place; that nothing was changed is said already.
            let said = |line: &&str| !line.trim().is_empty() && *line != "nothing was changed";
            let mut lines = why.lines().filter(said);
            let line = lines.next().unwrap_or("see the log");
            let place = lines.next().and_then(|line| line.trim().strip_prefix("-->")).unwrap_or_default();
            format!("serving; not reloaded: {line}{place}")
        });
        self.send(&format!("READY=1\nSTATUS={}\n", status.replace(|c: char| c.is_control(), " ")));
    }

    pub fn stopping(&mut self, status: &str) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.send(&format!("STOPPING=1\nSTATUS={status}\n"));
        }
    }

    pub fn status(&self, status: &str) {
        if !self.stopping {
            self.send(&format!("STATUS={status}\n"));
        }
    }

    /// When `asks` wants to be called.
    pub fn due(&self) -> Option<Instant> {
        self.watchdog.map(|watchdog| watchdog.next)
    }

    /// Whether the server is to be asked now. One question at a time: a stuck server's queue must not grow.
    pub fn asks(&mut self, now: Instant, has_server: bool) -> bool {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| now >= watchdog.next) else { return false };
        watchdog.next = now + watchdog.every;
        let asks = has_server && !watchdog.waiting;
        watchdog.waiting |= asks;
        asks
    }

    /// The server has answered.
    pub fn alive(&mut self) {
        let waited = self.watchdog.as_mut().is_some_and(|watchdog| std::mem::take(&mut watchdog.waiting));
        if waited {
            self.send("WATCHDOG=1\n");
        }
    }

    /// A manager that does not read is a manager that does not want to know.
    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// `/path`, or `@name` for an abstract socket; nothing else is one we can reach (`vsock:` is for whole machines).
fn connected(name: &str) -> std::io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => return Err(std::io::ErrorKind::InvalidInput.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// Half of what the manager allows, if it means this process.
fn watchdog_interval(every: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = every?.parse().ok().filter(|micros| *micros > 0)?;
    Some((Duration::from_micros(micros) / 2).max(WATCHDOG_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 512];
        std::iter::from_fn(|| socket.recv(&mut bytes).ok().map(|n| String::from_utf8_lossy(&bytes[..n]).into_owned()))
            .collect()
    }

    fn manager() -> (UnixDatagram, String) {
        let name = format!("mainstay-notify-{}-{:?}", std::process::id(), std::thread::current().id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    #[test]
    fn each_change_is_told_once_and_nothing_after_stopping() {
        let (socket, name) = manager();
        let mut notify = Notify::new(Some(&name), None, Instant::now());
        notify.ready();
        notify.reloading();
        notify.reloading();
        notify.reloaded(Some("\nbad\x1b file\nsecond line"));
        notify.reloaded(None);
        notify.stopping("draining");
        notify.stopping("ending");
        notify.ready();
        notify.reloading();
        notify.status("late");
        let heard = heard(&socket);
        assert_eq!(heard.len(), 4, "{heard:#?}");
        assert_eq!(heard[0], "READY=1\nSTATUS=serving\n");
        assert!(heard[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{}", heard[1]);
        assert_eq!(heard[2], "READY=1\nSTATUS=serving; not reloaded: bad  file\n");
        assert_eq!(heard[3], "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn life_is_told_of_only_after_an_answer() {
        let (socket, name) = manager();
        let (start, half) = (Instant::now(), Duration::from_secs(15));
        let mut notify = Notify::new(Some(&name), Some(half), start);
        assert!(!notify.asks(start, true), "not before it is due");
        notify.alive();
        assert!(notify.asks(start + half, true));
        assert!(!notify.asks(start + half * 2, true), "one question at a time");
        assert!(heard(&socket).is_empty());
        notify.alive();
        notify.alive();
        assert_eq!(heard(&socket), ["WATCHDOG=1\n"]);
        assert!(!notify.asks(start + half * 3, false), "nobody to ask");
        assert!(notify.asks(start + half * 4, true));
        notify.ready();
        assert!(notify.asks(start + half * 5, true), "the next server is asked anew");
        assert_eq!(notify.due(), Some(start + half * 6));
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let of = |every, pid| watchdog_interval(every, pid, 7);
        assert_eq!(of(Some("30000000"), Some("7")), Some(Duration::from_secs(15)));
        assert_eq!(of(Some("30000000"), None), Some(Duration::from_secs(15)));
        assert_eq!(of(Some("1"), None), Some(WATCHDOG_MIN));
        for (every, pid) in [(Some("30000000"), Some("8")), (Some("0"), None), (Some("x"), None), (None, Some("7"))] {
            assert_eq!(of(every, pid), None);
        }
    }

    #[test]
    fn a_manager_that_is_not_there_stops_nothing() {
        for name in [None, Some(""), Some("vsock:2:1"), Some("/nowhere/notify"), Some("relative")] {
            let mut notify = Notify::new(name, Some(WATCHDOG_MIN), Instant::now());
            notify.ready();
            notify.stopping("x");
            assert_eq!(notify.due(), None, "{name:?}");
        }
    }
}
