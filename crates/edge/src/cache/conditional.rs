//! A client's own conditions and ranges, answered from a stored answer (RFC 9110 §13 and §14, RFC 9111 §4.3.2), and
//! what a 304 of the app changes in one (§4.3.4). Pure.

use crate::condition::{self, By, opaque};
use crate::date;
use crate::fields::{Fields, Name};
use crate::range;

/// What a request says about what the client has already.
pub const CONDITIONS: &[Name] = &[Name::IfNoneMatch, Name::IfModifiedSince, Name::Range, Name::IfRange];

/// What is sent of a stored answer of status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// 304: the client has it.
    NotModified,
    /// 206: first and last byte.
    Range(usize, usize),
    /// 416
    Unsatisfiable,
}

/// What these conditions ask of this stored answer.
pub fn part(asked: &Fields, stored: &Fields, size: usize, get: bool) -> Part {
    if !asked.has_any(CONDITIONS) {
        return Part::Whole;
    }
    let has_it = match asked.has(Name::IfNoneMatch) {
        // §13.1.3: the date counts only where no tag is named.
        true => none_match_fails(asked, stored),
        false => modified_since_fails(asked, stored),
    };
    match () {
        () if has_it => Part::NotModified,
        () if get && asked.count(Name::Range) == 1 && range_holds(asked, stored) => cut(asked, size),
        () => Part::Whole,
    }
}

fn none_match_fails(asked: &Fields, stored: &Fields) -> bool {
    condition::names(asked.all(Name::IfNoneMatch), stored.get(Name::Etag), By::Weak)
}

fn modified_since_fails(asked: &Fields, stored: &Fields) -> bool {
    let since = asked.get(Name::IfModifiedSince).and_then(date::read);
    // §4.3.2: what was stored without a date of change is as old as its own.
    let changed = stored.get(Name::LastModified).or_else(|| stored.get(Name::Date)).and_then(date::read);
    matches!((since, changed), (Some(since), Some(changed)) if changed <= since)
}

fn range_holds(asked: &Fields, stored: &Fields) -> bool {
    let modified_s = stored.get(Name::LastModified).and_then(date::read);
    condition::range_counts(asked.get(Name::IfRange), stored.get(Name::Etag), modified_s)
}

/// One range of bytes; what is none is passed over: the whole is always an answer.
fn cut(asked: &Fields, size: usize) -> Part {
    match range::part(asked.get(Name::Range), size as u64) {
        range::Part::Whole => Part::Whole,
        range::Part::None => Part::Unsatisfiable,
        range::Part::Some { from, size: length } => {
            let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            Part::Range(number(from), number(from + length - 1))
        }
    }
}

