//! The runner of migrations: what to run is a pure decision, each runs in a transaction of its own with the row that
//! says so, and of two starters one waits for the other.

use crate::error::Error;
use std::fmt::Write as _;

/// One step, never changed once released.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3 …
    pub version: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

/// A block's steps, in each dialect.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    pub block: &'static str,
    pub sqlite: &'static [Migration],
    pub postgres: &'static [Migration],
}

/// A step that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub version: u32,
    pub name: String,
    pub checksum: String,
}

/// The first 16 bytes of SHA-256: enough to notice any change.
const CHECKSUM_BYTES: usize = 16;

impl Migration {
    /// Of its text without blank ends, so that an editor's last line break changes nothing.
    pub fn checksum(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.sql.trim().as_bytes());
        digest.as_ref()[..CHECKSUM_BYTES].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// What is still to run, in order. Pure.
pub(crate) fn plan(
    block: &'static str,
    known: &'static [Migration],
    applied: &[Applied],
) -> Result<Vec<&'static Migration>, Error> {
    let newest = known.iter().map(|migration| migration.version).max().unwrap_or(0);
    if let Some(newer) = applied.iter().map(|applied| applied.version).filter(|version| *version > newest).max() {
        return Err(Error::Newer { block, found: newer, known: newest });
    }
    let mut left = Vec::new();
    for migration in known {
        match applied.iter().find(|applied| applied.version == migration.version) {
            None => left.push(migration),
            Some(applied) if applied.checksum != migration.checksum() => {
                return Err(Error::Changed { block, version: applied.version, name: applied.name.clone() });
            }
            Some(_) => {}
        }
    }
    left.sort_by_key(|migration| migration.version);
    Ok(left)
}

const SQLITE_TABLE: &str = "CREATE TABLE IF NOT EXISTS mainstay_migrations (
    block TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL, at_us INTEGER NOT NULL,
    PRIMARY KEY (block, version)) STRICT, WITHOUT ROWID";

/// Brings a block's tables up to date.
pub(crate) fn sqlite(connection: &mut rusqlite::Connection, set: &Migrations) -> Result<(), Error> {
    use rusqlite::TransactionBehavior::Immediate;
    connection.execute_batch(SQLITE_TABLE)?;
    loop {
        // Read under the lock that the step is written under: a second starter sees what the first has done.
        let transaction = connection.transaction_with_behavior(Immediate)?;
        let applied = applied_sqlite(&transaction, set.block)?;
        let Some(next) = plan(set.block, set.sqlite, &applied)?.first().copied() else { return Ok(()) };
        let ran = transaction.execute_batch(next.sql).and_then(|()| {
            let row = (set.block, next.version, next.name, next.checksum(), now_us());
            transaction.execute("INSERT INTO mainstay_migrations VALUES (?1, ?2, ?3, ?4, ?5)", row).map(drop)
        });
        match ran.and_then(|()| transaction.commit()) {
            Ok(()) => {}
            Err(error) => return Err(failed(set.block, next, Error::sqlite(error))),
        }
    }
}

