//! Who may do how much: how often in a window, who is sent away, and how many connections one address may have.
//!
//! Invariant: nothing here reads a clock or grows with what a client does; the time is given, and every table is
//! bounded.

pub mod bans;
pub mod crawlers;
pub mod crowd;
mod network;
mod options;
pub mod rates;
pub mod redis;
pub mod rules;
mod scanners;
pub mod table;
mod tally;
pub mod window;

pub use bans::Bans;
pub use crowd::Crowd;
pub use network::Network;
pub use options::Policy;
pub use rates::Rates;
pub use rules::{Form, RateOptions, Rule};
pub use tally::{Counts, Refused};
