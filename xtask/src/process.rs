//! What the kernel says about a process and everything it started: time used, memory held.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// `USER_HZ`: 100 on every Linux architecture, whatever the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

/// The process and all its descendants.
pub fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end while the list is read.
        if let Ok(fields) = stat(pid) {
            parents.push((pid, fields[1].parse::<u32>().unwrap_or(0)));
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(tree)
}

/// User and system time of the whole tree, in microseconds.
pub fn cpu_micros(root: u32) -> Result<u64> {
    Ok(cpu_micros_split(root)?.iter().sum())
}

/// The same, each by itself.
pub fn cpu_micros_split(root: u32) -> Result<[u64; 2]> {
    cpu_micros_split_of(&tree(root)?)
}

/// User and system time of these processes alone, in microseconds.
pub fn cpu_micros_of(pids: &[u32]) -> Result<u64> {
    Ok(cpu_micros_split_of(pids)?.iter().sum())
}

fn cpu_micros_split_of(pids: &[u32]) -> Result<[u64; 2]> {
    let mut ticks = [0, 0];
    for &pid in pids {
        let fields = stat(pid)?;
        ticks = [ticks[0] + fields[11].parse::<u64>()?, ticks[1] + fields[12].parse::<u64>()?];
    }
    Ok(ticks.map(|ticks| ticks * 1_000_000 / TICKS_PER_SECOND))
}

/// Resident memory of each process of the tree, in KiB, with its command name.
pub fn resident_kib(root: u32) -> Result<Vec<(String, u64)>> {
    tree(root)?.into_iter().map(resident_of).collect()
}

/// Resident memory of these processes alone, in KiB.
pub fn resident_kib_of(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| Ok(resident_of(*pid)?.1)).sum()
}

/// Those of the tree that run this program.
pub fn running(root: u32, program: &Path) -> Result<Vec<u32>> {
    let program = fs::canonicalize(program)?;
    let runs = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|of| of == program);
    Ok(tree(root)?.into_iter().filter(runs).collect())
}

fn resident_of(pid: u32) -> Result<(String, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let resident = value("VmRSS:").and_then(|text| text.strip_suffix(" kB")).unwrap_or("0");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    Ok((arguments.trim().to_owned(), resident.parse()?))
}

/// Fields of `/proc/PID/stat` after the command's name, which may hold spaces: state, parent, …
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("a stat line without a name")?;
    Ok(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Asks a process to end.
pub fn terminate(pid: u32) -> Result<()> {
    signal(pid, "TERM")
}

/// Sends a signal, by its name without `SIG`; a process that is gone is no fault.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().context("kill")?;
    Ok(())
}

/// Lets this process, and what it starts, hold that many descriptors.
pub fn allow_descriptors(count: u32) -> Result<()> {
    let own = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &own, &format!("--nofile={count}:{count}")]).status();
    anyhow::ensure!(
        status.is_ok_and(|status| status.success()),
        "{count} descriptors are not allowed here; type: ulimit -n {count}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_holds_what_was_started_and_its_time_is_read() {
        let own = std::process::id();
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let tree = tree(own).unwrap();
        assert!(tree.contains(&own) && tree.contains(&child.id()));
        cpu_micros(own).unwrap();
        assert!(resident_of(own).unwrap().1 > 100);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
