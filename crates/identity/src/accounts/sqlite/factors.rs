//! Second factors, recovery codes, and logins that wait for one of them.

use crate::accounts::methods::Methods;
use crate::accounts::rows::{Factor, Passed, Passing, Shown, Ticket, Wait};
use crate::accounts::secrets::Hash;
use crate::accounts::store::TICKETS_MAX;
use mainstay_store::Error;
use mainstay_store::sqlite::Sqlite;
use mainstay_store::sqlite::rusqlite::{Connection, OptionalExtension, params};

pub(in crate::accounts) async fn enrol(
    store: &Sqlite,
    account: String,
    secret: Vec<u8>,
    now_us: i64,
) -> Result<bool, Error> {
    let sql = "INSERT INTO second_factors (account, secret, made_us) SELECT id, ?2, ?3 FROM accounts WHERE id = ?1
               ON CONFLICT (account) DO UPDATE SET secret = excluded.secret, made_us = excluded.made_us, step = 0
               WHERE confirmed_us IS NULL";
    store.write(move |c| Ok(c.prepare_cached(sql)?.execute(params![account, secret, now_us])? == 1)).await
}

pub(in crate::accounts) async fn factor(store: &Sqlite, account: String) -> Result<Option<Factor>, Error> {
    let sql = "SELECT secret, made_us, confirmed_us,
               (SELECT count(*) FROM recovery_codes WHERE account = ?1) FROM second_factors WHERE account = ?1";
    let question = move |c: &Connection| {
        let read = c.prepare_cached(sql)?.query_row([account], |row| {
            let (secret, made_us) = (row.get(0)?, row.get(1)?);
            Ok(Factor { secret, made_us, confirmed_us: row.get(2)?, codes_left: row.get(3)? })
        });
        Ok(read.optional()?)
    };
    store.read(question).await
}

pub(in crate::accounts) async fn reseal(
    store: &Sqlite,
    account: String,
    old: Vec<u8>,
    better: Vec<u8>,
) -> Result<(), Error> {
    let sql = "UPDATE second_factors SET secret = ?3 WHERE account = ?1 AND secret = ?2";
    store.write(move |c| Ok(c.prepare_cached(sql)?.execute(params![account, old, better]).map(drop)?)).await
}

/// `false`: it was confirmed before, or another took its place.
pub(in crate::accounts) fn confirmed(
    c: &Connection,
    account: &str,
    (secret, step): (&[u8], i64),
    codes: &[Hash],
    now_us: i64,
) -> Result<bool, Error> {
    let sql = "UPDATE second_factors SET confirmed_us = ?4, step = ?3
               WHERE account = ?1 AND secret = ?2 AND confirmed_us IS NULL";
    if c.prepare_cached(sql)?.execute(params![account, secret, step, now_us])? == 0 {
        return Ok(false);
    }
    codes_replaced(c, account, codes).map(|()| true)
}

fn codes_replaced(c: &Connection, account: &str, codes: &[Hash]) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM recovery_codes WHERE account = ?1")?.execute([account])?;
    let mut insert = c.prepare_cached("INSERT INTO recovery_codes (account, code) VALUES (?1, ?2)")?;
    for code in codes {
        insert.execute(params![account, code])?;
    }
    Ok(())
}

pub(in crate::accounts) fn removed(c: &Connection, account: &str) -> Result<(), Error> {
    for table in ["second_factors", "recovery_codes", "login_tickets"] {
        c.prepare_cached(&format!("DELETE FROM {table} WHERE account = ?1"))?.execute([account])?;
    }
    Ok(())
}

pub(in crate::accounts) async fn pass(store: &Sqlite, passing: Passing) -> Result<Passed, Error> {
    store.write(move |c| passed(c, &passing)).await
}

