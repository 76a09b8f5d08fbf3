//! Invariant 6: no value Mainstay knows to be secret leaves it in a log, a trace or an answer.
//!
//! Matching is by value, in every form the value usually takes on its way into a line.

use crate::json;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// Shorter values would blank out ordinary words; the configuration refuses such secrets in production.
pub const SECRET_CHARS_MIN: usize = 6;
/// Lines of a PEM key and the like are looked for one by one from this length on.
const SECRET_LINE_CHARS_MIN: usize = 16;
/// A configuration names dozens; past this the automaton's memory would be felt.
pub const SECRETS_MAX: usize = 2000;
/// The tail of a line that was cut may hold the beginning of a secret: from this length on it is taken off.
const PREFIX_BYTES_MIN: usize = 4;

/// Finds secrets in text. Cheap to clone; a reload makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Redactor(Option<Arc<Forms>>);

struct Forms {
    automaton: AhoCorasick,
    patterns: Vec<Vec<u8>>,
    /// For each pattern what is written instead.
    labels: Vec<Arc<str>>,
}

/// Never shows a pattern.
impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} forms", self.patterns.len())
    }
}

impl Redactor {
    /// Values shorter than `SECRET_CHARS_MIN` are left out, and all past `SECRETS_MAX`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Redactor {
        let (mut patterns, mut labels, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (name, value) in secrets.into_iter().take(SECRETS_MAX) {
            let label: Arc<str> = label(name).into();
            for form in forms(value) {
                if form.len() >= SECRET_CHARS_MIN && seen.insert(form.clone()) {
                    patterns.push(form.into_bytes());
                    labels.push(label.clone());
                }
            }
        }
        if patterns.is_empty() {
            return Redactor(None);
        }
        // Built from plain byte strings it fails only past four billion states.
        // No prefilter: most texts are shorter than what it costs to begin with one.
        let mut builder = AhoCorasick::builder();
        let automaton = builder.kind(Some(AhoCorasickKind::ContiguousNFA)).prefilter(false).build(&patterns).ok();
        Redactor(automaton.map(|automaton| Arc::new(Forms { automaton, patterns, labels })))
    }

    /// The text without secrets; borrowed when there was none.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Some(forms) if forms.automaton.is_match(text) => Cow::Owned(forms.replace(text)),
            _ => Cow::Borrowed(text),
        }
    }

    /// As `text`, for text that was cut: a secret of which only the beginning is there is taken off too.
    pub fn cut_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(forms) = &self.0 else { return Cow::Borrowed(text) };
        let whole = self.text(text);
        let Some((len, label)) = forms.longest_beginning_at_end(whole.as_bytes()) else { return whole };
        let mut text = whole.into_owned();
        text.truncate(text.len() - len);
        text.push_str(label);
        Cow::Owned(text)
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|forms| forms.automaton.is_match(text))
    }

    /// Escaped for JSON, without quotes.
    pub(crate) fn json_inner(&self, out: &mut Vec<u8>, text: &str) {
        json::inner(out, &self.text(text));
    }
}

impl Forms {
    /// Overlapping secrets are taken out as one stretch, so that no rest of either stays.
    fn replace(&self, text: &str) -> String {
        let mut stretches: Vec<(usize, usize, usize)> = Vec::new();
        let found = self.automaton.find_overlapping_iter(text);
        let mut matches: Vec<_> = found.map(|m| (m.start(), m.end(), m.pattern().as_usize())).collect();
        // At one place the longest first: it names the stretch.
        matches.sort_unstable_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
        for (start, end, pattern) in matches {
            match stretches.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => stretches.push((start, end, pattern)),
            }
        }
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for (start, end, pattern) in stretches {
            // Both ends are character boundaries: patterns are UTF-8 and so is the text.
            out.push_str(text.get(from..start).unwrap_or(""));
            out.push_str(&self.labels[pattern]);
            from = end;
        }
        out.push_str(text.get(from..).unwrap_or(""));
        out
    }

    fn longest_beginning_at_end(&self, text: &[u8]) -> Option<(usize, &str)> {
        let beginning = |pattern: &[u8]| {
            let longest = (pattern.len() - 1).min(text.len());
            (PREFIX_BYTES_MIN..=longest)
                .rev()
                .filter(|len| text.get(text.len() - len).is_some_and(|c| (*c as i8) >= -0x40))
                .find(|len| text.ends_with(&pattern[..*len]))
        };
        let found = self.patterns.iter().zip(&self.labels).filter_map(|(p, label)| Some((beginning(p)?, &**label)));
        found.max_by_key(|(len, _)| *len)
    }
}

fn label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    format!("[secret {}]", name.chars().map(plain).collect::<String>())
}

