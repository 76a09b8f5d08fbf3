//! `mainstay bans [add|lift]`: who is sent away, for how long, and why.

use crate::control::answer::ago;
use crate::control::{Bans, Command, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use mainstay_limits::bans::{Banned, Reason};
use serde::Deserialize;

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
    /// Send an address away; of IPv6 its /64
    Add {
        address: String,
        /// For how long, as 30m, 12h, 7d
        #[arg(long = "for", default_value = "1h")]
        time: String,
    },
    /// Let an address in again
    Lift {
        /// The address as the list shows it
        #[arg(required_unless_present = "all")]
        address: Option<String>,
        /// Everybody
        #[arg(long, conflicts_with = "address")]
        all: bool,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    bans: Vec<Banned>,
    refused: u64,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let asked = match args.action {
        None => Bans::List,
        Some(Action::Add { address, time }) => {
            let seconds = mainstay_config::units::duration(&time).map_err(Failure::Usage)?.as_secs();
            Bans::Add(address, seconds)
        }
        Some(Action::Lift { address, .. }) => Bans::Lift(address),
    };
    let answer = client::ask(&place.resolve()?, &Command::Bans(asked.clone()), client::to_stderr)?;
    match asked {
        _ if args.json => println!("{answer}"),
        Bans::List => {
            let answer = serde_json::from_value(answer).map_err(|e| Failure::Internal(e.into()))?;
            lines(&answer).iter().for_each(|line| println!("{line}"));
        }
        Bans::Add(address, seconds) => println!("{address} is sent away for {}", ago(seconds)),
        Bans::Lift(_) => println!("lifted {}", answer["lifted"]),
    }
    Ok(exit::ASKED)
}

fn lines(answer: &Answer) -> Vec<String> {
    let mut lines: Vec<String> = answer
        .bans
        .iter()
        .map(|banned| {
            let reason = match &banned.reason {
                Reason::Operator => "by an operator".to_owned(),
                Reason::Offence(status, path) => format!("last: {status} {path}"),
            };
            format!("{:<24} {:>8} left   ban {}   {reason}", banned.client, ago(banned.left_s), banned.times)
        })
        .collect();
    if lines.is_empty() {
        lines.push("nobody is banned".to_owned());
    }
    if answer.refused > 0 {
        lines.push(format!("{} connections and requests were refused", answer.refused));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_who_for_how_long_and_why() {
        let banned = |client: &str, reason| Banned { client: client.to_owned(), left_s: 600, times: 2, reason };
        let answer = Answer {
            bans: vec![
                banned("192.0.2.7", Reason::Offence(404, "/.env".to_owned())),
                banned("2001:db8::/64", Reason::Operator),
            ],
            refused: 3,
        };
        let lines = lines(&answer);
        assert!(lines[0].starts_with("192.0.2.7") && lines[0].ends_with("10m 0s left   ban 2   last: 404 /.env"));
        assert!(lines[1].contains("by an operator") && lines[2].starts_with("3 connections"));
    }
}
