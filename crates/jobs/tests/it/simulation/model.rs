//! What should happen, said as plainly as possible: lists that are searched from end to end, no index, no timer. It
//! judges each answer of the engine and follows it where the engine may choose (ids, tokens, jitter, whose turn it is).

mod flows;

pub use flows::Link;
use mainstay_jobs::change::KeyKind;
use mainstay_jobs::op::{Claimed, Finish, GRACE_MS, LEASE_MAX_MS, LEASE_MS};
use mainstay_jobs::{Answer, Backoff, Engine, Name, NewJob, Op, Outcome, Refusal, Settings, State};

#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub id: u64,
    pub queue: usize,
    pub state: State,
    pub priority: u32,
    pub ready_ms: u64,
    pub group: u8,
    pub unique: Option<(u8, Option<u64>)>,
    own_attempts: Option<u32>,
    own_timeout_ms: Option<u64>,
    own_backoff: Option<Backoff>,
    pub attempts: u32,
    pub starts: u32,
    pub stalls: u32,
    /// Attempts that ended, for whatever reason; and those of them that did not complete.
    pub causes: u32,
    pub not_completed: u32,
    pub token: u64,
    worker: u8,
    until_ms: u64,
    length_ms: u64,
    deadline_ms: u64,
    grace_ms: u64,
    ended_ms: u64,
    /// Became due, which no store was told.
    unwritten: bool,
    /// Not all its children were done yet.
    is_held_back: bool,
    /// One of them was not done for good.
    pub is_blamed: bool,
    /// It was taken before a crash by a token that was not known to be answered, and nobody has named it since.
    pub is_unheard: bool,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    queue: usize,
    kind: KeyKind,
    key: u8,
    job: u64,
    until_ms: Option<u64>,
}

/// Jobs of one priority and group that wait, and which groups were served since its turn.
#[derive(Clone, Debug)]
struct Lane {
    priority: u32,
    group: u8,
    passed_by: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Queue {
    pub name: Name,
    pub settings: Settings,
    pub is_paused: bool,
    held_until_ms: u64,
    starts: Vec<u64>,
    last_ready_ms: u64,
    lanes: Vec<Lane>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub now_ms: u64,
    pub jobs: Vec<Job>,
    keys: Vec<Key>,
    pub links: Vec<Link>,
    pub queues: Vec<Queue>,
    top_id: u64,
    top_token: u64,
    /// Up to this token claims are known to have been answered.
    answered: u64,
}

impl Job {
    fn late_ms(&self) -> u64 {
        self.deadline_ms.max(self.grace_ms)
    }

    /// Whoever has it has named it.
    fn hear(&mut self, now_ms: u64) {
        if std::mem::replace(&mut self.is_unheard, false) {
            self.until_ms = self.until_ms.max(now_ms + self.length_ms);
        }
    }
}

fn keys_of(new: &NewJob) -> Vec<(KeyKind, u8, Option<u64>)> {
    let idempotency = new.idempotency.as_ref().map(|key| (KeyKind::Idempotency, digit(&key.key), Some(key.for_ms)));
    let unique = new.unique.as_ref().map(|key| (KeyKind::Unique, digit(&key.key), key.for_ms));
    [idempotency, unique].into_iter().flatten().collect()
}

/// The number a name of the play ends in.
pub fn digit(name: &str) -> u8 {
    name.as_bytes().last().map_or(0, |byte| byte - b'0')
}

impl Model {
    pub fn new(queues: Vec<(Name, Settings)>) -> Model {
        let queue = |(name, settings)| Queue {
            name,
            settings,
            is_paused: false,
            held_until_ms: 0,
            starts: Vec::new(),
            last_ready_ms: 0,
            lanes: Vec::new(),
        };
        let queues = queues.into_iter().map(queue).collect();
        Model {
            now_ms: 0,
            jobs: Vec::new(),
            keys: Vec::new(),
            links: Vec::new(),
            queues,
            top_id: 0,
            top_token: 0,
            answered: 0,
        }
    }

