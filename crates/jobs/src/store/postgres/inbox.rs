//! Jobs that apps added in SQL and that cannot be taken over: shown, counted and dropped beside the engine.

use super::columns::Found;
use crate::store::rows::stored;
use crate::store::{Refused, RefusedCount};
use mainstay_store::Error;
use mainstay_store::postgres::Postgres;
use mainstay_store::postgres::tokio_postgres::Row;

/// The oldest of them.
pub async fn refused(pool: &Postgres, most: usize) -> Result<Vec<Refused>, Error> {
    let ms = |column: &str| format!("floor(extract(epoch FROM {column}) * 1000)::bigint AS {column}_ms");
    let sql = format!(
        "SELECT id, queue, name, refused, {}, {} FROM mainstay.jobs_inbox WHERE refused IS NOT NULL ORDER BY id
         LIMIT $1::bigint",
        ms("added_at"),
        ms("again_at")
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let one = |row: &Row| {
        let found = Found(row);
        Ok(Refused {
            id: found.whole("id")?,
            queue: found.name("queue")?,
            name: found.text("name")?,
            added_ms: found.whole("added_at_ms")?,
            again_ms: found.whole("again_at_ms")?,
            why: found.text("refused")?,
        })
    };
    pool.in_time(async {
        let client = pool.client().await?;
        client.query(&sql, &[&most]).await?.iter().map(one).collect()
    })
    .await
}

/// How many there are of each queue, and why one of them is.
pub async fn refused_counts(pool: &Postgres) -> Result<Vec<RefusedCount>, Error> {
    let sql = "SELECT queue, count(*) AS count, min(refused) AS refused FROM mainstay.jobs_inbox
               WHERE refused IS NOT NULL GROUP BY queue ORDER BY queue";
    let one = |row: &Row| {
        let found = Found(row);
        Ok(RefusedCount { queue: found.name("queue")?, count: found.whole("count")?, why: found.text("refused")? })
    };
    pool.in_time(async {
        let client = pool.client().await?;
        client.query(sql, &[]).await?.iter().map(one).collect()
    })
    .await
}

/// Drops one of them, or all. What is due has been read by the owner, who may take it over in this moment: it is left,
/// and is either a job then or refused for another minute.
pub async fn drop_refused(pool: &Postgres, id: Option<u64>) -> Result<u64, Error> {
    let sql = "DELETE FROM mainstay.jobs_inbox WHERE refused IS NOT NULL
               AND again_at > clock_timestamp() + interval '1 second' AND ($1::bigint IS NULL OR id = $1::bigint)";
    pool.in_time(async {
        let client = pool.client().await?;
        client.execute(sql, &[&id.map(stored)]).await
    })
    .await
}
