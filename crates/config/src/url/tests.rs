//! The guides' URLs, and what may be wrong with one.

use super::*;

#[test]
fn takes_the_guides_urls_apart() {
    let url = parse("postgresql://user:password@host:5433/bugbounty?sslmode=require&connection_limit=20").expect("url");
    assert_eq!((url.scheme.as_str(), url.host.as_str(), url.port), ("postgresql", "host", 5433));
    assert_eq!((url.user.as_deref(), url.has_password), (Some("user"), true));
    assert_eq!(url.database.as_deref(), Some("bugbounty"));
    assert_eq!(url.param("connection_limit"), Some("20"));
    assert!(url.is_tls() && url.is_postgres());

    for (text, host, port, user, password, database) in [
        ("redis://localhost", "localhost", 6379, None, false, None),
        ("redis://:password@host:6379", "host", 6379, None, true, None),
        ("rediss://u:p@host/2", "host", 6379, Some("u"), true, Some("2")),
        ("postgres://[::1]:6432/db", "::1", 6432, None, false, Some("db")),
        ("postgres://u@h", "h", 5432, Some("u"), false, None),
        ("postgres://u:a%2Fb%40c@h/db", "h", 5432, Some("u"), true, Some("db")),
        ("postgresql:///db?host=/var/run/postgresql", "", 5432, None, false, Some("db")),
        ("POSTGRES://h/db", "h", 5432, None, false, Some("db")),
        ("redis://h1:1,h2:2,h3:3", "h1", 1, None, false, None),
        ("redis://h1:1,redis://h2:2", "h1", 1, None, false, None),
        ("postgres://localhost:5432/db?user=a@b", "localhost", 5432, None, false, Some("db")),
        (" redis://h \n", "h", 6379, None, false, None),
    ] {
        let url = parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
        assert_eq!((url.user.as_deref(), url.has_password), (user, password), "{text}");
        assert_eq!(url.database.as_deref(), database, "{text}");
    }
    assert_eq!(parse("redis://h1:1,redis://h2:2").map(|url| url.hosts.len()), Ok(2));
}

#[test]
fn names_an_unescaped_base64_password() {
    for (text, chars) in [
        ("postgres://app:aB/cD+eF==@db:5432/app", "\"/\", \"+\", \"=\""),
        ("postgres://app:/startsWithIt@db/app", "\"/\""),
        ("postgres://app:12/34@db:5432/app", "\"/\""),
        ("postgres://app:5432/34@db:5432/app?x=1", "\"/\""),
        ("postgres://app:a?b@db/app", "\"?\""),
        ("postgres://app:a#b@db/app", "\"#\""),
        ("postgres://app:a@b@db/app", "\"@\""),
        ("redis://:a/b@redis:6379", "\"/\""),
        ("redis://:5432/b@redis:6379", "\"/\""),
        ("postgres://app:a/b@c#d@db/app", "\"/\", \"@\", \"#\""),
    ] {
        let problem = parse(text).expect_err(text);
        assert!(problem.what.contains(chars), "{text}: {problem}");
        assert!(problem.fix.contains(" as %"), "{text}: {problem}");
        assert!(!problem.foreign);
    }
    let problem = parse("postgres://app:aB/cD+eF==@db:5432/app").expect_err("broken");
    assert_eq!(problem.what, "is broken by an unescaped \"/\", \"+\", \"=\" of a base64 password");
    assert_eq!(problem.fix, "in the password, write / as %2F, + as %2B, = as %3D");
}

#[test]
fn plus_and_equals_alone_do_not_break_it() {
    assert_eq!(parse("postgres://u:a+b==@h/db").map(|url| url.unescaped), Ok(vec!['+', '=']));
}

#[test]
fn says_what_else_is_wrong() {
    for (text, words) in [
        ("localhost:5432", "no scheme"),
        ("", "no scheme"),
        ("postgres://", ""),
        ("redis://", "no host"),
        ("redis://:6379", "no host"),
        ("postgres://u:p@:5432/db", "no host"),
        ("postgres://h:port/db", "port"),
        ("postgres://h:0/db", "port"),
        ("postgres://h:99999/db", "port"),
        ("postgres://[::1/db", "without its ]"),
        ("postgres://[zz]/db", "no IPv6"),
        ("postgres://u:a%zz@h/db", "% in its password"),
        ("postgres://u:a%@h/db", "% in its password"),
        ("postgres://u:%ff@h/db", "% in its password"),
        ("postgres://u:<password>@h/db", "placeholder"),
        ("postgres://u:${PW}@h/db", "nobody filled in"),
        ("postgres://u:ab\ncd@h/db", "line break"),
        ("postgres://u:a b@h/db", "space"),
        ("postgres://u:a\0b@h/db", "control"),
    ] {
        match parse(text) {
            Err(problem) => assert!(problem.what.contains(words) && !problem.foreign, "{text}: {problem}"),
            Ok(_) => assert!(words.is_empty(), "{text} was read"),
        }
    }
}

#[test]
fn other_databases_are_the_apps_business() {
    for text in ["mysql://u:p@h/db", "mongodb+srv://u:p@h", "file:./dev.db", "sqlite::memory:"] {
        assert!(parse(text).expect_err(text).foreign, "{text}");
    }
}

#[test]
fn passwords_are_found_for_redaction_even_in_broken_urls() {
    for (text, found) in [
        ("postgres://u:p%40ss@h/db", vec!["p%40ss", "p@ss"]),
        ("postgres://u:a/b@h/db", vec!["a/b"]),
        ("postgres://h/db?sslmode=require&password=x%26y&a=b", vec!["x%26y", "x&y"]),
        ("redis://:pw@h:1,redis://:pv@h:2", vec!["pw", "pv"]),
        ("http://localhost:3000/a@b", vec![]),
        ("https://key@o1.ingest.sentry.io/1", vec![]),
        ("nothing", vec![]),
    ] {
        assert_eq!(passwords(text), found, "{text}");
    }
}
