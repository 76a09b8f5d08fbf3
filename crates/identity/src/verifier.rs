//! What the cores ask: who is behind this token, and what the app is told of him.

use crate::identity::Identity;
use crate::keys::Keys;
use crate::options::{Source, Verify};
use crate::signer::{LIFE_S, Signer};
use crate::token::{Policy, TOKEN_BYTES_MAX, TokenFault, key_id, verify};
use crate::verified::{Digest, Entry, Verified};
use arc_swap::ArcSwap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whoever a token was verified for.
#[derive(Debug, Clone)]
pub struct Known {
    pub identity: Rc<Identity>,
    digest: Digest,
}

/// Numbers sets of keys through all reloads, so that no core takes an old set for a new one.
static KEYS_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Shared by all cores; the keys may be replaced while it is used.
#[derive(Debug)]
pub struct Verifier {
    policy: Policy,
    keys: ArcSwap<(u64, Keys)>,
    signer: Arc<Signer>,
    /// A token named a key nobody knows: somebody may look for newer ones.
    wants_keys: AtomicBool,
}

impl Verifier {
    /// Keys of an address are not there yet: `replace_keys` brings them.
    pub fn new(options: &Verify, signer: Arc<Signer>) -> Verifier {
        let keys = match &options.source {
            Source::Secrets(secrets) => Keys::secrets(&secrets.iter().map(String::as_bytes).collect::<Vec<_>>()),
            Source::Jwks(_) => Keys::default(),
        };
        let keys = ArcSwap::from_pointee((number(), keys));
        Verifier { policy: options.policy.clone(), keys, signer, wants_keys: AtomicBool::new(false) }
    }

    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    pub fn replace_keys(&self, keys: Keys) {
        self.keys.store(Arc::new((number(), keys)));
    }

    /// The keys in use, for a verifier that takes this one's place at the same address.
    pub fn keys(&self) -> Keys {
        self.keys.load().1.clone()
    }

    pub fn has_keys(&self) -> bool {
        !self.keys.load().1.is_empty()
    }

    /// Whether a token asked for a key that is not here, since this was asked last.
    pub fn takes_wish_for_keys(&self) -> bool {
        self.wants_keys.swap(false, Ordering::Relaxed)
    }

    /// # Errors
    /// Why it speaks of nobody.
    pub fn identify(&self, verified: &mut Verified, token: &str, now_s: u64) -> Result<Known, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let digest = digest(token);
        let keys = self.keys.load();
        if let Some(entry) = verified.find(keys.0, &digest, now_s) {
            return Ok(Known { identity: entry.identity.clone(), digest });
        }
        let found =
            verify(token, &keys.1, &self.policy, now_s).inspect_err(|fault| self.note(*fault, token, &keys.1))?;
        let identity = Rc::new(found);
        verified.insert(keys.0, digest, Entry { identity: identity.clone(), statement: None });
        Ok(Known { identity, digest })
    }

    /// The signed statement for `app` about whoever was recognised.
    pub fn statement(&self, verified: &mut Verified, known: &Known, app: &str, now_s: u64) -> Option<Rc<str>> {
        let Known { identity, digest } = known;
        let keys = self.keys.load().0;
        let entry = verified.find(keys, digest, now_s);
        if let Some(held) = entry.as_ref().and_then(|entry| entry.statement_for(app, now_s)) {
            return Some(held);
        }
        let text: Rc<str> = self.signer.statement(identity, app, now_s)?.into();
        if let Some(entry) = entry {
            entry.statement = Some((app.into(), text.clone(), identity.expires_s.min(now_s + LIFE_S)));
        }
        Some(text)
    }

    fn note(&self, fault: TokenFault, token: &str, keys: &Keys) {
        if fault == TokenFault::UnknownKey && key_id(token).is_none_or(|id| !keys.knows(&id)) {
            self.wants_keys.store(true, Ordering::Relaxed);
        }
    }
}

fn number() -> u64 {
    KEYS_NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn digest(token: &str) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
    digest
}
