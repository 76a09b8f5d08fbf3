//! The acceptor: one thread that takes connections from every listener and hands each to the core with the fewest.
//!
//! One socket an address and no SO_REUSEPORT: a second process could share the port silently.

use crate::core::{Instruments, Shared};
use crate::refusal::Own;
use crate::worker::{Accepted, CoreHandle, Order};
use mainstay_runtime::Clock;
use mainstay_telemetry::{Record, Verdict};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::error::TrySendError;

/// Connections taken from one listener before the others get their turn.
const ACCEPTS_PER_TURN_MAX: usize = 64;
/// Pause when no descriptor is left: accepting at once again would spin.
const EXHAUSTED_PAUSE_MS: u16 = 50;

/// A listening socket of the edge.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    /// Not the standard library's: what this one takes is non-blocking without another call.
    socket: mio::net::TcpListener,
    tls: bool,
}

impl Listening {
    pub fn new(address: SocketAddr, socket: TcpListener, tls: bool) -> Listening {
        // Every connection it takes inherits this. Without it answers come late, but they come.
        let _ = socket2::SockRef::from(&socket).set_tcp_nodelay(true);
        Listening { address, socket: mio::net::TcpListener::from_std(socket), tls }
    }

    /// The same socket, read in another way.
    fn read_as(&self, tls: bool) -> io::Result<Listening> {
        let socket = TcpListener::from(self.socket.as_fd().try_clone_to_owned()?);
        Ok(Listening::new(self.address, socket, tls))
    }
}

/// Changes what the acceptor listens on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AcceptorHandle {
    wanted: Arc<Mutex<Wanted>>,
    wake: Arc<UnixStream>,
}

#[derive(Debug, Default)]
struct Wanted {
    listening: Vec<Arc<Listening>>,
    stopped: bool,
}

/// The thread's side.
#[derive(Debug)]
pub struct Acceptor {
    wanted: Arc<Mutex<Wanted>>,
    woken: UnixStream,
    cores: Vec<CoreHandle>,
    shared: Arc<Shared>,
    instruments: Instruments,
}

pub fn pair(
    listening: Vec<Listening>,
    cores: Vec<CoreHandle>,
    shared: Arc<Shared>,
    instruments: Instruments,
) -> io::Result<(Acceptor, AcceptorHandle)> {
    let (wake, woken) = UnixStream::pair()?;
    woken.set_nonblocking(true)?;
    wake.set_nonblocking(true)?;
    let listening = listening.into_iter().map(Arc::new).collect();
    let wanted = Arc::new(Mutex::new(Wanted { listening, stopped: false }));
    let handle = AcceptorHandle { wanted: wanted.clone(), wake: Arc::new(wake) };
    Ok((Acceptor { wanted, woken, cores, shared, instruments }, handle))
}

impl AcceptorHandle {
    /// Listens on these from now on, besides those of `keep` that are there already.
    pub fn change(&self, add: Vec<Listening>, keep: &[(SocketAddr, bool)]) {
        let mut wanted = self.lock();
        let old = std::mem::take(&mut wanted.listening);
        for listening in old {
            match keep.iter().find(|(address, _)| *address == listening.address) {
                Some((_, tls)) if *tls == listening.tls => wanted.listening.push(listening),
                Some((_, tls)) => wanted.listening.extend(listening.read_as(*tls).ok().map(Arc::new)),
                None => {}
            }
        }
        wanted.listening.extend(add.into_iter().map(Arc::new));
        drop(wanted);
        self.wake();
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().listening.iter().map(|l| l.address).collect()
    }

    /// Takes no more connections; the thread ends.
    pub fn stop(&self) {
        let mut wanted = self.lock();
        wanted.stopped = true;
        wanted.listening.clear();
        drop(wanted);
        self.wake();
    }

