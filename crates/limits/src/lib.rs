//! Who may do how much: bans, and how many connections one address may have.
//!
//! Invariant: nothing here reads a clock or grows with what a client does; the time is given, and every table is
//! bounded.

pub mod bans;
pub mod crowd;
mod network;
mod options;
mod scanners;

pub use bans::Bans;
pub use crowd::Crowd;
pub use network::Network;
pub use options::Policy;
