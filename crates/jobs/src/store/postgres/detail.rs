//! All that is kept of some jobs, read beside the engine.

use super::columns::{self, Found, names};
use super::statements;
use crate::job::{OnFailure, State};
use crate::store::read::{CHILDREN_BYTES_MAX, ChildDetail, Detail, Extent, Line};
use crate::store::rows::stored;
use mainstay_store::Error;
use mainstay_store::postgres::Postgres;
use mainstay_store::postgres::tokio_postgres::Row;
use std::collections::BTreeMap;

/// Those that are there, in the order that was asked for.
pub async fn details(pool: &Postgres, jobs: &[u64], extent: Extent) -> Result<Vec<Detail>, Error> {
    let ids: Vec<i64> = jobs.iter().map(|job| stored(*job)).collect();
    pool.in_time(async {
        let mut client = pool.client().await?;
        // As of one moment.
        let transaction = client.snapshot().await?;
        let ask = async |sql: String| -> Result<Vec<Row>, Error> { transaction.query(&sql, &[&ids]).await };
        let of =
            |table: &str, columns: &str| format!("SELECT {columns} FROM mainstay.jobs_{table} WHERE job = ANY ($1)");
        let rows = ask(format!("SELECT {} FROM mainstay.jobs_job WHERE id = ANY ($1)", columns::job())).await?;
        let parents = ask("SELECT child, parent FROM mainstay.jobs_flow WHERE child = ANY ($1)".to_owned()).await?;
        let bytes = "octet_length(payload)::bigint AS bytes";
        let (bodies, attempts, words, lines) = match extent {
            Extent::Whole => (
                ask(of("body", &format!("{}, {bytes}", names(columns::BODY)))).await?,
                ask(of("attempt", &names(columns::ATTEMPT)) + " ORDER BY start").await?,
                ask(of("words", &names(columns::WORDS))).await?,
                ask(of("line", &names(columns::LINE)) + " ORDER BY number").await?,
            ),
            Extent::Line => {
                let last = "DISTINCT ON (job) job, start, worker, started_ms, ended_ms, ending, error, NULL AS stack";
                (
                    ask(of("body", &format!("job, name, ''::bytea AS payload, trace, {bytes}"))).await?,
                    ask(of("attempt", last) + " ORDER BY job, start DESC").await?,
                    Vec::new(),
                    Vec::new(),
                )
            }
        };
        transaction.commit().await?;
        put_together(jobs, &rows, [&bodies, &words, &attempts, &lines, &parents])
    })
    .await
}

fn put_together(
    jobs: &[u64],
    rows: &[Row],
    [bodies, words, attempts, lines, parents]: [&[Row]; 5],
) -> Result<Vec<Detail>, Error> {
    let mut bodies_of = BTreeMap::new();
    for row in bodies {
        bodies_of.insert(Found(row).whole("job")?, (Found(row).body()?, Found(row).small::<u32>("bytes")? as usize));
    }
    let mut found = BTreeMap::new();
    for row in rows {
        let row = Found(row).job()?;
        let job = row.progressed.job;
        let Some((body, payload_bytes)) = bodies_of.remove(&job) else { continue };
        let (attempts, lines) = (Vec::new(), Vec::new());
        let detail = Detail { row, body, payload_bytes, result: None, progress: None, attempts, lines, parent: None };
        found.insert(job, detail);
    }
    for row in words {
        if let Some(detail) = found.get_mut(&Found(row).whole("job")?) {
            (detail.result, detail.progress) = (row.try_get("result")?, row.try_get("progress")?);
        }
    }
    for row in attempts {
        if let Some(detail) = found.get_mut(&Found(row).whole("job")?) {
            detail.attempts.push(Found(row).attempt()?);
        }
    }
    for row in lines {
        if let Some(detail) = found.get_mut(&Found(row).whole("job")?) {
            detail.lines.push(Line { at_ms: Found(row).whole("at_ms")?, line: Found(row).text("line")? });
        }
    }
    for row in parents {
        if let Some(detail) = found.get_mut(&Found(row).whole("child")?) {
            detail.parent = Some(Found(row).whole("parent")?);
        }
    }
    Ok(jobs.iter().filter_map(|job| found.remove(job)).collect())
}

/// Jobs that were added with this trace id, in the order of their ids.
pub async fn traced(pool: &Postgres, trace_id: &str, most: usize) -> Result<Vec<u64>, Error> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    // From piece to piece, as the index has them.
    let sql = "WITH RECURSIVE piece (n) AS (
            (SELECT job >> 10 FROM mainstay.jobs_body WHERE trace IS NOT NULL ORDER BY job >> 10 LIMIT 1)
            UNION ALL SELECT (SELECT job >> 10 FROM mainstay.jobs_body WHERE trace IS NOT NULL AND job >> 10 > n
            ORDER BY job >> 10 LIMIT 1) FROM piece WHERE n IS NOT NULL
        ), found AS MATERIALIZED (
            SELECT job FROM piece CROSS JOIN LATERAL (SELECT job FROM mainstay.jobs_body WHERE trace IS NOT NULL
            AND job >> 10 = n AND substr(trace, 28, 8) = substr($1::text, 25, 8)
            AND substr(trace, 4, 32) = $1::text OFFSET 0) AS of_piece
        ) SELECT job FROM found ORDER BY job LIMIT $2::bigint";
    pool.in_time(async {
        let client = pool.client().await?;
        client.query(sql, &[&trace_id, &most]).await?.iter().map(|row| Found(row).whole("job")).collect()
    })
    .await
}

/// Some children of a job, and what they gave as far as there is room.
pub async fn children(pool: &Postgres, parent: u64, skip: usize, most: usize) -> Result<Vec<ChildDetail>, Error> {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    pool.in_time(async {
        let client = pool.client().await?;
        given(&client.query(&statements::children(), &[&stored(parent), &number(most), &number(skip)]).await?)
    })
    .await
}

/// Of the rows of [`statements::children`].
pub fn given(rows: &[Row]) -> Result<Vec<ChildDetail>, Error> {
    let (mut children, mut sum) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        let found = Found(row);
        let result: Option<Vec<u8>> = row.try_get("result")?;
        let bytes = result.as_ref().map_or(0, Vec::len);
        let is_left_out = result.is_some() && sum + bytes > CHILDREN_BYTES_MAX;
        sum += if is_left_out { 0 } else { bytes };
        children.push(ChildDetail {
            job: found.whole("child")?,
            queue: found.name("name")?,
            on_failure: found.word("on_failure", OnFailure::parse)?,
            state: found.word("state", State::parse)?,
            is_gone: row.try_get("is_gone")?,
            result: result.filter(|_| !is_left_out),
            is_left_out,
        });
    }
    Ok(children)
}
