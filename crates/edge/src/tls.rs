//! TLS: certificates chosen by the name the client asks for, from a table that is swapped while connections run. The
//! only place that builds rustls configuration: TLS 1.2 and 1.3, forward secrecy only.
//!
//! Must never put a pair in force that was not proved.

use crate::acme;
use crate::options::TlsFiles;
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sessions that can be resumed; the oldest go first.
const SESSIONS_MAX: usize = 10_240;
/// What an authority offers, alone, when it looks for a challenge (RFC 8737 §3).
pub const ACME_ALPN: &[u8] = b"acme-tls/1";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{at}: certificate {path}: {what}")]
    Certificate { at: String, path: String, what: String },
    #[error("{at}: key {path}: {what}")]
    Key { at: String, path: String, what: String },
    #[error("{at}: the key does not belong to the certificate of {host}; give the pair that was issued together")]
    Mismatch { at: String, host: String },
    #[error("TLS could not be set up")]
    Rustls(#[source] rustls::Error),
}

/// A pair from files, for the host they are given for.
#[derive(Debug, Clone)]
pub struct Given {
    pub file: TlsFiles,
    pub key: Arc<CertifiedKey>,
    /// The files could not be read when the server started: what is served says so by not being trusted.
    pub is_stand_in: bool,
}

/// A pair Mainstay got by itself.
#[derive(Debug, Clone)]
pub struct Kept {
    pub names: Vec<String>,
    pub key: Arc<CertifiedKey>,
    /// Clients elsewhere believe it: requests may be sent there.
    pub is_public: bool,
}

/// Every certificate of this edge, and the configuration that serves them. Cheap to clone; made once a process, so
/// that sessions are resumed across reloads.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Arc<ArcSwap<Table>>,
    config: Arc<ServerConfig>,
    layers: Mutex<Layers>,
}

/// What the table is made of; files win over what we got by ourselves.
#[derive(Debug, Default)]
struct Layers {
    given: Vec<Given>,
    kept: Vec<Kept>,
    challenges: HashMap<String, Arc<CertifiedKey>>,
    /// OCSP answers by the certificate they are about.
    staples: HashMap<CertificateDer<'static>, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Table {
    by_host: HashMap<String, Entry>,
    /// For clients that name nobody we know: the first of the file.
    first: Option<Arc<CertifiedKey>>,
    /// For clients that name nothing: they asked for an address.
    by_address: Option<Arc<CertifiedKey>>,
    challenges: HashMap<String, Arc<CertifiedKey>>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Arc<CertifiedKey>,
    is_public: bool,
}

impl Table {
    fn find(&self, name: &str) -> Option<&Entry> {
        let wildcard = || self.by_host.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_host.get(name).or_else(wildcard)
    }
}

impl Layers {
    fn table(&self) -> Table {
        let mut table = Table { challenges: self.challenges.clone(), ..Table::default() };
        for given in &self.given {
            let entry = Entry { key: self.stapled(&given.key), is_public: !given.is_stand_in };
            table.by_host.insert(given.file.host.clone(), entry);
        }
        for kept in &self.kept {
            let entry = Entry { key: self.stapled(&kept.key), is_public: kept.is_public };
            for name in &kept.names {
                table.by_host.entry(name.clone()).or_insert_with(|| entry.clone());
            }
        }
        let first = self.given.first().map(|given| &given.key).or(self.kept.first().map(|kept| &kept.key));
        table.first = first.map(|key| self.stapled(key));
        let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
        let by_address = self.kept.iter().find(|kept| kept.names.iter().any(is_address));
        table.by_address = by_address.map(|kept| kept.key.clone()).or(table.first.clone());
        table
    }

    fn stapled(&self, key: &Arc<CertifiedKey>) -> Arc<CertifiedKey> {
        match key.cert.first().and_then(|leaf| self.staples.get(leaf)) {
            Some(answer) => Arc::new(CertifiedKey { ocsp: Some(answer.clone()), ..CertifiedKey::clone(key) }),
            None => key.clone(),
        }
    }
}

