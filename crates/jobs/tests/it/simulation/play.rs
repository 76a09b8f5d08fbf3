//! One play: an engine, the image it crashes onto, the model, and everybody who asks something of them.

use super::draw::Draw;
use super::model::{Model, digit};
use crate::image::Image;
use mainstay_jobs::backoff::{Backoff, Growth};
use mainstay_jobs::change::Change;
use mainstay_jobs::job::{Child, Ending, Idempotency, OnFailure, Own, Unique};
use mainstay_jobs::op::Finish;
use mainstay_jobs::{Answer, Depth, Durability, Effects, Engine, Keep, Name, NewJob, Op, Outcome, Settings, State};
use mainstay_limits::window::Limit;

const WORKERS: u64 = 4;
/// Jobs that are worked off before more are added: the model searches lists.
const JOBS: usize = 48;
/// Steps between two looks at everything.
const LOOK_EVERY: u32 = 64;

pub struct Play {
    seed: u64,
    draw: Draw,
    engine: Engine,
    image: Image,
    model: Model,
    /// As of the last commit.
    committed: Model,
    effects: Effects,
    /// Claims that are not committed: the job, its token, its queue, and the true time.
    claimed: Vec<(u64, u64, (usize, u64))>,
    /// Tokens that were given out.
    tokens: Vec<(u64, u64)>,
    /// Time as it is; the engine's clock lags behind it by what it stood still and was set back.
    true_ms: u64,
    lag_ms: u64,
    /// When jobs of each queue were given to workers, by the true time.
    given: [Vec<u64>; 3],
    seen: Seen,
    is_recorded: bool,
    /// What the first commit was: the queues.
    pub first: Batch,
    /// All that was committed, batch by batch, if it is recorded.
    pub batches: Vec<Batch>,
}

/// What is committed together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    pub fsync: bool,
}

/// What happened, so that a play that does nothing is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub added: u64,
    pub known: u64,
    pub started: u64,
    pub completed: u64,
    pub retried: u64,
    pub failed: u64,
    pub stalled: u64,
    pub dead: u64,
    pub released: u64,
    pub revived: u64,
    pub stale: u64,
    pub crashes: u64,
    pub torn: u64,
    pub flows: u64,
    /// Parents whose children are done; that failed by one; that wait for it again.
    pub children_done: u64,
    pub blamed: u64,
    pub wait_again: u64,
    /// Children that were removed before their parent was.
    pub gone: u64,
    /// Of flows: since a key was somebody's; of retries: since a child was not done.
    pub half_there: u64,
    pub held_up: u64,
    /// Jobs that a worker's life did not vouch for.
    pub unheard: u64,
}

impl Seen {
    fn all(&mut self) -> [&mut u64; 21] {
        let Seen { added, known, started, completed, retried, failed, stalled, .. } = self;
        let Seen { dead, released, revived, stale, crashes, torn, .. } = self;
        let Seen { flows, children_done, blamed, wait_again, gone, half_there, held_up, unheard, .. } = self;
        [
            added,
            known,
            started,
            completed,
            retried,
            failed,
            stalled,
            dead,
            released,
            revived,
            stale,
            crashes,
            torn,
            flows,
            children_done,
            blamed,
            wait_again,
            gone,
            half_there,
            held_up,
            unheard,
        ]
    }

    pub fn add(&mut self, other: &Seen) {
        let mut other = *other;
        self.all().into_iter().zip(other.all()).for_each(|(mine, more)| *mine += *more);
    }

    pub fn must_have_seen_all(&self) {
        assert!((*self).clone().all().into_iter().all(|count| *count > 100), "{self:?}");
    }
}

/// Says the seed of a play that ends in a panic.
struct Say(u64);

impl Drop for Say {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this play: MAINSTAY_SEED={}", self.0);
        }
    }
}

fn name(letter: char, number: u64) -> Name {
    format!("{letter}{number}").into()
}

fn settings(queue: u64) -> Settings {
    let usual = Settings {
        backoff: Backoff { growth: Growth::Exponential, delay_ms: 700, jitter_percent: 30 },
        completed: Keep { count: 4, age_ms: None },
        failed: Keep { count: 3, age_ms: Some(90_000) },
        dead: Keep { count: 3, age_ms: None },
        depth: Depth { waiting_over: 3, active_under: 2 },
        ..Settings::default()
    };
    let rate = |count, smooth| Some(Limit { count, window_ms: 60_000, smooth });
    match queue {
        0 => Settings { concurrency: Some(3), rate: rate(5, false), ..usual },
        1 => Settings { dead_letter: true, timeout_ms: 0, durability: Durability::Os, ..usual },
        _ => Settings { concurrency: Some(2), rate: rate(60, true), attempts: 2, stalls: 2, ..usual },
    }
}

