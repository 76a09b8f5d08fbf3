//! The keys tokens are verified with, and which of them may have signed a given token.
//!
//! A key serves the algorithms of its own kind and no other: a public key is never taken for a secret.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use std::str::FromStr;

/// Issuers publish two or three; this leaves room for those that never forget one.
const KEYS_MAX: usize = 64;
/// A token without a key id is tried with so many keys: each try is a signature's time, and anybody may send one.
const TRIES_MAX: usize = 4;

const SECRET: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

#[derive(Debug, Default, Clone)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
pub(crate) struct Key {
    /// `None` for a secret: whatever a token names, it is tried.
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(crate) key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.algorithms)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeysFault {
    #[error("not a JSON Web Key Set")]
    NotJwks(#[source] serde_json::Error),
    #[error("{0} keys in one set; at most {KEYS_MAX} are read")]
    TooMany(usize),
    #[error("no key in it that verifies signatures")]
    NoUsable,
}

impl Keys {
    /// The first signs today, the others did before.
    pub fn secrets(secrets: &[&[u8]]) -> Keys {
        let key = |secret: &&[u8]| Key { id: None, algorithms: SECRET.into(), key: DecodingKey::from_secret(secret) };
        Keys(secrets.iter().map(key).collect())
    }

    /// A JSON Web Key Set (RFC 7517). What cannot verify a signature is passed over: an issuer may publish more.
    ///
    /// # Errors
    /// When there is nothing in it to verify with.
    pub fn jwks(text: &str) -> Result<Keys, KeysFault> {
        let set: JwkSet = serde_json::from_str(text).map_err(KeysFault::NotJwks)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeysFault::TooMany(set.keys.len()));
        }
        let keys: Vec<Key> = set.keys.iter().filter_map(key).collect();
        if keys.is_empty() { Err(KeysFault::NoUsable) } else { Ok(Keys(keys)) }
    }

    pub fn and(mut self, other: Keys) -> Keys {
        self.0.extend(other.0);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that may have signed a token with this header.
    pub(crate) fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> impl Iterator<Item = &DecodingKey> {
        let named = move |key: &&Key| match (&key.id, id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        };
        let fitting = self.0.iter().filter(move |key| key.algorithms.contains(&algorithm)).filter(named);
        fitting.map(|key| &key.key).take(TRIES_MAX)
    }

    /// Some key has this id; a token that names another may have been signed since the keys were fetched.
    pub fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id.as_deref() == Some(id))
    }
}

fn key(jwk: &Jwk) -> Option<Key> {
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))) {
        return None;
    }
    let of_kind: Vec<Algorithm> = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA.into(),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
        // A secret that is published is none.
        _ => return None,
    };
    let algorithms = match &jwk.common.key_algorithm {
        None => of_kind,
        Some(named) => of_kind.into_iter().filter(|algorithm| is(named, *algorithm)).collect(),
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (!algorithms.is_empty()).then(|| Key { id: jwk.common.key_id.clone(), algorithms, key })
}

fn is(named: &KeyAlgorithm, algorithm: Algorithm) -> bool {
    Algorithm::from_str(&named.to_string()).is_ok_and(|named| named == algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RSA_N: &str = concat!(
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB",
        "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8",
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_",
        "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    );

    fn rsa(more: serde_json::Value) -> serde_json::Value {
        let mut key = json!({"kty": "RSA", "n": RSA_N, "e": "AQAB", "kid": "r1"});
        more.as_object().expect("object").iter().for_each(|(name, value)| key[name] = value.clone());
        key
    }

    fn usable(keys: serde_json::Value) -> Result<usize, String> {
        Keys::jwks(&json!({ "keys": keys }).to_string()).map(|keys| keys.0.len()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn only_what_verifies_signatures_is_a_key() {
        assert_eq!(usable(json!([rsa(json!({}))])), Ok(1));
        assert_eq!(usable(json!([rsa(json!({"use": "sig"}))])), Ok(1));
        let none = Err("no key in it that verifies signatures".to_owned());
        assert_eq!(usable(json!([rsa(json!({"use": "enc"}))])), none);
        assert_eq!(usable(json!([rsa(json!({"alg": "RSA-OAEP"}))])), none);
        assert_eq!(usable(json!([{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}])), none);
        assert_eq!(usable(json!([])), none);
        assert!(Keys::jwks("<html>").is_err() && Keys::jwks("{}").is_err());
        let many: Vec<_> = (0..=KEYS_MAX).map(|_| rsa(json!({}))).collect();
        assert!(matches!(Keys::jwks(&json!({"keys": many}).to_string()), Err(KeysFault::TooMany(65))));
    }

    #[test]
    fn a_public_key_is_never_a_secret_and_an_algorithm_never_anothers() {
        let keys = Keys::jwks(&json!({"keys": [rsa(json!({"alg": "RS256"}))]}).to_string()).expect("keys");
        assert_eq!(keys.candidates(Algorithm::RS256, Some("r1")).count(), 1);
        assert_eq!(keys.candidates(Algorithm::RS256, None).count(), 1);
        assert_eq!(keys.candidates(Algorithm::RS256, Some("other")).count(), 0);
        for other in [Algorithm::HS256, Algorithm::RS512, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert_eq!(keys.candidates(other, Some("r1")).count(), 0, "{other:?}");
        }
        let secret = Keys::secrets(&[b"one", b"two"]);
        assert_eq!(secret.candidates(Algorithm::HS256, Some("../../etc/passwd")).count(), 2);
        assert_eq!(secret.candidates(Algorithm::RS256, None).count(), 0);
    }
}
