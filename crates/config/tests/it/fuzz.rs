//! Any bytes at all for every reader of what people write: the file, `.env`, units, connection strings.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use crate::blocks::read;
use crate::spelled::spelled;
use mainstay_config::{Assignment, Inputs, Reader, Text, checks, parse_env_file, units, url};

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

const FILE_WORDS: [&str; 40] = [
    "\n",
    "\n",
    "\n",
    "[edge]\n",
    "[app.api]\n",
    "[app.api.env]\n",
    "[[route]]\n",
    "[edge.timeouts]\n",
    "[tls.\"a.b\"]\n",
    "listen = ",
    "drain = ",
    "run = ",
    "env = {",
    "required = [",
    "instances = ",
    "trusted_proxies = ",
    "match = ",
    "\"",
    "\"${",
    "}",
    "]",
    "${A}",
    "${A:-b}",
    "$${",
    "'''",
    "\"\"\"",
    "=",
    ",",
    "{",
    "[",
    "#",
    "1",
    "\"10s\"",
    "\"1GB\"",
    "2026-02-01",
    "1e400",
    "0x",
    "true",
    "A = 1\n",
    "hunter2hunter2",
];

#[test]
fn any_file_is_read_the_same_twice_and_every_fault_has_a_place_in_it() {
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let (file, dot_env) = bytes.split_at(bytes.len() * 2 / 3);
        let (file, dot_env) = (spelled(file, &FILE_WORDS), spelled(dot_env, &FILE_WORDS));
        let lines = file.matches('\n').count().max(dot_env.matches('\n').count()) + 1;
        let environment = vec![("NODE_ENV".to_owned(), "production".to_owned()), ("A".to_owned(), dot_env.clone())];
        let inputs = Inputs { environment, dot_env: Some(Text::new(".env", dot_env)), ..Inputs::of_file(file.clone()) };
        let said = |inputs: &Inputs| {
            let reader = Reader::new(inputs);
            let _ = read(&reader);
            checks::variables(&reader, None);
            let report = reader.finish();
            for fault in report.faults.iter().chain(&report.warnings) {
                let (line, place) = (fault.line(), fault.position.line());
                assert!(!line.contains('\n'), "{line}");
                assert!(place.is_none_or(|place| (1..=lines).contains(&place)), "{file:?}: {line}");
            }
            (report.render(false), report.is_ok())
        };
        let first = said(&inputs);
        // As the server gets them from the supervisor.
        let handed = Inputs::from_json(&inputs.to_json()).expect("what was written");
        assert!(handed == inputs && said(&handed) == first, "{file:?}");
    });
}

const DOTENV_WORDS: [&str; 21] = [
    "\n",
    "\n",
    "\r\n",
    "A=",
    "B_2=",
    "export ",
    "=",
    "\"",
    "'",
    "`",
    "\\",
    "\\n",
    "#",
    " # ",
    " ",
    "\t",
    "${A}",
    "x",
    "\u{feff}",
    "\u{0}",
    "MIIEvQIBADANBgkqhkiG9w0=",
];

#[test]
fn any_env_file_is_read_line_by_line() {
    bolero::check!().with_iterations(INPUTS).with_max_len(32).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &DOTENV_WORDS);
        let (assignments, faults) = parse_env_file(".env", &text);
        let lines = text.matches('\n').count() + 1;
        let places: Vec<usize> = assignments.iter().filter_map(|one| one.at.line()).collect();
        assert!(places.len() == assignments.len() && places.is_sorted(), "{text:?}");
        assert!(places.iter().all(|line| (1..=lines).contains(line)), "{text:?}");
        let is_name = |one: &Assignment| !one.name.is_empty() && !one.name.contains(char::is_whitespace);
        assert!(assignments.iter().all(is_name), "{text:?}");
        assert!(assignments.len() + faults.len() <= lines, "{text:?}");
        // What stands on a line of its own below is read, unless a quote was left open.
        if text.contains(['"', '\'', '`']) {
            return;
        }
        let values = |all: Vec<Assignment>| all.into_iter().map(|one| (one.name, one.value)).collect::<Vec<_>>();
        let (more, _) = parse_env_file(".env", &format!("{text}\nLAST_ONE=1"));
        let last = ("LAST_ONE".to_owned(), "1".to_owned());
        assert_eq!(values(more), [values(assignments), vec![last]].concat(), "{text:?}");
    });
}

const UNIT_WORDS: [&str; 25] = [
    "1",
    "0",
    "10",
    ".",
    ".5",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "w",
    "KB",
    "KiB",
    "MB",
    "MiB",
    "GB",
    "TiB",
    "B",
    "k",
    " ",
    "-",
    "e3",
    "99999999999999999999",
    "S",
    "sec",
];

#[test]
fn any_unit_is_read_as_it_is_shown() {
    bolero::check!().with_iterations(INPUTS).with_max_len(8).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &UNIT_WORDS);
        match units::duration(&text) {
            Ok(duration) => {
                assert!(duration <= units::MAX_DURATION, "{text:?}");
                assert_eq!(units::duration(&units::show_duration(duration)), Ok(duration), "{text:?}");
            }
            Err(words) => assert!(!words.is_empty() && !words.contains('\n'), "{text:?}: {words:?}"),
        }
        match units::size(&text) {
            Ok(size) => assert_eq!(units::size(&units::show_size(size)), Ok(size), "{text:?}"),
            Err(words) => assert!(!words.is_empty() && !words.contains('\n'), "{text:?}: {words:?}"),
        }
    });
}

const URL_WORDS: [&str; 26] = [
    "postgres://",
    "redis://",
    "rediss://",
    ",redis://",
    "user",
    ":",
    "hunter2",
    "@",
    "@",
    "db.internal",
    "[::1]",
    "/",
    "/app",
    "?",
    "sslmode=require",
    "&",
    "=",
    "%2F",
    "%",
    "%zz",
    "#",
    ":5432",
    ":99999",
    ",",
    " ",
    "\u{e9}",
];

#[test]
fn any_connection_string_is_read_or_refused_without_its_password() {
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &URL_WORDS);
        let _ = url::parse(&text);
        for whole in
            [format!("postgres://app:hunter2{text}@db.internal/app"), format!("redis://:{text}hunter2@h:6379/0")]
        {
            match url::parse(&whole) {
                Ok(url) => assert_eq!(url.hosts.first(), Some(&(url.host.clone(), url.port)), "{whole:?}"),
                Err(problem) => assert!(!problem.to_string().contains("hunter2"), "{whole:?}: {problem}"),
            }
        }
    });
}
