//! TLS from certificate files: one pair a host, chosen by the name the client asks for. The only place that
//! builds rustls configuration.

use crate::options::TlsFiles;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Sessions that can be resumed; the oldest go first.
const SESSIONS_MAX: usize = 10_240;

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

/// The configuration for these files; `None` where there are none.
pub fn load(files: &[TlsFiles]) -> Result<Option<Arc<ServerConfig>>, Error> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut by_host = HashMap::new();
    let mut first = None;
    for file in files {
        let key = Arc::new(load_pair(file)?);
        first.get_or_insert_with(|| key.clone());
        by_host.insert(file.host.clone(), key);
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Rustls)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { by_host, first }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions are resumed from memory. Tickets would need random bytes here, and the first ones of a process take
    // the C library a tenth of a second.
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    Ok(Some(Arc::new(config)))
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
    let key = provider::sign::any_supported_type(&key).map_err(|e| wrong_key(e.to_string()))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(_) => Err(Error::Mismatch { at: at.clone(), host: file.host.clone() }),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[derive(Debug)]
struct ByName {
    by_host: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name nothing, or nobody we know: the first of the file.
    first: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return self.first.clone() };
        let name = name.to_ascii_lowercase();
        let wildcard = || self.by_host.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_host.get(&name).or_else(wildcard).or(self.first.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dir: &Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&cert, made.cert.pem()).expect("write");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("write");
        TlsFiles { host: name.to_owned(), cert, key, at: "mainstay.toml:3".to_owned() }
    }

    #[test]
    fn a_good_pair_loads_and_each_fault_names_its_file_and_line() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (pair(dir.path(), "a.example"), pair(dir.path(), "b.example"));
        assert!(load(&[]).expect("none").is_none());
        let config = load(&[a.clone(), b.clone()]).expect("two").expect("config");
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);

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
}
