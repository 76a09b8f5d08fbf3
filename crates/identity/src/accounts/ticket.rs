//! A login that is not finished: the password was right, and a code is asked for, or another password. Whoever holds
//! its ticket is nobody yet.

use super::body::Body;
use super::methods::Methods;
use super::rows::{Account, By, Ticket, Wait};
use super::{Accounts, Fault, LoggedIn, secrets};
use crate::exchange::{Answer, Asked, ROOT};
use http::header::COOKIE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use std::time::Duration;

/// As long as somebody may look for his phone.
pub(crate) const LIFE: Duration = Duration::from_secs(5 * 60);
const NAME: &str = "mainstay-ticket";
const SECURE_NAME: &str = "__Secure-mainstay-ticket";

/// 403 and not 401: nothing was wrong so far, and an offence it is none.
pub(crate) fn asked_for(wait: Wait, ticket: &str) -> Answer {
    let (code, text) = match wait {
        Wait::Code => ("second_factor_required", "A code of your authenticator app is needed."),
        Wait::Password => ("password_breached", "This password is known to many; choose another one."),
    };
    let answer = Answer::problem(StatusCode::FORBIDDEN, code, text);
    answer.and(json!({ "ticket": ticket, "expiresIn": LIFE.as_secs() }))
}

pub(crate) fn cookie(ticket: &str, https: bool) -> Result<HeaderValue, Fault> {
    let (name, flag) = if https { (SECURE_NAME, "; Secure") } else { (NAME, "") };
    let life_s = LIFE.as_secs();
    let text = format!("{name}={ticket}; Max-Age={life_s}; Path={ROOT}; HttpOnly; SameSite=Strict{flag}");
    let mut value = HeaderValue::from_str(&text).map_err(|_| Fault::Random)?;
    value.set_sensitive(true);
    Ok(value)
}

/// In the body, or in the cookie of a browser that came back from a provider.
fn brought<'a>(body: &'a Body, asked: &'a Asked) -> Result<Option<&'a str>, Fault> {
    if let Some(ticket) = body.opt(&["ticket"])? {
        return Ok(Some(ticket));
    }
    let own = if asked.https { SECURE_NAME } else { NAME };
    let lines = asked.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    Ok(pairs.find(|(name, _)| *name == own).map(|(_, value)| value))
}

/// It came too late, or twice, or never was one.
pub(crate) fn over() -> Fault {
    let text = "This login was not finished in time; log in again.";
    Fault::refused(StatusCode::UNAUTHORIZED, "ticket_invalid", text)
}

impl Accounts {
    /// The second step of a login: the code.
    pub(crate) async fn login_code(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let (ticket, account) = self.waiting(&body, asked, Wait::Code, now_us).await?;
        let second = self.second(&account, &body, Some(ticket.token), asked, now_us).await?;
        let methods = Methods { password: ticket.methods.password, ..second };
        let who = self.logged_in(account, methods, now_us);
        self.granted(&LoggedIn { breached: ticket.breached, ..who }, asked, now_us).await
    }

    /// The right to choose another password, and nothing besides; then it goes on as after any login.
    pub(crate) async fn login_password(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let (ticket, account) = self.waiting(&body, asked, Wait::Password, now_us).await?;
        let new = body.text(&["newPassword", "new_password", "password"])?;
        self.judge_password(new, account.address.as_deref().unwrap_or_default())?;
        let hash = self.hash(new).await?;
        // The account's generation is another one then, and the ticket worthless.
        if !self.set_password(&account.id, hash, "password_changed", now_us).await? {
            return Err(over());
        }
        let account = self.store.find(By::Id(account.id)).await?.ok_or_else(over)?;
        self.granted(&self.logged_in(account, ticket.methods, now_us), asked, now_us).await
    }

    async fn waiting(&self, body: &Body, asked: &Asked, wait: Wait, now_us: i64) -> Result<(Ticket, Account), Fault> {
        let ticket = brought(body, asked)?.filter(|ticket| ticket.len() <= secrets::TOKEN_TEXT_MAX);
        let hash = secrets::hash(ticket.ok_or_else(over)?, None);
        let ticket = self.store.ticket(hash, wait, now_us).await?.ok_or_else(over)?;
        let account = self.store.find(By::Id(ticket.account.clone())).await?;
        let account = account.filter(|account| account.generation == ticket.generation).ok_or_else(over)?;
        Ok((ticket, account))
    }
}
