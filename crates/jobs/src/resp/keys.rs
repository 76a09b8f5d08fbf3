//! Which key stands for what: the names are BullMQ's, the values ours.

use crate::job::State;
use crate::queue::Counts;

/// Before every key, as BullMQ has it unless it is told otherwise.
const PREFIX: &str = "bull:";

/// What kind of value a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    List,
    SortedSet,
    Hash,
    Text,
}

impl Kind {
    /// As `TYPE` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::List => "list",
            Kind::SortedSet => "zset",
            Kind::Hash => "hash",
            Kind::Text => "string",
        }
    }
}

/// What of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The jobs in a state.
    Jobs(State),
    Meta,
    /// The last id that was given out.
    Id,
    Job(u64),
    /// Lines of a job's log.
    Log(u64),
}

/// A key that may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub queue: String,
    pub part: Part,
}

impl Key {
    /// `None` for what never is: another's prefix, and what BullMQ keeps where we keep nothing (`paused`,
    /// `prioritized`, `waiting-children`, `events` …).
    pub fn parse(name: &[u8]) -> Option<Key> {
        let name = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
        let (queue, last) = name.rsplit_once(':')?;
        if let (Some((queue, id)), "logs") = (queue.rsplit_once(':'), last)
            && let Some(id) = id_of(id)
        {
            return Some(Key { queue: queue.to_owned(), part: Part::Log(id) });
        }
        let part = match last {
            // BullMQ has no `waiting`; guides do.
            "wait" | "waiting" => Part::Jobs(State::Waiting),
            "active" => Part::Jobs(State::Active),
            "delayed" => Part::Jobs(State::Delayed),
            "completed" => Part::Jobs(State::Completed),
            "failed" => Part::Jobs(State::Failed),
            "dead" => Part::Jobs(State::Dead),
            "meta" => Part::Meta,
            "id" => Part::Id,
            other => Part::Job(id_of(other)?),
        };
        Some(Key { queue: queue.to_owned(), part })
    }

    pub fn kind(&self) -> Kind {
        self.part.kind()
    }
}

impl Part {
    pub fn kind(self) -> Kind {
        match self {
            Part::Jobs(State::Waiting | State::Active) | Part::Log(_) => Kind::List,
            Part::Jobs(_) => Kind::SortedSet,
            Part::Meta | Part::Job(_) => Kind::Hash,
            Part::Id => Kind::Text,
        }
    }

    fn name(self) -> String {
        match self {
            Part::Jobs(State::Waiting) => "wait".to_owned(),
            Part::Jobs(state) => state.as_str().to_owned(),
            Part::Meta => "meta".to_owned(),
            Part::Id => "id".to_owned(),
            Part::Job(id) => id.to_string(),
            Part::Log(id) => format!("{id}:logs"),
        }
    }
}

/// As a key of this queue is called.
pub fn name(queue: &str, part: Part) -> Vec<u8> {
    format!("{PREFIX}{queue}:{}", part.name()).into_bytes()
}

/// What of a queue is there beside its jobs: each is listed by `KEYS` and `SCAN` once.
pub fn of_queue(counts: Counts, last_id: u64) -> impl Iterator<Item = Part> {
    let jobs = State::ALL.into_iter().filter(move |state| counts.of(*state) > 0).map(Part::Jobs);
    jobs.chain([Part::Meta]).chain((last_id > 0).then_some(Part::Id))
}

/// As we write them, and no other way: what is asked for is what is listed.
pub fn id_of(text: &str) -> Option<u64> {
    let is_number = !text.starts_with(['0', '+']) && !text.is_empty();
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(key: &str) -> Option<(String, Part)> {
        Key::parse(key.as_bytes()).map(|key| (key.queue, key.part))
    }

    #[test]
    fn keys_are_bullmqs() {
        let of_scan = |part| Some(("scan".to_owned(), part));
        for (key, expected) in [
            ("bull:scan:wait", of_scan(Part::Jobs(State::Waiting))),
            ("bull:scan:waiting", of_scan(Part::Jobs(State::Waiting))),
            ("bull:scan:active", of_scan(Part::Jobs(State::Active))),
            ("bull:scan:dead", of_scan(Part::Jobs(State::Dead))),
            ("bull:scan:meta", of_scan(Part::Meta)),
            ("bull:scan:id", of_scan(Part::Id)),
            ("bull:scan:12", of_scan(Part::Job(12))),
            ("bull:scan:12:logs", of_scan(Part::Log(12))),
            ("bull:a:b:failed", Some(("a:b".to_owned(), Part::Jobs(State::Failed)))),
            ("bull:scan:012", None),
            ("bull:scan:+1", None),
            ("bull:scan:0", None),
            ("bull:scan:99999999999999999999", None),
            ("bull:scan:x:logs", None),
            ("bull:scan:paused", None),
            ("bull:scan:prioritized", None),
            ("bull:scan", None),
            ("bull", None),
            ("other:scan:wait", None),
        ] {
            assert_eq!(part(key), expected, "{key}");
        }
        assert_eq!(Key::parse(b"bull:\xff:wait"), None);
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_given(queue in "[a-z :0-9ä]{1,12}", id in 1u64..) {
            for part in [Part::Meta, Part::Id, Part::Job(id), Part::Log(id), Part::Jobs(State::Waiting)] {
                let key = Key::parse(&name(&queue, part)).expect("a key");
                prop_assert_eq!(&key, &Key { queue: queue.clone(), part });
            }
        }
    }
}