    /// Jobs that a worker's life does not vouch for.
    pub fn in_doubt(&self) -> usize {
        self.jobs.iter().filter(|job| job.state == State::Active && job.is_unheard).count()
    }

    pub fn find(&self, id: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    fn get(&mut self, id: u64) -> &mut Job {
        self.jobs.iter_mut().find(|job| job.id == id).expect("a job")
    }

    fn queue(&self, name: &Name) -> usize {
        self.queues.iter().position(|queue| queue.name == *name).expect("a queue of the play")
    }

    pub fn count(&self, queue: usize, state: State) -> u64 {
        self.jobs.iter().filter(|job| job.queue == queue && job.state == state).count() as u64
    }

    /// Time passes: what an engine did at a tick.
    pub fn tick(&mut self, now_ms: u64, engine: &Engine) {
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        for job in &mut self.jobs {
            if job.state == State::Delayed && job.ready_ms <= now_ms {
                (job.state, job.unwritten) = (State::Waiting, true);
            }
        }
        let is_over = |job: &&Job| job.state == State::Active && job.until_ms.min(job.late_ms()) <= now_ms;
        let over: Vec<Job> = self.jobs.iter().filter(is_over).copied().collect();
        for job in over {
            // After a restart both end at once: it is the worker that nobody has heard of since.
            let is_grace = job.grace_ms > job.deadline_ms && job.grace_ms == job.until_ms;
            if job.late_ms() <= job.until_ms && !is_grace {
                self.fail(job.id, true, None, engine);
            } else {
                self.stall(job.id);
            }
        }
        self.keys.retain(|key| key.until_ms.is_none_or(|until_ms| until_ms > now_ms));
        let is_old = |job: &Job, queues: &[Queue]| {
            let settings = &queues[job.queue].settings;
            let keep = match job.state {
                State::Completed => settings.completed,
                State::Failed => settings.failed,
                State::Dead => settings.dead,
                _ => return false,
            };
            keep.age_ms.is_some_and(|age_ms| job.ended_ms + age_ms <= now_ms)
        };
        let old: Vec<u64> = self.jobs.iter().filter(|job| is_old(job, &self.queues)).map(|job| job.id).collect();
        old.into_iter().for_each(|id| self.erase(id));
        self.settle();
    }

    /// The earliest moment at which time alone changes something.
    pub fn next_due_ms(&self) -> Option<u64> {
        let of_job = |job: &Job| match job.state {
            State::Delayed => Some(job.ready_ms),
            State::Active => Some(job.until_ms.min(job.late_ms())),
            _ => None,
        };
        let keys = self.keys.iter().filter_map(|key| key.until_ms);
        self.jobs.iter().filter_map(of_job).chain(keys).min()
    }

    /// The process is gone; what was committed is there, at this time.
    pub fn crash(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        for job in &mut self.jobs {
            if job.unwritten {
                (job.state, job.unwritten) = (State::Delayed, false);
            }
            if job.state == State::Active {
                job.until_ms = now_ms + job.length_ms;
                job.grace_ms = job.until_ms;
                job.is_unheard = job.token > self.answered;
            }
        }
        for (index, queue) in self.queues.iter_mut().enumerate() {
            queue.held_until_ms = 0;
            queue.lanes.clear();
            queue.starts.iter_mut().for_each(|at_ms| *at_ms = (*at_ms).min(now_ms));
            let waiting = self.jobs.iter().filter(|job| job.queue == index && job.state == State::Waiting);
            queue.last_ready_ms = waiting.map(|job| job.ready_ms).max().unwrap_or(0);
        }
        self.settle();
    }

    /// Lanes follow the jobs that wait.
    fn settle(&mut self) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let waiting = |job: &&Job| job.queue == index && job.state == State::Waiting;
            let of = |job: &Job| (job.priority, job.group);
            let here = |lane: &Lane| self.jobs.iter().filter(waiting).any(|job| of(job) == (lane.priority, lane.group));
            queue.lanes.retain(here);
            for job in self.jobs.iter().filter(waiting) {
                if !queue.lanes.iter().any(|lane| (lane.priority, lane.group) == of(job)) {
                    queue.lanes.push(Lane { priority: job.priority, group: job.group, passed_by: Vec::new() });
                }
            }
        }
    }

