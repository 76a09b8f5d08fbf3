//! Where jobs are kept: the seam between the engine and a database.
//!
//! A store gives all records at a start, commits the changes of a batch together or not at all, and hands out the
//! bodies of jobs that start. The queries are in a file a dialect; `tests/it` holds the suite that each must pass,
//! against an image of what should be there.

mod postgres;
mod read;
mod rows;
mod sqlite;

use crate::change::{Change, Record};
use crate::job::{Body, Name};
use mainstay_store::Error;
use mainstay_store::migrate::Migrations;
use mainstay_store::postgres::{Options as PostgresOptions, Postgres as Pool};
use mainstay_store::sqlite::Readers;
use mainstay_store::sqlite::rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) use postgres::Entry;
pub(crate) use read::Extent;
pub use read::{CHILDREN_BYTES_MAX, ChildDetail, Detail, Line};

/// In the data folder: a file of their own, so that its commits wait for nobody else's.
pub const FILE: &str = "jobs.db";

pub const MIGRATIONS: Migrations =
    Migrations { block: "jobs", sqlite: &sqlite::MIGRATIONS, postgres: &postgres::MIGRATIONS };

/// So long a store that could not be had is not tried again: each try is some round trips, or a connect.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Which store.
#[derive(Clone, Debug)]
pub enum Place {
    /// This file, of this process alone.
    File(PathBuf),
    /// Shared with other nodes, of which one decides and the others stand by.
    Postgres(Box<PostgresOptions>),
}

/// The store of one engine.
pub struct Store {
    inner: Inner,
    place: Place,
}

enum Inner {
    Sqlite(sqlite::Sqlite),
    Postgres(Box<postgres::Postgres>),
}

/// A job that an app added in SQL, and that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the app was given as the job's.
    pub id: u64,
    pub queue: Name,
    pub name: String,
    pub added_ms: u64,
    /// When it is tried again.
    pub again_ms: u64,
    pub why: String,
}

/// How many of a queue are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCount {
    pub queue: Name,
    pub count: u64,
    /// Of one of them.
    pub why: String,
}

/// Reads beside the engine what was committed, on connections that cannot write, or do not. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Reads {
    Sqlite(Readers),
    Postgres(Pool),
}

impl Store {
    /// Opens what is there, or makes it. A file is owned from then on; Postgres once [`Store::probe`] has said so.
    ///
    /// # Errors
    /// When another process owns the file, it is damaged, or newer than this program; when Postgres cannot be reached.
    pub async fn open(place: &Place) -> Result<Store, Error> {
        let inner = match place {
            Place::File(path) => Inner::Sqlite(sqlite::Sqlite::open(path)?),
            Place::Postgres(options) => Inner::Postgres(Box::new(postgres::Postgres::open(options).await?)),
        };
        Ok(Store { inner, place: place.clone() })
    }

    /// All that is kept, in the order [`Record`] says.
    ///
    /// # Errors
    /// The store's, or that a row is not understood.
    pub async fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), Error> {
        match &mut self.inner {
            Inner::Sqlite(file) => file.load(each),
            Inner::Postgres(postgres) => postgres.load(each).await,
        }
    }

    /// Commits all, with `fsync` so that a power cut does not take it back.
    ///
    /// # Errors
    /// The store's; nothing was written then, except where a connection was lost while the answer was under way: what
    /// is kept says which.
    pub async fn commit(&mut self, changes: &[Change], fsync: bool) -> Result<(), Error> {
        match &mut self.inner {
            Inner::Sqlite(file) => file.commit(changes, fsync),
            Inner::Postgres(postgres) => postgres.commit(changes, fsync).await,
        }
    }

    /// Owns the store if nobody does, and writes something that changes nothing.
    ///
    /// # Errors
    /// Why nothing can be written; [`Error::Standby`] where another node decides.
    pub async fn probe(&mut self) -> Result<(), Error> {
        match &mut self.inner {
            Inner::Sqlite(file) => file.probe(),
            Inner::Postgres(postgres) => postgres.probe().await,
        }
    }

    /// The bodies of these jobs, in their order.
    ///
    /// # Errors
    /// The store's, or that one is not there.
    pub async fn bodies(&mut self, jobs: &[u64]) -> Result<Vec<Body>, Error> {
        match &mut self.inner {
            Inner::Sqlite(file) => file.bodies(jobs),
            Inner::Postgres(postgres) => postgres.bodies(jobs).await,
        }
    }

    /// What apps have added by themselves since, if it is time to look. It is there until a commit takes it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn inbox(&mut self) -> Result<Vec<Entry>, Error> {
        match &mut self.inner {
            Inner::Sqlite(_) => Ok(Vec::new()),
            Inner::Postgres(postgres) => postgres.inbox().await,
        }
    }

    /// Who is notified when there may be something in the inbox.
    pub(crate) fn told(&self) -> Arc<Notify> {
        match &self.inner {
            Inner::Sqlite(_) => Arc::default(),
            Inner::Postgres(postgres) => postgres.told(),
        }
    }

    /// It was: the next look is not put off.
    pub(crate) fn look_now(&mut self) {
        if let Inner::Postgres(postgres) = &mut self.inner {
            postgres.look_now();
        }
    }

    /// How long nothing has to be looked at.
    pub(crate) fn rest(&self) -> Duration {
        match &self.inner {
            Inner::Sqlite(_) => Duration::MAX,
            Inner::Postgres(postgres) => postgres.rest(),
        }
    }

    /// How long after a probe that failed the next makes sense.
    pub(crate) fn again_after(&self) -> Duration {
        match &self.inner {
            Inner::Sqlite(_) => Duration::ZERO,
            Inner::Postgres(_) => AGAIN_AFTER,
        }
    }

    /// All children of a job, and what they gave.
    ///
    /// # Errors
    /// The store's.
    pub async fn children(&mut self, job: u64) -> Result<Vec<ChildDetail>, Error> {
        match &mut self.inner {
            Inner::Sqlite(file) => file.children(job),
            Inner::Postgres(postgres) => postgres.children(job).await,
        }
    }

    /// What is said when what it holds does not fit together.
    pub(crate) fn damaged(&self, found: String) -> Error {
        let path = match &self.place {
            Place::File(path) => path.clone(),
            Place::Postgres(_) => "mainstay.jobs_* in Postgres".into(),
        };
        Error::Damaged { path, found }
    }

    pub(crate) fn reads(&self) -> Reads {
        match &self.inner {
            Inner::Sqlite(file) => Reads::Sqlite(file.readers()),
            Inner::Postgres(postgres) => Reads::Postgres(postgres.pool()),
        }
    }

    /// Lets go of it.
    pub async fn close(self) {
        match self.inner {
            Inner::Sqlite(file) => file.close(),
            Inner::Postgres(postgres) => postgres.close().await,
        }
    }
}

