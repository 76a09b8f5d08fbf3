//! Watching: is what is configured there, and what do we say about it.
//!
//! Invariants: `unknown` is never green; a public document names no host, address, user, database or error text;
//! no history is kept here.

pub mod cli;
pub mod documents;
pub mod nodejs;
mod options;
pub mod paths;
pub mod probes;
pub mod state;
mod tls;

pub use options::Options;
pub use paths::Document;
pub use probes::{Handle, Service};
pub use state::{App, Certificates, ServiceState, State, Status, Watched};
