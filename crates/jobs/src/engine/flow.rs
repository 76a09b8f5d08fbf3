//! Flows: a job that starts after its children, which are jobs of their own in whatever queues.
//!
//! Invariants: a parent starts after each of its children is done: completed, or for good not completed where the child
//! says that this is no matter. How far the children are is counted and not looked for, so the end of a child costs the
//! same however many there are. What is known here is there for as long as the parent is.

use super::{Engine, reason};
use crate::change::{Change, Link};
use crate::event::What;
use crate::job::{Attempt, Ending, OnFailure, State};
use crate::op::{Effects, Refusal};
use std::collections::BTreeMap;

/// What few jobs have, beside the jobs.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By child.
    links: BTreeMap<u64, Tie>,
    /// By parent.
    parents: BTreeMap<u64, Parent>,
}

/// What a child is to its parent.
#[derive(Debug)]
struct Tie {
    parent: u64,
    on_failure: OnFailure,
    /// State of the child when it was removed.
    gone: Option<State>,
}

/// How far the children of a job are.
#[derive(Debug, Default)]
struct Parent {
    /// In the order in which they were given.
    children: Vec<u64>,
    /// Those that are not done.
    left: u32,
    /// Those of them that will not be done by themselves.
    failed: u32,
}

/// How a child stands, as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    /// Nothing is to be waited for.
    Done,
    /// The parent fails by it.
    Failed,
}

impl Flows {
    pub fn is_parent(&self, id: u64) -> bool {
        self.parents.contains_key(&id)
    }
}

impl Engine {
    /// Children of a job, in the order in which they were given; those that were removed too.
    pub fn children(&self, job: u64) -> Vec<u64> {
        self.flows.parents.get(&job).map_or_else(Vec::new, |parent| parent.children.clone())
    }

    /// A new job becomes the child of another.
    pub(super) fn link(&mut self, link: Link, effects: &mut Effects) {
        self.restore_link(link);
        effects.changes.push(Change::Link(link));
    }

    /// After both jobs are there, if they are.
    pub(super) fn restore_link(&mut self, link: Link) {
        let Link { child, parent, on_failure, gone, .. } = link;
        self.flows.links.insert(child, Tie { parent, on_failure, gone });
        let standing = self.standing(child);
        let of = self.flows.parents.entry(parent).or_default();
        of.children.push(child);
        of.left += u32::from(standing != Some(Standing::Done));
        of.failed += u32::from(standing == Some(Standing::Failed));
    }

    /// `None`: it is nobody's child.
    pub(super) fn standing(&self, child: u64) -> Option<Standing> {
        let tie = self.flows.links.get(&child)?;
        let state = tie.gone.or_else(|| self.jobs.get(&child).map(|job| job.state))?;
        Some(match (state, tie.on_failure) {
            (State::Completed, _) => Standing::Done,
            (state, _) if tie.gone.is_none() && !state.is_terminal() => Standing::Open,
            (_, OnFailure::Ignore) => Standing::Done,
            (_, OnFailure::Fail) => Standing::Failed,
        })
    }

    /// A child may stand otherwise than before: its parent starts, fails, or waits again.
    pub(super) fn turned(&mut self, child: u64, before: Option<Standing>, effects: &mut Effects) {
        let (Some(before), Some(after)) = (before, self.standing(child)) else { return };
        let Some(parent) = self.flows.links.get(&child).map(|tie| tie.parent) else { return };
        let Some(of) = self.flows.parents.get_mut(&parent).filter(|_| before != after) else { return };
        of.left = of.left + u32::from(after != Standing::Done) - u32::from(before != Standing::Done);
        of.failed = of.failed + u32::from(after == Standing::Failed) - u32::from(before == Standing::Failed);
        let (left, failed) = (of.left, of.failed);
        let Some(job) = self.jobs.get(&parent) else { return };
        if job.state == State::WaitingChildren {
            if failed > 0 {
                self.fail_by(parent, child, effects);
            } else if left == 0 {
                self.children_done(parent, effects);
            }
        } else if job.is_held_back() && before == Standing::Failed && failed == 0 {
            self.wait_again(parent, effects);
        }
    }

