//! What a user sees and ends of his sessions: `/api/v1/auth/sessions`, `/api/v1/auth/sessions/ID`, `/api/v1/auth/csrf`.

use super::{Fault, Sessions};
use crate::csrf;
use crate::exchange::{Answer, Asked};
use crate::sessions::session::Stored;
use ::http::header::{ALLOW, SET_COOKIE};
use ::http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

/// The store may be here again so soon.
const AGAIN_S: u32 = 1;

impl Sessions {
    /// `None`: nothing of ours is there.
    pub async fn answer(&self, asked: &Asked, now_s: u64) -> Option<Answer> {
        self.policy()?;
        let below = asked.below();
        let (first, rest) = below.split_once('/').unwrap_or((below, ""));
        let answer = match (first, rest) {
            ("csrf", "") => match asked.method {
                Method::GET => self.csrf_token(asked),
                _ => not_allowed("GET"),
            },
            ("sessions", "") => match asked.method {
                Method::GET => self.shown(asked, now_s).await,
                Method::DELETE => self.ended_others(asked, now_s).await,
                _ => not_allowed("GET, DELETE"),
            },
            ("sessions", handle) if !handle.contains('/') => match asked.method {
                Method::DELETE => self.ended_one(asked, handle, now_s).await,
                _ => not_allowed("DELETE"),
            },
            _ => return None,
        };
        Some(answer)
    }

    fn csrf_token(&self, asked: &Asked) -> Answer {
        let (Some(id), Some(policy)) = (&asked.session, self.policy()) else { return log_in() };
        match csrf::token(id, policy.secret.as_deref()) {
            Some(token) => Answer::json(StatusCode::OK, &json!({ "token": token, "header": "X-CSRF-Token" })),
            None => failed(&Fault::Random),
        }
    }

    async fn shown(&self, asked: &Asked, now_s: u64) -> Answer {
        let (Some(identity), Some(policy)) = (&asked.identity, self.policy()) else { return log_in() };
        let own = asked.session.as_ref().map(super::Id::hash);
        let line = |stored: &Stored| -> Value {
            let session = &stored.session;
            json!({
                "id": session.hash.handle(),
                "current": Some(session.hash) == own,
                "agent": session.agent,
                "client": session.client.to_string(),
                "createdAt": session.begun_s,
                "lastSeenAt": stored.seen_s,
                "expiresAt": now_s + policy.left_s(session.begun_s, stored.seen_s, now_s),
            })
        };
        match self.list(&identity.user, now_s).await {
            Ok(all) => {
                let all: Vec<Value> = all.iter().map(line).collect();
                Answer::json(StatusCode::OK, &json!({ "sessions": all }))
            }
            Err(fault) => failed(&fault),
        }
    }

    /// All but the one that asks.
    async fn ended_others(&self, asked: &Asked, now_s: u64) -> Answer {
        let Some(identity) = &asked.identity else { return log_in() };
        match self.end_all(&identity.user, asked.session.as_ref(), now_s).await {
            Ok(ended) => Answer::json(StatusCode::OK, &json!({ "ended": ended })),
            Err(fault) => failed(&fault),
        }
    }

    async fn ended_one(&self, asked: &Asked, handle: &str, now_s: u64) -> Answer {
        let Some(identity) = &asked.identity else { return log_in() };
        let is_own = asked.session.as_ref().is_some_and(|id| id.hash().handle() == handle);
        match self.end_of(&identity.user, handle, now_s).await {
            Ok(true) => {
                let answer = Answer::empty(StatusCode::NO_CONTENT);
                match self.forget_cookie().filter(|_| is_own) {
                    Some(cookie) => answer.with(SET_COOKIE, cookie),
                    None => answer,
                }
            }
            Ok(false) => Answer::problem(StatusCode::NOT_FOUND, "no_session", "There is no such session."),
            Err(fault) => failed(&fault),
        }
    }
}

fn log_in() -> Answer {
    Answer::problem(StatusCode::UNAUTHORIZED, "login_required", "This needs a login.")
}

fn not_allowed(methods: &'static str) -> Answer {
    let answer =
        Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_supported", "This method does nothing here.");
    answer.with(ALLOW, HeaderValue::from_static(methods))
}

fn failed(fault: &Fault) -> Answer {
    let why = match fault {
        Fault::Store(error) => error.to_string(),
        other => other.to_string(),
    };
    tracing::error!(why, "a question about sessions was not answered");
    let busy = "The server is busy; please try again shortly.";
    Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "service_busy", busy).retry_after(AGAIN_S)
}
