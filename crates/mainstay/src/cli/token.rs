//! `mainstay token [create|revoke]`: what lets a scraper or a probe see the inside from elsewhere.

use crate::control::{Command, TokenAsked, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use mainstay_identity::operators::Scope;
use mainstay_telemetry::time;
use serde::Deserialize;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make one and print it, once
    Create {
        /// Who holds it, as prometheus
        name: String,
        /// What it may see: health, metrics; with commas between
        #[arg(long, value_delimiter = ',', required = true, value_parser = scope)]
        scope: Vec<Scope>,
        /// How long it is good for, as 90d; until it is revoked if left out
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
    },
    /// Refuse it from now on
    Revoke { name: String },
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| format!("there are {}", Scope::ALL.map(Scope::as_str).join(" and ")))
}

fn seconds(text: &str) -> Result<u64, String> {
    let time = mainstay_config::units::duration(text);
    time.map(|time| time.as_secs()).map_err(|why| format!("--for {text}: {why}; expected a time as 90d"))
}

#[derive(Debug, Deserialize)]
struct Shown {
    name: String,
    scopes: Vec<Scope>,
    expires_us: Option<u64>,
    expired: bool,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    let ask = |asked: TokenAsked| client::ask(&place, &Command::Token(asked), client::to_stderr);
    match args.action {
        None => {
            let answer = ask(TokenAsked::List)?;
            if args.json {
                println!("{answer:#}");
                return Ok(exit::ASKED);
            }
            let all: Vec<Shown> =
                serde_json::from_value(answer["tokens"].clone()).map_err(|error| Failure::Internal(error.into()))?;
            all.iter().for_each(|token| println!("{}", line(token)));
            if all.is_empty() {
                eprintln!("there is none   make one: mainstay token create prometheus --scope metrics");
            }
        }
        Some(Action::Create { name, scope, time }) => {
            let seconds = time.as_deref().map(seconds).transpose().map_err(Failure::Usage)?;
            let answer = ask(TokenAsked::Create { name, scopes: scope, seconds })?;
            if args.json {
                println!("{answer}");
            } else {
                // Alone on stdout, for a pipe.
                println!("{}", answer["token"].as_str().unwrap_or_default());
                eprintln!("it is not shown again; send it as Authorization: Bearer");
            }
        }
        Some(Action::Revoke { name }) => {
            let answer = ask(TokenAsked::Revoke(name))?;
            match args.json {
                true => println!("{answer}"),
                false => println!("{} is refused from now on", answer["name"].as_str().unwrap_or_default()),
            }
        }
    }
    Ok(exit::ASKED)
}

fn line(token: &Shown) -> String {
    let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
    let end = match token.expires_us {
        None => "until it is revoked".to_owned(),
        Some(end) if token.expired => format!("expired {}", time::iso(end)),
        Some(end) => format!("until {}", time::iso(end)),
    };
    format!("{}   {}   {end}", token.name, scopes.join(","))
}