impl Certificates {
    pub fn new() -> Result<Certificates, Error> {
        let table: Arc<ArcSwap<Table>> = Arc::default();
        let mut config = ServerConfig::builder_with_provider(Arc::new(in_order()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Rustls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName { table: table.clone() }));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME_ALPN.to_vec()];
        config.ignore_client_order = true;
        // Sessions are resumed from memory. Tickets would need random bytes here, and the first ones of a process
        // take the C library a tenth of a second.
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Certificates(Arc::new(Inner { table, config: Arc::new(config), layers: Mutex::default() })))
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.config.clone()
    }

    /// Clients elsewhere can be sent to this host by HTTPS. `host` in lower case, without its port.
    pub fn is_public(&self, host: &str) -> bool {
        self.0.table.load().find(host).is_some_and(|entry| entry.is_public)
    }

    pub fn given(&self) -> Vec<Given> {
        self.layers().given.clone()
    }

    pub fn set_given(&self, given: Vec<Given>) {
        self.change(|layers| layers.given = given);
    }

    /// Takes up the files as they are now. A host whose files cannot be used keeps the pair it had; without one it
    /// gets a stand-in, so that one lost file takes no other host down.
    pub fn take_up(&self, files: &[TlsFiles]) -> Vec<Error> {
        let old = self.given();
        let mut errors = Vec::new();
        let mut given = Vec::new();
        for file in files {
            let had = || old.iter().find(|given| given.file.host == file.host).cloned();
            match load_pair(file) {
                Ok(key) => given.push(Given { file: file.clone(), key: Arc::new(key), is_stand_in: false }),
                Err(error) => {
                    errors.push(error);
                    given.extend(had().or_else(|| stand_in(file)));
                }
            }
        }
        self.set_given(given);
        errors
    }

    pub fn set_kept(&self, kept: Vec<Kept>) {
        self.change(|layers| layers.kept = kept);
    }

    /// What is served besides files, and the files' own.
    pub fn served(&self) -> Vec<Arc<CertifiedKey>> {
        let layers = self.layers();
        let given = layers.given.iter().map(|given| given.key.clone());
        given.chain(layers.kept.iter().map(|kept| kept.key.clone())).collect()
    }

    /// Shown to an authority that asks for `acme-tls/1` and this host.
    pub fn place(&self, host: &str, key: CertifiedKey) {
        self.change(|layers| drop(layers.challenges.insert(host.to_owned(), Arc::new(key))));
    }

    pub fn withdraw(&self, host: &str) {
        self.change(|layers| drop(layers.challenges.remove(host)));
    }

    /// All OCSP answers there are.
    pub fn staple(&self, staples: HashMap<CertificateDer<'static>, Vec<u8>>) {
        self.change(|layers| layers.staples = staples);
    }

    fn change(&self, change: impl FnOnce(&mut Layers)) {
        let mut layers = self.layers();
        change(&mut layers);
        self.0.table.store(Arc::new(layers.table()));
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.0.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stand_in(file: &TlsFiles) -> Option<Given> {
    let key = acme::stand_in(std::slice::from_ref(&file.host)).ok()?;
    Some(Given { file: file.clone(), key: Arc::new(key), is_stand_in: true })
}

/// Forward secrecy and authenticated encryption alone, in our order
/// ([why](../../../docs/decisions/0015-the-server-picks-the-cipher.md)): AES-128 first, the cheapest that is strong.
fn in_order() -> rustls::crypto::CryptoProvider {
    use provider::cipher_suite as suite;
    let cipher_suites = vec![
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    rustls::crypto::CryptoProvider { cipher_suites, ..provider::default_provider() }
}

/// All pairs, or the first that cannot be used.
pub fn load(files: &[TlsFiles]) -> Result<Vec<Given>, Error> {
    let one = |file: &TlsFiles| {
        load_pair(file).map(|key| Given { file: file.clone(), key: Arc::new(key), is_stand_in: false })
    };
    files.iter().map(one).collect()
}

/// Every pair that could not be used.
pub fn prove(files: &[TlsFiles]) -> Vec<Error> {
    files.iter().filter_map(|file| load_pair(file).err()).collect()
}

/// Has the first random bytes made before the first handshake wants them.
pub fn warm_up() {
    let mut bytes = [0; 32];
    // A failure here would be told by the handshake that needs them.
    let _ = provider::default_provider().secure_random.fill(&mut bytes);
}

fn load_pair(file: &TlsFiles) -> Result<CertifiedKey, Error> {
    let at = &file.at;
    let certificate = |what: String| Error::Certificate { at: at.clone(), path: shown(&file.cert), what };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&file.cert)
        .and_then(Iterator::collect)
        .map_err(|e| certificate(format!("{e}; give a PEM file with the whole chain")))?;
    if chain.is_empty() {
        return Err(certificate("no certificate in it; give a PEM file with the whole chain".to_owned()));
    }
    let wrong_key = |what: String| Error::Key { at: at.clone(), path: shown(&file.key), what };
    let key = PrivateKeyDer::from_pem_file(&file.key)
        .map_err(|e| wrong_key(format!("{e}; give a PEM file with the private key")))?;
    pair(chain, &key).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => Error::Mismatch { at: at.clone(), host: file.host.clone() },
        other => wrong_key(other.to_string()),
    })
}

