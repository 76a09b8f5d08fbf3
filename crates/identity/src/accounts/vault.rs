//! Secrets that have to be read again, sealed: those of second factors. A copy of the store alone opens none of them.
//!
//! The key is made of `password_secret` where the file has one, which all nodes share, else it is the data folder's
//! own. What was sealed with the one before, or with the folder's, still opens, and is sealed anew when it is used.

use super::Fault;
use super::options::Options;
use crate::signer::Signer;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use mainstay_store::key_file::{Damaged, load};
use std::path::{Path, PathBuf};

const SECRET_BYTES: usize = 32;
const FILE: &str = "accounts.key";
/// So that this key is never taken for another one made of the same secret.
const PURPOSE: &[u8] = b"mainstay second factor 1";

pub(crate) struct Vault {
    /// The one that seals, and those that only open.
    keys: Vec<LessSafeKey>,
    /// Where the folder's own is, or would be.
    folder: Option<PathBuf>,
    has_secret: bool,
}

/// What was opened.
pub(crate) struct Opened {
    pub secret: Vec<u8>,
    /// It was sealed with an older key.
    pub is_old: bool,
}

impl Vault {
    /// Nothing is read or made before somebody needs it.
    pub fn new(options: &Options, signer: &Signer) -> Vault {
        let secrets = [&options.password_secret, &options.password_secret_previous];
        let keys = secrets.into_iter().flatten().filter_map(|secret| key(secret.as_bytes())).collect();
        Vault { keys, folder: signer.folder().map(Path::to_owned), has_secret: options.password_secret.is_some() }
    }

    /// For this account alone: moved to another's row it opens no more.
    pub fn close(&self, account: &str, secret: &[u8]) -> Result<Vec<u8>, Fault> {
        let own = if self.has_secret { None } else { Some(self.own()?) };
        let key = own.as_ref().or_else(|| self.keys.first()).ok_or(Fault::Sealed)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| Fault::Random)?;
        let mut bytes = secret.to_vec();
        let told = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(told, Aad::from(account.as_bytes()), &mut bytes).map_err(|_| Fault::Sealed)?;
        Ok([&nonce[..], &bytes].concat())
    }

    /// # Errors
    /// No key here opens it.
    pub fn open(&self, account: &str, sealed: &[u8]) -> Result<Opened, Fault> {
        for (at, key) in self.keys.iter().enumerate() {
            if let Some(secret) = opened(key, account, sealed) {
                return Ok(Opened { secret, is_old: at > 0 || !self.has_secret });
            }
        }
        let opened = self.own().ok().and_then(|key| opened(&key, account, sealed));
        let found = opened.map(|secret| Opened { secret, is_old: self.has_secret });
        found.ok_or_else(|| {
            tracing::error!(
                user = account,
                "the second factor was sealed with another key: password_secret, or accounts.key of the data folder"
            );
            Fault::Sealed
        })
    }

    /// The folder's own, made at first need. Only its owner may read it.
    fn own(&self) -> Result<LessSafeKey, Fault> {
        let folder = self.folder.as_ref().ok_or(Fault::Sealed)?;
        let secret = load(&folder.join(FILE), SECRET_BYTES, Damaged::Told).map_err(|error| {
            tracing::error!(%error, folder = %folder.display(), "the key of second factors cannot be read or made");
            Fault::Sealed
        })?;
        key(&secret).ok_or(Fault::Sealed)
    }
}

fn key(secret: &[u8]) -> Option<LessSafeKey> {
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), PURPOSE);
    UnboundKey::new(&AES_256_GCM_SIV, key.as_ref()).ok().map(LessSafeKey::new)
}

fn opened(key: &LessSafeKey, account: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    key.open_in_place(nonce, Aad::from(account.as_bytes()), sealed).ok().map(|plain| plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn vault(secrets: &[&str], folder: &Path) -> Vault {
        let keys = secrets.iter().filter_map(|secret| key(secret.as_bytes())).collect();
        Vault { keys, folder: Some(folder.to_owned()), has_secret: !secrets.is_empty() }
    }

    /// ASVS 2.8.2, 2.9.1.
    #[test]
    fn i1_2_8_2_a_copy_of_the_store_opens_no_second_factor() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = vault(&[], folder.path());
        let sealed = own.close("u_jo", b"secret of jo").expect("sealed");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let opened = own.open("u_jo", &sealed).expect("opened");
        assert_eq!((opened.secret.as_slice(), opened.is_old), (&b"secret of jo"[..], false));
        assert!(own.open("u_eve", &sealed).is_err(), "another's row");
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
        let elsewhere = tempfile::tempdir().expect("a folder");
        assert!(vault(&[], elsewhere.path()).open("u_jo", &sealed).is_err(), "another folder");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(own.open("u_jo", &changed).is_err(), "{at}");
        }
        assert!(own.open("u_jo", b"").is_err());
        fs::write(&path, b"half").expect("to break it");
        assert!(own.close("u_jo", b"x").is_err(), "a broken key is told, never replaced");
    }

    #[test]
    fn a_secret_takes_the_place_of_the_folders_key_and_is_rotated() {
        let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let before = vault(&[], folder.path()).close("u", b"x").expect("sealed");
        let first = vault(&["one"], folder.path());
        assert!(first.open("u", &before).expect("the folder's").is_old);
        let sealed = first.close("u", b"x").expect("sealed");
        assert!(!vault(&["one"], other.path()).open("u", &sealed).expect("another node").is_old);
        assert!(vault(&["two", "one"], other.path()).open("u", &sealed).expect("the one before").is_old);
        assert!(vault(&["two"], other.path()).open("u", &sealed).is_err());
        assert!(fs::read_dir(other.path()).expect("a folder").count() <= 1);
    }
}
