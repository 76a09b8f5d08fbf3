//! The columns of each table, each list once: the statements are made of them, rows are written by them and read by
//! them. A column more is a word here, a value beside it, and a line in what reads the row.

use crate::change::{Held, Key, Link, Progressed, Row as JobRow};
use crate::job::{Attempt, Body, Ending, Name, NewJob, OnFailure, Own, State, Unique};
use crate::schedule::{CatchUp, Rule, Schedule};
use crate::store::rows::{self, read, stored};
use mainstay_store::Error;
use mainstay_store::postgres::tokio_postgres::Row;
use mainstay_store::postgres::tokio_postgres::types::ToSql;
use std::borrow::Cow;
use std::fmt::Write as _;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Whole,
    Flag,
    Text,
    Bytes,
}

use Kind::{Bytes, Flag, Text, Whole};

pub type Columns = &'static [(&'static str, Kind)];

pub const RESERVED: Columns = &[("counter", Text), ("ceiling", Whole)];
pub const QUEUE: Columns = &[("id", Whole), ("name", Text), ("is_paused", Flag)];
pub const STARTS: Columns = &[("id", Whole), ("starts", Bytes)];
/// What of a job changes.
pub const PROGRESSED: Columns = &[
    ("id", Whole),
    ("state", Text),
    ("kept", Whole),
    ("ready_ms", Whole),
    ("attempts", Whole),
    ("starts", Whole),
    ("stalls", Whole),
    ("token", Whole),
    ("started_ms", Whole),
    ("ended_ms", Whole),
    ("worker", Text),
    ("deadline_ms", Whole),
    ("lease_ms", Whole),
];
/// What does not, beside the columns above.
pub const CONSTANT: Columns = &[
    ("queue", Whole),
    ("priority", Whole),
    ("created_ms", Whole),
    ("group_key", Text),
    ("unique_key", Text),
    ("unique_ms", Whole),
    ("own_attempts", Whole),
    ("own_growth", Text),
    ("own_delay_ms", Whole),
    ("own_jitter", Whole),
    ("own_timeout_ms", Whole),
];
pub const BODY: Columns = &[("job", Whole), ("name", Text), ("payload", Bytes), ("trace", Text)];
pub const WORDS: Columns = &[("job", Whole), ("result", Bytes), ("progress", Bytes)];
pub const ATTEMPT: Columns = &[
    ("job", Whole),
    ("start", Whole),
    ("worker", Text),
    ("started_ms", Whole),
    ("ended_ms", Whole),
    ("ending", Text),
    ("error", Text),
    ("stack", Text),
];
pub const LINE: Columns = &[("job", Whole), ("at_ms", Whole), ("line", Text)];
pub const KEY: Columns = &[("queue", Whole), ("kind", Text), ("key", Text), ("job", Whole), ("until_ms", Whole)];
pub const KEY_GONE: Columns = &[("queue", Whole), ("kind", Text), ("key", Text)];
pub const SCHEDULE: Columns = &[
    ("name", Text),
    ("queue", Text),
    ("pattern", Text),
    ("zone", Text),
    ("every_ms", Whole),
    ("catch_up", Text),
    ("next_ms", Whole),
    ("job_name", Text),
    ("payload", Bytes),
    ("trace", Text),
    ("priority", Whole),
    ("group_key", Text),
    ("own_attempts", Whole),
    ("own_growth", Text),
    ("own_delay_ms", Whole),
    ("own_jitter", Whole),
    ("own_timeout_ms", Whole),
];
/// A job that an app added; its id and what is left of its delay are asked for beside these.
pub const INBOX: Columns = &[
    ("queue", Text),
    ("name", Text),
    ("payload", Bytes),
    ("trace", Text),
    ("priority", Whole),
    ("group_key", Text),
    ("unique_key", Text),
    ("unique_ms", Whole),
    ("own_attempts", Whole),
    ("own_growth", Text),
    ("own_delay_ms", Whole),
    ("own_jitter", Whole),
    ("own_timeout_ms", Whole),
];
/// Of a job that has a parent. What it gave stands beside these once it was removed.
pub const LINK: Columns = &[("child", Whole), ("parent", Whole), ("queue", Whole), ("on_failure", Text)];
pub const CHILD_GONE: Columns = &[("child", Whole), ("gone", Text), ("result", Bytes)];
pub const IDS: Columns = &[("id", Whole)];
pub const NAMES: Columns = &[("name", Text)];
pub const REFUSED: Columns = &[("id", Whole), ("refused", Text)];

/// `a, b, c`.
pub fn names(columns: Columns) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Of a job, all.
pub fn job() -> String {
    format!("{}, {}", names(PROGRESSED), names(CONSTANT))
}

