//! C1: flag › environment › `--env-file` › `./.env` › file › default, and who overrode whom.

use std::time::Duration;

use mainstay_config::{Inputs, Reader, Setting, Text};

use crate::blocks::{finish, inputs, lines};

fn layered(layers: usize) -> Inputs {
    let mut inputs = Inputs::of_file("");
    if layers >= 1 {
        inputs.file = Some(Text::new("mainstay.toml", "[edge.timeouts]\ndrain = \"1s\"\n"));
    }
    if layers >= 2 {
        inputs.dot_env = Some(Text::new(".env", "GRACEFUL_SHUTDOWN_TIMEOUT=2000\n"));
    }
    if layers >= 3 {
        inputs.env_file = Some(Text::new("prod.env", "\nGRACEFUL_SHUTDOWN_TIMEOUT=3000\n"));
    }
    if layers >= 4 {
        inputs.environment = vec![("GRACEFUL_SHUTDOWN_TIMEOUT".to_owned(), "4000".to_owned())];
    }
    if layers >= 5 {
        inputs.flags = vec![("edge.timeouts.drain".to_owned(), "5s".to_owned())];
    }
    inputs
}

fn setting(inputs: &Inputs, key: &str) -> Setting {
    let (_, report) = finish(inputs);
    report.settings.into_iter().find(|setting| setting.key == key).expect("a setting")
}

#[test]
fn each_layer_overrides_the_one_below() {
    let origins =
        ["default", "mainstay.toml:2", ".env:1", "prod.env:2", "environment GRACEFUL_SHUTDOWN_TIMEOUT", "flag --drain"];
    for (layers, origin) in origins.iter().enumerate() {
        let (options, report) = finish(&layered(layers));
        assert!(report.faults.is_empty(), "{:?}", lines(&report.faults));
        let seconds = if layers == 0 { 30 } else { layers as u64 };
        assert_eq!(*options.edge.drain, Duration::from_secs(seconds));
        let setting = setting(&layered(layers), "edge.timeouts.drain");
        assert_eq!(setting.origin.to_string(), *origin);
        assert_eq!(setting.value, Some(format!("\"{seconds}s\"")));
        let overrode: Vec<String> = setting.overrode.iter().map(|over| over.at.to_string()).collect();
        assert_eq!(overrode, origins[..layers].iter().rev().copied().collect::<Vec<_>>());
    }
}

#[test]
fn an_empty_variable_is_unset() {
    let (options, report) = finish(&inputs("", &[("GRACEFUL_SHUTDOWN_TIMEOUT", ""), ("PORT", "")], ""));
    assert!(report.faults.is_empty() && report.warnings.is_empty());
    assert!(options.edge.drain.is_default() && options.edge.listen.is_none());
}

#[test]
fn two_names_that_disagree_are_a_fault() {
    let read = |environment: &[(&str, &str)]| {
        let reader = Reader::new(&inputs("", environment, "DB_POOL_MAX=20\n"));
        let pool = reader.table("pool").key("max").env("DATABASE_POOL_MAX").env("DB_POOL_MAX").integer(10, 1..=100);
        (pool.value, lines(&reader.finish().faults))
    };
    assert_eq!(read(&[]), (20, vec![]));
    assert_eq!(read(&[("DATABASE_POOL_MAX", " 20")]), (20, vec![]));
    let fault = "environment DATABASE_POOL_MAX: DATABASE_POOL_MAX and DB_POOL_MAX name one setting and disagree; \
        found 15 at environment DATABASE_POOL_MAX, 20 at .env:1; expected one value for pool.max; unset DB_POOL_MAX";
    assert_eq!(read(&[("DATABASE_POOL_MAX", "15")]), (15, vec![fault.to_owned()]));
}

#[test]
fn a_guides_variable_that_cannot_be_read_is_the_apps_business() {
    let read = |file: &str, production: bool| {
        let environment = [("LOG_LEVEL", "http"), ("NODE_ENV", if production { "production" } else { "development" })];
        let (options, report) = finish(&inputs(file, &environment, ""));
        assert_eq!(options.level.as_str(), if file.contains("warn") { "warn" } else { "info" });
        (report.faults.len(), report.warnings.len())
    };
    assert_eq!(read("", false), (0, 1));
    assert_eq!(read("", true), (0, 1));
    assert_eq!(read("[logs]\nlevel = \"warn\"\n", false), (0, 1));
    assert_eq!(read("[logs]\nlevel = \"warn\"\n", true), (1, 0));
    let (_, report) = finish(&inputs("", &[("LOG_LEVEL", "http")], ""));
    let warning = "environment LOG_LEVEL: LOG_LEVEL is not a choice and is ignored here; found \"http\"; \
        expected \"debug\", \"info\" or \"warn\"";
    assert_eq!(lines(&report.warnings), [warning]);
}

