//! Asks each configured service whether it is there: connect, one question, one answer. Redis is asked as the app asks
//! it: with its login, over TLS that is verified, every master of a cluster.
//!
//! Must never send a secret over what is not verified, and never say `ok` without an answer that only that kind of
//! service gives.

use crate::options::Options;
use crate::state::{Memory, ServiceState, Status, Watched};
use crate::tls;
use arc_swap::ArcSwap;
use mainstay_runtime::{Clock, Millis, Shutdown};
use mainstay_store::redis::{self, Error};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How often everything is asked in the background.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// How long one service may take, all its addresses together.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A result older than this is no longer known: three rounds were missed.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Past this many nodes of a cluster the rest is not asked: each one's share of the time would be too short.
pub const PLACES_MAX: usize = 8;
/// A first line longer than this is not one of the answers we know.
const ANSWER_BYTES_MAX: usize = 1024;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What to ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// SSLRequest: only Postgres answers `S` or `N`.
    Postgres,
    /// The greeting, 220.
    Smtp,
}

/// What is known of a service before it is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Target {
    #[default]
    NotConfigured,
    /// Set up, and nothing to ask without using it.
    Configured,
    /// Set up in a way we cannot ask.
    Opaque,
    /// The first place that answers is enough.
    Ask(Question, Vec<Place>),
    Redis(Box<redis::Options>),
}

/// Asks all services again and again. Runs on the control thread.
#[derive(Debug)]
pub struct Service {
    handle: Handle,
}

/// The last answers, and a way to ask now. Cheap to clone; reading never waits.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: ArcSwap<Options>,
    last: ArcSwap<Round>,
    /// One round at a time, so that many who ask at once cost one round.
    asking: Mutex<()>,
}

#[derive(Debug)]
struct Round {
    began: Option<Millis>,
    /// In the order of `Watched::ALL`.
    services: Vec<ServiceState>,
}

impl Service {
    pub fn new(options: Options) -> (Service, Handle) {
        let last = ArcSwap::from_pointee(unasked(&options));
        let options = ArcSwap::from_pointee(options);
        let handle = Handle(Arc::new(Shared { options, last, asking: Mutex::new(()) }));
        (Service { handle: handle.clone() }, handle)
    }

    pub async fn run(self, shutdown: Shutdown) {
        loop {
            let round = async {
                self.handle.check().await;
                tokio::time::sleep(INTERVAL).await;
            };
            tokio::select! {
                () = shutdown.requested() => return,
                () = round => {}
            }
        }
    }
}

impl Handle {
    /// What the last round gave; `unknown` where it is too old or there was none yet.
    pub fn services(&self) -> Vec<ServiceState> {
        at(Clock::now(), &self.0.last.load())
    }

    /// Asks now and returns within `ASK_TIMEOUT` (twice that if a round is just running).
    pub async fn check(&self) -> Vec<ServiceState> {
        let wanted = Clock::now();
        let _turn = self.0.asking.lock().await;
        // A round that began after we came is as good as one of our own.
        if self.0.last.load().began.is_none_or(|began| began <= wanted) {
            let began = Clock::now();
            let options = self.0.options.load_full();
            let services = ask_all(&options).await;
            // A reload in between has put its own state there: an answer about the old targets must not cover it.
            if Arc::ptr_eq(&options, &self.0.options.load()) {
                self.0.last.store(Arc::new(Round { began: Some(began), services }));
            }
        }
        self.services()
    }

    /// New targets from now on; what was known about the old ones is forgotten.
    pub fn reload(&self, options: Options) {
        if **self.0.options.load() == options {
            return;
        }
        self.0.last.store(Arc::new(unasked(&options)));
        self.0.options.store(Arc::new(options));
    }
}

/// Before the first round.
fn unasked(options: &Options) -> Round {
    let status = |target: &Target| match target {
        Target::NotConfigured => Status::NotConfigured,
        Target::Configured => Status::Configured,
        Target::Opaque | Target::Ask(..) | Target::Redis(_) => Status::Unknown,
    };
    let services = Watched::ALL.iter().map(|&s| ServiceState::new(s, status(options.target(s)))).collect();
    Round { began: None, services }
}

/// An old answer is no answer.
fn at(now: Millis, round: &Round) -> Vec<ServiceState> {
    let stale = round.began.is_some_and(|began| now.since(began) > STALE_AFTER);
    let aged = |state: &ServiceState| match state.status {
        Status::NotConfigured | Status::Configured => *state,
        _ if stale => ServiceState::new(state.service, Status::Unknown),
        _ => *state,
    };
    round.services.iter().map(aged).collect()
}

async fn ask_all(options: &Options) -> Vec<ServiceState> {
    let ask = |service| async move {
        if let Target::Redis(options) = options.target(service) {
            return redis(service, options, ASK_TIMEOUT).await;
        }
        let (status, latency_ms) = ask(options.target(service), ASK_TIMEOUT).await;
        ServiceState { status, latency_ms, ..ServiceState::new(service, status) }
    };
    let [a, b, c, d, e] = Watched::ALL;
    let (a, b, c, d, e) = tokio::join!(ask(a), ask(b), ask(c), ask(d), ask(e));
    vec![a, b, c, d, e]
}

