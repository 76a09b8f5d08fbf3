//! Waiting on a condition, never on time: the tests of all crates share it.

pub use mainstay_servers::wait::*;