impl Reads {
    /// Those of these jobs that are there, in their order.
    pub async fn details(&self, jobs: Vec<u64>, extent: Extent) -> Result<Vec<Detail>, Error> {
        match self {
            Reads::Sqlite(readers) => readers.read(move |c| all(c, &jobs, extent)).await,
            Reads::Postgres(pool) => postgres::details(pool, &jobs, extent).await,
        }
    }

    /// Jobs that were added with this trace id, the first of them, as a list shows them.
    pub async fn traced(&self, trace_id: String, most: usize) -> Result<Vec<Detail>, Error> {
        match self {
            Reads::Sqlite(readers) => {
                let found = move |c: &Connection| all(c, &read::traced(c, &trace_id, most)?, Extent::Line);
                readers.read(found).await
            }
            Reads::Postgres(pool) => {
                let found = postgres::traced(pool, &trace_id, most).await?;
                postgres::details(pool, &found, Extent::Line).await
            }
        }
    }

    /// What apps added in SQL and cannot be taken over, the oldest of it. Nobody else writes to a file of ours.
    pub async fn refused(&self, most: usize) -> Result<Vec<Refused>, Error> {
        match self {
            Reads::Sqlite(_) => Ok(Vec::new()),
            Reads::Postgres(pool) => postgres::refused(pool, most).await,
        }
    }

    pub async fn refused_counts(&self) -> Result<Vec<RefusedCount>, Error> {
        match self {
            Reads::Sqlite(_) => Ok(Vec::new()),
            Reads::Postgres(pool) => postgres::refused_counts(pool).await,
        }
    }

    /// Drops one of them, or all; how many.
    pub async fn drop_refused(&self, id: Option<u64>) -> Result<u64, Error> {
        match self {
            Reads::Sqlite(_) => Ok(0),
            Reads::Postgres(pool) => postgres::drop_refused(pool, id).await,
        }
    }

    /// Some children of a job, and what they gave as far as there is room.
    pub async fn children(&self, job: u64, skip: usize, most: usize) -> Result<Vec<ChildDetail>, Error> {
        match self {
            Reads::Sqlite(readers) => readers.read(move |c| read::children(c, job, skip, most)).await,
            Reads::Postgres(pool) => postgres::children(pool, job, skip, most).await,
        }
    }
}

fn all(c: &Connection, jobs: &[u64], extent: Extent) -> Result<Vec<Detail>, Error> {
    let found = jobs.iter().map(|job| read::detail(c, *job, extent)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Brings the tables and `mainstay.add_job` up to date in a Postgres; a line for each step, whether it ran now or had
/// run before.
///
/// # Errors
/// When it cannot be reached, refuses us, or its tables are newer than this program.
pub async fn install(options: &PostgresOptions) -> Result<Vec<String>, Error> {
    let pool = Pool::connect(options).await?;
    let ran = pool.install(&MIGRATIONS).await;
    pool.close();
    let ran: Vec<u32> = ran?.iter().map(|step| step.version).collect();
    let line = |step: &mainstay_store::migrate::Migration| {
        let done = if ran.contains(&step.version) { "installed" } else { "was there" };
        format!("jobs {} {}: {done}", step.version, step.name)
    };
    Ok(MIGRATIONS.postgres.iter().map(line).collect())
}
