//! What the file says about automatic certificates: `[edge] domains`, `[edge.acme]`, `[edge.tls]`.

use super::names;
use mainstay_config::{Item, Table};
use std::fmt;
use std::path::{Path, PathBuf};

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
const ZERO_SSL: &str = "https://acme.zerossl.com/v2/DV90";
/// Names that authorities put into one certificate at most.
const NAMES_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// One certificate each.
    pub wanted: Vec<Wanted>,
    /// Tried in turn.
    pub directories: Vec<Directory>,
    pub email: Option<String>,
    /// Of a private authority's own server, besides the roots of this machine.
    pub root: Option<PathBuf>,
    pub challenge: ChallengeChoice,
    /// Keys are kept through renewals, and a spare one lies ready (E19).
    pub pins: bool,
    /// `localhost` and this machine's own addresses get a certificate of the local authority.
    pub localhost: bool,
}

/// Names that share a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub names: Vec<String>,
    /// By the local authority.
    pub local: bool,
    pub at: String,
}

impl Wanted {
    /// The first name: it names the certificate in files and lists.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub url: String,
    pub eab: Option<Eab>,
}

/// External account binding: an authority's own customers.
#[derive(Clone, PartialEq, Eq)]
pub struct Eab {
    pub kid: String,
    pub key: Vec<u8>,
}

impl fmt::Debug for Eab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eab").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// How control of a name is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChallengeChoice {
    /// By HTTP, then by TLS, in turn.
    #[default]
    Auto,
    Http,
    TlsAlpn,
}

impl Directory {
    /// Where a dry run orders: the authority's staging, where there is a known one, else itself.
    pub fn staging(&self) -> Directory {
        match self.url == LETS_ENCRYPT {
            true => Directory { url: LETS_ENCRYPT_STAGING.to_owned(), eab: None },
            false => self.clone(),
        }
    }

    /// As people call it.
    pub fn name(&self) -> &str {
        name_of(&self.url)
    }
}

/// The authority behind a directory's address, as people call it.
pub fn name_of(url: &str) -> &str {
    match url {
        LETS_ENCRYPT => "letsencrypt",
        LETS_ENCRYPT_STAGING => "letsencrypt-staging",
        ZERO_SSL => "zerossl",
        other => other.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(other),
    }
}

impl Options {
    /// `given`: hosts with files of their own, which need nothing from here.
    pub fn read(edge: &Table, given: &[String]) -> Options {
        let acme = edge.table("acme");
        let tls = edge.table("tls");
        let local = tls
            .key("local")
            .doc(
                "true: also https://localhost, by the local authority; false: local names too are ordered from \
                 [edge.acme]; unset: the local authority for local names among `domains`",
            )
            .opt_boolean()
            .map(|local| local.value);
        Options {
            wanted: read_wanted(edge, given, local),
            directories: read_directories(&acme),
            email: read_email(&acme),
            root: acme
                .key("ca")
                .doc("Root certificate (PEM) of a private authority's own server")
                .opt_text()
                .map(|path| beside(&path)),
            challenge: read_challenge(&acme),
            pins: acme
                .key("pins")
                .doc("Keep keys through renewals, with a spare one ready, for apps that pin them")
                .boolean(false)
                .value,
            localhost: local == Some(true),
        }
    }

    /// Some listener can speak TLS without a file.
    pub fn serve_tls(&self) -> bool {
        self.localhost || !self.wanted.is_empty()
    }

    /// Something is ordered from an authority elsewhere.
    pub fn order(&self) -> bool {
        self.wanted.iter().any(|wanted| !wanted.local)
    }
}

