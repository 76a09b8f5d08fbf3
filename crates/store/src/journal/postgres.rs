//! The journal's statements for Postgres.

use super::{Class, Earlier, Entry, OPERATIONS_MAX, PRUNED_AT_A_TIME, Query, Raw, Row, clamp, fold};
use crate::error::Error;
use crate::migrate::Migration;
use crate::postgres::{Postgres, Transaction};

pub(super) const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "journal", sql: include_str!("postgres/0001_journal.sql") }];

pub(super) async fn append(store: &Postgres, row: &Row) -> Result<i64, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    // A commit that was acknowledged is on the disk, whatever the server's own setting is.
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    let id = match target(&transaction, row).await? {
        Some(id) => {
            let sql =
                "UPDATE mainstay.journal SET count = count + 1, last_us = $2, payload = $3, version = $4 WHERE id = $1";
            transaction.execute(sql, &[&id, &row.at_us, &row.payload, &row.version]).await?;
            id
        }
        None => {
            let sql = "INSERT INTO mainstay.journal (at_us, last_us, class, kind, version, actor, subject, payload)
                       VALUES ($1, $1, $2, $3, $4, $5, $6, $7) RETURNING id";
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&row.at_us, &row.class, &row.kind, &row.version, &row.actor, &row.subject, &row.payload];
            transaction.query_one(sql, &values).await?.try_get(0)?
        }
    };
    transaction.commit().await?;
    Ok(id)
}

/// The entry that this one is folded into. Two that arrive at once may become two lines: nothing is lost by it.
async fn target(transaction: &Transaction<'_>, row: &Row) -> Result<Option<i64>, Error> {
    let Some(subject) = &row.subject else { return Ok(None) };
    let sql =
        "SELECT id, last_us, count FROM mainstay.journal WHERE kind = $1 AND subject = $2 ORDER BY id DESC LIMIT $3";
    let rows = transaction.query(sql, &[&row.kind, subject, &fold::LOOKS_BACK]).await?;
    let mut latest = Vec::with_capacity(rows.len());
    for row in &rows {
        latest.push(Earlier { id: row.try_get(0)?, last_us: row.try_get(1)?, count: row.try_get(2)? });
    }
    Ok(fold::into(row.at_us, &latest))
}

pub(super) async fn read(store: &Postgres, query: &Query) -> Result<Vec<Entry>, Error> {
    let client = store.client().await?;
    let sql = "SELECT id, at_us, last_us, count, class, kind, version, actor, payload FROM mainstay.journal
               WHERE last_us >= $1 AND at_us <= $2 AND ($3::text IS NULL OR class = $3)
               AND (cardinality($4::text[]) = 0 OR kind = ANY ($4)) ORDER BY id DESC LIMIT $5";
    let (since, until, limit) = (clamp(query.since_us), clamp(query.until_us), i64::from(query.limit));
    let class = query.class.map(Class::as_str);
    let rows = client.query(sql, &[&since, &until, &class, &query.kinds, &limit]).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        entries.push(Entry::from(Raw {
            id: row.try_get(0)?,
            at_us: row.try_get(1)?,
            last_us: row.try_get(2)?,
            count: row.try_get(3)?,
            class: row.try_get(4)?,
            kind: row.try_get(5)?,
            version: row.try_get(6)?,
            actor: row.try_get(7)?,
            payload: row.try_get(8)?,
        }));
    }
    Ok(entries)
}

pub(super) async fn prune(store: &Postgres, class: Class, before_us: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    let batch = i64::from(PRUNED_AT_A_TIME);
    let sql = "DELETE FROM mainstay.journal WHERE id IN (SELECT id FROM mainstay.journal WHERE class = $1
               AND last_us < $2 ORDER BY last_us LIMIT $3)";
    let removed = client.execute(sql, &[&class.as_str(), &before_us, &batch]).await?;
    if removed > 0 || class != Class::Operations {
        return Ok(removed);
    }
    let sql = "DELETE FROM mainstay.journal WHERE id IN (SELECT id FROM mainstay.journal WHERE class = $1
               ORDER BY last_us
               LIMIT greatest(0, least($2, (SELECT count(*) FROM mainstay.journal WHERE class = $1) - $3)))";
    client.execute(sql, &[&class.as_str(), &batch, &clamp(OPERATIONS_MAX)]).await
}
