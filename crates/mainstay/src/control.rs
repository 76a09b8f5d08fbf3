//! The control API: HTTP/1 with JSON over the control socket, mode 0600.
//!
//! The CLI and the API run the same command structs; a handler is one line into the blocks. Never reachable over
//! the edge.

pub mod answer;
pub mod client;
mod command;
mod serve;

pub use command::{
    Accounts, Bans, Cache, CertificatesAction, CertificatesAsked, Command, Health, JournalAsked, Limits, Line, Refused,
    Reload, Restart, Status, Stop, TokenAsked, Upgrade, Why,
};
pub use serve::{Handler, Open, Say, serve};
