//! Small upstream servers on std threads: they record the exact bytes that reached them and answer as told.

use crate::wire::{self, Framing};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it reached the upstream.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub method: String,
    pub target: String,
    /// Request line and headers, exactly as received.
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Which connection of this upstream it came on, counted from 0.
    pub connection: usize,
}

impl Ask {
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::find(&self.headers, name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.header(name).is_some()
    }

    /// `/a?x=1` → `/a`.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of `name=` in the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What the handler wants done with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

type Handler = dyn Fn(&Ask, &mut TcpStream) -> Then + Send + Sync;

#[derive(Debug, Default)]
struct Seen {
    asks: Vec<Ask>,
    /// Every byte of every connection, in order of arrival, probes included.
    raw: Vec<Vec<u8>>,
    open: usize,
    streams: HashMap<usize, TcpStream>,
}

/// A running upstream; it stops when dropped.
pub struct Peer {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stopped: Arc<AtomicBool>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({})", self.address)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Peer {
    /// Answers every whole request by `handler`. Requests are read whole, body included, before it is asked.
    pub fn with(handler: impl Fn(&Ask, &mut TcpStream) -> Then + Send + Sync + 'static) -> Peer {
        Self::start(TcpListener::bind("127.0.0.1:0").expect("bind an upstream"), Arc::new(handler))
    }

    /// The same on a fixed port (an upstream that comes back).
    pub fn at(port: u16, handler: impl Fn(&Ask, &mut TcpStream) -> Then + Send + Sync + 'static) -> Peer {
        Self::start(TcpListener::bind(("127.0.0.1", port)).expect("bind an upstream"), Arc::new(handler))
    }

    fn start(listener: TcpListener, handler: Arc<Handler>) -> Peer {
        let address = listener.local_addr().expect("address of an upstream");
        let peer = Peer { address, seen: Arc::default(), stopped: Arc::default() };
        let (seen, stopped) = (peer.seen.clone(), peer.stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, handler) = (seen.clone(), handler.clone());
                std::thread::spawn(move || converse(stream, &seen, &*handler));
            }
        });
        peer
    }

    /// 200 with `label` as the body; the usual well-behaved upstream. `/status/NNN` answers NNN.
    pub fn labelled(label: &str) -> Peer {
        let label = label.to_string();
        Peer::with(move |ask, out| {
            let status = ask.path().strip_prefix("/status/").and_then(|code| code.parse().ok()).unwrap_or(200);
            answer(out, status, &[("content-type", "text/plain")], label.as_bytes())
        })
    }

    /// 200 with what it received as JSON: method, target, headers, body length.
    pub fn mirror() -> Peer {
        Peer::with(|ask, out| {
            let headers: Vec<_> = ask.headers.iter().map(|(k, v)| serde_json::json!([k.to_lowercase(), v])).collect();
            let told = serde_json::json!({
                "method": ask.method, "target": ask.target, "headers": headers, "length": ask.body.len(),
            });
            answer(out, 200, &[("content-type", "application/json")], told.to_string().as_bytes())
        })
    }

    /// Accepts and closes at once.
    pub fn closing() -> Peer {
        Peer::with(|_, _| Then::Close)
    }

    /// Says it will send 1000 bytes, sends 10, closes.
    pub fn dying_mid_body() -> Peer {
        Peer::with(|_, out| {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789");
            Then::Close
        })
    }

    /// What is not HTTP.
    pub fn garbage() -> Peer {
        Peer::with(|_, out| {
            let _ = out.write_all(b"\x00\x01\x02 this is not HTTP\r\n\r\n");
            Then::Close
        })
    }

    /// Answers only after `delay`; a test never waits for it, it waits for the edge's own limit.
    pub fn slow(delay: Duration) -> Peer {
        Peer::with(move |_, out| {
            crate::wait::pause(delay);
            answer(out, 200, &[], b"late")
        })
    }

    /// Answers what is asked of `/slow` only once the gate is open, all else at once: nothing depends on how fast the
    /// machine is.
    pub fn behind(gate: &Arc<AtomicBool>) -> Peer {
        let gate = gate.clone();
        Peer::with(move |ask, out| {
            while ask.path() == "/slow" && !gate.load(Ordering::SeqCst) {
                crate::wait::pause(Duration::from_millis(10));
            }
            answer(out, 200, &[], b"late")
        })
    }

    /// Accepts no more, and ends every open connection.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for (_, stream) in self.seen.lock().expect("lock").streams.drain() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Requests so far, those of health probes aside.
    pub fn asks(&self) -> Vec<Ask> {
        self.all().into_iter().filter(|ask| !is_probe(ask)).collect()
    }

    /// Requests so far, probes included.
    pub fn all(&self) -> Vec<Ask> {
        self.seen.lock().expect("lock").asks.clone()
    }

    /// Requests whose head or body holds `text`.
    pub fn holding(&self, text: &str) -> Vec<Ask> {
        let hit = |ask: &Ask| ask.head.contains(text) || String::from_utf8_lossy(&ask.body).contains(text);
        self.all().into_iter().filter(hit).collect()
    }

    /// The raw bytes of every connection that carried `text`.
    pub fn raw_holding(&self, text: &str) -> Vec<String> {
        let seen = self.seen.lock().expect("lock");
        let texts = seen.raw.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        texts.filter(|raw| raw.contains(text)).collect()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.seen.lock().expect("lock").open
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.seen.lock().expect("lock").raw.len()
    }
}

