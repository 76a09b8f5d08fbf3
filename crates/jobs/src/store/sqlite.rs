//! The statements for SQLite, on a connection of the engine's own thread: a batch is one transaction.
//!
//! Invariant: what `commit` has come back from survives `kill -9`; with `fsync` a power cut too.

use super::read::ChildDetail;
use super::rows::{self, read, stored};
use crate::change::{Change, Held, Key, Link, Progressed, Record, Row as JobRow};
use crate::job::{Body, NewJob, OnFailure, Own, State, Unique};
use crate::op::FLOW_JOBS_MAX;
use crate::schedule::{CatchUp, Rule, Schedule};
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::sqlite::rusqlite::{self, Connection, Row, params};
use mainstay_store::sqlite::{Exclusive, Readers};
use std::path::Path;

type Read<T> = Result<T, rusqlite::Error>;

pub(super) const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, name: "jobs", sql: include_str!("sqlite/0001_jobs.sql") },
    Migration { version: 2, name: "flows", sql: include_str!("sqlite/0002_flows.sql") },
    Migration { version: 3, name: "traces", sql: include_str!("sqlite/0003_traces.sql") },
];

const OWN: &str = "own_attempts, own_growth, own_delay_ms, own_jitter, own_timeout_ms";

pub(super) struct Sqlite {
    file: Exclusive,
    /// Whether the next commit is synced.
    is_full: bool,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Sqlite, Error> {
        let file = Exclusive::open(path, &[super::MIGRATIONS])?;
        Ok(Sqlite { file, is_full: true })
    }

    pub fn readers(&self) -> Readers {
        self.file.readers()
    }

    pub fn close(self) {
        self.file.close();
    }

    pub fn commit(&mut self, changes: &[Change], fsync: bool) -> Result<(), Error> {
        let connection = self.file.connection();
        if self.is_full != fsync {
            // Not possible within a transaction. A synced commit syncs those before it too.
            let level = if fsync { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            connection.execute_batch(level)?;
            self.is_full = fsync;
        }
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let written = changes.iter().try_for_each(|change| write(connection, change));
        let committed = written.and_then(|()| connection.prepare_cached("COMMIT")?.execute([]).map(drop));
        if committed.is_err() && !connection.is_autocommit() {
            // Left open it would take in the next batch.
            let _ = connection.execute_batch("ROLLBACK");
        }
        Ok(committed?)
    }

    pub fn probe(&mut self) -> Result<(), Error> {
        let connection = self.file.connection();
        connection.execute_batch("REPLACE INTO probe VALUES (1); DELETE FROM probe")?;
        Ok(())
    }

    pub fn bodies(&mut self, jobs: &[u64]) -> Result<Vec<Body>, Error> {
        let mut select =
            self.file.connection().prepare_cached("SELECT name, payload, trace FROM body WHERE job = ?1")?;
        let bodies = jobs.iter().map(|job| select.query_row([stored(*job)], body)).collect::<Read<_>>()?;
        Ok(bodies)
    }

    pub fn children(&mut self, job: u64) -> Result<Vec<ChildDetail>, Error> {
        super::read::children(self.file.connection(), job, 0, FLOW_JOBS_MAX)
    }

    pub fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), Error> {
        let connection = self.file.connection();
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        all(connection, "SELECT counter, ceiling FROM reserved", each, |row| {
            let counter = rows::parse_counter(&row.get::<_, String>(0)?).ok_or(rusqlite::Error::InvalidQuery)?;
            Ok(Record::Reserved { counter, ceiling: read(row.get(1)?) })
        })?;
        all(connection, "SELECT id, name, is_paused FROM queue ORDER BY id", each, |row| {
            Ok(Record::Queue { id: row.get(0)?, name: name(row, 1)?, is_paused: row.get(2)? })
        })?;
        all(connection, "SELECT id, starts FROM queue WHERE starts != x'' ORDER BY id", each, |row| {
            Ok(Record::Starts { queue: row.get(0)?, starts: rows::parse_starts(&row.get::<_, Vec<u8>>(1)?) })
        })?;
        all(connection, &format!("SELECT {JOB} FROM job ORDER BY id"), each, |row| {
            Ok(Record::Job(Box::new(job(row)?)))
        })?;
        all(connection, "SELECT child, parent, queue, on_failure, gone FROM flow ORDER BY child", each, |row| {
            Ok(Record::Link(link(row)?))
        })?;
        all(connection, "SELECT queue, kind, key, job, until_ms FROM key", each, |row| {
            let kind = rows::parse_kind(&row.get::<_, String>(1)?).ok_or(rusqlite::Error::InvalidQuery)?;
            let until_ms = row.get::<_, Option<i64>>(4)?.map(read);
            let key = Key { queue: row.get(0)?, kind, key: name(row, 2)? };
            Ok(Record::Key { key, held: Held { job: read(row.get(3)?), until_ms } })
        })?;
        let sql = format!(
            "SELECT {OWN}, name, queue, pattern, zone, every_ms, catch_up, next_ms, job_name, payload, trace, priority,
             group_key FROM schedule"
        );
        all(connection, &sql, each, |row| Ok(Record::Schedule(Box::new(schedule(row)?))))
    }
}

