//! `[identity.oauth.NAME]`, and the guides' variables of the same: which providers people may log in with.

use super::address::is_safe;
use super::kind::Kind;
use super::pending::Seal;
use mainstay_config::{Item, Key, Position, Reader, Table, secret};
use std::io;
use std::path::Path;

/// A login page with more buttons than this is none; each provider costs some memory.
const PROVIDERS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 32;
/// Several nodes are given the same one.
const SHARED_VARIABLE: &str = "SESSION_SECRET";
/// The providers that the guides' variables name, with what these begin with.
const BY_VARIABLES: [(&str, &str); 3] = [("google", "GOOGLE"), ("github", "GITHUB"), ("linkedin", "LINKEDIN")];

/// Nobody unless the file or the variables name one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    pub providers: Vec<Provider>,
    /// Of all nodes (`SESSION_SECRET`).
    pub(crate) shared: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Of its table, and in the paths.
    pub name: String,
    pub kind: Kind,
    pub client_id: String,
    pub(crate) client_secret: Secret,
    /// To the letter, as the provider names itself.
    pub issuer: String,
    pub scopes: Vec<String>,
    /// Where the browser comes back to, to the letter as it is registered with the provider.
    pub callback: String,
    pub pkce: bool,
    pub at: String,
}

/// Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The path of a provider; the one it comes back to has `/callback` behind it.
pub fn path(name: &str) -> String {
    format!("{PREFIX}{name}")
}

pub(crate) const PREFIX: &str = "/api/v1/auth/oauth/";

impl Options {
    /// `accounts`: there are accounts to log in to.
    pub fn read(reader: &Reader, accounts: bool) -> Options {
        let tables = reader.named("identity.oauth");
        let mut providers: Vec<Provider> = tables.iter().filter_map(|table| Provider::read(reader, table)).collect();
        if let (Some(first), false) = (tables.first().filter(|table| table.exists()), accounts) {
            let what = format!("{} has no accounts to log in to", first.label());
            first.fault(&first.position(), what, "accounts = true in [identity]", None);
        }
        for (name, variable) in BY_VARIABLES {
            let named = tables.iter().any(|table| table.name() == name);
            if accounts && !named && reader.variable(&format!("{variable}_CLIENT_ID")).is_some() {
                providers.extend(Provider::read(reader, &reader.table(&format!("identity.oauth.{name}"))));
            }
        }
        if let Some(table) = tables.get(PROVIDERS_MAX) {
            let what = format!("{} providers to log in with", tables.len());
            table.fault(&table.position(), what, format!("at most {PROVIDERS_MAX}"), None);
        }
        let shared = if providers.is_empty() { None } else { reader.variable(SHARED_VARIABLE) };
        Options { providers, shared: shared.map(|found| Secret(found.value)) }
    }

    /// What seals the logins under way: a secret that all nodes have, or this data folder's own.
    ///
    /// # Errors
    /// When its file can neither be read nor made.
    pub fn seal(&self, folder: &Path) -> io::Result<Seal> {
        match &self.shared {
            Some(secret) => Seal::of(secret.text().as_bytes()),
            None => Seal::load(folder),
        }
    }
}

/// A key of a provider's table, with the variable the guides name for it.
fn key(table: &Table, name: &str, suffix: &str, doc: &str) -> Key {
    let of_this = |known: &str| table.name() == known || table.name() == "NAME";
    let variables = BY_VARIABLES.iter().filter(|(known, _)| of_this(known));
    let key = table.key(name).doc(doc);
    variables.fold(key, |key, (_, variable)| key.env(&format!("{variable}_{suffix}")))
}

