//! Dates as HTTP writes them (RFC 9110 §5.6.7): the one reader and the one writer. Pure; never panics on what anybody
//! sends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The library's dates end in the year 9999, and it panics beyond.
const LAST_S: u64 = 253_402_300_799;

/// Any of the three forms, in seconds since 1970.
pub fn read(value: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub fn text(unix_s: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_S));
    httpdate::fmt_http_date(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_forms_are_read_and_one_is_written() {
        for form in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", " Sun Nov  6 08:49:37 1994 "] {
            assert_eq!(read(form.as_bytes()), Some(784_111_777), "{form}");
        }
        for other in
            [&b"yesterday"[..], b"0", b"", b"\xff", b"Sun, 06 Nov 1994 08:49:37 +0100", b"1994-11-06T08:49:37Z"]
        {
            assert_eq!(read(other), None, "{}", String::from_utf8_lossy(other));
        }
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(unix_s in 0..=LAST_S, any in "\\PC{0,40}") {
            prop_assert_eq!(read(text(unix_s).as_bytes()), Some(unix_s));
            let _ = read(any.as_bytes());
        }
    }
}
