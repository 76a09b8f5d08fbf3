//! C2: every fault at once, each with its line, what was found, what is expected and what to type.

use mainstay_config::Inputs;

use crate::blocks::{finish, inputs, lines};

fn check(file: &str, expected: &[&str]) {
    let (_, report) = finish(&Inputs::of_file(file));
    assert_eq!(lines(&report.faults), expected, "in {file:?}");
    // Whatever is wrong can be shown.
    let shown = report.render(false);
    assert_eq!(shown.is_empty(), expected.is_empty());
    assert_eq!(report.render(true).is_empty(), expected.is_empty());
}

#[test]
fn nothing_wrong() {
    check("", &[]);
    check("\u{feff}[edge]\r\nlisten = \":80\"\r\n", &[]);
    check("environment = \"staging\"\n[app.api]\nrun = \"x\"\n[app.api.env]\nA = 1\n[[route]]\nmatch = \"/a\"\n", &[]);
    check("edge.timeouts.drain = \"5s\"\napp.api = { run = \"x\", health = { interval = \"1m\" } }\n", &[]);
    check("route = [{ match = \"/a\" }, { match = \"/b\", limit = \"5/min\" }]", &[]);
}

#[test]
fn unknown_keys_and_tables() {
    check(
        "[app.api.health]\nintervall = \"5s\"\n",
        &["mainstay.toml:2: unknown key \"intervall\" in [app.api.health]; nearest: \"interval\""],
    );
    check("[egde]\nlisten = \":80\"\n", &["mainstay.toml:1: unknown table [egde]; nearest: \"edge\""]);
    check("[[rout]]\nmatch = \"/\"\n", &["mainstay.toml:1: unknown table [[rout]]; nearest: \"route\""]);
    check(
        "[jobs]\nx = 1\n",
        &["mainstay.toml:1: this version of mainstay does not read [jobs]; remove it, or put # before its lines"],
    );
    check(
        "[app.api]\ntrusted_proxies = [\"cloudflare\"]\n",
        &["mainstay.toml:2: unknown key \"trusted_proxies\" in [app.api]; it belongs in [edge]"],
    );
    check(
        "[[route]]\nmatch = \"/\"\nzzzzzz = 1\n",
        &["mainstay.toml:3: unknown key \"zzzzzz\" in [[route]]; expected one of \"match\", \"limit\""],
    );
    check("drain = \"5s\"\n", &["mainstay.toml:1: unknown key \"drain\"; it belongs in [edge.timeouts]"]);
    check(
        "[edge]\n\"trusted proxies\" = []\n",
        &["mainstay.toml:2: unknown key \"trusted proxies\" in [edge]; nearest: \"trusted_proxies\""],
    );
    // The whole of an unknown table is one fault.
    check(
        "[zzzzzzzz]\na = 1\nb = 2\n[zzzzzzzz.c]\nd = 1\n",
        &["mainstay.toml:1: unknown table [zzzzzzzz]; \
           expected one of \"environment\", \"edge\", \"app\", \"route\", \"logs\", \"ops\""],
    );
}