    /// It waits, or is put off by its own delay.
    fn children_done(&mut self, id: u64, effects: &mut Effects) {
        self.displace(id);
        let now_ms = self.now_ms;
        let Some(mut job) = self.jobs.remove(&id) else { return };
        let queue = job.queue;
        (job.state, job.ready_ms) = match job.ready_ms {
            0 => (State::Waiting, self.queues[queue as usize].stamp(now_ms)),
            delay_ms => (State::Delayed, now_ms + delay_ms),
        };
        self.place(id, &job);
        self.jobs.insert(id, job);
        self.keep(id, effects);
        self.tell(queue, id, What::ChildrenDone, effects);
        self.turn_depth_of(queue, effects);
    }

    /// A child is not done and will not be: neither will its parent.
    fn fail_by(&mut self, id: u64, child: u64, effects: &mut Effects) {
        let now_ms = self.now_ms;
        let how = match self.flows.links.get(&child).and_then(|tie| tie.gone) {
            Some(_) => "was removed before it was done",
            None => match self.jobs.get(&child).map(|job| job.state) {
                Some(State::Dead) => "is dead",
                _ => "failed",
            },
        };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.kept.attempts = true;
        let queue = job.queue;
        let error = format!("{}: child {child} {how}", reason(Ending::Child));
        let (worker, ending) = ("".into(), Ending::Child);
        let attempt = Attempt { start: 0, worker, started_ms: now_ms, ended_ms: now_ms, ending, error, stack: None };
        effects.changes.push(Change::Attempt { job: id, attempt: Box::new(attempt) });
        self.end_failed(id, queue, effects);
    }

    /// The child that its parent failed by is not lost after all.
    fn wait_again(&mut self, id: u64, effects: &mut Effects) {
        let before = self.standing(id);
        // Another has its key by now: it stays as it is, and can be retried once its children are done.
        if self.regain_key(id, effects).is_err() {
            return;
        }
        self.displace(id);
        let Some(mut job) = self.jobs.remove(&id) else { return };
        let queue = job.queue;
        job.state = State::WaitingChildren;
        job.ended_ms = 0;
        self.place(id, &job);
        self.jobs.insert(id, job);
        self.keep(id, effects);
        self.tell(queue, id, What::Revived, effects);
        self.turned(id, before, effects);
    }

    /// The first child that a job is held back by.
    pub(super) fn child_not_done(&self, id: u64) -> Option<u64> {
        let parent = self.flows.parents.get(&id).filter(|parent| parent.left > 0)?;
        self.jobs.get(&id).filter(|job| job.is_held_back())?;
        parent.children.iter().copied().find(|child| self.standing(*child) != Some(Standing::Done))
    }

    /// All below a job that has not ended, if the job was held back by it.
    pub(super) fn gather_below(&self, id: u64, found: &mut Vec<u64>) -> Result<(), Refusal> {
        let is_held_back = self.jobs.get(&id).is_some_and(|job| job.is_held_back());
        let Some(parent) = self.flows.parents.get(&id).filter(|_| is_held_back) else { return Ok(()) };
        for child in &parent.children {
            match self.jobs.get(child).map(|job| job.state) {
                Some(state @ State::Active) => return Err(Refusal::WrongState { job: *child, state }),
                Some(state) if !state.is_terminal() => found.push(*child),
                _ => {}
            }
            self.gather_below(*child, found)?;
        }
        Ok(())
    }

    /// A job was removed in this state: its children are nobody's, and what it gave stays with its parent.
    pub(super) fn leave_flow(&mut self, id: u64, state: State, effects: &mut Effects) {
        if let Some(parent) = self.flows.parents.remove(&id) {
            for child in &parent.children {
                self.flows.links.remove(child);
            }
            effects.changes.push(Change::Unlink { parent: id });
        }
        if let Some(tie) = self.flows.links.get_mut(&id) {
            tie.gone = Some(state);
            effects.changes.push(Change::ChildGone { child: id, state });
        }
    }
}
