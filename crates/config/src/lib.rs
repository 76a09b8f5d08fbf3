//! Reads one file, the environment and the flags, and tells every fault at once with its place.
//!
//! Nothing here opens a socket, starts a process or decides what a setting means: blocks read their own `Options`
//! from a [`Reader`], and the binary prints the [`Report`]. A secret's value must never leave through a message.

mod candidate;
mod dotenv;
mod environment;
mod example;
mod fault;
mod gather;
mod inputs;
mod interpolate;
mod key;
mod kind;
mod known;
mod mask;
mod nearest;
mod position;
mod read;
mod reader;
mod reference;
mod render;
mod report;
mod schema;
mod setting;
mod shape;
mod source;
mod table;
mod terminals;
mod tree;
mod unread;
mod value;
mod variables;

pub mod checks;
pub mod secret;
pub mod units;
pub mod url;

pub use dotenv::{Assignment, parse as parse_env_file};
pub use environment::Environment;
pub use example::example;
pub use fault::{Fault, Faults};
pub use inputs::{Inputs, Text};
pub use key::Key;
pub use position::Position;
pub use reader::Reader;
pub use report::Report;
pub use setting::{Overridden, Setting, Variable};
pub use table::Table;
pub use value::{Item, Value};

/// What went wrong inside; faults of a configuration are [`Fault`]s, never this.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the inputs handed over are not JSON")]
    Json(#[source] serde_json::Error),
    #[error("the inputs handed over have an unreadable {0:?}")]
    Field(&'static str),
}
