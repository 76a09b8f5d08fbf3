//! `Range: bytes=…` (RFC 9110 §14.2), of a file or of a stored answer. One range is honoured; a request for several
//! gets the whole, as the standard allows: nobody but attackers asks for them. Pure.

/// What of it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// So many bytes from here on.
    Some {
        from: u64,
        size: u64,
    },
    /// Nothing of what was asked for is there: 416.
    None,
}

pub fn part(header: Option<&[u8]>, size: u64) -> Part {
    header.and_then(|h| std::str::from_utf8(h).ok()).and_then(|text| read(text, size)).unwrap_or(Part::Whole)
}

/// `None`: no range we read; the header is as not there.
fn read(text: &str, size: u64) -> Option<Part> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return None;
    }
    let (first, last) = ranges.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let wanted = number(last)?.min(size);
        return Some(if wanted == 0 { Part::None } else { Part::Some { from: size - wanted, size: wanted } });
    }
    let from = number(first)?;
    let to = if last.is_empty() { u64::MAX } else { number(last)? };
    if to < from {
        return None;
    }
    if from >= size {
        return Some(Part::None);
    }
    Some(Part::Some { from, size: to.min(size - 1) - from + 1 })
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More digits than any file has bytes: as far as it goes.
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_range_is_read_and_everything_else_is_the_whole() {
        let some = |from, size| Part::Some { from, size };
        for (text, expected) in [
            ("bytes=0-0", some(0, 1)),
            ("bytes=0-99", some(0, 10)),
            ("bytes=5-", some(5, 5)),
            ("bytes=-3", some(7, 3)),
            ("bytes=-99", some(0, 10)),
            ("BYTES = 2-3", some(2, 2)),
            ("bytes= 2 - 3 ", some(2, 2)),
            ("bytes=10-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=99999999999999999999999-", Part::None),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(Some(text.as_bytes()), 10), expected, "{text:?}");
        }
        assert_eq!(part(Some(b"bytes=0-"), 0), Part::None);
        assert_eq!(part(None, 10), Part::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_file(text in "bytes=[0-9]{0,22}-[0-9]{0,22}|\\PC{0,30}", size: u64) {
            if let Part::Some { from, size: length } = part(Some(text.as_bytes()), size) {
                prop_assert!(length > 0 && from < size && length <= size - from);
            }
        }
    }
}
