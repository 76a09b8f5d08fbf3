//! Connections to what keeps things: Redis for what is shared and fast.
//!
//! Must never hold a block's queries: each block brings its own scripts.

mod options;
pub mod redis;

pub use options::{Options, Shared};
