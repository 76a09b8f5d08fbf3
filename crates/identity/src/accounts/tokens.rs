//! Access tokens: made here, for an account, under its generation and its login.

use super::methods::Methods;
use super::options::{Options, Sign};
use super::rows::Account;
use super::{Fault, secrets};
use crate::claims::Names;
use crate::identity::Identity;
use crate::keys::Keys;
use crate::revoked::Stamp;
use crate::signer::Signer;
use crate::token::{Policy, read};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;
use std::sync::Arc;

/// Between the clocks of two nodes.
pub(crate) const LEEWAY_S: i64 = 5;

pub(crate) struct Tokens {
    signing: Signing,
    keys: Keys,
    policy: Policy,
    issuer: String,
    life_s: u64,
}

enum Signing {
    Key(Arc<Signer>),
    Secret(EncodingKey),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'a str>,
    iat: u64,
    exp: u64,
    jti: String,
    /// How it was proved (RFC 8176); "mfa" is a second factor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    amr: Vec<&'static str>,
    /// The login it follows from.
    sid: &'a str,
    /// The account's generation.
    #[serde(rename = "gen")]
    generation: i64,
}

/// What a token of ours must say beside being signed.
pub(crate) fn policy(options: &Options) -> Policy {
    let one = |name: &str| vec![name.to_owned()];
    let names = Names { user: one("sub"), roles: one("roles"), tenant: one("tenant_id"), tier: one("tier") };
    let leeway_s = LEEWAY_S.unsigned_abs();
    Policy { issuers: vec![options.issuer.clone()], audiences: Vec::new(), leeway_s, names }
}

impl Tokens {
    pub fn new(options: &Options, signer: Arc<Signer>) -> Tokens {
        let (signing, keys) = match &options.sign {
            Sign::Key => {
                // Our own document: it always holds one key.
                let keys = Keys::jwks(signer.jwks()).unwrap_or_default();
                (Signing::Key(signer), keys)
            }
            Sign::Secret(secret, previous) => {
                let all: Vec<&[u8]> =
                    [Some(secret), previous.as_ref()].into_iter().flatten().map(|s| s.as_bytes()).collect();
                (Signing::Secret(EncodingKey::from_secret(secret.as_bytes())), Keys::secrets(&all))
            }
        };
        let life_s = options.access.as_secs();
        Tokens { signing, keys, policy: policy(options), issuer: options.issuer.clone(), life_s }
    }

    pub fn life_s(&self) -> u64 {
        self.life_s
    }

    pub fn access(&self, account: &Account, methods: Methods, login: &str, now_s: u64) -> Result<String, Fault> {
        let claims = Claims {
            iss: &self.issuer,
            sub: &account.id,
            roles: &account.roles,
            tenant_id: account.tenant.as_deref(),
            tier: account.tier.as_deref(),
            iat: now_s,
            exp: now_s + self.life_s,
            jti: secrets::id("")?,
            amr: methods.names(),
            sid: login,
            generation: account.generation,
        };
        match &self.signing {
            Signing::Key(signer) => signer.sign(&claims).ok_or(Fault::Sign),
            Signing::Secret(key) => encode(&Header::default(), &claims, key).map_err(|_| Fault::Sign),
        }
    }

    /// Whom a token of ours speaks of, revoked or not: one that logs out may already be.
    pub fn read(&self, token: &str, now_s: u64) -> Option<(Identity, Stamp)> {
        read(token, &self.keys, &self.policy, now_s).ok()
    }
}

/// Whom a token made now speaks of.
pub(crate) fn identity(account: &Account, methods: Methods, expires_s: u64) -> Identity {
    Identity {
        user: account.id.clone(),
        roles: account.roles.clone(),
        tenant: account.tenant.clone(),
        tier: account.tier.clone(),
        second_factor: methods.second,
        expires_s,
    }
}
