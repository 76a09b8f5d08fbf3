//! Codes for the day the phone is lost: ten, each good once. 120 random bits each, so that a plain hash keeps them
//! (ASVS 2.6.2 asks for 112).

use super::Fault;
use super::secrets::{Hash, hash};
use super::totp::base32;
use aws_lc_rs::rand;

pub(crate) const CODES: usize = 10;
const CODE_BYTES: usize = 15;
const GROUP: usize = 4;
/// What is longer is no code of ours.
const TEXT_MAX: usize = 64;

/// As they are shown, once, and as they are kept.
pub(crate) fn make() -> Result<(Vec<String>, Vec<Hash>), Fault> {
    let mut shown = Vec::with_capacity(CODES);
    for _ in 0..CODES {
        let mut bytes = [0; CODE_BYTES];
        rand::fill(&mut bytes).map_err(|_| Fault::Random)?;
        let letters = base32(&bytes);
        let groups: Vec<&str> = (0..letters.len()).step_by(GROUP).map(|at| &letters[at..at + GROUP]).collect();
        shown.push(groups.join("-"));
    }
    let kept = shown.iter().map(|code| kept(code)).collect();
    Ok((shown, kept))
}

/// As somebody may write it: with other blanks, in small letters.
pub(crate) fn kept(written: &str) -> Hash {
    let plain = |c: &char| c.is_ascii_alphanumeric();
    let letters: String = written.chars().take(TEXT_MAX).filter(plain).map(|c| c.to_ascii_uppercase()).collect();
    hash(&format!("recovery {letters}"), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// ASVS 2.6.2, 2.6.3.
    #[test]
    fn i1_2_6_2_ten_codes_of_120_bits_are_kept_as_hashes() {
        let (shown, hashes) = make().expect("random");
        assert_eq!((shown.len(), hashes.len()), (CODES, CODES));
        assert!(
            shown.iter().all(|code| code.len() == 29 && code.split('-').all(|group| group.len() == 4)),
            "{shown:?}"
        );
        let different: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(different.len(), CODES);
        let (again, _) = make().expect("random");
        assert!(!again.iter().any(|code| shown.contains(code)));
        assert_eq!(kept(&shown[0].to_lowercase().replace('-', " ")), hashes[0]);
        assert_ne!(kept(&shown[0][1..]), hashes[0]);
    }
}
