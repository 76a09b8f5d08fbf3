//! The response cache: answers of routes that the file says are cached, kept as RFC 9111 lets a shared cache keep them.
//!
//! `policy`, `control`, `conditional` and `key` decide and know nothing of sockets; `store` keeps; `Ask` looks, `Turn`
//! asks the app, `Collect` stores while the answer streams. Must never give one client what was another's own, and
//! never delay an answer in order to store it.

mod collect;
mod conditional;
pub mod control;
mod counts;
mod flight;
mod key;
pub mod options;
mod policy;
pub mod purge;
mod refresh;
mod said;
mod shard;
mod store;
mod stored;
mod turn;

pub use collect::Collect;
pub use counts::{RouteCounts, expose};
pub use options::{Layer, Options, RouteOptions, Rule, Rules};
pub use purge::What;
pub use store::{Store, Totals};
pub use turn::{Came, Landing, Turn};

use crate::core::{Conn, Core, Finish};
use crate::fields::{Fields, Name};
use crate::message::{RequestHead, ResponseHead};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use control::Wanted;
use counts::add;
use flight::{End, WAIT_MAX, Waiting};
use http::Method;
use mainstay_telemetry::{CacheCode, Verdict};
use policy::{Asked, Use};
use said::{Forwarded, Status};
use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use store::{Entered, Entry, Found};
use stored::Stored;
use tokio::time::Instant;

/// Times a request looks again because something was stored meanwhile.
const LOOKS_MAX: usize = 4;

/// What one core needs for a look: memory that is used again.
#[derive(Debug, Default)]
pub struct Local {
    key: RefCell<Vec<u8>>,
    selecting: RefCell<Vec<u8>>,
    text: RefCell<Vec<u8>>,
    refreshing: Cell<u32>,
}

/// An answer out of what is stored; its head says how long its body is.
#[derive(Debug)]
pub struct Given {
    pub head: Box<ResponseHead>,
    pub body: Bytes,
}

/// What the cache says of a request.
#[derive(Debug)]
pub enum Step {
    /// It is none of the cache's business.
    Pass,
    Answer(Given),
    Ask(Box<Turn>),
    Wait(Waiting),
    Refuse(Verdict),
}

/// A request that looks for its answer.
#[derive(Debug)]
pub struct Ask<'a> {
    pub core: &'a Rc<Core>,
    pub conn: &'a Conn,
    pub snapshot: &'a Arc<Snapshot>,
    pub rule: Rule,
    pub head: &'a RequestHead,
    /// Without a body, without an upgrade, and about nothing of ours.
    pub plain: bool,
    /// It was recognised by something that is no header of its own any more: a session.
    pub recognised: bool,
}

/// Methods that change nothing (RFC 9110 §9.2.1).
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

