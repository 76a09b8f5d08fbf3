//! The edge: listeners, TLS, routing, the order of gates, balancing, upstream health, proxying.
//!
//! Invariant: nothing here waits for the control thread in order to serve, and nothing knows what a user is.

mod acceptor;
pub mod acme;
mod address;
mod affinity;
mod balance;
mod body;
mod cache;
mod condition;
mod core;
mod csrf;
mod date;
mod fields;
mod files;
mod forwarded;
mod frames;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod fuzz_answers;
#[cfg(test)]
mod fuzz_http1;
mod headers;
mod http1;
mod http2;
pub mod https;
mod identity;
mod input;
mod limit;
pub mod local;
mod members;
mod message;
mod method_override;
pub mod options;
mod path;
mod pool;
pub mod probe;
mod providers;
mod proxy;
mod proxy_protocol;
mod range;
mod readings;
pub mod redis;
mod refusal;
mod request;
mod respond;
mod retry;
mod service;
pub mod service_call;
mod session;
mod snapshot;
mod socket;
pub mod sticky;
mod tls;
mod traces;
mod tunnel;
pub mod upstream;
mod watch;
mod who;
mod worker;

pub use address::Trusted;
pub use cache::{RouteCounts, Totals as CacheTotals, What as Purge, expose as expose_cache};
pub use core::Instruments;
pub use limit::shown::{Forgotten, Limits, RESETS, Reach};
pub use mainstay_limits::rates::Shown;
pub use members::{Group, Members};
pub use options::Options;
pub use path::{Pattern, is_at_or_below};
pub use respond::edits::{is_value as is_header_value, may_be_set as header_may_be_set};
pub use service::{Error, Handle, Parts, Prepared, Service, prove};
pub use tls::Certificates;