/// Every row of a question, one after the other.
fn all(
    connection: &Connection,
    sql: &str,
    each: &mut dyn FnMut(Record),
    record: impl Fn(&Row<'_>) -> Read<Record>,
) -> Result<(), Error> {
    let mut select = connection.prepare(sql)?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        each(record(row)?);
    }
    Ok(())
}

fn name(row: &Row<'_>, index: usize) -> Read<crate::job::Name> {
    Ok(row.get_ref(index)?.as_str()?.into())
}

fn maybe_name(row: &Row<'_>, index: usize) -> Read<Option<crate::job::Name>> {
    Ok(row.get_ref(index)?.as_str_or_null()?.map(Into::into))
}

/// From the five columns that begin at this one.
fn own(row: &Row<'_>, first: usize) -> Read<Own> {
    let growth = row.get_ref(first + 1)?.as_str_or_null()?;
    let backoff = rows::parse_backoff(growth, row.get(first + 2)?, row.get(first + 3)?);
    Ok(Own { attempts: row.get(first)?, backoff, timeout_ms: row.get::<_, Option<i64>>(first + 4)?.map(read) })
}

pub(super) const JOB: &str = "id, queue, state, kept, priority, ready_ms, attempts, starts, stalls, token, started_ms,
    ended_ms, worker, deadline_ms, lease_ms, created_ms, group_key, unique_key, unique_ms, own_attempts, own_growth,
    own_delay_ms, own_jitter, own_timeout_ms";

/// Of the columns of [`JOB`].
pub(super) fn job(row: &Row<'_>) -> Read<JobRow> {
    let number = |index: usize| row.get::<_, i64>(index).map(read);
    let unique = match maybe_name(row, 17)? {
        Some(key) => Some(Unique { key, for_ms: row.get::<_, Option<i64>>(18)?.map(read) }),
        None => None,
    };
    Ok(JobRow {
        queue: row.get(1)?,
        priority: row.get(4)?,
        created_ms: number(15)?,
        group: maybe_name(row, 16)?,
        unique,
        own: own(row, 19)?,
        progressed: Progressed {
            job: number(0)?,
            state: state(row.get_ref(2)?.as_str()?)?,
            kept: rows::parse_kept(row.get(3)?),
            ready_ms: number(5)?,
            attempts: row.get(6)?,
            starts: row.get(7)?,
            stalls: row.get(8)?,
            token: number(9)?,
            started_ms: number(10)?,
            ended_ms: number(11)?,
            worker: maybe_name(row, 12)?,
            deadline_ms: number(13)?,
            lease_ms: number(14)?,
        },
    })
}

fn link(row: &Row<'_>) -> Read<Link> {
    let gone = row.get_ref(4)?.as_str_or_null()?.map(state).transpose()?;
    let on_failure = on_failure(row.get_ref(3)?.as_str()?)?;
    Ok(Link { child: read(row.get(0)?), parent: read(row.get(1)?), queue: row.get(2)?, on_failure, gone })
}

pub(super) fn state(text: &str) -> Read<State> {
    State::parse(text).ok_or(rusqlite::Error::InvalidQuery)
}

pub(super) fn on_failure(text: &str) -> Read<OnFailure> {
    OnFailure::parse(text).ok_or(rusqlite::Error::InvalidQuery)
}

