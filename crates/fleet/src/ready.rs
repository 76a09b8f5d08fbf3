//! Readiness: from a process that was started to an address that requests may be sent to.
//!
//! Must never: take a port for the child's because somebody listens there. A listening socket counts only when
//! its inode belongs to the child's group.

use mainstay_edge::probe::http_get;
use mainstay_supervisor::proc::listeners_of_group;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Asked for in this order when the file names none; the first that answers 2xx is the app's.
pub const OFFERED: [&str; 4] = ["/health/ready", "/health", "/api/health", "/api/v1/health"];
/// First wait between two looks: a fast server is seen at once.
const POLL_FIRST: Duration = Duration::from_millis(20);
/// Longest wait between two looks.
const POLL_LONGEST: Duration = Duration::from_millis(250);
/// The inspector of node and what else debuggers open.
const INSPECTOR: std::ops::RangeInclusive<u16> = 9229..=9239;
/// So long must what a group listens on stay as it is before it is believed to ignore its `PORT`.
const ELSEWHERE: Duration = Duration::from_millis(1500);
/// Without a port there is nothing to ask; one that lives so long has not failed at once.
const ALIVE: Duration = Duration::from_secs(1);
/// A loopback connect answers in microseconds; this is for a full backlog.
const CONNECT: Duration = Duration::from_secs(1);
/// One health answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A path that was adopted once and does not answer 2xx any more holds an instance up for so long only: without
/// a file an app serves as it did without us.
const ADOPTED: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Clone, Debug)]
pub struct Target {
    pub group: i32,
    /// `None`: no traffic, alive is ready.
    pub port: Option<u16>,
    /// The app's only instance: it may be used where it listens, even if that is not its `PORT`.
    pub alone: bool,
    pub health: Health,
    /// It ran before this server: nothing to wait for but the answer.
    pub adopted: bool,
    /// It may listen on this machine's own addresses alone.
    pub closed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// By the file: only a 2xx is ready.
    Named(String),
    /// By an earlier instance that answered.
    Adopted(String),
    Unknown,
}

/// Where and how it became ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// `None` for an app without a port.
    pub address: Option<SocketAddr>,
    /// Not at its `PORT`.
    pub elsewhere: bool,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Health { path: String, status: u16 },
    Tcp,
    Alive,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Health { path, status } => write!(f, "GET {path} {status}"),
            How::Tcp => write!(f, "it accepts connections"),
            How::Alive => write!(f, "it runs"),
        }
    }
}

/// The last that was seen of a child, for whoever asks why it is not ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub listening: Vec<SocketAddr>,
    /// `GET /health 503`.
    pub answer: Option<String>,
}

/// Why it cannot become ready as it is. Said once; waiting goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It ignores its `PORT`, and these are where it speaks HTTP.
    WrongPort { listening: Vec<SocketAddr>, alone: bool },
    /// Others can reach it there, and must not.
    Exposed { listening: Vec<SocketAddr> },
}

/// Waits for as long as it takes. Whoever is tired of it drops the future.
pub async fn wait(target: Target, seen: Rc<RefCell<Seen>>, mut say: impl FnMut(Problem)) -> Ready {
    let Some(port) = target.port else {
        if !target.adopted {
            sleep(ALIVE).await;
        }
        return Ready { address: None, elsewhere: false, how: How::Alive };
    };
    let began = Instant::now();
    let mut poll = POLL_FIRST;
    let mut stable = Stable::default();
    let mut said = false;
    loop {
        let own = own_address(target.group, port, &seen).await;
        let exposed = if target.closed { public(&seen.borrow().listening) } else { Vec::new() };
        if !exposed.is_empty() {
            if !std::mem::replace(&mut said, true) {
                say(Problem::Exposed { listening: exposed });
            }
            sleep(POLL_LONGEST).await;
            continue;
        }
        if let Some(address) = own
            && let Some(how) = ask(address, &target.health, began.elapsed(), &seen).await
        {
            return Ready { address: Some(address), elsewhere: false, how };
        }
        let others = others(port, &seen.borrow().listening);
        let believed = stable.since(&others, Instant::now()) >= ELSEWHERE || target.adopted;
        if believed && !others.is_empty() && !is_own(port, &seen.borrow().listening) {
            let speaking = speaking_http(&others).await;
            if let ([address], true) = (speaking.as_slice(), target.alone) {
                if let Some(how) = ask(*address, &target.health, began.elapsed(), &seen).await {
                    return Ready { address: Some(*address), elsewhere: true, how };
                }
            } else if !speaking.is_empty() && !said {
                said = true;
                say(Problem::WrongPort { listening: speaking, alone: target.alone });
            }
        }
        sleep(poll).await;
        poll = (poll * 3 / 2).min(POLL_LONGEST);
    }
}

