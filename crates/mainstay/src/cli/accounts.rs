//! `mainstay accounts [show|roles|revoke|remove-factor|delete|import]`: the app's users.

use crate::control::{Accounts, Command, client};
use crate::exit::{self, Failure};
use crate::place::{Place, PlaceArgs};
use mainstay_identity::accounts::{Import, Imported};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// What fits a few screens.
const SHOWN: u32 = 100;
/// Accounts of one command to the server: each is written or refused as a whole.
const BATCH: usize = 50;
/// Of a line of an import: a hash, an address and a few names.
const LINE_BYTES_MAX: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Those after this id
    #[arg(long, value_name = "ID", default_value = "")]
    after: String,
    /// So many
    #[arg(short = 'n', long, default_value_t = SHOWN)]
    limit: u32,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Everything about one, by id or address
    Show { who: String },
    /// Give it exactly these roles; its access tokens are refused, its logins go on
    Roles {
        who: String,
        /// With commas between; none takes all away
        #[arg(value_delimiter = ',')]
        roles: Vec<String>,
    },
    /// End every login of it, everywhere, at once
    Revoke { who: String },
    /// Take its second factor off, once you have made sure who asks; every login of it ends
    RemoveFactor { who: String },
    /// Remove it with everything of it
    Delete {
        who: String,
        /// It cannot be taken back
        #[arg(long)]
        yes: bool,
    },
    /// Take over accounts of another system, with their bcrypt or argon2 hashes: a line of JSON each
    Import {
        /// A file, or - for stdin: {"id":"42","email":"jo@example.com","password_hash":"$2b$12$…","roles":["user"]}
        file: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
struct Shown {
    id: String,
    email: Option<String>,
    roles: Vec<String>,
    verified_us: Option<i64>,
    seen_us: Option<i64>,
    password: Option<String>,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let place = place.resolve()?;
    let ask = |asked: Accounts| client::ask(&place, &Command::Accounts(asked), client::to_stderr);
    match args.action {
        None => {
            let answer = ask(Accounts::List { after: args.after, limit: args.limit })?;
            if args.json {
                println!("{answer:#}");
                return Ok(exit::ASKED);
            }
            let all: Vec<Shown> =
                serde_json::from_value(answer["accounts"].clone()).map_err(|error| Failure::Internal(error.into()))?;
            all.iter().for_each(|account| println!("{}", line(account)));
            match all.last() {
                None => eprintln!("there is nobody"),
                Some(last) if all.len() >= args.limit as usize => eprintln!("more: --after {}", last.id),
                Some(_) => {}
            }
        }
        Some(Action::Show { who }) => println!("{:#}", ask(Accounts::Show(who))?),
        Some(Action::Roles { who, roles }) => {
            let roles = roles.into_iter().filter(|role| !role.is_empty()).collect();
            let answer = ask(Accounts::Roles(who, roles))?;
            told(args.json, &answer, &format!("{} has the roles {}", text(&answer["id"]), answer["roles"]));
        }
        Some(Action::Revoke { who }) => {
            let answer = ask(Accounts::Revoke(who))?;
            told(args.json, &answer, &format!("{} is logged out everywhere", text(&answer["id"])));
        }
        Some(Action::RemoveFactor { who }) => {
            let answer = ask(Accounts::RemoveFactor(who))?;
            let had = if answer["removed"] == true { "has no second factor any more" } else { "had no second factor" };
            told(args.json, &answer, &format!("{} {had}", text(&answer["id"])));
        }
        Some(Action::Delete { who, yes: false }) => {
            return Err(Failure::Usage(format!("this removes {who} for good; say so with --yes")));
        }
        Some(Action::Delete { who, yes: true }) => {
            let answer = ask(Accounts::Delete(who))?;
            told(args.json, &answer, &format!("{} is gone", text(&answer["id"])));
        }
        Some(Action::Import { file }) => return import(&place, &file, args.json),
    }
    Ok(exit::ASKED)
}

fn told(json: bool, answer: &serde_json::Value, line: &str) {
    match json {
        true => println!("{answer}"),
        false => println!("{line}"),
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn line(account: &Shown) -> String {
    let email = account.email.as_deref().unwrap_or("-");
    let proven = if account.verified_us.is_some() { "proven" } else { "unproven" };
    let seen = account.seen_us.and_then(|us| jiff::Timestamp::from_second(us / 1_000_000).ok());
    let seen = seen.map_or_else(|| "never".to_owned(), |stamp| stamp.to_string());
    let password = account.password.as_deref().unwrap_or("no password");
    format!(
        "{:<24}  {email:<32}  {:<16}  {proven:<8}  {password:<11}  seen {seen}",
        account.id,
        account.roles.join(",")
    )
}

/// Every line is judged; what cannot be taken over is named, and the exit code says that something was.
fn import(place: &Place, file: &PathBuf, json: bool) -> Result<u8, Failure> {
    let reader: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = std::fs::File::open(file);
        let opened = opened.map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))?;
        Box::new(BufReader::new(opened))
    };
    let mut all = Imported::default();
    let mut batch = Vec::with_capacity(BATCH);
    for (number, line) in reader.lines().enumerate() {
        let line = line.map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))?;
        if line.trim().is_empty() {
            continue;
        }
        match parsed(&line) {
            Ok(import) => batch.push(import),
            Err(why) => all.refused.push((format!("line {}", number + 1), why)),
        }
        if batch.len() == BATCH {
            send(place, std::mem::take(&mut batch), &mut all)?;
        }
    }
    send(place, batch, &mut all)?;
    if json {
        println!("{}", serde_json::to_value(&all).map_err(|error| Failure::Internal(error.into()))?);
    } else {
        all.known.iter().for_each(|who| eprintln!("{who}: here already, nothing changed"));
        all.refused.iter().for_each(|(who, why)| eprintln!("{who}: {why}"));
        println!("{} taken over, {} here already, {} refused", all.taken, all.known.len(), all.refused.len());
    }
    Ok(if all.refused.is_empty() { exit::ASKED } else { exit::NO })
}

fn parsed(line: &str) -> Result<Import, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    // The text of a fault would show a part of the line, and there is a hash in it.
    serde_json::from_str(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            "not an account; known are id, email, password_hash, name, roles, tenant, tier, verified".to_owned()
        }
        _ => format!("no JSON, column {}", error.column()),
    })
}

fn send(place: &Place, batch: Vec<Import>, all: &mut Imported) -> Result<(), Failure> {
    if batch.is_empty() {
        return Ok(());
    }
    let answer = client::ask(place, &Command::Accounts(Accounts::Import(batch)), client::to_stderr)?;
    let part: Imported = serde_json::from_value(answer).map_err(|error| Failure::Internal(error.into()))?;
    all.taken += part.taken;
    all.known.extend(part.known);
    all.refused.extend(part.refused);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_another_system_is_read_in_its_own_words_and_never_shown() {
        let import =
            parsed(r#"{"id":"42","email":"a@b","passwordHash":"$2b$12$x","emailVerified":true}"#).expect("one");
        assert_eq!((import.id.as_deref(), import.verified), (Some("42"), true));
        for bad in [r#"{"email":"a@b","passwort":"$2b$12$secret"}"#, "$2b$12$secret", "[]"] {
            let why = parsed(bad).expect_err(bad);
            assert!(!why.contains("secret"), "{why}");
        }
        assert!(parsed(&format!(r#"{{"email":"{}"}}"#, "a".repeat(2000))).is_err());
    }
}