pub(super) fn body(row: &Row<'_>) -> Read<Body> {
    Ok(Body { name: row.get(0)?, payload: row.get(1)?, trace: row.get(2)? })
}

fn schedule(row: &Row<'_>) -> Read<Schedule> {
    let rule = match row.get::<_, Option<i64>>(9)? {
        Some(every_ms) => Rule::Every(read(every_ms)),
        None => Rule::Cron { pattern: row.get(7)?, zone: row.get(8)? },
    };
    let body = Body { name: row.get(12)?, payload: row.get(13)?, trace: row.get(14)? };
    Ok(Schedule {
        name: name(row, 5)?,
        queue: name(row, 6)?,
        rule,
        catch_up: CatchUp::parse(row.get_ref(10)?.as_str()?).ok_or(rusqlite::Error::InvalidQuery)?,
        next_ms: read(row.get(11)?),
        job: NewJob {
            body,
            priority: row.get(15)?,
            group: maybe_name(row, 16)?,
            own: own(row, 0)?,
            ..NewJob::default()
        },
    })
}

fn write(c: &Connection, change: &Change) -> Read<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| c.prepare_cached(sql)?.execute(values).map(drop);
    match change {
        Change::Reserve { counter, ceiling } => {
            run("INSERT OR REPLACE INTO reserved VALUES (?1, ?2)", &[&rows::counter(*counter), &stored(*ceiling)])
        }
        Change::Queue { id, name, is_paused } => {
            let sql = "INSERT INTO queue (id, name, is_paused) VALUES (?1, ?2, ?3)
                       ON CONFLICT (id) DO UPDATE SET is_paused = ?3";
            run(sql, &[id, &&**name, is_paused])
        }
        Change::Starts { queue, starts } => {
            run("UPDATE queue SET starts = ?2 WHERE id = ?1", &[queue, &rows::starts(starts)])
        }
        Change::Insert { row, body } => {
            insert(c, row)?;
            let sql = "INSERT INTO body (job, name, payload, trace) VALUES (?1, ?2, ?3, ?4)";
            run(sql, &[&stored(row.progressed.job), &body.name, &body.payload, &body.trace])
        }
        Change::Update(progressed) => update(c, progressed),
        Change::Attempt { job, attempt: a } => {
            // Of those that were no start the last is kept.
            let sql = match a.start {
                0 => "INSERT OR REPLACE INTO attempt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                _ => "INSERT INTO attempt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            };
            let (job, started_ms, ended_ms) = (stored(*job), stored(a.started_ms), stored(a.ended_ms));
            let ending = a.ending.as_str();
            run(sql, &[&job, &a.start, &&*a.worker, &started_ms, &ended_ms, &ending, &a.error, &a.stack])
        }
        Change::Result { job, result } => {
            let sql = "INSERT INTO words (job, result) VALUES (?1, ?2) ON CONFLICT (job) DO UPDATE SET result = ?2";
            run(sql, &[&stored(*job), result])
        }
        Change::Progress { job, progress } => {
            let sql = "INSERT INTO words (job, progress) VALUES (?1, ?2) ON CONFLICT (job) DO UPDATE SET progress = ?2";
            run(sql, &[&stored(*job), progress])
        }
        Change::Line { job, at_ms, line } => {
            run("INSERT INTO line (job, at_ms, line) VALUES (?1, ?2, ?3)", &[&stored(*job), &stored(*at_ms), line])
        }
        Change::Remove { job, kept } => remove(c, *job, *kept),
        Change::Link(link) => {
            let sql = "INSERT INTO flow (child, parent, queue, on_failure) VALUES (?1, ?2, ?3, ?4)";
            run(sql, &[&stored(link.child), &stored(link.parent), &link.queue, &link.on_failure.as_str()])
        }
        Change::ChildGone { child, state } => {
            let sql = "UPDATE flow SET gone = ?2, result = (SELECT result FROM words WHERE job = ?1) WHERE child = ?1";
            run(sql, &[&stored(*child), &state.as_str()])
        }
        Change::Unlink { parent } => run("DELETE FROM flow WHERE parent = ?1", &[&stored(*parent)]),
        Change::Key { key, held } => {
            let sql = "INSERT OR REPLACE INTO key VALUES (?1, ?2, ?3, ?4, ?5)";
            let (job, until_ms) = (stored(held.job), held.until_ms.map(stored));
            run(sql, &[&key.queue, &rows::kind(key.kind), &&*key.key, &job, &until_ms])
        }
        Change::KeyGone { key } => {
            let sql = "DELETE FROM key WHERE queue = ?1 AND kind = ?2 AND key = ?3";
            run(sql, &[&key.queue, &rows::kind(key.kind), &&*key.key])
        }
        Change::Schedule(schedule) => put_schedule(c, schedule),
        Change::Unschedule { name } => run("DELETE FROM schedule WHERE name = ?1", &[&&**name]),
        // Nobody else writes to a file of ours.
        Change::Taken { .. } | Change::SetAside { .. } => Ok(()),
    }
}

