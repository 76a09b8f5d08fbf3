//! `mainstay upgrade [--binary PATH]`: the file on disk takes over from the one that runs.
//!
//! The old server answers until it has finished what it began; then the new one is asked whether the supervisor too has
//! been replaced.

use crate::control::{Command, Status, Upgrade, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use anyhow::Context;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The supervisor replaces itself within milliseconds of the old server's end.
const REPLACED_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new mainstay (default: the path the running one was started from)
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    let binary = args.binary.map(std::path::absolute).transpose().context("--binary is no path")?;
    let answer = client::ask(&place, &Command::Upgrade(Upgrade { binary }), client::to_stderr)?;
    let version = answer["version"].as_str().unwrap_or_default().to_owned();
    let (runtime, local) = mainstay_runtime::current_thread()?;
    let began = Instant::now();
    loop {
        let status = client::ask(&place, &Command::Status(Status {}), |_| {})?;
        match left(&status) {
            _ if status["server_pid"] != answer["server"] => {
                let why = format!("the new server (pid {}) ended after it had taken over", answer["server"]);
                return Err(Failure::Refused(format!("{why}; another one serves   see: mainstay logs --level error")));
            }
            None => {
                eprintln!("upgraded to mainstay {version}   pid {} as before", status["pid"]);
                return Ok(exit::ASKED);
            }
            Some((true, _)) if began.elapsed() < REPLACED_LIMIT => {
                local.block_on(&runtime, async { tokio::time::sleep(LOOK_EVERY).await });
            }
            Some((_, text)) => return Err(Failure::Refused(text)),
        }
    }
}

/// What of the upgrade is not done, and whether it is under way.
fn left(status: &Value) -> Option<(bool, String)> {
    let upgrade = status["upgrade"].as_object()?;
    let text = upgrade.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some((upgrade.get("under_way").and_then(Value::as_bool).unwrap_or(false), text))
}
