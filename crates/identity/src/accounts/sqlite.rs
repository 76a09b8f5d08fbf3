//! The statements for SQLite. Each change runs on the store's one writer, so nothing here meets another half done.

mod factors;
mod ways;

use super::methods::Methods;
use super::rotation::{self, Decision, Presented};
use super::rows::{Account, By, Change, Ending, Exchange, Exchanged, Family, Link, Mailed, Purpose, joined, split};
use super::secrets::Hash;
use super::store::{FAMILIES_MAX, PRUNED_AT_A_TIME, REVOCATIONS_AT_A_TIME};
use crate::revoked::Revocation;
use mainstay_store::Error;
use mainstay_store::migrate::Migration;
use mainstay_store::sqlite::Sqlite;
use mainstay_store::sqlite::rusqlite::{Connection, OptionalExtension, Row, params};

type Read<T> = Result<T, mainstay_store::sqlite::rusqlite::Error>;

pub(super) use factors::{enrol, factor, pass, put_ticket, replace_codes, reseal, ticket};
pub(super) use ways::{links, logins, mailed_to, unlink};

pub(super) const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "accounts", sql: include_str!("sqlite/0001_accounts.sql") },
    Migration { version: 2, name: "second factors", sql: include_str!("sqlite/0002_factors.sql") },
];

const COLUMNS: &str = "id, address, name, password, roles, tenant, tier, generation, verified_us, created_us, seen_us";

fn account(row: &Row<'_>) -> Read<Account> {
    let roles: String = row.get(4)?;
    Ok(Account {
        id: row.get(0)?,
        address: row.get(1)?,
        name: row.get(2)?,
        password: row.get(3)?,
        roles: split(&roles),
        tenant: row.get(5)?,
        tier: row.get(6)?,
        generation: row.get(7)?,
        verified_us: row.get(8)?,
        created_us: row.get(9)?,
        seen_us: row.get(10)?,
    })
}

fn inserted(c: &Connection, account: &Account) -> Result<bool, Error> {
    let sql = format!(
        "INSERT INTO accounts ({COLUMNS}, is_bcrypt) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT DO NOTHING"
    );
    let is_bcrypt = account.password.as_deref().is_some_and(super::hashing::is_bcrypt);
    let values = params![
        account.id,
        account.address,
        account.name,
        account.password,
        joined(&account.roles),
        account.tenant,
        account.tier,
        account.generation,
        account.verified_us,
        account.created_us,
        account.seen_us,
        is_bcrypt,
    ];
    Ok(c.prepare_cached(&sql)?.execute(values)? == 1)
}

fn linked(c: &Connection, account: &str, link: &Link, now_us: i64) -> Result<bool, Error> {
    let sql = "INSERT INTO account_links (provider, subject, account, linked_us)
               SELECT ?1, ?2, id, ?4 FROM accounts WHERE id = ?3 ON CONFLICT DO NOTHING";
    Ok(c.prepare_cached(sql)?.execute(params![link.provider, link.subject, account, now_us])? == 1)
}

pub(super) async fn insert(store: &Sqlite, account: Account, link: Option<Link>) -> Result<bool, Error> {
    let change = move |c: &Connection| {
        if !inserted(c, &account)? {
            return Ok(false);
        }
        match &link {
            Some(link) if !linked(c, &account.id, link, account.created_us)? => {
                c.execute("DELETE FROM accounts WHERE id = ?1", [&account.id])?;
                Ok(false)
            }
            _ => Ok(true),
        }
    };
    store.write(change).await
}

pub(super) async fn import(store: &Sqlite, accounts: Vec<Account>) -> Result<Vec<bool>, Error> {
    store.write(move |c| accounts.iter().map(|account| inserted(c, account)).collect()).await
}

pub(super) async fn find(store: &Sqlite, by: By) -> Result<Option<Account>, Error> {
    store.read(move |c| found(c, &by)).await
}

fn found(c: &Connection, by: &By) -> Result<Option<Account>, Error> {
    let select = |condition: &str| format!("SELECT {COLUMNS} FROM accounts WHERE {condition}");
    let found = match by {
        By::Id(id) => c.prepare_cached(&select("id = ?1"))?.query_row([id], account),
        By::Address(address) => c.prepare_cached(&select("address = ?1"))?.query_row([address], account),
        By::Provider(provider, subject) => {
            let condition = "id = (SELECT account FROM account_links WHERE provider = ?1 AND subject = ?2)";
            c.prepare_cached(&select(condition))?.query_row([provider, subject], account)
        }
    };
    Ok(found.optional()?)
}

