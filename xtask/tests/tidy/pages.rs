//! What is written for people stays true: codes and their pages, commands, invariants and their tests.

use crate::tree;
use std::collections::BTreeSet;

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let source = tree::read("crates/telemetry/src/verdict.rs");
    let codes = source.split("pub fn code").nth(1).and_then(|rest| rest.split("pub fn status").next()).unwrap();
    let codes: BTreeSet<&str> = codes.split('"').skip(1).step_by(2).filter(|code| *code != "ok").collect();
    assert!(codes.len() > 10, "the codes were not found in verdict.rs");
    let files = tree::below("docs/errors", "md");
    let pages: BTreeSet<&str> = files.iter().map(|file| stem(&file.path)).filter(|page| *page != "README").collect();
    let faults = codes.symmetric_difference(&pages).map(|code| format!("docs/errors/{code}.md"));
    tree::none("a code of verdict.rs without a page, or a page without a code", faults.collect());
}

#[test]
fn a_page_shows_its_code_its_status_and_what_to_do() {
    let mut faults = Vec::new();
    for file in tree::below("docs/errors", "md") {
        let code = stem(&file.path);
        let parts = [format!("# {code}"), "## What happened".into(), "## Why".into(), "## What to type".into()];
        let missing = parts.iter().filter(|part| code != "README" && !file.text.contains(part.as_str()));
        faults.extend(missing.map(|part| format!("{}: no `{part}`", file.path)));
    }
    tree::none("every page has the same four parts", faults);
}

#[test]
fn the_answer_on_a_page_is_the_one_that_is_given() {
    let source = tree::read("crates/telemetry/src/verdict.rs");
    let mut faults = Vec::new();
    for file in tree::below("docs/errors", "md") {
        let Some(example) = file.text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()) else {
            continue;
        };
        let answer: serde_json::Value = serde_json::from_str(example).unwrap_or_default();
        let sentence = answer["detail"].as_str().unwrap_or("?");
        let holds = answer["code"] == stem(&file.path)
            && answer["error"] == answer["detail"]
            && source.contains(&format!("\"{sentence}\""))
            && file.text.contains(&format!("Status {}. “{sentence}”", answer["status"]));
        if !holds {
            faults.push(format!("{}: {answer}", file.path));
        }
    }
    tree::none("code, status and sentence of a page's example are those of verdict.rs", faults);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut faults = Vec::new();
    let mut pages = tree::below("docs", "md");
    pages.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
            .map(|path| tree::File { path: path.into(), text: tree::read(path) }),
    );
    for page in &pages {
        let folder = tree::root().join(&page.path).parent().unwrap().to_owned();
        for link in page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            let outside = path.is_empty() || path.contains("://");
            if !outside && !folder.join(path).exists() {
                faults.push(format!("{}: {link}", page.path));
            }
        }
    }
    tree::none("a link to a file that is not there", faults);
}

#[test]
fn commands_in_the_readme_exist() {
    let mut faults = Vec::new();
    let commands = tree::read("xtask/src/main.rs");
    for (words, line) in commands_of(&tree::read("README.md")) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let exists = match words.as_slice() {
            ["mainstay" | "cargo-run", verb, ..] => is_verb(verb),
            ["xtask", command, ..] => commands.contains(&format!("[\"{command}\"")),
            _ => true,
        };
        if !exists {
            faults.push(line);
        }
    }
    tree::none("README shows a command that does not exist", faults);
}

/// A verb of the binary has a file of its own name.
fn is_verb(verb: &str) -> bool {
    verb.starts_with('-') || tree::root().join(format!("crates/mainstay/src/cli/{verb}.rs")).exists()
}

/// `$ …` lines, and `code` in running text, that call the binary or cargo: reduced words, and the line itself.
fn commands_of(text: &str) -> Vec<(Vec<String>, String)> {
    let mut commands = Vec::new();
    for line in text.lines() {
        let typed = line.trim_start().strip_prefix("$ ").map(str::to_owned);
        let quoted = line.split('`').skip(1).step_by(2).map(str::to_owned);
        for command in typed.into_iter().chain(quoted) {
            let command = command.replace("cargo run --release --", "cargo-run").replace("cargo xtask", "xtask");
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            if words.len() > 1 {
                commands.push((words, line.trim().to_owned()));
            }
        }
    }
    commands
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let architecture = tree::read("ARCHITECTURE.md");
    let paragraphs: Vec<String> =
        architecture.split("\n\n").flat_map(|block| block.split("\n- ")).map(|text| text.replace('\n', " ")).collect();
    let sources: String = tree::rust().into_iter().map(|file| file.text).collect();
    let invariants: Vec<&String> = paragraphs.iter().filter(|text| text.contains("Invariant:")).collect();
    assert!(!invariants.is_empty(), "ARCHITECTURE.md states no invariant");
    let mut faults = Vec::new();
    for invariant in invariants {
        let tests = invariant.split("test `").skip(1).filter_map(|rest| rest.split('`').next());
        let mut tests = tests.peekable();
        if tests.peek().is_none() {
            faults.push(format!("no test is named: {invariant}"));
        }
        faults.extend(tests.filter(|test| !sources.contains(&format!("fn {test}("))).map(|test| format!("fn {test}")));
    }
    tree::none("an invariant is held by a test, named as: test `name`", faults);
}

/// `docs/security.md`: a requirement without a test says why it needs none, or why it is not met.
#[test]
fn every_requirement_of_the_standard_has_a_test_or_a_reason() {
    let text = tree::read("docs/security.md");
    let sources: String = tree::rust().into_iter().map(|file| file.text).collect();
    let rows: Vec<&str> = text.lines().filter(|line| is_row(line)).collect();
    assert!(rows.len() > 60, "docs/security.md has {} rows", rows.len());
    let mut faults = Vec::new();
    for row in rows {
        let tests: Vec<&str> = row.split("test `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        let said = ["not applicable: ", "not met: ", "the app's"].iter().any(|reason| row.contains(reason));
        if tests.is_empty() && !said {
            faults.push(format!("neither a test nor a reason: {row}"));
        }
        let missing = tests.iter().filter(|test| !sources.contains(&format!("fn {test}(")));
        faults.extend(missing.map(|test| format!("no such test: {test}")));
    }
    tree::none("a requirement is shown by: test `name`, or says `not applicable: why`, or `not met: why`", faults);
}

fn is_row(line: &str) -> bool {
    ["| 2.", "| 3.", "| 4."].iter().any(|chapter| line.starts_with(chapter))
}

fn stem(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path).trim_end_matches(".md")
}
