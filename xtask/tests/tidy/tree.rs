//! The files of the project, as the rules see them.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file, with its path from the workspace's root.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub text: String,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of ours; fixtures are apps, not ours to judge.
pub fn rust() -> Vec<File> {
    let mut files = below("crates", "rs");
    files.extend(below("xtask", "rs"));
    files.retain(|file| !file.path.contains("/fixtures/"));
    files
}

/// Every file below a folder with that ending, in order of path.
pub fn below(folder: &str, ending: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() {
                if !matches!(name.as_str(), "target" | "node_modules" | ".mainstay" | ".git") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == ending) {
                let path = path.to_string_lossy().into_owned();
                files.push(File { text: read(&path), path });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// Fails with all faults at once.
pub fn none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}\n{}\n{} faults", faults.join("\n"), faults.len());
}
