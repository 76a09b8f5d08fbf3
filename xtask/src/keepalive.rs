//! Just enough HTTP/1.1 over the standard library to count and to time: a client that keeps its connections,
//! and an upstream that always gives the same answer. Never a judge of correctness: `crates/e2e` is that.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Bytes of the upstream's answer: the small response of every measurement here.
pub const BODY_BYTES: usize = 200;
/// Longer than anything measured; only a proxy that hangs meets it. Valgrind slows a start about fifty times.
const PATIENCE: Duration = Duration::from_secs(30);
/// One head may not be longer.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// One kept connection.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// Asks for a path and reads the whole answer; its status.
    pub fn get(&mut self, path: &str) -> Result<u16> {
        self.ask(path)?;
        self.answer()
    }

    /// Asks for a path.
    pub fn ask(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: xtask\r\nAccept: */*\r\n\r\n");
        Ok(self.0.get_mut().write_all(request.as_bytes())?)
    }

    /// Reads the whole answer to what was asked; its status.
    pub fn answer(&mut self) -> Result<u16> {
        self.whole().map(|(status, _)| status)
    }

    /// Asks for a path and reads the whole answer; the value of one of its headers.
    pub fn header(&mut self, path: &str, name: &str) -> Result<Option<String>> {
        self.ask(path)?;
        let (_, head) = self.whole()?;
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        Ok(found.map(|(_, value)| value.trim().to_owned()))
    }

    /// Sends a whole request and reads the whole answer: its status and body.
    pub fn exchange(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.0.get_mut().write_all(request)?;
        let mut body = Vec::new();
        let (status, _) = self.whole_into(&mut body)?;
        Ok((status, body))
    }

    fn whole(&mut self) -> Result<(u16, String)> {
        self.whole_into(&mut std::io::sink())
    }

    fn whole_into(&mut self, body: &mut impl Write) -> Result<(u16, String)> {
        let head = head(&mut self.0)?.context("closed before the answer")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let Some(length) = length(&head) else { bail!("an answer without Content-Length:\n{head}") };
        let read = std::io::copy(&mut self.0.by_ref().take(length), body)?;
        ensure!(read == length, "closed in the middle of an answer");
        Ok((status, head))
    }
}

/// Asks so many times in all over so many kept connections, each of which has one request under way at a time, as
/// with any load generator.
pub fn ask(address: SocketAddr, path: &str, connections: u32, requests: u32) -> Result<()> {
    let mut clients = (0..connections).map(|_| Client::connect(address)).collect::<Result<Vec<_>>>()?;
    for _ in 0..requests / connections {
        for client in &mut clients {
            client.ask(path)?;
        }
        for client in &mut clients {
            let status = client.answer()?;
            ensure!(status == 200, "answered {status}, not 200");
        }
    }
    Ok(())
}

/// Asks until a whole 200 has come, which is when somebody's browser would show the page.
pub fn wait_until_open(address: SocketAddr) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if std::time::Instant::now() > deadline => bail!("{address}: {error}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(1)),
        }
    }
}

/// Waits for a proxy to answer for its upstream.
pub fn wait_until_served(address: SocketAddr) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = Client::connect(address).and_then(|mut client| client.get("/s"));
        match answer {
            Ok(200) => return Ok(()),
            Ok(status) if std::time::Instant::now() > deadline => bail!("{address} answers {status}, not 200"),
            Err(error) if std::time::Instant::now() > deadline => return Err(error.context("waiting for an answer")),
            _ => std::thread::park_timeout(Duration::from_millis(1)),
        }
    }
}

/// An upstream on a free port, for the life of this process: every request gets 200 and the same bytes.
pub fn upstream() -> Result<SocketAddr> {
    let body = "x".repeat(BODY_BYTES);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n{body}");
    serving(move |_, answered| answered.push_str(&answer))
}

/// An upstream whose answer is the number in the request, `?n=NUMBER`, after `&ms=MILLISECONDS` where that is asked.
pub fn numbered() -> Result<SocketAddr> {
    serving(|head, answer| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (_, query) = target.split_once('?').unwrap_or_default();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        if let Some(millis) = value("ms").and_then(|text| text.parse().ok()) {
            std::thread::park_timeout(Duration::from_millis(millis));
        }
        let body = value("n").unwrap_or("none");
        answer.push_str("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ");
        answer.push_str(&format!("{}\r\n\r\n{body}", body.len()));
    })
}

/// `answer` gets each request's head, and appends what goes back.
fn serving(answer: impl Fn(&str, &mut String) + Clone + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(stream, answer));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream, answer: impl Fn(&str, &mut String)) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(head) = head(&mut stream)? {
        std::io::copy(&mut stream.by_ref().take(length(&head).unwrap_or(0)), &mut std::io::sink())?;
        let mut bytes = String::new();
        answer(&head, &mut bytes);
        stream.get_mut().write_all(bytes.as_bytes())?;
    }
    Ok(())
}

/// `Content-Length` of a head.
fn length(head: &str) -> Option<u64> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let value = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    value.and_then(|value| value.trim().parse().ok())
}

/// A request's or response's head, or nothing at the end of the connection.
fn head(stream: &mut BufReader<TcpStream>) -> Result<Option<String>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        match stream.by_ref().take(HEAD_BYTES_MAX).read_line(&mut head) {
            Ok(0) if before == 0 => return Ok(None),
            Ok(0) => bail!("cut in the middle of a head"),
            Ok(_) if &head[before..] == "\r\n" => return Ok(Some(head)),
            Ok(_) => ensure!((head.len() as u64) < HEAD_BYTES_MAX, "a head without end"),
            Err(error) if before == 0 && error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back() {
        let mut client = Client::connect(numbered().unwrap()).unwrap();
        for number in 0..3 {
            let length = client.header(&format!("/number?n={}&ms=1", "7".repeat(number)), "content-length").unwrap();
            assert_eq!(length, Some(number.to_string()));
        }
    }

    #[test]
    fn a_connection_serves_many_requests() {
        let address = upstream().unwrap();
        wait_until_served(address).unwrap();
        let mut client = Client::connect(address).unwrap();
        for _ in 0..100 {
            assert_eq!(client.get("/s").unwrap(), 200);
        }
    }
}
