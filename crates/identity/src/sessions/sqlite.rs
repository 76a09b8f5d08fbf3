//! The statements of sessions for SQLite.

use super::kept::{PRUNED_AT_A_TIME, Row, SESSIONS_A_USER_MAX};
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::sqlite::Sqlite;
use mainstay_store::sqlite::rusqlite::{self, Connection, OptionalExtension, params};

pub(super) const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "sessions", sql: include_str!("sqlite/0001_sessions.sql") }];

const COLUMNS: &str = "hash, user_id, data, begun_s, seen_s, ended_s";

type Hashes = Vec<Vec<u8>>;

pub(super) async fn begin(store: &Sqlite, row: Row, old: Option<Vec<u8>>, now_s: i64) -> Result<Hashes, Error> {
    store.write(move |connection| begun(connection, &row, old, now_s)).await
}

fn begun(connection: &Connection, row: &Row, old: Option<Vec<u8>>, now_s: i64) -> Result<Hashes, Error> {
    let mut ended: Hashes = Vec::new();
    if let Some(old) = old {
        let sql = "UPDATE sessions SET ended_s = ?2 WHERE hash = ?1 AND ended_s IS NULL";
        connection.prepare_cached(sql)?.execute(params![old, now_s])?;
        ended.push(old);
    }
    let sql = "UPDATE sessions SET ended_s = ?3 WHERE hash IN (SELECT hash FROM sessions
               WHERE user_id = ?1 AND ended_s IS NULL ORDER BY seen_s DESC LIMIT -1 OFFSET ?2) RETURNING hash";
    let mut surplus = connection.prepare_cached(sql)?;
    let rows = surplus.query_map(params![row.user, SESSIONS_A_USER_MAX - 1, now_s], |row| row.get(0))?;
    for hash in rows {
        ended.push(hash?);
    }
    let sql = "INSERT INTO sessions (hash, user_id, data, begun_s, seen_s) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![row.hash, row.user, row.data, row.begun_s, row.seen_s])?;
    Ok(ended)
}

pub(super) async fn find(store: &Sqlite, hash: Vec<u8>) -> Result<Option<Row>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE hash = ?1");
    store.read(move |connection| Ok(connection.prepare_cached(&sql)?.query_row([hash], read).optional()?)).await
}

pub(super) async fn seen(store: &Sqlite, seen: Vec<(Vec<u8>, i64)>) -> Result<(), Error> {
    store
        .write(move |connection| {
            let sql = "UPDATE sessions SET seen_s = ?2 WHERE hash = ?1 AND seen_s < ?2 AND ended_s IS NULL";
            let mut update = connection.prepare_cached(sql)?;
            for (hash, at_s) in seen {
                update.execute(params![hash, at_s])?;
            }
            Ok(())
        })
        .await
}

pub(super) async fn end(store: &Sqlite, row: Row) -> Result<(), Error> {
    store
        .write(move |connection| {
            let sql = "INSERT INTO sessions (hash, user_id, data, begun_s, seen_s, ended_s)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (hash) DO UPDATE SET ended_s = coalesce(ended_s, excluded.ended_s)";
            let values = params![row.hash, row.user, row.data, row.begun_s, row.seen_s, row.ended_s];
            connection.prepare_cached(sql)?.execute(values)?;
            Ok(())
        })
        .await
}

pub(super) async fn end_all(store: &Sqlite, user: String, but: Option<Vec<u8>>, now_s: i64) -> Result<Hashes, Error> {
    store
        .write(move |connection| {
            let sql = "UPDATE sessions SET ended_s = ?3 WHERE user_id = ?1 AND ended_s IS NULL AND hash IS NOT ?2
                       RETURNING hash";
            let mut update = connection.prepare_cached(sql)?;
            let rows = update.query_map(params![user, but, now_s], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

pub(super) async fn list(store: &Sqlite, user: String, since_s: i64) -> Result<Vec<Row>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions WHERE user_id = ?1 AND seen_s > ?2 AND ended_s IS NULL
         ORDER BY seen_s DESC, hash LIMIT {SESSIONS_A_USER_MAX}"
    );
    store
        .read(move |connection| {
            let mut select = connection.prepare_cached(&sql)?;
            let rows = select.query_map(params![user, since_s], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

pub(super) async fn ended(store: &Sqlite, since_s: i64, most: i64) -> Result<Hashes, Error> {
    store
        .read(move |connection| {
            let sql = "SELECT hash FROM sessions WHERE ended_s > ?1 ORDER BY ended_s DESC LIMIT ?2";
            let mut select = connection.prepare_cached(sql)?;
            let rows = select.query_map(params![since_s, most], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
}

pub(super) async fn prune(store: &Sqlite, unused_since_s: i64) -> Result<u64, Error> {
    store
        .write(move |connection| {
            let sql = "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE seen_s < ?1
               AND (ended_s IS NULL OR ended_s < ?1) LIMIT ?2)";
            let removed = connection.prepare_cached(sql)?.execute(params![unused_since_s, PRUNED_AT_A_TIME])?;
            Ok(removed as u64)
        })
        .await
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        hash: row.get(0)?,
        user: row.get(1)?,
        data: row.get(2)?,
        begun_s: row.get(3)?,
        seen_s: row.get(4)?,
        ended_s: row.get(5)?,
    })
}
