//! The fleet: which instances should run, and how they get there.
//!
//! Invariant: this crate never forks and never waits for a process; it asks the supervisor.
//! Invariant: an instance gets SIGTERM only when nothing is in flight to it, or the limit has passed.

mod account;
mod arrivals;
mod backoff;
mod crew;
mod environment;
mod error;
pub mod event;
mod fleet;
mod instance;
mod machine;
mod measure;
mod options;
mod plan;
mod ports;
mod ready;
mod rollout;
mod service;
mod status;

pub use error::Error;
pub use event::Event;
pub use fleet::{Output, Outside};
pub use machine::Machine;
pub use options::{App, Options, Port, Restart};
pub use ready::{How, Seen};
pub use rollout::{Changes, Swap};
pub use service::{FromSupervisor, Handle, Service, Stopped};
pub use status::{AppStatus, InstanceStatus, State};
