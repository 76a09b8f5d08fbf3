//! Connections to what keeps things: Redis for what is shared and fast, SQLite or Postgres for what must last; the
//! runner of migrations; the journal; and the keys of a data folder.
//!
//! Must never hold a block's queries: each block brings its own scripts, statements and migrations.

mod durable;
mod error;
mod options;

pub mod journal;
pub mod key_file;
pub mod migrate;
pub mod postgres;
pub mod redis;
pub mod sqlite;

pub use durable::{Durable, FILE};
pub use error::Error;
pub use options::{Lasting, Options, Shared};
