//! The file itself: who owns it, its mode, how it is opened, and whether it is whole.

use crate::error::Error;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The server before this one lets go as the first act of its end: within this at most.
const LET_GO_LIMIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Only the owner of the data folder has any business with it.
const MODE: u32 = 0o600;
/// Somebody with the `sqlite3` program may hold it for a moment.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
/// A check reads the whole file: a larger one would keep a start waiting. Damage is then found where it is read.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Held while the file is open. The kernel gives it back however this process ends.
pub(super) struct Owner {
    _lock: File,
}

impl Owner {
    pub(super) fn take(path: &Path) -> Result<Owner, Error> {
        let lock_path = beside(path, "-owner");
        let opened = private(&lock_path).map_err(|source| Error::Open { path: lock_path.clone(), source })?;
        let began = Instant::now();
        loop {
            match opened.try_lock() {
                Ok(()) => return Ok(Owner { _lock: opened }),
                Err(TryLockError::WouldBlock) if began.elapsed() < LET_GO_LIMIT => pause(),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Owned { path: path.to_path_buf(), waited: LET_GO_LIMIT });
                }
                Err(TryLockError::Error(source)) => return Err(Error::Open { path: lock_path, source }),
            }
        }
    }
}

/// A start waits for the one before it; no async runtime may be there yet.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Made if it is not there, and nobody else's to read in either case.
fn private(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// The connection that writes.
pub(super) fn writer(path: &Path) -> Result<Connection, Error> {
    // SQLite gives the files beside it (-wal, -shm) the mode of this one.
    let file = private(path).map_err(|source| Error::Open { path: path.to_path_buf(), source })?;
    let bytes = file.metadata().map_err(|source| Error::Open { path: path.to_path_buf(), source })?.len();
    drop(file);
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| judged(path, error))?;
    prepared(&connection).map_err(|error| judged(path, error))?;
    if bytes <= CHECKED_BYTES_MAX {
        let found: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| judged(path, error))?;
        if found != "ok" {
            return Err(Error::Damaged { path: path.to_path_buf(), found });
        }
    }
    Ok(connection)
}

fn prepared(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_LIMIT)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864;",
    )?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// A connection that copies the log into the file and writes nothing of its own.
pub(super) fn copier(path: &Path) -> Result<Connection, Error> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| judged(path, error))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, Error> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| judged(path, error))?;
    connection.busy_timeout(BUSY_LIMIT)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// What is no database, or one no more, is named with its path.
fn judged(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged { path: path.to_path_buf(), found: error.to_string() }
        }
        _ => Error::sqlite(error),
    }
}
