//! Facts about processes from `/proc`: who is in a group, what it listens on, how much memory it holds.
//!
//! Must never fail: a process that ends while it is looked at is simply not there.

use procfs::net::{TcpNetEntry, TcpState};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// One process as `/proc/PID/stat` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub name: String,
    /// Ended, but not yet waited for.
    pub zombie: bool,
    /// Clock ticks since the machine started; with the pid it names a process for good.
    pub start_ticks: u64,
    /// User and system time used so far, in clock ticks.
    pub cpu_ticks: u64,
    pub resident_bytes: u64,
}

/// All processes this user may see, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    by_pid: HashMap<i32, Process>,
}

impl Processes {
    pub fn read() -> Processes {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        Processes { by_pid: pids.filter_map(process).map(|process| (process.pid, process)).collect() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_pid.values()
    }

    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    /// The members of a process group and everything they started, groups and sessions of their own included.
    /// (Not what has left the family: a daemon's parent is the supervisor.)
    pub fn family(&self, group: i32) -> Vec<&Process> {
        let in_family = |process: &&Process| {
            !process.zombie && (process.group == group || self.ancestors(process.pid).any(|above| above.group == group))
        };
        self.by_pid.values().filter(in_family).collect()
    }

    /// Members of the group itself that still run.
    pub fn group(&self, group: i32) -> impl Iterator<Item = &Process> {
        self.by_pid.values().filter(move |process| process.group == group && !process.zombie)
    }

    /// The parent, its parent and so on, nearest first.
    pub fn ancestors(&self, pid: i32) -> impl Iterator<Item = &Process> {
        let parent = |process: &&Process| self.by_pid.get(&process.parent);
        // A snapshot is not taken at one instant: reused pids could form a circle, so the walk is bounded.
        std::iter::successors(self.get(pid), parent).skip(1).take(self.by_pid.len())
    }

    /// Everything started by a process, and by what that started.
    pub fn descendants(&self, pid: i32) -> impl Iterator<Item = &Process> {
        self.by_pid.values().filter(move |process| self.ancestors(process.pid).any(|above| above.pid == pid))
    }

    /// Resident memory of the group's family. Pages that processes share count once for each.
    pub fn resident_bytes(&self, group: i32) -> u64 {
        self.family(group).iter().map(|process| process.resident_bytes).sum()
    }

    pub fn cpu_ticks(&self, group: i32) -> u64 {
        self.family(group).iter().map(|process| process.cpu_ticks).sum()
    }

    /// Open descriptors of the group's family.
    pub fn descriptors(&self, group: i32) -> usize {
        self.family(group).iter().filter_map(|process| descriptors(process.pid)).sum()
    }

    /// Where the group's family accepts TCP connections, and which process does.
    pub fn listeners(&self, group: i32) -> Vec<(SocketAddr, i32)> {
        let addresses: HashMap<u64, SocketAddr> = listening().map(|entry| (entry.inode, entry.local_address)).collect();
        let mut found = Vec::new();
        for process in self.family(group) {
            for inode in sockets(process.pid) {
                found.extend(addresses.get(&inode).map(|address| (*address, process.pid)));
            }
        }
        found.sort();
        // A parent and its worker share one socket: one line, the oldest process first.
        found.dedup_by_key(|(address, _)| *address);
        found
    }
}

/// Where a process group and what it started listens: `Processes::listeners` of this moment.
pub fn listeners_of_group(group: i32) -> Vec<(SocketAddr, i32)> {
    Processes::read().listeners(group)
}

/// Resident memory of a process group and what it started: `Processes::resident_bytes` of this moment.
pub fn rss_of_group(group: i32) -> u64 {
    Processes::read().resident_bytes(group)
}

/// Number of open descriptors of a process, if we may look.
pub fn descriptors(pid: i32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Does it run as the user that we are? Told by its status: the owner of its files under /proc is root where it hides.
pub(crate) fn is_of_this_user(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved and file system.
    let effective = uids.and_then(|uids| uids.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
    effective == Some(nix::unistd::geteuid().as_raw())
}

/// A process of this moment.
pub fn process(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&stat))
}

/// A process has an environment of its own at exec; later changes (setenv) do not show.
pub fn environment_value(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let values = environment.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(name.as_bytes()));
    let value = values.filter_map(|rest| rest.strip_prefix(b"=")).next()?;
    String::from_utf8(value.to_vec()).ok()
}

