//! A fresh Debian, made by `debootstrap` and kept for the next time: the package is installed with `dpkg -i`, its
//! conffile filled in, and the edge asked from outside; then it is purged.
//!
//! Needs root, and Debian's mirror once. Whatever it started is ended, also when it fails.

use super::said;
use crate::{tools, workspace};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const SUITE: &str = "bookworm";
pub(super) const MIRROR: &str = "http://deb.debian.org/debian";
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub fn run(deb: &Path) -> Result<()> {
    tools::require(&[&tools::DEBOOTSTRAP])?;
    if said(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("--prove makes a root of its own and needs to be root: sudo cargo xtask dist --prove");
    }
    let root = fresh_root()?;
    let proved = prove(&root, deb);
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    proved
}

/// A copy of the root made the first time.
fn fresh_root() -> Result<PathBuf> {
    let target = workspace::target()?;
    let (kept, root) = (target.join(format!("debian-{SUITE}.tar")), target.join(format!("debian-{SUITE}")));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    if kept.exists() {
        fs::create_dir(&root)?;
        said(Command::new("tar").arg("-xf").arg(&kept).arg("-C").arg(&root))?;
        return Ok(root);
    }
    println!("debootstrap {SUITE} (about a minute, the first time)");
    said(Command::new("debootstrap").args(["--variant=minbase", SUITE]).arg(&root).arg(MIRROR))?;
    let unfinished = kept.with_extension("new");
    said(Command::new("tar").arg("-cf").arg(&unfinished).arg("-C").arg(&root).arg("."))?;
    fs::rename(&unfinished, &kept)?;
    Ok(root)
}

fn prove(root: &Path, deb: &Path) -> Result<()> {
    fs::copy(deb, root.join("mainstay.deb"))?;
    let installed = said(&mut inside(root, "dpkg -i /mainstay.deb && id mainstay && mainstay --version"))?;
    println!("{}", installed.trim());
    let owners =
        said(&mut inside(root, "find $(dpkg -L mainstay) -maxdepth 0 ! -type l ! \\( -user root ! -perm /022 \\)"))?;
    ensure!(owners.trim().is_empty(), "files that others than root may change:\n{owners}");

    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let app = format!(
        "[app.main]\nrun = [\"/usr/bin/mainstay\", \"demo-backend\"]\n[edge]\nlisten = [\"127.0.0.1:{port}\"]\n"
    );
    fs::write(root.join("etc/mainstay/mainstay.toml"), app)?;
    // What the unit's StateDirectory and User do.
    let start = "install -d -m 700 -o mainstay -g mainstay /var/lib/mainstay/mainstay && cd /etc/mainstay && \
                 exec setpriv --reuid mainstay --regid mainstay --init-groups --no-new-privs \
                 mainstay run --file /etc/mainstay/mainstay.toml --data /var/lib/mainstay/mainstay";
    let mut running = Running(inside(root, start).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let answer = answered(port, &mut running.0)?;
    println!("{}", answer.lines().next().unwrap_or_default());
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    upgraded(root, &mut running.0, port)?;
    said(Command::new("kill").args(["-TERM", &running.0.id().to_string()]))?;
    let status = running.0.wait()?;
    ensure!(status.success(), "it ended with {status}");

    let purged = said(&mut inside(
        root,
        "dpkg --purge mainstay && ls -d /var/lib/mainstay /etc/mainstay /usr/bin/mainstay 2>&1 || true",
    ))?;
    ensure!(!purged.lines().any(|line| line.starts_with('/')), "left behind:\n{purged}");
    println!(
        "installed, served as user mainstay, upgraded in place by dpkg, ended with 0, purged: a fresh Debian {SUITE} \
         needs nothing else"
    );
    Ok(())
}

/// The package installed over itself while the service runs. There is no systemd in the root: a `systemctl` that says
/// the service is active stands in for it, and what it was asked is read afterwards.
fn upgraded(root: &Path, running: &mut Child, port: u16) -> Result<()> {
    const SYSTEMCTL: &str = "#!/bin/sh\necho \"$@\" >> /systemctl.log\n";
    let is_old = |path: &Path| path.to_string_lossy().ends_with(" (deleted)");
    let runs = PathBuf::from(format!("/proc/{}/exe", running.id()));
    fs::create_dir_all(root.join("run/systemd/system"))?;
    fs::write(root.join("usr/local/sbin/systemctl"), SYSTEMCTL)?;
    said(Command::new("chmod").arg("755").arg(root.join("usr/local/sbin/systemctl")))?;
    let before = fs::metadata(&runs)?;
    let installed = said(&mut inside(root, "dpkg -i /mainstay.deb 2>&1"))?;
    let asked = fs::read_to_string(root.join("systemctl.log"))?;
    ensure!(!asked.contains("restart"), "restarted instead of upgraded in place:\n{installed}\n{asked}");
    let after = fs::metadata(&runs)?;
    let (before, after) = (std::os::unix::fs::MetadataExt::ino(&before), std::os::unix::fs::MetadataExt::ino(&after));
    ensure!(before != after && !is_old(&fs::read_link(&runs)?), "it still runs the old file:\n{installed}");
    let answer = answered(port, running)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let line = installed.lines().find(|line| line.contains("upgraded to mainstay")).unwrap_or_default();
    println!("{line}");
    fs::remove_file(root.join("usr/local/sbin/systemctl"))?;
    fs::remove_dir_all(root.join("run/systemd"))?;
    Ok(())
}

/// A shell line in the root, with /proc, as every machine has it. The mount is in a namespace of its own, and goes with
/// the line; everything is replaced by what comes next, so that the process started here is the one that runs.
fn inside(root: &Path, line: &str) -> Command {
    const ENTER: &str = "mount --bind /proc \"$1/proc\" && exec chroot \"$1\" /bin/sh -ec \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-ec", ENTER, "enter"]).arg(root).arg(line).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command
}

/// The answer to a GET, asked until there is one.
pub(super) fn answered(port: u16, running: &mut Child) -> Result<String> {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes)?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if let Some(status) = running.try_wait()? {
            bail!("it ended with {status} instead of serving");
        }
        ensure!(start.elapsed() < PATIENCE, "it does not listen on {port}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Ended when the proof is over, however.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
