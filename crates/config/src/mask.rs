//! Keeps secrets, and bytes a terminal would obey, out of everything shown. Pure. When in doubt it hides.

use std::ops::Range;

use crate::source::Language;
use crate::{known, secret};

/// What stands for a hidden value where its length does not matter.
pub(crate) const MASK: &str = "••••";

/// Longer texts are cut where they are quoted: a message is one line.
const QUOTED_CHARS: usize = 60;

/// Shorter values are not searched for: hiding every "1" makes a message unreadable and protects nothing.
pub(crate) const SCRUBBED_BYTES: usize = 4;

/// In quotation marks, escaped, cut.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", cut(text))
}

pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Control characters escaped, so that no message moves the cursor.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Replaces every value known to be secret.
pub(crate) fn scrub(text: &mut String, secrets: &[(String, String)]) {
    for (_, value) in secrets {
        if value.len() >= SCRUBBED_BYTES && text.contains(value.as_str()) {
            *text = text.replace(value.as_str(), MASK);
        }
        let escaped = value.escape_debug().to_string();
        if escaped != *value && value.len() >= SCRUBBED_BYTES && text.contains(&escaped) {
            *text = text.replace(&escaped, MASK);
        }
    }
}

/// The text with the password of each URL in it replaced.
pub(crate) fn url_passwords(text: &str) -> String {
    let mut shown = text.to_owned();
    for span in password_spans(text).into_iter().rev() {
        shown.replace_range(span, MASK);
    }
    shown
}

/// One line of a source, as many bytes as before, its secrets replaced by stars.
pub(crate) fn line(text: &str, language: Language) -> String {
    let mut shown = text.to_owned();
    match language {
        Language::Dotenv => dotenv_line(&mut shown),
        Language::Toml => toml_line(&mut shown),
    }
    for span in password_spans(&shown) {
        stars(&mut shown, span);
    }
    shown
}

/// Replaces the bytes of `range` by as many stars; a character cut by an end goes whole.
pub(crate) fn stars(text: &mut String, range: Range<usize>) {
    let mut start = range.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = range.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    text.replace_range(start..end, &"*".repeat(end - start));
}

/// Only the values of variables known to be no secret are shown: an env file is where secrets live.
fn dotenv_line(shown: &mut String) {
    let end = shown.len();
    let Some(equals) = shown.find('=') else {
        return stars(shown, 0..end);
    };
    let name = shown[..equals].trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    // What does not look like a name may be a piece of a key, pasted without quotes.
    if !name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
        return stars(shown, 0..end);
    }
    if !known::is_known(name) || secret::is_secret_name(name) {
        stars(shown, equals + 1..end);
    }
}

fn toml_line(shown: &mut String) {
    let mut from = 0;
    let mut first = true;
    while let Some(equals) = shown[from..].find('=').map(|at| at + from) {
        let name = name_before(&shown[..equals]).to_owned();
        from = equals + 1;
        if secret::is_secret_name(&name) {
            let span = value_span(shown, from, first);
            if !is_reference(&shown[span.clone()]) {
                stars(shown, span.clone());
            }
            from = span.end.max(from);
        }
        first = false;
    }
}

/// The last part of the key that stands before an equals sign.
fn name_before(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let start = text
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    &text[start..]
}

/// The value after an equals sign: to its closing quote, or to the end of what can belong to it.
fn value_span(text: &str, from: usize, first: bool) -> Range<usize> {
    let start = from + text[from..].len() - text[from..].trim_start().len();
    let rest = &text[start..];
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let end = match quote {
        Some(quote) => rest[1..].rfind(quote).filter(|_| first).or_else(|| rest[1..].find(quote)).map(|at| at + 2),
        None if first => None,
        None => rest.find([',', '}', ' ', '"', '\'']),
    };
    start..start + end.unwrap_or(rest.len())
}

/// `"${NAME}"` tells where a secret comes from, not what it is.
fn is_reference(value: &str) -> bool {
    let inner = value.trim_matches(['"', '\'']);
    inner.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(known::is_variable_name)
}

/// The password of each `scheme://user:password@host` in a text. Generous: it ends at the last `@` of the word.
fn password_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://").map(|at| at + from + 3) {
        let word = text[at..].find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).map(|end| at + end);
        let word = &text[at..word.unwrap_or(text.len())];
        if let (Some(colon), Some(last)) = (word.find(':'), word.rfind('@'))
            && colon < last
            && !is_reference(&word[colon + 1..last])
        {
            spans.push(at + colon + 1..at + last);
        }
        from = at + word.len();
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_length_and_loses_its_secrets() {
        for (line, shown) in [
            (r#"jwt_secret = "hunter2""#, r#"jwt_secret = *********"#),
            (r#"jwt_secret = hunter two"#, r#"jwt_secret = **********"#),
            (r#"jwt_secret = "${JWT_SECRET}""#, r#"jwt_secret = "${JWT_SECRET}""#),
            (r#"jwt_secret = "${JWT_SECRET:-abc}""#, r#"jwt_secret = ********************"#),
            (r#"env = { API_TOKEN = "abc", B = "c" }"#, r#"env = { API_TOKEN = *****, B = "c" }"#),
            (r#""DB_PASSWORD" = "a\"b" # x"#, r#""DB_PASSWORD" = ****** # x"#),
            (r#"run = "JWT_SECRET=abc node x""#, r#"run = "JWT_SECRET=*** node x""#),
            (r#"url = "postgres://u:p/w@h/db""#, r#"url = "postgres://u:***@h/db""#),
            (r#"url = "postgres://u:${PW}@h/db""#, r#"url = "postgres://u:${PW}@h/db""#),
            (r#"listen = ":80""#, r#"listen = ":80""#),
        ] {
            assert_eq!(super::line(line, Language::Toml), shown);
            assert_eq!(line.len(), shown.len());
        }
        for (line, shown) in [
            ("LOG_LEVEL=http", "LOG_LEVEL=http"),
            ("export JWT_SECRET=abc", "export JWT_SECRET=***"),
            ("SOMETHING=else", "SOMETHING=****"),
            ("MIIEvQIBADANBg", "**************"),
            ("MIIEvQIBADANBg==", "****************"),
            ("REDIS_URL=redis://:pw@h", "REDIS_URL=redis://:**@h"),
        ] {
            assert_eq!(super::line(line, Language::Dotenv), shown);
        }
    }

    #[test]
    fn scrubs_values_and_their_escaped_form() {
        let secrets = vec![("A".to_owned(), "pass\nword".to_owned()), ("B".to_owned(), "abc".to_owned())];
        let mut text = "x pass\nword y \"pass\\nword\" abc".to_owned();
        scrub(&mut text, &secrets);
        assert_eq!(text, "x •••• y \"••••\" abc");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
