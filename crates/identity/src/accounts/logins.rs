//! A user's logins by tokens, seen and ended one by one (ASVS 3.3.4).

use super::body::Body;
use super::rows::{Ending, Going};
use super::{Accounts, Fault};
use crate::exchange::{Answer, Asked};
use aws_lc_rs::digest::{SHA256, digest};
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

/// Below the root.
const PATH: &str = "logins";
const HANDLE_BYTES: usize = 16;

/// What a user knows a login by: in small letters, as paths come here.
fn handle(id: &str) -> String {
    digest(&SHA256, id.as_bytes()).as_ref().iter().take(HANDLE_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

impl Accounts {
    /// `None`: nothing of this is there.
    pub(crate) async fn answer_logins(&self, asked: &Asked, now_us: i64) -> Option<Answer> {
        let (first, id) = asked.below().split_once('/').unwrap_or((asked.below(), ""));
        if first != PATH || id.contains('/') {
            return None;
        }
        let outcome = match (&asked.method, id) {
            (&Method::GET, "") => self.logins(asked, now_us).await,
            (&Method::DELETE, id) if !id.is_empty() => self.end_login(id, asked, now_us).await,
            (_, id) => {
                let methods = HeaderValue::from_static(if id.is_empty() { "GET" } else { "DELETE" });
                let text = "Not by this method.";
                Ok(Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).with(ALLOW, methods))
            }
        };
        Some(outcome.unwrap_or_else(Fault::answer))
    }

    async fn logins(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let user = self.own(asked).await?.id;
        let current = self.bearer(asked, now_us).and_then(|(_, stamp)| stamp.login);
        let line = |going: &Going| -> Value {
            json!({
                "id": handle(&going.id),
                "current": Some(&going.id) == current.as_ref(),
                "agent": going.agent,
                "client": going.client,
                "secondFactor": going.methods.second,
                "createdAt": going.created_us / 1_000_000,
                "lastSeenAt": going.seen_us / 1_000_000,
                "expiresAt": going.expires_us / 1_000_000,
            })
        };
        let all: Vec<Value> = self.store.logins(user, now_us).await?.iter().map(line).collect();
        Ok(Answer::json(StatusCode::OK, &json!({ "logins": all })))
    }

    /// With the password again, as the standard has it: its access tokens are refused at once.
    async fn end_login(&self, id: &str, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let account = self.sure(account, asked, &Body::read(asked)?, now_us).await?;
        let none = || Fault::refused(StatusCode::NOT_FOUND, "no_login", "There is no such login.");
        let all = self.store.logins(account.id.clone(), now_us).await?;
        let going = all.into_iter().find(|going| handle(&going.id) == id).ok_or_else(none)?;
        let ending = Ending::Family(going.id, account.id.clone());
        let ended = self.store.end(ending, now_us, self.until_s(now_us)).await?;
        let (user, revocation) = ended.ok_or_else(none)?;
        self.revoke(&revocation, now_us);
        self.journal("logged_out", Some(&user), Some("one of his logins".to_owned()), Some(&user), now_us).await;
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }
}
