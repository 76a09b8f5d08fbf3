//! A SQLite file with one owner: a thread that writes, in groups of which each is one `fsync`; a few that read.
//!
//! Invariants: what `write` has answered survives `kill -9` and a power cut; nobody but this process writes the file
//! while it is open; a full disk or a damaged file is an error and never a loss of what was written before.

mod exclusive;
mod file;
mod group;
mod log;
mod threads;

use crate::error::Error;
use crate::migrate::Migrations;
use file::Owner;
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use threads::{Read, Write};
use tokio::sync::{mpsc, oneshot};

pub use exclusive::{Exclusive, Readers};
pub use rusqlite;

/// Changes that wait for the writer: some 50 groups.
const WRITES_MAX: usize = 1024;
const READS_MAX: usize = 256;
/// Readers a file: they wait for the disk at most, and for each other never.
const READERS: usize = 2;
/// So long a change or a question waits for room before its caller is told that the store is behind.
const ROOM_LIMIT: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Sqlite(Arc<Inner>);

struct Inner {
    open: Mutex<Option<Open>>,
}

/// What there is until it is closed.
struct Open {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    threads: Vec<JoinHandle<()>>,
    owner: Owner,
}

impl Sqlite {
    /// Opens the file, or makes it; checks it, and brings the tables of each block up to date. Blocks: for a start, or
    /// for a thread that may wait.
    ///
    /// # Errors
    /// When another process owns it and does not let go within 2 s, when it is damaged, or newer than this program.
    pub fn open(path: &Path, blocks: &[Migrations]) -> Result<Sqlite, Error> {
        let owner = Owner::take(path)?;
        let mut connection = file::writer(path)?;
        for block in blocks {
            crate::migrate::sqlite(&mut connection, block)?;
        }
        let (writes, changes) = mpsc::channel(WRITES_MAX);
        let mut threads = vec![threads::writer(connection, changes)?];
        let (reads, readers) = readers(path)?;
        threads.extend(readers);
        let open = Open { writes, reads, threads, owner };
        Ok(Sqlite(Arc::new(Inner { open: Mutex::new(Some(open)) })))
    }

    /// A change, in a transaction of its own as far as it can tell: an error takes it back, and nothing else. Once this
    /// comes back with a value it is on the disk.
    ///
    /// # Errors
    /// The change's own, or the disk's. After an error nothing of it was written.
    pub async fn write<T, F>(&self, change: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let sender = self.with(|open| open.writes.clone())?;
        send(&sender, threads::write(change, answer)).await?;
        drop(sender);
        answered.await.unwrap_or(Err(Error::Closed))
    }

    /// A question, on a connection that cannot write.
    ///
    /// # Errors
    /// The question's own, or the disk's.
    pub async fn read<T, F>(&self, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        ask(self.with(|open| open.reads.clone())?, question).await
    }

    /// What was accepted is written, then the file is let go of: another process may open it when this comes back.
    /// Idempotent.
    pub async fn close(&self) {
        let taken = self.0.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = taken else { return };
        let ending = tokio::task::spawn_blocking(move || open.end());
        let _ = ending.await;
    }

    fn with<T>(&self, take: impl FnOnce(&Open) -> T) -> Result<T, Error> {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(take).ok_or(Error::Closed)
    }
}

impl Open {
    /// The threads end when nobody can send any more and all is answered.
    fn end(self) {
        drop((self.writes, self.reads));
        for thread in self.threads {
            let _ = thread.join();
        }
        drop(self.owner);
    }
}

/// The threads that read a file, and where they are asked.
fn readers(path: &Path) -> Result<(mpsc::Sender<Read>, Vec<JoinHandle<()>>), Error> {
    let (reads, questions) = mpsc::channel(READS_MAX);
    let questions = Arc::new(Mutex::new(questions));
    let start = |number| threads::reader(number, file::reader(path)?, questions.clone());
    let threads = (0..READERS).map(start).collect::<Result<_, Error>>()?;
    Ok((reads, threads))
}

async fn ask<T, F>(sender: mpsc::Sender<Read>, question: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    send(&sender, threads::read(question, answer)).await?;
    drop(sender);
    answered.await.unwrap_or(Err(Error::Closed))
}

async fn send<T>(sender: &mpsc::Sender<T>, item: T) -> Result<(), Error> {
    use tokio::sync::mpsc::error::SendTimeoutError;
    match sender.send_timeout(item, ROOM_LIMIT).await {
        Ok(()) => Ok(()),
        Err(SendTimeoutError::Timeout(_)) => Err(Error::Behind(ROOM_LIMIT)),
        Err(SendTimeoutError::Closed(_)) => Err(Error::Closed),
    }
}