#[test]
fn wrong_types() {
    let duration = "a duration such as \"10s\" (ms s m h d w)";
    check(
        "[app.api.health]\ninterval = 30\n",
        &[&format!(
            "mainstay.toml:2: \"interval\" in [app.api.health] is not a duration; found the number 30; \
             expected {duration}; interval = \"30s\""
        )],
    );
    check(
        "edge.timeouts.drain = \"-5s\"\n",
        &[&format!(
            "mainstay.toml:1: \"drain\" in [edge.timeouts] is not a duration; found \"-5s\", which is negative; \
             expected {duration}"
        )],
    );
    check(
        "[edge.limits]\nconnections = 0\nbody = -1\n",
        &[
            "mainstay.toml:2: \"connections\" in [edge.limits] is not such a number; found the number 0; \
             expected a whole number from 1 to 1000000",
            "mainstay.toml:3: \"body\" in [edge.limits] is not a size; found the number -1; \
             expected a size such as \"10MB\" or \"16KiB\", or a number of bytes",
        ],
    );
    check(
        "[edge.limits]\nconnections = \"50\"\nbody = 99999999999999999999\n",
        &[
            "mainstay.toml:2: \"connections\" in [edge.limits] is not such a number; found \"50\"; \
             expected a whole number from 1 to 1000000; connections = 50",
            "mainstay.toml:3: \"body\" in [edge.limits] cannot be read; \
             found the number 99999999999999999999; expected a number below 2^63",
        ],
    );
    check(
        "[logs]\nlevel = \"inof\"\nbuffered = \"yes\"\n",
        &[
            "mainstay.toml:2: \"level\" in [logs] is not a choice; found \"inof\"; \
             expected \"debug\", \"info\" or \"warn\"; level = \"info\"",
            "mainstay.toml:3: \"buffered\" in [logs] is not true or false; found \"yes\"; \
             expected true or false; buffered = true",
        ],
    );
    check(
        "[edge]\ntrusted_proxies = [\"a\", 1]\n",
        &["mainstay.toml:2: \"trusted_proxies\" in [edge] is not a list of texts; found the number 1 in the list; \
           expected a text in quotes, or a list of them"],
    );
    check(
        "[app.api]\nrun = 2026-11-21\n",
        &["mainstay.toml:2: \"run\" in [app.api] cannot be read; found the date 2026-11-21; \
           expected a text in quotes"],
    );
    check(
        "environment = true\n",
        &["mainstay.toml:1: \"environment\" is not a text; found true; expected \"production\" or \"development\""],
    );
}

#[test]
fn tables_of_the_wrong_form() {
    check(
        "[app]\nrun = \"node .\"\n",
        &["mainstay.toml:2: \"run\" in [app] is not a table; found \"node .\"; expected a table [app.run]; \
           write [app.main] above it"],
    );
    check(
        "[[edge]]\nlisten = \":80\"\n",
        &["mainstay.toml:1: \"edge\" is not a table; found a list of 1; expected a table [edge]; write [edge]"],
    );
    check(
        "[route]\nmatch = \"/\"\n",
        &["mainstay.toml:1: \"route\" is not a list of tables; found a table; expected [[route]]; write [[route]]"],
    );
    check(
        "route = [\"/a\", { match = \"/b\" }]\n",
        &["mainstay.toml:1: an entry of \"route\" is not a table; found \"/a\"; expected [[route]]"],
    );
    check("edge = 5\n", &["mainstay.toml:1: \"edge\" is not a table; found the number 5; expected a table [edge]"]);
}

#[test]
fn several_syntax_faults_come_at_once() {
    let file = "[edge]\nlisten = \nbody == 1\n[logs\nlevel = \"debug\"\n[edge]\ntrusted_proxies = [1\n";
    let (_, report) = finish(&Inputs::of_file(file));
    let at: Vec<Option<usize>> = report.faults.iter().map(|fault| fault.position.line()).collect();
    assert!(at.len() >= 4, "{:?}", lines(&report.faults));
    for line in [2, 3, 4] {
        assert!(at.contains(&Some(line)), "line {line}: {:?}", lines(&report.faults));
    }
    assert!(report.render(false).contains("this is not TOML"), "{}", report.render(false));
}

#[test]
fn behind_broken_lines_the_rest_is_still_checked() {
    for broken in ["port = = 3", "just words", "key", "run = \"never closed", "= 5", "a b = 1", "x = {a = 1"] {
        let (options, report) =
            finish(&Inputs::of_file(format!("[app.main]\n{broken}\n[edge.timeouts]\ndrain = 30\n")));
        let at: Vec<Option<usize>> = report.faults.iter().map(|fault| fault.position.line()).collect();
        assert!(at.contains(&Some(2)) && at.contains(&Some(4)), "{broken}: {:?}", lines(&report.faults));
        assert!(options.apps.len() == 1, "{broken}");
    }
}

