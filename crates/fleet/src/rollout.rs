//! Changes to what runs, one after the other: rolling restarts and reloads.
//!
//! Must never: leave a reload half done. Until all that is new has proved itself nothing old is stopped; on any
//! error what was touched goes back to what it was.

use crate::error::Error;
use crate::event::{Event as Said, Trouble};
use crate::fleet::Fleet;
use crate::instance::Event;
use crate::options::{App, Options};
use crate::plan::{Key, Plan};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use tokio::sync::oneshot;

/// Changes that may wait for the one at work; more than that is a loop somewhere.
pub const WAITING_CHANGES: usize = 16;

/// Puts the rest of the new configuration in force, at the moment when all new instances are ready and no old one
/// is stopped yet. Must not wait, and must not call the `Handle`.
pub type Swap = Box<dyn FnOnce() -> Result<(), String>>;

/// How many instances a reload touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Changes {
    pub started: u32,
    pub replaced: u32,
    pub stopped: u32,
    pub kept: u32,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Changes { started, replaced, stopped, kept } = self;
        write!(f, "{started} started, {replaced} replaced, {stopped} stopped, {kept} left alone")
    }
}

pub struct Rollout {
    begun: bool,
    todo: VecDeque<Key>,
    waiting: BTreeSet<Key>,
    done: u32,
    failure: Option<Error>,
    work: Work,
}

enum Work {
    /// By command; the first failure ends it.
    Restart(oneshot::Sender<Result<u32, Error>>),
    /// By ourselves: memory limit, taking over.
    Quiet,
    Reload(Box<Reload>),
}

struct Reload {
    new: Options,
    plan: Plan,
    swap: Option<Swap>,
    /// What each touched number followed before.
    touched: Vec<(Key, Rc<App>)>,
    /// Why everything goes back to what it was.
    cause: Option<Error>,
    reply: oneshot::Sender<Result<Changes, Error>>,
}

impl Rollout {
    pub fn restart(keys: Vec<Key>, reply: oneshot::Sender<Result<u32, Error>>) -> Rollout {
        Rollout::new(keys, Work::Restart(reply))
    }

    pub fn quiet(keys: impl IntoIterator<Item = Key>) -> Rollout {
        Rollout::new(keys, Work::Quiet)
    }

    pub fn reload(new: Options, swap: Swap, reply: oneshot::Sender<Result<Changes, Error>>) -> Rollout {
        let reload = Reload { new, plan: Plan::default(), swap: Some(swap), touched: Vec::new(), cause: None, reply };
        Rollout::new([], Work::Reload(Box::new(reload)))
    }

    fn new(keys: impl IntoIterator<Item = Key>, work: Work) -> Rollout {
        Rollout {
            begun: false,
            todo: keys.into_iter().collect(),
            waiting: BTreeSet::new(),
            done: 0,
            failure: None,
            work,
        }
    }

    pub fn names(&self, key: &Key) -> bool {
        self.waiting.contains(key) || self.todo.contains(key)
    }

    /// Ends it without having done all of it.
    pub fn refuse(self, error: Error) {
        match self.work {
            Work::Restart(reply) => drop(reply.send(Err(error))),
            Work::Reload(reload) => drop(reload.reply.send(Err(error))),
            Work::Quiet => {}
        }
    }

    fn outcome(&mut self, fleet: &Fleet, key: &Key, outcome: Result<(), Trouble>) {
        if !self.waiting.remove(key) {
            return;
        }
        match outcome {
            Ok(()) => self.done += 1,
            Err(trouble) => {
                let error = Error::NotReplaced { who: fleet.who(key), trouble: Box::new(trouble) };
                self.failure.get_or_insert(error);
            }
        }
    }
}

impl Fleet {
    pub fn enqueue(&mut self, rollout: Rollout) {
        let waiting = self.queue.len();
        if self.stopping.is_some() {
            rollout.refuse(Error::Stopping);
        } else if waiting >= WAITING_CHANGES {
            rollout.refuse(Error::Busy { waiting });
        } else {
            self.queue.push_back(rollout);
        }
    }

    /// Brings changes on as far as they go without waiting.
    pub fn advance(&mut self) {
        loop {
            self.take_outcomes();
            if self.shared {
                return;
            }
            let Some(mut rollout) = self.rollout.take().or_else(|| self.queue.pop_front()) else { return };
            if !rollout.begun {
                rollout.begun = true;
                self.begin(&mut rollout);
            }
            // Nothing waits for an instance that is not being replaced any more.
            rollout.waiting.retain(|key| self.member(key).is_some_and(|member| member.machine.is_replacing()));
            if !rollout.waiting.is_empty() || !self.outcomes.is_empty() {
                let stuck = self.outcomes.is_empty();
                self.rollout = Some(rollout);
                if stuck {
                    return;
                }
                continue;
            }
            if let Some(error) = rollout.failure.take() {
                match self.failed(rollout, error) {
                    Some(undo) => self.rollout = Some(undo),
                    None => continue,
                }
            } else if let Some(key) = rollout.todo.pop_front() {
                self.replace(&mut rollout, key);
                self.rollout = Some(rollout);
            } else if let Some(undo) = self.finish(rollout) {
                self.rollout = Some(undo);
            }
        }
    }

