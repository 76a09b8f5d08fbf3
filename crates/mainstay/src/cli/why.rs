//! `mainstay why ID`: what happened to a request, which rule decided, and what became of the jobs that it added. Works
//! while nothing runs, but for the jobs.

use super::jobs;
use crate::control::{Command, JobsAsked, Why, client};
use crate::exit::{self, Failure};
use crate::operate::ambiguous;
use crate::place::{Place, PlaceArgs};
use crate::told::LOG_FOLDER;
use mainstay_runtime::Clock;
use mainstay_telemetry::read::Logs;
use mainstay_telemetry::trail::{self, Found};
use serde_json::{Value, json};

/// Jobs on the screen, and in the JSON.
const SHOWN: usize = 50;
const SHOWN_JSON: usize = 500;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The id an answer carried (Mainstay-Request-Id), or a unique end of it
    id: String,
    /// The account as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    let mut answer = match client::ask(&place, &Command::Why(Why { id: args.id.clone() }), client::to_stderr) {
        Ok(Value::Null) => in_files(&place, &args.id)?,
        Ok(answer) => answer,
        Err(Failure::Unreachable(_)) if place.data.join(LOG_FOLDER).is_dir() => in_files(&place, &args.id)?,
        Err(failure) => return Err(failure),
    };
    let limit = if args.json { SHOWN_JSON } else { SHOWN };
    let added = added(&place, answer["trail"]["traceId"].as_str().unwrap_or_default(), limit);
    if args.json {
        let added = added.unwrap_or_default();
        (answer["trail"]["jobs"], answer["trail"]["moreJobs"]) = (added["jobs"].clone(), added["more"].clone());
        println!("{:#}", answer["trail"]);
        return Ok(exit::ASKED);
    }
    println!("{}", answer["text"].as_str().unwrap_or_default().trim_end());
    let lines = match added {
        Ok(Value::Null) | Err(Failure::Unreachable(_)) => Vec::new(),
        Ok(added) => jobs::of_request(&added, Clock::unix_micros() / 1000)?,
        Err(failure) => vec![format!("not known: {failure}")],
    };
    for (number, line) in lines.iter().enumerate() {
        println!("  {:<9}{line}", if number == 0 { "jobs" } else { "" });
    }
    Ok(exit::ASKED)
}

/// What carries its trace; null where no server has jobs.
fn added(place: &Place, trace_id: &str, limit: usize) -> Result<Value, Failure> {
    if trace_id.is_empty() {
        return Ok(Value::Null);
    }
    let asked = JobsAsked::Traced { trace_id: trace_id.to_owned(), limit };
    client::ask(place, &Command::Jobs(asked), client::to_stderr)
}

fn in_files(place: &Place, id: &str) -> Result<Value, Failure> {
    match trail::find_in_files(&Logs::new(&place.data.join(LOG_FOLDER)), id)? {
        Found::One(entry) => Ok(json!({ "text": entry.render(), "trail": entry.to_json() })),
        Found::Several(ids) => Err(Failure::Refused(ambiguous(&ids))),
        Found::None => Err(Failure::Refused(format!(
            "no request is known by {id:?}: at least {} characters of the end of an id, a trace id, or the id the \
             client gave\n  see the latest: mainstay logs",
            trail::SUFFIX_CHARS_MIN
        ))),
    }
}
