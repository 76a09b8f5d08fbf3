//! The work on certificates: orders when they are due, renewals, warnings, staples; and the handle to ask it.

use super::Renewal;
use super::client::Http;
use super::failure::{Failure, Kind};
use super::keeper::{Held, Keeper, Setup, Stapling};
use super::leaf::Leaf;
use super::ocsp;
use super::options::{ChallengeChoice, Directory, Options};
use super::order::{self, Ask};
use super::probe;
use super::report::{Entry, Finding, Outlook, Renewed, Summary, date};
use super::schedule::{self, DAY_S, Step};
use instant_acme::ChallengeType;
use mainstay_runtime::{Clock, Shutdown};
use rustls::pki_types::CertificateDer;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked whether something is due.
const LOOK_EVERY_S: u64 = 60;
/// Our own attempt does not follow on the heels of one that somebody asked for.
const ASKED_AGAIN_S: u64 = 60;
/// A responder that does not answer is asked again after this.
const STAPLE_AGAIN_S: u64 = 300;

/// Built, with everything that is stored in force; nothing runs yet.
pub struct Service {
    keeper: Rc<Keeper>,
    /// When a certificate's end was last warned of.
    warned: RefCell<HashMap<String, u64>>,
}

/// Cheap to clone; lives on the control thread.
#[derive(Clone)]
pub struct Handle(Rc<Keeper>);

pub fn now_s() -> u64 {
    Clock::unix_micros() / 1_000_000
}

/// 0..1000, to spread those who would otherwise come at once.
fn chance() -> u64 {
    Clock::unix_micros() % 1000
}

impl Service {
    /// Never fails: what cannot be taken up is told, and the rest is served.
    pub fn new(setup: Setup) -> (Service, Handle) {
        let keeper = Rc::new(Keeper::new(setup, now_s()));
        (Service { keeper: keeper.clone(), warned: RefCell::default() }, Handle(keeper))
    }

    /// Runs until shutdown. Must run inside a `LocalSet`.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            let next_s = tokio::select! {
                next_s = self.round() => next_s,
                () = shutdown.requested() => return,
            };
            let wait_s = next_s.saturating_sub(now_s()).clamp(1, LOOK_EVERY_S);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(wait_s)) => {}
                () = self.keeper.wake.notified() => {}
                () = shutdown.requested() => return,
            }
        }
    }

    /// Does what is due; gives the second at which there is more to do.
    async fn round(&self) -> u64 {
        let keeper = &self.keeper;
        let mut next_s = u64::MAX;
        let names: Vec<String> = keeper.held.borrow().iter().map(|held| held.wanted.name().to_owned()).collect();
        for name in names {
            let Some(held) = keeper.find(&name) else { continue };
            let validity = held.leaf.as_ref().map(|leaf| leaf.validity);
            match schedule::next(now_s(), validity, &held.progress) {
                Step::Wait(at) => next_s = next_s.min(at),
                Step::Order if held.wanted.local => {
                    if let Err(failure) = keeper.renew_local(&name, now_s()) {
                        tracing::error!(name, why = %failure, "the local authority gave no certificate");
                    }
                }
                Step::Order => {
                    let _one = keeper.ordering.lock().await;
                    // Somebody may have asked for it while this waited.
                    let held = keeper.find(&name).filter(Held::is_due);
                    if let Some(held) = held {
                        self.attempt(&held).await;
                    }
                }
            }
            ask_window(keeper, &name).await;
        }
        self.warn();
        staple(keeper).await;
        next_s
    }

    async fn attempt(&self, held: &Held) {
        let name = held.wanted.name();
        match obtain(&self.keeper, held, Renewal::default()).await {
            Ok((leaf, ca)) => {
                let until = date(leaf.validity.until_s).unwrap_or_default();
                tracing::info!(names = held.wanted.names.join(" "), from = ca, until, "a certificate is in force");
            }
            Err(failure) => {
                let next = self.keeper.find(name).and_then(|held| date(held.progress.next_s)).unwrap_or_default();
                let fix = "mainstay certificates check";
                let why = &failure.what;
                match held.leaf {
                    None => tracing::error!(name, why, next, fix, "no certificate yet: a stand-in is served"),
                    Some(_) => tracing::warn!(name, why, next, fix, "a certificate could not be renewed"),
                }
            }
        }
    }

    /// Once a day for each that should not have come so close to its end.
    fn warn(&self) {
        let now_s = now_s();
        let mut warned = self.warned.borrow_mut();
        for entry in self.keeper.entries(now_s) {
            let name = entry.names.first().cloned().unwrap_or_default();
            let due = warned.get(&name).is_none_or(|last| now_s >= last + DAY_S);
            if !due || !matches!(entry.outlook, Outlook::ExpiresSoon | Outlook::Expired) {
                continue;
            }
            let (until, at) = (entry.valid_until.unwrap_or_default(), &entry.at);
            let fix = "mainstay certificates check";
            match entry.outlook {
                Outlook::Expired => tracing::error!(name, until, at, fix, "a certificate has expired"),
                _ => tracing::warn!(name, until, at, fix, "a certificate expires soon"),
            }
            warned.insert(name, now_s);
        }
    }
}

