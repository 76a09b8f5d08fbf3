//! How values stand in a database, whichever it is.

use crate::backoff::{Backoff, Growth};
use crate::change::{Counter, KeyKind, Starts};
use crate::job::{Kept, Own};

/// Numbers of ours are below 2^63, except for "never".
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn read(number: i64) -> u64 {
    if number == i64::MAX { u64::MAX } else { u64::try_from(number).unwrap_or(0) }
}

pub(super) fn counter(counter: Counter) -> &'static str {
    match counter {
        Counter::Ids => "ids",
        Counter::Tokens => "tokens",
        Counter::Answered => "answered",
    }
}

pub(super) fn parse_counter(text: &str) -> Option<Counter> {
    [Counter::Ids, Counter::Tokens, Counter::Answered].into_iter().find(|known| counter(*known) == text)
}

pub(super) fn kind(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Unique => "unique",
        KeyKind::Idempotency => "idempotency",
        KeyKind::Tick => "tick",
    }
}

pub(super) fn parse_kind(text: &str) -> Option<KeyKind> {
    [KeyKind::Unique, KeyKind::Idempotency, KeyKind::Tick].into_iter().find(|known| kind(*known) == text)
}

/// Above the bits of what is kept beside a job's row: the KiB of its payload.
const KIB_SHIFT: u32 = 8;

pub(super) fn kept(kept: Kept) -> i64 {
    let bits = i64::from(kept.attempts) | i64::from(kept.lines) << 1 | i64::from(kept.words) << 2;
    bits | i64::from(kept.payload_kib) << KIB_SHIFT
}

pub(super) fn parse_kept(bits: i64) -> Kept {
    let payload_kib = u16::try_from(bits >> KIB_SHIFT).unwrap_or(0);
    Kept { attempts: bits & 1 != 0, lines: bits & 2 != 0, words: bits & 4 != 0, payload_kib }
}

pub(super) fn growth(growth: Growth) -> &'static str {
    match growth {
        Growth::Fixed => "fixed",
        Growth::Exponential => "exponential",
    }
}

/// What a job says for itself, as five columns.
pub(super) struct OwnColumns {
    pub attempts: Option<u32>,
    pub growth: Option<&'static str>,
    pub delay_ms: Option<i64>,
    pub jitter: Option<u8>,
    pub timeout_ms: Option<i64>,
}

pub(super) fn own(own: &Own) -> OwnColumns {
    OwnColumns {
        attempts: own.attempts,
        growth: own.backoff.map(|backoff| growth(backoff.growth)),
        delay_ms: own.backoff.map(|backoff| stored(backoff.delay_ms)),
        jitter: own.backoff.map(|backoff| backoff.jitter_percent),
        timeout_ms: own.timeout_ms.map(stored),
    }
}

pub(super) fn parse_backoff(growing: Option<&str>, delay_ms: Option<i64>, jitter: Option<u8>) -> Option<Backoff> {
    let growth = [Growth::Fixed, Growth::Exponential].into_iter().find(|known| Some(growth(*known)) == growing)?;
    Some(Backoff { growth, delay_ms: read(delay_ms?), jitter_percent: jitter.unwrap_or(0) })
}

pub(super) fn starts(starts: &Starts) -> Vec<u8> {
    let bytes = |(at_us, count): &(u64, u32)| [&at_us.to_le_bytes()[..], &count.to_le_bytes()[..]].concat();
    starts.iter().flat_map(bytes).collect()
}

pub(super) fn parse_starts(bytes: &[u8]) -> Starts {
    let pair = |chunk: &[u8]| {
        let (at_us, count) = chunk.split_at(8);
        Some((u64::from_le_bytes(at_us.try_into().ok()?), u32::from_le_bytes(count.try_into().ok()?)))
    };
    bytes.chunks_exact(12).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number in any::<u64>(), bits in 0i64..8, kib in 0i64..1025,
            pairs in prop::collection::vec(any::<(u64, u32)>(), 0..9),
        ) {
            prop_assert_eq!(read(stored(number)), if number >= i64::MAX as u64 { u64::MAX } else { number });
            prop_assert_eq!(kept(parse_kept(bits | kib << KIB_SHIFT)), bits | kib << KIB_SHIFT);
            prop_assert_eq!(parse_starts(&starts(&pairs)), pairs);
        }
    }
}
