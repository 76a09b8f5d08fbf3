//! What anybody may send: no token, key set or header name panics, and nothing unsigned is ever believed.

use crate::claims::Names;
use crate::keys::Keys;
use crate::token::{Policy, key_id, verify};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

const INPUTS: usize = 10_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn policy() -> Policy {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let names = Names {
        user: own(&Names::USER),
        roles: own(&Names::ROLES),
        tenant: own(&Names::TENANT),
        tier: own(&Names::TIER),
    };
    Policy { issuers: Vec::new(), audiences: Vec::new(), leeway_s: 0, names }
}

#[test]
fn a_changed_token_is_not_believed() {
    let claims = json!({"sub": "u1", "roles": ["user"], "exp": 2_000_000_000u64});
    let token = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET)).expect("a token");
    let keys = Keys::secrets(&[SECRET]);
    assert!(verify(&token, &keys, &policy(), 1).is_ok());
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let mut changed = token.clone().into_bytes();
        for pair in bytes.chunks_exact(2) {
            let at = usize::from(pair[0]) * token.len() / 256;
            changed[at] = pair[1];
        }
        let Ok(changed) = String::from_utf8(changed) else { return };
        // The last letter of a part holds bits that decode to nothing; they are refused as well.
        assert_eq!(verify(&changed, &keys, &policy(), 1).is_ok(), changed == token, "{changed}");
    });
}

#[test]
fn rubbish_is_refused_without_a_panic() {
    let keys = Keys::secrets(&[SECRET]);
    bolero::check!().with_iterations(INPUTS).with_max_len(256).for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        assert!(verify(&text, &keys, &policy(), 1).is_err());
        let _ = (key_id(&text), Keys::jwks(&text));
        let _ = crate::headers::is_identity_header(bytes);
    });
}
