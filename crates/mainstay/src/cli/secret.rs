//! `mainstay secret [NAME]`: a new strong secret on one line.

use crate::exit::{self, Failure};
use crate::secret;
use std::io::IsTerminal;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Variable it is for: prints NAME=value, ready for an env file
    #[arg(value_parser = variable_name)]
    name: Option<String>,
    /// Random bytes behind the base64 text
    #[arg(long, value_name = "N", default_value_t = 32, conflicts_with = "uuid",
          value_parser = clap::value_parser!(u16).range(secret::BYTES_MIN as i64..=secret::BYTES_MAX as i64))]
    bytes: u16,
    /// A random UUID instead
    #[arg(long)]
    uuid: bool,
}

pub fn run(args: &Args) -> Result<u8, Failure> {
    let value = if args.uuid { secret::uuid()? } else { secret::base64(usize::from(args.bytes))? };
    match &args.name {
        Some(name) => println!("{name}={value}"),
        None => println!("{value}"),
    }
    if let (Some(name), true) = (&args.name, std::io::stdout().is_terminal()) {
        eprintln!("to keep it: mainstay secret {name} >> .env   (and replace the line that is there)");
    }
    Ok(exit::ASKED)
}

fn variable_name(text: &str) -> Result<String, String> {
    let is_name = !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name { Ok(text.to_owned()) } else { Err("expected a variable's name, as JWT_SECRET".to_owned()) }
}
