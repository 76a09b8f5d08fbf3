//! Schedules: when a job is added by itself. Pure: the wall clock is an argument, in milliseconds since 1970.
//!
//! Invariant: of one tick at most one job is added, and of a tick that was not missed exactly one: the tick is part of
//! the key of its job, and the schedule moves on in the same commit.

use crate::job::{Name, NewJob};
use crate::op::Refusal;
use croner::Cron;
use croner::parser::CronParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// A tick that is later than this was missed; up to it, it is merely late. A restart takes less.
pub const LATE_MS: u64 = 60_000;
/// The shortest distance of two ticks.
pub const EVERY_MIN_MS: u64 = 1000;
/// Ticks that are made up for at once; the rest with the next look.
pub const TICKS_MAX: usize = 1000;

/// When it ticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// Five fields, or six with seconds in front, in a time zone of the IANA database. A time that a clock change
    /// leaves out or repeats ticks once.
    Cron { pattern: String, zone: String },
    /// At whole multiples of this many milliseconds since 1970.
    Every(u64),
}

/// What becomes of ticks that nobody was there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatchUp {
    None,
    /// The last of them runs.
    One,
    All,
}

impl CatchUp {
    pub fn as_str(self) -> &'static str {
        match self {
            CatchUp::None => "none",
            CatchUp::One => "one",
            CatchUp::All => "all",
        }
    }

    pub fn parse(text: &str) -> Option<CatchUp> {
        [CatchUp::None, CatchUp::One, CatchUp::All].into_iter().find(|catch_up| catch_up.as_str() == text)
    }
}

/// A schedule, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub name: Name,
    pub queue: Name,
    pub rule: Rule,
    pub catch_up: CatchUp,
    /// What is added at each tick; its delay and its keys are not used.
    pub job: NewJob,
    /// The next tick that was not run.
    pub next_ms: u64,
}

/// What a look at a schedule finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// To be run, oldest first.
    pub ticks: Vec<u64>,
    pub next_ms: u64,
}

impl Schedule {
    /// A schedule whose first tick is the one after `wall_ms`.
    ///
    /// # Errors
    /// When the pattern or the zone is not understood, never ticks, or ticks more than once a second.
    pub fn new(name: Name, queue: Name, rule: Rule, job: NewJob, wall_ms: u64) -> Result<Schedule, Refusal> {
        let next_ms = Clockwork::new(&rule)?.after(wall_ms).ok_or_else(|| Refusal::Pattern("never ticks".into()))?;
        Ok(Schedule { name, queue, rule, catch_up: CatchUp::None, job, next_ms })
    }

    /// Which ticks are to be run by `wall_ms`, and which is the next after them.
    ///
    /// # Errors
    /// As [`Schedule::new`]: a zone may be unknown to another machine.
    pub(crate) fn due(&self, wall_ms: u64) -> Result<Due, Refusal> {
        let clockwork = Clockwork::new(&self.rule)?;
        let late_ms = wall_ms.saturating_sub(LATE_MS);
        let missed = self.next_ms < late_ms;
        let mut next_ms = self.next_ms;
        let mut ticks = Vec::new();
        if missed && self.catch_up != CatchUp::All {
            let last = (self.catch_up == CatchUp::One).then(|| clockwork.last_before(late_ms)).flatten();
            ticks.extend(last.filter(|last| *last >= self.next_ms));
            next_ms = clockwork.after(late_ms.saturating_sub(1)).unwrap_or(u64::MAX);
        }
        while next_ms <= wall_ms && ticks.len() < TICKS_MAX {
            ticks.push(next_ms);
            next_ms = clockwork.after(next_ms).unwrap_or(u64::MAX);
        }
        Ok(Due { ticks, next_ms })
    }
}

/// A rule that was understood.
enum Clockwork {
    Cron(Box<Cron>, TimeZone),
    Every(u64),
}

impl Clockwork {
    fn new(rule: &Rule) -> Result<Clockwork, Refusal> {
        match rule {
            Rule::Every(every_ms) if *every_ms < EVERY_MIN_MS => {
                Err(Refusal::Pattern(format!("{every_ms} ms is shorter than {EVERY_MIN_MS} ms")))
            }
            Rule::Every(every_ms) => Ok(Clockwork::Every(*every_ms)),
            Rule::Cron { pattern, zone } => {
                let cron = CronParser::new().parse(pattern).map_err(|error| Refusal::Pattern(error.to_string()))?;
                let zone = TimeZone::get(zone).map_err(|error| Refusal::Pattern(error.to_string()))?;
                Ok(Clockwork::Cron(Box::new(cron), zone))
            }
        }
    }

    /// The first tick after this moment.
    fn after(&self, at_ms: u64) -> Option<u64> {
        match self {
            Clockwork::Every(every_ms) => (at_ms / every_ms + 1).checked_mul(*every_ms),
            Clockwork::Cron(cron, zone) => {
                let found = cron.find_next_occurrence(&zoned(at_ms, zone)?, false).ok()?;
                // The search goes by whole seconds from a moment that may lie within one.
                millis(&found).filter(|next_ms| *next_ms > at_ms)
            }
        }
    }

    /// The last tick before this moment.
    fn last_before(&self, at_ms: u64) -> Option<u64> {
        match self {
            Clockwork::Every(every_ms) => at_ms.checked_sub(1).map(|before| before / every_ms * every_ms),
            Clockwork::Cron(cron, zone) => {
                let found = cron.find_previous_occurrence(&zoned(at_ms, zone)?, false).ok()?;
                millis(&found).filter(|last_ms| *last_ms < at_ms)
            }
        }
    }
}

fn zoned(at_ms: u64, zone: &TimeZone) -> Option<Zoned> {
    let timestamp = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
    Some(timestamp.to_zoned(zone.clone()))
}

fn millis(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_millisecond()).ok().map(|ms| ms / 1000 * 1000)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
