//! A refresh token exchanged for the next one and an access token. One that comes twice ends the login.

use super::body::Body;
use super::rows::{Exchange, Exchanged};
use super::{Accounts, Fault, micros, secrets};
use crate::exchange::{Answer, Asked};
use http::StatusCode;

impl Accounts {
    pub(crate) async fn renew(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let token = body.text(&["refreshToken", "refresh_token"])?;
        if token.len() > secrets::TOKEN_TEXT_MAX {
            return Ok(over());
        }
        let fresh = secrets::token()?;
        let exchange = Exchange {
            presented: self.refresh_hash(token),
            fresh: self.refresh_hash(&fresh),
            now_us,
            expires_us: now_us.saturating_add(micros(self.options.refresh)),
            longest_us: micros(self.options.longest),
            until_s: self.until_s(now_us),
        };
        match self.store.exchange(exchange).await? {
            Exchanged::Fresh(account, login, methods) => {
                self.note("refreshed", Some(&account.id), None);
                Ok(Answer::json(StatusCode::OK, &self.tokens_of(&account, methods, (&login, fresh), now_us)?))
            }
            Exchanged::Reused(user, revocation) => {
                self.revoke(&revocation, now_us);
                self.journal("refresh_reused", Some(&user), None, None, now_us).await;
                Ok(over())
            }
            Exchanged::Over => Ok(over()),
        }
    }
}

/// The same for a token that never was, has expired, or was copied.
fn over() -> Answer {
    Answer::problem(StatusCode::UNAUTHORIZED, "refresh_invalid", "This login is over; log in again.")
}
