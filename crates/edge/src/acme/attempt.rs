//! One attempt at a certificate: each authority in turn, within what each allows.
//!
//! Must never go on once this server has let go of the store: the next one would do the same beside it.

use super::Renewal;
use super::client::Http;
use super::failure::{Failure, Kind};
use super::keeper::{Held, Keeper};
use super::leaf::Leaf;
use super::options::{ChallengeChoice, Directory, Options};
use super::order::{self, Ask};
use super::report::date;
use super::schedule::{self, Progress};
use super::service::{chance, now_s};
use instant_acme::ChallengeType;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Our own attempt does not follow on the heels of one that somebody asked for.
const ASKED_AGAIN_S: u64 = 60;

/// The caller holds `ordering`.
pub async fn obtain(keeper: &Keeper, held: &Held, renewal: Renewal) -> Result<(Leaf, String), Failure> {
    tokio::select! {
        biased;
        () = keeper.let_go() => Err(Failure::new("another server takes over: ask that one, in a moment")),
        outcome = tried(keeper, held, renewal) => outcome,
    }
}

async fn tried(keeper: &Keeper, held: &Held, renewal: Renewal) -> Result<(Leaf, String), Failure> {
    let name = held.wanted.name();
    let options = keeper.options.borrow().clone();
    let attempt = held.progress.failures;
    let mut begun = None;
    if !renewal.is_asked {
        // First written, then done: what ends in a crash counts as an attempt.
        keeper.set_progress(name, held.progress.begun(now_s(), chance()))?;
        begun = Some(Begun { keeper, name, before: Some(held.progress.clone()) });
    }
    let outcome = in_turn(keeper, held, renewal, &options, attempt).await;
    if let Some(begun) = &mut begun {
        begun.before = None;
    }
    if let (Err(failure), false) = (&outcome, renewal.dry_run) {
        let progress = keeper.find(name).map(|held| held.progress).unwrap_or_default();
        let open = |directory: &Directory| keeper.stalled_until_s(&directory.url, now_s()).unwrap_or(0);
        let soonest_s = options.directories.iter().map(open).min().unwrap_or(0);
        let next_s = progress.next_s.max(soonest_s).max(now_s() + ASKED_AGAIN_S);
        let failures = progress.failures.saturating_add(u32::from(renewal.is_asked));
        let last_error = Some(failure.what.clone());
        keeper.remember(name, &Progress { failures, last_error, next_s, ..progress });
    }
    outcome
}

/// An attempt under way. One that is given up because another server takes over has not failed: that one makes it at
/// once. One that a stop cuts off counts, as after a crash.
struct Begun<'a> {
    keeper: &'a Keeper,
    name: &'a str,
    before: Option<Progress>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take().filter(|_| !self.keeper.is_owner()) {
            self.keeper.remember(self.name, &before);
        }
    }
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