impl Held {
    fn is_due(&self) -> bool {
        let validity = self.leaf.as_ref().map(|leaf| leaf.validity);
        schedule::next(now_s(), validity, &self.progress) == Step::Order
    }
}

/// One attempt: each authority in turn. The caller holds `ordering`.
async fn obtain(keeper: &Keeper, held: &Held, renewal: Renewal) -> Result<(Leaf, String), Failure> {
    let name = held.wanted.name();
    let options = keeper.options.borrow().clone();
    let attempt = held.progress.failures;
    if !renewal.is_asked {
        // First written, then done: what ends in a crash counts as an attempt.
        keeper.set_progress(name, held.progress.begun(now_s(), chance()))?;
    }
    let outcome = in_turn(keeper, held, renewal, &options, attempt).await;
    if let (Err(failure), false) = (&outcome, renewal.dry_run) {
        let progress = keeper.find(name).map(|held| held.progress).unwrap_or_default();
        let open = |directory: &Directory| keeper.stalled_until_s(&directory.url, now_s()).unwrap_or(0);
        let soonest_s = options.directories.iter().map(open).min().unwrap_or(0);
        let next_s = progress.next_s.max(soonest_s).max(now_s() + ASKED_AGAIN_S);
        let failures = progress.failures.saturating_add(u32::from(renewal.is_asked));
        let last_error = Some(failure.what.clone());
        keeper.remember(name, &schedule::Progress { failures, last_error, next_s, ..progress });
    }
    outcome
}

async fn in_turn(
    keeper: &Keeper,
    held: &Held,
    renewal: Renewal,
    options: &Options,
    attempt: u32,
) -> Result<(Leaf, String), Failure> {
    let http = Http::new(options.root.as_deref())?;
    let name = held.wanted.name();
    let key = match renewal.dry_run {
        true => rcgen::KeyPair::generate().map_err(|error| Failure::new(error.to_string()))?,
        false => keeper.key_for(name, renewal.new_key)?,
    };
    let mut failures = Vec::new();
    for directory in &options.directories {
        let directory = if renewal.dry_run { directory.staging() } else { directory.clone() };
        if let Some(until_s) = keeper.stalled_until_s(&directory.url, now_s()) {
            failures.push(format!("{} is left alone until {}", directory.name(), date(until_s).unwrap_or_default()));
            continue;
        }
        let known = held.progress.ca.as_ref() == Some(&directory.url) && held.progress.renew_at_s.is_some();
        let ask = Ask {
            http: &http,
            store: &keeper.store,
            challenges: &keeper.challenges,
            directory: &directory,
            email: options.email.as_deref(),
            names: &held.wanted.names,
            key: &key,
            challenge: challenge(options.challenge, attempt),
            replaces: held.key.cert.first().filter(|_| known && !renewal.dry_run),
        };
        let got = match order::obtain(ask).await {
            Ok(chain) if renewal.dry_run => read(&chain),
            Ok(chain) => keeper.install(name, &key, &chain, &directory.url, now_s()),
            Err(failure) => Err(failure),
        };
        match got {
            Ok(leaf) => return Ok((leaf, directory.name().to_owned())),
            Err(failure) => {
                if let Kind::Limited(wait) = failure.kind {
                    let until_s = schedule::limited_until_s(now_s(), wait.map(|wait| wait.as_secs()));
                    keeper.stall(&directory.url, until_s);
                }
                failures.push(failure.about(directory.name()).what);
            }
        }
    }
    Err(Failure::new(failures.join("; ")))
}

