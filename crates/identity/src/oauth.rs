//! Logging in by a provider: Google, GitHub, LinkedIn, any that speaks OpenID Connect. The authorization code flow
//! (RFC 6749 §4.1 with RFC 7636, RFC 9207 and RFC 9700): `/api/v1/auth/oauth/NAME` sends the browser to the provider,
//! `…/callback` takes the code it brings back, and what the provider then proves goes to the accounts.
//!
//! Must never believe what a browser says about who it is, link on an address that nobody verified, remember a login
//! that was begun, or write down a code, a token or a secret.

mod address;
mod client;
mod code;
mod fault;
mod form;
mod id_token;
mod kind;
mod linking;
mod login;
mod metadata;
mod options;
mod page;
mod pending;
mod person;
mod used;

pub use client::{Call, Calling};
pub use kind::Kind;
pub use options::{Options, Provider, path};
pub use pending::{Linking, Seal};

use crate::exchange::{Answer, Asked};
use client::Client;
use fault::{Fault, State};
use form::Fields;
use http::header::{COOKIE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use metadata::Metadata;
use pending::{LIFE_S, Pending};
use person::Person;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};
use used::Used;

/// Logins that wait for providers, all together: half of what the service answers at a time stays for the others.
const WAITING_MAX: usize = 32;
/// Codes are shorter; what is longer is not sent on.
const CODE_BYTES_MAX: usize = 2048;

/// One for the process. Holds what providers publish, and nothing of any login.
#[derive(Clone)]
pub struct Flow {
    clients: Arc<[Arc<Client>]>,
    /// Outlives a change of the file, as do the logins under way.
    lasting: Arc<Lasting>,
}

struct Lasting {
    seal: Seal,
    call: Call,
    used: Used,
    waiting: Semaphore,
}

/// Somebody came back, and this is what the provider says of him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// Whose word it is: a subject of another realm is somebody else.
    pub realm: String,
    pub subject: String,
    pub email: Option<String>,
    pub email_verified: bool,
    pub name: Option<String>,
}

/// Who came back, and where he wants to go; what logs him in says the rest.
#[derive(Debug)]
pub struct Back {
    pub proved: Proved,
    return_to: Option<String>,
    /// He was in already, and wants this provider to let him in too.
    link: Option<Linking>,
    title: String,
    name: String,
    /// This login is over.
    cookie: Option<HeaderValue>,
}

/// What a provider's word was not enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// An account has this address, and nobody has shown that it is his.
    AddressTaken,
    /// He is new here, and nobody may make an account.
    Closed,
    /// This person of the provider's lets somebody else in.
    Elsewhere,
    /// Whoever began to link is not who came back, or is out meanwhile.
    NotYou,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clients.iter().map(|client| &client.provider.name)).finish()
    }
}

impl Flow {
    pub fn new(options: &Options, seal: Seal, call: Call) -> Flow {
        let lasting = Lasting { seal, call, used: Used::default(), waiting: Semaphore::new(WAITING_MAX) };
        Flow { clients: clients(options, &[]), lasting: Arc::new(lasting) }
    }

    /// For another file; a login begun before it ends after it.
    pub fn with(&self, options: &Options) -> Flow {
        Flow { clients: clients(options, &self.clients), lasting: self.lasting.clone() }
    }

    pub fn is_ours(path: &str) -> bool {
        path.starts_with(options::PREFIX)
    }

    /// Whoever came back from his provider; else the answer, which is all there is to say.
    ///
    /// # Errors
    /// The way to the provider, or why there is none.
    pub async fn proved(&self, asked: &Asked, now_ms: u64) -> Result<Back, Answer> {
        let rest = asked.path.strip_prefix(options::PREFIX).unwrap_or_default();
        let (name, is_callback) = match rest.strip_suffix("/callback") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let client = self.clients.iter().find(|client| client.provider.name == name);
        let client = client.ok_or_else(|| page::refusal(&Fault::NoProvider, None, asked))?;
        let over = || if is_callback { self.cookie_after(client, asked, now_ms / 1000) } else { None };
        let fault = match (&asked.method, is_callback) {
            (&Method::GET, false) => match self.begin(client, asked, now_ms).await {
                Ok(answer) => return Err(answer),
                Err(fault) => fault,
            },
            (&Method::GET, true) => match self.end(client, asked, now_ms).await {
                Ok((person, pending)) => return Ok(back(&client.provider, person, pending, over())),
                Err(fault) => fault,
            },
            _ => Fault::Method,
        };
        if fault.is_operators() {
            let provider = &client.provider;
            tracing::warn!(provider = %provider.name, at = %provider.at, request = %asked.request_id, %fault,
                "a login by a provider did not work");
        }
        let answer = page::refusal(&fault, Some((name, client.provider.title())), asked);
        Err(over().into_iter().fold(answer, |answer, cookie| answer.with(SET_COOKIE, cookie)))
    }

