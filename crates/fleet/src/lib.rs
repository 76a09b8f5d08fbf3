//! The fleet: which instances should run, and how they get there.
//!
//! Invariant: this crate never forks and never waits for a process; it asks the supervisor.

pub mod backoff;
mod environment;
pub mod instance;
mod machine;
mod ports;
