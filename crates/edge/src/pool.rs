//! One core's connections to upstreams. Never shared: a request stays on the core that read it.

use crate::http1::buffer::Buffer;
use crate::upstream::Upstream;
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

/// Whatever the app says: an idle connection is not kept for longer.
const KEEP_MAX: Duration = Duration::from_secs(3600);

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
    pub stream: TcpStream,
    /// Read, and not yet passed on.
    pub input: Buffer,
    expires_ms: u64,
}

impl Connection {
    /// Nothing has come that nobody asked for, and no end. Costs no system call while that is so.
    fn is_quiet(&self) -> bool {
        self.input.is_empty()
            && matches!(self.stream.try_read(&mut [0; 1]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Pool {
    /// The idle connection used last that is still good.
    pub fn take(&self, upstream: &Upstream, now_ms: u64) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let connections = &mut idle.get_mut(&upstream.slot)?.connections;
        while let Some(connection) = connections.pop() {
            if connection.expires_ms > now_ms && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    pub fn give_back(&self, upstream: &Arc<Upstream>, mut connection: Connection, keep: Duration, now_ms: u64) {
        if upstream.is_draining() || !connection.input.is_empty() {
            return;
        }
        connection.expires_ms = now_ms.saturating_add(u64::try_from(keep.min(KEEP_MAX).as_millis()).unwrap_or(0));
        let mut idle = self.idle.borrow_mut();
        let idle =
            idle.entry(upstream.slot).or_insert_with(|| Idle { upstream: upstream.clone(), connections: Vec::new() });
        if idle.connections.len() < IDLE_PER_UPSTREAM_MAX {
            idle.connections.push(connection);
        }
    }

    /// Closes what is too old, was closed by the app, or belongs to an upstream that drains.
    pub fn sweep(&self, now_ms: u64) {
        self.idle.borrow_mut().retain(|_, idle| {
            if idle.upstream.is_draining() {
                return false;
            }
            idle.connections.retain(|c| c.expires_ms > now_ms && c.is_quiet());
            if idle.connections.is_empty() {
                idle.connections.shrink_to(0);
            }
            true
        });
    }
}

/// Opens a connection.
pub async fn connect(upstream: &Upstream, timeout: Duration) -> io::Result<Connection> {
    let stream = match tokio::time::timeout(timeout, TcpStream::connect(upstream.address)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "connect timeout")),
    };
    stream.set_nodelay(true)?;
    Ok(Connection { stream, input: Buffer::default(), expires_ms: 0 })
}
