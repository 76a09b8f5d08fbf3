//! Whether one more fits: the whole arithmetic of limits. Pure: the time is an argument, in microseconds.
//!
//! `admit.lua` is its twin and decides alike; whoever changes one changes the other. Must never admit more than the
//! limit in any window of its length.

use mainstay_config::units::Rate;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Up to this many the moment of each request is kept; of more, how many there were in each part of the window.
pub const STAMPS_MAX: u32 = 128;
/// Parts of a window.
pub const PARTS: u64 = 64;
/// Two clocks round to other ends of a millisecond, and one of them is read a little later.
const CLOCKS_US: u64 = 5_000;
/// The part that is running, and all that may still lie within the window.
const KEPT: usize = PARTS as usize + 1;

/// At most `count` in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub count: u32,
    pub window_ms: u32,
    /// At even distances.
    pub smooth: bool,
}

/// What is known of one client under one limit.
#[derive(Clone, Debug)]
pub enum State {
    Stamps(Stamps),
    Parts(Box<Parts>),
    /// Until when nothing is admitted.
    Smooth(u64),
}

/// When each request was, in milliseconds, oldest first; of each the lower 32 bits. All lie within two windows before
/// the newest, and two windows are less than 32 bits hold.
#[derive(Clone, Debug, Default)]
pub struct Stamps {
    newest_ms: u64,
    stamps: VecDeque<u32>,
}

/// How many requests were in each part; a part is counted until all of it lies outside the window.
#[derive(Clone, Debug)]
pub struct Parts {
    part_us: u64,
    /// Number of the part that was running last.
    last: u64,
    total: u32,
    counts: [u32; KEPT],
}

/// What is said to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// How many more fit at once.
    pub remaining: u32,
    /// Until there is room for one more than now; of a refusal: until there is room for one.
    pub reset_us: u64,
    /// As when it is counted: what gives it back.
    pub mark_us: u64,
}

impl Limit {
    pub fn new(rate: &Rate) -> Limit {
        let window_ms = u32::try_from(rate.window.as_millis()).unwrap_or(u32::MAX).max(1);
        Limit { count: rate.count.max(1), window_ms, smooth: rate.smooth }
    }

    pub fn window_us(&self) -> u64 {
        u64::from(self.window_ms) * 1000
    }

    /// Distance of two requests of a smooth limit.
    pub fn distance_us(&self) -> u64 {
        self.window_us().div_ceil(u64::from(self.count))
    }

    /// Length of a part, and of 64 of them at least the window.
    pub fn part_us(&self) -> u64 {
        self.window_us().div_ceil(PARTS)
    }

    /// By how much another clock may let go earlier of the same that was counted by this one.
    pub fn slack_us(&self) -> u64 {
        match self.kind() {
            // Parts of the window do not begin together.
            Kind::Parts => self.part_us() + CLOCKS_US,
            Kind::Stamps | Kind::Smooth => CLOCKS_US,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Limit { smooth: true, .. } => Kind::Smooth,
            Limit { count, .. } if *count <= STAMPS_MAX => Kind::Stamps,
            _ => Kind::Parts,
        }
    }
}

/// How a limit is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stamps,
    Parts,
    Smooth,
}

impl Decision {
    /// Whole seconds, of anything begun a whole one: who waits this long has waited long enough.
    pub fn reset_s(&self) -> u32 {
        u32::try_from(self.reset_us.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }
}

impl State {
    /// Nobody was here.
    pub fn new(limit: &Limit) -> State {
        match limit.kind() {
            Kind::Stamps => State::Stamps(Stamps::default()),
            Kind::Parts => State::Parts(Box::new(Parts::new(limit.part_us()))),
            Kind::Smooth => State::Smooth(0),
        }
    }

    /// When nothing of it counts any longer.
    pub fn over_us(&self, limit: &Limit) -> u64 {
        match self {
            State::Stamps(stamps) => (stamps.newest_ms + u64::from(limit.window_ms)) * 1000,
            State::Parts(parts) => (parts.last + KEPT as u64) * parts.part_us,
            State::Smooth(until) => *until,
        }
    }

