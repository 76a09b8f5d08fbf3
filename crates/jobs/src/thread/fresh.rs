//! Bodies of jobs that were committed a moment ago, for their first start: most start soon, and need not be read back.

use crate::change::Change;
use crate::job::{Body, State};
use std::collections::BTreeMap;

/// Bytes of all of them: a backlog that is larger is read from the store.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// A larger one is cheaper to read than to hold.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Of an entry beside its text.
const ENTRY_BYTES: usize = 128;

#[derive(Default)]
pub(super) struct Fresh {
    bodies: BTreeMap<u64, Box<Body>>,
    bytes: usize,
}

impl Fresh {
    /// Of changes that are committed: holds what may start now. The oldest go first where there is no room.
    pub fn hold(&mut self, changes: impl Iterator<Item = Change>) {
        for change in changes {
            match change {
                // What is put off would only be in the way.
                Change::Insert { row, body } if row.progressed.state == State::Waiting && is_small(&body) => {
                    self.bytes += bytes(&body);
                    self.bodies.insert(row.progressed.job, body);
                }
                Change::Remove { job, .. } => drop(self.take(job)),
                _ => {}
            }
        }
        while self.bytes > BYTES_MAX
            && let Some((_, body)) = self.bodies.pop_first()
        {
            self.bytes -= bytes(&body);
        }
    }

    /// It is started: nobody asks for it again, or so seldom that it is read.
    pub fn take(&mut self, job: u64) -> Option<Body> {
        let body = self.bodies.remove(&job)?;
        self.bytes -= bytes(&body);
        Some(*body)
    }

    pub fn clear(&mut self) {
        *self = Fresh::default();
    }
}

fn bytes(body: &Body) -> usize {
    body.name.len() + body.payload.len() + body.trace.as_ref().map_or(0, String::len) + ENTRY_BYTES
}

fn is_small(body: &Body) -> bool {
    bytes(body) <= BODY_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Progressed, Row};
    use crate::job::Kept;

    fn added(job: u64, state: State, payload: usize) -> Change {
        let progressed = Progressed {
            job,
            state,
            kept: Kept::default(),
            ready_ms: 0,
            attempts: 0,
            starts: 0,
            stalls: 0,
            token: 0,
            started_ms: 0,
            ended_ms: 0,
            worker: None,
            deadline_ms: 0,
            lease_ms: 0,
        };
        let (group, unique, own) = (None, None, crate::job::Own::default());
        let row = Row { queue: 0, priority: 0, created_ms: 0, group, unique, own, progressed };
        let body = Body { name: "job".into(), payload: vec![7; payload], trace: None };
        Change::Insert { row: Box::new(row), body: Box::new(body) }
    }

    #[test]
    fn what_starts_soon_is_held_once_and_within_bounds() {
        let mut fresh = Fresh::default();
        fresh.hold([added(1, State::Waiting, 9), added(2, State::Delayed, 9)].into_iter());
        fresh.hold([added(3, State::Waiting, BODY_BYTES_MAX), added(4, State::Waiting, 1)].into_iter());
        fresh.hold([Change::Remove { job: 4, kept: Kept::default() }].into_iter());
        assert_eq!(fresh.take(1).map(|body| body.payload), Some(vec![7; 9]));
        for gone in [1, 2, 3, 4] {
            assert_eq!(fresh.take(gone), None, "{gone}");
        }
        assert_eq!(fresh.bytes, 0);
        let (each, jobs) = (BODY_BYTES_MAX / 2, 3000);
        fresh.hold((1..=jobs).map(|job| added(job, State::Waiting, each)));
        assert!(fresh.bytes <= BYTES_MAX && fresh.bytes > BYTES_MAX - 2 * BODY_BYTES_MAX);
        assert!(fresh.take(1).is_none() && fresh.take(jobs).is_some());
    }
}