impl Play {
    pub fn new(seed: u64) -> Play {
        let queues: Vec<(Name, Settings)> = (0..3).map(|queue| (name('q', queue), settings(queue))).collect();
        let model = Model::new(queues);
        let mut play = Play {
            seed,
            draw: Draw::new(seed),
            engine: Engine::new(seed),
            image: Image::default(),
            committed: model.clone(),
            model,
            effects: Effects::default(),
            claimed: Vec::new(),
            tokens: Vec::new(),
            true_ms: 1_000_000_000,
            lag_ms: 0,
            given: Default::default(),
            seen: Seen::default(),
            is_recorded: false,
            first: Batch::default(),
            batches: Vec::new(),
        };
        play.is_recorded = true;
        play.crash();
        play.is_recorded = false;
        play.first = play.batches.pop().unwrap_or_default();
        play
    }

    /// A play that remembers what it commits from its first step on.
    pub fn recorded(seed: u64) -> Play {
        Play { is_recorded: true, ..Play::new(seed) }
    }

    pub fn image(&self) -> &Image {
        &self.image
    }

    pub fn run(&mut self, steps: u32) -> Seen {
        let _say = Say(self.seed);
        for step in 0..steps {
            self.pass_time();
            let op = self.op();
            self.step(op);
            if self.draw.percent(40) {
                self.end_batch();
            }
            if step % LOOK_EVERY == 0 {
                self.look();
            }
        }
        self.end_batch();
        self.crash();
        self.look();
        self.seen
    }

    /// Lets everything that is left be done: nothing may be left over.
    pub fn work_off(&mut self) {
        let _say = Say(self.seed);
        for _ in 0..200 {
            if self.model.jobs.iter().all(|job| job.state.is_terminal()) {
                return self.look();
            }
            self.true_ms += 61_000;
            for queue in 0..3 {
                self.step(Op::Resume { queue: name('q', queue) });
                self.step(Op::Claim { queue: name('q', queue), worker: name('w', 0), max: 1000 });
            }
            self.commit();
            let active = self.model.jobs.iter().filter(|job| job.state == State::Active);
            let held: Vec<(u64, u64)> = active.map(|job| (job.id, job.token)).collect();
            for (job, token) in held {
                self.step(Op::Finish(Finish { job, token, outcome: Outcome::Completed { result: None } }));
            }
            self.commit();
        }
        panic!("these never end: {:?}", self.model.jobs.iter().filter(|job| !job.state.is_terminal()));
    }

    fn now_ms(&self) -> u64 {
        self.true_ms - self.lag_ms
    }

    fn pass_time(&mut self) {
        let passed_ms = match self.draw.below(100) {
            0..50 => 0,
            50..85 => self.draw.below(200),
            85..96 => self.draw.below(6_000),
            96..99 => self.draw.below(40_000),
            _ => self.draw.below(200_000),
        };
        self.true_ms += passed_ms;
        if self.draw.percent(5) {
            self.lag_ms += passed_ms;
        }
    }

    fn step(&mut self, op: Op) {
        let now_ms = self.now_ms();
        self.apply(Op::Tick, now_ms).expect("time passes");
        self.model.tick(now_ms, &self.engine);
        let answer = self.apply(op.clone(), now_ms);
        self.model.judge(&op, &answer, &self.engine);
        if let Op::Beat { .. } = &op {
            self.seen.unheard += self.model.in_doubt() as u64;
        }
        match &answer {
            Ok(Answer::Added(added)) => {
                self.seen.known += added.iter().filter(|added| !added.is_new).count() as u64;
            }
            Ok(Answer::Claimed(claimed)) => {
                let Op::Claim { queue, .. } = &op else { unreachable!("only a claim is answered so") };
                let given = (digit(queue) as usize, self.true_ms);
                self.claimed.extend(claimed.iter().map(|claimed| (claimed.job, claimed.token, given)));
            }
            Err(mainstay_jobs::Refusal::Stale { .. }) => self.seen.stale += 1,
            Err(mainstay_jobs::Refusal::Children { .. }) => self.seen.held_up += 1,
            Err(_) if matches!(op, Op::Add { .. }) => self.seen.half_there += 1,
            _ => {}
        }
        for queue in 0..3 {
            self.compare_counts(queue);
        }
    }

