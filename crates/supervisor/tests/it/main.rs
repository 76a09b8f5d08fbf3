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
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        // A runner asks a second time for the ignored ones alone; there are none.
        for (name, _) in tests.iter().filter(|_| !has("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str, filter: &str| if has("--exact") { name == filter } else { name.contains(filter) };
    let (mut failed, mut passed_count) = (Vec::new(), 0);
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| wanted(name, filter)) {
            continue;
        }
        let began = std::time::Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {} ({:.1?})", if passed { "ok" } else { "FAILED" }, began.elapsed());
        if passed {
            passed_count += 1;
        } else {
            failed.push(name);
        }
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed_count} passed; {} failed; 0 ignored", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
