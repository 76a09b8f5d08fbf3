//! What the changes of a batch add up to: of a job that was claimed and ended its last row, of one that was added and
//! removed nothing. So each row is written once, in one statement a kind, whatever their order was.

use super::columns::{self, Rows};
use super::statements::Which;
use crate::change::{Change, Held, Key, Link, Progressed, Row as JobRow, Starts};
use crate::job::{Attempt, Body, Kept, State};
use crate::schedule::Schedule;
use crate::store::rows;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Batch<'a> {
    reserved: BTreeMap<&'static str, u64>,
    queues: BTreeMap<u32, (&'a str, bool)>,
    starts: BTreeMap<u32, &'a Starts>,
    inserts: Vec<(&'a JobRow, &'a Body)>,
    updates: BTreeMap<u64, &'a Progressed>,
    attempts: Vec<(u64, &'a Attempt)>,
    /// Result and progress.
    words: BTreeMap<u64, [Option<&'a [u8]>; 2]>,
    lines: Vec<(u64, u64, &'a str)>,
    links: Vec<&'a Link>,
    /// In which state a child was removed, and what it gave in this batch.
    children_gone: BTreeMap<u64, (State, Option<&'a [u8]>)>,
    unlinked: Vec<u64>,
    removed: BTreeMap<u64, Kept>,
    keys: BTreeMap<&'a Key, Option<Held>>,
    schedules: BTreeMap<&'a str, Option<&'a Schedule>>,
    taken: Vec<u64>,
    refused: Vec<(u64, &'a str)>,
}

impl<'a> Batch<'a> {
    pub fn of(changes: &'a [Change]) -> Batch<'a> {
        let mut batch = Batch::default();
        changes.iter().for_each(|change| batch.take(change));
        batch.drop_what_is_gone();
        batch
    }

    fn take(&mut self, change: &'a Change) {
        match change {
            Change::Reserve { counter, ceiling } => drop(self.reserved.insert(rows::counter(*counter), *ceiling)),
            Change::Queue { id, name, is_paused } => drop(self.queues.insert(*id, (name, *is_paused))),
            Change::Starts { queue, starts } => drop(self.starts.insert(*queue, starts)),
            Change::Insert { row, body } => self.inserts.push((row, body)),
            Change::Update(progressed) => drop(self.updates.insert(progressed.job, progressed)),
            Change::Attempt { job, attempt } => {
                // Of those that were no start the last is kept.
                if attempt.start == 0 {
                    self.attempts.retain(|(known, before)| known != job || before.start != 0);
                }
                self.attempts.push((*job, attempt));
            }
            Change::Result { job, result } => self.words.entry(*job).or_default()[0] = Some(result),
            Change::Progress { job, progress } => self.words.entry(*job).or_default()[1] = Some(progress),
            Change::Line { job, at_ms, line } => self.lines.push((*job, *at_ms, line)),
            Change::Remove { job, kept } => drop(self.removed.insert(*job, *kept)),
            Change::Link(link) => self.links.push(link),
            Change::ChildGone { child, state } => {
                let given = self.words.get(child).and_then(|words| words[0]);
                self.children_gone.insert(*child, (*state, given));
            }
            Change::Unlink { parent } => self.unlinked.push(*parent),
            Change::Key { key, held } => drop(self.keys.insert(key, Some(*held))),
            Change::KeyGone { key } => drop(self.keys.insert(key, None)),
            Change::Schedule(schedule) => drop(self.schedules.insert(&schedule.name, Some(schedule))),
            Change::Unschedule { name } => drop(self.schedules.insert(name, None)),
            Change::Taken { entry } => self.taken.push(*entry),
            Change::SetAside { entry, why } => self.refused.push((*entry, why)),
        }
    }

    /// Ids are given out once: what was removed does not come again.
    fn drop_what_is_gone(&mut self) {
        let Batch { inserts, updates, attempts, words, lines, removed, .. } = self;
        if removed.is_empty() {
            return;
        }
        updates.retain(|job, _| !removed.contains_key(job));
        attempts.retain(|(job, _)| !removed.contains_key(job));
        words.retain(|job, _| !removed.contains_key(job));
        lines.retain(|(job, ..)| !removed.contains_key(job));
        inserts.retain(|(row, _)| removed.remove(&row.progressed.job).is_none());
    }

    /// What is to be written, in the order of the statements.
    pub fn writes(&self) -> Vec<(Which, Rows<'_>)> {
        let kept = |which: fn(&Kept) -> bool| {
            columns::ids(self.removed.iter().filter(move |(_, kept)| which(kept)).map(|(job, _)| *job))
        };
        let reserved = self.reserved.iter().map(|(counter, ceiling)| columns::reserved(counter, *ceiling));
        let queues = self.queues.iter().map(|(id, (name, is_paused))| columns::queue(*id, name, *is_paused));
        let bodies = self.inserts.iter().map(|(row, body)| columns::body(row.progressed.job, body));
        let attempts = self.attempts.iter().map(|(job, attempt)| columns::attempt(*job, attempt));
        let words = self.words.iter().map(|(job, [result, progress])| columns::words(*job, *result, *progress));
        let lines = self.lines.iter().map(|(job, at_ms, line)| columns::line(*job, *at_ms, line));
        let children_gone =
            self.children_gone.iter().map(|(child, (state, given))| columns::child_gone(*child, *state, *given));
        let held = self.keys.iter().filter_map(|(key, held)| held.as_ref().map(|held| columns::key(key, held)));
        let gone = self.keys.iter().filter(|(_, held)| held.is_none()).map(|(key, _)| columns::key_gone(key));
        let set = self.schedules.values().flatten().map(|schedule| columns::schedule(schedule));
        let unset = self.schedules.iter().filter(|(_, set)| set.is_none()).map(|(name, _)| columns::name(name));
        let mut writes = vec![
            (Which::Reserve, Rows::of(columns::RESERVED, reserved)),
            (Which::Queue, Rows::of(columns::QUEUE, queues)),
            (
                Which::Starts,
                Rows::of(columns::STARTS, self.starts.iter().map(|(id, starts)| columns::starts(*id, starts))),
            ),
            (Which::Insert, self.inserted()),
            (Which::Body, Rows::of(columns::BODY, bodies)),
            (Which::Update, self.updated()),
            (Which::Attempt, Rows::of(columns::ATTEMPT, attempts)),
            (Which::Words, Rows::of(columns::WORDS, words)),
            (Which::Line, Rows::of(columns::LINE, lines)),
            (Which::Link, Rows::of(columns::LINK, self.links.iter().map(|link| columns::link(link)))),
            (Which::ChildGone, Rows::of(columns::CHILD_GONE, children_gone)),
            (Which::Unlink, columns::ids(self.unlinked.iter().copied())),
            (Which::RemoveJob, kept(|_| true)),
            (Which::RemoveBody, kept(|_| true)),
            (Which::RemoveAttempts, kept(|kept| kept.attempts)),
            (Which::RemoveLines, kept(|kept| kept.lines)),
            (Which::RemoveWords, kept(|kept| kept.words)),
            (Which::Key, Rows::of(columns::KEY, held)),
            (Which::KeyGone, Rows::of(columns::KEY_GONE, gone)),
            (Which::Schedule, Rows::of(columns::SCHEDULE, set)),
            (Which::Unschedule, Rows::of(columns::NAMES, unset)),
            (Which::Taken, columns::ids(self.taken.iter().copied())),
            (
                Which::SetAside,
                Rows::of(columns::REFUSED, self.refused.iter().map(|(id, why)| columns::refused(*id, why))),
            ),
        ];
        writes.retain(|(_, rows)| !rows.is_empty());
        writes
    }

    /// As they are by the end of the batch.
    fn inserted(&self) -> Rows<'_> {
        let rows = self.inserts.iter().map(|(row, _)| {
            let now = self.updates.get(&row.progressed.job).copied().unwrap_or(&row.progressed);
            let mut values = columns::progressed(now);
            values.extend(columns::constant(row));
            values
        });
        Rows::chained(columns::PROGRESSED, columns::CONSTANT, rows)
    }

    fn updated(&self) -> Rows<'_> {
        let inserted: BTreeSet<u64> = self.inserts.iter().map(|(row, _)| row.progressed.job).collect();
        let updates = self.updates.values().filter(|progressed| !inserted.contains(&progressed.job));
        Rows::of(columns::PROGRESSED, updates.map(|progressed| columns::progressed(progressed)))
    }
}
