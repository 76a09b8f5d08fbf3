//! Conditional requests for files (RFC 9110 §13): a file's tag and date, and what follows from what a client names.
//! Pure.

use crate::condition::{self, By};
use crate::date as http_date;
use crate::fields::Fields;

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

/// `None` before 1970, which HTTP's clients cannot be relied on to read.
pub fn date(unix_s: i64) -> Option<String> {
    u64::try_from(unix_s).ok().map(http_date::text)
}

fn seconds(date: &[u8]) -> Option<i64> {
    http_date::read(date).and_then(|s| i64::try_from(s).ok())
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
    let named = |name: &str, by| condition::names(fields.named(name.as_bytes()), Some(tag.as_bytes()), by);
    if fields.find("if-match").is_some() {
        if !named("if-match", By::Strong) {
            return Decision::Failed;
        }
    } else if let Some(since) = fields.find("if-unmodified-since").and_then(seconds)
        && state.modified_s > since
    {
        return Decision::Failed;
    }
    if fields.find("if-none-match").is_some() {
        return if named("if-none-match", By::Weak) { Decision::NotModified } else { Decision::Send };
    }
    match fields.find("if-modified-since").and_then(seconds) {
        Some(since) if state.modified_s <= since => Decision::NotModified,
        _ => Decision::Send,
    }
}

/// Whether a range counts: without `If-Range`, or where that names this very state.
pub fn range_counts(fields: &Fields, state: &State) -> bool {
    let modified_s = u64::try_from(state.modified_s).ok();
    condition::range_counts(fields.find("if-range"), Some(state.tag().as_bytes()), modified_s)
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
