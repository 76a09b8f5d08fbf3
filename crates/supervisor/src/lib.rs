//! The supervisor: forks, waits, holds descriptors. One thread.
//!
//! Invariant: this crate links no async runtime, no TLS and no HTTP code.

pub mod protocol;