/// `unnest($1::bigint[], $2::text[])`: rows as arrays, one a column, so that a statement takes any number of them.
pub fn unnest(columns: impl Iterator<Item = Kind>) -> String {
    let mut sql = "unnest(".to_owned();
    for (index, kind) in columns.enumerate() {
        let kind = match kind {
            Whole => "bigint[]",
            Flag => "boolean[]",
            Text => "text[]",
            Bytes => "bytea[]",
        };
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}${}::{kind}", index + 1);
    }
    sql + ")"
}

/// A value of a row.
pub enum Value<'a> {
    Whole(Option<i64>),
    Flag(bool),
    Text(Option<Cow<'a, str>>),
    Bytes(Option<Cow<'a, [u8]>>),
}

fn whole<'a>(number: impl Into<u64>) -> Value<'a> {
    Value::Whole(Some(stored(number.into())))
}

fn maybe<'a>(number: Option<u64>) -> Value<'a> {
    Value::Whole(number.map(stored))
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Some(readable(text)))
}

fn maybe_text(text: Option<&str>) -> Value<'_> {
    Value::Text(text.map(readable))
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Bytes(Some(Cow::Borrowed(bytes)))
}

/// Postgres keeps no NUL in a text and would refuse the whole commit for it: the sign for it stands in its place.
fn readable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) }
}

enum Array<'a> {
    Whole(Vec<Option<i64>>),
    Flag(Vec<bool>),
    Text(Vec<Option<Cow<'a, str>>>),
    Bytes(Vec<Option<Cow<'a, [u8]>>>),
}

/// Rows, a column after the other.
pub struct Rows<'a> {
    columns: Vec<Array<'a>>,
    count: usize,
}

impl<'a> Rows<'a> {
    /// All rows of these columns.
    pub fn of(columns: Columns, rows: impl Iterator<Item = Vec<Value<'a>>>) -> Rows<'a> {
        Rows::chained(columns, &[], rows)
    }

    /// All rows of these columns and those after them.
    pub fn chained(columns: Columns, more: Columns, rows: impl Iterator<Item = Vec<Value<'a>>>) -> Rows<'a> {
        let array = |(_, kind): &(&str, Kind)| match kind {
            Whole => Array::Whole(Vec::new()),
            Flag => Array::Flag(Vec::new()),
            Text => Array::Text(Vec::new()),
            Bytes => Array::Bytes(Vec::new()),
        };
        let mut all = Rows { columns: columns.iter().chain(more).map(array).collect(), count: 0 };
        rows.for_each(|row| all.push(row));
        all
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, row: Vec<Value<'a>>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.count += 1;
        for (array, value) in self.columns.iter_mut().zip(row) {
            match (array, value) {
                (Array::Whole(all), Value::Whole(value)) => all.push(value),
                (Array::Flag(all), Value::Flag(value)) => all.push(value),
                (Array::Text(all), Value::Text(value)) => all.push(value),
                (Array::Bytes(all), Value::Bytes(value)) => all.push(value),
                _ => debug_assert!(false, "a value of another kind than its column"),
            }
        }
    }

    /// As a statement takes them.
    pub fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(self.columns.len());
        for array in &self.columns {
            match array {
                Array::Whole(all) => values.push(all),
                Array::Flag(all) => values.push(all),
                Array::Text(all) => values.push(all),
                Array::Bytes(all) => values.push(all),
            }
        }
        values
    }
}

pub fn ids<'a>(ids: impl Iterator<Item = u64>) -> Rows<'a> {
    Rows::of(IDS, ids.map(|id| vec![whole(id)]))
}

pub fn queue<'a>(id: u32, name: &'a str, is_paused: bool) -> Vec<Value<'a>> {
    vec![whole(id), text(name), Value::Flag(is_paused)]
}

pub fn reserved<'a>(counter: &'a str, ceiling: u64) -> Vec<Value<'a>> {
    vec![text(counter), whole(ceiling)]
}

pub fn starts<'a>(id: u32, starts: &crate::change::Starts) -> Vec<Value<'a>> {
    vec![whole(id), Value::Bytes(Some(Cow::Owned(rows::starts(starts))))]
}

/// Of [`PROGRESSED`].
pub fn progressed(p: &Progressed) -> Vec<Value<'_>> {
    vec![
        whole(p.job),
        text(p.state.as_str()),
        Value::Whole(Some(rows::kept(p.kept))),
        whole(p.ready_ms),
        whole(p.attempts),
        whole(p.starts),
        whole(p.stalls),
        whole(p.token),
        whole(p.started_ms),
        whole(p.ended_ms),
        maybe_text(p.worker.as_deref()),
        whole(p.deadline_ms),
        whole(p.lease_ms),
    ]
}

