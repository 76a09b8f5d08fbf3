//! Packages of the end-to-end fixtures, installed once for each lock file under the target folder, never into
//! the tree.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Written last: a folder without it was left half done and is made anew.
const COMPLETE: &str = "complete";

/// Where the tests find the packages, as environment variables.
pub fn install(target: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let fixtures = workspace::root().join("crates/e2e/fixtures");
    let node = node_modules(&fixtures.join("node"), target).context("packages of crates/e2e/fixtures/node")?;
    let python = python(&fixtures.join("python"), target).context("packages of crates/e2e/fixtures/python")?;
    Ok(vec![("MAINSTAY_E2E_NODE_MODULES", node), ("MAINSTAY_E2E_PYTHON", python)])
}

fn node_modules(fixture: &Path, target: &Path) -> Result<PathBuf> {
    let files = [fixture.join("package.json"), fixture.join("package-lock.json")];
    let dir = place(target, "node", &files, &["node", "--version"])?;
    let modules = dir.join("node_modules");
    if dir.join(COMPLETE).exists() {
        return Ok(modules);
    }
    start_over(&dir)?;
    for file in &files {
        let name = file.file_name().context("a fixture file has a name")?;
        fs::copy(file, dir.join(name)).with_context(|| format!("copying {}", file.display()))?;
    }
    println!("install  npm packages of the fixtures");
    finish(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&dir), &dir)?;
    Ok(modules)
}

fn python(fixture: &Path, target: &Path) -> Result<PathBuf> {
    let requirements = fixture.join("requirements.txt");
    let dir = place(target, "python", std::slice::from_ref(&requirements), &["python3", "--version"])?;
    let python = dir.join("bin/python");
    if dir.join(COMPLETE).exists() {
        return Ok(python);
    }
    start_over(&dir)?;
    println!("install  Python packages of the fixtures");
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    finish(Command::new(&python).args(pip).arg(&requirements), &dir)?;
    Ok(python)
}

/// A folder of its own for each content of the lock files and each version of the interpreter.
fn place(target: &Path, kind: &str, files: &[PathBuf], version: &[&str]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file).with_context(|| format!("reading {}", file.display()))?.hash(&mut hasher);
    }
    Command::new(version[0]).args(&version[1..]).output().context("asking for a version")?.stdout.hash(&mut hasher);
    Ok(target.join("e2e").join(format!("{kind}-{:016x}", hasher.finish())))
}

fn start_over(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

fn finish(command: &mut Command, dir: &Path) -> Result<()> {
    run(command)?;
    Ok(fs::write(dir.join(COMPLETE), "")?)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
