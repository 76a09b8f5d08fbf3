//! The statements of operators' tokens for Postgres.

use super::{Token, read, written};
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::postgres::Postgres;

pub(super) const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "operators", sql: include_str!("postgres/0001_operators.sql") }];

pub(super) async fn insert(store: &Postgres, token: &Token) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    // A token that was shown is on the disk, whatever the server's own setting is.
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    let sql = "INSERT INTO mainstay.operator_tokens (name, hash, scopes, created_us, expires_us)
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let scopes = written(&token.scopes);
    let rows =
        transaction.execute(sql, &[&token.name, &token.hash, &scopes, &token.created_us, &token.expires_us]).await?;
    transaction.commit().await?;
    Ok(rows == 1)
}

pub(super) async fn delete(store: &Postgres, name: &str) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    let sql = "DELETE FROM mainstay.operator_tokens WHERE name = $1";
    let rows = transaction.execute(sql, &[&name]).await?;
    transaction.commit().await?;
    Ok(rows == 1)
}

pub(super) async fn list(store: &Postgres) -> Result<Vec<Token>, Error> {
    let client = store.client().await?;
    let sql = "SELECT name, hash, scopes, created_us, expires_us FROM mainstay.operator_tokens ORDER BY name";
    let rows = client.query(sql, &[]).await?;
    let token = |row: &mainstay_store::postgres::tokio_postgres::Row| {
        let scopes: String = row.try_get(2)?;
        let (name, hash) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Token { name, hash, scopes: read(&scopes), created_us: row.try_get(3)?, expires_us: row.try_get(4)? })
    };
    rows.iter().map(token).collect()
}
