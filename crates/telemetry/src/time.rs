//! Wall time as logs write it: ISO 8601, UTC, milliseconds.

/// Digits of `2026-02-01T12:00:00.000Z`.
pub const ISO_BYTES: usize = 24;
/// The end of year 9999: what is later is written as this.
const LAST_US: u64 = 253_402_300_799_999_999;

/// Written in place, without allocating.
pub fn write_iso(unix_us: u64, out: &mut [u8; ISO_BYTES]) {
    let unix_ms = unix_us.min(LAST_US) / 1000;
    let (day, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, date) = civil(day);
    *out = *b"0000-00-00T00:00:00.000Z";
    digits(year, &mut out[0..4]);
    digits(month, &mut out[5..7]);
    digits(date, &mut out[8..10]);
    digits(ms / 3_600_000, &mut out[11..13]);
    digits(ms / 60_000 % 60, &mut out[14..16]);
    digits(ms / 1000 % 60, &mut out[17..19]);
    digits(ms % 1000, &mut out[20..23]);
}

pub fn iso(unix_us: u64) -> String {
    let mut out = [0; ISO_BYTES];
    write_iso(unix_us, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads ISO 8601 with any offset, as apps write it; None for what is not a time or lies before 1970.
pub fn parse_iso(text: &str) -> Option<u64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_microsecond()).ok()
}

fn digits(mut value: u64, out: &mut [u8]) {
    for c in out.iter_mut().rev() {
        *c = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 to year, month and date (Howard Hinnant's algorithm).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(1_769_947_200_000_000), "2026-02-01T12:00:00.000Z");
        assert_eq!(iso(951_782_399_999_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(iso(u64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse_iso("2026-02-01T14:00:00+02:00"), Some(1_769_947_200_000_000));
        assert_eq!(parse_iso("yesterday"), None);
    }

    proptest! {
        #[test]
        fn written_times_are_read_back(unix_us in 0..LAST_US) {
            prop_assert_eq!(parse_iso(&iso(unix_us)), Some(unix_us / 1000 * 1000));
        }
    }
}
