//! An authority of the test's own, and what it issues for this machine.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Its files live as long as it does.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

/// Paths of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// With a server's certificate for localhost and 127.0.0.1, and a client's whose common name is `client`.
    pub fn new(client: &str) -> Authority {
        let folder = tempfile::tempdir().expect("a folder for certificates");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        write(&folder.path().join("ca.pem"), &root.pem());
        let issuer = Issuer::new(params, key);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = CertificateParams::new(names).expect("names");
        issue(&issuer, server, ExtendedKeyUsagePurpose::ServerAuth, folder.path(), "server");
        let mut own = CertificateParams::default();
        own.distinguished_name.push(DnType::CommonName, client);
        issue(&issuer, own, ExtendedKeyUsagePurpose::ClientAuth, folder.path(), "client");
        Authority { folder }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn server(&self) -> Pair {
        self.pair("server")
    }

    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    fn pair(&self, name: &str) -> Pair {
        let file = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        Pair { cert: file("pem"), key: file("key") }
    }
}

fn issue(
    issuer: &Issuer<'_, KeyPair>,
    mut params: CertificateParams,
    purpose: ExtendedKeyUsagePurpose,
    folder: &Path,
    name: &str,
) {
    params.extended_key_usages.push(purpose);
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, issuer).expect("a certificate");
    write(&folder.join(format!("{name}.pem")), &cert.pem());
    write(&folder.join(format!("{name}.key")), &key.serialize_pem());
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("write a certificate");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("set its mode");
}
