//! Named points at which the server is killed, or its disk fails: made from outside with `strace` at the system calls
//! of the thread that writes jobs, or of the one that copies its log. Nothing of it is compiled into the product.
//!
//! A signal that `strace` injects is delivered as the call is entered; SIGKILL then keeps the call from being made.

use crate::processes;
use crate::wait::{poll, wait_until};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An answer cannot leave before this is over: long enough to be seen and killed in.
const HELD: &str = "4000000";

/// What happens to the calls of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A part of the log was not written.
    BeforeWrite,
    /// All of it was written and it was not synced.
    BeforeSync,
    /// It was synced and nobody was answered.
    AfterSync,
    /// Pages were being copied from the log into the file.
    MidCheckpoint,
    /// Nothing can be written.
    DiskFull,
    /// What was written cannot be synced.
    SyncFails,
}

/// `strace` at work; it lets go of the thread when dropped.
#[derive(Debug)]
pub struct Attached {
    child: Child,
    output: PathBuf,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.detach();
    }
}

impl Attached {
    /// Waits until it traces. `data` is the data folder; `nth`: which of these calls it is.
    pub fn to(server: i32, data: &Path, point: Point, nth: u32, output: &Path) -> Result<Attached, String> {
        let names: &[&str] = if point == Point::MidCheckpoint { &["jobs", "checkpoint"] } else { &["jobs"] };
        let threads = threads(server, names);
        if threads.len() < names.len() {
            return Err(format!("of the threads {names:?} the server {server} has {}", threads.len()));
        }
        let (call, deed) = match point {
            Point::BeforeWrite | Point::MidCheckpoint => ("pwrite64", format!("signal=KILL:when={nth}")),
            Point::BeforeSync => ("fsync,fdatasync", format!("signal=KILL:when={nth}")),
            Point::AfterSync => ("fsync,fdatasync", format!("delay_exit={HELD}:when={nth}+")),
            Point::DiskFull => ("pwrite64", format!("error=ENOSPC:when={nth}+")),
            Point::SyncFails => ("fsync,fdatasync", format!("error=EIO:when={nth}+")),
        };
        let names: &[&str] = match point {
            Point::MidCheckpoint => &["jobs.db"],
            Point::DiskFull | Point::SyncFails => &["jobs.db", "jobs.db-wal"],
            _ => &["jobs.db-wal"],
        };
        let mut command = Command::new("strace");
        for thread in &threads {
            command.args(["-p", &thread.to_string()]);
        }
        command.args(["-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:{deed}"), "-o"]).arg(output);
        // By its real path: strace compares it with what the kernel says.
        let data = data.canonicalize().map_err(|e| format!("{}: {e}", data.display()))?;
        for name in names {
            command.arg("-P").arg(data.join(name));
        }
        let said = std::fs::File::create(output.with_extension("said")).map_err(|e| e.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
        let child = child.map_err(|e| format!("strace: {e}"))?;
        let attached = Attached { child, output: output.to_path_buf() };
        let said = output.with_extension("said");
        let text = || std::fs::read_to_string(&said).unwrap_or_default();
        match poll(Duration::from_secs(10), || text().contains("attached").then_some(())) {
            Some(_) => Ok(attached),
            None => Err(format!("strace does not attach: {}", text())),
        }
    }

    /// Whether a call was held, made to fail, or killed by now.
    pub fn has_struck(&self) -> bool {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        ["DELAYED", "INJECTED", "killed by SIGKILL"].iter().any(|word| text.contains(word))
    }

    /// Lets the thread go on as if nothing had been.
    pub fn detach(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap_or(i32::MAX);
        if matches!(self.child.try_wait(), Ok(None)) {
            processes::signal(pid, Signal::SIGTERM);
            wait_until("strace to end", || !matches!(self.child.try_wait(), Ok(None)));
        }
    }
}

/// Those with one of these names: that write jobs, and that copy what was written into the file.
fn threads(server: i32, names: &[&str]) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{server}/task")).into_iter().flatten().flatten();
    let is_one = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| names.contains(&name.trim()))
    };
    tasks.filter(is_one).filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}
