//! `Cache-Control` (RFC 9111 §5.2), read so that what is malformed is read in the stricter way. Pure.

use crate::fields::{Fields, Name};

/// Larger values mean this many (RFC 9111 §1.2.2).
const SECONDS_MAX: u32 = 1 << 31;

/// What a response says about storing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    /// `must-revalidate`, `proxy-revalidate`: never used stale.
    pub must_revalidate: bool,
    /// The first of them alone: what was asked for with credentials may be stored.
    pub origin_revalidate: bool,
    pub must_understand: bool,
    pub max_age: Option<u32>,
    pub s_maxage: Option<u32>,
    pub stale_while_revalidate: Option<u32>,
    pub stale_if_error: Option<u32>,
    /// `no-cache="…"`: not given out of the cache.
    pub withheld: Vec<Vec<u8>>,
}

/// What a request says about being answered from a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub no_cache: bool,
    pub no_store: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u32>,
    pub min_fresh: Option<u32>,
    /// `u32::MAX`: however stale.
    pub max_stale: Option<u32>,
}

impl Said {
    pub fn of(fields: &Fields) -> Said {
        let mut said = Said::default();
        let whole = each(fields, |name, value| {
            match name {
                b"no-store" => said.no_store = true,
                b"no-cache" => match value.map(names).filter(|names| !names.is_empty()) {
                    Some(names) => said.withheld.extend(names),
                    None => said.no_cache = true,
                },
                // With names too: taking the whole for private is always allowed (§5.2.2.7).
                b"private" => said.private = true,
                b"public" => said.public = true,
                b"must-revalidate" => (said.must_revalidate, said.origin_revalidate) = (true, true),
                b"proxy-revalidate" => said.must_revalidate = true,
                b"must-understand" => said.must_understand = true,
                b"max-age" => least(&mut said.max_age, seconds(value)),
                b"s-maxage" => least(&mut said.s_maxage, seconds(value)),
                b"stale-while-revalidate" => least(&mut said.stale_while_revalidate, seconds(value)),
                b"stale-if-error" => least(&mut said.stale_if_error, seconds(value)),
                _ => {}
            };
        });
        // What stands behind a quote that never ends may have been `no-store`.
        said.no_store |= !whole;
        said
    }
}

impl Wanted {
    pub fn of(fields: &Fields) -> Wanted {
        let mut wanted = Wanted::default();
        if !fields.has(Name::CacheControl) {
            // §5.4: an old client's word.
            wanted.no_cache = fields.has(Name::Pragma) && fields.has_token(Name::Pragma, "no-cache");
            return wanted;
        }
        let whole = each(fields, |name, value| match name {
            b"no-cache" => wanted.no_cache = true,
            b"no-store" => wanted.no_store = true,
            b"only-if-cached" => wanted.only_if_cached = true,
            b"max-age" => least(&mut wanted.max_age, seconds(value)),
            b"min-fresh" => wanted.min_fresh = wanted.min_fresh.max(Some(seconds(value))),
            b"max-stale" => least(&mut wanted.max_stale, value.map_or(u32::MAX, |v| seconds(Some(v)))),
            _ => {}
        });
        wanted.no_store |= !whole;
        wanted
    }
}

/// Of two values for one directive the stricter counts.
fn least(held: &mut Option<u32>, new: u32) {
    *held = Some(held.map_or(new, |old| old.min(new)));
}

/// What is no number is 0: stale at once.
pub fn seconds(value: Option<&[u8]>) -> u32 {
    let Some(digits) = value.filter(|v| !v.is_empty() && v.iter().all(u8::is_ascii_digit)) else { return 0 };
    let add = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    digits.iter().fold(0, add).min(SECONDS_MAX)
}

/// Names of a list in quotes, in lower case.
fn names(list: &[u8]) -> Vec<Vec<u8>> {
    let parts = list.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    parts.map(<[u8]>::to_ascii_lowercase).collect()
}

/// Longest name of a directive that is compared; ours are shorter.
const DIRECTIVE_BYTES_MAX: usize = 32;

/// Tells each directive, its name in lower case. False where a quote never ends.
fn each(fields: &Fields, mut tell: impl FnMut(&[u8], Option<&[u8]>)) -> bool {
    let mut whole = true;
    for value in fields.all(Name::CacheControl) {
        let mut rest = value;
        while !rest.is_empty() {
            let end = rest.iter().position(|b| matches!(b, b',' | b'=')).unwrap_or(rest.len());
            let (name, after) = (rest[..end].trim_ascii(), &rest[end..]);
            let (argument, after, closed) = argument(after);
            whole &= closed;
            let mut lower = [0; DIRECTIVE_BYTES_MAX];
            if let Some(lower) = lower.get_mut(..name.len()) {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                tell(lower, argument);
            }
            rest = after.strip_prefix(b",").unwrap_or(after);
        }
    }
    whole
}

