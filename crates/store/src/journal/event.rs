//! What can happen. A kind's fields are never taken away or given another meaning: then it gets a new version.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// For how long it is kept, and who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Operations,
    Audit,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Operations => "operations",
            Class::Audit => "audit",
        }
    }

    pub fn parse(text: &str) -> Option<Class> {
        [Class::Operations, Class::Audit].into_iter().find(|class| class.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The server began to serve.
    Started {
        version: String,
        pid: i32,
        environment: String,
    },
    /// The one before it died, and this one replaced it.
    Replaced {
        version: String,
        pid: i32,
    },
    /// It was told to stop.
    Stopped {
        version: String,
        pid: i32,
    },
    /// Settings that are in force from now on, as `reload` tells them.
    Config {
        changes: Vec<String>,
    },
    /// They were not taken up.
    ConfigRefused {
        why: String,
    },
    Upgraded {
        from_pid: i32,
        version: String,
    },
    UpgradeFailed {
        why: String,
    },
    /// Instances were replaced one after the other.
    Restarted {
        app: Option<String>,
        instance: Option<u32>,
    },
    /// An instance, a service or a whole changed between well and not.
    Health {
        subject: String,
        status: String,
    },
    Ban {
        client: String,
        reason: String,
        seconds: u64,
    },
    BanLifted {
        client: String,
    },
    /// A breaker of ours, by what is behind it.
    Breaker {
        subject: String,
        open: bool,
        /// For how long it was open, of one that closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    Certificate {
        name: String,
        what: String,
    },
    /// Of a user, by opaque id: registered, logged in, refused, taken back.
    Identity {
        what: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// What an operator did that is none of the above.
    Admin {
        action: String,
        detail: String,
    },
}

impl Event {
    /// As it is stored and asked for.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Started { .. } => "started",
            Event::Replaced { .. } => "replaced",
            Event::Stopped { .. } => "stopped",
            Event::Config { .. } => "config",
            Event::ConfigRefused { .. } => "config_refused",
            Event::Upgraded { .. } => "upgraded",
            Event::UpgradeFailed { .. } => "upgrade_failed",
            Event::Restarted { .. } => "restarted",
            Event::Health { .. } => "health",
            Event::Ban { .. } => "ban",
            Event::BanLifted { .. } => "ban_lifted",
            Event::Breaker { .. } => "breaker",
            Event::Certificate { .. } => "certificate",
            Event::Identity { .. } => "identity",
            Event::Admin { .. } => "admin",
        }
    }

    /// Of its fields. Every kind is at its first.
    pub fn version(&self) -> u32 {
        1
    }

    pub fn class(&self) -> Class {
        match self {
            Event::Config { .. } | Event::Restarted { .. } | Event::Upgraded { .. } | Event::BanLifted { .. } => {
                Class::Audit
            }
            Event::Admin { .. } => Class::Audit,
            // What anybody can make happen all day long is no part of the audit.
            Event::Identity { what, .. } if !is_frequent(what) => Class::Audit,
            _ => Class::Operations,
        }
    }

    /// What may flap, by what it is about.
    pub fn subject(&self) -> Option<String> {
        match self {
            Event::Health { subject, .. } | Event::Breaker { subject, .. } => Some(subject.clone()),
            Event::Ban { client, .. } => Some(client.clone()),
            Event::ConfigRefused { .. } => Some(String::new()),
            Event::Identity { what, user, .. } if is_frequent(what) => {
                Some(format!("{what} {}", user.as_deref().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// `None` for a kind or a version that is not known here.
    pub fn read(kind: &str, version: u32, payload: &Value) -> Option<Event> {
        let event: Event = serde_json::from_value(payload.clone()).ok()?;
        (event.kind() == kind && event.version() == version).then_some(event)
    }

    /// In a line, for people.
    pub fn line(&self) -> String {
        match self {
            Event::Started { version, pid, environment } => {
                format!("mainstay {version} serves ({environment}, pid {pid})")
            }
            Event::Replaced { version, pid } => format!("the server died; mainstay {version} serves (pid {pid})"),
            Event::Stopped { version, pid } => format!("mainstay {version} stopped (pid {pid})"),
            Event::Config { changes } if changes.is_empty() => "reloaded, nothing changed".to_owned(),
            Event::Config { changes } => format!("reloaded: {}", changes.join(", ")),
            Event::ConfigRefused { why } => format!("not reloaded: {why}"),
            Event::Upgraded { from_pid, version } => format!("upgraded to mainstay {version} (from pid {from_pid})"),
            Event::UpgradeFailed { why } => format!("not upgraded: {why}"),
            Event::Restarted { app, instance } => match (app, instance) {
                (Some(app), Some(number)) => format!("{app}/{number} restarted"),
                (Some(app), None) => format!("{app} restarted"),
                (None, _) => "every app restarted".to_owned(),
            },
            Event::Health { subject, status } => format!("{subject} is {status}"),
            Event::Ban { client, reason, seconds } => format!("{client} banned for {seconds} s: {reason}"),
            Event::BanLifted { client } => format!("{client} may come again"),
            Event::Breaker { subject, open: true, .. } => format!("{subject} is left alone"),
            Event::Breaker { subject, open: false, seconds: None } => format!("{subject} is asked again"),
            Event::Breaker { subject, open: false, seconds: Some(seconds) } => {
                format!("{subject} is asked again after {seconds} s")
            }
            Event::Certificate { name, what } => format!("certificate of {name}: {what}"),
            Event::Identity { what, user, detail } => {
                let what = what.replace('_', " ");
                let parts = [user.as_deref(), Some(what.as_str()), detail.as_deref()];
                parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
            Event::Admin { action, detail } => format!("{action} {detail}").trim_end().to_owned(),
        }
    }
}

/// Happens at every exchange of a token, or whenever somebody tries: folded, and not kept for a year.
fn is_frequent(what: &str) -> bool {
    matches!(what, "refused" | "refreshed" | "link_refused" | "mail_lost")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn all() -> Vec<Event> {
        let text = || "x".to_owned();
        vec![
            Event::Started { version: text(), pid: 1, environment: text() },
            Event::Replaced { version: text(), pid: 1 },
            Event::Stopped { version: text(), pid: 1 },
            Event::Config { changes: vec![text()] },
            Event::ConfigRefused { why: text() },
            Event::Upgraded { from_pid: 1, version: text() },
            Event::UpgradeFailed { why: text() },
            Event::Restarted { app: Some(text()), instance: None },
            Event::Health { subject: text(), status: text() },
            Event::Ban { client: text(), reason: text(), seconds: 1 },
            Event::BanLifted { client: text() },
            Event::Breaker { subject: text(), open: true, seconds: None },
            Event::Breaker { subject: text(), open: false, seconds: Some(1) },
            Event::Certificate { name: text(), what: text() },
            Event::Identity { what: text(), user: Some(text()), detail: None },
            Event::Admin { action: text(), detail: text() },
        ]
    }

    #[test]
    fn every_kind_is_written_and_read_under_its_own_name() {
        for event in all() {
            let payload = serde_json::to_value(&event).expect("JSON");
            assert_eq!(payload["kind"], event.kind());
            assert_eq!(Event::read(event.kind(), 1, &payload), Some(event.clone()));
            assert_eq!(Event::read(event.kind(), 2, &payload), None, "a newer version is not guessed at");
            assert!(!event.line().is_empty());
        }
        let before = serde_json::json!({ "kind": "breaker", "subject": "redis", "open": false });
        let read = Event::read("breaker", 1, &before).expect("as it was written before it had a time");
        assert_eq!(read.line(), "redis is asked again");
        assert_eq!(Event::read("later", 1, &serde_json::json!({ "kind": "later" })), None);
    }
}
