//! The store that lasts, whichever it is. A block keeps its queries in two files of its own, one a dialect, and has one
//! suite that both pass; here it finds the connections.

use crate::error::Error;
use crate::migrate::Migrations;
use crate::options::{Lasting, Options};
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use std::path::Path;

/// In the data folder.
pub const FILE: &str = "mainstay.db";

/// Cheap to clone.
#[derive(Clone)]
pub enum Durable {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Durable {
    /// Opens what the options name, with the tables of these blocks.
    ///
    /// # Errors
    /// See [`Sqlite::open`] and [`Postgres::open`].
    pub async fn open(options: &Options, data: &Path, blocks: &[Migrations]) -> Result<Durable, Error> {
        match &options.durable {
            Lasting::Sqlite => {
                let (path, blocks) = (data.join(FILE), blocks.to_vec());
                // It may wait for the owner before, and reads the whole file.
                let opening = tokio::task::spawn_blocking(move || Sqlite::open(&path, &blocks));
                Ok(Durable::Sqlite(opening.await.unwrap_or(Err(Error::Panicked))?))
            }
            Lasting::Postgres(options) => Ok(Durable::Postgres(Postgres::open(options, blocks).await?)),
        }
    }

    /// What was accepted is written, and another process may own the store when this comes back.
    pub async fn close(&self) {
        match self {
            Durable::Sqlite(sqlite) => sqlite.close().await,
            Durable::Postgres(postgres) => postgres.close(),
        }
    }
}
