//! A core's thread: takes the connections it is handed, speaks HTTP/1 or HTTP/2 on each, keeps their deadlines.

use crate::body::Deadline;
use crate::core::{Conn, Core, Instruments, Place, Shared};
use crate::headers::Peer;
use crate::http1::buffer::Buffer;
use crate::http1::client::{self, head_read_max};
use crate::http1::stream::Stream;
use crate::http2;
use crate::proxy_protocol;
use crate::redis::Link;
use crate::refusal::Own;
use crate::request;
use crate::snapshot::Snapshot;
use crate::socket::Socket;
use crate::watch::{Phase, SWEEP_EVERY, Watch};
use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_limits::crowd::Entered;
use mainstay_telemetry::{Names, Record, Verdict};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// What begins an HTTP/2 connection without TLS (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams one client may have open on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// What is encrypted ahead of a client that takes it slowly. rustls's own bound, half of it, costs a large body twice
/// as many writes; twice as much again measured no better.
const SEALED_BYTES_MAX: usize = 128 * 1024;
/// How long an HTTP/2 client has to leave after it was told to.
const GOAWAY_GRACE: Duration = Duration::from_secs(5);

/// Connections on their way to one core. One more means that the core stands still: the client is refused.
pub const ORDERS_MAX: usize = 4096;

/// A connection on its way to a core.
#[derive(Debug)]
pub struct Accepted {
    /// Non-blocking, and without delay.
    pub stream: std::net::TcpStream,
    pub peer: IpAddr,
    pub tls: bool,
    /// Its place among the connections of its client.
    pub of_client: Option<Entered>,
}

/// What a core is told to do.
#[derive(Debug)]
pub enum Order {
    Serve(Accepted),
    /// Another Redis, or none.
    Link(Link),
    /// From now on each answer closes its connection, and HTTP/2 clients are told to leave.
    Drain,
    /// Closes what is idle; answers with the number of connections that are not.
    EndIdle(oneshot::Sender<usize>),
}

/// The acceptor's and the service's side of a core.
#[derive(Debug, Clone)]
pub struct CoreHandle {
    pub orders: mpsc::Sender<Order>,
    pub connections: Arc<AtomicU32>,
}

/// Runs a core on this thread until its handle is dropped.
pub fn run(
    shared: Arc<Shared>,
    instruments: Instruments,
    handle: &CoreHandle,
    (orders, link): (mpsc::Receiver<Order>, Link),
) -> io::Result<()> {
    let runtime = mainstay_runtime::local()?;
    let core = Rc::new(Core::new(shared, instruments, handle.connections.clone()));
    runtime.block_on(async {
        core.redis.take_up(link);
        serve(core, orders).await;
    });
    Ok(())
}

async fn serve(core: Rc<Core>, mut orders: mpsc::Receiver<Order>) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Serve(accepted)) => {
                    tokio::task::spawn_local(connection(core.clone(), accepted));
                }
                Some(Order::Link(link)) => core.redis.take_up(link),
                Some(Order::Drain) => {
                    core.draining.set(true);
                    core.sweep.wake_all();
                }
                Some(Order::EndIdle(answer)) => {
                    core.sweep.expire_all(|phase| phase != Phase::Busy && phase != Phase::Tunnel);
                    let _ = answer.send(core.sweep.count(|phase| phase == Phase::Busy));
                }
                None => return,
            },
            _ = sweep.tick() => {
                let now_ms = core.tick() / 1000;
                core.set_unix();
                core.sweep.run(now_ms);
                core.sweep.close_sockets(core.draining.get(), core.snapshot().timeouts.drain);
                core.pool.sweep(now_ms);
                core.streams.sweep();
            }
        }
    }
}

async fn connection(core: Rc<Core>, mut accepted: Accepted) {
    let place = Place::counted(core.shared.clone(), core.connections.clone(), accepted.of_client.take());
    core.with_metrics(|m| m.connection_opened());
    let snapshot = core.snapshot();
    // An error is a client that left, or sent what is no HTTP; what can be told was told and written down.
    let _ = greet(&core, &snapshot, accepted, place).await;
    core.with_metrics(|m| m.connection_closed());
}

/// TLS if the listener has it, then HTTP/1 or HTTP/2 as the client chooses.
async fn greet(core: &Rc<Core>, snapshot: &Snapshot, accepted: Accepted, place: Place) -> io::Result<()> {
    let mut stream = TcpStream::from_std(accepted.stream)?;
    core.tick();
    let mut peer = Peer::new(accepted.peer, &snapshot.trusted, accepted.tls);
    if !snapshot.proxy_protocol.is_empty() && snapshot.proxy_protocol.has(&stream.local_addr()) {
        let wait = snapshot.timeouts.header;
        match Box::pin(proxy_protocol::client(&mut stream, accepted.peer, &snapshot.trusted, wait)).await {
            Ok(client) => peer = Peer::new(client, &snapshot.trusted, accepted.tls),
            Err(error) => {
                refused(core, &peer, Own::new(400));
                return Err(error);
            }
        }
    }
    let met = Met { core, snapshot, peer, place };
    if !accepted.tls {
        return Box::pin(met.choose(Stream::Plain(stream))).await;
    }
    let Some(config) = snapshot.tls.clone() else { return Ok(()) };
    let Some(handshaking) = core.shared.handshakes.enter(met.peer.address, snapshot.limits.handshakes_per_client)
    else {
        let own = Own { verdict: Verdict::TooManyConnections, ..Own::new(503) };
        refused(core, &met.peer, own);
        return Ok(());
    };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    let mut stream = Box::pin(tokio::time::timeout(snapshot.timeouts.header, handshake))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    drop(handshaking);
    stream.get_mut().1.set_buffer_limit(Some(SEALED_BYTES_MAX));
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Stream::Tls(Box::new(stream));
    if http2 {
        return Box::pin(met.http2(stream, Bytes::new())).await;
    }
    Box::pin(met.choose(stream)).await
}

