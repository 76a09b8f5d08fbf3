//! A second factor that is shown: the code of an authenticator app, or a recovery code. Each is good once. Wrong ones
//! are counted as wrong passwords are, twenty an hour; strangers who have the password do not use up the tries of a
//! browser that was let in before.

use super::attempts::Who;
use super::body::Body;
use super::methods::Methods;
use super::rows::{Account, Factor, Passed, Passing, Shown};
use super::secrets::Hash;
use super::{Accounts, Fault, device, recovery, seconds, ticket, totp};
use crate::exchange::Asked;
use http::StatusCode;
use std::sync::PoisonError;

const CODE: [&str; 2] = ["code", "otp"];
const RECOVERY: [&str; 2] = ["recoveryCode", "recovery_code"];

/// Somebody shows one, right or wrong.
pub(crate) fn is_shown(body: &Body) -> Result<bool, Fault> {
    Ok(body.opt(&CODE)?.is_some() || body.opt(&RECOVERY)?.is_some())
}

fn wrong(at_login: bool) -> Fault {
    let text = "The code is wrong, or was used before.";
    let status = if at_login { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    Fault::refused(status, "code_wrong", text)
}

impl Accounts {
    pub(crate) async fn has_factor(&self, user: &str) -> Result<bool, Fault> {
        let factor = self.store.factor(user.to_owned()).await?;
        Ok(factor.is_some_and(|factor| factor.confirmed_us.is_some()))
    }

    /// How it was proved. `ticket`: the login that this finishes.
    ///
    /// # Errors
    /// It was not.
    pub(crate) async fn second(
        &self,
        account: &Account,
        body: &Body,
        ticket: Option<Hash>,
        asked: &Asked,
        now_us: i64,
    ) -> Result<Methods, Fault> {
        let at_login = ticket.is_some();
        let recovery = body.opt(&RECOVERY)?;
        let written = match recovery {
            Some(code) => code,
            None => body.text(&CODE)?,
        };
        let factor = self.store.factor(account.id.clone()).await?;
        let factor = factor.filter(|factor| factor.confirmed_us.is_some()).ok_or_else(|| wrong(at_login))?;
        let who = self.counted(account, asked, now_us);
        self.attempt(&who, now_us).await?;
        let passed = self.passed(account, (written, recovery.is_some()), &factor, ticket, now_us).await;
        if matches!(passed, Err(_) | Ok(Passed::Over)) {
            // Nobody has looked at it, or not at the code.
            self.kept.attempts.give_back(&who, self.redis.as_ref()).await;
        }
        match passed? {
            Passed::Yes(left) => {
                self.kept.attempts.forget(&who, self.redis.as_ref()).await;
                if recovery.is_some() {
                    let (user, detail) = (Some(account.id.as_str()), Some(format!("{left} left")));
                    self.journal("recovery_code_used", user, detail, user, now_us).await;
                    self.tell_holder("recovery_code_used", account);
                }
                Ok(Methods { password: false, otp: recovery.is_none(), second: true })
            }
            Passed::Reused => {
                self.reused(account, now_us).await;
                Err(wrong(at_login))
            }
            Passed::No => {
                self.note("refused", Some(&account.id), Some("code".to_owned()));
                Err(wrong(at_login))
            }
            Passed::Over => Err(ticket::over()),
        }
    }

    async fn passed(
        &self,
        account: &Account,
        (written, is_recovery): (&str, bool),
        factor: &Factor,
        ticket: Option<Hash>,
        now_us: i64,
    ) -> Result<Passed, Fault> {
        let shown = match is_recovery {
            true => Shown::Recovery(recovery::kept(written)),
            false => {
                let secret = self.opened(account, factor).await?;
                match totp::matching(&secret, written, seconds(now_us)) {
                    Some(step) => Shown::Step(step),
                    None => return Ok(Passed::No),
                }
            }
        };
        let passing = Passing { account: account.id.clone(), shown, ticket, now_us };
        Ok(self.store.pass(passing).await?)
    }

    /// The secret of a second factor; sealed anew where an older key had sealed it.
    pub(crate) async fn opened(&self, account: &Account, factor: &Factor) -> Result<Vec<u8>, Fault> {
        let opened = self.vault.open(&account.id, &factor.secret)?;
        if opened.is_old {
            let better = self.vault.close(&account.id, &opened.secret)?;
            self.store.reseal(account.id.clone(), factor.secret.clone(), better).await?;
        }
        Ok(opened.secret)
    }

    /// Whom wrong codes are counted with.
    pub(crate) fn counted(&self, account: &Account, asked: &Asked, now_us: i64) -> Who {
        let brought = device::brought(&asked.headers);
        match device::number(&brought, Some(account), seconds(now_us)) {
            Some(number) => Who::Code(format!("device {number}")),
            None => Who::Code(format!("account {}", account.id)),
        }
    }

    /// ASVS 2.8.5: refused, written down, and the holder told; once an hour, or anybody who looked over his shoulder
    /// would fill his mailbox.
    async fn reused(&self, account: &Account, now_us: i64) {
        let user = Some(account.id.as_str());
        self.journal("code_reused", user, None, None, now_us).await;
        let key = format!("code_reused {}", account.id);
        let taken = {
            let mut notices = self.kept.notices.lock().unwrap_or_else(PoisonError::into_inner);
            notices.take(&key, seconds(now_us))
        };
        if taken.is_ok() {
            self.tell_holder("code_reused", account);
        }
    }
}