/// Asked of the C library. `procfs::page_size` reads the auxiliary vector by itself and trusts it to name a mapped
/// vDSO, which it does not under valgrind, where the cost of a request is counted.
fn page_size() -> u64 {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

/// `pid (name) state parent group …`; the name may hold spaces and parentheses.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        name: name.to_owned(),
        // The first thread may be done while others go on: then the process lives, whatever its letter says.
        zombie: matches!(*fields.first()?, "Z" | "X" | "x") && number(17)? <= 1,
        cpu_ticks: number(11)? + number(12)?,
        start_ticks: number(19)?,
        resident_bytes: number(21)?.saturating_mul(page_size()),
    })
}

/// All TCP sockets in the state LISTEN, both families.
fn listening() -> impl Iterator<Item = TcpNetEntry> {
    sockets_of_machine().filter(|entry| entry.state == TcpState::Listen)
}

fn sockets_of_machine() -> impl Iterator<Item = TcpNetEntry> {
    let families = [procfs::net::tcp(), procfs::net::tcp6()];
    families.into_iter().flatten().flatten().filter(|entry| entry.inode != 0)
}

/// Inodes of the sockets a process has open.
fn sockets(pid: i32) -> HashSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// The processes that stand in the way of binding an address, those nearest to the root of the process tree first.
pub(crate) fn holders_of(address: SocketAddr) -> Vec<Process> {
    let in_the_way = |entry: &TcpNetEntry| overlaps(entry.local_address, address);
    let listening: HashSet<u64> = listening().filter(in_the_way).map(|entry| entry.inode).collect();
    let inodes = if listening.is_empty() {
        sockets_of_machine().filter(in_the_way).map(|entry| entry.inode).collect()
    } else {
        listening
    };
    let processes = Processes::read();
    let holds = |process: &&Process| !inodes.is_empty() && !sockets(process.pid).is_disjoint(&inodes);
    let mut holders: Vec<Process> = processes.iter().filter(holds).cloned().collect();
    holders.sort_by_key(|process| (process.start_ticks, process.pid));
    holders
}

/// Does a socket of the user that we are stand in the way of binding an address, whoever has it open?
pub(crate) fn is_held_by_this_user(address: SocketAddr) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    sockets_of_machine().any(|entry| entry.uid == me && overlaps(entry.local_address, address))
}

/// Would binding `wanted` collide with a socket bound to `held`?
fn overlaps(held: SocketAddr, wanted: SocketAddr) -> bool {
    let plain = |address: IpAddr| address.to_canonical();
    let (one, other) = (plain(held.ip()), plain(wanted.ip()));
    // A v6 wildcard may be dual-stack, so it may hold the v4 port too.
    let wild = one.is_unspecified() && (one.is_ipv6() || other.is_ipv4()) || other.is_unspecified();
    held.port() == wanted.port() && (one == other || wild && (one.is_ipv4() == other.is_ipv4() || one.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_stat_line_with_a_hostile_name() {
        let line =
            "42 (a) R (b) S 7 40 40 0 -1 4194560 100 0 0 0 3 4 0 0 20 0 1 0 12345 1000000 25 18446744073709551615";
        let process = parse(line).unwrap();
        assert_eq!((process.pid, process.parent, process.group), (42, 7, 40));
        assert_eq!((process.name.as_str(), process.zombie), ("a) R (b", false));
        assert_eq!((process.cpu_ticks, process.start_ticks), (7, 12345));
        assert_eq!(process.resident_bytes, 25 * page_size());
        assert!(parse(&line.replace(") S 7", ") Z 7")).unwrap().zombie);
        assert!(!parse(&line.replace(") S 7", ") Z 7").replace(" 20 0 1 0 ", " 20 0 2 0 ")).unwrap().zombie);
        assert_eq!(parse("garbage"), None);
        assert_eq!(parse("1 (x) S 1"), None);
    }

    #[test]
    fn our_own_listener_is_found_by_its_inode() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let me = std::process::id() as i32;
        let group = process(me).unwrap().group;
        assert!(listeners_of_group(group).contains(&(address, me)));
        assert!(holders_of(address).iter().any(|holder| holder.pid == me));
        assert!(rss_of_group(group) > 0);
        assert!(descriptors(me).unwrap() > 3);
        drop(listener);
        assert!(!listeners_of_group(group).contains(&(address, me)));
    }

    #[test]
    fn what_collides() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "[::]:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
        ];
        for (held, wanted, expected) in cases {
            assert_eq!(overlaps(held.parse().unwrap(), wanted.parse().unwrap()), expected, "{held} {wanted}");
        }
    }

    #[test]
    fn the_environment_a_process_began_with() {
        let me = std::process::id() as i32;
        assert_eq!(environment_value(me, "PATH"), std::env::var("PATH").ok());
        assert_eq!(environment_value(me, "PAT"), None);
    }
}
