//! Why an authority gave no certificate, as far as it decides what happens next.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub what: String,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too many requests; how long to stay away, where the authority says so.
    Limited(Option<Duration>),
    /// A nonce that was used up or forgotten: the same request may be sent again at once (RFC 8555 §6.5).
    Nonce,
    /// The authority does not know the account: a new one is made.
    Account,
    /// It is revoked already.
    Revoked,
    /// It would not take `replaces` (RFC 9773 §5): the order is made without.
    Replaced,
    /// Everything else.
    Refused,
}

impl Failure {
    pub fn new(what: impl Into<String>) -> Failure {
        Failure { what: what.into(), kind: Kind::Refused }
    }

    /// With what it was about in front.
    pub fn about(self, about: &str) -> Failure {
        match self.what.starts_with(about) {
            true => self,
            false => Failure { what: format!("{about}: {}", self.what), ..self },
        }
    }

    /// What may be tried again in the same breath, because the fault was not ours to wait out.
    pub fn may_repeat(&self) -> bool {
        matches!(self.kind, Kind::Nonce | Kind::Account | Kind::Replaced)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<instant_acme::Error> for Failure {
    fn from(error: instant_acme::Error) -> Failure {
        let kind = match &error {
            instant_acme::Error::Api(problem) => kind_of(problem.r#type.as_deref().unwrap_or("")),
            // It took the order and left `replaces` out.
            instant_acme::Error::Other(what) if what.to_string().contains("replaces") => Kind::Replaced,
            _ => Kind::Refused,
        };
        Failure { what: chain(&error), kind }
    }
}

fn kind_of(name: &str) -> Kind {
    match name.rsplit(':').next().unwrap_or("") {
        "rateLimited" => Kind::Limited(None),
        "badNonce" => Kind::Nonce,
        "accountDoesNotExist" => Kind::Account,
        "alreadyReplaced" => Kind::Replaced,
        "alreadyRevoked" => Kind::Revoked,
        _ => Kind::Refused,
    }
}

/// An error and its causes on one line; what a cause repeats is left out.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_authority_says_decides_what_happens_next() {
        assert_eq!(kind_of("urn:ietf:params:acme:error:rateLimited"), Kind::Limited(None));
        assert_eq!(kind_of("urn:ietf:params:acme:error:badNonce"), Kind::Nonce);
        assert_eq!(kind_of("urn:ietf:params:acme:error:unauthorized"), Kind::Refused);
        assert!(!Failure::new("no").may_repeat());
    }
}
