//! What the end-to-end tests stand on: the real binary, real upstreams, real clients.
//!
//! Invariant: nothing here reads Mainstay's code; the binary is judged by its sockets, its output and its exit code.

pub mod authority;
pub mod crash;
pub mod curl;
pub mod fixtures;
pub mod frames;
pub mod handlers;
pub mod hpack;
pub mod idp;
pub mod mainstay;

pub mod pebble;
pub mod peer;
pub mod ports;
pub mod processes;
pub mod recorders;
pub mod soak;
pub mod strict;
pub mod strict_h2;
pub mod strict_tls;
pub mod systemd;
pub mod tap;
pub mod transcript;
pub mod wait;
pub mod wire;

pub use authority::{Authority, Conduct, Renewals};
pub use curl::{Answer, curl, get};
pub use mainstay::{Ended, Mainstay, Setup};
pub use pebble::{Manner, Pebble};
pub use peer::{Ask, Peer};
pub use recorders::{Kind, Record, Recorder};
pub use systemd::Manager;
pub use wait::{BOUND, poll, wait_for, wait_until};
pub use wire::{Connection, Fault, Response};
