//! Asking anew for what was given out stale, while nobody waits: a task of the core that saw it, with a request of its
//! own and no client.

use super::turn::{Came, Turn};
use crate::body::{Body, Deadline};
use crate::core::{Conn, Core, Place};
use crate::message::RequestHead;
use crate::proxy::Job;
use crate::request;
use crate::watch::{Phase, Watch};
use http::Method;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Refreshes under way, a core. Past it what is stale is given out as it is until one is done.
const REFRESHES_MAX: u32 = 64;

/// A place among them; given back when dropped.
#[derive(Debug)]
pub struct Ours(Rc<Core>);

impl Ours {
    pub fn take(core: &Rc<Core>) -> Option<Ours> {
        let running = &core.cache.refreshing;
        (running.get() < REFRESHES_MAX).then(|| {
            running.set(running.get() + 1);
            Ours(core.clone())
        })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let running = &self.0.cache.refreshing;
        running.set(running.get().saturating_sub(1));
    }
}

/// Begins one, as the client that saw it would have asked.
pub fn begin(place: Ours, conn: &Conn, head: &RequestHead, turn: Box<Turn>) {
    let core = place.0.clone();
    let mut head = Box::new(head.clone());
    head.method = Method::GET;
    core.shared.connections.fetch_add(1, Relaxed);
    core.connections.fetch_add(1, Relaxed);
    let conn = Rc::new(Conn {
        peer: conn.peer.clone(),
        watch: Arc::default(),
        http1: None,
        open: Cell::new(0),
        idle: conn.idle,
        _place: Place::counted(core.shared.clone(), core.connections.clone(), None),
    });
    tokio::task::spawn_local(async move {
        refresh(&core, &conn, head, turn).await;
        drop(place);
    });
}

/// Whatever goes wrong, what is stored stays until it is too old; whoever comes next tries again.
async fn refresh(core: &Rc<Core>, conn: &Rc<Conn>, head: Box<RequestHead>, turn: Box<Turn>) {
    let snapshot = core.snapshot();
    let watch: Arc<Watch> = Arc::default();
    watch.enter(Phase::Busy);
    let ticket = Some(core.sweep.enlist(watch.clone()));
    let deadline = Deadline { watch, now_ms: core.now_ms.clone(), ticket };
    let (mut finish, facts) = request::begin(core, conn, deadline, &head);
    let client = crate::headers::client(&head.fields, &conn.peer, &snapshot.trusted);
    let served = request::route(&snapshot, &head).ok().and_then(|gate| Some((gate.served?, gate.settings)));
    if let Some((served, settings)) = served {
        let job = Job { core, served, settings, client, preferred: None, pause: snapshot.timeouts.body };
        let outgoing = request::outgoing(&job, conn, &facts, &mut finish, (head, Body::Absent), false).await;
        if let Ok(mut outgoing) = outgoing
            && let Ok(Came::Sent(sent, Some(landing))) = turn.forward(&job, &snapshot, &mut finish, &mut outgoing).await
        {
            let (mut head, mut passing) = request::received(&snapshot, sent, &mut finish, false);
            let tap = landing.land(core, &mut finish, &mut head);
            // What is not to be stored is not read either.
            let reads = tap.is_some();
            passing.collected_by(tap);
            if reads && passing.drain(core, &mut finish).await {
                passing.end(&finish);
            }
        }
    }
    // No client asked for this: it is in no log and no count of requests.
    finish.forget();
}
