//! The server, put together. Read this first: every part is made here, and is handed what it needs.
//!
//! Order of the end: stop accepting, drain requests, stop the instances, write out what there is to tell. A server
//! that another one replaces leaves the instances alone: `upgrade`.

use crate::bans;
use crate::certificates;
use crate::console::{self, Console};
use crate::control;
use crate::journal;
use crate::keys;
use crate::limits;
use crate::link::{self, Incoming, Link};
use crate::local;
use crate::mailing;
use crate::operate;
use crate::operators;
use crate::output::Outputs;
use crate::pages::Pages;
use crate::providers;
use crate::queues::{Keeper, Queues};
use crate::server::{Current, Facts, Server};
use crate::services;
use crate::settings::{self, Settings};
use crate::stores;
use crate::told::Told;
use crate::upgrade::{self, Owned, Progress};
use crate::voice::Voice;
use anyhow::{Context, bail};
use mainstay_config::{Inputs, Report};
use mainstay_edge as edge;
use mainstay_fleet as fleet;
use mainstay_identity::accounts::{MAILS_MAX, Mail};
use mainstay_identity::oauth::Flow;
use mainstay_identity::operators::Operators;
use mainstay_identity::sessions::{Sessions, Upkeep};
use mainstay_identity::{Revoked, Signer};
use mainstay_runtime::{OnEnd, Shutdown, Tasks};
use mainstay_store::journal::Event;
use mainstay_supervisor::Channel;
use mainstay_supervisor::protocol::{Hello, Instance, Listener, ToServer, ToSupervisor};
use mainstay_watch as watch;
use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the fleet has not looked at yet; past it the link waits.
const FLEET_EVENTS_MAX: usize = 256;

/// What the supervisor handed over, by what it is.
#[derive(Default)]
struct Handed {
    edge: Vec<(SocketAddr, TcpListener)>,
    /// Where apps ask, if there is something to ask for.
    api: Option<TcpListener>,
    /// Where tools of Redis read queues.
    resp: Option<TcpListener>,
    /// Where operators come by a browser, once one has asked for it.
    console: Option<TcpListener>,
    control: Vec<UnixListener>,
    instances: Vec<(Instance, Option<(OwnedFd, OwnedFd)>)>,
}

/// What a server starts from: read, checked, and nothing running yet.
struct Start {
    hello: Hello,
    inputs: Inputs,
    settings: Settings,
    report: Report,
    handed: Handed,
    link: Link,
    incoming: mpsc::Receiver<Incoming>,
}

