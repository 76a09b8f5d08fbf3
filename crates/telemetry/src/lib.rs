//! What happened, told: the record, logs, metrics, trails. Nothing here is needed in order to serve.

pub mod names;
pub mod record;
pub mod verdict;

pub use names::Names;
pub use record::{Cut, MethodCode, Outcome, Record, RequestId, Try};
pub use verdict::Verdict;
