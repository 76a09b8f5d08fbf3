//! `10s`, `1h30m`, `1.5s`: durations in `ms s m h d w`. A number without a unit is refused: nobody knows which.

use std::time::Duration;

/// A hundred years: more is a slip, and adding it to a clock must not overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Largest first, so that the shown form reads as it is said.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Digits after the point that count: a millisecond of a week needs nine.
const FRACTION_DIGITS: usize = 9;

/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.starts_with('-') {
        return Err("is negative".to_owned());
    }
    let mut rest = text;
    let mut total: u128 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let (part, unit, after) = split(rest)?;
        let Some((name, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown(unit));
        };
        if *millis >= last {
            return Err(format!("has {name:?} out of order"));
        }
        last = *millis;
        total = total.saturating_add(scaled(part, *millis)?);
        rest = after;
    }
    match u64::try_from(total).map(Duration::from_millis) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err("is longer than 100 years".to_owned()),
    }
}

/// The shortest exact form: `90s` is `1m30s`.
pub fn show_duration(duration: Duration) -> String {
    let mut left = duration.as_millis();
    if left == 0 {
        return "0s".to_owned();
    }
    let mut shown = String::new();
    for (name, millis) in UNITS {
        let millis = u128::from(millis);
        if left >= millis {
            shown.push_str(&format!("{}{name}", left / millis));
            left %= millis;
        }
    }
    shown
}

fn split(text: &str) -> Result<(&str, &str, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.is_empty() {
        return Err("does not begin with a number".to_owned());
    }
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    if unit.is_empty() {
        return Err("has no unit".to_owned());
    }
    Ok((number, unit, after.strip_prefix(' ').unwrap_or(after)))
}

fn unknown(unit: &str) -> String {
    let meant = match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        "week" | "weeks" => Some("w"),
        "msec" | "msecs" | "millis" | "milliseconds" => Some("ms"),
        lower => UNITS.iter().map(|(name, _)| *name).find(|name| *name == lower),
    };
    match meant {
        Some(meant) => format!("has the unit {unit:?} instead of {meant:?}"),
        None => format!("has the unknown unit {:?}", unit.chars().take(16).collect::<String>()),
    }
}

/// `number × millis`, exact where it can be, whole milliseconds in any case.
fn scaled(number: &str, millis: u64) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let malformed = || format!("has {number:?}, which is no number");
    if fraction.contains('.') || whole.is_empty() || fraction.is_empty() || fraction.len() > FRACTION_DIGITS {
        return Err(malformed());
    }
    // A number of 40 digits is not malformed but too long; saturation keeps that message.
    let whole: u128 = whole.parse::<u128>().unwrap_or(u128::MAX);
    let digits: u128 = fraction.parse().map_err(|_| malformed())?;
    let parts = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
    let part = digits * u128::from(millis);
    if !part.is_multiple_of(parts) {
        return Err("is finer than a millisecond".to_owned());
    }
    Ok(whole.saturating_mul(u128::from(millis)).saturating_add(part / parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
            ("2w", 1_209_600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5s", 1_500),
            ("0.5ms0ms", u64::MAX),
            (" 7d ", 604_800_000),
            ("10 s", 10_000),
        ] {
            let read = duration(text).ok().map(|d| d.as_millis());
            let expected = (millis != u64::MAX).then_some(u128::from(millis));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, words) in [
            ("", "is empty"),
            ("-5s", "is negative"),
            ("10", "has no unit"),
            ("s", "does not begin with a number"),
            ("10S", "instead of \"s\""),
            ("10sec", "instead of \"s\""),
            ("5 minutes", "instead of \"m\""),
            ("10y", "unknown unit \"y\""),
            ("30m1h", "out of order"),
            ("1s1s", "out of order"),
            ("1..5s", "no number"),
            (".5s", "no number"),
            ("1e3s", "unknown unit"),
            ("0.0001s", "finer than a millisecond"),
            ("99999999999999999999999999999999999999999999w", "longer than 100 years"),
            ("5300w", "longer than 100 years"),
            ("1s\0", "unknown unit"),
            ("١s", "does not begin with a number"),
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["0s", "1ms", "1m30s", "1w", "1d1h1m1s1ms"] {
            assert_eq!(show_duration(duration(text).expect(text)), text);
        }
    }
}
