//! `certificates check`: what an authority would find, as far as this machine can look at itself from outside.
//!
//! Orders nothing and changes nothing.

use super::challenge::PREFIX;
use super::client::Http;
use super::keeper::{Held, Keeper};
use super::leaf::Leaf;
use super::options::{ChallengeChoice, Options};
use super::report::Finding;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest wait for one look.
const LOOK_MAX: Duration = Duration::from_secs(5);

pub async fn run(keeper: &Keeper, host: Option<&str>) -> Vec<Finding> {
    let options = keeper.options.borrow().clone();
    let asked = |names: &[String]| host.is_none_or(|host| names.iter().any(|name| name.eq_ignore_ascii_case(host)));
    let held: Vec<Held> = keeper.held.borrow().iter().filter(|held| asked(&held.wanted.names)).cloned().collect();
    let mut findings = Vec::new();
    let http = match Http::new(options.root.as_deref()) {
        Ok(http) => http,
        Err(failure) => return vec![finding("", "authority", false, failure.what, None)],
    };
    if held.iter().any(|held| !held.wanted.local) {
        findings.extend(authorities(&http, &options).await);
    }
    for held in held.iter().filter(|held| !held.wanted.local) {
        for name in &held.wanted.names {
            findings.extend(names(keeper, &http, &options, name).await);
        }
    }
    findings.extend(stapling(keeper, &asked));
    findings
}

fn finding(name: &str, what: &str, is_good: bool, found: impl Into<String>, fix: Option<&str>) -> Finding {
    Finding { name: name.to_owned(), what: what.to_owned(), is_good, found: found.into(), fix: fix.map(str::to_owned) }
}

async fn authorities(http: &Http, options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    for directory in &options.directories {
        let request = Request::get(&directory.url).body(Full::new(Bytes::new()));
        let answer = match request {
            Ok(request) => http.send(request).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (is_good, found) = match answer {
            Ok(answer) if answer.status().is_success() => (true, "answers".to_owned()),
            Ok(answer) => (false, format!("answers {}", answer.status())),
            Err(why) => (false, why),
        };
        let fix = (!is_good).then_some("let this machine out to port 443, or name another [edge.acme] directory");
        findings.push(finding(directory.name(), "authority", is_good, found, fix));
    }
    findings
}

async fn names(keeper: &Keeper, http: &Http, options: &Options, name: &str) -> Vec<Finding> {
    let found = tokio::time::timeout(LOOK_MAX, tokio::net::lookup_host((name, 80))).await;
    let addresses: Vec<String> = match found {
        Ok(Ok(found)) => found.map(|address| address.ip().to_string()).collect(),
        Ok(Err(error)) => return vec![no_address(name, &error.to_string())],
        Err(_) => return vec![no_address(name, "no answer within 5 s")],
    };
    let mut findings = vec![finding(name, "dns", true, addresses.join(" "), None)];
    if options.challenge != ChallengeChoice::TlsAlpn {
        findings.push(port_80(keeper, http, name).await);
    }
    if options.challenge != ChallengeChoice::Http {
        let (is_good, found) = match tokio::time::timeout(LOOK_MAX, TcpStream::connect((name, 443))).await {
            Ok(Ok(_)) => (true, "accepts connections".to_owned()),
            Ok(Err(error)) => (false, error.to_string()),
            Err(_) => (false, "no answer within 5 s".to_owned()),
        };
        let fix = (!is_good).then_some("open port 443 in the firewall, and listen on it: [edge] listen = [\":443\"]");
        findings.push(finding(name, "port 443", is_good, found, fix));
    }
    findings
}

fn no_address(name: &str, why: &str) -> Finding {
    finding(name, "dns", false, why, Some("point an A or AAAA record of this name at this machine"))
}

/// The way the authority goes: a token of ours must come back over the public name.
async fn port_80(keeper: &Keeper, http: &Http, name: &str) -> Finding {
    let token = format!("mainstay-check-{:016x}", mainstay_runtime::Clock::unix_micros());
    let _placed = keeper.challenges.token(&token, &token);
    let request = Request::get(format!("http://{name}{PREFIX}{token}")).body(Full::new(Bytes::new()));
    let answer = match request {
        Ok(request) => tokio::time::timeout(LOOK_MAX, http.send(request)).await,
        Err(error) => return finding(name, "port 80", false, error.to_string(), None),
    };
    let fix = "open port 80 in the firewall, and listen on it: [edge] listen = [\":80\", \":443\"]";
    match answer {
        Ok(Ok(answer)) if answer.body().as_ref() == token.as_bytes() => {
            finding(name, "port 80", true, "this edge answers", None)
        }
        Ok(Ok(answer)) => {
            let found = format!("somebody else answers there, with {}", answer.status());
            finding(name, "port 80", false, found, Some("point the name at this machine, or stop what listens there"))
        }
        Ok(Err(error)) => finding(name, "port 80", false, error.to_string(), Some(fix)),
        Err(_) => finding(name, "port 80", false, "no answer within 5 s", Some(fix)),
    }
}

/// Why a certificate has no OCSP answer beside it, or that it has.
fn stapling(keeper: &Keeper, asked: &impl Fn(&[String]) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for key in keeper.certificates.served() {
        let Some(der) = key.cert.first() else { continue };
        let Some(leaf) = Leaf::read(der).filter(|leaf| asked(&leaf.names)) else { continue };
        let name = leaf.names.first().cloned().unwrap_or_default();
        let told = keeper.staples.borrow().get(der).map(|stapling| stapling.answer.clone());
        findings.push(match (&leaf.responder, told) {
            (None, _) => {
                finding(&name, "stapling", true, "the certificate names no responder: nothing to staple", None)
            }
            (Some(_), Some(Ok(_))) => finding(&name, "stapling", true, "the responder's answer is stapled", None),
            (Some(responder), Some(Err(why))) => {
                finding(&name, "stapling", false, format!("{responder}: {why}"), Some("let this machine reach it"))
            }
            (Some(responder), None) => finding(&name, "stapling", false, format!("{responder} not asked yet"), None),
        });
    }
    findings
}