/// Runs until drained; gives the exit code.
pub fn run(hello: Hello, descriptors: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<i32> {
    let inputs = Inputs::from_json(&hello.inputs).context("the supervisor's configuration cannot be read")?;
    let (settings, report) = settings::read(&inputs);
    if !report.faults.is_empty() {
        eprintln!("{}", report.render(false).trim_end());
        return Ok(78);
    }
    let handed = sort(&hello, descriptors)?;
    let (link, incoming) = link::start(channel, &hello)?;
    let (runtime, local) = mainstay_runtime::current_thread()?;
    local.block_on(&runtime, serve(Start { hello, inputs, settings, report, handed, link, incoming }))
}

/// Descriptors come in the order of the greeting: one a listener, then stdout and stderr of each instance.
fn sort(hello: &Hello, descriptors: Vec<OwnedFd>) -> anyhow::Result<Handed> {
    let mut descriptors = descriptors.into_iter();
    let mut handed = Handed::default();
    for listener in &hello.listeners {
        let Some(fd) = descriptors.next() else { bail!("the supervisor named more listeners than it handed over") };
        match listener {
            Listener::Tcp(address) => handed.edge.push((*address, TcpListener::from(fd))),
            Listener::Api(_) => handed.api = Some(TcpListener::from(fd)),
            Listener::Resp(_) => handed.resp = Some(TcpListener::from(fd)),
            Listener::Console(_) => handed.console = Some(TcpListener::from(fd)),
            Listener::Control(_) => handed.control.push(UnixListener::from(fd)),
        }
    }
    for instance in &hello.instances {
        let pipes = descriptors.next().zip(descriptors.next());
        handed.instances.push((instance.clone(), pipes));
    }
    Ok(handed)
}

async fn serve(start: Start) -> anyhow::Result<i32> {
    let Start { hello, inputs, mut settings, report, handed, link, incoming } = start;
    let (mut tasks, (stop_watching, watching)) = (Tasks::default(), Shutdown::new());
    let told = Told::start(&settings, &hello.data, hello.handover.is_some())?;
    let voice = Voice::new(told.handle.clone(), told.level.clone(), told.text);
    voice.hush(hello.handover.is_some());
    let members = edge::Members::new(told.names.clone());
    let ((asks, asked), (calls, called)) = (edge::local::channel(), edge::service_call::channel());
    let login = Login::new(&settings, &hello)?;
    let listening = (handed.edge, members.clone());
    let (edge_service, edge) = edge_of(&settings, &hello, &told, listening, (asks, calls), &login)?;
    let (keeping, certificates) = edge::acme::Service::new(keeping(&settings, &edge, &hello));
    let (watch_service, watch) = watch::Service::new(settings.watch.clone());
    let (book, opening) = journal::Book::new(&settings.store, hello.data.clone());
    let (mail, mails) = mpsc::channel(MAILS_MAX);
    let (queues, keeper) = Queues::new(&mut settings, &hello, (handed.api, handed.resp))?;
    let keeper = keeper.map(|keeper| (keeper, edge.clone()));
    let parts = login.parts(&settings, &book, called, mail, (queues.pages(book.notes.clone()), keeper));
    let (services, services_end) = services::start(parts)?;
    let outputs = Outputs::new(told.handle.clone(), hello.handover.is_some() || hello.memory.is_some());
    let (fleet_service, fleet) =
        fleet::Service::new(settings.fleet.clone(), outside(members, &link, &voice, outputs.clone()));

    let server = Rc::new(Server {
        console: Console::new(queues.pages(book.notes.clone()), handed.console),
        edge,
        certificates,
        fleet,
        telemetry: told.handle.clone(),
        metrics: told.metrics.clone(),
        level: told.level.clone(),
        watch,
        book,
        services,
        queues,
        operators: Operators::default(),
        link,
        hearers: voice.hearers(),
        facts: Facts::new(&hello)?,
        current: Current::new(inputs, &settings, report.settings.clone()).into(),
        reloading: tokio::sync::Mutex::new(()),
        stop: tokio::sync::Notify::new(),
        upgrade: Progress::new(hello.handover.as_ref()),
    });

    let (fleet_events, events) = mpsc::channel(FLEET_EVENTS_MAX);
    if hello.handover.is_some() {
        fleet_service.share();
    }
    fleet_service.adopt(handed.instances);
    let turns = Rc::new(Turns::default());
    tasks.spawn("fleet", OnEnd::Ignore, fleet_service.run(events));
    tasks.spawn("probes of services", OnEnd::Ignore, watch_service.run(watching.clone()));
    tasks.spawn("certificates", OnEnd::Ignore, keeping.run(watching.clone()));
    tasks.spawn("mails of accounts", OnEnd::Ignore, mailing::delivered(mails, server.clone()));
    tasks.spawn("services", OnEnd::Stop, async { drop(services_end.await) });
    tasks.spawn("documents", OnEnd::Stop, local::serve(asked, server.clone()));
    let link = hear(incoming, fleet_events, server.clone(), voice.clone(), turns.clone());
    tasks.spawn("supervisor messages", OnEnd::Stop, link);
    look_after(&mut tasks, &server, &hello, &voice, &watching);
    ready(&hello, &server, edge_service, &outputs, &turns).await?;
    stores::open(&tasks, &server, (opening, hello.crashes > 0), &voice, watching);
    let owned = operated(&tasks, handed.control, &server, outputs)?;
    greet(&hello, &server, &settings, &report, &voice);
    serve_until_the_end(&mut tasks, &server, owned, &turns, &voice).await?;
    stop_watching.request();
    told.finish();
    server.link.drained(0);
    Ok(0)
}

/// What both the edge and the service of logins go by.
struct Login {
    sessions: Arc<Sessions>,
    upkeep: Upkeep,
    signer: Arc<Signer>,
    revoked: Arc<Revoked>,
    oauth: Flow,
}

impl Login {
    fn new(settings: &Settings, hello: &Hello) -> anyhow::Result<Login> {
        let options = &settings.edge.identity;
        let (sessions, upkeep) = Sessions::new(options.sessions.clone());
        let oauth = providers::flow(&options.oauth, &hello.data).context("the key of logins by a provider")?;
        Ok(Login { sessions, upkeep, signer: Arc::new(Signer::of(&hello.data)), revoked: Arc::default(), oauth })
    }

    fn parts(
        self,
        settings: &Settings,
        book: &journal::Book,
        calls: edge::service_call::Receiver,
        mail: mpsc::Sender<Mail>,
        (pages, queues): (Pages, Option<(Keeper, edge::Handle)>),
    ) -> services::Parts {
        services::Parts {
            calls,
            sessions: self.sessions,
            upkeep: self.upkeep,
            options: settings.edge.identity.clone().into(),
            store: book.store.subscribe(),
            redis: stores::shared(&settings.store).cloned(),
            notes: book.notes.clone(),
            signer: self.signer,
            revoked: self.revoked,
            oauth: self.oauth,
            mail,
            shows_mail: mailing::has_screen(settings),
            pages,
            queues,
        }
    }
}

type Listeners = Vec<(SocketAddr, TcpListener)>;

fn edge_of(
    settings: &Settings,
    hello: &Hello,
    told: &Told,
    (listeners, members): (Listeners, edge::Members),
    (local, calls): (edge::local::LocalSender, edge::service_call::Sender),
    login: &Login,
) -> anyhow::Result<(edge::Service, edge::Handle)> {
    let listening: Vec<SocketAddr> = listeners.iter().map(|(address, _)| *address).collect();
    let built = edge::Service::build(edge::Parts {
        options: settings.edge_on(&listening),
        names: told.names.clone(),
        members,
        listeners,
        instruments: told.instruments(cores())?,
        local,
        sticky: edge::sticky::Key::load(&hello.data).context("the key of sticky cookies in the data folder")?,
        calls,
        sessions: login.sessions.clone(),
        signer: login.signer.clone(),
        revoked: login.revoked.clone(),
    })?;
    Ok(built)
}

/// What is done beside, for as long as this server watches.
fn look_after(tasks: &mut Tasks, server: &Rc<Server>, hello: &Hello, voice: &Voice, watching: &Shutdown) {
    tasks.spawn("checks of upstreams", OnEnd::Ignore, server.edge.upkeep(watching.clone()));
    tasks.spawn("bans", OnEnd::Ignore, bans::kept(server, &hello.data, watching.clone()));
    tasks.spawn("limits", OnEnd::Ignore, limits::upkeep(server.clone(), voice.clone(), watching.clone()));
    tasks.spawn("limits that others reset", OnEnd::Ignore, limits::hear(server.clone(), watching.clone()));
    tasks.spawn("lookups of crawlers", OnEnd::Ignore, server.edge.crawlers(watching.clone()));
    tasks.spawn("certificate files", OnEnd::Stop, certificates::watch(server.clone(), voice.clone()));
    tasks.spawn("keys of tokens", OnEnd::Ignore, keys::kept(server.clone()));
    tasks.spawn("tokens of operators", OnEnd::Ignore, operators::keep(server.clone(), watching.clone()));
}

fn greet(hello: &Hello, server: &Server, settings: &Settings, report: &Report, voice: &Voice) {
    voice.hush(false);
    match &hello.handover {
        Some(handover) => voice.info(&format!("took over from the server before (pid {})", handover.from)),
        None => voice.opening(server, settings, report),
    }
}

/// Comes back when this server has finished, by a stop or because another one has taken over.
async fn serve_until_the_end(
    tasks: &mut Tasks,
    server: &Server,
    owned: Owned,
    turns: &Turns,
    voice: &Voice,
) -> anyhow::Result<()> {
    let retiring = tokio::select! {
        () = server.stop.notified() => false,
        () = turns.retire.notified() => true,
        end = tasks.unexpected_end() => {
            let how = if end.panicked { "panicked" } else { "ended" };
            bail!("the task {} {how} unexpectedly", end.name)
        }
    };
    match retiring {
        true => upgrade::retire(server, owned, voice).await,
        false => end(server, voice).await,
    }
    Ok(())
}

/// Certificates go from the data folder into the edge's table.
fn keeping(settings: &Settings, edge: &edge::Handle, hello: &Hello) -> edge::acme::Setup {
    let (options, certificates) = (settings.edge.acme.clone(), edge.certificates().clone());
    edge::acme::Setup { options, certificates, data: hello.data.clone(), is_owner: hello.handover.is_none() }
}

/// What the supervisor tells whoever waits for its turn.
#[derive(Default)]
struct Turns {
    retire: tokio::sync::Notify,
    /// What the server before this one remembered, and where errors go from now on.
    take_over: tokio::sync::Notify,
    handed_over: RefCell<Option<(String, Option<OwnedFd>)>>,
}

/// Accepts, and has what has one owner when this comes back. Beside another server only once it sees what that one
/// sees.
async fn ready(
    hello: &Hello,
    server: &Server,
    edge: edge::Service,
    outputs: &Outputs,
    turns: &Turns,
) -> anyhow::Result<()> {
    let Some(handover) = &hello.handover else {
        edge.start()?;
        server.link.send(&ToSupervisor::Ready);
        if let Some(memory) = &hello.memory {
            upgrade::remember(server, outputs, memory);
        }
        return Ok(());
    };
    upgrade::prove(server, handover).await?;
    edge.start()?;
    server.link.send(&ToSupervisor::Ready);
    turns.take_over.notified().await;
    let (memory, stderr) = turns.handed_over.take().unwrap_or_default();
    upgrade::take_over(server, outputs, &memory, stderr)?;
    server.link.send(&ToSupervisor::Taken);
    Ok(())
}

/// Answers operators from now on.
fn operated(
    tasks: &Tasks,
    listeners: Vec<UnixListener>,
    server: &Rc<Server>,
    outputs: Outputs,
) -> anyhow::Result<Owned> {
    let mut owned = Owned { control: Vec::new(), answering: control::Open::default(), outputs };
    for listener in listeners {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let serving = control::serve(listener, operate::handler(server.clone()), owned.answering.clone());
        owned.control.push(tasks.spawn("control socket", OnEnd::Stop, serving));
    }
    console::go_on(server);
    Ok(owned)
}

/// A core's thread for each processor we may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Requests first, then the instances, each with as long as the configuration gives.
async fn end(server: &Server, voice: &Voice) {
    let limit = server.edge.options().timeouts.drain;
    // Given up by both processes: whoever comes now is refused at once instead of waiting in a backlog.
    for address in server.edge.addresses() {
        server.link.send(&ToSupervisor::Unlisten { listener: Listener::Tcp(address) });
    }
    server.edge.stop_accepting();
    let (left, ()) = tokio::join!(server.edge.drain(limit), server.queues.settle(limit));
    if left > 0 {
        voice.warn(&format!("{left} connections were cut when the drain limit of {limit:?} had passed"));
    }
    // Who stops may still say what became of its jobs.
    let stopped = server.fleet.stop(limit).await;
    server.queues.close().await;
    if let Some(address) = server.queues.access.address() {
        server.link.send(&ToSupervisor::Unlisten { listener: Listener::Api(address) });
    }
    journal::stopped(server).await;
    for label in stopped.killed {
        voice.warn(&format!("{label} had to be killed"));
    }
}

/// What the fleet needs of its surroundings.
fn outside(members: edge::Members, link: &Link, voice: &Voice, outputs: Outputs) -> fleet::Outside {
    let (link, sayer, read) = (link.clone(), voice.clone(), outputs.clone());
    fleet::Outside {
        members,
        link: Box::new(move |message| link.send(&message)),
        say: Box::new(move |event| sayer.event(&event)),
        output: Box::new(move |output| outputs.listen(output)),
        tail: Box::new(move |app, number| read.tail(app, number)),
    }
}

/// Hands each message of the supervisor to whom it concerns.
async fn hear(
    mut incoming: mpsc::Receiver<Incoming>,
    fleet: mpsc::Sender<fleet::FromSupervisor>,
    server: Rc<Server>,
    voice: Voice,
    turns: Rc<Turns>,
) {
    while let Some((message, descriptors)) = incoming.recv().await {
        match message {
            ToServer::Listening { ticket, .. } => {
                let fd = descriptors.into_iter().next();
                server.link.answered(ticket, fd.ok_or_else(|| "the supervisor sent no socket".to_owned()));
            }
            ToServer::ListenFailed { ticket, error } => server.link.answered(ticket, Err(error)),
            ToServer::Reload => by_signal(&server, &voice, Signalled::Reload),
            ToServer::Upgrade => by_signal(&server, &voice, Signalled::Upgrade),
            ToServer::UpgradeFailed { why } => {
                server.book.notes.note(Event::UpgradeFailed { why: why.clone() }, None);
                server.upgrade.failed(why);
            }
            ToServer::Retire { pid, version } => {
                server.upgrade.retired(pid, version);
                turns.retire.notify_one();
            }
            ToServer::TakeOver { memory } => {
                turns.handed_over.replace(Some((memory, descriptors.into_iter().next())));
                turns.take_over.notify_one();
            }
            ToServer::Upgraded { problem } => {
                match &problem {
                    None => voice.info("upgraded: the server before this one has ended, the supervisor is replaced"),
                    Some(problem) => voice.error(problem),
                }
                server.upgrade.over(problem);
                server.fleet.alone();
            }
            ToServer::Drain => server.stop.notify_one(),
            ToServer::AreYouAlive => server.link.send(&ToSupervisor::Alive),
            // After the fleet has stopped there is nobody left whom it could concern.
            other => drop(fleet.send((other, descriptors)).await),
        }
    }
}

#[derive(Clone, Copy)]
enum Signalled {
    Reload,
    Upgrade,
}

/// SIGHUP, SIGUSR2: nobody waits for the answer, so it is logged.
fn by_signal(server: &Rc<Server>, voice: &Voice, what: Signalled) {
    let (server, told, voice) = (server.clone(), server.clone(), voice.clone());
    let (say, mut lines) = control::Say::channel();
    let speaker = voice.clone();
    let speaking = async move {
        while let Some(line) = lines.recv().await {
            if let control::Line::Say(text) = line {
                speaker.info(&text);
            }
        }
    };
    let doing = async move {
        match what {
            Signalled::Reload => (journal::reload(&server, &say, None).await, "reloaded"),
            // The rest is the new server's to say.
            Signalled::Upgrade => {
                (upgrade::run(&server, &control::Upgrade::default(), &say).await, "the old server ends")
            }
        }
    };
    tokio::task::spawn_local(async move {
        let ((), (outcome, done)) = tokio::join!(speaking, doing);
        match (&outcome, what) {
            (Ok(_), _) => voice.info(done),
            (Err(refused), Signalled::Reload) => voice.error(&format!("not reloaded: {}", refused.message)),
            (Err(refused), Signalled::Upgrade) => voice.error(&format!("not upgraded: {}", refused.message)),
        }
        if let Signalled::Reload = what {
            let refused = outcome.err().map(|refused| refused.message);
            told.link.send(&ToSupervisor::Reloaded { refused });
        }
    });
}
