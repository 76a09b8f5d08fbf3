//! The statements of sessions for Postgres.

use super::kept::{PRUNED_AT_A_TIME, Row, SESSIONS_A_USER_MAX};
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::postgres::{Postgres, tokio_postgres};

pub(super) const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "sessions", sql: include_str!("postgres/0001_sessions.sql") }];

type Hashes = Vec<Vec<u8>>;

pub(super) async fn begin(store: &Postgres, row: &Row, old: Option<Vec<u8>>, now_s: i64) -> Result<Hashes, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    // A login that was acknowledged is on the disk, whatever the server's own setting is.
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    let mut ended: Hashes = Vec::new();
    if let Some(old) = old {
        let sql = "UPDATE mainstay.sessions SET ended_s = $2 WHERE hash = $1 AND ended_s IS NULL";
        transaction.execute(sql, &[&old, &now_s]).await?;
        ended.push(old);
    }
    let sql = "UPDATE mainstay.sessions SET ended_s = $3 WHERE hash IN (SELECT hash FROM mainstay.sessions
               WHERE user_id = $1 AND ended_s IS NULL ORDER BY seen_s DESC OFFSET $2) RETURNING hash";
    let room = i64::from(SESSIONS_A_USER_MAX) - 1;
    for row in transaction.query(sql, &[&row.user, &room, &now_s]).await? {
        ended.push(row.try_get(0)?);
    }
    let sql = "INSERT INTO mainstay.sessions (hash, user_id, data, begun_s, seen_s) VALUES ($1, $2, $3, $4, $5)";
    transaction.execute(sql, &[&row.hash, &row.user, &row.data, &row.begun_s, &row.seen_s]).await?;
    transaction.commit().await?;
    Ok(ended)
}

pub(super) async fn find(store: &Postgres, hash: &[u8]) -> Result<Option<Row>, Error> {
    let client = store.client().await?;
    let sql = "SELECT hash, user_id, data, begun_s, seen_s, ended_s FROM mainstay.sessions WHERE hash = $1";
    client.query_opt(sql, &[&hash]).await?.as_ref().map(read).transpose()
}

pub(super) async fn seen(store: &Postgres, seen: &[(Vec<u8>, i64)]) -> Result<(), Error> {
    let client = store.client().await?;
    let (hashes, times): (Vec<&[u8]>, Vec<i64>) = seen.iter().map(|(hash, at_s)| (hash.as_slice(), *at_s)).unzip();
    let sql = "UPDATE mainstay.sessions AS s SET seen_s = n.at_s
               FROM unnest($1::bytea[], $2::bigint[]) AS n (hash, at_s)
               WHERE s.hash = n.hash AND s.seen_s < n.at_s AND s.ended_s IS NULL";
    client.execute(sql, &[&hashes, &times]).await?;
    Ok(())
}

pub(super) async fn end(store: &Postgres, row: &Row) -> Result<(), Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    let sql = "INSERT INTO mainstay.sessions AS s (hash, user_id, data, begun_s, seen_s, ended_s)
               VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (hash) DO UPDATE SET ended_s = coalesce(s.ended_s, excluded.ended_s)";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&row.hash, &row.user, &row.data, &row.begun_s, &row.seen_s, &row.ended_s];
    transaction.execute(sql, &values).await?;
    transaction.commit().await
}

pub(super) async fn end_all(store: &Postgres, user: &str, but: Option<Vec<u8>>, now_s: i64) -> Result<Hashes, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    let sql = "UPDATE mainstay.sessions SET ended_s = $3
               WHERE user_id = $1 AND ended_s IS NULL AND hash IS DISTINCT FROM $2 RETURNING hash";
    let rows = transaction.query(sql, &[&user, &but, &now_s]).await?;
    transaction.commit().await?;
    firsts(&rows)
}

pub(super) async fn list(store: &Postgres, user: &str, since_s: i64) -> Result<Vec<Row>, Error> {
    let client = store.client().await?;
    let sql = "SELECT hash, user_id, data, begun_s, seen_s, ended_s FROM mainstay.sessions
               WHERE user_id = $1 AND seen_s > $2 AND ended_s IS NULL ORDER BY seen_s DESC, hash LIMIT $3";
    let rows = client.query(sql, &[&user, &since_s, &i64::from(SESSIONS_A_USER_MAX)]).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn ended(store: &Postgres, since_s: i64, most: i64) -> Result<Hashes, Error> {
    let client = store.client().await?;
    let sql = "SELECT hash FROM mainstay.sessions WHERE ended_s > $1 ORDER BY ended_s DESC LIMIT $2";
    firsts(&client.query(sql, &[&since_s, &most]).await?)
}

pub(super) async fn prune(store: &Postgres, unused_since_s: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    let sql = "DELETE FROM mainstay.sessions WHERE hash IN
               (SELECT hash FROM mainstay.sessions WHERE seen_s < $1
               AND (ended_s IS NULL OR ended_s < $1) LIMIT $2)";
    client.execute(sql, &[&unused_since_s, &PRUNED_AT_A_TIME]).await
}

fn firsts(rows: &[tokio_postgres::Row]) -> Result<Hashes, Error> {
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn read(row: &tokio_postgres::Row) -> Result<Row, Error> {
    Ok(Row {
        hash: row.try_get(0)?,
        user: row.try_get(1)?,
        data: row.try_get(2)?,
        begun_s: row.try_get(3)?,
        seen_s: row.try_get(4)?,
        ended_s: row.try_get(5)?,
    })
}
