//! What was set, by whom, and what the guides' variables do.

use crate::support::{as_ourselves, in_front_of, ready_instances, static_app};
use mainstay_e2e::{Mainstay, Peer, Setup, fixtures, get};

/// One setting of `mainstay config --json`.
#[track_caller]
fn setting(setup: &Setup, arguments: &[&str], key: &str) -> serde_json::Value {
    let mut words = vec!["config", "--json"];
    words.extend_from_slice(arguments);
    let all = setup.verb(&words).json();
    let found = all.as_array().and_then(|all| all.iter().find(|one| one["key"] == key).cloned());
    found.unwrap_or_else(|| panic!("no setting {key} in {all:#}"))
}

/// What `check` finds nothing wrong with in production either.
fn ends_at_once() -> String {
    format!("[app.main]\nrun = \"true\"\n{}", as_ourselves())
}

#[test]
fn c1_each_value_says_where_it_came_from_and_what_it_overrode() {
    let text = "[app.main]\nrun = \"true\"\n[edge.timeouts]\ndrain = \"20s\"\nidle = \"11s\"\n";
    let bare = Setup::file(text).without_port();
    let drain = setting(&bare, &[], "edge.timeouts.drain");
    assert!(drain["origin"].as_str().is_some_and(|at| at.contains("mainstay.toml:4")), "{drain}");
    let connect = setting(&bare, &[], "edge.timeouts.connect");
    assert_eq!(connect["origin"], "default");

    let dotted = Setup::file(text).without_port().write(".env", "# ours\nGRACEFUL_SHUTDOWN_TIMEOUT=15000\n");
    let drain = setting(&dotted, &[], "edge.timeouts.drain");
    assert!(drain["origin"].as_str().is_some_and(|at| at.contains(".env:2")), "{drain}");
    assert!(drain["overrode"].to_string().contains("mainstay.toml:4"), "{drain}");

    let named = dotted.write("named.env", "GRACEFUL_SHUTDOWN_TIMEOUT=14000\n");
    let drain = setting(&named, &["--env-file", "named.env"], "edge.timeouts.drain");
    assert!(drain["origin"].as_str().is_some_and(|at| at.contains("named.env:1")), "{drain}");

    let by_environment = named.env("GRACEFUL_SHUTDOWN_TIMEOUT", "13000");
    let drain = setting(&by_environment, &["--env-file", "named.env"], "edge.timeouts.drain");
    assert!(drain["origin"].to_string().contains("GRACEFUL_SHUTDOWN_TIMEOUT"), "{drain}");
    assert!(drain["value"].as_str().is_some_and(|value| value.contains("13")), "{drain}");
    // Highest first, down to the default.
    let over = drain["overrode"].as_array().expect("a list").iter();
    let places: Vec<&str> = over.map(|one| one["at"].as_str().unwrap_or_default()).collect();
    assert_eq!(places, ["named.env:1", ".env:2", "mainstay.toml:4", "default"], "{drain}");
}

#[test]
fn c1_a_flag_beats_everything() {
    let peer = Peer::labelled("x");
    let port = mainstay_e2e::ports::Port::free();
    let listen = format!("127.0.0.1:{}", port.number);
    let text = format!("{}[edge]\nlisten = \"127.0.0.1:1\"\n", in_front_of(&[&peer]));
    let _mainstay = Setup::file(&text).args(&["run", "--listen", &listen]).without_port().spawn();
    mainstay_e2e::wait_until("the flag's address", || get(&format!("http://{listen}/")).status == 200);
}

#[test]
fn c1_the_file_may_lie_elsewhere_and_the_data_folder_beside_it() {
    let peer = Peer::labelled("elsewhere");
    let mainstay = Setup::new()
        .write("sub/other.toml", &in_front_of(&[&peer]))
        .args(&["run", "--file", "sub/other.toml"])
        .ready("/");
    assert_eq!(get(&mainstay.url("/")).text(), "elsewhere");
    assert!(mainstay.path().join("sub/.mainstay").is_dir());
    let status = mainstay.verb(&["status", "--file", "sub/other.toml"]);
    assert_eq!(status.code, Some(0), "{}", status.all());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(mainstay.path().join("sub/.mainstay")).expect("data folder").permissions(),
    );
    assert_eq!(mode & 0o777, 0o700, "the data folder is its owner's alone");
}