/// Status, and the latency of the answer in milliseconds where there was one.
pub async fn ask(target: &Target, within: Duration) -> (Status, Option<f64>) {
    let (question, places) = match target {
        Target::NotConfigured => return (Status::NotConfigured, None),
        Target::Configured => return (Status::Configured, None),
        Target::Opaque | Target::Redis(_) => return (Status::Unknown, None),
        Target::Ask(question, places) => (*question, &places[..places.len().min(PLACES_MAX)]),
    };
    let began = Clock::micros();
    let mut worst = if places.is_empty() { Status::Unknown } else { Status::Unavailable };
    for (nth, place) in places.iter().enumerate() {
        let spent = Duration::from_micros(Clock::micros().saturating_sub(began));
        let share = within.saturating_sub(spent) / u32::try_from(places.len() - nth).unwrap_or(1);
        let asked = Clock::micros();
        match timeout(share, ask_place(question, place)).await {
            Ok(Ok((Status::Ok, answered))) => return (Status::Ok, Some(millis(answered.saturating_sub(asked)))),
            Ok(Ok((Status::Unknown, _))) => worst = Status::Unknown,
            Ok(_) | Err(_) => {}
        }
    }
    (worst, None)
}

/// Hundredths are as exact as a clock read on a busy thread is.
fn millis(micros: u64) -> f64 {
    (micros as f64 / 10.0).round() / 100.0
}

/// What the answer says, and when it came (µs).
async fn ask_place(question: Question, place: &Place) -> io::Result<(Status, u64)> {
    match place {
        Place::Unix(path) => {
            let mut socket = UnixStream::connect(path).await?;
            match question {
                Question::Postgres => postgres(&mut socket).await.map(|(status, at, _)| (status, at)),
                Question::Smtp => smtp(&mut socket).await,
            }
        }
        Place::Tcp { host, port } => {
            let mut socket = TcpStream::connect((host.as_str(), *port)).await?;
            socket.set_nodelay(true)?;
            match question {
                Question::Postgres => postgres_tcp(host, socket).await,
                Question::Smtp => smtp(&mut socket).await,
            }
        }
    }
}

/// Length 8 and the code 80877103, as in "Message Formats" of the Postgres manual.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

async fn postgres(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<(Status, u64, bool)> {
    socket.write_all(&SSL_REQUEST).await?;
    // One byte is the whole answer; a banner such as `SSH-2.0-…` begins with the same letter and says more.
    let mut answer = [0; 2];
    let read = socket.read(&mut answer).await?;
    let at = Clock::micros();
    match &answer[..read] {
        b"S" => Ok((Status::Ok, at, true)),
        b"N" => Ok((Status::Ok, at, false)),
        _ => Ok((Status::Unavailable, at, false)),
    }
}

/// After `S`, Postgres logs a client that leaves without a handshake, every ten seconds: so shake hands and leave.
async fn postgres_tcp(host: &str, mut socket: TcpStream) -> io::Result<(Status, u64)> {
    let (status, at, tls) = postgres(&mut socket).await?;
    if tls && let Ok(Ok(mut stream)) = timeout(GOODBYE_TIMEOUT, tls::handshake(host, socket)).await {
        let _ = timeout(GOODBYE_TIMEOUT, stream.shutdown()).await;
    }
    Ok((status, at))
}

/// Politeness is worth no more than this, well within `ASK_TIMEOUT`.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// A login, PING and the memory in use.
async fn redis(service: Watched, options: &redis::Options, within: Duration) -> ServiceState {
    let asked = redis::health(options, within).await;
    let status = match &asked {
        Ok(_) => Status::Ok,
        // The app may have a password or an authority that nobody told us of.
        Err(Error::Login(_)) if options.password.is_none() => Status::Unknown,
        Err(Error::Certificate(_) | Error::File(..) | Error::Settings(_)) => Status::Unknown,
        Err(_) => Status::Unavailable,
    };
    let answered = asked.ok();
    ServiceState {
        latency_ms: answered.map(|(latency, _)| millis(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))),
        memory: answered.map(|(_, memory)| Memory { used: memory.used, max: memory.max }),
        ..ServiceState::new(service, status)
    }
}

async fn smtp(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<(Status, u64)> {
    let line = first_line(socket).await?;
    let at = Clock::micros();
    if !(line.starts_with(b"220 ") || line.starts_with(b"220-")) {
        return Ok((Status::Unavailable, at));
    }
    let _ = timeout(GOODBYE_TIMEOUT, socket.write_all(b"QUIT\r\n")).await;
    Ok((Status::Ok, at))
}

/// Up to and with the first line feed. An error if it is too long or never comes.
async fn first_line(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(64);
    let mut piece = [0u8; 256];
    while line.len() < ANSWER_BYTES_MAX {
        let read = socket.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&piece[..read]);
        if let Some(end) = line.iter().position(|&b| b == b'\n') {
            line.truncate(end + 1);
            return Ok(line);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests;
