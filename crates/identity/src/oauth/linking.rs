//! A user's providers, as he sees and changes them: `/api/v1/auth/providers`. To link one he is logged in and gives his
//! password again; the way to the provider and back is that of a login, sealed for his account in his browser.

use super::fault::Fault;
use super::{Client, Flow, Linking, address, page};
use crate::accounts::Accounts;
use crate::exchange::{Answer, Asked};
use http::header::{ALLOW, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// Below the root.
const PATH: &str = "providers";

impl Flow {
    /// `None`: nothing of this is there.
    pub async fn answer_own(&self, accounts: &Accounts, asked: &Asked, now_us: i64) -> Option<Answer> {
        let (first, name) = asked.below().split_once('/').unwrap_or((asked.below(), ""));
        if first != PATH || name.contains('/') {
            return None;
        }
        let outcome = match (&asked.method, name) {
            (&Method::GET, "") => accounts.providers(asked, |realm| self.named(realm)).await,
            (_, "") => return Some(not_by(asked, "GET")),
            (&Method::DELETE, name) => {
                let realm = self.client(name).map_or_else(|| name.to_owned(), |client| client.provider.realm().into());
                let known = self.clients.iter().map(|client| client.provider.realm().to_owned()).collect();
                accounts.unlink_provider((realm, name), known, asked, now_us).await
            }
            (&Method::POST, name) => match self.client(name) {
                Some(client) => return Some(self.way(accounts, client, asked, now_us).await),
                None => return Some(page::refusal(&Fault::NoProvider, None, asked)),
            },
            _ => return Some(not_by(asked, "POST, DELETE")),
        };
        Some(outcome.unwrap_or_else(crate::accounts::Fault::answer))
    }

    fn client(&self, name: &str) -> Option<&Arc<Client>> {
        self.clients.iter().find(|client| client.provider.name == name)
    }

    /// What the file calls this provider; one that it names no more goes by its realm.
    fn named(&self, realm: &str) -> Value {
        match self.clients.iter().find(|client| client.provider.realm() == realm) {
            Some(client) => json!({ "name": client.provider.name, "title": client.provider.title() }),
            None => json!({ "name": realm, "title": realm }),
        }
    }

    async fn way(&self, accounts: &Accounts, client: &Client, asked: &Asked, now_us: i64) -> Answer {
        let (account, generation, return_to) = match accounts.may_link(asked, now_us).await {
            Ok(may) => may,
            Err(fault) => return fault.answer(),
        };
        let title = Some((client.provider.name.as_str(), client.provider.title()));
        if return_to.as_deref().is_some_and(|page| !address::is_own_page(page)) {
            return page::refusal(&Fault::ReturnTo, title, asked);
        }
        let link = Some(Linking { account, generation });
        let now_ms = u64::try_from(now_us / 1000).unwrap_or_default();
        match self.begun(client, asked, return_to.as_deref(), link, now_ms).await {
            Ok((url, cookie)) => {
                let answer = Answer::json(StatusCode::OK, &json!({ "url": url, "expiresIn": super::LIFE_S }));
                answer.with(SET_COOKIE, cookie).with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
            }
            Err(fault) => page::refusal(&fault, title, asked),
        }
    }
}

fn not_by(asked: &Asked, methods: &'static str) -> Answer {
    let text = format!("Not by {}.", asked.method);
    let answer = Answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &text);
    answer.with(ALLOW, HeaderValue::from_static(methods))
}
