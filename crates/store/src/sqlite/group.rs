//! Group commit: changes that wait at the same time share one transaction and one `fsync`. Each has a savepoint, so
//! that one which fails takes back itself alone.

use super::threads::Write;
use crate::error::Error;
use rusqlite::Connection;

/// Changes a transaction: past it, the first would wait too long for the last.
pub(super) const GROUP_MAX: usize = 256;

/// Runs the changes and tells each what became of it, none before the disk has it.
pub(super) fn commit(connection: &Connection, changes: Vec<Write>) {
    let mut left = changes;
    while !left.is_empty() {
        left = one(connection, left);
    }
}

/// One transaction. What comes back is to be tried in the next: those behind a change that ended the transaction.
fn one(connection: &Connection, changes: Vec<Write>) -> Vec<Write> {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        fail(changes, &Error::sqlite(error));
        return Vec::new();
    }
    let mut done = Vec::with_capacity(changes.len());
    let mut waiting = changes.into_iter();
    while let Some(mut change) = waiting.next() {
        change.run(connection);
        done.push(change);
        // SQLite takes the whole transaction back by itself when the disk fails or is full in the wrong moment.
        if connection.is_autocommit() {
            let why = done.last().and_then(Write::error).map_or_else(lost, again);
            fail(done, &why);
            return waiting.collect();
        }
    }
    match connection.execute_batch("COMMIT") {
        Ok(()) => done.into_iter().for_each(Write::answer),
        Err(error) => {
            // Left open it would take in the next group.
            let _ = connection.execute_batch("ROLLBACK");
            fail(done, &Error::sqlite(error));
        }
    }
    Vec::new()
}

/// A change that ended the transaction and says that all is well.
fn lost() -> Error {
    Error::Sqlite(rusqlite::Error::InvalidQuery)
}

/// Each is told; an error cannot be cloned, so it is made again from its code.
fn fail(changes: Vec<Write>, error: &Error) {
    for change in changes {
        change.fail(again(error));
    }
}

fn again(error: &Error) -> Error {
    let inner = match error {
        Error::Full(inner) | Error::Disk(inner) | Error::Held(inner) | Error::Sqlite(inner) => inner,
        _ => return lost(),
    };
    match inner {
        rusqlite::Error::SqliteFailure(code, text) => {
            Error::sqlite(rusqlite::Error::SqliteFailure(*code, text.clone()))
        }
        _ => lost(),
    }
}
