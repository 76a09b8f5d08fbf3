//! What answers `/api/v1/auth`: one for the process, on the service runtime, behind every gate of the edge.

use crate::accounts::{self, Accounts, Fault, Kept, Mail, Parts, Purpose};
use crate::exchange::{Answer, Asked};
use crate::oauth::Flow;
use crate::options::Options;
use crate::revoked::{Revocation, Revoked};
use crate::sessions::Sessions;
use crate::signer::Signer;
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use mainstay_runtime::Clock;
use mainstay_store::Durable;
use mainstay_store::journal::{Event, Notes};
use mainstay_store::redis::Redis;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What it is made of, once the store is open; again at each reload.
pub struct Setup {
    pub options: Arc<Options>,
    pub durable: Durable,
    pub notes: Notes,
    pub sessions: Arc<Sessions>,
    pub signer: Arc<Signer>,
    pub revoked: Arc<Revoked>,
    /// Survives a change of the configuration.
    pub kept: Kept,
    /// Where instances share.
    pub redis: Option<Redis>,
    /// None where nobody delivers mail.
    pub mail: Option<mpsc::Sender<Mail>>,
    /// Logins by a provider.
    pub oauth: Option<Flow>,
    /// Whoever tells other nodes at once.
    pub told: Option<mpsc::Sender<Revocation>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceFault {}

pub struct Service {
    accounts: Option<Arc<Accounts>>,
    sessions: Arc<Sessions>,
    notes: Notes,
    oauth: Option<Flow>,
}

/// What can be asked of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Register,
    Login,
    Refresh,
    Logout,
    LogoutAll,
    VerifyAddress,
    ResendVerification,
    ForgotPassword,
    ResetPassword,
    ChangePassword,
    LoginCode,
    LoginPassword,
    Factor,
    FactorBegin,
    FactorConfirm,
    FactorRemove,
    RecoveryCodes,
    Me,
    DeleteMe,
}

/// Below the root, in small letters.
const CALLS: [(&str, Method, Call); 19] = [
    ("register", Method::POST, Call::Register),
    ("login", Method::POST, Call::Login),
    ("refresh", Method::POST, Call::Refresh),
    ("logout", Method::POST, Call::Logout),
    ("logout-all", Method::POST, Call::LogoutAll),
    ("verify-email", Method::POST, Call::VerifyAddress),
    ("resend-verification", Method::POST, Call::ResendVerification),
    ("forgot-password", Method::POST, Call::ForgotPassword),
    ("reset-password", Method::POST, Call::ResetPassword),
    ("change-password", Method::POST, Call::ChangePassword),
    ("login/code", Method::POST, Call::LoginCode),
    ("login/password", Method::POST, Call::LoginPassword),
    ("second-factor", Method::GET, Call::Factor),
    ("second-factor", Method::POST, Call::FactorBegin),
    ("second-factor", Method::DELETE, Call::FactorRemove),
    ("second-factor/confirm", Method::POST, Call::FactorConfirm),
    ("second-factor/recovery-codes", Method::POST, Call::RecoveryCodes),
    ("me", Method::GET, Call::Me),
    ("me", Method::DELETE, Call::DeleteMe),
];

impl Service {
    /// # Errors
    /// When what it needs is not there.
    pub fn new(setup: Setup) -> Result<Service, ServiceFault> {
        let Setup { options, durable, notes, sessions, signer, revoked, kept, redis, mail, oauth, told } = setup;
        let (own, told_of) = (sessions.clone(), notes.clone());
        let parts = |options: accounts::Options| Parts {
            options,
            durable,
            notes,
            sessions: own,
            signer,
            revoked,
            told,
            kept,
            redis,
            mail,
        };
        let accounts = options.accounts.clone().map(parts).map(|parts| Arc::new(Accounts::new(parts)));
        Ok(Service { accounts, sessions, notes: told_of, oauth })
    }

    /// For operators, and for those who prove who somebody is.
    pub fn accounts(&self) -> Option<&Arc<Accounts>> {
        self.accounts.as_ref()
    }

