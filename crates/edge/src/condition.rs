//! What a condition of a client names (RFC 9110 §8.8.3 and §13.1): lists of entity tags, and `If-Range`. What follows
//! from it is decided where the answer is: in the cache, or before a file. Pure.

use crate::date;

/// The entity tags of one line; a comma may stand within one.
fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&b| !matches!(b, b',' | b' ' | b'\t'))?;
        rest = &rest[start..];
        let open = if rest.starts_with(b"W/\"") { 3 } else { 1 };
        let close = rest.get(open..).and_then(|r| r.iter().position(|&b| b == b'"'));
        let is_tag = rest.starts_with(b"\"") || open == 3;
        let end = match is_tag {
            true => close.map_or(rest.len(), |c| open + c + 1),
            // No tag: passed over as far as it goes.
            false => rest.iter().position(|&b| b == b',').unwrap_or(rest.len()),
        };
        let (tag, after) = rest.split_at(end.min(rest.len()));
        rest = after;
        Some(tag)
    })
}

/// For the weak comparison (§8.8.3.2).
pub fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// How two tags are compared (§8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Neither is weak.
    Strong,
    Weak,
}

/// Whether these lines name this tag, or any at all (`*`). `tag`: as it is sent; `None` where the answer has none.
pub fn names<'a>(lines: impl IntoIterator<Item = &'a [u8]>, tag: Option<&[u8]>, by: By) -> bool {
    let same = |one: &[u8], tag: &[u8]| match by {
        By::Weak => opaque(one) == opaque(tag),
        By::Strong => one == tag && !one.starts_with(b"W/"),
    };
    let named = |line: &[u8]| line == b"*" || tag.is_some_and(|tag| tags(line).any(|one| same(one, tag)));
    lines.into_iter().any(|line| named(line.trim_ascii()))
}

/// §13.1.5: whether a range counts, by the strong comparison or by the very date; without the header it does.
pub fn range_counts(if_range: Option<&[u8]>, tag: Option<&[u8]>, modified_s: Option<u64>) -> bool {
    let Some(condition) = if_range.map(<[u8]>::trim_ascii) else { return true };
    match condition {
        [b'"', ..] => tag == Some(condition),
        [b'W', b'/', ..] => false,
        other => date::read(other).is_some_and(|at| modified_s == Some(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_names_a_tag_or_does_not() {
        let tag = &b"\"a,b\""[..];
        for (line, strongly, weakly) in [
            ("\"a,b\"", true, true),
            ("W/\"a,b\"", false, true),
            ("\"x\", \"a,b\"", true, true),
            (" ,, \"x\",W/\"a,b\" , ", false, true),
            ("*", true, true),
            (" * ", true, true),
            ("\"a\"", false, false),
            ("a,b", false, false),
            ("\"a,b", false, false),
            ("w/\"a,b\"", false, false),
            ("", false, false),
        ] {
            let by = |by| names([line.as_bytes()], Some(tag), by);
            assert_eq!((by(By::Strong), by(By::Weak)), (strongly, weakly), "{line}");
        }
        assert!(names([&b"\"x\""[..], tag], Some(tag), By::Strong), "on the second line");
        assert!(names([&b"\"a\""[..]], Some(b"W/\"a\""), By::Weak));
        assert!(!names([&b"W/\"a\""[..]], Some(b"W/\"a\""), By::Strong), "weak tags are never the same");
        assert!(names([&b"*"[..]], None, By::Strong) && !names([tag], None, By::Weak));
    }

    #[test]
    fn a_range_counts_for_the_very_same() {
        const AT: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let (tag, at) = (Some(&b"\"a\""[..]), Some(784_111_777));
        for (if_range, expected) in [
            (None, true),
            (Some(&b"\"a\""[..]), true),
            (Some(b" \"a\" "), true),
            (Some(b"\"b\""), false),
            (Some(b"W/\"a\""), false),
            (Some(AT), true),
            (Some(b"Sunday, 06-Nov-94 08:49:37 GMT"), true),
            (Some(b"Sun, 06 Nov 1994 08:49:36 GMT"), false),
            (Some(b"?"), false),
            (Some(b""), false),
        ] {
            assert_eq!(range_counts(if_range, tag, at), expected, "{if_range:?}");
        }
        assert!(!range_counts(Some(AT), tag, None) && !range_counts(Some(b"?"), tag, None));
        assert!(!range_counts(Some(b"W/\"a\""), Some(b"W/\"a\""), at));
    }

    proptest! {
        #[test]
        fn no_list_breaks_it(line in "[a-z\", W/*\\\\]{0,20}") {
            let weakly = names([line.as_bytes()], Some(b"\"a\""), By::Weak);
            prop_assert!(weakly || !names([line.as_bytes()], Some(b"\"a\""), By::Strong));
        }
    }
}
