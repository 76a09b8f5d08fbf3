//! The cookie of a browser that was let into an account before: OWASP's device cookies. Whoever brings one has a count
//! of wrong passwords of his own, so that strangers who guess do not keep the owner out.
//!
//! Invariant: it proves nothing but that. Nobody is let in by it, and without it nobody is refused anything but a turn
//! that strangers have used up.
//!
//! It is signed with the hash of the account's password, which every node reads from the one store and no client ever
//! sees: another password ends it. One cookie holds the few accounts of one browser; which, it does not say.

use super::rows::Account;
use super::{Fault, secrets};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Goes where passwords are asked for, and nowhere else.
const PATH: &str = crate::exchange::ROOT;
const NAME: &str = "mainstay-device";
const SECURE_NAME: &str = "__Secure-mainstay-device";
/// Since the last login.
const LIFE_S: u64 = 180 * 24 * 3600;
/// Clocks of several nodes may differ by so much.
const AHEAD_S: u64 = 60;
/// Accounts of one browser; the one that was longest away makes room.
const MARKS_MAX: usize = 4;
/// Of one: 22 letters, a number, 43 letters.
const MARK_BYTES_MAX: usize = 96;
/// What is signed, so that it is never taken for anything else that this key signs.
const PURPOSE: &str = "mainstay device 1";
/// In place of a hash where there is none: as much is computed, and whatever comes out counts for nothing.
const NOBODY: &str = "nobody";

/// What stands in the cookie for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    number: String,
    issued_s: u64,
    signature: String,
}

impl Mark {
    fn new(account: &Account, password: &str, now_s: u64) -> Result<Mark, Fault> {
        let number = secrets::id("")?;
        let signature = hmac::sign(&key(password), signed(&account.id, &number, now_s).as_bytes());
        Ok(Mark { number, issued_s: now_s, signature: URL_SAFE_NO_PAD.encode(signature) })
    }

    fn parse(text: &str) -> Option<Mark> {
        if text.len() > MARK_BYTES_MAX {
            return None;
        }
        let mut parts = text.split('.');
        let (number, issued, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let is_text =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let is_whole = parts.next().is_none() && is_text(number) && is_text(signature);
        let issued_s = issued.parse().ok().filter(|_| is_whole)?;
        Some(Mark { number: number.to_owned(), issued_s, signature: signature.to_owned() })
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.number, self.issued_s, self.signature)
    }

    /// The same is computed whether there is such an account or not.
    fn is_of(&self, account: Option<&Account>, now_s: u64) -> bool {
        let password = account.and_then(|account| account.password.as_deref());
        let id = account.map_or("", |account| &account.id);
        let signature = URL_SAFE_NO_PAD.decode(&self.signature).unwrap_or_default();
        let message = signed(id, &self.number, self.issued_s);
        let is_ours = hmac::verify(&key(password.unwrap_or(NOBODY)), message.as_bytes(), &signature).is_ok();
        let is_fresh = self.issued_s <= now_s + AHEAD_S && now_s < self.issued_s.saturating_add(LIFE_S);
        is_ours && is_fresh && password.is_some()
    }
}

fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, password.as_bytes())
}

fn signed(account: &str, number: &str, issued_s: u64) -> String {
    format!("{PURPOSE}\n{account}\n{number}\n{issued_s}")
}

/// What a browser brings, under either name; somebody on a sibling host may have set one of them, which is no harm.
pub(crate) fn brought(headers: &HeaderMap) -> Vec<Mark> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let values = pairs.filter(|(name, _)| [NAME, SECURE_NAME].contains(name)).map(|(_, value)| value);
    values.flat_map(|value| value.split('~')).take(2 * MARKS_MAX).filter_map(Mark::parse).collect()
}

/// The number under which this browser was let into this account, if it was.
pub(crate) fn number(brought: &[Mark], account: Option<&Account>, now_s: u64) -> Option<String> {
    // All of them are looked at, so that it takes as long for everybody.
    let own: Vec<&Mark> = brought.iter().filter(|mark| mark.is_of(account, now_s)).collect();
    own.last().map(|mark| mark.number.clone())
}

