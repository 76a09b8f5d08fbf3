//! Which job starts next: the highest priority first; within it the groups take turns; within a group first come,
//! first served. Jobs without a group are one group.
//!
//! Invariant: while a group has a job ready, each other group of that priority is served at most once before it. Every
//! step is O(log n), however many jobs wait and however many groups there are.

use crate::job::Name;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Ready {
    levels: BTreeMap<u32, Level>,
    count: usize,
    /// The next turn that is given out.
    turn: u64,
}

/// Jobs of one priority.
#[derive(Debug, Default)]
struct Level {
    lanes: BTreeMap<Option<Name>, Lane>,
    /// Whose turn it is, the lowest first.
    turns: BTreeMap<u64, Option<Name>>,
}

/// Jobs of one group.
#[derive(Debug)]
struct Lane {
    turn: u64,
    /// When each was added or became due, and its id.
    jobs: BTreeSet<(u64, u64)>,
}

impl Ready {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn insert(&mut self, priority: u32, group: Option<&Name>, ready_ms: u64, job: u64) {
        let level = self.levels.entry(priority).or_default();
        let group = group.cloned();
        let lane = level.lanes.entry(group.clone()).or_insert_with(|| {
            self.turn += 1;
            level.turns.insert(self.turn, group);
            Lane { turn: self.turn, jobs: BTreeSet::new() }
        });
        if lane.jobs.insert((ready_ms, job)) {
            self.count += 1;
        }
    }

    pub fn remove(&mut self, priority: u32, group: Option<&Name>, ready_ms: u64, job: u64) {
        let Some(level) = self.levels.get_mut(&priority) else { return };
        let group = group.cloned();
        let Some(lane) = level.lanes.get_mut(&group) else { return };
        if lane.jobs.remove(&(ready_ms, job)) {
            self.count -= 1;
        }
        if lane.jobs.is_empty() {
            level.turns.remove(&lane.turn);
            level.lanes.remove(&group);
        }
        if level.lanes.is_empty() {
            self.levels.remove(&priority);
        }
    }

    /// The next one, which stays.
    pub fn first(&self) -> Option<u64> {
        let (_, level) = self.levels.first_key_value()?;
        let (_, group) = level.turns.first_key_value()?;
        level.lanes.get(group)?.jobs.first().map(|(_, job)| *job)
    }

    /// Takes the next one out; its group goes to the end of the round.
    pub fn pop(&mut self) -> Option<u64> {
        let mut entry = self.levels.first_entry()?;
        let level = entry.get_mut();
        let (_, group) = level.turns.pop_first()?;
        let lane = level.lanes.get_mut(&group)?;
        let (_, job) = lane.jobs.pop_first()?;
        self.count -= 1;
        if lane.jobs.is_empty() {
            level.lanes.remove(&group);
        } else {
            self.turn += 1;
            lane.turn = self.turn;
            level.turns.insert(self.turn, group);
        }
        if level.lanes.is_empty() {
            entry.remove();
        }
        Some(job)
    }

    /// By priority, group and age: as a list shows them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        let lanes = self.levels.values().flat_map(|level| level.lanes.values());
        lanes.flat_map(|lane| lane.jobs.iter().map(|(_, job)| *job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(mut ready: Ready) -> Vec<u64> {
        let next = || {
            let first = ready.first();
            assert_eq!(ready.pop(), first);
            first
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn priority_then_age() {
        let mut ready = Ready::default();
        for (priority, ready_ms, job) in [(5, 1, 1), (0, 9, 2), (0, 3, 3), (5, 0, 4), (0, 3, 5)] {
            ready.insert(priority, None, ready_ms, job);
        }
        assert_eq!(ready.len(), 5);
        assert_eq!(drained(ready), [3, 5, 2, 4, 1]);
    }

    #[test]
    fn one_group_of_many_jobs_keeps_nobody_waiting() {
        let mut ready = Ready::default();
        let (large, small): (Name, Name) = ("large".into(), "small".into());
        (1..=100).for_each(|job| ready.insert(0, Some(&large), job, job));
        ready.insert(0, Some(&small), 200, 200);
        ready.insert(0, None, 300, 300);
        assert_eq!(drained(ready)[..4], [1, 200, 300, 2]);
    }

    #[test]
    fn what_is_removed_never_comes_and_leaves_no_turn() {
        let mut ready = Ready::default();
        let group: Name = "a".into();
        ready.insert(0, Some(&group), 1, 1);
        ready.remove(0, Some(&group), 1, 1);
        ready.remove(0, Some(&group), 1, 1);
        assert_eq!((ready.len(), ready.pop()), (0, None));
        ready.insert(0, Some(&group), 2, 2);
        ready.insert(0, None, 3, 3);
        assert_eq!(drained(ready), [2, 3]);
    }
}
