//! Whether a request that is recognised by its cookie was made by a page of ours: browsers send the cookie along for
//! whoever asks. Pure.
//!
//! Two proofs, of which each would do in most browsers: where the browser says it comes from, and a token that only
//! a page which can read our answers can know.

use crate::sessions::Id;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

/// Where the token is looked for: the guides' name, and what axios and Angular send by themselves.
pub const HEADERS: [&str; 2] = ["x-csrf-token", "x-xsrf-token"];
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// A token for a session. Signed with the session's own secret and ours: neither a store nor a variable that leaks is
/// enough to make one. The nonce makes each different, so that compression beside it tells nothing.
pub fn token(id: &Id, secret: Option<&str>) -> Option<String> {
    let mut nonce = [0; NONCE_BYTES];
    aws_lc_rs::rand::fill(&mut nonce).ok()?;
    let tag = hmac::sign(&key(id, secret), &nonce);
    Some(BASE64.encode([&nonce[..], tag.as_ref()].concat()))
}

/// Compared in a time that says nothing about it.
pub fn holds(id: &Id, secret: Option<&str>, token: &[u8]) -> bool {
    let Ok(bytes) = BASE64.decode(token) else { return false };
    if bytes.len() != NONCE_BYTES + TAG_BYTES {
        return false;
    }
    let (nonce, tag) = bytes.split_at(NONCE_BYTES);
    hmac::verify(&key(id, secret), nonce, tag).is_ok()
}

fn key(id: &Id, secret: Option<&str>) -> hmac::Key {
    let bytes = [id.bytes(), b"csrf", secret.unwrap_or_default().as_bytes()].concat();
    hmac::Key::new(hmac::HMAC_SHA256, &bytes)
}

/// What a browser says of the page that asks.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site`.
    pub site: Option<&'a [u8]>,
    /// `Host`, as the browser wrote it.
    pub host: &'a str,
    pub https: bool,
    /// CORS lets this origin ask with credentials.
    pub allowed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Ours,
    Foreign,
    /// No word of it: no browser of these years, or no browser.
    Unsaid,
}

/// Where a request comes from. A page cannot write these headers; a program can, and has no cookies but its own.
pub fn page(said: &Said<'_>) -> Page {
    // A page that CORS trusts by name is as ours.
    let named = said.allowed || said.origin.is_some_and(|origin| is_host(origin, said.host, said.https));
    match (said.site, said.origin) {
        (Some(b"same-origin" | b"none"), _) => Page::Ours,
        // `null`, a sibling host, or a stranger: only by name.
        (_, Some(_)) => {
            if named {
                Page::Ours
            } else {
                Page::Foreign
            }
        }
        (Some(_), None) => Page::Foreign,
        (None, None) => Page::Unsaid,
    }
}

/// `https://host:port` is this host. A page without TLS is not one of ours where we have it.
fn is_host(origin: &[u8], host: &str, https: bool) -> bool {
    let Some((scheme, named)) = std::str::from_utf8(origin).ok().and_then(|text| text.split_once("://")) else {
        return false;
    };
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let plain = |text: &str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    matches!((scheme, https), ("https", _) | ("http", false)) && !host.is_empty() && plain(named) == plain(host)
}

/// Paths below the service's root that bring a proof of their own, a password or a token: the cookie gives them
/// nothing, and who logs in has no CSRF token yet.
const OWN_PROOF: [&str; 7] =
    ["register", "login", "refresh", "verify-email", "resend-verification", "forgot-password", "reset-password"];

pub fn brings_its_own_proof(below: &str) -> bool {
    OWN_PROOF.contains(&below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_its_session_and_secret_alone() {
        let (id, other) = (Id::random().expect("random bytes"), Id::random().expect("random bytes"));
        let token = token(&id, Some("s")).expect("a token");
        assert_ne!(Some(&token), super::token(&id, Some("s")).as_ref(), "each is another");
        assert!(holds(&id, Some("s"), token.as_bytes()));
        assert!(!holds(&other, Some("s"), token.as_bytes()), "another session's");
        assert!(!holds(&id, Some("t"), token.as_bytes()), "another secret's");
        assert!(!holds(&id, None, token.as_bytes()));
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert!(!holds(&id, Some("s"), &forged), "{at}");
        }
        for rubbish in ["", "A", &token[1..], &format!("{token}="), &format!("{token}AAAA")] {
            assert!(!holds(&id, Some("s"), rubbish.as_bytes()), "{rubbish}");
        }
    }

    #[test]
    fn pages_of_ours_are_told_from_others() {
        let said = |origin: Option<&'static str>, site: Option<&'static str>, https: bool| Said {
            origin: origin.map(str::as_bytes),
            site: site.map(str::as_bytes),
            host: "a.example:8080",
            https,
            allowed: false,
        };
        for (origin, site, https, expected) in [
            (None, None, false, Page::Unsaid),
            (Some("http://a.example:8080"), None, false, Page::Ours),
            (Some("https://A.example:8080"), None, true, Page::Ours),
            (Some("http://a.example:8080"), None, true, Page::Foreign),
            (Some("http://a.example"), None, false, Page::Foreign),
            (Some("http://a.example:8080.evil"), None, false, Page::Foreign),
            (Some("http://b.a.example:8080"), Some("same-site"), false, Page::Foreign),
            (Some("http://a.example:8080"), Some("same-site"), false, Page::Ours),
            (Some("null"), None, false, Page::Foreign),
            (Some("null"), Some("cross-site"), false, Page::Foreign),
            (None, Some("cross-site"), false, Page::Foreign),
            (None, Some("same-site"), false, Page::Foreign),
            (None, Some("same-origin"), false, Page::Ours),
            (None, Some("none"), false, Page::Ours),
            // A proxy in front has written another `Host`: the browser knows better.
            (Some("https://www.example"), Some("same-origin"), false, Page::Ours),
        ] {
            assert_eq!(page(&said(origin, site, https)), expected, "{origin:?} {site:?} {https}");
        }
        let trusted = Said { allowed: true, ..said(Some("https://spa.example"), Some("cross-site"), true) };
        assert_eq!(page(&trusted), Page::Ours);
        for (origin, host, same) in [
            ("https://a.example", "a.example:443", true),
            ("https://a.example:443", "a.example", true),
            ("http://a.example:443", "a.example", false),
            ("http://a.example", "a.example:80", true),
            ("://", "", false),
        ] {
            assert_eq!(is_host(origin.as_bytes(), host, false), same, "{origin} {host}");
        }
    }

    #[test]
    fn only_what_proves_itself_goes_without_a_token() {
        for (below, own) in [
            ("login", true),
            ("refresh", true),
            ("verify-email", true),
            ("login/x", false),
            ("logout", false),
            ("logins", false),
            ("sessions", false),
            ("password", false),
            ("", false),
        ] {
            assert_eq!(brings_its_own_proof(below), own, "{below}");
        }
    }
}
