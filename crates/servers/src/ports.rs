//! Ports for the edge and for fixed upstreams: below the kernel's ephemeral range, so that no outgoing connection
//! takes one between choosing and binding, and locked by file, so that no two tests share one.

use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 12_000;
const COUNT: u16 = 6_000;

/// Held for as long as the test needs the port.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: Flock<File>,
}

static NEXT: AtomicU16 = AtomicU16::new(0);

impl Port {
    /// A port that is free on both loopback addresses now and that no other test takes.
    pub fn free() -> Port {
        let folder = scratch().join("ports");
        std::fs::create_dir_all(&folder).expect("create the folder of port locks");
        let start = (std::process::id() as u16).wrapping_mul(37) % COUNT;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_add(step)) % COUNT;
            if let Some(port) = Self::take(&folder, number) {
                return port;
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    fn take(folder: &std::path::Path, number: u16) -> Option<Port> {
        let file = File::create(folder.join(number.to_string())).ok()?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
        let free = TcpListener::bind(("127.0.0.1", number)).is_ok() && TcpListener::bind(("::1", number)).is_ok();
        free.then_some(Port { number, _lock: lock })
    }
}

/// `target/e2e`, found from the running test, so that the tests of all crates share the locks.
fn scratch() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("path of the running test");
    // A test runs from target/PROFILE/deps, a program from target/PROFILE.
    let deps = test.ancestors().find(|path| path.file_name().is_some_and(|name| name == "deps"));
    let build = deps.unwrap_or(&test).parent().expect("a program lies in a folder");
    build.parent().expect("the build folder lies in the target folder").join("e2e")
}
