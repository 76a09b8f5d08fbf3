//! Deadlines of connections and streams, kept by one sweep a core instead of one timer a request.
//!
//! A `Watch` is a deadline that costs a plain store to move. The sweep looks at all of them four times a second
//! and wakes the task of each that passed; whoever is polled then sees `is_expired`. A deadline is therefore met
//! up to `SWEEP_EVERY` late and never early.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

pub const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing: between two requests.
    Idle,
    /// The rest of a request's head.
    Header,
    /// A request is being worked on; the client may be sending its body.
    Busy,
    /// Both sides were handed to a tunnel.
    Tunnel,
}

/// One deadline. Shared between the task that owns it and its socket, both on one core: the atomics are there
/// because hyper wants sockets that could be sent, and cost what plain memory costs.
#[derive(Debug)]
pub struct Watch {
    deadline_ms: AtomicU64,
    expired: AtomicBool,
    phase: AtomicU8,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            deadline_ms: AtomicU64::new(u64::MAX),
            expired: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Header as u8),
        }
    }
}

impl Watch {
    pub fn set(&self, now_ms: u64, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms.store(now_ms.saturating_add(after), Relaxed);
    }

    pub fn clear(&self) {
        self.deadline_ms.store(u64::MAX, Relaxed);
    }

    pub fn is_expired(&self) -> bool {
        self.expired.load(Relaxed)
    }

    /// Ends what this watches at the next poll, whatever its deadline.
    pub fn expire(&self) {
        self.expired.store(true, Relaxed);
    }

    /// The deadline was somebody's who has dealt with it.
    pub fn forgive(&self) {
        self.clear();
        self.expired.store(false, Relaxed);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Header,
            2 => Phase::Busy,
            _ => Phase::Tunnel,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }
}

/// All watches of one core.
#[derive(Debug, Default)]
pub struct Sweep {
    entries: RefCell<Vec<Option<Entry>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Debug)]
struct Entry {
    watch: Arc<Watch>,
    waker: Option<Waker>,
}

/// A place in the sweep; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    sweep: Rc<Sweep>,
    index: usize,
}

impl Sweep {
    pub fn enlist(self: &Rc<Self>, watch: Arc<Watch>) -> Ticket {
        let entry = Some(Entry { watch, waker: None });
        let index = match self.free.borrow_mut().pop() {
            Some(index) => {
                self.entries.borrow_mut()[index] = entry;
                index
            }
            None => {
                self.entries.borrow_mut().push(entry);
                self.entries.borrow().len() - 1
            }
        };
        Ticket { sweep: self.clone(), index }
    }

    /// Wakes everybody whose deadline passed.
    pub fn run(&self, now_ms: u64) {
        for entry in self.entries.borrow().iter().flatten() {
            if entry.watch.deadline_ms.load(Relaxed) <= now_ms {
                entry.watch.expire();
                if let Some(waker) = &entry.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Has everybody look again, as a drain begins.
    pub fn wake_all(&self) {
        for entry in self.entries.borrow().iter().flatten() {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    pub fn count(&self, which: impl Fn(Phase) -> bool) -> usize {
        self.entries.borrow().iter().flatten().filter(|e| which(e.watch.phase())).count()
    }

    /// Ends everything in these phases, as a drain does at its limit.
    pub fn expire_all(&self, which: impl Fn(Phase) -> bool) {
        for entry in self.entries.borrow().iter().flatten() {
            if which(entry.watch.phase()) {
                entry.watch.expire();
                if let Some(waker) = &entry.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

impl Ticket {
    /// Says whom to wake. Cheap when it is the same task as before.
    pub fn polled_by(&self, cx: &Context<'_>) {
        if let Some(entry) = &mut self.sweep.entries.borrow_mut()[self.index]
            && !entry.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker()))
        {
            entry.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sweep.entries.borrow_mut()[self.index] = None;
        self.sweep.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_places_are_reused() {
        let sweep = Rc::new(Sweep::default());
        let watch = Arc::new(Watch::default());
        let ticket = sweep.enlist(watch.clone());
        watch.set(1_000, Duration::from_millis(500));
        sweep.run(1_499);
        assert!(!watch.is_expired());
        sweep.run(1_500);
        assert!(watch.is_expired());
        watch.forgive();
        sweep.run(u64::MAX - 1);
        assert!(!watch.is_expired());
        drop(ticket);
        assert_eq!(sweep.count(|_| true), 0);
        let _again = sweep.enlist(Arc::new(Watch::default()));
        assert_eq!(sweep.entries.borrow().len(), 1);
    }

    #[test]
    fn only_the_named_phases_are_ended() {
        let sweep = Rc::new(Sweep::default());
        let (idle, busy) = (Arc::new(Watch::default()), Arc::new(Watch::default()));
        let _tickets = (sweep.enlist(idle.clone()), sweep.enlist(busy.clone()));
        idle.enter(Phase::Idle);
        busy.enter(Phase::Busy);
        sweep.expire_all(|p| p == Phase::Idle);
        assert!(idle.is_expired() && !busy.is_expired());
    }
}
