//! What can be asked of a running server, one struct a verb, and the lines it answers with.

use mainstay_identity::accounts::Import;
use mainstay_identity::operators::Scope;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for an answer that is only a look at what is known.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a command, as the socket takes it.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Status(Status),
    Health(Health),
    Why(Why),
    Restart(Restart),
    Reload(Reload),
    Certificates(CertificatesAsked),
    Upgrade(Upgrade),
    Stop(Stop),
    Bans(Bans),
    Accounts(Accounts),
    Token(TokenAsked),
    Console(ConsoleAsked),
    Limits(Limits),
    Cache(Cache),
    Journal(JournalAsked),
    Jobs(JobsAsked),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    pub verbose: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// A request id or a unique end of one.
    pub id: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    pub app: Option<String>,
    pub instance: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    /// A whole path; the one mainstay was started from if left out.
    pub binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {}

/// The clients that are sent away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bans {
    List,
    /// An address, or an IPv6 /64, and for how many seconds.
    Add(String, u64),
    /// `None`: all of them.
    Lift(Option<String>),
}

/// The app's users, by id or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accounts {
    List {
        after: String,
        limit: u32,
    },
    Show(String),
    /// Exactly these roles.
    Roles(String, Vec<String>),
    Revoke(String),
    Delete(String),
    RemoveFactor(String),
    Import(Vec<Import>),
}

/// Rate limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limits {
    List,
    /// Forgets what is counted of a client.
    Reset(String),
}

/// The tokens of operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenAsked {
    List,
    /// `None`: until it is revoked.
    Create {
        name: String,
        scopes: Vec<Scope>,
        seconds: Option<u64>,
    },
    Revoke(String),
}

/// The console of operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleAsked {
    /// A link that lets a browser in, once.
    Link,
    /// Nobody is let in any more.
    End,
}

/// What of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalAsked {
    pub since_us: u64,
    /// Empty: every kind.
    pub kinds: Vec<String>,
    /// `operations` or `audit`.
    pub class: Option<String>,
    pub limit: u32,
}

/// The response cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    Status,
    /// A path with or without host and query, or all that begins like it.
    Path(String),
    Tag(String),
    All,
}

/// Queues, jobs and schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobsAsked {
    Queues,
    List(JobsListed),
    /// One, with what it was given if that is asked for.
    Show {
        id: String,
        payload: bool,
    },
    /// Those that a request added, by its trace id.
    Traced {
        trace_id: String,
        limit: usize,
    },
    Add(Box<JobAdded>),
    Retry(String),
    Remove(String),
    Promote(String),
    Pause(String),
    Resume(String),
    Drain {
        queue: String,
        delayed: bool,
    },
    Clean {
        queue: String,
        state: String,
        older_ms: u64,
    },
    /// `None`: what failed and what is dead.
    Redrive {
        queue: String,
        state: Option<String>,
    },
    /// What was added in SQL and cannot be taken over.
    Refused,
    /// `None`: all of it.
    DropRefused(Option<u64>),
    Schedules,
    Schedule(Box<ScheduleSet>),
    Unschedule(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsListed {
    pub queue: String,
    /// `None`: all of them, those that run first.
    pub state: Option<String>,
    pub skip: usize,
    pub limit: usize,
}

/// What a job is, whoever adds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobAsked {
    pub name: String,
    /// JSON, as it was written.
    pub payload: String,
    pub priority: u32,
    pub attempts: Option<u32>,
    pub group: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobAdded {
    pub queue: String,
    pub job: JobAsked,
    pub delay_ms: u64,
    pub key: Option<String>,
    /// An array of jobs as the HTTP API takes it; empty: none.
    pub children: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSet {
    pub name: String,
    pub queue: String,
    pub rule: RuleAsked,
    /// `none`, `one` or `all`.
    pub catch_up: String,
    pub job: JobAsked,
}

/// When a schedule ticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAsked {
    Cron { pattern: String, zone: String },
    EveryMs(u64),
}

/// The certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertificatesAsked {
    pub action: CertificatesAction,
    pub host: Option<String>,
    /// Of a renewal: order from the authority's staging and throw the result away.
    pub dry_run: bool,
    /// Of a renewal: with the spare key, or a new one.
    pub new_key: bool,
    /// Of a revocation.
    pub reason: mainstay_edge::acme::Reason,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificatesAction {
    #[default]
    List,
    Renew,
    Revoke,
    Check,
}

/// One line of an answer; the last one is `Done` or `Refused`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Progress, for a person.
    Say(String),
    Done(Value),
    Refused(Refused),
}

