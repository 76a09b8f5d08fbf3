//! Upgrade in place: the server of another file is started beside the one that serves, takes over once it is ready,
//! and the old one finishes what it has begun.
//!
//! Until the new one is ready nothing changes; whatever it does until then, the old one goes on. Must never have two
//! servers start or end instances: what the one that is not in charge asks for waits, or is forgotten.

use crate::protocol::{Exit, Handover, PROTOCOL, ToServer, ToSupervisor};
use crate::run::{Phase, Supervisor, say};
use crate::server::Server;
use crate::words::Words;
use crate::{Error, explain};
use nix::unistd::{AccessFlags, access};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For the first word of the new file's server: it reads nothing before it.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// Then until it sees the apps serve. Meanwhile an instance that dies waits for its successor.
const PROVING_LIMIT: Duration = Duration::from_secs(20);
/// For the old server to let go of files and pipes; the new one waits for it.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
/// On top of the configured drain, before an old server that does not end is ended.
const RETIRE_GRACE: Duration = Duration::from_secs(10);
/// What a server asks for before it is in charge: a start an instance, and a little more.
const HELD_MESSAGES_MAX: usize = 4096;

/// Where an upgrade is, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    candidate: Option<Candidate>,
    retiring: Option<Retiring>,
    /// What a server remembered when it let go, until another takes it.
    pub memory: Option<String>,
    /// What the new server prints until it has taken over.
    words: Option<Words>,
    /// The new server has everything that has one owner.
    taken: bool,
    /// The old server is gone: this process is to become the new file's supervisor.
    pub becoming: bool,
    /// The file of the last upgrade that succeeded, or is about to.
    pub program: PathBuf,
}

/// The new file's server, until it is ready.
#[derive(Debug)]
struct Candidate {
    server: Server,
    program: PathBuf,
    /// Once it has said so.
    version: Option<String>,
    until: Instant,
    words: Words,
    serving: Vec<String>,
    /// Asked for by the new one, done when it is in charge.
    held: Vec<ToSupervisor>,
    /// Starts that the old one asked for: its own again if it stays.
    put_off: Vec<ToSupervisor>,
}

/// The server that was in charge before.
#[derive(Debug)]
struct Retiring {
    server: Server,
    until: Instant,
    /// `None` once it has let go.
    release_until: Option<Instant>,
    held: Vec<ToSupervisor>,
    /// The one that was to take over is gone.
    failed: bool,
}

impl Upgrade {
    pub fn taken(&mut self) {
        self.taken = true;
        self.words = None;
    }

    /// Nothing of the old file is left but this process.
    pub fn is_over(&self) -> bool {
        self.becoming && self.taken
    }
}

impl Supervisor {
    /// SIGUSR2: the server knows what it is to say and to whom.
    pub(crate) fn ask_for_upgrade(&mut self) {
        match self.server.as_mut().filter(|server| server.ready) {
            Some(server) => server.tell(&ToServer::Upgrade, Vec::new()),
            None => say("not upgraded: no server is ready yet"),
        }
    }

    /// Starts the new file's server, or tells the one that asked why not.
    pub(crate) fn begin_upgrade(&mut self, binary: Option<PathBuf>, serving: Vec<String>, now: Instant) {
        let program = binary.unwrap_or_else(|| self.program.clone());
        let begun = self.may_upgrade(now).and_then(|()| runnable(&program)).and_then(|()| self.try_file(&program));
        match begun {
            Ok((server, words)) => {
                let until = now + GREETING_LIMIT;
                let (held, put_off) = (Vec::new(), Vec::new());
                let candidate = Candidate { server, program, version: None, until, words, serving, held, put_off };
                self.upgrade.candidate = Some(candidate);
            }
            Err(why) => self.tell_serving(&ToServer::UpgradeFailed { why }),
        }
    }

    fn may_upgrade(&self, now: Instant) -> Result<(), String> {
        if !matches!(self.phase, Phase::Serving) || self.asked {
            return Err("mainstay is stopping".to_owned());
        }
        if let Some(candidate) = &self.upgrade.candidate {
            return Err(format!(
                "an upgrade is under way: {} (pid {}) is being started; see: mainstay status",
                candidate.program.display(),
                candidate.server.pid
            ));
        }
        if let Some(retiring) = &self.upgrade.retiring {
            return Err(format!(
                "an upgrade is under way: the server before this one (pid {}) still finishes what it began, for {} s \
                 at most; see: mainstay status",
                retiring.server.pid,
                retiring.until.saturating_duration_since(now).as_secs()
            ));
        }
        if self.upgrade.becoming && self.server.is_some() {
            return Err("an upgrade is under way: the supervisor is about to be replaced".to_owned());
        }
        Ok(())
    }

