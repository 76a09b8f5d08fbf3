//! One life of an instance: a process group from its start until it is empty.
//!
//! Must never: know of other lives; the instance weighs them against each other.

use super::{Effect, Out, READY, Serial};
use mainstay_runtime::Millis;
use std::time::Duration;

/// A group that is still there so long after SIGKILL hangs in the kernel; that is said, once.
const KILLED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The supervisor was asked.
    Starting,
    /// It runs and is not ready yet.
    Waiting,
    /// It serves.
    Ready,
    /// It gets no new requests and finishes those it has.
    Draining,
    /// It was sent SIGTERM.
    Stopping,
    /// It was sent SIGKILL.
    Killed,
}

/// One process group from its start until it is empty.
#[derive(Clone, Debug)]
pub struct Life {
    pub serial: Serial,
    pub phase: Phase,
    /// Since when it is in that phase.
    pub since: Millis,
    pub ready_at: Option<Millis>,
    /// The end was our wish, so it is no news and no failure.
    pub(super) asked: bool,
    /// Stop it as soon as the supervisor says that it runs.
    pub(super) doomed: bool,
    /// When its end began: its leader's exit, or our signal.
    pub(super) ended_at: Option<Millis>,
    pub(super) said_late: bool,
    pub(super) joined: bool,
}

impl Life {
    pub(super) fn new(serial: Serial, phase: Phase, now: Millis) -> Life {
        Life {
            serial,
            phase,
            since: now,
            ready_at: None,
            asked: false,
            doomed: false,
            ended_at: None,
            said_late: false,
            joined: false,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Millis) {
        self.phase = phase;
        self.since = now;
        self.said_late = false;
    }

    pub(super) fn deadline(&self, limit: Duration) -> Option<Millis> {
        match self.phase {
            Phase::Starting | Phase::Ready => None,
            Phase::Waiting if self.said_late => None,
            Phase::Waiting => Some(self.since.plus(READY)),
            Phase::Draining | Phase::Stopping => Some(self.since.plus(limit)),
            Phase::Killed if self.said_late => None,
            Phase::Killed => Some(self.since.plus(KILLED)),
        }
    }

    /// Its time is over: what it serves may finish first.
    pub(super) fn retire(&mut self, now: Millis, out: &mut Out) {
        self.asked = true;
        if self.phase == Phase::Ready {
            self.enter(Phase::Draining, now);
            out.push(Effect::Drain(self.serial));
        } else if self.phase != Phase::Draining {
            self.stop(now, out);
        }
    }

    /// Its time is over now.
    pub(super) fn stop(&mut self, now: Millis, out: &mut Out) {
        match self.phase {
            Phase::Starting => self.doomed = true,
            Phase::Waiting | Phase::Ready | Phase::Draining => self.term(now, out),
            Phase::Stopping | Phase::Killed => {}
        }
    }

    pub(super) fn term(&mut self, now: Millis, out: &mut Out) {
        // Left before it is signalled: a server that closes on SIGTERM waits for its idle connections.
        self.leave(out);
        self.ended_at.get_or_insert(now);
        self.enter(Phase::Stopping, now);
        out.push(Effect::Term(self.serial));
    }

    pub(super) fn leave(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.joined) {
            out.push(Effect::Leave(self.serial));
        }
    }

    pub(super) fn forget(&self, out: &mut Out) {
        if self.joined {
            out.push(Effect::Leave(self.serial));
        }
        out.push(Effect::Forget(self.serial));
    }
}
