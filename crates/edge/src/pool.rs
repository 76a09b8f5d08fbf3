//! One core's connections to upstreams. Never shared: a request stays on the core that read it.

use crate::body::Payload;
use crate::upstream::Upstream;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Idle connections kept an upstream and core. More than the guides' 32, because one core may carry all clients.
const IDLE_PER_UPSTREAM_MAX: usize = 256;

/// How long an idle connection may be used again when the app does not say: Node closes after 5 s.
pub const IDLE_DEFAULT: Duration = Duration::from_secs(4);

/// hyper grows its read buffer up to this; large bodies want it, heads are limited apart.
const READ_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Largest response head.
const RESPONSE_HEAD_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<HashMap<u32, Idle>>,
}

#[derive(Debug)]
struct Idle {
    upstream: Arc<Upstream>,
    /// The newest last, and first to be used again.
    connections: Vec<Connection>,
}

/// A connection to an upstream.
#[derive(Debug)]
pub struct Connection {
    pub sender: SendRequest<Payload>,
    expires_ms: u64,
}

impl Pool {
    /// The idle connection used last that is still good.
    pub fn take(&self, upstream: &Upstream, now_ms: u64) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let connections = &mut idle.get_mut(&upstream.slot)?.connections;
        while let Some(connection) = connections.pop() {
            if connection.expires_ms > now_ms && !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub fn give_back(&self, upstream: &Arc<Upstream>, mut connection: Connection, keep: Duration, now_ms: u64) {
        if connection.sender.is_closed() || upstream.is_draining() {
            return;
        }
        connection.expires_ms = now_ms + u64::try_from(keep.as_millis()).unwrap_or(0);
        let mut idle = self.idle.borrow_mut();
        let idle =
            idle.entry(upstream.slot).or_insert_with(|| Idle { upstream: upstream.clone(), connections: Vec::new() });
        if idle.connections.len() < IDLE_PER_UPSTREAM_MAX {
            idle.connections.push(connection);
        }
    }

    /// Closes what is too old or belongs to an upstream that drains.
    pub fn sweep(&self, now_ms: u64) {
        self.idle.borrow_mut().retain(|_, idle| {
            if idle.upstream.is_draining() {
                return false;
            }
            idle.connections.retain(|c| c.expires_ms > now_ms && !c.sender.is_closed());
            if idle.connections.is_empty() {
                idle.connections.shrink_to(0);
            }
            true
        });
    }
}

/// Opens a connection. Its task lives on this core until the connection ends.
pub async fn connect(upstream: &Upstream, timeout: Duration) -> io::Result<Connection> {
    let (sender, connection) = handshake(upstream, timeout).await?;
    tokio::task::spawn_local(async move {
        // Its error reaches whoever waits for an answer on it; an idle connection's end is no news.
        let _ = connection.await;
    });
    Ok(Connection { sender, expires_ms: 0 })
}

/// Opens a connection that may become a tunnel.
pub async fn connect_upgradable(upstream: &Upstream, timeout: Duration) -> io::Result<Connection> {
    let (sender, connection) = handshake(upstream, timeout).await?;
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(Connection { sender, expires_ms: 0 })
}

type Http1 = http1::Connection<TokioIo<TcpStream>, Payload>;

async fn handshake(upstream: &Upstream, timeout: Duration) -> io::Result<(SendRequest<Payload>, Http1)> {
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(upstream.address)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "connect timeout")),
    };
    stream.set_nodelay(true)?;
    http1::Builder::new()
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .max_header_size(RESPONSE_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)
}
