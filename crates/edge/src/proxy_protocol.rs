//! The PROXY protocol, versions 1 and 2, as a TCP balancer writes it before everything else, TLS included.
//!
//! Read only on listeners that are said to have it, and only from peers that are trusted: whoever may write it may be
//! anybody. On such a listener it is owed: a connection without it is closed.

use crate::address::Trusted;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest version 1 line, its end included (the specification's §2.1).
const LINE_BYTES_MAX: usize = 107;
/// Addresses and whatever a balancer adds to them; more is nobody's business.
const REST_BYTES_MAX: usize = 4096;

/// What the balancer says of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Client(IpAddr),
    /// The balancer asks on its own account (a health check), or does not know: the peer is the client.
    Peer,
}

/// Not what was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong;

/// Who is behind this connection. An error for a stranger, and for a peer that breaks its word.
pub async fn client(
    stream: &mut (impl AsyncRead + Unpin),
    peer: IpAddr,
    trusted: &Trusted,
    wait: Duration,
) -> io::Result<IpAddr> {
    if !trusted.contains(crate::address::plain(peer)) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match tokio::time::timeout(wait, read(stream)).await?? {
        Told::Client(client) => Ok(client),
        Told::Peer => Ok(peer),
    }
}

/// Reads the header and not one byte more.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Told> {
    let wrong = |_: Wrong| io::Error::from(io::ErrorKind::InvalidData);
    let mut head = [0; 16];
    // The shortest of both versions has fifteen bytes ("PROXY UNKNOWN\r\n"): twelve may always be waited for.
    from.read_exact(&mut head[..12]).await?;
    if &head[..12] == SIGNATURE {
        from.read_exact(&mut head[12..]).await?;
        let size = usize::from(u16::from_be_bytes([head[14], head[15]]));
        if size > REST_BYTES_MAX {
            return Err(wrong(Wrong));
        }
        let mut rest = vec![0; size];
        from.read_exact(&mut rest).await?;
        return version2(head[12], head[13], &rest).map_err(wrong);
    }
    let mut line = head[..12].to_vec();
    if !line.starts_with(b"PROXY ") {
        return Err(wrong(Wrong));
    }
    // Byte by byte: what follows the line belongs to somebody else.
    while !line.ends_with(b"\n") {
        if line.len() >= LINE_BYTES_MAX {
            return Err(wrong(Wrong));
        }
        line.push(from.read_u8().await?);
    }
    version1(&line).map_err(wrong)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`
fn version1(line: &[u8]) -> Result<Told, Wrong> {
    let text = std::str::from_utf8(line).map_err(|_| Wrong)?;
    let text = text.strip_suffix("\r\n").and_then(|t| t.strip_prefix("PROXY ")).ok_or(Wrong)?;
    let mut words = text.split(' ');
    let family = words.next().ok_or(Wrong)?;
    if family == "UNKNOWN" {
        return Ok(Told::Peer);
    }
    let mut next = || words.next().ok_or(Wrong);
    let (source, to, source_port, to_port) = (next()?, next()?, next()?, next()?);
    let address = |text: &str| -> Result<IpAddr, Wrong> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Wrong),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Wrong),
            _ => Err(Wrong),
        }
    };
    let client = address(source)?;
    address(to)?;
    for port in [source_port, to_port] {
        port.parse::<u16>().map_err(|_| Wrong)?;
    }
    if words.next().is_some() { Err(Wrong) } else { Ok(Told::Client(client)) }
}

/// `command`: version and command; `kind`: family and transport; `rest`: addresses, then what we do not read.
fn version2(command: u8, kind: u8, rest: &[u8]) -> Result<Told, Wrong> {
    match command {
        0x20 => return Ok(Told::Peer),
        0x21 => {}
        _ => return Err(Wrong),
    }
    match kind >> 4 {
        1 => {
            let bytes: [u8; 4] = rest.get(..12).and_then(|r| r[..4].try_into().ok()).ok_or(Wrong)?;
            Ok(Told::Client(Ipv4Addr::from(bytes).into()))
        }
        2 => {
            let bytes: [u8; 16] = rest.get(..36).and_then(|r| r[..16].try_into().ok()).ok_or(Wrong)?;
            Ok(Told::Client(Ipv6Addr::from(bytes).into()))
        }
        // Of no family, or of this machine.
        0 | 3 => Ok(Told::Peer),
        _ => Err(Wrong),
    }
}

/// Listeners that speak it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners(Vec<SocketAddr>);

impl Listeners {
    pub fn new(addresses: impl Iterator<Item = SocketAddr>) -> Listeners {
        Listeners(addresses.collect())
    }

    /// Whether a connection that came in here begins with it.
    pub fn has(&self, local: &io::Result<SocketAddr>) -> bool {
        let Ok(local) = local else { return false };
        let ip = local.ip().to_canonical();
        self.0.iter().any(|l| l.port() == local.port() && (l.ip().is_unspecified() || l.ip() == ip))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What was told, and how many bytes were left for whoever comes next.
    fn all(bytes: &[u8]) -> (Option<Told>, usize) {
        let mut from = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let told = runtime.block_on(read(&mut from));
        (told.ok(), from.len())
    }

    fn v2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let size = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, kind], &size, rest].concat()
    }

    #[test]
    fn both_versions_are_read_to_their_last_byte_and_no_further() {
        let client = |text: &str| Some(Told::Client(text.parse().expect("address")));
        let four = [&[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4][..], b"\x04\0\x01x"].concat();
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 32]].concat();
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(), client("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), client("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Some(Told::Peer)),
            (b"PROXY UNKNOWN ffff:f... 1 2\r\n".to_vec(), Some(Told::Peer)),
            (v2(0x21, 0x11, &four), client("192.0.2.1")),
            (v2(0x21, 0x21, &six), client("2001:db8::")),
            (v2(0x20, 0x00, &[]), Some(Told::Peer)),
            (v2(0x21, 0x00, b"xy"), Some(Told::Peer)),
        ] {
            let told = all(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat());
            assert_eq!(told, (expected, 16), "{bytes:?}");
        }
    }

    #[test]
    fn whatever_else_comes_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 7\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\n",
            &[b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat(),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x51, &[0; 12]),
            &v2(0x21, 0x11, &[0; REST_BYTES_MAX + 1]),
            b"PROXY ",
            b"",
        ] {
            assert_eq!(all(bytes).0, None, "{bytes:?}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_meant_by_each() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("address");
        let listeners = Listeners::new([at("0.0.0.0:443"), at("127.0.0.1:8443")].into_iter());
        for (local, expected) in [("10.0.0.1:443", true), ("127.0.0.1:8443", true), ("10.0.0.1:8443", false)] {
            assert_eq!(listeners.has(&Ok(at(local))), expected, "{local}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(kind in 0usize..3, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [[&SIGNATURE[..], b"PROXY TCP4 ", b""][kind], &rest].concat();
            let (_, left) = all(&bytes);
            prop_assert!(left <= bytes.len());
        }
    }
}
