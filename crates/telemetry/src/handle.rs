//! What everybody else holds of the telemetry thread. Cheap to clone; nothing here waits, but for `sync`.

use crate::metrics::{Exposition, Kind, RecentError};
use crate::ring::{self, CoreDrain, CoreRing, Waker};
use crate::trail::{Found, Trails};
use crate::{Line, Options, Redactor};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines on their way to the thread, by number and by bytes: whichever comes first.
const QUEUE_LINES_MAX: usize = 16_384;
const QUEUE_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub waker: Arc<Waker>,
    pub stop: AtomicBool,
    pub counts: Counts,
    lines: SyncSender<Line>,
    queued_lines: AtomicUsize,
    queued_bytes: AtomicUsize,
    has_changes: AtomicBool,
    changes: Mutex<Changes>,
    trails: Mutex<Trails>,
    sync_wanted: AtomicU64,
    synced: Mutex<u64>,
    synced_signal: Condvar,
}

/// For the thread to take up at its next round.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub cores: Vec<CoreDrain>,
    pub options: Option<Options>,
    pub secrets: Option<Redactor>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// One a core, for good: a core that is gone still dropped what it dropped.
    records: Mutex<Vec<Arc<AtomicU64>>>,
    pub lines_dropped: AtomicU64,
    /// The console's own count.
    console_dropped: Arc<AtomicU64>,
    pub bytes: AtomicU64,
    pub errors: AtomicU64,
}

/// What was not told of, since the start of this process; all of it was served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedCounts {
    /// Finished requests: a core's ring was full.
    pub records: u64,
    /// Lines: the queue was full.
    pub lines: u64,
    /// Lines that are in the files and that the console did not take.
    pub console_lines: u64,
}

impl Counts {
    pub fn dropped(&self) -> DroppedCounts {
        DroppedCounts {
            records: self.records_dropped(),
            lines: self.lines_dropped.load(Ordering::Relaxed),
            console_lines: self.console_dropped.load(Ordering::Relaxed),
        }
    }

    fn records_dropped(&self) -> u64 {
        lock(&self.records).iter().map(|core| core.load(Ordering::Relaxed)).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(console_dropped: Arc<AtomicU64>) -> (Arc<Shared>, Receiver<Line>) {
        let (lines, receive) = sync_channel(QUEUE_LINES_MAX);
        let shared = Shared {
            waker: Arc::default(),
            stop: AtomicBool::new(false),
            counts: Counts { console_dropped, ..Counts::default() },
            lines,
            queued_lines: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            has_changes: AtomicBool::new(false),
            changes: Mutex::default(),
            trails: Mutex::default(),
            sync_wanted: AtomicU64::new(0),
            synced: Mutex::new(0),
            synced_signal: Condvar::new(),
        };
        (Arc::new(shared), receive)
    }

    pub fn trails(&self) -> MutexGuard<'_, Trails> {
        lock(&self.trails)
    }

    pub fn take_changes(&self) -> Option<Changes> {
        self.has_changes.swap(false, Ordering::AcqRel).then(|| std::mem::take(&mut *lock(&self.changes)))
    }

    pub fn has_work(&self) -> bool {
        self.queued_lines.load(Ordering::SeqCst) > 0
            || self.has_changes.load(Ordering::SeqCst)
            || self.stop.load(Ordering::SeqCst)
            || self.sync_wanted() > *lock(&self.synced)
    }

    pub fn line_taken(&self, line: &Line) {
        self.queued_lines.fetch_sub(1, Ordering::AcqRel);
        self.queued_bytes.fetch_sub(line.bytes(), Ordering::AcqRel);
    }

    pub fn sync_wanted(&self) -> u64 {
        self.sync_wanted.load(Ordering::SeqCst)
    }

    pub fn synced(&self, wanted: u64) {
        let mut synced = lock(&self.synced);
        if *synced < wanted {
            *synced = wanted;
            self.synced_signal.notify_all();
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.unpark();
    }

    fn change(&self, change: impl FnOnce(&mut Changes)) {
        change(&mut lock(&self.changes));
        self.has_changes.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// The ring of one more core.
    pub fn core(&self) -> CoreRing {
        let (ring, drain) = ring::pair(self.shared.waker.clone());
        lock(&self.shared.counts.records).push(drain.dropped());
        self.shared.change(|changes| changes.cores.push(drain));
        ring
    }

    /// To be written soon; dropped and counted if too much is waiting already.
    pub fn line(&self, line: Line) {
        let (shared, bytes) = (&self.shared, line.bytes());
        let has_room = shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= QUEUE_BYTES_MAX;
        shared.queued_lines.fetch_add(1, Ordering::SeqCst);
        if !has_room || shared.lines.try_send(line).is_err() {
            shared.queued_lines.fetch_sub(1, Ordering::AcqRel);
            shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            shared.counts.lines_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shared.waker.wake();
    }

    /// What was said before this call is in the files and trails, or `limit` has passed (false).
    pub fn sync(&self, limit: Duration) -> bool {
        let wanted = self.shared.sync_wanted.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.waker.unpark();
        let synced = lock(&self.shared.synced);
        let waited = self.shared.synced_signal.wait_timeout_while(synced, limit, |synced| *synced < wanted);
        waited.is_ok_and(|(_, outcome)| !outcome.timed_out())
    }

    /// Among the trails in memory; `trail::find_in_files` knows the others. `sync` first to see the newest.
    pub fn find(&self, id: &str) -> Found {
        self.shared.trails().find(id)
    }

    /// The newest answers of 500 and above, newest first.
    pub fn recent_errors(&self, count: usize) -> Vec<RecentError> {
        self.shared.trails().failures(count).into_iter().map(RecentError::from).collect()
    }

    /// For a reload: level, environment and bounds. The console stays as it was started.
    pub fn set_options(&self, options: Options) {
        self.shared.change(|changes| changes.options = Some(options));
    }

    pub fn set_secrets(&self, secrets: Redactor) {
        self.shared.change(|changes| changes.secrets = Some(secrets));
    }

    pub fn dropped(&self) -> DroppedCounts {
        self.shared.counts.dropped()
    }

    /// How this block itself is doing.
    pub fn expose(&self, out: &mut Exposition) {
        let counts = &self.shared.counts;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let dropped = counts.dropped();
        let console = "mainstay_console_lines_dropped_total";
        let singles = [
            ("mainstay_records_dropped_total", "Requests not told of: a ring was full.", dropped.records),
            ("mainstay_log_lines_dropped_total", "Lines not written: the queue was full.", dropped.lines),
            (console, "Lines in the files that the console did not take.", dropped.console_lines),
            ("mainstay_log_bytes_total", "Bytes written to log files.", load(&counts.bytes)),
            ("mainstay_log_errors_total", "Failed writes to log files.", load(&counts.errors)),
        ];
        for (name, help, value) in singles {
            out.family(name, Kind::Counter, help).sample(&[], value);
        }
        out.family("mainstay_trails", Kind::Gauge, "Notable requests kept in memory.")
            .sample(&[], self.shared.trails().len());
    }
}
