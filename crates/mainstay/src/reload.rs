//! Reload: a changed configuration comes into force as one transaction, or nothing changes and it is said why.
//!
//! Order: read everything, check everything, bind what is new, let the fleet start and prove what is new; at its sign
//! swap the edge's tables, then the old is drained; only then is the configuration adopted for the next server.

use crate::certificates;
use crate::changes;
use crate::control::{Refused, Say};
use crate::screen;
use crate::server::{Current, Server};
use crate::settings::{self, Settings};
use mainstay_config::{Inputs, Report};
use mainstay_edge::Prepared;
use mainstay_fleet::{Changes, Swap};
use mainstay_jobs::Truth;
use mainstay_supervisor::protocol::{Listener, ToSupervisor};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

/// What the files and the environment say now.
struct Wanted {
    inputs: Inputs,
    settings: Settings,
    report: Report,
}

pub async fn run(server: &Server, say: &Say) -> Result<Value, Refused> {
    let _one = server.reloading.lock().await;
    server.upgrade.refuse("nothing was changed")?;
    let wanted = read(server)?;
    for warning in &wanted.report.warnings {
        say.line(screen::warn(warning)).await;
    }
    if server.current.borrow().inputs == wanted.inputs {
        // Schemas first: a broken one changes nothing, and the certificates are not touched.
        if wanted.settings.edge.inputs().next().is_some() {
            let again = server
                .edge
                .take_up_schemas()
                .map_err(|error| Refused::configuration(format!("nothing was changed: {}", settings::chain(&error))))?;
            say.line(if again {
                "schema files have changed and are in force"
            } else {
                "schema files are as they were"
            })
            .await;
        }
        if !wanted.settings.edge.tls.is_empty() {
            certificates::read_again(server).map_err(Refused::configuration)?;
            say.line("certificate files were read again").await;
        }
        say.line("nothing changed in the configuration").await;
        return Ok(json!({ "changed": [], "instances": null }));
    }
    let _hearing = server.hearers.add(say);
    let Wanted { inputs, mut settings, report } = wanted;
    server.queues.access.give(&mut settings.fleet);
    let settings = Rc::new(settings);
    let port = Port::bind(server, &settings).await?;
    let instances = match apply(server, &settings).await {
        Ok(instances) => instances,
        Err(refused) => {
            port.take_back(server);
            return Err(refused);
        }
    };
    port.take_up(server);
    server.services.reload(&settings.edge.identity);
    server.queues.reload(&settings);
    server.link.send(&ToSupervisor::Adopt { inputs: inputs.to_json() });
    server.link.send(&settings.stop_limit());
    let now = Current::new(inputs, &settings, report.settings);
    let changed = changes::settings(&server.current.borrow().settings, &now.settings);
    *server.current.borrow_mut() = now;
    for line in &changed {
        say.line(line.clone()).await;
    }
    if changed.is_empty() {
        say.line("no setting has another value").await;
    }
    if settings.jobs.is_on && server.queues.access.address().is_none() {
        say.line("[jobs] begins with the next start   type: mainstay stop, then mainstay run").await;
    }
    if server.queues.are_bullmqs != (settings.jobs.truth != Truth::Own) {
        say.line("[jobs] store is opened by the next start   type: mainstay stop, then mainstay run").await;
    }
    if !server.book.is_on(&settings.store) {
        say.line("[store] durable is opened by a server that starts   type: mainstay upgrade").await;
    }
    say.line(format!("instances: {instances}")).await;
    Ok(json!({ "changed": changed, "instances": instances }))
}

fn read(server: &Server) -> Result<Wanted, Refused> {
    let old = server.current.borrow().inputs.clone();
    let inputs = gather(server, &old).map_err(Refused::configuration)?;
    let (settings, report) = settings::read(&inputs);
    if !report.faults.is_empty() {
        return Err(Refused::configuration(format!("nothing was changed\n{}", report.render(false))));
    }
    Ok(Wanted { inputs, settings, report })
}

/// The same files, flags and command as at the start, as they are now.
fn gather(server: &Server, old: &Inputs) -> Result<Inputs, String> {
    // The demonstration has no files, and must not find any.
    if old.command.as_ref().is_some_and(|command| command.get(1).is_some_and(|word| word == "demo-backend")) {
        return Ok(old.clone());
    }
    let file = old.file.as_ref().map(|file| file.path.as_path());
    let env_file = old.env_file.as_ref().map(|file| file.path.as_path());
    let mut inputs = Inputs::gather(&server.facts.dir, file, env_file, old.flags.clone(), old.command.clone())
        .map_err(|faults| format!("nothing was changed\n{}", faults.render(false)))?;
    // This process's environment is the one of the start, and it was the supervisor's pid that told systemd's hand.
    inputs.environment.clone_from(&old.environment);
    inputs.pid = old.pid;
    Ok(inputs)
}

