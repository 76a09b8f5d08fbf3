//! For those who must not wait: a note is taken at once and written by a task. A note that is lost is counted; who
//! needs to know that it is on the disk appends by himself.

use super::{Event, Journal};
use crate::error::Error;
use mainstay_runtime::{Clock, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval_at};

/// Notes that wait for the disk.
pub const NOTES_MAX: usize = 256;
/// How often what is past its time is looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// The first look is not part of a start.
const PRUNE_FIRST: Duration = Duration::from_secs(60);

enum Note {
    Event {
        event: Event,
        actor: Option<String>,
        at_us: u64,
    },
    /// Everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Notes {
    queue: mpsc::Sender<Note>,
    lost: Arc<AtomicU64>,
}

/// Writes the notes. Runs on the control thread.
#[must_use = "no note is written while the writer does not run"]
pub struct Writer {
    notes: mpsc::Receiver<Note>,
    lost: Arc<AtomicU64>,
}

impl Notes {
    /// They wait until a [`Writer`] has a journal to write them to.
    pub fn new() -> (Notes, Writer) {
        let (queue, notes) = mpsc::channel(NOTES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        (Notes { queue, lost: lost.clone() }, Writer { notes, lost })
    }

    /// Never waits.
    pub fn note(&self, event: Event, actor: Option<String>) {
        let note = Note::Event { event, actor, at_us: Clock::unix_micros() };
        if self.queue.try_send(note).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Comes back when everything noted so far is written, or nobody writes any more.
    pub async fn flush(&self) {
        let (told, written) = oneshot::channel();
        if self.queue.send(Note::Flush(told)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Notes that were not written: the queue was full, or the store refused them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Until the end is asked for; what was noted by then is written first. `say` hears of the first failure of a row.
    pub async fn run(mut self, journal: Journal, shutdown: Shutdown, say: impl Fn(&Error)) {
        let mut pruning = interval_at(Instant::now() + PRUNE_FIRST, PRUNE_EVERY);
        let mut failing = false;
        loop {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => self.write(&journal, note, &mut failing, &say).await,
                    None => return,
                },
                _ = pruning.tick() => {
                    if let Err(error) = journal.prune(Clock::unix_micros()).await {
                        say(&error);
                    }
                }
                () = shutdown.requested() => break,
            }
        }
        while let Ok(note) = self.notes.try_recv() {
            self.write(&journal, note, &mut failing, &say).await;
        }
    }

    async fn write(&self, journal: &Journal, note: Note, failing: &mut bool, say: &impl Fn(&Error)) {
        let (event, actor, at_us) = match note {
            Note::Event { event, actor, at_us } => (event, actor, at_us),
            Note::Flush(told) => {
                let _ = told.send(());
                return;
            }
        };
        match journal.append(&event, actor.as_deref(), at_us).await {
            Ok(_) => *failing = false,
            Err(error) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(failing, true) {
                    say(&error);
                }
            }
        }
    }
}
