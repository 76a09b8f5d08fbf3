//! The accounts as operators see and change them.

use crate::control::{Accounts as Asked, Refused};
use crate::server::Server;
use crate::settings::chain;
use mainstay_identity::accounts::{Account, Accounts, Fault, judge_roles};
use mainstay_runtime::Clock;
use serde_json::{Value, json};

pub async fn run(server: &Server, asked: Asked) -> Result<Value, Refused> {
    let service = server.services.identity();
    let Some(accounts) = service.as_ref().and_then(|service| service.accounts()) else {
        return Err(Refused::new(
            "no accounts are kept here   fix: [identity] accounts = true; at a start the store may be closed",
        ));
    };
    let now_us = i64::try_from(Clock::unix_micros()).unwrap_or(i64::MAX);
    match asked {
        Asked::List { after, limit } => {
            let found = accounts.list(&after, limit).await.map_err(away)?;
            Ok(json!({ "accounts": found.iter().map(shown).collect::<Vec<_>>() }))
        }
        Asked::Show(who) => Ok(shown(&known(accounts, &who).await?)),
        Asked::Roles(who, roles) => {
            judge_roles(&roles).map_err(Refused::new)?;
            let account = known(accounts, &who).await?;
            accounts.set_roles(&account.id, roles.clone(), now_us).await.map_err(away)?;
            Ok(json!({ "id": account.id, "roles": roles }))
        }
        Asked::Revoke(who) => {
            let account = known(accounts, &who).await?;
            accounts.revoke_by_operator(&account.id, now_us).await.map_err(away)?;
            Ok(json!({ "id": account.id }))
        }
        Asked::Delete(who) => {
            let account = known(accounts, &who).await?;
            accounts.delete_by_operator(&account.id, now_us).await.map_err(away)?;
            Ok(json!({ "id": account.id }))
        }
        Asked::RemoveFactor(who) => {
            let account = known(accounts, &who).await?;
            let removed = accounts.remove_factor_by_operator(&account.id, now_us).await.map_err(away)?;
            Ok(json!({ "id": account.id, "removed": removed }))
        }
        Asked::Import(imports) => {
            let outcome = accounts.import(imports, now_us).await.map_err(away)?;
            serde_json::to_value(outcome).map_err(|error| Refused::new(error.to_string()))
        }
    }
}

async fn known(accounts: &Accounts, who: &str) -> Result<Account, Refused> {
    let found = accounts.look_up(who).await.map_err(away)?;
    found.ok_or_else(|| Refused::new(format!("there is no account `{who}`   see: mainstay accounts")))
}

fn away(fault: Fault) -> Refused {
    Refused::new(chain(&fault))
}

/// Without what logs anybody in.
fn shown(account: &Account) -> Value {
    let scheme = match account.password.as_deref() {
        None => None,
        Some(hash) if hash.starts_with("$argon2") => Some("argon2"),
        Some(_) => Some("bcrypt"),
    };
    json!({
        "id": account.id, "email": account.address, "name": account.name, "roles": account.roles,
        "tenant": account.tenant, "tier": account.tier, "verified_us": account.verified_us,
        "created_us": account.created_us, "seen_us": account.seen_us, "password": scheme,
    })
}
