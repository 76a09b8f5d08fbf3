//! The real binary, driven as the guides' readers drive it. A test that serves a row of the requirements begins with
//! the row's id.

mod bad_input;
mod bans;
mod cache;
mod certificates;
mod certificates_files;
mod certificates_limits;
mod config;
mod config_faults;
mod demo;
mod forwarding;
mod framing;
mod grpc;
mod harness;
mod health;
mod http2;
mod install;
mod limits;
mod lossless;
mod metrics;
mod observe;
mod privacy;
mod processes;
mod protocol;
mod reload;
mod retry;
mod routing;
mod shutdown;
mod socketio;
mod starters;
mod streaming;
mod support;
mod upgrade;
mod upgrade_broken;
mod verbs;
mod websocket;
