//! `mainstay journal`: what happened, a line an event.

use crate::control::{Command, JournalAsked, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use mainstay_config::units;
use mainstay_runtime::Clock;
use serde::Deserialize;
use std::time::Duration;

/// What fits a few screens.
const SHOWN: u32 = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events of the last 24h, 30m, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Duration>,
    /// Of this kind, as config, ban, health; may be given again
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// What operators did, and nothing else
    #[arg(long)]
    audit: bool,
    /// The last N (100)
    #[arg(short = 'n', long = "tail", value_name = "N", default_value_t = SHOWN)]
    tail: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|why| format!("{why}; expected a duration as 24h"))
}

#[derive(Debug, Deserialize)]
struct Answer {
    entries: Vec<Entry>,
    lost: u64,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at_us: u64,
    last_us: u64,
    count: u64,
    kind: String,
    actor: Option<String>,
    event: serde_json::Value,
    /// None for what a newer mainstay wrote.
    text: Option<String>,
}

pub fn run(place: &PlaceArgs, args: &Args) -> Result<u8, Failure> {
    let ago = args.since.map(|ago| u64::try_from(ago.as_micros()).unwrap_or(u64::MAX));
    let asked = JournalAsked {
        since_us: ago.map_or(0, |ago| Clock::unix_micros().saturating_sub(ago)),
        kinds: args.kind.clone(),
        class: args.audit.then(|| "audit".to_owned()),
        limit: args.tail,
    };
    let answer = client::ask(&place.resolve()?, &Command::Journal(asked), client::to_stderr)?;
    if args.json {
        println!("{answer:#}");
        return Ok(exit::ASKED);
    }
    let answer: Answer = serde_json::from_value(answer).map_err(|error| Failure::Internal(error.into()))?;
    answer.entries.iter().for_each(|entry| println!("{}", line(entry)));
    if answer.entries.is_empty() {
        eprintln!("nothing happened");
    }
    if answer.lost > 0 {
        eprintln!("{} events could not be written   see: mainstay logs --level error", answer.lost);
    }
    Ok(exit::ASKED)
}

fn line(entry: &Entry) -> String {
    let text = entry.text.clone().unwrap_or_else(|| entry.event.to_string());
    let times = match entry.count {
        0 | 1 => String::new(),
        count => format!("   ({count} times, the last at {})", time(entry.last_us)),
    };
    let actor = entry.actor.as_ref().map(|actor| format!("   by {actor}")).unwrap_or_default();
    format!("{}  {:<14} {text}{times}{actor}", time(entry.at_us), entry.kind)
}

/// Whole seconds, UTC.
fn time(micros: u64) -> String {
    let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "-".to_owned(), |stamp| stamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_how_often_and_who() {
        let entry = Entry {
            at_us: 1_700_000_000_000_000,
            last_us: 1_700_000_060_000_000,
            count: 3,
            kind: "health".to_owned(),
            actor: Some("operator".to_owned()),
            event: serde_json::json!({}),
            text: Some("redis is ok".to_owned()),
        };
        let expected = "2023-11-14T22:13:20Z  health         redis is ok   \
                        (3 times, the last at 2023-11-14T22:14:20Z)   by operator";
        assert_eq!(line(&entry), expected);
        assert!(since("24h").is_ok() && since("yesterday").is_err());
    }
}
