//! Gate: who asks, by token or by session; whether he may come; and whether a page of ours sent him.

use crate::core::{Conn, Core, Finish};
use crate::csrf;
use crate::local::Ours;
use crate::message::RequestHead;
use crate::proxy::Refusal;
use crate::redis::Allowance;
use crate::session::{self, Seen};
use crate::snapshot::Snapshot;
use mainstay_identity::sessions::Id;
use mainstay_identity::{Identity, Known};

/// Whoever asks.
#[derive(Debug)]
pub struct Who {
    pub known: Option<Known>,
    /// The session he was recognised by.
    seen: Option<Box<Seen>>,
}

/// What routing says of him.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub guards: &'a [u16],
    pub csrf: Option<csrf::Rule>,
    pub ours: Ours,
    /// CORS lets the page that asks come with cookies.
    pub trusts_page: bool,
}

/// # Errors
/// 401, 403, and 503 where nobody can say.
pub async fn gate(
    core: &Core,
    conn: &Conn,
    snapshot: &Snapshot,
    wanted: &Wanted<'_>,
    (head, allowance): (&mut RequestHead, &mut Allowance),
    finish: &mut Finish,
) -> Result<Who, Refusal> {
    let seen = session::of(core, &head.fields, allowance).await?;
    if let Some(revoked) = snapshot.identity.unopened(&head.fields) {
        Box::pin(revoked.opened()).await;
    }
    let known = snapshot.identity.gate(core, wanted.guards, &mut head.fields, seen.as_deref(), finish)?;
    if let Some(rule) = wanted.csrf
        && let Some(policy) = session::policy(core)
    {
        let (ours, allowed, seen) = (wanted.ours, wanted.trusts_page, seen.as_deref());
        csrf::gate(rule, &policy, &csrf::Asked { conn, head, ours, allowed, seen })?;
    }
    Ok(Who { known, seen })
}

impl Who {
    pub fn identity(&self) -> Option<&Identity> {
        self.known.as_ref().map(|known| &*known.identity)
    }

    pub fn session(&self) -> Option<&Id> {
        self.seen.as_ref().map(|seen| &seen.id)
    }

    /// The cookie that tells his browser that the session lives on. Once.
    pub fn take_renewed(&mut self) -> Option<String> {
        self.seen.as_mut()?.take_renewed()
    }
}
