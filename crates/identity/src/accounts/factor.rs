//! A user's second factor: an authenticator app of his own, added, confirmed by its first code, and removed; and his
//! recovery codes. Adding and removing it ends every other login.

use super::body::Body;
use super::grant::LoggedIn;
use super::methods::Methods;
use super::rows::{Account, By, Change, Factor};
use super::{Accounts, Fault, logout, micros, recovery, seconds, totp};
use crate::exchange::{Answer, Asked};
use http::StatusCode;
use serde_json::json;
use std::time::Duration;

/// How long one that was begun waits for its first code.
const CONFIRM_LIFE: Duration = Duration::from_secs(10 * 60);

fn conflict(code: &'static str, text: &str) -> Fault {
    Fault::refused(StatusCode::CONFLICT, code, text)
}

fn not_begun() -> Fault {
    conflict("second_factor_not_begun", "No authenticator app waits to be confirmed; begin again.")
}

fn none_here() -> Fault {
    conflict("second_factor_off", "There is no second factor.")
}

impl Accounts {
    pub(crate) async fn factor(&self, asked: &Asked) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let factor = self.store.factor(account.id).await?;
        let since_us = factor.as_ref().and_then(|factor| factor.confirmed_us);
        let left = factor.filter(|_| since_us.is_some()).map_or(0, |factor| factor.codes_left);
        let body = json!({
            "enabled": since_us.is_some(),
            "since": since_us.map(|since_us| since_us / 1_000_000),
            "recoveryCodesLeft": left,
        });
        Ok(Answer::json(StatusCode::OK, &body))
    }

    /// What the app is to know. Nothing is asked for at a login before it has shown that it does.
    pub(crate) async fn factor_begin(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let account = self.sure(account, asked, &Body::read(asked)?, now_us).await?;
        let secret = totp::secret()?;
        let sealed = self.vault.close(&account.id, &secret)?;
        if !self.store.enrol(account.id.clone(), sealed, now_us).await? {
            return Err(conflict("second_factor_exists", "There is a second factor already; remove it first."));
        }
        let shown = account.address.as_deref().or(account.name.as_deref()).unwrap_or(&account.id);
        let issuer = asked.host.split(':').next().unwrap_or_default();
        let body = json!({
            "secret": totp::base32(&secret),
            "uri": totp::uri(&secret, issuer, shown),
            "expiresIn": CONFIRM_LIFE.as_secs(),
        });
        Ok(Answer::json(StatusCode::OK, &body))
    }

    /// The first code: from here on it is asked for, and whoever was logged in without it is out.
    pub(crate) async fn factor_confirm(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let body = Body::read(asked)?;
        let code = body.text(&["code", "otp"])?;
        let waiting = |factor: &Factor| {
            factor.confirmed_us.is_none() && now_us.saturating_sub(factor.made_us) < micros(CONFIRM_LIFE)
        };
        let factor = self.store.factor(account.id.clone()).await?.filter(waiting).ok_or_else(not_begun)?;
        let who = self.counted(&account, asked, now_us);
        self.attempt(&who, now_us).await?;
        let secret = self.vault.open(&account.id, &factor.secret)?.secret;
        let Some(step) = totp::matching(&secret, code, seconds(now_us)) else {
            let text = "The code is wrong; is the clock of the phone right?";
            return Err(Fault::refused(StatusCode::FORBIDDEN, "code_wrong", text));
        };
        self.kept.attempts.forget(&who, self.redis.as_ref()).await;
        let (shown, codes) = recovery::make()?;
        let change = Change::FactorOn { secret: factor.secret, step, codes };
        let account = self.changed_factor(&account, change, "second_factor_on", now_us).await?.ok_or_else(not_begun)?;
        let methods = Methods { password: account.password.is_some(), otp: true, second: true };
        let answer = self.granted(&self.logged_in(account, methods, now_us), asked, now_us).await?;
        Ok(answer.and(json!({ "recoveryCodes": shown })))
    }

    /// Password and code: neither a browser left open nor a phone that was found is enough.
    pub(crate) async fn factor_remove(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let (account, body) = (self.own(asked).await?, Body::read(asked)?);
        if !self.has_factor(&account.id).await? {
            return Err(none_here());
        }
        let account = self.sure(account, asked, &body, now_us).await?;
        self.second(&account, &body, None, asked, now_us).await?;
        let gone = self.changed_factor(&account, Change::FactorOff, "second_factor_off", now_us).await?;
        let account = gone.ok_or_else(logout::log_in_first)?;
        let methods = Methods { password: account.password.is_some(), ..Methods::default() };
        let who: LoggedIn = self.logged_in(account, methods, now_us);
        self.granted(&who, asked, now_us).await
    }

    /// Ten others; those of before are worth nothing.
    pub(crate) async fn recovery_codes(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let (account, body) = (self.own(asked).await?, Body::read(asked)?);
        if !self.has_factor(&account.id).await? {
            return Err(none_here());
        }
        let account = self.sure(account, asked, &body, now_us).await?;
        self.second(&account, &body, None, asked, now_us).await?;
        let (shown, codes) = recovery::make()?;
        if !self.store.replace_codes(account.id.clone(), codes).await? {
            return Err(none_here());
        }
        self.journal("recovery_codes_renewed", Some(&account.id), None, Some(&account.id), now_us).await;
        self.tell_holder("recovery_codes_renewed", &account);
        Ok(Answer::json(StatusCode::OK, &json!({ "recoveryCodes": shown })))
    }

    /// For whoever lost phone and recovery codes, once an operator has made sure who he is. `false`: there was none.
    pub async fn remove_factor_by_operator(&self, user: &str, now_us: i64) -> Result<bool, Fault> {
        let Some(account) = self.store.find(By::Id(user.to_owned())).await? else { return Ok(false) };
        if !self.has_factor(user).await? {
            return Ok(false);
        }
        let actor = Some(super::operate::OPERATOR);
        Ok(self.changed_factor_by(&account, Change::FactorOff, "second_factor_off", actor, now_us).await?.is_some())
    }

    async fn changed_factor(
        &self,
        account: &Account,
        change: Change,
        what: &'static str,
        now_us: i64,
    ) -> Result<Option<Account>, Fault> {
        self.changed_factor_by(account, change, what, Some(&account.id), now_us).await
    }

    /// The account as it is then. `None`: nothing has changed.
    async fn changed_factor_by(
        &self,
        account: &Account,
        change: Change,
        what: &'static str,
        actor: Option<&str>,
        now_us: i64,
    ) -> Result<Option<Account>, Fault> {
        let (user, until_s) = (account.id.as_str(), self.until_s(now_us));
        let Some(revocation) = self.store.change(user.to_owned(), change, now_us, until_s).await? else {
            return Ok(None);
        };
        self.revoke(&revocation, now_us);
        self.end_sessions(user, now_us).await?;
        self.journal(what, Some(user), None, actor, now_us).await;
        self.tell_holder(what, account);
        Ok(self.store.find(By::Id(user.to_owned())).await?)
    }
}
