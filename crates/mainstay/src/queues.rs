//! The block of jobs in this server: open from the moment it owns the data folder until it lets go, on the service
//! runtime; what apps ask for, and what is pushed to them.
//!
//! It begins with a start whose file has `[jobs]`, and ends with the server. Must never keep one from serving.

// Its tasks live on the service runtime, and end with it.
#![allow(clippy::disallowed_methods)]

mod office;

use crate::api::{self, Tokens};
use crate::pages::Pages;
use crate::settings::Settings;
use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use mainstay_edge::Handle;
use mainstay_jobs::push::Find;
use mainstay_jobs::store::{FILE, RefusedCount};
use mainstay_jobs::{Clock, Error, Home, Instance, Jobs, Name, Options, Place, Pusher, Setup, Truth, bullmq, resp};
use mainstay_runtime::Shutdown;
use mainstay_store::Lasting;
use mainstay_store::journal::Notes;
use mainstay_store::redis;
use mainstay_supervisor::protocol::Hello;
use mainstay_telemetry::metrics::exposition::{Exposition, Kind};
use office::{Ended, Office};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Between two attempts to open a file that another holds, or that the disk refuses.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// For a look at what is kept, by those who are waited for.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// For what is given back to be kept.
const GIVE_BACK_LIMIT: Duration = Duration::from_millis(300);
/// Beyond what pushes are given; and the last commit.
const REST: Duration = Duration::from_millis(500);

/// By what a server that pushes is known among workers.
const WORKER: &str = "push";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The data folder is somebody else's.
    Waiting,
    Open,
    /// Nothing more starts; what is being pushed has so long.
    Settling(Duration),
    /// The file is let go of.
    Closed,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    Nothing,
    Settled,
    Closed,
}

/// As the control thread holds it.
pub struct Queues {
    current: Arc<ArcSwapOption<Jobs>>,
    options: watch::Sender<Arc<Options>>,
    phase: watch::Sender<Phase>,
    done: watch::Receiver<Done>,
    is_ending: Arc<AtomicBool>,
    pub access: Access,
    /// They are BullMQ's, for as long as this server runs.
    pub are_bullmqs: bool,
    /// Where tools of Redis read them.
    shown: watch::Sender<Shown>,
    /// Where their pages stand.
    pages: Arc<ArcSwapOption<String>>,
}

/// A port for tools of Redis, if there is one.
#[derive(Clone, Debug, Default)]
struct Shown(Option<(SocketAddr, Arc<TcpListener>)>);

/// What instances are given so that they can ask.
#[derive(Debug, Default)]
pub struct Access {
    open: std::sync::OnceLock<(SocketAddr, Arc<Tokens>)>,
    /// Apps that were given a token.
    apps: Arc<ArcSwap<Vec<String>>>,
}

impl Access {
    /// Apps' environments, as those that start from now on get them.
    pub fn give(&self, fleet: &mut mainstay_fleet::Options) {
        let Some((address, tokens)) = self.open.get() else { return };
        for app in &mut fleet.apps {
            let app = Rc::make_mut(app);
            let given = [("MAINSTAY_TOKEN", tokens.of(&app.name)), ("MAINSTAY_URL", format!("http://{address}"))];
            for (name, value) in given {
                app.env.retain(|(known, _)| known != name);
                app.env.push((name.to_owned(), value));
            }
            app.env.sort();
        }
        // Nobody's is taken away: a reload may come to nothing, and an app that goes still ends what it has.
        let mut apps = Vec::clone(&self.apps.load());
        let new = fleet.apps.iter().map(|app| app.name.clone()).filter(|name| !apps.contains(name));
        let new: Vec<String> = new.collect();
        apps.extend(new);
        self.apps.store(Arc::new(apps));
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.open.get().map(|(address, _)| *address)
    }
}

/// Where the truth of jobs is.
enum Where {
    Own(Place),
    BullMq(Box<redis::Options>),
}

/// With all else that must last, but a file has one of its own; or in the Redis that BullMQ's own workers share.
fn place(settings: &Settings, data: &Path) -> Where {
    match (&settings.jobs.truth, &settings.store.redis, &settings.store.durable) {
        (Truth::BullMq { .. }, Some(redis), _) => Where::BullMq(Box::new(redis.clone())),
        (_, _, Lasting::Postgres(options)) => Where::Own(Place::Postgres(options.clone())),
        (_, _, Lasting::Sqlite) => Where::Own(Place::File(data.join(FILE))),
    }
}

fn root_of(settings: &Settings) -> Option<Arc<String>> {
    settings.edge.pages.as_ref().map(|pages| Arc::new(pages.path.clone()))
}

