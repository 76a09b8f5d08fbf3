//! The name a person probably meant. Pure.

/// Longer names are not compared: nobody mistypes a key of 64 characters, and a hostile one would cost time.
const COMPARED_CHARS: usize = 64;

/// The closest candidate, when it is close enough to be worth saying.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = plain(name);
    if name.is_empty() || name.len() > COMPARED_CHARS {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = plain(candidate);
        if other.is_empty() || other.len() > COMPARED_CHARS {
            continue;
        }
        let distance = distance(&name, &other);
        // A third of the letters may differ: "balanse" is meant, "rune" for "port" is not.
        let allowed = name.len().max(other.len()).div_ceil(3);
        let closer = best.is_none_or(|(least, _)| distance < least);
        if distance <= allowed && distance < name.len().max(other.len()) && closer {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Case and separators are no difference: `trustedProxies` is `trusted_proxies`.
fn plain(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).take(COMPARED_CHARS + 1).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = previous[j] + usize::from(x != y);
            let mut least = replaced.min(previous[j + 1] + 1).min(current[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["interval", "timeout", "fails", "passes", "path", "trusted_proxies"];
        for (typed, meant) in [
            ("intervall", Some("interval")),
            ("intreval", Some("interval")),
            ("Timeout", Some("timeout")),
            ("trustedProxies", Some("trusted_proxies")),
            ("pass", Some("passes")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn one_letter_is_not_everything() {
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest(&"a".repeat(10_000), ["aaa"]), None);
    }
}
