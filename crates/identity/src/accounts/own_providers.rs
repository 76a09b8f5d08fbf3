//! Providers that let a user in, as he sees and changes them.

use super::body::Body;
use super::provider::LinkFault;
use super::rows::{By, Link, Unlinked};
use super::{Accounts, Fault};
use crate::exchange::{Answer, Asked};
use http::StatusCode;
use serde_json::{Value, json};

impl Accounts {
    /// `named`: what a page shows of a provider.
    pub(crate) async fn providers(&self, asked: &Asked, named: impl Fn(&str) -> Value) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let links = self.store.links(account.id).await?;
        let line = |(link, linked_us): &(Link, i64)| {
            let mut line = named(&link.provider);
            line["linkedAt"] = (linked_us / 1_000_000).into();
            line
        };
        let all: Vec<Value> = links.iter().map(line).collect();
        Ok(Answer::json(StatusCode::OK, &json!({ "providers": all })))
    }

    /// Who it is, as he is now, and the page to come back to.
    pub(crate) async fn may_link(&self, asked: &Asked, now_us: i64) -> Result<(String, i64, Option<String>), Fault> {
        let (account, body) = (self.own(asked).await?, Body::read(asked)?);
        let account = self.sure(account, asked, &body, now_us).await?;
        let return_to = body.opt(&["returnTo", "return_to"])?.map(str::to_owned);
        Ok((account.id, account.generation, return_to))
    }

    /// He is back from the provider, in the browser he began in.
    ///
    /// # Errors
    /// It is not his, or he is out meanwhile.
    pub(crate) async fn link_provider(
        &self,
        (user, generation): (&str, i64),
        (realm, subject): (&str, &str),
        asked: &Asked,
        now_us: i64,
    ) -> Result<(), LinkFault> {
        // A browser that brings a session brings the same user's; one with tokens brings nobody.
        if asked.identity.as_ref().is_some_and(|identity| identity.user != user) {
            return Err(LinkFault::NotYou);
        }
        let account = self.store.find(By::Id(user.to_owned())).await?;
        let account = account.filter(|account| account.generation == generation).ok_or(LinkFault::NotYou)?;
        let of = By::Provider(realm.to_owned(), subject.to_owned());
        if let Some(other) = self.store.find(of).await? {
            return if other.id == user { Ok(()) } else { Err(LinkFault::Elsewhere) };
        }
        let link = Link { provider: realm.to_owned(), subject: subject.to_owned() };
        if !self.store.link(user.to_owned(), link, now_us).await? {
            return Err(LinkFault::Elsewhere);
        }
        self.journal("linked", Some(user), Some(realm.to_owned()), Some(user), now_us).await;
        self.tell_holder("provider_linked", &account);
        Ok(())
    }

    /// ASVS 3.5.1. Never the last way in. `known`: the realms that anybody comes in by at present.
    pub(crate) async fn unlink_provider(
        &self,
        (realm, name): (String, &str),
        known: Vec<String>,
        asked: &Asked,
        now_us: i64,
    ) -> Result<Answer, Fault> {
        let account = self.own(asked).await?;
        let account = self.sure(account, asked, &Body::read(asked)?, now_us).await?;
        match self.store.unlink(account.id.clone(), realm, known).await? {
            Unlinked::Done => {
                let user = Some(account.id.as_str());
                self.journal("unlinked", user, Some(name.to_owned()), user, now_us).await;
                self.tell_holder("provider_unlinked", &account);
                Ok(Answer::empty(StatusCode::NO_CONTENT))
            }
            Unlinked::NotThere => {
                let text = "This provider is not linked.";
                Err(Fault::refused(StatusCode::NOT_FOUND, "not_linked", text))
            }
            Unlinked::Last => {
                let text = "Nothing else would let you in; set a password or link another provider first.";
                Err(Fault::refused(StatusCode::CONFLICT, "last_way_in", text))
            }
        }
    }

    pub(crate) fn has_sessions(&self) -> bool {
        self.sessions.policy().is_some()
    }
}
