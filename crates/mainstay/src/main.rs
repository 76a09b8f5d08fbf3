//! The `mainstay` binary: verbs, wiring, reload, shutdown.
//!
//! Invariant: nothing here is worth a test without a process; what is lives in the block it belongs to.

mod accounts;
mod api;
mod bans;
mod bodies;
mod cache;
mod certificates;
mod changes;
mod cli;
mod console;
mod control;
mod demo;
mod errors;
mod exit;
mod hearers;
mod hooks;
mod init;
mod jobs;
mod journal;
mod keys;
mod limits;
mod link;
mod local;
mod mailing;
mod operate;
mod operators;
mod output;
mod pages;
mod place;
mod providers;
mod queues;
mod reload;
mod revocations;
mod scrape;
mod screen;
mod secret;
mod server;
mod services;
mod settings;
mod stores;
mod told;
mod upgrade;
mod upstreams;
mod voice;
mod wiring;

fn main() -> std::process::ExitCode {
    cli::main()
}
