//! `[identity]`, and what a `[[route]]` says of who may come.

use crate::accounts::{self, Sign};
use crate::claims::Names;
use crate::guard::Guard;
use crate::oauth;
use crate::sessions;
use crate::token::Policy;
use http::Uri;
use mainstay_config::{Reader, Table, secret};
use std::time::Duration;

/// What every guide's tokens are signed with.
const SECRET_VARIABLE: &str = "JWT_SECRET";
const PREVIOUS_VARIABLE: &str = "JWT_SECRET_PREVIOUS";
/// Beyond this a token that has expired would be good for long.
const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Off until the file has `[identity]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    pub verify: Option<Verify>,
    /// Users are kept here.
    pub accounts: Option<accounts::Options>,
    pub sessions: Option<sessions::Policy>,
    /// Providers that people log in with.
    pub oauth: oauth::Options,
}

/// How tokens are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    pub source: Source,
    /// They are made here, so they can be taken back.
    pub made_here: bool,
    pub(crate) policy: Policy,
    pub at: String,
}

/// Where the keys are from.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The one that signs now, then those that did before.
    Secrets(Vec<String>),
    /// A key set published by the issuer.
    Jwks(String),
    /// The key of the data folder.
    Own,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Secrets(secrets) => write!(f, "{} secrets", secrets.len()),
            Source::Jwks(url) => write!(f, "{url}"),
            Source::Own => write!(f, "our own key"),
        }
    }
}

impl Options {
    /// The service answers under [`crate::exchange::ROOT`].
    pub fn serves(&self) -> bool {
        self.accounts.is_some()
    }

    /// The path of the app that is given mails, and that nobody else may ask for.
    pub fn deliver(&self) -> Option<&str> {
        self.accounts.as_ref()?.deliver.as_deref()
    }

    /// Somebody is recognised, so that others are not.
    pub fn is_on(&self) -> bool {
        self.verify.is_some()
    }

    pub fn read(reader: &Reader) -> Options {
        let table = reader.table("identity");
        let verify = Verify::read(reader, &table.table("verify"));
        let accounts = accounts::Options::read(reader, &table);
        match (&verify, &accounts) {
            (None, None) if table.exists() => table.fault(
                &table.position(),
                "[identity] says nothing of where users come from",
                "accounts = true, verify = { jwks = \"https://…\" }, or verify = { secret = \"${JWT_SECRET}\" }",
                None,
            ),
            (Some(verify), Some(accounts)) => {
                let what = format!("users are kept here ({}), and tokens of others verified as well", accounts.at);
                table.fault(
                    &table.table("verify").position(),
                    what,
                    format!("one of them, not both ({})", verify.at),
                    None,
                );
            }
            _ => {}
        }
        let sessions = sessions::Policy::read(reader, &table);
        if sessions.is_some() && accounts.is_none() {
            let what = "sessions are on, and nobody can log in here";
            table.fault(&table.table("sessions").position(), what, "accounts = true in [identity]", None);
        }
        let oauth = oauth::Options::read(reader, accounts.is_some());
        Options { verify: verify.or_else(|| accounts.as_ref().map(Verify::own)), accounts, sessions, oauth }
    }
}

impl Verify {
    /// Tokens that accounts make.
    fn own(accounts: &accounts::Options) -> Verify {
        let source = match &accounts.sign {
            Sign::Key => Source::Own,
            Sign::Secret(secret, previous) => {
                Source::Secrets([Some(secret), previous.as_ref()].into_iter().flatten().cloned().collect())
            }
        };
        Verify { source, made_here: true, policy: accounts.policy(), at: accounts.at.clone() }
    }

    fn read(reader: &Reader, table: &Table) -> Option<Verify> {
        let jwks = table
            .key("jwks")
            .doc("Where the issuer publishes its keys (a JSON Web Key Set)")
            .example("\"https://example.eu.auth0.com/.well-known/jwks.json\"")
            .opt_parsed("an https address", |text| is_key_address(text).map(|()| text.to_owned()));
        let secret =
            signing_secret(reader, table, "secret", SECRET_VARIABLE, "The secret tokens are signed with (HS256)");
        let before = "The secret before it: tokens signed with it are good until they expire";
        let previous = written_secret(reader, table, "secret_previous", PREVIOUS_VARIABLE, before);
        let policy = policy(table);
        if !table.exists() {
            return None;
        }
        let source = match (jwks, secret) {
            (Some(jwks), None) => Source::Jwks(jwks.value),
            (Some(jwks), Some(written)) if written.from_variable => Source::Jwks(jwks.value),
            (None, Some(secret)) => Source::Secrets([Some(secret.value), previous].into_iter().flatten().collect()),
            (Some(jwks), Some(_)) => {
                let what = "tokens are verified by one of `jwks` and `secret`, not by both";
                table.fault(&jwks.at, what, "the one that signs your tokens", None);
                return None;
            }
            (None, None) => {
                table.fault(
                    &table.position(),
                    format!("{} names no key that tokens are verified with", table.label()),
                    "jwks = \"https://…\", or secret = \"${JWT_SECRET}\"",
                    None,
                );
                return None;
            }
        };
        Some(Verify { source, made_here: false, policy, at: table.position().to_string() })
    }
}

struct Secret {
    value: String,
    /// Nobody wrote it for this: the variable is simply there.
    from_variable: bool,
}

fn signing_secret(reader: &Reader, table: &Table, key: &str, variable: &str, doc: &str) -> Option<Secret> {
    let from_variable = !table.has(key);
    let value = written_secret(reader, table, key, variable, doc)?;
    Some(Secret { value, from_variable })
}

/// A weak one is refused in production. What the variable holds is judged where all variables are.
fn written_secret(reader: &Reader, table: &Table, key: &str, variable: &str, doc: &str) -> Option<String> {
    let found = table.key(key).doc(doc).env(variable).secret().opt_text()?;
    let is_variables = reader.variable(variable).is_some_and(|item| item.value == found.value);
    if let Some(weakness) = secret::weakness(variable, &found.value)
        && table.has(key)
        && !is_variables
    {
        let fix = format!("mainstay secret {variable}");
        let expected = "a secret nobody can guess from one token";
        match reader.environment().production {
            true => table.fault(&found.at, weakness, expected, Some(&fix)),
            false => table.warn(&found.at, weakness, expected, Some(&fix)),
        }
    }
    Some(found.value)
}

fn policy(table: &Table) -> Policy {
    let texts = |key: &str, doc: &str, default: &[&str]| -> Vec<String> {
        table.key(key).doc(doc).texts(default).value.into_iter().map(|item| item.value).collect()
    };
    let leeway = table.key("leeway").doc("How far the issuer's clock may be from ours").duration("30s");
    if leeway.value > LEEWAY_MAX {
        table.fault(&leeway.at, "the leeway keeps expired tokens alive", "at most \"5m\"", None);
    }
    Policy {
        issuers: texts("issuer", "Issuers (`iss`) that are believed; unset: whoever has the key", &[]),
        audiences: texts("audience", "Audiences (`aud`) a token may be meant for; unset: any", &[]),
        leeway_s: leeway.value.as_secs(),
        names: Names {
            user: texts("user", "Claims that name the user; the first that is there counts", &Names::USER),
            roles: texts("roles", "Claims that hold the roles; dots lead into objects", &Names::ROLES),
            tenant: texts("tenant", "Claims that name the tenant", &Names::TENANT),
            tier: texts("tier", "Claims that name what the tenant pays for", &Names::TIER),
        },
    }
}

/// Whoever can change the keys on their way can sign anything, so the way is encrypted or does not leave this machine.
fn is_key_address(text: &str) -> Result<(), String> {
    let uri: Uri = text.parse().map_err(|_| "not an address".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(()),
        (Some("http"), Some("localhost" | "127.0.0.1" | "[::1]")) => Ok(()),
        (Some("http"), _) => Err("without TLS anybody on the way could give out keys of his own".to_owned()),
        _ => Err("not an https address".to_owned()),
    }
}

/// What one `[[route]]` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteOptions {
    pub guard: Option<Guard>,
    pub csrf: Option<Csrf>,
}

/// What a request that is recognised by its cookie must bring in order to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Csrf {
    /// A page of ours, and the session's token.
    Token,
    /// A page of ours.
    Origin,
    Off,
}

impl RouteOptions {
    pub fn read(table: &Table) -> RouteOptions {
        let auth = table
            .key("auth")
            .doc("\"required\": 401 without a valid token; \"second_factor\": 403 without a login by two factors")
            .choice(&["optional", "required", "second_factor"], "optional");
        let roles = table.key("roles").doc("Who may come: users with any of these roles; others get 403").texts(&[]);
        let roles: Vec<String> = roles.value.into_iter().map(|item| item.value).collect();
        let guarded = auth.value != "optional" || !roles.is_empty();
        let second_factor = auth.value == "second_factor";
        let csrf = table
            .key("csrf")
            .doc("What a write by cookie must bring: \"token\" (the default), or \"origin\": a page of ours alone")
            .opt_choice(&["token", "origin", "off"]);
        let csrf = csrf.map(|choice| match choice.value.as_str() {
            "off" => Csrf::Off,
            "origin" => Csrf::Origin,
            _ => Csrf::Token,
        });
        let guard = guarded.then(|| Guard { roles, second_factor, at: table.position().to_string() });
        RouteOptions { guard, csrf }
    }
}