    fn stamp(&mut self, queue: usize) -> u64 {
        let queue = &mut self.queues[queue];
        queue.last_ready_ms = queue.last_ready_ms.max(self.now_ms);
        queue.last_ready_ms
    }

    /// Says whether an engine that answered so did right, and follows.
    pub fn judge(&mut self, op: &Op, answer: &Result<Answer, Refusal>, engine: &Engine) {
        match op {
            Op::Add { queue, jobs } => self.add(queue, jobs, answer, engine),
            Op::Claim { queue, worker, max } => self.claim(queue, worker, *max, answer),
            Op::Finish(finish) => self.finish(finish, answer, engine),
            Op::Beat { worker, holding } => self.beat(worker, holding, answer),
            Op::Disconnect { worker } => self.disconnect(worker),
            Op::Extend { job, token, lease_ms } => {
                if self.is_held(*job, *token, answer) {
                    let now_ms = self.now_ms;
                    let job = self.get(*job);
                    job.hear(now_ms);
                    job.length_ms = (*lease_ms).clamp(LEASE_MS, LEASE_MAX_MS);
                    job.until_ms = job.until_ms.max(now_ms + job.length_ms);
                    job.deadline_ms = job.deadline_ms.max(now_ms + (*lease_ms).min(LEASE_MAX_MS));
                }
            }
            Op::Progress { job, token, .. } | Op::Log { job, token, .. } => {
                if self.is_held(*job, *token, answer) {
                    let now_ms = self.now_ms;
                    self.get(*job).hear(now_ms);
                }
            }
            Op::Answered { token } if self.jobs.iter().any(|job| job.state == State::Active) => {
                let in_doubt = self.jobs.iter().filter(|job| job.state == State::Active && job.is_unheard);
                let most = in_doubt.map(|job| job.token - 1).min().unwrap_or(u64::MAX);
                self.answered = self.answered.max((*token).min(most));
            }
            Op::Answered { .. } | Op::Unheard { .. } => {}
            Op::Pause { queue } => self.pause(queue, true),
            Op::Resume { queue } => self.pause(queue, false),
            Op::Remove { job } => self.remove(*job, answer),
            Op::Promote { job } => {
                if self.is_in(*job, &[State::Delayed], answer) {
                    self.wait_now(*job);
                }
            }
            Op::Retry { job } => self.retry(*job, answer),
            Op::Drain { queue, delayed, .. } => self.drain(queue, *delayed, answer),
            Op::Clean { queue, state, older_ms, .. } => self.clean(queue, *state, *older_ms, answer),
            Op::Redrive { queue, state, .. } => self.redrive(queue, *state, answer),
            Op::Configure { queue, settings } => {
                let queue = self.queue(queue);
                self.queues[queue].settings = (**settings).clone();
                [State::Completed, State::Failed, State::Dead].iter().for_each(|state| self.evict(queue, *state));
                let now_ms = self.now_ms;
                self.tick(now_ms, engine);
            }
            other => unreachable!("not played: {other:?}"),
        }
        self.settle();
    }

    fn add(&mut self, name: &Name, jobs: &[NewJob], answer: &Result<Answer, Refusal>, engine: &Engine) {
        if let Some(refusal) = self.half_there(name, jobs) {
            return assert_eq!(*answer, Err(refusal));
        }
        let Ok(Answer::Added(added)) = answer else { panic!("an add was answered {answer:?}") };
        assert_eq!(added.len(), jobs.len());
        let queue = self.queue(name);
        for (new, added) in jobs.iter().zip(added) {
            let known = keys_of(new).into_iter().find_map(|(kind, key, _)| self.held(queue, kind, key));
            assert_eq!(added.is_new, known.is_none(), "{new:?}");
            if let Some(known) = known {
                assert_eq!(added.job, known);
                continue;
            }
            self.added(queue, new, added.job, engine);
        }
    }

