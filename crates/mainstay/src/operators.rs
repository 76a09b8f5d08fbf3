//! The tokens of operators: made, listed and revoked by `mainstay token`, and known to this server while its store is
//! open, and after it has let go of it.

use crate::control::{Refused, TokenAsked};
use crate::server::Server;
use crate::settings::chain;
use crate::stores::Store;
use mainstay_identity::operators::{self, Scope};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_store::Durable;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// What another node has made or revoked is known here so much later.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A command waits so long for the store of a server that has just started.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Until the server ends. What cannot be read now is read by the next look; where nobody else writes, what was read
/// once is what there is.
pub async fn keep(server: Rc<Server>, shutdown: Shutdown) {
    let mut store = server.book.store.subscribe();
    loop {
        let open = open(&store.borrow_and_update());
        let mut looks_again = matches!(open, Some(Durable::Postgres(_)));
        if let Some(durable) = &open
            && let Err(error) = server.operators.refresh(durable).await
        {
            tracing::debug!(%error, "operators' tokens were not read");
            looks_again = true;
        }
        tokio::select! {
            () = shutdown.requested() => return,
            Ok(()) = store.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY), if looks_again => {}
        }
    }
}

/// A server that has just started opens it now.
async fn opened(server: &Server) -> Option<Durable> {
    let mut store = server.book.store.subscribe();
    let settled = store.wait_for(|store| matches!(store, Store::Open(_) | Store::Closed));
    open(&*tokio::time::timeout(OPEN_LIMIT, settled).await.ok()?.ok()?)
}

fn open(store: &Store) -> Option<Durable> {
    match store {
        Store::Open(durable) => Some(durable.clone()),
        _ => None,
    }
}

pub async fn run(server: &Server, asked: TokenAsked) -> Result<Value, Refused> {
    let Some(store) = opened(server).await else {
        return Err(Refused::new("the store is not open   see: mainstay logs --level error"));
    };
    let now_us = i64::try_from(Clock::unix_micros()).unwrap_or(i64::MAX);
    let away = |error: mainstay_store::Error| Refused::new(chain(&error));
    match asked {
        TokenAsked::List => {
            let tokens = operators::list(&store).await.map_err(away)?;
            let shown = tokens.iter().map(|token| {
                json!({
                    "name": token.name, "scopes": token.scopes, "created_us": token.created_us,
                    "expires_us": token.expires_us, "expired": token.expires_us.is_some_and(|end| end <= now_us),
                })
            });
            Ok(json!({ "tokens": shown.collect::<Vec<_>>() }))
        }
        TokenAsked::Create { name, scopes, seconds } => {
            let end =
                seconds.map(|s| now_us.saturating_add(i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000)));
            let made = operators::create(&store, &name, &scopes, (now_us, end)).await;
            let (token, text) = made.map_err(|fault| Refused::new(chain(&fault)))?;
            server.operators.refresh(&store).await.map_err(away)?;
            server.book.did("token created", format!("{} for {}", token.name, words(&token.scopes)));
            Ok(json!({ "name": token.name, "scopes": token.scopes, "expires_us": token.expires_us, "token": text }))
        }
        TokenAsked::Revoke(name) => {
            if !operators::revoke(&store, &name).await.map_err(away)? {
                return Err(Refused::new(format!("there is no token `{name}`   see: mainstay token")));
            }
            server.operators.refresh(&store).await.map_err(away)?;
            server.book.did("token revoked", name.clone());
            Ok(json!({ "name": name }))
        }
    }
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}
