//! Somebody whom a provider vouches for. An account is his only by a link made before, or by an address that both the
//! provider and we have proof of: else whoever registers a stranger's address first would share the account.

use super::grant::LoggedIn;
use super::methods::Methods;
use super::rows::{Account, By, Link};
use super::{Accounts, Fault, address, secrets};

#[derive(Debug, thiserror::Error)]
pub enum LinkFault {
    /// There is an account with this address, and nothing says that it is his.
    #[error("an account has this address, and it is not proven")]
    AddressTaken,
    /// He is new, and nobody may make an account.
    #[error("no accounts are made here by their users")]
    Closed,
    /// He links what lets somebody else in.
    #[error("another account is linked with it")]
    Elsewhere,
    /// He who began to link is out meanwhile, or another came back.
    #[error("it was begun by somebody else")]
    NotYou,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<mainstay_store::Error> for LinkFault {
    fn from(error: mainstay_store::Error) -> LinkFault {
        LinkFault::Fault(Fault::Store(error))
    }
}

impl Accounts {
    /// Who it is: linked before, linked now, or new. An address that the provider does not vouch for is not looked at.
    ///
    /// # Errors
    /// When it cannot be said without trusting somebody who gave no proof.
    pub async fn by_provider(
        &self,
        provider: &str,
        subject: &str,
        email: Option<&str>,
        email_verified: bool,
        name: Option<&str>,
        now_us: i64,
    ) -> Result<LoggedIn, LinkFault> {
        let link = Link { provider: provider.to_owned(), subject: subject.to_owned() };
        let address = email.filter(|_| email_verified).and_then(address::canonical);
        let linked = By::Provider(link.provider.clone(), link.subject.clone());
        if let Some(account) = self.store.find(linked.clone()).await? {
            return Ok(self.logged_in(account, Methods::default(), now_us));
        }
        if let Some(address) = &address
            && let Some(account) = self.store.find(By::Address(address.clone())).await?
        {
            if account.verified_us.is_none() {
                self.note("link_refused", Some(&account.id), Some(provider.to_owned()));
                return Err(LinkFault::AddressTaken);
            }
            self.store.link(account.id.clone(), link, now_us).await?;
            let detail = Some(provider.to_owned());
            self.journal("linked", Some(&account.id), detail, Some(&account.id), now_us).await;
            self.tell_holder("provider_linked", &account);
        } else {
            self.new_of_provider(link, address, name, now_us).await?;
        }
        // Whoever came at the same instant with the same name may have been first: then this is his account.
        match self.store.find(linked).await? {
            Some(account) => Ok(self.logged_in(account, Methods::default(), now_us)),
            None => Err(LinkFault::AddressTaken),
        }
    }

    async fn new_of_provider(
        &self,
        link: Link,
        address: Option<String>,
        name: Option<&str>,
        now_us: i64,
    ) -> Result<(), LinkFault> {
        if !self.options.register {
            return Err(LinkFault::Closed);
        }
        let name = name.map(str::trim).filter(|name| !name.is_empty() && !name.chars().any(char::is_control));
        let account = Account {
            id: secrets::id("u_")?,
            verified_us: address.is_some().then_some(now_us),
            address,
            name: name.map(|name| name.chars().take(200).collect()),
            roles: self.options.roles.clone(),
            created_us: now_us,
            ..Account::default()
        };
        let (id, detail) = (account.id.clone(), Some(link.provider.clone()));
        if self.store.insert(account, Some(link)).await? {
            self.journal("registered", Some(&id), detail, Some(&id), now_us).await;
        }
        Ok(())
    }
}
