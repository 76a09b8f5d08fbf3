//! Real supervisors, servers and instances. This one binary plays all parts: without a verb it is the test run,
//! `supervise` is a supervisor, `server` the server that one starts.

mod crashes;
mod ends;
mod groups;
mod house;
mod roles;
mod starts;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("supervise") => return roles::supervise(&arguments[1..]),
        Some("server") => return roles::server(&arguments[1..]),
        _ => {}
    }
    let tests: Vec<Test> = [crashes::TESTS, ends::TESTS, groups::TESTS, starts::TESTS].concat();
    if arguments.iter().any(|argument| argument == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = Vec::new();
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let began = std::time::Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {} ({:.1?})", if passed { "ok" } else { "FAILED" }, began.elapsed());
        if !passed {
            failed.push(name);
        }
    }
    println!("\ntest result: {}. {} failed {failed:?}", if failed.is_empty() { "ok" } else { "FAILED" }, failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