/// The value as it is, as JSON and URLs write it, as base64 at any alignment, and each long line of it.
fn forms(value: &str) -> Vec<String> {
    let mut plain = vec![value.to_owned()];
    if value.contains('\n') {
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= SECRET_LINE_CHARS_MIN);
        plain.extend(lines.filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    plain.retain(|text| text.chars().count() >= SECRET_CHARS_MIN);
    let mut all = Vec::new();
    for text in plain {
        all.extend(json_forms(&text));
        all.extend(url_forms(&text));
        all.extend(base64_forms(text.as_bytes()));
        all.push(text);
    }
    all
}

fn json_forms(text: &str) -> Vec<String> {
    let escaped = |text: &str| {
        let mut out = Vec::new();
        json::inner(&mut out, text);
        String::from_utf8(out).unwrap_or_default()
    };
    let once = escaped(text);
    let ascii = |text: &str| {
        let mut out = String::new();
        for c in text.chars() {
            match c.is_ascii() {
                true => out.push(c),
                false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            }
        }
        out
    };
    // Python writes ASCII alone, PHP escapes slashes, Go escapes what HTML would read.
    let go = once.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    vec![escaped(&once), ascii(&once), once.replace('/', "\\/"), go, once]
}

fn url_forms(text: &str) -> Vec<String> {
    let encode = |kept: &str, upper: bool| {
        let mut out = String::new();
        for byte in text.bytes() {
            let is_kept = byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte);
            match (is_kept, upper) {
                (true, _) => out.push(char::from(byte)),
                (false, true) => out.push_str(&format!("%{byte:02X}")),
                (false, false) => out.push_str(&format!("%{byte:02x}")),
            }
        }
        out
    };
    let strict = encode("-._~", true);
    // encodeURIComponent, encodeURI, and forms, where a space is a plus.
    let (component, uri) = (encode("-._~!'()*", true), encode("-._~!'()*;/?:@&=+$,#", true));
    let form = encode("-._* ", true).replace(' ', "+");
    vec![encode("-._~", false), component, uri, form, strict]
}

/// The characters that the value alone decides when it lies at each of the three alignments inside something
/// longer, as a password does in `Basic`.
fn base64_forms(value: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    for before in 0..3 {
        let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(value.iter().copied()).collect();
        let first = (before * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            all.extend(text.get(first..end).map(str::to_owned));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_usual_form_is_found() {
        let value = "p\"ä/s&s w+rd\\1";
        let redactor = Redactor::new([("DB_PASSWORD", value)]);
        let json = serde_json::to_string(value).expect("json");
        for text in [
            value.to_owned(),
            json.clone(),
            serde_json::to_string(&json).expect("json"),
            json.replace('/', "\\/"),
            json.replace('ä', "\\u00e4"),
            json.replace('&', "\\u0026"),
            "p%22%C3%A4%2Fs%26s%20w%2Brd%5C1".to_owned(),
            "p%22%c3%a4%2fs%26s%20w%2brd%5c1".to_owned(),
            "p%22%C3%A4%2Fs%26s+w%2Brd%5C1".to_owned(),
        ] {
            let found = redactor.text(&text);
            assert!(found.contains("[secret DB_PASSWORD]") && !found.contains("w+rd"), "{text} -> {found}");
        }
    }

    #[test]
    fn short_values_are_left_alone_and_overlaps_leave_no_rest() {
        let redactor = Redactor::new([("A", "abcdef"), ("B", "defghi"), ("C", "short")]);
        assert_eq!(redactor.text("x abcdefghi y short"), "x [secret A] y short");
        assert_eq!(Redactor::default().text("abcdef"), "abcdef");
        assert!(!format!("{redactor:?}").contains("abc"));
    }

    #[test]
    fn the_beginning_of_a_secret_at_a_cut_is_taken_off() {
        let redactor = Redactor::new([("KEY", "sk_live_äöü123456")]);
        assert_eq!(redactor.cut_text("token sk_live_äö"), "token [secret KEY]");
        assert_eq!(redactor.cut_text("token sk_"), "token sk_");
        assert_eq!(redactor.text("token sk_live_äö"), "token sk_live_äö");
    }

    #[test]
    fn a_key_of_many_lines_is_found_line_by_line() {
        let key = "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0\nAQEFAASCAUAwggE8AgEAAkEA\n-----END KEY-----";
        let redactor = Redactor::new([("PRIVATE_KEY", key)]);
        assert_eq!(redactor.text("AQEFAASCAUAwggE8AgEAAkEA"), "[secret PRIVATE_KEY]");
        assert_eq!(redactor.text("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
    }

    proptest! {
        #[test]
        fn nothing_is_missed_wherever_it_stands(
            secret in "[ -~]{6,40}", before in "\\PC{0,20}", after in "\\PC{0,20}",
        ) {
            let redactor = Redactor::new([("S", secret.as_str())]);
            let line = format!("{before}{secret}{after}");
            prop_assert!(!redactor.is_match(&redactor.text(&line).replace("[secret S]", "\n")));
            prop_assert!(redactor.text(&line).contains("[secret S]"));
            for encoded in [base64::engine::general_purpose::STANDARD.encode(&line),
                            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&line)] {
                prop_assert!(redactor.text(&encoded).contains("[secret S]"), "{}", encoded);
            }
        }

        #[test]
        fn no_text_panics(text: String, secret: String) {
            let redactor = Redactor::new([("S", secret.as_str()), ("T", "äöüßéè")]);
            let _ = redactor.text(&text);
            let _ = redactor.cut_text(&text);
        }
    }
}