    fn held(&self, queue: usize, kind: KeyKind, key: u8) -> Option<u64> {
        self.keys.iter().find(|held| (held.queue, held.kind, held.key) == (queue, kind, key)).map(|held| held.job)
    }

    fn added(&mut self, queue: usize, new: &NewJob, id: u64, engine: &Engine) {
        assert!(id > self.top_id, "an id was given twice");
        self.top_id = id;
        let is_held_back = !new.children.is_empty();
        let (state, ready_ms) = match new.delay_ms {
            delay_ms if is_held_back => (State::WaitingChildren, delay_ms),
            0 => (State::Waiting, self.stamp(queue)),
            delay_ms => (State::Delayed, self.now_ms + delay_ms),
        };
        for (kind, key, for_ms) in keys_of(new) {
            let until_ms = for_ms.map(|for_ms| self.now_ms + for_ms);
            self.keys.push(Key { queue, kind, key, job: id, until_ms });
        }
        self.jobs.push(Job {
            id,
            queue,
            state,
            priority: new.priority,
            ready_ms,
            group: new.group.as_deref().map_or(0, digit),
            unique: new.unique.as_ref().map(|unique| (digit(&unique.key), unique.for_ms)),
            own_attempts: new.own.attempts,
            own_timeout_ms: new.own.timeout_ms,
            own_backoff: new.own.backoff,
            attempts: 0,
            starts: 0,
            stalls: 0,
            causes: 0,
            not_completed: 0,
            token: 0,
            worker: 0,
            until_ms: 0,
            length_ms: 0,
            deadline_ms: 0,
            grace_ms: 0,
            ended_ms: 0,
            unwritten: false,
            is_held_back,
            is_blamed: false,
            is_unheard: false,
        });
        self.add_children(id, &new.children, engine);
    }

    /// Whether one more may start in this queue now.
    fn may_start(&self, index: usize) -> bool {
        let queue = &self.queues[index];
        let active = self.count(index, State::Active);
        let in_rate = queue.settings.rate.is_none_or(|limit| {
            if limit.smooth {
                let last = queue.starts.last();
                return last.is_none_or(|last| self.now_ms * 1000 >= last * 1000 + limit.distance_us());
            }
            let in_window = |at_ms: &&u64| **at_ms + u64::from(limit.window_ms) > self.now_ms;
            queue.starts.iter().filter(in_window).count() < limit.count as usize
        });
        !queue.is_paused
            && queue.held_until_ms <= self.now_ms
            && queue.settings.concurrency.is_none_or(|most| active < u64::from(most))
            && in_rate
            && self.count(index, State::Waiting) > 0
    }

    fn claim(&mut self, name: &Name, worker: &Name, max: u32, answer: &Result<Answer, Refusal>) {
        let Ok(Answer::Claimed(claimed)) = answer else { panic!("a claim was answered {answer:?}") };
        let queue = self.queue(name);
        for claimed in claimed {
            assert!(self.may_start(queue), "{claimed:?} must not start now");
            self.start(queue, worker, claimed);
            self.settle();
        }
        assert!(claimed.len() <= max as usize);
        assert!(claimed.len() == max as usize || !self.may_start(queue), "one more could have started");
    }

