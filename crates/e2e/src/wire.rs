//! HTTP/1.1 as bytes: a small strict parser for responses (and requests, for our own upstreams) that hides nothing.
//! It never repeats, redirects, or repairs: what is not exactly HTTP is a fault.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A head larger than this is nothing a test sends.
const HEAD_MAX_BYTES: usize = 1024 * 1024;

/// Why there is no response.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ended before the first byte.
    Closed,
    /// A response began and did not finish: what there is of it.
    Cut(Box<Response>),
    /// Not HTTP, or HTTP that a strict reader refuses.
    Malformed(String),
    /// Nothing came within the bound.
    Timeout,
}

/// One response; `body` without its framing.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The id Mainstay gave this request.
    pub fn id(&self) -> String {
        self.header("mainstay-request-id").unwrap_or_default().to_string()
    }
}

/// The first value of a header, by any case.
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// A client's connection, one request after another.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    pub stream: S,
    kept: Vec<u8>,
}

impl Connection {
    /// Connects once; a refusal is an error, never repeated.
    pub fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, crate::BOUND)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(crate::BOUND))?;
        stream.set_write_timeout(Some(crate::BOUND))?;
        Ok(Connection::over(stream))
    }

    /// For responses that may take longer than the bound.
    pub fn patience(self, limit: Duration) -> Connection {
        self.stream.set_read_timeout(Some(limit)).expect("set a read timeout");
        self
    }

    /// Whether an answer (or the end of the connection) is there to be read.
    pub fn is_readable(&self) -> bool {
        let mut byte = [0u8; 1];
        let _ = self.stream.set_nonblocking(true);
        let seen = self.stream.peek(&mut byte);
        let _ = self.stream.set_nonblocking(false);
        !matches!(seen, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the other side has ended the connection (or sent bytes nobody asked for) while nothing was under way.
    pub fn ended_while_idle(&mut self) -> bool {
        self.is_readable()
    }
}

impl<S: Read + Write> Connection<S> {
    /// On what is connected already: TLS.
    pub fn over(stream: S) -> Connection<S> {
        Connection { stream, kept: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the next final response (1xx are skipped, 101 is final). `head_only` for HEAD.
    pub fn response(&mut self, head_only: bool) -> Result<Response, Fault> {
        loop {
            let response = self.any_response(head_only)?;
            if response.status >= 200 || response.status == 101 {
                return Ok(response);
            }
        }
    }

    /// Reads the next response, 1xx included.
    pub fn any_response(&mut self, head_only: bool) -> Result<Response, Fault> {
        let head = match read_head(&mut self.stream, &mut self.kept)? {
            Some(head) => head,
            None => return Err(Fault::Closed),
        };
        let mut response = parse_head(&head)?;
        let framing = response_framing(&response, head_only)?;
        match read_body(&mut self.stream, &mut self.kept, framing, &mut response.body) {
            Ok(trailers) => {
                response.trailers = trailers;
                Ok(response)
            }
            Err(Fault::Closed) => Err(Fault::Cut(Box::new(response))),
            Err(fault) => Err(fault),
        }
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.kept);
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Bytes that were read behind the last response.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Exactly `count` bytes, for what follows a 101.
    pub fn exactly(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes: Vec<u8> = self.kept.drain(..self.kept.len().min(count)).collect();
        let have = bytes.len();
        bytes.resize(count, 0);
        self.stream.read_exact(&mut bytes[have..])?;
        Ok(bytes)
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(usize),
    Chunked,
    UntilEnd,
}

fn response_framing(response: &Response, head_only: bool) -> Result<Framing, Fault> {
    if head_only || response.status < 200 || response.status == 204 || response.status == 304 {
        return Ok(Framing::Empty);
    }
    framing(&response.headers, Framing::UntilEnd)
}

/// The framing the headers tell; two that differ are a fault.
pub fn framing(headers: &[(String, String)], without: Framing) -> Result<Framing, Fault> {
    let all = |name: &str| headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(without),
        ([(_, length)], []) => match length.parse() {
            Ok(length) => Ok(Framing::Length(length)),
            Err(_) => Err(Fault::Malformed(format!("content-length {length:?}"))),
        },
        ([], [(_, coding)]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(Fault::Malformed(format!("framing told twice or strangely: {headers:?}"))),
    }
}

/// A head up to and with its empty line; `None` if the connection ended before its first byte.
pub fn read_head(stream: &mut impl Read, kept: &mut Vec<u8>) -> Result<Option<String>, Fault> {
    loop {
        if let Some(end) = kept.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = kept.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if kept.len() > HEAD_MAX_BYTES {
            return Err(Fault::Malformed("head without end".into()));
        }
        match fill(stream, kept) {
            Ok(()) => {}
            Err(Fault::Closed) if kept.is_empty() => return Ok(None),
            Err(Fault::Closed) => {
                let head = String::from_utf8_lossy(kept).into_owned();
                return Err(Fault::Cut(Box::new(Response { head, ..Response::default() })));
            }
            Err(fault) => return Err(fault),
        }
    }
}

fn fill(stream: &mut impl Read, kept: &mut Vec<u8>) -> Result<(), Fault> {
    let mut buffer = [0u8; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) => Err(Fault::Closed),
        Ok(count) => {
            kept.extend_from_slice(&buffer[..count]);
            Ok(())
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Fault::Timeout),
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
        Err(_) => Err(Fault::Closed),
    }
}

fn parse_head(head: &str) -> Result<Response, Fault> {
    let bad = || Fault::Malformed(head.to_string());
    let (line, fields) = head.split_once("\r\n").ok_or_else(bad)?;
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")).ok_or_else(bad)?;
    let status = status.get(..3).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    Ok(Response { status, head: head.to_string(), headers: parse_fields(fields)?, ..Response::default() })
}

/// Header lines up to the empty one.
pub fn parse_fields(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let lines = text.split("\r\n").take_while(|line| !line.is_empty());
    let pair = |line: &str| match line.split_once(':') {
        Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
            Ok((name.to_string(), value.trim().to_string()))
        }
        _ => Err(Fault::Malformed(format!("header line {line:?}"))),
    };
    lines.map(pair).collect()
}

/// Reads a body by its framing, gives the trailers.
pub fn read_body(
    stream: &mut impl Read,
    kept: &mut Vec<u8>,
    framing: Framing,
    body: &mut Vec<u8>,
) -> Result<Vec<(String, String)>, Fault> {
    match framing {
        Framing::Empty => {}
        Framing::Length(length) => take(stream, kept, length, body)?,
        Framing::UntilEnd => loop {
            body.append(kept);
            match fill(stream, kept) {
                Ok(()) => {}
                Err(Fault::Closed) => break,
                Err(fault) => return Err(fault),
            }
        },
        Framing::Chunked => return read_chunks(stream, kept, body),
    }
    Ok(Vec::new())
}

fn take(stream: &mut impl Read, kept: &mut Vec<u8>, count: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
    let goal = into.len() + count;
    loop {
        let now = kept.len().min(goal - into.len());
        into.extend(kept.drain(..now));
        if into.len() == goal {
            return Ok(());
        }
        fill(stream, kept)?;
    }
}

fn read_line(stream: &mut impl Read, kept: &mut Vec<u8>) -> Result<String, Fault> {
    loop {
        if let Some(end) = kept.windows(2).position(|w| w == b"\r\n") {
            let line: Vec<u8> = kept.drain(..end + 2).collect();
            return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        fill(stream, kept)?;
    }
}

fn read_chunks(stream: &mut impl Read, kept: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<Vec<(String, String)>, Fault> {
    loop {
        let line = read_line(stream, kept)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| Fault::Malformed(format!("chunk size {line:?}")))?;
        if size == 0 {
            break;
        }
        take(stream, kept, size, body)?;
        let mut end = Vec::new();
        take(stream, kept, 2, &mut end)?;
        if end != b"\r\n" {
            return Err(Fault::Malformed("chunk without its end".into()));
        }
    }
    let mut fields = String::new();
    loop {
        let line = read_line(stream, kept)?;
        if line.is_empty() {
            return parse_fields(&fields);
        }
        fields.push_str(&line);
        fields.push_str("\r\n");
    }
}

/// Sends bytes on a new connection and reads one response.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Response, Fault> {
    let mut connection = Connection::open(address).map_err(|_| Fault::Closed)?;
    // A refusal may come, and the connection end, before all is sent: what was answered is what counts.
    let _ = connection.send(bytes);
    connection.response(bytes.starts_with(b"HEAD "))
}