    async fn begin(&self, client: &Client, asked: &Asked, now_ms: u64) -> Result<Answer, Fault> {
        let fields = Fields::of(asked.query.as_deref()).ok_or(Fault::ReturnTo)?;
        let return_to = fields.one("return_to").map_err(|_| Fault::ReturnTo)?;
        if return_to.is_some_and(|page| !address::is_own_page(page)) {
            return Err(Fault::ReturnTo);
        }
        let (location, cookie) = self.begun(client, asked, return_to, None, now_ms).await?;
        let answer = Answer::redirect(&location);
        Ok(answer.with(SET_COOKIE, cookie).with(REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
    }

    /// Where the browser is to go, and what it is to keep meanwhile.
    async fn begun(
        &self,
        client: &Client,
        asked: &Asked,
        return_to: Option<&str>,
        link: Option<Linking>,
        now_ms: u64,
    ) -> Result<(String, HeaderValue), Fault> {
        let _turn = self.turn(client)?;
        let metadata = client.metadata(&self.lasting.call, now_ms).await?;
        let pending = Pending::begin(&client.provider.name, return_to, now_ms / 1000).map_err(|_| Fault::Random)?;
        let pending = pending.linking(link);
        let before = self.pending(&client.provider, &asked.headers);
        let value = self.lasting.seal.with(&before, &pending, now_ms / 1000).map_err(|_| Fault::Random)?;
        let cookie = cookie(&client.provider, &value, LIFE_S).ok_or(Fault::Random)?;
        Ok((authorization(&client.provider, &metadata, &pending), cookie))
    }

    async fn end(&self, client: &Client, asked: &Asked, now_ms: u64) -> Result<(Person, Pending), Fault> {
        let (provider, now_s) = (&client.provider, now_ms / 1000);
        let fields = Fields::of(asked.query.as_deref()).ok_or(Fault::State(State::Malformed))?;
        let field = |name: &str| fields.one(name).map_err(|_| Fault::State(State::Malformed));
        let (state, code, error, issuer) = (field("state")?, field("code")?, field("error")?, field("iss")?);
        let pending = self
            .pending(provider, &asked.headers)
            .into_iter()
            .find(|pending| state.is_some_and(|state| pending.has_state(state)) && pending.is_fresh(now_s));
        let pending = pending.ok_or(Fault::State(State::Foreign))?;
        let _turn = self.turn(client)?;
        if !self.lasting.used.takes(&pending.state(), now_s) {
            return Err(Fault::State(State::Used));
        }
        if pending.provider != provider.name {
            return Err(Fault::State(State::OtherProvider));
        }
        let metadata = client.metadata(&self.lasting.call, now_ms).await?;
        // A code of another provider must not reach this one (RFC 9207).
        let says_itself = match (issuer, &metadata.issuer) {
            (Some(named), Some(own)) => named == own,
            (None, _) => !metadata.names_itself,
            (Some(_), None) => true,
        };
        if !says_itself {
            return Err(Fault::State(State::OtherProvider));
        }
        match error {
            Some("access_denied" | "user_cancelled_login" | "user_cancelled_authorize") => return Err(Fault::Denied),
            Some(error) => return Err(Fault::Refused(code::shown(error))),
            None => {}
        }
        let code = code.filter(|code| (1..=CODE_BYTES_MAX).contains(&code.len()));
        let code = code.ok_or(Fault::State(State::Malformed))?;
        let person = client.person(&self.lasting.call, &metadata, code, &pending, now_ms).await?;
        Ok((person, pending))
    }

    /// # Errors
    /// Too many wait already, for this provider or for all.
    fn turn<'a>(&'a self, client: &'a Client) -> Result<[SemaphorePermit<'a>; 2], Fault> {
        let of_all = self.lasting.waiting.try_acquire().map_err(|_| Fault::Busy)?;
        Ok([client.turn()?, of_all])
    }

    /// What the browser brings of logins under way.
    fn pending(&self, provider: &Provider, headers: &HeaderMap) -> Vec<Pending> {
        let name = cookie_name(provider);
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(own, _)| *own == name);
        found.map(|(_, value)| self.lasting.seal.all(value)).unwrap_or_default()
    }

    /// Whatever became of it, this login is over; the others of this browser go on.
    fn cookie_after(&self, client: &Client, asked: &Asked, now_s: u64) -> Option<HeaderValue> {
        let before = self.pending(&client.provider, &asked.headers);
        let state = Fields::of(asked.query.as_deref())?.one("state").ok()??.to_owned();
        let ended = before.iter().find(|pending| pending.has_state(&state))?;
        match self.lasting.seal.without(&before, ended, now_s).ok()? {
            Some(value) => cookie(&client.provider, &value, LIFE_S),
            None => cookie(&client.provider, "", 0),
        }
    }
}

