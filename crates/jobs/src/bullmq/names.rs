//! Ids of BullMQ are texts, and each queue has its own: outside a job is `scan:12` or `scan:order-7`. Within this
//! process it has a number like every other job, by which it is held, told of and asked for.
//!
//! What BullMQ counted itself is packed into the number and takes no room. A text that somebody chose is remembered, so
//! many at most; who asks for one that was forgotten says the text, and it has another number then.

use crate::job::Name;
use std::collections::{BTreeMap, HashMap};

/// Texts that are remembered: more than events that wait for whoever is slow to hear them.
const TEXTS_MAX: usize = 131_072;
/// Above it stands the queue, below it what BullMQ counted.
const QUEUE_AT: u32 = 48;
/// Numbers of texts.
const TEXT: u64 = 1 << 63;

/// Of one process.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<(u32, Name), u64>,
    /// By their age: numbers only grow.
    texts: BTreeMap<u64, (u32, Name)>,
    next: u64,
}

impl Names {
    /// `is_held`: what somebody has keeps its number.
    pub fn number(&mut self, queue: u32, id: &str, is_held: impl Fn(u64) -> bool) -> u64 {
        if let Some(number) = packed(queue, id) {
            return number;
        }
        let key = (queue, Name::from(id));
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        if self.texts.len() >= TEXTS_MAX
            && let Some(oldest) = self.texts.keys().copied().find(|number| !is_held(*number))
            && let Some(forgotten) = self.texts.remove(&oldest)
        {
            self.numbers.remove(&forgotten);
        }
        self.next += 1;
        let number = TEXT | self.next;
        self.numbers.insert(key.clone(), number);
        self.texts.insert(number, key);
        number
    }

    /// Queue and id of a number that was given out.
    pub fn text(&self, number: u64) -> Option<(u32, Name)> {
        if number & TEXT != 0 {
            return self.texts.get(&number).cloned();
        }
        let queue = u32::try_from(number >> QUEUE_AT).ok()?;
        Some((queue, (number & ((1 << QUEUE_AT) - 1)).to_string().as_str().into()))
    }
}

fn packed(queue: u32, id: &str) -> Option<u64> {
    let counted: u64 = id.parse().ok()?;
    let fits = counted < 1 << QUEUE_AT && u64::from(queue) < 1 << (63 - QUEUE_AT);
    (fits && counted.to_string() == id).then_some((u64::from(queue) << QUEUE_AT) | counted)
}

/// The id of a job that is known by this key: BullMQ's ids are no numbers and hold no colon. Two keys are never one.
pub(super) fn id_of(key: &str) -> String {
    let is_number = key.parse::<f64>().is_ok();
    let mut id = String::with_capacity(key.len());
    for (at, character) in key.char_indices() {
        let is_odd = character.is_control() || ":%".contains(character) || at == 0 && is_number;
        match is_odd {
            false => id.push(character),
            true => id.push_str(&escaped(character)),
        }
    }
    id
}

fn escaped(character: char) -> String {
    let mut bytes = [0; 4];
    character.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_queue_and_id_and_two_are_never_one() {
        let mut names = Names::default();
        let free = |_| false;
        for (queue, id) in [(0, "12"), (7, "12"), (0, "order-7"), (7, "order-7"), (3, "007"), (1, "999999999999999999")]
        {
            let number = names.number(queue, id, free);
            assert_eq!(names.text(number), Some((queue, id.into())), "{id}");
            assert_eq!(names.number(queue, id, free), number, "{id}");
        }
        assert_eq!(names.texts.len(), 4, "what BullMQ counted takes no room");
    }

    #[test]
    fn the_oldest_that_nobody_has_is_forgotten() {
        let mut names = Names::default();
        let held = names.number(0, "held", |_| false);
        for i in 0..TEXTS_MAX {
            names.number(0, &format!("job-{i}"), |number| number == held);
        }
        assert_eq!(names.texts.len(), TEXTS_MAX);
        assert_eq!(names.number(0, "held", |_| true), held);
        let again = names.number(0, "job-0", |number| number == held);
        assert_eq!(names.text(again), Some((0, "job-0".into())));
        assert_eq!(names.numbers.len(), names.texts.len());
    }

    #[test]
    fn every_key_is_an_id_of_its_own_that_bullmq_takes() {
        let keys = ["order-7", "12", "-5", "a:b", "a%3Ab", "k\n1", "NaN", "Infinity", "1e3", "%31", "é:1", "0"];
        let ids: std::collections::BTreeSet<String> = keys.iter().map(|key| id_of(key)).collect();
        assert_eq!(ids.len(), keys.len(), "{ids:?}");
        assert_eq!(id_of("order-7"), "order-7");
        for id in &ids {
            assert!(!id.contains(':') && id.parse::<f64>().is_err() && !id.chars().any(char::is_control), "{id}");
        }
    }
}