/// Of [`CONSTANT`].
pub fn constant(row: &JobRow) -> Vec<Value<'_>> {
    let mut values = vec![
        whole(row.queue),
        whole(row.priority),
        whole(row.created_ms),
        maybe_text(row.group.as_deref()),
        maybe_text(row.unique.as_ref().map(|unique| &*unique.key)),
        maybe(row.unique.as_ref().and_then(|unique| unique.for_ms)),
    ];
    values.extend(own(&row.own));
    values
}

fn own<'a>(own: &Own) -> [Value<'a>; 5] {
    let own = rows::own(own);
    [
        maybe(own.attempts.map(u64::from)),
        maybe_text(own.growth),
        Value::Whole(own.delay_ms),
        maybe(own.jitter.map(u64::from)),
        Value::Whole(own.timeout_ms),
    ]
}

pub fn body(job: u64, body: &Body) -> Vec<Value<'_>> {
    vec![whole(job), text(&body.name), bytes(&body.payload), maybe_text(body.trace.as_deref())]
}

pub fn words<'a>(job: u64, result: Option<&'a [u8]>, progress: Option<&'a [u8]>) -> Vec<Value<'a>> {
    let bytes = |bytes: Option<&'a [u8]>| Value::Bytes(bytes.map(Cow::Borrowed));
    vec![whole(job), bytes(result), bytes(progress)]
}

pub fn attempt(job: u64, a: &Attempt) -> Vec<Value<'_>> {
    vec![
        whole(job),
        whole(a.start),
        text(&a.worker),
        whole(a.started_ms),
        whole(a.ended_ms),
        text(a.ending.as_str()),
        text(&a.error),
        maybe_text(a.stack.as_deref()),
    ]
}

pub fn line(job: u64, at_ms: u64, line: &str) -> Vec<Value<'_>> {
    vec![whole(job), whole(at_ms), text(line)]
}

pub fn key<'a>(key: &'a Key, held: &Held) -> Vec<Value<'a>> {
    let mut values = key_gone(key);
    values.extend([whole(held.job), maybe(held.until_ms)]);
    values
}

pub fn key_gone(key: &Key) -> Vec<Value<'_>> {
    vec![whole(key.queue), text(rows::kind(key.kind)), text(&key.key)]
}

pub fn link<'a>(link: &Link) -> Vec<Value<'a>> {
    vec![whole(link.child), whole(link.parent), whole(link.queue), text(link.on_failure.as_str())]
}

pub fn child_gone(child: u64, state: State, result: Option<&[u8]>) -> Vec<Value<'_>> {
    vec![whole(child), text(state.as_str()), Value::Bytes(result.map(Cow::Borrowed))]
}

pub fn name(name: &str) -> Vec<Value<'_>> {
    vec![text(name)]
}

pub fn refused(id: u64, why: &str) -> Vec<Value<'_>> {
    vec![whole(id), text(why)]
}

pub fn schedule(schedule: &Schedule) -> Vec<Value<'_>> {
    let (pattern, zone, every_ms) = match &schedule.rule {
        Rule::Cron { pattern, zone } => (Some(&**pattern), Some(&**zone), None),
        Rule::Every(every_ms) => (None, None, Some(*every_ms)),
    };
    let job = &schedule.job;
    let mut values = vec![
        text(&schedule.name),
        text(&schedule.queue),
        maybe_text(pattern),
        maybe_text(zone),
        maybe(every_ms),
        text(schedule.catch_up.as_str()),
        whole(schedule.next_ms),
        text(&job.body.name),
        bytes(&job.body.payload),
        maybe_text(job.body.trace.as_deref()),
        whole(job.priority),
        maybe_text(job.group.as_deref()),
    ];
    values.extend(own(&job.own));
    values
}

/// A row, read by the names of its columns.
pub struct Found<'a>(pub &'a Row);