pub(super) async fn has_bcrypt(store: &Sqlite) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM accounts WHERE is_bcrypt = 1)";
    store.read(|c| Ok(c.prepare_cached(sql)?.query_row([], |row| row.get(0))?)).await
}

pub(super) async fn list(store: &Sqlite, after: String, limit: i64) -> Result<Vec<Account>, Error> {
    let question = move |c: &Connection| {
        let sql = format!("SELECT {COLUMNS} FROM accounts WHERE id > ?1 ORDER BY id LIMIT ?2");
        let mut select = c.prepare_cached(&sql)?;
        let rows = select.query_map(params![after, limit], account)?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    store.read(question).await
}

pub(super) async fn link(store: &Sqlite, account: String, link: Link, now_us: i64) -> Result<bool, Error> {
    store.write(move |c| linked(c, &account, &link, now_us)).await
}

pub(super) async fn rehash(store: &Sqlite, account: String, old: String, better: String) -> Result<(), Error> {
    let sql = "UPDATE accounts SET password = ?3, is_bcrypt = 0 WHERE id = ?1 AND password = ?2";
    store.write(move |c| Ok(c.prepare_cached(sql)?.execute([account, old, better]).map(drop)?)).await
}

pub(super) async fn begin(store: &Sqlite, family: Family) -> Result<bool, Error> {
    let change = move |c: &Connection| {
        let sql = "UPDATE accounts SET seen_us = ?3 WHERE id = ?1 AND generation = ?2";
        let known = c.prepare_cached(sql)?.execute(params![family.account, family.generation, family.now_us])?;
        if known == 0 {
            return Ok(false);
        }
        let sql = "INSERT INTO login_families (id, account, created_us, expires_us, methods, agent, client, seen_us)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?3)";
        let Family { id, account, now_us, expires_us, agent, client, .. } = &family;
        let values = params![id, account, now_us, expires_us, family.methods.text(), agent, client];
        c.prepare_cached(sql)?.execute(values)?;
        let sql = "INSERT INTO refresh_tokens (token, family, expires_us) VALUES (?1, ?2, ?3)";
        c.prepare_cached(sql)?.execute(params![family.token, family.id, family.expires_us])?;
        // Gone, its tokens are unknown, as if they had expired.
        let sql = "DELETE FROM login_families WHERE id IN (SELECT id FROM login_families WHERE account = ?1
                   ORDER BY created_us DESC, id LIMIT -1 OFFSET ?2)";
        c.prepare_cached(sql)?.execute(params![family.account, FAMILIES_MAX])?;
        Ok(true)
    };
    store.write(change).await
}

pub(super) async fn exchange(store: &Sqlite, exchange: Exchange) -> Result<Exchanged, Error> {
    store.write(move |c| exchanged(c, &exchange)).await
}

fn exchanged(c: &Connection, asked: &Exchange) -> Result<Exchanged, Error> {
    let sql = "SELECT t.family, f.account, t.expires_us, t.used_us, f.revoked_us IS NOT NULL, t.successor,
               EXISTS (SELECT 1 FROM refresh_tokens s WHERE s.token = t.successor AND s.used_us IS NULL),
               f.created_us, f.methods
               FROM refresh_tokens t JOIN login_families f ON f.id = t.family WHERE t.token = ?1";
    let read = |row: &Row<'_>| -> Read<(String, String, Presented, Option<Hash>, i64, String)> {
        let token = Presented {
            expires_us: row.get(2)?,
            used_us: row.get(3)?,
            is_revoked: row.get(4)?,
            successor_waits: row.get(6)?,
        };
        Ok((row.get(0)?, row.get(1)?, token, row.get(5)?, row.get(7)?, row.get(8)?))
    };
    let found = c.prepare_cached(sql)?.query_row([&asked.presented], read).optional()?;
    let Some((family, account, token, successor, created_us, methods)) = found else { return Ok(Exchanged::Over) };
    let ends_us = created_us.saturating_add(asked.longest_us);
    match rotation::decide(asked.now_us, token.until(ends_us)) {
        Decision::Over => return Ok(Exchanged::Over),
        Decision::Reuse => {
            let revocation = family_ended(c, &family, asked.now_us, asked.until_s)?;
            return Ok(Exchanged::Reused(account, revocation));
        }
        Decision::Rotate => {
            let sql = "UPDATE refresh_tokens SET used_us = ?2, successor = ?3 WHERE token = ?1";
            c.prepare_cached(sql)?.execute(params![asked.presented, asked.now_us, asked.fresh])?;
        }
        Decision::Replace => {
            // Whoever has the withdrawn one after all is taken for a thief: it was used, and leads nowhere.
            let sql = "UPDATE refresh_tokens SET used_us = ?2, successor = NULL WHERE token = ?1";
            c.prepare_cached(sql)?.execute(params![successor, asked.now_us])?;
            let sql = "UPDATE refresh_tokens SET successor = ?2 WHERE token = ?1";
            c.prepare_cached(sql)?.execute(params![asked.presented, asked.fresh])?;
        }
    }
    let sql = "INSERT INTO refresh_tokens (token, family, expires_us) VALUES (?1, ?2, ?3)";
    let expires_us = asked.expires_us.min(ends_us);
    c.prepare_cached(sql)?.execute(params![asked.fresh, family, expires_us])?;
    let sql = "UPDATE login_families SET expires_us = ?2, seen_us = ?3 WHERE id = ?1";
    c.prepare_cached(sql)?.execute(params![family, expires_us, asked.now_us])?;
    let (account, methods) = (found_account(c, &account)?, Methods::parse(&methods));
    Ok(account.map_or(Exchanged::Over, |account| Exchanged::Fresh(Box::new(account), family, methods)))
}