    /// What replacements reported goes to the change that waits for them; else it is news for a person.
    fn take_outcomes(&mut self) {
        for (key, outcome) in std::mem::take(&mut self.outcomes) {
            let who = self.who(&key);
            match &outcome {
                // The first of its number replaces nothing.
                Ok(()) if self.member(&key).is_none_or(|member| member.last.is_none()) => {}
                Ok(()) => self.say(Said::Replaced { who }),
                Err(trouble) => self.say(Said::NotReplaced { who, trouble: trouble.clone() }),
            }
            if let Some(mut rollout) = self.rollout.take() {
                rollout.outcome(self, &key, outcome);
                self.rollout = Some(rollout);
            }
        }
    }

    fn begin(&mut self, rollout: &mut Rollout) {
        let Work::Reload(reload) = &mut rollout.work else { return };
        reload.plan = Plan::of(&self.options, &reload.new);
        rollout.todo = reload.plan.replace.iter().cloned().collect();
        let drain = reload.new.drain();
        let added: Vec<(Key, Rc<App>)> =
            reload.plan.start.iter().filter_map(|key| Some((key.clone(), reload.new.app(&key.0)?.clone()))).collect();
        for (key, app) in added {
            self.add(&key, &app, drain);
            rollout.waiting.insert(key.clone());
            self.feed(&key, Event::Up);
        }
    }

    fn replace(&mut self, rollout: &mut Rollout, key: Key) {
        let drain = self.options.drain();
        if let Work::Reload(reload) = &mut rollout.work
            && reload.cause.is_none()
            && let (Some(app), Some(member)) = (reload.new.app(&key.0).cloned(), self.member_mut(&key))
        {
            let before = std::mem::replace(&mut member.app, app);
            reload.touched.push((key.clone(), before));
        }
        self.refresh_rules(&key, drain);
        rollout.waiting.insert(key.clone());
        self.feed(&key, Event::Replace);
    }

    fn refresh_rules(&mut self, key: &Key, drain: std::time::Duration) {
        let Some(crew) = self.crews.get_mut(&key.0) else { return };
        let elsewhere = crew.elsewhere;
        if let Some(member) = crew.members.get_mut(&key.1) {
            member.machine.set_rules(member.app.rules(drain, elsewhere));
        }
    }

    /// `Some`: it is to be undone first.
    fn failed(&mut self, mut rollout: Rollout, error: Error) -> Option<Rollout> {
        let Work::Reload(reload) = &mut rollout.work else {
            rollout.refuse(error);
            return None;
        };
        if reload.cause.is_some() {
            // An old one that does not come back is restarted like any other; the first error is the answer.
            return Some(rollout);
        }
        reload.cause = Some(error);
        rollout.todo.clear();
        for key in &reload.plan.start {
            self.feed(key, Event::Down);
        }
        for (key, before) in std::mem::take(&mut reload.touched) {
            let Some(member) = self.member_mut(&key) else { continue };
            if !member.runs_as(&before) {
                rollout.todo.push_back(key);
            }
            member.app = before;
        }
        Some(rollout)
    }

    fn finish(&mut self, mut rollout: Rollout) -> Option<Rollout> {
        if let Work::Reload(reload) = &mut rollout.work
            && reload.cause.is_none()
            && let Some(Err(error)) = reload.swap.take().map(|swap| swap())
        {
            return self.failed(rollout, Error::NotSwapped(error));
        }
        let done = rollout.done;
        match rollout.work {
            Work::Restart(reply) => drop(reply.send(Ok(done))),
            Work::Quiet => {}
            Work::Reload(reload) => match reload.cause {
                Some(error) => drop(reload.reply.send(Err(error))),
                None => self.commit(*reload),
            },
        }
        None
    }

    /// All that is new serves: the new options are in force, and what they do not name any more may go.
    fn commit(&mut self, reload: Reload) {
        let Reload { new, plan, reply, .. } = reload;
        let drain = new.drain();
        for app in &new.apps {
            let Some(crew) = self.crews.get_mut(&app.name) else { continue };
            let before = std::mem::replace(&mut crew.app, app.clone());
            if before.health != app.health {
                crew.adopted = None;
            }
            let rules = app.rules(drain, crew.elsewhere);
            for member in crew.members.values_mut() {
                member.app = app.clone();
                member.machine.set_rules(rules);
            }
        }
        self.options = new;
        for key in &plan.stop {
            self.feed(key, Event::Down);
        }
        let count = |list: &[Key]| u32::try_from(list.len()).unwrap_or(u32::MAX);
        let changes = Changes {
            started: count(&plan.start),
            replaced: count(&plan.replace),
            stopped: count(&plan.stop),
            kept: count(&plan.keep),
        };
        drop(reply.send(Ok(changes)));
    }
}
