//! No text whatever may panic, and what is written right is read as it was written.

use std::time::Duration;

use mainstay_config::{Inputs, Reader, Text, checks, example, parse_env_file, secret, units, url};
use proptest::prelude::*;

use crate::blocks::{finish, read};

/// Text that comes close to a configuration, so that it gets beyond the first character.
fn nearly_toml() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("[edge]\n".to_owned()),
        Just("[app.api]\n".to_owned()),
        Just("[[route]]\n".to_owned()),
        Just("[edge.timeouts]\n".to_owned()),
        Just("listen = ".to_owned()),
        Just("drain = ".to_owned()),
        Just("token = ".to_owned()),
        Just("env = {".to_owned()),
        Just("run = \"${".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("'''".to_owned()),
        Just("postgres://u:p@".to_owned()),
        "[\\[\\]{}=\",'\n\r .#0-9a-z_$+-]{0,6}",
        any::<String>().prop_map(|text| text.chars().take(8).collect()),
    ];
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

fn name() -> impl Strategy<Value = String> {
    "[A-Z][A-Z0-9_]{0,12}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_panics(file in nearly_toml(), dot_env in nearly_toml()) {
        let inputs = Inputs { dot_env: Some(Text::new(".env", dot_env)), ..Inputs::of_file(file) };
        let reader = Reader::new(&inputs);
        let _ = read(&reader);
        checks::variables(&reader, None);
        let report = reader.finish();
        let _ = (report.render(true), report.render(false), report.reference(), report.schema(), example(&report));
        for fault in &report.faults {
            prop_assert!(!fault.line().contains('\n'));
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), other in any::<String>()) {
        let inputs = Inputs {
            environment: vec![(text.clone(), other.clone()), ("PORT".to_owned(), other.clone())],
            flags: vec![(text.clone(), other.clone()), ("edge.timeouts.drain".to_owned(), other.clone())],
            ..Inputs::of_file(text.clone())
        };
        let (_, report) = finish(&inputs);
        let _ = report.render(true);
        let _ = Inputs::from_json(&text);
        let back = Inputs::from_json(&inputs.to_json()).expect("what was written");
        prop_assert!(back == inputs);
    }

    #[test]
    fn no_unit_url_or_secret_panics(text in prop_oneof![any::<String>(), "[0-9.smhdwKMGiB :/@?#%+=-]{0,40}"]) {
        if let Ok(duration) = units::duration(&text) {
            prop_assert!(duration <= units::MAX_DURATION);
        }
        let _ = units::size(&text);
        let _ = url::parse(&text);
        let _ = url::parse(&format!("postgres://{text}"));
        let _ = url::parse(&format!("redis://u:{text}@h"));
        let _ = secret::weakness("JWT_SECRET", &text);
        let _ = parse_env_file(".env", &text);
    }

    #[test]
    fn durations_are_read_as_they_are_shown(millis in 0..=units::MAX_DURATION.as_millis() as u64) {
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(units::duration(&units::show_duration(duration)), Ok(duration));
    }

    #[test]
    fn sizes_are_read_as_they_are_shown(bytes in 0..=i64::MAX as u64) {
        prop_assert_eq!(units::size(&units::show_size(bytes)), Ok(bytes));
    }

    #[test]
    fn env_files_are_read_as_they_are_written(
        pairs in prop::collection::btree_map(name(), "[^\0\r]{0,20}", 0..8),
        crlf in any::<bool>(),
    ) {
        let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let end = if crlf { "\r\n" } else { "\n" };
        let text: String = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"{end}", quote(value))).collect();
        let (assignments, faults) = parse_env_file(".env", &text);
        prop_assert!(faults.is_empty(), "{:?}", faults);
        let read: Vec<_> = assignments.into_iter().map(|a| (a.name, a.value)).collect();
        prop_assert_eq!(read, pairs.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn files_are_read_as_they_are_written(
        seconds in 0_u64..1_000_000,
        connections in 1_i64..=1_000_000,
        apps in prop::collection::btree_map("[a-z]{1,8}", "[a-zA-Z0-9 ./_-]{0,20}", 0..5),
        proxies in prop::collection::vec("[a-z0-9./]{1,12}", 0..5),
    ) {
        let mut file = format!("[edge]\ntrusted_proxies = {proxies:?}\n");
        file.push_str(&format!("[edge.timeouts]\ndrain = \"{seconds}s\"\n"));
        file.push_str(&format!("[edge.limits]\nconnections = {connections}\n"));
        for (name, run) in &apps {
            file.push_str(&format!("[app.{name}]\nrun = \"{run}\"\n"));
        }
        let (options, report) = finish(&Inputs::of_file(file));
        prop_assert!(report.faults.is_empty(), "{:?}", report.faults);
        prop_assert_eq!(options.edge.drain.as_secs(), seconds);
        prop_assert_eq!(*options.edge.connections, connections);
        let read: Vec<_> = options.edge.proxies.iter().map(|proxy| proxy.value.clone()).collect();
        prop_assert_eq!(read, proxies);
        let read: Vec<_> = options.apps.into_iter().map(|app| (app.name, app.run.map(|run| run.value))).collect();
        let written: Vec<_> = apps.into_iter().map(|(name, run)| (name, Some(run))).collect();
        prop_assert_eq!(read, written);
    }

    /// C2: a base64 password that nobody escaped is read right or named, never taken for something else.
    #[test]
    fn base64_passwords_are_named(password in "[A-Za-z0-9+/]{8,40}={0,2}", port in 1_u16..) {
        let text = format!("postgres://app:{password}@db.internal:{port}/app?sslmode=require");
        match url::parse(&text) {
            Ok(url) => {
                prop_assert!(!password.contains('/'));
                prop_assert_eq!((url.host.as_str(), url.port, url.has_password), ("db.internal", port, true));
            }
            Err(problem) => {
                prop_assert!(password.contains('/'));
                prop_assert!(problem.what.contains("unescaped \""), "{}", problem);
                prop_assert!(!problem.to_string().contains(&password), "{}", problem);
            }
        }
        let escaped = password.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        let url = url::parse(&text.replace(&password, &escaped)).expect("escaped");
        prop_assert!(url.unescaped.is_empty() && url.has_password);
    }
}