fn passed(c: &Connection, passing: &Passing) -> Result<Passed, Error> {
    let Passing { account, shown, ticket, now_us } = passing;
    // First: what comes too late spends no code.
    if let Some(ticket) = ticket {
        let sql = "SELECT EXISTS (SELECT 1 FROM login_tickets WHERE token = ?1 AND expires_us > ?2)";
        let is_there: bool = c.prepare_cached(sql)?.query_row(params![ticket, now_us], |row| row.get(0))?;
        if !is_there {
            return Ok(Passed::Over);
        }
    }
    match shown {
        Shown::Step(step) => {
            let sql = "UPDATE second_factors SET step = ?2
                       WHERE account = ?1 AND confirmed_us IS NOT NULL AND step < ?2";
            if c.prepare_cached(sql)?.execute(params![account, step])? == 0 {
                let sql = "SELECT EXISTS (SELECT 1 FROM second_factors
                           WHERE account = ?1 AND confirmed_us IS NOT NULL AND step = ?2)";
                let is_same = c.prepare_cached(sql)?.query_row(params![account, step], |row| row.get(0))?;
                return Ok(if is_same { Passed::Reused } else { Passed::No });
            }
        }
        Shown::Recovery(code) => {
            let sql = "DELETE FROM recovery_codes WHERE account = ?1 AND code = ?2";
            if c.prepare_cached(sql)?.execute(params![account, code])? == 0 {
                return Ok(Passed::No);
            }
        }
    }
    if let Some(ticket) = ticket {
        c.prepare_cached("DELETE FROM login_tickets WHERE token = ?1")?.execute([ticket])?;
    }
    let sql = "SELECT count(*) FROM recovery_codes WHERE account = ?1";
    Ok(Passed::Yes(c.prepare_cached(sql)?.query_row([account], |row| row.get(0))?))
}

pub(in crate::accounts) async fn replace_codes(
    store: &Sqlite,
    account: String,
    codes: Vec<Hash>,
) -> Result<bool, Error> {
    let change = move |c: &Connection| {
        let sql = "SELECT EXISTS (SELECT 1 FROM second_factors WHERE account = ?1 AND confirmed_us IS NOT NULL)";
        let is_on: bool = c.prepare_cached(sql)?.query_row([&account], |row| row.get(0))?;
        if is_on {
            codes_replaced(c, &account, &codes)?;
        }
        Ok(is_on)
    };
    store.write(change).await
}

pub(in crate::accounts) async fn put_ticket(store: &Sqlite, ticket: Ticket) -> Result<(), Error> {
    let change = move |c: &Connection| {
        let sql = "INSERT INTO login_tickets
                   (token, account, generation, purpose, methods, breached, made_us, expires_us)
                   SELECT ?1, id, ?3, ?4, ?5, ?6, ?7, ?8 FROM accounts WHERE id = ?2";
        let Ticket { token, account, generation, wait, methods, breached, now_us, expires_us } = &ticket;
        let (wait, methods) = (wait.as_str(), methods.text());
        let values = params![token, account, generation, wait, methods, breached, now_us, expires_us];
        c.prepare_cached(sql)?.execute(values)?;
        let sql = "DELETE FROM login_tickets WHERE token IN (SELECT token FROM login_tickets WHERE account = ?1
                   ORDER BY made_us DESC, token LIMIT -1 OFFSET ?2)";
        c.prepare_cached(sql)?.execute(params![account, TICKETS_MAX])?;
        Ok(())
    };
    store.write(change).await
}

pub(in crate::accounts) async fn ticket(
    store: &Sqlite,
    token: Hash,
    wait: Wait,
    now_us: i64,
) -> Result<Option<Ticket>, Error> {
    let sql = "SELECT account, generation, methods, breached, made_us, expires_us FROM login_tickets
               WHERE token = ?1 AND purpose = ?2 AND expires_us > ?3";
    let question = move |c: &Connection| {
        let read = c.prepare_cached(sql)?.query_row(params![token, wait.as_str(), now_us], |row| {
            let methods: String = row.get(2)?;
            Ok(Ticket {
                token: token.clone(),
                account: row.get(0)?,
                generation: row.get(1)?,
                wait,
                methods: Methods::parse(&methods),
                breached: row.get(3)?,
                now_us: row.get(4)?,
                expires_us: row.get(5)?,
            })
        });
        Ok(read.optional()?)
    };
    store.read(question).await
}
