//! The sample backend behind `mainstay demo`: an ordinary child process that takes `PORT` and `HOST` from its
//! environment, logs to stdout, drains on SIGTERM, and can be asked to be slow, to fail and to crash.
//!
//! Must never know of Mainstay: it shows what any backend would see.

mod answers;
mod body;
mod connection;
mod socket;

use anyhow::{Context, bail};
use mainstay_runtime::Shutdown;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// One person's browser and a load generator fit well into this; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 1024;
/// The longest answer `/slow` gives, and so the longest a drain has to wait.
const SLOW_MAX: Duration = Duration::from_secs(90);
/// What comes on top of the longest answer before the process ends all the same.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// Where a backend listens that was told nothing.
const PORT_DEFAULT: u16 = 3000;

/// What all connections share. One thread, so plain cells.
#[derive(Debug)]
struct Backend {
    pid: u32,
    port: u16,
    /// Requests so far.
    count: Cell<u64>,
    /// Ends the process; a test puts something milder here.
    crash: fn(),
    stop: Shutdown,
}

/// Serves until SIGTERM or SIGINT; the exit code is 0 after a drain.
pub fn backend() -> anyhow::Result<i32> {
    let address = address(std::env::var("HOST").ok(), std::env::var("PORT").ok())?;
    let (runtime, local) = mainstay_runtime::current_thread().context("cannot start the runtime")?;
    local.block_on(&runtime, async {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let port = listener.local_addr().context("cannot tell the own address")?.port();
        let (trigger, stop) = Shutdown::new();
        let backend = Backend { pid: std::process::id(), port, count: Cell::new(0), crash, stop };
        answers::log("info", &format!("listening on http://{}:{port}", address.ip()), serde_json::json!({}));
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let told = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            answers::log("info", "stopping: finishing what was begun", serde_json::json!({}));
            trigger.request();
            // Held: a dropped trigger would be the same signal, and this future must not end before the drain.
            std::future::pending::<()>().await;
            drop(trigger);
        };
        tokio::select! {
            () = told => {}
            () = serve(listener, Rc::new(backend)) => {}
        }
        Ok(0)
    })
}

fn address(host: Option<String>, port: Option<String>) -> anyhow::Result<SocketAddr> {
    let host = host.filter(|h| !h.is_empty()).unwrap_or_else(|| "127.0.0.1".to_owned());
    let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
    let Ok(host) = host.parse() else { bail!("HOST is `{host}`, expected an address, for example 127.0.0.1") };
    let port = match port.filter(|p| !p.is_empty()) {
        None => PORT_DEFAULT,
        Some(port) => match port.parse() {
            Ok(port) => port,
            Err(_) => bail!("PORT is `{port}`, expected a number from 0 to 65535, for example 3000"),
        },
    };
    Ok(SocketAddr::new(host, port))
}

/// Accepts until told to stop, then waits for what was begun, at most as long as the slowest answer takes.
async fn serve(listener: TcpListener, backend: Rc<Backend>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = backend.stop.requested() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                // A client that left before it was accepted concerns nobody; out of descriptors, one will be freed.
                let Ok((client, _)) = accepted else { continue };
                connections.spawn_local(connection::serve(client, backend.clone()));
            }
        }
    }
    drop(listener);
    let finished = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(SLOW_MAX + DRAIN_MARGIN, finished).await;
}

/// As a process ends that hits a bug: at once, with nothing answered and nothing closed.
#[allow(clippy::disallowed_methods, reason = "to end without a word is what is asked for")]
fn crash() {
    std::process::exit(1);
}

#[cfg(test)]
mod tests;
