//! What an authority looks for while an order runs: tokens by HTTP, certificates by TLS. Gone when the order is.

use super::authority;
use super::failure::Failure;
use crate::tls::Certificates;
use instant_acme::{ChallengeType, KeyAuthorization};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Before the token in a path (RFC 8555 §8.3).
pub const PREFIX: &str = "/.well-known/acme-challenge/";

#[derive(Debug, Clone)]
pub struct Challenges {
    /// By token in lower case: paths are compared so, and a token has 128 bits even then.
    tokens: Rc<RefCell<HashMap<String, String>>>,
    certificates: Certificates,
}

/// In force as long as it lives.
#[derive(Debug)]
pub struct Placed {
    challenges: Challenges,
    what: What,
}

#[derive(Debug)]
enum What {
    Token(String),
    Host(String),
}

impl Challenges {
    pub fn new(certificates: Certificates) -> Challenges {
        Challenges { tokens: Rc::default(), certificates }
    }

    /// The answer to a path that is a token's; `None`: not one of ours.
    pub fn answer(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(PREFIX)?;
        self.tokens.borrow().get(&token.to_ascii_lowercase()).cloned()
    }

    pub fn token(&self, token: &str, answer: &str) -> Placed {
        let token = token.to_ascii_lowercase();
        self.tokens.borrow_mut().insert(token.clone(), answer.to_owned());
        Placed { challenges: self.clone(), what: What::Token(token) }
    }

    pub fn place(
        &self,
        kind: &ChallengeType,
        name: &str,
        token: &str,
        answer: &KeyAuthorization,
    ) -> Result<Placed, Failure> {
        if *kind != ChallengeType::TlsAlpn01 {
            return Ok(self.token(token, answer.as_str()));
        }
        let digest = answer.digest();
        let digest = <[u8; 32]>::try_from(digest.as_ref()).map_err(|_| Failure::new("a digest of another length"))?;
        self.certificates.place(name, authority::challenge(name, &digest)?);
        Ok(Placed { challenges: self.clone(), what: What::Host(name.to_owned()) })
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        match &self.what {
            What::Token(token) => drop(self.challenges.tokens.borrow_mut().remove(token)),
            What::Host(host) => self.challenges.certificates.withdraw(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_while_its_order_runs() {
        let challenges = Challenges::new(Certificates::new().expect("tls"));
        let placed = challenges.token("Abc_-9", "Abc_-9.thumb");
        let path = "/.well-known/acme-challenge/abc_-9";
        assert_eq!(challenges.answer(path).as_deref(), Some("Abc_-9.thumb"));
        assert_eq!(challenges.answer("/.well-known/acme-challenge/other"), None);
        assert_eq!(challenges.answer("/abc_-9"), None);
        drop(placed);
        assert_eq!(challenges.answer(path), None);
    }
}
