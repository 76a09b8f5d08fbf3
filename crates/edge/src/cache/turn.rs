//! One request of a cached route on its way to the app: with what condition it is sent, and what its answer means for
//! what is stored.

use super::collect::{Collect, Seed, freshened};
use super::conditional::is_about;
use super::counts::{Counts, add};
use super::flight::{End, Flying};
use super::key::{self, Parts, selecting};
use super::options::Rule;
use super::policy::{self, Asked, Came as Arrived};
use super::said::{Forwarded, Status};
use super::store::{Fresh, Store};
use super::stored::{Stored, TAGS};
use super::{Given, given};
use crate::body::Source;
use crate::core::{Core, Finish};
use crate::date;
use crate::fields::{Fields, Name};
use crate::http1::body::Remaining;
use crate::http1::framing;
use crate::message::ResponseHead;
use crate::proxy::{self, Job, Outgoing, Refusal, Sent};
use crate::request;
use crate::snapshot::Snapshot;
use mainstay_telemetry::{CacheCode, Verdict};
use std::rc::Rc;
use std::sync::Arc;

/// A request of a cached route, or one that changes what a cached route shows.
#[derive(Debug)]
pub struct Turn {
    pub store: Arc<Store>,
    pub counts: Option<Arc<Counts>>,
    pub parts: Option<Arc<Parts>>,
    pub rule: Rule,
    /// Keys of what a method that is not safe may change.
    pub changes: Vec<Vec<u8>>,
    /// `None`: nothing is said, the route is not cached.
    pub status: Option<Status>,
    pub asked: Asked,
    /// The client's conditions, before ours took their place.
    pub client: Fields,
    pub begun_ms: u64,
    /// What is stored and may not be used unasked.
    pub stored: Option<Arc<Stored>>,
    pub flying: Option<Flying>,
}

/// What came of it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "moved on at once; a box would be an allocation a request")]
pub enum Came {
    /// What is stored is the answer after all.
    Stored(Given),
    Sent(Sent, Option<Box<Landing>>),
}

/// What is to be done with the app's answer once its head is ours.
#[derive(Debug)]
pub struct Landing {
    status: Status,
    seed: Option<Seed>,
    counts: Option<Arc<Counts>>,
}

impl Turn {
    /// Sends it, and decides what its answer is for.
    pub async fn forward(
        mut self: Box<Self>,
        job: &Job<'_>,
        snapshot: &Snapshot,
        finish: &mut Finish,
        out: &mut Outgoing,
    ) -> Result<Came, Refusal> {
        let validates = self.condition(out);
        if self.has_fallback(job) && nobody_is_there(job) {
            return Ok(Came::Stored(self.fall_back(job.core, finish, 504)));
        }
        let sent = match proxy::forward(job, finish, out).await {
            Ok(sent) => sent,
            Err(refusal) if is_the_apps(refusal.verdict) && self.has_fallback(job) => {
                return Ok(Came::Stored(self.fall_back(job.core, finish, refusal.verdict.status())));
            }
            Err(refusal) => {
                self.go_on(job.core);
                return Err(refusal);
            }
        };
        let status = sent.head.status;
        if status == 304
            && validates
            && let Some(old) = self.stored.take()
        {
            if is_about(&sent.head.fields, &old.fields) {
                return Ok(Came::Stored(self.revalidated(job, snapshot, finish, out, sent, &old)));
            }
            return self.again_without(job, finish, out, sent).await;
        }
        if matches!(status, 500 | 502..=504) && self.has_fallback(job) {
            return Ok(Came::Stored(self.fall_back(job.core, finish, status)));
        }
        Ok(self.land(job, sent, out))
    }

    /// Puts our condition in the client's place, where there is something to validate.
    fn condition(&mut self, out: &mut Outgoing) -> bool {
        let Some(stored) = self.stored.as_ref().filter(|_| self.asked.get) else { return false };
        let fields = &mut out.head.fields;
        for &name in super::conditional::CONDITIONS {
            self.client.remove(name);
            let said: Vec<Vec<u8>> = fields.all(name).map(<[u8]>::to_vec).collect();
            said.iter().for_each(|value| self.client.add(name, value));
            fields.remove(name);
        }
        let (tag, changed) = (stored.fields.get(Name::Etag), stored.fields.get(Name::LastModified));
        if let Some(tag) = tag {
            fields.add(Name::IfNoneMatch, tag);
        }
        if let Some(changed) = changed {
            fields.add(Name::IfModifiedSince, changed);
        }
        tag.is_some() || changed.is_some()
    }

