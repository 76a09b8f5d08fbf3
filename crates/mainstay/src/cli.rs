//! The verbs. One file each; stdout carries data alone, what is said to a person goes to stderr.

mod accounts;
mod bans;
mod cache;
mod certificates;
mod check;
mod config;
mod console;
mod db;
mod demo;
mod health;
mod init;
mod jobs;
mod journal;
mod limits;
mod log_line;
mod logs;
mod reload;
mod restart;
mod run;
mod secret;
mod server;
mod status;
mod stop;
mod token;
mod upgrade;
mod upstreams;
mod why;

use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Your production checklist, as one binary: put `mainstay run --` before the command that starts your backend.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_help = "First: mainstay run -- npm start   or, to look around: mainstay demo")]
struct Cli {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start the apps and the edge in front of them, and stay
    Run(run::Args),
    /// Run a small sample backend behind the edge, to look around
    Demo(demo::Args),
    /// Write mainstay.toml from what this folder's files say, or a systemd unit
    Init(init::Args),
    /// Read the configuration as `run` would, report every fault, start nothing
    Check(check::Args),
    /// Show every setting, its value and where it came from
    Config(config::Args),
    /// Print a new strong secret
    Secret(secret::Args),
    /// Show apps, instances and listeners
    Status(status::Args),
    /// Check health: a line a service, exit 0 or 1
    Health(health::Args),
    /// Read the logs, also while nothing runs
    Logs(logs::Args),
    /// Show what happened: starts, reloads, bans, health, upgrades
    Journal(journal::Args),
    /// Explain what happened to a request, by its id
    Why(why::Args),
    /// Restart instances one after another, losing nothing
    Restart(restart::Args),
    /// Put a changed configuration in force, or say why not
    Reload(reload::Args),
    /// Show backends that run elsewhere; `add`, `weight`, `drain`, `serve`, `remove`
    Upstreams(upstreams::Args),
    /// Show the app's users; `show`, `roles`, `revoke`, `delete`, `import`
    Accounts(accounts::Args),
    /// Show what lets machines see the inside; `create` and `revoke`
    Token(token::Args),
    /// Print a link to the pages of operators, good once
    Console(console::Args),
    /// Show who is sent away; `add` and `lift`
    Bans(bans::Args),
    /// Show rate limits and who causes refusals, or forget what is counted of a client
    Limits(limits::Args),
    /// Show queues of jobs; `list`, `show`, `add`, `retry`, `remove`, `pause`, `redrive`, `schedule` and more
    Jobs(jobs::Args),
    /// Prepare a Postgres for jobs: `install`
    Db(db::Args),
    /// Show the response cache, or take something out of it
    Cache(cache::Args),
    /// List, renew and check certificates; trust the local authority
    Certificates(certificates::Args),
    /// Replace mainstay itself by the file on disk, losing nothing
    Upgrade(upgrade::Args),
    /// Drain, stop the apps and end
    Stop(stop::Args),
    /// The server process; started by `run` alone
    #[command(hide = true)]
    Server,
    /// The sample backend of `demo`
    #[command(hide = true)]
    DemoBackend,
}

pub fn main() -> ExitCode {
    // This very process was the supervisor of an older file a moment ago: what was typed then is under way.
    if let Some(code) = mainstay_supervisor::resume() {
        let code = code.map(|code| u8::try_from(code).unwrap_or(70));
        return exit::code(code.map_err(|error| Failure::Internal(error.into())));
    }
    let cli = Cli::parse();
    exit::code(verb(cli))
}

fn verb(cli: Cli) -> Result<u8, Failure> {
    let place = &cli.place;
    // What stays knows secrets. Not the demo's backend: an app must show where it listens.
    if matches!(cli.verb, Verb::Run(_) | Verb::Demo(_) | Verb::Server) {
        mainstay_supervisor::hide_memory().map_err(|error| Failure::Internal(error.into()))?;
    }
    match cli.verb {
        Verb::Run(args) => run::run(place, args),
        Verb::Demo(args) => demo::run(place, args),
        Verb::Init(args) => init::run(place, args),
        Verb::Check(args) => check::run(place, args),
        Verb::Config(args) => config::run(place, args),
        Verb::Secret(args) => secret::run(&args),
        Verb::Status(args) => status::run(place, &args),
        Verb::Health(args) => health::run(place, &args),
        Verb::Logs(args) => logs::run(place, &args),
        Verb::Journal(args) => journal::run(place, &args),
        Verb::Why(args) => why::run(place, args),
        Verb::Restart(args) => restart::run(place, args),
        Verb::Reload(args) => reload::run(place, &args),
        Verb::Upstreams(args) => upstreams::run(place, args),
        Verb::Accounts(args) => accounts::run(place, args),
        Verb::Token(args) => token::run(place, args),
        Verb::Console(args) => console::run(place, &args),
        Verb::Bans(args) => bans::run(place, args),
        Verb::Limits(args) => limits::run(place, args),
        Verb::Jobs(args) => jobs::run(place, args),
        Verb::Db(args) => db::run(place, args),
        Verb::Cache(args) => cache::run(place, args),
        Verb::Certificates(args) => certificates::run(place, args),
        Verb::Upgrade(args) => upgrade::run(place, args),
        Verb::Stop(args) => stop::run(place, &args),
        Verb::Server => server::run(),
        Verb::DemoBackend => Ok(u8::try_from(crate::demo::backend()?).unwrap_or(70)),
    }
}