    fn start(&mut self, queue: usize, worker: &Name, claimed: &Claimed) {
        let job = *self.find(claimed.job).expect("a job that is there");
        assert_eq!((job.queue, job.state), (queue, State::Waiting), "{claimed:?}");
        let rivals = || self.jobs.iter().filter(|rival| rival.queue == queue && rival.state == State::Waiting);
        let best = rivals().map(|rival| rival.priority).min();
        assert_eq!(Some(job.priority), best, "a higher priority waits");
        let same = rivals().filter(|rival| (rival.priority, rival.group) == (job.priority, job.group));
        let first = same.map(|rival| (rival.ready_ms, rival.id)).min();
        assert_eq!(first, Some((job.ready_ms, job.id)), "not the first of its group");
        for lane in self.queues[queue].lanes.iter_mut().filter(|lane| lane.priority == job.priority) {
            if lane.group == job.group {
                lane.passed_by.clear();
            } else {
                assert!(
                    !lane.passed_by.contains(&job.group),
                    "group {} was served twice before {}",
                    job.group,
                    lane.group
                );
                lane.passed_by.push(job.group);
            }
        }
        self.is_after_its_children(claimed);
        assert!(claimed.token > self.top_token, "a token was given twice, or a lower one");
        self.top_token = claimed.token;
        let now_ms = self.now_ms;
        let settings = self.queues[queue].settings.clone();
        let window_ms = settings.rate.map_or(0, |limit| u64::from(limit.window_ms));
        // What lies outside the window by now is forgotten, even if the clock is set back later.
        self.queues[queue].starts.retain(|at_ms| at_ms + window_ms > now_ms);
        self.queues[queue].starts.push(now_ms);
        let job = self.get(claimed.job);
        let timeout_ms = job.own_timeout_ms.unwrap_or(settings.timeout_ms);
        let deadline_ms = if timeout_ms == 0 { u64::MAX } else { now_ms + timeout_ms };
        job.state = State::Active;
        job.unwritten = false;
        job.token = claimed.token;
        job.starts += 1;
        job.worker = digit(worker);
        (job.grace_ms, job.is_unheard) = (0, false);
        (job.length_ms, job.until_ms, job.deadline_ms) = (LEASE_MS, now_ms + LEASE_MS, deadline_ms);
        let most = job.own_attempts.unwrap_or(settings.attempts).max(job.attempts + 1);
        assert_eq!((claimed.attempt, claimed.attempts, claimed.deadline_ms), (job.attempts + 1, most, deadline_ms));
    }

    /// Whether the token is the job's own; a stale one must have been refused.
    fn is_held(&self, id: u64, token: u64, answer: &Result<Answer, Refusal>) -> bool {
        match self.find(id) {
            Some(job) if job.state == State::Active && job.token == token => {
                assert!(answer.is_ok(), "the holder of {id} was answered {answer:?}");
                true
            }
            Some(job) => {
                assert_eq!(*answer, Err(Refusal::Stale { job: id, state: job.state }));
                false
            }
            None => {
                assert_eq!(*answer, Err(Refusal::NoSuchJob(id)));
                false
            }
        }
    }

    fn is_in(&self, id: u64, states: &[State], answer: &Result<Answer, Refusal>) -> bool {
        match self.find(id) {
            Some(job) if states.contains(&job.state) => {
                assert_eq!(*answer, Ok(Answer::Done));
                true
            }
            Some(job) => {
                assert_eq!(*answer, Err(Refusal::WrongState { job: id, state: job.state }));
                false
            }
            None => {
                assert_eq!(*answer, Err(Refusal::NoSuchJob(id)));
                false
            }
        }
    }

    fn finish(&mut self, finish: &Finish, answer: &Result<Answer, Refusal>, engine: &Engine) {
        if !self.is_held(finish.job, finish.token, answer) {
            return;
        }
        match &finish.outcome {
            Outcome::Completed { result } => {
                self.give(finish.job, result.as_deref());
                let job = self.get(finish.job);
                job.attempts += 1;
                job.causes += 1;
                self.end(finish.job, State::Completed);
            }
            Outcome::Failed { retry, wait_ms, .. } => self.fail(finish.job, *retry, *wait_ms, engine),
            Outcome::Released { hold_ms, .. } => {
                let until_ms = self.now_ms + hold_ms;
                let job = self.get(finish.job);
                job.causes += 1;
                job.not_completed += 1;
                job.state = State::Waiting;
                let queue = job.queue;
                let held = &mut self.queues[queue].held_until_ms;
                *held = (*held).max(until_ms);
            }
        }
    }

