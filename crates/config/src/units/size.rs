//! `10MB`, `16KiB`, `512`: sizes in bytes, decimal `KB MB GB TB` and binary `KiB MiB GiB TiB`.

use super::number;

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Signed on the wire and in TOML: nothing larger can be written down anyway.
const MAX_BYTES: u64 = i64::MAX as u64;

/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = number::split(text.trim())?;
    let unit = unit.trim_start();
    let scale = if unit.is_empty() { 1 } else { scale(unit)? };
    let bytes = number::scaled(number, scale, "is not a whole number of bytes")?;
    u64::try_from(bytes).ok().filter(|bytes| *bytes <= MAX_BYTES).ok_or_else(|| "is too large".to_owned())
}

/// The shortest exact form: decimal where it is whole, else binary, else bytes.
pub fn show_size(bytes: u64) -> String {
    let whole = UNITS.iter().filter(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale));
    let best = whole.min_by_key(|(_, scale)| bytes / scale);
    match best {
        Some((name, scale)) if *scale > 1 => format!("{}{name}", bytes / scale),
        _ => format!("{bytes}"),
    }
}

fn scale(unit: &str) -> Result<u64, String> {
    if let Some((_, scale)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        return Ok(*scale);
    }
    let short = UNITS.iter().find(|(name, _)| name.len() == 3 && name[..1].eq_ignore_ascii_case(unit));
    Err(match short {
        Some((name, _)) => format!("has the unit {unit:?}, which is either {name:?} or \"{}B\"", &name[..1]),
        None => number::unknown(unit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimal_and_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("10B", 10),
            ("10KB", 10_000),
            ("16KiB", 16_384),
            ("10MB", 10_000_000),
            ("512MiB", 536_870_912),
            ("1GB", 1_000_000_000),
            ("1.5GiB", 1_610_612_736),
            ("10 mb", 10_000_000),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, words) in [
            ("", "is empty"),
            ("-1MB", "is negative"),
            ("MB", "does not begin with a number"),
            ("512M", "either \"MiB\" or \"MB\""),
            ("512m", "either \"MiB\" or \"MB\""),
            ("10 bits", "unknown unit"),
            ("1.5", "not a whole number of bytes"),
            ("1.2.3MB", "no number"),
            ("99999999999999999999999999999999999999999GB", "too large"),
            ("9223372036854775808", "too large"),
            ("10MB\0", "unknown unit"),
        ] {
            let error = size(text).expect_err(text);
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["0", "1KB", "16KiB", "10MB", "512MiB", "1001"] {
            assert_eq!(show_size(size(text).expect(text)), text);
        }
    }
}