/// What stands behind a directive's name: its value without quotes, what follows it, and whether its quote ends.
fn argument(after: &[u8]) -> (Option<&[u8]>, &[u8], bool) {
    let Some(value) = after.strip_prefix(b"=") else { return (None, after, true) };
    let value = value.trim_ascii_start();
    let to_comma = |from: &[u8]| from.iter().position(|&b| b == b',').unwrap_or(from.len());
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let (value, rest) = value.split_at(to_comma(value));
        return (Some(value.trim_ascii()), rest, true);
    };
    let mut escaped = false;
    let close = quoted.iter().position(|&b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    });
    match close {
        Some(close) => {
            let rest = &quoted[close + 1..];
            (Some(&quoted[..close]), &rest[to_comma(rest)..], true)
        }
        None => (Some(quoted), &[], false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(values: &[&str]) -> Fields {
        let mut fields = Fields::default();
        values.iter().for_each(|v| fields.add(Name::CacheControl, v.as_bytes()));
        fields
    }

    fn said(value: &str) -> Said {
        Said::of(&fields(&[value]))
    }

    #[test]
    fn directives_of_a_response() {
        let s =
            said("Public, MAX-AGE=60 , s-maxage=\"30\",stale-while-revalidate=5, stale-if-error=9, x=\"a,no-store\"");
        assert!(s.public && !s.no_store);
        assert_eq!((s.max_age, s.s_maxage), (Some(60), Some(30)));
        assert_eq!((s.stale_while_revalidate, s.stale_if_error), (Some(5), Some(9)));
        let s = said("no-cache=\"Set-Cookie, X-A\", must-revalidate");
        assert_eq!(s.withheld, [b"set-cookie".to_vec(), b"x-a".to_vec()]);
        assert!(!s.no_cache && s.must_revalidate && s.origin_revalidate);
        assert!(said("no-cache").no_cache && said("no-cache=\"\"").no_cache && said("private=\"x\"").private);
        assert!(said("proxy-revalidate").must_revalidate && !said("proxy-revalidate").origin_revalidate);
        assert!(Said::of(&fields(&["max-age=1", "no-store"])).no_store, "several lines are one list");
    }

    #[test]
    fn what_is_malformed_is_read_in_the_stricter_way() {
        for (text, max_age) in [
            ("max-age=4294967296", Some(SECONDS_MAX)),
            ("max-age=99999999999999999999999999", Some(SECONDS_MAX)),
            ("max-age=2147483649", Some(SECONDS_MAX)),
            ("max-age=-1", Some(0)),
            ("max-age=abc", Some(0)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=10, max-age=20", Some(10)),
            ("max-age=20, max-age=10", Some(10)),
            ("max-age =7", Some(7)),
            ("=", None),
            (",,,", None),
        ] {
            assert_eq!(said(text).max_age, max_age, "{text}");
        }
        assert!(said("max-age=60, x=\"open, public").no_store, "a quote that never ends hides what follows");
        assert!(!said("x=\"a\\\"b\", public").no_store);
    }

    #[test]
    fn directives_of_a_request() {
        let w = Wanted::of(&fields(&["max-age=0, min-fresh=5, max-stale, only-if-cached"]));
        assert_eq!((w.max_age, w.min_fresh, w.max_stale), (Some(0), Some(5), Some(u32::MAX)));
        assert!(w.only_if_cached && !w.no_cache);
        assert_eq!(Wanted::of(&fields(&["max-stale=7"])).max_stale, Some(7));
        let mut old = Fields::default();
        old.add(Name::Pragma, b"no-cache");
        assert!(Wanted::of(&old).no_cache);
        old.add(Name::CacheControl, b"max-age=9");
        assert!(!Wanted::of(&old).no_cache, "the newer word counts");
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_break_the_reader(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)
        ) {
            let mut fields = Fields::default();
            values.iter().for_each(|v| fields.add(Name::CacheControl, v));
            let (said, wanted) = (Said::of(&fields), Wanted::of(&fields));
            prop_assert!(said.max_age.unwrap_or(0) <= SECONDS_MAX && wanted.max_age.unwrap_or(0) <= SECONDS_MAX);
        }

        #[test]
        fn likely_bytes_do_not_either(text in "[a-z=\", \\\\0-9-]{0,60}") {
            let _ = (said(&text), Wanted::of(&fields(&[&text])));
        }

        /// A directive is found wherever it stands among others.
        #[test]
        fn no_store_is_never_overlooked(
            before in "[a-z]{1,8}(=[0-9]{1,5})?",
            after in "[a-z]{1,8}(=\"[a-z, ]{0,9}\")?",
        ) {
            let text = format!("{before}, no-store, {after}");
            prop_assert!(said(&text).no_store);
        }
    }
}
