//! `mainstay stop`: drain, stop the apps, end.

use crate::control::{Command, Stop, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use mainstay_supervisor::proc::process;
use std::time::Duration;

/// How often the process is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(place: &PlaceArgs, _args: &Args) -> Result<u8, Failure> {
    let answer = client::ask(&place.resolve()?, &Command::Stop(Stop {}), client::to_stderr)?;
    if let Some(pid) = answer["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()) {
        ended(pid)?;
    }
    eprintln!("stopped");
    Ok(exit::ASKED)
}

/// Waits until the supervisor has ended; it bounds its own drain, so this comes back.
fn ended(pid: i32) -> Result<(), Failure> {
    let (runtime, local) = mainstay_runtime::current_thread()?;
    local.block_on(&runtime, async {
        while process(pid).is_some_and(|process| !process.zombie) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    Ok(())
}