    fn apply(&mut self, op: Op, now_ms: u64) -> Result<Answer, mainstay_jobs::Refusal> {
        self.engine.apply(op, now_ms, &mut self.effects)
    }

    /// Commits, or not; then goes on, or crashes.
    fn end_batch(&mut self) {
        if self.draw.percent(4) {
            // The commit was torn: nobody was answered.
            self.effects.clear();
            self.claimed.clear();
            self.model = self.committed.clone();
            self.seen.torn += 1;
            return self.crash();
        }
        self.commit();
        if self.draw.percent(3) {
            self.seen.crashes += 1;
            self.crash();
        }
    }

    fn commit(&mut self) {
        use mainstay_jobs::What;
        self.image.commit(&self.effects.changes);
        if self.is_recorded {
            self.batches.push(Batch { changes: self.effects.changes.clone(), fsync: self.effects.fsync });
        }
        for event in &self.effects.events {
            let seen = &mut self.seen;
            match event.what {
                What::Added => seen.added += 1,
                What::Started { .. } => seen.started += 1,
                What::Completed => seen.completed += 1,
                What::Retried { .. } => seen.retried += 1,
                What::Failed => seen.failed += 1,
                What::Stalled => seen.stalled += 1,
                What::Dead => seen.dead += 1,
                What::Released => seen.released += 1,
                What::Revived => seen.revived += 1,
                What::ChildrenDone => seen.children_done += 1,
                _ => {}
            }
        }
        for change in &self.effects.changes {
            let seen = &mut self.seen;
            match change {
                Change::Insert { row, .. } => {
                    seen.flows += u64::from(row.progressed.state == State::WaitingChildren);
                }
                Change::Update(now) => seen.wait_again += u64::from(now.state == State::WaitingChildren),
                Change::Attempt { attempt, .. } => seen.blamed += u64::from(attempt.ending == Ending::Child),
                Change::ChildGone { .. } => seen.gone += 1,
                _ => {}
            }
        }
        self.effects.clear();
        for (job, token, (queue, true_ms)) in std::mem::take(&mut self.claimed) {
            self.tokens.push((job, token));
            self.give(queue, true_ms);
        }
        if self.tokens.len() > 200 {
            self.tokens.drain(..100);
        }
        self.committed = self.model.clone();
    }

    /// In no window of true time more starts than the rate, whatever clocks and crashes did.
    fn give(&mut self, queue: usize, true_ms: u64) {
        let given = &mut self.given[queue];
        given.push(true_ms);
        let Some(limit) = settings(queue as u64).rate else { return };
        if let Some(first) = given.len().checked_sub(limit.count as usize + 1) {
            let passed_ms = true_ms - given[first];
            assert!(passed_ms >= u64::from(limit.window_ms), "queue {queue}: too many within {passed_ms} ms");
        }
    }

    /// The process is gone, and another begins with what was committed; the clock may have been set back meanwhile.
    fn crash(&mut self) {
        if self.draw.percent(20) {
            self.lag_ms += self.draw.below(100_000);
        }
        self.effects.clear();
        self.claimed.clear();
        let now_ms = self.now_ms();
        self.engine = self.image.engine(self.seed, now_ms);
        self.model.crash(now_ms);
        for queue in 0..3 {
            let queue = self.model.queues[queue].clone();
            let op = Op::Configure { queue: queue.name, settings: Box::new(queue.settings) };
            let answer = self.apply(op.clone(), now_ms);
            self.model.tick(now_ms, &self.engine);
            self.model.judge(&op, &answer, &self.engine);
        }
        self.commit();
        self.look();
    }

    fn op(&mut self) -> Op {
        let queue = name('q', self.draw.below(3));
        let live = self.model.jobs.iter().filter(|job| !job.state.is_terminal()).count();
        match self.draw.below(100) {
            0..26 if live < JOBS => self.add(queue),
            0..50 => Op::Claim { queue, worker: self.worker(), max: 1 + self.draw.below(3) as u32 },
            50..74 => self.finish(),
            74..80 => self.token_op(),
            80..82 => Op::Beat { worker: self.worker(), holding: self.tokens.iter().rev().take(3).copied().collect() },
            82 => Op::Beat { worker: self.worker(), holding: Vec::new() },
            83..85 => Op::Disconnect { worker: self.worker() },
            85..87 => self.configure(queue),
            87 => Op::Pause { queue },
            // Of a claim that is committed, whichever.
            88 => Op::Answered { token: self.draw.pick(&self.tokens).map_or(0, |(_, token)| *token) },
            89..91 => Op::Resume { queue },
            91..99 => self.operate(queue),
            _ => self.sweep(queue),
        }
    }