/// The value of a variable in a child.
fn in_child(mainstay: &Mainstay, name: &str) -> String {
    get(&mainstay.url(&format!("/variable?name={name}"))).text()
}

#[test]
fn c1_children_get_an_env_file_only_when_it_is_named() {
    let app = fixtures::static_app();
    let command = app.to_str().expect("a path");
    let silent = Setup::command(&[command]).write(".env", "FROM_DOT_ENV=1\n").ready("/");
    assert_eq!(in_child(&silent, "FROM_DOT_ENV"), "unset");
    let named = Setup::new()
        .args(&["run", "--env-file", ".env", "--", command])
        .write(".env", "FROM_DOT_ENV=1\nexport QUOTED=\"a b\"\nALSO='c#d' # said\n")
        .env("FROM_DOT_ENV_TOO", "kept")
        .ready("/");
    assert_eq!(in_child(&named, "FROM_DOT_ENV"), "1");
    assert_eq!(in_child(&named, "QUOTED"), "a b");
    assert_eq!(in_child(&named, "ALSO"), "c#d");
    assert_eq!(in_child(&named, "FROM_DOT_ENV_TOO"), "kept");
}

#[test]
fn c1_a_table_gives_its_app_variables_a_folder_and_interpolation() {
    let text = format!(
        "{}dir = \"inner\"\nenv = {{ GREETING = \"${{WORD:-hello}} world\", OWN = \"${{OWN_WORD}}\" }}\n",
        static_app("")
    );
    let mainstay = Setup::file(&text).write("inner/file", "").env("OWN_WORD", "mine").ready("/");
    assert_eq!(in_child(&mainstay, "GREETING"), "hello world");
    assert_eq!(in_child(&mainstay, "OWN"), "mine");
    let pid = crate::support::pids(&mainstay)[0];
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("the child's folder");
    assert!(folder.ends_with("inner"), "{}", folder.display());
}

