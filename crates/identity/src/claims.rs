//! Where in a token's claims the user, the roles, the tenant and its tier stand: every issuer has its own words.

use crate::identity::{Identity, MFA, ROLES_MAX, is_name};
use crate::token::TokenFault;
use serde_json::{Map, Value};

/// Names of claims to look at, in turn. A name is a key, or a path with dots (`realm_access.roles`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub user: Vec<String>,
    pub roles: Vec<String>,
    pub tenant: Vec<String>,
    pub tier: Vec<String>,
}

impl Names {
    /// What the common issuers and the guides' apps write.
    pub const USER: [&str; 4] = ["sub", "userId", "user_id", "id"];
    pub const ROLES: [&str; 4] = ["roles", "role", "realm_access.roles", "groups"];
    pub const TENANT: [&str; 4] = ["tenant_id", "tenantId", "tenant", "org_id"];
    pub const TIER: [&str; 2] = ["tier", "plan"];

    /// # Errors
    /// A claim that is there and cannot be what it should be: guessing would hand out somebody else's rights.
    pub(crate) fn identity(&self, claims: &Map<String, Value>, expires_s: u64) -> Result<Identity, TokenFault> {
        let user = one(claims, &self.user)?.ok_or(TokenFault::NoUser)?;
        let roles = match first(claims, &self.roles) {
            Some(value) => list(value)?,
            None => Vec::new(),
        };
        let (tenant, tier) = (one(claims, &self.tenant)?, one(claims, &self.tier)?);
        Ok(Identity { user, roles, tenant, tier, second_factor: has_second_factor(claims), expires_s })
    }
}

/// `amr` as RFC 8176 has it: whatever else stands there is no second factor.
fn has_second_factor(claims: &Map<String, Value>) -> bool {
    let methods = claims.get("amr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    methods.iter().any(|method| method.as_str() == Some(MFA))
}

fn first<'a>(claims: &'a Map<String, Value>, names: &[String]) -> Option<&'a Value> {
    names.iter().find_map(|name| find(claims, name)).filter(|value| !value.is_null())
}

/// A key that holds dots itself (`https://example.com/roles`) comes before a path.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    find(claims.get(outer)?.as_object()?, inner)
}

fn one(claims: &Map<String, Value>, names: &[String]) -> Result<Option<String>, TokenFault> {
    let Some(value) = first(claims, names) else { return Ok(None) };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        _ => return Err(TokenFault::Claims),
    };
    if is_name(&text, false) { Ok(Some(text)) } else { Err(TokenFault::Claims) }
}

/// `["admin", "user"]`, or `"admin"`, or as OAuth writes scopes: `"admin user"`.
fn list(value: &Value) -> Result<Vec<String>, TokenFault> {
    let texts: Vec<&str> = match value {
        Value::String(text) => text.split([' ', ',']).filter(|role| !role.is_empty()).collect(),
        Value::Array(items) => {
            let text = |item: &'_ Value| -> Option<()> { item.is_string().then_some(()) };
            if items.iter().any(|item| text(item).is_none()) {
                return Err(TokenFault::Claims);
            }
            items.iter().filter_map(Value::as_str).collect()
        }
        _ => return Err(TokenFault::Claims),
    };
    if texts.len() > ROLES_MAX || !texts.iter().all(|role| is_name(role, true)) {
        return Err(TokenFault::Claims);
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names() -> Names {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names {
            user: own(&Names::USER),
            roles: own(&Names::ROLES),
            tenant: own(&Names::TENANT),
            tier: own(&Names::TIER),
        }
    }

    fn read(claims: Value) -> Result<Identity, TokenFault> {
        names().identity(claims.as_object().expect("an object"), 9)
    }

    #[test]
    fn issuers_have_their_own_words() {
        for (claims, user, roles, tenant) in [
            (json!({"sub": "u1"}), "u1", vec![], None),
            (json!({"userId": 42, "role": "admin"}), "42", vec!["admin"], None),
            (
                json!({"sub": "u1", "roles": ["admin", "user"], "tenant_id": "t1"}),
                "u1",
                vec!["admin", "user"],
                Some("t1"),
            ),
            (json!({"sub": "u1", "realm_access": {"roles": ["x"]}}), "u1", vec!["x"], None),
            (json!({"sub": "u1", "roles": "a b,c", "org_id": 7}), "u1", vec!["a", "b", "c"], Some("7")),
        ] {
            let read = read(claims.clone()).expect("an identity");
            assert_eq!(
                (read.user.as_str(), &read.roles),
                (user, &roles.iter().map(|r| (*r).to_owned()).collect()),
                "{claims}"
            );
            assert_eq!(read.tenant.as_deref(), tenant, "{claims}");
        }
        let spaced = Names { roles: vec!["https://example.com/roles".into()], ..names() };
        let claims = json!({"sub": "u", "https://example.com/roles": ["r"]});
        assert_eq!(spaced.identity(claims.as_object().expect("object"), 9).expect("an identity").roles, ["r"]);
    }

    #[test]
    fn a_second_factor_is_said_by_amr_and_by_nothing_near_it() {
        for (claims, second) in [
            (json!({"sub": "u", "amr": ["pwd", "mfa"]}), true),
            (json!({"sub": "u", "amr": ["pwd", "otp"]}), false),
            (json!({"sub": "u", "amr": "mfa"}), false),
            (json!({"sub": "u", "amr": ["MFA", ["mfa"], 1]}), false),
            (json!({"sub": "u", "mfa": true}), false),
            (json!({"sub": "u"}), false),
        ] {
            assert_eq!(read(claims.clone()).expect("an identity").second_factor, second, "{claims}");
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_not_guessed() {
        for claims in [
            json!({}),
            json!({"sub": ""}),
            json!({"sub": {"id": 1}}),
            json!({"sub": "a\r\nx: y"}),
            json!({"sub": "u", "roles": ["admin", 1]}),
            json!({"sub": "u", "roles": {"admin": true}}),
            json!({"sub": "u", "roles": ["admin,root"]}),
            json!({"sub": "u", "tenant": ["a"]}),
            json!({"sub": 1.5}),
        ] {
            assert!(read(claims.clone()).is_err(), "{claims}");
        }
        let many: Vec<String> = (0..=ROLES_MAX).map(|i| i.to_string()).collect();
        assert_eq!(read(json!({"sub": "u", "roles": many})), Err(TokenFault::Claims));
    }
}
