//! By mail: an address proven, a forgotten password replaced. Who asks for a mail is told the same whether anybody gets
//! one, and before anybody has looked.

use super::attempts::Who;
use super::body::Body;
use super::rows::{By, Change, Purpose};
use super::{Accounts, Fault, address, second, secrets};
use crate::exchange::{Answer, Asked};
use http::StatusCode;
use serde_json::json;

impl Accounts {
    pub(crate) async fn verify_address(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let taken = self.taken(body.text(&["token"])?, Purpose::VerifyAddress, now_us).await?;
        self.journal("address_verified", Some(&taken), None, Some(&taken), now_us).await;
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }

    /// For both kinds of mail.
    pub(crate) fn ask_for_mail(&self, asked: &Asked, purpose: Purpose) -> Result<Answer, Fault> {
        if !self.mails() {
            let text = "Nobody delivers mail here.";
            return Err(Fault::refused(StatusCode::NOT_FOUND, "mail_off", text));
        }
        let body = Body::read(asked)?;
        if let Some(address) = address::canonical(body.text(&["email", "address"])?) {
            self.wish(&address, purpose);
        }
        let text = "If there is such an account, a mail is on its way.";
        Ok(Answer::json(StatusCode::ACCEPTED, &json!({ "message": text })))
    }

    /// Whoever can read the mail has a new password, and everybody who was logged in is out.
    pub(crate) async fn reset_password(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let (token, password) = (body.text(&["token"])?, body.text(&["password", "newPassword"])?);
        self.judge_password(password, "")?;
        self.second_of_mail(token, &body, asked, now_us).await?;
        // Before the token is spent: a server that is busy costs nobody his mail.
        let hash = self.hash(password).await?;
        let user = self.taken(token, Purpose::ResetPassword, now_us).await?;
        if !self.set_password(&user, hash, "password_reset", now_us).await? {
            return Err(spent());
        }
        // From this browser he gets in, whoever else goes on guessing.
        let answer = Answer::empty(StatusCode::NO_CONTENT);
        match self.store.find(By::Id(user)).await? {
            Some(account) => self.with_device(answer, &account, asked, now_us),
            None => Ok(answer),
        }
    }

    /// Who has a second factor shows it here too: the mailbox alone is one factor (ASVS 2.5.6).
    async fn second_of_mail(&self, token: &str, body: &Body, asked: &Asked, now_us: i64) -> Result<(), Fault> {
        if token.len() > secrets::TOKEN_TEXT_MAX {
            return Err(spent());
        }
        let (hash, purpose) = (secrets::hash(token, None), Purpose::ResetPassword);
        let user = self.store.mailed_to(hash, purpose, now_us).await?.ok_or_else(spent)?;
        if !self.has_factor(&user).await? {
            return Ok(());
        }
        let account = self.store.find(By::Id(user)).await?.ok_or_else(spent)?;
        if !second::is_shown(body)? {
            let text = "A code of your authenticator app is needed, or a recovery code.";
            return Err(Fault::refused(StatusCode::FORBIDDEN, "second_factor_required", text));
        }
        self.second(&account, body, None, asked, now_us).await.map(drop)
    }

    /// `false`: there is no such account.
    pub(crate) async fn set_password(&self, user: &str, hash: String, what: &str, now_us: i64) -> Result<bool, Fault> {
        let (change, until_s) = (Change::Password(hash), self.until_s(now_us));
        let Some(revocation) = self.store.change(user.to_owned(), change, now_us, until_s).await? else {
            return Ok(false);
        };
        self.revoke(&revocation, now_us);
        self.end_sessions(user, now_us).await?;
        self.journal(what, Some(user), None, Some(user), now_us).await;
        if let Some(account) = self.store.find(By::Id(user.to_owned())).await?
            && let Some(address) = &account.address
        {
            self.kept.attempts.forget(&Who::Strangers(address.clone()), self.redis.as_ref()).await;
            self.tell("password_changed", address, account.name.as_deref());
        }
        Ok(true)
    }

    async fn taken(&self, token: &str, purpose: Purpose, now_us: i64) -> Result<String, Fault> {
        if token.len() > secrets::TOKEN_TEXT_MAX {
            return Err(spent());
        }
        let hash = secrets::hash(token, None);
        self.store.take_mailed(hash, purpose, now_us).await?.ok_or_else(spent)
    }
}

fn spent() -> Fault {
    let text = "This link was used already, or its time is over; ask for another.";
    Fault::refused(StatusCode::BAD_REQUEST, "link_invalid", text)
}
