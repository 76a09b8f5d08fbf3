//! What happened, told: the record, logs, metrics, trails. Nothing here is needed in order to serve.
//!
//! Invariant: nothing a core calls here blocks, locks for longer than O(1), or allocates for a known route.

pub mod access;
pub mod child;
mod console;
pub mod copies;
mod error;
pub mod files;
#[cfg(test)]
mod fuzz;
mod handle;
pub mod id;
mod json;
mod level;
pub mod line;
pub mod metrics;
pub mod names;
mod options;
pub mod own;
mod paint;
mod pattern;
pub mod read;
pub mod record;
pub mod redact;
pub mod ring;
pub mod routes;
mod service;
pub mod time;
pub mod traceparent;
pub mod trail;
pub mod verdict;
pub mod why;

pub use console::Console;
pub use error::Error;
pub use handle::{DroppedCounts, Handle};
pub use id::Ids;
pub use level::Level;
pub use line::{Line, Stream};
pub use metrics::{CoreMetrics, Metrics};
pub use names::Names;
pub use options::{Format, Options};
pub use record::{CacheCode, Cut, MethodCode, Outcome, Record, RequestId, Try};
pub use redact::Redactor;
pub use ring::CoreRing;
pub use routes::{Learner, Routes};
pub use service::{Running, Service, Setup};
pub use traceparent::TraceParent;
pub use verdict::Verdict;
