//! `mainstay certificates list|renew|revoke|check|trust`: what is served, until when, and what stands in the way of
//! more.

use crate::control::{CertificatesAction, CertificatesAsked, Command, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use anyhow::Context;
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mainstay_edge::acme::{self, Entry, Finding, Outlook, Reason, Renewed, Revoked};
use serde::Deserialize;
use std::path::Path;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every certificate: names, where it is from, until when it is good, its pins
    List {
        /// The answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Order now what `domains` names, or one host of it
    Renew {
        /// A name of the certificate; all of them if left out
        host: Option<String>,
        /// Order from the authority's staging and throw the result away
        #[arg(long)]
        dry_run: bool,
        /// With another key: the spare one where pins are kept
        #[arg(long, conflicts_with = "dry_run")]
        new_key: bool,
        /// The answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the authority revoke the certificate of a host, and order the next with another key
    Revoke {
        /// A name of the certificate
        host: String,
        /// What the authority is to say of it
        #[arg(long, value_parser = reasons(), default_value = Reason::Unspecified.word())]
        reason: Reason,
        /// The answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for what would keep an authority from finding this machine; orders nothing
    Check {
        /// One host; all of them if left out
        host: Option<String>,
        /// The answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show where the local authority's root lies and how this system is told to believe it
    Trust,
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let asked = |action, host: Option<String>| CertificatesAsked { action, host, ..Default::default() };
    match args.action {
        Action::List { json } => {
            let answer = ask(place, asked(CertificatesAction::List, None))?;
            let list: Listed = shown(&answer, json)?;
            print_unless(json, || text(&list.certificates));
            Ok(exit::ASKED)
        }
        Action::Renew { host, dry_run, new_key, json } => {
            let asked = CertificatesAsked { dry_run, new_key, ..asked(CertificatesAction::Renew, host) };
            let answer = ask(place, asked)?;
            let done: Done = shown(&answer, json)?;
            print_unless(json, || done.renewed.iter().map(renewed).collect());
            Ok(if done.renewed.iter().any(|one| one.error.is_some()) { exit::NO } else { exit::ASKED })
        }
        Action::Revoke { host, reason, json } => {
            let asked = CertificatesAsked { reason, ..asked(CertificatesAction::Revoke, Some(host)) };
            let answer = ask(place, asked)?;
            let done: TakenBack = shown(&answer, json)?;
            print_unless(json, || revoked(&done.revoked));
            Ok(if done.revoked.renewed.error.is_some() { exit::NO } else { exit::ASKED })
        }
        Action::Check { host, json } => {
            let answer = ask(place, asked(CertificatesAction::Check, host))?;
            let found: Found = shown(&answer, json)?;
            print_unless(json, || findings(&found.findings));
            Ok(if found.findings.iter().all(|one| one.is_good) { exit::ASKED } else { exit::NO })
        }
        Action::Trust => trust(&place.resolve()?.data),
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    certificates: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Done {
    renewed: Vec<Renewed>,
}

#[derive(Debug, Deserialize)]
struct TakenBack {
    revoked: Revoked,
}

#[derive(Debug, Deserialize)]
struct Found {
    findings: Vec<Finding>,
}

fn ask(place: &PlaceArgs, asked: CertificatesAsked) -> Result<serde_json::Value, Failure> {
    client::ask(&place.resolve()?, &Command::Certificates(asked), client::to_stderr)
}

fn shown<T: serde::de::DeserializeOwned>(answer: &serde_json::Value, json: bool) -> Result<T, Failure> {
    if json {
        println!("{answer:#}");
    }
    Ok(serde_json::from_value(answer.clone())?)
}

fn print_unless(json: bool, text: impl FnOnce() -> String) {
    if !json {
        print!("{}", text());
    }
}

/// Works without a server too: the root lies in the data folder.
fn trust(data: &Path) -> Result<u8, Failure> {
    let root = data.join(acme::FOLDER).join(acme::ROOT_FILE);
    if !root.exists() {
        return Err(Failure::Refused(format!(
            "there is no local authority yet ({})\n  fix: [edge] domains = [\"app.localhost\"] or [edge.tls] local = \
             true, then start",
            root.display()
        )));
    }
    let root = std::fs::canonicalize(&root).context("the root's path")?;
    println!("root     {}", root.display());
    println!("type     {}", acme::trust_command(&root, |path| Path::new(path).exists()));
    println!("note     it can vouch for local names alone; browsers with a store of their own import the file");
    Ok(exit::ASKED)
}

fn text(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no certificates   fix: [edge] domains = [\"api.example.com\"]\n".to_owned();
    }
    entries.iter().map(entry).collect()
}

fn entry(entry: &Entry) -> String {
    let state = match entry.outlook {
        Outlook::Good => "good",
        Outlook::ExpiresSoon => "EXPIRES SOON",
        Outlook::Expired => "EXPIRED",
        Outlook::Revoked => "REVOKED, the next one is due",
        Outlook::Missing => "a stand-in is served",
    };
    let mut text = format!("{}   {}   {state}", entry.names.join(" "), entry.source);
    if let (Some(until), Some(days)) = (&entry.valid_until, entry.days_left) {
        text.push_str(&format!("   until {until} ({days} days)"));
    }
    if let Some(renews) = &entry.renews {
        text.push_str(&format!("   renews {renews}"));
    }
    text.push_str(&format!("\n    at {}", entry.at));
    if let Some(issuer) = &entry.issuer {
        text.push_str(&format!("   issuer {issuer}"));
    }
    match (&entry.responder, entry.is_stapled) {
        (Some(_), true) => text.push_str("   stapled"),
        (Some(_), false) => text.push_str("   not stapled (mainstay certificates check)"),
        (None, _) => {}
    }
    text.push('\n');
    for (number, pin) in entry.pins.iter().enumerate() {
        text.push_str(&format!("    {} sha256/{pin}\n", if number == 0 { "pin  " } else { "spare" }));
    }
    if let Some(error) = &entry.last_error {
        let next = entry.next_attempt.as_ref().map_or(String::new(), |next| format!("   next attempt {next}"));
        text.push_str(&format!("    failed {} times: {error}{next}\n", entry.failures));
    }
    text
}

fn renewed(one: &Renewed) -> String {
    let until = one.valid_until.as_deref().unwrap_or("");
    match (&one.error, &one.from, one.dry_run) {
        (Some(error), ..) => format!("{}   failed: {error}\n    fix: mainstay certificates check {0}\n", one.name),
        (None, from, true) => {
            format!("{}   dry run: {} would give a certificate\n", one.name, from.as_deref().unwrap_or(""))
        }
        (None, from, false) => {
            format!("{}   in force, from {}, until {until}\n", one.name, from.as_deref().unwrap_or(""))
        }
    }
}

fn revoked(one: &Revoked) -> String {
    let (names, reason) = (one.names.join(" "), one.reason.word());
    let told = format!("{names}   revoked by {}, {reason}   serial {}\n", one.from, one.serial);
    let rest = match one.renewed.error {
        Some(_) => "    the revoked one is served until there is another, which is tried again by itself\n",
        None => "",
    };
    format!("{told}{}{rest}", renewed(&one.renewed))
}

fn reasons() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(Reason::word)).map(|word| Reason::of(&word).unwrap_or_default())
}

fn findings(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing to look at: no certificate is served or wanted\n".to_owned();
    }
    let line = |one: &Finding| {
        let fix = one.fix.as_ref().map_or(String::new(), |fix| format!("\n    fix: {fix}"));
        let word = if one.is_good { "ok  " } else { "bad " };
        format!("{word} {}   {}   {}{fix}\n", one.name, one.what, one.found)
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_missing_says_why_and_when_it_is_tried_again() {
        let mut one = Entry::new(vec!["a.example".to_owned()], "none yet", "mainstay.toml:3", None, 0);
        one.failures = 2;
        one.last_error = Some("letsencrypt: a.example: http-01 failed: refused".to_owned());
        one.next_attempt = Some("2027-01-15T08:00:00Z".to_owned());
        one.pins = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(
            entry(&one),
            "a.example   none yet   a stand-in is served\n    at mainstay.toml:3\n    pin   sha256/one\n    \
             spare sha256/two\n    failed 2 times: letsencrypt: a.example: http-01 failed: refused   next attempt \
             2027-01-15T08:00:00Z\n"
        );
    }
}
