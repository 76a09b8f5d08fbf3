//! Every login ends here, whatever proved who it is: tokens in JSON and, with sessions on, a fresh cookie.

use super::methods::Methods;
use super::rows::{Account, Family, Ticket, Wait};
use super::tokens::identity;
use super::{Accounts, Fault, device, micros, seconds, secrets, ticket};
use crate::exchange::{Answer, Asked};
use crate::identity::Identity;
use http::StatusCode;
use http::header::{SET_COOKIE, USER_AGENT};
use mainstay_runtime::Clock;
use serde_json::{Value, json};

/// Of what a client calls itself.
const AGENT_CHARS_MAX: usize = 200;

/// A password or a provider proved who it is.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    pub user: String,
    pub identity: Identity,
    pub(crate) account: Account,
    pub(crate) methods: Methods,
    /// The password that proved it stands in the list of breached ones.
    pub(crate) breached: bool,
}

impl LoggedIn {
    pub(crate) fn new(account: Account, methods: Methods, expires_s: u64) -> LoggedIn {
        let identity = identity(&account, methods, expires_s);
        LoggedIn { user: account.id.clone(), identity, account, methods, breached: false }
    }
}

impl Accounts {
    /// The answer to whoever was let in.
    pub async fn grant(&self, who: &LoggedIn, asked: &Asked) -> Answer {
        match self.granted(who, asked, now_us()).await {
            Ok(answer) => answer,
            Err(fault) => fault.answer(),
        }
    }

    /// Tokens and a cookie, or what is still asked for: nobody gets in past this.
    pub(crate) async fn granted(&self, who: &LoggedIn, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        if !who.methods.second && self.has_factor(&who.user).await? {
            return self.wait(who, Wait::Code, asked, now_us).await;
        }
        if who.breached && self.options.refuses_breached {
            return self.wait(who, Wait::Password, asked, now_us).await;
        }
        let (login, refresh) = (secrets::id("f_")?, secrets::token()?);
        let family = Family {
            id: login.clone(),
            account: who.user.clone(),
            generation: who.account.generation,
            token: self.refresh_hash(&refresh),
            methods: who.methods,
            agent: agent_of(asked),
            client: asked.client.to_string(),
            now_us,
            expires_us: now_us.saturating_add(micros(self.options.refresh)),
        };
        if !self.store.begin(family).await? {
            // Deleted, or its password changed, between the proof and this.
            return Ok(super::login::refusal());
        }
        self.journal("logged_in", Some(&who.user), None, Some(&who.user), now_us).await;
        let mut body = self.tokens_of(&who.account, who.methods, (&login, refresh), now_us)?;
        body["user"] = told(&who.account);
        if who.breached {
            body["passwordBreached"] = true.into();
        }
        let mut answer = Answer::json(StatusCode::OK, &body);
        if self.sessions.policy().is_some() {
            answer = self.with_session(answer, who, asked, now_us).await?;
        }
        self.with_device(answer, &who.account, asked, now_us)
    }

    /// Not in yet: a ticket that is good for what is asked for, and for nothing else.
    async fn wait(&self, who: &LoggedIn, wait: Wait, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let token = secrets::token()?;
        let ticket = Ticket {
            token: secrets::hash(&token, None),
            account: who.user.clone(),
            generation: who.account.generation,
            wait,
            methods: who.methods,
            breached: who.breached,
            now_us,
            expires_us: now_us.saturating_add(micros(ticket::LIFE)),
        };
        self.store.put_ticket(ticket).await?;
        let answer = ticket::asked_for(wait, &token);
        // A browser that comes back from a provider reads no answer: it brings the ticket by itself.
        match who.methods.password {
            true => Ok(answer),
            false => Ok(answer.with(SET_COOKIE, ticket::cookie(&token, asked.https)?)),
        }
    }

    async fn with_session(&self, answer: Answer, who: &LoggedIn, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let agent = asked.header(USER_AGENT).unwrap_or_default();
        let old = asked.session.as_ref();
        let begun = self.sessions.begin(&who.identity, old, agent, asked.client, seconds(now_us)).await?;
        Ok(answer.with(SET_COOKIE, begun.cookie))
    }

    /// Next time this browser is not counted with strangers.
    pub(crate) fn with_device(
        &self,
        answer: Answer,
        account: &Account,
        asked: &Asked,
        now_us: i64,
    ) -> Result<Answer, Fault> {
        let brought = device::brought(&asked.headers);
        let cookie = device::cookie(&brought, account, asked.https, seconds(now_us))?;
        Ok(match cookie {
            Some(cookie) => answer.with(SET_COOKIE, cookie),
            None => answer,
        })
    }

    /// The members every client library looks for.
    pub(crate) fn tokens_of(
        &self,
        account: &Account,
        methods: Methods,
        (login, refresh): (&str, String),
        now_us: i64,
    ) -> Result<Value, Fault> {
        let access = self.tokens.access(account, methods, login, seconds(now_us))?;
        Ok(json!({
            "accessToken": access,
            "refreshToken": refresh,
            "tokenType": "Bearer",
            "expiresIn": self.tokens.life_s(),
        }))
    }

    pub(crate) fn refresh_hash(&self, token: &str) -> secrets::Hash {
        secrets::hash(token, self.options.refresh_secret.as_deref())
    }

    pub(crate) fn logged_in(&self, account: Account, methods: Methods, now_us: i64) -> LoggedIn {
        LoggedIn::new(account, methods, seconds(now_us) + self.tokens.life_s())
    }
}

/// As sessions keep it: enough to recognise one's own.
fn agent_of(asked: &Asked) -> String {
    let agent = asked.header(USER_AGENT).unwrap_or_default();
    agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect()
}

pub(crate) fn now_us() -> i64 {
    i64::try_from(Clock::unix_micros()).unwrap_or(i64::MAX)
}

/// What a user is told of his own account.
pub(crate) fn told(account: &Account) -> Value {
    json!({
        "id": account.id,
        "email": account.address,
        "name": account.name,
        "roles": account.roles,
        "tenant": account.tenant,
        "emailVerified": account.verified_us.is_some(),
    })
}
