//! Fetches the keys that tokens are verified with, from where the file says the issuer publishes them.
//!
//! Must never take a key away because the issuer is away: the last set that could be read stays in force.

use crate::server::Server;
use crate::settings::chain;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use mainstay_edge::acme::Http;
use mainstay_identity::{Keys, Refresh, Source};
use mainstay_runtime::Clock;
use std::rc::Rc;
use std::time::Duration;

/// How soon the wish of a token for a newer key is noticed; a look costs no call.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lives as long as the server. Must run inside a `LocalSet`.
pub async fn kept(server: Rc<Server>) {
    let mut known = None;
    let mut refresh = Refresh::default();
    loop {
        if let Some(current) = server.edge.verifier()
            && let (verify, verifier) = &*current
            && let Source::Jwks(address) = &verify.source
        {
            if known.as_ref() != Some(address) {
                (known, refresh) = (Some(address.clone()), Refresh::default());
            }
            if refresh.is_due(Clock::now().0, verifier.takes_wish_for_keys()) {
                let fetched = fetch(address).await;
                let news = refresh.tried(Clock::now().0, fetched.is_ok());
                match fetched {
                    Ok(keys) => {
                        verifier.replace_keys(keys);
                        if news {
                            tracing::info!(%address, "the keys of tokens are here again");
                        }
                    }
                    Err(why) if news => {
                        let held = if verifier.has_keys() { "those known before stay" } else { "there are none yet" };
                        tracing::warn!(%address, %why, "the keys of tokens cannot be fetched; {held}");
                    }
                    Err(_) => {}
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn fetch(address: &str) -> Result<Keys, String> {
    let http = Http::new(None).map_err(|failure| failure.to_string())?;
    let request = Request::get(address).header(http::header::ACCEPT, "application/json");
    let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
    let answer = http.send(request).await.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    let text = std::str::from_utf8(answer.body()).map_err(|_| "the answer is no text".to_owned())?;
    Keys::jwks(text).map_err(|fault| chain(&fault))
}
