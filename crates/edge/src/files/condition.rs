//! Conditional requests for files (RFC 9110 §13): tags, dates, and what they decide. Pure.

use crate::fields::Fields;
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub size: u64,
    pub inode: u64,
    pub modified_s: i64,
    pub modified_ns: u32,
}

impl State {
    /// Strong: any write changes it. Quoted as it is sent.
    pub fn tag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}{:08x}\"", self.inode, self.size, self.modified_s, self.modified_ns)
    }

    pub fn modified(&self) -> Option<String> {
        date(self.modified_s)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub fn date(unix_s: i64) -> Option<String> {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::from_second(unix_s).ok()?).ok()
}

fn seconds(date: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(date).ok()?.trim();
    Some(DateTimeParser::new().parse_timestamp(text).ok()?.as_second())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Send,
    /// The client has it: 304.
    NotModified,
    /// The client wanted another state of it: 412.
    Failed,
}

/// The order is that of RFC 9110 §13.2.2.
pub fn decide(fields: &Fields, state: &State) -> Decision {
    let tag = state.tag();
    if let Some(wanted) = fields.find("if-match") {
        if !lists(wanted, &tag, false) {
            return Decision::Failed;
        }
    } else if let Some(since) = fields.find("if-unmodified-since").and_then(seconds)
        && state.modified_s > since
    {
        return Decision::Failed;
    }
    if let Some(known) = fields.find("if-none-match") {
        return if lists(known, &tag, true) { Decision::NotModified } else { Decision::Send };
    }
    match fields.find("if-modified-since").and_then(seconds) {
        Some(since) if state.modified_s <= since => Decision::NotModified,
        _ => Decision::Send,
    }
}

/// Whether a range counts: without `If-Range`, or where that names this very state.
pub fn range_counts(fields: &Fields, state: &State) -> bool {
    match fields.find("if-range").map(<[u8]>::trim_ascii) {
        None => true,
        Some(tag) if tag.starts_with(b"\"") => tag == state.tag().as_bytes(),
        Some(tag) if tag.starts_with(b"W/") => false,
        Some(date) => seconds(date) == Some(state.modified_s),
    }
}

fn lists(list: &[u8], tag: &str, weakly: bool) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    // Ours hold no comma.
    list.split(|&b| b == b',').map(<[u8]>::trim_ascii).any(|one| {
        let plain = one.strip_prefix(b"W/").filter(|_| weakly).unwrap_or(one);
        plain == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATE: State = State { size: 16, inode: 7, modified_s: 784_111_777, modified_ns: 5 };

    #[test]
    fn tags_come_before_dates() {
        let tag = STATE.tag();
        let weak = format!("\"x\", W/{tag}");
        let same = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(STATE.modified().as_deref(), Some(same));
        let earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (pairs, expected) in [
            (&[][..], Decision::Send),
            (&[("If-None-Match", tag.as_str())], Decision::NotModified),
            (&[("If-None-Match", weak.as_str())], Decision::NotModified),
            (&[("If-None-Match", "*")], Decision::NotModified),
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", same)], Decision::Send),
            (&[("If-Modified-Since", same)], Decision::NotModified),
            (&[("If-Modified-Since", earlier)], Decision::Send),
            (&[("If-Modified-Since", "yesterday")], Decision::Send),
            (&[("If-Match", "\"x\"")], Decision::Failed),
            (&[("If-Match", tag.as_str())], Decision::Send),
            (&[("If-Match", weak.as_str())], Decision::Failed),
            (&[("If-Unmodified-Since", earlier)], Decision::Failed),
            (&[("If-Unmodified-Since", same)], Decision::Send),
        ] {
            assert_eq!(decide(&Fields::of(pairs), &STATE), expected, "{pairs:?}");
        }
        assert!(range_counts(&Fields::of(&[]), &STATE));
        for (value, expected) in
            [(tag.as_str(), true), (same, true), (earlier, false), ("\"x\"", false), ("W/\"x\"", false), ("?", false)]
        {
            assert_eq!(range_counts(&Fields::of(&[("If-Range", value)]), &STATE), expected, "{value}");
        }
    }

    #[test]
    fn any_change_changes_the_tag() {
        let other = |change: fn(&mut State)| {
            let mut state = STATE.clone();
            change(&mut state);
            state.tag()
        };
        for tag in [
            other(|s| s.size += 1),
            other(|s| s.inode += 1),
            other(|s| s.modified_ns += 1),
            other(|s| s.modified_s += 1),
        ] {
            assert_ne!(tag, STATE.tag());
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            name in "if-(none-match|modified-since|match|range|unmodified-since)",
            value in "\\PC{0,40}",
        ) {
            let f = Fields::of(&[(&name, &value)]);
            let _ = (decide(&f, &STATE), range_counts(&f, &STATE));
        }
    }
}