    fn try_file(&self, program: &Path) -> Result<(Server, Words), String> {
        let failed = |error: Error| format!("{}; nothing was changed", explain(&error));
        let (words, theirs) = Words::pipe().map_err(|error| failed(Error::io("cannot make a pipe")(error)))?;
        let shown = program.to_string_lossy().into_owned();
        let mut argv = self.argv.clone();
        argv[0].clone_from(&shown);
        let server = Server::of_file(&shown, &argv, &self.boot, theirs).map_err(failed)?;
        Ok((server, words))
    }

    /// The one that is in charge, or was when it asked.
    fn tell_serving(&mut self, message: &ToServer) {
        if let Some(server) = &mut self.server {
            server.tell(message, Vec::new());
        }
    }

    /// What the servers beside the one in charge have said.
    pub(crate) fn hear_upgrade(&mut self, now: Instant) {
        self.hear_candidate(now);
        if let Some(words) = &mut self.upgrade.words {
            words.read();
        }
        let Some(retiring) = &mut self.upgrade.retiring else { return };
        let messages = retiring.server.hear();
        retiring.server.end_if_closed(now);
        for message in messages {
            // Whatever else it asks for is its successor's business.
            if let ToSupervisor::Released { memory } = message {
                self.released(memory, now);
            }
        }
    }

    fn hear_candidate(&mut self, now: Instant) {
        let Some(candidate) = &mut self.upgrade.candidate else { return };
        candidate.words.read();
        let (pid, messages) = (candidate.server.pid, candidate.server.hear());
        candidate.server.end_if_closed(now);
        for message in messages {
            let Some(candidate) = &mut self.upgrade.candidate else {
                // Given up, or in charge by what it said before this.
                if self.server.as_ref().is_some_and(|server| server.pid == pid) {
                    self.heard_or_kept(message, now);
                }
                continue;
            };
            match message {
                ToSupervisor::Here { protocol, version } if protocol == PROTOCOL => self.greet(version, now),
                ToSupervisor::Here { protocol, version } => self.give_up_candidate(&format!(
                    "it is mainstay {version} and speaks protocol {protocol} between its processes, this one {PROTOCOL}; \
                     fix: mainstay stop, then start the new one"
                )),
                _ if candidate.version.is_none() => self.give_up_candidate("it is no mainstay: it did not say its version"),
                ToSupervisor::Ready => self.take_over(now),
                other if candidate.held.len() < HELD_MESSAGES_MAX => candidate.held.push(other),
                _ => self.give_up_candidate("it asks for too much before it is ready"),
            }
        }
    }

    /// The new one understands us: it gets all that the next server after a crash would get.
    fn greet(&mut self, version: String, now: Instant) {
        let from = self.server.as_ref().map_or(0, |server| server.pid);
        let Some(candidate) = &mut self.upgrade.candidate else { return };
        candidate.version = Some(version);
        candidate.until = now + PROVING_LIMIT;
        let handover = Handover { from, serving: candidate.serving.clone() };
        let (hello, fds) = self.hello(Some(handover));
        if let Some(candidate) = &mut self.upgrade.candidate {
            candidate.server.tell(&hello, fds);
        }
    }

    /// The new one is ready and in charge; the old one is to let go.
    fn take_over(&mut self, now: Instant) {
        let (Some(candidate), Some(mut old)) = (self.upgrade.candidate.take(), self.server.take()) else { return };
        let Candidate { mut server, program, version, held, words, .. } = candidate;
        (self.upgrade.words, self.upgrade.taken) = (Some(words), false);
        server.ready = true;
        self.note_server(server.pid);
        old.tell(&ToServer::Retire { pid: server.pid, version: version.unwrap_or_default() }, Vec::new());
        self.server = Some(server);
        self.upgrade.program = program;
        let (until, release_until) = (now + self.stop_limit + RETIRE_GRACE, Some(now + RELEASE_LIMIT));
        self.upgrade.retiring = Some(Retiring { server: old, until, release_until, held, failed: false });
    }

    /// From the server in charge.
    pub(crate) fn heard_or_kept(&mut self, message: ToSupervisor, now: Instant) {
        if let Some(message) = self.keep_for_later(message) {
            self.heard(message, now);
        }
    }