#[test]
fn a_line_with_broken_syntax_has_no_second_fault() {
    let (_, report) = finish(&Inputs::of_file("[logs]\nlevel = \"inof\" x\n"));
    assert_eq!(report.faults.len(), 1, "{:?}", lines(&report.faults));
}

#[test]
fn duplicate_keys_name_the_second() {
    let (_, report) = finish(&Inputs::of_file("[logs]\nlevel = \"info\"\nlevel = \"warn\"\n"));
    assert_eq!(lines(&report.faults), ["mainstay.toml:3: this key is set twice; remove one of the two"]);
}

#[test]
fn unset_variables_are_named() {
    check(
        "[app.api]\nrun = \"node ${ENTRY} ${PORT_}\"\n",
        &[
            "mainstay.toml:2: ${ENTRY} is not set; expected a variable of the environment, of --env-file or of .env; \
             ENTRY=… in the environment, or ${ENTRY:-default} here",
            "mainstay.toml:2: ${PORT_} is not set; expected a variable of the environment, of --env-file or of .env; \
             PORT_=… in the environment, or ${PORT_:-default} here",
        ],
    );
    check(
        "[app.api]\nrun = \"a ${b\"\n",
        &["mainstay.toml:2: \"${\" is never closed; expected ${NAME} or ${NAME:-default}; \
           add }, or write $${ for a literal ${"],
    );
}

#[test]
fn faults_stand_in_the_order_of_the_file_whoever_finds_them() {
    let file = "[logs]\nlevel = 1\n[egde]\n[app.api]\nrun = 1\nrnu = 2\n";
    let (_, report) = finish(&inputs(file, &[("PORT", "1")], "bad line\n"));
    let at: Vec<String> = report.faults.iter().map(|fault| fault.position.to_string()).collect();
    assert_eq!(at, ["mainstay.toml:2", "mainstay.toml:3", "mainstay.toml:5", "mainstay.toml:6", ".env:1"]);
}

#[test]
fn the_same_fault_is_told_once() {
    let reader = mainstay_config::Reader::new(&Inputs::of_file("[app.api]\nrun = 5\n"));
    for _ in 0..2 {
        let _ = reader.named("app")[0].key("run").opt_text();
    }
    assert_eq!(reader.finish().faults.len(), 1);
    assert_eq!(reader.finish().faults.len(), 1);
}

#[test]
fn a_person_sees_the_line() {
    let (_, report) = finish(&Inputs::of_file("[app.api.health]\ninterval = 30\n"));
    let shown = report.render(false);
    let expected = "\
error: \"interval\" in [app.api.health] is not a duration
 --> mainstay.toml:2:12
  |
2 | interval = 30
  |            ^^ found the number 30
  |
  = expected: a duration such as \"10s\" (ms s m h d w)
  = fix: interval = \"30s\"

1 fault, 0 warnings";
    assert_eq!(shown, expected, "{shown}");
}

#[test]
fn odd_positions_can_be_shown() {
    for file in [
        "[edge]\nlisten = \"ä\u{1b}[2J\nx",
        "ключ = \"значение\"\n",
        "x = \"\"\"\nmany\nlines\"\"\"\n",
        &format!("x = \"{}\"", "ä".repeat(5000)),
        &format!("{} = 1", "k".repeat(5000)),
        "\t\tx = 1",
        "x = 1\r\n\r\ny = 2",
        "x = \"\0\"",
        "a",
        "=",
        "[",
        "]\n",
        "\u{feff}\u{feff}",
        "\r\r\n",
    ] {
        let (_, report) = finish(&Inputs::of_file(file));
        assert!(!report.faults.is_empty(), "{file:?}");
        let shown = report.render(false);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
        assert!(!shown.contains('\0'), "{shown:?}");
        assert!(shown.lines().all(|line| line.chars().count() < 700), "{shown}");
    }
}

#[test]
fn a_file_of_faults_is_bounded() {
    let file: String = (0..20_000).map(|n| format!("key{n} = 1\n")).collect();
    let (_, report) = finish(&Inputs::of_file(file));
    assert_eq!(report.faults.len(), 500);
}
