//! The control API: HTTP/1 with JSON over the control socket, mode 0600.
//!
//! The CLI and the API run the same command structs; a handler is one line into the blocks. Never reachable over
//! the edge.

pub mod answer;
pub mod client;
mod command;
mod serve;

pub use command::{
    Accounts, Bans, COMMAND_BYTES_MAX, Cache, CertificatesAction, CertificatesAsked, Command, ConsoleAsked, Health,
    JobAdded, JobAsked, JobsAsked, JobsListed, JournalAsked, Limits, Line, Refused, Reload, Restart, RuleAsked,
    ScheduleSet, Status, Stop, TokenAsked, Upgrade, Why,
};
pub use serve::{Handler, Open, Say, serve};
