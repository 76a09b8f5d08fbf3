//! The work on certificates: orders when they are due, renewals, warnings, staples; and the handle to ask it.

use super::Renewal;
use super::attempt::obtain;
use super::client::Http;
use super::keeper::{Held, Keeper, Setup, Stapling};
use super::leaf::Leaf;
use super::ocsp;
use super::options::Options;
use super::order;
use super::probe;
use super::report::{Entry, Finding, Outlook, Renewed, Summary, date};
use super::schedule::{self, DAY_S, Step};
use mainstay_runtime::{Clock, Shutdown};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked whether something is due.
const LOOK_EVERY_S: u64 = 60;
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
pub fn chance() -> u64 {
    Clock::unix_micros() % 1000
}

impl Service {
    /// Never fails: what cannot be taken up is told, and the rest is served.
    pub fn new(setup: Setup) -> (Service, Handle) {
        let keeper = Rc::new(Keeper::new(setup, now_s()));
        (Service { keeper: keeper.clone(), warned: RefCell::default() }, Handle(keeper))
    }

    /// Runs until shutdown, and works while this server owns the store. Must run inside a `LocalSet`.
    pub async fn run(self, shutdown: Shutdown) {
        let kept = async {
            loop {
                self.keeper.owned().await;
                tokio::select! {
                    // First: nothing is written once it is known that another server does.
                    biased;
                    () = self.keeper.let_go() => {}
                    () = self.rounds() => {}
                }
            }
        };
        tokio::select! {
            () = kept => {}
            () = shutdown.requested() => {}
        }
    }

    /// For ever.
    async fn rounds(&self) {
        loop {
            let next_s = self.round().await;
            let wait_s = next_s.saturating_sub(now_s()).clamp(1, LOOK_EVERY_S);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(wait_s)) => {}
                () = self.keeper.wake.notified() => {}
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
            match held.step(now_s()) {
                Step::Wait(at) => next_s = next_s.min(at),
                Step::Order if held.wanted.local => {
                    if let Err(failure) = keeper.renew_local(&name, now_s()) {
                        tracing::error!(name, why = %failure, "the local authority gave no certificate");
                    }
                }
                Step::Order => {
                    let _one = keeper.ordering.lock().await;
                    // Somebody may have asked for it while this waited.
                    let held = keeper.find(&name).filter(|held| held.step(now_s()) == Step::Order);
                    if let Some(held) = held {
                        self.attempt(&held).await;
                    }
                }
            }
            ask_window(keeper, &name).await;
            // What an attempt or the authority's window has changed counts now, not at the next look.
            next_s = match keeper.find(&name).filter(|held| !held.wanted.local).map(|held| held.step(now_s())) {
                Some(Step::Wait(at)) => next_s.min(at),
                Some(Step::Order) => now_s(),
                None => next_s,
            };
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
            if !due || !matches!(entry.outlook, Outlook::ExpiresSoon | Outlook::Expired | Outlook::Revoked) {
                continue;
            }
            let (until, at) = (entry.valid_until.unwrap_or_default(), &entry.at);
            let fix = "mainstay certificates check";
            match entry.outlook {
                Outlook::Expired => tracing::error!(name, until, at, fix, "a certificate has expired"),
                Outlook::Revoked => tracing::error!(name, at, fix, "a revoked certificate is served"),
                _ => tracing::warn!(name, until, at, fix, "a certificate expires soon"),
            }
            warned.insert(name, now_s);
        }
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
        // It gives none: our own time stands.
        Ok(None) => {
            schedule::Progress { renew_at_s: None, ask_at_s: schedule::ask_again_s(now, DAY_S), ..held.progress }
        }
        // Not to be had now, or not to be understood: what it said last, or our own time.
        Err(failure) => {
            tracing::debug!(name, why = %failure, "no renewal information");
            let ask_at_s = schedule::ask_again_s(now, schedule::ASK_FAILED_S);
            schedule::Progress { ask_at_s, ..held.progress }
        }
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
    pub(super) fn keeper(&self) -> &Keeper {
        &self.0
    }

    /// Another server takes over: nothing is ordered or written here any more when this comes back.
    pub async fn release(&self) {
        self.0.release().await;
    }

    /// The server before this one has let go. Nothing happens where there was none.
    pub fn take_over(&self) {
        self.0.take_over(now_s());
    }

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
