//! The npm packages: `mainstay`, which finds the binary of the machine, and one package a machine with the binary.

use super::{Parts, put, said, template};
use crate::workspace;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Command;

pub fn pack(parts: &Parts, out: &Path) -> Result<()> {
    let root = out.join("npm");
    for (name, files) in [
        ("mainstay", ["package.json", "README.md", "bin/mainstay.js"].as_slice()),
        ("linux-x64", &["package.json", "README.md"]),
    ] {
        let at = root.join(name);
        for file in files {
            let mode = if file.starts_with("bin/") { 0o755 } else { 0o644 };
            put(&at, file, template(&format!("npm/{name}/{file}"))?.as_bytes(), mode)?;
        }
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            put(&at, licence, &fs::read(workspace::root().join(licence))?, 0o644)?;
        }
    }
    put(&root, "mainstay/mainstay.schema.json", parts.schema.as_bytes(), 0o644)?;
    put(&root, "linux-x64/bin/mainstay", &fs::read(&parts.binary)?, 0o755)?;
    for name in ["mainstay", "linux-x64"] {
        let mut npm = Command::new("npm");
        npm.args(["pack", "--offline", "--ignore-scripts", "--silent", "--pack-destination"]).arg(out);
        said(npm.current_dir(root.join(name)))?;
    }
    fs::remove_dir_all(&root)?;
    Ok(())
}