/// What the service runtime does of it.
pub struct Keeper {
    current: Arc<ArcSwapOption<Jobs>>,
    options: watch::Receiver<Arc<Options>>,
    phase: watch::Receiver<Phase>,
    done: watch::Sender<Done>,
    opened: watch::Sender<bool>,
    is_ending: Arc<AtomicBool>,
    listener: Option<TcpListener>,
    /// Where tools of Redis read.
    shown: watch::Receiver<Shown>,
    tokens: Arc<Tokens>,
    apps: Arc<ArcSwap<Vec<String>>>,
    place: Where,
    worker: Name,
    clock: Clock,
}

impl Queues {
    /// `listener`: where apps ask, if jobs are on; `settings` then give them what they need for it.
    ///
    /// # Errors
    /// Without the key of tokens.
    pub fn new(
        settings: &mut Settings,
        hello: &Hello,
        (listener, resp): (Option<TcpListener>, Option<TcpListener>),
    ) -> anyhow::Result<(Queues, Option<Keeper>)> {
        let (current, (phase, phases)) = (Arc::default(), watch::channel(Phase::Waiting));
        let (options, changes) = watch::channel(Arc::new(settings.jobs.clone()));
        let (done, is_done) = watch::channel(Done::Nothing);
        let (access, jobs, is_ending) = (Access::default(), Arc::clone(&current), Arc::<AtomicBool>::default());
        let pages = Arc::new(ArcSwapOption::from(root_of(settings)));
        let is_ended = is_ending.clone();
        let resp = resp.and_then(|listener| Some((listener.local_addr().ok()?, Arc::new(listener))));
        let (shown, ports) = watch::channel(Shown(resp));
        let are_bullmqs = settings.jobs.truth != Truth::Own;
        let queues = Queues {
            are_bullmqs,
            shown,
            current: jobs,
            options,
            phase,
            done: is_done,
            is_ending: is_ended,
            access,
            pages,
        };
        let Some(listener) = listener else { return Ok((queues, None)) };
        let tokens = Arc::new(Tokens::load(&hello.data, &hello.boot).context("the key of apps' tokens")?);
        let _ = queues.access.open.set((listener.local_addr()?, tokens.clone()));
        queues.access.give(&mut settings.fleet);
        let keeper = Keeper {
            current,
            options: changes,
            phase: phases,
            done,
            opened: watch::Sender::new(false),
            is_ending,
            listener: Some(listener),
            shown: ports,
            place: place(settings, &hello.data),
            tokens,
            apps: queues.access.apps.clone(),
            // Another name in each process: nobody vouches for what a server before held.
            worker: format!("{WORKER} {} {}", hello.boot, std::process::id()).as_str().into(),
            clock: Clock::system(),
        };
        Ok((queues, Some(keeper)))
    }

    /// `None` until they are open, and where the file has no `[jobs]`.
    pub fn jobs(&self) -> Option<Jobs> {
        self.current.load_full().map(|jobs| (*jobs).clone())
    }

    /// What answers for their pages.
    pub fn pages(&self, notes: Notes) -> Pages {
        Pages::new(self.pages.clone(), self.current.clone(), notes)
    }

    /// The data folder is ours.
    pub fn open(&self) {
        self.phase.send_replace(Phase::Open);
    }

    /// Of a new configuration.
    pub fn reload(&self, settings: &Settings) {
        self.pages.store(root_of(settings));
        if **self.options.borrow() != settings.jobs {
            self.options.send_replace(Arc::new(settings.jobs.clone()));
        }
    }

    /// Where tools of Redis read them.
    pub fn shown_at(&self) -> Option<SocketAddr> {
        self.shown.borrow().0.as_ref().map(|(address, _)| *address)
    }

    /// There from now on, and nowhere else; what is open at another port ends.
    pub fn show(&self, port: Option<(SocketAddr, TcpListener)>) {
        self.shown.send_replace(Shown(port.map(|(address, listener)| (address, Arc::new(listener)))));
    }

    /// S4 and J5: how many are in which state, and what happened since the start.
    pub async fn expose(&self, out: &mut Exposition) {
        // By one node of several, or sums would count a job as often as there are nodes.
        let Some(jobs) = self.jobs().filter(Jobs::decides) else { return };
        let Ok(queues) = jobs.queues().await else { return };
        for queue in &queues {
            let labels = [("queue", &*queue.name)];
            let gauges = [
                ("queue_jobs_waiting", queue.counts.waiting, "Jobs that may start."),
                ("queue_jobs_active", queue.counts.active, "Jobs that a worker has."),
                ("queue_jobs_delayed", queue.counts.delayed, "Jobs that are put off."),
                ("queue_jobs_waiting_children", queue.counts.waiting_children, "Jobs that start after their children."),
                ("queue_jobs_failed", queue.counts.failed, "Jobs that failed for good, and are kept."),
                ("queue_jobs_dead", queue.counts.dead, "Jobs that wait for an operator."),
                ("queue_wants_workers", u64::from(queue.is_short), "1: more wait and fewer run than it is set for."),
            ];
            for (name, value, help) in gauges {
                out.family(name, Kind::Gauge, help).sample(&labels, value);
            }
            let totals = queue.totals;
            for (event, count) in [
                ("added", totals.added),
                ("started", totals.started),
                ("completed", totals.completed),
                ("retried", totals.retried),
                ("failed", totals.failed),
                ("stalled", totals.stalled),
                ("dead", totals.dead),
            ] {
                let labels = [("queue", &*queue.name), ("event", event)];
                out.family("queue_job_events_total", Kind::Counter, "What happened to jobs.").sample(&labels, count);
            }
        }
        self.expose_refused(out).await;
    }