#[test]
fn c1_c4_a_secret_may_come_from_a_file() {
    let setup = Setup::file(&ends_at_once())
        .write("secret", "mFq2Zt8vLx0Rb6Ws4Hc9Yd1Kp5Gj7NuE3aTiXoVl\n")
        .env("JWT_SECRET_FILE", "secret")
        .env("NODE_ENV", "production");
    let ended = setup.verb(&["check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    let missing = Setup::file("[app.main]\nrun = \"true\"\n").env("JWT_SECRET_FILE", "no-such-file");
    let ended = missing.verb(&["check"]);
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    assert!(ended.err.contains("no-such-file"), "{}", ended.err);
}

#[test]
fn c3_a_weak_or_sample_secret_is_refused_in_production_and_told_of_in_development() {
    let weak = |value: &str, environment: &str| {
        Setup::file(&ends_at_once()).env("JWT_SECRET", value).env("NODE_ENV", environment).verb(&["check"])
    };
    for sample in
        ["tooshort", "your-super-secret-jwt-key-change-in-production", "change-me-change-me-change-me-change-me"]
    {
        let refused = weak(sample, "production");
        assert_eq!(refused.code, Some(78), "{sample}: {}", refused.all());
        assert!(refused.err.contains("JWT_SECRET"), "{}", refused.err);
        assert!(refused.err.contains("mainstay secret JWT_SECRET"), "no fix: {}", refused.err);
        assert!(!refused.all().contains(sample), "the secret is echoed: {}", refused.all());
        let warned = weak(sample, "development");
        assert_eq!(warned.code, Some(0), "{sample}: {}", warned.all());
        assert!(warned.err.contains("JWT_SECRET"), "{}", warned.err);
    }
    let file = static_app(&as_ourselves());
    let bound = Setup::file(&file).env("JWT_SECRET", "tooshort").env("NODE_ENV", "production").ended();
    assert_eq!(bound.code, Some(78), "{}", bound.all());
}

#[test]
fn c3_secrets_are_made_on_request_on_one_line() {
    let setup = Setup::new();
    let one = setup.verb(&["secret"]).ok();
    let two = setup.verb(&["secret"]).ok();
    assert_ne!(one, two);
    assert_eq!((one.lines().count(), one.trim().len()), (1, 44), "{one}");
    assert_eq!(setup.verb(&["secret", "--bytes", "64"]).ok().trim().len(), 88);
    let named = setup.verb(&["secret", "JWT_SECRET"]).ok();
    assert!(named.starts_with("JWT_SECRET=") && named.lines().count() == 1, "{named}");
    let uuid = setup.verb(&["secret", "--uuid"]).ok();
    assert_eq!(uuid.trim().split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
    // What it makes, it accepts.
    let made = named.trim().strip_prefix("JWT_SECRET=").expect("a value");
    let check = Setup::file(&ends_at_once()).env("JWT_SECRET", made).env("NODE_ENV", "production");
    assert_eq!(check.verb(&["check"]).code, Some(0), "{}", check.verb(&["check"]).all());
}

#[test]
fn c7_an_example_names_every_variable_in_use_and_holds_no_value() {
    let setup =
        Setup::file("[app.main]\nrun = \"true\"\nenv = { KEY = \"${MY_OWN_KEY}\" }\nrequired = [\"SENTRY_DSN\"]\n")
            .env("MY_OWN_KEY", "a value that must not appear")
            .env("JWT_SECRET", "mFq2Zt8vLx0Rb6Ws4Hc9Yd1Kp5-unseen")
            .env("GRACEFUL_SHUTDOWN_TIMEOUT", "12345")
            .env("DATABASE_URL", "postgres://me:hidden-password@db.internal/app");
    let example = setup.verb(&["config", "--example"]).ok();
    for name in ["MY_OWN_KEY", "SENTRY_DSN", "JWT_SECRET", "DATABASE_URL", "PORT", "GRACEFUL_SHUTDOWN_TIMEOUT"] {
        assert!(
            example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name}="))),
            "{name}\n{example}"
        );
    }
    for value in ["must not appear", "unseen", "12345", "hidden-password", "db.internal"] {
        assert!(!example.contains(value), "{value} stands in the example:\n{example}");
    }
    for line in example.lines().filter(|line| !line.starts_with('#') && line.contains('=')) {
        assert!(line.ends_with('='), "a value: {line}");
    }
}

#[test]
fn c8_production_does_not_start_without_the_names_that_are_required() {
    let required = &format!("required = [\"DATABASE_URL\", \"SENTRY_DSN\", \"SESSION_SECRET\"]\n{}", as_ourselves());
    let setup =
        Setup::file(&static_app(required)).env("NODE_ENV", "production").env("SENTRY_DSN", "https://k@s.example/1");
    let ended = setup.ended();
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    for name in ["DATABASE_URL", "SESSION_SECRET"] {
        assert!(ended.err.contains(name), "{name} is not named:\n{}", ended.err);
    }
    assert!(ended.err.contains("mainstay.toml:3"), "{}", ended.err);
    assert!(!ended.err.contains("SENTRY_DSN is"), "{}", ended.err);

    let development = Setup::file(&static_app(required)).ready("/");
    assert_eq!(get(&development.url("/")).status, 200);
    assert!(development.said().contains("SESSION_SECRET"), "a warning is missing:\n{}", development.said());
}

#[test]
fn the_environment_is_decided_in_the_documented_order_and_the_first_line_says_why() {
    let decided = |setup: Setup| setup.verb(&["check"]).err.lines().next().unwrap_or_default().to_string();
    let file = || Setup::file("[app.main]\nrun = \"true\"\n");
    assert!(decided(file()).contains("development"), "{}", decided(file()));
    assert!(decided(file().env("NODE_ENV", "production")).contains("production"));
    assert!(decided(file().env("NODE_ENV", "staging")).contains("production"), "the unknown is production");
    let ranked = file().env("NODE_ENV", "production").env("MAINSTAY_ENV", "development");
    assert!(decided(ranked).contains("development"));
    let dotted = file().write(".env", "NODE_ENV=production\n");
    assert!(decided(dotted).contains("development"), "./.env may not decide it");
    let started = Setup::file(&static_app("")).env("NODE_ENV", "development").env("LOG_FORMAT", "text").ready("/");
    started.says("open");
    let screen = started.screen();
    assert!(screen.lines().next().is_some_and(|line| line.contains("NODE_ENV=development")), "{screen}");
}

#[test]
fn c9_a_heap_that_does_not_fit_the_machine_is_told_of() {
    let setup =
        Setup::file(&static_app("instances = 2")).env("NODE_OPTIONS", "--max-old-space-size=99999999").ready("/");
    setup.says("--max-old-space-size");
    ready_instances(&setup, 2);
}

#[test]
fn the_reference_is_a_file_the_reader_accepts() {
    let setup = Setup::new();
    let reference = setup.verb(&["config", "--reference"]).ok();
    assert!(reference.contains("[edge.timeouts]") && reference.contains("drain"), "{reference}");
    let schema: serde_json::Value = serde_json::from_str(&setup.verb(&["config", "--schema"]).ok()).expect("JSON");
    assert!(schema["properties"]["edge"].is_object(), "{schema:#}");
    let setup = Setup::file(&reference);
    let checked = setup.verb(&["check"]);
    assert_eq!(checked.code, Some(0), "{}\n{reference}", checked.all());
}

#[test]
fn root_in_production_is_refused_before_anything_is_bound_unless_the_file_says_who() {
    if !nix::unistd::geteuid().is_root() {
        // Then there is nothing to refuse.
        assert_eq!(Setup::file("[app.main]\nrun = \"true\"\n").verb(&["check", "--production"]).code, Some(0));
        return;
    }
    let words = ["check", "run"];
    for verb in words {
        let ended = Setup::file(&static_app("")).args(&[verb, "--production"]).ended();
        assert_eq!(ended.code, Some(78), "{verb}: {}", ended.all());
        for part in ["root", "mainstay.toml:1", "user = \"www-data\"", "user = \"root\""] {
            assert!(ended.err.contains(part), "{verb}: {part} is missing:\n{}", ended.err);
        }
    }
    // Said aloud, root is allowed; and in front of what runs elsewhere nothing needs to be said.
    let meant = Setup::file(&static_app("user = \"root\"\n")).args(&["run", "--production"]).ready("/");
    let owner = |mainstay: &Mainstay| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", crate::support::pids(mainstay)[0]));
        let status = status.expect("status of the instance");
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .expect("Uid")
            .split_whitespace()
            .next()
            .map(str::to_owned)
    };
    assert_eq!(owner(&meant).as_deref(), Some("0"));
    // A reload is refused for the same reason, and what runs goes on.
    meant.write("mainstay.toml", &static_app(""));
    let reload = meant.verb(&["reload"]);
    assert_ne!(reload.code, Some(0), "{}", reload.all());
    assert!(reload.all().contains("root in production"), "{}", reload.all());
    assert_eq!(get(&meant.url("/")).status, 200);
    let peer = Peer::labelled("x");
    assert_eq!(Setup::file(&in_front_of(&[&peer])).verb(&["check", "--production"]).code, Some(0));
    // Without a file nothing that worked stops working; it is told.
    let bare = Setup::new().args(&["check", "--production", "--", "true"]).ended();
    assert_eq!(bare.code, Some(0), "{}", bare.all());
    assert!(bare.err.contains("root in production"), "{}", bare.err);
}