/// A client whose connection is open and whose protocol is not known yet.
struct Met<'a> {
    core: &'a Rc<Core>,
    snapshot: &'a Snapshot,
    peer: Peer,
    place: Place,
}

impl Met<'_> {
    /// Reads until it is clear whether the client speaks HTTP/2 by prior knowledge.
    async fn choose(self, mut stream: Stream) -> io::Result<()> {
        let mut first = Buffer::default();
        let sniff = poll_fn(|cx| {
            while first.len() < PREFACE.len() && PREFACE.starts_with(first.filled()) {
                let read = first.poll_read(cx, &mut stream, head_read_max(self.snapshot), &self.core.buffers);
                if std::task::ready!(read)? == 0 {
                    break;
                }
            }
            Poll::Ready(io::Result::Ok(()))
        });
        match tokio::time::timeout(self.snapshot.timeouts.header, sniff).await {
            Ok(read) => read?,
            Err(_) if first.is_empty() => return Ok(()),
            Err(_) => {
                let own = Own::new(408);
                refused(self.core, &self.peer, own);
                return stream.write_all(&own.bytes()).await;
            }
        }
        if first.is_empty() {
            return Ok(());
        }
        // Over TLS the two agree on it beforehand, or do not speak it (RFC 9113 §3.2).
        if !self.peer.tls && first.filled().starts_with(PREFACE) {
            let first = Bytes::copy_from_slice(first.filled());
            return Box::pin(self.http2(stream, first)).await;
        }
        let socket = client::Socket::new(stream, first, self.snapshot);
        let core = self.core.clone();
        let conn = self.conn(Some(socket));
        Box::pin(client::drive(core, conn)).await
    }

    fn conn(self, http1: Option<client::Socket>) -> Rc<Conn> {
        let watch = Arc::new(Watch::default());
        watch.set(self.core.now_ms(), self.snapshot.timeouts.header);
        let idle = self.snapshot.timeouts.idle;
        Rc::new(Conn { peer: self.peer, watch, http1, open: Cell::new(0), idle, _place: self.place })
    }

    async fn http2(self, stream: Stream, first: Bytes) -> io::Result<()> {
        let (core, snapshot) = (self.core.clone(), self.snapshot);
        let conn = self.conn(None);
        let socket = Socket::new(stream, first, conn.watch.clone(), core.now_ms.clone(), snapshot.timeouts.send);
        let service = service_fn({
            let (core, conn) = (core.clone(), conn.clone());
            move |request| {
                let watch = Arc::new(Watch::default());
                watch.enter(Phase::Busy);
                let ticket = Some(core.sweep.enlist(watch.clone()));
                let deadline = Deadline { watch, now_ms: core.now_ms.clone(), ticket };
                let (core, conn) = (core.clone(), conn.clone());
                async move {
                    let (head, body) = http2::request(&core, request);
                    let answer = request::serve(core.clone(), conn, deadline, head, body).await;
                    Ok::<_, Infallible>(http2::response(&core, answer))
                }
            }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(OnThisCore);
        builder
            .auto_date_header(false)
            .enable_connect_protocol()
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(head_read_max(snapshot)).unwrap_or(u32::MAX));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
        let watch = conn.watch.clone();
        let ticket = core.sweep.enlist(watch.clone());
        let mut told = false;
        poll_fn(|cx| {
            ticket.polled_by(cx);
            if !told && (core.draining.get() || watch.is_expired()) {
                told = true;
                connection.as_mut().graceful_shutdown();
                watch.forgive();
                watch.set(core.now_ms(), GOAWAY_GRACE);
            } else if told && watch.is_expired() && conn.open.get() == 0 {
                return Poll::Ready(Ok(()));
            }
            connection.as_mut().poll(cx)
        })
        .await
        .map_err(io::Error::other)
    }
}

/// Writes down what was no request.
pub fn refused(core: &Core, peer: &Peer, own: Own) {
    let mut record = core.record();
    *record = Record {
        id: own.id,
        started_unix_us: own.unix_us,
        status: own.verdict.status(),
        verdict: own.verdict,
        // Nothing was read that could be a path.
        route: Names::OTHER,
        client: peer.address,
        peer: peer.address,
        tls: peer.tls,
        version: 11,
        ..Record::EMPTY
    };
    core.finished(record);
}

/// HTTP/2 streams stay on the core of their connection.
#[derive(Debug, Clone, Copy)]
pub struct OnThisCore;

impl<F> hyper::rt::Executor<F> for OnThisCore
where
    F: Future + 'static,
{
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            stream.await;
        });
    }
}