    /// What apps added in SQL and cannot be taken over; `None` where that is not known soon: a Postgres that hangs
    /// holds up nobody who asks.
    pub async fn refused(&self) -> Option<Vec<RefusedCount>> {
        let jobs = self.jobs()?;
        tokio::time::timeout(LOOK_LIMIT, jobs.refused_counts()).await.ok()?.ok()
    }

    async fn expose_refused(&self, out: &mut Exposition) {
        for of in self.refused().await.unwrap_or_default() {
            let help = "Jobs that were added in SQL and cannot be taken over.";
            out.family("queue_jobs_refused", Kind::Gauge, help).sample(&[("queue", &*of.queue)], of.count);
        }
    }

    /// Nothing more starts, and what is being pushed has so long. Who works may still say what became of it.
    pub async fn settle(&self, limit: Duration) {
        if self.access.address().is_none() {
            return;
        }
        self.is_ending.store(true, Ordering::Relaxed);
        self.phase.send_replace(Phase::Settling(limit));
        let mut done = self.done.clone();
        let limit = limit + GIVE_BACK_LIMIT + REST;
        let _ = tokio::time::timeout(limit, done.wait_for(|done| *done >= Done::Settled)).await;
    }

    /// Lets go of the file. Idempotent.
    pub async fn close(&self) {
        if self.access.address().is_none() {
            return;
        }
        self.phase.send_replace(Phase::Closed);
        let mut done = self.done.clone();
        let _ = tokio::time::timeout(REST, done.wait_for(|done| *done == Done::Closed)).await;
    }
}

impl Keeper {
    /// On the service runtime, until it is closed. `edge`: who serves.
    pub async fn run(mut self, edge: Handle, shutdown: Shutdown) {
        let (stop, end) = Shutdown::new();
        // Not before the data folder is ours: until then who asks is another server's, or waits in the backlog.
        let _ = self.phase.wait_for(|phase| *phase != Phase::Waiting).await;
        let home = match Home::start() {
            Ok(home) => home,
            Err(error) => {
                tracing::error!(%error, "there is no thread for jobs");
                self.done.send_replace(Done::Closed);
                return;
            }
        };
        self.serve(&home, &end);
        self.show(&end);
        while self.opens(&home, &shutdown).await && self.works(&edge, &shutdown).await {
            tracing::error!("jobs have ended unexpectedly; they are opened anew");
            self.let_go().await;
            tokio::time::sleep(OPEN_EVERY).await;
        }
        // Workers may still say what became of their jobs.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Closed).await;
        self.let_go().await;
        stop.request();
        self.done.send_replace(Done::Closed);
    }

    async fn let_go(&self) {
        self.opened.send_replace(false);
        if let Some(jobs) = self.current.swap(None) {
            jobs.close().await;
        }
    }