/// Since when the group listens on the same ports.
#[derive(Debug, Default)]
struct Stable {
    ports: Vec<SocketAddr>,
    since: Option<Instant>,
}

impl Stable {
    fn since(&mut self, ports: &[SocketAddr], now: Instant) -> Duration {
        if self.since.is_none() || self.ports != ports {
            self.ports = ports.to_vec();
            self.since = Some(now);
        }
        self.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

/// A loopback address at its `PORT` that accepts and is the group's.
async fn own_address(group: i32, port: u16, seen: &RefCell<Seen>) -> Option<SocketAddr> {
    let listening = look(group).await;
    seen.borrow_mut().listening = listening.clone();
    for listener in listening.into_iter().filter(|listener| listener.port() == port) {
        for address in reachable(listener, false) {
            if connects(address).await {
                return Some(address);
            }
        }
    }
    None
}

/// Reads `/proc` on the blocking pool: the control thread answers others meanwhile.
async fn look(group: i32) -> Vec<SocketAddr> {
    let listeners = tokio::task::spawn_blocking(move || listeners_of_group(group)).await;
    listeners.map(|found| found.into_iter().map(|(address, _)| address).collect()).unwrap_or_default()
}

async fn connects(address: SocketAddr) -> bool {
    matches!(timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// What others than this machine can reach.
fn public(listening: &[SocketAddr]) -> Vec<SocketAddr> {
    listening.iter().filter(|listener| !listener.ip().to_canonical().is_loopback()).copied().collect()
}

/// True if the group listens there already: readiness waits for the answer, not for the port.
fn is_own(port: u16, listening: &[SocketAddr]) -> bool {
    listening.iter().any(|listener| listener.port() == port)
}

/// Where to connect to for a listener, the best first. `foreign`: somebody else's socket may hold the other family's
/// port, so a `::` is reached by `::1`, which is certainly its own.
fn reachable(listener: SocketAddr, foreign: bool) -> Vec<SocketAddr> {
    let four = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.port()));
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, listener.port()));
    match listener.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![four],
        IpAddr::V6(ip) if ip.is_unspecified() && foreign => vec![six, four],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![four, six],
        ip => vec![SocketAddr::from((ip, listener.port()))],
    }
}

/// One listener a port other than its own and the inspector's.
fn others(own: u16, listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for listener in listening {
        let port = listener.port();
        if port != own && !INSPECTOR.contains(&port) && found.iter().all(|known| known.port() != port) {
            found.push(*listener);
        }
    }
    found.sort_by_key(SocketAddr::port);
    found
}

async fn speaking_http(listeners: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for listener in listeners {
        for address in reachable(*listener, true) {
            if http_get(address, "/", CONNECT).await.is_ok() {
                found.push(address);
                break;
            }
        }
    }
    found
}

/// `None`: not yet.
async fn ask(address: SocketAddr, health: &Health, waited: Duration, seen: &RefCell<Seen>) -> Option<How> {
    match health {
        Health::Named(path) => get(address, path, seen).await,
        Health::Adopted(path) => match get(address, path, seen).await {
            None if waited >= ADOPTED => Some(How::Tcp),
            how => how,
        },
        Health::Unknown => {
            for path in OFFERED {
                match http_get(address, path, ANSWER).await {
                    Ok(status) if is_success(status) => return Some(How::Health { path: path.to_owned(), status }),
                    Ok(_) => {}
                    // It does not speak HTTP, or not now: that it accepts is all there is to know.
                    Err(_) => break,
                }
            }
            Some(How::Tcp)
        }
    }
}

async fn get(address: SocketAddr, path: &str, seen: &RefCell<Seen>) -> Option<How> {
    let answer = http_get(address, path, ANSWER).await;
    seen.borrow_mut().answer = Some(match &answer {
        Ok(status) => format!("GET {path} {status}"),
        Err(error) => format!("GET {path} {error}"),
    });
    let status = answer.ok().filter(|status| is_success(*status))?;
    Some(How::Health { path: path.to_owned(), status })
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

#[cfg(test)]
mod tests;
