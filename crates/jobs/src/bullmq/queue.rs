//! One queue: BullMQ's own handle to it, the worker of ours, and who wants jobs of it now.
//!
//! Invariant: the worker takes no more than somebody wants. What it took and nobody wants any more goes back.

use crate::event::What;
use crate::handle::Work;
use crate::job::Name;
use crate::queue::Totals;
use crate::settings::Settings;
use bullmq::Worker;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct Queue {
    /// Its place among the queues, for good.
    pub index: u32,
    pub name: Name,
    pub of: bullmq::Queue,
    state: Mutex<State>,
    /// One makes the worker, the others wait for it.
    pub making: tokio::sync::Mutex<()>,
    /// Held for reading by whoever adds jobs with a trace, until that is noted too.
    pub noting: tokio::sync::RwLock<()>,
    /// Somebody wants jobs.
    pub wanted: Notify,
    /// Ends that wait to be kept, by the job; told whether it completed.
    kept: Mutex<HashMap<String, oneshot::Sender<bool>>>,
}

#[derive(Default)]
struct State {
    settings: Settings,
    totals: Totals,
    is_short: bool,
    worker: Option<Arc<Worker>>,
    is_resting: bool,
    /// Nothing starts before.
    held_until: Option<Instant>,
    wants: VecDeque<Want>,
    last_want: u64,
    /// Jobs that somebody has.
    handed: usize,
}

struct Want {
    number: u64,
    worker: Name,
    left: usize,
    works: mpsc::Sender<Work>,
}

impl Queue {
    pub fn new(index: u32, of: bullmq::Queue, settings: Settings) -> Queue {
        let state = State { settings, ..State::default() };
        Queue {
            index,
            name: of.name().into(),
            of,
            state: Mutex::new(state),
            making: tokio::sync::Mutex::default(),
            noting: tokio::sync::RwLock::default(),
            wanted: Notify::new(),
            kept: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// What was set before.
    pub fn set(&self, settings: Settings) -> Settings {
        std::mem::replace(&mut self.state().settings, settings)
    }

    pub fn totals(&self) -> Totals {
        self.state().totals
    }

    pub fn count(&self, what: &What) {
        let totals = &mut self.state().totals;
        match what {
            What::Added => totals.added += 1,
            What::Started { .. } => totals.started += 1,
            What::Completed => totals.completed += 1,
            What::Retried { .. } => totals.retried += 1,
            What::Failed => totals.failed += 1,
            What::Stalled => totals.stalled += 1,
            _ => {}
        }
    }

    pub fn is_short(&self) -> bool {
        self.state().is_short
    }

    /// Whether it wants more workers, if that has changed.
    pub fn turned(&self, waiting: u64, active: u64) -> Option<bool> {
        let mut state = self.state();
        let depth = state.settings.depth;
        let is_short = waiting > depth.waiting_over && active < depth.active_under;
        (std::mem::replace(&mut state.is_short, is_short) != is_short).then_some(is_short)
    }

    pub fn worker(&self) -> Option<Arc<Worker>> {
        self.state().worker.clone()
    }

    /// It begins at rest.
    pub fn works_by(&self, worker: Arc<Worker>) {
        let mut state = self.state();
        state.worker = Some(worker);
        state.is_resting = true;
        state.steer();
    }

    pub fn let_go(&self) -> Option<Arc<Worker>> {
        self.state().worker.take()
    }

    /// The number of the want, until it is withdrawn.
    pub fn want(&self, worker: &Name, most: usize, works: mpsc::Sender<Work>) -> u64 {
        let mut state = self.state();
        state.last_want += 1;
        let number = state.last_want;
        state.wants.push_back(Want { number, worker: worker.clone(), left: most, works });
        state.steer();
        drop(state);
        self.wanted.notify_waiters();
        number
    }

    pub fn withdraw(&self, number: u64) {
        let mut state = self.state();
        state.wants.retain(|want| want.number != number);
        state.steer();
    }

    /// Who gets the next job; from then on it counts as had.
    pub fn next(&self) -> Option<(Name, mpsc::Sender<Work>)> {
        let mut state = self.state();
        let want = state.wants.front_mut()?;
        want.left = want.left.saturating_sub(1);
        let next = (want.worker.clone(), want.works.clone());
        if want.left == 0 {
            state.wants.pop_front();
        }
        state.handed += 1;
        Some(next)
    }

    /// Nobody has it any more.
    pub fn freed(&self) {
        let mut state = self.state();
        state.handed = state.handed.saturating_sub(1);
        state.steer();
    }

    /// Lets nothing start for so long; [`Queue::held_over`] is to be called then.
    pub fn hold(&self, hold: Duration) {
        let mut state = self.state();
        let until = Instant::now() + hold;
        state.held_until = Some(state.held_until.map_or(until, |before| before.max(until)));
        state.steer();
    }

    pub fn held_over(&self) {
        self.state().steer();
    }

    /// A worker that was told of room while it looked the other way is told again.
    pub fn nudge(&self) {
        let state = self.state();
        if let Some(worker) = state.worker.as_ref().filter(|_| !state.wants.is_empty()) {
            let wanted = worker.concurrency();
            worker.set_concurrency(wanted.saturating_sub(1).max(1));
            worker.set_concurrency(wanted);
        }
    }

    /// Told once BullMQ has kept the end of this job's attempt.
    pub fn keeping(&self, job: &str) -> oneshot::Receiver<bool> {
        let (sender, receiver) = oneshot::channel();
        self.keeps().insert(job.to_owned(), sender);
        receiver
    }

    pub fn kept(&self, job: &str, is_completed: bool) {
        if let Some(waiting) = self.keeps().remove(job) {
            let _ = waiting.send(is_completed);
        }
    }

    fn keeps(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<bool>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The worker takes as many as are wanted beside those that somebody has.
    fn steer(&mut self) {
        let Some(worker) = &self.worker else { return };
        let wanted: usize = self.wants.iter().map(|want| want.left).sum();
        self.held_until = self.held_until.filter(|until| Instant::now() < *until);
        if wanted + self.handed > 0 {
            worker.set_concurrency(wanted + self.handed);
        }
        let is_resting = wanted + self.handed == 0 || self.held_until.is_some();
        match (self.is_resting, is_resting) {
            (false, true) => worker.pause(),
            (true, false) => worker.resume(),
            _ => {}
        }
        self.is_resting = is_resting;
    }
}
