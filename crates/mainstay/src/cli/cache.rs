//! `mainstay cache [status]`, `mainstay cache purge`: what is stored, and what is not to be stored any longer.

use crate::control::{Cache, Command, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use mainstay_config::units::show_size;
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
    /// Show what is stored, and what it saved
    Status,
    /// Take answers out, so that they are asked for anew
    Purge {
        /// A path, as /a (any query), /a?page=2, /a/* or api.example.com/a
        #[arg(required_unless_present_any = ["tag", "all"])]
        path: Option<String>,
        /// All that the app marked with this tag (Cache-Tag, Surrogate-Key)
        #[arg(long, conflicts_with = "path")]
        tag: Option<String>,
        /// Everything
        #[arg(long, conflicts_with_all = ["path", "tag"])]
        all: bool,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    size: u64,
    used: u64,
    entries: u64,
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Route {
    route: String,
    hits: u64,
    stale: u64,
    misses: u64,
    revalidated: u64,
    collapsed: u64,
    bypassed: u64,
    evicted: u64,
    entries: u64,
    bytes: u64,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let asked = match args.action {
        None | Some(Action::Status) => Cache::Status,
        Some(Action::Purge { path: Some(path), .. }) => Cache::Path(path),
        Some(Action::Purge { tag: Some(tag), .. }) => Cache::Tag(tag),
        Some(Action::Purge { .. }) => Cache::All,
    };
    let answer = client::ask(&place.resolve()?, &Command::Cache(asked.clone()), client::to_stderr)?;
    match asked {
        _ if args.json => println!("{answer}"),
        Cache::Status => {
            let answer = serde_json::from_value(answer).map_err(|e| Failure::Internal(e.into()))?;
            lines(&answer).iter().for_each(|line| println!("{line}"));
        }
        _ => println!("purged {}", answer["purged"]),
    }
    Ok(exit::ASKED)
}

fn lines(answer: &Answer) -> Vec<String> {
    if answer.size == 0 {
        return vec!["no route is cached   fix: cache = true in a [[route]], then mainstay reload".to_owned()];
    }
    let (used, size) = (show_size(answer.used), show_size(answer.size));
    let mut lines = vec![format!("cache    {used} of {size}   {} entries", answer.entries)];
    lines.extend(answer.routes.iter().map(|r| {
        let answered = r.hits + r.stale + r.collapsed + r.revalidated;
        let percent = (answered * 100).checked_div(answered + r.misses).unwrap_or(0);
        format!(
            "route    {:<24} {percent:>3} % hit   {} hits   {} stale   {} revalidated   {} waited   {} misses   \
             {} passed by   {} entries, {}   {} made room",
            r.route,
            r.hits,
            r.stale,
            r.revalidated,
            r.collapsed,
            r.misses,
            r.bypassed,
            r.entries,
            show_size(r.bytes),
            r.evicted,
        )
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_what_is_stored_and_what_it_saved() {
        let nothing = Answer { size: 0, used: 0, entries: 0, routes: vec![] };
        assert!(lines(&nothing)[0].contains("cache = true"));
        let route = Route {
            route: "/api/*".to_owned(),
            hits: 90,
            stale: 0,
            misses: 10,
            revalidated: 0,
            collapsed: 0,
            bypassed: 3,
            evicted: 0,
            entries: 4,
            bytes: 4096,
        };
        let lines = lines(&Answer { size: 1 << 20, used: 4096, entries: 4, routes: vec![route] });
        assert!(lines[0].contains("4 entries") && lines[1].contains("90 % hit"), "{lines:?}");
    }
}