/// Whether a 304 is about this stored answer (§4.3.3).
pub fn is_about(answer: &Fields, stored: &Fields) -> bool {
    match (answer.get(Name::Etag), stored.get(Name::Etag)) {
        (Some(new), Some(old)) => opaque(new) == opaque(old),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// Takes a 304's fields into a stored answer's (§4.3.4). `skip`: what is never stored.
pub fn freshen(stored: &mut Fields, answer: &Fields, skip: impl Fn(&[u8]) -> bool) {
    // The body stays, and so does what says how it is to be read.
    const OF_THE_BODY: &[Name] = &[Name::ContentLength, Name::ContentEncoding, Name::ContentRange, Name::ContentType];
    let taken = |name: &[u8]| !Name::of(name).is_some_and(|known| OF_THE_BODY.contains(&known)) && !skip(name);
    for (name, _) in answer.iter().filter(|(name, _)| taken(name)) {
        stored.remove_named(name);
    }
    for (name, value) in answer.iter().filter(|(name, _)| taken(name)) {
        stored.push(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn case(asked: &[(&str, &str)]) -> Part {
        let stored = Fields::of(&[("etag", "\"a,b\""), ("last-modified", OLD), ("date", NEW)]);
        part(&Fields::of(asked), &stored, 100, true)
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for (asked, expected) in [
            (vec![("if-none-match", "\"a,b\"")], Part::NotModified),
            (vec![("if-none-match", "W/\"a,b\"")], Part::NotModified),
            (vec![("if-none-match", "\"x\", \"a,b\"")], Part::NotModified),
            (vec![("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], Part::NotModified),
            (vec![("if-none-match", "*")], Part::NotModified),
            (vec![("if-none-match", "\"a\"")], Part::Whole),
            (vec![("if-none-match", "a,b")], Part::Whole),
            (vec![("if-none-match", "\"a,b")], Part::Whole),
            (vec![("if-none-match", "")], Part::Whole),
            // A tag named: the date is passed over (RFC 9110 §13.1.3).
            (vec![("if-none-match", "\"x\""), ("if-modified-since", OLD)], Part::Whole),
            (vec![("if-modified-since", OLD)], Part::NotModified),
            (vec![("if-modified-since", NEW)], Part::NotModified),
            (vec![("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT")], Part::Whole),
            (vec![("if-modified-since", "yesterday")], Part::Whole),
            (vec![], Part::Whole),
        ] {
            assert_eq!(case(&asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn ranges_are_cut_out_of_the_whole() {
        for (text, expected) in [
            ("bytes=0-9", Part::Range(0, 9)),
            ("bytes=90-", Part::Range(90, 99)),
            ("bytes=-10", Part::Range(90, 99)),
            ("bytes=-1000", Part::Range(0, 99)),
            ("bytes=5-99999999999999999999999", Part::Range(5, 99)),
            ("bytes=100-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=9-0", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=x-", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=+1-2", Part::Whole),
        ] {
            assert_eq!(case(&[("range", text)]), expected, "{text}");
        }
        let range = ("range", "bytes=0-9");
        assert_eq!(case(&[range, ("if-range", "\"a,b\"")]), Part::Range(0, 9));
        assert_eq!(case(&[range, ("if-range", "W/\"a,b\"")]), Part::Whole);
        assert_eq!(case(&[range, ("if-range", "\"x\"")]), Part::Whole);
        assert_eq!(case(&[range, ("if-range", OLD)]), Part::Range(0, 9));
        assert_eq!(case(&[range, ("if-range", NEW)]), Part::Whole);
        assert_eq!(case(&[range, ("if-none-match", "*")]), Part::NotModified);
        assert_eq!(part(&Fields::of(&[range]), &Fields::of(&[]), 100, false), Part::Whole, "HEAD has no ranges");
    }

    #[test]
    fn a_304_changes_what_it_names_and_leaves_the_body_alone() {
        let mut stored =
            Fields::of(&[("ETag", "\"a\""), ("Content-Length", "5"), ("X-A", "1"), ("x-a", "2"), ("X-B", "3")]);
        let answer = Fields::of(&[("X-A", "9"), ("Content-Length", "0"), ("Set-Cookie", "a=1"), ("Expires", OLD)]);
        freshen(&mut stored, &answer, |name| name.eq_ignore_ascii_case(b"set-cookie"));
        let all: Vec<_> =
            stored.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))).collect();
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(all, [("ETag", "\"a\""), ("Content-Length", "5"), ("X-B", "3"), ("X-A", "9"), ("Expires", OLD)]);
        assert!(is_about(&Fields::of(&[]), &stored) && is_about(&Fields::of(&[("etag", "W/\"a\"")]), &stored));
        assert!(!is_about(&Fields::of(&[("etag", "\"b\"")]), &stored));
        assert!(!is_about(&Fields::of(&[("etag", "\"b\"")]), &Fields::of(&[])));
    }

    proptest! {
        #[test]
        fn no_condition_breaks_it(
            tag in "[a-z\", W/*\\\\]{0,20}",
            range in "(bytes=)?[0-9, -]{0,12}",
            size in 0..20usize,
        ) {
            let asked = Fields::of(&[("if-none-match", &tag), ("range", &range)]);
            if let Part::Range(first, last) = part(&asked, &Fields::of(&[("etag", "\"x\"")]), size, true) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