#[test]
fn what_is_ours_alone_must_be_readable() {
    let reader = Reader::new(&inputs("", &[("MAINSTAY_X", "abc"), ("PORT", "http")], ""));
    let _ = reader.key("x").env("MAINSTAY_X").integer(1, 1..=9);
    let _ = reader.key("port").env("PORT").strict().integer(1, 1..=65_535);
    let faults = lines(&reader.finish().faults);
    assert_eq!(faults.len(), 2, "{faults:?}");
    let flags = vec![("edge.timeouts.drain".to_owned(), "soon".to_owned())];
    let (_, report) = finish(&Inputs { flags, ..Inputs::default() });
    assert!(lines(&report.faults)[0].starts_with("flag --drain: --drain is not a duration; found \"soon\""));
}

#[test]
fn numbers_and_booleans_are_spelled_in_variables() {
    let environment = [("LOG_BUFFERED", "off"), ("LIMIT", "500")];
    let file =
        "[edge]\ntrusted_proxies = \"${PROXIES:-10.0.0.0/8, cloudflare}\"\n[edge.limits]\nconnections = \"${LIMIT}\"\n";
    let (options, report) = finish(&inputs(file, &environment, ""));
    assert!(report.faults.is_empty(), "{:?}", lines(&report.faults));
    assert!(!*options.buffered);
    assert_eq!(*options.edge.connections, 500);
    let proxies: Vec<_> = options.edge.proxies.iter().map(|proxy| proxy.as_str()).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "cloudflare"]);
}

#[test]
fn a_mistyped_variable_of_ours_is_said() {
    let (_, report) = finish(&inputs("", &[("MAINSTAY_EVN", "production")], ""));
    assert_eq!(
        lines(&report.warnings),
        ["environment MAINSTAY_EVN: MAINSTAY_EVN is no variable of mainstay; nearest: MAINSTAY_ENV"]
    );
}

#[test]
fn who_thinks_that_env_decides_is_told() {
    let warnings = |environment: &[(&str, &str)], dot_env: &str| {
        lines(&Reader::new(&inputs("", environment, dot_env)).finish().warnings)
    };
    assert_eq!(
        warnings(&[], "NODE_ENV=production\n"),
        [".env:1: NODE_ENV in ./.env does not decide the environment, which is development (no domain); \
          expected the environment or --env-file; --production"]
    );
    assert_eq!(warnings(&[], "NODE_ENV=development\n"), Vec::<String>::new());
    assert_eq!(warnings(&[("NODE_ENV", "development")], "NODE_ENV=production\n"), Vec::<String>::new());
}

#[test]
fn production_or_development_and_why() {
    let check = |file: &str, environment: &[(&str, &str)], dot_env: &str, expected: &str| {
        let reader = Reader::new(&inputs(file, environment, dot_env));
        let decided = reader.environment();
        assert_eq!(format!("{decided} {}", decided.at), expected, "{file} {environment:?}");
    };
    check("", &[], "", "development (no domain) default");
    check("", &[], "NODE_ENV=production", "development (no domain) default");
    check("", &[("NODE_ENV", "production")], "", "production (NODE_ENV=production) environment NODE_ENV");
    check(
        "environment = \"production\"",
        &[("ENVIRONMENT", "development"), ("NODE_ENV", "production")],
        "",
        "development (ENVIRONMENT=development) environment ENVIRONMENT",
    );
    check(
        "",
        &[("MAINSTAY_ENV", "staging"), ("ENVIRONMENT", "development")],
        "",
        "production (MAINSTAY_ENV=staging) environment MAINSTAY_ENV",
    );
    check(
        "environment = \"development\"\n[edge]\ndomains = [\"a.b\"]\n",
        &[],
        "",
        "development (environment = \"development\") mainstay.toml:1",
    );
    check("[edge]\ndomains = [\"a.b\"]\n", &[], "", "production (a domain is configured) mainstay.toml:2");
    check("[edge]\ndomains = []\n", &[], "", "development (no domain) default");
    check("environment = \"${E}\"\n", &[], "E=production", "development (no domain) default");
    check("", &[("SYSTEMD_EXEC_PID", "4711")], "", "production (started by systemd) environment SYSTEMD_EXEC_PID");
    check("", &[("SYSTEMD_EXEC_PID", "4710")], "", "development (no domain) default");
    let mut container = inputs("", &[], "");
    container.pid = 1;
    assert_eq!(Reader::new(&container).environment().to_string(), "production (process 1)");
    container.flags = vec![("production".to_owned(), "true".to_owned())];
    assert_eq!(Reader::new(&container).environment().to_string(), "production (flag --production)");
    let env_file = Inputs { env_file: Some(Text::new(".env.production", "NODE_ENV=production")), ..Inputs::default() };
    let decided = Reader::new(&env_file).environment().clone();
    assert_eq!((decided.production, decided.at.to_string()), (true, ".env.production:1".to_owned()));
}
