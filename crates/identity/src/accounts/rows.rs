//! What the store keeps of an account, and what it is asked to do. Each of these is one transaction, whichever the
//! database.

use super::methods::Methods;
use super::secrets::Hash;
use crate::revoked::Revocation;

/// A user. People appear elsewhere by `id` alone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Account {
    pub id: String,
    /// In its one spelling; none where only a provider knows him.
    pub address: Option<String>,
    pub name: Option<String>,
    pub password: Option<String>,
    pub roles: Vec<String>,
    pub tenant: Option<String>,
    pub tier: Option<String>,
    /// Counted up whenever every token of his is to be refused; a token names the one it was made under.
    pub generation: i64,
    /// Since when the address is known to be his.
    pub verified_us: Option<i64>,
    pub created_us: i64,
    /// The last login.
    pub seen_us: Option<i64>,
}

/// Without the person and his hash.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.id)
    }
}

/// In one column, as it is in a header: a role has no comma.
pub(crate) fn joined(roles: &[String]) -> String {
    roles.join(",")
}

pub(crate) fn split(roles: &str) -> Vec<String> {
    roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    Id(String),
    Address(String),
    /// A provider and its own name for him.
    Provider(String, String),
}

/// What a provider calls somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub provider: String,
    pub subject: String,
}

/// A login: the tokens that follow from it, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    pub id: String,
    pub account: String,
    /// It begins only while this is still the account's: a password that was changed meanwhile ends it before it began.
    pub generation: i64,
    pub token: Hash,
    pub methods: Methods,
    /// What the client calls itself, and its address: so that the user recognises his own.
    pub agent: String,
    pub client: String,
    pub now_us: i64,
    pub expires_us: i64,
}

/// A login that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Going {
    pub id: String,
    pub account: String,
    pub methods: Methods,
    pub agent: String,
    pub client: String,
    pub created_us: i64,
    /// When its token was exchanged last.
    pub seen_us: i64,
    pub expires_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub presented: Hash,
    pub fresh: Hash,
    pub now_us: i64,
    /// Of the fresh one.
    pub expires_us: i64,
    /// So long a login lives, however often its token is exchanged.
    pub longest_us: i64,
    /// When the last access token of the family is over, should it end now.
    pub until_s: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exchanged {
    /// With the id of the login, and how it was proved.
    Fresh(Box<Account>, String, Methods),
    /// The family was ended; of whom.
    Reused(String, Revocation),
    /// Not known, expired, of a login that was ended.
    Over,
}

/// Which login is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Token(Hash),
    /// Its id, and whose it is.
    Family(String, String),
}

/// What makes every access token of an account worthless.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Every login ends.
    EndAll,
    /// A new hash; every login ends, and so do tokens that were mailed.
    Password(String),
    /// Logins go on: their next access token has these.
    Roles(Vec<String>),
    /// The second factor that waits with this secret is confirmed, and has these recovery codes; every login ends.
    FactorOn {
        secret: Vec<u8>,
        step: i64,
        codes: Vec<Hash>,
    },
    /// There is none any more; every login ends.
    FactorOff,
    Delete,
}

/// A second factor, confirmed or waiting to be.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Factor {
    /// Sealed.
    pub secret: Vec<u8>,
    pub made_us: i64,
    pub confirmed_us: Option<i64>,
    pub codes_left: i64,
}

/// What a login that is not finished waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Code,
    /// Another password.
    Password,
}

impl Wait {
    pub fn as_str(self) -> &'static str {
        match self {
            Wait::Code => "code",
            Wait::Password => "password",
        }
    }
}

/// A login that is not finished: good for what it waits for, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub token: Hash,
    pub account: String,
    /// A password that was changed meanwhile makes it worthless.
    pub generation: i64,
    pub wait: Wait,
    pub methods: Methods,
    pub breached: bool,
    pub now_us: i64,
    pub expires_us: i64,
}

/// A second factor as it was shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The code of this step, which is right.
    Step(i64),
    Recovery(Hash),
}

/// To be taken for good, together with the ticket it finishes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Passing {
    pub account: String,
    pub shown: Shown,
    pub ticket: Option<Hash>,
    pub now_us: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// So many recovery codes are left.
    Yes(i64),
    /// This very code was taken before.
    Reused,
    No,
    /// The ticket is over.
    Over,
}

/// What became of a link that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unlinked {
    Done,
    NotThere,
    /// Nothing else would let him in.
    Last,
}

/// What a mailed token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    VerifyAddress,
    ResetPassword,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::VerifyAddress => "verify_address",
            Purpose::ResetPassword => "reset_password",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mailed {
    pub token: Hash,
    pub account: String,
    pub purpose: Purpose,
    pub now_us: i64,
    pub expires_us: i64,
    /// One that was made after this is not replaced: nobody gets a mail a second.
    pub quiet_since_us: i64,
}
