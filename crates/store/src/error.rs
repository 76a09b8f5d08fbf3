//! What goes wrong with a durable store, in words that say what to do. `Display` never holds its source, an address or
//! a password.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is held by another mainstay of this data folder; waited {waited:?} for it to let go")]
    Owned { path: PathBuf, waited: Duration },
    #[error("{path} is damaged ({found}); move it away and restore the last backup")]
    Damaged { path: PathBuf, found: String },
    #[error("the disk is full, nothing was written; free space where the data folder is")]
    Full(#[source] rusqlite::Error),
    #[error("the disk fails; see the kernel's log")]
    Disk(#[source] rusqlite::Error),
    #[error("another process holds the store; nothing was written")]
    Held(#[source] rusqlite::Error),
    #[error("the store refused a statement")]
    Sqlite(#[source] rusqlite::Error),
    #[error("the store is closed")]
    Closed,
    #[error("the store is behind: {0:?} passed before there was room")]
    Behind(Duration),
    #[error("a change to the store panicked and was taken back")]
    Panicked,
    #[error(
        "{block} has tables of version {found}, this mainstay knows {known}; start the newer mainstay, or restore the \
         backup taken before it"
    )]
    Newer { block: &'static str, found: u32, known: u32 },
    #[error("migration {version} ({name}) of {block} was changed after it ran; start the mainstay that wrote it")]
    Changed { block: &'static str, version: u32, name: String },
    #[error("migration {version} ({name}) of {block} failed and was taken back")]
    Migration {
        block: &'static str,
        version: u32,
        name: &'static str,
        #[source]
        source: Box<Error>,
    },
    #[error("Postgres cannot be reached")]
    Unreachable(#[source] tokio_postgres::Error),
    #[error("Postgres refused the login")]
    Login(#[source] tokio_postgres::Error),
    #[error("Postgres refused a statement")]
    Postgres(#[source] tokio_postgres::Error),
    #[error("Postgres did not answer in time")]
    Late,
    #[error("no connection to Postgres was free in time")]
    Busy,
    /// Its own calls do nothing meanwhile; it is tried again.
    #[error("another node has this store; this one stands by and takes over when that is gone")]
    Standby,
    /// Nothing of the transaction was written, and nothing of a later one will be.
    #[error("another node has taken this store over; nothing was written")]
    Fenced,
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    #[error("TLS to Postgres cannot be set up: {0}")]
    Tls(String),
    #[error("{0} holds what no mainstay writes there")]
    Strange(&'static str),
    #[error("an entry of {found} bytes is longer than the {most} that are kept")]
    TooLong { found: usize, most: usize },
    #[error("an entry cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl Error {
    /// What SQLite says, by what to do about it.
    pub(crate) fn sqlite(error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full(error),
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Error::Disk(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Held(error),
            _ => Error::Sqlite(error),
        }
    }

    /// What Postgres or the way to it says.
    pub(crate) fn postgres(error: tokio_postgres::Error) -> Error {
        use tokio_postgres::error::SqlState;
        match error.code() {
            Some(code)
                if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) =>
            {
                Error::Login(error)
            }
            Some(code) if *code == SqlState::QUERY_CANCELED => Error::Late,
            Some(_) => Error::Postgres(error),
            None => Error::Unreachable(error),
        }
    }
}

/// For `?` within a block's own work.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::sqlite(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        Error::postgres(error)
    }
}
