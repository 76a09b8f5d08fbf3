//! The ports given to children: from 21000 up, the lowest that is free.
//!
//! Must never: hold a port; it is probed, let go and then the child's to take.

use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Below the kernel's own range for outgoing connections (32768 up), above what people choose.
pub const FIRST: u16 = 21_000;
/// More instances than this on one machine are a mistake.
pub const LAST: u16 = 28_999;

/// The lowest port that no instance of ours has and nobody listens on.
pub fn choose(taken: &BTreeSet<u16>) -> Option<u16> {
    (FIRST..=LAST).find(|port| !taken.contains(port) && is_free(*port))
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
        let first = choose(&BTreeSet::new()).expect("a port is free");
        assert!(first >= FIRST);
        for address in ["127.0.0.1", "0.0.0.0", "[::1]"] {
            let Ok(listener) = TcpListener::bind(format!("{address}:0")) else { continue };
            let port = listener.local_addr().expect("address").port();
            assert!(!is_free(port), "{address}");
        }
    }

    #[test]
    fn a_port_of_ours_is_passed_over_even_while_nobody_listens() {
        let first = choose(&BTreeSet::new()).expect("a port is free");
        let second = choose(&BTreeSet::from([first])).expect("a port is free");
        assert_ne!(first, second);
    }
}
