//! Processes as /proc shows them. Everything a test starts carries a mark in its environment, by which it is found
//! again and ended, whoever its parent has become.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;
use std::time::Duration;

/// The mark every process of one `Mainstay` carries; not `MAINSTAY_…`, which is not handed on to children.
pub const MARK: &str = "E2E_MARK";

/// One line of /proc.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub arguments: Vec<String>,
}

/// Every living process (no zombies) whose environment holds `NAME=value`.
pub fn carrying(name: &str, value: &str) -> Vec<Process> {
    let entry = format!("{name}={value}");
    let found = all_pids().into_iter().filter(|pid| environment(*pid).contains(&entry));
    found.filter_map(read).collect()
}

/// Every living process.
pub fn all() -> impl Iterator<Item = Process> {
    all_pids().into_iter().filter_map(read)
}

fn all_pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// `NAME=value` pairs of a process; empty if it is gone or not ours to read.
pub fn environment(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    split_zeroes(&bytes)
}

/// One variable of a process.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    environment(pid).into_iter().find_map(|entry| entry.strip_prefix(&prefix).map(String::from))
}

fn split_zeroes(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|b| *b == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// `None` if the process is gone or a zombie.
pub fn read(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let arguments = split_zeroes(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?);
    (state != "Z" && state != "X").then_some(Process { pid, parent, group, arguments })
}

pub fn alive(pid: i32) -> bool {
    read(pid).is_some()
}

/// Resident memory in bytes.
pub fn resident(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Sends a signal; a process that is gone already is no fault.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Asks a child of the test to end, ends it after 10 s, and with it whatever it had started under its mark.
pub fn end(child: &mut Child, mark: &str) {
    signal(i32::try_from(child.id()).unwrap_or(i32::MAX), Signal::SIGTERM);
    if crate::wait::poll(Duration::from_secs(10), || child.try_wait().ok().flatten()).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    end_all(mark);
}

/// Ends everything that carries the mark; used when a test ends, whatever state it ended in.
pub fn end_all(mark: &str) {
    let swept = crate::wait::poll(Duration::from_secs(10), || {
        let left = carrying(MARK, mark);
        left.iter().for_each(|process| signal(process.pid, Signal::SIGKILL));
        left.is_empty().then_some(())
    });
    if swept.is_none() {
        eprintln!("could not end every process marked {mark}");
    }
}
