//! `mainstay upstreams [add|weight|drain|serve|remove]`: backends that run elsewhere, changed in the file and put in
//! force as one transaction.

use crate::control::answer::StatusAnswer;
use crate::control::{Command, Reload, Status, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use crate::upstreams::{Change, change};
use anyhow::Context;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Send requests to one more address
    Add {
        address: String,
        #[arg(long, default_value_t = 1)]
        weight: u32,
        /// Which app; the only one with upstreams if left out
        #[arg(long)]
        app: Option<String>,
    },
    /// Change an address's share of the requests
    Weight {
        address: String,
        weight: u32,
        #[arg(long)]
        app: Option<String>,
    },
    /// Let an address finish what it has and get nothing new
    Drain {
        address: String,
        #[arg(long)]
        app: Option<String>,
    },
    /// Let a drained address serve again
    Serve {
        address: String,
        #[arg(long)]
        app: Option<String>,
    },
    /// Forget an address; what it has is finished
    Remove {
        address: String,
        #[arg(long)]
        app: Option<String>,
    },
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let (address, app, what) = match args.action {
        None => return list(place, args.json),
        Some(Action::Add { address, weight, app }) => (address, app, Change::Add(weight)),
        Some(Action::Weight { address, weight, app }) => (address, app, Change::Weight(weight)),
        Some(Action::Drain { address, app }) => (address, app, Change::Drain(true)),
        Some(Action::Serve { address, app }) => (address, app, Change::Drain(false)),
        Some(Action::Remove { address, app }) => (address, app, Change::Remove),
    };
    let place_now = place.resolve()?;
    let running = status(place)?;
    let file = running.file.map(PathBuf::from).ok_or_else(|| {
        Failure::Refused(
            "it runs without a file, so there are no upstreams to change   write one: mainstay init".into(),
        )
    })?;
    let before = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let (after, app) = change(&before, app.as_deref(), &address, &what).map_err(Failure::Refused)?;
    write(&file, &after)?;
    if let Err(failure) = client::ask(&place_now, &Command::Reload(Reload {}), client::to_stderr) {
        // Nothing was put in force: the file says so again.
        write(&file, &before)?;
        return Err(failure);
    }
    println!("{address} of {app}: {}   written to {}", said(&what), file.display());
    Ok(exit::ASKED)
}

fn said(what: &Change) -> String {
    match what {
        Change::Add(weight) => format!("added, weight {weight}"),
        Change::Weight(weight) => format!("weight {weight}"),
        Change::Drain(true) => "drains".to_owned(),
        Change::Drain(false) => "serves".to_owned(),
        Change::Remove => "removed".to_owned(),
    }
}

fn status(place: &PlaceArgs) -> Result<StatusAnswer, Failure> {
    let answer = client::ask(&place.resolve()?, &Command::Status(Status {}), client::to_stderr)?;
    serde_json::from_value(answer).map_err(|e| Failure::Internal(e.into()))
}

fn list(place: &PlaceArgs, json: bool) -> Result<u8, Failure> {
    let upstreams = status(place)?.elsewhere;
    if json {
        println!("{}", serde_json::json!(upstreams));
        return Ok(exit::ASKED);
    }
    if upstreams.is_empty() {
        println!("no app is served from elsewhere");
    }
    for u in upstreams {
        let state = match (u.draining, u.available) {
            (true, _) => "drains",
            (false, true) => "serves",
            (false, false) => "away",
        };
        println!(
            "{:<12} {:<24} {state:<7} weight {}   {} in flight   {} sockets   {} requests   {} failed",
            u.app, u.address, u.weight, u.in_flight, u.tunnels, u.requests, u.failures
        );
    }
    Ok(exit::ASKED)
}

/// Whole or not at all, with the rights it had.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("toml.new");
    std::fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::set_permissions(&new, std::fs::metadata(file)?.permissions())?;
    std::fs::rename(&new, file).with_context(|| format!("cannot replace {}", file.display()))
}
