//! A queue in memory: which of its jobs are in which state, whether one may start now, and what was counted.
//!
//! Must never hold a payload, or look at one.

use crate::change::Starts;
use crate::job::{Name, State};
use crate::ready::Ready;
use crate::settings::{Keep, Settings};
use mainstay_limits::window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Jobs by state, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub waiting: u64,
    pub delayed: u64,
    pub active: u64,
    pub waiting_children: u64,
    pub completed: u64,
    pub failed: u64,
    pub dead: u64,
}

impl Counts {
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Waiting => self.waiting,
            State::Delayed => self.delayed,
            State::Active => self.active,
            State::WaitingChildren => self.waiting_children,
            State::Completed => self.completed,
            State::Failed => self.failed,
            State::Dead => self.dead,
        }
    }
}

/// What happened since the start of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub added: u64,
    pub started: u64,
    pub completed: u64,
    pub retried: u64,
    pub failed: u64,
    pub stalled: u64,
    pub dead: u64,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub name: Name,
    pub settings: Settings,
    pub is_paused: bool,
    /// A worker said that nothing of this queue can be done before then.
    pub held_until_ms: u64,
    pub ready: Ready,
    /// When each is due, and its id.
    pub delayed: BTreeSet<(u64, u64)>,
    pub active: BTreeSet<u64>,
    pub waiting_children: BTreeSet<u64>,
    /// When each ended, and its id; by [`terminal`].
    pub ended: [BTreeSet<(u64, u64)>; 3],
    /// Of the newest that was added: order does not go back when a clock does.
    pub last_ready_ms: u64,
    pub is_short: bool,
    pub totals: Totals,
    /// When it is looked at next for what is too old.
    pub age_timer_ms: Option<u64>,
    rate: Option<window::State>,
    /// Found at a start, until it is known what the limit is.
    found: Starts,
    /// No start fits in the window before then.
    full_until_ms: u64,
}

/// Index of a terminal state.
pub(crate) fn terminal(state: State) -> Option<usize> {
    match state {
        State::Completed => Some(0),
        State::Failed => Some(1),
        State::Dead => Some(2),
        State::Waiting | State::Delayed | State::Active | State::WaitingChildren => None,
    }
}

impl Queue {
    pub fn new(name: Name) -> Queue {
        Queue {
            name,
            settings: Settings::default(),
            is_paused: false,
            held_until_ms: 0,
            ready: Ready::default(),
            delayed: BTreeSet::new(),
            active: BTreeSet::new(),
            waiting_children: BTreeSet::new(),
            ended: Default::default(),
            last_ready_ms: 0,
            is_short: false,
            totals: Totals::default(),
            age_timer_ms: None,
            rate: None,
            found: Vec::new(),
            full_until_ms: 0,
        }
    }

    pub fn counts(&self) -> Counts {
        let size = |set: &BTreeSet<(u64, u64)>| set.len() as u64;
        Counts {
            waiting: self.ready.len() as u64,
            delayed: size(&self.delayed),
            active: self.active.len() as u64,
            waiting_children: self.waiting_children.len() as u64,
            completed: size(&self.ended[0]),
            failed: size(&self.ended[1]),
            dead: size(&self.ended[2]),
        }
    }

    pub fn len(&self) -> u64 {
        State::ALL.into_iter().map(|state| self.counts().of(state)).sum()
    }

    /// Place in the order for a job that is ready from now on.
    pub fn stamp(&mut self, now_ms: u64) -> u64 {
        self.last_ready_ms = self.last_ready_ms.max(now_ms);
        self.last_ready_ms
    }

    pub fn keep(&self, index: usize) -> Keep {
        [self.settings.completed, self.settings.failed, self.settings.dead][index]
    }

    /// New settings; what was counted under the old ones still counts. Whether starts were found that lie in the
    /// future: the clock was set back while nobody ran, and they count as of now.
    pub fn configure(&mut self, settings: Settings, now_ms: u64) -> bool {
        let mut is_set_back = false;
        match settings.rate {
            None => self.rate = None,
            Some(limit) => {
                let found = std::mem::take(&mut self.found);
                let state = self.rate.get_or_insert_with(|| window::State::new(&limit));
                for (at_us, count) in found {
                    is_set_back |= at_us > now_ms * 1000;
                    state.take(at_us.min(now_ms * 1000), count, &limit);
                }
            }
        }
        self.full_until_ms = 0;
        self.settings = settings;
        is_set_back
    }

    /// As it was kept.
    pub fn restore_starts(&mut self, starts: Starts) {
        self.found = starts;
    }

    /// When a job may start if nothing else happens: now, later, or `None` where something must happen first.
    pub fn startable_ms(&self, now_ms: u64) -> Option<u64> {
        let taken = self.settings.concurrency.is_some_and(|most| self.active.len() >= most as usize);
        if self.is_paused || taken || self.ready.len() == 0 {
            return None;
        }
        Some(now_ms.max(self.held_until_ms).max(self.full_until_ms))
    }

    /// Counts one start, if there is room for it in the window.
    pub fn admit(&mut self, now_ms: u64) -> bool {
        let (Some(limit), Some(state)) = (&self.settings.rate, &mut self.rate) else { return true };
        let decision = window::admit(now_ms * 1000, state, limit);
        if !decision.allowed {
            self.full_until_ms = now_ms + decision.reset_us.div_ceil(1000).max(1);
        }
        decision.allowed
    }

    /// What must be kept of the starts so that the rate holds after a crash.
    pub fn starts(&self, now_ms: u64) -> Option<Starts> {
        let state = self.rate.as_ref()?;
        let mut starts = Vec::new();
        state.told(now_ms * 1000, |at_us, count| starts.push((at_us, count)));
        Some(starts)
    }

    /// Whether more workers are wanted, if that has changed.
    pub fn depth_turned(&mut self) -> Option<bool> {
        let depth = self.settings.depth;
        let is_short = self.ready.len() as u64 > depth.waiting_over && (self.active.len() as u64) < depth.active_under;
        let turned = is_short != self.is_short;
        self.is_short = is_short;
        turned.then_some(is_short)
    }
}
