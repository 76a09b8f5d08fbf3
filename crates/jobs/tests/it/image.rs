//! What a store should hold, as maps: the sum of all changes that were committed. The simulation crashes onto it, and
//! the real stores are compared with it.

use mainstay_jobs::change::{Change, Counter, Held, Key, Link, Record, Row, Starts};
use mainstay_jobs::job::{Attempt, Body};
use mainstay_jobs::schedule::Schedule;
use mainstay_jobs::{Engine, Name};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    pub reserved: BTreeMap<Counter, u64>,
    pub queues: BTreeMap<u32, (Name, bool)>,
    pub starts: BTreeMap<u32, Starts>,
    pub rows: BTreeMap<u64, Row>,
    pub bodies: BTreeMap<u64, Body>,
    pub attempts: BTreeMap<u64, Vec<Attempt>>,
    pub results: BTreeMap<u64, Vec<u8>>,
    pub progress: BTreeMap<u64, Vec<u8>>,
    pub lines: BTreeMap<u64, Vec<(u64, String)>>,
    pub keys: BTreeMap<Key, Held>,
    pub schedules: BTreeMap<Name, Schedule>,
    /// By child.
    pub links: BTreeMap<u64, Link>,
    /// What children gave that were removed.
    pub given: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    pub fn commit(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.apply(change));
    }

    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::Reserve { counter, ceiling } => drop(self.reserved.insert(counter, ceiling)),
            Change::Queue { id, name, is_paused } => drop(self.queues.insert(id, (name, is_paused))),
            Change::Starts { queue, starts } => drop(self.starts.insert(queue, starts)),
            Change::Insert { row, body } => {
                let id = row.progressed.job;
                assert!(self.rows.insert(id, *row).is_none(), "job {id} was there already");
                self.bodies.insert(id, *body);
            }
            Change::Update(progressed) => {
                let row = self.rows.get_mut(&progressed.job);
                row.expect("a change to a job that is not there").progressed = *progressed;
            }
            Change::Attempt { job, attempt } => {
                let attempts = self.attempts.entry(job).or_default();
                // Of those that were no start the last is kept.
                attempts.retain(|known| known.start != 0 || attempt.start != 0);
                assert!(attempts.iter().all(|known| known.start < attempt.start), "start {} of {job}", attempt.start);
                attempts.push(*attempt);
            }
            Change::Result { job, result } => drop(self.results.insert(job, result)),
            Change::Progress { job, progress } => drop(self.progress.insert(job, progress)),
            Change::Line { job, at_ms, line } => self.lines.entry(job).or_default().push((at_ms, line)),
            Change::Remove { job, kept } => {
                assert!(self.rows.remove(&job).is_some(), "job {job} was removed twice");
                self.bodies.remove(&job);
                // What is not said to be kept must not be there: a store does not look for it.
                assert_eq!(kept.attempts, self.attempts.remove(&job).is_some(), "attempts of {job}");
                assert_eq!(kept.lines, self.lines.remove(&job).is_some(), "lines of {job}");
                let words = [self.results.remove(&job), self.progress.remove(&job)];
                assert_eq!(kept.words, words.iter().any(Option::is_some), "words of {job}");
            }
            Change::Link(link) => {
                let there = [link.child, link.parent].iter().all(|job| self.rows.contains_key(job));
                assert!(there && self.links.insert(link.child, link).is_none(), "{link:?}");
            }
            Change::ChildGone { child, state } => {
                let link = self.links.get_mut(&child).expect("a child that has a parent");
                assert_eq!(link.gone.replace(state), None, "child {child} was removed twice");
                self.given.extend(self.results.get(&child).map(|result| (child, result.clone())));
            }
            Change::Unlink { parent } => {
                let before = self.links.len();
                self.links.retain(|_, link| link.parent != parent);
                assert!(self.links.len() < before, "{parent} had no child");
                self.given.retain(|child, _| self.links.contains_key(child));
            }
            Change::Key { key, held } => drop(self.keys.insert(key, held)),
            Change::KeyGone { key } => assert!(self.keys.remove(&key).is_some(), "{key:?} was not there"),
            Change::Schedule(schedule) => drop(self.schedules.insert(schedule.name.clone(), *schedule)),
            Change::Unschedule { name } => assert!(self.schedules.remove(&name).is_some(), "no schedule {name}"),
            Change::Taken { .. } | Change::SetAside { .. } => {}
        }
    }

    /// As a store gives them at a start.
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.extend(
            self.reserved.iter().map(|(counter, ceiling)| Record::Reserved { counter: *counter, ceiling: *ceiling }),
        );
        records.extend(self.queues.iter().map(|(id, (name, is_paused))| Record::Queue {
            id: *id,
            name: name.clone(),
            is_paused: *is_paused,
        }));
        records
            .extend(self.starts.iter().map(|(queue, starts)| Record::Starts { queue: *queue, starts: starts.clone() }));
        records.extend(self.rows.values().map(|row| Record::Job(Box::new(row.clone()))));
        records.extend(self.links.values().map(|link| Record::Link(*link)));
        records.extend(self.keys.iter().map(|(key, held)| Record::Key { key: key.clone(), held: *held }));
        records.extend(self.schedules.values().map(|schedule| Record::Schedule(Box::new(schedule.clone()))));
        records
    }

    /// A new engine, as after a crash at this moment.
    pub fn engine(&self, seed: u64, now_ms: u64) -> Engine {
        let mut engine = Engine::new(seed);
        for record in self.records() {
            engine.restore(record, now_ms).expect("what was committed fits together");
        }
        engine
    }
}
