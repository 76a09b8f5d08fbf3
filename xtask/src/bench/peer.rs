//! The peers: Debian's nginx, haproxy and caddy, each with the duties Mainstay has in the same run, as far as it can
//! have them. What differs stands in `docs/performance.md`.

mod caddy;
pub mod express;
mod haproxy;
pub mod nginx;

use crate::instance::Running;
use crate::tools::{self, Tool};
use anyhow::{Result, bail};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// The bodies, by path: what an API answers, a page, a download.
const FILES: [(&str, usize); 5] = [("s", 200), ("m", 16 * 1024), ("l", 1024 * 1024), ("c", 200), ("cm", 16 * 1024)];
/// Idle connections to an upstream that are kept, as many as Mainstay keeps: no peer opens new ones for want of room.
const KEPT_MAX: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Nginx,
    Haproxy,
    Caddy,
}

impl Peer {
    pub const ALL: [Peer; 3] = [Peer::Nginx, Peer::Haproxy, Peer::Caddy];

    pub fn parse(word: &str) -> Result<Peer> {
        match Peer::ALL.into_iter().find(|peer| peer.name() == word) {
            Some(peer) => Ok(peer),
            None => bail!("`--peer {word}`: expected nginx, haproxy or caddy, or several with commas"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Peer::Nginx => "nginx",
            Peer::Haproxy => "haproxy",
            Peer::Caddy => "caddy",
        }
    }

    pub fn tool(self) -> &'static Tool {
        match self {
            Peer::Nginx => &tools::NGINX,
            Peer::Haproxy => &tools::HAPROXY,
            Peer::Caddy => &tools::CADDY,
        }
    }

    /// What it says of itself.
    pub fn version(self) -> Result<String> {
        match self {
            Peer::Nginx => nginx::version(),
            Peer::Haproxy => haproxy::version(),
            Peer::Caddy => caddy::version(),
        }
    }

    /// Starts it as a proxy in a folder of its own under `dir`.
    pub fn start(self, dir: &Path, upstream: SocketAddr) -> Result<Running> {
        match self {
            Peer::Nginx => nginx::start(dir, upstream),
            Peer::Haproxy => haproxy::start(dir, upstream),
            Peer::Caddy => caddy::start(dir, upstream),
        }
    }
}

/// The bodies as files in `dir/files`.
fn write_files(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("files"))?;
    for (name, bytes) in FILES {
        fs::write(dir.join("files").join(name), vec![b'x'; bytes])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_its_name() {
        for peer in Peer::ALL {
            assert_eq!(Peer::parse(peer.name()).unwrap(), peer);
        }
        assert!(Peer::parse("apache").is_err());
    }
}
