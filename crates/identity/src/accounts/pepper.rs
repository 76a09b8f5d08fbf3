//! The secret beside the salt of every password (ASVS 2.4.5): argon2's own input for one, from the file, never from the
//! store. A hash names the secret it was made with, so that another one can take its place.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `keyid` of the string format of hashes holds eight bytes at most; of six no letter of base64 is filled up.
const NAME_BYTES: usize = 6;
const PURPOSE: &[u8] = b"mainstay password secret 1";

/// Cheap to clone. Without a secret, hashes have none.
#[derive(Clone, Default)]
pub(crate) struct Pepper(Arc<[Named]>);

struct Named {
    name: [u8; NAME_BYTES],
    secret: String,
}

/// It is said once that accounts have hashes nobody can compare: whoever logs in could fill the log else.
static IS_TOLD: AtomicBool = AtomicBool::new(false);

impl Pepper {
    /// `previous`: verifies what was hashed before, until it is hashed anew.
    pub fn new(current: Option<&str>, previous: Option<&str>) -> Pepper {
        // Without a secret of now there is none of before: what is hashed now has to name one.
        let all = current.into_iter().chain(previous.filter(|_| current.is_some()));
        Pepper(all.map(|secret| Named { name: name(secret), secret: secret.to_owned() }).collect())
    }

    /// What hashes of now are made with.
    pub fn secret(&self) -> Option<&[u8]> {
        self.0.first().map(|named| named.secret.as_bytes())
    }

    /// As a hash of now says which it is.
    pub fn name(&self) -> Option<String> {
        self.0.first().map(|named| STANDARD_NO_PAD.encode(named.name))
    }

    /// The secret a hash names: `Some(None)` for one that names none, `None` where it is not here.
    pub fn named(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        if name.is_empty() {
            return Some(None);
        }
        let found = self.0.iter().find(|named| named.name == name).map(|named| Some(named.secret.as_bytes()));
        if found.is_none() && !IS_TOLD.swap(true, Ordering::Relaxed) {
            tracing::error!("passwords were hashed with a password_secret that is not here; nobody logs in by them");
        }
        found
    }
}

/// Tells nothing of the secret: HMAC-SHA-256 of a fixed text, cut short.
fn name(secret: &str) -> [u8; NAME_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), PURPOSE);
    let mut name = [0; NAME_BYTES];
    name.copy_from_slice(&tag.as_ref()[..NAME_BYTES]);
    name
}
