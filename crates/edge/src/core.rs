//! One core: a thread with a runtime of its own that accepts nothing, shares almost nothing and serves everything.
//!
//! Invariant: a core never waits for another thread but for a message it sent.

use crate::affinity::Affinity;
use crate::body::Deadline;
use crate::cache;
use crate::fields::{Fields, Name};
use crate::headers::Peer;
use crate::http1::buffer::Buffers;
use crate::http1::client::Socket;
use crate::http2::upstream::Streams;
use crate::limit::{crawlers::Desk, proxies::Unnamed};
use crate::local::LocalSender;
use crate::message::Heads;
use crate::pool::{Connection, Pool};
use crate::retry::Budget;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::watch::{Phase, Sweep, Watch};
use arc_swap::{ArcSwap, Cache};
use mainstay_limits::crowd::Entered;
use mainstay_limits::{Bans, Crowd, Rates};
use mainstay_runtime::Clock;
use mainstay_telemetry::id::Ids;
use mainstay_telemetry::metrics::CoreMetrics;
use mainstay_telemetry::ring::CoreRing;
use mainstay_telemetry::routes::Learner;
use mainstay_telemetry::{Names, Record, RequestId, Verdict};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Records kept for reuse; more are freed.
const SPARE_RECORDS_MAX: usize = 256;

/// What all cores share.
#[derive(Debug)]
pub struct Shared {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub affinity: Affinity,
    pub files: crate::files::reader::Reader,
    /// Signs sticky cookies.
    pub sticky: crate::sticky::Key,
    pub cache: Arc<cache::Store>,
    /// Bodies that are checked: who checks the large ones, and the room for all.
    pub judges: crate::input::judge::Judges,
    pub room: crate::input::room::Room,
    pub identities: crate::identity::Identities,
    pub local: LocalSender,
    /// To the services of this process.
    pub calls: crate::service_call::Sender,
    pub sessions: Arc<mainstay_identity::sessions::Sessions>,
    /// Open client connections, over all cores.
    pub connections: AtomicU32,
    /// Requests that wait for an instance, over all cores.
    pub held: AtomicU32,
    pub bans: Bans,
    pub rates: Rates,
    /// The connections of all cores to Redis, where something is shared through it.
    pub links: ArcSwap<crate::redis::Links>,
    /// Crawlers that were proven.
    pub crawlers: Desk,
    /// Proxies that nobody named.
    pub unnamed: Unnamed,
    /// Connections of each client.
    pub crowd: Crowd,
    /// TLS handshakes of each client that are not done.
    pub handshakes: Crowd,
}

/// What a core is given by telemetry.
#[derive(Debug)]
pub struct Instruments {
    pub ids: Ids,
    pub ring: CoreRing,
    pub metrics: CoreMetrics,
    pub routes: Learner,
}

pub struct Core {
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    pub shared: Arc<Shared>,
    pub sweep: Rc<Sweep>,
    /// Milliseconds on `Clock`, as of the last request or sweep.
    pub now_ms: Arc<AtomicU64>,
    now_us: Cell<u64>,
    unix_ahead_us: Cell<u64>,
    pub pool: Pool,
    /// Connections to upstreams that speak HTTP/2.
    pub streams: Streams,
    pub budget: RefCell<Budget>,
    pub draining: Cell<bool>,
    /// Open connections of this core, read by the acceptor.
    pub connections: Arc<AtomicU32>,
    /// Buffer of every tunnel on this core, used while one of them is polled.
    pub scratch: RefCell<Box<[u8]>>,
    instruments: RefCell<Instruments>,
    pub buffers: Buffers,
    pub heads: Heads,
    /// Bodies being compressed.
    pub encoders: crate::respond::encoder::Count,
    pub cache: cache::Local,
    /// Where something is shared: this core's own connection.
    pub redis: crate::redis::Own,
    /// Tokens verified lately.
    pub verified: RefCell<mainstay_identity::Verified>,
    /// Where a head is written before it goes into a buffer.
    pub text: RefCell<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "a record goes from request to request in its box, never copied")]
    spare: RefCell<Vec<Box<Record>>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Core {
    pub fn new(shared: Arc<Shared>, instruments: Instruments, connections: Arc<AtomicU32>) -> Core {
        Core {
            snapshot: RefCell::new(Cache::new(shared.snapshot.clone())),
            shared,
            sweep: Rc::default(),
            now_ms: Arc::new(AtomicU64::new(Clock::now().0)),
            now_us: Cell::new(Clock::micros()),
            unix_ahead_us: Cell::new(Clock::unix_micros().saturating_sub(Clock::micros())),
            pool: Pool::default(),
            streams: Streams::default(),
            budget: RefCell::default(),
            draining: Cell::new(false),
            connections,
            scratch: RefCell::new(vec![0; crate::tunnel::SCRATCH_BYTES].into_boxed_slice()),
            instruments: RefCell::new(instruments),
            buffers: Buffers::default(),
            heads: Heads::default(),
            encoders: Default::default(),
            cache: cache::Local::default(),
            redis: Default::default(),
            verified: RefCell::default(),
            text: RefCell::default(),
            spare: RefCell::default(),
        }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow_mut().load().clone()
    }

    /// Microseconds since the Unix epoch, from the monotonic clock and the distance the last sweep measured.
    pub fn unix_us(&self, micros: u64) -> u64 {
        micros.saturating_add(self.unix_ahead_us.get())
    }

    /// Measures how far the wall clock is ahead of ours; it may have been set since.
    pub fn set_unix(&self) {
        self.unix_ahead_us.set(Clock::unix_micros().saturating_sub(Clock::micros()));
    }

    /// Reads the clock and keeps what it said for everybody who needs no better.
    pub fn tick(&self) -> u64 {
        let micros = Clock::micros();
        self.now_us.set(micros);
        self.now_ms.store(micros / 1000, Relaxed);
        micros
    }

    /// Microseconds as of the last `tick`.
    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    pub fn request_id(&self, unix_us: u64) -> RequestId {
        self.instruments.borrow_mut().ids.request(unix_us)
    }

    pub fn trace_and_span(&self) -> ([u8; 16], [u8; 8]) {
        let ids = &mut self.instruments.borrow_mut().ids;
        (ids.trace(), ids.span())
    }

    pub fn with_metrics(&self, tell: impl FnOnce(&CoreMetrics)) {
        tell(&self.instruments.borrow().metrics);
    }

    pub fn record(&self) -> Box<Record> {
        match self.spare.borrow_mut().pop() {
            Some(mut record) => {
                *record = Record::EMPTY;
                record
            }
            None => Box::new(Record::EMPTY),
        }
    }

    /// Counts and logs a finished request.
    pub fn finished(&self, mut record: Box<Record>) {
        let instruments = &mut *self.instruments.borrow_mut();
        if record.route == Names::NONE {
            record.route = instruments.routes.route(record.path.as_str(), record.status);
        }
        instruments.metrics.record(&record);
        if (400..500).contains(&record.status) && record.verdict != Verdict::Banned {
            self.shared.bans.answered(record.client, record.status, record.path.as_str(), self.now_ms());
            if record.verdict == Verdict::TooManyRequests {
                self.shared.rates.refused_at(record.route, Names::OTHER);
            }
        }
        instruments.ring.push(*record);
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_RECORDS_MAX {
            spare.push(record);
        }
    }
}

