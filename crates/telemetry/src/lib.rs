//! What happened, told: the record, logs, metrics, trails. Nothing here is needed in order to serve.
//!
//! Invariant: nothing a core calls here blocks, locks for longer than O(1), or allocates for a known route.

pub mod access;
pub mod id;
mod json;
mod level;
pub mod line;
pub mod metrics;
pub mod names;
mod paint;
mod pattern;
pub mod record;
pub mod redact;
pub mod ring;
pub mod routes;
pub mod time;
pub mod traceparent;
pub mod verdict;

pub use id::Ids;
pub use level::Level;
pub use line::{Line, Stream};
pub use metrics::{CoreMetrics, Metrics};
pub use names::Names;
pub use record::{Cut, MethodCode, Outcome, Record, RequestId, Try};
pub use redact::Redactor;
pub use ring::CoreRing;
pub use routes::{Learner, Routes};
pub use traceparent::TraceParent;
pub use verdict::Verdict;
