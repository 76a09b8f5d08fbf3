//! C1 and C7: where each value came from, and the file of names without values.

use crate::{Project, has};

fn project() -> Project {
    let file = "[app.main]\nrun = \"sleep 1\"\nrequired = [\"SENTRY_DSN\"]\n[edge.timeouts]\nidle = \"20s\"\n";
    Project::new(&[("mainstay.toml", file), (".env", "GRACEFUL_SHUTDOWN_TIMEOUT=7000\nJWT_SECRET=verysecretvalue\n")])
}

#[test]
fn c1_each_value_is_shown_with_its_origin_and_secrets_are_not() {
    let said = project().mainstay(&["config"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    has(&said.out, &["edge.timeouts.idle", "20s", "mainstay.toml:5", "edge.timeouts.drain", "7s", ".env:1"]);
    assert!(!said.out.contains("verysecretvalue") && !said.err.contains("verysecretvalue"));
}

#[test]
fn c7_the_example_names_every_variable_in_use_and_holds_no_value() {
    let said = project().mainstay(&["config", "--example"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    has(&said.out, &["GRACEFUL_SHUTDOWN_TIMEOUT=\n", "JWT_SECRET=\n", "SENTRY_DSN=\n"]);
    for line in said.out.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.ends_with('='), "{line}");
    }
}

#[test]
fn the_reference_the_schema_and_json_are_data() {
    let project = project();
    has(&project.mainstay(&["config", "--reference"]).out, &["[edge]", "drain"]);
    for args in [["config", "--schema"], ["config", "--json"]] {
        let said = project.mainstay(&args);
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(said.out.trim_start().starts_with(['{', '[']), "{}", said.out);
    }
}
