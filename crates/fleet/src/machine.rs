//! What this machine has: processors and memory, as far as we are allowed to use them.
//!
//! Must never: fail. What cannot be read is simply not limited.

use std::fs;
use std::path::{Path, PathBuf};

/// A sample, so that decisions made from it can be tested on any machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors by affinity and cgroup quota, at least 1.
    pub cpus: u32,
    /// Bytes: the cgroup's limit, or all there is. `None`: unknown.
    pub memory: Option<u64>,
    pub root: bool,
    /// A container of our own: its first process is this program. Its image has chosen who root is.
    pub contained: bool,
}

impl Machine {
    pub fn here() -> Machine {
        let groups = cgroup_dirs();
        let affinity = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let quota = groups.iter().filter_map(|dir| read(dir, "cpu.max").and_then(|text| quota(&text))).min();
        let limits = groups.iter().flat_map(|dir| {
            ["memory.max", "memory.limit_in_bytes"].into_iter().filter_map(|file| read(dir, file)?.trim().parse().ok())
        });
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
        Machine {
            cpus: quota.map_or(affinity, |quota| affinity.min(quota)).max(1),
            memory: limits.chain(total).min(),
            root: nix::unistd::geteuid().is_root(),
            contained: is_first_process(),
        }
    }
}

/// By name, which everybody may read: the program file of the first process is hidden from its own server.
fn is_first_process() -> bool {
    let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    name("1").is_some_and(|first| Some(first) == name("self"))
}

fn read(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

/// Our own cgroup and those above it: each may hold a limit.
fn cgroup_dirs() -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    text.lines().flat_map(hierarchy).collect()
}

/// `0::/a/b` is version 2; `4:memory:/a/b` is version 1's memory.
fn hierarchy(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let root = match (id, controllers) {
        ("0", "") => PathBuf::from("/sys/fs/cgroup"),
        (_, "memory") => PathBuf::from("/sys/fs/cgroup/memory"),
        _ => return Vec::new(),
    };
    let below = root.join(path.trim_start_matches('/'));
    below.ancestors().take_while(|dir| dir.starts_with(&root)).map(Path::to_path_buf).collect()
}

/// `150000 100000` is one and a half processors, used as two.
fn quota(text: &str) -> Option<u32> {
    let mut words = text.split_whitespace();
    let allowed: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok().filter(|period| *period > 0)?;
    u32::try_from(allowed.div_ceil(period).max(1)).ok()
}

fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up_and_max_is_none() {
        assert_eq!(quota("200000 100000\n"), Some(2));
        assert_eq!(quota("150000 100000\n"), Some(2));
        assert_eq!(quota("5000 100000\n"), Some(1));
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(quota("1 0\n"), None);
        assert_eq!(quota(""), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16_777_216));
        assert_eq!(mem_total("nothing"), None);
    }

    #[test]
    fn each_cgroup_above_may_hold_the_limit() {
        let dirs = hierarchy("0::/system.slice/app.service");
        let expected = ["/sys/fs/cgroup/system.slice/app.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"];
        assert_eq!(dirs, expected.map(PathBuf::from));
        assert_eq!(hierarchy("4:memory:/"), [PathBuf::from("/sys/fs/cgroup/memory")]);
        assert!(hierarchy("5:pids:/x").is_empty() && hierarchy("garbage").is_empty());
    }

    #[test]
    fn this_machine_has_something() {
        let here = Machine::here();
        assert!(here.cpus >= 1 && here.memory.is_some_and(|bytes| bytes > 1 << 20));
    }
}
