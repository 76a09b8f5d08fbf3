//! The package under a real systemd: a Debian with systemd, booted in namespaces and control groups of its own, in
//! which the service is installed, started, reloaded, upgraded, killed, hung and stopped, and systemd asked each time.
//!
//! Needs root. The network is this machine's; whatever else it does goes when it ends. Seen to work where control
//! groups are mounted as version 1 with a `unified` beside them; where there is version 2 alone it is yet to be tried.

use super::prove::{MIRROR, PATIENCE, SUITE, answered};
use super::said;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// `WatchdogSec` of the unit, and as much again for a loaded machine.
const WATCHDOG_PATIENCE: Duration = Duration::from_secs(90);
/// The control group of the whole, on every hierarchy there is.
const GROUP: &str = "mainstay-prove";

/// Joins control groups of its own, then becomes `unshare`.
const BOOT: &str = r#"
for base in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    [ -f "$base/cgroup.procs" ] || continue
    mkdir -p "$base/$2"
    echo $$ > "$base/$2/cgroup.procs"
done
exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child=KILL /bin/sh -ec "$3" boot "$1"
"#;

/// The file systems systemd looks for, then systemd.
const INSIDE: &str = r#"
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mkdir -p old
pivot_root . old
cd /
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=0
"#;

pub fn run(deb: &Path) -> Result<()> {
    let root = root()?;
    fs::copy(deb, root.join("mainstay.deb"))?;
    let proved = Machine::boot(&root).and_then(|mut machine| machine.prove());
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    proved
}

/// A Debian with systemd, unpacked anew from what was made the first time.
fn root() -> Result<PathBuf> {
    let target = workspace::target()?;
    let (kept, root) = (target.join(format!("debian-{SUITE}-systemd.tar")), target.join("debian-booted"));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir(&root)?;
    if !kept.exists() {
        println!("debootstrap {SUITE} with systemd (some minutes, the first time)");
        let include = ["--variant=minbase", "--include=systemd,dbus", SUITE];
        said(Command::new("debootstrap").args(include).arg(&root).arg(MIRROR))?;
        let unfinished = kept.with_extension("new");
        said(Command::new("tar").arg("-cf").arg(&unfinished).arg("-C").arg(&root).arg("."))?;
        fs::rename(&unfinished, &kept)?;
        return Ok(root);
    }
    said(Command::new("tar").arg("-xf").arg(&kept).arg("-C").arg(&root))?;
    Ok(root)
}

/// A booted systemd; it and all below it end when dropped.
struct Machine {
    unshare: Child,
    /// systemd, as this machine numbers it.
    pid: String,
}

