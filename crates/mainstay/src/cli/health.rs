//! `mainstay health`: a line a service, exit 0 or 1 (H8).

use crate::control::answer::HealthAnswer;
use crate::control::{Command, Health, client};
use crate::exit::Failure;
use crate::place::PlaceArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Versions, latencies, and what each status means
    #[arg(long, short)]
    verbose: bool,
    /// The detailed health document as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(place: &PlaceArgs, args: &Args) -> Result<u8, Failure> {
    let command = Command::Health(Health { verbose: args.verbose });
    let value = client::ask(&place.resolve()?, &command, client::to_stderr)?;
    let answer: HealthAnswer = serde_json::from_value(value)?;
    if args.json {
        println!("{:#}", answer.document);
    } else {
        answer.lines.iter().for_each(|line| println!("{line}"));
    }
    Ok(answer.exit)
}