    /// Between two owners: what the new one asks for is kept until the old one has let go.
    fn keep_for_later(&mut self, message: ToSupervisor) -> Option<ToSupervisor> {
        let Some(retiring) = self.upgrade.retiring.as_mut().filter(|r| r.release_until.is_some()) else {
            let Some(candidate) = &mut self.upgrade.candidate else { return Some(message) };
            let is_start = matches!(message, ToSupervisor::Spawn { .. });
            if !is_start || candidate.put_off.len() >= HELD_MESSAGES_MAX {
                return Some(message);
            }
            candidate.put_off.push(message);
            return None;
        };
        if retiring.held.len() >= HELD_MESSAGES_MAX {
            return Some(message);
        }
        retiring.held.push(message);
        None
    }

    /// The old one has let go of everything that has one owner.
    fn released(&mut self, memory: String, now: Instant) {
        let Some(retiring) = self.upgrade.retiring.as_mut().filter(|r| r.release_until.is_some()) else { return };
        retiring.release_until = None;
        let held = std::mem::take(&mut retiring.held);
        if retiring.failed {
            // For the one that is about to be started.
            self.upgrade.memory = Some(memory);
            return;
        }
        let Some(server) = &mut self.server else { return };
        match io::stderr().as_fd().try_clone_to_owned() {
            Ok(stderr) => server.tell(&ToServer::TakeOver { memory }, vec![Arc::new(stderr)]),
            Err(_) => server.tell(&ToServer::TakeOver { memory }, Vec::new()),
        }
        for message in held {
            self.heard(message, now);
        }
    }

    /// An instance of the new one: the old one sends requests there too.
    pub(crate) fn tell_retiring(&mut self, message: &ToServer) {
        if let Some(retiring) = self.upgrade.retiring.as_mut().filter(|r| r.server.socket().is_some()) {
            retiring.server.tell(message, Vec::new());
        }
    }

    /// Everybody hears of ends; the one in charge acts on them.
    pub(crate) fn tell_beside(&mut self, news: &[ToServer]) {
        let greeted = self.upgrade.candidate.as_mut().filter(|candidate| candidate.version.is_some());
        let candidate = greeted.map(|candidate| &mut candidate.server);
        let retiring = self.upgrade.retiring.as_mut().map(|retiring| &mut retiring.server);
        for server in candidate.into_iter().chain(retiring) {
            for message in news {
                server.tell(message, Vec::new());
            }
        }
    }

    pub(crate) fn flush_beside(&mut self) {
        let candidate = self.upgrade.candidate.as_mut().map(|candidate| &mut candidate.server);
        let retiring = self.upgrade.retiring.as_mut().map(|retiring| &mut retiring.server);
        for server in candidate.into_iter().chain(retiring).filter(|server| server.socket().is_some()) {
            server.flush();
        }
    }

    /// Nothing was changed yet: the old one goes on, and does what it had put off.
    pub(crate) fn give_up_candidate(&mut self, why: &str) {
        let Some(mut candidate) = self.upgrade.candidate.take() else { return };
        candidate.server.kill();
        candidate.words.read();
        let why = format!("{} {why}; nothing was changed{}", candidate.program.display(), candidate.words.shown());
        let told = ToServer::UpgradeFailed { why };
        if self.server.is_none() {
            // The next one decides for itself.
            return;
        }
        self.tell_serving(&told);
        let now = Instant::now();
        for message in candidate.put_off {
            self.heard(message, now);
        }
    }

    /// Was it one of ours beside the one in charge? Then that is dealt with.
    pub(crate) fn beside_ended(&mut self, pid: i32, exit: Exit, now: Instant) -> bool {
        if self.upgrade.candidate.as_ref().is_some_and(|candidate| candidate.server.pid == pid) {
            self.give_up_candidate(&format!("ended ({exit}) before it was ready"));
            return true;
        }
        if self.upgrade.retiring.as_ref().is_some_and(|retiring| retiring.server.pid == pid) {
            self.retiring_ended(now);
            return true;
        }
        false
    }

    fn retiring_ended(&mut self, now: Instant) {
        let Some(retiring) = &mut self.upgrade.retiring else { return };
        for message in retiring.server.last_words() {
            if let ToSupervisor::Released { memory } = message {
                self.released(memory, now);
            }
        }
        // It ended without a word: there is nothing to wait for.
        self.released(String::new(), now);
        let Some(retiring) = self.upgrade.retiring.take() else { return };
        if self.asked {
            return self.begin_draining(now);
        }
        self.upgrade.becoming = !retiring.failed;
    }

