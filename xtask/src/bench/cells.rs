//! What `cargo xtask bench edge` measures: a path, how it is asked for, and the ratio DESIGN asks for.

use anyhow::{Result, bail};

/// Connections where a cell says nothing else.
pub const CONNECTIONS: u32 = 64;
const MANY_CONNECTIONS: u32 = 256;
/// A handshake is worth a hundred requests: fewer at once, so that none waits for its turn alone.
const HANDSHAKES: u32 = 16;
/// As a few browsers open them, each with several requests under way.
const HTTP2_CONNECTIONS: u32 = 16;
pub const HTTP2_STREAMS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Plain,
    Tls,
    Http2,
    Clients,
    Cached,
    Handshake,
}

impl Group {
    const ALL: [Group; 6] = [Group::Plain, Group::Tls, Group::Http2, Group::Clients, Group::Cached, Group::Handshake];

    fn name(self) -> &'static str {
        match self {
            Group::Plain => "plain",
            Group::Tls => "tls",
            Group::Http2 => "http2",
            Group::Clients => "clients",
            Group::Cached => "cached",
            Group::Handshake => "handshake",
        }
    }

    fn parse(word: &str) -> Result<Group> {
        match Group::ALL.into_iter().find(|group| group.name() == word) {
            Some(group) => Ok(group),
            None => {
                bail!("`--only {word}`: expected {}, or several with commas", Group::ALL.map(Group::name).join(", "))
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub group: Group,
    pub name: &'static str,
    pub path: &'static str,
    pub tls: bool,
    /// `None`: as many as the command says.
    connections: Option<u32>,
    /// Beside nginx.
    pub ratio_max: f64,
}

impl Cell {
    pub fn connections(&self, said: u32) -> u32 {
        self.connections.unwrap_or(said)
    }

    /// A connection of its own for each request.
    pub fn closes(&self) -> bool {
        self.group == Group::Handshake
    }
}

const fn cell(group: Group, name: &'static str, path: &'static str, ratio_max: f64) -> Cell {
    let tls = matches!(group, Group::Tls | Group::Http2 | Group::Handshake);
    let connections = match group {
        Group::Clients => Some(MANY_CONNECTIONS),
        Group::Http2 => Some(HTTP2_CONNECTIONS),
        Group::Handshake => Some(HANDSHAKES),
        Group::Plain | Group::Tls | Group::Cached => None,
    };
    Cell { group, name, path, tls, connections, ratio_max }
}

const CELLS: [Cell; 14] = [
    cell(Group::Plain, "200 B", "/s", 1.0),
    cell(Group::Plain, "16 KiB", "/m", 0.9),
    cell(Group::Plain, "1 MiB", "/l", 0.6),
    cell(Group::Tls, "200 B, TLS", "/s", 0.85),
    cell(Group::Tls, "16 KiB, TLS", "/m", 0.85),
    cell(Group::Tls, "1 MiB, TLS", "/l", 0.6),
    cell(Group::Http2, "200 B, HTTP/2", "/s", 0.85),
    cell(Group::Http2, "16 KiB, HTTP/2", "/m", 0.85),
    cell(Group::Clients, "200 B, 256 clients", "/s", 1.0),
    cell(Group::Clients, "16 KiB, 256 clients", "/m", 0.9),
    Cell { tls: true, ..cell(Group::Clients, "200 B, TLS, 256", "/s", 0.85) },
    // Out of the response cache, beside nginx's and caddy's own static file and haproxy's cache.
    cell(Group::Cached, "cached 200 B", "/c", 1.0),
    cell(Group::Cached, "cached 16 KiB", "/cm", 1.0),
    cell(Group::Handshake, "handshake", "/s", 0.7),
];

pub fn named(name: &str) -> Result<Cell> {
    match CELLS.into_iter().find(|cell| cell.name == name) {
        Some(cell) => Ok(cell),
        None => bail!("no cell is called `{name}`"),
    }
}

/// All, or those of the groups in `only`; the quick ones are two.
pub fn chosen(only: Option<&str>, quick: bool) -> Result<Vec<Cell>> {
    let Some(only) = only else {
        let is_chosen = |cell: &Cell| !quick || matches!(cell.name, "200 B" | "200 B, TLS");
        return Ok(CELLS.into_iter().filter(is_chosen).collect());
    };
    let groups = only.split(',').map(Group::parse).collect::<Result<Vec<_>>>()?;
    Ok(CELLS.into_iter().filter(|cell| groups.contains(&cell.group)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_chosen_by_group() {
        assert_eq!(chosen(None, false).unwrap().len(), CELLS.len());
        assert_eq!(chosen(None, true).unwrap().len(), 2);
        let http2 = chosen(Some("http2,handshake"), false).unwrap();
        assert_eq!(http2.iter().filter(|cell| cell.tls).count(), 3);
        assert!(chosen(Some("http3"), false).is_err());
        for group in Group::ALL {
            assert!(!chosen(Some(group.name()), false).unwrap().is_empty());
        }
    }
}
