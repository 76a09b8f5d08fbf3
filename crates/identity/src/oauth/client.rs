//! One provider asked: its document and its keys, kept for a while, and who came back with a code.
//!
//! Opens no socket: a `Call` does, bounded in time and bytes, following no redirect, and checking certificates.

use super::code::{self, Tokens, get};
use super::fault::{Fault, Untrusted};
use super::id_token;
use super::metadata::Metadata;
use super::options::Provider;
use super::pending::Pending;
use super::person::Person;
use crate::keys::Keys;
use crate::refresh::Refresh;
use crate::token::{TokenFault, key_id};
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Map, Value};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// Logins that wait for one provider at a time; one that hangs keeps no more than these, and no other provider's.
const WAITING_MAX: usize = 16;

/// Brings a request to a provider and its answer back; an error says what went wrong, without any part of the request.
pub type Call = Arc<dyn Fn(Request<Bytes>) -> Calling + Send + Sync>;
pub type Calling = Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send>>;

#[derive(Debug)]
pub(crate) struct Client {
    pub provider: Provider,
    known: Mutex<Known>,
    waiting: Semaphore,
}

/// What the provider published.
#[derive(Debug, Default)]
struct Known {
    metadata: Option<Arc<Metadata>>,
    document: Refresh,
    keys: Keys,
    fetched: Refresh,
    seen_ms: u64,
}

impl Known {
    /// A clock that was set back must not keep what is old.
    fn at(&mut self, now_ms: u64) {
        if now_ms < self.seen_ms {
            (self.document, self.fetched) = (Refresh::default(), Refresh::default());
        }
        self.seen_ms = now_ms;
    }
}

impl Client {
    pub fn new(provider: Provider) -> Client {
        Client { provider, known: Mutex::default(), waiting: Semaphore::new(WAITING_MAX) }
    }

    /// # Errors
    /// Too many wait already.
    pub fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        self.waiting.try_acquire().map_err(|_| Fault::Busy)
    }

    /// Where its endpoints are. While it is away what was known stays.
    pub async fn metadata(&self, call: &Call, now_ms: u64) -> Result<Arc<Metadata>, Fault> {
        let manners = self.provider.kind.manners();
        if !manners.has_id_token {
            return Ok(Arc::new(Metadata::of_github(&self.provider.issuer)));
        }
        // Whoever comes meanwhile waits for the one answer instead of asking as well.
        let mut known = self.known.lock().await;
        known.at(now_ms);
        if known.document.is_due(now_ms, known.metadata.is_none()) {
            let read = self.fetch_metadata(call).await;
            known.document.tried(now_ms, read.is_ok());
            match read {
                Ok(read) => known.metadata = Some(Arc::new(read)),
                Err(fault) if known.metadata.is_none() => return Err(fault),
                Err(_) => {}
            }
        }
        known.metadata.clone().ok_or_else(|| Fault::Away("its document could not be fetched a moment ago".to_owned()))
    }

    async fn fetch_metadata(&self, call: &Call) -> Result<Metadata, Fault> {
        let what = "the discovery document";
        let base = self.provider.issuer.trim_end_matches('/');
        let document = ask(call, get(&format!("{base}/.well-known/openid-configuration"), None)?, what).await?;
        let document = document.as_object().ok_or(Untrusted::Answer(what))?;
        Ok(Metadata::read(document, &self.provider)?)
    }

    /// Its keys; `wished`: a token names one that is not among them.
    async fn keys(&self, call: &Call, metadata: &Metadata, wished: bool, now_ms: u64) -> Result<Keys, Fault> {
        let mut known = self.known.lock().await;
        known.at(now_ms);
        let missing = known.keys.is_empty();
        if known.fetched.is_due(now_ms, wished || missing) {
            let fetched = fetch_keys(call, metadata).await;
            known.fetched.tried(now_ms, fetched.is_ok());
            match fetched {
                Ok(keys) => known.keys = keys,
                Err(fault) if missing => return Err(fault),
                Err(_) => {}
            }
        }
        if known.keys.is_empty() {
            return Err(Fault::Away("its keys could not be fetched a moment ago".to_owned()));
        }
        Ok(known.keys.clone())
    }

    /// Exchanges the code and finds out who it is.
    pub async fn person(
        &self,
        call: &Call,
        metadata: &Metadata,
        code: &str,
        pending: &Pending,
        now_ms: u64,
    ) -> Result<Person, Fault> {
        let verifier = self.provider.pkce.then(|| pending.verifier());
        let request = code::request(&self.provider, metadata, code, verifier.as_deref())?;
        let tokens = code::tokens(&call(request).await.map_err(Fault::Away)?)?;
        if !self.provider.kind.manners().has_id_token {
            return self.asked_github(call, metadata, &tokens).await;
        }
        let token = tokens.id.as_deref().ok_or(Untrusted::NoToken)?;
        let claims = self.claims(call, metadata, token, &pending.nonce(), now_ms).await?;
        let person = Person::of_claims(&claims)?;
        let (Some(address), Some(access)) = (&metadata.user, &tokens.access) else { return Ok(person) };
        if person.email.is_some() {
            return Ok(person);
        }
        let what = "the user endpoint";
        let user = ask(call, get(address, Some(access))?, what).await?;
        let user = Person::of_claims(user.as_object().ok_or(Untrusted::Answer(what))?)?;
        Ok(person.completed(user)?)
    }

    async fn claims(
        &self,
        call: &Call,
        metadata: &Metadata,
        token: &str,
        nonce: &str,
        now_ms: u64,
    ) -> Result<Map<String, Value>, Fault> {
        let judged = |keys: &Keys| id_token::claims(token, keys, &self.provider, nonce, now_ms / 1000);
        let keys = self.keys(call, metadata, false, now_ms).await?;
        let is_new = |keys: &Keys| key_id(token).is_some_and(|id| !keys.knows(&id));
        match judged(&keys) {
            Err(Untrusted::Token(TokenFault::UnknownKey)) if is_new(&keys) => {
                Ok(judged(&self.keys(call, metadata, true, now_ms).await?)?)
            }
            judged => Ok(judged?),
        }
    }

    async fn asked_github(&self, call: &Call, metadata: &Metadata, tokens: &Tokens) -> Result<Person, Fault> {
        let access = tokens.access.as_deref().ok_or(Untrusted::NoToken)?;
        let (Some(user), Some(emails)) = (&metadata.user, &metadata.emails) else {
            return Err(Untrusted::Document("user").into());
        };
        let user = ask(call, get(user, Some(access))?, "/user").await?;
        // Without the scope for them there are none to know, and that is no reason to turn anybody away.
        let emails = match ask(call, get(emails, Some(access))?, "/user/emails").await {
            Ok(emails) => Some(emails),
            Err(Fault::Refused(_)) => None,
            Err(fault) => return Err(fault),
        };
        Ok(Person::of_github(&user, emails.as_ref())?)
    }
}

async fn fetch_keys(call: &Call, metadata: &Metadata) -> Result<Keys, Fault> {
    let what = "the key set";
    let address = metadata.jwks.as_deref().ok_or(Untrusted::Document("jwks_uri"))?;
    let answer = call(get(address, None)?).await.map_err(Fault::Away)?;
    if !answer.status().is_success() {
        return Err(Fault::Away(format!("{what} answers {}", answer.status().as_u16())));
    }
    Ok(Keys::jwks(code::bounded(&answer, what)?).map_err(|_| Untrusted::Answer(what))?)
}

async fn ask(call: &Call, request: Request<Bytes>, what: &'static str) -> Result<Value, Fault> {
    code::json(&call(request).await.map_err(Fault::Away)?, what)
}