    /// What counts now, without counting anything.
    pub fn used(&mut self, now_us: u64, limit: &Limit) -> u32 {
        self.become_like(now_us, limit);
        match self {
            State::Stamps(stamps) => {
                stamps.drop_old(now_us, limit);
                stamps.stamps.len() as u32
            }
            State::Parts(parts) => {
                parts.advance(now_us);
                parts.total
            }
            State::Smooth(until) => u32::from(*until > now_us),
        }
    }

    /// Whoever counted under other numbers goes on under these: a changed limit forgives nobody.
    fn become_like(&mut self, now_us: u64, limit: &Limit) {
        let fits = match (&*self, limit.kind()) {
            (State::Stamps(_), Kind::Stamps) | (State::Smooth(_), Kind::Smooth) => true,
            (State::Parts(parts), Kind::Parts) => parts.part_us == limit.part_us(),
            _ => false,
        };
        if !fits {
            let old = std::mem::replace(self, State::new(limit));
            old.told(now_us, |at_us, count| self.take(at_us, count, limit));
        }
    }

    /// How many there were and when, at the latest; oldest first. Whoever keeps this and lets a new state
    /// [`take`](State::take) it later admits no more than this one would have.
    pub fn told(&self, now_us: u64, mut tell: impl FnMut(u64, u32)) {
        match self {
            State::Stamps(stamps) => (0..stamps.stamps.len()).for_each(|i| tell(stamps.at(i) * 1000, 1)),
            State::Parts(parts) => {
                for part in parts.last.saturating_sub(PARTS)..=parts.last {
                    let count = parts.counts[(part % KEPT as u64) as usize];
                    if count > 0 {
                        tell(((part + 1) * parts.part_us - 1).min(now_us), count);
                    }
                }
            }
            State::Smooth(until) if *until > now_us => tell(now_us, 1),
            State::Smooth(_) => {}
        }
    }

    /// Takes over what was counted elsewhere, oldest first.
    pub fn take(&mut self, at_us: u64, count: u32, limit: &Limit) {
        match self {
            State::Stamps(stamps) => {
                for _ in 0..count.min(limit.count) {
                    if stamps.stamps.len() >= limit.count as usize {
                        stamps.stamps.pop_front();
                    }
                    stamps.push(at_us.div_ceil(1000));
                }
            }
            State::Parts(parts) => {
                parts.advance(at_us);
                parts.add(count);
            }
            State::Smooth(until) => *until = (*until).max(at_us + limit.distance_us()),
        }
    }
}

/// One request comes: whether it is admitted. Only one that is admitted counts.
pub fn admit(now_us: u64, state: &mut State, limit: &Limit) -> Decision {
    state.become_like(now_us, limit);
    match state {
        State::Stamps(stamps) => stamps.admit(now_us, limit),
        State::Parts(parts) => parts.admit(now_us, limit),
        State::Smooth(until) => smooth(now_us, until, limit),
    }
}

/// Takes one back that was admitted at `mark_us`, as if it had never come.
pub fn give_back(mark_us: u64, state: &mut State, limit: &Limit) {
    match state {
        State::Stamps(stamps) => stamps.give_back(mark_us),
        State::Parts(parts) => parts.give_back(mark_us),
        // Only if nobody came since.
        State::Smooth(until) if *until == mark_us + limit.distance_us() => *until = mark_us,
        State::Smooth(_) => {}
    }
}

fn smooth(now_us: u64, until: &mut u64, limit: &Limit) -> Decision {
    let distance = limit.distance_us();
    // A clock that was set back, and not another core's that is a little behind.
    if *until > now_us + distance + limit.window_us() {
        *until = 0;
    }
    let allowed = *until <= now_us;
    if allowed {
        *until = now_us + distance;
    }
    Decision { allowed, remaining: 0, reset_us: *until - now_us, mark_us: now_us }
}

impl Stamps {
    fn at(&self, index: usize) -> u64 {
        let stamp = self.stamps.get(index).copied().unwrap_or_default();
        self.newest_ms - u64::from((self.newest_ms as u32).wrapping_sub(stamp))
    }

