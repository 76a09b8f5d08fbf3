//! Listening sockets, bound once and held by the supervisor, so that no connection is refused while servers change.
//!
//! Must never set SO_REUSEPORT: a second process would silently share the port.

use crate::error::{Holder, HolderKind};
use crate::protocol::Listener;
use crate::{BOOT_VARIABLE, Error, kernel, proc};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Connections that wait while a server is replaced; the kernel cuts it to net.core.somaxconn (4096 by default).
const BACKLOG_CONNECTIONS: i32 = 4096;
/// Operators' commands, one connection each.
const CONTROL_BACKLOG_CONNECTIONS: i32 = 128;
/// How far development looks for a port that is free.
const FREE_PORT_TRIES: u16 = 1000;
const SOCKET_MODE: u32 = 0o600;
const SOCKET_FOLDER_MODE: u32 = 0o700;

/// A socket that listens. The control socket's file goes with it.
#[derive(Debug)]
pub struct Bound {
    /// What it is bound to; the port is the real one where 0 was asked for.
    pub listener: Listener,
    fd: Arc<OwnedFd>,
    file: Option<SocketFile>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CarriedBound {
    listener: Listener,
    fd: RawFd,
    /// Device and inode of the socket's file.
    file: Option<(u64, u64)>,
}

impl Bound {
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// For the process this one becomes.
    pub(crate) fn carried(&self) -> (CarriedBound, BorrowedFd<'_>) {
        let file = self.file.as_ref().map(|file| file.place);
        (CarriedBound { listener: self.listener.clone(), fd: self.fd.as_raw_fd(), file }, self.fd.as_fd())
    }

    pub(crate) fn from_carried(carried: CarriedBound) -> Result<Bound, Error> {
        let CarriedBound { listener, fd, file } = carried;
        let fd = kernel::inherited(fd).map_err(Error::io("cannot go on listening"))?;
        let file = match (&listener, file) {
            (Listener::Control(path), Some(place)) => Some(SocketFile { path: path.clone(), place }),
            _ => None,
        };
        Ok(Bound { listener, fd: Arc::new(fd), file })
    }

    pub fn address(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(address) => Some(*address),
            Listener::Api(_) | Listener::Resp(_) | Listener::Console(_) | Listener::Control(_) => None,
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub fn bind(listener: &Listener) -> Result<Bound, Error> {
    match listener {
        Listener::Tcp(address) => tcp(*address),
        Listener::Api(address) => {
            let mut bound = tcp(*address)?;
            bound.listener = Listener::Api(bound.address().unwrap_or(*address));
            Ok(bound)
        }
        Listener::Resp(address) | Listener::Console(address) => {
            let mut bound = tcp(*address)?;
            bound.listener = listener.clone();
            Ok(bound)
        }
        Listener::Control(path) => control(path),
    }
}

/// Binds the same port on every host, all or nothing.
pub fn bind_all(hosts: &[IpAddr], port: u16) -> Result<Vec<Bound>, Error> {
    hosts.iter().map(|host| tcp(SocketAddr::new(*host, port))).collect()
}

/// For development: the first port from `from` on that is free on every host this machine has, bound.
/// A host the machine lacks (`::1` where IPv6 is off) is left out.
pub fn bind_free(hosts: &[IpAddr], from: u16) -> Result<(u16, Vec<Bound>), Error> {
    let lacks = |error: io::Error| matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT));
    let have = |host: &&IpAddr| !open_tcp(SocketAddr::new(**host, 0)).is_err_and(lacks);
    let hosts: Vec<IpAddr> = hosts.iter().filter(have).copied().collect();
    for port in from..from.saturating_add(FREE_PORT_TRIES) {
        // Not `bind_all`: nobody wants to know who holds the ports that are passed over.
        let sockets: io::Result<Vec<Socket>> =
            hosts.iter().map(|host| open_tcp(SocketAddr::new(*host, port))).collect();
        match sockets {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(_) => break,
            Ok(sockets) => {
                let bound = sockets.into_iter().zip(&hosts).map(|(socket, host)| held(socket, *host, port));
                return Ok((port, bound.collect()));
            }
        }
    }
    bind_all(&hosts, from).map(|bound| (from, bound))
}

/// The first port from `from` on that is free on every host at this moment; somebody may still be quicker.
pub fn free_port(hosts: &[IpAddr], from: u16) -> Option<u16> {
    bind_free(hosts, from).ok().map(|(port, _)| port)
}

fn tcp(address: SocketAddr) -> Result<Bound, Error> {
    let socket = open_tcp(address).map_err(|source| refusal(address, source))?;
    Ok(held(socket, address.ip(), address.port()))
}

fn held(socket: Socket, host: IpAddr, port: u16) -> Bound {
    let asked = SocketAddr::new(host, port);
    let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(asked);
    Bound { listener: Listener::Tcp(bound), fd: Arc::new(socket.into()), file: None }
}

fn open_tcp(address: SocketAddr) -> io::Result<Socket> {
    // CLOEXEC is socket2's default for a new socket.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_CONNECTIONS)?;
    Ok(socket)
}

fn refusal(address: SocketAddr, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => Error::PortTaken { address, holder: holder(address) },
        Some(libc::EACCES) => Error::PortPrivileged(address),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Error::AddressMissing(address),
        _ => Error::io(format!("cannot listen on {address}"))(source),
    }
}