    fn wake(&self) {
        // A full pipe has woken it already.
        let _ = (&*self.wake).write(&[1]);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acceptor {
    /// Runs until stopped.
    pub fn run(mut self) {
        let mut timeout = PollTimeout::NONE;
        loop {
            let listening: Vec<Arc<Listening>> = {
                let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
                if wanted.stopped {
                    return;
                }
                wanted.listening.clone()
            };
            let mut fds = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
            if timeout == PollTimeout::NONE {
                fds.extend(listening.iter().map(|l| PollFd::new(l.socket.as_fd(), PollFlags::POLLIN)));
            }
            let _ = poll(&mut fds, timeout);
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            timeout = PollTimeout::NONE;
            if ready.first() == Some(&true) {
                let _ = self.woken.read(&mut [0; 64]);
                continue;
            }
            for (listening, _) in listening.iter().zip(ready.iter().skip(1)).filter(|(_, ready)| **ready) {
                if self.accept(listening).is_err() {
                    timeout = PollTimeout::from(EXHAUSTED_PAUSE_MS);
                }
            }
        }
    }

    /// Err: the machine has no descriptors or memory left for now.
    fn accept(&mut self, listening: &Listening) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match listening.socket.accept() {
                Ok((stream, peer)) => self.hand_over(stream.into(), peer, listening.tls),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e)
                    if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)) =>
                {
                    tracing::warn!(error = %e, "connections wait: no descriptors left; raise LimitNOFILE");
                    return Err(e);
                }
                // The client was gone before we took it.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, stream: TcpStream, peer: SocketAddr, tls: bool) {
        // A banned client is not worth an answer.
        if self.shared.bans.is_banned(peer.ip(), Clock::now().0) {
            return;
        }
        let (limit, of_client) = {
            let snapshot = self.shared.snapshot.load();
            let of_client = match snapshot.limits.connections_per_client {
                // A proxy carries the connections of many.
                Some(max) if !snapshot.trusted.contains(peer.ip()) => match self.shared.crowd.enter(peer.ip(), max) {
                    Some(entered) => Some(entered),
                    None => {
                        let rule = snapshot.rules.per_client;
                        drop(snapshot);
                        return self.refuse(stream, peer.ip(), tls, rule);
                    }
                },
                _ => None,
            };
            (snapshot.limits.connections, of_client)
        };
        if self.shared.connections.fetch_add(1, Relaxed) >= limit {
            self.shared.connections.fetch_sub(1, Relaxed);
            let rule = self.shared.snapshot.load().rules.connections;
            return self.refuse(stream, peer.ip(), tls, rule);
        }
        let fewest = self.cores.iter().min_by_key(|c| c.connections.load(Relaxed));
        let Some(core) = fewest else { return };
        core.connections.fetch_add(1, Relaxed);
        let order = Order::Serve(Accepted { stream, peer: peer.ip(), tls, of_client });
        if let Err(TrySendError::Full(order) | TrySendError::Closed(order)) = core.orders.try_send(order) {
            core.connections.fetch_sub(1, Relaxed);
            self.shared.connections.fetch_sub(1, Relaxed);
            if let Order::Serve(accepted) = order {
                let rule = self.shared.snapshot.load().rules.connections;
                self.refuse(accepted.stream, accepted.peer, tls, rule);
            }
        }
    }

    /// One too many: told so where the client can read it, and written down.
    fn refuse(&mut self, mut stream: TcpStream, peer: IpAddr, tls: bool, rule: u32) {
        let own = Own { verdict: Verdict::TooManyConnections, ..Own::new(503) };
        if !tls && stream.set_nonblocking(true).is_ok() {
            let _ = stream.write(&own.bytes());
        }
        let record = Record {
            id: own.id,
            started_unix_us: own.unix_us,
            status: own.verdict.status(),
            verdict: own.verdict,
            rule,
            client: crate::address::plain(peer),
            peer: crate::address::plain(peer),
            tls,
            total_us: Clock::unix_micros().saturating_sub(own.unix_us),
            ..Record::EMPTY
        };
        self.instruments.metrics.record(&record);
        self.instruments.ring.push(record);
    }
}
