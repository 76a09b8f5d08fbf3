//! The statements for Postgres. Several nodes may change one account at once, so a change first locks the row that
//! decides: the account, or the login.

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
use mainstay_store::postgres::tokio_postgres::Row;
use mainstay_store::postgres::tokio_postgres::types::ToSql;
use mainstay_store::postgres::{Client, Postgres, Transaction};

pub(super) use factors::{enrol, factor, pass, put_ticket, replace_codes, reseal, ticket};
pub(super) use ways::{links, logins, mailed_to, unlink};

pub(super) const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "accounts", sql: include_str!("postgres/0001_accounts.sql") },
    Migration { version: 2, name: "second factors", sql: include_str!("postgres/0002_factors.sql") },
];

const COLUMNS: &str = "id, address, name, password, roles, tenant, tier, generation, verified_us, created_us, seen_us";

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

fn account(row: &Row) -> Result<Account, Error> {
    let roles: String = row.try_get(4)?;
    Ok(Account {
        id: row.try_get(0)?,
        address: row.try_get(1)?,
        name: row.try_get(2)?,
        password: row.try_get(3)?,
        roles: split(&roles),
        tenant: row.try_get(5)?,
        tier: row.try_get(6)?,
        generation: row.try_get(7)?,
        verified_us: row.try_get(8)?,
        created_us: row.try_get(9)?,
        seen_us: row.try_get(10)?,
    })
}

/// A commit that was acknowledged is on the disk, whatever the server's own setting is.
async fn transaction(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = on").await?;
    Ok(transaction)
}

async fn inserted(t: &Transaction<'_>, account: &Account) -> Result<bool, Error> {
    let sql = format!(
        "INSERT INTO mainstay.accounts ({COLUMNS}, is_bcrypt)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING"
    );
    let is_bcrypt = i64::from(account.password.as_deref().is_some_and(super::hashing::is_bcrypt));
    let values: Values<'_> = &[
        &account.id,
        &account.address,
        &account.name,
        &account.password,
        &joined(&account.roles),
        &account.tenant,
        &account.tier,
        &account.generation,
        &account.verified_us,
        &account.created_us,
        &account.seen_us,
        &is_bcrypt,
    ];
    Ok(t.execute(&sql, values).await? == 1)
}

async fn linked(t: &Transaction<'_>, account: &str, link: &Link, now_us: i64) -> Result<bool, Error> {
    let sql = "INSERT INTO mainstay.account_links (provider, subject, account, linked_us)
               SELECT $1::text, $2::text, id, $4::bigint FROM mainstay.accounts WHERE id = $3 ON CONFLICT DO NOTHING";
    Ok(t.execute(sql, &[&link.provider, &link.subject, &account, &now_us]).await? == 1)
}

pub(super) async fn insert(store: &Postgres, account: Account, link: Option<Link>) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    if !inserted(&t, &account).await? {
        return Ok(false);
    }
    if let Some(link) = &link
        && !linked(&t, &account.id, link, account.created_us).await?
    {
        // Dropped without a commit, the account goes too.
        return Ok(false);
    }
    t.commit().await?;
    Ok(true)
}

pub(super) async fn import(store: &Postgres, accounts: Vec<Account>) -> Result<Vec<bool>, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let mut done = Vec::with_capacity(accounts.len());
    for account in &accounts {
        done.push(inserted(&t, account).await?);
    }
    t.commit().await?;
    Ok(done)
}

pub(super) async fn find(store: &Postgres, by: By) -> Result<Option<Account>, Error> {
    let client = store.client().await?;
    let select = |condition: &str| format!("SELECT {COLUMNS} FROM mainstay.accounts WHERE {condition}");
    let row = match &by {
        By::Id(id) => client.query_opt(&select("id = $1"), &[id]).await?,
        By::Address(address) => client.query_opt(&select("address = $1"), &[address]).await?,
        By::Provider(provider, subject) => {
            let condition = "id = (SELECT account FROM mainstay.account_links WHERE provider = $1 AND subject = $2)";
            client.query_opt(&select(condition), &[provider, subject]).await?
        }
    };
    row.as_ref().map(account).transpose()
}

