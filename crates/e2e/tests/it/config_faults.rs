//! What is wrong is said before anything is bound: every fault at once, each with its place and what to type.

use mainstay_e2e::{Ended, Setup, fixtures};

#[track_caller]
fn refused(setup: &Setup, wanted: &[&str]) -> Ended {
    let ended = setup.ended();
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    for text in wanted {
        assert!(ended.err.contains(text), "{text:?} is missing:\n{}", ended.err);
    }
    assert!(std::net::TcpStream::connect(("127.0.0.1", setup.port())).is_err(), "something was bound");
    ended
}

#[test]
fn c2_every_fault_at_once_with_file_line_found_and_expected() {
    let text = "\
[app.main]
run = \"true\"
instances = \"many\"
[edge]
lisen = \":8080\"
trusted_proxies = [\"not an address\"]
[edge.timeouts]
drain = 30
[edge.limits]
body = \"ten\"
[[route]]
match = \"no slash\"
[app.other]
";
    let setup = Setup::file(text).write(".env", "GRACEFUL_SHUTDOWN_TIMEOUT=soon\n");
    let ended = refused(
        &setup,
        &[
            "mainstay.toml:3",
            "many",
            "mainstay.toml:5",
            "lisen",
            "listen",
            "mainstay.toml:6",
            "mainstay.toml:8",
            "mainstay.toml:10",
            "ten",
            "mainstay.toml:12",
            ".env:1",
            "soon",
            "faults",
        ],
    );
    // The same words from `check`, and as JSON with the same places.
    let check = setup.verb(&["check"]);
    assert_eq!(check.code, Some(78));
    let json: serde_json::Value = serde_json::from_str(&setup.verb(&["check", "--json"]).out).expect("JSON");
    let faults = json["faults"].as_array().expect("faults");
    assert!(faults.len() >= 8, "{json:#}\n{}", ended.err);
    assert!(faults.iter().all(|fault| fault["what"].is_string() && fault["at"].is_string()), "{json:#}");
}

#[test]
fn c2_a_broken_file_is_told_with_its_line_and_the_rest_is_still_checked() {
    let text = "[app.main]\nrun = \"true\"\nport = = 3\n[edge]\nlisten = 99999999\n";
    refused(&Setup::file(text), &["mainstay.toml:3", "mainstay.toml:5"]);
}

#[test]
fn c2_an_unknown_key_names_the_nearest_one() {
    let text = "[app.main]\nrun = \"true\"\nhealth = { path = \"/x\", intervall = \"1s\" }\n";
    refused(&Setup::file(text), &["mainstay.toml:3", "intervall", "interval"]);
    let text = "[app.main]\nrun = \"true\"\n[edeg]\nlisten = \":1\"\n";
    refused(&Setup::file(text), &["mainstay.toml:3", "edeg", "edge"]);
}

#[test]
fn c2_a_url_broken_by_an_unescaped_base64_password_is_named_as_that() {
    let setup = Setup::file("[app.main]\nrun = \"true\"\n")
        .env("NODE_ENV", "production")
        .env("DATABASE_URL", "postgres://app:aB3/xY+z9==@db.internal:5432/app");
    let ended = refused(&setup, &["DATABASE_URL", "base64 password"]);
    assert!(!ended.all().contains("aB3/xY+z9"), "the password is echoed:\n{}", ended.all());
}

#[test]
fn c2_two_names_of_one_setting_that_disagree_are_a_fault() {
    let setup = Setup::file("[app.main]\nrun = \"true\"\ninstances = 2\n[edge.timeouts]\ndrain = \"soon\"\n");
    refused(&setup, &["mainstay.toml:5"]);
    let tls = "[app.main]\nrun = \"true\"\n[tls.\"a.example.com\"]\ncert = \"a.pem\"\n";
    refused(&Setup::file(tls), &["mainstay.toml:3", "key"]);
}

#[test]
fn c2_two_routes_for_the_same_requests_and_two_apps_for_the_same_path_are_faults() {
    let routes = "[app.main]\nrun = \"true\"\n[[route]]\nmatch = \"/a/*\"\nbody = \"1KB\"\n\
                  [[route]]\nmatch = \"/A/*\"\n\
                  body = \"2KB\"\n";
    refused(&Setup::file(routes), &["mainstay.toml:7", "mainstay.toml:4"]);
    let apps = "[app.one]\nrun = \"true\"\nroutes = [\"/x/*\"]\n[app.two]\nrun = \"true\"\nroutes = [\"/x/*\"]\n";
    refused(&Setup::file(apps), &["/x/*", "one", "two"]);
}

#[test]
fn a_secret_written_in_the_file_is_refused_in_production_and_never_echoed() {
    let text = "[app.main]\nrun = \"true\"\nenv = { JWT_SECRET = \"k3Jd82hf7Gs9Lq0pZx5Vb1Nm4Tr6Yu8W\" }\n";
    let setup = Setup::file(text).env("NODE_ENV", "production");
    let ended = refused(&setup, &["mainstay.toml:3", "JWT_SECRET"]);
    assert!(!ended.all().contains("k3Jd82hf7Gs9"), "{}", ended.all());
    let warned = Setup::file(text).verb(&["check"]);
    assert_eq!(warned.code, Some(0), "{}", warned.all());
    assert!(!warned.all().contains("k3Jd82hf7Gs9"), "{}", warned.all());
    let shown = Setup::file(text).verb(&["config"]).all();
    assert!(!shown.contains("k3Jd82hf7Gs9"), "{shown}");
}

#[test]
fn a_missing_command_and_a_file_with_nothing_to_run_say_what_to_type() {
    let missing = Setup::command(&["no-such-program-anywhere"]).ended();
    assert_eq!(missing.code, Some(69), "{}", missing.all());
    assert!(missing.err.contains("no-such-program-anywhere") && missing.err.contains("fix:"), "{}", missing.err);
    let quoted = Setup::command(&["npm start"]).ended();
    assert_eq!(quoted.code, Some(69), "{}", quoted.all());
    assert!(quoted.err.contains("mainstay run -- npm start"), "{}", quoted.err);
    let nothing = Setup::new().ended();
    assert!(matches!(nothing.code, Some(2 | 78)), "{}", nothing.all());
    assert!(nothing.err.contains("run --"), "no word of what to type:\n{}", nothing.err);
    let neither = Setup::file("[app.main]\n").ended();
    assert_eq!(neither.code, Some(78), "{}", neither.all());
    assert!(neither.err.contains("run") && neither.err.contains("upstreams"), "{}", neither.err);
}

#[test]
fn a_command_beside_a_file_that_has_app_main_is_an_error() {
    let app = fixtures::static_app();
    let setup = Setup::file("[app.main]\nrun = \"true\"\n").args(&["run", "--", app.to_str().expect("a path")]);
    refused(&setup, &["app.main", "mainstay.toml:1"]);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for words in [vec!["run", "--no-such-flag"], vec!["nonsense"], vec!["why"], vec![]] {
        let ended = Setup::new().args(&words).ended();
        assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.all());
    }
    let version = Setup::new().args(&["--version"]).ended();
    assert!(version.clone().ok().starts_with("mainstay "), "{}", version.all());
}
