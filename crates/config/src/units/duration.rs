//! `10s`, `1h30m`, `1.5s`: durations in `ms s m h d w`. A number without a unit is refused: nobody knows which.

use super::number;
use std::time::Duration;

/// A hundred years: more is a slip, and adding it to a clock must not overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Largest first, so that the shown form reads as it is said.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut total: u128 = 0;
    let mut last = u64::MAX;
    loop {
        let (part, unit, after) = split(rest)?;
        let Some((name, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown(unit));
        };
        if *millis >= last {
            return Err(format!("has {name:?} out of order"));
        }
        last = *millis;
        total = total.saturating_add(number::scaled(part, *millis, "is finer than a millisecond")?);
        rest = after;
        if rest.is_empty() {
            break;
        }
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
    let (number, rest) = number::split(text)?;
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
        None => number::unknown(unit),
    }
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
