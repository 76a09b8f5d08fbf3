//! What a queue does with its jobs, unless one says otherwise for itself. The defaults are the guides'.

use crate::backoff::{Backoff, Growth};
use mainstay_limits::window::Limit;
use serde::{Deserialize, Serialize};

/// How much of what has ended is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The newest so many.
    pub count: u32,
    /// And none that ended longer ago, in milliseconds.
    pub age_ms: Option<u64>,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// It is on the disk: a power cut loses nothing.
    Fsync,
    /// The kernel has it: a crash of any process loses nothing, a power cut what is some seconds old.
    Os,
}

/// When a queue asks for more workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// More than so many wait …
    pub waiting_over: u64,
    /// … while fewer than so many run.
    pub active_under: u64,
}

/// Of one queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Jobs that run at once, over all workers; without it as many as workers take.
    pub concurrency: Option<u32>,
    /// At most so many starts in any window, over all workers and through crashes.
    pub rate: Option<Limit>,
    /// Attempts a job has.
    pub attempts: u32,
    pub backoff: Backoff,
    /// Of an attempt, in milliseconds; 0 is none.
    pub timeout_ms: u64,
    /// So often a job may lose its worker; once more and it is dead.
    pub stalls: u32,
    /// Jobs whose attempts are used up are set aside as dead rather than kept for a while as failed.
    pub dead_letter: bool,
    pub completed: Keep,
    pub failed: Keep,
    pub dead: Keep,
    pub durability: Durability,
    pub depth: Depth,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            concurrency: None,
            rate: None,
            attempts: 3,
            backoff: Backoff { growth: Growth::Exponential, delay_ms: 2000, jitter_percent: 0 },
            timeout_ms: 30_000,
            stalls: 1,
            dead_letter: false,
            completed: Keep { count: 100, age_ms: None },
            failed: Keep { count: 500, age_ms: None },
            dead: Keep { count: 10_000, age_ms: None },
            durability: Durability::Fsync,
            depth: Depth { waiting_over: 10, active_under: 5 },
        }
    }
}
