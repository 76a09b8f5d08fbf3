//! The ports given to children: from 21000 up, the lowest that is free.
//!
//! Must never: hold a port; it is probed, let go and then the child's to take. What is held for as long as the child
//! lives is its name, so that two Mainstays that start at one moment do not choose the same.

use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

/// Below the kernel's own range for outgoing connections (32768 up), above what people choose.
pub const FIRST: u16 = 21_000;
/// More instances than this on one machine are a mistake.
pub const LAST: u16 = 28_999;

/// A port that no other Mainstay on this machine gives away while this lives.
#[derive(Debug)]
pub struct Reserved {
    pub port: u16,
    /// A name in the abstract namespace: as far-reaching as the port, and gone with us however we end. `None` where
    /// that is not to be had; then the probe alone decides.
    _name: Option<UnixDatagram>,
}

/// The lowest port that no instance of ours has, nobody listens on and no other Mainstay has given away.
pub fn choose(taken: &BTreeSet<u16>) -> Option<Reserved> {
    (FIRST..=LAST).filter(|port| !taken.contains(port)).find_map(|port| {
        let reserved = reserve(port)?;
        is_free(port).then_some(reserved)
    })
}

/// `None`: another Mainstay has it.
pub fn reserve(port: u16) -> Option<Reserved> {
    let name = UnixAddress::from_abstract_name(format!("mainstay-port-{port}"));
    match name.and_then(|name| UnixDatagram::bind_addr(&name)) {
        Ok(socket) => Some(Reserved { port, _name: Some(socket) }),
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        Err(_) => Some(Reserved { port, _name: None }),
    }
}

/// Free on every local address of both families: the child may listen on any.
pub fn is_free(port: u16) -> bool {
    let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    // A machine without IPv6 has nobody on it either.
    [four, six].into_iter().all(|address| match bind(address) {
        Ok(()) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied),
    })
}

/// Bound, never listening: nobody can connect meanwhile.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As servers do: what waits out TIME_WAIT does not keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_somebody_listens_on_is_passed_over() {
        for address in ["127.0.0.1", "0.0.0.0", "[::1]"] {
            let Ok(listener) = TcpListener::bind(format!("{address}:0")) else { continue };
            let port = listener.local_addr().expect("address").port();
            assert!(!is_free(port), "{address}");
        }
    }

    #[test]
    fn a_port_given_away_is_passed_over_even_while_nobody_listens() {
        let first = choose(&BTreeSet::new()).expect("a port is free");
        let second = choose(&BTreeSet::new()).expect("a port is free");
        assert!(first.port >= FIRST && second.port != first.port);
        assert!(choose(&BTreeSet::from([second.port + 1])).is_some_and(|third| third.port != second.port + 1));
        let port = first.port;
        drop(first);
        assert!(reserve(port).is_some() || !is_free(port), "let go with the reservation");
    }
}
