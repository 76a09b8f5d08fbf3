//! Schedules in the engine: set, taken away, and fired by the wall clock.

use super::add::Origin;
use super::{Engine, SCHEDULES_MAX};
use crate::change::{Change, Key, KeyKind};
use crate::job::{NAME_BYTES_MAX, Name};
use crate::op::{Answer, Effects, Refusal, fits};
use crate::schedule::Schedule;

impl Engine {
    pub(super) fn schedule(&mut self, mut schedule: Schedule, effects: &mut Effects) -> Result<Answer, Refusal> {
        super::add::checked(&schedule.job)?;
        if !schedule.job.children.is_empty() {
            return Err(Refusal::Flow("a schedule adds jobs without children".into()));
        }
        fits("the name of a schedule", schedule.name.len(), NAME_BYTES_MAX)?;
        if self.schedules.len() >= SCHEDULES_MAX && !self.schedules.contains_key(&schedule.name) {
            return Err(Refusal::TooMany(SCHEDULES_MAX));
        }
        // What it refers to must be there when it fires.
        self.queue_id(&schedule.queue.clone(), effects)?;
        if let Some(old) = self.schedules.remove(&schedule.name) {
            self.fires.remove(&(old.next_ms, old.name.clone()));
            // Told again at each start: where it stands is not lost by that.
            if old.rule == schedule.rule && old.queue == schedule.queue {
                schedule.next_ms = old.next_ms;
            }
        }
        effects.changes.push(Change::Schedule(Box::new(schedule.clone())));
        effects.fsync = true;
        self.fires.insert((schedule.next_ms, schedule.name.clone()));
        self.schedules.insert(schedule.name.clone(), schedule);
        Ok(Answer::Done)
    }

    pub(super) fn unschedule(&mut self, name: &Name, effects: &mut Effects) -> Result<Answer, Refusal> {
        let old = self.schedules.remove(name).ok_or_else(|| Refusal::NoSuchSchedule(name.clone()))?;
        self.fires.remove(&(old.next_ms, old.name));
        effects.changes.push(Change::Unschedule { name: name.clone() });
        effects.fsync = true;
        Ok(Answer::Done)
    }

    /// Each schedule that is due adds the jobs of its ticks and moves on, in one commit.
    pub(super) fn fire(&mut self, wall_ms: u64, effects: &mut Effects) -> Answer {
        let due: Vec<Name> =
            self.fires.iter().take_while(|(at_ms, _)| *at_ms <= wall_ms).map(|(_, name)| name.clone()).collect();
        for name in due {
            self.fire_one(&name, wall_ms, effects);
        }
        Answer::Done
    }

    fn fire_one(&mut self, name: &Name, wall_ms: u64, effects: &mut Effects) {
        let Some(schedule) = self.schedules.get(name).cloned() else { return };
        let (Ok(due), Ok(queue)) = (schedule.due(wall_ms), self.known_queue(&schedule.queue)) else { return };
        if self.queues[queue as usize].len() + due.ticks.len() as u64 > super::QUEUE_JOBS_MAX {
            // Its ticks stay due until there is room.
            return;
        }
        for tick_ms in &due.ticks {
            let key = Key { queue, kind: KeyKind::Tick, key: format!("{name}@{tick_ms}").into() };
            let mut job = schedule.job.clone();
            (job.delay_ms, job.unique, job.idempotency) = (0, None, None);
            self.add_one(queue, job, Origin::Tick(key), effects);
        }
        self.turn_depth_of(queue, effects);
        self.fires.remove(&(schedule.next_ms, name.clone()));
        self.fires.insert((due.next_ms, name.clone()));
        let moved = Schedule { next_ms: due.next_ms, ..schedule };
        effects.changes.push(Change::Schedule(Box::new(moved.clone())));
        effects.fsync = true;
        self.schedules.insert(name.clone(), moved);
    }
}