    fn worker(&mut self) -> Name {
        name('w', self.draw.below(WORKERS))
    }

    fn add(&mut self, queue: Name) -> Op {
        let count = if self.draw.percent(20) { 1 + self.draw.below(4) } else { 1 };
        let mut new = || {
            let mut job = self.new_job();
            if self.draw.percent(20) {
                job.children = self.children(1);
            }
            job
        };
        Op::Add { queue, jobs: (0..count).map(|_| new()).collect() }
    }

    fn children(&mut self, level: u32) -> Vec<Child> {
        let count = 1 + self.draw.below(3);
        let mut one = || {
            let mut job = self.new_job();
            if self.draw.percent(80) {
                (job.unique, job.idempotency) = (None, None);
            }
            if level < 3 && self.draw.percent(25) {
                job.children = self.children(level + 1);
            }
            let on_failure = if self.draw.percent(60) { OnFailure::Fail } else { OnFailure::Ignore };
            Child { queue: name('q', self.draw.below(3)), on_failure, job }
        };
        (0..count).map(|_| one()).collect()
    }

    fn new_job(&mut self) -> NewJob {
        let draw = &mut self.draw;
        let mut job = NewJob::new("x");
        if draw.percent(25) {
            job.delay_ms = 1 + draw.below(20_000);
        }
        if draw.percent(20) {
            job.priority = draw.below(3) as u32;
        }
        if draw.percent(40) {
            job.group = Some(name('g', 1 + draw.below(3)));
        }
        if draw.percent(20) {
            let for_ms = draw.percent(50).then(|| 1 + draw.below(30_000));
            job.unique = Some(Unique { key: name('u', draw.below(4)), for_ms });
        }
        if draw.percent(15) {
            job.idempotency = Some(Idempotency { key: name('i', draw.below(6)), for_ms: 1 + draw.below(60_000) });
        }
        if draw.percent(20) {
            let attempts = Some(draw.below(4) as u32);
            let backoff = Backoff { growth: Growth::Fixed, delay_ms: draw.below(3) * 900, jitter_percent: 20 };
            let backoff = draw.percent(50).then_some(backoff);
            job.own = Own { attempts, backoff, timeout_ms: Some(draw.below(3) * 10_000) };
        }
        job
    }

    /// A token that may be good, or long stale, or made up.
    fn token(&mut self) -> (u64, u64) {
        let recent: Vec<(u64, u64)> = self.tokens.iter().rev().take(8).copied().collect();
        let some = if self.draw.percent(85) { self.draw.pick(&recent) } else { self.draw.pick(&self.tokens) };
        let (job, token) = some.copied().unwrap_or((1, 1));
        match self.draw.below(40) {
            0 => (job, token + 1),
            1 => (job + 1, token),
            _ => (job, token),
        }
    }

    fn finish(&mut self) -> Op {
        let (job, token) = self.token();
        let draw = &mut self.draw;
        let outcome = match draw.below(100) {
            0..55 => Outcome::Completed { result: draw.percent(50).then(|| token.to_string().into_bytes()) },
            55..92 => Outcome::Failed {
                error: "no".into(),
                stack: draw.percent(30).then(|| "at x".into()),
                retry: draw.percent(85),
                wait_ms: draw.percent(20).then(|| draw.below(3) * 1000),
            },
            _ => Outcome::Released { error: "503".into(), hold_ms: draw.below(3000) },
        };
        Op::Finish(Finish { job, token, outcome })
    }

    fn token_op(&mut self) -> Op {
        let (job, token) = self.token();
        match self.draw.below(3) {
            0 => Op::Extend { job, token, lease_ms: self.draw.below(120_000) },
            1 => Op::Progress { job, token, body: b"50".to_vec() },
            _ => Op::Log { job, token, line: "half".into() },
        }
    }

