//! What is shown of jobs: read beside the engine, on connections that cannot write, of what was committed.

use super::rows::{read, stored};
use super::sqlite;
use crate::change::Row as JobRow;
use crate::job::{Attempt, Body, Ending, Name, OnFailure, State};
use mainstay_store::Error;
use mainstay_store::sqlite::rusqlite::{self, Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

/// Bytes of the results of a job's children that are given at once; past them each is asked for by itself.
pub const CHILDREN_BYTES_MAX: usize = 256 * 1024;

/// How much is read of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// What a list shows: no payload, result, progress or log; of attempts the last, without its stack trace.
    Line,
}

/// All that is kept of a job, or what a list shows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub row: JobRow,
    pub body: Body,
    /// Of its payload, whether that was read or not.
    pub payload_bytes: usize,
    pub result: Option<Vec<u8>>,
    pub progress: Option<Vec<u8>>,
    /// Those that did not complete, oldest first.
    pub attempts: Vec<Attempt>,
    pub lines: Vec<Line>,
    /// The job that waits for it.
    pub parent: Option<u64>,
}

/// A child, as its parent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildDetail {
    pub job: u64,
    pub queue: Name,
    pub on_failure: OnFailure,
    /// Of one that was removed: the one it was in then.
    pub state: State,
    pub is_gone: bool,
    pub result: Option<Vec<u8>>,
    /// It gave one, and it does not fit here.
    pub is_left_out: bool,
}

impl ChildDetail {
    /// As it is shown.
    pub fn state(&self) -> &'static str {
        if self.is_gone && !self.state.is_terminal() { "removed" } else { self.state.as_str() }
    }
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at_ms: u64,
    pub line: String,
}

/// A job in a file, if it is there.
pub(super) fn detail(c: &Connection, job: u64, extent: Extent) -> Result<Option<Detail>, Error> {
    let sql = format!("SELECT {} FROM job WHERE id = ?1", sqlite::JOB);
    let Some(row) = c.prepare_cached(&sql)?.query_row([stored(job)], sqlite::job).optional()? else { return Ok(None) };
    let sql = match extent {
        Extent::Whole => "SELECT name, payload, trace, length(payload) FROM body WHERE job = ?1",
        Extent::Line => "SELECT name, x'', trace, length(payload) FROM body WHERE job = ?1",
    };
    let body = |row: &rusqlite::Row<'_>| Ok((sqlite::body(row)?, row.get::<_, u32>(3)?));
    let Some((body, bytes)) = c.prepare_cached(sql)?.query_row([stored(job)], body).optional()? else {
        return Ok(None);
    };
    let mut select = c.prepare_cached("SELECT parent FROM flow WHERE child = ?1")?;
    let parent = select.query_row([stored(job)], |row| Ok(read(row.get(0)?))).optional()?;
    let sql = match extent {
        Extent::Whole => {
            "SELECT start, worker, started_ms, ended_ms, ending, error, stack FROM attempt WHERE job = ?1
             ORDER BY start"
        }
        Extent::Line => {
            "SELECT start, worker, started_ms, ended_ms, ending, error, NULL FROM attempt WHERE job = ?1
             ORDER BY start DESC LIMIT 1"
        }
    };
    let mut select = c.prepare_cached(sql)?;
    let attempts = select.query_map([stored(job)], attempt)?.collect::<Result<_, _>>()?;
    let payload_bytes = bytes as usize;
    let mut detail =
        Detail { row, body, payload_bytes, result: None, progress: None, attempts, lines: Vec::new(), parent };
    if extent == Extent::Whole {
        let sql = "SELECT result, progress FROM words WHERE job = ?1";
        let words = c.prepare_cached(sql)?.query_row([stored(job)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        (detail.result, detail.progress) = words.unwrap_or_default();
        let mut select = c.prepare_cached("SELECT at_ms, line FROM line WHERE job = ?1 ORDER BY number")?;
        let line = |row: &rusqlite::Row<'_>| Ok(Line { at_ms: read(row.get(0)?), line: row.get(1)? });
        detail.lines = select.query_map([stored(job)], line)?.collect::<Result<_, _>>()?;
    }
    Ok(Some(detail))
}

/// Jobs that were added with this trace id, in the order of their ids.
pub(super) fn traced(c: &Connection, trace_id: &str, most: usize) -> Result<Vec<u64>, Error> {
    // From piece to piece, as the index has them.
    let sql = "WITH RECURSIVE piece (n) AS (
            SELECT min(job >> 10) FROM body WHERE trace IS NOT NULL
            UNION ALL SELECT (SELECT min(job >> 10) FROM body WHERE trace IS NOT NULL AND job >> 10 > n)
            FROM piece WHERE n IS NOT NULL
        ) SELECT job FROM piece CROSS JOIN body WHERE trace IS NOT NULL AND job >> 10 = n
            AND substr(trace, 28, 8) = substr(?1, 25, 8) AND substr(trace, 4, 32) = ?1 ORDER BY job LIMIT ?2";
    let mut select = c.prepare_cached(sql)?;
    let found = select.query_map((trace_id, i64::try_from(most).unwrap_or(i64::MAX)), |row| Ok(read(row.get(0)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Children of a job, in the order of their ids, and what they gave as far as there is room.
pub(crate) fn children(c: &Connection, parent: u64, skip: usize, most: usize) -> Result<Vec<ChildDetail>, Error> {
    let sql = "SELECT f.child, q.name, f.on_failure, coalesce(f.gone, j.state), f.gone IS NOT NULL,
               CASE WHEN f.gone IS NULL THEN length(w.result) ELSE length(f.result) END
               FROM flow f JOIN queue q ON q.id = f.queue LEFT JOIN job j ON j.id = f.child
               LEFT JOIN words w ON w.job = f.child WHERE f.parent = ?1 ORDER BY f.child LIMIT ?2 OFFSET ?3";
    let mut select = c.prepare_cached(sql)?;
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let found = select.query_map([stored(parent), number(most), number(skip)], child)?;
    let (mut children, mut sum) = (Vec::new(), 0);
    for found in found {
        let (mut child, bytes) = found?;
        if let Some(bytes) = bytes {
            child.is_left_out = sum + bytes > CHILDREN_BYTES_MAX;
            if !child.is_left_out {
                sum += bytes;
                child.result = given(c, child.job, child.is_gone)?;
            }
        }
        children.push(child);
    }
    Ok(children)
}

/// Without its result, but with the bytes of that.
fn child(row: &rusqlite::Row<'_>) -> Result<(ChildDetail, Option<usize>), rusqlite::Error> {
    let child = ChildDetail {
        job: read(row.get(0)?),
        queue: row.get_ref(1)?.as_str()?.into(),
        on_failure: sqlite::on_failure(row.get_ref(2)?.as_str()?)?,
        state: sqlite::state(row.get_ref(3)?.as_str()?)?,
        is_gone: row.get(4)?,
        result: None,
        is_left_out: false,
    };
    Ok((child, row.get::<_, Option<u32>>(5)?.map(|bytes| bytes as usize)))
}

/// What a child gave: with it, or with its link once it was removed.
fn given(c: &Connection, child: u64, is_gone: bool) -> Result<Option<Vec<u8>>, Error> {
    let sql = match is_gone {
        false => "SELECT result FROM words WHERE job = ?1",
        true => "SELECT result FROM flow WHERE child = ?1",
    };
    Ok(c.prepare_cached(sql)?.query_row([stored(child)], |row| row.get(0)).optional()?.flatten())
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
