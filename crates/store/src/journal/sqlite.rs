//! The journal's statements for SQLite.

use super::{Class, Earlier, Entry, OPERATIONS_MAX, PRUNED_AT_A_TIME, Query, Raw, Row, clamp, fold};
use crate::error::Error;
use crate::migrate::Migration;
use crate::sqlite::Sqlite;
use rusqlite::{Connection, params, params_from_iter};

pub(super) const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "journal", sql: include_str!("sqlite/0001_journal.sql") }];

pub(super) async fn append(store: &Sqlite, row: Row) -> Result<i64, Error> {
    store.write(move |connection| appended(connection, &row)).await
}

fn appended(connection: &Connection, row: &Row) -> Result<i64, Error> {
    let latest = match &row.subject {
        None => Vec::new(),
        Some(subject) => {
            let sql =
                "SELECT id, last_us, count FROM journal WHERE kind = ?1 AND subject = ?2 ORDER BY id DESC LIMIT ?3";
            let mut select = connection.prepare_cached(sql)?;
            let read =
                |row: &rusqlite::Row<'_>| Ok(Earlier { id: row.get(0)?, last_us: row.get(1)?, count: row.get(2)? });
            select.query_map(params![row.kind, subject, fold::LOOKS_BACK], read)?.collect::<Result<_, _>>()?
        }
    };
    if let Some(id) = fold::into(row.at_us, &latest) {
        let sql = "UPDATE journal SET count = count + 1, last_us = ?2, payload = ?3, version = ?4 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![id, row.at_us, row.payload, row.version])?;
        return Ok(id);
    }
    let sql = "INSERT INTO journal (at_us, last_us, class, kind, version, actor, subject, payload)
               VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![row.at_us, row.class, row.kind, row.version, row.actor, row.subject, row.payload];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(connection.last_insert_rowid())
}

pub(super) async fn read(store: &Sqlite, query: Query) -> Result<Vec<Entry>, Error> {
    store.read(move |connection| found(connection, &query)).await
}

fn found(connection: &Connection, query: &Query) -> Result<Vec<Entry>, Error> {
    let mut sql = "SELECT id, at_us, last_us, count, class, kind, version, actor, payload FROM journal
                   WHERE last_us >= ?1 AND at_us <= ?2 AND (?3 IS NULL OR class = ?3)"
        .to_owned();
    if !query.kinds.is_empty() {
        let marks = vec!["?"; query.kinds.len()].join(", ");
        sql.push_str(&format!(" AND kind IN ({marks})"));
    }
    sql.push_str(&format!(" ORDER BY id DESC LIMIT {}", query.limit));
    let mut values: Vec<rusqlite::types::Value> = vec![clamp(query.since_us).into(), clamp(query.until_us).into()];
    values.push(query.class.map(|class| class.as_str().to_owned()).into());
    values.extend(query.kinds.iter().map(|kind| kind.clone().into()));
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| {
        Ok(Raw {
            id: row.get(0)?,
            at_us: row.get(1)?,
            last_us: row.get(2)?,
            count: row.get(3)?,
            class: row.get(4)?,
            kind: row.get(5)?,
            version: row.get(6)?,
            actor: row.get(7)?,
            payload: row.get(8)?,
        })
    })?;
    let mut entries: Vec<Entry> = rows.map(|row| row.map(Entry::from)).collect::<Result<_, _>>()?;
    entries.reverse();
    Ok(entries)
}

pub(super) async fn prune(store: &Sqlite, class: Class, before_us: i64) -> Result<u64, Error> {
    store
        .write(move |connection| {
            let sql = "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE class = ?1 AND last_us < ?2
                       ORDER BY last_us LIMIT ?3)";
            let mut removed =
                connection.prepare_cached(sql)?.execute(params![class.as_str(), before_us, PRUNED_AT_A_TIME])?;
            if removed == 0 && class == Class::Operations {
                let sql = "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE class = ?1 ORDER BY last_us
                           LIMIT max(0, min(?2, (SELECT count(*) FROM journal WHERE class = ?1) - ?3)))";
                let values = params![class.as_str(), PRUNED_AT_A_TIME, clamp(OPERATIONS_MAX)];
                removed = connection.prepare_cached(sql)?.execute(values)?;
            }
            Ok(removed as u64)
        })
        .await
}
