//! What operators do to jobs: remove, promote, retry, drain, clean, redrive.

use super::Engine;
use crate::change::{Held, Key, KeyKind};
use crate::event::What;
use crate::job::{KEY_MAX_MS, Name, State};
use crate::op::{Answer, Effects, Refusal, SWEEP_MAX};
use crate::queue::terminal;

impl Engine {
    fn state_of(&self, id: u64) -> Result<(u32, State), Refusal> {
        self.jobs.get(&id).map(|job| (job.queue, job.state)).ok_or(Refusal::NoSuchJob(id))
    }

    pub(super) fn remove_one(&mut self, id: u64, effects: &mut Effects) -> Result<Answer, Refusal> {
        let (_, state) = self.state_of(id)?;
        if state == State::Active {
            return Err(Refusal::WrongState { job: id, state });
        }
        let mut gone = vec![id];
        self.gather_below(id, &mut gone)?;
        // The parent first: its children are not missed then.
        for id in gone {
            let (queue, _) = self.state_of(id)?;
            self.remove_told(queue, id, effects);
            self.turn_depth_of(queue, effects);
        }
        Ok(Answer::Done)
    }

    fn remove_told(&mut self, queue: u32, id: u64, effects: &mut Effects) {
        self.erase(id, effects);
        self.tell(queue, id, What::Removed, effects);
    }

    pub(super) fn promote(&mut self, id: u64, effects: &mut Effects) -> Result<Answer, Refusal> {
        let (_, state) = self.state_of(id)?;
        if state != State::Delayed {
            return Err(Refusal::WrongState { job: id, state });
        }
        self.wait_now(id, effects);
        Ok(Answer::Done)
    }

    pub(super) fn retry(&mut self, id: u64, effects: &mut Effects) -> Result<Answer, Refusal> {
        self.revive(id, effects)?;
        Ok(Answer::Done)
    }

    /// All its attempts anew, if its children are done and nobody else has its key by now.
    fn revive(&mut self, id: u64, effects: &mut Effects) -> Result<(), Refusal> {
        let (queue, state) = self.state_of(id)?;
        // It may wait for its children again by now, since one of them was revived.
        if !matches!(state, State::Failed | State::Dead) {
            return Err(Refusal::WrongState { job: id, state });
        }
        if let Some(child) = self.child_not_done(id) {
            return Err(Refusal::Children { job: id, child });
        }
        let before = self.standing(id);
        self.regain_key(id, effects)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            // Its place is left before what it was is forgotten.
            job.attempts = 0;
            job.stalls = 0;
        }
        self.wait_now(id, effects);
        self.tell(queue, id, What::Revived, effects);
        self.turned(id, before, effects);
        Ok(())
    }

    /// The key that it held while it lived, unless somebody else has it.
    pub(super) fn regain_key(&mut self, id: u64, effects: &mut Effects) -> Result<(), Refusal> {
        let Some(job) = self.jobs.get(&id) else { return Err(Refusal::NoSuchJob(id)) };
        let queue = job.queue;
        if let Some(unique) = job.unique().cloned() {
            let key = Key { queue, kind: KeyKind::Unique, key: unique.key };
            match self.keys.get(&key) {
                Some(held) if held.job != id => return Err(Refusal::Duplicate { job: held.job }),
                Some(_) => {}
                None => {
                    let until_ms = unique.for_ms.map(|for_ms| self.now_ms + for_ms.min(KEY_MAX_MS));
                    self.hold_key(key, Held { job: id, until_ms }, effects);
                }
            }
        }
        Ok(())
    }

    /// Behind those that wait already.
    fn wait_now(&mut self, id: u64, effects: &mut Effects) {
        self.displace(id);
        let now_ms = self.now_ms;
        let Some(mut job) = self.jobs.remove(&id) else { return };
        let queue = &mut self.queues[job.queue as usize];
        job.ready_ms = queue.stamp(now_ms);
        job.state = State::Waiting;
        job.ended_ms = 0;
        self.place(id, &job);
        self.jobs.insert(id, job);
        self.keep(id, effects);
        self.turn_depth(id, effects);
    }

    pub(super) fn drain(
        &mut self,
        name: &Name,
        delayed: bool,
        max: u32,
        effects: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let queue = self.known_queue(name)?;
        let most = max.min(SWEEP_MAX) as usize;
        let mut found = self.list(name, State::Waiting, 0, most + 1);
        if delayed {
            found.extend(self.list(name, State::Delayed, 0, (most + 1).saturating_sub(found.len())));
        }
        let more = found.len() > most;
        found.truncate(most);
        found.iter().for_each(|id| self.remove_told(queue, *id, effects));
        self.turn_depth_of(queue, effects);
        Ok(Answer::Swept { count: found.len() as u32, more })
    }

    pub(super) fn clean(
        &mut self,
        name: &Name,
        state: State,
        older_ms: u64,
        max: u32,
        effects: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let queue = self.known_queue(name)?;
        let index = terminal(state).ok_or(Refusal::NotThat(state))?;
        let before_ms = self.now_ms.saturating_sub(older_ms);
        let old = self.queues[queue as usize].ended[index].iter().take_while(|(ended_ms, _)| *ended_ms <= before_ms);
        let most = max.min(SWEEP_MAX) as usize;
        let mut found: Vec<u64> = old.take(most + 1).map(|(_, id)| *id).collect();
        let more = found.len() > most;
        found.truncate(most);
        found.iter().for_each(|id| self.remove_told(queue, *id, effects));
        Ok(Answer::Swept { count: found.len() as u32, more })
    }

    /// Those whose key somebody else has, or whose children are not done, stay where they are; `more` is said only if
    /// the call has done something.
    pub(super) fn redrive(
        &mut self,
        name: &Name,
        state: State,
        max: u32,
        effects: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let queue = self.known_queue(name)?;
        if !matches!(state, State::Failed | State::Dead) {
            return Err(Refusal::NotThat(state));
        }
        let index = terminal(state).ok_or(Refusal::NotThat(state))?;
        let most = max.min(SWEEP_MAX) as usize;
        let ids: Vec<u64> = self.queues[queue as usize].ended[index].iter().map(|(_, id)| *id).collect();
        let mut count = 0;
        let mut stay = 0;
        for id in ids.iter().copied() {
            if count as usize == most {
                break;
            }
            match self.revive(id, effects) {
                Ok(()) => count += 1,
                Err(_) => stay += 1,
            }
        }
        Ok(Answer::Swept { count, more: count > 0 && ids.len() > count as usize + stay })
    }
}