fn read_wanted(edge: &Table, given: &[String], local: Option<bool>) -> Vec<Wanted> {
    let entries = edge
        .key("domains")
        .doc("Names to get certificates for, by ACME; names in one entry (separated by spaces) share a certificate")
        .example("[\"example.com www.example.com\", \"api.example.com\"]")
        .texts(&[]);
    let mut wanted: Vec<Wanted> = Vec::new();
    for entry in &entries.value {
        let mut names: Vec<String> = Vec::new();
        for word in entry.value.split([' ', ',']).filter(|word| !word.is_empty()) {
            match names::parse(word) {
                Ok(name) => {
                    let twice = wanted.iter().any(|other| other.names.contains(&name)) || names.contains(&name);
                    if twice {
                        edge.fault(&entry.at, format!("`{name}` stands twice in domains"), "each name once", None);
                    } else if !given.iter().any(|host| names::covers(host, &name)) {
                        names.push(name);
                    }
                }
                Err(what) => edge.fault(
                    &entry.at,
                    what,
                    "a name as \"api.example.com\"",
                    Some("for a wildcard give files: [tls.\"*.example.com\"] cert, key"),
                ),
            }
        }
        if names.len() > NAMES_MAX {
            edge.fault(&entry.at, format!("{} names in one certificate", names.len()), "at most 100", None);
            names.truncate(NAMES_MAX);
        }
        let is_local = |name: &String| names::is_local(name) && local != Some(false);
        let (near, far): (Vec<String>, Vec<String>) = names.into_iter().partition(is_local);
        let at = entry.at.to_string();
        for (names, local) in [(far, false), (near, true)] {
            if !names.is_empty() {
                wanted.push(Wanted { names, local, at: at.clone() });
            }
        }
    }
    wanted
}

fn read_directories(acme: &Table) -> Vec<Directory> {
    let kid = acme.key("eab_kid").doc("Key identifier of an external account (ZeroSSL and others)").opt_text();
    let key = acme.key("eab_key").doc("Its HMAC key, as the authority shows it (base64url)").secret().opt_text();
    let eab = match (kid, key) {
        (Some(kid), Some(key)) => match decode(&key.value) {
            Some(bytes) => Some(Eab { kid: kid.value, key: bytes }),
            None => {
                acme.fault(&key.at, "eab_key is not base64url", "the key as the authority shows it", None);
                None
            }
        },
        (None, None) => None,
        (kid, key) => {
            if let Some(at) = kid.map(|k| k.at).or(key.map(|k| k.at)) {
                acme.fault(&at, "an external account needs both parts", "eab_kid and eab_key", None);
            }
            None
        }
    };
    let named = acme
        .key("directory")
        .doc("Directories of authorities, tried in turn: \"letsencrypt\", \"zerossl\", or an https:// address")
        .example("[\"letsencrypt\", \"zerossl\"]")
        .opt_texts();
    let Some(named) = named.filter(|named| !named.value.is_empty()) else {
        let first = Directory { url: LETS_ENCRYPT.to_owned(), eab: None };
        // The second one takes customers alone.
        let second = eab.map(|eab| Directory { url: ZERO_SSL.to_owned(), eab: Some(eab) });
        return [Some(first), second].into_iter().flatten().collect();
    };
    let mut directories = Vec::new();
    for item in &named.value {
        let url = match item.value.as_str() {
            "letsencrypt" => LETS_ENCRYPT,
            "letsencrypt-staging" => LETS_ENCRYPT_STAGING,
            "zerossl" => ZERO_SSL,
            other => other,
        };
        if !is_address(url) {
            acme.fault(
                &item.at,
                format!("`{url}` is no directory"),
                "\"letsencrypt\", \"zerossl\" or an https:// address",
                None,
            );
        }
        if url == ZERO_SSL && eab.is_none() {
            acme.fault(&item.at, "ZeroSSL takes customers alone", "eab_kid and eab_key", None);
        }
        let is_open = url == LETS_ENCRYPT || url == LETS_ENCRYPT_STAGING;
        directories.push(Directory { url: url.to_owned(), eab: eab.clone().filter(|_| !is_open) });
    }
    directories
}

/// Plain HTTP only on this machine: keys and accounts are at stake.
pub fn is_address(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or("").trim_matches(['[', ']']);
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        _ => false,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    let text = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty())
}

fn read_email(acme: &Table) -> Option<String> {
    let email = acme.key("email").doc("Where the authority may write about your account").opt_text()?;
    let good = email.value.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    if !good || email.value.contains(char::is_whitespace) {
        acme.fault(&email.at, format!("`{}` is no mail address", email.value), "you@example.com", None);
        return None;
    }
    Some(email.value)
}

fn read_challenge(acme: &Table) -> ChallengeChoice {
    let choice = acme
        .key("challenge")
        .doc("How control of a name is shown: over port 80 (http-01), over port 443 (tls-alpn-01), or both in turn")
        .choice(&["auto", "http-01", "tls-alpn-01"], "auto");
    match choice.value.as_str() {
        "http-01" => ChallengeChoice::Http,
        "tls-alpn-01" => ChallengeChoice::TlsAlpn,
        _ => ChallengeChoice::Auto,
    }
}

