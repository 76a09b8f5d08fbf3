//! One connection that is somebody's own for as long as it lives: for a lock of the session, for what is told by
//! `NOTIFY`, and for transactions that are sent whole, in one round trip.
//!
//! Invariant: of a transaction of which one statement could not be sent or was refused, nothing is committed.

use super::typed::{self, Values};
use super::{GRACE, Options, config, tls};
use crate::error::Error;
use futures_util::StreamExt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, NoTls, Row, Statement};

/// Past it whoever waits for us has long given up.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// A connect that takes longer holds up everybody who asks meanwhile.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long the server believes in a client that is silent: keepalives find one whose machine is gone, the limit of
/// idleness one that was stopped in its tracks. Not every version or system knows each, so each is set by itself.
const SETTINGS: [&str; 7] = [
    "SET tcp_keepalives_idle = 2",
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 5000",
    "SET idle_session_timeout = 10000",
    "SET plan_cache_mode = force_generic_plan",
    "SET jit = off",
];

/// Of a transaction behind a pooler.
const HALFWAY: &str = "SET LOCAL idle_in_transaction_session_timeout = 10000";

/// A connection. It ends when dropped, and what it locked is free then.
pub struct Session {
    client: Client,
    limit: Duration,
    is_pooled: bool,
}

/// What an acknowledged commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is on the disk, whatever the server's own setting is.
    Synced,
    /// The server has it: a crash of a client loses nothing, one of the server what is some hundred milliseconds old.
    Unsynced,
}

/// A statement that is asked again and again: the session knows it by its name; behind a pooler, where the next
/// transaction may be another connection's, it is sent whole.
pub struct Prepared(Sent);

enum Sent {
    Named(Statement),
    Typed(String, Vec<Type>),
}

/// A statement and what is in it.
pub struct Write<'a> {
    pub statement: &'a Prepared,
    pub values: Vec<&'a (dyn ToSql + Sync)>,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + 'a>>;

