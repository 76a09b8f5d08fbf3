//! The app's users, where Mainstay keeps them: registered, logged in, and every token of theirs taken back at once.
//!
//! Invariants: a password is never kept nor written down, a token only as its hash; whoever is told that something was
//! done finds it done after `kill -9`; who is not here cannot be told from who is, by wording or by what is computed.

mod address;
mod attempts;
mod body;
mod device;
mod factor;
mod grant;
mod hashing;
mod hourly;
mod login;
mod logins;
mod logout;
mod mail;
mod methods;
mod operate;
mod options;
mod own;
mod own_providers;
mod password;
mod pepper;
mod postgres;
mod provider;
mod recover;
mod recovery;
mod register;
mod renew;
mod rotation;
mod rows;
mod second;
mod secrets;
mod sqlite;
mod store;
mod ticket;
mod tokens;
mod totp;
mod upkeep;
mod vault;

use crate::exchange::Answer;
use crate::revoked::{Revocation, Revoked};
use crate::sessions::{self, Sessions};
use crate::signer::Signer;
use attempts::Attempts;
use hashing::Hashing;
use hourly::{Hourly, NOTICES_MAX};
use http::StatusCode;
use mail::Wish;
use mainstay_store::Durable;
use mainstay_store::journal::{Event, Journal, Notes};
use mainstay_store::redis::Redis;
use pepper::Pepper;
use std::sync::{Arc, Mutex};
use store::Store;
use tokens::Tokens;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use vault::Vault;

pub use grant::LoggedIn;
pub use mail::{MAILS_MAX, Mail};
pub use operate::{Import, Imported, judge_roles};
pub use options::{Options, Sign};
pub use provider::LinkFault;
pub use rows::{Account, Purpose};
pub use store::MIGRATIONS;

/// Wishes for a mail that wait for their turn.
const WISHES_MAX: usize = 256;

/// What goes past its time, by table: its key, the column that says when, and whether that is in microseconds.
const PRUNED: [(&str, &str, &str, bool); 5] = [
    ("login_tickets", "token", "expires_us", true),
    ("refresh_tokens", "token", "expires_us", true),
    ("login_families", "id", "expires_us", true),
    ("mailed_tokens", "token", "expires_us", true),
    ("revocations", "what", "until_s", false),
];

/// Why a request could not be worked on. None of it says anything about an account.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the store of accounts cannot be used")]
    Store(#[from] mainstay_store::Error),
    #[error("the sessions cannot be changed")]
    Sessions(#[from] sessions::Fault),
    #[error("too many passwords are being compared")]
    Busy,
    #[error("this machine gives no random numbers")]
    Random,
    #[error("a password cannot be hashed")]
    Hash,
    #[error("a token cannot be signed")]
    Sign,
    #[error("a second factor cannot be sealed or opened")]
    Sealed,
    /// A refusal: `?` brings it to whoever asked.
    #[error("refused")]
    Said(Box<Answer>),
}

/// So long a client waits that came while everything was taken.
const BUSY_S: u32 = 2;
const STORE_AWAY_S: u32 = 5;

impl Fault {
    pub(crate) fn refused(status: StatusCode, code: &'static str, message: &str) -> Fault {
        Fault::Said(Box::new(Answer::problem(status, code, message)))
    }

    pub(crate) fn answer(self) -> Answer {
        let away = |seconds| {
            let text = "The server is busy; please try again shortly.";
            Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "service_busy", text).retry_after(seconds)
        };
        match self {
            Fault::Said(answer) => *answer,
            Fault::Busy => away(BUSY_S),
            Fault::Store(_) | Fault::Sessions(_) => away(STORE_AWAY_S),
            Fault::Random | Fault::Hash | Fault::Sign | Fault::Sealed => {
                Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here.")
            }
        }
    }
}

/// What outlives a change of the configuration. Cheap to clone.
#[derive(Clone)]
pub struct Kept {
    hashing: Hashing,
    attempts: Arc<Attempts>,
    notices: Arc<Mutex<Hourly>>,
    wishes: mpsc::Sender<Wish>,
    wished: Arc<AsyncMutex<mpsc::Receiver<Wish>>>,
}

impl Default for Kept {
    fn default() -> Kept {
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let (attempts, notices) = (Arc::default(), Arc::new(Mutex::new(Hourly::of(NOTICES_MAX))));
        Kept { hashing: Hashing::default(), attempts, notices, wishes, wished: Arc::new(AsyncMutex::new(wished)) }
    }
}

