//! A relay that records both directions: one stands before the edge and one behind it, and their bytes are compared.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The bytes of one connection.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    pub up: Vec<u8>,
    pub down: Vec<u8>,
}

impl Recorded {
    /// Both directions behind their first empty line: what was said after an upgrade.
    pub fn after_heads(&self) -> (&[u8], &[u8]) {
        (after_head(&self.up), after_head(&self.down))
    }
}

fn after_head(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    &bytes[end..]
}

/// A relay to one address; it lives as long as the test's process.
#[derive(Debug)]
pub struct Tap {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Mutex<Recorded>>>>>,
}

impl Tap {
    pub fn to(target: SocketAddr) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a tap");
        let tap = Tap { address: listener.local_addr().expect("address of a tap"), connections: Arc::default() };
        let connections = tap.connections.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(target) else { continue };
                let record = Arc::new(Mutex::new(Recorded::default()));
                connections.lock().expect("lock").push(record.clone());
                relay(near, far, &record);
            }
        });
        tap
    }

    /// Connections whose request head holds `text`.
    pub fn holding(&self, text: &str) -> Vec<Recorded> {
        let connections = self.connections.lock().expect("lock");
        let all = connections.iter().map(|record| record.lock().expect("lock").clone());
        all.filter(|record| String::from_utf8_lossy(&record.up).contains(text)).collect()
    }
}

fn relay(near: TcpStream, far: TcpStream, record: &Arc<Mutex<Recorded>>) {
    let (Ok(near2), Ok(far2)) = (near.try_clone(), far.try_clone()) else { return };
    let (up, down) = (record.clone(), record.clone());
    std::thread::spawn(move || copy(near, far, |bytes| up.lock().expect("lock").up.extend_from_slice(bytes)));
    std::thread::spawn(move || copy(far2, near2, |bytes| down.lock().expect("lock").down.extend_from_slice(bytes)));
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut record: impl FnMut(&[u8])) {
    let _ = to.set_nodelay(true);
    let mut buffer = [0u8; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        record(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
