//! `mainstay limits [reset]`: what each limit admitted and refused, and who causes it.

use crate::control::{Command, Limits, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
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
    /// Forget what is counted of a client
    Reset {
        /// An address (of IPv6 its /64), a user, a tenant, or a client as the list shows it
        client: String,
    },
}

#[derive(Debug, Deserialize)]
struct Answer {
    limits: Vec<Limit>,
    routes: Vec<Refusals>,
    tenants: Vec<Refusals>,
    forgotten: u64,
    shared: Option<Store>,
}

/// The Redis limits are counted in, as the cores see it.
#[derive(Debug, Deserialize)]
struct Store {
    cores: u64,
    up: u64,
    open: u64,
    trouble: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Limit {
    name: String,
    quota: String,
    at: String,
    admitted: u64,
    refused: u64,
    undecided: u64,
    clients: u64,
    top: Vec<Used>,
    lately: Lately,
}

#[derive(Debug, Deserialize)]
struct Used {
    client: String,
    used: u64,
    of: u64,
}

#[derive(Debug, Deserialize)]
struct Lately {
    refused: u64,
    clients: u64,
    few: bool,
    top: Vec<Cause>,
}

#[derive(Debug, Deserialize)]
struct Cause {
    client: String,
    refused: u64,
}

#[derive(Debug, Deserialize)]
struct Refusals {
    name: String,
    refused: u64,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let asked = match args.action {
        None => Limits::List,
        Some(Action::Reset { client }) => Limits::Reset(client),
    };
    let answer = client::ask(&place.resolve()?, &Command::Limits(asked.clone()), client::to_stderr)?;
    match asked {
        _ if args.json => println!("{answer}"),
        Limits::List => {
            let answer = serde_json::from_value(answer).map_err(|e| Failure::Internal(e.into()))?;
            lines(&answer).iter().for_each(|line| println!("{line}"));
        }
        Limits::Reset(client) => {
            println!("reset {client}: {} counts forgotten{}", answer["counts"], reach(answer["reach"].as_str()));
        }
    }
    Ok(exit::ASKED)
}

/// Who forgot them.
fn reach(word: Option<&str>) -> &'static str {
    match word {
        Some("here") => " by this Mainstay, which counts for itself",
        Some("number") => " by this Mainstay alone: in Redis it goes on until it is reset by the header's own value",
        Some("redis") => " in Redis and here; another Mainstay that admitted them goes on until its window is over",
        Some("everywhere") => " in Redis and by every Mainstay that counts there",
        _ => "",
    }
}

fn lines(answer: &Answer) -> Vec<String> {
    if answer.limits.is_empty() {
        return vec!["no limits   fix: [limits] ip = \"100/min\" in mainstay.toml, then mainstay reload".to_owned()];
    }
    let mut lines = Vec::new();
    for limit in &answer.limits {
        let Limit { name, quota, at, admitted, refused, clients, .. } = limit;
        lines.push(format!("{name:<32} {quota}   {admitted} admitted   {refused} refused   {clients} clients   {at}"));
        if !limit.top.is_empty() {
            let top = limit.top.iter().map(|used| format!("{} {}/{}", used.client, used.used, used.of));
            lines.push(format!("  most used   {}", top.collect::<Vec<_>>().join("   ")));
        }
        if limit.lately.refused > 0 {
            lines.push(format!("  refused     {}", causes(&limit.lately)));
        }
        if limit.undecided > 0 {
            lines.push(format!("  undecided   {} not admitted because Redis was away", limit.undecided));
        }
    }
    lines.extend(answer.shared.as_ref().map(store));
    for (of, counts) in [("route", &answer.routes), ("tenant", &answer.tenants)] {
        for Refusals { name, refused } in counts.iter().filter(|c| c.refused > 0) {
            lines.push(format!("refused by {of:<6} {refused:>8}   {name}"));
        }
    }
    if answer.forgotten > 0 {
        lines.push(format!("{} clients were forgotten, because there were too many", answer.forgotten));
    }
    lines
}

fn store(store: &Store) -> String {
    let Store { cores, up, open, trouble } = store;
    if up == cores {
        return "counted in Redis, with whoever shares it".to_owned();
    }
    let why = match trouble {
        Some(trouble) if *open == 0 => format!(": {trouble}"),
        _ => String::new(),
    };
    format!("Redis is away for {} of {cores} cores{why}   counted here, or refused, as on_outage says", cores - up)
}

/// Few or many, in a sentence.
fn causes(lately: &Lately) -> String {
    let Lately { refused, clients, few, top } = lately;
    let word = match (few, clients) {
        (_, 1) => "one client".to_owned(),
        (true, _) => format!("a few of {clients} clients"),
        (false, _) => format!("many clients, about {clients}"),
    };
    let shown = if *few { 3 } else { 1 };
    let names: Vec<String> = top.iter().take(shown).map(|c| format!("{} {}", c.client, c.refused)).collect();
    format!("{refused} in the last minutes, by {word}: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_what_is_left_and_who_causes_the_refusals() {
        let lately = |clients, few| Lately {
            refused: 40,
            clients,
            few,
            top: vec![Cause { client: "192.0.2.7".to_owned(), refused: 30 }],
        };
        let mut answer = Answer {
            limits: vec![Limit {
                name: "limits.ip".to_owned(),
                quota: "100/1m per ip".to_owned(),
                at: "mainstay.toml:5".to_owned(),
                admitted: 900,
                refused: 40,
                undecided: 0,
                clients: 12,
                top: vec![Used { client: "192.0.2.7".to_owned(), used: 100, of: 100 }],
                lately: lately(12, true),
            }],
            routes: vec![Refusals { name: "/login".to_owned(), refused: 40 }],
            tenants: Vec::new(),
            forgotten: 0,
            shared: None,
        };
        let shown = lines(&answer);
        assert!(
            shown[0].contains("100/1m per ip   900 admitted   40 refused") && shown[0].ends_with("mainstay.toml:5")
        );
        assert!(shown[1].contains("192.0.2.7 100/100"), "{shown:?}");
        assert!(shown[2].contains("by a few of 12 clients: 192.0.2.7 30"), "{shown:?}");
        assert!(shown[3].contains("/login"), "{shown:?}");
        answer.limits[0].lately = lately(5000, false);
        assert!(lines(&answer)[2].contains("many clients, about 5000"));
        answer.shared = Some(Store { cores: 2, up: 1, open: 0, trouble: Some("refused".to_owned()) });
        assert!(lines(&answer).iter().any(|line| line.contains("away for 1 of 2 cores: refused")));
        answer.limits.clear();
        assert!(lines(&answer)[0].contains("fix:"));
    }
}
