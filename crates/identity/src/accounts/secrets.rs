//! What nobody may guess: ids, refresh tokens, tokens in mails. Of a token the store keeps a hash alone.

use super::Fault;
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 128 bits: an id, which is no secret.
const ID_BYTES: usize = 16;
/// 256 bits: whoever has it is let in.
const TOKEN_BYTES: usize = 32;
/// What is longer is no token of ours, and is not even hashed.
pub(crate) const TOKEN_TEXT_MAX: usize = 128;

/// As the store knows a token.
pub(crate) type Hash = Vec<u8>;

/// `u_…`, `f_…`
pub(crate) fn id(prefix: &str) -> Result<String, Fault> {
    Ok(format!("{prefix}{}", random::<ID_BYTES>()?))
}

pub(crate) fn token() -> Result<String, Fault> {
    random::<TOKEN_BYTES>()
}

fn random<const N: usize>() -> Result<String, Fault> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Fault::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Of 256 random bits a plain hash is enough; with a secret (`JWT_REFRESH_SECRET`) a copy of the store and the token of
/// another installation are worth nothing, and another secret ends every login.
pub(crate) fn hash(token: &str, secret: Option<&str>) -> Hash {
    match secret {
        None => digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec(),
        Some(secret) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            hmac::sign(&key, token.as_bytes()).as_ref().to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_a_secret_makes_other_hashes() {
        let (one, other) = (token().expect("random"), token().expect("random"));
        assert_ne!(one, other);
        assert_eq!((one.len(), other.len()), (43, 43), "256 bits");
        assert!(one.len() < TOKEN_TEXT_MAX && id("u_").expect("random").starts_with("u_"));
        assert_eq!(hash(&one, None), hash(&one, None));
        let hashes = [hash(&one, None), hash(&one, Some("a")), hash(&one, Some("b")), hash(&other, None)];
        assert!(hashes.iter().enumerate().all(|(at, hash)| !hashes[at + 1..].contains(hash)));
    }
}
