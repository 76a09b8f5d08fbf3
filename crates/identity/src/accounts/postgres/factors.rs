//! Second factors, recovery codes, and logins that wait for one of them.

use super::{Values, transaction};
use crate::accounts::methods::Methods;
use crate::accounts::rows::{Factor, Passed, Passing, Shown, Ticket, Wait};
use crate::accounts::secrets::Hash;
use crate::accounts::store::TICKETS_MAX;
use mainstay_store::Error;
use mainstay_store::postgres::{Postgres, Transaction};

pub(in crate::accounts) async fn enrol(
    store: &Postgres,
    account: String,
    secret: Vec<u8>,
    now_us: i64,
) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let sql = "INSERT INTO mainstay.second_factors AS f (account, secret, made_us)
               SELECT id, $2::bytea, $3::bigint FROM mainstay.accounts WHERE id = $1
               ON CONFLICT (account) DO UPDATE SET secret = excluded.secret, made_us = excluded.made_us, step = 0
               WHERE f.confirmed_us IS NULL";
    let done = t.execute(sql, &[&account, &secret, &now_us]).await?;
    t.commit().await?;
    Ok(done == 1)
}

pub(in crate::accounts) async fn factor(store: &Postgres, account: String) -> Result<Option<Factor>, Error> {
    let client = store.client().await?;
    let sql = "SELECT secret, made_us, confirmed_us, (SELECT count(*) FROM mainstay.recovery_codes WHERE account = $1)
               FROM mainstay.second_factors WHERE account = $1";
    let Some(row) = client.query_opt(sql, &[&account]).await? else { return Ok(None) };
    let (secret, made_us) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Some(Factor { secret, made_us, confirmed_us: row.try_get(2)?, codes_left: row.try_get(3)? }))
}

pub(in crate::accounts) async fn reseal(
    store: &Postgres,
    account: String,
    old: Vec<u8>,
    better: Vec<u8>,
) -> Result<(), Error> {
    let client = store.client().await?;
    let sql = "UPDATE mainstay.second_factors SET secret = $3 WHERE account = $1 AND secret = $2";
    client.execute(sql, &[&account, &old, &better]).await?;
    Ok(())
}

/// `false`: it was confirmed before, or another took its place.
pub(in crate::accounts) async fn confirmed(
    t: &Transaction<'_>,
    account: &str,
    (secret, step): (&[u8], i64),
    codes: &[Hash],
    now_us: i64,
) -> Result<bool, Error> {
    let sql = "UPDATE mainstay.second_factors SET confirmed_us = $4, step = $3
               WHERE account = $1 AND secret = $2 AND confirmed_us IS NULL";
    if t.execute(sql, &[&account, &secret, &step, &now_us]).await? == 0 {
        return Ok(false);
    }
    codes_replaced(t, account, codes).await.map(|()| true)
}

async fn codes_replaced(t: &Transaction<'_>, account: &str, codes: &[Hash]) -> Result<(), Error> {
    t.execute("DELETE FROM mainstay.recovery_codes WHERE account = $1", &[&account]).await?;
    for code in codes {
        let sql = "INSERT INTO mainstay.recovery_codes (account, code) VALUES ($1, $2)";
        t.execute(sql, &[&account, code]).await?;
    }
    Ok(())
}

pub(in crate::accounts) async fn removed(t: &Transaction<'_>, account: &str) -> Result<(), Error> {
    for table in ["second_factors", "recovery_codes", "login_tickets"] {
        t.execute(&format!("DELETE FROM mainstay.{table} WHERE account = $1"), &[&account]).await?;
    }
    Ok(())
}

