//! C3, C4: no secret leaves through a message, a screen or a list; weak ones are refused in production.

use mainstay_config::{Inputs, Reader, Text, checks, example, parse_env_file};

use crate::blocks::{inputs, lines, read};

const SECRET: &str = "hunter2-hunter2";

/// Everything that can be shown of these inputs.
fn shown(inputs: &Inputs) -> String {
    let reader = Reader::new(inputs);
    let options = read(&reader);
    checks::variables(&reader, None);
    let _ = reader.url("REDIS_URL");
    let report = reader.finish();
    let mut text = format!("{}\n{}\n", report.render(false), report.render(true));
    for fault in report.faults.iter().chain(&report.warnings) {
        text.push_str(&format!("{}\n{fault:?}\n", fault.line()));
    }
    let mut settings = report.settings.clone();
    // A position tells its file and line alone.
    settings.retain(|setting| setting.key != "nothing");
    text.push_str(&format!("{settings:?}\n{:?}\n{}\n{inputs:?}", report.variables, example(&report)));
    text.push_str(&format!("{reader:?}{}", options.level.as_str()));
    text
}

#[test]
fn a_secret_is_shown_nowhere() {
    for file in [
        format!("[ops]\ntoken = \"{SECRET}\"\n"),
        format!("[ops]\ntoken = \"{SECRET}\" x\n"),
        format!("[ops]\ntoken = {SECRET}\n"),
        format!("[ops]\ntoken = [\"{SECRET}\"]\n"),
        format!("[ops]\ntoken = \"{SECRET}\ntoken = 1\n"),
        format!("[ops]\ntokken = \"{SECRET}\"\njwt_secret = \"{SECRET}\"\n").replacen(SECRET, "x", 1),
        format!("[ops]\njwt_secret = \"{SECRET}\"\n"),
        format!("jwt_secret = '''\n{SECRET}'''\n"),
        format!("[app.a]\nenv = {{ JWT_SECRET = \"{SECRET}\", B = [1] }}\n"),
        format!("[app.a.env]\nJWT_SECRET = [\"{SECRET}\"]\n"),
        format!("[logs]\nlevel = \"postgres://u:{SECRET}@h/db\"\n"),
        format!("[logs]\nlevel = \"${{X:-postgres://u:{SECRET}@h/db}}\"\n"),
        "[logs]\nlevel = \"${JWT_SECRET}\"\n[edge.timeouts]\ndrain = \"${JWT_SECRET}\"\n".to_owned(),
        "[app.a]\nrun = \"serve ${DATABASE_URL}\"\nbalance = \"${DATABASE_URL}\"\n".to_owned(),
    ] {
        for environment in ["production", "development"] {
            let variables = [
                ("NODE_ENV", environment),
                ("JWT_SECRET", SECRET),
                ("DATABASE_URL", "postgres://u:hunter2-hunter2@h/db"),
                ("REDIS_URL", "redis://:hunter2-hunter2/x@h"),
                ("OPS_TOKEN", SECRET),
                ("LOG_LEVEL", SECRET),
            ];
            let text = shown(&inputs(&file, &variables[..5], &format!("A={SECRET}x\n{SECRET}\n")));
            assert!(!text.contains(SECRET), "{file}\n{text}");
        }
    }
}

#[test]
fn bad_lines_of_env_files_are_not_shown() {
    let text = shown(&inputs("", &[], "-----BEGIN KEY\nhunter2-hunter2==\nPRIVATE_KEY=\"hunter2-hunter2\n"));
    assert!(text.contains(".env:3") && !text.contains(SECRET), "{text}");
    let (assignments, faults) = parse_env_file(".env", "A=1\nhunter2-hunter2");
    assert_eq!((assignments.len(), faults.len()), (1, 1));
}

