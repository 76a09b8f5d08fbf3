//! The server process: how it is started, spoken to without ever waiting for it, and replaced.

use crate::carry::RESUME_VARIABLE;
use crate::channel::{Inbox, Outbox, Read};
use crate::kernel::{BeforeExec, before_exec};
use crate::protocol::{ToServer, ToSupervisor};
use crate::{BOOT_VARIABLE, Error};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that closes its socket is ending; if it has not ended by then, it is made to.
const CLOSED_LIMIT: Duration = Duration::from_secs(1);
/// The longest a start is put off.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// A life shorter than this, or one that never got ready, makes the next start wait.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Before the first server was ever ready there is no service to keep up: so many crashes are enough.
pub(crate) const FIRST_CRASHES_MAX: u32 = 5;
/// Messages taken in one turn, so that signals and children are never starved.
const MESSAGES_PER_TURN: usize = 64;

#[derive(Debug)]
pub(crate) struct Server {
    pub pid: i32,
    pub ready: bool,
    started: Instant,
    socket: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
    /// Since when nothing more can be said; `killed` once that was made final.
    closed: Option<Instant>,
    killed: bool,
}

impl Server {
    /// Another server of our own kind.
    pub fn start(argv: &[String], boot: &str) -> Result<Server, Error> {
        let shown = argv.first().ok_or_else(|| Error::Spawn("there is no server command".into()))?;
        Server::spawn(program(shown), argv, boot, None)
    }

    /// The server of a file; its standard error goes to `words`.
    pub fn of_file(file: &str, argv: &[String], boot: &str, words: OwnedFd) -> Result<Server, Error> {
        Server::spawn(file, argv, boot, Some(words))
    }

