//! The supervisor: forks, waits, holds descriptors. One thread.
//!
//! Invariant: this crate links no async runtime, no TLS and no HTTP code.
//! Invariant: the supervisor never blocks on the server; a server that stops reading is replaced.
//! Invariant: all `unsafe` of the crate is in `kernel`.

mod carry;
pub mod channel;
pub mod data;
mod error;
#[cfg(test)]
mod fuzz;
mod instances;
mod kernel;
mod limits;
pub mod listen;
mod notify;
pub mod orphans;
pub mod proc;
pub mod protocol;
pub mod run;
mod server;
mod spawn;
mod upgrade;
mod words;

pub use carry::resume;
pub use channel::Channel;
pub use data::Data;
pub use error::{Error, explain};
pub use limits::hide_memory;
pub use run::{Options, run};

/// In the environment of the server and of every process of every instance: data-folder id, colon, boot number.
pub const BOOT_VARIABLE: &str = "MAINSTAY_BOOT";