impl Ask<'_> {
    /// Never waits, and asks nobody.
    pub fn look(&self, finish: &mut Finish) -> Step {
        if !self.rule.on {
            let changes = self.snapshot.cache.on && !is_safe(&self.head.method);
            return if changes { Step::Ask(self.boxed(None)) } else { Step::Pass };
        }
        if !matches!(self.head.method, Method::GET | Method::HEAD) {
            return Step::Ask(self.boxed(Some(Forwarded::Method)));
        }
        let fields = &self.head.fields;
        let odd = fields.has_any(&[Name::IfMatch, Name::IfUnmodifiedSince])
            || !self.conn.peer.is_trusted && fields.iter().any(|(name, _)| key::is_odd(name));
        if !self.plain || odd {
            return Step::Ask(self.boxed(Some(Forwarded::Bypass)));
        }
        self.attempt(finish, false)
    }

    /// Waits until another's answer is there, and looks again. Bounded in time.
    pub async fn wait(&self, finish: &mut Finish, mut waiting: Waiting) -> Step {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let end = waiting.end(until.saturating_duration_since(Instant::now())).await;
            self.core.tick();
            if end == End::Open {
                // Its client may read as slowly as it likes: another takes the lead, and nobody waits for a while.
                self.store().overtake(&self.key(), waiting.flight(), self.core.now_ms());
            }
            if end == End::GoOn {
                return Step::Ask(self.boxed(Some(Forwarded::UriMiss)));
            }
            match self.attempt(finish, true) {
                Step::Wait(next) if Instant::now() < until => waiting = next,
                Step::Wait(_) => return Step::Ask(self.boxed(Some(Forwarded::UriMiss))),
                other => return other,
            }
        }
    }

    /// Our key, in the memory that each look uses again.
    fn key(&self) -> RefMut<'_, Vec<u8>> {
        let mut key = self.core.cache.key.borrow_mut();
        key::write(&mut key, self.head, &self.conn.peer, self.snapshot.cache.parts(self.rule).map(|p| &**p));
        key
    }

    fn attempt(&self, finish: &mut Finish, waited: bool) -> Step {
        let wanted = Wanted::of(&self.head.fields);
        if wanted.no_store {
            return Step::Ask(self.boxed(Some(Forwarded::Bypass)));
        }
        let key = self.key();
        for _ in 0..LOOKS_MAX {
            let found = {
                let mut scratch = self.core.cache.selecting.borrow_mut();
                self.store().look(&key, &self.head.fields, &mut scratch)
            };
            let (stored, why) = match found {
                Found::Stored(stored) => match self.usable(finish, &key, &wanted, &stored, waited) {
                    Ok(given) => return Step::Answer(given),
                    Err(why) => (Some(stored), why),
                },
                Found::OtherVariant => (None, Forwarded::VaryMiss),
                Found::Nothing => (None, Forwarded::UriMiss),
            };
            if wanted.only_if_cached {
                return Step::Refuse(Verdict::NotCached);
            }
            if why == Forwarded::Bypass {
                break;
            }
            match self.enter(&key, &wanted, stored.as_ref()) {
                Entered::Again => continue,
                Entered::Wait(waiting) => return Step::Wait(waiting),
                Entered::Alone => return Step::Ask(Box::new(Turn { stored, ..self.turn(Some(why)) })),
                Entered::Fly(flying) => {
                    return Step::Ask(Box::new(Turn { stored, flying: Some(flying), ..self.turn(Some(why)) }));
                }
            }
        }
        Step::Ask(self.boxed(Some(Forwarded::Bypass)))
    }

    /// The stored answer, where it may be used unasked; else why not.
    fn usable(
        &self,
        finish: &mut Finish,
        key: &[u8],
        wanted: &Wanted,
        stored: &Arc<Stored>,
        waited: bool,
    ) -> Result<Given, Forwarded> {
        let asked = self.asked();
        if stored.meta.assumed && (asked.cookie || asked.authorized) {
            return Err(Forwarded::Bypass);
        }
        let now_ms = self.core.now_ms();
        let ttl_s = stored.meta.ttl_s(now_ms);
        let usage = stored.meta.may_be_used(wanted, now_ms);
        if usage == Use::Validate {
            let unwanted = ttl_s > 0 && !stored.meta.no_cache;
            return Err(if unwanted { Forwarded::Request } else { Forwarded::Stale });
        }
        if usage == Use::StaleWhileRevalidate {
            self.refresh(key, stored);
        }
        let mut status = Status { ttl_s: Some(ttl_s), ..Status::default() };
        let code = match usage {
            _ if waited => {
                (status.forwarded, status.collapsed) = (Some(Forwarded::UriMiss), true);
                CacheCode::Collapsed
            }
            Use::Fresh => CacheCode::Hit,
            _ => CacheCode::Stale,
        };
        finish.note(|r| r.cache = code);
        if let Some(counts) = self.snapshot.cache.counts(self.rule) {
            add(match code {
                CacheCode::Collapsed => &counts.collapsed,
                CacheCode::Hit => &counts.hits,
                _ => &counts.stale,
            });
        }
        Ok(given(self.core, stored, &self.head.fields, self.head.method == Method::GET, status, now_ms))
    }

    /// Has it asked for anew, unless somebody does already.
    fn refresh(&self, key: &[u8], stored: &Arc<Stored>) {
        let Some(place) = refresh::Ours::take(self.core) else { return };
        let Some(counts) = self.snapshot.cache.counts(self.rule) else { return };
        let now_ms = self.core.now_ms();
        let entry = Entry { seen: Some(stored), lead: true, wait: false, spare: true, now_ms, counts };
        let entered = {
            let mut scratch = self.core.cache.selecting.borrow_mut();
            self.store().enter(key, &self.head.fields, entry, &mut scratch)
        };
        if let Entered::Fly(flying) = entered {
            let turn = self.turn(Some(Forwarded::Stale));
            let asked = Asked { get: true, ..turn.asked };
            let turn = Turn { stored: Some(stored.clone()), flying: Some(flying), asked, ..turn };
            refresh::begin(place, self.conn, self.head, Box::new(turn));
        }
    }

    fn enter(&self, key: &[u8], wanted: &Wanted, seen: Option<&Arc<Stored>>) -> Entered {
        let Some(counts) = self.snapshot.cache.counts(self.rule) else { return Entered::Alone };
        let fields = &self.head.fields;
        // What is asked for in part, or only if it changed, brings nothing whole; unless our own condition is sent.
        let whole = seen.is_some() || !fields.has_any(conditional::CONDITIONS);
        let entry = Entry {
            seen,
            lead: self.head.method == Method::GET && whole,
            wait: !wanted.no_cache && wanted.max_age != Some(0),
            spare: false,
            now_ms: self.core.now_ms(),
            counts,
        };
        let mut scratch = self.core.cache.selecting.borrow_mut();
        self.store().enter(key, fields, entry, &mut scratch)
    }

    fn asked(&self) -> Asked {
        let fields = &self.head.fields;
        let parts = self.snapshot.cache.parts(self.rule);
        let keyed = || parts.is_some_and(|p| p.headers.iter().any(|name| name == "cookie"));
        Asked {
            get: self.head.method == Method::GET,
            authorized: self.recognised || fields.has(Name::Authorization),
            cookie: fields.has(Name::Cookie) && !keyed(),
            no_store: false,
        }
    }

    fn store(&self) -> &Arc<Store> {
        &self.core.shared.cache
    }

    /// On its way to the app. `None`: the route is not cached, but what is changed may be shown by one that is.
    fn turn(&self, forwarded: Option<Forwarded>) -> Turn {
        let rules = &self.snapshot.cache;
        Turn {
            store: self.store().clone(),
            counts: rules.counts(self.rule).filter(|_| forwarded.is_some()).cloned(),
            parts: rules.parts(self.rule).cloned(),
            rule: self.rule,
            changes: if is_safe(&self.head.method) { Vec::new() } else { self.changes() },
            status: forwarded.map(|why| Status { forwarded: Some(why), ..Status::default() }),
            asked: self.asked(),
            client: Fields::default(),
            begun_ms: self.core.now_ms(),
            stored: None,
            flying: None,
        }
    }

    fn boxed(&self, forwarded: Option<Forwarded>) -> Box<Turn> {
        Box::new(self.turn(forwarded))
    }

    /// The keys under which GET would find what this method is about, over either scheme.
    fn changes(&self) -> Vec<Vec<u8>> {
        if self.store().is_empty() {
            return Vec::new();
        }
        let rule = crate::request::settings_of(self.snapshot, "GET", self.head).cache;
        let mut one = Vec::new();
        key::write(&mut one, self.head, &self.conn.peer, self.snapshot.cache.parts(rule).map(|p| &**p));
        let mut other = one.clone();
        key::other_scheme(&mut other);
        vec![one, other]
    }
}

/// A stored answer as this client gets it.
fn given(core: &Core, stored: &Stored, asked: &Fields, get: bool, status: Status, now_ms: u64) -> Given {
    let mut head = core.heads.response();
    let body = stored.answer(&mut head, asked, get);
    let mut digits = [0; 10];
    head.fields.add(Name::Age, decimal(stored.meta.age_s(now_ms), &mut digits));
    let mut text = core.cache.text.borrow_mut();
    status.write(&mut text);
    head.fields.add(Name::CacheStatus, &text);
    Given { head, body }
}

/// Ten digits hold any number of 32 bits.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
