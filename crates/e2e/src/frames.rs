//! HTTP/2 as frames (RFC 9113 §4): a client that sends any bytes and hides nothing of what comes back. Itself it only
//! acknowledges SETTINGS.

use crate::hpack::Reader;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;

/// Octets before a payload.
const HEAD_BYTES: usize = 9;
/// Reads that wait to be looked at.
const READS_MAX: usize = 1024;

/// The bytes of one frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut bytes = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let one = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &values.iter().flat_map(one).collect::<Vec<u8>>())
}

pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A frame of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The `at`th 32-bit number of the payload: of RST_STREAM and WINDOW_UPDATE the first, the code of a GOAWAY the
    /// second.
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_else(|| panic!("a frame cut short: {self:?}")))
    }

    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The settings it carries.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        let value = |six: &[u8]| {
            let id = u16::from_be_bytes([six[0], six[1]]);
            (id, u32::from_be_bytes([six[2], six[3], six[4], six[5]]))
        };
        self.payload.chunks_exact(6).map(value).collect()
    }
}

/// What comes next of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Frame(Frame),
    /// The server ended the connection.
    End,
    /// Nothing came within the bound.
    Silence,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    to: Writing,
    reads: Receiver<Vec<u8>>,
    kept: Vec<u8>,
    /// Reads the server's heads; each is to be given to it, in order.
    pub heads: Reader,
}

#[derive(Debug)]
enum Writing {
    Plain(TcpStream),
    /// Through `openssl s_client`.
    Tls(Child),
}

impl Client {
    /// Connects and says nothing.
    pub fn silent(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, crate::BOUND).expect("connect");
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(crate::BOUND)).expect("a timeout");
        let reader = stream.try_clone().expect("a second handle");
        Client::on(Writing::Plain(stream), reader)
    }

    /// The same over TLS; `more` are arguments of `openssl s_client`. What the handshake came to is not looked at.
    pub fn over_tls(address: SocketAddr, more: &[&str]) -> Client {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-nocommands", "-connect", &address.to_string()])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let reader = child.stdout.take().expect("its output");
        Client::on(Writing::Tls(child), reader)
    }

    /// The other side of a connection, once its preface was read: frames come alike.
    pub fn accepted(stream: TcpStream) -> Client {
        let reader = stream.try_clone().expect("a second handle");
        Client::on(Writing::Plain(stream), reader)
    }

    fn on(to: Writing, mut reader: impl Read + Send + 'static) -> Client {
        let (sender, reads) = sync_channel(READS_MAX);
        std::thread::spawn(move || {
            let mut space = vec![0; 64 * 1024];
            while let Ok(count) = reader.read(&mut space) {
                if count == 0 || sender.send(space[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Client { to, reads, kept: Vec::new(), heads: Reader::default() }
    }

    /// Connects and says the preface, with these settings.
    pub fn open(address: SocketAddr, values: &[(u16, u32)]) -> Client {
        let mut client = Client::silent(address);
        client.greet(values);
        client
    }

    pub fn greet(&mut self, values: &[(u16, u32)]) {
        self.send(&[PREFACE, &settings(values)].concat());
    }

    /// Sends bytes. A server that has ended the connection takes none, and that is no fault here.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.to {
            Writing::Plain(stream) => stream.write_all(bytes).is_ok(),
            Writing::Tls(child) => {
                child.stdin.as_mut().is_some_and(|to| to.write_all(bytes).and_then(|()| to.flush()).is_ok())
            }
        }
    }

    /// No more will be sent; what comes is still read.
    pub fn half_close(&mut self) {
        match &mut self.to {
            Writing::Plain(stream) => stream.shutdown(Shutdown::Write).expect("half close"),
            Writing::Tls(child) => drop(child.stdin.take()),
        }
    }

    pub fn read(&mut self) -> Next {
        self.read_within(crate::BOUND)
    }

    /// The next frame. SETTINGS are acknowledged.
    pub fn read_within(&mut self, bound: Duration) -> Next {
        loop {
            if let Some(frame) = self.take() {
                if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                    self.send(&crate::frames::frame(SETTINGS, ACK, 0, &[]));
                }
                return Next::Frame(frame);
            }
            match self.reads.recv_timeout(bound) {
                Ok(bytes) => self.kept.extend_from_slice(&bytes),
                Err(RecvTimeoutError::Disconnected) => return Next::End,
                Err(RecvTimeoutError::Timeout) => return Next::Silence,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.kept.get(..HEAD_BYTES)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let (kind, flags) = (head[3], head[4]);
        let payload = self.kept.get(HEAD_BYTES..HEAD_BYTES + length)?.to_vec();
        self.kept.drain(..HEAD_BYTES + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// What came and was no frame.
    pub fn rest(&mut self) -> Vec<u8> {
        while let Ok(bytes) = self.reads.recv_timeout(crate::BOUND) {
            self.kept.extend_from_slice(&bytes);
        }
        std::mem::take(&mut self.kept)
    }

    /// The next frame that `is` the one; the connection must not end before.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is: impl FnMut(&Frame) -> bool) -> Frame {
        loop {
            match self.read() {
                Next::Frame(frame) if is(&frame) => return frame,
                Next::Frame(frame) if frame.kind == HEADERS => {
                    self.heads.read(&frame.payload).expect("a head");
                }
                Next::Frame(frame) => assert_ne!(frame.kind, GOAWAY, "{what}: the server goes away: {frame:?}"),
                Next::End => panic!("{what}: the connection ended"),
                Next::Silence => panic!("{what}: nothing came"),
            }
        }
    }

    /// Everything of a stream's answer, to its end.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> Reply {
        let mut reply = Reply::default();
        loop {
            let frame = self.until("an answer", |frame| frame.stream == stream);
            reply.frames.push((frame.kind, frame.payload.len()));
            match frame.kind {
                HEADERS => {
                    assert_ne!(frame.flags & END_HEADERS, 0, "a head in several frames is not read here");
                    let fields = self.heads.read(&frame.payload).expect("a head");
                    if reply.head.is_empty() { reply.head = fields } else { reply.trailers = fields }
                }
                DATA => reply.body.extend_from_slice(&frame.payload),
                RST_STREAM => reply.reset = Some(frame.number(0)),
                _ => {}
            }
            if frame.ends_stream() || reply.reset.is_some() {
                return reply;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        match &mut self.to {
            Writing::Plain(stream) => drop(stream.shutdown(Shutdown::Both)),
            Writing::Tls(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// An answer, and the frames it came in.
#[derive(Debug, Default)]
pub struct Reply {
    pub head: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub reset: Option<u32>,
    /// Kind, and octets of payload.
    pub frames: Vec<(u8, usize)>,
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.field(":status").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
