//! Deadlines of connections and streams, kept by one sweep a core instead of one timer a request.
//!
//! A `Watch` is a deadline that costs a plain store to move. The sweep looks at all of them four times a second
//! and wakes the task of each that passed; whoever is polled then sees `is_expired`. A deadline is therefore met
//! up to `SWEEP_EVERY` late and never early.

use crate::upstream::Upstream;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::time::Duration;

pub const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// Sockets of a draining upstream that are closed in one sweep at least.
const CLOSED_A_SWEEP_MIN: usize = 16;

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
    /// A WebSocket: to be told to close at the next end of a frame.
    closing: AtomicBool,
    phase: AtomicU8,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            deadline_ms: AtomicU64::new(u64::MAX),
            expired: AtomicBool::new(false),
            closing: AtomicBool::new(false),
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

    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
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
    /// Sockets told to close a sweep, since the drain under way began: a share of those that are left would be fewer
    /// each time, and the last would be told long after the limit.
    closed_a_sweep: Cell<usize>,
}

#[derive(Debug)]
struct Entry {
    watch: Arc<Watch>,
    waker: Option<Waker>,
    /// Of a WebSocket: whose drain closes it.
    upstream: Option<Arc<Upstream>>,
}

/// A place in the sweep; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    sweep: Rc<Sweep>,
    index: usize,
}

impl Sweep {
    pub fn enlist(self: &Rc<Self>, watch: Arc<Watch>) -> Ticket {
        self.enter(Entry { watch, waker: None, upstream: None })
    }

    /// A WebSocket of this upstream.
    pub fn enlist_socket(self: &Rc<Self>, watch: Arc<Watch>, upstream: Arc<Upstream>) -> Ticket {
        self.enter(Entry { watch, waker: None, upstream: Some(upstream) })
    }

    fn enter(self: &Rc<Self>, entry: Entry) -> Ticket {
        let entry = Some(entry);
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

    /// Tells sockets of draining upstreams to close, few at a time, so that their clients do not all come back at
    /// once: all of them within about half of `limit`. Of a drain without limit none is closed.
    pub fn close_sockets(&self, all: bool, limit: Duration) {
        let all = all && limit != Duration::MAX;
        let entries = self.entries.borrow();
        let drains =
            |e: &&Entry| e.upstream.as_ref().is_some_and(|u| !e.watch.is_closing() && (all || u.is_draining()));
        let waiting = entries.iter().flatten().filter(drains).count();
        if waiting == 0 {
            return self.closed_a_sweep.set(0);
        }
        let ticks = (limit.as_millis() / SWEEP_EVERY.as_millis() / 2).max(1) as usize;
        let each = waiting.div_ceil(ticks).max(CLOSED_A_SWEEP_MIN).max(self.closed_a_sweep.get());
        self.closed_a_sweep.set(each);
        for entry in entries.iter().flatten().filter(drains).take(each) {
            entry.watch.closing.store(true, Relaxed);
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
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
    fn a_drain_without_limit_closes_no_socket_but_of_a_draining_upstream() {
        let sweep = Rc::new(Sweep::default());
        let watch = Arc::new(Watch::default());
        let members = crate::Members::new(mainstay_telemetry::Names::default());
        let upstream = members.join("main", "main.1", ([127, 0, 0, 1], 1).into(), 1);
        let _ticket = sweep.enlist_socket(watch.clone(), upstream.clone());
        sweep.close_sockets(true, Duration::MAX);
        assert!(!watch.is_closing());
        sweep.close_sockets(true, Duration::from_secs(5));
        assert!(watch.is_closing());
        let other = Arc::new(Watch::default());
        let _other = sweep.enlist_socket(other.clone(), upstream.clone());
        upstream.drain();
        sweep.close_sockets(true, Duration::MAX);
        assert!(other.is_closing(), "its instance goes: a socket has nothing to wait for");
    }

    #[test]
    fn many_sockets_are_all_told_within_half_of_the_limit_and_not_at_once() {
        let sweep = Rc::new(Sweep::default());
        let members = crate::Members::new(mainstay_telemetry::Names::default());
        let upstream = members.join("main", "main.1", ([127, 0, 0, 1], 1).into(), 1);
        let watches: Vec<Arc<Watch>> = (0..10_000).map(|_| Arc::default()).collect();
        let _tickets: Vec<_> = watches.iter().map(|w| sweep.enlist_socket(w.clone(), upstream.clone())).collect();
        let told = || watches.iter().filter(|watch| watch.is_closing()).count();
        let limit = Duration::from_secs(8);
        let sweeps = (limit.as_millis() / SWEEP_EVERY.as_millis() / 2) as usize;
        for sweep_number in 1..=sweeps {
            let before = told();
            sweep.close_sockets(true, limit);
            assert!(told() - before <= 10_000 / sweeps, "{} in sweep {sweep_number}", told() - before);
        }
        assert_eq!(told(), 10_000);
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
