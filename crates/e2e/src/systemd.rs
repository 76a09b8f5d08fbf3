//! A service manager's socket: what a process under test tells it (`sd_notify`), in order.

use crate::wait::wait_for;
use std::cell::RefCell;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// `$NOTIFY_SOCKET`, bound; what it was told is kept.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    /// For the variable.
    pub name: String,
    told: RefCell<Vec<String>>,
}

impl Manager {
    /// A socket of the file system, as systemd has it for most.
    pub fn at(folder: &Path) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind the manager's socket");
        Manager::of(socket, path.display().to_string())
    }

    /// An abstract socket.
    pub fn in_the_abstract(name: &str) -> Manager {
        let name = format!("mainstay-e2e-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Manager::of(UnixDatagram::bind_addr(&address).expect("bind the manager's socket"), format!("@{name}"))
    }

    fn of(socket: UnixDatagram, name: String) -> Manager {
        socket.set_nonblocking(true).expect("a socket that does not wait");
        Manager { socket, name, told: RefCell::default() }
    }

    /// Every message so far, in order.
    pub fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        while let Ok(read) = self.socket.recv(&mut bytes) {
            self.told.borrow_mut().push(String::from_utf8_lossy(&bytes[..read]).into_owned());
        }
        self.told.borrow().clone()
    }

    pub fn count(&self, line: &str) -> usize {
        self.told().iter().filter(|message| message.lines().any(|told| told == line)).count()
    }

    /// Waits until a line has been told that often.
    #[track_caller]
    pub fn hears(&self, line: &str, count: usize) {
        wait_for(&format!("{line} {count} times; told: {:?}", self.told()), || {
            (self.count(line) >= count).then_some(())
        });
    }

    /// The lines that change the state of the unit, without the signs of life.
    pub fn states(&self) -> Vec<String> {
        let of_interest = ["READY=1", "RELOADING=1", "STOPPING=1"];
        let told = self.told();
        told.iter().flat_map(|m| m.lines()).filter(|line| of_interest.contains(line)).map(str::to_owned).collect()
    }
}