/// A client's connection, as its requests see it.
#[derive(Debug)]
pub struct Conn {
    pub peer: Peer,
    pub watch: Arc<Watch>,
    /// Its socket, where it speaks HTTP/1.
    pub http1: Option<Socket>,
    /// Requests being worked on: at most one on HTTP/1.
    pub open: Cell<u32>,
    pub idle: Duration,
    /// Held, not read: the connection counts for as long as anybody holds this.
    pub _place: Place,
}

/// A connection in the counts of its core and of all; given back when dropped, at a tunnel's end if it became one.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    core: Arc<AtomicU32>,
    _of_client: Option<Entered>,
}

impl Place {
    /// The acceptor counted it in.
    pub fn counted(shared: Arc<Shared>, core: Arc<AtomicU32>, of_client: Option<Entered>) -> Place {
        Place { shared, core, _of_client: of_client }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.fetch_sub(1, Relaxed);
        self.shared.connections.fetch_sub(1, Relaxed);
    }
}

impl Conn {
    pub fn begin(&self) {
        self.open.set(self.open.get() + 1);
        self.watch.enter(Phase::Busy);
        self.watch.clear();
    }

    fn end(&self, now_ms: u64) {
        self.open.set(self.open.get().saturating_sub(1));
        if self.open.get() == 0 && self.watch.phase() == Phase::Busy {
            self.watch.enter(Phase::Idle);
            self.watch.set(now_ms, self.idle);
        }
    }
}

/// The end of a request, told once whatever happens: complete, cut, or left alone by its client.
#[derive(Debug)]
pub struct Finish {
    core: Rc<Core>,
    conn: Rc<Conn>,
    deadline: Deadline,
    /// `None` once told.
    record: Option<Box<Record>>,
    started_us: u64,
    complete: bool,
}

impl Finish {
    pub fn new(core: Rc<Core>, conn: Rc<Conn>, deadline: Deadline, record: Box<Record>, started_us: u64) -> Finish {
        Finish { core, conn, deadline, record: Some(record), started_us, complete: false }
    }

    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// What is written down so far. Only empty while it is being dropped.
    pub fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            note(record);
        }
    }

    pub fn id(&self) -> RequestId {
        self.record.as_ref().map_or(Record::EMPTY.id, |r| r.id)
    }

    pub fn elapsed_us(&self) -> u64 {
        Clock::micros().saturating_sub(self.started_us)
    }

    pub fn sent(&mut self, bytes: usize) {
        self.note(|r| r.bytes_out += bytes as u64);
    }

    pub fn decide(&mut self, verdict: Verdict) {
        self.note(|r| r.verdict = verdict);
    }

    pub fn complete(&mut self) {
        self.complete = true;
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Puts the id on a head; an `X-Request-Id` that is there stays.
    pub fn identify(&self, fields: &mut Fields) {
        let mut id = *b"r_00000000000000000000000000";
        id[2..].copy_from_slice(&self.id().0);
        if !fields.has(Name::XRequestId) {
            fields.add(Name::XRequestId, &id);
        }
        fields.set(Name::RequestId, &id);
    }

    /// Nobody is told: there was no client.
    pub fn forget(&mut self) {
        self.record = None;
    }

    pub fn learn_sid(&self, data: &[u8], upstream: &Arc<Upstream>) {
        self.core.shared.affinity.learn(data, upstream.slot, self.core.now_ms());
    }

    pub fn give_back(&self, upstream: &Arc<Upstream>, connection: Connection, keep: Duration) {
        self.core.pool.give_back(upstream, connection, keep, self.core.now_ms());
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        let now_us = self.core.tick();
        record.total_us = now_us.saturating_sub(self.started_us);
        if !self.complete && record.verdict == Verdict::Ok {
            record.verdict = Verdict::ClientGone;
            record.client_gone = true;
            if record.status == 0 {
                record.status = Verdict::ClientGone.status();
            }
        }
        self.conn.end(now_us / 1000);
        self.core.finished(record);
    }
}
