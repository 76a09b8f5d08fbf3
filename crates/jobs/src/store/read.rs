//! What is shown of jobs: read beside the engine, on connections that cannot write, of what was committed.

use super::rows::{read, stored};
use super::sqlite;
use crate::change::Row as JobRow;
use crate::job::{Attempt, Body, Ending};
use mainstay_store::Error;
use mainstay_store::sqlite::rusqlite::{self, Connection, OptionalExtension};

/// All that is kept of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub row: JobRow,
    pub body: Body,
    pub result: Option<Vec<u8>>,
    pub progress: Option<Vec<u8>>,
    /// Those that did not complete, oldest first.
    pub attempts: Vec<Attempt>,
    pub lines: Vec<Line>,
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at_ms: u64,
    pub line: String,
}

/// All that is kept of a job in a file, if it is there.
pub(super) fn detail(c: &Connection, job: u64) -> Result<Option<Detail>, Error> {
    let sql = format!("SELECT {} FROM job WHERE id = ?1", sqlite::JOB);
    let Some(row) = c.prepare_cached(&sql)?.query_row([stored(job)], sqlite::job).optional()? else { return Ok(None) };
    let sql = "SELECT name, payload, trace FROM body WHERE job = ?1";
    let Some(body) = c.prepare_cached(sql)?.query_row([stored(job)], sqlite::body).optional()? else { return Ok(None) };
    let sql = "SELECT result, progress FROM words WHERE job = ?1";
    let words = c.prepare_cached(sql)?.query_row([stored(job)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (result, progress) = words.unwrap_or_default();
    let sql = "SELECT start, worker, started_ms, ended_ms, ending, error, stack FROM attempt WHERE job = ?1
               ORDER BY start";
    let mut select = c.prepare_cached(sql)?;
    let attempts = select.query_map([stored(job)], attempt)?.collect::<Result<_, _>>()?;
    let mut select = c.prepare_cached("SELECT at_ms, line FROM line WHERE job = ?1 ORDER BY number")?;
    let line = |row: &rusqlite::Row<'_>| Ok(Line { at_ms: read(row.get(0)?), line: row.get(1)? });
    let lines = select.query_map([stored(job)], line)?.collect::<Result<_, _>>()?;
    Ok(Some(Detail { row, body, result, progress, attempts, lines }))
}

fn attempt(row: &rusqlite::Row<'_>) -> Result<Attempt, rusqlite::Error> {
    Ok(Attempt {
        start: row.get(0)?,
        worker: row.get_ref(1)?.as_str()?.into(),
        started_ms: read(row.get(2)?),
        ended_ms: read(row.get(3)?),
        ending: Ending::parse(row.get_ref(4)?.as_str()?).ok_or(rusqlite::Error::InvalidQuery)?,
        error: row.get(5)?,
        stack: row.get(6)?,
    })
}
