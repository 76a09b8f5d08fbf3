//! Jobs in Postgres: one node decides, the others stand by.
//!
//! Who owns the jobs holds an advisory lock of its session; behind a pooler, where nobody has a session, the row of the
//! owner goes by the time it was last heard of. Each asks after both. That decides how soon another takes over, and
//! nothing else: each commit holds the owner's row and names its epoch, so one who was replaced and does not know it
//! writes nothing.
//!
//! Invariants: a commit is one transaction, and whose epoch has passed commits nothing. What was read before a session
//! was lost is not relied upon: whoever owns the jobs (again) loads them.

mod batch;
pub(super) mod columns;
mod detail;
mod inbox;
mod statements;

use super::read::ChildDetail;
use super::rows;
use crate::change::{Change, Held, Key, Record};
use crate::job::{Body, Name, NewJob};
use crate::op::FLOW_JOBS_MAX;
use batch::Batch;
use columns::{Found, names};
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::postgres::tokio_postgres::Row;
use mainstay_store::postgres::tokio_postgres::types::{ToSql, Type};
use mainstay_store::postgres::{Begin, Options, Postgres as Pool, Session, Write};
use statements::{Statements, Which};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub(super) use detail::{children, details, traced};
pub(super) use inbox::{drop_refused, refused, refused_counts};

pub(super) const MIGRATIONS: [Migration; 5] = [
    Migration { version: 1, name: "jobs", sql: include_str!("postgres/0001_jobs.sql") },
    Migration { version: 2, name: "add_job", sql: include_str!("postgres/0002_add_job.sql") },
    Migration { version: 3, name: "flows", sql: include_str!("postgres/0003_flows.sql") },
    Migration { version: 4, name: "lookups", sql: include_str!("postgres/0004_lookups.sql") },
    Migration { version: 5, name: "calls", sql: include_str!("postgres/0005_calls.sql") },
];

/// Of the owner, by the letters of "mainjobs".
const LOCK: i64 = 0x6d61_696e_6a6f_6273;
/// Where apps say that they have added jobs.
const CHANNEL: &str = "LISTEN mainstay_jobs";
/// What apps have added is looked at so often though nobody said so; and the session shows that it lives.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Behind a pooler: an owner that was not heard of for so long is taken to be gone.
const SILENT_LIMIT: &str = "10 seconds";
/// How the names of nodes end that hold no lock.
const POOLED: &str = "@pooler";
/// Jobs of apps in one commit, and bytes of their payloads.
const INBOX_MAX: i64 = 512;
const INBOX_BYTES_MAX: i64 = 16 * 1024 * 1024;
/// Connections that read what is shown.
const READERS: usize = 2;
/// What `mainstay.jobs_hold` says.
const FENCED: &str = "MS001";

/// The store of a node, whether it owns the jobs or not.
pub struct Postgres {
    options: Options,
    pool: Pool,
    /// Of this process, among those that stand by.
    node: String,
    told: Arc<Notify>,
    owned: Option<Owned>,
    /// Of a node that stands by: it asks again and again.
    asking: Option<Session>,
    looked_at: Option<Instant>,
    has_more: bool,
}

/// What the owner has.
struct Owned {
    session: Session,
    statements: Statements,
    epoch: i64,
}

/// A job that an app has added, or why it cannot be one.
#[derive(Debug)]
pub struct Entry {
    pub id: u64,
    pub job: Result<(Name, NewJob), String>,
}

impl Postgres {
    /// Brings the tables up to date. Owns nothing yet.
    pub async fn open(options: &Options) -> Result<Postgres, Error> {
        let readers = Options { pool: READERS.min(options.pool), ..options.clone() };
        let pool = Pool::open(&readers, &[super::MIGRATIONS]).await?;
        let by = if options.pgbouncer { POOLED } else { "" };
        let node = format!("{}-{:x}{by}", std::process::id(), mainstay_runtime::Clock::unix_micros());
        let (options, told) = (options.clone(), Arc::new(Notify::new()));
        Ok(Postgres { options, pool, node, told, owned: None, asking: None, looked_at: None, has_more: false })
    }

    pub fn pool(&self) -> Pool {
        self.pool.clone()
    }

    pub fn told(&self) -> Arc<Notify> {
        self.told.clone()
    }

    /// Owns the jobs, or says who cannot be reached, or that another does; then writes something that changes nothing.
    pub async fn probe(&mut self) -> Result<(), Error> {
        match &self.owned {
            Some(owned) if !owned.session.is_closed() => {}
            _ => self.owned = Some(self.own().await?),
        }
        self.looked_at = None;
        self.transaction(&[], Begin::Unsynced).await
    }

