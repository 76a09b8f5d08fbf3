//! Calls to the providers that people log in with: the one HTTP client of the control plane, under a shorter limit.
//!
//! Must never say anything of a request but the host it went to: it holds codes, secrets and tokens.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use mainstay_edge::acme::Http;
use mainstay_identity::oauth::{Call, Flow, Options};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A login takes up to four calls one after another, and somebody sits before it.
const CALL_MAX: Duration = Duration::from_secs(5);

/// # Errors
/// When the key that seals logins under way can neither be read nor made.
pub fn flow(options: &Options, data: &Path) -> io::Result<Flow> {
    Ok(Flow::new(options, options.seal(data)?, call()))
}

/// Certificates are checked against this machine's roots. A machine without any can still serve, so it is each call
/// that says so.
fn call() -> Call {
    let http = Http::new(None).map_err(|failure| failure.to_string());
    Arc::new(move |request: Request<Bytes>| {
        let http = http.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let http = http?;
            match tokio::time::timeout(CALL_MAX, http.send(request.map(Full::new))).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("{host} gave no answer within {} s", CALL_MAX.as_secs())),
            }
        })
    })
}
