//! Flows, said plainly: who waits for whom is a list, and how the children of a job stand is looked up each time.

use super::{Model, keys_of};
use mainstay_jobs::change::KeyKind;
use mainstay_jobs::op::Claimed;
use mainstay_jobs::{Answer, Child, Engine, Name, NewJob, OnFailure, Refusal, State};

#[derive(Clone, Debug)]
pub struct Link {
    pub child: u64,
    pub parent: u64,
    on_failure: OnFailure,
    /// State of the child when it was removed.
    pub gone: Option<State>,
    /// What it gave.
    pub given: Option<Vec<u8>>,
    /// It was, whatever became of it after.
    was_done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stand {
    Open,
    Done,
    Failed,
}

impl Model {
    fn link(&mut self, child: u64) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.child == child)
    }

    fn stand(&self, link: &Link) -> Stand {
        let is_lost = match (link.gone, self.find(link.child).map(|job| job.state)) {
            (Some(State::Completed), _) | (None, Some(State::Completed)) => return Stand::Done,
            (Some(_), _) | (None, Some(State::Failed | State::Dead)) => true,
            _ => false,
        };
        match (is_lost, link.on_failure) {
            (false, _) => Stand::Open,
            (true, OnFailure::Ignore) => Stand::Done,
            (true, OnFailure::Fail) => Stand::Failed,
        }
    }

    fn stands(&self, parent: u64) -> Vec<(u64, Stand)> {
        let of = self.links.iter().filter(|link| link.parent == parent);
        of.map(|link| (link.child, self.stand(link))).collect()
    }

    pub fn waits_for_somebody(&self, parent: u64) -> bool {
        let stands = self.stands(parent);
        let is_there = |child| self.find(child).is_some_and(|job| !job.state.is_terminal());
        stands.iter().all(|(_, stand)| *stand != Stand::Failed)
            && stands.iter().any(|(child, stand)| *stand == Stand::Open && is_there(*child))
    }

    /// Why none of these is added: somebody has a key of one that is not at the top.
    pub(super) fn half_there(&self, name: &Name, jobs: &[NewJob]) -> Option<Refusal> {
        fn below<'a>(job: &'a NewJob, all: &mut Vec<&'a Child>) {
            for child in &job.children {
                all.push(child);
                below(&child.job, all);
            }
        }
        if jobs.iter().all(|job| job.children.is_empty()) {
            return None;
        }
        let mut taken: Vec<(usize, KeyKind, u8)> = Vec::new();
        for job in jobs {
            let queue = self.queue(name);
            let own: Vec<_> = keys_of(job).iter().map(|(kind, key, _)| (queue, *kind, *key)).collect();
            if own.iter().any(|key| self.held(key.0, key.1, key.2).is_some() || taken.contains(key)) {
                continue;
            }
            taken.extend(own);
            let mut all = Vec::new();
            below(job, &mut all);
            for child in all {
                for (kind, key, _) in keys_of(&child.job) {
                    let key = (self.queue(&child.queue), kind, key);
                    if let Some(job) = self.held(key.0, key.1, key.2) {
                        return Some(Refusal::Duplicate { job });
                    }
                    if taken.contains(&key) {
                        return Some(Refusal::Flow(
                            "two jobs of one call have the same key, and one is a child".into(),
                        ));
                    }
                    taken.push(key);
                }
            }
        }
        None
    }

    pub(super) fn add_children(&mut self, parent: u64, children: &[Child], engine: &Engine) {
        let ids = engine.children(parent);
        assert_eq!(ids.len(), children.len(), "children of {parent}");
        for (id, child) in ids.into_iter().zip(children) {
            let queue = self.queue(&child.queue);
            self.added(queue, &child.job, id, engine);
            let on_failure = child.on_failure;
            self.links.push(Link { child: id, parent, on_failure, gone: None, given: None, was_done: false });
        }
        // In the order of their ids, as they are kept.
        self.links.sort_by_key(|link| link.child);
    }

    pub(super) fn give(&mut self, child: u64, result: Option<&[u8]>) {
        if let Some(link) = self.link(child) {
            link.given = result.map(<[u8]>::to_vec);
        }
    }

    /// I10.
    pub(super) fn is_after_its_children(&self, claimed: &Claimed) {
        let of: Vec<&Link> = self.links.iter().filter(|link| link.parent == claimed.job).collect();
        assert_eq!(claimed.is_parent, !of.is_empty(), "{claimed:?}");
        assert!(!self.find(claimed.job).is_some_and(|job| job.is_held_back), "{claimed:?} started too early");
        for link in of {
            let is_done = link.was_done && (link.on_failure == OnFailure::Ignore || self.stand(link) == Stand::Done);
            assert!(is_done, "{claimed:?} started before {link:?}");
        }
    }

    pub(super) fn has_failed_its_parent(&self, child: u64) -> bool {
        self.links.iter().any(|link| link.child == child && self.stand(link) == Stand::Failed)
    }

    /// The first child that it would wait for.
    pub(super) fn held_up_by(&self, id: u64) -> Option<u64> {
        self.find(id).filter(|job| job.is_held_back)?;
        self.stands(id).into_iter().find(|(_, stand)| *stand != Stand::Done).map(|(child, _)| child)
    }

    /// What the parent makes of how its children stand since something became of this one.
    pub(super) fn look_up(&mut self, child: u64, was_failed: bool) {
        let Some(link) = self.links.iter().find(|link| link.child == child).cloned() else { return };
        if self.stand(&link) == Stand::Done {
            self.link(child).expect("a link").was_done = true;
        }
        let parent = link.parent;
        let stands = self.stands(parent);
        let is_any_failed = stands.iter().any(|(_, stand)| *stand == Stand::Failed);
        let job = *self.find(parent).expect("a parent");
        if job.state == State::WaitingChildren && is_any_failed {
            self.get(parent).is_blamed = true;
            let dead_letter = self.queues[job.queue].settings.dead_letter;
            self.end(parent, if dead_letter { State::Dead } else { State::Failed });
        } else if job.state == State::WaitingChildren && stands.iter().all(|(_, stand)| *stand == Stand::Done) {
            let (state, ready_ms) = match job.ready_ms {
                0 => (State::Waiting, self.stamp(job.queue)),
                delay_ms => (State::Delayed, self.now_ms + delay_ms),
            };
            let job = self.get(parent);
            (job.state, job.ready_ms, job.is_held_back) = (state, ready_ms, false);
        } else if job.is_held_back && job.state.is_terminal() && was_failed && !is_any_failed && !self.blocked(parent) {
            let was_failed = self.has_failed_its_parent(parent);
            self.regain_key(parent);
            let job = self.get(parent);
            (job.state, job.ended_ms) = (State::WaitingChildren, 0);
            self.look_up(parent, was_failed);
        }
    }

    pub(super) fn leave_flow(&mut self, id: u64, state: State) {
        self.links.retain(|link| link.parent != id);
        if let Some(link) = self.link(id) {
            link.gone = Some(state);
            self.look_up(id, false);
        }
    }

    fn below(&self, id: u64, all: &mut Vec<u64>) {
        if !self.find(id).is_some_and(|job| job.is_held_back) {
            return;
        }
        for link in self.links.iter().filter(|link| link.parent == id) {
            all.push(link.child);
            self.below(link.child, all);
        }
    }

    pub(super) fn remove(&mut self, id: u64, answer: &Result<Answer, Refusal>) {
        let mut all = Vec::new();
        self.below(id, &mut all);
        let is_active = |id: &u64| self.find(*id).is_some_and(|job| job.state == State::Active);
        if let Some(job) = all.iter().copied().find(is_active) {
            return assert_eq!(*answer, Err(Refusal::WrongState { job, state: State::Active }));
        }
        let states = [State::Waiting, State::Delayed, State::WaitingChildren];
        let ended = [State::Completed, State::Failed, State::Dead];
        if !self.is_in(id, &[&states[..], &ended[..]].concat(), answer) {
            return;
        }
        self.erase(id);
        for id in all {
            if self.find(id).is_some_and(|job| !job.state.is_terminal()) {
                self.erase(id);
            }
        }
    }

    pub(super) fn retry(&mut self, id: u64, answer: &Result<Answer, Refusal>) {
        let is_ended = self.find(id).is_some_and(|job| matches!(job.state, State::Failed | State::Dead));
        if is_ended && let Some(child) = self.held_up_by(id) {
            return assert_eq!(*answer, Err(Refusal::Children { job: id, child }));
        }
        if is_ended && self.blocked(id) {
            return assert!(matches!(answer, Err(Refusal::Duplicate { .. })), "another job has the key of {id}");
        }
        if self.is_in(id, &[State::Failed, State::Dead], answer) {
            self.revive(id);
        }
    }
}
