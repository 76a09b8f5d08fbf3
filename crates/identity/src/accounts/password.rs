//! What may be a password: long enough, and not one of those that are tried first. Nothing is asked of its letters.

/// Of UTF-8. A passphrase has room; a book that has to be hashed is an attack.
pub(crate) const BYTES_MAX: usize = 1024;

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
            Weakness::TooLong => format!("A password has at most {BYTES_MAX} bytes."),
            Weakness::Common => "This password is one of those that are tried first.".to_owned(),
            Weakness::OwnName => "A password is not the address it belongs to.".to_owned(),
        }
    }
}

/// `address` in its one spelling.
pub(crate) fn weakness(password: &str, address: &str, least_characters: usize) -> Option<Weakness> {
    if password.len() > BYTES_MAX {
        return Some(Weakness::TooLong);
    }
    if password.chars().count() < least_characters {
        return Some(Weakness::TooShort(least_characters));
    }
    let folded = password.to_lowercase();
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    if folded == address || folded == local {
        return Some(Weakness::OwnName);
    }
    let common = COMMONEST.contains(&folded.as_str()) || is_run(&folded);
    common.then_some(Weakness::Common)
}

/// One letter again and again, or letters in their order.
fn is_run(text: &str) -> bool {
    let steps: Vec<i32> = text.chars().zip(text.chars().skip(1)).map(|(a, b)| b as i32 - a as i32).collect();
    let Some(first) = steps.first() else { return true };
    first.abs() <= 1 && steps.iter().all(|step| step == first)
}

/// The commonest of eight characters and more, as lists of leaked passwords agree; in small letters.
const COMMONEST: [&str; 120] = [
    "password",
    "password1",
    "password12",
    "password123",
    "password1234",
    "password!",
    "password1!",
    "passw0rd",
    "p@ssword",
    "p@ssw0rd",
    "p@ssw0rd1",
    "p@$$w0rd",
    "pa$$word",
    "12345678",
    "123456789",
    "1234567890",
    "0123456789",
    "87654321",
    "987654321",
    "0987654321",
    "11111111",
    "111111111",
    "00000000",
    "88888888",
    "12341234",
    "11223344",
    "1122334455",
    "12344321",
    "123123123",
    "123321123",
    "147258369",
    "159753456",
    "789456123",
    "987654321a",
    "a12345678",
    "12345678a",
    "a123456789",
    "123456789a",
    "1234567a",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1q2w3e4r5t6y",
    "q1w2e3r4",
    "q1w2e3r4t5",
    "1qaz2wsx",
    "1qaz2wsx3edc",
    "qazwsxedc",
    "qazwsx123",
    "zaq12wsx",
    "zaq1zaq1",
    "qwertyui",
    "qwertyuiop",
    "qwerty12",
    "qwerty123",
    "qwerty1234",
    "qwerty12345",
    "qwerty123456",
    "123qweasd",
    "qweasdzxc",
    "asdfghjk",
    "asdfghjkl",
    "asdf1234",
    "asdfasdf",
    "zxcvbnm1",
    "zxcvbnm123",
    "1234qwer",
    "qwer1234",
    "123456qwerty",
    "abcd1234",
    "abc12345",
    "abc123456",
    "abcdefgh",
    "abcdefg1",
    "aa123456",
    "aa12345678",
    "a1b2c3d4",
    "iloveyou",
    "iloveyou1",
    "iloveyou2",
    "welcome1",
    "welcome123",
    "welcome1!",
    "letmein1",
    "letmein123",
    "football",
    "football1",
    "baseball",
    "baseball1",
    "basketball",
    "superman",
    "superman1",
    "batman123",
    "starwars",
    "sunshine",
    "sunshine1",
    "princess",
    "princess1",
    "trustno1",
    "whatever",
    "whatever1",
    "computer",
    "internet",
    "michelle",
    "jennifer",
    "jordan23",
    "samantha",
    "alexander",
    "corvette",
    "mercedes",
    "maverick",
    "chocolate",
    "butterfly",
    "liverpool",
    "liverpool1",
    "pokemon1",
    "dragon123",
    "monkey123",
    "administrator",
    "admin123",
    "changeme",
];

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
        assert_eq!(weakness(&"é".repeat(513), "a@b", 8), Some(Weakness::TooLong));
        assert!(weakness(&"correct horse ".repeat(70), "a@b", 8).is_none());
        assert!(COMMONEST.iter().all(|known| known.len() >= 8 && *known == known.to_lowercase()));
    }
}