/// What accounts are made of.
pub struct Parts {
    pub options: Options,
    pub durable: Durable,
    pub notes: Notes,
    pub sessions: Arc<Sessions>,
    pub signer: Arc<Signer>,
    pub revoked: Arc<Revoked>,
    /// Whoever tells other nodes at once.
    pub told: Option<mpsc::Sender<Revocation>>,
    pub kept: Kept,
    /// Where instances share: wrong passwords are counted by all of them together.
    pub redis: Option<Redis>,
    /// None where nobody delivers mail.
    pub mail: Option<mpsc::Sender<Mail>>,
}

/// One configuration's accounts.
pub struct Accounts {
    options: Options,
    store: Store,
    journal: Journal,
    notes: Notes,
    sessions: Arc<Sessions>,
    tokens: Tokens,
    vault: Vault,
    pepper: Pepper,
    revoked: Arc<Revoked>,
    told: Option<mpsc::Sender<Revocation>>,
    kept: Kept,
    redis: Option<Redis>,
    mail: Option<mpsc::Sender<Mail>>,
}

impl Accounts {
    pub fn new(parts: Parts) -> Accounts {
        let Parts { options, durable, notes, sessions, signer, revoked, told, kept, redis, mail } = parts;
        let vault = Vault::new(&options, &signer);
        let pepper = Pepper::new(options.password_secret.as_deref(), options.password_secret_previous.as_deref());
        let tokens = Tokens::new(&options, signer);
        let (store, journal) = (Store::new(durable.clone()), Journal::new(durable));
        Accounts { options, store, journal, notes, sessions, tokens, vault, pepper, revoked, told, kept, redis, mail }
    }

    /// Somebody delivers mail.
    fn mails(&self) -> bool {
        self.mail.is_some()
    }

    /// Written down before whoever asked is told; if that fails, noted to be written later, or counted as lost.
    async fn journal(&self, what: &str, user: Option<&str>, detail: Option<String>, actor: Option<&str>, now_us: i64) {
        let event = event(what, user, detail);
        let at_us = u64::try_from(now_us).unwrap_or(0);
        if self.journal.append(&event, actor, at_us).await.is_err() {
            self.notes.note(event, actor.map(str::to_owned));
        }
    }

    /// For what anybody can make happen as often as he likes: taken at once, folded, and lost rather than waited for.
    pub(crate) fn note(&self, what: &str, user: Option<&str>, detail: Option<String>) {
        self.notes.note(event(what, user, detail), None);
    }

    /// It is in the store; from here on it is refused here, and soon everywhere.
    fn revoke(&self, revocation: &Revocation, now_us: i64) {
        self.revoked.insert(revocation, seconds(now_us));
        if let Some(told) = &self.told {
            // Lost, other nodes read it from the store two seconds later.
            let _ = told.try_send(revocation.clone());
        }
    }

    /// Every browser of his is out too.
    async fn end_sessions(&self, user: &str, now_us: i64) -> Result<(), Fault> {
        if self.sessions.policy().is_some() {
            self.sessions.end_all(user, None, seconds(now_us)).await?;
        }
        Ok(())
    }

    /// When the last access token made now has expired.
    fn until_s(&self, now_us: i64) -> i64 {
        now_us / 1_000_000 + i64::try_from(self.options.access.as_secs()).unwrap_or(i64::MAX / 2) + tokens::LEEWAY_S
    }
}

fn event(what: &str, user: Option<&str>, detail: Option<String>) -> Event {
    Event::Identity { what: what.to_owned(), user: user.map(str::to_owned), detail }
}

fn seconds(now_us: i64) -> u64 {
    u64::try_from(now_us / 1_000_000).unwrap_or(0)
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}

/// As the store names what is revoked.
fn store_key(revocation: &Revocation) -> (String, Option<i64>) {
    match revocation {
        Revocation::User { id, generation, .. } => (format!("user {id}"), Some(*generation)),
        Revocation::Login { id, .. } => (format!("login {id}"), None),
    }
}

/// `None` for what a newer program wrote.
fn revocation(what: &str, generation: Option<i64>, until_s: i64) -> Option<Revocation> {
    let (kind, id) = what.split_once(' ')?;
    let id = id.to_owned();
    match (kind, generation) {
        ("user", Some(generation)) => Some(Revocation::User { id, generation, until_s }),
        ("login", _) => Some(Revocation::Login { id, until_s }),
        _ => None,
    }
}
