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
        let head = head(&mut self.0)?.context("closed before the answer")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok());
        let Some(length) = length else { bail!("an answer without Content-Length:\n{head}") };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(status)
    }
}

/// Asks until a whole 200 has come, which is when somebody's browser would show the page.
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
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let body = "x".repeat(BODY_BYTES);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n{body}");
    let mut stream = BufReader::new(stream);
    while head(&mut stream)?.is_some() {
        stream.get_mut().write_all(answer.as_bytes())?;
    }
    Ok(())
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
    fn a_connection_serves_many_requests() {
        let address = upstream().unwrap();
        wait_until_served(address).unwrap();
        let mut client = Client::connect(address).unwrap();
        for _ in 0..100 {
            assert_eq!(client.get("/s").unwrap(), 200);
        }
    }
}
