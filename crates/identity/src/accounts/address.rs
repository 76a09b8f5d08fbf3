//! An address of mail as an account is known by: one spelling of it, or none.

/// RFC 5321 has no longer path.
const BYTES_MAX: usize = 254;

/// Without blanks around it and in small letters: `Jo@Example.com` and `jo@example.com` are one person, whatever the
/// standard would allow. `None`: nobody gets mail there.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    let (local, domain) = text.rsplit_once('@')?;
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | ',' | ';' | '"' | '@');
    let is_domain = |c: char| is_plain(c) && !matches!(c, '/' | '?' | '#' | '\\' | '(' | ')');
    let good = text.len() <= BYTES_MAX
        && (1..=64).contains(&local.len())
        && local.chars().all(is_plain)
        && domain.chars().all(is_domain)
        && !domain.split('.').any(str::is_empty);
    good.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_spelling_and_what_gets_no_mail_is_none() {
        for (text, expected) in [
            (" Jo@Example.COM ", Some("jo@example.com")),
            ("jo+tag@example.com", Some("jo+tag@example.com")),
            ("jo@localhost", Some("jo@localhost")),
            ("jürgen@exämple.de", Some("jürgen@exämple.de")),
            ("jo", None),
            ("@example.com", None),
            ("jo@", None),
            ("jo@example..com", None),
            ("jo@a@example.com", None),
            ("jo@example.com\r\nBcc: all@example.com", None),
            ("jo smith@example.com", None),
            ("<jo@example.com>", None),
            ("jo@example.com,eve@example.com", None),
            ("", None),
        ] {
            assert_eq!(canonical(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(canonical(&format!("{}@example.com", "a".repeat(65))), None);
        assert_eq!(canonical(&format!("a@{}com", "b.".repeat(130))), None);
    }
}
