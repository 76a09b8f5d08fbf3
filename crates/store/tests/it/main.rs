//! Stores beside real servers, started by the tests: what they promise when all is well, and when it is not.

// Tasks of a test end with its runtime.
#![allow(clippy::disallowed_methods)]

mod any_address;
mod durable;
mod journal;
mod redis_cluster;
mod redis_faults;
mod redis_sentinel;
mod redis_single;
mod support;
