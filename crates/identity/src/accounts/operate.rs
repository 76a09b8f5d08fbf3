//! What an operator does with accounts: the verb `mainstay accounts`.

use super::rows::{Account, By, Change};
use super::{Accounts, Fault, address, hashing, secrets};
use crate::identity::{NAME_BYTES_MAX, ROLES_MAX, is_name};
use serde::{Deserialize, Serialize};

/// Who did it, in the journal.
pub(crate) const OPERATOR: &str = "operator";

/// One account of another system, as a line of JSON.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// Kept, so that what the app has of this user stays his.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(alias = "address")]
    pub email: String,
    #[serde(default, alias = "passwordHash", alias = "hash", skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    #[serde(default, alias = "tenant_id", alias = "tenantId", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(default, alias = "email_verified", alias = "emailVerified")]
    pub verified: bool,
}

/// Without the person and his hash.
impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Import({:?})", self.id)
    }
}

/// What became of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub taken: u64,
    /// Their id or address was here already; nothing of them was changed.
    pub known: Vec<String>,
    /// Their address, and why not.
    pub refused: Vec<(String, String)>,
}

impl Accounts {
    /// By id or by address.
    pub async fn look_up(&self, who: &str) -> Result<Option<Account>, Fault> {
        if let Some(address) = address::canonical(who)
            && let Some(account) = self.store.find(By::Address(address)).await?
        {
            return Ok(Some(account));
        }
        Ok(self.store.find(By::Id(who.to_owned())).await?)
    }

    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<Account>, Fault> {
        Ok(self.store.list(after.to_owned(), limit).await?)
    }

    /// His next access token has them; those he holds are refused, and his browsers log in again.
    pub async fn set_roles(&self, user: &str, roles: Vec<String>, now_us: i64) -> Result<bool, Fault> {
        let detail = Some(roles.join(","));
        let (change, until_s) = (Change::Roles(roles), self.until_s(now_us));
        let Some(revocation) = self.store.change(user.to_owned(), change, now_us, until_s).await? else {
            return Ok(false);
        };
        self.revoke(&revocation, now_us);
        self.end_sessions(user, now_us).await?;
        self.journal("roles", Some(user), detail, Some(OPERATOR), now_us).await;
        Ok(true)
    }

    pub async fn revoke_by_operator(&self, user: &str, now_us: i64) -> Result<bool, Fault> {
        self.end_all(user, Some(OPERATOR), now_us).await
    }

    pub async fn delete_by_operator(&self, user: &str, now_us: i64) -> Result<bool, Fault> {
        self.delete(user, Some(OPERATOR), now_us).await
    }

    /// Those that can be taken are; each of the others is named with the reason.
    pub async fn import(&self, imports: Vec<Import>, now_us: i64) -> Result<Imported, Fault> {
        let mut outcome = Imported::default();
        let mut accounts = Vec::with_capacity(imports.len());
        for import in imports {
            let email = import.email.clone();
            match self.taken_over(import, now_us) {
                Ok(account) => accounts.push(account),
                Err(Wrong::Said(why)) => outcome.refused.push((email, why)),
                Err(Wrong::Fault(fault)) => return Err(fault),
            }
        }
        let addresses: Vec<String> = accounts.iter().map(|a| a.address.clone().unwrap_or_default()).collect();
        let done = self.store.import(accounts).await?;
        for (address, taken) in addresses.into_iter().zip(done) {
            match taken {
                true => outcome.taken += 1,
                false => outcome.known.push(address),
            }
        }
        if outcome.taken > 0 {
            let detail = Some(format!("{} accounts", outcome.taken));
            self.journal("imported", None, detail, Some(OPERATOR), now_us).await;
        }
        Ok(outcome)
    }

    fn taken_over(&self, import: Import, now_us: i64) -> Result<Account, Wrong> {
        let said = |why: &str| Wrong::Said(why.to_owned());
        let address = address::canonical(&import.email).ok_or_else(|| said("no address of mail"))?;
        if let Some(hash) = &import.password_hash {
            hashing::judge_foreign(hash, self.options.bcrypt_rounds).map_err(Wrong::Said)?;
        }
        let roles = import.roles.unwrap_or_else(|| self.options.roles.clone());
        judge_roles(&roles).map_err(Wrong::Said)?;
        for name in [&import.id, &import.tenant, &import.tier].into_iter().flatten() {
            if !is_name(name, false) {
                return Err(Wrong::Said(format!(
                    "an id, a tenant or a tier is not 1 to {NAME_BYTES_MAX} bytes of ASCII"
                )));
            }
        }
        let id = match import.id {
            Some(id) => id,
            None => secrets::id("u_").map_err(Wrong::Fault)?,
        };
        Ok(Account {
            id,
            address: Some(address),
            name: import.name,
            password: import.password_hash,
            roles,
            tenant: import.tenant,
            tier: import.tier,
            verified_us: import.verified.then_some(now_us),
            created_us: now_us,
            ..Account::default()
        })
    }
}

enum Wrong {
    Said(String),
    Fault(Fault),
}

/// # Errors
/// What is wrong with them.
pub fn judge_roles(roles: &[String]) -> Result<(), String> {
    if roles.len() > ROLES_MAX {
        return Err(format!("{} roles; at most {ROLES_MAX}", roles.len()));
    }
    match roles.iter().find(|role| !is_name(role, true)) {
        Some(role) => Err(format!("`{role}` is no name of a role: ASCII without commas")),
        None => Ok(()),
    }
}
