//! The statements of calls and replies. Each is one round trip and waits for no disk.

use mainstay_store::Error;
use mainstay_store::postgres::{Options, Prepared, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Calls or replies of one statement.
pub(super) const BATCH_MAX: usize = 256;
/// And bytes: what is larger goes alone.
pub(super) const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A reply nobody has fetched for so long is thrown away.
const KEPT: &str = "1 minute";

/// A connection with one of the two ends.
pub(super) struct Line {
    session: Session,
    put: Prepared,
    take: Prepared,
    is_pooled: bool,
}

/// A call as it was found.
pub(super) struct Call {
    pub node: String,
    pub number: i64,
    /// Somebody still waits.
    pub is_due: bool,
    pub asked: Vec<u8>,
}

/// Which end.
#[derive(Clone, Copy)]
pub(super) enum End {
    Asking,
    Answering,
}

impl Line {
    /// `told` is notified when there may be something to take; not behind a pooler.
    pub async fn open(options: &Options, end: End, told: Arc<Notify>) -> Result<Line, Error> {
        let session = Session::open(options, told).await?;
        let (put, take, channel) = match end {
            End::Asking => (PUT_CALLS.to_owned(), TAKE_REPLIES.to_owned(), "LISTEN mainstay_replies"),
            End::Answering => (put_replies(), TAKE_CALLS.to_owned(), "LISTEN mainstay_calls"),
        };
        let (put, take) = (session.prepare(put).await?, session.prepare(take).await?);
        if !options.pgbouncer {
            session.in_time(async { Ok(session.client().batch_execute(channel).await?) }).await?;
        }
        Ok(Line { session, put, take, is_pooled: options.pgbouncer })
    }

    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Nobody says when there is something: it must be looked for.
    pub fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// Calls of this node: number, how long somebody waits, and what is asked.
    pub async fn put_calls(&self, node: &str, calls: &[(i64, Duration, Vec<u8>)]) -> Result<(), Error> {
        let numbers: Vec<i64> = calls.iter().map(|(number, ..)| *number).collect();
        let waits: Vec<f64> = calls.iter().map(|(_, wait, _)| wait.as_secs_f64()).collect();
        let asked: Vec<&[u8]> = calls.iter().map(|(.., asked)| &asked[..]).collect();
        self.session.query(&self.put, &[&node, &numbers, &waits, &asked]).await.map(drop)
    }

    /// The oldest calls; nobody else gets them.
    pub async fn take_calls(&self, most: usize) -> Result<Vec<Call>, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let bytes = i64::try_from(BATCH_BYTES_MAX).unwrap_or(i64::MAX);
        let rows = self.session.query(&self.take, &[&most, &bytes]).await?;
        let call = |row: &mainstay_store::postgres::tokio_postgres::Row| {
            let (node, number) = (row.try_get("node")?, row.try_get("number")?);
            Ok(Call { node, number, is_due: row.try_get("is_due")?, asked: row.try_get("asked")? })
        };
        rows.iter().map(call).collect()
    }

    /// Replies: to which call of which node (0: to none), and what is told.
    pub async fn put_replies(&self, replies: &[(String, i64, Vec<u8>)]) -> Result<(), Error> {
        let nodes: Vec<&str> = replies.iter().map(|(node, ..)| &**node).collect();
        let numbers: Vec<i64> = replies.iter().map(|(_, number, _)| *number).collect();
        let told: Vec<&[u8]> = replies.iter().map(|(.., told)| &told[..]).collect();
        self.session.query(&self.put, &[&nodes, &numbers, &told]).await.map(drop)
    }

    /// Throws away what nobody has fetched.
    pub async fn purge(&self) -> Result<(), Error> {
        let sql = "DELETE FROM mainstay.jobs_reply WHERE until < clock_timestamp()";
        self.session.in_time(async { Ok(self.session.client().batch_execute(sql).await?) }).await
    }

    /// What was answered to this node, in the order in which that happened.
    pub async fn take_replies(&self, node: &str) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let rows = self.session.query(&self.take, &[&node]).await?;
        rows.iter().map(|row| Ok((row.try_get("number")?, row.try_get("told")?))).collect()
    }
}

const PUT_CALLS: &str = "WITH put AS (
    INSERT INTO mainstay.jobs_call (node, number, until, asked)
    SELECT $1::text, number, clock_timestamp() + make_interval(secs => wait), asked
    FROM unnest($2::bigint[], $3::float8[], $4::bytea[]) AS new (number, wait, asked) RETURNING 1
) SELECT pg_notify('mainstay_calls', '') FROM (SELECT count(*) FROM put) AS all_of_them";

const TAKE_CALLS: &str = "WITH taken AS (
    DELETE FROM mainstay.jobs_call WHERE id IN (
        SELECT id FROM (
            SELECT id, sum(octet_length(asked)) OVER (ORDER BY id) AS bytes, row_number() OVER (ORDER BY id) AS place
            FROM (SELECT id, asked FROM mainstay.jobs_call ORDER BY id LIMIT $1::bigint) AS oldest
        ) AS counted WHERE place = 1 OR bytes <= $2::bigint
    ) RETURNING id, node, number, until, asked
) SELECT node, number, until > clock_timestamp() AS is_due, asked FROM taken ORDER BY id";

fn put_replies() -> String {
    format!(
        "WITH put AS (
            INSERT INTO mainstay.jobs_reply (node, number, until, told)
            SELECT node, number, clock_timestamp() + interval '{KEPT}', told
            FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS new (node, number, told) RETURNING 1
        ) SELECT pg_notify('mainstay_replies', '') FROM (SELECT count(*) FROM put) AS all_of_them"
    )
}

const TAKE_REPLIES: &str = "WITH taken AS (
    DELETE FROM mainstay.jobs_reply WHERE node = $1::text RETURNING id, number, told
) SELECT number, told FROM taken ORDER BY id";
