//! Everything that can go wrong here, as a person should read it: what, and what to type next.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `Display` never contains the source; `explain` prints the whole chain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the other process is gone")]
    Closed,
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    MessageTooLarge { bytes: usize, limit: usize },
    #[error("a message with {count} descriptors is over the limit of {limit}")]
    TooManyDescriptors { count: usize, limit: usize },
    #[error("cannot read a message of the other process")]
    Message(#[source] serde_json::Error),
    #[error("{what}")]
    Io { what: String, source: io::Error },

    #[error(
        "{} is in use by mainstay (pid {}); see it: mainstay status   end it: mainstay stop",
        path.display(),
        pid.map_or("unknown".to_owned(), |pid| pid.to_string())
    )]
    DataHeld { path: PathBuf, pid: Option<i32> },
    #[error(
        "{} is neither empty nor a data folder of mainstay; fix: name an empty or new folder (MAINSTAY_DATA=DIR)",
        .0.display()
    )]
    DataForeign(PathBuf),

    #[error("cannot listen on {address}: {}", taken(address, holder.as_ref()))]
    PortTaken { address: SocketAddr, holder: Option<Holder> },
    #[error("cannot listen on {0}: {fix}", fix = privileged(.0))]
    PortPrivileged(SocketAddr),
    #[error(
        "cannot listen on {0}: no network interface of this machine has that address; fix: --listen :{port}",
        port = .0.port()
    )]
    AddressMissing(SocketAddr),
    #[error("{} is in use by a running mainstay; see it: mainstay status   end it: mainstay stop", .0.display())]
    ControlTaken(PathBuf),
    #[error("{} exists and is not a socket; fix: move it away", .0.display())]
    ControlForeign(PathBuf),

    #[error("{0}")]
    Spawn(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn at(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        Error::io(format!("cannot {verb} {}", path.display()))
    }
}

/// Who holds a port we want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub name: String,
    pub kind: HolderKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderKind {
    /// Another Mainstay, and the directory it was started in.
    Mainstay(Option<PathBuf>),
    /// An app that a Mainstay started.
    Supervised,
    Other,
}

fn taken(address: &SocketAddr, holder: Option<&Holder>) -> String {
    let port = address.port();
    let other = format!("listen elsewhere: --listen :{}", port.checked_add(1).unwrap_or(8080));
    let Some(Holder { pid, name, kind }) = holder else {
        return format!("port {port} is taken, by a process this user may not see; fix: {other}");
    };
    match kind {
        HolderKind::Mainstay(Some(dir)) => {
            let dir = dir.display();
            format!("port {port} is held by another mainstay (pid {pid}); fix: cd {dir} && mainstay stop   or {other}")
        }
        HolderKind::Mainstay(None) => {
            format!("port {port} is held by another mainstay (pid {pid}); fix: kill {pid}   or {other}")
        }
        HolderKind::Supervised => {
            format!("port {port} is held by {name} (pid {pid}), an app that a mainstay runs; fix: {other}")
        }
        HolderKind::Other => format!("port {port} is held by {name} (pid {pid}); fix: kill {pid}   or {other}"),
    }
}

fn privileged(address: &SocketAddr) -> String {
    format!(
        "ports below 1024 need a privilege; fix: sudo setcap cap_net_bind_service=+ep \"$(command -v mainstay)\"   \
         or under systemd AmbientCapabilities=CAP_NET_BIND_SERVICE   or listen elsewhere: --listen :{}",
        8000 + address.port() % 1000
    )
}

/// An error and its sources in one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(line, ": {cause}");
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_taken_port_says_who_and_what_to_type() {
        let holder = Holder { pid: 1234, name: "node".into(), kind: HolderKind::Other };
        let text = Error::PortTaken { address: address("127.0.0.1:8080"), holder: Some(holder) }.to_string();
        assert!(text.contains("node (pid 1234)") && text.contains("--listen :8081"), "{text}");

        let holder = Holder { pid: 7, name: "mainstay".into(), kind: HolderKind::Mainstay(Some("/srv/shop".into())) };
        let text = Error::PortTaken { address: address("[::]:65535"), holder: Some(holder) }.to_string();
        assert!(text.contains("another mainstay (pid 7)") && text.contains("cd /srv/shop && mainstay stop"), "{text}");
    }

    #[test]
    fn a_low_port_says_how_to_get_it() {
        let text = Error::PortPrivileged(address("0.0.0.0:443")).to_string();
        assert!(text.contains("setcap") && text.contains("AmbientCapabilities") && text.contains(":8443"), "{text}");
    }

    #[test]
    fn the_chain_is_one_line() {
        let error = Error::io("cannot open lock")(io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(explain(&error), "cannot open lock: Permission denied (os error 13)");
    }
}
