//! Why Redis gave no answer. `Display` holds no address, user or password: these errors may reach logs.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no connection to Redis")]
    Away,
    #[error("Redis did not answer lately and is left alone for now")]
    Open,
    #[error("too many calls to Redis are under way")]
    Busy,
    #[error("Redis did not answer in time")]
    Late,
    #[error("the connection to Redis broke")]
    Broken(#[source] ::redis::RedisError),
    #[error("Redis refused the login")]
    Login(#[source] ::redis::RedisError),
    #[error("Redis cannot be reached")]
    Unreachable(#[source] ::redis::RedisError),
    #[error("the certificate of Redis is not believed")]
    Certificate(#[source] ::redis::RedisError),
    #[error("Redis answered with an error")]
    Answer(#[source] ::redis::RedisError),
    #[error("no sentinel names a master that answers as one")]
    NoMaster,
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    #[error("the settings of Redis cannot be used")]
    Settings(#[source] ::redis::RedisError),
}

impl Error {
    /// What a failure to connect or to log in means.
    pub(super) fn dialling(error: ::redis::RedisError) -> Error {
        let text = error.to_string();
        if error.kind() == ::redis::ErrorKind::AuthenticationFailed
            || is_login(error.code())
            || text.contains("WRONGPASS")
        {
            return Error::Login(error);
        }
        if error.kind() == ::redis::ErrorKind::InvalidClientConfig {
            return Error::Settings(error);
        }
        if text.contains("invalid peer certificate") || text.contains("UnknownIssuer") {
            return Error::Certificate(error);
        }
        Error::Unreachable(error)
    }

    /// What an answer that is an error means for who asked.
    pub(super) fn answered(error: ::redis::RedisError) -> Error {
        if is_login(error.code()) {
            return Error::Login(error);
        }
        match error.is_io_error() || error.is_unrecoverable_error() {
            true => Error::Broken(error),
            false => Error::Answer(error),
        }
    }

    /// The server lives and says what it thinks of the call: no reason to leave it alone.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Error::Login(_) => true,
            Error::Answer(error) => !is_unfit(error),
            _ => false,
        }
    }
}

fn is_login(code: Option<&str>) -> bool {
    matches!(code, Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// It answers, but cannot do its work: it loads its data, follows a master now, or its cluster is not whole.
pub(super) fn is_unfit(error: &::redis::RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY"))
}

/// It has become a replica: the link leads to the wrong server.
pub(super) fn is_demoted(error: &::redis::RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "MASTERDOWN"))
}