#[test]
fn secrets_are_known_for_redaction() {
    let file = "[ops]\ntoken = \"from-the-file\"\n[app.a]\nrun = \"x\"\nenv = { API_TOKEN = \"from-env-table\" }\n";
    let variables = [
        ("JWT_SECRET", "from-jwt"),
        ("SMTP_PASS", "abc"),
        ("DATABASE_URL", "postgres://u:p%40ss@h/db"),
        ("PORT", "8080"),
        ("STRIPE_SECRET_KEY_FILE", "/run/key"),
    ];
    let mut inputs = inputs(file, &variables, "X_PASSWORD=from-dot-env\n");
    inputs.secret_files = vec![Text::new("/run/key", "from-secret-file\n")];
    let reader = Reader::new(&inputs);
    let _ = read(&reader);
    let values: Vec<String> = reader.secrets().into_iter().map(|(_, value)| value).collect();
    for value in ["from-jwt", "p%40ss", "p@ss", "from-dot-env", "from-the-file", "from-env-table", "from-secret-file"] {
        assert!(values.iter().any(|known| known == value), "{value}: {values:?}");
    }
    // Hiding every "abc" or "8080" of a log would protect nothing.
    assert!(!values.iter().any(|value| value == "abc" || value == "8080"));
    assert!(values.windows(2).all(|pair| pair[0].len() >= pair[1].len()));
}

#[test]
fn weak_secrets_are_refused_in_production_alone() {
    let check = |environment: &str, value: &str, least: Option<usize>| {
        let reader = Reader::new(&inputs("", &[("NODE_ENV", environment)], &format!("\nJWT_SECRET={value}\n")));
        checks::variables(&reader, least);
        let report = reader.finish();
        (lines(&report.faults), lines(&report.warnings))
    };
    let words = ".env:2: JWT_SECRET is 11 characters, at least 32 are needed; mainstay secret JWT_SECRET".to_owned();
    assert_eq!(check("production", "k3J9xQ_7vZt", None), (vec![words.clone()], vec![]));
    assert_eq!(check("development", "k3J9xQ_7vZt", None), (vec![], vec![words]));
    let good = "k3J9xQ7vZtB2mW8rLpYc5NdHs6Gf4TqA";
    assert_eq!(check("production", good, None), (vec![], vec![]));
    assert_eq!(check("production", good, Some(64)).0.len(), 1);
    assert_eq!(check("production", "your-super-secret-jwt-key-change-me-now", None).0.len(), 1);
}

#[test]
fn a_broken_url_is_named_as_that() {
    let reader = Reader::new(&inputs(
        "",
        &[("NODE_ENV", "production"), ("DATABASE_URL", "postgres://app:aB/cD+eF==@db:5432/app")],
        "REDIS_URL=mysql://h\n",
    ));
    checks::variables(&reader, None);
    assert_eq!(
        lines(&reader.finish().faults),
        ["environment DATABASE_URL: DATABASE_URL is broken by an unescaped \"/\", \"+\", \"=\" of a base64 password; \
          expected a percent-encoded password; in the password, write / as %2F, + as %2B, = as %3D"]
    );
}

#[test]
fn a_secret_in_the_file_is_refused_in_production() {
    let check = |file: &str, production: bool| {
        let environment = if production { "production" } else { "development" };
        let reader = Reader::new(&inputs(file, &[("NODE_ENV", environment), ("T", "a-long-token")], ""));
        let token = read(&reader).token.map(|token| token.value);
        (token, lines(&reader.finish().faults))
    };
    let literal = "[ops]\ntoken = \"a-long-token\"\n";
    assert_eq!(check(literal, false), (Some("a-long-token".to_owned()), vec![]));
    let fault = "mainstay.toml:2: \"token\" in [ops] is a secret written in the file; \
        expected a variable, so that the file can be shown to others; token = \"${OPS_TOKEN}\"";
    assert_eq!(check(literal, true).1, [fault]);
    assert_eq!(check("[ops]\ntoken = \"${T}\"\n", true), (Some("a-long-token".to_owned()), vec![]));
}

#[test]
fn secrets_in_an_apps_table_are_refused_in_production_too() {
    let file = "[app.a.env]\nJWT_SECRET = \"k3J9xQ7vZtB2mW8rLpYc5NdHs6Gf4TqA\"\n\
        DATABASE_URL = \"postgres://u:pass@h/db\"\n\
        OTHER_SECRET = \"${OTHER}\"\nPLAIN = \"x\"\n";
    let reader = Reader::new(&inputs(file, &[("NODE_ENV", "production"), ("OTHER", "abcdefgh")], ""));
    let _ = read(&reader);
    let expected = "expected a variable, so that the file can be shown to others";
    assert_eq!(
        lines(&reader.finish().faults),
        [
            format!(
                "mainstay.toml:2: \"JWT_SECRET\" in [app.a.env] is a secret written in the file; {expected}; \
                 JWT_SECRET = \"${{JWT_SECRET}}\""
            ),
            format!(
                "mainstay.toml:3: \"DATABASE_URL\" in [app.a.env] has a password written in the file; {expected}; \
                 DATABASE_URL = \"${{DATABASE_URL}}\""
            ),
        ]
    );
}

