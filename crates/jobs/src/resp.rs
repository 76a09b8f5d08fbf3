//! Queues as Redis would show them: a port that reads, so that what looks at BullMQ's keys (`redis-cli LLEN
//! bull:scan:wait`, exporters, scalers) works where there is no Redis.
//!
//! Must never change a job, listen beyond this machine, or take more of the server than its bounds.

mod commands;
mod frame;
mod glob;
mod info;
mod keys;
mod keyspace;
mod known;
mod record;
mod values;

pub use commands::REDIS_VERSION;
pub use values::RANGE_MAX;

use crate::engine::Engine;
use crate::error::Error;
use crate::handle::Jobs;
use crate::store::Detail;
use bytes::{Buf, BytesMut};
use commands::Session;
use frame::{Parsed, Reply};
use mainstay_runtime::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes that one request is answered with, about.
const REPLY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Answers of pipelined requests that are sent together.
const SENT_AT_ONCE_BYTES: usize = 64 * 1024;
/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// Replies with a payload in them that are in memory at once.
const LARGE_REPLIES_MAX: usize = 8;
/// So long one waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// What a connection sends behind its last request is read so long, so that it hears the reply.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// For replies under way when the end is asked for.
const END_LIMIT: Duration = Duration::from_secs(1);
/// Out of descriptors: a moment for those who hold them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections are bounded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// For a client to take what it asked for.
    pub send: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 64, idle: Duration::from_secs(300), send: Duration::from_secs(10) }
    }
}

/// Jobs, while they are open.
pub type Find = Arc<dyn Fn() -> Option<Jobs> + Send + Sync>;

/// Answers until the end is asked for; its connections end with it. `jobs` is asked at each request: while it gives
/// none they are told `LOADING`, as by a Redis that starts. A listener that is not of the loopback is not served.
pub async fn serve(listener: TcpListener, jobs: Find, shutdown: Shutdown) {
    serve_within(listener, jobs, shutdown, Limits::default()).await;
}

/// As [`serve`], with other bounds.
pub async fn serve_within(listener: TcpListener, jobs: Find, shutdown: Shutdown, limits: Limits) {
    let address = match listener.local_addr() {
        Ok(address) if address.ip().to_canonical().is_loopback() => address,
        Ok(address) => {
            tracing::error!(%address, "jobs are not shown there: the address is not of the loopback");
            return;
        }
        Err(error) => {
            tracing::error!(%error, "jobs are not shown by RESP");
            return;
        }
    };
    let turns = Arc::new(Semaphore::new(limits.connections));
    let large = Arc::new(Semaphore::new(LARGE_REPLIES_MAX));
    let port = Arc::new(Port { find: jobs, address, began: Instant::now(), turns: turns.clone(), large, limits });
    let (mut connections, mut last_id) = (JoinSet::new(), 0);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.requested() => break,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(turn) = turns.clone().try_acquire_owned() else {
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        };
        last_id += 1;
        let (port, shutdown, session) = (port.clone(), shutdown.clone(), Session::new(last_id, Some(peer)));
        connections.spawn(async move {
            let _turn = turn;
            // A broken connection concerns nobody but the one who broke it.
            let _ = converse(stream, session, &port, &shutdown).await;
        });
    }
    // What is left ends when the set is dropped.
    let _ = tokio::time::timeout(END_LIMIT, async { while connections.join_next().await.is_some() {} }).await;
}

/// What all connections share.
struct Port {
    find: Find,
    address: SocketAddr,
    began: Instant,
    turns: Arc<Semaphore>,
    large: Arc<Semaphore>,
    limits: Limits,
}

impl Port {
    fn jobs(&self) -> Result<Jobs, Reply> {
        (self.find)().ok_or_else(loading)
    }

    fn connected(&self) -> usize {
        self.limits.connections.saturating_sub(self.turns.available_permits())
    }

    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Engine) -> T + Send + 'static) -> Result<T, Reply> {
        self.jobs()?.look(look).await.map_err(refused)
    }

    /// All of a job, payload and log included; few connections hold such at once.
    async fn detail(&self, id: u64, session: &mut Session) -> Result<Option<Detail>, Reply> {
        if session.turn.is_none() {
            let turn = tokio::time::timeout(TURN_LIMIT, self.large.clone().acquire_owned()).await;
            let busy = || Reply::error("BUSY others are being sent large replies; ask again");
            session.turn = Some(turn.ok().and_then(Result::ok).ok_or_else(busy)?);
        }
        self.jobs()?.get(id).await.map_err(refused)
    }
}

