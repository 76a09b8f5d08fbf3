//! An id token judged (OpenID Connect Core §3.1.3.7): by whom, for whom, of which login, and still good.

use super::fault::Untrusted;
use super::metadata::is_issuer;
use super::options::Provider;
use crate::keys::Keys;
use crate::token::{TokenFault, in_time, is_for, signed_claims, text};
use serde_json::{Map, Value};

/// How far the provider's clock may be from ours.
const LEEWAY_S: u64 = 60;
/// It was made a moment ago, for this code.
const AGE_MAX_S: u64 = 600;

/// # Errors
/// Whatever is wrong with it first; `TokenFault::UnknownKey` may be because the keys are new.
pub(crate) fn claims(
    token: &str,
    keys: &Keys,
    provider: &Provider,
    nonce: &str,
    now_s: u64,
) -> Result<Map<String, Value>, Untrusted> {
    let manners = provider.kind.manners();
    if token.len() > crate::token::TOKEN_BYTES_MAX {
        return Err(Untrusted::Token(TokenFault::TooLong));
    }
    let claims = signed_claims(token, keys).map_err(Untrusted::Token)?;
    in_time(&claims, LEEWAY_S, now_s).map_err(Untrusted::Token)?;
    let issued_s = claims.get("iat").and_then(Value::as_u64).ok_or(Untrusted::Token(TokenFault::Claims))?;
    if issued_s > now_s + LEEWAY_S {
        return Err(Untrusted::Token(TokenFault::NotYet));
    }
    if issued_s + AGE_MAX_S < now_s {
        return Err(Untrusted::Token(TokenFault::Expired));
    }
    if !text(&claims, "iss").is_some_and(|iss| is_issuer(iss, provider, &manners)) {
        return Err(Untrusted::Token(TokenFault::Issuer));
    }
    if !is_for(&claims, std::slice::from_ref(&provider.client_id)) {
        return Err(Untrusted::Token(TokenFault::Audience));
    }
    let is_others = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    match claims.get("azp") {
        Some(party) if party.as_str() != Some(&*provider.client_id) => return Err(Untrusted::Party),
        None if is_others => return Err(Untrusted::Party),
        _ => {}
    }
    match claims.get("nonce") {
        Some(own) if own.as_str() == Some(nonce) => Ok(claims),
        None if !manners.echoes_nonce => Ok(claims),
        _ => Err(Untrusted::Nonce),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::oauth::options::tests::provider;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    const NOW_S: u64 = 1_000_000;
    const ISSUER: &str = "https://id.example";

    /// Signs as a provider does.
    pub(crate) struct Issuer {
        key: EncodingKey,
        id: String,
        keys: Keys,
        /// Its key set.
        pub public: String,
    }

    impl Issuer {
        pub(crate) fn token(&self, claims: &Value) -> String {
            let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
            encode(&header, claims, &self.key).expect("a token")
        }
    }

    pub(crate) fn issuer(id: &str) -> Issuer {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let public = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig"}]});
        let der = pair.to_pkcs8v1().expect("der");
        let keys = Keys::jwks(&public.to_string()).expect("keys");
        Issuer { key: EncodingKey::from_ec_der(der.as_ref()), id: id.to_owned(), keys, public: public.to_string() }
    }

    fn good() -> Value {
        json!({"iss": ISSUER, "sub": "u1", "aud": "client-1", "exp": NOW_S + 300, "iat": NOW_S, "nonce": "n1"})
    }

    fn with(more: Value) -> Value {
        let mut claims = good();
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        claims
    }

    fn judged(issuer: &Issuer, name: &str, value: &Value) -> Result<(), Untrusted> {
        claims(&issuer.token(value), &issuer.keys, &provider(name, ISSUER), "n1", NOW_S).map(drop)
    }

    #[test]
    fn every_claim_must_be_of_this_login() {
        let issuer = issuer("k1");
        let fault = |fault| Err(Untrusted::Token(fault));
        for (more, expected) in [
            (json!({}), Ok(())),
            (json!({"aud": ["client-1"]}), Ok(())),
            (json!({"aud": ["client-1", "x"], "azp": "client-1"}), Ok(())),
            (json!({"azp": "client-1"}), Ok(())),
            (json!({"nonce": "n2"}), Err(Untrusted::Nonce)),
            (json!({"nonce": null}), Err(Untrusted::Nonce)),
            (json!({"nonce": 1}), Err(Untrusted::Nonce)),
            (json!({"iss": "https://evil.example"}), fault(TokenFault::Issuer)),
            (json!({"iss": "https://id.example/"}), fault(TokenFault::Issuer)),
            (json!({"iss": null}), fault(TokenFault::Issuer)),
            (json!({"aud": "client-2"}), fault(TokenFault::Audience)),
            (json!({"aud": null}), fault(TokenFault::Audience)),
            (json!({"aud": ["client-1", "x"]}), Err(Untrusted::Party)),
            (json!({"azp": "x"}), Err(Untrusted::Party)),
            (json!({"exp": NOW_S - 60}), fault(TokenFault::Expired)),
            (json!({"exp": null}), fault(TokenFault::NoExpiry)),
            (json!({"iat": NOW_S - 601}), fault(TokenFault::Expired)),
            (json!({"iat": NOW_S + 61}), fault(TokenFault::NotYet)),
            (json!({"iat": null}), fault(TokenFault::Claims)),
        ] {
            assert_eq!(judged(&issuer, "corp", &with(more.clone())), expected, "{more}");
        }
    }

    #[test]
    fn linkedin_sends_no_nonce_and_a_wrong_one_is_wrong_all_the_same() {
        let issuer = issuer("k1");
        assert_eq!(judged(&issuer, "linkedin", &with(json!({"nonce": null}))), Ok(()));
        assert_eq!(judged(&issuer, "linkedin", &with(json!({"nonce": "n2"}))), Err(Untrusted::Nonce));
        assert_eq!(judged(&issuer, "google", &with(json!({"nonce": null}))), Err(Untrusted::Nonce));
    }

    #[test]
    fn neither_no_signature_nor_the_clients_secret_nor_another_key_is_one() {
        let (issuer, other) = (issuer("k1"), issuer("k1"));
        let forged = other.token(&good());
        let fault = claims(&forged, &issuer.keys, &provider("corp", ISSUER), "n1", NOW_S);
        assert_eq!(fault, Err(Untrusted::Token(TokenFault::Signature)));
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let judged = |token: &str| claims(token, &issuer.keys, &provider("corp", ISSUER), "n1", NOW_S);
        for algorithm in ["none", "None", "NONE", "nOnE"] {
            for signature in ["", "AAAA"] {
                let token = format!("{}.{}.{signature}", part(json!({ "alg": algorithm })), part(good()));
                assert!(judged(&token).is_err(), "{token}");
            }
        }
        for secret in ["s:%cret", &issuer.public] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let token = encode(&Header::new(Algorithm::HS256), &good(), &key).expect("a token");
            assert_eq!(judged(&token), Err(Untrusted::Token(TokenFault::UnknownKey)));
        }
        assert!(judged(&"a".repeat(9000)).is_err() && judged("").is_err() && judged("a.b.c").is_err());
    }
}