/// C4
#[test]
fn production_on_the_development_value_is_said() {
    let good = "k3J9xQ7vZtB2mW8rLpYc5NdHs6Gf4TqA";
    let environment = [("NODE_ENV", "production"), ("JWT_SECRET", good), ("POSTGRES_PASSWORD", "changeme")];
    let reader = Reader::new(&inputs("", &environment, &format!("JWT_SECRET={good}\n")));
    checks::variables(&reader, None);
    let report = reader.finish();
    assert!(report.faults.is_empty());
    assert_eq!(
        lines(&report.warnings),
        [
            "environment JWT_SECRET: JWT_SECRET is the value that development uses (.env:1); \
             expected a value of its own in production; mainstay secret JWT_SECRET",
            "environment POSTGRES_PASSWORD: POSTGRES_PASSWORD is a sample value that everybody knows; \
             mainstay secret POSTGRES_PASSWORD",
        ]
    );
}

#[test]
fn secrets_come_from_files_and_credentials_too() {
    let mut inputs = inputs("", &[("JWT_SECRET_FILE", "/run/jwt")], "SESSION_SECRET=one\n");
    inputs.secret_files = vec![Text::new("/run/jwt", "from-file\r\n")];
    inputs.credentials = vec![("SMTP_PASS".to_owned(), "from-systemd\n".to_owned())];
    let reader = Reader::new(&inputs);
    let found = |name: &str| reader.variable(name).map(|item| (item.value.clone(), item.at.to_string()));
    assert_eq!(found("JWT_SECRET"), Some(("from-file".to_owned(), "environment JWT_SECRET_FILE".to_owned())));
    assert_eq!(found("SMTP_PASS"), Some(("from-systemd".to_owned(), "credential SMTP_PASS".to_owned())));
    assert_eq!(found("SESSION_SECRET"), Some(("one".to_owned(), ".env:1".to_owned())));
    assert_eq!(found("NOTHING"), None);
    assert!(reader.named_variable("SESSION_SECRET").is_none());
    assert!(reader.finish().faults.is_empty());
}

#[test]
fn a_secret_given_twice_differently_is_a_fault() {
    let mut inputs = inputs("", &[("JWT_SECRET_FILE", "/run/jwt"), ("JWT_SECRET", "other-secret")], "");
    inputs.secret_files = vec![Text::new("/run/jwt", "from-file")];
    let reader = Reader::new(&inputs);
    let _ = reader.variable("JWT_SECRET");
    let faults = lines(&reader.finish().faults);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("JWT_SECRET and JWT_SECRET_FILE disagree"), "{faults:?}");
    assert!(!faults[0].contains("from-file") && !faults[0].contains("other-secret"), "{faults:?}");
}

#[test]
fn what_a_deployment_requires_must_be_set() {
    let check = |environment: &str| {
        let file = "[app.a]\nrequired = [\"SENTRY_DSN\", \"SET\"]\n";
        let reader = Reader::new(&inputs(file, &[("NODE_ENV", environment), ("SET", "1")], ""));
        let required = reader.named("app")[0].key("required").texts(&[]);
        for name in required.iter() {
            let _ = reader.require(name, &name.at);
        }
        let report = reader.finish();
        (lines(&report.faults), report.warnings.len(), example(&report).contains("SENTRY_DSN="))
    };
    let fault = "mainstay.toml:2: SENTRY_DSN is required and not set; \
        expected a variable of the environment, of --env-file or of .env; set SENTRY_DSN=…";
    assert_eq!(check("production"), (vec![fault.to_owned()], 0, true));
    assert_eq!(check("development"), (vec![], 1, true));
}
