//! Ends what must not outlive us: process groups, and every process that carries our `MAINSTAY_BOOT`.
//!
//! The variable follows a child that called `setsid` or lost its parents. Must never touch this process or its own
//! ancestors: a Mainstay may be started from a shell that another one runs.

use crate::proc::{self, Processes};
use crate::{BOOT_VARIABLE, Data, kernel};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Between SIGTERM and SIGKILL.
pub const TERM_LIMIT: Duration = Duration::from_secs(5);
/// After the first SIGKILL we wait no longer: what is left sits in the kernel (a dead network disk).
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// New processes are looked for this often; an end is noticed at once.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which `MAINSTAY_BOOT` to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    Exactly(String),
    /// Every boot of this folder id but this one.
    Other {
        id: String,
        than: String,
    },
}

impl Boot {
    fn matches(&self, value: &str) -> bool {
        match self {
            Boot::Exactly(boot) => value == boot,
            Boot::Other { id, than } => value != than && value.split_once(':').is_some_and(|(other, _)| other == id),
        }
    }
}

/// Processes that carry a matching boot, this process and its ancestors excepted.
pub fn sweep(boot: &Boot) -> Vec<i32> {
    carriers(boot, &Processes::read())
}

fn carriers(boot: &Boot, processes: &Processes) -> Vec<i32> {
    let me = std::process::id() as i32;
    let spared: HashSet<i32> = processes.ancestors(me).map(|above| above.pid).chain([me]).collect();
    let candidates = processes.iter().filter(|process| !process.zombie && !spared.contains(&process.pid));
    let carries = |pid: &i32| proc::environment_value(*pid, BOOT_VARIABLE).is_some_and(|value| boot.matches(&value));
    candidates.map(|process| process.pid).filter(carries).collect()
}

/// For the server whose supervisor vanished: ends the instances and everything else of this boot. About 5 s at worst.
pub fn end_everything(boot: &str, groups: &[i32]) {
    Ending::new(Boot::Exactly(boot.to_owned()), groups.to_vec()).run();
}

/// For a supervisor at its start, holding the folder's lock and before it binds anything: ends what an earlier boot
/// of this folder left behind. Returns how many processes there were.
pub fn end_older_boots(data: &Data) -> usize {
    let mut ending = Ending::new(Boot::Other { id: data.id().to_owned(), than: data.boot() }, Vec::new());
    // A server that is not dumpable hides its environment from an unprivileged successor.
    if let Some((pid, started)) = data.noted_server()
        && proc::process(pid).is_some_and(|process| process.start_ticks == started && !process.zombie)
    {
        ending.extra.push((pid, started));
    }
    ending.run();
    ending.asked.len()
}

/// Is a member of the group still running? `thorough` does not count those that nobody has waited for.
pub(crate) fn group_lives(group: i32, thorough: bool) -> bool {
    let exists = !matches!(killpg(Pid::from_raw(group), None), Err(Errno::ESRCH));
    if !exists || !thorough {
        return exists;
    }
    let processes = Processes::read();
    // Without /proc only the kernel's word is left.
    processes.iter().next().is_none() || processes.group(group).next().is_some()
}

/// SIGTERM once, SIGKILL after `TERM_LIMIT`, to everything in reach, until nothing is left.
#[derive(Debug)]
pub(crate) struct Ending {
    boot: Boot,
    groups: Vec<i32>,
    /// Pid and start of processes known by other means.
    extra: Vec<(i32, u64)>,
    /// This process adopts orphans (it is their subreaper), so its descendants are all its own; one is spared.
    descendants_but: Option<Option<i32>>,
    started: Instant,
    /// Pid and start of what has had its signal. It stays in reach until it is over: a process that ends gives up its
    /// memory, and so the environment it is known by, before it closes its ports.
    asked: HashMap<i32, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    Waiting,
    /// SIGKILL did not help.
    Stuck,
}

impl Ending {
    pub fn new(boot: Boot, groups: Vec<i32>) -> Ending {
        let (extra, asked) = (Vec::new(), HashMap::new());
        Ending { boot, groups, extra, descendants_but: None, started: Instant::now(), asked }
    }

    /// For the supervisor: all descendants too, but the server.
    pub fn with_descendants(mut self, but: Option<i32>) -> Ending {
        self.descendants_but = Some(but);
        self
    }

    /// Ends everything now: no SIGTERM, no waiting.
    pub fn kill(&mut self) {
        for pid in self.targets().into_keys() {
            send(pid, Signal::SIGKILL);
        }
        self.signal_groups(Signal::SIGKILL);
    }

    /// Looks, signals what is due, and says whether to come back.
    pub fn step(&mut self, now: Instant) -> Progress {
        let targets = self.targets();
        if targets.is_empty() {
            return Progress::Done;
        }
        let elapsed = now.saturating_duration_since(self.started);
        if elapsed >= TERM_LIMIT + KILL_LIMIT {
            return Progress::Stuck;
        }
        if elapsed >= TERM_LIMIT {
            self.signal_groups(Signal::SIGKILL);
        } else if self.asked.is_empty() {
            self.signal_groups(Signal::SIGTERM);
        }
        for pid in targets.keys() {
            match due(elapsed, self.asked.contains_key(pid)) {
                // Members of a group have just got theirs.
                Some(Signal::SIGTERM) if self.in_groups(*pid) && self.asked.is_empty() => {}
                Some(signal) => send(*pid, signal),
                None => {}
            }
        }
        self.asked.extend(targets);
        Progress::Waiting
    }

