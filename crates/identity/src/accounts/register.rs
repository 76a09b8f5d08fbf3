//! A new account. Where an address must be proven, nobody learns here whether it is known: both are told to look for a
//! mail. Without mail that cannot be hidden, and is said.

use super::body::Body;
use super::methods::Methods;
use super::rows::{Account, By, Purpose};
use super::{Accounts, Fault, address, password, secrets};
use crate::exchange::{Answer, Asked};
use http::StatusCode;
use serde_json::json;
use std::sync::PoisonError;

const NAME_CHARACTERS_MAX: usize = 200;

impl Accounts {
    pub(crate) async fn register(&self, asked: &Asked, now_us: i64) -> Result<Answer, Fault> {
        if !self.options.register {
            let text = "No accounts are made here by their users.";
            return Err(Fault::refused(StatusCode::FORBIDDEN, "registration_closed", text));
        }
        let body = Body::read(asked)?;
        let invalid = || Fault::refused(StatusCode::BAD_REQUEST, "address_invalid", "This is no address of mail.");
        let address = address::canonical(body.text(&["email", "address"])?).ok_or_else(invalid)?;
        let password = body.text(&["password"])?;
        self.judge_password(password, &address)?;
        let name = name(body.opt(&["name"])?)?;
        let hash = self.hash(password).await?;
        let account = Account {
            id: secrets::id("u_")?,
            address: Some(address.clone()),
            name,
            password: Some(hash),
            roles: self.options.roles.clone(),
            created_us: now_us,
            ..Account::default()
        };
        if !self.store.insert(account.clone(), None).await? {
            return self.is_known(&address, now_us).await;
        }
        self.journal("registered", Some(&account.id), None, Some(&account.id), now_us).await;
        self.wish(&address, Purpose::VerifyAddress);
        if self.options.verified {
            return Ok(look_for_mail());
        }
        let mut answer = self.granted(&self.logged_in(account, Methods::password(), now_us), asked, now_us).await?;
        if answer.status == StatusCode::OK {
            answer.status = StatusCode::CREATED;
        }
        Ok(answer)
    }

    async fn is_known(&self, address: &str, now_us: i64) -> Result<Answer, Fault> {
        let known = self.store.find(By::Address(address.to_owned())).await?;
        let user = known.as_ref().map(|account| account.id.as_str());
        // As many words on the disk as for a new one.
        self.journal("register_refused", user, Some("known address".to_owned()), None, now_us).await;
        if self.options.verified && self.mails() {
            // Many who try with one address do not fill its mailbox.
            let now_s = u64::try_from(now_us / 1_000_000).unwrap_or(0);
            let mut notices = self.kept.notices.lock().unwrap_or_else(PoisonError::into_inner);
            if notices.wait_s(address, now_s).is_none() {
                notices.count(address, now_s);
                drop(notices);
                self.tell("already_registered", address, known.as_ref().and_then(|account| account.name.as_deref()));
            }
            return Ok(look_for_mail());
        }
        let text = "There is an account with this address.";
        Ok(Answer::problem(StatusCode::CONFLICT, "account_exists", text))
    }

    /// # Errors
    /// The sentence for whoever chose it.
    pub(crate) fn judge_password(&self, password: &str, address: &str) -> Result<(), Fault> {
        match password::weakness(password, address, self.options.characters) {
            None => Ok(()),
            Some(weakness) => Err(Fault::refused(StatusCode::BAD_REQUEST, "password_refused", &weakness.sentence())),
        }
    }
}

fn look_for_mail() -> Answer {
    Answer::json(StatusCode::ACCEPTED, &json!({ "message": "Look for a mail that says how to go on." }))
}

fn name(written: Option<&str>) -> Result<Option<String>, Fault> {
    let Some(name) = written.map(str::trim).filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.chars().count() > NAME_CHARACTERS_MAX || name.chars().any(char::is_control) {
        let text = format!("A name has at most {NAME_CHARACTERS_MAX} characters on one line.");
        return Err(Fault::refused(StatusCode::BAD_REQUEST, "body_invalid", &text));
    }
    Ok(Some(name.to_owned()))
}
