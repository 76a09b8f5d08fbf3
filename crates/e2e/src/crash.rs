//! The crash harness of jobs: rounds in which the real binary is given work, something is killed or fails, and a judge
//! reads an outside journal afterwards. `crates/e2e/tests/it/jobs_crash.rs` runs twenty of them,
//! `cargo xtask soak jobs` a thousand.
//!
//! Invariant: a round is told by its seed alone; what it meets in time is the machine's.

pub mod client;
pub mod failpoint;
pub mod found;
pub mod journal;
pub mod judge;
pub mod producer;
pub mod round;
pub mod strike;
pub mod worker;

use round::{Tally, round};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is done to a round, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillServer,
    KillSupervisor,
    KillWorker,
    KillApp,
    KillServerAndWorker,
    BeforeWrite,
    BeforeSync,
    AfterSync,
    MidCheckpoint,
    DiskFull,
    SyncFails,
    ClockForward,
    ClockBack,
    Stop,
}

/// All of them; a round's is its seed modulo their number.
pub const FAULTS: [(Fault, &str); 14] = [
    (Fault::KillServer, "kill-server"),
    (Fault::KillSupervisor, "kill-supervisor"),
    (Fault::KillWorker, "kill-worker"),
    (Fault::KillApp, "kill-app"),
    (Fault::KillServerAndWorker, "kill-server-and-worker"),
    (Fault::BeforeWrite, "before-write"),
    (Fault::BeforeSync, "before-fsync"),
    (Fault::AfterSync, "after-fsync"),
    (Fault::MidCheckpoint, "mid-checkpoint"),
    (Fault::DiskFull, "disk-full"),
    (Fault::SyncFails, "fsync-fails"),
    (Fault::ClockForward, "clock-forward"),
    (Fault::ClockBack, "clock-back"),
    (Fault::Stop, "stop"),
];

impl Fault {
    /// The fault of a round.
    pub fn of(seed: u64) -> Fault {
        FAULTS[(seed % FAULTS.len() as u64) as usize].0
    }

    pub fn name(self) -> &'static str {
        FAULTS.iter().find(|(fault, _)| *fault == self).map_or("?", |(_, name)| name)
    }

    /// Nobody who holds a job is killed.
    fn is_calm(self) -> bool {
        matches!(
            self,
            Fault::KillApp | Fault::DiskFull | Fault::SyncFails | Fault::ClockForward | Fault::ClockBack | Fault::Stop
        )
    }

    fn moves_the_clock(self) -> bool {
        matches!(self, Fault::ClockForward | Fault::ClockBack)
    }
}

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Neighbouring seeds must not begin alike.
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.below(2);
        }
        dice
    }

    /// From 0 to `end`, without it.
    pub fn below(&mut self, end: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }
}

/// A round that did not hold.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub seed: u64,
    pub fault: &'static str,
    pub violations: Vec<String>,
    /// Journals, what Mainstay said, and its files.
    pub folder: PathBuf,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {} ({}): journal in {}", self.seed, self.fault, self.folder.display())?;
        self.violations.iter().take(20).try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// All rounds together.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    pub rounds: u64,
    pub acknowledged: u64,
    pub lost: u64,
    pub starts: u64,
    pub rescues: u64,
    /// Rounds by fault.
    pub faults: BTreeMap<&'static str, u64>,
    pub troubles: Vec<Trouble>,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sum { rounds, acknowledged, lost, starts, rescues, .. } = self;
        write!(f, "{rounds} rounds, {acknowledged} acknowledged, lost {lost}, {starts} starts, {rescues} rescues")?;
        write!(f, ", {} rounds failed", self.troubles.len())
    }
}

/// Which rounds are run, and how many at a time.
#[derive(Clone, Debug)]
pub struct Soak {
    /// Of the first round; each further one has the next.
    pub seed: u64,
    pub rounds: u64,
    /// Rounds wait for leases most of their time: some run at once.
    pub lanes: usize,
    /// Of the journals; those of rounds that hold are removed.
    pub folder: PathBuf,
}

impl Soak {
    /// Runs them all; `told` hears of each as it ends.
    pub fn run(&self, told: impl Fn(&str) + Sync) -> Sum {
        let next = AtomicU64::new(0);
        let sum = Mutex::new(Sum::default());
        std::thread::scope(|scope| {
            for _ in 0..self.lanes.max(1) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.rounds {
                            return;
                        }
                        let seed = self.seed + number;
                        let began = Instant::now();
                        let outcome = self.guarded(seed);
                        let mut sum = sum.lock().expect("the sum's lock");
                        told(&sum.take(seed, outcome, began.elapsed()));
                    }
                });
            }
        });
        sum.into_inner().expect("the sum's lock")
    }

    /// A round that panics has failed, and others go on.
    fn guarded(&self, seed: u64) -> Result<Tally, Trouble> {
        let folder = self.folder.join(seed.to_string());
        let within = folder.clone();
        let running = std::thread::Builder::new().name(format!("round {seed}")).spawn(move || fresh(seed, &within));
        let violations = match running.expect("a thread").join() {
            Ok(Ok(tally)) => {
                let _ = std::fs::remove_dir_all(&folder);
                return Ok(tally);
            }
            Ok(Err(violations)) => violations,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                vec![text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()]
            }
        };
        Err(Trouble { seed, fault: Fault::of(seed).name(), violations, folder })
    }
}

fn fresh(seed: u64, folder: &Path) -> Result<Tally, Vec<String>> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(|e| vec![format!("{}: {e}", folder.display())])?;
    round(seed, folder)
}

impl Sum {
    /// The line of progress.
    fn take(&mut self, seed: u64, outcome: Result<Tally, Trouble>, took: Duration) -> String {
        self.rounds += 1;
        let fault = Fault::of(seed).name();
        *self.faults.entry(fault).or_default() += 1;
        let head = format!("round {:>5}   seed {seed:<8} {fault:<24}", self.rounds);
        let seconds = took.as_secs_f64();
        match outcome {
            Ok(tally) => {
                self.acknowledged += tally.acknowledged;
                self.starts += tally.starts;
                self.rescues += tally.rescues;
                let Tally { acknowledged, starts, rescues } = tally;
                format!(
                    "{head} {acknowledged:>4} acknowledged {starts:>4} starts {rescues:>2} rescues {seconds:>5.1} s"
                )
            }
            Err(trouble) => {
                self.lost += trouble.violations.iter().filter(|what| what.starts_with("I1 ")).count() as u64;
                let text = format!("{head} FAILED after {seconds:.1} s\n{trouble}");
                self.troubles.push(trouble);
                text
            }
        }
    }
}