    /// What it does while nobody asks. Endless.
    pub async fn upkeep(&self) {
        match &self.accounts {
            Some(accounts) => accounts.upkeep().await,
            None => std::future::pending().await,
        }
    }

    pub async fn answer(&self, asked: Asked) -> Answer {
        let answer = self.answered(&asked).await;
        match answer.status.is_client_error() || answer.status.is_server_error() {
            true => answer.of_request(&asked.request_id),
            false => answer,
        }
    }

    async fn answered(&self, asked: &Asked) -> Answer {
        if let Some(answer) = self.sessions.answer(asked, Clock::unix_micros() / 1_000_000).await {
            if asked.method == Method::DELETE && answer.status.is_success() {
                let user = asked.identity.as_ref().map(|identity| identity.user.clone());
                let event = Event::Identity { what: "session_revoked".to_owned(), user: user.clone(), detail: None };
                self.notes.note(event, user);
            }
            return answer;
        }
        if let Some(accounts) = &self.accounts {
            if let Some(answer) = accounts.answer_logins(asked, now_us()).await {
                return answer;
            }
            if let Some(flow) = &self.oauth
                && let Some(answer) = flow.answer_own(accounts, asked, now_us()).await
            {
                return answer;
            }
        }
        match (&self.accounts, &self.oauth) {
            (Some(accounts), Some(flow)) if Flow::is_ours(&asked.path) => flow.answer(accounts, asked, now_us()).await,
            (Some(accounts), _) => answered(accounts, asked).await,
            (None, _) => not_here(),
        }
    }
}

async fn answered(accounts: &Accounts, asked: &Asked) -> Answer {
    let below = asked.below();
    let found: Vec<&(&str, Method, Call)> = CALLS.iter().filter(|(path, _, _)| *path == below).collect();
    let Some((_, _, call)) = found.iter().find(|(_, method, _)| *method == asked.method) else {
        return match found.is_empty() {
            true => not_here(),
            false => other_method(&found),
        };
    };
    let now_us = now_us();
    let outcome: Result<Answer, Fault> = match call {
        Call::Register => accounts.register(asked, now_us).await,
        Call::Login => accounts.login(asked, now_us).await,
        Call::Refresh => accounts.renew(asked, now_us).await,
        Call::Logout => accounts.logout(asked, now_us).await,
        Call::LogoutAll => accounts.logout_all(asked, now_us).await,
        Call::VerifyAddress => accounts.verify_address(asked, now_us).await,
        Call::ResendVerification => accounts.ask_for_mail(asked, Purpose::VerifyAddress),
        Call::ForgotPassword => accounts.ask_for_mail(asked, Purpose::ResetPassword),
        Call::ResetPassword => accounts.reset_password(asked, now_us).await,
        Call::ChangePassword => accounts.change_password(asked, now_us).await,
        Call::LoginCode => accounts.login_code(asked, now_us).await,
        Call::LoginPassword => accounts.login_password(asked, now_us).await,
        Call::Factor => accounts.factor(asked).await,
        Call::FactorBegin => accounts.factor_begin(asked, now_us).await,
        Call::FactorConfirm => accounts.factor_confirm(asked, now_us).await,
        Call::FactorRemove => accounts.factor_remove(asked, now_us).await,
        Call::RecoveryCodes => accounts.recovery_codes(asked, now_us).await,
        Call::Me => accounts.me(asked).await,
        Call::DeleteMe => accounts.delete_own(asked, now_us).await,
    };
    outcome.unwrap_or_else(accounts::Fault::answer)
}

fn now_us() -> i64 {
    i64::try_from(Clock::unix_micros()).unwrap_or(i64::MAX)
}

fn not_here() -> Answer {
    Answer::problem(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
}

fn other_method(found: &[&(&str, Method, Call)]) -> Answer {
    let methods: Vec<&str> = found.iter().map(|(_, method, _)| method.as_str()).collect();
    let answer = Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not by this method.");
    match HeaderValue::from_str(&methods.join(", ")) {
        Ok(methods) => answer.with(ALLOW, methods),
        Err(_) => answer,
    }
}