fn found_account(c: &Connection, id: &str) -> Result<Option<Account>, Error> {
    found(c, &By::Id(id.to_owned()))
}

fn family_ended(c: &Connection, family: &str, now_us: i64, until_s: i64) -> Result<Revocation, Error> {
    let sql = "UPDATE login_families SET revoked_us = ?2 WHERE id = ?1 AND revoked_us IS NULL";
    c.prepare_cached(sql)?.execute(params![family, now_us])?;
    let revocation = Revocation::Login { id: family.to_owned(), until_s };
    revoked(c, &revocation, now_us)?;
    Ok(revocation)
}

fn revoked(c: &Connection, revocation: &Revocation, now_us: i64) -> Result<(), Error> {
    let (what, generation) = super::store_key(revocation);
    let sql = "INSERT INTO revocations (what, generation, until_s, at_us) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (what) DO UPDATE SET generation = max(generation, excluded.generation),
               until_s = max(until_s, excluded.until_s), at_us = max(at_us, excluded.at_us)";
    c.prepare_cached(sql)?.execute(params![what, generation, revocation.until_s(), now_us])?;
    Ok(())
}

pub(super) async fn end(
    store: &Sqlite,
    ending: Ending,
    now_us: i64,
    until_s: i64,
) -> Result<Option<(String, Revocation)>, Error> {
    let change = move |c: &Connection| {
        let read = |row: &Row<'_>| -> Read<(String, String)> { Ok((row.get(0)?, row.get(1)?)) };
        let found = match &ending {
            Ending::Token(token) => {
                let sql = "SELECT id, account FROM login_families WHERE revoked_us IS NULL
                           AND id = (SELECT family FROM refresh_tokens WHERE token = ?1)";
                c.prepare_cached(sql)?.query_row([token], read).optional()?
            }
            Ending::Family(id, account) => {
                let sql = "SELECT id, account FROM login_families WHERE revoked_us IS NULL AND id = ?1
                           AND account = ?2";
                c.prepare_cached(sql)?.query_row([id, account], read).optional()?
            }
        };
        let Some((family, account)) = found else { return Ok(None) };
        Ok(Some((account, family_ended(c, &family, now_us, until_s)?)))
    };
    store.write(change).await
}

pub(super) async fn change(
    store: &Sqlite,
    account: String,
    change: Change,
    now_us: i64,
    until_s: i64,
) -> Result<Option<Revocation>, Error> {
    store.write(move |c| changed(c, &account, &change, now_us, until_s)).await
}

