//! The service runtime: what answers under `/api/v1/auth`, away from cores and control.
//!
//! It begins to answer once the durable store is open, and is made anew by a reload; until then, and once the store is
//! let go of, it says 503.

// Its tasks live on the service runtime, and end with it.
#![allow(clippy::disallowed_methods)]

use crate::pages::Pages;
use crate::stores::Store;
use crate::{queues, revocations};
use arc_swap::ArcSwapOption;
use http::StatusCode;
use mainstay_edge::service_call::{Call, Receiver};
use mainstay_identity::accounts::{Kept, Mail};
use mainstay_identity::exchange::{Answer, is_ours};
use mainstay_identity::oauth::Flow;
use mainstay_identity::sessions::{self, Sessions, Upkeep};
use mainstay_identity::{Options, Revocation, Revoked, Service, Setup, Signer};
use mainstay_runtime::{Shutdown, Trigger};
use mainstay_store::Durable;
use mainstay_store::journal::Notes;
use mainstay_store::redis::{self, Heard, Redis};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

/// Calls answered at a time; the rest wait in the channel, which is bounded too.
const ANSWERING_MAX: usize = 64;
/// How long a call waits for the store of a server that has just started.
const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// A service that is not open yet may be so soon.
const AGAIN_S: u32 = 1;
/// How long the end of a server waits for what its sessions were used last; less than its journal may take.
const WRITE_LIMIT: Duration = Duration::from_millis(500);

/// What it starts from.
pub struct Parts {
    pub calls: Receiver,
    pub sessions: Arc<Sessions>,
    pub upkeep: Upkeep,
    pub options: Arc<Options>,
    pub store: watch::Receiver<Store>,
    /// Where instances share.
    pub redis: Option<redis::Options>,
    pub notes: Notes,
    pub signer: Arc<Signer>,
    pub revoked: Arc<Revoked>,
    pub oauth: Flow,
    pub mail: mpsc::Sender<Mail>,
    /// Mails that no path of the app takes are shown.
    pub shows_mail: bool,
    pub pages: Pages,
    /// Where the file has jobs.
    pub queues: Option<(queues::Keeper, mainstay_edge::Handle)>,
}

/// As the control thread holds it. Dropped, it ends.
pub struct Services {
    options: watch::Sender<Arc<Options>>,
    current: Arc<ArcSwapOption<Service>>,
    sessions: Arc<Sessions>,
    redis: Arc<OnceLock<Redis>>,
    runtime: Handle,
    _stop: Trigger,
}

impl Services {
    /// `None` until the store is open, and where nothing is answered here.
    pub fn identity(&self) -> Option<Arc<Service>> {
        self.current.load_full()
    }

    /// The link of this runtime's own, where instances share.
    pub fn redis(&self) -> Option<&Redis> {
        self.redis.get()
    }

    /// Works there, and not on the thread that asks.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(work)
    }

    /// The store is about to be let go of: what is kept in memory for a moment is written.
    pub async fn write_down(&self) {
        if timeout(WRITE_LIMIT, self.sessions.write_down()).await.is_err() {
            tracing::debug!("when sessions were used last is not written down");
        }
    }

    /// Of a new configuration.
    pub fn reload(&self, options: &Options) {
        let changed = **self.options.borrow() != *options;
        if changed {
            self.options.send_replace(Arc::new(options.clone()));
        }
    }
}

/// Starts its threads. What comes back beside the handle is told when they end.
pub fn start(parts: Parts) -> io::Result<(Services, oneshot::Receiver<()>)> {
    let runtime = mainstay_runtime::services()?;
    let (stop, shutdown) = Shutdown::new();
    let (options, changes) = watch::channel(parts.options.clone());
    let (ended, end) = oneshot::channel();
    let current: Arc<ArcSwapOption<Service>> = Arc::default();
    let redis: Arc<OnceLock<Redis>> = Arc::default();
    let handle = runtime.handle().clone();
    let (own, link, sessions) = (current.clone(), redis.clone(), parts.sessions.clone());
    std::thread::Builder::new().name("services".to_owned()).spawn(move || {
        runtime.block_on(run(parts, (own, link), changes, shutdown));
        // Whoever hashes or waits for somebody's server does not hold up the end of the process.
        runtime.shutdown_background();
        let _ = ended.send(());
    })?;
    Ok((Services { options, current, sessions, redis, runtime: handle, _stop: stop }, end))
}