    fn push(&mut self, at_ms: u64) {
        self.newest_ms = at_ms;
        self.stamps.push_back(at_ms as u32);
    }

    /// A stamp lies at the end of its millisecond, and goes when all of the millisecond is a window ago.
    fn drop_old(&mut self, now_us: u64, limit: &Limit) {
        let (now_ms, window) = (now_us / 1000, u64::from(limit.window_ms));
        // The second: a clock that was set back.
        if now_ms >= self.newest_ms + window || self.newest_ms > now_us.div_ceil(1000) + window {
            self.stamps.clear();
            self.newest_ms = 0;
        }
        while !self.stamps.is_empty() && now_ms >= self.at(0) + window {
            self.stamps.pop_front();
        }
    }

    fn admit(&mut self, now_us: u64, limit: &Limit) -> Decision {
        self.drop_old(now_us, limit);
        let until = |at_ms: u64| ((at_ms + u64::from(limit.window_ms)) * 1000).saturating_sub(now_us);
        let used = self.stamps.len();
        if used >= limit.count as usize {
            // More than the limit where it was higher before.
            let reset_us = until(self.at(used - limit.count as usize));
            return Decision { allowed: false, remaining: 0, reset_us, mark_us: now_us };
        }
        // Cores read the clock one after another: never before the newest.
        let at_ms = now_us.div_ceil(1000).max(self.newest_ms);
        self.push(at_ms);
        let remaining = limit.count - self.stamps.len() as u32;
        Decision { allowed: true, remaining, reset_us: until(self.at(0)), mark_us: at_ms * 1000 }
    }

    fn give_back(&mut self, mark_us: u64) {
        let stamp = mark_us.div_ceil(1000) as u32;
        if let Some(index) = self.stamps.iter().rposition(|&s| s == stamp) {
            self.stamps.remove(index);
        }
    }
}

impl Parts {
    fn new(part_us: u64) -> Parts {
        Parts { part_us, last: 0, total: 0, counts: [0; KEPT] }
    }

    fn slot(&mut self, part: u64) -> &mut u32 {
        &mut self.counts[(part % KEPT as u64) as usize]
    }

    /// Forgets the parts that lie outside the window now.
    fn advance(&mut self, now_us: u64) {
        let now = now_us / self.part_us;
        // The second: a clock that was set back.
        if now >= self.last + KEPT as u64 || self.last > now + KEPT as u64 {
            (self.last, self.total, self.counts) = (now, 0, [0; KEPT]);
        }
        while self.last < now {
            self.last += 1;
            let gone = std::mem::take(self.slot(self.last));
            self.total -= gone;
        }
    }

    fn add(&mut self, count: u32) {
        let slot = self.slot(self.last);
        *slot = slot.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    fn admit(&mut self, now_us: u64, limit: &Limit) -> Decision {
        self.advance(now_us);
        let allowed = self.total < limit.count;
        if allowed {
            self.add(1);
        }
        // How many must go until there is room for one more.
        let needed = if allowed { 1 } else { self.total - limit.count + 1 };
        let reset_us = self.gone_after(needed).saturating_sub(now_us);
        let mark_us = now_us.max(self.last * self.part_us);
        Decision { allowed, remaining: limit.count - self.total.min(limit.count), reset_us, mark_us }
    }

    /// When so many of what counts now will not count any longer.
    fn gone_after(&self, needed: u32) -> u64 {
        let mut gone = 0;
        for part in self.last.saturating_sub(PARTS)..=self.last {
            gone += self.counts[(part % KEPT as u64) as usize];
            if gone >= needed {
                return (part + KEPT as u64) * self.part_us;
            }
        }
        (self.last + KEPT as u64) * self.part_us
    }

    fn give_back(&mut self, mark_us: u64) {
        let part = mark_us / self.part_us;
        let counted = part <= self.last && part + PARTS >= self.last;
        if counted && *self.slot(part) > 0 {
            *self.slot(part) -= 1;
            self.total -= 1;
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