/// `Set-Cookie` for a browser that was let in just now. `None` for an account without a password: there is nothing to
/// guess.
pub(crate) fn cookie(
    brought: &[Mark],
    account: &Account,
    https: bool,
    now_s: u64,
) -> Result<Option<HeaderValue>, Fault> {
    let Some(password) = &account.password else { return Ok(None) };
    let mut marks: Vec<Mark> = brought.iter().filter(|mark| !mark.is_of(Some(account), now_s)).cloned().collect();
    marks.push(Mark::new(account, password, now_s)?);
    let kept = marks.split_off(marks.len().saturating_sub(MARKS_MAX));
    let value = kept.iter().map(Mark::text).collect::<Vec<_>>().join("~");
    let (name, flag) = if https { (SECURE_NAME, "; Secure") } else { (NAME, "") };
    let text = format!("{name}={value}; Max-Age={LIFE_S}; Path={PATH}; HttpOnly; SameSite=Strict{flag}");
    Ok(HeaderValue::from_str(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str, password: Option<&str>) -> Account {
        Account { id: id.to_owned(), password: password.map(str::to_owned), ..Account::default() }
    }

    fn sent(lines: &[&str]) -> Vec<Mark> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).expect("a header"));
        }
        brought(&headers)
    }

    /// As a browser would bring it.
    fn given(marks: &[Mark], account: &Account, now_s: u64) -> String {
        let set = cookie(marks, account, true, now_s).expect("random").expect("a password");
        let set = set.to_str().expect("text");
        assert!(set.ends_with("; Max-Age=15552000; Path=/api/v1/auth; HttpOnly; SameSite=Strict; Secure"), "{set}");
        set.split(';').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_mark_is_good_for_one_account_under_one_password_for_half_a_year() {
        let jo = account("u_jo", Some("$argon2id$1"));
        let marks = sent(&[&given(&[], &jo, 1000)]);
        assert_eq!(marks.len(), 1);
        let is_known = |account: Option<&Account>, now_s| number(&marks, account, now_s).is_some();
        assert!(is_known(Some(&jo), 1000) && is_known(Some(&jo), 940) && is_known(Some(&jo), 999 + LIFE_S));
        assert!(!is_known(Some(&jo), 1000 + LIFE_S) && !is_known(Some(&jo), 939));
        assert!(!is_known(Some(&account("u_eve", Some("$argon2id$1"))), 1000), "another account");
        assert!(!is_known(Some(&account("u_jo", Some("$argon2id$2"))), 1000), "another password");
        assert!(!is_known(Some(&account("u_jo", None)), 1000) && !is_known(None, 1000));
    }

    /// What stands for a hash where there is none is no key to anything.
    #[test]
    fn nobody_can_make_a_mark_for_an_account_without_a_password_or_for_none() {
        let forged = Mark::new(&account("u_jo", None), NOBODY, 1000).expect("random");
        assert_eq!(number(std::slice::from_ref(&forged), Some(&account("u_jo", None)), 1000), None);
        let forged = Mark::new(&account("", None), NOBODY, 1000).expect("random");
        assert_eq!(number(&[forged], None, 1000), None);
        assert_eq!(cookie(&[], &account("u_jo", None), true, 1).expect("no fault"), None);
    }

    #[test]
    fn a_browser_keeps_the_marks_of_its_last_four_accounts() {
        let all: Vec<Account> = (0..6).map(|n| account(&format!("u_{n}"), Some("$argon2id$1"))).collect();
        let mut cookie = String::new();
        for account in &all {
            cookie = given(&sent(&[&cookie]), account, 1000);
        }
        // Let in again, it has one mark of each all the same.
        cookie = given(&sent(&[&cookie]), &all[3], 1001);
        let marks = sent(&[&cookie]);
        assert_eq!(marks.len(), MARKS_MAX);
        let known: Vec<bool> = all.iter().map(|account| number(&marks, Some(account), 1001).is_some()).collect();
        assert_eq!(known, [false, false, true, true, true, true]);
        assert!(cookie.len() < 512, "{cookie}");
    }

    #[test]
    fn rubbish_is_no_mark_and_a_stranger_in_front_changes_nothing() {
        let jo = account("u_jo", Some("$argon2id$1"));
        let good = given(&[], &jo, 1000);
        let value = good.split_once('=').expect("a value").1;
        let changed = value.replacen('.', ".1", 1);
        for (lines, known) in [
            (vec![good.clone()], true),
            (vec![format!("a=b; {good}; c")], true),
            (vec![format!("mainstay-device={value}")], true),
            (vec![format!("mainstay-device=x.1.y; {good}")], true),
            (vec!["mainstay-device=~~~".to_owned(), good.clone()], true),
            (vec![format!("mainstay-device={changed}")], false),
            (vec![format!("mainstay-device={value}.x")], false),
            (vec![format!("mainstay-device={}", value.to_lowercase())], false),
            (vec![format!("other={value}")], false),
            (vec!["mainstay-device=..".to_owned(), "mainstay-device=a.99999999999999999999.b".to_owned()], false),
            (vec![format!("mainstay-device={}", "x".repeat(9000))], false),
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(number(&sent(&lines), Some(&jo), 1000).is_some(), known, "{lines:?}");
        }
    }
}
