//! Redis, for limits, sessions and rooms: single, with TLS, Cluster, Sentinel, all behind one handle.
//!
//! Invariants: a request never waits longer than it was given, and not at all while the breaker is open; a link that
//! broke is made again by the keeper, never by a request.

mod breaker;
mod check;
mod dial;
mod error;
mod handle;
mod info;
mod keeper;
mod listen;
mod options;
mod outage;
mod script;

pub use breaker::{Breaker, MISSES_MAX};
pub use check::{Finding, Level, Report, Uses, check, health, judge};
pub use error::Error;
pub use handle::{Counts, IN_FLIGHT_MAX, REQUEST_BUDGET, Redis, State};
pub use info::{Facts, Memory};
pub use keeper::Keeper;
pub use listen::{Heard, Listener, QUEUE_MAX, listen};
pub use options::{Node, Options, Place, Secret, Tls};
pub use outage::{News, Outage, SETTLED};
pub use script::Script;

/// Commands and values as the client library has them.
pub use ::redis::{Cmd, FromRedisValue, ToRedisArgs, Value, cmd};
