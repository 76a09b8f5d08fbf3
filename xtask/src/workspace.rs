//! Where the workspace and its build lie, and how cargo is called.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root folder.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The cargo that started us, so that one toolchain builds everything.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo builds, whoever set it: `CARGO_TARGET_DIR`, a configuration file, or the default.
pub fn target() -> Result<PathBuf> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(target))
}

/// The binary as it ships and is measured: the one `MAINSTAY_DIST_BIN` names, else built now (profile `dist`).
pub fn dist_binary() -> Result<PathBuf> {
    built("dist", "MAINSTAY_DIST_BIN")
}

/// The same with its names left in: the one `MAINSTAY_SYMBOLS_BIN` names, else built now (profile `symbols`).
pub fn symbols_binary() -> Result<PathBuf> {
    built("symbols", "MAINSTAY_SYMBOLS_BIN")
}

/// The binary that tests drive: the one `MAINSTAY_BIN` names, else built now (profile `ci`).
pub fn tested_binary() -> Result<PathBuf> {
    built("ci", "MAINSTAY_BIN")
}

fn built(profile: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    println!("build    mainstay with profile {profile} (thin LTO; some minutes the first time)");
    let status = cargo().args(["build", "--profile", profile, "--package", "mainstay"]).status()?;
    if !status.success() {
        bail!("the build with profile {profile} failed");
    }
    Ok(target()?.join(profile).join("mainstay"))
}

/// The strict client of `crates/e2e`, built now (profile `ci`, as the tests are).
pub fn strict_client() -> Result<PathBuf> {
    e2e_program("strict")
}

/// The crash harness of `crates/e2e`, built now.
pub fn crash_harness() -> Result<PathBuf> {
    e2e_program("crash")
}

fn e2e_program(name: &str) -> Result<PathBuf> {
    let package = ["--package", "mainstay-e2e", "--bin", name];
    let status = cargo().args(["build", "--quiet", "--profile", "ci"]).args(package).status()?;
    if !status.success() {
        bail!("the program `{name}` of crates/e2e could not be built");
    }
    Ok(target()?.join("ci").join(name))
}
