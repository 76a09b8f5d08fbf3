//! What may be a password: long enough, and not one of those that are tried first. Nothing is asked of its letters.

use std::cmp::Ordering;

/// Of UTF-8: what a login hashes. A passphrase has room; a book that has to be hashed is an attack.
pub(crate) const BYTES_MAX: usize = 1024;
/// Of a password that is chosen (ASVS 2.1.2), whatever its letters take.
const CHARACTERS_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    TooShort(usize),
    TooLong,
    Common,
    /// It is the address, or what stands before the `@`.
    OwnName,
}

impl Weakness {
    pub fn sentence(self) -> String {
        match self {
            Weakness::TooShort(least) => format!("A password has at least {least} characters."),
            Weakness::TooLong => format!("A password has at most {CHARACTERS_MAX} characters."),
            Weakness::Common => "This password is one of those that are tried first.".to_owned(),
            Weakness::OwnName => "A password is not the address it belongs to.".to_owned(),
        }
    }
}

/// `address` in its one spelling.
pub(crate) fn weakness(password: &str, address: &str, least_characters: usize) -> Option<Weakness> {
    let characters = password.chars().count();
    if characters > CHARACTERS_MAX || password.len() > BYTES_MAX {
        return Some(Weakness::TooLong);
    }
    if characters < least_characters {
        return Some(Weakness::TooShort(least_characters));
    }
    let folded = password.to_lowercase();
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    if folded == address || folded == local {
        return Some(Weakness::OwnName);
    }
    is_common_folded(&folded).then_some(Weakness::Common)
}

/// It is among those that are tried first.
pub(crate) fn is_common(password: &str) -> bool {
    is_common_folded(&password.to_lowercase())
}

fn is_common_folded(folded: &str) -> bool {
    is_run(folded) || is_breached(folded)
}

/// One letter again and again, or letters in their order.
fn is_run(text: &str) -> bool {
    let steps: Vec<i32> = text.chars().zip(text.chars().skip(1)).map(|(a, b)| b as i32 - a as i32).collect();
    let Some(first) = steps.first() else { return true };
    first.abs() <= 1 && steps.iter().all(|step| step == first)
}

/// Of lists of breached passwords the commonest, under the licence at its head. Small letters, one a line, sorted.
const BREACHED: &str = include_str!("breached.txt");

/// Nothing is built for it: the file is sorted, and a dozen of its lines are looked at.
fn is_breached(folded: &str) -> bool {
    let mut lines = BREACHED.split_once("\n\n").map_or("", |(_, passwords)| passwords);
    while !lines.is_empty() {
        let middle = lines.len() / 2;
        let (before, after) = lines.as_bytes().split_at(middle);
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = middle + after.iter().position(|byte| *byte == b'\n').unwrap_or(after.len());
        let Some(line) = lines.get(start..end) else { return false };
        lines = match folded.cmp(line) {
            Ordering::Equal => return true,
            Ordering::Less => lines.get(..start).unwrap_or(""),
            Ordering::Greater => lines.get(end + 1..).unwrap_or(""),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_and_what_is_tried_first_is_refused() {
        for (password, expected) in [
            ("short", Some(Weakness::TooShort(8))),
            ("Password123", Some(Weakness::Common)),
            ("aaaaaaaaaaaa", Some(Weakness::Common)),
            ("abcdefghijkl", Some(Weakness::Common)),
            ("87654321", Some(Weakness::Common)),
            ("jo.smith@example.com", Some(Weakness::OwnName)),
            ("Jo.Smith", Some(Weakness::OwnName)),
            ("correct horse battery", None),
            ("ünïcödé€", None),
            ("        x ", None),
        ] {
            assert_eq!(weakness(password, "jo.smith@example.com", 8), expected, "{password}");
        }
        // 128 characters, whatever bytes they take.
        assert_eq!(weakness(&"é€".repeat(64), "a@b", 8), None);
        assert_eq!(weakness(&format!("{}x", "é€".repeat(64)), "a@b", 8), Some(Weakness::TooLong));
    }

    #[test]
    fn thousands_of_breached_passwords_are_refused_in_whatever_letters() {
        let (head, list) = BREACHED.split_once("\n\n").expect("an empty line behind the head");
        assert!(head.lines().all(|line| line.starts_with('#')) && head.contains("Permission is hereby granted"));
        let passwords: Vec<&str> = list.lines().collect();
        assert!(passwords.len() >= 10_000, "{}", passwords.len());
        assert!(passwords.is_sorted_by(|one, other| one < other), "sorted, each once");
        for password in &passwords {
            assert!(password.len() >= 8 && *password == password.to_lowercase(), "{password}");
            assert_eq!(weakness(password, "jo@example.com", 8), Some(Weakness::Common), "{password}");
            let loud = password.to_uppercase();
            assert_eq!(weakness(&loud, "jo@example.com", 8), Some(Weakness::Common), "{loud}");
            let near = [format!("{password}\u{1}"), format!(" {password}"), password[1..].to_owned()];
            for near in near {
                assert_eq!(is_breached(&near), passwords.binary_search(&near.as_str()).is_ok(), "{near:?}");
            }
        }
        for none in ["", "\n", "#", "a", "~~~~~~~~~~", "password\n", "password\npassword1", "ÿÿÿÿÿÿÿÿ"] {
            assert!(!is_breached(none), "{none:?}");
        }
    }
}
