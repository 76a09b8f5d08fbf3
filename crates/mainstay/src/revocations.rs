//! What one node took back, told to the others over Redis. The store is the truth: what is lost here they read there
//! two seconds later.

// Its tasks live on the service runtime, and end with it.
#![allow(clippy::disallowed_methods)]

use mainstay_identity::{Revocation, Revoked};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_store::redis::{self, Heard, Redis, cmd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Where nodes tell each other.
const CHANNEL: &str = "mainstay:revoked";
/// Logouts on their way: what Redis takes in a moment.
const TOLD_MAX: usize = 256;
const TELL_LIMIT: Duration = Duration::from_secs(1);
/// Of a message: an id and two numbers.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Begins to listen. What is sent into the channel is told. `None` where Redis cannot be used at all.
pub fn shared(
    options: &redis::Options,
    revoked: &Arc<Revoked>,
    shutdown: &Shutdown,
) -> Option<mpsc::Sender<Revocation>> {
    let said = |error: redis::Error| tracing::error!(%error, "what is revoked is told by the store alone");
    let (redis, keeper) = Redis::new(options).map_err(said).ok()?;
    let (mut heard, listener) = redis::listen(options, &[CHANNEL]).map_err(said).ok()?;
    tokio::spawn(keeper.run(shutdown.clone()));
    tokio::spawn(listener.run(shutdown.clone()));
    let revoked = revoked.clone();
    tokio::spawn(async move {
        while let Some(heard) = heard.recv().await {
            // What was missed in a gap comes from the store.
            let Heard::Message { payload, .. } = heard else { continue };
            if payload.len() <= MESSAGE_BYTES_MAX
                && let Ok(revocation) = serde_json::from_slice::<Revocation>(&payload)
            {
                revoked.insert(&revocation, Clock::unix_micros() / 1_000_000);
            }
        }
    });
    let (told, mut tell) = mpsc::channel::<Revocation>(TOLD_MAX);
    tokio::spawn(async move {
        while let Some(revocation) = tell.recv().await {
            let Ok(text) = serde_json::to_string(&revocation) else { continue };
            let mut publish = cmd("PUBLISH");
            publish.arg(CHANNEL).arg(text);
            // Lost, it is read from the store.
            let _ = redis.ask(&publish, TELL_LIMIT).await;
        }
    });
    Some(told)
}