/// Until the end is asked for.
async fn run(
    parts: Parts,
    (current, link): (Arc<ArcSwapOption<Service>>, Arc<OnceLock<Redis>>),
    options: watch::Receiver<Arc<Options>>,
    shutdown: Shutdown,
) {
    let Parts { mut calls, sessions, upkeep, store, redis, notes, signer, revoked, oauth, mail, .. } = parts;
    let (shows_mail, pages) = (parts.shows_mail, parts.pages);
    if let Some((keeper, edge)) = parts.queues {
        tokio::spawn(keeper.run(edge, shutdown.clone()));
    }
    let told = redis.as_ref().and_then(|options| revocations::shared(options, &revoked, &shutdown));
    let (redis, heard) = redis.map(|options| shared(&options, &shutdown)).unwrap_or_default();
    if let Some(redis) = &redis {
        let _ = link.set(redis.clone());
    }
    tokio::spawn(upkeep.run(heard, shutdown.clone()));
    let own = Own { signer, revoked, kept: Kept::default(), oauth, mail, shows_mail, told };
    let (settled, is_settled) = watch::channel(false);
    let making = Making { current: current.clone(), settled, sessions, redis, notes, own, upkeep: None };
    tokio::spawn(making.run(store, options, shutdown.clone()));
    let turns = Arc::new(Semaphore::new(ANSWERING_MAX));
    loop {
        let call = tokio::select! {
            () = shutdown.requested() => return,
            call = calls.recv() => call,
        };
        let (Some(call), Ok(turn)) = (call, turns.clone().acquire_owned().await) else { return };
        if let Some(root) = pages.root_of(&call.asked.path).filter(|_| !is_ours(&call.asked.path)) {
            let pages = pages.clone();
            tokio::spawn(async move {
                let (asked, told) = call.split();
                let _ = told.send(pages.answer(&root, asked).await);
                drop(turn);
            });
            continue;
        }
        let (current, mut is_settled) = (current.clone(), is_settled.clone());
        tokio::spawn(async move {
            // A server that has just started opens its store now.
            let _ = timeout(OPEN_LIMIT, is_settled.wait_for(|settled| *settled)).await;
            answer(call, current.load_full()).await;
            drop(turn);
        });
    }
}

async fn answer(call: Call, service: Option<Arc<Service>>) {
    let (asked, told) = call.split();
    let answer = match service {
        Some(service) => service.answer(asked).await,
        None => {
            let busy = "The server is busy; please try again shortly.";
            Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "service_busy", busy).retry_after(AGAIN_S)
        }
    };
    // The client may be gone.
    let _ = told.send(answer);
}

/// A link of this runtime's own, and what other instances say.
fn shared(options: &redis::Options, shutdown: &Shutdown) -> (Option<Redis>, Option<mpsc::Receiver<Heard>>) {
    let told = |error: redis::Error| tracing::error!(%error, "sessions are not shared");
    let redis = Redis::new(options).map_err(told).ok().map(|(redis, keeper)| {
        tokio::spawn(keeper.run(shutdown.clone()));
        redis
    });
    let heard = redis::listen(options, &[sessions::CHANNEL]).map_err(told).ok().map(|(heard, listener)| {
        tokio::spawn(listener.run(shutdown.clone()));
        heard
    });
    (redis, heard)
}

/// Makes the service, and makes it again.
struct Making {
    current: Arc<ArcSwapOption<Service>>,
    /// The store was opened, or could not be.
    settled: watch::Sender<bool>,
    sessions: Arc<Sessions>,
    redis: Option<Redis>,
    notes: Notes,
    own: Own,
    upkeep: Option<AbortHandle>,
}

/// What accounts need beside.
struct Own {
    signer: Arc<Signer>,
    revoked: Arc<Revoked>,
    kept: Kept,
    oauth: Flow,
    mail: mpsc::Sender<Mail>,
    shows_mail: bool,
    told: Option<mpsc::Sender<Revocation>>,
}

impl Making {
    async fn run(
        mut self,
        mut store: watch::Receiver<Store>,
        mut options: watch::Receiver<Arc<Options>>,
        shutdown: Shutdown,
    ) {
        let mut is_open = false;
        loop {
            let now = store.borrow_and_update().clone();
            let wanted = options.borrow_and_update().clone();
            match now {
                Store::Opening => {}
                Store::Away => {
                    self.sessions.is_late();
                    self.own.revoked.is_late();
                }
                Store::Open(durable) => {
                    if !std::mem::replace(&mut is_open, true) {
                        self.sessions.open(durable.clone(), self.redis.clone());
                    }
                    self.make(wanted, durable);
                }
                Store::Closed => {
                    self.sessions.close();
                    self.unmake();
                }
            }
            if !matches!(*store.borrow(), Store::Opening) {
                self.settled.send_replace(true);
            }
            tokio::select! {
                () = shutdown.requested() => return,
                Ok(()) = store.changed() => {}
                Ok(()) = options.changed() => {}
                else => return,
            }
        }
    }

    fn make(&mut self, options: Arc<Options>, durable: Durable) {
        if !options.serves() {
            return self.unmake();
        }
        let (notes, sessions) = (self.notes.clone(), self.sessions.clone());
        self.own.oauth = self.own.oauth.with(&options.oauth);
        let Own { signer, revoked, kept, oauth, mail, shows_mail, told } = &self.own;
        let delivers = options.accounts.as_ref().is_some_and(|accounts| accounts.deliver.is_some());
        let setup = Setup {
            options,
            durable,
            notes,
            sessions,
            signer: signer.clone(),
            revoked: revoked.clone(),
            kept: kept.clone(),
            redis: self.redis.clone(),
            oauth: Some(oauth.clone()),
            mail: (delivers || *shows_mail).then(|| mail.clone()),
            told: told.clone(),
        };
        match Service::new(setup) {
            Ok(service) => {
                let service = Arc::new(service);
                let kept = service.clone();
                let upkeep = tokio::spawn(async move { kept.upkeep().await }).abort_handle();
                if let Some(before) = self.upkeep.replace(upkeep) {
                    before.abort();
                }
                self.current.store(Some(service));
            }
            Err(error) => tracing::error!(%error, "nobody can log in"),
        }
    }

    fn unmake(&mut self) {
        self.current.store(None);
        if let Some(upkeep) = self.upkeep.take() {
            upkeep.abort();
        }
    }
}
