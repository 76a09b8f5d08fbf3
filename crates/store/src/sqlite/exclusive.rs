//! A SQLite file whose one writer is a thread of the block's own: for a block that decides in memory and makes each of
//! its commits itself. With [`super::Sqlite`] every change would cost a savepoint and two hand-overs between threads,
//! and one that is not to be synced could not say so.
//!
//! Invariants: as for `Sqlite`: one owner, readers that cannot write, a damaged file is an error.

use super::file::{self, Owner};
use super::threads::Read;
use super::{ask, log, readers};
use crate::error::Error;
use crate::migrate::Migrations;
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// The file and its writing connection, owned by the thread that writes.
pub struct Exclusive {
    copies: JoinHandle<()>,
    connection: Connection,
    readers: Readers,
    threads: Vec<JoinHandle<()>>,
    owner: Owner,
}

/// Asks the threads that read. Cheap to clone; all clones end with the file.
#[derive(Clone)]
pub struct Readers(Arc<Mutex<Option<mpsc::Sender<Read>>>>);

impl Exclusive {
    /// Opens the file, or makes it; checks it, and brings the tables of each block up to date. Blocks.
    ///
    /// # Errors
    /// As [`super::Sqlite::open`].
    pub fn open(path: &Path, blocks: &[Migrations]) -> Result<Exclusive, Error> {
        let owner = Owner::take(path)?;
        let mut connection = file::writer(path)?;
        for block in blocks {
            crate::migrate::sqlite(&mut connection, block)?;
        }
        let copies = log::copied_aside(&mut connection, path)?;
        let (reads, threads) = readers(path)?;
        Ok(Exclusive { copies, connection, readers: Readers(Arc::new(Mutex::new(Some(reads)))), threads, owner })
    }

    /// The connection that writes, set to sync every commit.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn readers(&self) -> Readers {
        self.readers.clone()
    }

    /// Lets go of the file: another process may open it when this comes back, and finds nothing to bring over. Blocks.
    pub fn close(self) {
        drop(self.readers.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in self.threads {
            let _ = thread.join();
        }
        let mut connection = self.connection;
        // With it the sender of what is to be copied goes.
        let _ = connection.wal_hook(None::<fn(&mut rusqlite::hooks::Wal, i32) -> rusqlite::Result<()>>);
        let _ = self.copies.join();
        let _ = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
        drop(connection);
        drop(self.owner);
    }
}

impl Readers {
    /// A question, on a connection that cannot write. It sees what was committed before.
    ///
    /// # Errors
    /// The question's own, the disk's, or that the file is closed.
    pub async fn read<T, F>(&self, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ask(sender.ok_or(Error::Closed)?, question).await
    }
}
