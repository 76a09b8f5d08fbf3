//! Work that must not be lost: queues of jobs with delays, retries, rates, leases, schedules and dead letters.
//!
//! What becomes of a job is decided by [`Engine`], a pure state machine that a simulation runs through millions of
//! steps. Around it one thread commits what the engine decided, and only then answers; [`Jobs`] is how others reach it.
//! Must never look into a payload, and never acknowledge what is not kept.

pub mod backoff;
pub mod bullmq;
pub mod change;
mod clock;
pub mod engine;
mod error;
pub mod event;
mod handle;
mod home;
pub mod job;
mod nodes;
pub mod op;
pub mod options;
pub mod push;
mod queue;
mod ready;
pub mod resp;
pub mod schedule;
pub mod settings;
pub mod store;
mod thread;

pub use backoff::{Backoff, Growth};
pub use clock::Clock;
pub use engine::Engine;
pub use error::{Error, Why};
pub use event::{Event, What};
pub use handle::{ARRAY_BYTES_MAX, Claim, Finished, Jobs, LIST_MAX, Listening, Setup, Stream, Work};
pub use home::Home;
pub use job::{Child, Name, NewJob, OnFailure, State};
pub use op::{Answer, Effects, Op, Outcome, Refusal};
pub use options::{Options, Truth};
pub use push::{Instance, Pusher};
pub use queue::{Counts, Totals};
pub use settings::{Depth, Durability, Keep, Settings};
pub use store::Place;