fn changed(
    c: &Connection,
    account: &str,
    change: &Change,
    now_us: i64,
    until_s: i64,
) -> Result<Option<Revocation>, Error> {
    if let Change::FactorOn { secret, step, codes } = change
        && !factors::confirmed(c, account, (secret, *step), codes, now_us)?
    {
        return Ok(None);
    }
    let sql = "UPDATE accounts SET generation = generation + 1 WHERE id = ?1 RETURNING generation";
    let generation = c.prepare_cached(sql)?.query_row([account], |row| row.get::<_, i64>(0)).optional()?;
    let Some(mut generation) = generation else { return Ok(None) };
    let end_all = || -> Result<(), Error> {
        let sql = "UPDATE login_families SET revoked_us = ?2 WHERE account = ?1 AND revoked_us IS NULL";
        Ok(c.prepare_cached(sql)?.execute(params![account, now_us]).map(drop)?)
    };
    match change {
        Change::EndAll | Change::FactorOn { .. } => end_all()?,
        Change::FactorOff => {
            end_all()?;
            factors::removed(c, account)?;
        }
        Change::Password(hash) => {
            end_all()?;
            let is_bcrypt = super::hashing::is_bcrypt(hash);
            let sql = "UPDATE accounts SET password = ?2, is_bcrypt = ?3 WHERE id = ?1";
            c.prepare_cached(sql)?.execute(params![account, hash, is_bcrypt])?;
            c.prepare_cached("DELETE FROM mailed_tokens WHERE account = ?1")?.execute([account])?;
        }
        Change::Roles(roles) => {
            let sql = "UPDATE accounts SET roles = ?2 WHERE id = ?1";
            c.prepare_cached(sql)?.execute([account, &joined(roles)])?;
        }
        Change::Delete => {
            c.prepare_cached("DELETE FROM accounts WHERE id = ?1")?.execute([account])?;
            generation = i64::MAX;
        }
    }
    let revocation = Revocation::User { id: account.to_owned(), generation, until_s };
    revoked(c, &revocation, now_us)?;
    Ok(Some(revocation))
}

pub(super) async fn mail(store: &Sqlite, mailed: Mailed) -> Result<bool, Error> {
    let change = move |c: &Connection| {
        let sql = "INSERT INTO mailed_tokens (account, purpose, token, made_us, expires_us)
                   SELECT id, ?2, ?3, ?4, ?5 FROM accounts WHERE id = ?1
                   ON CONFLICT (account, purpose) DO UPDATE SET token = excluded.token, made_us = excluded.made_us,
                   expires_us = excluded.expires_us WHERE made_us <= ?6";
        let Mailed { token, account, purpose, now_us, expires_us, quiet_since_us } = &mailed;
        let values = params![account, purpose.as_str(), token, now_us, expires_us, quiet_since_us];
        Ok(c.prepare_cached(sql)?.execute(values)? == 1)
    };
    store.write(change).await
}

pub(super) async fn take_mailed(
    store: &Sqlite,
    token: Hash,
    purpose: Purpose,
    now_us: i64,
) -> Result<Option<String>, Error> {
    let change = move |c: &Connection| {
        let sql = "DELETE FROM mailed_tokens WHERE token = ?1 AND purpose = ?2 AND expires_us > ?3 RETURNING account";
        let values = params![token, purpose.as_str(), now_us];
        let account: Option<String> = c.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
        if let Some(account) = &account {
            let sql = "UPDATE accounts SET verified_us = ?2 WHERE id = ?1 AND verified_us IS NULL";
            c.prepare_cached(sql)?.execute(params![account, now_us])?;
        }
        Ok(account)
    };
    store.write(change).await
}

pub(super) async fn revocations(store: &Sqlite, since_us: i64, now_s: i64) -> Result<Vec<(i64, Revocation)>, Error> {
    let question = move |c: &Connection| {
        let sql = "SELECT at_us, what, generation, until_s FROM revocations WHERE at_us > ?1 AND until_s > ?2
                   ORDER BY at_us LIMIT ?3";
        let mut select = c.prepare_cached(sql)?;
        let rows = select.query_map(params![since_us, now_s, REVOCATIONS_AT_A_TIME], |row| {
            let (what, generation): (String, Option<i64>) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, super::revocation(&what, generation, row.get(3)?)))
        })?;
        let rows: Vec<(i64, Option<Revocation>)> = rows.collect::<Result<_, _>>()?;
        Ok(rows.into_iter().filter_map(|(at_us, revocation)| Some((at_us, revocation?))).collect())
    };
    store.read(question).await
}

pub(super) async fn prune(store: &Sqlite, now_us: i64) -> Result<u64, Error> {
    let change = move |c: &Connection| {
        let mut gone = 0;
        for (table, key, condition, now) in super::PRUNED {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {condition} <= ?1 LIMIT ?2)"
            );
            let now = if now { now_us } else { now_us / 1_000_000 };
            gone += c.prepare_cached(&sql)?.execute(params![now, PRUNED_AT_A_TIME])? as u64;
        }
        Ok(gone)
    };
    store.write(change).await
}
