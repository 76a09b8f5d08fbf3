//! What others see of the engine beside its counts: members by rank, jobs by id. Changes nothing.

use super::{Engine, QueueGlance};
use crate::job::{Name, State};
use crate::queue::{Queue, terminal};
use std::ops::Range;

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub queue: Name,
    pub state: State,
    /// When it is due, or ended; 0 in other states.
    pub at_ms: u64,
    pub has_lines: bool,
}

impl Engine {
    pub(crate) fn queue(&self, name: &str) -> Option<QueueGlance> {
        self.names.get(name).map(|id| self.queues[*id as usize].glance())
    }

    /// The last id that was given out; after a start the last that may have been.
    pub(crate) fn last_id(&self) -> u64 {
        self.ids.next.saturating_sub(1)
    }

    /// Jobs in whatever state.
    pub(crate) fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Ids from `first` on, in their order, with their queues.
    pub(crate) fn ids_from(&self, first: u64, most: usize) -> Vec<(u64, Name)> {
        let queue = |queue: u32| self.queues[queue as usize].name.clone();
        self.jobs.range(first..).take(most).map(|(id, job)| (*id, queue(job.queue))).collect()
    }

    pub(crate) fn placed(&self, job: u64) -> Option<Placed> {
        let found = self.jobs.get(&job)?;
        let at_ms = match found.state {
            State::Delayed => found.ready_ms,
            state if state.is_terminal() => found.ended_ms,
            _ => 0,
        };
        let queue = self.queues[found.queue as usize].name.clone();
        Some(Placed { queue, state: found.state, at_ms, has_lines: found.kept.lines })
    }

    /// When each is due or ended, and its id, from the one that started, is due or ended first. Counts its way from the
    /// nearer end.
    pub(crate) fn ranked(&self, queue: &str, state: State, ranks: Range<usize>) -> Vec<(u64, u64)> {
        let Some(queue) = self.names.get(queue).map(|id| &self.queues[*id as usize]) else { return Vec::new() };
        let timeless = |id: u64| (0, id);
        match (state, terminal(state)) {
            (_, Some(index)) => pick(queue.ended[index].iter().copied(), queue.ended[index].len(), ranks),
            (State::Delayed, _) => pick(queue.delayed.iter().copied(), queue.delayed.len(), ranks),
            (State::Waiting, _) => pick(queue.ready.iter().map(timeless), queue.ready.len(), ranks),
            _ => pick(queue.active.iter().copied().map(timeless), queue.active.len(), ranks),
        }
    }
}

impl Queue {
    pub(super) fn glance(&self) -> QueueGlance {
        QueueGlance {
            name: self.name.clone(),
            counts: self.counts(),
            totals: self.totals,
            is_paused: self.is_paused,
            is_short: self.is_short,
            settings: self.settings.clone(),
        }
    }
}

fn pick<T>(all: impl DoubleEndedIterator<Item = T>, len: usize, ranks: Range<usize>) -> Vec<T> {
    let end = ranks.end.min(len);
    let (before, count) = (ranks.start, end.saturating_sub(ranks.start));
    let behind = len - end;
    if before <= behind {
        return all.skip(before).take(count).collect();
    }
    let mut picked: Vec<T> = all.rev().skip(behind).take(count).collect();
    picked.reverse();
    picked
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn ranks_are_the_same_from_either_end() {
        for start in 0..12 {
            for end in 0..12 {
                let expected: Vec<usize> = (0..9).filter(|rank| (start..end).contains(rank)).collect();
                assert_eq!(pick(0..9, 9, start..end), expected, "{start}..{end}");
            }
        }
    }
}
