//! What can go wrong here. None of it stops a request.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log file {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("telemetry thread did not start")]
    Thread(#[source] std::io::Error),
}

impl Error {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Error {
        Error::File { path: path.to_owned(), source }
    }
}
