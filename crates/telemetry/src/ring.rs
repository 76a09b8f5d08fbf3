//! From a core to the telemetry thread: two rings of records a core, one writer and one reader each.
//!
//! A push never blocks and never allocates. A full ring drops the record and counts it: requests come before
//! what is told about them.

use crate::{Record, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;

/// Two seconds' worth at 2,000 requests/s a core before the first drop, in 2 MiB that are touched only by use.
pub const FINISHED_RECORDS: usize = 4096;
/// Refusals and failures have a ring of their own, so that a flood of good requests cannot push them out.
pub const TROUBLED_RECORDS: usize = 1024;

/// Shared by every producer of the service: whether its thread sleeps deeply and must be woken.
#[derive(Debug, Default)]
pub struct Waker {
    asleep: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

/// A core's end.
#[derive(Debug)]
pub struct CoreRing {
    finished: rtrb::Producer<Record>,
    troubled: rtrb::Producer<Record>,
    dropped: Arc<AtomicU64>,
    waker: Arc<Waker>,
}

/// The service's end of one core.
#[derive(Debug)]
pub struct CoreDrain {
    finished: rtrb::Consumer<Record>,
    troubled: rtrb::Consumer<Record>,
    dropped: Arc<AtomicU64>,
}

/// One core's two rings.
pub fn pair(waker: Arc<Waker>) -> (CoreRing, CoreDrain) {
    let (finished, finished_out) = rtrb::RingBuffer::new(FINISHED_RECORDS);
    let (troubled, troubled_out) = rtrb::RingBuffer::new(TROUBLED_RECORDS);
    let dropped = Arc::new(AtomicU64::new(0));
    let ring = CoreRing { finished, troubled, dropped: dropped.clone(), waker };
    (ring, CoreDrain { finished: finished_out, troubled: troubled_out, dropped })
}

impl CoreRing {
    /// Never blocks. Refusals and failures go to their own ring, and to the other one when that is full.
    #[inline]
    pub fn push(&mut self, record: Record) {
        let record = if is_troubled(&record) {
            match self.troubled.push(record) {
                Ok(()) => return self.waker.wake(),
                Err(rtrb::PushError::Full(record)) => record,
            }
        } else {
            record
        };
        if self.finished.push(record).is_err() {
            // One writer: a load and a store are enough.
            self.dropped.store(self.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.waker.wake();
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl CoreDrain {
    /// Takes all that lies there, refusals and failures first. Returns how many records it gave to `each`.
    pub fn drain(&mut self, mut each: impl FnMut(&Record)) -> usize {
        let mut taken = 0;
        for ring in [&mut self.troubled, &mut self.finished] {
            // What arrives meanwhile waits for the next round, so that one busy core cannot hold the thread.
            for _ in 0..ring.slots() {
                let Ok(record) = ring.pop() else { break };
                each(&record);
                taken += 1;
            }
        }
        taken
    }

    /// The counter of what did not fit, for the metrics.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    /// The core is gone and everything it wrote was taken.
    pub fn is_finished(&self) -> bool {
        self.finished.is_abandoned() && self.finished.is_empty() && self.troubled.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.troubled.is_empty()
    }
}

impl Waker {
    /// Called by the thread that sleeps, once.
    pub fn register(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Announces a deep sleep. A push that races with it may wait for the sleep's own time limit.
    pub fn falls_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
    }

    /// One relaxed load unless the thread sleeps deeply, which takes a second without traffic.
    #[inline]
    pub fn wake(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// Wakes the thread from any sleep; for the end and for `flush`.
    pub fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Refused by a rule of ours or failed: what `why` is asked about most.
fn is_troubled(record: &Record) -> bool {
    record.status >= 500 || record.verdict != Verdict::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16) -> Record {
        Record { status, ..Record::EMPTY }
    }

    #[test]
    fn a_full_ring_drops_counts_and_keeps_failures_longest() {
        let (mut core, mut drain) = pair(Arc::default());
        for _ in 0..FINISHED_RECORDS + 10 {
            core.push(record(200));
        }
        assert_eq!(core.dropped(), 10);
        for _ in 0..TROUBLED_RECORDS {
            core.push(record(502));
        }
        assert_eq!(core.dropped(), 10);
        core.push(record(503));
        assert_eq!(core.dropped(), 11);

        let mut seen = Vec::new();
        assert_eq!(drain.drain(|r| seen.push(r.status)), FINISHED_RECORDS + TROUBLED_RECORDS);
        assert!(seen[..TROUBLED_RECORDS].iter().all(|&s| s == 502));
        assert!(drain.is_empty() && !drain.is_finished());
        drop(core);
        assert!(drain.is_finished());
    }

    #[test]
    fn failures_use_the_other_ring_when_theirs_is_full() {
        let (mut core, mut drain) = pair(Arc::default());
        for _ in 0..TROUBLED_RECORDS + 5 {
            core.push(record(500));
        }
        assert_eq!(core.dropped(), 0);
        assert_eq!(drain.drain(|_| {}), TROUBLED_RECORDS + 5);
    }

    #[test]
    fn a_sleeping_thread_is_woken_by_a_push() {
        let waker = Arc::new(Waker::default());
        let (mut core, mut drain) = pair(waker.clone());
        let thread = std::thread::spawn(move || {
            waker.register();
            waker.falls_asleep(true);
            while drain.is_empty() {
                std::thread::park_timeout(std::time::Duration::from_secs(30));
            }
            drain.drain(|_| {})
        });
        core.push(record(200));
        // The push may come before the thread slept; a second one finds it asleep.
        core.push(record(200));
        assert!(thread.join().is_ok_and(|n| n > 0));
    }
}