fn insert(c: &Connection, row: &JobRow) -> Read<()> {
    let p = &row.progressed;
    let own = rows::own(&row.own);
    let sql = "INSERT INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
               ?19, ?20, ?21, ?22, ?23, ?24)";
    c.prepare_cached(sql)?.execute(params![
        stored(p.job),
        row.queue,
        p.state.as_str(),
        rows::kept(p.kept),
        row.priority,
        stored(p.ready_ms),
        p.attempts,
        p.starts,
        p.stalls,
        stored(p.token),
        stored(p.started_ms),
        stored(p.ended_ms),
        p.worker.as_deref(),
        stored(p.deadline_ms),
        stored(p.lease_ms),
        stored(row.created_ms),
        row.group.as_deref(),
        row.unique.as_ref().map(|unique| &*unique.key),
        row.unique.as_ref().and_then(|unique| unique.for_ms.map(stored)),
        own.attempts,
        own.growth,
        own.delay_ms,
        own.jitter,
        own.timeout_ms,
    ])?;
    Ok(())
}

fn update(c: &Connection, p: &Progressed) -> Read<()> {
    let sql =
        "UPDATE job SET state = ?2, kept = ?3, ready_ms = ?4, attempts = ?5, starts = ?6, stalls = ?7, token = ?8,
               started_ms = ?9, ended_ms = ?10, worker = ?11, deadline_ms = ?12, lease_ms = ?13 WHERE id = ?1";
    c.prepare_cached(sql)?.execute(params![
        stored(p.job),
        p.state.as_str(),
        rows::kept(p.kept),
        stored(p.ready_ms),
        p.attempts,
        p.starts,
        p.stalls,
        stored(p.token),
        stored(p.started_ms),
        stored(p.ended_ms),
        p.worker.as_deref(),
        stored(p.deadline_ms),
        stored(p.lease_ms),
    ])?;
    Ok(())
}

fn remove(c: &Connection, job: u64, kept: crate::job::Kept) -> Read<()> {
    let tables = [(true, "DELETE FROM job WHERE id = ?1"), (true, "DELETE FROM body WHERE job = ?1")];
    let beside = [
        (kept.attempts, "DELETE FROM attempt WHERE job = ?1"),
        (kept.lines, "DELETE FROM line WHERE job = ?1"),
        (kept.words, "DELETE FROM words WHERE job = ?1"),
    ];
    for (_, sql) in tables.into_iter().chain(beside).filter(|(is_there, _)| *is_there) {
        c.prepare_cached(sql)?.execute([stored(job)])?;
    }
    Ok(())
}

fn put_schedule(c: &Connection, schedule: &Schedule) -> Read<()> {
    let (pattern, zone, every_ms) = match &schedule.rule {
        Rule::Cron { pattern, zone } => (Some(pattern), Some(zone), None),
        Rule::Every(every_ms) => (None, None, Some(stored(*every_ms))),
    };
    let job = &schedule.job;
    let own = rows::own(&job.own);
    let sql =
        "INSERT OR REPLACE INTO schedule VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
               ?16, ?17)";
    c.prepare_cached(sql)?.execute(params![
        &*schedule.name,
        &*schedule.queue,
        pattern,
        zone,
        every_ms,
        schedule.catch_up.as_str(),
        stored(schedule.next_ms),
        job.body.name,
        job.body.payload,
        job.body.trace,
        job.priority,
        job.group.as_deref(),
        own.attempts,
        own.growth,
        own.delay_ms,
        own.jitter,
        own.timeout_ms,
    ])?;
    Ok(())
}