    /// Apps wait some seconds for jobs to be open. They are answered where the engine is: a call wakes no other thread.
    fn serve(&mut self, home: &Home, end: &Shutdown) {
        let Some(listener) = self.listener.take() else { return };
        if let Err(error) = listener.set_nonblocking(true) {
            return tracing::error!(%error, "apps cannot ask for jobs");
        }
        let open = api::Open {
            jobs: self.current.clone(),
            opened: self.opened.subscribe(),
            is_ending: self.is_ending.clone(),
            workers: Arc::default(),
            tokens: self.tokens.clone(),
            apps: self.apps.clone(),
        };
        let (end, beside) = (end.clone(), tokio::runtime::Handle::current());
        let serve = move || async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => api::serve(listener, open, beside, end).await,
                Err(error) => tracing::error!(%error, "apps cannot ask for jobs"),
            }
        };
        if let Err(error) = home.run(serve) {
            tracing::error!(%error, "apps cannot ask for jobs");
        }
    }

    /// To what reads a Redis, wherever that is for now.
    fn show(&self, end: &Shutdown) {
        let (current, mut shown, end) = (self.current.clone(), self.shown.clone(), end.clone());
        let find: resp::Find = Arc::new(move || current.load_full().map(|jobs| (*jobs).clone()));
        tokio::spawn(async move {
            loop {
                let port = shown.borrow_and_update().clone();
                let listener = port.0.and_then(|(_, listener)| {
                    let own = listener.try_clone().and_then(|own| own.set_nonblocking(true).map(|()| own));
                    let own = own.and_then(tokio::net::TcpListener::from_std);
                    own.inspect_err(|error| tracing::error!(%error, "queues are not shown by RESP")).ok()
                });
                // Ends with this turn.
                let (_stop, stopped) = Shutdown::new();
                if let Some(listener) = listener {
                    tokio::spawn(resp::serve(listener, find.clone(), stopped));
                }
                tokio::select! {
                    () = end.requested() => return,
                    changed = shown.changed() => if changed.is_err() {
                        return end.requested().await;
                    },
                }
            }
        });
    }

    /// False where the end came first.
    async fn opens(&mut self, home: &Home, shutdown: &Shutdown) -> bool {
        let mut is_said = false;
        loop {
            let phase = *self.phase.borrow_and_update();
            match phase {
                Phase::Settling(_) | Phase::Closed => {
                    self.done.send_replace(Done::Settled);
                    return false;
                }
                Phase::Open => match self.open(home).await {
                    Ok(jobs) => {
                        self.current.store(Some(Arc::new(jobs)));
                        self.opened.send_replace(true);
                        return true;
                    }
                    Err(error) if !std::mem::replace(&mut is_said, true) => {
                        let error = crate::settings::chain(&error);
                        tracing::error!(error, "jobs are not open; it is tried again");
                    }
                    Err(_) => {}
                },
                Phase::Waiting => {}
            }
            tokio::select! {
                () = shutdown.requested() => return false,
                changed = self.phase.changed() => if changed.is_err() { return false },
                () = tokio::time::sleep(OPEN_EVERY), if phase == Phase::Open => {}
            }
        }
    }

    async fn open(&self, home: &Home) -> Result<Jobs, Error> {
        let options = self.options.borrow().clone();
        let queues = options.queues.iter().map(|queue| (queue.name.clone(), queue.settings.clone())).collect();
        let place = match &self.place {
            Where::Own(place) => place.clone(),
            Where::BullMq(redis) => {
                let (redis, clock) = (redis::Options::clone(redis), self.clock.clone());
                return Jobs::on_bullmq(bullmq::Setup { redis, queues, clock }).await;
            }
        };
        let seed = mainstay_runtime::Clock::unix_micros();
        let setup = Setup { place, queues, clock: self.clock.clone(), seed, pusher: Some(self.worker.clone()) };
        let home = home.clone();
        tokio::task::spawn_blocking(move || Jobs::open_at(&home, setup)).await.unwrap_or(Err(Error::Closed))
    }

    /// Until it is to settle, and nothing is pushed any more. True where jobs, or what pushes them, ended by
    /// themselves.
    async fn works(&mut self, edge: &Handle, shutdown: &Shutdown) -> bool {
        let Some(jobs) = self.current.load_full() else { return true };
        let (stop, end) = Shutdown::new();
        let (give_up, given_up) = Shutdown::new();
        let pusher = Pusher::new(jobs.as_ref().clone(), self.worker.clone(), self.find(edge));
        let pusher = pusher.with_clock(self.clock.clone());
        let mut pushing = tokio::spawn(pusher.run(self.options.clone(), end, given_up));
        let options = self.options.clone();
        let is_shared = matches!(self.place, Where::Own(Place::Postgres(_)));
        let office = Office::new(jobs.as_ref().clone(), options, is_shared, self.worker.clone());
        let office = Ended(tokio::spawn(office.run()));
        let is_unexpected = loop {
            tokio::select! {
                () = shutdown.requested() => break false,
                () = jobs.ended() => break true,
                _ = &mut pushing => break true,
                changed = self.phase.changed() => {
                    if changed.is_err() || *self.phase.borrow() != Phase::Open {
                        break false;
                    }
                }
            }
        };
        if is_unexpected {
            pushing.abort();
            return true;
        }
        stop.request();
        drop(office);
        let limit = match *self.phase.borrow() {
            Phase::Settling(limit) => limit,
            Phase::Waiting | Phase::Open | Phase::Closed => Duration::ZERO,
        };
        if tokio::time::timeout(limit, &mut pushing).await.is_err() {
            give_up.request();
            let _ = tokio::time::timeout(GIVE_BACK_LIMIT, &mut pushing).await;
        }
        self.done.send_replace(Done::Settled);
        false
    }

    fn find(&self, edge: &Handle) -> Find {
        let (edge, tokens) = (edge.clone(), self.tokens.clone());
        Arc::new(move |path: &str| {
            let (app, address) = edge.instance_for("POST", path)?;
            Some(Instance { address, key: tokens.of(&app).into() })
        })
    }
}
