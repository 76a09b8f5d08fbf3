//! Codes of an authenticator app: RFC 6238 over RFC 4226, with what every such app takes: SHA-1, six digits, 30 s.
//! Pure: the time is an argument. Which step was taken last is the store's.

use super::Fault;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, rand};

/// RFC 4226 §4: 128 bits at least, 160 recommended.
pub(crate) const SECRET_BYTES: usize = 20;
pub(crate) const PERIOD_S: u64 = 30;
pub(crate) const DIGITS: usize = 6;
/// Steps that the app's clock may be off, either way; RFC 6238 §5.2 recommends one at most.
const LEEWAY_STEPS: i64 = 1;

pub(crate) type Secret = [u8; SECRET_BYTES];

pub(crate) fn secret() -> Result<Secret, Fault> {
    let mut secret = [0; SECRET_BYTES];
    rand::fill(&mut secret).map_err(|_| Fault::Random)?;
    Ok(secret)
}

/// The step a time lies in.
pub(crate) fn step(now_s: u64) -> i64 {
    i64::try_from(now_s / PERIOD_S).unwrap_or(i64::MAX)
}

/// The step whose code this is, of those that may be shown now. All are looked at, so that it takes as long for each.
pub(crate) fn matching(secret: &[u8], written: &str, now_s: u64) -> Option<i64> {
    let written: String = written.chars().filter(|c| !c.is_whitespace() && *c != '-').take(DIGITS + 1).collect();
    let now = step(now_s);
    let steps = (now - LEEWAY_STEPS..=now + LEEWAY_STEPS).filter(|step| *step >= 0);
    let own = steps.filter(|step| verify_slices_are_equal(code(secret, *step).as_bytes(), written.as_bytes()).is_ok());
    own.fold(None, |_, step| Some(step))
}

pub(crate) fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    // RFC 4226 §5.3: the last four bits say where the number begins.
    let at = usize::from(bytes.last().copied().unwrap_or_default() & 0x0f);
    let number = bytes.iter().skip(at).take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    let number = (number & 0x7fff_ffff) % 10u32.pow(DIGITS as u32);
    format!("{number:0DIGITS$}")
}

/// What an app reads from a picture or a link. `issuer` and `user`: what it shows.
pub(crate) fn uri(secret: &[u8], issuer: &str, user: &str) -> String {
    let (issuer, user) = (escaped(issuer), escaped(user));
    format!(
        "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD_S}",
        base32(secret)
    )
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648 §6, without the `=` at its end.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let letter = |chunk: &[u8], at: usize| {
        let bits = chunk.iter().chain([0; 5].iter()).take(5).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        char::from(ALPHABET[(bits >> (35 - 5 * at) & 31) as usize])
    };
    let letters = |chunk: &[u8]| -> String { (0..(chunk.len() * 8).div_ceil(5)).map(|at| letter(chunk, at)).collect() };
    bytes.chunks(5).map(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, the last six of its eight digits; ASVS 2.8.3.
    #[test]
    fn i1_2_8_3_codes_are_those_of_the_standard() {
        for (time_s, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(b"12345678901234567890", step(time_s)), expected, "{time_s}");
        }
    }

    #[test]
    fn letters_are_those_of_the_standard() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "MY"),
            (b"fo", "MZXQ"),
            (b"foo", "MZXW6"),
            (b"foob", "MZXW6YQ"),
            (b"fooba", "MZXW6YTB"),
            (b"foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes), expected);
        }
    }

    /// ASVS 2.8.1: a code is good in its own half minute and in one on either side, and in no other.
    #[test]
    fn i1_2_8_1_a_code_lives_for_its_step_and_one_on_either_side() {
        let secret = b"12345678901234567890";
        let at = 50 * PERIOD_S;
        let own = code(secret, 50);
        for (now_s, good) in [
            (at - PERIOD_S - 1, false),
            (at - PERIOD_S, true),
            (at, true),
            (at + 2 * PERIOD_S - 1, true),
            (at + 2 * PERIOD_S, false),
        ] {
            assert_eq!(matching(secret, &own, now_s), good.then_some(50), "{now_s}");
        }
        assert_eq!(matching(secret, &format!("{} {}", &own[..3], &own[3..]), at), Some(50), "as apps show it");
        for wrong in ["", "1", &own[..5], &format!("{own}0"), "abcdef", "\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}"] {
            assert_eq!(matching(secret, wrong, at), None, "{wrong}");
        }
        assert_eq!(matching(secret, &code(secret, 0), 0), Some(0), "there is no step before the first");
    }

    #[test]
    fn an_address_of_an_app_holds_what_it_needs_and_no_letter_breaks_it() {
        let uri = uri(b"12345678901234567890", "api.example.com", "jo+1@example.com");
        assert_eq!(
            uri,
            "otpauth://totp/api.example.com:jo%2B1@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=api.example.com&algorithm=SHA1&digits=6&period=30"
        );
        assert!(super::uri(b"x", "a:b&c", "\u{e9}?#").starts_with("otpauth://totp/a%3Ab%26c:%C3%A9%3F%23?secret=PA&"));
        let (one, other) = (secret().expect("random"), secret().expect("random"));
        assert_ne!(one, other);
    }
}
