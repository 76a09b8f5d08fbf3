//! What `status` and `health` answer: the same document for the terminal and for programs.

use mainstay_fleet::AppStatus;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusAnswer {
    pub version: String,
    /// `production` or `development`.
    pub environment: String,
    pub environment_why: String,
    pub data: String,
    pub file: Option<String>,
    /// Process id of the supervisor.
    pub pid: u32,
    /// Process id of the server that answers.
    #[serde(default)]
    pub server_pid: u32,
    pub uptime_s: u64,
    /// Set while an upgrade is under way, and after one that was left half done.
    #[serde(default)]
    pub upgrade: Option<UpgradeAnswer>,
    /// Servers of this supervisor that died and were replaced.
    pub server_crashes: u32,
    pub listening: Vec<String>,
    pub connections: u32,
    pub apps: Vec<AppStatus>,
    /// Apps that run elsewhere.
    pub elsewhere: Vec<UpstreamAnswer>,
    pub dropped: DroppedAnswer,
}

/// What telemetry could not tell of since the server started; everything was served all the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DroppedAnswer {
    /// Finished requests without a record.
    pub records: u64,
    /// Log lines that were not written.
    pub lines: u64,
    /// Log lines that are in the files and not on the console.
    pub console_lines: u64,
}

impl DroppedAnswer {
    /// Words for what there is, if there is any.
    pub fn line(&self) -> Option<String> {
        let counts =
            [(self.records, "requests"), (self.lines, "log lines"), (self.console_lines, "lines of the console")];
        let said = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let said: Vec<String> = said.collect();
        (!said.is_empty()).then(|| format!("dropped  {}   (served, not told of)", said.join("   ")))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeAnswer {
    pub under_way: bool,
    /// For a person.
    pub text: String,
}

/// An address this edge sends requests to and does not run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpstreamAnswer {
    pub app: String,
    pub address: String,
    pub weight: u32,
    pub available: bool,
    /// It finishes what it has and gets nothing new.
    pub draining: bool,
    pub in_flight: u32,
    pub tunnels: u32,
    pub requests: u64,
    pub failures: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthAnswer {
    /// 0 if nothing is away, else 1.
    pub exit: u8,
    /// A line a service.
    pub lines: Vec<String>,
    /// The detailed health document.
    pub document: serde_json::Value,
}

/// `3d 4h`, `12m 5s`: the two largest units.
pub fn ago(seconds: u64) -> String {
    if seconds == 0 { "0s".to_owned() } else { mainstay_console::span(seconds.saturating_mul(1000)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_told_only_where_something_was() {
        let none = DroppedAnswer { records: 0, lines: 0, console_lines: 0 };
        assert_eq!(none.line(), None);
        let some = DroppedAnswer { records: 3, console_lines: 12, ..none };
        assert_eq!(
            some.line().as_deref(),
            Some("dropped  3 requests   12 lines of the console   (served, not told of)")
        );
    }

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(ago(0), "0s");
        assert_eq!(ago(725), "12m 5s");
        assert_eq!(ago(86_400 * 3 + 3600 * 4 + 59), "3d 4h");
    }
}
