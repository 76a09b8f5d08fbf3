//! How somebody comes in: providers that are linked, logins that go on, mails that are under way.

use crate::accounts::methods::Methods;
use crate::accounts::rows::{Going, Link, Purpose, Unlinked};
use crate::accounts::secrets::Hash;
use mainstay_store::Error;
use mainstay_store::sqlite::Sqlite;
use mainstay_store::sqlite::rusqlite::{Connection, OptionalExtension, params};

pub(in crate::accounts) async fn mailed_to(
    store: &Sqlite,
    token: Hash,
    purpose: Purpose,
    now_us: i64,
) -> Result<Option<String>, Error> {
    let sql = "SELECT account FROM mailed_tokens WHERE token = ?1 AND purpose = ?2 AND expires_us > ?3";
    let question = move |c: &Connection| {
        let found = c.prepare_cached(sql)?.query_row(params![token, purpose.as_str(), now_us], |row| row.get(0));
        Ok(found.optional()?)
    };
    store.read(question).await
}

pub(in crate::accounts) async fn logins(store: &Sqlite, account: String, now_us: i64) -> Result<Vec<Going>, Error> {
    let sql = "SELECT id, methods, agent, client, created_us, seen_us, expires_us FROM login_families
               WHERE account = ?1 AND revoked_us IS NULL AND expires_us > ?2 ORDER BY seen_us DESC, id";
    let question = move |c: &Connection| {
        let mut select = c.prepare_cached(sql)?;
        let rows = select.query_map(params![account, now_us], |row| {
            let (methods, created_us): (String, i64) = (row.get(1)?, row.get(4)?);
            Ok(Going {
                id: row.get(0)?,
                account: account.clone(),
                methods: Methods::parse(&methods),
                agent: row.get(2)?,
                client: row.get(3)?,
                created_us,
                seen_us: row.get::<_, i64>(5)?.max(created_us),
                expires_us: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    store.read(question).await
}

pub(in crate::accounts) async fn links(store: &Sqlite, account: String) -> Result<Vec<(Link, i64)>, Error> {
    store.read(move |c| linked(c, &account)).await
}

fn linked(c: &Connection, account: &str) -> Result<Vec<(Link, i64)>, Error> {
    let sql = "SELECT provider, subject, linked_us FROM account_links WHERE account = ?1 ORDER BY linked_us, provider";
    let mut select = c.prepare_cached(sql)?;
    let rows =
        select.query_map([account], |row| Ok((Link { provider: row.get(0)?, subject: row.get(1)? }, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(in crate::accounts) async fn unlink(
    store: &Sqlite,
    account: String,
    provider: String,
    known: Vec<String>,
) -> Result<Unlinked, Error> {
    let change = move |c: &Connection| {
        let all = linked(c, &account)?;
        if !all.iter().any(|(link, _)| link.provider == provider) {
            return Ok(Unlinked::NotThere);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?1 AND password IS NOT NULL)";
        let has_password: bool = c.prepare_cached(sql)?.query_row([&account], |row| row.get(0))?;
        let others = all.iter().filter(|(link, _)| link.provider != provider && known.contains(&link.provider));
        if !has_password && others.count() == 0 {
            return Ok(Unlinked::Last);
        }
        let sql = "DELETE FROM account_links WHERE account = ?1 AND provider = ?2";
        c.prepare_cached(sql)?.execute([&account, &provider])?;
        Ok(Unlinked::Done)
    };
    store.write(change).await
}