    fn configure(&mut self, queue: Name) -> Op {
        let number = u64::from(digit(&queue));
        let mut settings = settings(number);
        settings.completed.count = self.draw.below(6) as u32;
        settings.attempts = 1 + self.draw.below(4) as u32;
        settings.concurrency = settings.concurrency.map(|_| 1 + self.draw.below(4) as u32);
        Op::Configure { queue, settings: Box::new(settings) }
    }

    fn operate(&mut self, queue: Name) -> Op {
        let ids: Vec<u64> = self.model.jobs.iter().map(|job| job.id).collect();
        let job = self.draw.pick(&ids).copied().unwrap_or(1) + u64::from(self.draw.percent(5));
        match self.draw.below(5) {
            0 => Op::Remove { job },
            1 => Op::Promote { job },
            2 => Op::Redrive { queue, state: State::Dead, max: 1000 },
            _ => {
                let ended: Vec<u64> =
                    self.model.jobs.iter().filter(|job| job.state.is_terminal()).map(|job| job.id).collect();
                Op::Retry { job: self.draw.pick(&ended).copied().unwrap_or(job) }
            }
        }
    }

    fn sweep(&mut self, queue: Name) -> Op {
        match self.draw.below(3) {
            0 => Op::Drain { queue, delayed: self.draw.percent(50), max: 1000 },
            1 => Op::Clean { queue, state: State::Completed, older_ms: self.draw.below(30_000), max: 1000 },
            _ => Op::Redrive { queue, state: State::Failed, max: 1000 },
        }
    }

    fn compare_counts(&self, queue: usize) {
        let name = self.model.queues[queue].name.clone();
        let found = self.engine.counts(&name).expect("a queue of the play");
        for state in State::ALL {
            assert_eq!(found.of(state), self.model.count(queue, state), "{state:?} of {name}");
        }
    }

    /// Everything that can be asked, compared.
    fn look(&self) {
        for job in &self.model.jobs {
            let found = self.engine.glance(job.id).unwrap_or_else(|| panic!("job {} is lost", job.id));
            assert_eq!((found.state, found.token), (job.state, job.token), "{job:?}");
            let counted = (found.attempts, found.starts, found.stalls);
            assert_eq!(counted, (job.attempts, job.starts, job.stalls), "{job:?}");
            assert_eq!(job.starts, job.causes + u32::from(job.state == State::Active), "a start without a cause");
            if !job.state.is_terminal() {
                assert_eq!(found.ready_ms, job.ready_ms, "{job:?}");
            }
        }
        for (index, queue) in self.model.queues.iter().enumerate() {
            for state in State::ALL {
                let mut found = self.engine.list(&queue.name, state, 0, 1000);
                found.sort_unstable();
                let mut known: Vec<u64> = self.model.in_state(index, state).map(|job| job.id).collect();
                known.sort_unstable();
                assert_eq!(found, known, "{state:?} of {}", queue.name);
            }
        }
        let (engine, model) = (self.engine.next_due_ms(), self.model.next_due_ms());
        assert!(model.is_none_or(|model| engine.is_some_and(|engine| engine <= model)), "{engine:?} after {model:?}");
        // What was committed adds up to what is there.
        for job in &self.committed.jobs {
            let kept = self.image.attempts.get(&job.id).map_or(0, Vec::len);
            assert_eq!(
                kept,
                (job.not_completed + u32::from(job.is_blamed)) as usize,
                "attempts that are kept of {job:?}"
            );
        }
        self.look_at_flows();
    }

    fn look_at_flows(&self) {
        for parent in self.model.jobs.iter().filter(|job| job.state == State::WaitingChildren) {
            assert!(self.model.waits_for_somebody(parent.id), "{parent:?} waits for nobody");
        }
        for job in &self.model.jobs {
            let children: Vec<u64> =
                self.model.links.iter().filter(|link| link.parent == job.id).map(|link| link.child).collect();
            assert_eq!(self.engine.children(job.id), children, "children of {job:?}");
        }
        // What children gave is there for as long as their parents are, whatever is kept of themselves.
        assert_eq!(self.image.links.len(), self.committed.links.len());
        for link in &self.committed.links {
            let kept = self.image.links[&link.child];
            assert_eq!((kept.parent, kept.gone), (link.parent, link.gone), "{link:?}");
            let given = if link.gone.is_some() { &self.image.given } else { &self.image.results };
            assert_eq!(given.get(&link.child), link.given.as_ref(), "what {link:?} gave");
        }
    }
}