fn applied_sqlite(connection: &rusqlite::Connection, block: &str) -> Result<Vec<Applied>, Error> {
    let mut select = connection
        .prepare("SELECT version, name, checksum FROM mainstay_migrations WHERE block = ?1 ORDER BY version")?;
    let rows = select
        .query_map([block], |row| Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Ours alone, by the letters of the name.
const POSTGRES_LOCK: i64 = 0x6d61_696e_7374_6179;

const POSTGRES_TABLE: &str = "CREATE SCHEMA IF NOT EXISTS mainstay;
    CREATE TABLE IF NOT EXISTS mainstay.migrations (
    block TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL, at_us BIGINT NOT NULL,
    PRIMARY KEY (block, version))";

/// Brings a block's tables up to date; what ran now.
pub(crate) async fn postgres(
    client: &mut crate::postgres::Client,
    set: &Migrations,
) -> Result<Vec<&'static Migration>, Error> {
    let mut ran = Vec::new();
    loop {
        let transaction = client.transaction().await?;
        // Given back with the transaction, however that ends; `CREATE … IF NOT EXISTS` alone races.
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&POSTGRES_LOCK]).await?;
        transaction.batch_execute(POSTGRES_TABLE).await?;
        let select = "SELECT version, name, checksum FROM mainstay.migrations WHERE block = $1 ORDER BY version";
        let rows = transaction.query(select, &[&set.block]).await?;
        let read = |row: &tokio_postgres::Row| -> Result<Applied, Error> {
            let version: i32 = row.try_get(0)?;
            let version = u32::try_from(version).unwrap_or(u32::MAX);
            Ok(Applied { version, name: row.try_get(1)?, checksum: row.try_get(2)? })
        };
        let applied: Vec<Applied> = rows.iter().map(read).collect::<Result<_, _>>()?;
        let Some(next) = plan(set.block, set.postgres, &applied)?.first().copied() else {
            transaction.commit().await?;
            return Ok(ran);
        };
        if let Err(error) = transaction.batch_execute(next.sql).await {
            return Err(failed(set.block, next, error));
        }
        let version = i32::try_from(next.version).unwrap_or(i32::MAX);
        let insert = "INSERT INTO mainstay.migrations VALUES ($1, $2, $3, $4, $5)";
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&set.block, &version, &next.name, &next.checksum(), &now_us()];
        transaction.execute(insert, &row).await?;
        transaction.commit().await.map_err(|error| failed(set.block, next, error))?;
        ran.push(next);
    }
}

fn failed(block: &'static str, migration: &Migration, source: Error) -> Error {
    Error::Migration { block, version: migration.version, name: migration.name, source: Box::new(source) }
}

fn now_us() -> i64 {
    i64::try_from(mainstay_runtime::Clock::unix_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Migration; 2] = [
        Migration { version: 1, name: "tables", sql: "CREATE TABLE a (x INTEGER)" },
        Migration { version: 2, name: "index", sql: "CREATE INDEX b ON a (x)\n" },
    ];

    fn ran(migration: &Migration) -> Applied {
        let (version, name) = (migration.version, migration.name.to_owned());
        Applied { version, name, checksum: migration.checksum() }
    }

    fn versions(applied: &[Applied]) -> Result<Vec<u32>, String> {
        let planned = plan("journal", &KNOWN, applied).map_err(|error| error.to_string())?;
        Ok(planned.iter().map(|migration| migration.version).collect())
    }

    #[test]
    fn what_has_not_run_is_left_in_order() {
        assert_eq!(versions(&[]), Ok(vec![1, 2]));
        assert_eq!(versions(&[ran(&KNOWN[0])]), Ok(vec![2]));
        assert_eq!(versions(&[ran(&KNOWN[0]), ran(&KNOWN[1])]), Ok(vec![]));
        assert_eq!(versions(&[ran(&KNOWN[1])]), Ok(vec![1]), "a step that was missed is made up for");
    }

    #[test]
    fn newer_tables_and_a_changed_step_are_refused_in_words() {
        let newer = Applied { version: 7, name: "later".to_owned(), checksum: "x".to_owned() };
        let said = versions(&[ran(&KNOWN[0]), newer]).expect_err("newer");
        assert!(said.contains("version 7, this mainstay knows 2; start the newer mainstay"), "{said}");
        let changed = Applied { checksum: "x".to_owned(), ..ran(&KNOWN[0]) };
        let said = versions(&[changed]).expect_err("changed");
        assert!(said.contains("migration 1 (tables) of journal was changed"), "{said}");
    }

    #[test]
    fn a_line_break_at_the_end_is_no_change_and_a_letter_is() {
        let with = |sql| Migration { version: 1, name: "a", sql }.checksum();
        assert_eq!(with("SELECT 1"), with("SELECT 1\n"));
        assert_ne!(with("SELECT 1"), with("SELECT 2"));
        assert_eq!(with("").len(), 32);
    }
}
