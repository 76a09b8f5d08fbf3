//! Taking a certificate back: the authority that gave it is told, then another one with another key is ordered.
//!
//! In this order, because a stolen key does not wait for an authority that is busy. Until the new certificate is there
//! the revoked one is served: clients that look at lists refuse it, and no client is worse off than with a stand-in.
//! What was revoked is written down before anything is ordered, so a crash between the two orders all the same.

use super::attempt;
use super::client::Http;
use super::failure::Kind;
use super::keeper::{Held, Keeper};
use super::names::covers;
use super::options::{Directory, name_of};
use super::order;
use super::report::{Renewed, Revoked, date};
use super::schedule::Progress;
use super::{Handle, Renewal};
use serde::{Deserialize, Serialize};

/// Those of RFC 5280 §5.3.1 that an authority takes from the holder of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    #[default]
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
}

impl Reason {
    pub const ALL: [Reason; 5] = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
    ];

    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "key-compromise",
            Reason::AffiliationChanged => "affiliation-changed",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessation-of-operation",
        }
    }

    pub fn of(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }
}

impl Handle {
    /// Revokes the certificate that this host is served with, and orders the next with another key. `Err`: nothing was
    /// revoked, and why.
    pub async fn revoke(&self, host: &str, reason: Reason) -> Result<Revoked, String> {
        let keeper = self.keeper();
        let host = host.to_ascii_lowercase();
        let name = revocable(keeper, &host)?.wanted.name().to_owned();
        let _one = keeper.ordering.lock().await;
        // Another one may have come meanwhile.
        let held = keeper.find(&name).ok_or_else(|| format!("{host} is no longer among [edge] domains"))?;
        let (Some(leaf), Some(ca)) = (held.leaf.clone(), held.progress.ca.clone()) else { return Err(none(&host)) };
        tokio::select! {
            biased;
            () = keeper.let_go() => return Err("another server takes over: ask that one, in a moment".to_owned()),
            told = tell(keeper, &held, &ca, reason) => told.map_err(|why| format!("nothing was revoked: {why}"))?,
        }
        tracing::warn!(
            names = held.wanted.names.join(" "),
            serial = leaf.serial,
            from = name_of(&ca),
            reason = reason.word(),
            "a certificate was revoked, as somebody asked"
        );
        let progress = Progress { revoked: Some(leaf.serial.clone()), next_s: 0, ..held.progress.clone() };
        keeper.remember(&name, &progress);
        // Its last good answer is no longer true.
        keeper.forget_staple(&held.key);
        let held = Held { progress, ..held };
        let renewal = Renewal { is_asked: true, new_key: true, dry_run: false };
        let got = attempt::obtain(keeper, &held, renewal).await;
        let renewed = match got {
            Ok((leaf, from)) => {
                let valid_until = date(leaf.validity.until_s);
                Renewed { name, from: Some(from), valid_until, error: None, dry_run: false }
            }
            Err(failure) => Renewed { name, from: None, valid_until: None, error: Some(failure.what), dry_run: false },
        };
        Ok(Revoked { names: held.wanted.names, serial: leaf.serial, from: name_of(&ca).to_owned(), reason, renewed })
    }
}

/// The certificate of this host, if an authority elsewhere gave it; else what to do instead.
fn revocable(keeper: &Keeper, host: &str) -> Result<Held, String> {
    let given = keeper.certificates.given();
    if let Some(given) = given.iter().find(|given| covers(&given.file.host, host)) {
        return Err(format!(
            "{host} is served from {} ({}): whoever issued it revokes it   fix: have it revoked there, then put the \
             new pair in its place; it is taken up within seconds",
            given.file.cert.display(),
            given.file.at
        ));
    }
    let found = keeper.held.borrow().iter().find(|held| held.wanted.names.iter().any(|name| name == host)).cloned();
    let Some(held) = found else {
        return Err(format!("{host} is not among [edge] domains   fix: mainstay certificates list"));
    };
    if held.wanted.local {
        return Err(format!(
            "{host} has a certificate of this machine's own authority, which keeps no list of revoked ones: no client \
             would hear of it   fix: mainstay certificates renew {host} (another key; the old one ends within a week)"
        ));
    }
    if held.leaf.is_none() || held.progress.ca.is_none() {
        return Err(none(host));
    }
    Ok(held)
}

fn none(host: &str) -> String {
    format!("there is no certificate of {host} to revoke: a stand-in is served   see: mainstay certificates list")
}

/// By the account that ordered it. One that is revoked already is what was asked for.
async fn tell(keeper: &Keeper, held: &Held, ca: &str, reason: Reason) -> Result<(), String> {
    let options = keeper.options.borrow().clone();
    let http = Http::new(options.root.as_deref()).map_err(|failure| failure.what)?;
    // It may have been taken out of the file since; the account is still there.
    let known = options.directories.iter().find(|directory| directory.url == ca).cloned();
    let directory = known.unwrap_or_else(|| Directory { url: ca.to_owned(), eab: None });
    let der = held.key.cert.first().ok_or("the certificate in force is empty")?;
    match order::revoke(&http, &keeper.store, &directory, der, reason).await {
        Err(failure) if failure.kind == Kind::Revoked => Ok(()),
        Err(failure) => Err(failure.about(directory.name()).what),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_written_in_one_way() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason.word()), Some(reason));
            assert_eq!(serde_json::to_string(&reason).expect("json"), format!("\"{}\"", reason.word()));
        }
        assert_eq!(Reason::of("keyCompromise"), None);
    }
}
