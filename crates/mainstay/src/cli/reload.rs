//! `mainstay reload`: put a changed configuration in force as one transaction.

use crate::control::{Command, Reload, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(place: &PlaceArgs, _args: &Args) -> Result<u8, Failure> {
    client::ask(&place.resolve()?, &Command::Reload(Reload {}), client::to_stderr)?;
    Ok(exit::ASKED)
}
