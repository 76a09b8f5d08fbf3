//! What each instance uses, every 2 s, and what happens to one that uses too much memory.

use crate::crew::Usage;
use crate::event::Event as Said;
use crate::fleet::{Fleet, Inner};
use crate::instance::{Phase, Serial};
use crate::plan::Key;
use crate::rollout::Rollout;
use mainstay_runtime::Millis;
use mainstay_supervisor::proc::Processes;
use std::time::Duration;

/// Often enough to act on a leak, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_secs(2);
/// An instance that is over its limit again right after a replacement needs more memory, not more replacements.
const MEMORY_PAUSE: Duration = Duration::from_secs(30);

impl Fleet {
    pub fn next_measurement(&self) -> Millis {
        let idle = self.measuring || self.crews.is_empty();
        self.measured_at.plus(if idle { EVERY * 30 } else { EVERY })
    }

    /// On the blocking pool: reading all of `/proc` takes milliseconds.
    pub fn measure(&mut self) {
        let now = self.now();
        if now < self.next_measurement() {
            return;
        }
        self.measured_at = now;
        self.measuring = true;
        let inner = self.inner.clone();
        tokio::task::spawn_local(async move {
            let read = tokio::task::spawn_blocking(Processes::read).await;
            let _ = inner.send(Inner::Measured(Box::new(read.unwrap_or_default()))).await;
        });
    }

    pub fn measured(&mut self, processes: &Processes) {
        self.measuring = false;
        let now = self.now();
        let mut over = Vec::new();
        for (name, crew) in &mut self.crews {
            for (number, member) in &mut crew.members {
                let main = member.machine.main().filter(|life| life.phase == Phase::Ready).map(|life| life.serial);
                for (serial, process) in &mut member.lives {
                    let Some(pid) = process.pid else { continue };
                    let usage = usage(processes, pid, process.usage, now);
                    process.usage = Some(usage);
                    let limit = member.app.memory_limit.filter(|limit| usage.rss_bytes > *limit);
                    if let (Some(limit), true) = (limit, main == Some(*serial)) {
                        over.push(((name.clone(), *number), *serial, usage.rss_bytes, limit));
                    }
                }
            }
        }
        for (key, serial, rss_bytes, limit_bytes) in over {
            self.over_memory(&key, serial, rss_bytes, limit_bytes);
        }
    }

    fn over_memory(&mut self, key: &Key, _serial: Serial, rss_bytes: u64, limit_bytes: u64) {
        let now = self.now();
        let waits = |rollout: &Rollout| rollout.names(key);
        if self.stopping.is_some()
            || self.shared
            || self.queue.iter().any(waits)
            || self.rollout.as_ref().is_some_and(waits)
        {
            return;
        }
        let Some(member) = self.member_mut(key) else { return };
        if member.machine.is_replacing() || member.memory_restart_at.is_some_and(|at| now.since(at) < MEMORY_PAUSE) {
            return;
        }
        member.memory_restart_at = Some(now);
        let who = self.who(key);
        self.say(Said::OverMemory { who, rss_bytes, limit_bytes });
        self.queue.push_back(Rollout::quiet([key.clone()]));
    }
}

fn usage(processes: &Processes, group: i32, before: Option<Usage>, now: Millis) -> Usage {
    let cpu_ticks = processes.cpu_ticks(group);
    let cpu_percent = before
        .map(|before| percent(cpu_ticks.saturating_sub(before.cpu_ticks), ticks_per_second(), now.since(before.at)));
    let rss_bytes = processes.resident_bytes(group);
    let descriptors = u64::try_from(processes.descriptors(group)).unwrap_or(u64::MAX);
    Usage { at: now, rss_bytes, cpu_ticks, cpu_percent, descriptors }
}

fn ticks_per_second() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100).max(1)
}

/// Share of one processor, in percent with one decimal.
fn percent(ticks: u64, per_second: u64, wall: Duration) -> f64 {
    if wall.is_zero() {
        return 0.0;
    }
    let used = Duration::from_millis(ticks.saturating_mul(1000) / per_second);
    (used.as_secs_f64() / wall.as_secs_f64() * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_one_processor() {
        let close = |a: f64, b: f64| (a - b).abs() < 0.01;
        assert!(close(percent(100, 100, Duration::from_secs(2)), 50.0));
        assert!(close(percent(400, 100, Duration::from_secs(2)), 200.0));
        assert!(close(percent(1, 100, Duration::ZERO), 0.0));
    }

    #[test]
    fn our_own_group_is_measured() {
        let group = nix::unistd::getpgrp().as_raw();
        let processes = Processes::read();
        let first = usage(&processes, group, None, Millis(0));
        assert!(first.rss_bytes > 100_000 && first.descriptors > 0 && first.cpu_percent.is_none());
        assert!(usage(&processes, group, Some(first), Millis(1000)).cpu_percent.is_some_and(|p| p.abs() < 0.01));
    }
}