/// A dry run's chain is looked at and thrown away.
fn read(chain: &str) -> Result<Leaf, Failure> {
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(chain.as_bytes()).ok();
    der.and_then(|der| Leaf::read(&der)).ok_or_else(|| Failure::new("the authority sent no certificate"))
}

/// One kind an attempt: two at once would use up an authority's patience twice as fast.
fn challenge(choice: ChallengeChoice, attempt: u32) -> ChallengeType {
    match choice {
        ChallengeChoice::Http => ChallengeType::Http01,
        ChallengeChoice::TlsAlpn => ChallengeType::TlsAlpn01,
        ChallengeChoice::Auto if attempt.is_multiple_of(2) => ChallengeType::Http01,
        ChallengeChoice::Auto => ChallengeType::TlsAlpn01,
    }
}

/// Asks when the authority would have the certificate renewed, at the pace it wants.
async fn ask_window(keeper: &Keeper, name: &str) {
    let Some(held) = keeper.find(name).filter(|held| !held.wanted.local && held.leaf.is_some()) else { return };
    let now = now_s();
    let Some(ca) = held.progress.ca.as_deref().filter(|_| held.progress.ask_at_s <= now) else { return };
    let options = keeper.options.borrow().clone();
    let Some(directory) = options.directories.iter().find(|directory| directory.url == ca) else { return };
    let (Ok(http), Some(der)) = (Http::new(options.root.as_deref()), held.key.cert.first()) else { return };
    let told = order::window(&http, &keeper.store, directory, der).await;
    let progress = match told {
        Ok(Some((window, again_s))) => schedule::Progress {
            // The moment within a window is chosen once.
            renew_at_s: match held.progress.renew_at_s {
                Some(at) if (window.0..=window.1).contains(&at) => Some(at),
                _ => Some(schedule::within(window, chance())),
            },
            ask_at_s: schedule::ask_again_s(now, again_s),
            ..held.progress
        },
        // Unknown to this authority, or not to be had now: our own time stands.
        Ok(None) | Err(_) => schedule::Progress { ask_at_s: schedule::ask_again_s(now, DAY_S), ..held.progress },
    };
    keeper.remember(name, &progress);
}

/// Answers for every certificate that names a responder, half-way through the life of the last one.
async fn staple(keeper: &Keeper) {
    let served = keeper.certificates.served();
    let mut changed = false;
    for key in &served {
        let Some(leaf) = key.cert.first().and_then(|der| Leaf::read(der)).filter(|leaf| leaf.responder.is_some())
        else {
            continue;
        };
        let Some(own) = key.cert.first().cloned() else { continue };
        let due = keeper.staples.borrow().get(&own).is_none_or(|stapling| now_s() >= stapling.again_s);
        if !due {
            continue;
        }
        let root = keeper.options.borrow().root.clone();
        let Ok(http) = Http::new(root.as_deref()) else { return };
        let now = now_s();
        let stapling = match ocsp::fetch(&http, &key.cert, &leaf, now).await {
            Ok(staple) => {
                let again_s = now + staple.until_s.saturating_sub(now) / 2;
                Stapling { answer: Ok(staple), again_s: again_s.max(now + LOOK_EVERY_S) }
            }
            Err(failure) => {
                tracing::warn!(names = leaf.names.join(" "), why = %failure, "no OCSP answer to staple");
                // What was good until later is still stapled.
                let old = keeper.staples.borrow().get(&own).and_then(|old| old.answer.clone().ok());
                let old = old.filter(|old| old.until_s > now);
                // Never served past its end.
                let again_s = old.as_ref().map_or(u64::MAX, |old| old.until_s).min(now + STAPLE_AGAIN_S);
                Stapling { answer: old.ok_or(failure.what), again_s }
            }
        };
        keeper.staples.borrow_mut().insert(own, stapling);
        changed = true;
    }
    let mut staples = keeper.staples.borrow_mut();
    let before = staples.len();
    staples.retain(|leaf, _| served.iter().any(|key| key.cert.first() == Some(leaf)));
    if changed || staples.len() != before {
        let good = staples.iter().filter_map(|(leaf, s)| Some((leaf.clone(), s.answer.as_ref().ok()?.answer.clone())));
        keeper.certificates.staple(good.collect());
    }
}

