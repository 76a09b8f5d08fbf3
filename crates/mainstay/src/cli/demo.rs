//! `mainstay demo`: this binary's own sample backend behind the edge, two instances.

use super::run;
use crate::exit::Failure;
use crate::place::PlaceArgs;
use anyhow::Context;
use mainstay_config::Inputs;

/// Decide the environment or name real services: nothing of a project belongs into a demonstration.
const LEFT_OUT: [&str; 8] = [
    "NODE_ENV",
    "ENVIRONMENT",
    "MAINSTAY_ENV",
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_HOST",
    "SMTP_HOST",
    "STRIPE_SECRET_KEY",
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the edge, as :8080
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Instances of the sample backend
    #[arg(long, value_name = "N", default_value = "2")]
    instances: String,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.to_str().context("this program lies at a path that is not UTF-8")?.to_owned();
    let mut flags = vec![("app.main.instances".to_owned(), args.instances)];
    flags.extend(args.listen.map(|listen| ("edge.listen".to_owned(), listen)));
    let inputs = Inputs {
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()))
            .collect(),
        flags,
        command: Some(vec![program, "demo-backend".to_owned()]),
        pid: std::process::id(),
        ..Inputs::default()
    };
    run::start(&place, &inputs)
}