pub(super) async fn has_bcrypt(store: &Postgres) -> Result<bool, Error> {
    let client = store.client().await?;
    let sql = "SELECT EXISTS (SELECT 1 FROM mainstay.accounts WHERE is_bcrypt = 1)";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

pub(super) async fn list(store: &Postgres, after: String, limit: i64) -> Result<Vec<Account>, Error> {
    let client = store.client().await?;
    // By bytes, as SQLite has it.
    let sql = format!(
        "SELECT {COLUMNS} FROM mainstay.accounts WHERE id COLLATE \"C\" > $1 ORDER BY id COLLATE \"C\" LIMIT $2"
    );
    let rows = client.query(&sql, &[&after, &limit]).await?;
    rows.iter().map(account).collect()
}

pub(super) async fn link(store: &Postgres, account: String, link: Link, now_us: i64) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let done = linked(&t, &account, &link, now_us).await?;
    t.commit().await?;
    Ok(done)
}

pub(super) async fn rehash(store: &Postgres, account: String, old: String, better: String) -> Result<(), Error> {
    let client = store.client().await?;
    let sql = "UPDATE mainstay.accounts SET password = $3, is_bcrypt = 0 WHERE id = $1 AND password = $2";
    client.execute(sql, &[&account, &old, &better]).await?;
    Ok(())
}

pub(super) async fn begin(store: &Postgres, family: Family) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    // Holds the account's row: a change of the password waits for it, or was before it and is seen.
    let sql = "UPDATE mainstay.accounts SET seen_us = $3 WHERE id = $1 AND generation = $2";
    if t.execute(sql, &[&family.account, &family.generation, &family.now_us]).await? == 0 {
        return Ok(false);
    }
    let sql =
        "INSERT INTO mainstay.login_families (id, account, created_us, expires_us, methods, agent, client, seen_us)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $3)";
    let Family { id, account, now_us, expires_us, agent, client, .. } = &family;
    t.execute(sql, &[id, account, now_us, expires_us, &family.methods.text(), agent, client]).await?;
    let sql = "INSERT INTO mainstay.refresh_tokens (token, family, expires_us) VALUES ($1, $2, $3)";
    t.execute(sql, &[&family.token, &family.id, &family.expires_us]).await?;
    // Gone, its tokens are unknown, as if they had expired.
    let sql = "DELETE FROM mainstay.login_families WHERE id IN (SELECT id FROM mainstay.login_families
               WHERE account = $1 ORDER BY created_us DESC, id OFFSET $2)";
    t.execute(sql, &[&family.account, &FAMILIES_MAX]).await?;
    t.commit().await?;
    Ok(true)
}

pub(super) async fn exchange(store: &Postgres, asked: Exchange) -> Result<Exchanged, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    // The login first: of two that bring one token, the second reads what the first has left.
    let sql = "SELECT id, account, revoked_us IS NOT NULL, created_us, methods FROM mainstay.login_families
               WHERE id = (SELECT family FROM mainstay.refresh_tokens WHERE token = $1) FOR UPDATE";
    let Some(row) = t.query_opt(sql, &[&asked.presented]).await? else { return Ok(Exchanged::Over) };
    let (family, account_id, is_revoked): (String, String, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (created_us, methods): (i64, String) = (row.try_get(3)?, row.try_get(4)?);
    let ends_us = created_us.saturating_add(asked.longest_us);
    let sql = "SELECT t.expires_us, t.used_us, t.successor,
               EXISTS (SELECT 1 FROM mainstay.refresh_tokens s WHERE s.token = t.successor AND s.used_us IS NULL)
               FROM mainstay.refresh_tokens t WHERE t.token = $1";
    let Some(row) = t.query_opt(sql, &[&asked.presented]).await? else { return Ok(Exchanged::Over) };
    let successor: Option<Hash> = row.try_get(2)?;
    let (expires_us, used_us) = (row.try_get(0)?, row.try_get(1)?);
    let token = Presented { expires_us, used_us, is_revoked, successor_waits: row.try_get(3)? };
    match rotation::decide(asked.now_us, token.until(ends_us)) {
        Decision::Over => return Ok(Exchanged::Over),
        Decision::Reuse => {
            let revocation = family_ended(&t, &family, asked.now_us, asked.until_s).await?;
            t.commit().await?;
            return Ok(Exchanged::Reused(account_id, revocation));
        }
        Decision::Rotate => {
            let sql = "UPDATE mainstay.refresh_tokens SET used_us = $2, successor = $3 WHERE token = $1";
            t.execute(sql, &[&asked.presented, &asked.now_us, &asked.fresh]).await?;
        }
        Decision::Replace => {
            // Whoever has the withdrawn one after all is taken for a thief: it was used, and leads nowhere.
            let sql = "UPDATE mainstay.refresh_tokens SET used_us = $2, successor = NULL WHERE token = $1";
            t.execute(sql, &[&successor, &asked.now_us]).await?;
            let sql = "UPDATE mainstay.refresh_tokens SET successor = $2 WHERE token = $1";
            t.execute(sql, &[&asked.presented, &asked.fresh]).await?;
        }
    }
    let sql = "INSERT INTO mainstay.refresh_tokens (token, family, expires_us) VALUES ($1, $2, $3)";
    let expires_us = asked.expires_us.min(ends_us);
    t.execute(sql, &[&asked.fresh, &family, &expires_us]).await?;
    let sql = "UPDATE mainstay.login_families SET expires_us = $2, seen_us = $3 WHERE id = $1";
    t.execute(sql, &[&family, &expires_us, &asked.now_us]).await?;
    let sql = format!("SELECT {COLUMNS} FROM mainstay.accounts WHERE id = $1");
    let Some(row) = t.query_opt(&sql, &[&account_id]).await? else { return Ok(Exchanged::Over) };
    let account = account(&row)?;
    t.commit().await?;
    Ok(Exchanged::Fresh(Box::new(account), family, Methods::parse(&methods)))
}

