//! What browsers and providers may send: nothing panics, nothing sealed by others opens, and no page of another site is
//! one of ours.

use super::address::is_own_page;
use super::form;
use super::metadata::Metadata;
use super::options::tests::provider;
use super::pending::{Pending, Seal};
use super::person::Person;
use super::{address, code};
use bytes::Bytes;
use http::Response;
use serde_json::Value;

const INPUTS: usize = 10_000;

#[test]
fn nothing_anybody_sends_panics_or_is_believed() {
    let seal = Seal::of(b"0123456789abcdef0123456789abcdef").expect("a seal");
    let corp = provider("corp", "https://id.example");
    bolero::check!().with_iterations(INPUTS).with_max_len(256).for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        assert!(seal.all(&text).is_empty());
        let _ = (address::is_safe(&text), code::shown(&text));
        if let Some(fields) = form::decode(&text) {
            let pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(form::decode(&form::encode(&pairs)), Some(fields.clone()), "{text}");
        }
        for kind in ["application/json", "application/x-www-form-urlencoded"] {
            let answer = Response::builder().header("content-type", kind).body(Bytes::copy_from_slice(bytes));
            let _ = code::tokens(&answer.expect("an answer"));
        }
        if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
            let _ = Person::of_github(&value, Some(&value));
            let _ = value.as_object().map(|claims| (Person::of_claims(claims), Metadata::read(claims, &corp)));
        }
    });
}

#[test]
fn a_page_of_ours_never_leads_to_another_host() {
    const LETTERS: &[u8] = b"//\\..:@?#%2e5cfa \t\n";
    bolero::check!().with_iterations(INPUTS).with_max_len(12).for_each(|bytes: &[u8]| {
        let text: String = bytes.iter().map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()])).collect();
        let page = format!("/{text}");
        if is_own_page(&page) {
            // What browsers leave out, and what they take for a slash (WHATWG URL).
            let read: String = page.chars().filter(|c| !c.is_control()).collect::<String>().replace('\\', "/");
            assert!(!read.starts_with("//"), "{page:?}");
            let pending = Pending::begin("corp", Some(&page), 1).expect("random bytes");
            assert_eq!(pending.return_to.as_deref(), Some(&*page));
        }
    });
}
