//! The statement `Mainstay-Identity`: what the edge verified, signed for one app, so that the app need not believe
//! headers that somebody on its own network could send. ES256; the keys are published at `/.mainstay/jwks.json`.

use crate::identity::{Identity, MFA};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mainstay_store::key_file;
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// An app that got a statement must act on it at once; a stolen one is soon worth nothing.
pub const LIFE_S: u64 = 60;
/// `iss` of our statements.
const ISSUER: &str = "mainstay";
const FILE: &str = "identity.key";

/// Of one process. Nothing is read or made before somebody is to be recognised: a server without `[identity]` has no
/// key, and gathers no entropy for one.
pub struct Signer {
    folder: PathBuf,
    made: OnceLock<Made>,
}

struct Made {
    header: Header,
    key: EncodingKey,
    /// What is published.
    jwks: String,
}

/// What is published while there is no key.
const NO_KEYS: &str = r#"{"keys":[]}"#;

#[derive(Debug, thiserror::Error)]
pub enum SignerFault {
    #[error("cannot {what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no P-256 key   fix: remove it, and a new one is made", .0.display())]
    NoKey(PathBuf),
    #[error("this machine makes no keys")]
    Random,
}

#[derive(Serialize)]
struct Statement<'a> {
    iss: &'static str,
    aud: &'a str,
    sub: &'a str,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    /// RFC 8176: "mfa", where a second factor was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    amr: Option<[&'static str; 1]>,
    iat: u64,
    exp: u64,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({:?})", self.made.get().map(|made| &made.header.kid))
    }
}

impl Signer {
    /// Of this data folder; to be opened before it signs.
    pub fn of(folder: &Path) -> Signer {
        Signer { folder: folder.to_owned(), made: OnceLock::new() }
    }

    /// The data folder's key, made at first need. Only its owner may read it. Idempotent.
    ///
    /// # Errors
    /// When the file can neither be read nor made, or holds something else.
    pub fn open(&self) -> Result<(), SignerFault> {
        if self.made.get().is_none() {
            let made = load(&self.folder)?;
            // Two that open at once read the same file.
            let _ = self.made.set(made);
        }
        Ok(())
    }

    /// A key that ends with the process, for tests.
    pub fn unkept() -> Option<Signer> {
        let made = Made::from_pkcs8(&generate()?)?;
        Some(Signer { folder: PathBuf::new(), made: OnceLock::from(made) })
    }

    /// Where it is kept, and other keys beside it. `None` for one that ends with the process.
    pub(crate) fn folder(&self) -> Option<&Path> {
        Some(self.folder.as_path()).filter(|folder| !folder.as_os_str().is_empty())
    }

    /// The document of `/.mainstay/jwks.json`.
    pub fn jwks(&self) -> &str {
        self.made.get().map_or(NO_KEYS, |made| &made.jwks)
    }

    /// `None` before it is opened, and never with a key that signed before.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let made = self.made.get()?;
        encode(&made.header, claims, &made.key).ok()
    }

    /// What the edge says of `identity` to `app`. `None` as of [`Signer::sign`].
    pub(crate) fn statement(&self, identity: &Identity, app: &str, now_s: u64) -> Option<String> {
        let claims = Statement {
            iss: ISSUER,
            aud: app,
            sub: &identity.user,
            roles: &identity.roles,
            tenant: identity.tenant.as_deref(),
            amr: identity.second_factor.then_some([MFA]),
            iat: now_s,
            // Never longer than what it was made from.
            exp: identity.expires_s.min(now_s + LIFE_S),
        };
        self.sign(&claims)
    }
}

fn load(folder: &Path) -> Result<Made, SignerFault> {
    let path = folder.join(FILE);
    let fault = |what| {
        let path = path.clone();
        move |source| SignerFault::File { what, path, source }
    };
    match fs::read(&path) {
        Ok(der) => Made::from_pkcs8(&der).ok_or(SignerFault::NoKey(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let der = generate().ok_or(SignerFault::Random)?;
            let der = key_file::keep(&path, &der).map_err(fault("write"))?;
            Made::from_pkcs8(&der).ok_or(SignerFault::NoKey(path))
        }
        Err(error) => Err(fault("read")(error)),
    }
}

impl Made {
    fn from_pkcs8(der: &[u8]) -> Option<Made> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        // An uncompressed point: 4, then x, then y.
        let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        let (x, y) = (base64(x), base64(y));
        // RFC 7638: the hash of the key's own members names it.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = base64(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes()).as_ref());
        let key = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "alg": "ES256", "use": "sig"});
        let header = Header { kid: Some(id), ..Header::new(Algorithm::ES256) };
        Some(Made { header, key: EncodingKey::from_ec_der(der), jwks: json!({ "keys": [key] }).to_string() })
    }
}

fn generate() -> Option<Vec<u8>> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
    Some(pair.to_pkcs8v1().ok()?.as_ref().to_vec())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Names;
    use crate::keys::Keys;
    use crate::token::{Policy, TokenFault, verify};
    use std::os::unix::fs::PermissionsExt;

    fn policy(audience: &str) -> Policy {
        let one = |name: &str| vec![name.to_owned()];
        let names = Names { user: one("sub"), roles: one("roles"), tenant: one("tenant"), tier: one("tier") };
        Policy { issuers: one("mainstay"), audiences: one(audience), leeway_s: 0, names }
    }

    #[test]
    fn a_statement_is_for_one_app_and_one_minute_and_its_key_is_published() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = Signer::of(folder.path());
        assert_eq!((signer.jwks(), signer.sign(&json!({}))), (NO_KEYS, None));
        signer.open().expect("a key");
        let who = Identity {
            user: "u1".into(),
            roles: vec!["admin".into()],
            tenant: Some("t1".into()),
            tier: None,
            second_factor: true,
            expires_s: 9999,
        };
        let statement = signer.statement(&who, "api", 1000).expect("a statement");
        let keys = Keys::jwks(signer.jwks()).expect("keys");
        let read = verify(&statement, &keys, &policy("api"), 1000).expect("valid");
        assert_eq!((read.user.as_str(), &read.roles, read.tenant.as_deref()), ("u1", &who.roles, Some("t1")));
        assert_eq!((read.expires_s, read.second_factor), (1060, true));
        assert_eq!(verify(&statement, &keys, &policy("api"), 1060), Err(TokenFault::Expired));
        assert_eq!(verify(&statement, &keys, &policy("web"), 1000), Err(TokenFault::Audience));
    }

    #[test]
    fn the_key_stays_over_starts_is_the_owners_alone_and_a_broken_one_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = || {
            let signer = Signer::of(folder.path());
            signer.open().map(|()| signer)
        };
        let first = opened().expect("a key");
        assert_eq!(opened().expect("the same").jwks(), first.jwks());
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"rubbish").expect("to break it");
        assert!(matches!(opened(), Err(SignerFault::NoKey(_))));
    }
}
