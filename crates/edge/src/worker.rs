//! A core's thread: takes the connections it is handed, speaks HTTP/1 or HTTP/2 on each, keeps their deadlines.

use crate::body::Deadline;
use crate::core::{Conn, Core, Instruments, Place, Shared};
use crate::headers::Peer;
use crate::refusal::Own;
use crate::request;
use crate::snapshot::Snapshot;
use crate::socket::{Limits, Socket, Wire};
use crate::watch::{Phase, SWEEP_EVERY, Watch};
use bytes::Bytes;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_telemetry::{Names, Record};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// hyper's read buffer; bodies want it large, heads are limited apart.
const READ_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Heads beyond the configured limit are still read up to this, so that the refusal can name the request.
const HEAD_READ_BYTES_MIN: usize = 128 * 1024;
/// The same, where the configured limit is itself large.
const HEAD_READ_FACTOR: usize = 4;
/// What begins an HTTP/2 connection without TLS (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// First read of a connection.
const FIRST_READ_BYTES: usize = 4096;
/// Streams one client may have open on one HTTP/2 connection.
const STREAMS_MAX: u32 = 250;
/// How long an HTTP/2 client has to leave after it was told to.
const GOAWAY_GRACE: Duration = Duration::from_secs(5);

/// Connections on their way to one core. One more means that the core stands still: the client is refused.
pub const ORDERS_MAX: usize = 4096;

/// A connection on its way to a core.
#[derive(Debug)]
pub struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: IpAddr,
    pub tls: bool,
}

/// What a core is told to do.
#[derive(Debug)]
pub enum Order {
    Serve(Accepted),
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
    orders: mpsc::Receiver<Order>,
) -> io::Result<()> {
    let runtime = mainstay_runtime::local()?;
    let core = Rc::new(Core::new(shared, instruments, handle.connections.clone()));
    runtime.block_on(serve(core, orders));
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
            }
        }
    }
}

async fn connection(core: Rc<Core>, accepted: Accepted) {
    let place = Place::counted(core.shared.clone(), core.connections.clone());
    core.with_metrics(|m| m.connection_opened());
    let snapshot = core.snapshot();
    // An error is a client that left, or sent what is no HTTP; what can be told was told and written down.
    let _ = greet(&core, &snapshot, accepted, place).await;
    core.with_metrics(|m| m.connection_closed());
}

/// TLS if the listener has it, then HTTP/1 or HTTP/2 as the client chooses.
async fn greet(core: &Rc<Core>, snapshot: &Snapshot, accepted: Accepted, place: Place) -> io::Result<()> {
    accepted.stream.set_nonblocking(true)?;
    accepted.stream.set_nodelay(true)?;
    let stream = TcpStream::from_std(accepted.stream)?;
    core.tick();
    let peer = Peer::new(accepted.peer, &snapshot.trusted, accepted.tls);
    if !accepted.tls {
        return Box::pin(choose(core, snapshot, stream, peer, place)).await;
    }
    let Some(config) = snapshot.tls.clone() else { return Ok(()) };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    let stream = Box::pin(tokio::time::timeout(snapshot.timeouts.header, handshake))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Box::pin(drive_http2(core, snapshot, stream, Bytes::new(), peer, place)).await;
    }
    Box::pin(choose(core, snapshot, stream, peer, place)).await
}

/// Reads until it is clear whether the client speaks HTTP/2 by prior knowledge.
async fn choose<S>(core: &Rc<Core>, snapshot: &Snapshot, mut stream: S, peer: Peer, place: Place) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut first = Vec::with_capacity(FIRST_READ_BYTES);
    let sniff = async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            if stream.read_buf(&mut first).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    match tokio::time::timeout(snapshot.timeouts.header, sniff).await {
        Ok(read) => read?,
        Err(_) if first.is_empty() => return Ok(()),
        Err(_) => {
            let own = Own::new(408);
            refused(core, &peer, own);
            return stream.write_all(&own.bytes()).await;
        }
    }
    if first.is_empty() {
        return Ok(());
    }
    if first.starts_with(PREFACE) {
        Box::pin(drive_http2(core, snapshot, stream, first.into(), peer, place)).await
    } else {
        Box::pin(drive_http1(core, snapshot, stream, first.into(), peer, place)).await
    }
}

fn open<S>(
    core: &Core,
    snapshot: &Snapshot,
    stream: S,
    first: Bytes,
    peer: Peer,
    place: Place,
    http1: bool,
) -> (Socket<S>, Rc<Conn>) {
    let watch = Arc::new(Watch::default());
    let wire = Arc::new(Wire { watch, now_ms: core.now_ms.clone(), ..Wire::default() });
    wire.watch.set(core.now_ms(), snapshot.timeouts.header);
    let limits = Limits { header: snapshot.timeouts.header, send: snapshot.timeouts.send };
    let socket = Socket::new(stream, first, wire.clone(), limits, http1);
    let conn = Conn { peer, wire, http1, open: Cell::new(0), idle: snapshot.timeouts.idle, _place: place };
    (socket, Rc::new(conn))
}

async fn drive_http1<S>(
    core: &Rc<Core>,
    snapshot: &Snapshot,
    stream: S,
    first: Bytes,
    peer: Peer,
    place: Place,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (socket, conn) = open(core, snapshot, stream, first, peer, place, true);
    let wire = conn.wire.clone();
    let service = service_fn({
        let (core, conn) = (core.clone(), conn.clone());
        move |request| {
            let watch = conn.wire.watch.clone();
            let deadline = Deadline { watch, now_ms: core.now_ms.clone(), ticket: None };
            // Boxed, so that an idle connection does not keep the room of a request.
            Box::pin(request::serve(core.clone(), conn.clone(), deadline, request))
        }
    });
    let mut builder = http1::Builder::new();
    builder.auto_date_header(false).max_buf_size(READ_BUFFER_BYTES_MAX).max_header_size(head_read_max(snapshot));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service).with_upgrades());
    let ticket = core.sweep.enlist(wire.watch.clone());
    let ended = poll_fn(|cx| {
        ticket.polled_by(cx);
        connection.as_mut().poll(cx)
    })
    .await;
    if let Some(own) = wire.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
        refused(core, &conn.peer, own);
    }
    ended.map_err(io::Error::other)
}

async fn drive_http2<S>(
    core: &Rc<Core>,
    snapshot: &Snapshot,
    stream: S,
    first: Bytes,
    peer: Peer,
    place: Place,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (socket, conn) = open(core, snapshot, stream, first, peer, place, false);
    let service = service_fn({
        let (core, conn) = (core.clone(), conn.clone());
        move |request| {
            let watch = Arc::new(Watch::default());
            watch.enter(Phase::Busy);
            let ticket = Some(core.sweep.enlist(watch.clone()));
            let deadline = Deadline { watch, now_ms: core.now_ms.clone(), ticket };
            request::serve(core.clone(), conn.clone(), deadline, request)
        }
    });
    let mut builder = http2::Builder::new(OnThisCore);
    builder
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(head_read_max(snapshot)).unwrap_or(u32::MAX));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let watch = conn.wire.watch.clone();
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

fn head_read_max(snapshot: &Snapshot) -> usize {
    (snapshot.limits.header * HEAD_READ_FACTOR).clamp(HEAD_READ_BYTES_MIN, READ_BUFFER_BYTES_MAX)
}

/// Writes down what hyper would not read.
fn refused(core: &Core, peer: &Peer, own: Own) {
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
struct OnThisCore;

impl<F> hyper::rt::Executor<F> for OnThisCore
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
