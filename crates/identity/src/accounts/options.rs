//! What the file says of accounts: keys of `[identity]`.

use super::hashing::BCRYPT_COST_MAX;
use super::tokens;
use crate::identity::{ROLES_MAX, is_name};
use crate::token::Policy;
use http::Uri;
use mainstay_config::{Item, Reader, Table, secret};
use std::time::Duration;

/// `iss` of access tokens where the file names no other. Not that of statements: one is never taken for the other.
const ISSUER: &str = "mainstay:accounts";
const SECRET_VARIABLE: &str = "JWT_SECRET";
/// An access token is believed without asking anybody, and what was taken back is remembered for as long.
const ACCESS_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// As of every other secret that must not be guessed.
const SECRET_CHARS: usize = 32;
const REFRESH_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    pub sign: Sign,
    pub issuer: String,
    /// Life of an access token.
    pub access: Duration,
    /// Life of a refresh token; each exchange begins it anew.
    pub refresh: Duration,
    /// Life of a login by tokens, however often they are exchanged.
    pub longest: Duration,
    pub refresh_secret: Option<String>,
    /// Beside the salt of every password, and what seals second factors; and the one before it.
    pub password_secret: Option<String>,
    pub password_secret_previous: Option<String>,
    /// Of a new account.
    pub roles: Vec<String>,
    /// Anybody may make one.
    pub register: bool,
    /// No login before the address is proven.
    pub verified: bool,
    /// The path of the app that delivers mail.
    pub deliver: Option<String>,
    /// Where the links of mails lead.
    pub pages: Option<String>,
    pub characters: usize,
    /// A login by a breached password gets the right to choose another one, and nothing besides.
    pub refuses_breached: bool,
    pub bcrypt_rounds: u32,
    pub at: String,
}

/// What access tokens are signed with.
#[derive(Clone, PartialEq, Eq)]
pub enum Sign {
    /// ES256, by the key of the data folder.
    Key,
    /// HS256, by what the app verifies with: the secret of now, and the one before.
    Secret(String, Option<String>),
}

/// Without secrets.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("issuer", &self.issuer).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Options {
    /// `None`: accounts are not kept here. Every key is read all the same, for the reference.
    pub(crate) fn read(reader: &Reader, table: &Table) -> Option<Options> {
        let on = table.key("accounts").doc("Users register and log in here, under /api/v1/auth").boolean(false);
        let sign = table
            .key("sign")
            .doc("What access tokens are signed with: our key (ES256, published), or JWT_SECRET (HS256)")
            .choice(&["key", "jwt_secret"], "key");
        let options = Options {
            sign: Sign::Key,
            issuer: table.key("issuer").doc("`iss` of access tokens").text(ISSUER).value,
            access: life(table, "access", "JWT_EXPIRES_IN", "Life of an access token", "15m", ACCESS_MAX),
            refresh: life(
                table,
                "refresh",
                "REFRESH_TOKEN_EXPIRES_IN",
                "Life of a refresh token; each exchange begins it anew",
                "30d",
                REFRESH_MAX,
            ),
            longest: longest(table),
            password_secret: password_secret(reader, table, "password_secret", "Beside the salt of every password"),
            password_secret_previous: password_secret(
                reader,
                table,
                "password_secret_previous",
                "The one before it: good until each password's next login",
            ),
            refresh_secret: table
                .key("refresh_secret")
                .doc("Refresh tokens are hashed with it; another one ends every login")
                .env("JWT_REFRESH_SECRET")
                .secret()
                .opt_text()
                .map(|secret| secret.value),
            roles: roles(table),
            register: table.key("register").doc("Whether anybody may make an account").boolean(true).value,
            verified: table
                .key("verified")
                .doc("Whether a login needs a proven address")
                .choice(&["optional", "required"], "optional")
                .value
                == "required",
            deliver: deliver(table),
            pages: pages(table),
            characters: whole(table.key("characters").doc("Fewest characters of a password").integer(8, 8..=128), 8),
            refuses_breached: table
                .key("breached")
                .doc("A login by a breached password: \"tell\" says so, \"refuse\" asks for another one first")
                .choice(&["tell", "refuse"], "tell")
                .value
                == "refuse",
            bcrypt_rounds: whole(
                table
                    .key("bcrypt_rounds")
                    .doc("Highest cost of a bcrypt hash that is taken over; new hashes are argon2id")
                    .env("BCRYPT_ROUNDS")
                    .integer(12, 4..=i64::from(BCRYPT_COST_MAX)),
                12,
            ),
            at: on.at.to_string(),
        };
        if !*on {
            return None;
        }
        let sign = if *sign == "key" { Sign::Key } else { by_secret(reader, table, &sign.at)? };
        options.judge(reader, table);
        Some(Options { sign, ..options })
    }

    /// What does not go together.
    fn judge(&self, reader: &Reader, table: &Table) {
        if self.password_secret.is_none() && self.password_secret_previous.is_some() {
            let what = "password_secret_previous, and no password_secret";
            table.fault(&table.position(), what, "password_secret = \"${PASSWORD_SECRET}\"", None);
        }
        if self.verified && self.deliver.is_none() && reader.environment().production {
            let what = "verified = \"required\", and nobody delivers the mail that proves an address";
            table.fault(&table.position(), what, "deliver = \"POST /internal/mail\", a path of your app", None);
        }
    }

    /// The discovery document (OpenID Connect), where the issuer is an address and the key is published.
    pub fn discovery(&self) -> Option<serde_json::Value> {
        let is_address = self.issuer.starts_with("https://") || self.issuer.starts_with("http://");
        (is_address && self.sign == Sign::Key).then(|| {
            serde_json::json!({
                "issuer": self.issuer,
                "jwks_uri": format!("{}/.mainstay/jwks.json", self.issuer.trim_end_matches('/')),
                "id_token_signing_alg_values_supported": ["ES256"],
                "subject_types_supported": ["public"],
                "response_types_supported": ["token"],
            })
        })
    }

    /// What an access token must say beside being signed.
    pub(crate) fn policy(&self) -> Policy {
        tokens::policy(self)
    }

    /// Where the link of a mail leads.
    pub(crate) fn link(&self, page: &str, token: &str) -> Option<String> {
        self.pages.as_ref().map(|pages| format!("{}/{page}?token={token}", pages.trim_end_matches('/')))
    }
}

