//! The forgeries known of the field (RFC 8725), one by one: none is believed.

use crate::claims::Names;
use crate::keys::Keys;
use crate::token::{Policy, TOKEN_BYTES_MAX, TokenFault, verify};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW_S: u64 = 1_000_000;

fn policy(issuers: &[&str], audiences: &[&str]) -> Policy {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let names = Names {
        user: own(&Names::USER),
        roles: own(&Names::ROLES),
        tenant: own(&Names::TENANT),
        tier: own(&Names::TIER),
    };
    Policy { issuers: own(issuers), audiences: own(audiences), leeway_s: 30, names }
}

fn claims() -> Value {
    json!({"sub": "u1", "roles": ["user"], "exp": NOW_S + 100, "iss": "me", "aud": ["api", "web"]})
}

fn signed(header: &Header, claims: &Value, secret: &[u8]) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret)).expect("a token")
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn hs256() -> Header {
    Header::new(Algorithm::HS256)
}

fn judge(token: &str) -> Result<String, TokenFault> {
    verify(token, &Keys::secrets(&[SECRET]), &policy(&[], &[]), NOW_S).map(|identity| identity.user)
}

#[test]
fn a_token_signed_with_the_secret_or_the_one_before_it_is_believed() {
    let before = b"the-secret-before-0123456789abcdef".as_slice();
    let keys = Keys::secrets(&[SECRET, before]);
    for (secret, expected) in [(SECRET, true), (before, true), (b"another".as_slice(), false)] {
        let token = signed(&hs256(), &claims(), secret);
        assert_eq!(verify(&token, &keys, &policy(&[], &[]), NOW_S).is_ok(), expected);
    }
    assert_eq!(judge(&signed(&Header::new(Algorithm::HS512), &claims(), SECRET)), Ok("u1".into()));
}

#[test]
fn none_is_no_algorithm() {
    for alg in ["none", "None", "NONE", "nOnE", "", "HS1", "HS256 ", "hs256"] {
        let head = part(&json!({"alg": alg, "typ": "JWT"}));
        for signature in ["", "e30", &URL_SAFE_NO_PAD.encode([0; 32])] {
            let token = format!("{head}.{}.{signature}", part(&claims()));
            assert!(judge(&token).is_err(), "{alg} {signature}");
        }
    }
    let token = signed(&hs256(), &claims(), SECRET);
    let unsigned = token.rsplit_once('.').expect("dots").0;
    assert!(judge(unsigned).is_err() && judge(&format!("{unsigned}.")).is_err());
}

#[test]
fn a_published_key_does_not_sign_as_a_secret() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1"});
    let document = json!({ "keys": [jwk] }).to_string();
    let keys = Keys::jwks(&document).expect("keys");
    let header = Header { kid: Some("k1".into()), ..hs256() };
    // As key confusion does it: whatever is public, taken for the secret.
    for public in [point, &point[1..], document.as_bytes(), x.as_bytes()] {
        let token = signed(&header, &claims(), public);
        assert_eq!(verify(&token, &keys, &policy(&[], &[]), NOW_S), Err(TokenFault::UnknownKey));
    }
    let der = pair.to_pkcs8v1().expect("a document");
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::ES256) };
    let honest = encode(&header, &claims(), &EncodingKey::from_ec_der(der.as_ref())).expect("a token");
    assert!(verify(&honest, &keys, &policy(&[], &[]), NOW_S).is_ok());
}

#[test]
fn what_a_header_brings_along_is_never_used_as_a_key_or_an_address() {
    let mut header = hs256();
    header.jku = Some("https://evil.example/jwks.json".into());
    header.x5u = Some("https://evil.example/x.pem".into());
    for id in ["../../../dev/null", "' OR 1=1 --", "https://evil.example", "\0", &"k".repeat(4000)] {
        header.kid = Some(id.to_owned());
        assert_eq!(
            judge(&signed(&header, &claims(), b"attackers-own-secret-0123456789ab")),
            Err(TokenFault::Signature)
        );
        assert_eq!(judge(&signed(&header, &claims(), b"")), Err(TokenFault::Signature));
    }
    let critical = Header { crit: Some(vec!["exp".into()]), ..hs256() };
    assert_eq!(judge(&signed(&critical, &claims(), SECRET)), Err(TokenFault::Kind));
    let kind = Header { typ: Some("refresh+jwt".into()), ..hs256() };
    assert_eq!(judge(&signed(&kind, &claims(), SECRET)), Err(TokenFault::Kind));
    for typ in ["JWT", "at+jwt", "application/at+jwt"] {
        assert!(judge(&signed(&Header { typ: Some(typ.into()), ..hs256() }, &claims(), SECRET)).is_ok(), "{typ}");
    }
}

#[test]
fn times_are_numbers_and_judged_with_the_leeway() {
    for (name, value, expected) in [
        ("exp", json!(NOW_S - 29), Ok(())),
        ("exp", json!(NOW_S - 30), Err(TokenFault::Expired)),
        ("exp", json!(0), Err(TokenFault::Expired)),
        ("exp", json!(1_000_100.5), Ok(())),
        ("exp", json!("2000000"), Err(TokenFault::Claims)),
        ("exp", json!(-1), Err(TokenFault::Claims)),
        ("exp", json!(true), Err(TokenFault::Claims)),
        ("exp", json!(1e300), Ok(())),
        ("nbf", json!(NOW_S + 30), Ok(())),
        ("nbf", json!(NOW_S + 31), Err(TokenFault::NotYet)),
        ("nbf", json!("x"), Err(TokenFault::Claims)),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        assert_eq!(judge(&signed(&hs256(), &claims, SECRET)).map(|_| ()), expected, "{name} {value}");
    }
    let mut endless = claims();
    endless.as_object_mut().expect("object").remove("exp");
    assert_eq!(judge(&signed(&hs256(), &endless, SECRET)), Err(TokenFault::NoExpiry));
}

#[test]
fn issuer_and_audience_are_asked_where_they_are_named() {
    let token = signed(&hs256(), &claims(), SECRET);
    for (issuers, audiences, expected) in [
        (&["me"][..], &["api"][..], Ok(())),
        (&["other", "me"], &[], Ok(())),
        (&["other"], &[], Err(TokenFault::Issuer)),
        (&[], &["mobile"], Err(TokenFault::Audience)),
    ] {
        let judged = verify(&token, &Keys::secrets(&[SECRET]), &policy(issuers, audiences), NOW_S).map(|_| ());
        assert_eq!(judged, expected, "{issuers:?} {audiences:?}");
    }
    let mut bare = claims();
    bare.as_object_mut().expect("object").retain(|name, _| name != "iss" && name != "aud");
    let token = signed(&hs256(), &bare, SECRET);
    let keys = Keys::secrets(&[SECRET]);
    assert_eq!(verify(&token, &keys, &policy(&["me"], &[]), NOW_S), Err(TokenFault::Issuer));
    assert_eq!(verify(&token, &keys, &policy(&[], &["api"]), NOW_S), Err(TokenFault::Audience));
}

#[test]
fn a_token_of_any_length_costs_little() {
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(judge(&long), Err(TokenFault::TooLong));
    assert_eq!(judge(&".".repeat(TOKEN_BYTES_MAX)), Err(TokenFault::Malformed));
}
