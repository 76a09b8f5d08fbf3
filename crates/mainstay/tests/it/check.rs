//! C2: every fault at once, each with file, line, found, expected; nothing started.

use crate::{Project, as_ourselves, has};

const FAULTY: &str = r#"[app.api]
run = "node server.js"
instances = "many"
healt = { path = "/health" }

[edge]
listen = [":80000"]
drain = 30

[edge.timeouts]
idle = "5 parsecs"
"#;

#[test]
fn c2_every_fault_is_told_at_once_with_file_and_line() {
    let project = Project::new(&[("mainstay.toml", FAULTY)]);
    let said = project.mainstay(&["check"]);
    assert_eq!(said.code, Some(78));
    assert_eq!(said.out, "");
    has(&said.err, &["mainstay.toml:3", "mainstay.toml:4", "mainstay.toml:7", "mainstay.toml:8", "mainstay.toml:11"]);
    has(&said.err, &["health", "5 faults"]);
}

#[test]
fn c2_run_refuses_what_check_refuses_and_touches_nothing() {
    let project = Project::new(&[("mainstay.toml", FAULTY)]);
    let said = project.mainstay(&["run"]);
    assert_eq!(said.code, Some(78), "{}", said.err);
    has(&said.err, &["mainstay.toml:3", "5 faults"]);
    assert!(!project.path().join(".mainstay").exists());
}

#[test]
fn a_file_without_faults_is_said_to_be_so() {
    let project = Project::new(&[("mainstay.toml", "[app.main]\nrun = \"sleep 1\"\n")]);
    let said = project.mainstay(&["check"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""));
    has(&said.err, &["0 faults"]);
}

#[test]
fn c3_a_weak_secret_is_refused_in_production_and_told_of_in_development() {
    let project =
        Project::new(&[("mainstay.toml", "[app.main]\nrun = \"sleep 1\"\n"), (".env", "JWT_SECRET=changeme\n")]);
    let production = project.mainstay_with(&["check"], &[("NODE_ENV", "production")]);
    assert_eq!(production.code, Some(78));
    has(&production.err, &["JWT_SECRET", ".env:1", "mainstay secret JWT_SECRET"]);
    let development = project.mainstay(&["check"]);
    assert_eq!(development.code, Some(0), "{}", development.err);
    has(&development.err, &["JWT_SECRET", ".env:1", "1 warning"]);
    for said in [production, development] {
        assert!(!said.err.contains("changeme"), "a secret's value was shown:\n{}", said.err);
    }
}

#[test]
fn c8_a_required_name_that_is_missing_is_a_fault_in_production() {
    let file = format!("[app.main]\nrun = \"sleep 1\"\nrequired = [\"SENTRY_DSN\"]\n{}", as_ourselves());
    let project = Project::new(&[("mainstay.toml", &file)]);
    let said = project.mainstay(&["check", "--production"]);
    assert_eq!(said.code, Some(78));
    has(&said.err, &["SENTRY_DSN", "mainstay.toml:3"]);
    let given = project.mainstay_with(&["check", "--production"], &[("SENTRY_DSN", "https://a@sentry.example/1")]);
    assert_eq!(given.code, Some(0), "{}", given.err);
}

#[test]
fn a_named_file_that_is_missing_is_a_fault() {
    let said = Project::new(&[]).mainstay(&["check", "--file", "gone.toml"]);
    assert_eq!(said.code, Some(78));
    has(&said.err, &["gone.toml"]);
}