async fn family_ended(t: &Transaction<'_>, family: &str, now_us: i64, until_s: i64) -> Result<Revocation, Error> {
    let sql = "UPDATE mainstay.login_families SET revoked_us = $2 WHERE id = $1 AND revoked_us IS NULL";
    t.execute(sql, &[&family, &now_us]).await?;
    let revocation = Revocation::Login { id: family.to_owned(), until_s };
    revoked(t, &revocation, now_us).await?;
    Ok(revocation)
}

async fn revoked(t: &Transaction<'_>, revocation: &Revocation, now_us: i64) -> Result<(), Error> {
    let (what, generation) = super::store_key(revocation);
    let sql = "INSERT INTO mainstay.revocations AS r (what, generation, until_s, at_us) VALUES ($1, $2, $3, $4)
               ON CONFLICT (what) DO UPDATE SET generation = greatest(r.generation, excluded.generation),
               until_s = greatest(r.until_s, excluded.until_s), at_us = greatest(r.at_us, excluded.at_us)";
    t.execute(sql, &[&what, &generation, &revocation.until_s(), &now_us]).await?;
    Ok(())
}

pub(super) async fn end(
    store: &Postgres,
    ending: Ending,
    now_us: i64,
    until_s: i64,
) -> Result<Option<(String, Revocation)>, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let found = match &ending {
        Ending::Token(token) => {
            let sql = "SELECT id, account FROM mainstay.login_families WHERE revoked_us IS NULL
                       AND id = (SELECT family FROM mainstay.refresh_tokens WHERE token = $1) FOR UPDATE";
            t.query_opt(sql, &[token]).await?
        }
        Ending::Family(id, account) => {
            let sql = "SELECT id, account FROM mainstay.login_families WHERE revoked_us IS NULL AND id = $1
                       AND account = $2 FOR UPDATE";
            t.query_opt(sql, &[id, account]).await?
        }
    };
    let Some(row) = found else { return Ok(None) };
    let (family, account): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let revocation = family_ended(&t, &family, now_us, until_s).await?;
    t.commit().await?;
    Ok(Some((account, revocation)))
}

