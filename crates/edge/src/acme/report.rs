//! What is told of certificates: to `mainstay certificates`, to health, to the log. Pure.

use super::leaf::Leaf;
use super::revoke::Reason;
use super::schedule::{DAY_S, Progress, Validity};
use serde::{Deserialize, Serialize};

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    Good,
    /// It should have been renewed by now.
    ExpiresSoon,
    Expired,
    /// The next one is due.
    Revoked,
    /// There is none yet, and a stand-in is served.
    Missing,
}

impl Outlook {
    pub fn of(validity: Option<Validity>, now_s: u64) -> Outlook {
        match validity {
            None => Outlook::Missing,
            Some(validity) if now_s >= validity.until_s => Outlook::Expired,
            Some(validity) if now_s >= validity.warning_s() => Outlook::ExpiresSoon,
            Some(_) => Outlook::Good,
        }
    }
}

/// One certificate, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub names: Vec<String>,
    /// `letsencrypt`, `local`, `file`.
    pub source: String,
    /// Where it is configured.
    pub at: String,
    pub outlook: Outlook,
    pub issuer: Option<String>,
    pub serial: Option<String>,
    pub valid_from: Option<String>,
    pub valid_until: Option<String>,
    pub days_left: Option<i64>,
    /// When it will be renewed; never for files.
    pub renews: Option<String>,
    pub last_error: Option<String>,
    /// Attempts in a row that failed.
    pub failures: u32,
    pub next_attempt: Option<String>,
    /// SHA-256 of the public key, base64, as apps pin it; the spare's after the one in use.
    pub pins: Vec<String>,
    /// An OCSP answer goes with it.
    pub is_stapled: bool,
    pub responder: Option<String>,
}

impl Entry {
    pub fn new(names: Vec<String>, source: &str, at: &str, leaf: Option<&Leaf>, now_s: u64) -> Entry {
        let validity = leaf.map(|leaf| leaf.validity);
        Entry {
            names,
            source: source.to_owned(),
            at: at.to_owned(),
            outlook: Outlook::of(validity, now_s),
            issuer: leaf.map(|leaf| leaf.issuer.clone()),
            serial: leaf.map(|leaf| leaf.serial.clone()),
            valid_from: validity.and_then(|validity| date(validity.from_s)),
            valid_until: validity.and_then(|validity| date(validity.until_s)),
            days_left: validity.map(|validity| days(validity.until_s, now_s)),
            renews: None,
            last_error: None,
            failures: 0,
            next_attempt: None,
            pins: leaf.map(|leaf| leaf.pin.clone()).into_iter().collect(),
            is_stapled: false,
            responder: leaf.and_then(|leaf| leaf.responder.clone()),
        }
    }

    pub fn with_progress(mut self, progress: &Progress, now_s: u64) -> Entry {
        self.last_error.clone_from(&progress.last_error);
        self.failures = progress.failures;
        self.next_attempt = (progress.next_s > now_s).then(|| date(progress.next_s)).flatten();
        self
    }
}

fn days(until_s: u64, now_s: u64) -> i64 {
    let signed = |s: u64| i64::try_from(s).unwrap_or(i64::MAX);
    (signed(until_s) - signed(now_s)).div_euclid(signed(DAY_S))
}

/// `2027-02-19T10:00:00Z`
pub fn date(at_s: u64) -> Option<String> {
    Some(jiff::Timestamp::from_second(i64::try_from(at_s).ok()?).ok()?.to_string())
}

/// All certificates in three numbers, for health. Names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub count: usize,
    pub soonest_days: Option<i64>,
    pub outlook: Outlook,
    /// The last attempt at one of them gave nothing.
    pub is_failing: bool,
}

impl Summary {
    /// `None`: no certificate is served.
    pub fn of(entries: &[Entry]) -> Option<Summary> {
        let outlook = entries.iter().map(|entry| entry.outlook).max()?;
        Some(Summary {
            count: entries.len(),
            soonest_days: entries.iter().filter_map(|entry| entry.days_left).min(),
            outlook,
            is_failing: entries.iter().any(|entry| entry.last_error.is_some()),
        })
    }
}

/// What a renewal that was asked for gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    pub name: String,
    /// The authority; `None` if it failed.
    pub from: Option<String>,
    pub valid_until: Option<String>,
    pub error: Option<String>,
    pub dry_run: bool,
}

/// What a revocation gave: this certificate is revoked, whatever became of the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub names: Vec<String>,
    pub serial: String,
    pub from: String,
    pub reason: Reason,
    pub renewed: Renewed,
}

/// One thing `check` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub name: String,
    /// `dns`, `port 80`, `port 443`, `authority`, `stapling`.
    pub what: String,
    pub is_good: bool,
    pub found: String,
    pub fix: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_long_before_its_end() {
        let validity = Validity { from_s: 0, until_s: 90 * DAY_S };
        for (day, outlook) in
            [(0, Outlook::Good), (60, Outlook::Good), (70, Outlook::ExpiresSoon), (90, Outlook::Expired)]
        {
            assert_eq!(Outlook::of(Some(validity), day * DAY_S), outlook, "day {day}");
        }
        assert_eq!(Outlook::of(None, 0), Outlook::Missing);
        assert_eq!((days(90 * DAY_S, 80 * DAY_S), days(DAY_S, 2 * DAY_S)), (10, -1));
        assert_eq!(date(1_800_000_000).as_deref(), Some("2027-01-15T08:00:00Z"));
    }
}