impl Session {
    /// Connects; `told` is notified of whatever the session listens to. Must be called on the runtime that drives it.
    ///
    /// # Errors
    /// When it cannot be reached in time, or refuses us.
    pub async fn open(options: &Options, told: Arc<Notify>) -> Result<Session, Error> {
        let limit = options.statement.min(STATEMENT_LIMIT).saturating_add(GRACE);
        let short = Options { connect: options.connect.min(CONNECT_LIMIT), ..options.clone() };
        let config = config(&short);
        let connecting = async {
            Ok(match tls::connector(&options.tls)? {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    drive(driver(connection, told));
                    client
                }
                Some(connector) => {
                    let (client, connection) = config.connect(connector).await?;
                    drive(driver(connection, told));
                    client
                }
            })
        };
        let client = tokio::time::timeout(limit, connecting).await.unwrap_or(Err(Error::Late))?;
        let session = Session { client, limit, is_pooled: options.pgbouncer };
        if !options.pgbouncer {
            for setting in SETTINGS {
                let set = session.in_time(async { Ok(session.client.batch_execute(setting).await) }).await?;
                if session.client.is_closed() {
                    set?;
                }
            }
        }
        Ok(session)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it has ended; then it is of no use any more.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Work of a statement or two, or [`Error::Late`]: then the session is to be dropped, and it is not known what
    /// became of it.
    ///
    /// # Errors
    /// The work's own, or that the server did not answer in time.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(self.limit, work).await.unwrap_or(Err(Error::Late))
    }

    /// # Errors
    /// What the server says of the statement, or [`Error::Late`].
    pub async fn prepare(&self, sql: String) -> Result<Prepared, Error> {
        let sent = async {
            Ok(match self.is_pooled {
                true => {
                    let types = typed::asked(&self.client, &sql).await?;
                    Sent::Typed(sql, types)
                }
                false => Sent::Named(self.client.prepare(&sql).await?),
            })
        };
        self.in_time(sent).await.map(Prepared)
    }

    /// All rows of an answer.
    ///
    /// # Errors
    /// The server's, or [`Error::Late`].
    pub async fn query(&self, prepared: &Prepared, values: Values<'_>) -> Result<Vec<Row>, Error> {
        let asked = async {
            Ok(match &prepared.0 {
                Sent::Named(statement) => self.client.query(statement, values).await?,
                Sent::Typed(sql, types) => self.client.query_typed(sql, &typed::zipped(values, types)?).await?,
            })
        };
        self.in_time(asked).await
    }

    /// Every row of a question, one after the other, however long that takes; a server that stops in between is not
    /// waited for.
    ///
    /// # Errors
    /// What `each` says, or [`Error::Late`].
    pub async fn rows(&self, sql: &str, mut each: impl FnMut(Row) -> Result<(), Error>) -> Result<(), Error> {
        let nothing: [(&(dyn ToSql + Sync), Type); 0] = [];
        let asked = async { Ok(self.client.query_typed_raw(sql, nothing).await?) };
        let mut rows = pin!(self.in_time(asked).await?);
        while let Some(row) = self.in_time(async { Ok(rows.next().await.transpose()?) }).await? {
            each(row)?;
        }
        Ok(())
    }

    /// Commits all of these or none, in one round trip.
    ///
    /// # Errors
    /// What the first of them that failed says. After [`Error::Late`] and [`Error::Unreachable`] it is not known
    /// whether it was committed.
    pub async fn transaction(&self, begin: Begin, writes: &[Write<'_>]) -> Result<(), Error> {
        self.in_time(async { Ok(self.pipelined(begin, writes).await?) }).await
    }

    async fn pipelined(&self, begin: Begin, writes: &[Write<'_>]) -> Result<(), tokio_postgres::Error> {
        let begin = match begin {
            Begin::Synced => "BEGIN; SET LOCAL synchronous_commit = on",
            Begin::Unsynced => "BEGIN; SET LOCAL synchronous_commit = off",
        };
        // Whoever stops halfway must not hold its rows for ever, and no session says so behind a pooler.
        let begin = if self.is_pooled { format!("{begin}; {HALFWAY}") } else { begin.to_owned() };
        let client = &self.client;
        let mut sent: Vec<Sending<'_>> = vec![Box::pin(client.batch_execute(&begin))];
        sent.extend(writes.iter().map(|write| -> Sending<'_> {
            Box::pin(async move {
                match &write.statement.0 {
                    Sent::Named(statement) => client.execute(statement, &write.values).await.map(drop),
                    Sent::Typed(sql, types) => {
                        let typed: Vec<_> = write.values.iter().copied().zip(types.iter().cloned()).collect();
                        client.execute_typed(sql, &typed).await.map(drop)
                    }
                }
            })
        }));
        // A statement is sent when it is polled first, and one that cannot be says so at once.
        let sending = poll_fn(|context| Poll::Ready(Progress::of(&mut sent, context)));
        let mut progress = sending.await;
        let end = if progress.failed.is_none() { "COMMIT" } else { "ROLLBACK" };
        let mut end: Sending<'_> = Box::pin(client.batch_execute(end));
        let mut ended = None;
        poll_fn(|context| {
            if ended.is_none()
                && let Poll::Ready(result) = end.as_mut().poll(context)
            {
                ended = Some(result);
            }
            progress.go_on(&mut sent, context);
            if ended.is_some() && progress.left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        // A `COMMIT` after a statement that was refused is a rollback, and no error.
        match (progress.failed, ended) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => result,
            (None, None) => Ok(()),
        }
    }
}

/// Which of some statements were answered, and what the first that failed says.
struct Progress {
    is_answered: Vec<bool>,
    left: usize,
    failed: Option<tokio_postgres::Error>,
}

impl Progress {
    /// Sends them in their order.
    fn of(sent: &mut [Sending<'_>], context: &mut Context<'_>) -> Progress {
        let mut progress = Progress { is_answered: vec![false; sent.len()], left: sent.len(), failed: None };
        progress.go_on(sent, context);
        progress
    }

    fn go_on(&mut self, sent: &mut [Sending<'_>], context: &mut Context<'_>) {
        for (sending, is_answered) in sent.iter_mut().zip(&mut self.is_answered).filter(|(_, answered)| !**answered) {
            if let Poll::Ready(result) = sending.as_mut().poll(context) {
                *is_answered = true;
                self.left -= 1;
                if let Err(error) = result {
                    self.failed.get_or_insert(error);
                }
            }
        }
    }
}

/// Reads and writes for the connection until that ends.
async fn driver<S, T>(mut connection: tokio_postgres::Connection<S, T>, told: Arc<Notify>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(_) = message {
            told.notify_one();
        }
    }
    // Whoever waits looks, and finds it closed.
    told.notify_one();
}

/// Ends with the last handle to the connection: no policy could say more.
#[allow(clippy::disallowed_methods)]
fn drive(driver: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(driver);
}
