//! `100/min`, `5/15m per ip`, `150/min smooth`: how often something may happen, and what is counted apart.

use super::duration::{duration, show_duration};
use std::time::Duration;

/// Longest window: counts are kept to the millisecond in 32 bits, and live no longer than the process.
pub const MAX_WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// More is no limit any longer.
pub const MAX_COUNT: u32 = 1_000_000_000;
/// Longest name of a header to count by.
const HEADER_BYTES_MAX: usize = 64;

/// What is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    Ip,
    User,
    Tenant,
    /// The value of a header, named in small letters.
    Header(String),
}

/// At most `count` in any window of this length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub window: Duration,
    pub per: Option<Per>,
    /// One after the other at even distances, in place of whenever they come.
    pub smooth: bool,
}

/// `usual`: the window of a number that stands alone, where one may.
///
/// # Errors
/// Says what is wrong with it, in words that follow the text.
pub fn rate(text: &str, usual: Option<Duration>) -> Result<Rate, String> {
    let mut words = text.split_whitespace();
    let first = words.next().ok_or("is empty")?;
    let (count, window) = match (first.split_once('/'), usual) {
        (Some((count, written)), _) => (count, window(written)?),
        (None, Some(usual)) => (first, usual),
        (None, None) => return Err("has no window, as 100/min has".to_owned()),
    };
    let count = count.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count));
    let count = count.ok_or_else(|| format!("does not begin with a number from 1 to {MAX_COUNT}"))?;
    let mut rate = Rate { count, window, per: None, smooth: false };
    while let Some(word) = words.next() {
        match word {
            "smooth" if !rate.smooth => rate.smooth = true,
            "per" if rate.per.is_none() => rate.per = Some(per(words.next().unwrap_or_default())?),
            other => return Err(format!("has {:?} at its end", other.chars().take(16).collect::<String>())),
        }
    }
    Ok(rate)
}

fn per(word: &str) -> Result<Per, String> {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match (word, word.split_once(':')) {
        ("ip", _) => Ok(Per::Ip),
        ("user", _) => Ok(Per::User),
        ("tenant", _) => Ok(Per::Tenant),
        (_, Some(("key", header))) if header.len() <= HEADER_BYTES_MAX && !header.is_empty() => {
            match header.bytes().all(name) {
                true => Ok(Per::Header(header.to_ascii_lowercase())),
                false => Err("counts by what is no name of a header".to_owned()),
            }
        }
        _ => Err("counts per something other than ip, user, tenant or key:HEADER".to_owned()),
    }
}

/// A duration, or a unit that stands for one of it: `min`, `15min`, `hour`.
fn window(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "sec" | "second" => "s",
        "min" | "minute" => "m",
        "hour" => "h",
        "day" => "d",
        "week" => "w",
        other => other,
    };
    let window = duration(&format!("{}{unit}", if number.is_empty() { "1" } else { number }))?;
    if window.is_zero() || window > MAX_WINDOW {
        return Err("has a window that is not from 1ms to 7d".to_owned());
    }
    Ok(window)
}

/// As it is written: `100/1m`, `5/15m per ip`.
pub fn show_rate(rate: &Rate) -> String {
    let per = match &rate.per {
        None => String::new(),
        Some(Per::Ip) => " per ip".to_owned(),
        Some(Per::User) => " per user".to_owned(),
        Some(Per::Tenant) => " per tenant".to_owned(),
        Some(Per::Header(name)) => format!(" per key:{name}"),
    };
    let smooth = if rate.smooth { " smooth" } else { "" };
    format!("{}/{}{per}{smooth}", rate.count, show_duration(rate.window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(count: u32, seconds: u64) -> Rate {
        Rate { count, window: Duration::from_secs(seconds), per: None, smooth: false }
    }

    #[test]
    fn reads_what_the_guides_write() {
        for (text, expected) in [
            ("100/min", plain(100, 60)),
            ("5/60s", plain(5, 60)),
            ("5/15min", plain(5, 900)),
            ("1000/hour", plain(1000, 3600)),
            ("3/1h30m", plain(3, 5400)),
            ("150/min smooth", Rate { smooth: true, ..plain(150, 60) }),
            ("5/min per ip", Rate { per: Some(Per::Ip), ..plain(5, 60) }),
            ("5/s per user smooth", Rate { per: Some(Per::User), smooth: true, ..plain(5, 1) }),
            ("9/d per key:X-Api-Key", Rate { per: Some(Per::Header("x-api-key".to_owned())), ..plain(9, 86_400) }),
        ] {
            assert_eq!(rate(text, None), Ok(expected.clone()), "{text}");
            assert_eq!(rate(&show_rate(&expected), None), Ok(expected), "{text}");
        }
        assert_eq!(rate("100", Some(Duration::from_secs(900))), Ok(plain(100, 900)));
        assert_eq!(rate("100/s", Some(Duration::from_secs(900))), Ok(plain(100, 1)));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, words) in [
            ("", "is empty"),
            ("100", "no window"),
            ("0/min", "a number from 1"),
            ("-1/min", "a number from 1"),
            ("many/min", "a number from 1"),
            ("5000000000/min", "a number from 1"),
            ("5/", "has no unit"),
            ("5/0s", "1ms to 7d"),
            ("5/8d", "1ms to 7d"),
            ("5/fortnight", "unknown unit"),
            ("5/min per", "something other than ip"),
            ("5/min per cookie", "something other than ip"),
            ("5/min per key:", "something other than ip"),
            ("5/min per key:a b", "at its end"),
            ("5/min per key:a;b", "no name of a header"),
            ("5/min per ip per ip", "at its end"),
            ("5/min burst", "at its end"),
        ] {
            let error = rate(text, None).expect_err(text);
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
