//! What the cores ask: who is behind this token, and what the app is told of him.

use crate::identity::Identity;
use crate::keys::Keys;
use crate::options::{Source, Verify};
use crate::revoked::{Revoked, Stamp, Standing};
use crate::sessions::Session;
use crate::signer::{LIFE_S, Signer};
use crate::token::{Policy, TOKEN_BYTES_MAX, TokenFault, key_id, read};
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
    /// Where tokens are made here: what was taken back of them.
    revoked: Option<Arc<Revoked>>,
    /// A token named a key nobody knows: somebody may look for newer ones.
    wants_keys: AtomicBool,
}

impl Verifier {
    /// Keys of an address are not there yet: `replace_keys` brings them.
    pub fn new(options: &Verify, signer: Arc<Signer>, revoked: Arc<Revoked>) -> Verifier {
        let keys = match &options.source {
            // Our own document: it always holds one key.
            Source::Own => Keys::jwks(signer.jwks()).unwrap_or_default(),
            Source::Secrets(secrets) => Keys::secrets(&secrets.iter().map(String::as_bytes).collect::<Vec<_>>()),
            Source::Jwks(_) => Keys::default(),
        };
        let keys = ArcSwap::from_pointee((number(), keys));
        let revoked = options.made_here.then_some(revoked);
        Verifier { policy: options.policy.clone(), keys, signer, revoked, wants_keys: AtomicBool::new(false) }
    }

    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Whether it is known yet what was taken back of the tokens that are made here.
    pub fn unopened(&self) -> Option<&Revoked> {
        self.revoked.as_deref().filter(|revoked| revoked.is_awaited())
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
            self.judge(&entry.identity, entry.stamp.as_ref())?;
            return Ok(Known { identity: entry.identity.clone(), digest });
        }
        let (found, stamp) =
            read(token, &keys.1, &self.policy, now_s).inspect_err(|fault| self.note(*fault, token, &keys.1))?;
        let stamp = self.revoked.is_some().then_some(stamp);
        self.judge(&found, stamp.as_ref())?;
        let identity = Rc::new(found);
        verified.insert(keys.0, digest, Entry { identity: identity.clone(), stamp, statement: None });
        Ok(Known { identity, digest })
    }

    /// At every request, remembered or not: what was taken back is refused at once.
    fn judge(&self, identity: &Identity, stamp: Option<&Stamp>) -> Result<(), TokenFault> {
        let (Some(revoked), Some(stamp)) = (&self.revoked, stamp) else { return Ok(()) };
        match revoked.standing(&identity.user, stamp) {
            Standing::Good => Ok(()),
            Standing::Revoked => Err(TokenFault::Revoked),
            Standing::Unknown => Err(TokenFault::NotKnown),
        }
    }

    /// Whoever a session speaks of, remembered like a token so that its statement is.
    pub fn of_session(&self, verified: &mut Verified, session: &Session, now_s: u64) -> Known {
        let (keys, digest) = (self.keys.load().0, session.hash.0);
        if let Some(entry) = verified.find(keys, &digest, now_s)
            && *entry.identity == session.identity
        {
            return Known { identity: entry.identity.clone(), digest };
        }
        let identity = Rc::new(session.identity.clone());
        verified.insert(keys, digest, Entry { identity: identity.clone(), stamp: None, statement: None });
        Known { identity, digest }
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