    fn fail(&mut self, id: u64, retry: bool, wait_ms: Option<u64>, engine: &Engine) {
        let now_ms = self.now_ms;
        let job = self.get(id);
        job.attempts += 1;
        job.causes += 1;
        job.not_completed += 1;
        let job = *job;
        let settings = self.queues[job.queue].settings.clone();
        if !retry || job.attempts >= job.own_attempts.unwrap_or(settings.attempts).max(1) {
            return self.end(id, if settings.dead_letter { State::Dead } else { State::Failed });
        }
        let backoff = job.own_backoff.unwrap_or(settings.backoff);
        let Backoff { jitter_percent, .. } = backoff;
        let full_ms = Backoff { jitter_percent: 0, ..backoff }.wait_ms(job.attempts, 0);
        let (low_ms, high_ms) = match wait_ms {
            Some(wait_ms) => (wait_ms, wait_ms),
            None => (full_ms - full_ms * u64::from(jitter_percent) / 100, full_ms),
        };
        let (state, ready_ms) = match high_ms {
            0 => (State::Waiting, self.stamp(job.queue)),
            _ => (State::Delayed, engine.glance(id).expect("a job that failed").ready_ms),
        };
        assert!(high_ms == 0 || (now_ms + low_ms..=now_ms + high_ms).contains(&ready_ms), "waits until {ready_ms}");
        let job = self.get(id);
        (job.state, job.ready_ms) = (state, ready_ms);
    }

    fn stall(&mut self, id: u64) {
        let job = self.get(id);
        job.stalls += 1;
        job.causes += 1;
        job.not_completed += 1;
        job.state = State::Waiting;
        let job = *job;
        if job.stalls > self.queues[job.queue].settings.stalls {
            self.end(id, State::Dead);
        }
    }

    fn end(&mut self, id: u64, state: State) {
        let now_ms = self.now_ms;
        let job = self.get(id);
        (job.state, job.ended_ms) = (state, now_ms);
        let queue = job.queue;
        self.release_key(id);
        self.look_up(id, false);
        self.evict(queue, state);
    }

    fn release_key(&mut self, id: u64) {
        self.keys.retain(|key| key.job != id || key.kind != KeyKind::Unique || key.until_ms.is_some());
    }

    fn evict(&mut self, queue: usize, state: State) {
        let settings = &self.queues[queue].settings;
        let keep = match state {
            State::Completed => settings.completed,
            State::Failed => settings.failed,
            _ => settings.dead,
        };
        let mut ended: Vec<(u64, u64)> = Vec::new();
        ended.extend(self.in_state(queue, state).map(|job| (job.ended_ms, job.id)));
        ended.sort_unstable();
        let gone = ended.len().saturating_sub(keep.count as usize);
        ended[..gone].iter().for_each(|(_, id)| self.erase(*id));
    }

