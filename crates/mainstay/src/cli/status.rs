//! `mainstay status`: apps, instances, listeners.

use crate::control::answer::{StatusAnswer, ago};
use crate::control::{Command, Status, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(place: &PlaceArgs, args: &Args) -> Result<u8, Failure> {
    let answer = client::ask(&place.resolve()?, &Command::Status(Status {}), client::to_stderr)?;
    if args.json {
        println!("{answer:#}");
    } else {
        print!("{}", text(&serde_json::from_value(answer)?));
    }
    Ok(exit::ASKED)
}

fn text(status: &StatusAnswer) -> String {
    let file = status.file.as_ref().map_or("no file".to_owned(), |file| format!("file {file}"));
    let mut text = format!(
        "mainstay {}   {} ({})   up {}   pid {}   data {}   {file}\n",
        status.version,
        status.environment,
        status.environment_why,
        ago(status.uptime_s),
        status.pid,
        status.data
    );
    let crashes = match status.server_crashes {
        0 => String::new(),
        1 => "   the server died once and was replaced   see: mainstay logs --level error".to_owned(),
        n => format!("   the server died {n} times and was replaced   see: mainstay logs --level error"),
    };
    text.push_str(&format!("open     {}   {} connections{crashes}\n", status.listening.join(" "), status.connections));
    if let Some(upgrade) = &status.upgrade {
        text.push_str(&format!("upgrade  {}\n", upgrade.text));
    }
    for app in &status.apps {
        text.push_str(&format!("{app}\n"));
    }
    for upstream in &status.elsewhere {
        let state = match (upstream.draining, upstream.available) {
            (true, _) => "drains",
            (false, true) => "available",
            (false, false) => "away",
        };
        text.push_str(&format!(
            "app      {}   {}   {state}   {} requests   {} failed   {} in flight\n",
            upstream.app, upstream.address, upstream.requests, upstream.failures, upstream.in_flight
        ));
    }
    text.extend(status.dropped.line().map(|line| line + "\n"));
    text
}
