//! The journal: what happened, once. An append-only table of typed, versioned events that feeds timeline, audit,
//! notifications and status.
//!
//! Invariants: an entry that was acknowledged survives `kill -9`; people appear by opaque id alone; nothing is changed
//! but the count of a flap that is folded, and nothing goes but by retention.

mod event;
mod fold;
mod note;
mod postgres;
mod sqlite;

use crate::durable::Durable;
use crate::error::Error;
use crate::migrate::Migrations;
use std::time::Duration;

pub use event::{Class, Event};
pub use note::{NOTES_MAX, Notes, Writer};

/// Of operations: a quarter, as post-mortems look back.
pub const KEPT_OPERATIONS: Duration = Duration::from_secs(90 * 24 * 3600);
/// Of the audit: a year and a month, as auditors ask for.
pub const KEPT_AUDIT: Duration = Duration::from_secs(400 * 24 * 3600);
/// Past it the oldest of operations go before their time: some 300 MB, and no storm of events fills a disk.
pub const OPERATIONS_MAX: u64 = 1_000_000;
/// Rows a transaction deletes: a writer behind it waits for milliseconds.
pub const PRUNED_AT_A_TIME: u32 = 500;
/// Of one event as JSON: a change of 40 settings fits well.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Entries one question gives.
pub const READ_MAX: u32 = 10_000;

pub const MIGRATIONS: Migrations =
    Migrations { block: "journal", sqlite: &sqlite::MIGRATIONS, postgres: &postgres::MIGRATIONS };

/// One line of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: u64,
    pub at_us: u64,
    /// Of the last one, where several were folded into one.
    pub last_us: u64,
    pub count: u64,
    pub class: Class,
    pub kind: String,
    /// Of the kind's payload; a newer program may have written one that is not known here.
    pub version: u32,
    /// Who did it, by an id that says nothing by itself.
    pub actor: Option<String>,
    pub payload: serde_json::Value,
}

impl Entry {
    /// `None` for what a newer program wrote.
    pub fn event(&self) -> Option<Event> {
        Event::read(&self.kind, self.version, &self.payload)
    }
}

/// What to read. The latest `limit` of what fits, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub since_us: u64,
    pub until_us: u64,
    /// Empty: every kind.
    pub kinds: Vec<String>,
    pub class: Option<Class>,
    pub limit: u32,
}

impl Default for Query {
    fn default() -> Query {
        Query { since_us: 0, until_us: u64::MAX, kinds: Vec::new(), class: None, limit: READ_MAX }
    }
}

/// A row about to be written.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    at_us: i64,
    class: &'static str,
    kind: &'static str,
    version: i32,
    actor: Option<String>,
    /// Entries that flap have one; the latest two of it decide whether the next is folded.
    subject: Option<String>,
    payload: String,
}

/// A row that may take in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Earlier {
    id: i64,
    last_us: i64,
    count: i64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Journal(Durable);

impl Journal {
    /// On a store that was opened with [`MIGRATIONS`].
    pub fn new(durable: Durable) -> Journal {
        Journal(durable)
    }

    /// It is on the disk when this comes back with its number.
    ///
    /// # Errors
    /// When it is not: a full disk, a store that is away, an event that is too long.
    pub async fn append(&self, event: &Event, actor: Option<&str>, at_us: u64) -> Result<u64, Error> {
        let row = row(event, actor, at_us)?;
        let id = match &self.0 {
            Durable::Sqlite(store) => sqlite::append(store, row).await?,
            Durable::Postgres(store) => store.in_time(postgres::append(store, &row)).await?,
        };
        Ok(u64::try_from(id).unwrap_or(0))
    }

    /// # Errors
    /// When the store cannot be asked.
    pub async fn read(&self, query: &Query) -> Result<Vec<Entry>, Error> {
        let mut query = query.clone();
        query.limit = query.limit.min(READ_MAX);
        match &self.0 {
            Durable::Sqlite(store) => sqlite::read(store, query).await,
            Durable::Postgres(store) => store.in_time(postgres::read(store, &query)).await,
        }
    }

    /// Removes what is past its time, in batches between which others write; gives how many.
    ///
    /// # Errors
    /// When the store cannot be written; what went before stays gone.
    pub async fn prune(&self, now_us: u64) -> Result<u64, Error> {
        let before = |kept: Duration| clamp(now_us.saturating_sub(u64::try_from(kept.as_micros()).unwrap_or(u64::MAX)));
        let limits = [(Class::Operations, before(KEPT_OPERATIONS)), (Class::Audit, before(KEPT_AUDIT))];
        let mut gone = 0;
        for (class, before_us) in limits {
            loop {
                let removed = match &self.0 {
                    Durable::Sqlite(store) => sqlite::prune(store, class, before_us).await?,
                    Durable::Postgres(store) => store.in_time(postgres::prune(store, class, before_us)).await?,
                };
                gone += removed;
                if removed < u64::from(PRUNED_AT_A_TIME) {
                    break;
                }
            }
        }
        Ok(gone)
    }
}

fn row(event: &Event, actor: Option<&str>, at_us: u64) -> Result<Row, Error> {
    let payload = serde_json::to_string(event).map_err(Error::Json)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::TooLong { found: payload.len(), most: PAYLOAD_BYTES_MAX });
    }
    Ok(Row {
        at_us: clamp(at_us),
        class: event.class().as_str(),
        kind: event.kind(),
        version: i32::try_from(event.version()).unwrap_or(1),
        actor: actor.map(str::to_owned),
        subject: event.subject(),
        payload,
    })
}

/// Databases count in signed numbers.
pub(crate) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unclamp(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A row as either database gives it.
struct Raw {
    id: i64,
    at_us: i64,
    last_us: i64,
    count: i64,
    class: String,
    kind: String,
    version: i32,
    actor: Option<String>,
    payload: String,
}

impl From<Raw> for Entry {
    fn from(raw: Raw) -> Entry {
        Entry {
            id: unclamp(raw.id),
            at_us: unclamp(raw.at_us),
            last_us: unclamp(raw.last_us),
            count: unclamp(raw.count),
            class: if raw.class == Class::Audit.as_str() { Class::Audit } else { Class::Operations },
            kind: raw.kind,
            version: u32::try_from(raw.version).unwrap_or(0),
            actor: raw.actor,
            payload: serde_json::from_str(&raw.payload).unwrap_or(serde_json::Value::String(raw.payload)),
        }
    }
}