impl Found<'_> {
    pub fn whole(&self, column: &str) -> Result<u64, Error> {
        Ok(read(self.0.try_get(column)?))
    }

    pub fn maybe(&self, column: &str) -> Result<Option<u64>, Error> {
        Ok(self.0.try_get::<_, Option<i64>>(column)?.map(read))
    }

    pub fn small<T: TryFrom<u64>>(&self, column: &'static str) -> Result<T, Error> {
        T::try_from(self.whole(column)?).map_err(|_| strange(column))
    }

    pub fn text(&self, column: &str) -> Result<String, Error> {
        Ok(self.0.try_get(column)?)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<&str>, Error> {
        Ok(self.0.try_get(column)?)
    }

    pub fn name(&self, column: &str) -> Result<Name, Error> {
        Ok(self.0.try_get::<_, &str>(column)?.into())
    }

    fn maybe_name(&self, column: &str) -> Result<Option<Name>, Error> {
        Ok(self.maybe_text(column)?.map(Into::into))
    }

    /// A word of ours.
    pub fn word<T>(&self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Error> {
        parse(self.0.try_get(column)?).ok_or_else(|| strange(column))
    }

    fn unique(&self) -> Result<Option<Unique>, Error> {
        let Some(key) = self.maybe_name("unique_key")? else { return Ok(None) };
        Ok(Some(Unique { key, for_ms: self.maybe("unique_ms")? }))
    }

    fn own(&self) -> Result<Own, Error> {
        let small =
            |column| self.maybe(column).map(|found| found.map(|number| u32::try_from(number).unwrap_or(u32::MAX)));
        let jitter = small("own_jitter")?.map(|percent| u8::try_from(percent).unwrap_or(100));
        let backoff = rows::parse_backoff(self.maybe_text("own_growth")?, self.0.try_get("own_delay_ms")?, jitter);
        Ok(Own { attempts: small("own_attempts")?, backoff, timeout_ms: self.maybe("own_timeout_ms")? })
    }

    /// Of [`PROGRESSED`] and [`CONSTANT`].
    pub fn job(&self) -> Result<JobRow, Error> {
        Ok(JobRow {
            queue: self.small("queue")?,
            priority: self.small("priority")?,
            created_ms: self.whole("created_ms")?,
            group: self.maybe_name("group_key")?,
            unique: self.unique()?,
            own: self.own()?,
            progressed: Progressed {
                job: self.whole("id")?,
                state: self.word("state", State::parse)?,
                kept: rows::parse_kept(self.0.try_get("kept")?),
                ready_ms: self.whole("ready_ms")?,
                attempts: self.small("attempts")?,
                starts: self.small("starts")?,
                stalls: self.small("stalls")?,
                token: self.whole("token")?,
                started_ms: self.whole("started_ms")?,
                ended_ms: self.whole("ended_ms")?,
                worker: self.maybe_name("worker")?,
                deadline_ms: self.whole("deadline_ms")?,
                lease_ms: self.whole("lease_ms")?,
            },
        })
    }

    pub fn body(&self) -> Result<Body, Error> {
        self.body_named("name")
    }

    fn body_named(&self, name: &str) -> Result<Body, Error> {
        let trace = self.0.try_get("trace")?;
        Ok(Body { name: self.text(name)?, payload: self.0.try_get("payload")?, trace })
    }

    pub fn attempt(&self) -> Result<Attempt, Error> {
        Ok(Attempt {
            start: self.small("start")?,
            worker: self.name("worker")?,
            started_ms: self.whole("started_ms")?,
            ended_ms: self.whole("ended_ms")?,
            ending: self.word("ending", Ending::parse)?,
            error: self.text("error")?,
            stack: self.0.try_get("stack")?,
        })
    }

    /// Of [`LINK`], with the state in which it was removed.
    pub fn link(&self) -> Result<Link, Error> {
        Ok(Link {
            child: self.whole("child")?,
            parent: self.whole("parent")?,
            queue: self.small("queue")?,
            on_failure: self.word("on_failure", OnFailure::parse)?,
            gone: self.maybe_text("gone")?.map(|gone| State::parse(gone).ok_or_else(|| strange("gone"))).transpose()?,
        })
    }

    pub fn schedule(&self) -> Result<Schedule, Error> {
        let rule = match self.maybe("every_ms")? {
            Some(every_ms) => Rule::Every(every_ms),
            None => Rule::Cron { pattern: self.text("pattern")?, zone: self.text("zone")? },
        };
        Ok(Schedule {
            name: self.name("name")?,
            queue: self.name("queue")?,
            rule,
            catch_up: self.word("catch_up", CatchUp::parse)?,
            next_ms: self.whole("next_ms")?,
            job: NewJob {
                body: self.body_named("job_name")?,
                priority: self.small("priority")?,
                group: self.maybe_name("group_key")?,
                own: self.own()?,
                ..NewJob::default()
            },
        })
    }

    /// Of [`INBOX`], with what is left of its delay.
    pub fn new_job(&self) -> Result<NewJob, Error> {
        Ok(NewJob {
            body: self.body()?,
            priority: self.small("priority")?,
            delay_ms: self.whole("left_ms")?,
            group: self.maybe_name("group_key")?,
            unique: self.unique()?,
            own: self.own()?,
            ..NewJob::default()
        })
    }
}

/// A value that no program of ours writes there.
pub fn strange(column: &'static str) -> Error {
    Error::Strange(column)
}