/// A chain and its key, proved to belong together.
pub fn pair(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<CertifiedKey, rustls::Error> {
    let pair = CertifiedKey::new(chain, provider::sign::any_supported_type(key)?);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(error) => Err(error),
    }
}

/// A pair we made a moment ago for a challenge: its extension (RFC 8737 §3) is one that verifiers must refuse.
pub fn unproved(leaf: CertificateDer<'static>, key: &PrivateKeyDer<'_>) -> Result<CertifiedKey, rustls::Error> {
    Ok(CertifiedKey::new(vec![leaf], provider::sign::any_supported_type(key)?))
}

/// A client that believes these roots.
pub fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Rustls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[derive(Debug)]
struct ByName {
    table: Arc<ArcSwap<Table>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_ALPN)) {
            return table.challenges.get(&name?).cloned();
        }
        let Some(name) = name else { return table.by_address.clone() };
        table.find(&name).map(|entry| &entry.key).or(table.first.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&cert, made.cert.pem()).expect("write");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("write");
        TlsFiles { host: name.to_owned(), cert, key, at: "mainstay.toml:3".to_owned() }
    }

    #[test]
    fn a_good_pair_loads_and_each_fault_names_its_file_and_line() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (files(dir.path(), "a.example"), files(dir.path(), "b.example"));
        assert!(load(&[]).expect("none").is_empty());
        assert_eq!(load(&[a.clone(), b.clone()]).expect("two").len(), 2);

        let missing = TlsFiles { cert: dir.path().join("none.pem"), ..a.clone() };
        let mixed = TlsFiles { key: b.key.clone(), ..a.clone() };
        let swapped = TlsFiles { cert: a.key.clone(), ..a.clone() };
        let no_key = TlsFiles { key: a.cert.clone(), ..a.clone() };
        for (files, words) in
            [(missing, "none.pem"), (mixed, "does not belong"), (swapped, "no certificate"), (no_key, "private key")]
        {
            let error = load(&[files]).expect_err(words).to_string();
            assert!(error.starts_with("mainstay.toml:3: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_lost_file_takes_only_its_own_host_down_and_a_known_pair_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (files(dir.path(), "a.example"), files(dir.path(), "b.example"));
        let running = Certificates::new().expect("tls");
        assert!(running.take_up(&[a.clone(), b.clone()]).is_empty());
        let had = running.given()[0].key.cert.clone();
        std::fs::remove_file(&a.cert).expect("remove");
        assert_eq!(running.take_up(&[a.clone(), b.clone()]).len(), 1);
        assert_eq!(running.given()[0].key.cert, had);
        assert!(running.is_public("a.example"));

        let restarted = Certificates::new().expect("tls");
        assert_eq!(restarted.take_up(&[a, b]).len(), 1);
        assert!(!restarted.is_public("a.example") && restarted.is_public("b.example"));
        assert_eq!(restarted.given().len(), 2);
    }

    #[test]
    fn files_win_over_what_we_got_and_wildcards_cover_one_label() {
        let dir = tempfile::tempdir().expect("dir");
        let certificates = Certificates::new().expect("tls");
        let key = |name: &str| Arc::new(acme::stand_in(&[name.to_owned()]).expect("key"));
        let file = TlsFiles { host: "a.example".to_owned(), ..files(dir.path(), "a.example") };
        assert!(certificates.take_up(&[file]).is_empty());
        let kept = |names: &[&str], is_public| Kept {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            key: key(names[0]),
            is_public,
        };
        certificates.set_kept(vec![kept(&["a.example", "b.example"], false), kept(&["*.c.test"], true)]);
        for (host, public) in
            [("a.example", true), ("b.example", false), ("x.c.test", true), ("c.test", false), ("y.x.c.test", false)]
        {
            assert_eq!(certificates.is_public(host), public, "{host}");
        }
    }
}
