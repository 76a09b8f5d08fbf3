//! What happened to jobs, as the app, the metrics and the pages are told. Only of what was committed.

use crate::job::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Something that happened in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub queue: Name,
    /// 0 where it is of the whole queue.
    pub job: u64,
    pub at_ms: u64,
    pub what: What,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Added,
    /// Which start it is: 1, 2 …
    Started {
        start: u32,
    },
    Progress,
    Completed,
    /// An attempt failed, and another follows after this wait.
    Retried {
        wait_ms: u64,
    },
    /// Its attempts are used up.
    Failed,
    /// It lost its worker, and starts again.
    Stalled,
    Dead,
    /// Given back by its worker, without a verdict.
    Released,
    Removed,
    /// Set to wait again by an operator.
    Revived,
    /// All that it waited for is done.
    ChildrenDone,
    Paused,
    Resumed,
    /// Nothing is left to do.
    Drained,
    /// More wait and fewer run than the queue is set for; `false`: no longer.
    Short(bool),
}

impl Event {
    /// As whoever listens is told of it; `id` is the job as it is known outside.
    pub(crate) fn shown(&self, id: Value) -> Value {
        json!({ "queue": &*self.queue, "id": id, "atMs": self.at_ms, "event": self.what.as_str() })
    }
}

impl What {
    /// As it is counted and told.
    pub fn as_str(&self) -> &'static str {
        match self {
            What::Added => "added",
            What::Started { .. } => "started",
            What::Progress => "progress",
            What::Completed => "completed",
            What::Retried { .. } => "retried",
            What::Failed => "failed",
            What::Stalled => "stalled",
            What::Dead => "dead",
            What::Released => "released",
            What::Removed => "removed",
            What::Revived => "revived",
            What::ChildrenDone => "children_done",
            What::Paused => "paused",
            What::Resumed => "resumed",
            What::Drained => "drained",
            What::Short(true) => "short",
            What::Short(false) => "enough",
        }
    }
}

/// Of one commit: that a queue was short and was not any more within it, as when one job ends and the next begins, is
/// no news.
pub(crate) fn settle(events: &mut Vec<Event>) {
    let is_turn = |event: &Event| matches!(event.what, What::Short(_));
    let mut turns: BTreeMap<Name, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| is_turn(event)) {
        *turns.entry(event.queue.clone()).or_default() += 1;
    }
    // They alternate: of an even number nothing is left, of an odd one the last.
    let mut seen: BTreeMap<Name, usize> = BTreeMap::new();
    events.retain(|event| {
        let Some(all) = turns.get(&event.queue).filter(|_| is_turn(event)) else { return true };
        let nth = seen.entry(event.queue.clone()).or_default();
        *nth += 1;
        all % 2 == 1 && *nth == *all
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turned_and_turned_back_is_no_news() {
        let event = |queue: &str, what| Event { queue: queue.into(), job: 0, at_ms: 0, what };
        let turned = |count: usize| (0..count).map(|i| event("a", What::Short(i % 2 == 0)));
        for (count, left) in [(0, None), (1, Some(true)), (2, None), (3, Some(true)), (4, None)] {
            let mut events: Vec<Event> = turned(count).collect();
            events.push(event("b", What::Short(false)));
            events.push(event("a", What::Drained));
            settle(&mut events);
            let expected: Vec<Event> = left.map(|is| event("a", What::Short(is))).into_iter().collect();
            let rest = [event("b", What::Short(false)), event("a", What::Drained)];
            assert_eq!(events, [&expected[..], &rest].concat(), "{count}");
        }
    }
}
