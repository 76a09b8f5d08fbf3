//! The edge over real sockets: raw bytes in, raw bytes at the upstream, and what came back.

mod house;
mod passing;
mod refusing;