/// Proves the edge's part and binds what is new, then hands over to the fleet, which calls back for the swap when
/// everything new is ready.
async fn apply(server: &Server, settings: &Rc<Settings>) -> Result<Changes, Refused> {
    let have = server.edge.addresses();
    let edge = settings.edge_on(&have);
    let want: Vec<SocketAddr> = edge.listen.iter().map(|listen| listen.address).collect();
    let unchanged = |why: String| Refused::configuration(format!("nothing was changed: {why}"));
    let prepared = server.edge.prepare(edge).map_err(|error| unchanged(settings::chain(&error)))?;
    let mut new = Vec::new();
    for address in want.iter().filter(|address| !have.contains(address)) {
        match listen(server, *address).await {
            Ok(listener) => new.push((*address, listener)),
            Err(_) if edge_optional(settings, *address) => {}
            Err(why) => {
                unlisten(server, new.iter().map(|(address, _)| *address));
                return Err(unchanged(why));
            }
        }
    }
    let opened: Vec<SocketAddr> = new.iter().map(|(address, _)| *address).collect();
    match server.fleet.reload(settings.fleet.clone(), swap(server, settings.clone(), prepared, new)).await {
        Ok(changes) => {
            unlisten(server, have.into_iter().filter(|address| !want.contains(address)));
            Ok(changes)
        }
        Err(error) => {
            unlisten(server, opened.into_iter());
            Err(unchanged(error.to_string()))
        }
    }
}

/// `[jobs] redis`, where it changes: bound before anything else does.
struct Port {
    before: Option<SocketAddr>,
    new: Option<(SocketAddr, TcpListener)>,
    is_changed: bool,
}

impl Port {
    async fn bind(server: &Server, settings: &Settings) -> Result<Port, Refused> {
        let before = server.queues.shown_at();
        let wanted = settings.jobs.redis.as_ref().map(|redis| redis.address);
        // Where jobs begin with the next start, so does this.
        let is_changed = server.queues.access.address().is_some() && before != wanted;
        let new = match wanted.filter(|_| is_changed) {
            Some(address) => {
                let fd = server.link.listen(Listener::Resp(address)).await;
                let fd = fd.map_err(|why| {
                    Refused::configuration(format!("nothing was changed: [jobs] redis at {address}: {why}"))
                })?;
                Some((address, TcpListener::from(fd)))
            }
            None => None,
        };
        Ok(Port { before, new, is_changed })
    }

    fn take_up(self, server: &Server) {
        if self.is_changed {
            server.queues.show(self.new);
            close(server, self.before);
        }
    }

    fn take_back(self, server: &Server) {
        close(server, self.new.map(|(address, _)| address));
    }
}

fn close(server: &Server, port: Option<SocketAddr>) {
    if let Some(address) = port {
        server.link.send(&ToSupervisor::Unlisten { listener: Listener::Resp(address) });
    }
}

/// On a machine without IPv6 the addresses that follow from a domain alone are fewer.
fn edge_optional(settings: &Settings, address: SocketAddr) -> bool {
    settings.edge.listen.iter().any(|listen| listen.address == address && listen.is_optional())
}

/// Everything here is proved already: it cannot fail.
fn swap(server: &Server, settings: Rc<Settings>, edge: Prepared, new: Vec<(SocketAddr, TcpListener)>) -> Swap {
    let (handle, watch, telemetry) = (server.edge.clone(), server.watch.clone(), server.telemetry.clone());
    let certificates = server.certificates.clone();
    let (secrets, level) = (settings.redactor(), server.level.clone());
    Box::new(move || {
        handle.commit(edge, new);
        certificates.reload(settings.edge.acme.clone());
        watch.reload(settings.watch.clone());
        telemetry.set_options(settings.logs.clone());
        telemetry.set_secrets(secrets);
        level.set(settings.logs.level);
        Ok(())
    })
}

fn unlisten(server: &Server, addresses: impl Iterator<Item = SocketAddr>) {
    for address in addresses {
        server.link.send(&ToSupervisor::Unlisten { listener: Listener::Tcp(address) });
    }
}

async fn listen(server: &Server, address: SocketAddr) -> Result<TcpListener, String> {
    let fd = server.link.listen(Listener::Tcp(address)).await?;
    Ok(TcpListener::from(fd))
}
