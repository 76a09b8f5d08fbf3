//! The Debian package, by `dpkg-deb` alone: files, a conffile, a unit, a user.

use super::{Parts, VERSION, put, said, template};
use crate::workspace;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFFILE: &str = "etc/mainstay/mainstay.toml";

pub fn build(parts: &Parts, out: &Path) -> Result<PathBuf> {
    let root = out.join("deb");
    // The mode of a folder is that of the package's: nobody's umask.
    put(&root, "usr/bin/mainstay", &fs::read(&parts.binary)?, 0o755)?;
    put(&root, CONFFILE, template("deb/mainstay.toml")?.as_bytes(), 0o644)?;
    put(&root, "usr/lib/systemd/system/mainstay.service", parts.unit.as_bytes(), 0o644)?;
    put(&root, "usr/lib/sysusers.d/mainstay.conf", template("deb/mainstay.sysusers")?.as_bytes(), 0o644)?;
    put(&root, "usr/share/mainstay/mainstay.schema.json", parts.schema.as_bytes(), 0o644)?;
    put(&root, "usr/share/man/man1/mainstay.1", template("deb/mainstay.1")?.as_bytes(), 0o644)?;
    documents(parts, &root)?;
    control(&root)?;
    folders(&root)?;
    let deb = out.join(format!("mainstay_{VERSION}_amd64.deb"));
    let mut command = Command::new("dpkg-deb");
    // xz: the default of newer systems (zstd) is not read by all that run the binary.
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&deb);
    said(command.env("SOURCE_DATE_EPOCH", parts.epoch.to_string()))?;
    fs::remove_dir_all(&root)?;
    Ok(deb)
}

/// What Debian asks every package to have under `/usr/share/doc`, compressed as it asks.
fn documents(parts: &Parts, root: &Path) -> Result<()> {
    let doc = "usr/share/doc/mainstay";
    put(root, &format!("{doc}/copyright"), template("deb/copyright")?.as_bytes(), 0o644)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        put(root, &format!("{doc}/{licence}"), &fs::read(workspace::root().join(licence))?, 0o644)?;
    }
    let date = said(Command::new("date").args(["-u", "-R", "-d", &format!("@{}", parts.epoch)]))?;
    let entry = format!(
        "mainstay ({VERSION}) stable; urgency=medium\n\n  * See CHANGELOG.md.gz beside this file.\n\n \
         -- Mainstay contributors <packages@mainstay.invalid>  {date}"
    );
    put(root, &format!("{doc}/changelog"), entry.as_bytes(), 0o644)?;
    put(root, &format!("{doc}/CHANGELOG.md"), &fs::read(workspace::root().join("CHANGELOG.md"))?, 0o644)?;
    let packed = [format!("{doc}/changelog"), format!("{doc}/CHANGELOG.md"), "usr/share/man/man1/mainstay.1".into()];
    said(Command::new("gzip").args(["-9", "-n"]).args(packed).current_dir(root))?;
    Ok(())
}

fn control(root: &Path) -> Result<()> {
    let size = said(Command::new("du").args(["-k", "-s", "--apparent-size", "."]).current_dir(root))?;
    let kib = size.split_whitespace().next().unwrap_or("0");
    put(root, "DEBIAN/control", template("deb/control")?.replace("@KIB@", kib).as_bytes(), 0o644)?;
    put(root, "DEBIAN/conffiles", format!("/{CONFFILE}\n").as_bytes(), 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(root, &format!("DEBIAN/{script}"), template(&format!("deb/{script}"))?.as_bytes(), 0o755)?;
    }
    let find = "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
    let sums = said(Command::new("sh").args(["-c", find]).current_dir(root))?;
    put(root, "DEBIAN/md5sums", sums.as_bytes(), 0o644)
}

fn folders(root: &Path) -> Result<()> {
    said(Command::new("find").arg(root).args(["-type", "d", "-exec", "chmod", "755", "{}", "+"]))?;
    Ok(())
}
