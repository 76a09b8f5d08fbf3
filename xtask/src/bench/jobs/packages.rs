//! The peers' packages of npm, in folders of the build, installed once; our load client beside them.

use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BULLMQ: &str = include_str!("client/package.json");
const BUNQUEUE: &str = include_str!("client/package-bunqueue.json");
/// What Mainstay runs.
pub const APP: &str = include_str!("client/app.js");
const SCRIPTS: [(&str, &str); 4] = [
    ("run.js", include_str!("client/run.js")),
    ("mainstay.js", include_str!("client/mainstay.js")),
    ("bullmq.js", include_str!("client/bullmq.js")),
    ("bunqueue.js", include_str!("client/bunqueue.js")),
];

/// bunqueue and the Bun it needs.
#[derive(Clone, Debug)]
pub struct Bunqueue {
    pub folder: PathBuf,
    pub bun: PathBuf,
    /// Of both.
    pub version: String,
}

/// The folder of the load client with BullMQ.
pub fn bullmq() -> Result<PathBuf> {
    installed("bench-jobs", BULLMQ)
}

/// Where npm brings no Bun that runs here, why.
pub fn bunqueue() -> Result<Bunqueue> {
    let folder = installed("bench-bunqueue", BUNQUEUE)?;
    let bun = bun_in(&folder.join("node_modules/@oven"))?;
    let output = Command::new(&bun).arg("--version").output().context("bun")?;
    ensure!(output.status.success(), "bun does not run here: {}", String::from_utf8_lossy(&output.stderr).trim());
    let bun_version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = format!("{} with Bun {bun_version}", pinned(BUNQUEUE, "bunqueue")?);
    Ok(Bunqueue { folder, bun, version })
}

pub fn bullmq_version() -> Result<String> {
    Ok(format!("{} with ioredis {}", pinned(BULLMQ, "bullmq")?, pinned(BULLMQ, "ioredis")?))
}

fn pinned(package: &str, name: &str) -> Result<String> {
    let package: Value = serde_json::from_str(package)?;
    Ok(package["dependencies"][name].as_str().with_context(|| format!("no {name}"))?.to_owned())
}

/// npm brings the one of this processor.
fn bun_in(folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).context("npm brought no Bun")? {
        let bun = entry?.path().join("bin/bun");
        if bun.exists() {
            return Ok(bun);
        }
    }
    bail!("npm brought no Bun for this machine")
}

fn installed(name: &str, package: &str) -> Result<PathBuf> {
    let folder = workspace::target()?.join(name);
    fs::create_dir_all(&folder)?;
    for (file, text) in SCRIPTS {
        fs::write(folder.join(file), text)?;
    }
    let is_there = fs::read_to_string(folder.join("package.json")).is_ok_and(|text| text == package);
    // npm writes it last.
    if !is_there || !folder.join("node_modules/.package-lock.json").exists() {
        println!("install  npm packages into {}", folder.display());
        fs::write(folder.join("package.json"), package)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]).current_dir(&folder);
        ensure!(npm.stdin(Stdio::null()).status().context("npm")?.success(), "npm could not install {name}");
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_one_version() {
        for (package, name) in [(BULLMQ, "bullmq"), (BULLMQ, "ioredis"), (BUNQUEUE, "bun"), (BUNQUEUE, "bunqueue")] {
            let version = pinned(package, name).unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name} {version}");
        }
    }
}