    async fn own(&mut self) -> Result<Owned, Error> {
        // Before it the lock of the session that is lost may still be ours.
        self.owned = None;
        let session = match self.asking.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => Session::open(&self.options, self.told.clone()).await?,
        };
        let Some(epoch) = self.epoch(&session).await? else {
            self.asking = Some(session);
            return Err(Error::Standby);
        };
        let statements = Statements::prepare(&session).await?;
        // Behind a pooler it would tell whoever has the connection next; then it is looked every second.
        if !self.options.pgbouncer {
            session.in_time(async { Ok(session.client().batch_execute(CHANNEL).await?) }).await?;
        }
        tracing::info!(epoch, "this node runs the jobs");
        Ok(Owned { session, statements, epoch })
    }

    /// That of this node from now on, unless another owns the jobs.
    async fn epoch(&self, session: &Session) -> Result<Option<i64>, Error> {
        let (client, is_pooled) = (session.client(), self.options.pgbouncer);
        if !is_pooled {
            let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]);
            if !session.in_time(async { Ok(locked.await?.try_get(0)?) }).await? {
                return Ok(None);
            }
        }
        // Waits for a commit of the owner before, if one is under way: it then comes before what is loaded. The lock
        // of a transaction is had by whose session has it already, and else as long as no session does.
        let sql = format!(
            "UPDATE mainstay.jobs_owner SET epoch = epoch + 1, node = $1, seen_at = clock_timestamp()
             WHERE pg_try_advisory_xact_lock($2) AND (node = $1 OR node NOT LIKE '%{POOLED}'
             OR seen_at < clock_timestamp() - interval '{SILENT_LIMIT}') RETURNING epoch"
        );
        let values: [(&(dyn ToSql + Sync), Type); 2] = [(&self.node, Type::TEXT), (&LOCK, Type::INT8)];
        let taken = session.in_time(async { Ok(client.query_typed_opt(&sql, &values).await?) }).await?;
        if taken.is_none() && !is_pooled {
            // One behind a pooler lives; whoever else stands by must be able to ask after it.
            let freed = client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]);
            session.in_time(async { Ok(freed.await?) }).await?;
        }
        Ok(taken.map(|row| row.try_get(0)).transpose()?)
    }

    pub async fn commit(&mut self, changes: &[Change], fsync: bool) -> Result<(), Error> {
        let batch = Batch::of(changes);
        let begin = if fsync { Begin::Synced } else { Begin::Unsynced };
        self.transaction(&batch.writes(), begin).await
    }

    async fn transaction(&mut self, writes: &[(Which, columns::Rows<'_>)], begin: Begin) -> Result<(), Error> {
        let owned = self.owned.as_ref().ok_or(Error::Standby)?;
        let mut all = Vec::with_capacity(writes.len() + 1);
        all.push(Write { statement: owned.statements.get(Which::Hold), values: vec![&owned.epoch] });
        all.extend(
            writes.iter().map(|(which, rows)| Write { statement: owned.statements.get(*which), values: rows.values() }),
        );
        let done = owned.session.transaction(begin, &all).await;
        self.checked(done)
    }

    /// Whoever was replaced, or does not know what became of a statement, owns nothing any more.
    fn checked<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        let error = match done {
            Ok(done) => return Ok(done),
            Err(Error::Postgres(error)) if error.code().is_some_and(|code| code.code() == FENCED) => Error::Fenced,
            Err(error) => error,
        };
        if !matches!(error, Error::Postgres(_)) {
            self.owned = None;
        }
        Err(error)
    }

    pub async fn bodies(&mut self, jobs: &[u64]) -> Result<Vec<Body>, Error> {
        let ids: Vec<i64> = jobs.iter().map(|job| rows::stored(*job)).collect();
        let found = self.query(Which::Bodies, &[&ids]).await?;
        if found.len() != jobs.len() {
            return Err(columns::strange("jobs_body"));
        }
        found.iter().map(|row| Found(row).body()).collect()
    }

    /// All children of a job, and what they gave as far as there is room.
    pub async fn children(&mut self, job: u64) -> Result<Vec<ChildDetail>, Error> {
        let most = i64::try_from(FLOW_JOBS_MAX).unwrap_or(i64::MAX);
        let found = self.query(Which::Children, &[&rows::stored(job), &most, &0_i64]).await?;
        detail::given(&found)
    }

    async fn query(&mut self, which: Which, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let owned = self.owned.as_ref().ok_or(Error::Standby)?;
        let statement = owned.statements.get(which);
        let found = owned.session.query(statement, values).await;
        self.checked(found)
    }

    /// What apps have added, if it is time to look or somebody said so. A commit that fails leaves it where it is.
    pub async fn inbox(&mut self) -> Result<Vec<Entry>, Error> {
        if !self.rest().is_zero() {
            return Ok(Vec::new());
        }
        let is_quiet = self.looked_at.is_some() && !self.has_more;
        let found = self.query(Which::Inbox, &[&INBOX_MAX, &INBOX_BYTES_MAX]).await?;
        self.looked_at = Some(Instant::now());
        self.has_more = !found.is_empty();
        if self.options.pgbouncer && is_quiet && found.is_empty() {
            // No session shows that we live, and nothing may be committed for long.
            self.transaction(&[], Begin::Unsynced).await?;
        }
        found.iter().map(entry).collect()
    }

    /// How long there is nothing to look at.
    pub fn rest(&self) -> Duration {
        match self.looked_at {
            Some(at) if !self.has_more => LOOK_EVERY.saturating_sub(at.elapsed()),
            _ => Duration::ZERO,
        }
    }

    /// Somebody said that there is something.
    pub fn look_now(&mut self) {
        self.looked_at = None;
    }

    pub async fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), Error> {
        let owned = self.owned.as_ref().ok_or(Error::Standby)?;
        let loaded = loaded(&owned.session, each).await;
        if loaded.is_err() {
            // Whatever of the transaction is left ends with the session.
            self.owned = None;
        }
        loaded
    }

    /// The next to ask owns the jobs at once.
    pub async fn close(self) {
        if let Some(Owned { session, epoch, .. }) = self.owned {
            let sql = "UPDATE mainstay.jobs_owner SET seen_at = '-infinity' WHERE epoch = $1";
            let left = async {
                session.client().execute_typed(sql, &[(&epoch, Type::INT8)]).await?;
                if !self.options.pgbouncer {
                    session.client().execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await?;
                }
                Ok(())
            };
            // The end of the session does the same, later.
            let _ = session.in_time(left).await;
        }
        self.pool.close();
    }
}

