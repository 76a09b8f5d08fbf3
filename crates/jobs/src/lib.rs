//! Work that must not be lost: queues of jobs with delays, retries, rates, leases, schedules and dead letters.
//!
//! What becomes of a job is decided by [`Engine`], a pure state machine that a simulation runs through millions of
//! steps. Must never look into a payload, and never acknowledge what is not kept.

pub mod backoff;
pub mod change;
pub mod engine;
pub mod event;
pub mod job;
pub mod op;
mod queue;
mod ready;
pub mod schedule;
pub mod settings;

pub use backoff::{Backoff, Growth};
pub use engine::Engine;
pub use event::{Event, What};
pub use job::{Name, NewJob, State};
pub use op::{Answer, Effects, Op, Outcome, Refusal};
pub use queue::{Counts, Totals};
pub use settings::{Depth, Durability, Keep, Settings};