    /// The server in charge has ended. While another still finishes, the upgrade has failed.
    pub(crate) fn successor_ended(&mut self, exit: Exit) {
        self.upgrade.becoming = false;
        let Some(retiring) = self.upgrade.retiring.as_mut().filter(|retiring| !retiring.failed) else { return };
        retiring.failed = true;
        retiring.held.clear();
        let words = self.upgrade.words.take().map(|mut words| {
            words.read();
            words.shown()
        });
        let why = format!(
            "the new server ended ({exit}) after it had taken over; a server of the old file takes its place, and no \
             instance was touched{}",
            words.unwrap_or_else(|| "   see: mainstay logs --level error".to_owned())
        );
        retiring.server.tell(&ToServer::UpgradeFailed { why }, Vec::new());
    }

    /// No server is started while another still holds what has one owner.
    pub(crate) fn is_released(&self) -> bool {
        self.upgrade.retiring.as_ref().is_none_or(|retiring| retiring.release_until.is_none())
    }

    /// SIGTERM: what is not ready is given up; what finishes is to hurry. `true`: come back when it has ended.
    pub(crate) fn stop_upgrade(&mut self) -> bool {
        self.give_up_candidate("was given up: mainstay is stopping");
        self.upgrade.becoming = false;
        let Some(retiring) = &mut self.upgrade.retiring else { return false };
        retiring.server.tell(&ToServer::Drain, Vec::new());
        true
    }

    /// What time brings.
    pub(crate) fn turn_upgrade(&mut self, now: Instant) {
        if let Some(candidate) = self.upgrade.candidate.as_ref().filter(|candidate| now >= candidate.until) {
            let why = match candidate.version {
                None => format!("did not say within {} s that it is mainstay", GREETING_LIMIT.as_secs()),
                Some(_) => format!("was not ready within {} s", PROVING_LIMIT.as_secs()),
            };
            self.give_up_candidate(&why);
        }
        let Some(retiring) = &mut self.upgrade.retiring else { return };
        if now >= retiring.until {
            say("the old server did not finish in time and is ended");
            retiring.server.kill();
            retiring.until = now + RETIRE_GRACE;
        }
        if retiring.release_until.is_some_and(|until| now >= until) {
            self.released(String::new(), now);
        }
    }

    pub(crate) fn upgrade_due(&self) -> Option<Instant> {
        let candidate = self.upgrade.candidate.as_ref();
        let retiring = self.upgrade.retiring.as_ref();
        let limits = [
            candidate.map(|candidate| candidate.until),
            candidate.and_then(|candidate| candidate.server.deadline()),
            retiring.map(|retiring| retiring.until),
            retiring.and_then(|retiring| retiring.release_until),
            retiring.and_then(|retiring| retiring.server.deadline()),
        ];
        limits.into_iter().flatten().min()
    }

    /// Sockets to wait on, and whether there is something to write.
    pub(crate) fn upgrade_sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let candidate = self.upgrade.candidate.as_ref();
        let words = candidate.map(|candidate| &candidate.words).or(self.upgrade.words.as_ref());
        let words = words.and_then(Words::open).map(|pipe| (pipe, false));
        let retiring = self.upgrade.retiring.as_ref().and_then(|retiring| retiring.server.socket());
        [candidate.and_then(|candidate| candidate.server.socket()), words, retiring].into_iter().flatten()
    }
}

/// A sentence if it cannot even be started.
fn runnable(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let fix = "nothing was changed\n  fix: put the new mainstay there   or name it: mainstay upgrade --binary PATH";
    let is_file =
        std::fs::metadata(program).map_err(|error| format!("cannot start {shown}: {error}; {fix}"))?.is_file();
    if !is_file || access(program, AccessFlags::X_OK).is_err() {
        return Err(format!("cannot start {shown}: it is not a program; {fix}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_started_says_what_to_type() {
        let why = runnable(Path::new("/no/such/mainstay")).unwrap_err();
        assert!(why.contains("/no/such/mainstay") && why.contains("mainstay upgrade --binary PATH"), "{why}");
        assert!(runnable(Path::new("/etc/passwd")).unwrap_err().contains("not a program"));
        assert!(runnable(Path::new("/")).unwrap_err().contains("not a program"));
        runnable(Path::new("/bin/sh")).unwrap();
    }
}
