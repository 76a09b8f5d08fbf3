//! Sessions in the store that lasts: the truth that memory and Redis are faster copies of. One suite for both dialects.
//!
//! Invariant: a session that ended is kept as ended until it could not live any more, so that no copy brings it back.

use super::id::Hash;
use super::session::{Session, Stored};
use super::{postgres, sqlite};
use mainstay_store::migrate::Migrations;
use mainstay_store::{Durable, Error};

/// For who opens the store.
pub const MIGRATIONS: Migrations =
    Migrations { block: "sessions", sqlite: &sqlite::MIGRATIONS, postgres: &postgres::MIGRATIONS };

/// Sessions one user has at a time; a login on top of them ends the one that was used least recently.
pub const SESSIONS_A_USER_MAX: u32 = 50;
/// Rows a removal takes at a time: the writer is not held for long.
pub(super) const PRUNED_AT_A_TIME: i64 = 1000;
/// Ended sessions told to others again once a link is back.
const TOLD_AGAIN_MAX: i64 = 10_000;

/// A row as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub hash: Vec<u8>,
    pub user: String,
    pub data: String,
    pub begun_s: i64,
    pub seen_s: i64,
    pub ended_s: Option<i64>,
}

/// What the store knows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Unknown,
    Ended,
    Lives(Box<Stored>),
}

#[derive(Clone)]
pub(crate) struct Kept {
    durable: Durable,
    longest_s: u64,
}

impl Kept {
    pub fn new(durable: Durable, longest_s: u64) -> Kept {
        Kept { durable, longest_s }
    }

    /// Several nodes may write it.
    pub fn is_shared(&self) -> bool {
        matches!(self.durable, Durable::Postgres(_))
    }

    /// Gives those that were ended for it.
    pub async fn begin(&self, stored: &Stored, old: Option<Hash>, now_s: u64) -> Result<Vec<Hash>, Error> {
        let (row, old) = (row(stored), old.map(|hash| hash.0.to_vec()));
        let ended = match &self.durable {
            Durable::Sqlite(store) => sqlite::begin(store, row, old, clamp(now_s)).await?,
            Durable::Postgres(store) => postgres::begin(store, &row, old, clamp(now_s)).await?,
        };
        Ok(hashes(ended))
    }

    pub async fn find(&self, hash: Hash) -> Result<Said, Error> {
        let found = match &self.durable {
            Durable::Sqlite(store) => sqlite::find(store, hash.0.to_vec()).await?,
            Durable::Postgres(store) => postgres::find(store, &hash.0).await?,
        };
        Ok(found.map_or(Said::Unknown, |row| self.said(&row)))
    }

    /// When each was used last; a later word is not taken back.
    pub async fn seen(&self, seen: &[(Hash, u64)]) -> Result<(), Error> {
        let seen: Vec<(Vec<u8>, i64)> = seen.iter().map(|(hash, at_s)| (hash.0.to_vec(), clamp(*at_s))).collect();
        match &self.durable {
            Durable::Sqlite(store) => sqlite::seen(store, seen).await,
            Durable::Postgres(store) => postgres::seen(store, &seen).await,
        }
    }

    /// One that was never here is written down as ended too.
    pub async fn end(&self, stored: &Stored, now_s: u64) -> Result<(), Error> {
        let mut row = row(stored);
        row.ended_s = Some(clamp(now_s));
        match &self.durable {
            Durable::Sqlite(store) => sqlite::end(store, row).await,
            Durable::Postgres(store) => postgres::end(store, &row).await,
        }
    }

    pub async fn end_all(&self, user: &str, but: Option<Hash>, now_s: u64) -> Result<Vec<Hash>, Error> {
        let but = but.map(|hash| hash.0.to_vec());
        let ended = match &self.durable {
            Durable::Sqlite(store) => sqlite::end_all(store, user.to_owned(), but, clamp(now_s)).await?,
            Durable::Postgres(store) => postgres::end_all(store, user, but, clamp(now_s)).await?,
        };
        Ok(hashes(ended))
    }

    /// Of one user, used since then, the last used first.
    pub async fn list(&self, user: &str, since_s: u64) -> Result<Vec<Stored>, Error> {
        let rows = match &self.durable {
            Durable::Sqlite(store) => sqlite::list(store, user.to_owned(), clamp(since_s)).await?,
            Durable::Postgres(store) => postgres::list(store, user, clamp(since_s)).await?,
        };
        let alive = rows.iter().filter_map(|row| match self.said(row) {
            Said::Lives(stored) => Some(*stored),
            _ => None,
        });
        Ok(alive.collect())
    }

    /// Ended since then, the latest first, with when each could have lived to at most.
    pub async fn ended(&self, since_s: u64) -> Result<Vec<Hash>, Error> {
        let ended = match &self.durable {
            Durable::Sqlite(store) => sqlite::ended(store, clamp(since_s), TOLD_AGAIN_MAX).await?,
            Durable::Postgres(store) => postgres::ended(store, clamp(since_s), TOLD_AGAIN_MAX).await?,
        };
        Ok(hashes(ended))
    }

    /// Removes what could not live any more, some at a time; true: there may be more.
    pub async fn prune(&self, unused_since_s: u64) -> Result<bool, Error> {
        let removed = match &self.durable {
            Durable::Sqlite(store) => sqlite::prune(store, clamp(unused_since_s)).await?,
            Durable::Postgres(store) => postgres::prune(store, clamp(unused_since_s)).await?,
        };
        Ok(removed >= PRUNED_AT_A_TIME as u64)
    }

    fn said(&self, row: &Row) -> Said {
        if row.ended_s.is_some() {
            return Said::Ended;
        }
        let session = Hash::from_slice(&row.hash).and_then(|hash| Session::parse(hash, &row.data, self.longest_s));
        let seen_s = u64::try_from(row.seen_s).unwrap_or(0);
        session.map_or(Said::Unknown, |session| Said::Lives(Box::new(Stored { session, seen_s })))
    }
}

fn row(stored: &Stored) -> Row {
    let session = &stored.session;
    Row {
        hash: session.hash.0.to_vec(),
        user: session.identity.user.clone(),
        data: session.text(),
        begun_s: clamp(session.begun_s),
        seen_s: clamp(stored.seen_s),
        ended_s: None,
    }
}

fn hashes(all: Vec<Vec<u8>>) -> Vec<Hash> {
    all.iter().filter_map(|bytes| Hash::from_slice(bytes)).collect()
}

fn clamp(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