    /// A 304 about something else than what is stored: asked for whole.
    async fn again_without(
        mut self: Box<Self>,
        job: &Job<'_>,
        finish: &mut Finish,
        out: &mut Outgoing,
        sent: Sent,
    ) -> Result<Came, Refusal> {
        drop(sent);
        out.head.fields.remove(Name::IfNoneMatch);
        out.head.fields.remove(Name::IfModifiedSince);
        match proxy::forward(job, finish, out).await {
            Ok(sent) => Ok(self.land(job, sent, out)),
            Err(refusal) => {
                self.go_on(job.core);
                Err(refusal)
            }
        }
    }

    fn has_fallback(&self, job: &Job<'_>) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.meta.may_be_used_on_error(job.core.now_ms()))
    }

    /// The stale answer in place of an error (RFC 5861 §4).
    fn fall_back(mut self: Box<Self>, core: &Rc<Core>, finish: &mut Finish, status: u16) -> Given {
        let now_ms = core.tick() / 1000;
        let stored = self.stored.take();
        let mut said = self.status.unwrap_or_default();
        said.forwarded = said.forwarded.or(Some(Forwarded::Stale));
        said.forwarded_status = Some(status);
        said.detail = Some("stale-if-error");
        count(&self.counts, |c| &c.stale);
        self.go_on(core);
        finish.note(|r| r.cache = CacheCode::Stale);
        match stored {
            Some(stored) => {
                said.ttl_s = Some(stored.meta.ttl_s(now_ms));
                given(core, &stored, &self.client, self.asked.get, said, now_ms)
            }
            // Nobody falls back without.
            None => Given { head: Box::new(ResponseHead::new(504)), body: bytes::Bytes::new() },
        }
    }

    /// Nothing will be stored: who waits goes on.
    fn go_on(&mut self, core: &Core) {
        if let Some(flying) = self.flying.take() {
            flying.end(End::GoOn, core.now_ms());
        }
    }

    fn arrived(&self, core: &Core) -> Arrived {
        let now_us = core.tick();
        let delay = (now_us / 1000).saturating_sub(self.begun_ms) / 1000;
        Arrived {
            now_ms: now_us / 1000,
            unix_s: core.unix_us(now_us) / 1_000_000,
            delay_s: u32::try_from(delay).unwrap_or(u32::MAX),
        }
    }

    /// The app says that what is stored is still good.
    fn revalidated(
        mut self: Box<Self>,
        job: &Job<'_>,
        snapshot: &Snapshot,
        finish: &mut Finish,
        out: &Outgoing,
        sent: Sent,
        old: &Arc<Stored>,
    ) -> Given {
        let came = self.arrived(job.core);
        let (answer, mut passing) = request::received(snapshot, sent, finish, false);
        passing.end(finish);
        let fields = &answer.fields;
        let meta = |merged: &Fields| policy::judge(self.asked, old.status, merged, self.rule.defaults, came).ok();
        let fresh = freshened(old, fields, meta);
        let mut status = self.status.unwrap_or_default();
        status.forwarded = status.forwarded.or(Some(Forwarded::Stale));
        status.forwarded_status = Some(304);
        count(&self.counts, |c| &c.revalidated);
        finish.note(|r| r.cache = CacheCode::Revalidated);
        let mut given = match fresh {
            Some(stored) => {
                status.ttl_s = Some(stored.meta.ttl_s(came.now_ms));
                let given = given(job.core, &stored, &self.client, self.asked.get, status, came.now_ms);
                self.store_again(job.core, stored, out);
                given
            }
            // Still good for this client, and no longer to be stored.
            None => {
                let given = given(job.core, old, &self.client, self.asked.get, status, came.now_ms);
                if let Some(flying) = self.flying.take() {
                    self.store.invalidate(&flying.key);
                    flying.end(End::GoOn, came.now_ms);
                }
                given
            }
        };
        // For this client alone; it is in nothing that is stored.
        for cookie in fields.all(Name::SetCookie) {
            given.head.fields.add(Name::SetCookie, cookie);
        }
        given
    }

    fn store_again(&mut self, core: &Core, stored: Stored, out: &Outgoing) {
        let Some(flying) = self.flying.take() else { return };
        let names = key::names(&stored.fields, self.parts.as_deref());
        let reserved = self.store.reserve(stored.cost);
        let (Some(names), Some(reserved)) = (names, reserved) else { return flying.end(End::GoOn, core.now_ms()) };
        let mut selected = core.cache.selecting.borrow_mut();
        selecting(&mut selected, &names, &out.head.fields);
        let fresh = Fresh { stored, names, selecting: selected[..].into(), begun_ms: self.begun_ms };
        let stored = self.store.insert(&flying, fresh, reserved);
        flying.end(if stored { End::Stored } else { End::Again }, core.now_ms());
    }

