//! What somebody does with his own account: look at it, change its password, delete it.

use super::attempts::Who;
use super::body::Body;
use super::grant::told;
use super::methods::Methods;
use super::rows::{Account, By, Change};
use super::{Accounts, Fault, logout, micros, seconds};
use crate::exchange::{Answer, Asked};
use http::StatusCode;
use std::time::Duration;

/// Whoever has no password logged in no longer ago, where others would be asked for theirs again.
const FRESH: Duration = Duration::from_secs(10 * 60);

impl Accounts {
    pub(crate) async fn me(&self, asked: &Asked) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        Ok(Answer::json(StatusCode::OK, &told(&account)))
    }

    /// The old password is asked for again: a browser left open is not enough.
    pub(crate) async fn change_password(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let body = Body::read(asked)?;
        let current = body.text(&["currentPassword", "current_password", "oldPassword"])?;
        let new = body.text(&["newPassword", "new_password", "password"])?;
        self.judge_password(new, account.address.as_deref().unwrap_or_default())?;
        let account = self.proven_again(account, current, now_us).await?;
        let hash = self.hash(new).await?;
        if !self.set_password(&account.id, hash, "password_changed", now_us).await? {
            return Err(logout::log_in_first());
        }
        // Everybody is out, and he who changed it is in again.
        let account = self.store.find(By::Id(account.id)).await?.ok_or_else(logout::log_in_first)?;
        // As he was logged in, so he stays.
        let second = asked.identity.as_ref().is_some_and(|identity| identity.second_factor);
        let methods = Methods { second, ..Methods::password() };
        self.granted(&self.logged_in(account, methods, now_us), asked, now_us).await
    }

    pub(crate) async fn delete_own(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let account = self.sure(account, asked, &Body::read(asked)?, now_us).await?;
        self.delete(&account.id, Some(&account.id), now_us).await?;
        Ok(self.without_cookie(Answer::empty(StatusCode::NO_CONTENT), asked))
    }

    /// Nothing of the person is left but the opaque id in the journal. `false`: there is no such account.
    pub(crate) async fn delete(&self, user: &str, actor: Option<&str>, now_us: i64) -> Result<bool, Fault> {
        let until_s = self.until_s(now_us);
        let deleted = self.store.change(user.to_owned(), Change::Delete, now_us, until_s).await?;
        let Some(revocation) = deleted else { return Ok(false) };
        self.revoke(&revocation, now_us);
        self.end_sessions(user, now_us).await?;
        self.journal("deleted", Some(user), None, actor, now_us).await;
        Ok(true)
    }

    pub(crate) async fn own(&self, asked: &Asked) -> Result<Account, Fault> {
        let user = self.user(asked)?;
        self.store.find(By::Id(user)).await?.ok_or_else(logout::log_in_first)
    }

    /// The password again; of whom a provider lets in, who has none, a login of a moment ago.
    pub(crate) async fn sure(
        &self,
        account: Account,
        asked: &Asked,
        body: &Body,
        now_us: i64,
    ) -> Result<Account, Fault> {
        if account.password.is_some() {
            return self.proven_again(account, body.text(&["password", "currentPassword"])?, now_us).await;
        }
        let began_us = self.began_us(&account.id, asked, now_us).await?;
        match began_us.is_some_and(|began_us| now_us.saturating_sub(began_us) < micros(FRESH)) {
            true => Ok(account),
            false => {
                let text = "This needs a login of the last minutes; log in again.";
                Err(Fault::refused(StatusCode::FORBIDDEN, "login_again", text))
            }
        }
    }

    /// When the login that asks was proved.
    async fn began_us(&self, user: &str, asked: &Asked, now_us: i64) -> Result<Option<i64>, Fault> {
        if let Some(id) = &asked.session {
            let session = self.sessions.find(id, seconds(now_us)).await?;
            let session = session.filter(|session| session.identity.user == user);
            return Ok(session.and_then(|session| i64::try_from(session.begun_s).ok()?.checked_mul(1_000_000)));
        }
        let login = self.bearer(asked, now_us).and_then(|(_, stamp)| stamp.login);
        let going = self.store.logins(user.to_owned(), now_us).await?;
        Ok(going.iter().find(|going| Some(&going.id) == login.as_ref()).map(|going| going.created_us))
    }

    async fn proven_again(&self, account: Account, password: &str, now_us: i64) -> Result<Account, Fault> {
        // Strangers who guess do not keep him from changing what they guess at.
        let who = Who::Own(account.id.clone());
        let proven = self.proven(Some(account), &who, password, now_us).await?;
        let wrong = || Fault::refused(StatusCode::FORBIDDEN, "password_wrong", "The password is wrong.");
        proven.ok_or_else(wrong)
    }
}
