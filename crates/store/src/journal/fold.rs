//! Whether an event is written as a line of its own or folded into the last one about the same. Pure.

use super::Earlier;

/// Something that changes its mind again within this long flaps.
const FLAP_US: i64 = 10 * 60 * 1_000_000;

/// The first change and the one back are told; further ones are counted in the line of the last, for as long as no
/// quiet time comes between. `latest` are the last two of the same kind and subject, newest first.
pub(super) fn into(now_us: i64, latest: &[Earlier]) -> Option<i64> {
    let recent = |entry: &Earlier| now_us.saturating_sub(entry.last_us) <= FLAP_US;
    match latest {
        [newest, ..] if newest.count > 1 && recent(newest) => Some(newest.id),
        [newest, before, ..] if recent(newest) && recent(before) => Some(newest.id),
        _ => None,
    }
}

/// How many earlier ones it looks at.
pub(super) const LOOKS_BACK: i64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: i64, last_us: i64) -> Earlier {
        Earlier { id, last_us, count: 1 }
    }

    #[test]
    fn the_third_change_in_ten_minutes_is_counted_and_one_after_a_quiet_time_is_told() {
        let minute = 60 * 1_000_000;
        assert_eq!(into(0, &[]), None);
        assert_eq!(into(minute, &[entry(1, 0)]), None);
        assert_eq!(into(2 * minute, &[entry(2, minute), entry(1, 0)]), Some(2));
        assert_eq!(into(12 * minute, &[entry(2, minute), entry(1, 0)]), None);
        assert_eq!(into(10 * minute + 1, &[entry(2, minute), entry(1, 0)]), None);
        // One that flaps goes on to, however long ago it began.
        let flapping = Earlier { count: 7, ..entry(2, 60 * minute) };
        assert_eq!(into(61 * minute, &[flapping, entry(1, 0)]), Some(2));
        assert_eq!(into(71 * minute, &[flapping, entry(1, 0)]), None);
        assert_eq!(into(0, &[entry(2, minute), entry(1, 2 * minute)]), Some(2), "a clock that was set back");
    }
}
