//! Active checks, and names looked up again: what the control thread does for upstreams, off the cores.

use crate::members::{Members, Wanted};
use crate::options::{Address, App, Probe};
use crate::proxy::mostly_out;
use crate::upstream::Upstream;
use mainstay_runtime::{Clock, Shutdown};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How often it is looked whether a check is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Names of upstreams are looked up this often.
const RESOLVE_EVERY_MS: u64 = 10_000;
/// A status line is shorter.
const STATUS_LINE_BYTES_MAX: usize = 512;

/// What the checks of one upstream have found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    fails: u32,
    passes: u32,
    pub out: bool,
}

/// What one more result changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    Out,
    Back,
}

impl Checks {
    /// Pure: `fails` in a row take it out, `passes` in a row bring it back.
    pub fn judge(&mut self, passed: bool, probe: &Probe) -> Change {
        if passed {
            self.fails = 0;
            self.passes = self.passes.saturating_add(1);
            if self.out && self.passes >= probe.passes {
                self.out = false;
                return Change::Back;
            }
        } else {
            self.passes = 0;
            self.fails = self.fails.saturating_add(1);
            if !self.out && self.fails >= probe.fails {
                self.out = true;
                return Change::Out;
            }
        }
        Change::None
    }
}

#[derive(Debug, Default)]
struct Entry {
    checks: Checks,
    next_ms: u64,
    running: bool,
}

/// Checks and resolves until shutdown. `apps` yields what is configured now.
pub async fn run(members: Members, apps: impl Fn() -> Vec<App>, shutdown: Shutdown) {
    let entries: Rc<RefCell<HashMap<u32, Entry>>> = Rc::default();
    let mut resolved_ms: HashMap<String, u64> = HashMap::new();
    let mut lenient: HashMap<String, bool> = HashMap::new();
    loop {
        let now_ms = Clock::now().0;
        let apps = apps();
        for app in &apps {
            let due = resolved_ms.get(&app.name).is_none_or(|last| now_ms >= last + RESOLVE_EVERY_MS);
            if due && app.addresses.iter().any(is_name) {
                resolved_ms.insert(app.name.clone(), now_ms);
                tokio::task::spawn_local(resolve(members.clone(), app.clone()));
            }
            check_due(&members, app, &entries, now_ms);
            tell_if_lenient(&members, app, &mut lenient, now_ms);
        }
        let alive: Vec<u32> = members.groups().iter().flat_map(|g| slots(g)).collect();
        entries.borrow_mut().retain(|slot, _| alive.contains(slot));
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.requested() => return,
        }
    }
}

fn slots(group: &crate::members::Group) -> Vec<u32> {
    group.list().upstreams.iter().map(|u| u.slot).collect()
}

fn check_due(members: &Members, app: &App, entries: &Rc<RefCell<HashMap<u32, Entry>>>, now_ms: u64) {
    let interval_ms = u64::try_from(app.probe.interval.as_millis()).unwrap_or(u64::MAX).max(1);
    for upstream in members.group(&app.name).list().upstreams.iter().filter(|u| !u.is_draining()) {
        let mut all = entries.borrow_mut();
        let entry = all.entry(upstream.slot).or_insert_with(|| Entry {
            // A child was found ready a moment ago; an address elsewhere is checked at once.
            next_ms: if upstream.supervised { now_ms + interval_ms } else { now_ms },
            ..Entry::default()
        });
        if entry.running || entry.next_ms > now_ms {
            continue;
        }
        entry.running = true;
        entry.next_ms = now_ms + interval_ms;
        tokio::task::spawn_local(check(upstream.clone(), app.probe.clone(), entries.clone()));
    }
}

/// Says once when an app's requests go to all of its upstreams because most of them failed, and once when not.
fn tell_if_lenient(members: &Members, app: &App, told: &mut HashMap<String, bool>, now_ms: u64) {
    let group = members.group(&app.name);
    let list = group.list();
    let lenient = list.upstreams.len() > 1 && mostly_out(&list, now_ms);
    if told.insert(app.name.clone(), lenient).unwrap_or(false) != lenient {
        if lenient {
            tracing::warn!(app = app.name, "more than half of the instances fail at once: requests go to all of them");
        } else {
            tracing::info!(app = app.name, "most instances are well again: requests go to those alone");
        }
    }
}

