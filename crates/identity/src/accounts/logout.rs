//! Out, here or everywhere. It is done when it is answered: no instance takes the tokens any more, and no crash brings
//! them back.

use super::body::Body;
use super::rows::{Change, Ending};
use super::{Accounts, Fault, seconds, secrets};
use crate::exchange::{Answer, Asked};
use crate::identity::Identity;
use crate::revoked::Stamp;
use http::StatusCode;
use http::header::{AUTHORIZATION, SET_COOKIE};

impl Accounts {
    /// Whatever was brought ends: the login of the access token, that of the refresh token.
    pub(crate) async fn logout(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let mut endings = Vec::new();
        if let Some((identity, stamp)) = self.bearer(asked, now_us)
            && let Some(login) = stamp.login
        {
            endings.push(Ending::Family(login, identity.user));
        }
        if let Some(token) = body.opt(&["refreshToken", "refresh_token"])?
            && token.len() <= secrets::TOKEN_TEXT_MAX
        {
            endings.push(Ending::Token(self.refresh_hash(token)));
        }
        if endings.is_empty() && asked.session.is_none() {
            return Err(log_in_first());
        }
        for ending in endings {
            if let Some((user, revocation)) = self.store.end(ending, now_us, self.until_s(now_us)).await? {
                self.revoke(&revocation, now_us);
                self.journal("logged_out", Some(&user), None, Some(&user), now_us).await;
            }
        }
        if let Some(id) = &asked.session {
            self.sessions.end(id, seconds(now_us)).await?;
            let user = asked.identity.as_ref().map(|identity| identity.user.as_str());
            self.journal("session_ended", user, None, user, now_us).await;
        }
        Ok(self.without_cookie(Answer::empty(StatusCode::NO_CONTENT), asked))
    }

    /// Takes the cookie of a session that ended out of the browser that brought it.
    pub(crate) fn without_cookie(&self, answer: Answer, asked: &Asked) -> Answer {
        match self.sessions.forget_cookie().filter(|_| asked.session.is_some()) {
            Some(cookie) => answer.with(SET_COOKIE, cookie),
            None => answer,
        }
    }

    pub(crate) async fn logout_all(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let user = self.user(asked)?;
        self.end_all(&user, Some(&user), now_us).await?;
        Ok(self.without_cookie(Answer::empty(StatusCode::NO_CONTENT), asked))
    }

    /// `false`: there is no such account.
    pub(crate) async fn end_all(&self, user: &str, actor: Option<&str>, now_us: i64) -> Result<bool, Fault> {
        let until_s = self.until_s(now_us);
        let ended = self.store.change(user.to_owned(), Change::EndAll, now_us, until_s).await?;
        let Some(revocation) = ended else { return Ok(false) };
        self.revoke(&revocation, now_us);
        self.end_sessions(user, now_us).await?;
        self.journal("logged_out_everywhere", Some(user), None, actor, now_us).await;
        Ok(true)
    }

    /// Whom the gate recognised.
    pub(crate) fn user(&self, asked: &Asked) -> Result<String, Fault> {
        asked.identity.as_ref().map(|identity| identity.user.clone()).ok_or_else(log_in_first)
    }

    /// The token that was brought, if it is one of ours.
    pub(crate) fn bearer(&self, asked: &Asked, now_us: i64) -> Option<(Identity, Stamp)> {
        let (scheme, token) = asked.header(AUTHORIZATION)?.trim().split_once(' ')?;
        let token = scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())?;
        self.tokens.read(token, seconds(now_us))
    }
}

pub(crate) fn log_in_first() -> Fault {
    Fault::refused(StatusCode::UNAUTHORIZED, "login_required", "This needs a login.")
}
