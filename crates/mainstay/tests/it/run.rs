//! `run` where nothing can be run.

use crate::{Project, has};

#[test]
fn a_command_that_is_not_there_ends_with_69_and_says_what_to_type() {
    let project = Project::new(&[]);
    let said = project.mainstay(&["run", "--", "no-such-program-anywhere"]);
    assert_eq!(said.code, Some(69), "{}", said.err);
    has(&said.err, &["no-such-program-anywhere", "PATH"]);
    let said = project.mainstay(&["run", "--", "npm start"]);
    assert_eq!(said.code, Some(69), "{}", said.err);
    has(&said.err, &["mainstay run -- npm start"]);
    assert!(!project.path().join(".mainstay").exists());
}

#[test]
fn nothing_to_run_is_a_usage_error() {
    let said = Project::new(&[]).mainstay(&["run"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    has(&said.err, &["mainstay run -- "]);
}

#[test]
fn c3_production_refuses_a_weak_secret_before_anything_is_bound() {
    let project = Project::new(&[]);
    let weak = [("JWT_SECRET", "your-secret-key")];
    let said = project.mainstay_with(&["run", "--production", "--", "sleep", "1"], &weak);
    assert_eq!(said.code, Some(78), "{}", said.err);
    has(&said.err, &["JWT_SECRET", "mainstay secret JWT_SECRET"]);
    assert!(!said.err.contains("your-secret-key"));
    assert!(!project.path().join(".mainstay").exists());
}

#[test]
fn a_command_beside_an_app_of_the_same_name_is_an_error() {
    let project = Project::new(&[("mainstay.toml", "[app.main]\nrun = \"sleep 1\"\n")]);
    let said = project.mainstay(&["run", "--", "sleep", "1"]);
    assert_eq!(said.code, Some(78), "{}", said.err);
    has(&said.err, &["mainstay.toml:1"]);
}
