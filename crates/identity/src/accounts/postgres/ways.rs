//! How somebody comes in: providers that are linked, logins that go on, mails that are under way.

use super::{Values, transaction};
use crate::accounts::methods::Methods;
use crate::accounts::rows::{Going, Link, Purpose, Unlinked};
use crate::accounts::secrets::Hash;
use mainstay_store::Error;
use mainstay_store::postgres::Postgres;
use mainstay_store::postgres::tokio_postgres::Row;

pub(in crate::accounts) async fn mailed_to(
    store: &Postgres,
    token: Hash,
    purpose: Purpose,
    now_us: i64,
) -> Result<Option<String>, Error> {
    let client = store.client().await?;
    let sql = "SELECT account FROM mainstay.mailed_tokens WHERE token = $1 AND purpose = $2 AND expires_us > $3";
    let values: Values<'_> = &[&token, &purpose.as_str(), &now_us];
    let row = client.query_opt(sql, values).await?;
    row.map(|row| row.try_get(0)).transpose().map_err(Into::into)
}

pub(in crate::accounts) async fn logins(store: &Postgres, account: String, now_us: i64) -> Result<Vec<Going>, Error> {
    let client = store.client().await?;
    let sql = "SELECT id, methods, agent, client, created_us, seen_us, expires_us FROM mainstay.login_families
               WHERE account = $1 AND revoked_us IS NULL AND expires_us > $2 ORDER BY seen_us DESC, id";
    let rows = client.query(sql, &[&account, &now_us]).await?;
    rows.iter().map(|row| going(row, &account)).collect()
}

fn going(row: &Row, account: &str) -> Result<Going, Error> {
    let (methods, created_us): (String, i64) = (row.try_get(1)?, row.try_get(4)?);
    Ok(Going {
        id: row.try_get(0)?,
        account: account.to_owned(),
        methods: Methods::parse(&methods),
        agent: row.try_get(2)?,
        client: row.try_get(3)?,
        created_us,
        seen_us: row.try_get::<_, i64>(5)?.max(created_us),
        expires_us: row.try_get(6)?,
    })
}

const LINKS: &str = "SELECT provider, subject, linked_us FROM mainstay.account_links WHERE account = $1
                     ORDER BY linked_us, provider";

pub(in crate::accounts) async fn links(store: &Postgres, account: String) -> Result<Vec<(Link, i64)>, Error> {
    let client = store.client().await?;
    let rows = client.query(LINKS, &[&account]).await?;
    rows.iter().map(link).collect()
}

fn link(row: &Row) -> Result<(Link, i64), Error> {
    Ok((Link { provider: row.try_get(0)?, subject: row.try_get(1)? }, row.try_get(2)?))
}

pub(in crate::accounts) async fn unlink(
    store: &Postgres,
    account: String,
    provider: String,
    known: Vec<String>,
) -> Result<Unlinked, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    // The account's row first: of two that take one link each, the second sees what is left.
    let sql = "SELECT password IS NOT NULL FROM mainstay.accounts WHERE id = $1 FOR UPDATE";
    let Some(row) = t.query_opt(sql, &[&account]).await? else { return Ok(Unlinked::NotThere) };
    let has_password: bool = row.try_get(0)?;
    let rows = t.query(LINKS, &[&account]).await?;
    let all: Vec<(Link, i64)> = rows.iter().map(link).collect::<Result<_, _>>()?;
    if !all.iter().any(|(link, _)| link.provider == provider) {
        return Ok(Unlinked::NotThere);
    }
    let others = all.iter().filter(|(link, _)| link.provider != provider && known.contains(&link.provider));
    if !has_password && others.count() == 0 {
        return Ok(Unlinked::Last);
    }
    let sql = "DELETE FROM mainstay.account_links WHERE account = $1 AND provider = $2";
    t.execute(sql, &[&account, &provider]).await?;
    t.commit().await?;
    Ok(Unlinked::Done)
}
