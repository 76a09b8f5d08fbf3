//! `mainstay why ID`: what happened to a request, and which rule decided. Works while nothing runs.

use crate::control::{Command, Why, client};
use crate::exit::{self, Failure};
use crate::operate::ambiguous;
use crate::place::{Place, PlaceArgs};
use crate::told::LOG_FOLDER;
use mainstay_telemetry::read::Logs;
use mainstay_telemetry::trail::{self, Found};
use serde_json::{Value, json};

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
    let answer = match client::ask(&place, &Command::Why(Why { id: args.id.clone() }), client::to_stderr) {
        Ok(Value::Null) => in_files(&place, &args.id)?,
        Ok(answer) => answer,
        Err(Failure::Unreachable(_)) if place.data.join(LOG_FOLDER).is_dir() => in_files(&place, &args.id)?,
        Err(failure) => return Err(failure),
    };
    if args.json {
        println!("{:#}", answer["trail"]);
    } else {
        println!("{}", answer["text"].as_str().unwrap_or_default().trim_end());
    }
    Ok(exit::ASKED)
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