async fn check(upstream: Arc<Upstream>, probe: Probe, entries: Rc<RefCell<HashMap<u32, Entry>>>) {
    let path = probe.path.as_deref().or(upstream.probe_path());
    let result = match path {
        Some(path) => match http_get(upstream.address, path, probe.timeout).await {
            Ok(status) if (200..400).contains(&status) => Ok(()),
            Ok(status) => Err(format!("{path} answered {status}")),
            Err(error) => Err(error),
        },
        None => tcp(upstream.address, probe.timeout).await,
    };
    let mut entries = entries.borrow_mut();
    let Some(entry) = entries.get_mut(&upstream.slot) else { return };
    entry.running = false;
    match entry.checks.judge(result.is_ok(), &probe) {
        Change::None => {}
        Change::Out => {
            upstream.set_probe(false);
            let why = result.err().unwrap_or_default();
            tracing::warn!(instance = upstream.label, why, "taken out: {} checks failed in a row", probe.fails);
        }
        Change::Back => {
            upstream.set_probe(true);
            upstream.readmit();
            tracing::info!(instance = upstream.label, "back: {} checks passed in a row", probe.passes);
        }
    }
}

async fn tcp(address: SocketAddr, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("connect: {error}")),
        Err(_) => Err("no connection in time".to_owned()),
    }
}

/// The status `GET path` gets, by one connection of its own.
pub async fn http_get(address: SocketAddr, path: &str, timeout: Duration) -> Result<u16, String> {
    let asked = tokio::time::timeout(timeout, async {
        let mut stream = TcpStream::connect(address).await.map_err(|e| format!("connect: {e}"))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: mainstay-check\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
        let mut head = Vec::with_capacity(STATUS_LINE_BYTES_MAX);
        while !head.contains(&b'\n') && head.len() < STATUS_LINE_BYTES_MAX {
            if stream.read_buf(&mut head).await.map_err(|e| format!("read: {e}"))? == 0 {
                break;
            }
        }
        status(&head).ok_or_else(|| "the answer was not HTTP".to_owned())
    });
    asked.await.unwrap_or_else(|_| Err(format!("{path} did not answer in time")))
}

pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|s| (100..=599).contains(s))
}

fn is_name(address: &Address) -> bool {
    address.to.parse::<SocketAddr>().is_err()
}

/// The addresses that need no lookup; known before the first request.
pub fn literal(app: &App) -> Vec<Wanted> {
    let addresses = app.addresses.iter();
    addresses.filter_map(|a| Some(wanted(label(app, a), a.to.parse().ok()?, a))).collect()
}

fn wanted(label: String, at: SocketAddr, address: &Address) -> Wanted {
    Wanted { label, address: at, weight: address.weight, drain: address.drain }
}

fn label(app: &App, address: &Address) -> String {
    format!("{} {}", app.name, address.to)
}

/// Looks names up; one that cannot be found keeps the addresses it had.
async fn resolve(members: Members, app: App) {
    let group = members.group(&app.name);
    let mut all = literal(&app);
    for address in app.addresses.iter().filter(|a| is_name(a)) {
        let name = label(&app, address);
        match tokio::net::lookup_host(&address.to).await {
            Ok(found) => {
                let mut found: Vec<SocketAddr> = found.collect();
                found.sort();
                found.dedup();
                all.extend(found.into_iter().map(|at| wanted(name.clone(), at, address)));
            }
            Err(error) => {
                let list = group.list();
                let kept = list.upstreams.iter().filter(|u| u.label == name);
                all.extend(kept.map(|u| wanted(name.clone(), u.address, address)));
                tracing::warn!(upstream = address.to, %error, "the name was not found; its last addresses are kept");
            }
        }
    }
    members.set_addresses(&app.name, &all);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe { path: None, interval: LOOK_EVERY, timeout: LOOK_EVERY, fails: 3, passes: 2 }
    }

    #[test]
    fn three_fails_in_a_row_take_out_and_two_passes_bring_back() {
        let mut checks = Checks::default();
        let results = [false, false, true, false, false, false, false, true, false, true, true, true];
        let changes: Vec<Change> = results.iter().map(|&r| checks.judge(r, &probe())).collect();
        let mut expected = [Change::None; 12];
        expected[5] = Change::Out;
        expected[10] = Change::Back;
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_status_line_is_read_or_refused() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 2x4 ", b"SSH-2.0-OpenSSH", b"HTTP/1.1 999 "] {
            assert_eq!(status(bad), None);
        }
    }
}