    fn run(&mut self) {
        while self.step(Instant::now()) == Progress::Waiting {
            wait_for_an_end(self.targets().keys());
        }
    }

    /// Pid and start of everything in reach that still runs.
    fn targets(&self) -> HashMap<i32, u64> {
        let processes = Processes::read();
        let mut pids: HashSet<i32> = carriers(&self.boot, &processes).into_iter().collect();
        for group in &self.groups {
            pids.extend(processes.group(*group).map(|process| process.pid));
        }
        for (pid, started) in self.extra.iter().copied().chain(self.asked.iter().map(|(pid, started)| (*pid, *started)))
        {
            let same = processes.get(pid).filter(|process| process.start_ticks == started && !process.zombie);
            pids.extend(same.map(|process| process.pid));
        }
        if let Some(but) = self.descendants_but {
            let mine = processes.descendants(std::process::id() as i32).filter(|process| !process.zombie);
            pids.extend(mine.map(|process| process.pid));
            pids.retain(|pid| Some(*pid) != but);
        }
        pids.into_iter().filter_map(|pid| Some((pid, processes.get(pid)?.start_ticks))).collect()
    }

    fn in_groups(&self, pid: i32) -> bool {
        proc::process(pid).is_some_and(|process| self.groups.contains(&process.group))
    }

    fn signal_groups(&self, signal: Signal) {
        for group in &self.groups {
            // Gone already is what we want.
            let _ = killpg(Pid::from_raw(*group), signal);
        }
    }
}

/// What a process that is still there gets: pure, so that it can be tested.
fn due(elapsed: Duration, asked: bool) -> Option<Signal> {
    match (elapsed >= TERM_LIMIT, asked) {
        (true, _) => Some(Signal::SIGKILL),
        (false, false) => Some(Signal::SIGTERM),
        (false, true) => None,
    }
}

fn send(pid: i32, signal: Signal) {
    // The process was seen a moment ago; the pidfd fixes which one we mean. Gone already is what we want.
    let _ = match kernel::pidfd(pid) {
        Ok(handle) => kernel::pidfd_signal(handle.as_fd(), signal).ok(),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
        Err(_) => kill(Pid::from_raw(pid), signal).ok(),
    };
}

fn wait_for_an_end<'a>(pids: impl Iterator<Item = &'a i32>) {
    let handles: Vec<OwnedFd> = pids.filter_map(|pid| kernel::pidfd(*pid).ok()).collect();
    let mut fds: Vec<PollFd<'_>> = handles.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    // Too many, or interrupted: the next look comes sooner, no more.
    let _ = poll(&mut fds, PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};

    fn sleeper(boot: &str) -> Child {
        let mut command = Command::new("sleep");
        command.arg("300").env(BOOT_VARIABLE, boot).stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn which_boots_match() {
        let exact = Boot::Exactly("ab:2".into());
        let other = Boot::Other { id: "ab".into(), than: "ab:2".into() };
        assert!(exact.matches("ab:2") && !exact.matches("ab:21") && !exact.matches("ab:1"));
        assert!(other.matches("ab:1") && !other.matches("ab:2") && !other.matches("abc:1") && !other.matches("ab"));
    }

    #[test]
    fn first_sigterm_then_patience_then_sigkill() {
        let cases = [
            (0, false, Some(Signal::SIGTERM)),
            (4999, true, None),
            (4999, false, Some(Signal::SIGTERM)),
            (5000, true, Some(Signal::SIGKILL)),
            (5000, false, Some(Signal::SIGKILL)),
        ];
        for (elapsed, asked, expected) in cases {
            assert_eq!(due(Duration::from_millis(elapsed), asked), expected, "{elapsed} {asked}");
        }
    }

    #[test]
    fn a_sweep_ends_its_own_boot_and_no_other() {
        let unique = format!("test{}", std::process::id());
        let mut mine = sleeper(&format!("{unique}:1"));
        let mut other = sleeper(&format!("{unique}:2"));
        let boot = Boot::Exactly(format!("{unique}:1"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while sweep(&boot) != [mine.id() as i32] {
            assert!(Instant::now() < deadline, "the sleeper has not got as far as exec");
            std::thread::yield_now();
        }
        end_everything(&format!("{unique}:1"), &[]);
        assert!(sweep(&boot).is_empty());
        assert!(other.try_wait().unwrap().is_none());
        assert!(!mine.wait().unwrap().success());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    /// As every process does that ends: its memory is gone before its ports are.
    #[test]
    fn what_forgets_its_environment_on_the_way_out_is_still_waited_for() {
        let boot = format!("forgetful{}:1", std::process::id());
        let forget = "$0 = 'x' x 20000; close(STDOUT); select(undef, undef, undef, 0.5); exit 0";
        let script = format!("$| = 1; $SIG{{TERM}} = sub {{ {forget} }}; print 'ready'; sleep 1 while 1");
        let mut command = Command::new("perl");
        let mut child = command.args(["-e", &script]).env(BOOT_VARIABLE, &boot).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 5];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        end_everything(&boot, &[]);
        assert!(child.try_wait().unwrap().is_some_and(|status| status.success()), "not waited for, or killed");
    }
}
