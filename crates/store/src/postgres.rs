//! Postgres: a bounded pool, TLS as the URL asks for it, limits on every wait. Tables of ours are in the schema
//! `mainstay`.

mod client;
mod options;
mod session;
mod tls;
mod typed;

use crate::error::Error;
use crate::migrate::{Migration, Migrations};
use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};
use mainstay_runtime::Shutdown;
use std::time::Duration;
use typed::Types;

pub use client::{Client, Transaction};
pub use options::{Host, Options, SslMode, Tls};
pub use session::{Begin, Prepared, Session, Write};
pub use tokio_postgres;
pub use typed::Values;

/// How often connections that have been idle for too long are looked for.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(5);
/// Beyond the limit of a statement, which the server keeps itself: then it is the server that hangs, or the network.
const GRACE: Duration = Duration::from_secs(2);
/// Hosts that may each take the whole time of a connect before the next is tried.
const HOSTS_TRIED: u32 = 4;
/// Shown in `pg_stat_activity`, so that a DBA knows whose connections these are.
const NAME: &str = "mainstay";

/// Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    idle: Duration,
    /// Of a piece of work: its wait for a connection, the connection, and a statement.
    work: Duration,
    /// Behind a pooler: what statements are sent with.
    types: Option<Types>,
}

/// The pool at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub active: usize,
    pub idle: usize,
    pub max: usize,
    pub waiting: usize,
}

impl Postgres {
    /// Connects once, and brings the tables of each block up to date.
    ///
    /// # Errors
    /// When it cannot be reached, refuses us, or its tables are newer than this program.
    pub async fn open(options: &Options, blocks: &[Migrations]) -> Result<Postgres, Error> {
        let postgres = Postgres::connect(options).await?;
        for block in blocks {
            postgres.install(block).await?;
        }
        Ok(postgres)
    }

    /// Brings the tables of a block up to date; what ran now, in its order.
    ///
    /// # Errors
    /// When it cannot be reached, refuses us, or the tables are newer than this program.
    pub async fn install(&self, block: &Migrations) -> Result<Vec<&'static Migration>, Error> {
        crate::migrate::postgres(&mut self.client().await?, block).await
    }

    /// Connects once; no table is looked at.
    ///
    /// # Errors
    /// When it cannot be reached, or refuses us.
    pub async fn connect(options: &Options) -> Result<Postgres, Error> {
        let config = config(options);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match tls::connector(&options.tls)? {
            None => Manager::from_config(config, tokio_postgres::NoTls, recycling),
            Some(connector) => Manager::from_config(config, connector, recycling),
        };
        let hosts = u32::try_from(options.hosts.len()).unwrap_or(HOSTS_TRIED).clamp(1, HOSTS_TRIED);
        let connect = options.connect.saturating_mul(hosts);
        let pool = Pool::builder(manager)
            .max_size(options.pool)
            .wait_timeout(Some(options.wait))
            .create_timeout(Some(connect))
            .recycle_timeout(Some(options.connect))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Tls(error.to_string()))?;
        let work = options.wait.saturating_add(connect).saturating_add(options.statement).saturating_add(GRACE);
        let types = options.pgbouncer.then(Types::default);
        let postgres = Postgres { pool, idle: options.idle, work, types };
        drop(postgres.client().await?);
        Ok(postgres)
    }

    /// A connection for a transaction or a statement; it goes back when dropped. A transaction that is dropped without
    /// `commit` is taken back.
    ///
    /// # Errors
    /// When none is free in time, or none can be made.
    pub async fn client(&self) -> Result<Client, Error> {
        let client = self.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => Error::Busy,
            PoolError::Timeout(_) => Error::Late,
            PoolError::Backend(error) => Error::postgres(error),
            PoolError::Closed => Error::Closed,
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Error::Closed,
        })?;
        Ok(Client::new(client, self.types.clone()))
    }

    /// Work with one or two statements, ended where the server neither answers nor ends it: one that was stopped in
    /// its tracks holds its connections open and says nothing for ever. They are given up, and the next caller
    /// connects anew.
    ///
    /// # Errors
    /// The work's own, or [`Error::Late`]: it is then not known what became of it.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.work, work).await {
            Ok(result) => result,
            Err(_) => {
                self.pool.retain(|_, _| false);
                Err(Error::Late)
            }
        }
    }

    pub fn connections(&self) -> Connections {
        let status = self.pool.status();
        let idle = status.available.min(status.size);
        Connections { active: status.size - idle, idle, max: status.max_size, waiting: status.waiting }
    }

    /// Closes what is idle for too long, until the end is asked for.
    pub async fn upkeep(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(IDLE_LOOK_EVERY) => {}
            }
            self.pool.retain(|_, metrics| metrics.last_used() < self.idle);
        }
    }

    /// Nobody gets a connection any more; those in use end when they come back. Idempotent.
    pub fn close(&self) {
        self.pool.close();
    }
}

fn config(options: &Options) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.user(&options.user).dbname(&options.database).application_name(NAME);
    if let Some(password) = &options.password {
        config.password(&password.0);
    }
    for host in &options.hosts {
        match host {
            Host::Tcp(host, port) => config.host(host).port(*port),
            Host::Unix(folder, port) => config.host_path(folder).port(*port),
        };
    }
    config.connect_timeout(options.connect).keepalives(true).keepalives_idle(Duration::from_secs(30));
    config.tcp_user_timeout(Duration::from_secs(30));
    config.ssl_mode(match options.tls.mode {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
    });
    if options.writable_only {
        config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    }
    if options.bound {
        config.channel_binding(tokio_postgres::config::ChannelBinding::Require);
    }
    let mut own = options.server_options.clone().unwrap_or_default();
    // PgBouncer hands a connection to somebody else after each transaction, and refuses such options.
    if !options.pgbouncer {
        // A setting of the server is a 32-bit number, and 0 would be "for ever".
        let statement = options.statement.as_millis().clamp(1, i32::MAX as u128);
        let ours = format!(" -c statement_timeout={statement} -c idle_in_transaction_session_timeout={statement}");
        own.push_str(&ours);
    }
    if !own.is_empty() {
        config.options(own.trim_start());
    }
    config
}
