//! Which connections are answered where the engine is. It wakes nobody for them; but past some it is what all wait for,
//! and another processor takes over the reading and writing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// At work at the same time: of 16, one thread took a third fewer adds than two do.
const BUSY_MAX: usize = 4;
/// Those at rest come back to work in their own time.
const OPEN_MAX: usize = 4 * BUSY_MAX;
/// One that has asked nothing for so long is at rest, as a worker's presence is.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Near {
    began: Instant,
    places: Vec<Weak<Place>>,
}

/// Of one connection, while it lives.
#[derive(Debug)]
pub(super) struct Place {
    began: Instant,
    /// Milliseconds since then, of the last call.
    asked_ms: AtomicU64,
}

impl Near {
    pub fn new() -> Near {
        Near { began: Instant::now(), places: Vec::new() }
    }

    /// For a connection that begins now, if it is one of the few.
    pub fn place(&mut self) -> Option<Arc<Place>> {
        let now_ms = millis(self.began);
        self.places.retain(|place| place.strong_count() > 0);
        let is_busy =
            |place: &Arc<Place>| now_ms.saturating_sub(place.asked_ms.load(Ordering::Relaxed)) < millis_of(REST);
        let busy = self.places.iter().filter_map(Weak::upgrade).filter(is_busy).count();
        if busy >= BUSY_MAX || self.places.len() >= OPEN_MAX {
            return None;
        }
        let place = Arc::new(Place { began: self.began, asked_ms: AtomicU64::new(now_ms) });
        self.places.push(Arc::downgrade(&place));
        Some(place)
    }
}

impl Place {
    /// Its connection asks something.
    pub fn asked(&self) {
        self.asked_ms.store(millis(self.began), Ordering::Relaxed);
    }
}

fn millis(since: Instant) -> u64 {
    millis_of(since.elapsed())
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_work_have_a_place_and_those_at_rest_give_room_up_to_a_number() {
        let mut near = Near::new();
        // As if it had begun long ago: what is at rest has asked nothing for a while.
        near.began = Instant::now().checked_sub(10 * REST).expect("a machine that is up for longer");
        let rest = |places: &[Arc<Place>]| places.iter().for_each(|place| place.asked_ms.store(0, Ordering::Relaxed));
        let mut held = Vec::new();
        for round in 1..=OPEN_MAX / BUSY_MAX {
            held.extend(std::iter::from_fn(|| near.place()));
            assert_eq!(held.len(), round * BUSY_MAX);
            rest(&held);
        }
        assert!(near.place().is_none(), "all are at rest, and there are many");
        held.truncate(1);
        let next = near.place().expect("the others are gone");
        next.asked();
        held[0].asked();
        held.push(next);
        held.extend(std::iter::from_fn(|| near.place()));
        assert_eq!(held.len(), BUSY_MAX, "the one that came back to work counts");
    }
}