/// Whoever is first holds the row of the factor: the same code on two nodes is taken once.
pub(in crate::accounts) async fn pass(store: &Postgres, passing: Passing) -> Result<Passed, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let Passing { account, shown, ticket, now_us } = &passing;
    match shown {
        Shown::Step(step) => {
            let sql = "UPDATE mainstay.second_factors SET step = $2
                       WHERE account = $1 AND confirmed_us IS NOT NULL AND step < $2";
            if t.execute(sql, &[account, step]).await? == 0 {
                let sql = "SELECT 1 FROM mainstay.second_factors
                           WHERE account = $1 AND confirmed_us IS NOT NULL AND step = $2";
                let is_same = t.query_opt(sql, &[account, step]).await?.is_some();
                return Ok(if is_same { Passed::Reused } else { Passed::No });
            }
        }
        Shown::Recovery(code) => {
            let sql = "DELETE FROM mainstay.recovery_codes WHERE account = $1 AND code = $2";
            if t.execute(sql, &[account, code]).await? == 0 {
                return Ok(Passed::No);
            }
        }
    }
    if let Some(ticket) = ticket {
        let sql = "DELETE FROM mainstay.login_tickets WHERE token = $1 AND expires_us > $2";
        if t.execute(sql, &[ticket, now_us]).await? == 0 {
            return Ok(Passed::Over);
        }
    }
    let sql = "SELECT count(*) FROM mainstay.recovery_codes WHERE account = $1";
    let left = t.query_opt(sql, &[account]).await?.map_or(Ok(0), |row| row.try_get(0))?;
    t.commit().await?;
    Ok(Passed::Yes(left))
}

pub(in crate::accounts) async fn replace_codes(
    store: &Postgres,
    account: String,
    codes: Vec<Hash>,
) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let sql = "SELECT 1 FROM mainstay.second_factors WHERE account = $1 AND confirmed_us IS NOT NULL FOR UPDATE";
    if t.query_opt(sql, &[&account]).await?.is_none() {
        return Ok(false);
    }
    codes_replaced(&t, &account, &codes).await?;
    t.commit().await?;
    Ok(true)
}

pub(in crate::accounts) async fn put_ticket(store: &Postgres, ticket: Ticket) -> Result<(), Error> {
    let mut client = store.client().await?;
    let t = transaction(&mut client).await?;
    let sql = "INSERT INTO mainstay.login_tickets
               (token, account, generation, purpose, methods, breached, made_us, expires_us)
               SELECT $1::bytea, id, $3::bigint, $4::text, $5::text, $6::bigint, $7::bigint, $8::bigint
               FROM mainstay.accounts WHERE id = $2";
    let Ticket { token, account, generation, wait, methods, breached, now_us, expires_us } = &ticket;
    let (wait, methods, breached) = (wait.as_str(), methods.text(), i64::from(*breached));
    let values: Values<'_> = &[token, account, generation, &wait, &methods, &breached, now_us, expires_us];
    t.execute(sql, values).await?;
    let sql = "DELETE FROM mainstay.login_tickets WHERE token IN (SELECT token FROM mainstay.login_tickets
               WHERE account = $1 ORDER BY made_us DESC, token OFFSET $2)";
    t.execute(sql, &[account, &TICKETS_MAX]).await?;
    t.commit().await?;
    Ok(())
}

pub(in crate::accounts) async fn ticket(
    store: &Postgres,
    token: Hash,
    wait: Wait,
    now_us: i64,
) -> Result<Option<Ticket>, Error> {
    let client = store.client().await?;
    let sql = "SELECT account, generation, methods, breached, made_us, expires_us FROM mainstay.login_tickets
               WHERE token = $1 AND purpose = $2 AND expires_us > $3";
    let values: Values<'_> = &[&token, &wait.as_str(), &now_us];
    let Some(row) = client.query_opt(sql, values).await? else { return Ok(None) };
    let (methods, breached): (String, i64) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Some(Ticket {
        account: row.try_get(0)?,
        generation: row.try_get(1)?,
        methods: Methods::parse(&methods),
        breached: breached != 0,
        now_us: row.try_get(4)?,
        expires_us: row.try_get(5)?,
        token,
        wait,
    }))
}
