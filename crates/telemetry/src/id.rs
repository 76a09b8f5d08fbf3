//! Ids made on a core: request ids, trace ids and span ids. No lock, no system call, no allocation.
//!
//! They tell requests apart; they are not secrets and must never be used as one.

use crate::record::RequestId;

/// Crockford's base32, lower case: no i, l, o, u.
const ALPHABET: [u8; 32] = *b"0123456789abcdefghjkmnpqrstvwxyz";

/// One a core, each with a seed of its own from the kernel.
#[derive(Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// Fails only where the kernel gives no random bytes.
    pub fn new() -> Result<Ids, getrandom::Error> {
        Ok(Ids::seeded(getrandom::u64()?))
    }

    pub fn seeded(state: u64) -> Ids {
        Ids { state }
    }

    /// The id of a request that began at this instant.
    #[inline]
    pub fn request(&mut self, unix_us: u64) -> RequestId {
        let (a, b) = (self.random(), self.random());
        let time = u128::from((unix_us / 1000) & 0xffff_ffff_ffff);
        let uuid = time << 80 | 0x7 << 76 | u128::from(a & 0xfff) << 64 | 0b10 << 62 | u128::from(b >> 2);
        let mut text = [0; 26];
        let mut rest = uuid;
        for c in text.iter_mut().rev() {
            *c = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        RequestId(text)
    }

    /// Never zero: all zero means "no trace".
    #[inline]
    pub fn trace(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.random().to_be_bytes());
        id[8..].copy_from_slice(&(self.random() | 1).to_be_bytes());
        id
    }

    #[inline]
    pub fn span(&mut self) -> [u8; 8] {
        (self.random() | 1).to_be_bytes()
    }

    /// wyrand: one addition and one wide multiplication.
    #[inline]
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0xa076_1d64_78bd_642f);
        let wide = u128::from(self.state) * u128::from(self.state ^ 0xe703_7ed1_a0b4_28db);
        (wide >> 64) as u64 ^ wide as u64
    }
}

impl RequestId {
    /// From `r_…` or the 26 characters alone, in either case.
    pub fn parse(text: &str) -> Option<RequestId> {
        let text = text.strip_prefix("r_").unwrap_or(text).as_bytes();
        let mut id: [u8; 26] = text.try_into().ok()?;
        id.make_ascii_lowercase();
        // 26 × 5 bits are two more than a UUID has.
        let fits = matches!(id[0], b'0'..=b'7');
        (fits && id.iter().all(|c| ALPHABET.contains(c))).then_some(RequestId(id))
    }

    /// When the request began, milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        let bits = self.0.iter().fold(0u128, |bits, c| {
            let value = ALPHABET.iter().position(|a| a == c).unwrap_or(0);
            bits << 5 | value as u128
        });
        (bits >> 80) as u64
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_id_says_when_and_is_read_back() {
        let mut ids = Ids::new().expect("random bytes");
        let id = ids.request(1_795_000_000_123_456);
        assert_eq!(id.unix_ms(), 1_795_000_000_123);
        let text = id.to_string();
        assert_eq!(text.len(), 28);
        assert_eq!(RequestId::parse(&text), Some(id));
        assert_eq!(RequestId::parse(&text[2..].to_uppercase()), Some(id));
        assert!(text < ids.request(1_795_000_001_000_000).to_string(), "later ids sort later");
    }

    #[test]
    fn the_bits_are_a_version_7_uuid() {
        let id = Ids::seeded(1).request(0x0123_4567_89ab * 1000);
        let bits = id.0.iter().fold(0u128, |b, c| b << 5 | ALPHABET.iter().position(|a| a == c).unwrap_or(99) as u128);
        assert_eq!((bits >> 76) & 0xf, 7);
        assert_eq!((bits >> 62) & 0b11, 0b10);
    }

    #[test]
    fn ids_differ_and_garbage_is_refused() {
        let mut ids = Ids::seeded(7);
        let seen: HashSet<_> = (0..10_000).map(|_| ids.request(1).0).collect();
        assert_eq!(seen.len(), 10_000);
        assert_ne!(ids.trace(), ids.trace());
        assert_ne!(ids.span(), [0; 8]);
        for bad in ["", "r_", "r_0", "r_8zzzzzzzzzzzzzzzzzzzzzzzzz", "r_0000000000000000000000000l", "é"] {
            assert_eq!(RequestId::parse(bad), None, "{bad}");
        }
    }
}
