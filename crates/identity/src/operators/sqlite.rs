//! The statements of operators' tokens for SQLite.

use super::{Token, read, written};
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::sqlite::Sqlite;
use mainstay_store::sqlite::rusqlite::params;

pub(super) const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "operators", sql: include_str!("sqlite/0001_operators.sql") }];

pub(super) async fn insert(store: &Sqlite, token: Token) -> Result<bool, Error> {
    let change = move |c: &mainstay_store::sqlite::rusqlite::Connection| {
        let sql = "INSERT INTO operator_tokens (name, hash, scopes, created_us, expires_us) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT DO NOTHING";
        let values = params![token.name, token.hash, written(&token.scopes), token.created_us, token.expires_us];
        Ok(c.prepare_cached(sql)?.execute(values)? == 1)
    };
    store.write(change).await
}

pub(super) async fn delete(store: &Sqlite, name: String) -> Result<bool, Error> {
    store.write(move |c| Ok(c.execute("DELETE FROM operator_tokens WHERE name = ?1", [name])? == 1)).await
}

pub(super) async fn list(store: &Sqlite) -> Result<Vec<Token>, Error> {
    let question = |c: &mainstay_store::sqlite::rusqlite::Connection| {
        let sql = "SELECT name, hash, scopes, created_us, expires_us FROM operator_tokens ORDER BY name";
        let mut select = c.prepare_cached(sql)?;
        let rows = select.query_map([], |row| {
            let scopes: String = row.get(2)?;
            let (name, hash) = (row.get(0)?, row.get(1)?);
            Ok(Token { name, hash, scopes: read(&scopes), created_us: row.get(3)?, expires_us: row.get(4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    store.read(question).await
}
