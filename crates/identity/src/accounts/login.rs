//! By address and password. Whoever is not here costs what everybody costs, and is told what everybody is told.

use super::attempts::Who;
use super::body::Body;
use super::hashing::Login;
use super::methods::Methods;
use super::rows::{Account, By};
use super::{Accounts, Fault, LoggedIn, address, device, password, seconds};
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
        let number = device::number(&device::brought(&asked.headers), account.as_ref(), seconds(now_us));
        let who = number.map_or(Who::Strangers(key), Who::Device);
        let Some(account) = self.proven(account, &who, password, now_us).await? else { return Ok(refusal()) };
        if self.options.verified && account.verified_us.is_none() {
            self.note("refused", Some(&account.id), Some("address not proven".to_owned()));
            let text = "The address is not proven yet; a mail says how.";
            return Ok(Answer::problem(StatusCode::FORBIDDEN, "address_unverified", text));
        }
        // Imported, or chosen before the list knew it.
        let breached = password::is_common(password);
        let who = self.logged_in(account, Methods::password(), now_us);
        self.granted(&LoggedIn { breached, ..who }, asked, now_us).await
    }

    /// One try of these, before anything is compared.
    pub(crate) async fn attempt(&self, who: &Who, now_us: i64) -> Result<(), Fault> {
        let taken = self.kept.attempts.take(who, self.redis.as_ref(), seconds(now_us)).await;
        taken.map_err(|wait_s| {
            let text = "Too many attempts on this account; try again later.";
            let answer = Answer::problem(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", text);
            Fault::Said(Box::new(answer.retry_after(u32::try_from(wait_s).unwrap_or(u32::MAX))))
        })
    }

    /// The account, if the password is its own. `who`: whom it is counted with if it is not.
    pub(crate) async fn proven(
        &self,
        account: Option<Account>,
        who: &Who,
        password: &str,
        now_us: i64,
    ) -> Result<Option<Account>, Fault> {
        let (attempts, redis) = (&self.kept.attempts, self.redis.as_ref());
        self.attempt(who, now_us).await?;
        let compared = self.compared(account, password).await;
        match &compared {
            Ok(None) => self.note("refused", None, None),
            // Strangers go on guessing: what they have used up stays so.
            Ok(Some(_)) if matches!(who, Who::Strangers(_)) => attempts.give_back(who, redis).await,
            Ok(Some(_)) => attempts.forget(who, redis).await,
            Err(_) => attempts.give_back(who, redis).await,
        }
        compared
    }

    pub(crate) async fn hash(&self, password: &str) -> Result<String, Fault> {
        self.kept.hashing.hash(password.to_owned(), self.pepper.clone()).await
    }

    async fn compared(&self, account: Option<Account>, password: &str) -> Result<Option<Account>, Fault> {
        if password.len() > password::BYTES_MAX {
            return Ok(None);
        }
        let login = Login {
            password: password.to_owned(),
            stored: account.as_ref().and_then(|account| account.password.clone()),
            costs_bcrypt: self.store.has_bcrypt().await?,
            bcrypt_cost: self.options.bcrypt_rounds,
            pepper: self.pepper.clone(),
        };
        let compared = self.kept.hashing.compare(login).await?;
        let Some(mut account) = account.filter(|_| compared.matches) else { return Ok(None) };
        if let (Some(better), Some(old)) = (compared.better, &account.password) {
            self.store.rehash(account.id.clone(), old.clone(), better.clone()).await?;
            account.password = Some(better);
        }
        Ok(Some(account))
    }
}
