//! Sessions by cookie: a browser keeps a secret, we keep whose it is.
//!
//! The durable store is the truth; memory and, where instances share, Redis are copies that answer faster. An ended
//! session is ended on this node before the answer, elsewhere as soon as Redis says so, and within `FRESH_MS` at most.
//! Redis away: this node goes by the durable store, and where that is away too by what it knows.
//!
//! Must never: store, log or show an id; take a request for somebody's on the word of a copy that was told otherwise.

mod cookie;
mod http;
mod id;
mod kept;
mod policy;
mod postgres;
mod redis;
mod session;
mod sqlite;
mod table;
mod upkeep;

pub use cookie::Carried;
pub use id::{Hash, Id};
pub use kept::{MIGRATIONS, SESSIONS_A_USER_MAX};
pub use policy::Policy;
pub use redis::CHANNEL;
pub use session::{Session, Stored};
pub use upkeep::Upkeep;

use crate::identity::Identity;
use ::http::HeaderValue;
use arc_swap::ArcSwapOption;
use kept::{Kept, Said};
use mainstay_runtime::Clock;
use mainstay_store::Durable;
use mainstay_store::redis::Redis;
use policy::Age;
use redis::Shared;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use table::{Known, Table};
use tokio::sync::{mpsc, oneshot, watch};

/// Where others may end a session too, the word of a store counts for so long.
const FRESH_MS: u64 = 5000;
/// What a request waits at most to learn whose it is; a little less than the 50 ms it may take of its time.
pub const ASK_LIMIT: Duration = Duration::from_millis(44);
/// The same, of the first requests of a server that has not opened its store yet.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Questions and news on their way to the stores: what a store answers in a second.
const ORDERS_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("sessions are off")]
    Off,
    #[error("the store of sessions is not open yet")]
    Closed,
    #[error("this machine has no random bytes")]
    Random,
    #[error("the store of sessions failed")]
    Store(#[from] mainstay_store::Error),
}

/// A session that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// `Set-Cookie`.
    pub cookie: HeaderValue,
    pub id: Id,
}

/// Whose a request is, by its cookie.
#[derive(Debug, Clone)]
pub enum Who {
    /// Nobody's: it ended, or never was.
    Nobody,
    /// No store answers, and this node knows nothing of it.
    Unsaid,
    /// `renew`: the browser is to be told that it lives on.
    User { session: Arc<Session>, renew: bool },
}

/// What has to be asked of a store, or told to one.
enum Order {
    Find(Hash, oneshot::Sender<Who>),
    Seen(Hash, u64),
    /// Everything used so far is to be written now; answered once it is.
    Write(oneshot::Sender<()>),
}

#[derive(Clone)]
struct Stores {
    kept: Kept,
    shared: Option<Shared>,
}

/// Of the process: the cores ask it, the service changes it.
pub struct Sessions {
    policy: ArcSwapOption<Policy>,
    table: Table,
    orders: mpsc::Sender<Order>,
    stores: ArcSwapOption<Stores>,
    opened: watch::Sender<bool>,
    /// The store takes its time to open: nobody waits for that any more.
    late: AtomicBool,
    /// Others may end a session.
    is_shared: AtomicBool,
    /// Redis was not told of some end.
    owes: AtomicBool,
    is_away: AtomicBool,
    unsaid: AtomicU64,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({:?})", self.policy())
    }
}

impl Sessions {
    /// Nothing is asked of a store before it is opened and its upkeep runs.
    pub fn new(policy: Option<Policy>) -> (Arc<Sessions>, Upkeep) {
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let sessions = Arc::new(Sessions {
            policy: ArcSwapOption::from_pointee(policy),
            table: Table::default(),
            orders,
            stores: ArcSwapOption::empty(),
            opened: watch::Sender::new(false),
            late: AtomicBool::new(false),
            is_shared: AtomicBool::new(false),
            owes: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            unsaid: AtomicU64::new(0),
        });
        (sessions.clone(), Upkeep::new(sessions, received))
    }

