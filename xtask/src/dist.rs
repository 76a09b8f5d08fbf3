//! `cargo xtask dist`: what ships. The binary (profile `dist`), a Debian package and two npm packages, in
//! `target/dist-packages`; `--prove` installs the Debian package into a fresh Debian and lets it serve, then into
//! one with a real systemd.
//!
//! Nothing here asks a network, but for `--prove`, which asks Debian's mirror.

mod booted;
mod debian;
mod npm;
mod prove;

use crate::arguments::Arguments;
use crate::{tools, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One version for everything.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What all packages are made of.
struct Parts {
    binary: PathBuf,
    /// `mainstay config --schema`.
    schema: String,
    /// The unit of `mainstay init --systemd` for `/etc/mainstay/mainstay.toml`.
    unit: String,
    /// Of the last commit, so that the same commit gives the same packages.
    epoch: u64,
}

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let is_proved = arguments.flag("--prove");
    let out = arguments.value("--out")?.map(PathBuf::from);
    let only = arguments.value("--only")?;
    arguments.finish()?;
    if let Some(kind) = only.filter(|kind| !["debian", "npm"].contains(kind)) {
        bail!("`--only {kind}`: expected debian or npm");
    }
    if is_proved && only == Some("npm") {
        bail!("--prove installs the Debian package, and --only npm makes none");
    }

    tools::require(&[&tools::DPKG_DEB, &tools::NPM])?;
    let parts = parts()?;
    let out = match out {
        Some(out) => out,
        None => workspace::target()?.join("dist-packages"),
    };
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("clear {}", out.display()))?;
    }
    fs::create_dir_all(&out)?;
    let deb = if only == Some("npm") { None } else { Some(debian::build(&parts, &out)?) };
    if only != Some("debian") {
        npm::pack(&parts, &out)?;
    }
    for entry in fs::read_dir(&out)? {
        let entry = entry?;
        println!("{:>8} KiB   {}", entry.metadata()?.len() / 1024, entry.path().display());
    }
    if let Some(deb) = deb.filter(|_| is_proved) {
        prove::run(&deb)?;
        booted::run(&deb)?;
    }
    Ok(())
}

fn parts() -> Result<Parts> {
    let binary = fs::canonicalize(workspace::dist_binary()?)?;
    let schema = said(Command::new(&binary).args(["config", "--schema"]).current_dir("/"))?;
    let file = ["init", "--systemd", "--print", "--file", "/etc/mainstay/mainstay.toml"];
    let unit = said(Command::new(&binary).args(file).current_dir("/"))?;
    let seconds = said(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace::root()));
    // Outside of a clone (a source tarball) the day the epoch began is as good as any.
    let epoch = seconds.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Ok(Parts { unit: packaged_unit(&unit, &binary), binary, schema, epoch })
}

/// Without the lines that say how to install it, and with the place the package puts the binary at.
fn packaged_unit(unit: &str, binary: &Path) -> String {
    let begin = unit.find("[Unit]").unwrap_or(0);
    unit[begin..].replace(&binary.display().to_string(), "/usr/bin/mainstay")
}

/// Runs it, and gives what it printed.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// `packaging/NAME`, with the version filled in.
fn template(name: &str) -> Result<String> {
    let path = workspace::root().join("packaging").join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.replace("@VERSION@", VERSION))
}

/// Writes a file with its folders, readable by all.
fn put(root: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = root.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_unit_names_the_packaged_binary() {
        let unit = "# type this\n\n[Unit]\n[Service]\nExecStart=/t/dist/mainstay run\n";
        let packaged = packaged_unit(unit, Path::new("/t/dist/mainstay"));
        assert_eq!(packaged, "[Unit]\n[Service]\nExecStart=/usr/bin/mainstay run\n");
    }
}
