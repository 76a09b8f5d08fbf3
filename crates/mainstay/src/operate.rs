//! The commands of the control API, each one line into the blocks.

use crate::control::answer::{DroppedAnswer, HealthAnswer, StatusAnswer, UpstreamAnswer};
use crate::control::{Command, Handler, Health, JobsAsked, Refused, Restart, Say};
use crate::server::Server;
use crate::{accounts, bans, cache, certificates, console, journal, limits, operators, upgrade};
use mainstay_runtime::Clock;
use mainstay_store::journal::Event;
use mainstay_telemetry::trail::Found;
use mainstay_watch::{Document, documents};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// The telemetry thread makes its rounds every 25 ms.
const SYNC_LIMIT: Duration = Duration::from_millis(250);

/// Whoever may use the control socket; the journal knows no names.
pub const OPERATOR: &str = "operator";

pub fn handler(server: Rc<Server>) -> Handler {
    Rc::new(move |command, say| {
        let server = server.clone();
        Box::pin(async move { run(&server, command, say).await })
    })
}

async fn run(server: &Rc<Server>, command: Command, say: Say) -> Result<Value, Refused> {
    match command {
        Command::Status(_) => value(&status(server)),
        Command::Health(asked) => value(&health(server, &asked).await),
        Command::Why(asked) => why(server, &asked.id),
        Command::Restart(asked) => restart(server, &asked, &say).await,
        Command::Reload(_) => journal::reload(server, &say, Some(OPERATOR)).await,
        Command::Certificates(asked) => certificates::command(server, asked, &say).await,
        Command::Upgrade(asked) => upgrade::run(server, &asked, &say).await,
        Command::Stop(_) => stop(&say).await,
        Command::Accounts(asked) => accounts::run(server, asked).await,
        Command::Token(asked) => operators::run(server, asked).await,
        Command::Console(asked) => console::run(server, asked).await,
        Command::Bans(asked) => bans::run(server, &asked),
        Command::Limits(asked) => limits::run(server, &asked).await,
        Command::Cache(asked) => cache::run(server, &asked),
        Command::Journal(asked) => journal::read(server, &asked).await,
        Command::Jobs(asked) => jobs(server, asked).await,
    }
}

fn value(answer: &impl Serialize) -> Result<Value, Refused> {
    serde_json::to_value(answer).map_err(|e| Refused::new(format!("the answer is not JSON: {e}")))
}

pub fn status(server: &Server) -> StatusAnswer {
    let state = server.state();
    let current = server.current.borrow();
    let apps = server.fleet.status();
    let dropped = server.telemetry.dropped();
    StatusAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: current.environment.clone(),
        environment_why: current.environment_why.clone(),
        data: server.facts.data.display().to_string(),
        file: current.inputs.file.as_ref().map(|file| file.path.display().to_string()),
        pid: std::os::unix::process::parent_id(),
        server_pid: std::process::id(),
        uptime_s: state.uptime_us() / 1_000_000,
        upgrade: server.upgrade.answer(),
        server_crashes: server.facts.crashes,
        listening: server.edge.addresses().iter().map(ToString::to_string).collect(),
        connections: server.edge.connections(),
        elsewhere: elsewhere(server, |app| apps.iter().any(|known| known.name == app)),
        apps,
        dropped: DroppedAnswer { records: dropped.records, lines: dropped.lines, console_lines: dropped.console_lines },
    }
}

fn elsewhere(server: &Server, supervised: impl Fn(&str) -> bool) -> Vec<UpstreamAnswer> {
    let now = Clock::now().0;
    let mut answers = Vec::new();
    for group in server.edge.members().groups().iter().filter(|group| !supervised(&group.name)) {
        for upstream in &group.list().upstreams {
            let (requests, failures) = upstream.totals();
            answers.push(UpstreamAnswer {
                app: group.name.clone(),
                address: upstream.address.to_string(),
                weight: upstream.weight(),
                draining: upstream.is_draining(),
                available: !upstream.is_draining() && !upstream.is_probe_failed() && !upstream.is_ejected(now),
                in_flight: upstream.in_flight(),
                tunnels: upstream.tunnels(),
                requests,
                failures,
            });
        }
    }
    answers
}

/// What an operator changed stands in the journal.
async fn jobs(server: &Server, asked: JobsAsked) -> Result<Value, Refused> {
    let answer = crate::jobs::run(server.queues.jobs().as_ref(), asked.clone()).await?;
    if let Some((action, detail)) = crate::jobs::deed(&asked, &answer) {
        server.book.did(action, detail);
    }
    Ok(answer)
}

/// Asks every service now, so that the last step of a deploy sees this moment and not ten seconds ago.
async fn health(server: &Server, asked: &Health) -> HealthAnswer {
    server.watch.check().await;
    let state = server.state();
    let (lines, exit) = mainstay_watch::cli::lines(&state, asked.verbose);
    let document = documents::answer(Document::Detailed, &state).map_or(Value::Null, |answer| answer.body);
    HealthAnswer { exit: u8::from(exit != 0), lines, document }
}

/// By way of the supervisor, so that a server that dies while it drains is not replaced, and Ctrl-C cuts it short.
async fn stop(say: &Say) -> Result<Value, Refused> {
    say.line("draining: no new connections; requests finish, then the apps are stopped").await;
    let supervisor = Pid::parent();
    kill(supervisor, Signal::SIGTERM)
        .map_err(|errno| Refused::new(format!("cannot signal the supervisor: {errno}")))?;
    Ok(json!({ "pid": supervisor.as_raw() }))
}

/// One instance after another; what the fleet says meanwhile goes to whoever asked.
async fn restart(server: &Server, asked: &Restart, say: &Say) -> Result<Value, Refused> {
    server.upgrade.refuse("no instance was restarted")?;
    let _hearing = server.hearers.add(say);
    let replaced = server
        .fleet
        .restart(asked.app.as_deref(), asked.instance)
        .await
        .map_err(|error| Refused::new(error.to_string()))?;
    let event = Event::Restarted { app: asked.app.clone(), instance: asked.instance };
    server.book.notes.note(event, Some(OPERATOR.to_owned()));
    let instances = if replaced == 1 { "instance" } else { "instances" };
    say.line(format!("restarted {replaced} {instances}")).await;
    Ok(json!({ "replaced": replaced }))
}

/// From memory; what is older lies in the files, which the verb reads itself.
fn why(server: &Server, id: &str) -> Result<Value, Refused> {
    // The record of a request that ended this instant is still on its way.
    server.telemetry.sync(SYNC_LIMIT);
    match server.telemetry.find(id) {
        Found::One(entry) => Ok(json!({ "text": entry.render(), "trail": entry.to_json() })),
        Found::Several(ids) => Err(Refused::new(ambiguous(&ids))),
        Found::None => Ok(Value::Null),
    }
}

pub fn ambiguous(ids: &[String]) -> String {
    format!("several requests end like this; give more of the id:\n  {}", ids.join("\n  "))
}