    fn spawn(file: &str, argv: &[String], boot: &str, words: Option<OwnedFd>) -> Result<Server, Error> {
        let (shown, arguments) = argv.split_first().ok_or_else(|| Error::Spawn("there is no server command".into()))?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::io("cannot make a socket pair"))?;
        ours.set_nonblocking(true).map_err(Error::io("cannot set up a socket"))?;
        // Takes the lowest free number from 3 on: after it, 3 is in use, so std's own pipe is not there.
        let _occupied = theirs.try_clone().map_err(Error::io("cannot duplicate a socket"))?;
        let mut command = Command::new(file);
        command.arg0(shown).args(arguments).env(BOOT_VARIABLE, boot).env_remove(RESUME_VARIABLE).stdin(Stdio::null());
        for name in crate::notify::VARIABLES {
            command.env_remove(name);
        }
        if let Some(words) = words {
            command.stderr(words);
        }
        // A group of its own: Ctrl-C reaches the supervisor alone.
        command.process_group(0);
        let third = Some(theirs.as_raw_fd());
        before_exec(
            &mut command,
            BeforeExec { limits: None, identity: None, die_with: None, third, ignore_ttou: true },
        );
        let child = command.spawn().map_err(Error::io(format!("cannot start the server ({shown})")))?;
        Ok(Server::at(child.id() as i32, ours, Instant::now()))
    }

    fn at(pid: i32, socket: UnixStream, started: Instant) -> Server {
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        Server { pid, ready: false, started, socket, inbox, outbox, closed: None, killed: false }
    }

    /// One that was ready under the supervisor this process was before.
    pub fn carried(pid: i32, socket: OwnedFd, lived: Duration) -> Server {
        let now = Instant::now();
        let started = now.checked_sub(lived).unwrap_or(now);
        Server { ready: true, ..Server::at(pid, UnixStream::from(socket), started) }
    }

    /// No message is half read or half written, so that the socket alone is the whole connection.
    pub fn is_quiet(&self) -> bool {
        self.closed.is_none() && self.outbox.is_empty() && self.inbox.is_between()
    }

    /// Queues a message. A server that lets its queue run full is stuck, and is ended.
    pub fn tell(&mut self, message: &ToServer, fds: Vec<Arc<OwnedFd>>) {
        if self.closed.is_none()
            && let Err(error) = self.outbox.push(message, fds)
        {
            self.give_up(&error);
        }
    }

    pub fn flush(&mut self) {
        match self.outbox.flush(self.socket.as_fd()) {
            Ok(()) => {}
            // What it sent before it ended is still to be read.
            Err(Error::Closed) => self.outbox = Outbox::default(),
            Err(error) => self.give_up(&error),
        }
    }

    /// Some of the messages that have arrived; empty when there are none at the moment.
    pub fn hear(&mut self) -> Vec<ToSupervisor> {
        let mut messages = Vec::new();
        while self.closed.is_none() && messages.len() < MESSAGES_PER_TURN {
            match self.inbox.read(self.socket.as_fd()) {
                Ok(Read::Message(body, _)) => match serde_json::from_slice(&body) {
                    Ok(message) => messages.push(message),
                    Err(error) => self.give_up(&Error::Message(error)),
                },
                Ok(Read::Blocked) => break,
                Ok(Read::Closed) => self.closed = Some(Instant::now()),
                Err(error) => self.give_up(&error),
            }
        }
        messages
    }

    /// All that it had sent before it ended.
    pub fn last_words(&mut self) -> Vec<ToSupervisor> {
        let mut words = Vec::new();
        loop {
            let more = self.hear();
            if more.is_empty() {
                return words;
            }
            words.extend(more);
        }
    }

    /// The socket, while there is something to hear; and whether there is something to write.
    pub fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.closed.is_none().then(|| (self.socket.as_fd(), !self.outbox.is_empty()))
    }

    /// When `end_if_closed` wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.closed.filter(|_| !self.killed).map(|closed| closed + CLOSED_LIMIT)
    }

    pub fn end_if_closed(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.kill();
        }
    }

    pub fn kill(&mut self) {
        self.killed = true;
        // It is our child and not yet waited for, so the pid is its own; and so is the group, which it leads.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }

    pub fn lived(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    pub fn socket_for_exec(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn give_up(&mut self, error: &Error) {
        crate::run::say(&format!("the server is ended: {}", crate::explain(error)));
        self.closed = Some(Instant::now());
        self.kill();
    }
}

/// The file may have been replaced by a newer one or deleted since the supervisor began; it speaks to its own kind.
fn program(shown: &str) -> &str {
    const MYSELF: &str = "/proc/self/exe";
    const GONE: &str = " (deleted)";
    // The link names the path at the time of exec, and says so when the file is gone from it. The link's own file is
    // not looked at: under valgrind that is valgrind.
    let gone = format!("{}{GONE}", shown.strip_suffix(GONE).unwrap_or(shown));
    let replaced = std::fs::read_link(MYSELF).is_ok_and(|link| link.as_os_str() == gone.as_str());
    if replaced { MYSELF } else { shown }
}

/// How the servers before this one ended; decides when and whether there is a next one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct History {
    pub crashes: u32,
    ever_ready: bool,
    short_lives: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    After(Duration),
    GiveUp,
}

impl History {
    pub fn ready(&mut self) {
        self.ever_ready = true;
    }

    pub fn was_ready(&self) -> bool {
        self.ever_ready
    }

    pub fn crashed(&mut self, was_ready: bool, lived: Duration) -> Next {
        self.crashes = self.crashes.saturating_add(1);
        if !self.ever_ready && self.crashes >= FIRST_CRASHES_MAX {
            return Next::GiveUp;
        }
        if was_ready && lived >= SHORT_LIFE {
            self.short_lives = 0;
            return Next::After(Duration::ZERO);
        }
        let wait = match self.short_lives {
            0 => Duration::ZERO,
            lives => BACKOFF_MIN.saturating_mul(1 << (lives - 1).min(16)).min(BACKOFF_MAX),
        };
        self.short_lives = self.short_lives.saturating_add(1);
        Next::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_server_that_lived_is_replaced_at_once_every_time() {
        let mut history = History::default();
        history.ready();
        for _ in 0..1000 {
            assert_eq!(history.crashed(true, LONG), Next::After(Duration::ZERO));
        }
        assert_eq!(history.crashes, 1000);
    }

    #[test]
    fn repeated_short_lives_wait_up_to_a_second() {
        let mut history = History::default();
        history.ready();
        let waits: Vec<Next> = (0..8).map(|_| history.crashed(false, LONG)).collect();
        let expected = [0, 50, 100, 200, 400, 800, 1000, 1000];
        assert_eq!(waits, expected.map(|ms| Next::After(Duration::from_millis(ms))));
        assert_eq!(history.crashed(true, LONG), Next::After(Duration::ZERO));
        assert_eq!(history.crashed(true, Duration::ZERO), Next::After(Duration::ZERO));
        assert_eq!(history.crashed(true, Duration::ZERO), Next::After(BACKOFF_MIN));
    }

    #[test]
    fn five_crashes_before_the_first_ready_are_enough() {
        let mut history = History::default();
        for _ in 1..FIRST_CRASHES_MAX {
            assert!(matches!(history.crashed(false, Duration::ZERO), Next::After(_)));
        }
        assert_eq!(history.crashed(false, Duration::ZERO), Next::GiveUp);
    }
}
