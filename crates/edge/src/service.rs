//! The edge as the binary holds it: built from its parts, started, changed by transactions, drained.

use crate::acceptor::{self, AcceptorHandle, Listening};
use crate::acme;
use crate::cache;
use crate::core::{Instruments, Shared};
use crate::identity::Identities;
use crate::input::{self, Schemas};
use crate::limit::{self, shown::Limits};
use crate::local::LocalSender;
use crate::members::Members;
use crate::options::{App, Options};
use crate::path::canonical;
use crate::probe;
use crate::redis::{Link, Links};
use crate::service_call;
use crate::snapshot::{Held, Snapshot};
use crate::sticky::Key;
use crate::tls::{self, Certificates, Given};
use crate::upstream::Upstream;
use crate::worker::{self, CoreHandle, Order};
use arc_swap::ArcSwap;
use mainstay_identity::sessions::Sessions;
use mainstay_identity::{Revoked, Signer, SignerFault, Verifier, Verify};
use mainstay_limits::{Bans, Rates};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_telemetry::Names;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often a drain looks whether it is done.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Over which the sockets that are still open at the limit of an upgrade are closed.
const SOCKETS_CLOSE: Duration = Duration::from_secs(4);
/// For the last of them to answer: a little more than a tunnel waits itself.
const CLOSE_ANSWER: Duration = Duration::from_millis(2500);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("{0}")]
    Authority(String),
    /// A folder of `files`: what is wrong with it, and where it stands.
    #[error("{0}")]
    Folder(String),
    /// Schema files: what is wrong with them, a line each.
    #[error("{0}")]
    Schema(String),
    #[error("the Redis that is shared cannot be used")]
    Redis(#[from] mainstay_store::redis::Error),
    #[error("what apps are told of users cannot be signed")]
    Signer(#[from] SignerFault),
    #[error("a thread of the edge could not be started")]
    Thread(#[source] io::Error),
}

/// 2^64 by the golden ratio: consecutive numbers times it lie far apart.
const TURN_SPREAD: usize = 0x9e37_79b9_7f4a_7c15_u64 as usize;

/// What the edge is built from.
#[derive(Debug)]
pub struct Parts {
    pub options: Options,
    pub names: Names,
    pub members: Members,
    /// The supervisor's sockets for `options.listen`.
    pub listeners: Vec<(SocketAddr, TcpListener)>,
    /// One for each core, and one more for the acceptor.
    pub instruments: Vec<Instruments>,
    pub local: LocalSender,
    /// Signs the cookies of `balance = "sticky"`.
    pub sticky: Key,
    /// Signs what apps are told of users.
    pub signer: Arc<Signer>,
    /// What was taken back of the tokens that are made here.
    pub revoked: Arc<Revoked>,
    /// To whoever answers for the services.
    pub calls: service_call::Sender,
    pub sessions: Arc<Sessions>,
}

/// Built, and not yet running.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    acceptor: acceptor::Acceptor,
    cores: Vec<(CoreHandle, Instruments, mpsc::Receiver<Order>, Link)>,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    acceptor: AcceptorHandle,
    cores: Vec<CoreHandle>,
    members: Members,
    names: Names,
    certificates: Certificates,
    schemas: ArcSwap<Schemas>,
    options: Mutex<Options>,
    /// Of what is not a client's request: whose turn it is.
    turns: AtomicUsize,
}

/// A new configuration that has been proved and waits to be put in force.
#[derive(Debug)]
pub struct Prepared {
    options: Options,
    given: Vec<Given>,
    schemas: Schemas,
    snapshot: Snapshot,
    /// Where another Redis is shared than before.
    links: Option<(Links, Vec<Link>)>,
}

/// A file that was there at the start may be gone when a server is replaced: the other hosts are served. The same holds
/// of a schema, but nothing passes unchecked: its routes refuse until a reload finds it.
fn files_of(options: &Options, certificates: &Certificates) -> Schemas {
    for error in certificates.take_up(&options.tls) {
        tracing::error!(%error, "a certificate cannot be used; its host gets a stand-in until it can");
    }
    let (schemas, faults) = input::load(options.inputs(), &Schemas::default());
    for fault in faults {
        tracing::error!(fault, "a schema cannot be used; what it guards is refused until a reload finds it mended");
    }
    schemas
}

impl Service {
    /// Opens nothing and starts nothing.
    pub fn build(mut parts: Parts) -> Result<(Service, Handle), Error> {
        let store = Arc::new(cache::Store::default());
        let certificates = Certificates::new()?;
        let schemas = files_of(&parts.options, &certificates);
        let rates = Rates::default();
        let identities = Identities::new(parts.signer, parts.revoked);
        let verify = parts.options.identity.verify.as_ref();
        identities.open(verify)?;
        let verifier = identities.prepare(verify);
        identities.commit(verify, verifier.as_ref());
        let held = Held { certificates: &certificates, store: &store, schemas: &schemas, verifier, rates: &rates };
        let snapshot = Snapshot::build(&parts.options, &parts.members, &parts.names, held);
        size_cache(&store, &snapshot, &parts.options);
        let count = parts.instruments.len().saturating_sub(1);
        let (links, for_cores) = Links::new(parts.options.redis.as_ref(), count)?;
        let shared = Arc::new(Shared {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            affinity: Default::default(),
            files: Default::default(),
            sticky: parts.sticky,
            cache: store,
            judges: Default::default(),
            room: Default::default(),
            identities,
            local: parts.local,
            calls: parts.calls,
            sessions: parts.sessions,
            connections: Default::default(),
            held: Default::default(),
            bans: Default::default(),
            rates,
            links: ArcSwap::from_pointee(links),
            crawlers: Default::default(),
            unnamed: Default::default(),
            crowd: Default::default(),
            handshakes: Default::default(),
        });
        shared.bans.set_policy(parts.options.bans.clone());
        set_addresses(&parts.members, &parts.options.apps);
        let for_acceptor = parts.instruments.pop();
        let cores: Vec<_> = parts
            .instruments
            .into_iter()
            .zip(for_cores)
            .map(|(instruments, link)| {
                let (orders, receiver) = mpsc::channel(worker::ORDERS_MAX);
                (CoreHandle { orders, connections: Arc::default() }, instruments, receiver, link)
            })
            .collect();
        let handles: Vec<CoreHandle> = cores.iter().map(|(handle, ..)| handle.clone()).collect();
        let listening = listening(&parts.options, parts.listeners);
        let no_instruments = || Error::Thread(io::Error::other("no instruments for the acceptor"));
        let for_acceptor = for_acceptor.ok_or_else(no_instruments)?;
        let (acceptor, acceptor_handle) =
            acceptor::pair(listening, handles.clone(), shared.clone(), for_acceptor).map_err(Error::Thread)?;
        let handle = Handle(Arc::new(Inner {
            shared: shared.clone(),
            acceptor: acceptor_handle,
            cores: handles,
            members: parts.members,
            names: parts.names,
            certificates,
            schemas: ArcSwap::from_pointee(schemas),
            options: Mutex::new(parts.options),
            turns: AtomicUsize::new(0),
        }));
        Ok((Service { shared, acceptor, cores }, handle))
    }

    /// Starts the cores, then the acceptor. The threads end with the process.
    pub fn start(self) -> Result<(), Error> {
        if self.shared.snapshot.load().tls.is_some() {
            spawn("entropy".to_owned(), tls::warm_up)?;
        }
        for (i, thread) in self.shared.files.threads().into_iter().enumerate() {
            spawn(format!("files-{i}"), thread)?;
        }
        for (i, thread) in self.shared.judges.threads().into_iter().enumerate() {
            spawn(format!("input-{i}"), thread)?;
        }
        for (i, (handle, instruments, orders, link)) in self.cores.into_iter().enumerate() {
            let shared = self.shared.clone();
            spawn(format!("core-{i}"), move || {
                if let Err(error) = worker::run(shared, instruments, &handle, (orders, link)) {
                    tracing::error!(%error, "a core could not start its runtime");
                }
            })?;
        }
        spawn("acceptor".to_owned(), move || self.acceptor.run())
    }
}

/// What of these options will not work although it is written correctly: certificate files and folders,
/// all bad ones at once.
pub fn prove(options: &Options) -> Vec<Error> {
    let root = acme::prove(&options.acme).map(Error::Authority);
    let folders = options.routes.iter().filter_map(|r| r.files.as_ref()?.fault()).map(Error::Folder);
    let schemas = input::load(options.inputs(), &Schemas::default()).1.into_iter().map(Error::Schema);
    tls::prove(&options.tls).into_iter().map(Error::Tls).chain(root).chain(folders).chain(schemas).collect()
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new().name(name).spawn(run).map(drop).map_err(Error::Thread)
}

/// A cache that no route uses has no room.
fn size_cache(store: &cache::Store, snapshot: &Snapshot, options: &Options) {
    let size = if snapshot.cache.on { options.cache.size } else { 0 };
    store.resize(size, options.cache.object);
}

/// Addresses that need no lookup serve from the first request on.
fn set_addresses(members: &Members, apps: &[App]) {
    for app in apps.iter().filter(|a| !a.addresses.is_empty()) {
        let literal = probe::literal(app);
        if literal.len() == app.addresses.len() {
            members.set_addresses(&app.name, &literal);
        }
    }
}

fn listening(options: &Options, listeners: Vec<(SocketAddr, TcpListener)>) -> Vec<Listening> {
    let is_tls = |at: SocketAddr| options.listen.iter().any(|l| l.tls && l.address == at);
    listeners.into_iter().map(|(address, socket)| Listening::new(address, socket, is_tls(address))).collect()
}

impl Handle {
    pub fn members(&self) -> &Members {
        &self.0.members
    }

    pub fn options(&self) -> Options {
        self.0.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Proves a configuration without putting it in force: certificates are read, routes built.
    pub fn prepare(&self, options: Options) -> Result<Prepared, Error> {
        let given = tls::load(&options.tls)?;
        let schemas = self.read_schemas(&options)?;
        self.0.shared.identities.open(options.identity.verify.as_ref())?;
        let snapshot = self.snapshot(&options, &schemas);
        let is_another = options.redis != self.options().redis;
        let links = is_another.then(|| Links::new(options.redis.as_ref(), self.0.cores.len())).transpose()?;
        Ok(Prepared { options, given, schemas, snapshot, links })
    }

    fn read_schemas(&self, options: &Options) -> Result<Schemas, Error> {
        let (schemas, faults) = input::load(options.inputs(), &self.0.schemas.load());
        if faults.is_empty() { Ok(schemas) } else { Err(Error::Schema(faults.join("\n"))) }
    }

    /// An instance that serves now, of the app that such a request leads to, and that app's name; now one, now another.
    pub fn instance_for(&self, method: &str, path: &str) -> Option<(String, SocketAddr)> {
        let snapshot = self.0.shared.snapshot.load();
        let served = snapshot.app_of(method, &canonical(path).path)?;
        let now_ms = Clock::now().0;
        let serves = |upstream: &&Arc<Upstream>| {
            !upstream.is_draining() && !upstream.is_probe_failed() && !upstream.is_ejected(now_ms)
        };
        let list = served.group.list();
        let serving: Vec<SocketAddr> = list.upstreams.iter().filter(serves).map(|u| u.address).collect();
        // Not one after the other: whoever looks twice for each request would see every second one alone.
        let turn = self.0.turns.fetch_add(1, Relaxed).wrapping_mul(TURN_SPREAD) >> (usize::BITS / 2);
        let address = serving.get(turn.checked_rem(serving.len())?)?;
        Some((served.app.name.clone(), *address))
    }

    /// Reads the schema files once more. True if one of them says something else; on any fault nothing is changed.
    pub fn take_up_schemas(&self) -> Result<bool, Error> {
        let options = self.options();
        let schemas = self.read_schemas(&options)?;
        if self.0.schemas.load().is_same(&schemas) {
            return Ok(false);
        }
        self.0.shared.snapshot.store(Arc::new(self.snapshot(&options, &schemas)));
        self.0.schemas.store(Arc::new(schemas));
        Ok(true)
    }

    /// Before the rules that count there are in force.
    fn link(&self, links: Option<(Links, Vec<Link>)>) {
        let Some((links, for_cores)) = links else { return };
        self.0.shared.links.store(Arc::new(links));
        for (core, link) in self.0.cores.iter().zip(for_cores) {
            if core.orders.try_send(Order::Link(link)).is_err() {
                tracing::error!("a core stands still and does not hear of another Redis");
            }
        }
    }

    /// Puts it in force, between two requests of each core. `listeners` are those that were not there before.
    pub fn commit(&self, prepared: Prepared, listeners: Vec<(SocketAddr, TcpListener)>) {
        let Prepared { options, given, schemas, snapshot, links } = prepared;
        self.link(links);
        set_addresses(&self.0.members, &options.apps);
        for old in self.options().apps.iter().filter(|a| !a.addresses.is_empty()) {
            if !options.apps.iter().any(|a| a.name == old.name && !a.addresses.is_empty()) {
                self.0.members.set_addresses(&old.name, &[]);
            }
        }
        size_cache(&self.0.shared.cache, &snapshot, &options);
        self.0.shared.bans.set_policy(options.bans.clone());
        self.0.certificates.set_given(given);
        self.0.shared.sessions.set_policy(options.identity.sessions.clone());
        self.0.shared.identities.commit(options.identity.verify.as_ref(), snapshot.identity.verifier.as_ref());
        self.0.shared.snapshot.store(Arc::new(snapshot));
        self.0.schemas.store(Arc::new(schemas));
        self.0.shared.unnamed.forget();
        let keep: Vec<(SocketAddr, bool)> = options.listen.iter().map(|l| (l.address, l.tls)).collect();
        self.0.acceptor.change(listening(&options, listeners), &keep);
        *self.0.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// What TLS is served with; whoever gets certificates puts them there.
    pub fn certificates(&self) -> &Certificates {
        &self.0.certificates
    }

    /// Reads the certificate files once more. Each good pair is in force; what could not be used stays as it was.
    pub fn take_up_files(&self) -> Vec<Error> {
        let files = self.options().tls;
        self.0.certificates.take_up(&files).into_iter().map(Error::Tls).collect()
    }

    /// Addresses listened on now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.acceptor.addresses()
    }

    /// Active checks and name lookups, for the control thread; ends at shutdown.
    pub fn upkeep(&self, shutdown: Shutdown) -> impl Future<Output = ()> + 'static {
        let inner = self.0.clone();
        let apps = move || inner.options.lock().unwrap_or_else(PoisonError::into_inner).apps.clone();
        probe::run(self.0.members.clone(), apps, shutdown)
    }

    pub fn stop_accepting(&self) {
        self.0.acceptor.stop();
    }

    /// Finishes what is being worked on: each answer closes its connection, idle ones stay open until nothing is
    /// in work or the limit has passed. Returns the number of connections that were cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        for core in &self.0.cores {
            let _ = core.orders.send(Order::Drain).await;
        }
        let deadline = Instant::now() + limit;
        loop {
            let in_work = self.in_work();
            if in_work == 0 || Instant::now() >= deadline {
                return self.end_idle().await;
            }
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
    }

    /// For a successor that has taken over the listeners: whatever is open may go on until the limit, the idle too, so
    /// that no client sends into a closed connection; each answer closes its own. Sockets are closed from the limit on,
    /// spread over `SOCKETS_CLOSE`. Returns the number of connections that were cut.
    pub async fn retire(&self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        self.give_sockets(Duration::MAX);
        for core in &self.0.cores {
            let _ = core.orders.send(Order::Drain).await;
        }
        while self.connections() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
        self.give_sockets(SOCKETS_CLOSE * 2);
        let _ = self.end_idle().await;
        while self.sockets() > 0 && Instant::now() < deadline + SOCKETS_CLOSE + CLOSE_ANSWER {
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
        self.end_idle().await
    }

    /// How long sockets have once this edge drains.
    fn give_sockets(&self, limit: Duration) {
        let mut options = self.options();
        options.timeouts.drain = limit;
        self.0.shared.snapshot.store(Arc::new(self.snapshot(&options, &self.0.schemas.load())));
    }

    fn snapshot(&self, options: &Options, schemas: &Schemas) -> Snapshot {
        let inner = &self.0;
        let verifier = inner.shared.identities.prepare(options.identity.verify.as_ref());
        let held = Held {
            certificates: &inner.certificates,
            store: &inner.shared.cache,
            schemas,
            verifier,
            rates: &inner.shared.rates,
        };
        Snapshot::build(options, &inner.members, &inner.names, held)
    }

    fn sockets(&self) -> u32 {
        let groups = self.0.members.groups();
        groups.iter().flat_map(|g| g.list().upstreams.clone()).map(|u| u.sockets()).sum()
    }

    fn in_work(&self) -> u32 {
        let held = self.0.shared.held.load(Relaxed);
        let groups = self.0.members.groups();
        held + groups.iter().flat_map(|g| g.list().upstreams.clone()).map(|u| u.in_flight() + u.sockets()).sum::<u32>()
    }

    async fn end_idle(&self) -> usize {
        let mut busy = 0;
        for core in &self.0.cores {
            let (answer, counted) = oneshot::channel();
            if core.orders.send(Order::EndIdle(answer)).await.is_ok() {
                busy += counted.await.unwrap_or(0);
            }
        }
        busy
    }

    /// Takes out of the response cache what is named; gives the number of stored answers that went.
    pub fn purge(&self, what: &cache::What) -> usize {
        self.0.shared.cache.purge(what)
    }

    /// The response cache as a whole; `size` is 0 where no route caches.
    pub fn cache_totals(&self) -> cache::Totals {
        self.0.shared.cache.totals()
    }

    /// What it did, a route each.
    pub fn cache_counts(&self) -> Vec<cache::RouteCounts> {
        self.0.shared.cache.counts.read(&self.0.names)
    }

    /// How tokens are verified now, and with what; whoever fetches keys puts them there.
    pub fn verifier(&self) -> Option<Arc<(Verify, Arc<Verifier>)>> {
        self.0.shared.identities.current()
    }

    pub fn bans(&self) -> &Bans {
        &self.0.shared.bans
    }

    /// Limits, as operators and the metrics page see them.
    pub fn limits(&self) -> Limits<'_> {
        Limits { shared: &self.0.shared, names: &self.0.names }
    }

    /// Looks up crawlers, for the control thread; ends at shutdown.
    pub fn crawlers(&self, shutdown: Shutdown) -> impl Future<Output = ()> + 'static {
        let inner = self.0.clone();
        let server = move || inner.options.lock().unwrap_or_else(PoisonError::into_inner).rate.resolver;
        limit::crawlers::run(self.0.shared.clone(), server, shutdown)
    }

    /// Socket.IO sessions by key and the address of their instance, newest last, for a successor.
    pub fn known_sessions(&self) -> Vec<(u64, SocketAddr)> {
        let groups = self.0.members.groups();
        let addresses: HashMap<u32, SocketAddr> =
            groups.iter().flat_map(|g| g.list().upstreams.clone()).map(|u| (u.slot, u.address)).collect();
        let sessions = self.0.shared.affinity.all(Clock::now().0);
        sessions.into_iter().filter_map(|(key, slot)| Some((key, *addresses.get(&slot)?))).collect()
    }

    /// Takes over what `known_sessions` told, for the instances that serve here.
    pub fn adopt_sessions(&self, sessions: &[(u64, SocketAddr)]) {
        let groups = self.0.members.groups();
        let slots: HashMap<SocketAddr, u32> =
            groups.iter().flat_map(|g| g.list().upstreams.clone()).map(|u| (u.address, u.slot)).collect();
        let now_ms = Clock::now().0;
        for (key, address) in sessions {
            if let Some(slot) = slots.get(address) {
                self.0.shared.affinity.adopt(*key, *slot, now_ms);
            }
        }
    }

    /// Client connections open now.
    pub fn connections(&self) -> u32 {
        self.0.shared.connections.load(Relaxed)
    }

    /// Requests that wait for an instance now.
    pub fn held(&self) -> u32 {
        self.0.shared.held.load(Relaxed)
    }

    /// Socket.IO sessions whose instance is known.
    pub fn sessions(&self) -> usize {
        self.0.shared.affinity.len()
    }
}