/// A path relative to the file it stands in.
fn beside(path: &Item<String>) -> PathBuf {
    let folder = path.at.file().and_then(|file| Path::new(file).parent());
    folder.map_or_else(|| PathBuf::from(&path.value), |folder| folder.join(&path.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::{Inputs, Reader};

    fn read(text: &str) -> (crate::Options, Vec<String>) {
        let text = format!("[app.main]\nupstreams = [\"127.0.0.1:1\"]\n{text}");
        let reader = Reader::new(&Inputs::of_file(text));
        let options = crate::Options::read(&reader);
        let faults = reader.finish().faults;
        (options, faults.iter().map(|fault| fault.what.clone()).collect())
    }

    #[test]
    fn a_domain_is_all_it_takes() {
        let (options, faults) = read("[edge]\ndomains = [\"b.com www.b.com\", \"api.b.com\", \"shop.test\"]");
        assert!(faults.is_empty(), "{faults:?}");
        let wanted: Vec<_> = options.acme.wanted.iter().map(|w| (w.names.join(" "), w.local)).collect();
        let expected = [("b.com www.b.com", false), ("api.b.com", false), ("shop.test", true)];
        assert_eq!(wanted, expected.map(|(names, local)| (names.to_owned(), local)));
        assert_eq!(options.acme.directories.iter().map(Directory::name).collect::<Vec<_>>(), ["letsencrypt"]);
        assert_eq!(options.acme.directories[0].staging().name(), "letsencrypt-staging");
        let ports: Vec<_> = options.listen.iter().map(|l| (l.address.port(), l.tls)).collect();
        assert!(ports.contains(&(80, false)) && ports.contains(&(443, true)), "{ports:?}");
    }

    #[test]
    fn a_host_with_files_is_not_ordered_and_local_names_can_be() {
        let files = "[tls.\"*.b.com\"]\ncert = \"c\"\nkey = \"k\"\n";
        let (options, _) = read(&format!("[edge]\ndomains = [\"b.com www.b.com\", \"a.b.com\"]\n{files}"));
        assert_eq!(options.acme.wanted.len(), 1);
        assert_eq!(options.acme.wanted[0].names, ["b.com"]);
        let (options, _) = read("[edge]\ndomains = [\"db.internal\"]\n[edge.tls]\nlocal = false");
        assert!(options.acme.order() && !options.acme.wanted[0].local);
        let (options, _) = read("[edge]\nlisten = [{ at = \":8443\", tls = true }]\n[edge.tls]\nlocal = true");
        assert!(options.acme.localhost && options.serves_tls() && !options.acme.order());
    }

    #[test]
    fn a_second_authority_follows_where_there_is_an_account() {
        let eab = "eab_kid = \"k\"\neab_key = \"c2VjcmV0\"";
        let (options, _) = read(&format!("[edge]\ndomains = [\"b.com\"]\n[edge.acme]\n{eab}"));
        assert_eq!(
            options.acme.directories.iter().map(Directory::name).collect::<Vec<_>>(),
            ["letsencrypt", "zerossl"]
        );
        assert!(options.acme.directories[0].eab.is_none() && options.acme.directories[1].eab.is_some());
        let shown = format!("{options:?}");
        assert!(!shown.contains("c2VjcmV0") && !shown.contains("115, 101, 99"), "the key is shown: {shown}");
    }

    #[test]
    fn what_cannot_work_is_a_fault() {
        for (lines, words) in [
            ("[edge]\ndomains = [\"*.b.com\"]", "wildcard"),
            ("[edge]\ndomains = [\"b.com\", \"B.com\"]", "twice"),
            ("[edge]\ndomains = [\"8.8.8.8\"]", "public address"),
            ("[edge.acme]\ndirectory = [\"http://ca.example/dir\"]", "no directory"),
            ("[edge.acme]\ndirectory = [\"zerossl\"]", "customers alone"),
            ("[edge.acme]\neab_kid = \"k\"", "both parts"),
            ("[edge.acme]\neab_kid = \"k\"\neab_key = \"!\"", "base64url"),
            ("[edge.acme]\nemail = \"ops\"", "no mail address"),
        ] {
            let (_, faults) = read(lines);
            assert!(faults.iter().any(|fault| fault.contains(words)), "{lines}: {faults:?}");
        }
    }
}
