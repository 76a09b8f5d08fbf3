//! A number before a unit, as `1.5` of `1.5GiB`: one reader for all units.

/// Digits after the point that count: a millisecond of a week needs nine.
const FRACTION_DIGITS: usize = 9;

/// What stands before the first unit, and all from the unit on.
///
/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn split(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    match text.split_at(end) {
        ("", _) if text.is_empty() => Err("is empty".to_owned()),
        ("", rest) if rest.starts_with('-') => Err("is negative".to_owned()),
        ("", _) => Err("does not begin with a number".to_owned()),
        split => Ok(split),
    }
}

/// `number × scale`, exact or not at all; `finer` says what a fraction that does not come out even is.
///
/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn scaled(number: &str, scale: u64, finer: &str) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let malformed = || format!("has {number:?}, which is no number");
    if fraction.contains('.') || whole.is_empty() || fraction.is_empty() || fraction.len() > FRACTION_DIGITS {
        return Err(malformed());
    }
    // A number of 40 digits is not malformed but too large; saturation keeps that message.
    let whole: u128 = whole.parse::<u128>().unwrap_or(u128::MAX);
    let digits: u128 = fraction.parse().map_err(|_| malformed())?;
    let parts = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
    let part = digits * u128::from(scale);
    if !part.is_multiple_of(parts) {
        return Err(finer.to_owned());
    }
    Ok(whole.saturating_mul(u128::from(scale)).saturating_add(part / parts))
}

/// For `has the unknown unit …`: whatever was written, not all of it.
pub fn unknown(unit: &str) -> String {
    format!("has the unknown unit {:?}", unit.chars().take(16).collect::<String>())
}
