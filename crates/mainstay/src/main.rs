//! The `mainstay` binary: verbs, wiring, reload, shutdown.
//!
//! Invariant: nothing here is worth a test without a process; what is lives in the block it belongs to.

mod bans;
mod cache;
mod certificates;
mod changes;
mod cli;
mod control;
mod demo;
mod errors;
mod exit;
mod hearers;
mod init;
mod keys;
mod link;
mod local;
mod operate;
mod output;
mod place;
mod reload;
mod scrape;
mod screen;
mod secret;
mod server;
mod settings;
mod told;
mod upgrade;
mod upstreams;
mod voice;
mod wiring;

fn main() -> std::process::ExitCode {
    cli::main()
}