fn loading() -> Reply {
    Reply::error("LOADING jobs are not open: another server lets go of them now, or the disk refuses (mainstay logs)")
}

fn refused(error: Error) -> Reply {
    match error {
        Error::Closed => loading(),
        Error::Behind(_) => Reply::Error(format!("BUSY {error}")),
        error => Reply::Error(format!("ERR {error} (mainstay logs)")),
    }
}

fn too_large() -> Reply {
    Reply::Error(format!("ERR the reply would have more than {REPLY_BYTES_MAX} bytes: ask for less at once"))
}

async fn converse(stream: TcpStream, session: Session, port: &Port, shutdown: &Shutdown) -> std::io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut connection = Connection { stream, session, inbox: BytesMut::new(), out: Vec::new(), port };
    let mut asked_until = tokio::time::Instant::now() + port.limits.idle;
    loop {
        if connection.answer_all().await? {
            asked_until = tokio::time::Instant::now() + port.limits.idle;
        }
        connection.send().await?;
        if connection.session.is_over {
            return connection.linger().await;
        }
        connection.inbox.reserve(READ_BYTES);
        let read = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(()),
            read = tokio::time::timeout_at(asked_until, connection.stream.read_buf(&mut connection.inbox)) => read,
        };
        if !read.is_ok_and(|read| read.is_ok_and(|count| count > 0)) {
            return Ok(());
        }
    }
}

struct Connection<'a> {
    stream: TcpStream,
    session: Session,
    inbox: BytesMut,
    out: Vec<u8>,
    port: &'a Port,
}

impl Connection<'_> {
    /// Answers what is there of whole requests. Whether there was one.
    async fn answer_all(&mut self) -> std::io::Result<bool> {
        let mut was_asked = false;
        while !self.session.is_over {
            let words = match frame::parse(&self.inbox) {
                Ok(Parsed::Partial) => break,
                Ok(Parsed::Whole(words, taken)) => {
                    self.inbox.advance(taken);
                    words
                }
                Err(broken) => {
                    Reply::Error(format!("ERR Protocol error: {broken}")).write(self.session.protocol, &mut self.out);
                    self.session.is_over = true;
                    break;
                }
            };
            if words.is_empty() {
                continue;
            }
            if is_http(&words) {
                // A page that was made to speak to us. It is told nothing, as by Redis itself.
                tracing::warn!(peer = ?self.session.address, "HTTP where jobs are shown by RESP; cut");
                self.session.is_over = true;
                self.out.clear();
                break;
            }
            was_asked = true;
            let reply = commands::answer(&mut self.session, &words, self.port).await;
            reply.write(self.session.protocol, &mut self.out);
            if self.out.len() >= SENT_AT_ONCE_BYTES || self.session.turn.is_some() {
                drop(reply);
                self.send().await?;
            }
        }
        Ok(was_asked)
    }

    /// Sends what was answered, within the time a client has to take it.
    async fn send(&mut self) -> std::io::Result<()> {
        let sent = tokio::time::timeout(self.port.limits.send, self.stream.write_all(&self.out)).await;
        sent.map_err(|_| std::io::ErrorKind::TimedOut)??;
        self.out.clear();
        // What one large reply took is not kept for as long as the connection.
        self.out.shrink_to(SENT_AT_ONCE_BYTES);
        self.session.turn = None;
        Ok(())
    }

    /// Whoever still sends would hear of a reset in place of the last reply.
    async fn linger(mut self) -> std::io::Result<()> {
        self.stream.shutdown().await?;
        let rest = async {
            let (mut sink, mut count) = ([0; 1024], 0);
            while count < frame::REQUEST_BYTES_MAX {
                match self.stream.read(&mut sink).await {
                    Ok(read) if read > 0 => count += read,
                    _ => break,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER_LIMIT, rest).await;
        Ok(())
    }
}

/// A request line or header of a browser.
fn is_http(words: &[Vec<u8>]) -> bool {
    let is = |name: &[u8]| words.first().is_some_and(|word| word.eq_ignore_ascii_case(name));
    is(b"POST") || is(b"Host:")
}

#[cfg(test)]
mod fuzz;