    /// The app's own answer: what becomes of it, and of what was stored before.
    fn land(mut self: Box<Self>, job: &Job<'_>, sent: Sent, out: &Outgoing) -> Came {
        let core = job.core;
        // RFC 9111 §4.4
        if matches!(sent.head.status, 200..=399) {
            self.changes.iter().for_each(|key| self.store.invalidate(key));
            self.forget_named(&sent.head.fields);
        }
        let Some(status) = self.status else { return Came::Sent(sent, None) };
        let seed = self.flying.take().and_then(|flying| self.seed(core, flying, &sent, out));
        Came::Sent(sent, Some(Box::new(Landing { status, seed, counts: self.counts.take() })))
    }

    /// `None`: it is not stored, and whoever waits knows.
    fn seed(&self, core: &Core, flying: Flying, sent: &Sent, out: &Outgoing) -> Option<Seed> {
        let came = self.arrived(core);
        let fields = &sent.head.fields;
        let names = key::names(fields, self.parts.as_deref());
        let length = fields.get(Name::ContentLength).and_then(framing::length);
        let max = self.store.object_max();
        // One that ends with its connection may have been cut.
        let endless = matches!(sent.source, Source::Http1 { remaining: Remaining::UntilClose, .. });
        let verdict = policy::judge(self.asked, sent.head.status, fields, self.rule.defaults, came);
        match (verdict, names) {
            (Ok(meta), Some(names)) if !endless && length.is_none_or(|length| length <= max) => {
                let mut selected = core.cache.selecting.borrow_mut();
                selecting(&mut selected, &names, &out.head.fields);
                Some(Seed {
                    flying,
                    meta,
                    names,
                    selecting: selected[..].into(),
                    begun_ms: self.begun_ms,
                    unix_date: date::text(came.unix_s),
                    withheld: super::control::Said::of(fields).withheld,
                    length: length.filter(|_| sent.head.status != 204),
                    max,
                })
            }
            _ => {
                // What the app says now is not what is stored. An error says nothing about it.
                if sent.head.status < 500 && self.stored.is_some() {
                    self.store.invalidate(&flying.key);
                }
                flying.end(End::GoOn, came.now_ms);
                None
            }
        }
    }

    /// What else the answer to a change names, on the same host (§4.4).
    fn forget_named(&self, fields: &Fields) {
        let Some(changed) = self.changes.first() else { return };
        for name in [Name::Location, Name::ContentLocation] {
            let Some(target) = fields.get(name) else { continue };
            let host = key::parse(changed).host;
            let path = match target.strip_prefix(b"https://").or_else(|| target.strip_prefix(b"http://")) {
                Some(rest) => match rest.get(..host.len()) {
                    Some(named) if named.eq_ignore_ascii_case(host) => &rest[host.len()..],
                    _ => continue,
                },
                None => target,
            };
            if path.starts_with(b"/") && !path.starts_with(b"//") {
                for key in &self.changes {
                    let start = key.len() - key::target_bytes(key);
                    self.store.invalidate(&[&key[..start], path].concat());
                }
            }
        }
    }
}

impl Landing {
    /// Takes from the head what is stored of it and what is the edge's alone, and says what was done.
    pub fn land(self: Box<Self>, core: &Core, finish: &mut Finish, head: &mut ResponseHead) -> Option<Box<Collect>> {
        let Landing { mut status, seed, counts } = *self;
        let collect = seed.and_then(|seed| seed.begin(head));
        status.stored = collect.is_some();
        let bypassed = matches!(status.forwarded, Some(Forwarded::Bypass | Forwarded::Method));
        count(&counts, |c| if bypassed { &c.bypassed } else { &c.misses });
        finish.note(|r| r.cache = if bypassed { CacheCode::Bypass } else { CacheCode::Miss });
        TAGS.iter().for_each(|&name| head.fields.remove(name));
        let mut text = core.cache.text.borrow_mut();
        status.write(&mut text);
        head.fields.add(Name::CacheStatus, &text);
        collect
    }
}

fn count(counts: &Option<Arc<Counts>>, cell: impl FnOnce(&Counts) -> &std::sync::atomic::AtomicU64) {
    if let Some(counts) = counts {
        add(cell(counts));
    }
}

fn nobody_is_there(job: &Job<'_>) -> bool {
    let list = job.served.group.list();
    list.upstreams.iter().all(|upstream| upstream.is_draining())
}

/// The app failed, not the client.
fn is_the_apps(verdict: Verdict) -> bool {
    use Verdict::{HoldFull, NoInstance, UpstreamClosed, UpstreamInvalid, UpstreamRefused, UpstreamTimeout};
    matches!(verdict, NoInstance | HoldFull | UpstreamClosed | UpstreamInvalid | UpstreamRefused | UpstreamTimeout)
}
