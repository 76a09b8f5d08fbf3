//! Accounts where they last, whichever database that is: one suite for both. Each call is one transaction.

use super::rows::{Account, By, Change, Ending, Exchange, Exchanged, Factor, Family, Going, Link, Mailed, Passed};
use super::rows::{Passing, Purpose, Ticket, Unlinked, Wait};
use super::secrets::Hash;
use super::{postgres, sqlite};
use crate::revoked::Revocation;
use mainstay_store::migrate::Migrations;
use mainstay_store::{Durable, Error};

pub const MIGRATIONS: Migrations =
    Migrations { block: "identity", sqlite: &sqlite::MIGRATIONS, postgres: &postgres::MIGRATIONS };

/// Logins of one account; past it the oldest ends. A person has a dozen devices; a script that logs in each minute has
/// no use for the old ones.
pub(crate) const FAMILIES_MAX: i64 = 50;
/// Logins of one account that wait for a code; past it the oldest is over.
pub(crate) const TICKETS_MAX: i64 = 10;
/// Rows a list gives at once.
pub(crate) const LIST_MAX: u32 = 1000;
/// Revocations one look brings; the rest comes with the next.
pub(crate) const REVOCATIONS_AT_A_TIME: i64 = 10_000;
/// Rows a transaction deletes.
pub(crate) const PRUNED_AT_A_TIME: i64 = 1000;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(Durable);

macro_rules! either {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match &$store.0 {
            Durable::Sqlite(store) => sqlite::$method(store, $($argument),*).await,
            Durable::Postgres(store) => postgres::$method(store, $($argument),*).await,
        }
    };
}

impl Store {
    /// On a store that was opened with [`MIGRATIONS`].
    pub fn new(durable: Durable) -> Store {
        Store(durable)
    }

    /// `false`: the address, the id or the link belongs to somebody already, and nothing was written.
    pub async fn insert(&self, account: Account, link: Option<Link>) -> Result<bool, Error> {
        either!(self, insert(account, link))
    }

    /// All that are not there yet; which of them were.
    pub async fn import(&self, accounts: Vec<Account>) -> Result<Vec<bool>, Error> {
        either!(self, import(accounts))
    }

    pub async fn find(&self, by: By) -> Result<Option<Account>, Error> {
        either!(self, find(by))
    }

    /// Some account has a bcrypt hash.
    pub async fn has_bcrypt(&self) -> Result<bool, Error> {
        either!(self, has_bcrypt())
    }

    /// In the order of ids, after this one.
    pub async fn list(&self, after: String, limit: u32) -> Result<Vec<Account>, Error> {
        either!(self, list(after, i64::from(limit.min(LIST_MAX))))
    }

    /// `false`: there is such a link, or no such account.
    pub async fn link(&self, account: String, link: Link, now_us: i64) -> Result<bool, Error> {
        either!(self, link(account, link, now_us))
    }

    /// A better hash of the same password, if that is still his.
    pub async fn rehash(&self, account: String, old: String, better: String) -> Result<(), Error> {
        either!(self, rehash(account, old, better))
    }

    /// `false`: the account is gone or of another generation.
    pub async fn begin(&self, family: Family) -> Result<bool, Error> {
        either!(self, begin(family))
    }

    pub async fn exchange(&self, exchange: Exchange) -> Result<Exchanged, Error> {
        either!(self, exchange(exchange))
    }

    /// Whose login ended, and what is refused from now on. `None`: there was none.
    pub async fn end(&self, ending: Ending, now_us: i64, until_s: i64) -> Result<Option<(String, Revocation)>, Error> {
        either!(self, end(ending, now_us, until_s))
    }

    /// What is refused from now on. `None`: there is no such account.
    pub async fn change(
        &self,
        account: String,
        change: Change,
        now_us: i64,
        until_s: i64,
    ) -> Result<Option<Revocation>, Error> {
        either!(self, change(account, change, now_us, until_s))
    }

    /// `false`: one was made a moment ago.
    pub async fn mail(&self, mailed: Mailed) -> Result<bool, Error> {
        either!(self, mail(mailed))
    }

    /// The account whose token this is. It is good once; its address is proven by it.
    pub async fn take_mailed(&self, token: Hash, purpose: Purpose, now_us: i64) -> Result<Option<String>, Error> {
        either!(self, take_mailed(token, purpose, now_us))
    }

    /// Whose mailed token this is; it is good afterwards.
    pub async fn mailed_to(&self, token: Hash, purpose: Purpose, now_us: i64) -> Result<Option<String>, Error> {
        either!(self, mailed_to(token, purpose, now_us))
    }

    /// A second factor that waits to be confirmed, in the place of one that waited. `false`: there is a confirmed one.
    pub async fn enrol(&self, account: String, secret: Vec<u8>, now_us: i64) -> Result<bool, Error> {
        either!(self, enrol(account, secret, now_us))
    }

    pub async fn factor(&self, account: String) -> Result<Option<Factor>, Error> {
        either!(self, factor(account))
    }

    /// The same secret, sealed anew.
    pub async fn reseal(&self, account: String, old: Vec<u8>, better: Vec<u8>) -> Result<(), Error> {
        either!(self, reseal(account, old, better))
    }

    pub async fn pass(&self, passing: Passing) -> Result<Passed, Error> {
        either!(self, pass(passing))
    }

    /// In the place of all that were there. `false`: there is no second factor.
    pub async fn replace_codes(&self, account: String, codes: Vec<Hash>) -> Result<bool, Error> {
        either!(self, replace_codes(account, codes))
    }

    pub async fn put_ticket(&self, ticket: Ticket) -> Result<(), Error> {
        either!(self, put_ticket(ticket))
    }

    /// One that is good; it stays so.
    pub async fn ticket(&self, token: Hash, wait: Wait, now_us: i64) -> Result<Option<Ticket>, Error> {
        either!(self, ticket(token, wait, now_us))
    }

    /// Logins by tokens of one account, the last used first.
    pub async fn logins(&self, account: String, now_us: i64) -> Result<Vec<Going>, Error> {
        either!(self, logins(account, now_us))
    }

    /// Providers that let this account in, and since when.
    pub async fn links(&self, account: String) -> Result<Vec<(Link, i64)>, Error> {
        either!(self, links(account))
    }

    /// `known`: providers that let anybody in at present.
    pub async fn unlink(&self, account: String, provider: String, known: Vec<String>) -> Result<Unlinked, Error> {
        either!(self, unlink(account, provider, known))
    }

    /// What was revoked since, in its order, with when; at most [`REVOCATIONS_AT_A_TIME`].
    pub async fn revocations(&self, since_us: i64, now_s: i64) -> Result<Vec<(i64, Revocation)>, Error> {
        either!(self, revocations(since_us, now_s))
    }

    /// What can be forgotten: tokens and revocations past their time. Gives how many.
    pub async fn prune(&self, now_us: i64) -> Result<u64, Error> {
        either!(self, prune(now_us))
    }
}