fn by_secret(reader: &Reader, table: &Table, at: &mainstay_config::Position) -> Option<Sign> {
    let previous = reader.variable("JWT_SECRET_PREVIOUS").map(|secret| secret.value);
    match reader.variable(SECRET_VARIABLE) {
        Some(secret) => Some(Sign::Secret(secret.value, previous)),
        None => {
            let what = "sign = \"jwt_secret\", and there is no JWT_SECRET";
            table.fault(at, what, "the variable JWT_SECRET", Some("mainstay secret JWT_SECRET"));
            None
        }
    }
}

fn life(table: &Table, key: &str, variable: &str, doc: &str, default: &str, most: Duration) -> Duration {
    let life = table.key(key).doc(doc).env(variable).duration(default);
    if life.value < Duration::from_secs(1) || life.value > most {
        let expected = format!("1s to {}d", most.as_secs() / 86_400);
        table.fault(&life.at, format!("`{key}` of {} s", life.value.as_secs()), expected, None);
    }
    life.value
}

/// `usual`: what is never needed, since the reader holds it within its bounds.
fn whole<T: TryFrom<i64>>(number: Item<i64>, usual: T) -> T {
    T::try_from(number.value).unwrap_or(usual)
}

/// With the life of a refresh token, which is all of it where each is exchanged.
fn longest(table: &Table) -> Duration {
    let doc = "Life of a login by tokens, however often they are exchanged";
    let longest = table.key("longest").doc(doc).duration("400d");
    if longest.value < Duration::from_secs(1) || longest.value > REFRESH_MAX {
        let expected = format!("1s to {}d", REFRESH_MAX.as_secs() / 86_400);
        table.fault(&longest.at, format!("`longest` of {} s", longest.value.as_secs()), expected, None);
    }
    longest.value
}

/// No variable is read for it unasked: one that is there by chance, and later is not, would lock everybody out.
fn password_secret(reader: &Reader, table: &Table, key: &str, doc: &str) -> Option<String> {
    let found = table.key(key).doc(doc).example("\"${PASSWORD_SECRET}\"").secret().opt_text()?;
    if let Some(weakness) = secret::weakness_below(key, &found.value, SECRET_CHARS) {
        let (expected, fix) = ("a secret nobody can guess", Some("mainstay secret PASSWORD_SECRET"));
        match reader.environment().production {
            true => table.fault(&found.at, weakness, expected, fix),
            false => table.warn(&found.at, weakness, expected, fix),
        }
    }
    Some(found.value)
}

fn roles(table: &Table) -> Vec<String> {
    let roles = table.key("register_roles").doc("Roles of a new account").texts(&["user"]);
    let good = |role: &String| is_name(role, true);
    for role in roles.value.iter().filter(|role| !good(&role.value)) {
        table.fault(&role.at, format!("`{}` is no name of a role", role.value), "ASCII without commas", None);
    }
    let mut names: Vec<String> = roles.value.into_iter().map(|role| role.value).filter(good).collect();
    names.truncate(ROLES_MAX);
    names
}

fn deliver(table: &Table) -> Option<String> {
    let is_post = |text: &str| match text.split_once(' ') {
        Some(("POST", path)) if path.starts_with('/') && !path.contains(['?', '#', ' ', '*', ':']) => {
            Ok(path.to_owned())
        }
        _ => Err("not POST and a path".to_owned()),
    };
    let doc = "A path of your app that mails what it is given; refused from outside";
    let key = table.key("deliver").doc(doc).example("\"POST /internal/mail\"");
    key.opt_parsed("POST and a path, as \"POST /internal/mail\"", is_post).map(|path| path.value)
}

fn pages(table: &Table) -> Option<String> {
    let is_address = |text: &str| {
        let uri: Uri = text.parse().map_err(|_| "not an address".to_owned())?;
        match (uri.scheme_str(), uri.host(), uri.query()) {
            (Some("https" | "http"), Some(_), None) => Ok(text.to_owned()),
            _ => Err("not an address".to_owned()),
        }
    };
    let doc = "Where links of mails lead: /verify-email?token=… and /reset-password?token=… below it";
    let key = table.key("pages").doc(doc).env("FRONTEND_URL").example("\"https://app.example.com\"");
    key.opt_parsed("an https address", is_address).map(|address| address.value)
}