/// What one published that is named as before is known already.
fn clients(options: &Options, before: &[Arc<Client>]) -> Arc<[Arc<Client>]> {
    let client = |provider: &Provider| {
        let same = before.iter().find(|client| client.provider == *provider);
        same.cloned().unwrap_or_else(|| Arc::new(Client::new(provider.clone())))
    };
    options.providers.iter().map(client).collect()
}

fn back(provider: &Provider, person: Person, pending: Pending, cookie: Option<HeaderValue>) -> Back {
    let Pending { return_to, link, .. } = pending;
    let Person { subject, email, email_verified, name } = person;
    let proved = Proved { realm: provider.realm().to_owned(), subject, email, email_verified, name };
    Back { proved, return_to, link, title: provider.title().to_owned(), name: provider.name.clone(), cookie }
}

/// Where the browser goes to.
fn authorization(provider: &Provider, metadata: &Metadata, pending: &Pending) -> String {
    let (state, nonce, challenge) = (pending.state(), pending.nonce(), pending.challenge());
    let scopes = provider.scopes.join(" ");
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", &*provider.client_id),
        ("redirect_uri", &*provider.callback),
        ("scope", &*scopes),
        ("state", &*state),
    ];
    if provider.kind.manners().has_id_token {
        fields.push(("nonce", &nonce));
    }
    if provider.pkce {
        fields.extend([("code_challenge", &*challenge), ("code_challenge_method", "S256")]);
    }
    let joint = if metadata.authorization.contains('?') { '&' } else { '?' };
    format!("{}{joint}{}", metadata.authorization, form::encode(&fields))
}

/// Nobody but this very host can set the one; without TLS, on this machine alone, browsers would not take it.
fn cookie_name(provider: &Provider) -> &'static str {
    if provider.callback.starts_with("https://") { "__Host-oauth" } else { "oauth" }
}

/// `Lax`: it has to come along when the provider sends the browser back, which is a navigation from another site.
fn cookie(provider: &Provider, value: &str, life_s: u64) -> Option<HeaderValue> {
    let name = cookie_name(provider);
    let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The page reads from its address that a code is asked for.
fn waiting(page: &str) -> String {
    let (page, fragment) = page.split_once('#').map_or((page, None), |(page, fragment)| (page, Some(fragment)));
    let joint = if page.contains('?') { '&' } else { '?' };
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    format!("{page}{joint}second_factor=required{fragment}")
}

impl Back {
    /// `granted`: what the accounts gave. Where there are sessions, a browser goes on to the page it wanted, which asks
    /// for the code where one is still to come; whoever gets tokens gets them as they are.
    pub fn delivered(self, granted: Answer, has_sessions: bool, asked: &Asked) -> Answer {
        let page = self.return_to.as_deref().or_else(|| page::wants_page(&asked.headers).then_some("/"));
        let is_waiting = granted.status == StatusCode::FORBIDDEN;
        let has_cookie = has_sessions && granted.headers.contains_key(SET_COOKIE);
        let onward = page.filter(|_| has_cookie && (granted.status.is_success() || is_waiting));
        let onward = onward.map(|page| if is_waiting { waiting(page) } else { page.to_owned() });
        let answer = match onward.and_then(|page| HeaderValue::from_str(&page).ok()) {
            Some(location) => {
                let onward = Answer::empty(StatusCode::SEE_OTHER).with(LOCATION, location);
                let cookies = granted.headers.get_all(SET_COOKIE).iter();
                cookies.fold(onward, |onward, cookie| onward.with(SET_COOKIE, cookie.clone()))
            }
            None => granted,
        };
        self.closed(answer)
    }

    /// The provider lets him in from now on.
    fn linked(self, asked: &Asked) -> Answer {
        let page = self.return_to.as_deref().or_else(|| page::wants_page(&asked.headers).then_some("/"));
        let answer = match page.and_then(|page| HeaderValue::from_str(page).ok()) {
            Some(location) => Answer::empty(StatusCode::SEE_OTHER).with(LOCATION, location),
            None => Answer::json(StatusCode::OK, &serde_json::json!({ "linked": self.name })),
        };
        self.closed(answer)
    }

    /// Known to the provider, and not let in.
    pub fn refused(self, why: Unlinked, asked: &Asked) -> Answer {
        let answer = page::refusal(&Fault::Unlinked(why), Some((&self.name, &self.title)), asked);
        self.closed(answer)
    }

    /// The address of a callback holds a code; it goes nowhere from here.
    fn closed(self, answer: Answer) -> Answer {
        let answer = answer.with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        self.cookie.into_iter().fold(answer, |answer, cookie| answer.with(SET_COOKIE, cookie))
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
