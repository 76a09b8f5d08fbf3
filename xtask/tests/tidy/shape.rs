//! Size, width, names, headers, and code nobody compiles.

use crate::tree::{self, File};
use std::collections::BTreeSet;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 120;
/// What a file over the limit begins with, followed by the reason.
const REASON: &str = "//! Long because:";

/// Functions over the limit, `path name lines`. It only shrinks: an entry that is no longer needed is a fault too.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Words that name no concept an operator would say.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "helper", "helpers", "common", "manager", "types", "misc", "shared"];

#[test]
fn files_are_short_or_say_why_not() {
    let long = |file: &&File| file.text.lines().count() > FILE_LINES_MAX && !file.text.contains(REASON);
    let files = tree::rust();
    let faults = files.iter().filter(long).map(|file| format!("{}: {} lines", file.path, file.text.lines().count()));
    tree::none(&format!("at most {FILE_LINES_MAX} lines, or `{REASON} …` at the top"), faults.collect());
}

#[test]
fn lines_are_narrow() {
    let mut faults = Vec::new();
    for file in tree::rust().iter().chain(&tree::below("docs", "toml")) {
        for (number, line) in file.text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                faults.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    tree::none(&format!("at most {COLUMNS_MAX} columns"), faults);
}

#[test]
fn functions_fit_on_a_screen() {
    let mut faults = Vec::new();
    let mut allowed: BTreeSet<_> = LONG_FUNCTIONS.iter().map(|(path, name, _)| (*path, *name)).collect();
    for file in tree::rust() {
        for (name, line, lines) in functions(&file.text) {
            let known = LONG_FUNCTIONS.iter().find(|(path, of, _)| *path == file.path && *of == name);
            let max = known.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
            if lines > max {
                faults.push(format!("{}:{line}: `{name}` has {lines} lines", file.path));
            }
            if lines > FUNCTION_LINES_MAX {
                allowed.retain(|(path, of)| *path != file.path || *of != name);
            }
        }
    }
    faults.extend(allowed.iter().map(|(path, name)| format!("{path}: `{name}` is short now: take it off the list")));
    tree::none(&format!("at most {FUNCTION_LINES_MAX} lines a function"), faults);
}

/// Name, first line and length of each function. rustfmt has put its closing brace at its own indentation.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(at) = trimmed.find("fn ") else { continue };
        if !trimmed[..at].split_whitespace().all(is_qualifier) || line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let name = trimmed[at + 3..].split(['(', '<']).next().unwrap_or("").to_owned();
        let close = format!("{indent}}}");
        if let Some(length) = lines[start..].iter().position(|line| *line == close) {
            found.push((name, start + 1, length + 1));
        }
    }
    found
}

fn is_qualifier(word: &str) -> bool {
    word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern" | "\"C\"" | "super)" | "crate)")
}

#[test]
fn a_function_is_measured_from_its_name_to_its_brace() {
    let text = "pub(crate) async fn one(\n    x: u8,\n) {\n    x\n}\nfn two() {}\n    fn three() {\n    }\n";
    assert_eq!(functions(text), [("one".to_owned(), 1, 5), ("three".to_owned(), 7, 2)]);
}

#[test]
fn names_say_something() {
    let stem = |file: &File| file.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect::<Vec<_>>();
    let empty = |file: &&File| stem(file).iter().any(|part| EMPTY_NAMES.contains(&part.as_str()));
    let files = tree::rust();
    let faults = files.iter().filter(empty).map(|file| file.path.clone()).collect();
    tree::none("a file or folder is named for the thing it holds", faults);
}

#[test]
fn every_module_says_what_it_is() {
    let files = tree::rust();
    let faults = files.iter().filter(|file| !file.text.starts_with("//!")).map(|file| file.path.clone()).collect();
    tree::none("a file begins with `//!` and a sentence: what it is, and what it must never do", faults);
}

#[test]
fn every_file_is_compiled() {
    let files = tree::rust();
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut reached = BTreeSet::new();
    let mut next: Vec<String> = files.iter().map(|file| file.path.clone()).filter(|path| is_root(path)).collect();
    while let Some(path) = next.pop() {
        let Some(file) = files.iter().find(|file| file.path == path) else { continue };
        if reached.insert(path.clone()) {
            next.extend(declared(file).into_iter().filter(|path| known.contains(path.as_str())));
        }
    }
    let faults = known.iter().filter(|path| !reached.contains(**path)).map(|path| (*path).to_owned()).collect();
    tree::none("no `mod` line leads here, so nobody compiles it", faults);
}

/// Crate roots: what cargo finds by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"] | [.., "src", "bin", _] | [.., "build.rs"] => true,
        [.., "tests" | "benches" | "examples", file] => file.ends_with(".rs"),
        [.., "tests" | "benches" | "examples", _, "main.rs"] => true,
        _ => false,
    }
}

/// Paths a file's `mod name;` lines may stand for.
fn declared(file: &File) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let stem = name.trim_end_matches(".rs");
    let inside = if is_root(&file.path) || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut paths = Vec::new();
    let mut elsewhere: Option<String> = None;
    for line in file.text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            elsewhere = Some(path.to_owned());
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let module = match words.as_slice() {
            ["mod", name] | [_, "mod", name] => name.strip_suffix(';'),
            _ => None,
        };
        if let Some(module) = module {
            match elsewhere.take() {
                Some(path) => paths.push(format!("{folder}/{path}")),
                None => paths.extend([format!("{inside}/{module}.rs"), format!("{inside}/{module}/mod.rs")]),
            }
        }
    }
    paths
}
