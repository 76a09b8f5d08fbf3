//! Connections to the app's instances: HTTP/1, one request at a time on each, kept for the next.
//!
//! A connection is driven by whoever asks over it; one that is kept rests. Must never follow a redirect, and never read
//! more of an answer than [`ANSWER_BYTES_MAX`].

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Of an answer's body; what a result may have.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections that rest, for each instance.
const IDLE_MAX: usize = 64;
/// Node closes after 5 s: asked over a connection that is just being closed, nobody knows what became of the job.
const IDLE_LIMIT: Duration = Duration::from_secs(4);
/// An instance on this machine or the next answers a connect at once, or is in trouble.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A connection that its other end had closed says so within this; later it is the job that ended it.
const DEAD_WITHIN: Duration = Duration::from_secs(1);

type Driver = Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>;

/// What an instance answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// `false`: the body is longer than what was read of it.
    pub is_whole: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// No connection was made: the instance has seen nothing.
    Unreachable(String),
    /// Something was sent, and no whole answer came.
    Cut(String),
    /// The time of the attempt is over.
    Late,
}

/// Connections that rest, by instance.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<SocketAddr, Vec<Idle>>>);

struct Idle {
    link: Link,
    until: Instant,
}

struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// `None`: it has ended.
    driver: Option<Driver>,
}

/// How an exchange failed.
struct Died {
    why: String,
    /// Nothing of the request was written.
    is_unsent: bool,
    /// The head of an answer was there.
    is_begun: bool,
}

impl Links {
    /// Asks over a connection that rests, or a new one. Where the one that rests is dead it asks anew, once.
    pub async fn ask(&self, address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
        let mut may_be_there = None;
        if let Some(mut link) = self.take(address) {
            let began = Instant::now();
            match link.ask(request.clone()).await {
                Ok(answer) => return Ok(self.keep(address, link, answer)),
                Err(died) if died.is_unsent => {}
                Err(died) if !died.is_begun && began.elapsed() < DEAD_WITHIN => may_be_there = Some(died.why),
                Err(died) => return Err(Trouble::Cut(died.why)),
            }
        }
        let mut link = match (Link::open(address).await, may_be_there) {
            (Ok(link), _) => link,
            // It may have been the job that brought the instance down: that counts, or it would for ever.
            (Err(_), Some(why)) => return Err(Trouble::Cut(why)),
            (Err(why), None) => return Err(Trouble::Unreachable(why)),
        };
        match link.ask(request).await {
            Ok(answer) => Ok(self.keep(address, link, answer)),
            Err(died) => Err(Trouble::Cut(died.why)),
        }
    }

    /// Lets go of what has rested too long: an instance that ends waits for its connections.
    pub fn prune(&self) {
        let now = Instant::now();
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, idle| {
            idle.retain(|idle| idle.until > now);
            !idle.is_empty()
        });
    }

    /// The one that rests the shortest, if its other end is there still.
    fn take(&self, address: SocketAddr) -> Option<Link> {
        let now = Instant::now();
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = links.get_mut(&address)?;
        let alive = std::iter::from_fn(|| idle.pop()).find_map(|mut idle| {
            let is_alive = idle.until > now && idle.link.is_alive();
            is_alive.then_some(idle.link)
        });
        if idle.is_empty() {
            links.remove(&address);
        }
        alive
    }

    fn keep(&self, address: SocketAddr, mut link: Link, answer: Answer) -> Answer {
        // Part of an answer that is not wanted would stand before the next.
        if answer.is_whole && link.is_alive() {
            let until = Instant::now() + rest(&answer.headers);
            let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = links.entry(address).or_default();
            if idle.len() < IDLE_MAX {
                idle.push(Idle { link, until });
            }
        }
        answer
    }
}

/// How long a connection may rest: a second less than the instance says.
fn rest(headers: &HeaderMap) -> Duration {
    let said = headers.get("keep-alive").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let timeout = said.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse::<u64>().ok());
    timeout.map_or(IDLE_LIMIT, |timeout| Duration::from_secs(timeout.saturating_sub(1)).min(IDLE_LIMIT))
}

impl Link {
    async fn open(address: SocketAddr) -> Result<Link, String> {
        let connecting = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
        let stream =
            connecting.map_err(|_| format!("{address} does not answer"))?.map_err(|error| error.to_string())?;
        // A small request must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| chain(&error))?;
        Ok(Link { sender, driver: Some(Box::pin(connection)) })
    }

    /// Looks whether the other end has closed it; a connection that rests is not looked at otherwise.
    fn is_alive(&mut self) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        let pending = driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        pending && !self.sender.is_closed()
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Died> {
        let Link { sender, driver } = self;
        let Some(driving) = driver else { return Err(Died::unsent("the connection has ended")) };
        let asking = async {
            sender.ready().await.map_err(|error| Died::unsent(&chain(&error)))?;
            let response = sender.send_request(request).await.map_err(|error| Died {
                why: chain(&error),
                is_unsent: error.is_canceled(),
                is_begun: false,
            })?;
            read(response).await.map_err(|error| Died { why: chain(&error), is_unsent: false, is_begun: true })
        };
        tokio::pin!(asking);
        let ended = tokio::select! {
            biased;
            asked = &mut asking => return asked,
            ended = driving.as_mut() => ended,
        };
        // What it had read is handed on; it must be gone so that nobody waits for more.
        *driver = None;
        match (asking.await, ended) {
            (Err(died), Err(error)) => Err(Died { why: chain(&error), ..died }),
            (asked, _) => asked,
        }
    }
}

impl Died {
    fn unsent(why: &str) -> Died {
        Died { why: why.to_owned(), is_unsent: true, is_begun: false }
    }
}

async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, mut rest) = response.into_parts();
    let mut answer = Answer { status: head.status, headers: head.headers, body: Vec::new(), is_whole: true };
    while let Some(frame) = rest.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = ANSWER_BYTES_MAX - answer.body.len();
        answer.body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            answer.is_whole = false;
            break;
        }
    }
    Ok(answer)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