impl Machine {
    fn boot(root: &Path) -> Result<Machine> {
        let mut command = Command::new("/bin/sh");
        command.args(["-ec", BOOT, "boot"]).arg(root).args([GROUP, INSIDE]);
        let unshare = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut machine = Machine { unshare, pid: String::new() };
        let children = format!("/proc/{0}/task/{0}/children", machine.unshare.id());
        machine.until("systemd to be started", PATIENCE, |machine| {
            machine.pid = fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            fs::read_to_string(format!("/proc/{}/comm", machine.pid)).is_ok_and(|name| name.trim() == "systemd")
        })?;
        machine.until("systemd to be up", PATIENCE, |machine| {
            let state = machine.command("systemctl is-system-running").output();
            state.is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"running" | b"degraded"))
        })?;
        Ok(machine)
    }

    fn until(&mut self, what: &str, patience: Duration, mut holds: impl FnMut(&mut Machine) -> bool) -> Result<()> {
        let begun = Instant::now();
        while !holds(self) {
            if let Some(status) = self.unshare.try_wait()? {
                bail!("systemd ended with {status}, waiting for {what}");
            }
            if begun.elapsed() > patience {
                let state = self.says("systemctl --no-pager -l status mainstay 2>&1 || true").unwrap_or_default();
                bail!("waited {} s in vain: {what}\n{state}", patience.as_secs());
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// A shell line on it.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid, "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--root", "--wd"]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "/bin/sh", "-ec", line]);
        command
    }

    fn says(&self, line: &str) -> Result<String> {
        Ok(said(&mut self.command(line))?.trim().to_owned())
    }

    fn property(&self, name: &str) -> String {
        self.says(&format!("systemctl show -p {name} --value mainstay")).unwrap_or_default()
    }

    fn prove(&mut self) -> Result<()> {
        self.says("dpkg -i /mainstay.deb")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = format!(
            "[app.main]\nrun = [\"/usr/bin/mainstay\", \"demo-backend\"]\n[edge]\nlisten = [\"127.0.0.1:{port}\"]\n"
        );
        let write = |text: &str| format!("cat > /etc/mainstay/mainstay.toml <<'END'\n{text}END\n");
        self.says(&write(&file))?;
        // Comes back once READY=1 has been told.
        self.says("systemctl start mainstay")?;
        let (main, status) = (self.property("MainPID"), self.property("StatusText"));
        ensure!(status == "serving", "status {status:?}");
        ensure!(answered(port, &mut self.unshare)?.starts_with("HTTP/1.1 200"), "it does not serve");

        self.says(&format!("{}systemctl reload mainstay", write(&format!("{file}[[route]]\nmatch = \"/x\"\n"))))?;
        self.says(&format!("{}systemctl reload mainstay", write("[edge]\nlisten = 7.5\n")))?;
        self.until("a refused reload to be shown", PATIENCE, |m| m.property("StatusText").contains("not reloaded: "))?;
        println!("systemd   reload refused: {}", self.property("StatusText"));
        self.says(&format!("{}systemctl reload mainstay", write(&file)))?;
        self.until("a reload to be shown", PATIENCE, |m| m.property("StatusText") == "serving")?;

        let inode = "stat -L -c %i /proc/$(systemctl show -p MainPID --value mainstay)/exe";
        let before = self.says(inode)?;
        let installed = self.says("dpkg -i /mainstay.deb 2>&1")?;
        ensure!(installed.contains("upgraded to mainstay"), "not upgraded in place:\n{installed}");
        ensure!(self.says(inode)? != before, "it still runs the old file");
        ensure!(
            (self.property("MainPID"), self.property("NRestarts")) == (main, "0".into()),
            "restarted:\n{installed}"
        );
        println!("systemd   upgraded in place by dpkg, the same main process");

        for (signal, patience, what) in
            [("KILL", PATIENCE, "killed"), ("STOP", WATCHDOG_PATIENCE, "hung, and ended by the watchdog")]
        {
            let restarts = self.property("NRestarts");
            self.says(&format!("systemctl kill --kill-whom=main --signal={signal} mainstay"))?;
            self.until("another start", patience, |m| {
                m.property("NRestarts") != restarts && m.property("SubState") == "running"
            })?;
            ensure!(answered(port, &mut self.unshare)?.starts_with("HTTP/1.1 200"), "it does not serve");
            println!("systemd   {what}: started anew");
        }
        self.says("systemctl stop mainstay")?;
        let (state, result) = (self.property("ActiveState"), self.property("Result"));
        ensure!((state.as_str(), result.as_str()) == ("inactive", "success"), "{state}, {result}");
        let own = "grep -ls \"^Uid:.*[[:space:]]$(id -u mainstay)[[:space:]]\" /proc/[0-9]*/status || true";
        let left = self.says(own)?;
        ensure!(left.is_empty(), "left behind:\n{left}");
        let exposure = self.says("systemd-analyze --no-pager security mainstay | tail -n 1")?;
        println!("systemd   stopped, nothing left; {}", exposure.trim_start_matches("-> "));
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // `--kill-child`: systemd goes with it, and every process of its namespace with systemd.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        for base in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
            let group = Path::new(base).join(GROUP);
            if group.is_dir() {
                let empty = ["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"];
                let _ = Command::new("find").arg(&group).args(empty).stderr(Stdio::null()).status();
            }
        }
    }
}