/// The paths a prober asks for when nobody named one.
pub fn is_probe(ask: &Ask) -> bool {
    let path = ask.path();
    ask.method == "GET" && (path.starts_with("/health") || path.starts_with("/api/health"))
        || path.starts_with("/api/v1/health")
}

/// Writes a whole response with its length and keeps the connection.
pub fn answer(out: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Then {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    match out.write_all(&bytes) {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

/// A connection's thread: records what it reads, asks the handler after each whole request.
fn converse(stream: TcpStream, seen: &Mutex<Seen>, handler: &Handler) {
    let number = {
        let mut seen = seen.lock().expect("lock");
        seen.raw.push(Vec::new());
        seen.open += 1;
        let number = seen.raw.len() - 1;
        seen.streams.extend(stream.try_clone().map(|stream| (number, stream)));
        number
    };
    let _ = stream.set_nodelay(true);
    let mut recorder = Recorder { stream, seen, number, kept: Vec::new() };
    while let Some(ask) = recorder.ask() {
        seen.lock().expect("lock").asks.push(ask.clone());
        if handler(&ask, &mut recorder.stream) == Then::Close {
            break;
        }
    }
    let _ = recorder.stream.shutdown(std::net::Shutdown::Both);
    let mut seen = seen.lock().expect("lock");
    seen.open -= 1;
    seen.streams.remove(&number);
}

struct Recorder<'a> {
    stream: TcpStream,
    seen: &'a Mutex<Seen>,
    number: usize,
    kept: Vec<u8>,
}

impl Recorder<'_> {
    fn fill(&mut self) -> Option<()> {
        let mut buffer = [0u8; 64 * 1024];
        let count = self.stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        self.kept.extend_from_slice(&buffer[..count]);
        self.seen.lock().expect("lock").raw[self.number].extend_from_slice(&buffer[..count]);
        Some(())
    }

    /// The next whole request; `None` when the connection ends or the bytes are not HTTP.
    fn ask(&mut self) -> Option<Ask> {
        let end = loop {
            match self.kept.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.fill()?,
            }
        };
        let head: Vec<u8> = self.kept.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let (line, fields) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
        let headers = wire::parse_fields(fields).ok()?;
        let framing = wire::framing(&headers, Framing::Empty).ok()?;
        let mut ask = Ask { method, target, headers, connection: self.number, ..Ask::default() };
        ask.head = head.clone();
        self.body(framing, &mut ask)?;
        Some(ask)
    }

    fn body(&mut self, framing: Framing, ask: &mut Ask) -> Option<()> {
        match framing {
            Framing::Empty | Framing::UntilEnd => {}
            Framing::Length(length) => ask.body = self.take(length)?,
            Framing::Chunked => loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
                if size == 0 {
                    break self.trailers(ask)?;
                }
                let chunk = self.take(size + 2)?;
                ask.body.extend_from_slice(&chunk[..size]);
            },
        }
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.kept.len() < count {
            self.fill()?;
        }
        Some(self.kept.drain(..count).collect())
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.kept.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.kept.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.fill()?;
        }
    }

    fn trailers(&mut self, ask: &mut Ask) -> Option<()> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(());
            }
            let (name, value) = line.split_once(':')?;
            ask.trailers.push((name.to_string(), value.trim().to_string()));
        }
    }
}
