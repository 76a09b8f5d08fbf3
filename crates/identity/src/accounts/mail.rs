//! Mail that identity wants sent. It is handed over, never sent from inside a request: neither a slow mail server nor
//! the time a mail takes tells anybody whether an account is there.

use super::rows::{Account, By, Mailed, Purpose};
use super::{Accounts, Fault, micros, secrets};
use serde::Serialize;
use std::time::Duration;

/// Mails that wait for whoever delivers them.
pub const MAILS_MAX: usize = 256;
/// Nobody gets the same mail more often.
const QUIET: Duration = Duration::from_secs(60);
const VERIFY_LIFE: Duration = Duration::from_secs(24 * 3600);
const RESET_LIFE: Duration = Duration::from_secs(30 * 60);

/// What the app is given to mail, as JSON.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// `verify_address`, `reset_password`, `already_registered`, `password_changed`, `second_factor_on`,
    /// `second_factor_off`, `recovery_code_used`, `recovery_codes_renewed`, `code_reused`, `provider_linked`,
    /// `provider_unlinked`.
    pub kind: &'static str,
    pub email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whoever has it may do what `kind` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Without the token and the person.
impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mail({})", self.kind)
    }
}

/// Somebody asked for a mail to an address, known here or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub address: String,
    pub purpose: Purpose,
}

impl Accounts {
    /// Taken at once. One that finds no room is asked for again by whoever waits for his mail.
    pub(crate) fn wish(&self, address: &str, purpose: Purpose) {
        if self.mails() {
            let _ = self.kept.wishes.try_send(Wish { address: address.to_owned(), purpose });
        }
    }

    /// A token is made and handed to whoever mails, if there is anybody to mail to.
    pub(crate) async fn fulfil(&self, wish: Wish, now_us: i64) -> Result<(), Fault> {
        let Some(account) = self.store.find(By::Address(wish.address)).await? else { return Ok(()) };
        let Some(address) = account.address else { return Ok(()) };
        let (page, life) = match wish.purpose {
            Purpose::VerifyAddress if account.verified_us.is_some() => return Ok(()),
            Purpose::VerifyAddress => ("verify-email", VERIFY_LIFE),
            Purpose::ResetPassword => ("reset-password", RESET_LIFE),
        };
        let token = secrets::token()?;
        let mailed = Mailed {
            token: secrets::hash(&token, None),
            account: account.id,
            purpose: wish.purpose,
            now_us,
            expires_us: now_us.saturating_add(micros(life)),
            quiet_since_us: now_us.saturating_sub(micros(QUIET)),
        };
        if self.store.mail(mailed).await? {
            let url = self.options.link(page, &token);
            self.send(Mail {
                kind: wish.purpose.as_str(),
                email: address,
                name: account.name,
                token: Some(token),
                url,
            });
        }
        Ok(())
    }

    /// A word to the holder of an account, if anything is known that reaches him.
    pub(crate) fn tell_holder(&self, kind: &'static str, account: &Account) {
        if let Some(address) = &account.address {
            self.tell(kind, address, account.name.as_deref());
        }
    }

    /// A word to somebody, about his account.
    pub(crate) fn tell(&self, kind: &'static str, email: &str, name: Option<&str>) {
        self.send(Mail { kind, email: email.to_owned(), name: name.map(str::to_owned), token: None, url: None });
    }

    fn send(&self, mail: Mail) {
        if let Some(sender) = &self.mail
            && let Err(error) = sender.try_send(mail)
        {
            let kind = match &error {
                tokio::sync::mpsc::error::TrySendError::Full(mail)
                | tokio::sync::mpsc::error::TrySendError::Closed(mail) => mail.kind,
            };
            self.note("mail_lost", None, Some(kind.to_owned()));
        }
    }
}
