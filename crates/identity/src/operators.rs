//! Operators: a realm apart from users. Tokens that an operator makes for a machine, a scraper or a probe, each with
//! what it may see and until when; and the logins of his own browsers.
//!
//! Nobody has one unless an operator made it, and none is known before: the store keeps hashes. Must never take a
//! user's credentials for an operator's, or the other way round.

mod logins;
mod postgres;
mod sqlite;

pub use logins::{COOKIE, LINK_LIFE_US, Logins};

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mainstay_store::migrate::Migrations;
use mainstay_store::{Durable, Error};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub const MIGRATIONS: Migrations =
    Migrations { block: "operators", sqlite: &sqlite::MIGRATIONS, postgres: &postgres::MIGRATIONS };

/// All are looked through at each request that brings one.
pub const TOKENS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 64;
/// What tells a token of ours from all others, in a log that should not hold it as well as here.
const PREFIX: &str = "mst_";
/// 256 bits: a plain hash of it is enough.
const SECRET_BYTES: usize = 32;

/// What a token is good for. What is not named here no token can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// `/health/detailed`.
    Health,
    /// `/metrics`, `/health/metrics`, `/api/v1/metrics`.
    Metrics,
}

impl Scope {
    pub const ALL: [Scope; 2] = [Scope::Health, Scope::Metrics];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Health => "health",
            Scope::Metrics => "metrics",
        }
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// One token, without what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_us: i64,
    /// `None`: until it is revoked.
    pub expires_us: Option<i64>,
    #[serde(skip)]
    hash: Vec<u8>,
}

impl Token {
    fn is_good(&self, now_us: i64) -> bool {
        self.expires_us.is_none_or(|end| now_us < end)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("a token's name is 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_` and `.`")]
    Name,
    #[error("there is a token of this name already")]
    Taken,
    #[error("there are {TOKENS_MAX} tokens already")]
    Full,
    #[error("a token needs at least one scope")]
    NoScope,
    #[error("the kernel gave no random bytes")]
    Random,
    #[error("the store of tokens failed")]
    Store(#[from] Error),
}

/// Those in force; asked by whoever serves what tells of the inside.
#[derive(Debug, Default)]
pub struct Operators(ArcSwap<Vec<Token>>);

impl Operators {
    /// `authorization` as the header has it. Compared in a time that says nothing about any token.
    pub fn allow(&self, authorization: Option<&str>, scope: Scope, now_us: i64) -> bool {
        let Some(given) = authorization.and_then(bearer) else { return false };
        let hash = hashed(given);
        let tokens = self.0.load();
        let mut known = tokens.iter().filter(|token| {
            token.scopes.contains(&scope)
                && token.is_good(now_us)
                && constant_time::verify_slices_are_equal(&token.hash, &hash).is_ok()
        });
        known.next().is_some()
    }

    /// What the store has; other nodes may have changed it.
    ///
    /// # Errors
    /// The store's; then what was known stays.
    pub async fn refresh(&self, store: &Durable) -> Result<(), Error> {
        let tokens = list(store).await?;
        self.0.store(Arc::new(tokens));
        Ok(())
    }
}

/// The token and the text that proves it, which is never seen again.
///
/// # Errors
/// When the name is none or taken, there are too many, or the store fails.
pub async fn create(
    store: &Durable,
    name: &str,
    scopes: &[Scope],
    (now_us, expires_us): (i64, Option<i64>),
) -> Result<(Token, String), Fault> {
    if !is_name(name) {
        return Err(Fault::Name);
    }
    let mut scopes = scopes.to_vec();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Fault::NoScope);
    }
    if list(store).await?.iter().filter(|token| token.is_good(now_us)).count() >= TOKENS_MAX {
        return Err(Fault::Full);
    }
    let text = format!("{PREFIX}{}", random(SECRET_BYTES).ok_or(Fault::Random)?);
    let token = Token { name: name.to_owned(), scopes, created_us: now_us, expires_us, hash: hashed(&text) };
    let written = match store {
        Durable::Sqlite(store) => sqlite::insert(store, token.clone()).await,
        Durable::Postgres(store) => postgres::insert(store, &token).await,
    };
    if written? { Ok((token, text)) } else { Err(Fault::Taken) }
}

/// `false`: there was none of this name.
///
/// # Errors
/// The store's.
pub async fn revoke(store: &Durable, name: &str) -> Result<bool, Error> {
    match store {
        Durable::Sqlite(store) => sqlite::delete(store, name.to_owned()).await,
        Durable::Postgres(store) => postgres::delete(store, name).await,
    }
}

/// By name; those that have expired among them, so that one sees why a scraper is refused.
///
/// # Errors
/// The store's.
pub async fn list(store: &Durable) -> Result<Vec<Token>, Error> {
    match store {
        Durable::Sqlite(store) => sqlite::list(store).await,
        Durable::Postgres(store) => postgres::list(store).await,
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, given) = authorization.split_once(' ')?;
    let given = given.trim();
    (scheme.eq_ignore_ascii_case("bearer") && given.starts_with(PREFIX) && given.len() <= 2 * SECRET_BYTES)
        .then_some(given)
}

/// So many random bytes, in letters that stand in an address and in a cookie as they are.
fn random(bytes: usize) -> Option<String> {
    let mut random = vec![0; bytes];
    rand::fill(&mut random).ok()?;
    Some(URL_SAFE_NO_PAD.encode(random))
}

fn hashed(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

fn is_name(name: &str) -> bool {
    let is = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(is)
}

/// As a store keeps them.
fn written(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

/// One that this program does not know any longer, or not yet, gives no right.
fn read(scopes: &str) -> Vec<Scope> {
    scopes.split(',').filter_map(Scope::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, scopes: &[Scope], expires_us: Option<i64>) -> Token {
        Token { name: "a".to_owned(), scopes: scopes.to_vec(), created_us: 0, expires_us, hash: hashed(text) }
    }

    #[test]
    fn a_token_is_good_for_its_scopes_and_its_time_and_nothing_else_is() {
        let (one, two) = ("mst_one", "mst_two");
        let operators = Operators::default();
        assert!(!operators.allow(Some("Bearer mst_one"), Scope::Health, 1), "nobody is let in before one was made");
        operators.0.store(Arc::new(vec![token(one, &[Scope::Health], Some(10)), token(two, &Scope::ALL, None)]));
        for (given, scope, now_us, expected) in [
            (Some("Bearer mst_one"), Scope::Health, 9, true),
            (Some("bearer  mst_one "), Scope::Health, 9, true),
            (Some("Bearer mst_one"), Scope::Health, 10, false),
            (Some("Bearer mst_one"), Scope::Metrics, 9, false),
            (Some("Bearer mst_two"), Scope::Metrics, i64::MAX, true),
            (Some("Basic mst_two"), Scope::Metrics, 0, false),
            (Some("Bearer mst_tw"), Scope::Metrics, 0, false),
            (Some("Bearer two"), Scope::Metrics, 0, false),
            (Some("mst_two"), Scope::Metrics, 0, false),
            (Some(""), Scope::Metrics, 0, false),
            (None, Scope::Metrics, 0, false),
        ] {
            assert_eq!(operators.allow(given, scope, now_us), expected, "{given:?} {scope:?} {now_us}");
        }
    }

    #[test]
    fn scopes_are_kept_as_words_and_a_stranger_gives_no_right() {
        assert_eq!(read(&written(&Scope::ALL)), Scope::ALL);
        assert_eq!(read("health,deploy,"), [Scope::Health]);
        assert!(is_name("prometheus-1.eu") && !is_name("") && !is_name("a b") && !is_name(&"a".repeat(65)));
    }
}
