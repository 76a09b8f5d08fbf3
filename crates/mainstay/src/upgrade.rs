//! Upgrade in place, as the two servers see it: the old one asks, lets go and finishes; the new one proves itself and
//! takes over.
//!
//! Must never touch what has one owner (the children's pipes, the control socket, stores) while the other server may.

use crate::control::answer::{UpgradeAnswer, ago};
use crate::control::{Open, Refused, Say, Upgrade};
use crate::output::{Begun, Outputs};
use crate::server::Server;
use crate::voice::Voice;
use anyhow::{Context, bail};
use mainstay_identity::operators::Logins;
use mainstay_runtime::Clock;
use mainstay_supervisor::protocol::{Handover, ToSupervisor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Until the new server has seen the apps that serve; a little less than the supervisor gives it.
const PROVING_LIMIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is being pushed while another server takes over; its successor waits for the jobs meanwhile.
const PUSHES_LIMIT: Duration = Duration::from_millis(500);
/// What was said so far is in the files before the next server writes.
const SYNC_LIMIT: Duration = Duration::from_millis(500);
/// For the last line of an answer to reach who asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Socket.IO sessions handed over, the latest: 40 bytes each, and a message has its bound.
const SESSIONS_MAX: usize = 100_000;

/// Where an upgrade is. Lives on the control thread.
#[derive(Debug)]
pub struct Progress(watch::Sender<Seen>);

#[derive(Debug, Clone, Default)]
struct Seen {
    stage: Stage,
    /// The last one came to nothing.
    failed: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Calm,
    /// The new server is being started.
    Starting,
    /// It has taken over; this one finishes.
    Retired { pid: i32, version: String },
    /// This one has finished; so many connections were cut.
    Finished { pid: i32, version: String, cut: usize },
    /// This one takes over; the one before finishes.
    TakingOver { from: i32, since_us: u64 },
    /// The supervisor is not the one of this file.
    HalfDone(String),
}

impl Progress {
    pub fn new(handover: Option<&Handover>) -> Progress {
        let stage = match handover {
            Some(handover) => Stage::TakingOver { from: handover.from, since_us: Clock::unix_micros() },
            None => Stage::Calm,
        };
        Progress(watch::Sender::new(Seen { stage, failed: None }))
    }

    fn set(&self, stage: Stage) {
        self.0.send_modify(|seen| seen.stage = stage);
    }

    /// A change that would meet two servers: refused, with what it leaves as it is.
    pub fn refuse(&self, unchanged: &str) -> Result<(), Refused> {
        match self.answer().filter(|answer| answer.under_way) {
            None => Ok(()),
            Some(answer) => {
                Err(Refused::new(format!("{unchanged}: an upgrade is under way: {}; try again then", answer.text)))
            }
        }
    }

    /// For `status`.
    pub fn answer(&self) -> Option<UpgradeAnswer> {
        let (under_way, text) = match &self.0.borrow().stage {
            Stage::Calm => return None,
            Stage::Starting => (true, "the new server is being started; nothing has changed yet".to_owned()),
            Stage::Retired { pid, .. } | Stage::Finished { pid, .. } => {
                (true, format!("the new server (pid {pid}) serves; this one finishes what it began"))
            }
            Stage::TakingOver { from, since_us } => {
                let seconds = Clock::unix_micros().saturating_sub(*since_us) / 1_000_000;
                (true, format!("this server has taken over {} ago; pid {from} finishes what it began", ago(seconds)))
            }
            Stage::HalfDone(problem) => (false, problem.clone()),
        };
        Some(UpgradeAnswer { under_way, text })
    }

    /// Whom this server has taken over from, while that one finishes.
    pub fn taken_from(&self) -> Option<i32> {
        match self.0.borrow().stage {
            Stage::TakingOver { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The supervisor says that it came to nothing.
    pub fn failed(&self, why: String) {
        self.0.send_modify(|seen| {
            seen.failed = Some(why);
            if seen.stage == Stage::Starting {
                seen.stage = Stage::Calm;
            }
        });
    }

    pub fn retired(&self, pid: i32, version: String) {
        self.set(Stage::Retired { pid, version });
    }

    fn finished(&self, cut: usize) {
        self.0.send_modify(|seen| {
            if let Stage::Retired { pid, version } = &seen.stage {
                seen.stage = Stage::Finished { pid: *pid, version: version.clone(), cut };
            }
        });
    }

    /// The other server is gone, and the supervisor is of this file, or why not.
    pub fn over(&self, problem: Option<String>) {
        self.set(problem.map_or(Stage::Calm, Stage::HalfDone));
    }
}

/// The verb, and SIGUSR2: in the server that is to be replaced.
pub async fn run(server: &Server, asked: &Upgrade, say: &Say) -> Result<Value, Refused> {
    let mut seen = begin(server)?;
    let serving = server.fleet.serving();
    server.link.send(&ToSupervisor::Upgrade { binary: asked.binary.clone(), serving });
    let file = asked.binary.as_ref().map_or("the file on disk".to_owned(), |file| file.display().to_string());
    say.line(format!("starting a server of {file}; nothing changes until it is ready")).await;
    let mut told = false;
    loop {
        let gone = seen.changed().await.is_err();
        let Seen { stage, failed } = seen.borrow_and_update().clone();
        if let Some(why) = failed {
            return Err(Refused::new(why));
        }
        match stage {
            Stage::Retired { pid, version } if !told => {
                told = true;
                let limit = ago(server.edge.options().timeouts.drain.as_secs());
                let rest = match server.edge.connections() {
                    0 => "the old server has nothing left to finish".to_owned(),
                    1 => format!("the old server finishes 1 connection, for {limit} at most"),
                    open => format!("the old server finishes {open} connections, for {limit} at most"),
                };
                say.line(format!("mainstay {version} (pid {pid}) serves; {rest}")).await;
            }
            Stage::Finished { pid, version, cut } => {
                if cut > 0 {
                    say.line(format!("{cut} connections were cut when the drain limit had passed")).await;
                }
                return Ok(json!({ "server": pid, "version": version, "cut": cut }));
            }
            _ if gone => return Err(Refused::new("the server is ending")),
            _ => {}
        }
    }
}

/// One at a time, and not while something else changes.
fn begin(server: &Server) -> Result<watch::Receiver<Seen>, Refused> {
    server.upgrade.refuse("not upgraded")?;
    if server.reloading.try_lock().is_err() {
        return Err(Refused::new("not upgraded: a reload is under way; try again when it is over"));
    }
    if server.fleet.is_changing() {
        return Err(Refused::new("not upgraded: instances are being replaced; see: mainstay status"));
    }
    server.upgrade.0.send_modify(|seen| *seen = Seen { stage: Stage::Starting, failed: None });
    let mut seen = server.upgrade.0.subscribe();
    seen.mark_unchanged();
    Ok(seen)
}

/// What one server tells the next; the supervisor hands it on unread.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    #[serde(default)]
    begun: Vec<Begun>,
    #[serde(default)]
    sessions: Vec<(u64, SocketAddr)>,
    /// Operators at a browser.
    #[serde(default)]
    console: Option<Logins>,
}

/// What a retiring server lets go of.
pub struct Owned {
    pub control: Vec<AbortHandle>,
    pub answering: Open,
    pub outputs: Outputs,
}

/// Lets go of what has one owner, then finishes what was begun: until all is done, or the limit, or a stop.
pub async fn retire(server: &Server, owned: Owned, voice: &Voice) {
    // For good: no reload and no new certificate from here on.
    let _held = server.reloading.lock().await;
    server.edge.stop_accepting();
    // Its successor opens the store once it is told that it may.
    server.queues.settle(PUSHES_LIMIT).await;
    tokio::join!(server.queues.close(), server.book.close());
    owned.control.iter().for_each(AbortHandle::abort);
    server.fleet.retire();
    server.certificates.release().await;
    let begun = owned.outputs.release();
    let mut sessions = server.edge.known_sessions();
    sessions.drain(..sessions.len().saturating_sub(SESSIONS_MAX));
    server.telemetry.sync(SYNC_LIMIT);
    let console = server.console.release().await;
    let memory = serde_json::to_string(&Memory { begun, sessions, console }).unwrap_or_default();
    server.link.send(&ToSupervisor::Released { memory });
    let limit = server.edge.options().timeouts.drain;
    let left = tokio::select! {
        left = server.edge.retire(limit) => left,
        () = server.stop.notified() => server.edge.drain(limit).await,
    };
    if left > 0 {
        voice.warn(&format!("{left} connections were cut when the drain limit of {limit:?} had passed"));
    }
    server.upgrade.finished(left);
    let answered = async {
        while owned.answering.get() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(ANSWER_LIMIT, answered).await;
}

/// The new server must see what the old one saw: each app that serves, served by an instance, and every schema.
pub async fn prove(server: &Server, handover: &Handover) -> anyhow::Result<()> {
    server.edge.take_up_schemas().context("a schema file that is in force cannot be read any more")?;
    let missing = || {
        let serving = server.fleet.serving();
        handover.serving.iter().find(|name| !serving.contains(name)).cloned()
    };
    let began = tokio::time::Instant::now();
    while let Some(app) = missing() {
        if began.elapsed() >= PROVING_LIMIT {
            bail!("the app {app} serves, but no instance of it was ready for the new server within {PROVING_LIMIT:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The old server has let go: what it remembered, and the standard error that was kept from us while we were on trial.
pub fn take_over(server: &Server, outputs: &Outputs, memory: &str, stderr: Option<OwnedFd>) -> anyhow::Result<()> {
    if let Some(stderr) = stderr {
        nix::unistd::dup2_stderr(stderr).context("cannot take over standard error")?;
    }
    remember(server, outputs, memory);
    server.certificates.take_over();
    Ok(())
}

/// What is not understood is done without: beginnings of lines, and where sessions are.
pub fn remember(server: &Server, outputs: &Outputs, memory: &str) {
    let Memory { begun, sessions, console } = serde_json::from_str(memory).unwrap_or_default();
    outputs.begin(begun);
    server.edge.adopt_sessions(&sessions);
    if let Some(logins) = console {
        server.console.remember(logins);
    }
}
