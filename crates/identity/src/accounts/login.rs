//! By address and password. Whoever is not here costs what everybody costs, and is told what everybody is told.

use super::body::Body;
use super::hashing::Login;
use super::rows::{Account, By};
use super::{Accounts, Fault, LoggedIn, address, password, seconds};
use crate::exchange::{Answer, Asked};
use http::StatusCode;

/// One sentence for a wrong password and for nobody.
pub(crate) fn refusal() -> Answer {
    let text = "The address or the password is wrong.";
    Answer::problem(StatusCode::UNAUTHORIZED, "login_failed", text)
}

impl Accounts {
    pub(crate) async fn login(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        let body = Body::read(asked)?;
        let written = body.text(&["email", "address"])?;
        // What is no address belongs to nobody, and is treated like one that does not.
        let known_as = address::canonical(written);
        let key = known_as.clone().unwrap_or_default();
        let password = body.text(&["password"])?;
        let account = match known_as {
            Some(address) => self.store.find(By::Address(address)).await?,
            None => None,
        };
        let Some(account) = self.proven(account, &key, password, now_us).await? else { return Ok(refusal()) };
        if self.options.verified && account.verified_us.is_none() {
            self.note("refused", Some(&account.id), Some("address not proven".to_owned()));
            let text = "The address is not proven yet; a mail says how.";
            return Ok(Answer::problem(StatusCode::FORBIDDEN, "address_unverified", text));
        }
        // Imported, or chosen before the list knew it.
        let breached = password::is_common(password);
        self.granted(&LoggedIn { breached, ..self.logged_in(account, now_us) }, asked, now_us).await
    }

    /// The account, if the password is its own. `key` is what wrong attempts are counted by.
    pub(crate) async fn proven(
        &self,
        account: Option<Account>,
        key: &str,
        password: &str,
        now_us: i64,
    ) -> Result<Option<Account>, Fault> {
        let now_s = seconds(now_us);
        if let Some(wait_s) = self.attempts(|attempts| attempts.wait_s(key, now_s)) {
            let text = "Too many attempts on this account; try again later.";
            let answer = Answer::problem(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", text);
            let wait_s = u32::try_from(wait_s).unwrap_or(u32::MAX);
            return Err(Fault::Said(Box::new(answer.retry_after(wait_s))));
        }
        if password.len() > password::BYTES_MAX {
            return Ok(None);
        }
        let login = Login {
            password: password.to_owned(),
            stored: account.as_ref().and_then(|account| account.password.clone()),
            costs_bcrypt: self.store.has_bcrypt().await?,
            bcrypt_cost: self.options.bcrypt_rounds,
        };
        let compared = self.kept.hashing.compare(login).await?;
        let Some(account) = account.filter(|_| compared.matches) else {
            self.attempts(|attempts| attempts.count(key, now_s));
            self.note("refused", None, None);
            return Ok(None);
        };
        self.attempts(|attempts| attempts.forget(key));
        if let (Some(better), Some(old)) = (compared.better, &account.password) {
            self.store.rehash(account.id.clone(), old.clone(), better).await?;
        }
        Ok(Some(account))
    }
}
