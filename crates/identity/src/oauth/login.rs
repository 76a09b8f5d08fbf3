//! Where a provider's word meets the accounts: whoever it proved is logged in by them, and by nobody else.

use super::{Flow, Unlinked};
use crate::accounts::{Accounts, LinkFault};
use crate::exchange::{Answer, Asked};
use http::StatusCode;

impl Flow {
    /// The answer to anything below `/api/v1/auth/oauth/`.
    pub async fn answer(&self, accounts: &Accounts, asked: &Asked, now_us: i64) -> Answer {
        let now_ms = u64::try_from(now_us / 1000).unwrap_or_default();
        let back = match self.proved(asked, now_ms).await {
            Ok(back) => back,
            Err(answer) => {
                // Of a provider of the file's: nobody can fill the journal with names of his own.
                if !matches!(answer.status, StatusCode::FOUND | StatusCode::NOT_FOUND) {
                    accounts.note("refused", None, asked.below().split('/').nth(1).map(str::to_owned));
                }
                return answer;
            }
        };
        if let Some(link) = &back.link {
            let (realm, subject) = (&back.proved.realm, &back.proved.subject);
            let (account, generation) = (&link.account, link.generation);
            let linked = accounts.link_provider((account, generation), (realm, subject), asked, now_us).await;
            return match linked {
                Ok(()) => back.linked(asked),
                Err(LinkFault::Elsewhere) => back.refused(Unlinked::Elsewhere, asked),
                Err(LinkFault::Fault(fault)) => back.closed(fault.answer()),
                Err(_) => back.refused(Unlinked::NotYou, asked),
            };
        }
        let (proved, name) = (&back.proved, back.proved.name.as_deref());
        let email = proved.email.as_deref();
        let who = accounts.by_provider(&proved.realm, &proved.subject, email, proved.email_verified, name, now_us);
        match who.await {
            Ok(who) => back.delivered(accounts.grant(&who, asked).await, accounts.has_sessions(), asked),
            Err(LinkFault::AddressTaken) => back.refused(Unlinked::AddressTaken, asked),
            Err(LinkFault::Closed) => back.refused(Unlinked::Closed, asked),
            Err(LinkFault::Elsewhere) => back.refused(Unlinked::Elsewhere, asked),
            Err(LinkFault::NotYou) => back.refused(Unlinked::NotYou, asked),
            Err(LinkFault::Fault(fault)) => back.closed(fault.answer()),
        }
    }
}