    pub fn in_state(&self, queue: usize, state: State) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(move |job| job.queue == queue && job.state == state)
    }

    fn erase(&mut self, id: u64) {
        self.release_key(id);
        let state = self.get(id).state;
        self.jobs.retain(|job| job.id != id);
        // A group may leave before a parent comes in.
        self.settle();
        self.leave_flow(id, state);
    }

    fn beat(&mut self, worker: &Name, holding: &[(u64, u64)], answer: &Result<Answer, Refusal>) {
        let now_ms = self.now_ms;
        for job in self.jobs.iter_mut().filter(|job| job.state == State::Active && job.worker == digit(worker)) {
            if holding.contains(&(job.id, job.token)) {
                job.hear(now_ms);
            }
            if job.length_ms <= LEASE_MS && !job.is_unheard {
                job.until_ms = job.until_ms.max(now_ms + job.length_ms);
            }
        }
        let is_lost = |(id, token): &&(u64, u64)| {
            !self.find(*id).is_some_and(|job| job.state == State::Active && job.token == *token)
        };
        let lost = holding.iter().filter(is_lost).map(|(id, _)| *id).collect();
        assert_eq!(*answer, Ok(Answer::Lost(lost)));
    }

    fn disconnect(&mut self, worker: &Name) {
        let until_ms = self.now_ms + GRACE_MS;
        for job in self.jobs.iter_mut().filter(|job| job.state == State::Active && job.worker == digit(worker)) {
            if job.length_ms <= LEASE_MS {
                job.until_ms = job.until_ms.min(until_ms);
            }
        }
    }

    fn pause(&mut self, name: &Name, is_paused: bool) {
        let queue = self.queue(name);
        self.queues[queue].is_paused = is_paused;
    }

    fn wait_now(&mut self, id: u64) {
        let queue = self.get(id).queue;
        let ready_ms = self.stamp(queue);
        let job = self.get(id);
        (job.state, job.ready_ms, job.ended_ms) = (State::Waiting, ready_ms, 0);
    }

    /// Another job has its key by now.
    fn blocked(&self, id: u64) -> bool {
        let Some(job) = self.find(id) else { return false };
        let Some((key, _)) = job.unique else { return false };
        let same = |held: &&Key| (held.queue, held.kind, held.key) == (job.queue, KeyKind::Unique, key);
        self.keys.iter().find(same).is_some_and(|held| held.job != id)
    }

    fn revive(&mut self, id: u64) {
        let was_failed = self.has_failed_its_parent(id);
        self.regain_key(id);
        let job = self.get(id);
        (job.attempts, job.stalls, job.is_held_back) = (0, 0, false);
        self.wait_now(id);
        self.look_up(id, was_failed);
    }

    fn regain_key(&mut self, id: u64) {
        let now_ms = self.now_ms;
        let job = *self.get(id);
        if let Some((key, for_ms)) = job.unique {
            let held = Key {
                queue: job.queue,
                kind: KeyKind::Unique,
                key,
                job: id,
                until_ms: for_ms.map(|for_ms| now_ms + for_ms),
            };
            if !self.keys.iter().any(|known| (known.queue, known.kind, known.key) == (held.queue, held.kind, held.key))
            {
                self.keys.push(held);
            }
        }
    }

    fn drain(&mut self, name: &Name, delayed: bool, answer: &Result<Answer, Refusal>) {
        let queue = self.queue(name);
        let states = if delayed { vec![State::Waiting, State::Delayed] } else { vec![State::Waiting] };
        // As they are listed: one that is removed may bring its parent in, before or after the last of its own group.
        let order = |job: &Job| match job.state {
            State::Waiting => (0, job.priority, job.group, job.ready_ms, job.id),
            _ => (1, 0, 0, job.ready_ms, job.id),
        };
        let mut gone: Vec<_> = states.iter().flat_map(|state| self.in_state(queue, *state)).map(order).collect();
        gone.sort_unstable();
        assert_eq!(*answer, Ok(Answer::Swept { count: gone.len() as u32, more: false }));
        gone.into_iter().for_each(|(.., id)| self.erase(id));
    }

    fn clean(&mut self, name: &Name, state: State, older_ms: u64, answer: &Result<Answer, Refusal>) {
        let queue = self.queue(name);
        let before_ms = self.now_ms.saturating_sub(older_ms);
        let old = self.in_state(queue, state).filter(|job| job.ended_ms <= before_ms);
        let gone: Vec<u64> = old.map(|job| job.id).collect();
        assert_eq!(*answer, Ok(Answer::Swept { count: gone.len() as u32, more: false }));
        gone.into_iter().for_each(|id| self.erase(id));
    }

    fn redrive(&mut self, name: &Name, state: State, answer: &Result<Answer, Refusal>) {
        let queue = self.queue(name);
        let mut ended: Vec<(u64, u64)> = self.in_state(queue, state).map(|job| (job.ended_ms, job.id)).collect();
        ended.sort_unstable();
        let mut count = 0;
        for (_, id) in ended {
            // One may wait for its children again since one of them was revived.
            let is_ended = self.find(id).is_some_and(|job| job.state == state);
            if is_ended && self.held_up_by(id).is_none() && !self.blocked(id) {
                self.revive(id);
                count += 1;
            }
        }
        assert_eq!(*answer, Ok(Answer::Swept { count, more: false }));
    }
}
