//! Tokens a core has verified lately, so that a client's next request costs a lookup and no signature.
//!
//! Two generations instead of a list by age: when the young one is full it becomes the old one, and what is asked for
//! again moves over. Nobody can make it grow, and what is used stays.

use crate::identity::Identity;
use crate::revoked::Stamp;
use std::collections::HashMap;
use std::rc::Rc;

/// Tokens of one generation: about 1 MiB a core for both, at 256 bytes an identity.
const GENERATION_MAX: usize = 2048;
/// A statement is handed out while it has at least this long to live.
const STATEMENT_LEFT_S: u64 = 30;

/// The hash of a token.
pub(crate) type Digest = [u8; 32];

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub identity: Rc<Identity>,
    /// Of a token that was made here.
    pub stamp: Option<Stamp>,
    /// For one app, with the second its life ends.
    pub statement: Option<(Rc<str>, Rc<str>, u64)>,
}

impl Entry {
    pub fn statement_for(&self, app: &str, now_s: u64) -> Option<Rc<str>> {
        let (of, text, expires_s) = self.statement.as_ref()?;
        (**of == *app && now_s + STATEMENT_LEFT_S <= *expires_s).then(|| text.clone())
    }
}

/// A core's own.
#[derive(Debug, Default)]
pub struct Verified {
    /// Of the keys it was verified with; others empty it.
    keys: u64,
    young: HashMap<Digest, Entry>,
    old: HashMap<Digest, Entry>,
}

impl Verified {
    /// What was found out of this token, if that still holds.
    pub(crate) fn find(&mut self, keys: u64, digest: &Digest, now_s: u64) -> Option<&mut Entry> {
        if self.keys != keys {
            *self = Verified { keys, ..Verified::default() };
        }
        if !self.young.contains_key(digest) {
            let entry = self.old.remove(digest)?;
            self.insert(keys, *digest, entry);
        }
        if self.young.get(digest)?.identity.expires_s <= now_s {
            self.young.remove(digest);
        }
        self.young.get_mut(digest)
    }

    pub(crate) fn insert(&mut self, keys: u64, digest: Digest, entry: Entry) {
        if self.keys != keys {
            *self = Verified { keys, ..Verified::default() };
        }
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(expires_s: u64) -> Entry {
        let (roles, second_factor) = (Vec::new(), false);
        let identity = Identity { user: "u".into(), roles, tenant: None, tier: None, second_factor, expires_s };
        Entry { identity: Rc::new(identity), stamp: None, statement: None }
    }

    fn digest(number: u32) -> Digest {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut verified = Verified::default();
        verified.insert(1, digest(0), entry(100));
        for number in 1..20_000 {
            verified.insert(1, digest(number), entry(100));
            assert!(verified.find(1, &digest(0), 1).is_some(), "{number}");
            assert!(verified.young.len() <= GENERATION_MAX && verified.old.len() <= GENERATION_MAX);
        }
        assert!(verified.find(1, &digest(1), 1).is_none());
    }

    #[test]
    fn neither_what_expired_nor_what_other_keys_verified_is_found() {
        let mut verified = Verified::default();
        verified.insert(1, digest(1), entry(100));
        assert!(verified.find(1, &digest(1), 99).is_some());
        assert!(verified.find(1, &digest(1), 100).is_none());
        verified.insert(1, digest(2), entry(100));
        assert!(verified.find(2, &digest(2), 1).is_none(), "the keys have changed");
    }

    #[test]
    fn a_statement_is_for_its_app_and_never_about_to_end() {
        let held = Entry { statement: Some(("api".into(), "s".into(), 160)), ..entry(1000) };
        assert!(held.statement_for("api", 130).is_some());
        assert!(held.statement_for("api", 131).is_none());
        assert!(held.statement_for("web", 100).is_none());
    }
}