pub(super) async fn change(
    store: &Postgres,
    account: String,
    change: Change,
    now_us: i64,
    until_s: i64,
) -> Result<Option<Revocation>, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let sql = "UPDATE mainstay.accounts SET generation = generation + 1 WHERE id = $1 RETURNING generation";
    // Dropped without a commit, nothing has changed.
    let Some(row) = t.query_opt(sql, &[&account]).await? else { return Ok(None) };
    let mut generation: i64 = row.try_get(0)?;
    let end_all = "UPDATE mainstay.login_families SET revoked_us = $2 WHERE account = $1 AND revoked_us IS NULL";
    match &change {
        Change::EndAll => drop(t.execute(end_all, &[&account, &now_us]).await?),
        Change::FactorOn { secret, step, codes } => {
            if !factors::confirmed(&t, &account, (secret, *step), codes, now_us).await? {
                return Ok(None);
            }
            t.execute(end_all, &[&account, &now_us]).await?;
        }
        Change::FactorOff => {
            t.execute(end_all, &[&account, &now_us]).await?;
            factors::removed(&t, &account).await?;
        }
        Change::Password(hash) => {
            t.execute(end_all, &[&account, &now_us]).await?;
            let is_bcrypt = i64::from(super::hashing::is_bcrypt(hash));
            let sql = "UPDATE mainstay.accounts SET password = $2, is_bcrypt = $3 WHERE id = $1";
            t.execute(sql, &[&account, hash, &is_bcrypt]).await?;
            t.execute("DELETE FROM mainstay.mailed_tokens WHERE account = $1", &[&account]).await?;
        }
        Change::Roles(roles) => {
            let sql = "UPDATE mainstay.accounts SET roles = $2 WHERE id = $1";
            t.execute(sql, &[&account, &joined(roles)]).await?;
        }
        Change::Delete => {
            t.execute("DELETE FROM mainstay.accounts WHERE id = $1", &[&account]).await?;
            generation = i64::MAX;
        }
    }
    let revocation = Revocation::User { id: account, generation, until_s };
    revoked(&t, &revocation, now_us).await?;
    t.commit().await?;
    Ok(Some(revocation))
}

pub(super) async fn mail(store: &Postgres, mailed: Mailed) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let sql = "INSERT INTO mainstay.mailed_tokens AS m (account, purpose, token, made_us, expires_us)
               SELECT id, $2::text, $3::bytea, $4::bigint, $5::bigint FROM mainstay.accounts WHERE id = $1
               ON CONFLICT (account, purpose) DO UPDATE SET token = excluded.token, made_us = excluded.made_us,
               expires_us = excluded.expires_us WHERE m.made_us <= $6";
    let Mailed { token, account, purpose, now_us, expires_us, quiet_since_us } = &mailed;
    let made = t.execute(sql, &[account, &purpose.as_str(), token, now_us, expires_us, quiet_since_us]).await?;
    t.commit().await?;
    Ok(made == 1)
}

pub(super) async fn take_mailed(
    store: &Postgres,
    token: Hash,
    purpose: Purpose,
    now_us: i64,
) -> Result<Option<String>, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let sql = "DELETE FROM mainstay.mailed_tokens WHERE token = $1 AND purpose = $2 AND expires_us > $3
               RETURNING account";
    let Some(row) = t.query_opt(sql, &[&token, &purpose.as_str(), &now_us]).await? else { return Ok(None) };
    let account: String = row.try_get(0)?;
    let sql = "UPDATE mainstay.accounts SET verified_us = $2 WHERE id = $1 AND verified_us IS NULL";
    t.execute(sql, &[&account, &now_us]).await?;
    t.commit().await?;
    Ok(Some(account))
}

pub(super) async fn revocations(store: &Postgres, since_us: i64, now_s: i64) -> Result<Vec<(i64, Revocation)>, Error> {
    let client = store.client().await?;
    let sql = "SELECT at_us, what, generation, until_s FROM mainstay.revocations WHERE at_us > $1 AND until_s > $2
               ORDER BY at_us LIMIT $3";
    let values: Values<'_> = &[&since_us, &now_s, &REVOCATIONS_AT_A_TIME];
    let rows = client.query(sql, values).await?;
    let mut revocations = Vec::with_capacity(rows.len());
    for row in &rows {
        let what: String = row.try_get(1)?;
        if let Some(revocation) = super::revocation(&what, row.try_get(2)?, row.try_get(3)?) {
            revocations.push((row.try_get(0)?, revocation));
        }
    }
    Ok(revocations)
}

pub(super) async fn prune(store: &Postgres, now_us: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    let mut gone = 0;
    for (table, key, condition, now) in super::PRUNED {
        let sql = format!(
            "DELETE FROM mainstay.{table} WHERE {key} IN
             (SELECT {key} FROM mainstay.{table} WHERE {condition} <= $1 LIMIT $2)"
        );
        let now = if now { now_us } else { now_us / 1_000_000 };
        gone += client.execute(&sql, &[&now, &PRUNED_AT_A_TIME]).await?;
    }
    Ok(gone)
}
