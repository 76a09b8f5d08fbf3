//! A case for each MUST of RFC 9111 that a shared cache owes where it stores and chooses, named by its section.

use super::*;

const NOW_S: u64 = 1_795_000_000;
const CAME: Came = Came { now_ms: 1_000_000, unix_s: NOW_S, delay_s: 0 };
const GET: Asked = Asked { get: true, authorized: false, cookie: false, no_store: false };
const NONE: Defaults = Defaults { fresh_s: None, stale_while_revalidate_s: 0, stale_if_error_s: 0 };

fn stored(pairs: &[(&str, &str)]) -> Result<Meta, Not> {
    judge(GET, 200, &Fields::of(pairs), NONE, CAME)
}

fn cc(value: &str) -> Result<Meta, Not> {
    stored(&[("Cache-Control", value)])
}

#[test]
fn what_may_be_stored() {
    let authorized = Asked { authorized: true, ..GET };
    let ask = |asked: Asked, status: u16, value: &str| {
        judge(asked, status, &Fields::of(&[("Cache-Control", value)]), NONE, CAME)
    };
    // §3: only a method whose answer may be stored, only a final status that is understood.
    assert_eq!(ask(Asked { get: false, ..GET }, 200, "max-age=9"), Err(Not::Method));
    for status in [206, 304, 401, 407, 416, 418, 429, 500, 502, 503, 504] {
        assert_eq!(ask(GET, status, "public, max-age=9"), Err(Not::Status), "{status}");
    }
    for status in UNDERSTOOD {
        assert!(ask(GET, *status, "max-age=9").is_ok(), "{status}");
    }
    // §3, §5.2.1.5, §5.2.2.5: no-store of either side.
    assert_eq!(ask(GET, 200, "no-store, max-age=9"), Err(Not::NoStore));
    assert_eq!(ask(Asked { no_store: true, ..GET }, 200, "max-age=9"), Err(Not::NoStore));
    // §5.2.2.3: must-understand passes over no-store, but only for a status that is understood.
    assert!(ask(GET, 200, "must-understand, no-store, max-age=9").is_ok());
    assert_eq!(ask(GET, 599, "must-understand, no-store, max-age=9"), Err(Not::Status));
    // §5.2.2.7: private is not for a shared cache, with names or without.
    assert_eq!(ask(GET, 200, "private, max-age=9"), Err(Not::Private));
    assert_eq!(ask(GET, 200, "private=\"x-a\", max-age=9"), Err(Not::Private));
    // §3.5: with credentials only where the answer says so.
    assert_eq!(ask(authorized, 200, "max-age=9"), Err(Not::Authorized));
    assert_eq!(ask(authorized, 200, "proxy-revalidate, max-age=9"), Err(Not::Authorized));
    for allowed in ["public, max-age=9", "must-revalidate, max-age=9", "s-maxage=9"] {
        assert!(ask(authorized, 200, allowed).is_ok(), "{allowed}");
    }
    // §3: something must say how long; here a heuristic is used only where it is configured.
    assert_eq!(stored(&[]), Err(Not::Unsaid));
    assert_eq!(stored(&[("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]), Err(Not::Unsaid));
    // Ours: a cookie is somebody's.
    assert_eq!(stored(&[("Cache-Control", "public, max-age=9"), ("Set-Cookie", "a=1")]), Err(Not::SetCookie));
    assert!(stored(&[("Cache-Control", "max-age=9, no-cache=\"set-cookie\""), ("Set-Cookie", "a=1")]).is_ok());
    assert_eq!(stored(&[("Cache-Control", "max-age=9"), ("Content-Type", "Text/Event-Stream; x")]), Err(Not::Stream));
    // What is stale at once is worth keeping only with something to validate it by.
    assert_eq!(cc("no-cache"), Err(Not::NoValidator));
    assert_eq!(cc("max-age=0"), Err(Not::NoValidator));
    assert!(stored(&[("Cache-Control", "no-cache"), ("ETag", "\"a\"")]).is_ok_and(|m| m.no_cache));
}

#[test]
fn a_configured_freshness_is_for_what_says_nothing_and_is_nobodys() {
    let given = Defaults { fresh_s: Some(60), stale_while_revalidate_s: 5, stale_if_error_s: 7 };
    let ask = |asked: Asked, status: u16, pairs: &[(&str, &str)]| judge(asked, status, &Fields::of(pairs), given, CAME);
    let meta = ask(GET, 200, &[]).expect("stored");
    assert_eq!((meta.lifetime_s, meta.stale_while_revalidate_s, meta.stale_if_error_s, meta.assumed), (60, 5, 7, true));
    let meta = ask(GET, 200, &[("Cache-Control", "max-age=3, stale-if-error=1")]).expect("stored");
    assert_eq!((meta.lifetime_s, meta.stale_if_error_s, meta.assumed), (3, 1, false), "the app's word counts");
    let cookie = Asked { cookie: true, ..GET };
    assert_eq!(ask(cookie, 200, &[]), Err(Not::Cookie));
    assert!(ask(cookie, 200, &[("Cache-Control", "public")]).is_ok());
    assert_eq!(ask(GET, 302, &[]), Err(Not::Unsaid), "a redirect is often about who asks");
    assert_eq!(ask(GET, 200, &[("Set-Cookie", "a=1")]), Err(Not::SetCookie));
    assert_eq!(ask(Asked { authorized: true, ..GET }, 200, &[]), Err(Not::Authorized));
}

#[test]
fn how_long_an_answer_is_fresh() {
    let at = date::text;
    let now = at(NOW_S);
    for (pairs, lifetime) in [
        // §4.2.1: s-maxage before max-age before Expires.
        (vec![("Cache-Control", "max-age=60, s-maxage=30"), ("Expires", "x")], 30),
        (vec![("Cache-Control", "max-age=60"), ("Expires", "x")], 60),
        (vec![("Expires", at(NOW_S + 90).as_str()), ("Date", now.as_str())], 90),
        (vec![("Expires", at(NOW_S + 90).as_str())], 90),
        // §4.2.1: a directive said twice, with different values.
        (vec![("Cache-Control", "max-age=60, max-age=30")], 30),
        // §1.2.2: more than we can count is a very long time.
        (vec![("Cache-Control", "max-age=99999999999")], 1 << 31),
        // §5.3: what is no date has passed; the two old forms are dates.
        (vec![("Expires", "0"), ("ETag", "\"a\"")], 0),
        (vec![("Expires", at(NOW_S - 9).as_str()), ("ETag", "\"a\"")], 0),
    ] {
        assert_eq!(stored(&pairs).map(|m| m.lifetime_s), Ok(lifetime), "{pairs:?}");
    }
}

#[test]
fn how_old_an_answer_is() {
    let age = |pairs: &[(&str, &str)], delay_s: u32| {
        let mut all = vec![("Cache-Control", "max-age=600")];
        all.extend_from_slice(pairs);
        judge(GET, 200, &Fields::of(&all), NONE, Came { delay_s, ..CAME }).map(|m| m.initial_age_s)
    };
    let ten_ago = date::text(NOW_S - 10);
    // §4.2.3: the larger of what the date tells and what is said, plus the way here.
    assert_eq!(age(&[], 0), Ok(0));
    assert_eq!(age(&[], 3), Ok(3));
    assert_eq!(age(&[("Age", "7")], 2), Ok(9));
    assert_eq!(age(&[("Date", &ten_ago)], 0), Ok(10));
    assert_eq!(age(&[("Date", &ten_ago), ("Age", "30")], 0), Ok(30));
    assert_eq!(age(&[("Date", &date::text(NOW_S + 50))], 0), Ok(0), "a clock ahead makes nothing younger than new");
    // §5.1: of several the first; what is no number is none.
    assert_eq!(age(&[("Age", "5, 50")], 0), Ok(5));
    assert_eq!(age(&[("Age", "-5")], 0), Ok(0));
    assert_eq!(age(&[("Age", "99999999999999")], 0), Ok(1 << 31));
    let meta = cc("max-age=600").expect("stored");
    assert_eq!((meta.age_s(CAME.now_ms + 59_999), meta.ttl_s(CAME.now_ms + 601_000)), (59, -1));
}

#[test]
fn when_a_stored_answer_may_be_used() {
    let wanted = |text: &str| {
        let fields = Fields::of(&[("Cache-Control", text)]);
        if text.is_empty() { Wanted::default() } else { Wanted::of(&fields) }
    };
    let case = |said: &str, asked: &str, age_s: u64| {
        let meta = stored(&[("Cache-Control", said), ("ETag", "\"a\"")]).expect("stored");
        meta.may_be_used(&wanted(asked), CAME.now_ms + age_s * 1000)
    };
    for (said, asked, age_s, expected) in [
        ("max-age=60", "", 59, Use::Fresh),
        // §4.2: fresh while its lifetime is greater than its age.
        ("max-age=60", "", 60, Use::Validate),
        // §5.2.2.4: no-cache is never used unasked, however young.
        ("no-cache, max-age=60", "", 0, Use::Validate),
        // §5.2.1.4
        ("max-age=60", "no-cache", 0, Use::Validate),
        // §5.2.1.1
        ("max-age=60", "max-age=10", 10, Use::Fresh),
        ("max-age=60", "max-age=10", 11, Use::Validate),
        ("max-age=60", "max-age=0", 0, Use::Validate),
        // §5.2.1.3
        ("max-age=60", "min-fresh=20", 40, Use::Fresh),
        ("max-age=60", "min-fresh=20", 41, Use::Validate),
        // §5.2.1.2
        ("max-age=60", "max-stale", 6000, Use::Stale),
        ("max-age=60", "max-stale=5", 65, Use::Stale),
        ("max-age=60", "max-stale=5", 66, Use::Validate),
        // §5.2.2.2, §5.2.2.8, §5.2.2.10: never stale, whatever the client says.
        ("max-age=60, must-revalidate", "max-stale", 61, Use::Validate),
        ("max-age=60, proxy-revalidate", "max-stale", 61, Use::Validate),
        ("s-maxage=60", "max-stale", 61, Use::Validate),
        // RFC 5861 §3
        ("max-age=60, stale-while-revalidate=30", "", 89, Use::StaleWhileRevalidate),
        ("max-age=60, stale-while-revalidate=30", "", 90, Use::Validate),
        ("s-maxage=60, stale-while-revalidate=30", "", 89, Use::StaleWhileRevalidate),
        ("max-age=60, stale-while-revalidate=30, must-revalidate", "", 61, Use::Validate),
        ("max-age=60, stale-while-revalidate=30", "max-age=10", 61, Use::Validate),
    ] {
        assert_eq!(case(said, asked, age_s), expected, "{said} / {asked} / {age_s}");
    }
}

#[test]
fn when_a_stale_answer_is_better_than_an_error() {
    let case = |said: &str, age_s: u64| {
        let meta = stored(&[("Cache-Control", said), ("ETag", "\"a\"")]).expect("stored");
        meta.may_be_used_on_error(CAME.now_ms + age_s * 1000)
    };
    assert!(case("max-age=60, stale-if-error=30", 89));
    assert!(!case("max-age=60, stale-if-error=30", 90));
    assert!(!case("max-age=60", 61));
    assert!(!case("max-age=60, stale-if-error=30, must-revalidate", 61), "§5.2.2.2");
    assert!(!case("max-age=60, stale-if-error=30, no-cache", 1));
}
