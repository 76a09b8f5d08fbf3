//! Where jobs are kept: the seam between the engine and a database.
//!
//! A store does three things: gives all records at a start, commits the changes of a batch together or not at all, and
//! hands out the bodies of jobs that start. The queries are in a file a dialect; `tests/it` holds the suite that each
//! must pass, against an image of what should be there.

mod read;
mod rows;
mod sqlite;

use crate::change::{Change, Record};
use crate::job::Body;
use mainstay_store::Error;
use mainstay_store::migrate::Migrations;
use mainstay_store::sqlite::Readers;
use std::path::{Path, PathBuf};

pub use read::{CHILDREN_BYTES_MAX, ChildDetail, Detail, Line};
pub(crate) use read::{children, detail};

/// In the data folder: a file of their own, so that its commits wait for nobody else's.
pub const FILE: &str = "jobs.db";

pub const MIGRATIONS: Migrations = Migrations { block: "jobs", sqlite: &sqlite::MIGRATIONS, postgres: &[] };

/// The store of one engine.
pub struct Store {
    inner: sqlite::Sqlite,
    path: PathBuf,
}

impl Store {
    /// Opens the file, or makes it. Blocks.
    ///
    /// # Errors
    /// When another process owns it, it is damaged, or newer than this program.
    pub fn open(path: &Path) -> Result<Store, Error> {
        Ok(Store { inner: sqlite::Sqlite::open(path)?, path: path.to_owned() })
    }

    /// All that is kept, in the order [`Record`] says.
    ///
    /// # Errors
    /// The disk's, or that a row is not understood.
    pub fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), Error> {
        self.inner.load(each)
    }

    /// Commits all, with `fsync` so that a power cut does not take it back.
    ///
    /// # Errors
    /// The disk's; nothing was written then.
    pub fn commit(&mut self, changes: &[Change], fsync: bool) -> Result<(), Error> {
        self.inner.commit(changes, fsync)
    }

    /// Writes something that changes nothing.
    ///
    /// # Errors
    /// Why nothing can be written.
    pub fn probe(&mut self) -> Result<(), Error> {
        self.inner.probe()
    }

    /// The bodies of these jobs, in their order.
    ///
    /// # Errors
    /// The disk's, or that one is not there.
    pub fn bodies(&mut self, jobs: &[u64]) -> Result<Vec<Body>, Error> {
        self.inner.bodies(jobs)
    }

    /// All children of a job, and what they gave.
    ///
    /// # Errors
    /// The disk's.
    pub fn children(&mut self, job: u64) -> Result<Vec<ChildDetail>, Error> {
        self.inner.children(job)
    }

    /// What is said when what it holds does not fit together.
    pub(crate) fn damaged(&self, found: String) -> Error {
        Error::Damaged { path: self.path.clone(), found }
    }

    pub(crate) fn readers(&self) -> Readers {
        self.inner.readers()
    }

    /// Lets go of the file. Blocks.
    pub fn close(self) {
        self.inner.close();
    }
}