/// Who is in the way: of several that share the socket, the oldest.
fn holder(address: SocketAddr) -> Option<Holder> {
    let process = proc::holders_of(address).into_iter().next().or_else(|| hidden_mainstay(address))?;
    let kind = if is_mainstay(&process) {
        HolderKind::Mainstay(fs::read_link(format!("/proc/{}/cwd", process.pid)).ok())
    } else if proc::environment_value(process.pid, BOOT_VARIABLE).is_some() {
        HolderKind::Supervised
    } else {
        HolderKind::Other
    };
    Some(Holder { pid: process.pid, name: process.name, kind })
}

/// A Mainstay hides its descriptors from all but root, from its own user too. If nobody else is seen to hold a port of
/// this user and there is just one, it is that one.
fn hidden_mainstay(address: SocketAddr) -> Option<proc::Process> {
    if !proc::is_held_by_this_user(address) {
        return None;
    }
    let processes = proc::Processes::read();
    let server = |process: &proc::Process| processes.get(process.parent).is_some_and(is_mainstay);
    let hidden = |process: &&proc::Process| {
        is_mainstay(process)
            && !server(process)
            && proc::is_of_this_user(process.pid)
            && proc::descriptors(process.pid).is_none()
    };
    let mut found = processes.iter().filter(hidden);
    let only = found.next()?;
    found.next().is_none().then(|| only.clone())
}

/// By name, or the same program as we are under another name.
fn is_mainstay(process: &proc::Process) -> bool {
    let program = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()));
    let theirs = program(&process.pid.to_string());
    process.name == "mainstay" || theirs.is_some() && theirs == program("self")
}

fn control(path: &Path) -> Result<Bound, Error> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let mut folder = fs::DirBuilder::new();
        let made = folder.recursive(true).mode(SOCKET_FOLDER_MODE).create(parent);
        made.map_err(Error::at("create", parent))?;
    }
    remove_stale(path)?;
    let socket = open_control(path).map_err(Error::at("make the socket", path))?;
    let file = SocketFile::of(path);
    Ok(Bound { listener: Listener::Control(path.to_owned()), fd: Arc::new(socket.into()), file })
}

fn open_control(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before listen(), so there is no moment with a wider mode.
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(CONTROL_BACKLOG_CONNECTIONS)?;
    Ok(socket)
}

/// A socket file outlives the process that made it; one that still answers is in use.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::at("look at", path)(error)),
    };
    if !kind.is_socket() {
        return Err(Error::ControlForeign(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(Error::at("replace", path))
        }
        Ok(_) => Err(Error::ControlTaken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::ControlTaken(path.to_owned())),
        Err(error) => Err(Error::at("connect to", path)(error)),
    }
}

/// Removed with the socket, unless somebody else has put another one there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    place: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Option<SocketFile> {
        let meta = fs::symlink_metadata(path).ok()?;
        Some(SocketFile { path: path.to_owned(), place: (meta.dev(), meta.ino()) })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && SocketFile::of(&file.path).is_some_and(|now| now.place == file.place)
        {
            // Best effort: what stays behind is recognised as stale at the next start.
            let _ = fs::remove_file(&file.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn port_zero_tells_the_real_port_and_takes_connections() {
        let bound = tcp(SocketAddr::new(LOCAL, 0)).unwrap();
        let address = bound.address().unwrap();
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        match tcp(address) {
            Err(Error::PortTaken { holder: Some(holder), .. }) => assert_eq!(holder.pid, std::process::id() as i32),
            other => panic!("{other:?}"),
        }
        let (port, bound) = bind_free(&[LOCAL], address.port()).unwrap();
        assert!(port > address.port());
        assert_eq!(bound[0].address().unwrap().port(), port);
    }

    #[test]
    fn an_address_of_no_interface_is_said_to_be_so() {
        assert!(matches!(tcp("203.0.113.9:8080".parse().unwrap()), Err(Error::AddressMissing(_))));
    }

    #[test]
    fn the_control_socket_is_private_unique_and_cleaned_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control");
        let first = control(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(control(&path), Err(Error::ControlTaken(_))));
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(control(&path).unwrap());
        fs::write(&path, "notes").unwrap();
        assert!(matches!(control(&path), Err(Error::ControlForeign(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(control(&dir.path().join("x".repeat(150))), Err(Error::Io { .. })));
    }
}