fn entry(row: &Row) -> Result<Entry, Error> {
    let found = Found(row);
    let job = found.name("queue").and_then(|queue| Ok((queue, found.new_job()?)));
    Ok(Entry { id: found.whole("id")?, job: job.map_err(|error| error.to_string()) })
}

/// All records, as of one moment.
async fn loaded(session: &Session, each: &mut dyn FnMut(Record)) -> Result<(), Error> {
    // Reading millions of rows takes longer than a statement may.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
    let run = async |sql: &str| session.in_time(async { Ok(session.client().batch_execute(sql).await?) }).await;
    run(begin).await?;
    all(session, "SELECT counter, ceiling FROM mainstay.jobs_reserved", each, |row| {
        Ok(Record::Reserved { counter: row.word("counter", rows::parse_counter)?, ceiling: row.whole("ceiling")? })
    })
    .await?;
    let sql = format!("SELECT {} FROM mainstay.jobs_queue ORDER BY id", names(columns::QUEUE));
    all(session, &sql, each, |row| {
        Ok(Record::Queue { id: row.small("id")?, name: row.name("name")?, is_paused: row.0.try_get("is_paused")? })
    })
    .await?;
    let sql = "SELECT id, starts FROM mainstay.jobs_queue WHERE starts <> '' ORDER BY id";
    all(session, sql, each, |row| {
        Ok(Record::Starts { queue: row.small("id")?, starts: rows::parse_starts(row.0.try_get("starts")?) })
    })
    .await?;
    let sql = format!("SELECT {} FROM mainstay.jobs_job ORDER BY id", columns::job());
    all(session, &sql, each, |row| Ok(Record::Job(Box::new(row.job()?)))).await?;
    let sql = format!("SELECT {}, gone FROM mainstay.jobs_flow ORDER BY child", names(columns::LINK));
    all(session, &sql, each, |row| Ok(Record::Link(row.link()?))).await?;
    let sql = format!("SELECT {} FROM mainstay.jobs_key", names(columns::KEY));
    all(session, &sql, each, |row| {
        let key = Key { queue: row.small("queue")?, kind: row.word("kind", rows::parse_kind)?, key: row.name("key")? };
        Ok(Record::Key { key, held: Held { job: row.whole("job")?, until_ms: row.maybe("until_ms")? } })
    })
    .await?;
    let sql = format!("SELECT {} FROM mainstay.jobs_schedule", names(columns::SCHEDULE));
    all(session, &sql, each, |row| Ok(Record::Schedule(Box::new(row.schedule()?)))).await?;
    run("COMMIT").await
}

/// Every row of a question, one after the other; a server that stops in between is not waited for.
async fn all(
    session: &Session,
    sql: &str,
    each: &mut dyn FnMut(Record),
    record: impl Fn(&Found<'_>) -> Result<Record, Error>,
) -> Result<(), Error> {
    let take = |row| {
        each(record(&Found(&row))?);
        Ok(())
    };
    session.rows(sql, take).await
}
