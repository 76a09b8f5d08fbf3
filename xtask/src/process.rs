//! What the kernel says about a process and everything it started: time used, memory held.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
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

/// Memory that these processes alone take, in KiB: what is resident in each, but what several have of one file, as of
/// their common program, is there once.
pub fn resident_kib_of(pids: &[u32]) -> Result<u64> {
    let smaps = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/smaps"));
    let texts = pids.iter().map(smaps).collect::<Result<Vec<_>, _>>()?;
    Ok(resident_once(&texts))
}

/// Of `smaps` of each process. What was written to is each one's own.
fn resident_once(texts: &[String]) -> u64 {
    let mut sum = 0;
    let mut shared: BTreeMap<&str, u64> = BTreeMap::new();
    for text in texts {
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        let mut file = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                ["Rss:", kib, "kB"] => sum += kib.parse::<u64>().unwrap_or(0),
                ["Shared_Clean:" | "Private_Clean:", kib, "kB"] => {
                    let of = file.map(|file| files.entry(file).or_default());
                    of.into_iter().for_each(|of| *of += kib.parse::<u64>().unwrap_or(0));
                }
                [range, _, _, _, _, path, ..] if range.contains('-') => file = path.starts_with('/').then_some(*path),
                [range, _, _, _, _] if range.contains('-') => file = None,
                _ => {}
            }
        }
        for (file, kib) in files {
            // The larger part holds the smaller: what one has touched of it or the other.
            let known = shared.entry(file).or_default();
            sum -= kib.min(*known);
            *known = kib.max(*known);
        }
    }
    sum
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
    fn what_several_have_of_a_file_is_counted_once() {
        let one = |clean: u64, dirty: u64| {
            format!(
                "55d0-55d9 r-xp 00000000 fe:00 12 /bin/one\nSize: 99 kB\nRss: {clean} kB\nShared_Clean: {clean} kB\n\
                 55da-55db rw-p 00000000 00:00 0\nRss: {dirty} kB\nPrivate_Dirty: {dirty} kB\n\
                 7f00-7f01 rw-p 00000000 00:00 0 [heap]\nRss: 1 kB\nPrivate_Clean: 1 kB\n"
            )
        };
        assert_eq!(resident_once(&[one(100, 10)]), 111);
        assert_eq!(resident_once(&[one(100, 10), one(140, 20)]), 140 + 30 + 2);
        assert_eq!(resident_once(&[one(140, 10), one(100, 20), one(7, 0)]), 140 + 30 + 3);
        let own = resident_kib_of(&[std::process::id()]).unwrap();
        assert!(own > 100 && resident_kib_of(&[std::process::id(); 2]).unwrap() < 2 * own);
    }

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