impl Provider {
    /// Reads all of it, whatever is wrong, so that every fault is told at once.
    fn read(reader: &Reader, table: &Table) -> Option<Provider> {
        let name = table.name().to_owned();
        let kind = kind(table);
        let manners = kind.manners();
        let id = key(table, "client_id", "CLIENT_ID", "The id that the provider gave this app").opt_text();
        let secret = key(table, "client_secret", "CLIENT_SECRET", "The secret that the provider gave this app");
        let secret = secret.secret().opt_text();
        let doc = "Where the provider sends browsers back to, to the letter as it is registered there";
        let callback = key(table, "callback", "CALLBACK_URL", doc)
            .example("\"https://api.example.com/api/v1/auth/oauth/google/callback\"")
            .opt_text();
        let doc = "How the provider names itself (`iss`); of a GitHub Enterprise server its address";
        let issuer = table
            .key("issuer")
            .doc(doc)
            .example("\"https://id.example.com/realms/main\"")
            .opt_parsed("an https address", |text| is_safe(text).map(|_| text.to_owned()).map_err(str::to_owned));
        let scopes = table.key("scopes").doc("What is asked for, beside who it is").texts(manners.scopes);
        let pkce = table.key("pkce").doc("Send a challenge (RFC 7636)").boolean(manners.pkce).value;
        let at = if table.exists() {
            table.position()
        } else {
            id.as_ref().map_or_else(Position::unset, |id| id.at.clone())
        };
        if !is_name(&name) && name != "NAME" {
            let what = format!("{} is in the path people log in at", table.label());
            table.fault(&table.position(), what, "a name of a-z, 0-9 and -, as \"corp\"", None);
        }
        let scopes: Vec<String> = scopes.value.into_iter().map(|item| item.value).collect();
        if manners.has_id_token && !scopes.iter().any(|scope| scope == "openid") {
            let what = format!("without \"openid\" {} is never told who it is", table.label());
            table.fault(&table.position(), what, format!("scopes = {:?}", manners.scopes), None);
        }
        let judge = Judge { table, at, production: reader.environment().production };
        let (id, secret) = (judge.credential("client_id", id), judge.credential("client_secret", secret));
        let callback = judge.callback(callback);
        let issuer = issuer.map(|item| item.value).or_else(|| manners.issuer.map(str::to_owned));
        if issuer.is_none() && table.exists() {
            let what = format!("{} does not say which provider it is", table.label());
            table.fault(&table.position(), what, "issuer = \"https://…\"", None);
        }
        let (client_id, client_secret) = (id?, Secret(secret?));
        let (issuer, at) = (issuer?, table.position().to_string());
        Some(Provider { name, kind, client_id, client_secret, issuer, scopes, callback: callback?, pkce, at })
    }

    /// As a person writes it.
    pub(crate) fn title(&self) -> &str {
        match self.kind {
            Kind::Oidc => &self.name,
            kind => kind.manners().title,
        }
    }

    /// Whose word a subject is: the same subject of another issuer is somebody else.
    pub(crate) fn realm(&self) -> &str {
        match self.kind.manners().issuer {
            Some(issuer) if issuer == self.issuer => &self.name,
            _ => &self.issuer,
        }
    }
}

fn kind(table: &Table) -> Kind {
    let own = if Kind::of(table.name()).is_some() { table.name() } else { "oidc" };
    let written = table
        .key("kind")
        .doc("How it speaks; unset: what its name says, else OpenID Connect")
        .choice(&Kind::NAMES, own);
    Kind::of(&written.value).unwrap_or(Kind::Oidc)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

struct Judge<'a> {
    table: &'a Table,
    /// Where what is missing should stand.
    at: Position,
    production: bool,
}

