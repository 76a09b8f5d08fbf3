//! Which crate may use which, and what may be built into the binary at all.

use crate::tree;
use serde_json::Value;
use std::process::Command;

/// Crates of ours, and those of ours each may use. A star, not a chain: a new edge needs a reason here.
const EDGES: [(&str, &[&str]); 16] = [
    ("mainstay-config", &[]),
    ("mainstay-runtime", &[]),
    // It alone forks; whatever it linked would run between fork and exec of every child.
    ("mainstay-supervisor", &[]),
    ("mainstay-telemetry", &["mainstay-config", "mainstay-runtime"]),
    // The record of each request is telemetry's; nothing of telemetry is needed in order to serve.
    // One suite over memory and Redis in all its forms: by tests alone.
    ("mainstay-limits", &["mainstay-config", "mainstay-runtime", "mainstay-servers", "mainstay-store"]),
    // Who is behind a token, and what the routes ask of him.
    ("mainstay-identity", &["mainstay-config", "mainstay-runtime", "mainstay-servers", "mainstay-store"]),
    // It asks who is banned at each connection, and who somebody is at each request.
    // What cores share, they ask the store for: each has a connection of its own.
    (
        "mainstay-edge",
        &[
            "mainstay-config",
            "mainstay-identity",
            "mainstay-limits",
            "mainstay-runtime",
            "mainstay-telemetry",
            "mainstay-store",
        ],
    ),
    // It asks the supervisor for processes by its protocol, and tells the edge which addresses serve.
    (
        "mainstay-fleet",
        &["mainstay-config", "mainstay-runtime", "mainstay-supervisor", "mainstay-edge", "mainstay-telemetry"],
    ),
    // Its tests start the servers it speaks to.
    ("mainstay-store", &["mainstay-config", "mainstay-runtime", "mainstay-servers"]),
    // It asks Redis whether it is well as the app asks it: with its login, over TLS that is verified.
    ("mainstay-watch", &["mainstay-config", "mainstay-runtime", "mainstay-telemetry", "mainstay-store"]),
    // Its rates are the windows of limits: one arithmetic decides how many may come, and how many may start.
    // One suite over a file and Postgres: the servers by tests alone.
    (
        "mainstay-jobs",
        &["mainstay-config", "mainstay-limits", "mainstay-runtime", "mainstay-servers", "mainstay-store"],
    ),
    (
        "mainstay",
        &[
            "mainstay-config",
            "mainstay-runtime",
            "mainstay-supervisor",
            "mainstay-telemetry",
            "mainstay-edge",
            "mainstay-identity",
            "mainstay-limits",
            "mainstay-fleet",
            "mainstay-watch",
            "mainstay-store",
            "mainstay-jobs",
            "mainstay-console",
        ],
    ),
    // It makes pages of JSON, whoever made that.
    ("mainstay-console", &[]),
    // Drives the binary from outside: linking a part of it would let a test reach round the front door.
    ("mainstay-e2e", &["mainstay-servers"]),
    // Redis and Postgres for tests: no part of the product, and linked by tests alone.
    ("mainstay-servers", &[]),
    ("xtask", &[]),
];

/// Licences that ask for no more than to be named.
const LICENCES: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "0BSD",
    "CDLA-Permissive-2.0",
    "BSL-1.0",
    "CC0-1.0",
];

/// A second TLS stack, or one that needs the system's library; by what it would bring.
const SECOND_TLS: [&str; 6] = ["ring", "openssl-sys", "openssl", "native-tls", "boring-sys", "schannel"];

/// The supervisor has one thread and forks: nothing that starts threads, speaks TLS or reads HTTP.
const NOT_IN_THE_SUPERVISOR: [&str; 7] = ["tokio", "mio", "rustls", "aws-lc-rs", "hyper", "http", "h2"];

#[test]
fn crates_use_only_what_the_table_allows() {
    let metadata = cargo_metadata();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            faults.push(format!("{name} stands in no table of tests/tidy/graph.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            if dependency["path"].is_string() && !allowed.contains(&used) {
                faults.push(format!("{name} → {used}"));
            }
        }
    }
    tree::none("an edge between crates that no reason allows", faults);
}

#[test]
fn the_supervisor_links_no_runtime_no_tls_no_http() {
    let built = built(&["--package", "mainstay-supervisor", "--edges", "normal"]);
    let faults = built.iter().map(|(name, _)| name).filter(|name| NOT_IN_THE_SUPERVISOR.contains(&name.as_str()));
    tree::none("the supervisor must not link", faults.cloned().collect());
}

#[test]
fn one_tls_stack_is_built() {
    let built = built(&["--workspace", "--edges", "normal,build,dev"]);
    let faults = built.iter().map(|(name, _)| name).filter(|name| SECOND_TLS.contains(&name.as_str()));
    tree::none("TLS is rustls on aws-lc-rs alone; `cargo tree -i NAME` says who asks for", faults.cloned().collect());
}

#[test]
fn every_licence_is_permissive() {
    let built = built(&["--workspace", "--edges", "normal,build"]);
    assert!(built.len() > 50, "the tree of crates was not read: {built:?}");
    let faults = built.iter().filter(|(_, licence)| !is_permissive(licence));
    tree::none("not on the list of licences", faults.map(|(name, licence)| format!("{name}: {licence}")).collect());
}

#[test]
fn a_licence_expression_is_read_as_written() {
    for good in ["MIT", "MIT OR GPL-3.0", "GPL-2.0/MIT", "ISC AND (Apache-2.0 OR GPL-2.0)", "(MIT OR X) AND Zlib"] {
        assert!(is_permissive(good), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "", "(GPL-2.0 OR X) AND MIT", "Apache-2.0 WITH X"] {
        assert!(!is_permissive(bad), "{bad}");
    }
}

/// Every part joined by AND must hold, one of those joined by OR; parentheses first.
fn is_permissive(expression: &str) -> bool {
    let mut text = expression.replace('/', " OR ");
    while let Some(close) = text.find(')') {
        let Some(open) = text[..close].rfind('(') else { return false };
        let inner = if flat(&text[open + 1..close]) { "MIT" } else { "none" };
        text.replace_range(open..=close, inner);
    }
    flat(&text)
}

fn flat(expression: &str) -> bool {
    expression.split(" OR ").any(|all| all.split(" AND ").all(|one| LICENCES.contains(&one.trim())))
}

/// Name and licence of every crate in the graph that is really built here, features counted.
fn built(arguments: &[&str]) -> Vec<(String, String)> {
    let format = ["--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"];
    let mut command = cargo();
    command.args(["tree", "--locked", "--target", "x86_64-unknown-linux-gnu"]).args(format).args(arguments);
    let text = output(&mut command);
    let crates = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(package, licence)| (package.split(' ').next().unwrap_or("").to_owned(), licence.to_owned()));
    let mut crates: Vec<_> = crates.collect();
    crates.sort();
    crates.dedup();
    crates
}

pub fn cargo_metadata() -> Value {
    serde_json::from_str(&output(cargo().args(["metadata", "--no-deps", "--locked", "--format-version", "1"]))).unwrap()
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(tree::root());
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
