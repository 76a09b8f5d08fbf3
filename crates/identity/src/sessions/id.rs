//! The name of a session: 256 random bits that the browser alone keeps. What is stored is its hash, so that nobody who
//! reads a store, a dump or a backup can take a session over.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

const ID_BYTES: usize = 32;
/// Of the hash, what users see of a session when they end it: enough to tell theirs apart, and good for nothing else.
const HANDLE_BYTES: usize = 16;

#[derive(Clone, PartialEq, Eq)]
pub struct Id([u8; ID_BYTES]);

/// A secret.
impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Id of {}", self.hash().handle())
    }
}

impl Id {
    /// `None` on a machine without random bytes: a session that can be guessed is worse than none.
    pub fn random() -> Option<Id> {
        let mut bytes = [0; ID_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Id(bytes))
    }

    /// As the cookie has it. One spelling each: what is written otherwise names nothing.
    pub fn parse(text: &str) -> Option<Id> {
        let bytes = BASE64.decode(text).ok()?;
        Some(Id(bytes.try_into().ok()?))
    }

    pub fn text(&self) -> String {
        BASE64.encode(self.0)
    }

    pub fn hash(&self) -> Hash {
        let mut hash = [0; ID_BYTES];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        Hash(hash)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// SHA-256 of an id: what stores and tables know a session by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub(crate) [u8; ID_BYTES]);

impl Hash {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Hash> {
        Some(Hash(bytes.try_into().ok()?))
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Hash> {
        Hash::from_slice(&BASE64.decode(text).ok()?)
    }

    pub(crate) fn text(self) -> String {
        BASE64.encode(self.0)
    }

    /// What a user knows it by: in small letters, as paths are compared.
    pub fn handle(self) -> String {
        self.0[..HANDLE_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = Id::random().expect("random bytes");
        assert_ne!(Some(&id), Id::random().as_ref());
        assert_eq!(Id::parse(&id.text()), Some(id.clone()));
        assert_eq!(id.text().len(), 43);
        for wrong in
            ["", "a", &id.text()[1..], &format!("{}=", id.text()), &format!("{}A", id.text()), &"\u{e4}".repeat(43)]
        {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Hash::parse(id.hash().text().as_bytes()), Some(id.hash()));
    }

    #[test]
    fn neither_the_hash_nor_what_is_shown_tells_the_id() {
        let id = Id::random().expect("random bytes");
        let shown = format!("{id:?} {:?} {} {}", id.hash(), id.hash().text(), id.hash().handle());
        assert!(!shown.contains(&id.text()));
        assert!(!id.hash().text().is_empty() && id.hash().handle().len() == 32);
    }
}
