//! An answer that is stored while it streams to its client: nothing waits for it, and nothing of it is stored before
//! all of it was there.

use super::conditional::is_about;
use super::flight::{End, Flying};
use super::key::Names;
use super::policy::Meta;
use super::store::{Fresh, Reserved};
use super::stored::{Stored, kept, tags};
use crate::fields::{Fields, Name};
use crate::message::ResponseHead;
use bytes::Bytes;
use mainstay_runtime::Clock;

/// Room asked for at a time where no length was announced.
const STEP_BYTES: u64 = 64 * 1024;
/// Room for the head of an answer, until its true cost is known; no larger head is stored.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// What is known once the head of the answer came.
#[derive(Debug)]
pub struct Seed {
    pub flying: Flying,
    pub meta: Meta,
    pub names: Names,
    pub selecting: Box<[u8]>,
    pub begun_ms: u64,
    pub unix_date: String,
    pub withheld: Vec<Vec<u8>>,
    /// Bytes of the body, where that was announced.
    pub length: Option<u64>,
    pub max: u64,
}

/// A body on its way.
#[derive(Debug)]
pub struct Collect {
    seed: Seed,
    head: ResponseHead,
    tags: Vec<Box<[u8]>>,
    body: Vec<u8>,
    reserved: Reserved,
}

impl Seed {
    /// `None`: there is no room for it.
    pub fn begin(self, head: &ResponseHead) -> Option<Box<Collect>> {
        let room = HEAD_BYTES_MAX + self.length.unwrap_or(0);
        let Some(reserved) = self.flying.store().reserve(room) else {
            self.flying.end(End::GoOn, Clock::now().0);
            return None;
        };
        let mut fields = kept(&head.fields, &self.withheld);
        // RFC 9110 §6.6.1: what is kept has a date.
        if !fields.has(Name::Date) {
            fields.add(Name::Date, self.unix_date.as_bytes());
        }
        let body = Vec::with_capacity(self.length.unwrap_or(0) as usize);
        let kept = ResponseHead { status: head.status, reason: head.reason.clone(), fields };
        Some(Box::new(Collect { seed: self, head: kept, tags: tags(&head.fields), body, reserved }))
    }
}

impl Collect {
    /// Takes the next of the body; `None` from the first byte that is too much.
    pub fn take(mut self: Box<Self>, data: &[u8]) -> Option<Box<Collect>> {
        let size = (self.body.len() + data.len()) as u64;
        let room = HEAD_BYTES_MAX + size.next_multiple_of(STEP_BYTES).min(self.seed.max);
        let announced = self.seed.length.is_some_and(|length| size <= length);
        if size > self.seed.max || !announced && !self.reserved.grow_to(room) {
            self.seed.flying.end(End::GoOn, Clock::now().0);
            return None;
        }
        self.body.extend_from_slice(data);
        Some(self)
    }

    /// All of it came.
    pub fn complete(self: Box<Self>) {
        let Collect { seed, mut head, tags, body, reserved } = *self;
        if seed.length.is_some_and(|length| length != body.len() as u64) {
            return;
        }
        if head.status != 204 {
            head.fields.set(Name::ContentLength, body.len().to_string().as_bytes());
        }
        let fields = std::mem::take(&mut head.fields);
        // No more is held than is counted.
        let body = Bytes::from(body.into_boxed_slice());
        let stored = Stored::new(&head, fields, body, seed.meta, tags);
        let fresh = Fresh { stored, names: seed.names, selecting: seed.selecting, begun_ms: seed.begun_ms };
        let stored = seed.flying.store().insert(&seed.flying, fresh, reserved);
        seed.flying.end(if stored { End::Stored } else { End::Again }, Clock::now().0);
    }
}

/// A stored answer that the app said is still good, with what it said of it.
pub fn freshened(old: &Stored, answer: &Fields, meta: impl FnOnce(&Fields) -> Option<Meta>) -> Option<Stored> {
    debug_assert!(is_about(answer, &old.fields));
    let mut fields = Fields::default();
    fields.copy_from(&old.fields);
    super::conditional::freshen(&mut fields, answer, |name| !super::stored::is_kept(name, &[]));
    let meta = meta(&fields)?;
    let new_tags = tags(answer);
    let tags = if new_tags.is_empty() { old.tags.clone() } else { new_tags };
    let head = ResponseHead { status: old.status, reason: old.reason.clone(), fields: Fields::default() };
    Some(Stored::new(&head, fields, old.body.clone(), meta, tags))
}
