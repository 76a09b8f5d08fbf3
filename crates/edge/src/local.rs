//! Requests that Mainstay answers itself: asked of the control thread over a bounded channel.

use bytes::Bytes;
use std::net::IpAddr;
use tokio::sync::{mpsc, oneshot};

/// Questions on their way to the control thread. Health checks are few; a flood is answered 503.
const ASKS_MAX: usize = 256;

/// One question.
#[derive(Debug)]
pub struct Ask {
    /// Canonical path.
    pub path: String,
    pub client: IpAddr,
    /// The peer is this machine and no forwarding header was sent: nobody stands between.
    pub from_here: bool,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// `Accept`, where a document has more than one form.
    pub accept: Option<String>,
    pub answer: oneshot::Sender<Reply>,
}

/// The answer.
#[derive(Debug)]
pub enum Reply {
    /// Nothing of ours is there, or not for this caller: 404 as if it did not exist.
    NotHere,
    Document {
        status: u16,
        content_type: &'static str,
        body: Bytes,
    },
}

pub type LocalSender = mpsc::Sender<Ask>;
pub type LocalReceiver = mpsc::Receiver<Ask>;

pub fn channel() -> (LocalSender, LocalReceiver) {
    mpsc::channel(ASKS_MAX)
}

/// What a path is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// The app's.
    No,
    /// Offered: the app first.
    Offered,
    /// Under `/.mainstay`: ours alone.
    Alone,
    /// A service of this process answers, and nobody else.
    Service,
    /// The same, to those who may see the pages of operators.
    Pages,
    /// Where an authority looks for tokens: ours while an order of ours waits for this one, else the app's.
    Token,
}

/// The guides' health and metrics paths, which we answer where the app does not. `path` is canonical.
pub fn ours(path: &str) -> Ours {
    match path.as_bytes() {
        [b'/', b'.', ..] => {
            let rest = path.strip_prefix("/.mainstay");
            if rest.is_some_and(|r| r.is_empty() || r.starts_with('/')) {
                return Ours::Alone;
            }
            if path.starts_with("/.well-known/acme-challenge/") { Ours::Token } else { Ours::No }
        }
        [b'/', b'h' | b'm' | b'a', ..] => match path {
            "/health" | "/health/live" | "/health/ready" | "/health/detailed" | "/health/metrics" | "/metrics"
            | "/api/health" | "/api/health/ready" | "/api/v1/health" | "/api/v1/metrics" => Ours::Offered,
            _ => Ours::No,
        },
        _ => Ours::No,
    }
}

/// Health checks stay out of the access log (H9); metrics are scraped as often.
pub fn is_health(path: &str) -> bool {
    ours(path) == Ours::Offered || path.starts_with("/.mainstay/health")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_and_what_is_the_apps() {
        for (path, expected) in [
            ("/health", Ours::Offered),
            ("/healthy", Ours::No),
            ("/metrics", Ours::Offered),
            ("/api/v1/metrics", Ours::Offered),
            ("/.mainstay", Ours::Alone),
            ("/.mainstay/health/live", Ours::Alone),
            ("/.mainstayed", Ours::No),
            ("/.well-known/x", Ours::No),
            ("/.well-known/acme-challenge/t0ken", Ours::Token),
            ("/.well-known/acme-challenge", Ours::No),
            ("/", Ours::No),
        ] {
            assert_eq!(ours(path), expected, "{path}");
        }
    }
}