impl Handle {
    /// Puts other options in force.
    pub fn reload(&self, options: Options) {
        self.0.adopt(options, now_s());
    }

    /// Files have changed: staples and warnings are about others now.
    pub fn look(&self) {
        self.0.wake.notify_one();
    }

    /// The text an authority looks for at this path, if an order of ours waits for it.
    pub fn answer(&self, path: &str) -> Option<String> {
        self.0.challenges.answer(path)
    }

    pub fn list(&self) -> Vec<Entry> {
        self.0.entries(now_s())
    }

    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.list())
    }

    /// Orders now, for one host or all, whatever the schedule says; an authority that said "too many" is still left
    /// alone. `Err`: there is nothing to renew by this name.
    pub async fn renew(&self, host: Option<&str>, renewal: Renewal) -> Result<Vec<Renewed>, String> {
        let keeper = &self.0;
        let wanted = |held: &Held| match host {
            Some(host) => held.wanted.names.iter().any(|name| name.eq_ignore_ascii_case(host)),
            None => !renewal.dry_run || !held.wanted.local,
        };
        let names: Vec<String> =
            keeper.held.borrow().iter().filter(|held| wanted(held)).map(|h| h.wanted.name().to_owned()).collect();
        if names.is_empty() {
            return Err(match host {
                Some(host) => format!(
                    "{host} is not among [edge] domains   fix: mainstay certificates list   (files are renewed by \
                     whoever writes them)"
                ),
                None => "there is no certificate to renew   fix: [edge] domains = [\"api.example.com\"]".to_owned(),
            });
        }
        let mut all = Vec::new();
        for name in names {
            let _one = keeper.ordering.lock().await;
            let Some(held) = keeper.find(&name) else { continue };
            all.push(self.renew_one(&held, renewal).await);
        }
        Ok(all)
    }

    async fn renew_one(&self, held: &Held, renewal: Renewal) -> Renewed {
        let name = held.wanted.name().to_owned();
        let outcome = if held.wanted.local {
            let made = self.0.renew_local(&name, now_s());
            made.map(|()| (self.0.find(&name).and_then(|held| held.leaf), "local".to_owned()))
        } else {
            obtain(&self.0, held, renewal).await.map(|(leaf, ca)| (Some(leaf), ca))
        };
        let dry_run = renewal.dry_run;
        match outcome {
            Ok((leaf, from)) => {
                let valid_until = leaf.and_then(|leaf| date(leaf.validity.until_s));
                Renewed { name, from: Some(from), valid_until, error: None, dry_run }
            }
            Err(failure) => Renewed { name, from: None, valid_until: None, error: Some(failure.what), dry_run },
        }
    }

    /// What stands in the way of an order, as far as this machine can see it.
    pub async fn check(&self, host: Option<&str>) -> Vec<Finding> {
        probe::run(&self.0, host).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_take_turns_between_the_two_challenges() {
        let kinds: Vec<ChallengeType> = (0..3).map(|attempt| challenge(ChallengeChoice::Auto, attempt)).collect();
        assert_eq!(kinds, [ChallengeType::Http01, ChallengeType::TlsAlpn01, ChallengeType::Http01]);
        assert_eq!(challenge(ChallengeChoice::TlsAlpn, 0), ChallengeType::TlsAlpn01);
    }
}
