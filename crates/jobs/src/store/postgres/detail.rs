//! All that is kept of some jobs, read beside the engine.

use super::columns::{self, Found, names};
use crate::store::read::{Detail, Line};
use crate::store::rows::stored;
use mainstay_store::Error;
use mainstay_store::postgres::Postgres;
use mainstay_store::postgres::tokio_postgres::Row;
use std::collections::BTreeMap;

/// Those that are there, in the order that was asked for.
pub async fn details(pool: &Postgres, jobs: &[u64]) -> Result<Vec<Detail>, Error> {
    let ids: Vec<i64> = jobs.iter().map(|job| stored(*job)).collect();
    pool.in_time(async {
        let mut client = pool.client().await?;
        // As of one moment.
        let transaction = client
            .build_transaction()
            .isolation_level(mainstay_store::postgres::tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let ask = async |sql: String| -> Result<Vec<Row>, Error> {
            let select = transaction.prepare_cached(&sql).await?;
            Ok(transaction.query(&select, &[&ids]).await?)
        };
        let of =
            |table: &str, columns| format!("SELECT {} FROM mainstay.jobs_{table} WHERE job = ANY ($1)", names(columns));
        let rows = ask(format!("SELECT {} FROM mainstay.jobs_job WHERE id = ANY ($1)", columns::job())).await?;
        let bodies = ask(of("body", columns::BODY)).await?;
        let words = ask(of("words", columns::WORDS)).await?;
        let attempts = ask(of("attempt", columns::ATTEMPT) + " ORDER BY start").await?;
        let lines = ask(of("line", columns::LINE) + " ORDER BY number").await?;
        transaction.commit().await?;
        put_together(jobs, &rows, [&bodies, &words, &attempts, &lines])
    })
    .await
}

fn put_together(
    jobs: &[u64],
    rows: &[Row],
    [bodies, words, attempts, lines]: [&[Row]; 4],
) -> Result<Vec<Detail>, Error> {
    let mut bodies_of = BTreeMap::new();
    for row in bodies {
        bodies_of.insert(Found(row).whole("job")?, Found(row).body()?);
    }
    let mut found = BTreeMap::new();
    for row in rows {
        let row = Found(row).job()?;
        let job = row.progressed.job;
        let Some(body) = bodies_of.remove(&job) else { continue };
        let (attempts, lines) = (Vec::new(), Vec::new());
        found.insert(job, Detail { row, body, result: None, progress: None, attempts, lines });
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
    Ok(jobs.iter().filter_map(|job| found.remove(job)).collect())
}