/// Why it was not done. Nothing changed, unless the lines before say so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Exit code of the verb that asked.
    pub exit: u8,
    pub message: String,
}

impl Refused {
    pub fn new(message: impl Into<String>) -> Refused {
        Refused { exit: crate::exit::NO, message: message.into() }
    }

    pub fn configuration(message: impl Into<String>) -> Refused {
        Refused { exit: 78, message: message.into() }
    }
}

impl Command {
    pub fn path(&self) -> &'static str {
        match self {
            Command::Status(_) => "/status",
            Command::Health(_) => "/health",
            Command::Why(_) => "/why",
            Command::Restart(_) => "/restart",
            Command::Reload(_) => "/reload",
            Command::Certificates(_) => "/certificates",
            Command::Upgrade(_) => "/upgrade",
            Command::Stop(_) => "/stop",
            Command::Bans(_) => "/bans",
            Command::Accounts(_) => "/accounts",
            Command::Token(_) => "/token",
            Command::Console(_) => "/console",
            Command::Limits(_) => "/limits",
            Command::Cache(_) => "/cache",
            Command::Journal(_) => "/journal",
            Command::Jobs(_) => "/jobs",
        }
    }

    pub fn body(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Command::Status(c) => serde_json::to_vec(c),
            Command::Health(c) => serde_json::to_vec(c),
            Command::Why(c) => serde_json::to_vec(c),
            Command::Restart(c) => serde_json::to_vec(c),
            Command::Reload(c) => serde_json::to_vec(c),
            Command::Certificates(c) => serde_json::to_vec(c),
            Command::Upgrade(c) => serde_json::to_vec(c),
            Command::Stop(c) => serde_json::to_vec(c),
            Command::Bans(c) => serde_json::to_vec(c),
            Command::Accounts(c) => serde_json::to_vec(c),
            Command::Token(c) => serde_json::to_vec(c),
            Command::Console(c) => serde_json::to_vec(c),
            Command::Limits(c) => serde_json::to_vec(c),
            Command::Cache(c) => serde_json::to_vec(c),
            Command::Journal(c) => serde_json::to_vec(c),
            Command::Jobs(c) => serde_json::to_vec(c),
        }
    }

    /// `None`: there is no such command.
    pub fn parse(path: &str, body: &[u8]) -> Option<serde_json::Result<Command>> {
        let body = if body.is_empty() { b"{}" } else { body };
        Some(match path {
            "/status" => serde_json::from_slice(body).map(Command::Status),
            "/health" => serde_json::from_slice(body).map(Command::Health),
            "/why" => serde_json::from_slice(body).map(Command::Why),
            "/restart" => serde_json::from_slice(body).map(Command::Restart),
            "/reload" => serde_json::from_slice(body).map(Command::Reload),
            "/certificates" => serde_json::from_slice(body).map(Command::Certificates),
            "/upgrade" => serde_json::from_slice(body).map(Command::Upgrade),
            "/stop" => serde_json::from_slice(body).map(Command::Stop),
            "/bans" => serde_json::from_slice(body).map(Command::Bans),
            "/accounts" => serde_json::from_slice(body).map(Command::Accounts),
            "/token" => serde_json::from_slice(body).map(Command::Token),
            "/console" => serde_json::from_slice(body).map(Command::Console),
            "/limits" => serde_json::from_slice(body).map(Command::Limits),
            "/cache" => serde_json::from_slice(body).map(Command::Cache),
            "/journal" => serde_json::from_slice(body).map(Command::Journal),
            "/jobs" => serde_json::from_slice(body).map(Command::Jobs),
            _ => return None,
        })
    }

    /// Commands that change nothing may be asked with GET.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Command::Status(_)
                | Command::Health(_)
                | Command::Why(_)
                | Command::Bans(Bans::List)
                | Command::Accounts(Accounts::List { .. } | Accounts::Show(_))
                | Command::Limits(Limits::List)
                | Command::Token(TokenAsked::List)
                | Command::Cache(Cache::Status)
                | Command::Journal(_)
                | Command::Jobs(
                    JobsAsked::Queues
                        | JobsAsked::List(_)
                        | JobsAsked::Show { .. }
                        | JobsAsked::Traced { .. }
                        | JobsAsked::Refused
                        | JobsAsked::Schedules
                )
        )
    }

    pub fn limit(&self) -> Option<Duration> {
        self.only_looks().then_some(LOOK_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_comes_back_as_it_was_sent() {
        let commands = [
            Command::Status(Status {}),
            Command::Health(Health { verbose: true }),
            Command::Why(Why { id: "7f3a".to_owned() }),
            Command::Restart(Restart { app: Some("api".to_owned()), instance: Some(2) }),
            Command::Reload(Reload {}),
            Command::Certificates(CertificatesAsked { host: Some("a.b".to_owned()), ..Default::default() }),
            Command::Upgrade(Upgrade { binary: Some("/opt/mainstay".into()) }),
            Command::Stop(Stop {}),
            Command::Accounts(Accounts::Roles("u_1".to_owned(), vec!["admin".to_owned()])),
            Command::Accounts(Accounts::Import(vec![Import { email: "a@b".to_owned(), ..Import::default() }])),
            Command::Token(TokenAsked::Create { name: "a".to_owned(), scopes: vec![Scope::Health], seconds: Some(9) }),
            Command::Token(TokenAsked::Revoke("a".to_owned())),
            Command::Console(ConsoleAsked::Link),
            Command::Bans(Bans::List),
            Command::Bans(Bans::Add("192.0.2.7".to_owned(), 60)),
            Command::Bans(Bans::Lift(None)),
            Command::Limits(Limits::List),
            Command::Limits(Limits::Reset("192.0.2.7".to_owned())),
            Command::Cache(Cache::Status),
            Command::Cache(Cache::Path("/a/*".to_owned())),
            Command::Journal(JournalAsked { since_us: 1, kinds: vec!["ban".to_owned()], ..Default::default() }),
            Command::Jobs(JobsAsked::Queues),
            Command::Jobs(JobsAsked::Show { id: "7".to_owned(), payload: true }),
            Command::Jobs(JobsAsked::Add(Box::new(JobAdded { queue: "scan".to_owned(), ..Default::default() }))),
            Command::Jobs(JobsAsked::Redrive { queue: "scan".to_owned(), state: None }),
            Command::Jobs(JobsAsked::Schedule(Box::new(ScheduleSet {
                name: "nightly".to_owned(),
                queue: "scan".to_owned(),
                rule: RuleAsked::EveryMs(60_000),
                catch_up: "one".to_owned(),
                job: JobAsked::default(),
            }))),
        ];
        for command in commands {
            let body = command.body().expect("json");
            let back = Command::parse(command.path(), &body).expect("known").expect("valid");
            assert_eq!(back, command);
        }
        assert!(Command::parse("/restart", br#"{"aap":"api"}"#).expect("known").is_err());
        assert!(Command::parse("/nothing", b"").is_none());
    }

    #[test]
    fn lines_are_flat_json() {
        let line = Line::Refused(Refused::configuration("2 faults"));
        let text = serde_json::to_string(&line).expect("json");
        assert_eq!(text, r#"{"refused":{"exit":78,"message":"2 faults"}}"#);
    }
}
