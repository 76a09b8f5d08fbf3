//! The threads of a file, and what is handed to them.

use super::group;
use crate::error::Error;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// A change with whoever waits for it, its types erased.
pub(super) struct Write(Box<dyn Change>);

pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

trait Change: Send {
    fn run(&mut self, connection: &Connection);
    fn error(&self) -> Option<&Error>;
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: Error);
}

struct Typed<T, F> {
    change: Option<F>,
    result: Option<Result<T, Error>>,
    waiting: oneshot::Sender<Result<T, Error>>,
}

pub(super) fn write<T, F>(change: F, waiting: oneshot::Sender<Result<T, Error>>) -> Write
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    Write(Box::new(Typed { change: Some(change), result: None, waiting }))
}

pub(super) fn read<T, F>(question: F, waiting: oneshot::Sender<Result<T, Error>>) -> Read
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    Box::new(move |connection| drop(waiting.send(caught(|| question(connection)))))
}

impl Write {
    pub(super) fn run(&mut self, connection: &Connection) {
        self.0.run(connection);
    }

    /// What became of it, as far as it has run.
    pub(super) fn error(&self) -> Option<&Error> {
        self.0.error()
    }

    /// The disk has it.
    pub(super) fn answer(self) {
        self.0.answer();
    }

    /// The transaction it was in came to nothing.
    pub(super) fn fail(self, error: Error) {
        self.0.fail(error);
    }
}

impl<T, F> Change for Typed<T, F>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
{
    fn run(&mut self, connection: &Connection) {
        let Some(change) = self.change.take() else { return };
        self.result = Some(within_savepoint(connection, change));
    }

    fn error(&self) -> Option<&Error> {
        self.result.as_ref().and_then(|result| result.as_ref().err())
    }

    fn answer(self: Box<Self>) {
        let _ = self.waiting.send(self.result.unwrap_or(Err(Error::Closed)));
    }

    fn fail(self: Box<Self>, error: Error) {
        // Its own error says more than that of the group.
        let own = self.result.and_then(Result::err);
        let _ = self.waiting.send(Err(own.unwrap_or(error)));
    }
}

fn within_savepoint<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    connection.prepare_cached("SAVEPOINT change")?.execute([])?;
    let result = caught(|| change(connection));
    // Gone already where SQLite took the whole transaction back by itself.
    if connection.is_autocommit() {
        return result;
    }
    let ended = match &result {
        Ok(_) => connection.prepare_cached("RELEASE change").and_then(|mut release| release.execute([])).map(drop),
        Err(_) => connection.execute_batch("ROLLBACK TO change; RELEASE change"),
    };
    if let Err(error) = ended {
        // Half of a change must not be committed with the rest of its group.
        let _ = connection.execute_batch("ROLLBACK");
        return Err(Error::sqlite(error));
    }
    result
}

/// A block's mistake must not end the thread that everybody writes through.
fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Panicked))
}

pub(super) fn writer(connection: Connection, mut changes: mpsc::Receiver<Write>) -> Result<JoinHandle<()>, Error> {
    start("store writer", move || {
        while let Some(first) = changes.blocking_recv() {
            let mut all = vec![first];
            while all.len() < group::GROUP_MAX
                && let Ok(next) = changes.try_recv()
            {
                all.push(next);
            }
            group::commit(&connection, all);
        }
        // The next owner finds one file, and nothing to bring over.
        let _ = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
    })
}

pub(super) fn reader(
    number: usize,
    connection: Connection,
    questions: Arc<Mutex<mpsc::Receiver<Read>>>,
) -> Result<JoinHandle<()>, Error> {
    start(&format!("store reader {number}"), move || {
        loop {
            let next = questions.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let Some(question) = next else { return };
            question(&connection);
        }
    })
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|source| Error::Open { path: name.into(), source })
}
