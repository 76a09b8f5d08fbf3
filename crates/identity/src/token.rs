//! A token read and judged, at a given time. The signature is checked by `jsonwebtoken`, all else here, where the time
//! is an argument and every refusal has its name.

use crate::claims::Names;
use crate::identity::Identity;
use crate::keys::Keys;
use crate::revoked::Stamp;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// A header line has 16 KiB by default; a token beyond this is not read.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token must say beside being signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Empty: any.
    pub issuers: Vec<String>,
    /// Empty: any.
    pub audiences: Vec<String>,
    /// How far the clocks of issuer and edge may be apart.
    pub leeway_s: u64,
    pub names: Names,
}

/// Why a token speaks of nobody. No variant holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("it is no JSON Web Token")]
    Malformed,
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is of a kind that is no access token")]
    Kind,
    #[error("no key here may have signed it")]
    UnknownKey,
    #[error("its signature is not by a key known here")]
    Signature,
    #[error("it has no time of expiry")]
    NoExpiry,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("its issuer is not one of those named")]
    Issuer,
    #[error("it is meant for others")]
    Audience,
    #[error("it names no user")]
    NoUser,
    #[error("a claim of it cannot be read")]
    Claims,
    #[error("it was taken back")]
    Revoked,
    #[error("nobody knows yet what was taken back")]
    NotKnown,
}

/// Whom it speaks of, and what one of ours says of its own making.
///
/// # Errors
/// Whatever is wrong with it first.
pub(crate) fn read(token: &str, keys: &Keys, policy: &Policy, now_s: u64) -> Result<(Identity, Stamp), TokenFault> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenFault::TooLong);
    }
    let claims = signed_claims(token, keys)?;
    let expires_s = in_time(&claims, policy.leeway_s, now_s)?;
    if !policy.issuers.is_empty()
        && !text(&claims, "iss").is_some_and(|iss| policy.issuers.iter().any(|own| own == iss))
    {
        return Err(TokenFault::Issuer);
    }
    if !policy.audiences.is_empty() && !is_for(&claims, &policy.audiences) {
        return Err(TokenFault::Audience);
    }
    let stamp = Stamp {
        login: text(&claims, "sid").map(str::to_owned),
        generation: claims.get("gen").and_then(Value::as_i64),
        issued_s: seconds(&claims, "iat")?.unwrap_or(0),
    };
    Ok((policy.names.identity(&claims, expires_s)?, stamp))
}

#[cfg(test)]
pub(crate) fn verify(token: &str, keys: &Keys, policy: &Policy, now_s: u64) -> Result<Identity, TokenFault> {
    read(token, keys, policy, now_s).map(|(identity, _)| identity)
}

/// The key id of a token that no key fits, so that somebody may fetch newer keys.
pub(crate) fn key_id(token: &str) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    decode_header(token).ok()?.kid.filter(|id| id.len() <= 256)
}

pub(crate) fn signed_claims(token: &str, keys: &Keys) -> Result<Map<String, Value>, TokenFault> {
    let header = decode_header(token).map_err(|_| TokenFault::Malformed)?;
    // What must be understood and is not: RFC 7515 §4.1.11.
    if header.crit.is_some() || header.zip.is_some() || header.enc.is_some() {
        return Err(TokenFault::Kind);
    }
    if header.typ.as_deref().is_some_and(|typ| !is_access(typ)) {
        return Err(TokenFault::Kind);
    }
    let mut tried = false;
    for key in keys.candidates(header.alg, header.kid.as_deref()) {
        tried = true;
        // Times, issuer and audience are judged by us.
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims = HashSet::new();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        if let Ok(data) = decode::<Map<String, Value>>(token, key, &validation) {
            return Ok(data.claims);
        }
    }
    Err(if tried { TokenFault::Signature } else { TokenFault::UnknownKey })
}

fn is_access(typ: &str) -> bool {
    let typ = typ
        .get(.."application/".len())
        .filter(|p| p.eq_ignore_ascii_case("application/"))
        .map_or(typ, |p| &typ[p.len()..]);
    typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt")
}

/// When it ends, if it holds now.
pub(crate) fn in_time(claims: &Map<String, Value>, leeway_s: u64, now_s: u64) -> Result<u64, TokenFault> {
    let expires_s = seconds(claims, "exp")?.ok_or(TokenFault::NoExpiry)?;
    if now_s >= expires_s.saturating_add(leeway_s) {
        return Err(TokenFault::Expired);
    }
    match seconds(claims, "nbf")? {
        Some(begins) if begins > now_s.saturating_add(leeway_s) => Err(TokenFault::NotYet),
        _ => Ok(expires_s.saturating_add(leeway_s)),
    }
}

/// A NumericDate: whole, or with a fraction. A number in quotes is none.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_u64().or_else(|| value.as_f64().filter(|s| s.is_finite() && *s >= 0.0).map(|s| s as u64));
    whole.map(Some).ok_or(TokenFault::Claims)
}

pub(crate) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

pub(crate) fn is_for(claims: &Map<String, Value>, audiences: &[String]) -> bool {
    let own = |audience: &str| audiences.iter().any(|own| own == audience);
    match claims.get("aud") {
        Some(Value::String(audience)) => own(audience),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(own),
        _ => false,
    }
}
