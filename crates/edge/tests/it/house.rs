//! An edge on a free port before an upstream of our own, both in this process.

use mainstay_config::{Inputs, Reader};
use mainstay_edge::{Instruments, Members, Options, Parts, Service, local};
use mainstay_telemetry::Names;
use mainstay_telemetry::id::Ids;
use mainstay_telemetry::metrics::Metrics;
use mainstay_telemetry::ring::{self, CoreDrain};
use mainstay_telemetry::routes::Routes;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct House {
    pub edge: SocketAddr,
    pub handle: mainstay_edge::Handle,
    pub metrics: Metrics,
    pub rings: Vec<CoreDrain>,
    _local: local::LocalReceiver,
}

/// Nothing a test waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl House {
    /// `file` may name the upstream as `UPSTREAM`.
    pub fn new(file: &str, upstream: SocketAddr) -> House {
        let text = file.replace("UPSTREAM", &upstream.to_string());
        let reader = Reader::new(&Inputs::of_file(text));
        let mut options = Options::read(&reader);
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        let edge = listener.local_addr().expect("address");
        options.listen.clear();
        let names = Names::default();
        let (metrics, routes) = (Metrics::new(names.clone()), Routes::new(names.clone()));
        let (mut instruments, mut rings) = (Vec::new(), Vec::new());
        for seed in 0..3 {
            let (ring, drain) = ring::pair(Arc::default());
            rings.push(drain);
            instruments.push(Instruments {
                ids: Ids::seeded(seed),
                ring,
                metrics: metrics.core(),
                routes: routes.learner(),
            });
        }
        let (sender, receiver) = local::channel();
        let parts = Parts {
            options,
            members: Members::new(names.clone()),
            names,
            listeners: vec![(edge, listener)],
            instruments,
            local: sender,
            sticky: mainstay_edge::sticky::Key::new(b"of the tests"),
            signer: mainstay_identity::Signer::unkept().expect("a key").into(),
            revoked: Default::default(),
            calls: mainstay_edge::service_call::channel().0,
            sessions: mainstay_identity::sessions::Sessions::new(None).0,
        };
        let (service, handle) = Service::build(parts).expect("build");
        service.start().expect("start");
        House { edge, handle, metrics, rings, _local: receiver }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.edge).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// Sends these bytes and reads until the edge closes or `Content-Length` is there.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("write");
        read_response(&mut stream)
    }
}

/// One response with a length, or until the end.
pub fn read_response(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).to_string();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if length.is_some_and(|n: usize| body.len() >= n) || head.starts_with("HTTP/1.1 101") {
                return text;
            }
        }
        match stream.read(&mut buf) {
            Ok(0) | Err(_) => return text,
            Ok(n) => all.extend_from_slice(&buf[..n]),
        }
    }
}

/// An upstream that keeps the heads it received and answers each as told.
pub struct Upstream {
    pub address: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// `answer` makes the bytes for one request head; empty bytes close without an answer.
    pub fn new(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, answer) = (heads.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &kept, &*answer));
            }
        });
        Upstream { address, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<String>>, answer: &dyn Fn(usize, &str) -> Vec<u8>) {
    let mut pending = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&pending).to_string();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            match stream.read(&mut buf) {
                Ok(0) | Err(_) => return,
                Ok(n) => pending.extend_from_slice(&buf[..n]),
            }
            continue;
        };
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if rest.len() < length {
            match stream.read(&mut buf) {
                Ok(0) | Err(_) => return,
                Ok(n) => pending.extend_from_slice(&buf[..n]),
            }
            continue;
        }
        let number = {
            let mut kept = kept.lock().expect("heads");
            kept.push(head.to_owned());
            kept.len()
        };
        pending.drain(..head.len() + 4 + length);
        let bytes = answer(number, head);
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
