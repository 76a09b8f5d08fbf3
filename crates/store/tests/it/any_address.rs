//! Whatever somebody writes as an address of a store: read or refused, never a panic, and no secret shown.

use mainstay_config::{Inputs, Reader, Text};
use mainstay_store::Options;
use proptest::prelude::*;
use std::fmt::Write as _;

const PASSWORD: &str = "hunter22";

const WORDS: [&str; 41] = [
    "postgres://",
    "redis://",
    "rediss://",
    "a",
    "b.c",
    "[::1]",
    "1.2.3.4",
    ":1",
    ":65535",
    ":0",
    ",",
    "/",
    "/0",
    "/db",
    "?",
    "&",
    "=",
    "%20",
    "%zz",
    "#",
    "host=",
    "host=/run",
    "port=1,2",
    "user=",
    "dbname=",
    "connection_limit=",
    "pool_timeout=",
    "connect_timeout=",
    "18446744073709551615",
    "99",
    "0",
    "sslmode=",
    "verify-full",
    "require",
    "sslcert=",
    "sslkey=",
    "sslrootcert=system",
    "target_session_attrs=",
    "channel_binding=require",
    "pgbouncer=true",
    "options=",
];

/// With a login, whatever comes after it.
fn address(scheme: &'static str) -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..14);
    words.prop_map(move |words| format!("{scheme}://u:{PASSWORD}@{}", words.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_address_is_read_or_refused_and_shows_no_password(
        database in address("postgres"),
        redis in address("redis"),
        limit in any::<u64>(),
    ) {
        let environment = vec![
            ("DATABASE_URL".to_owned(), database),
            ("REDIS_URL".to_owned(), redis.clone()),
            ("REDIS_SENTINELS".to_owned(), redis),
            ("REDIS_SENTINEL_ENABLED".to_owned(), (limit % 2 == 0).to_string()),
            ("DATABASE_STATEMENT_TIMEOUT".to_owned(), limit.to_string()),
        ];
        let text = "[store]\ndurable = \"postgres\"\nshared = \"redis\"\n".to_owned();
        let file = Some(Text { path: "mainstay.toml".into(), text });
        let reader = Reader::new(&Inputs { environment, file, ..Inputs::default() });
        let mut shown = format!("{:?}", Options::read(&reader));
        let report = reader.finish();
        for fault in report.faults.iter().chain(&report.warnings) {
            let _ = write!(shown, "{fault:?}");
        }
        prop_assert!(!shown.contains(PASSWORD), "{shown}");
    }
}