impl Judge<'_> {
    /// What only variables name may be the app's own affair: then it is a word of warning, and no login.
    fn complain(&self, at: &Position, what: String, expected: &str) {
        if self.table.exists() {
            self.table.fault(at, what, expected, None);
        } else {
            self.table.warn(at, what, expected, None);
        }
    }

    /// There, and no sample of a guide.
    fn credential(&self, name: &str, found: Option<Item<String>>) -> Option<String> {
        let expected = "what the provider gave this app";
        let label = self.table.label();
        let Some(found) = found else {
            self.complain(&self.at, format!("{label} has no {name}, so nobody can log in with it"), expected);
            return None;
        };
        if let Some(weakness) = secret::weakness_below(name, &found.value, 0) {
            match self.production {
                true => self.complain(&found.at, weakness, expected),
                false => self.table.warn(&found.at, weakness, expected, None),
            }
        }
        Some(found.value)
    }

    /// Registered with the provider to the letter, so it is written and never made from what a request says.
    fn callback(&self, found: Option<Item<String>>) -> Option<String> {
        let path = format!("{}/callback", path(self.table.name()));
        let expected = format!("\"https://your.domain{path}\"");
        let label = self.table.label();
        let Some(found) = found else {
            let what = format!("{label} does not say where browsers come back to");
            self.complain(&self.at, what, &format!("callback = {expected}"));
            return None;
        };
        let wrong = match is_safe(&found.value) {
            Err(wrong) => wrong,
            Ok(uri) if uri.path() != path || uri.query().is_some() => "Mainstay does not answer there",
            Ok(_) => return Some(found.value),
        };
        self.complain(&found.at, format!("the callback of {label}: {wrong}"), &expected);
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use mainstay_config::Inputs;

    /// What a file would give.
    pub(crate) fn provider(name: &str, issuer: &str) -> Provider {
        let kind = Kind::of(name).unwrap_or(Kind::Oidc);
        Provider {
            name: name.to_owned(),
            kind,
            client_id: "client-1".to_owned(),
            client_secret: Secret("s:%cret".to_owned()),
            issuer: issuer.to_owned(),
            scopes: kind.manners().scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            callback: format!("https://api.example{}/callback", path(name)),
            pkce: kind.manners().pkce,
            at: "mainstay.toml:1".to_owned(),
        }
    }

    fn read(file: &str, environment: &[(&str, &str)]) -> (Options, String) {
        let mut inputs = Inputs::of_file(file);
        inputs.environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let reader = Reader::new(&inputs);
        let accounts = reader.table("identity").key("accounts").boolean(false).value;
        let options = Options::read(&reader, accounts);
        let report = reader.finish();
        (options, report.render(false))
    }

    const GOOGLE: [(&str, &str); 3] = [
        ("GOOGLE_CLIENT_ID", "123.apps.googleusercontent.com"),
        ("GOOGLE_CLIENT_SECRET", "GOCSPX-kU3vX9qLw2Zr7TnB5sYd"),
        ("GOOGLE_CALLBACK_URL", "https://api.example.com/api/v1/auth/oauth/google/callback"),
    ];

    #[test]
    fn the_guides_variables_are_enough_where_there_are_accounts() {
        let (options, said) = read("[identity]\naccounts = true\n", &GOOGLE);
        assert_eq!(options.providers.len(), 1, "{said}");
        let google = &options.providers[0];
        assert_eq!((google.kind, &*google.issuer, google.pkce), (Kind::Google, "https://accounts.google.com", true));
        assert_eq!(google.callback, GOOGLE[2].1);
        assert!(read("[identity]\n", &GOOGLE).0.providers.is_empty(), "no accounts, no login");
        let (options, said) = read("[identity]\naccounts = true\n", &GOOGLE[..2]);
        assert!(options.providers.is_empty() && said.contains("come back to"), "{said}");
    }

    #[test]
    fn any_provider_is_named_by_its_issuer_and_the_file_wins_over_the_kind() {
        let file = "[identity]\naccounts = true\n[identity.oauth.corp]\nissuer = \"https://id.example/\"\n\
                    client_id = \"a1b2c3\"\nclient_secret = \"${GOOGLE_CLIENT_SECRET}\"\npkce = false\n\
                    callback = \"http://localhost:8080/api/v1/auth/oauth/corp/callback\"\n";
        let (options, said) = read(file, &GOOGLE[1..2]);
        let corp = options.providers.first().unwrap_or_else(|| panic!("{said}"));
        assert_eq!(
            (corp.kind, &*corp.issuer, corp.pkce, corp.title()),
            (Kind::Oidc, "https://id.example/", false, "corp")
        );
        assert_eq!(corp.realm(), "https://id.example/", "another issuer under this name is another realm");
        assert!(!format!("{options:?}").contains("GOCSPX"));
    }

    #[test]
    fn what_cannot_work_is_said_with_what_to_write() {
        let head = "[identity]\naccounts = true\n[identity.oauth.corp]\nclient_id = \"a1b2c3\"\n\
                    client_secret = \"${GOOGLE_CLIENT_SECRET}\"\n";
        let callback = "callback = \"https://a.example/api/v1/auth/oauth/corp/callback\"\n";
        let issuer = "issuer = \"https://id.example\"\n";
        for (lines, expected) in [
            (callback.to_owned(), "which provider"),
            (issuer.to_owned(), "come back to"),
            (format!("{callback}issuer = \"http://id.example\"\n"), "without TLS"),
            (format!("{issuer}callback = \"https://a.example/cb\"\n"), "does not answer there"),
            (format!("{issuer}callback = \"http://a.example/api/v1/auth/oauth/corp/callback\"\n"), "without TLS"),
            (format!("{issuer}{callback}scopes = [\"email\"]\n"), "openid"),
            (format!("{issuer}{callback}kind = \"facebook\"\n"), "facebook"),
        ] {
            let (_, said) = read(&format!("{head}{lines}"), &GOOGLE[1..2]);
            assert!(said.contains(expected), "{lines}: {said}");
        }
        let (_, said) = read("[identity.oauth.google]\n", &GOOGLE);
        assert!(said.contains("accounts = true"), "{said}");
        let (_, said) = read("[identity]\naccounts = true\n[identity.oauth.Corp]\n", &[]);
        assert!(said.contains("a-z, 0-9") && said.contains("no client_id"), "{said}");
    }
}
