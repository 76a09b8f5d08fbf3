//! Patterns of `KEYS` and `SCAN`, as Redis has them: `*`, `?`, `[a-z]`, `[^a]` and `\`.

/// Bytes of a pattern; names are at most some 300 long.
pub const PATTERN_BYTES_MAX: usize = 512;

/// Whether the whole name is of this pattern. Takes at most pattern times name steps.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Behind the last star, and where the name stood then: a mismatch goes back there and gives the star one more.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, n));
            continue;
        }
        match (name.get(n), one(&pattern[p..], name.get(n).copied())) {
            (Some(_), Some(taken)) => {
                p += taken;
                n += 1;
                continue;
            }
            (None, _) if p == pattern.len() => return true,
            _ => {}
        }
        match star {
            Some((behind, at)) if at < name.len() => {
                (p, n) = (behind, at + 1);
                star = Some((behind, n));
            }
            _ => return false,
        }
    }
}

/// Whether a name that ends in a digit can be of this pattern; may say so of one that cannot.
pub fn may_end_in_a_digit(pattern: &[u8]) -> bool {
    pattern.last().is_some_and(|byte| b"*?]\\".contains(byte) || byte.is_ascii_digit())
}

/// How much of the pattern stands for this byte, if its first piece does.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<usize> {
    let byte = byte?;
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => class(rest, byte).map(|taken| taken + 1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

/// How long a class is up to its bracket, or to the end where it has none, if the byte is of it.
fn class(class: &[u8], byte: u8) -> Option<usize> {
    let is_other = class.first() == Some(&b'^');
    let mut at = usize::from(is_other);
    let mut is_of_it = false;
    loop {
        at += match &class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_of_it |= *escaped == byte;
                2
            }
            [low, b'-', high, ..] => {
                is_of_it |= (*low.min(high)..=*low.max(high)).contains(&byte);
                3
            }
            [plain, ..] => {
                is_of_it |= *plain == byte;
                1
            }
        };
    }
    (is_of_it != is_other).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_redis_own() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "bull:scan:wait", true),
            ("", "", true),
            ("", "a", false),
            ("bull:*:wait", "bull:scan:wait", true),
            ("bull:*:wait", "bull:scan:waits", false),
            ("bull:*", "bul:scan", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("h[a", "ha", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("**", "x", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_match_themselves_and_the_star(
            name in prop::collection::vec(any::<u8>(), 0..20), pattern in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let _ = matches(&pattern, &name);
            let escaped: Vec<u8> = name.iter().flat_map(|byte| [b'\\', *byte]).collect();
            prop_assert!(matches(&escaped, &name) && matches(b"*", &name));
            let around = [b"*", escaped.as_slice(), b"*"].concat();
            prop_assert!(matches(&around, &[pattern.as_slice(), &name, &pattern].concat()));
        }
    }
}