    /// `None`: there are no sessions.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.load_full()
    }

    /// Of a new configuration. Sessions that are there go by it.
    pub fn set_policy(&self, policy: Option<Policy>) {
        self.policy.store(policy.map(Arc::new));
    }

    /// With the tables of [`MIGRATIONS`].
    pub fn open(&self, durable: Durable, redis: Option<Redis>) {
        let longest_s = self.policy().map_or(u64::MAX, |policy| policy.longest_s);
        let kept = Kept::new(durable, longest_s);
        self.is_shared.store(redis.is_some() || kept.is_shared(), Relaxed);
        self.stores.store(Some(Arc::new(Stores { kept, shared: redis.map(Shared::new) })));
        self.opened.send_replace(true);
    }

    /// The store could not be opened yet.
    pub fn is_late(&self) {
        self.late.store(true, Relaxed);
    }

    /// Writes down what was used so far, before a store is closed. Comes back once it is written, or could not be.
    pub async fn write_down(&self) {
        let (answer, written) = oneshot::channel();
        if self.orders.send(Order::Write(answer)).await.is_ok() {
            // An upkeep that has ended wrote as its last act.
            let _ = written.await;
        }
    }

    /// The store goes to somebody else: from here on this node goes by what it knows.
    pub fn close(&self) {
        self.stores.store(None);
    }

    /// Requests that nobody could say of whose they are.
    pub fn unsaid(&self) -> u64 {
        self.unsaid.load(Relaxed)
    }

    /// For a core: what this node knows by itself.
    pub fn at_once(&self, policy: &Policy, hash: Hash, now_s: u64, now_ms: u64) -> Option<Who> {
        match self.look(policy, hash, now_s, now_ms) {
            Known::Here { session, due } => Some(self.here(session, due, now_s)),
            Known::Ended => Some(Who::Nobody),
            Known::Stale(_) | Known::Nothing => None,
        }
    }

    /// Where it does not know. Waits for a store, no longer than `within`; in the first seconds of a server, for the
    /// store to open.
    pub async fn recognise(&self, policy: &Policy, hash: Hash, within: Duration, now: (u64, u64)) -> Who {
        let (now_s, now_ms) = now;
        let held = match self.look(policy, hash, now_s, now_ms) {
            Known::Stale(session) => Some(session),
            _ => None,
        };
        let waits = !*self.opened.borrow() && !self.late.load(Relaxed);
        let limit = if waits { OPEN_LIMIT } else { within };
        let (answer, told) = oneshot::channel();
        if self.orders.try_send(Order::Find(hash, answer)).is_ok()
            && let Ok(Ok(who)) = tokio::time::timeout(limit, told).await
            && !matches!(who, Who::Unsaid)
        {
            return match (who, self.look(policy, hash, now_s, now_ms)) {
                (Who::User { .. }, Known::Here { session, due }) => self.here(session, due, now_s),
                (who, _) => who,
            };
        }
        match held {
            Some(session) => Who::User { session, renew: false },
            None => {
                self.unsaid.fetch_add(1, Relaxed);
                Who::Unsaid
            }
        }
    }

    fn look(&self, policy: &Policy, hash: Hash, now_s: u64, now_ms: u64) -> Known {
        let fresh_ms = self.is_shared.load(Relaxed).then_some(FRESH_MS);
        self.table.look(hash, policy, now_s, now_ms, fresh_ms)
    }

    fn here(&self, session: Arc<Session>, due: bool, now_s: u64) -> Who {
        // Where there is no room, the next minute says it.
        if due {
            let _ = self.orders.try_send(Order::Seen(session.hash, now_s));
        }
        Who::User { session, renew: due }
    }

    /// After somebody proved who he is. `old`: the session his browser had, which ends: an id that was planted there
    /// before the login is worth nothing after it.
    ///
    /// # Errors
    /// When nothing has begun.
    pub async fn begin(
        &self,
        identity: &Identity,
        old: Option<&Id>,
        agent: &str,
        client: IpAddr,
        now_s: u64,
    ) -> Result<Begun, Fault> {
        let (policy, stores) = (self.policy().ok_or(Fault::Off)?, self.stores()?);
        let id = Id::random().ok_or(Fault::Random)?;
        let identity = Identity { expires_s: policy.ends_s(now_s), ..identity.clone() };
        let stored = Stored { session: Session::new(id.hash(), identity, now_s, agent, client), seen_s: now_s };
        let old = old.map(Id::hash);
        for ended in stores.kept.begin(&stored, old, now_s).await? {
            self.ended(&stores, &policy, ended).await;
        }
        if let Some(shared) = &stores.shared {
            self.noted(shared.put(&stored, &policy, now_s).await);
        }
        self.table.put(stored, Clock::now().0);
        let cookie = HeaderValue::from_str(&cookie::write(&policy, &id.text(), policy.left_s(now_s, now_s, now_s)));
        Ok(Begun { cookie: cookie.map_err(|_| Fault::Off)?, id })
    }

    /// # Errors
    /// When no store says.
    pub async fn find(&self, id: &Id, now_s: u64) -> Result<Option<Arc<Session>>, Fault> {
        match self.ask(id.hash(), now_s).await? {
            Who::User { session, .. } => Ok(Some(session)),
            Who::Nobody => Ok(None),
            Who::Unsaid => Err(Fault::Closed),
        }
    }

    /// A user's, the last used first.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn list(&self, user: &str, now_s: u64) -> Result<Vec<Stored>, Fault> {
        let (policy, stores) = (self.policy().ok_or(Fault::Off)?, self.stores()?);
        let mut all = stores.kept.list(user, now_s.saturating_sub(policy.life_s)).await?;
        for stored in &mut all {
            let here = self.table.peek(stored.session.hash);
            stored.seen_s = here.map_or(stored.seen_s, |here| here.seen_s.max(stored.seen_s));
        }
        all.retain(|stored| policy.age(stored.session.begun_s, stored.seen_s, now_s) != Age::Over);
        Ok(all)
    }

    /// At once on this node; the answer comes when it is on the disk. True: it lived.
    ///
    /// # Errors
    /// When the store did not take it: it lives on.
    pub async fn end(&self, id: &Id, now_s: u64) -> Result<bool, Fault> {
        self.end_hash(id.hash(), now_s).await
    }

    /// One of a user's, by what he knows it by.
    ///
    /// # Errors
    /// As [`Sessions::end`].
    pub async fn end_of(&self, user: &str, handle: &str, now_s: u64) -> Result<bool, Fault> {
        let all = self.list(user, now_s).await?;
        let Some(found) = all.iter().find(|stored| stored.session.hash.handle() == handle) else { return Ok(false) };
        self.end_hash(found.session.hash, now_s).await
    }

    /// Every session of a user, but one. Gives how many.
    ///
    /// # Errors
    /// As [`Sessions::end`].
    pub async fn end_all(&self, user: &str, but: Option<&Id>, now_s: u64) -> Result<usize, Fault> {
        let (policy, stores) = (self.policy().ok_or(Fault::Off)?, self.stores()?);
        let but = but.map(Id::hash);
        let ended = stores.kept.end_all(user, but, now_s).await?;
        self.table.end_all(user, but);
        for hash in &ended {
            self.ended(&stores, &policy, *hash).await;
        }
        Ok(ended.len())
    }

    /// `Set-Cookie` that takes the cookie out of the browser.
    pub fn forget_cookie(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&cookie::write(&*self.policy()?, "", 0)).ok()
    }

    /// What a request's `Cookie` lines carry for us.
    pub fn carried<'a>(policy: &Policy, lines: impl Iterator<Item = &'a [u8]>) -> Carried {
        cookie::read(lines, &policy.cookie)
    }

    /// `Set-Cookie` for a session that lives on.
    pub fn renewed(policy: &Policy, id: &Id, session: &Session, now_s: u64) -> String {
        cookie::write(policy, &id.text(), policy.left_s(session.begun_s, now_s, now_s))
    }

    async fn end_hash(&self, hash: Hash, now_s: u64) -> Result<bool, Fault> {
        let (policy, stores) = (self.policy().ok_or(Fault::Off)?, self.stores()?);
        let Who::User { session, .. } = self.ask(hash, now_s).await? else { return Ok(false) };
        stores.kept.end(&Stored { session: (*session).clone(), seen_s: now_s }, now_s).await?;
        self.ended(&stores, &policy, hash).await;
        Ok(true)
    }

    /// Everybody is told of what the durable store knows to be over.
    async fn ended(&self, stores: &Stores, policy: &Policy, hash: Hash) {
        self.table.end(hash);
        if let Some(shared) = &stores.shared
            && !self.noted(shared.end(hash, policy).await)
        {
            self.owes.store(true, Relaxed);
        }
    }

    fn stores(&self) -> Result<Arc<Stores>, Fault> {
        self.stores.load_full().ok_or(Fault::Closed)
    }

    /// Asks the stores, the fastest first, and keeps what they say.
    async fn ask(&self, hash: Hash, now_s: u64) -> Result<Who, Fault> {
        let (policy, stores) = (self.policy().ok_or(Fault::Off)?, self.stores()?);
        if let Some(shared) = &stores.shared {
            match shared.find(hash, &policy, now_s).await {
                Ok(said) => {
                    self.is_here_again();
                    match said {
                        Said::Ended => return Ok(self.never_again(hash)),
                        Said::Lives(stored) => return Ok(self.lives(*stored, &policy, now_s)),
                        Said::Unknown => {}
                    }
                }
                Err(error) => self.is_gone(&error),
            }
        }
        match stores.kept.find(hash).await {
            Ok(Said::Ended) => {
                // Redis does not know, or it would have said so.
                self.owes.store(stores.shared.is_some(), Relaxed);
                Ok(self.never_again(hash))
            }
            Ok(Said::Lives(stored)) => Ok(self.back(*stored, &stores, &policy, now_s).await),
            // Begun on another node that keeps its own file: Redis had told of it and has lost it since.
            Ok(Said::Unknown) => match self.table.peek(hash).filter(|_| stores.shared.is_some()) {
                Some(stored) => Ok(self.back(stored, &stores, &policy, now_s).await),
                None => Ok(self.over(hash)),
            },
            Err(error) => match self.table.peek(hash) {
                Some(stored) => Ok(Who::User { session: Arc::new(stored.session), renew: false }),
                None => Err(error.into()),
            },
        }
    }

    /// Redis lost it, or never had it.
    async fn back(&self, stored: Stored, stores: &Stores, policy: &Policy, now_s: u64) -> Who {
        if let Some(shared) = &stores.shared {
            self.noted(shared.put(&stored, policy, now_s).await);
        }
        self.lives(stored, policy, now_s)
    }

    fn lives(&self, stored: Stored, policy: &Policy, now_s: u64) -> Who {
        let here = self.table.peek(stored.session.hash).map_or(0, |here| here.seen_s);
        if policy.age(stored.session.begun_s, stored.seen_s.max(here), now_s) == Age::Over {
            return self.over(stored.session.hash);
        }
        let session = self.table.put(stored, Clock::now().0);
        session.map_or(Who::Nobody, |session| Who::User { session, renew: false })
    }

    fn never_again(&self, hash: Hash) -> Who {
        self.table.end(hash);
        Who::Nobody
    }

    fn over(&self, hash: Hash) -> Who {
        self.table.remove(hash);
        Who::Nobody
    }

    /// True if Redis took it.
    fn noted(&self, outcome: Result<(), mainstay_store::redis::Error>) -> bool {
        match outcome {
            Ok(()) => self.is_here_again(),
            Err(ref error) => self.is_gone(error),
        }
        outcome.is_ok()
    }

    fn is_gone(&self, error: &mainstay_store::redis::Error) {
        if !self.is_away.swap(true, Relaxed) {
            tracing::warn!(%error, "sessions are not shared for now: this node goes by what it keeps itself");
        }
    }

    fn is_here_again(&self) {
        if self.is_away.swap(false, Relaxed) {
            tracing::info!("sessions are shared again");
        }
    }
}
