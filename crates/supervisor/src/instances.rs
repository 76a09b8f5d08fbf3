//! The process groups that run, what has become of them, and what the server still has to be told.
//!
//! Must never forget an end before a server could hear of it.

use crate::kernel;
use crate::protocol::{Exit, Instance, ToServer};
use crate::spawn::Started;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Three descriptors each; one machine runs a few dozen.
pub const INSTANCES_MAX: usize = 1000;

#[derive(Debug)]
struct Held {
    /// `exit` is what a server has been told.
    instance: Instance,
    /// How the leader ended.
    ended: Option<Exit>,
    empty: bool,
    stdin: OwnedFd,
    stdout: Arc<OwnedFd>,
    stderr: Arc<OwnedFd>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CarriedInstance {
    instance: Instance,
    ended: Option<Exit>,
    empty: bool,
    /// Standard input, output and error, our ends.
    pipes: [RawFd; 3],
}

#[derive(Debug, Default)]
pub(crate) struct Instances {
    held: BTreeMap<i32, Held>,
}

impl Instances {
    /// Takes a new group; returns its pipes for the server.
    pub fn add(&mut self, instance: Instance, started: Started) -> Vec<Arc<OwnedFd>> {
        let Started { pid, stdin, stdout, stderr } = started;
        let pipes = vec![Arc::clone(&stdout), Arc::clone(&stderr)];
        self.held.insert(pid, Held { instance, ended: None, empty: false, stdin, stdout, stderr });
        pipes
    }

    /// For the process this one becomes.
    pub fn carried(&self) -> (Vec<CarriedInstance>, Vec<BorrowedFd<'_>>) {
        let one = |held: &Held| CarriedInstance {
            instance: held.instance.clone(),
            ended: held.ended,
            empty: held.empty,
            pipes: [held.stdin.as_raw_fd(), held.stdout.as_raw_fd(), held.stderr.as_raw_fd()],
        };
        let fds = self.held.values().flat_map(|held| [held.stdin.as_fd(), held.stdout.as_fd(), held.stderr.as_fd()]);
        (self.held.values().map(one).collect(), fds.collect())
    }

    pub fn from_carried(carried: Vec<CarriedInstance>) -> io::Result<Instances> {
        let mut held = BTreeMap::new();
        for CarriedInstance { instance, ended, empty, pipes: [stdin, stdout, stderr] } in carried {
            let stdin = kernel::inherited(stdin)?;
            let (stdout, stderr) = (Arc::new(kernel::inherited(stdout)?), Arc::new(kernel::inherited(stderr)?));
            held.insert(instance.pid, Held { instance, ended, empty, stdin, stdout, stderr });
        }
        Ok(Instances { held })
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Groups that may still have members.
    pub fn groups(&self) -> Vec<i32> {
        self.held.iter().filter(|(_, held)| !held.empty).map(|(pid, _)| *pid).collect()
    }

    pub fn has_group(&self, pid: i32) -> bool {
        self.held.get(&pid).is_some_and(|held| !held.empty)
    }

    /// A process was waited for; it may have been a leader.
    pub fn ended(&mut self, pid: i32, exit: Exit) {
        if let Some(held) = self.held.get_mut(&pid)
            && held.ended.is_none()
        {
            held.ended = Some(exit);
        }
    }

    /// Some group is without its leader and not yet known to be empty.
    pub fn lingering(&self) -> bool {
        self.held.values().any(|held| held.ended.is_some() && !held.empty)
    }

    /// Asks `lives` about every group without a leader.
    pub fn look(&mut self, lives: impl Fn(i32) -> bool) {
        for (pid, held) in &mut self.held {
            if held.ended.is_some() && !held.empty {
                held.empty = !lives(*pid);
            }
        }
    }

    /// The table for a new server: what it lists has `exit` only where an earlier server was told so.
    pub fn hello(&self) -> (Vec<Instance>, Vec<Arc<OwnedFd>>) {
        let instances = self.held.values().map(|held| held.instance.clone()).collect();
        let pipes = self.held.values().flat_map(|held| [Arc::clone(&held.stdout), Arc::clone(&held.stderr)]);
        (instances, pipes.collect())
    }

    /// What a server has not yet been told, in order; groups that are empty are forgotten with it.
    pub fn news(&mut self) -> Vec<ToServer> {
        let mut news = Vec::new();
        self.held.retain(|pid, held| {
            let Some(exit) = held.ended else { return true };
            if held.instance.exit.is_none() {
                held.instance.exit = Some(exit);
                news.push(ToServer::LeaderExited { pid: *pid, exit });
            }
            if held.empty {
                news.push(ToServer::GroupEmpty { pid: *pid, exit });
            }
            !held.empty
        });
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(pid: i32) -> (Instance, Started) {
        let pipe = || std::io::pipe().unwrap();
        let instance = Instance {
            pid,
            app: "main".into(),
            number: 1,
            port: None,
            started_unix_us: 0,
            tag: "tag".into(),
            exit: None,
        };
        let (stdout, stderr) = (Arc::new(pipe().0.into()), Arc::new(pipe().0.into()));
        (instance, Started { pid, stdin: pipe().1.into(), stdout, stderr })
    }

    fn with(pids: &[i32]) -> Instances {
        let mut instances = Instances::default();
        for pid in pids {
            let (instance, started) = started(*pid);
            instances.add(instance, started);
        }
        instances
    }

    #[test]
    fn a_group_is_told_of_twice_and_then_forgotten() {
        let mut instances = with(&[10]);
        assert!(instances.news().is_empty());
        instances.ended(10, Exit::Code(3));
        instances.look(|_| true);
        assert!(matches!(instances.news()[..], [ToServer::LeaderExited { pid: 10, exit: Exit::Code(3) }]));
        assert!(instances.news().is_empty() && instances.lingering() && instances.has_group(10));
        instances.look(|_| false);
        assert!(!instances.has_group(10) && instances.groups().is_empty());
        assert!(matches!(instances.news()[..], [ToServer::GroupEmpty { pid: 10, exit: Exit::Code(3) }]));
        assert_eq!(instances.len(), 0);
    }

    #[test]
    fn what_ends_while_there_is_no_server_is_listed_and_then_told() {
        let mut instances = with(&[10, 11, 12]);
        instances.ended(10, Exit::Code(0));
        instances.look(|_| true);
        instances.news();
        instances.ended(11, Exit::Signal(9));
        instances.ended(12, Exit::Code(1));
        instances.look(|pid| pid == 10);
        let (listed, pipes) = instances.hello();
        assert_eq!(pipes.len(), 6);
        let exits: Vec<_> = listed.iter().map(|instance| (instance.pid, instance.exit)).collect();
        assert_eq!(exits, [(10, Some(Exit::Code(0))), (11, None), (12, None)]);
        assert_eq!(instances.news().len(), 4);
        assert_eq!(instances.groups(), [10]);
    }

    #[test]
    fn a_group_with_a_leader_is_never_asked_about() {
        let mut instances = with(&[10]);
        instances.look(|_| false);
        assert!(instances.has_group(10) && !instances.lingering());
        instances.ended(99, Exit::Code(0));
        assert!(instances.news().is_empty());
    }
}
