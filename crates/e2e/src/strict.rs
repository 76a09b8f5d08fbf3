//! A client that accounts for every request: each has a number the upstream gives back, none is ever sent twice, and
//! each ends in exactly one class.

use crate::strict_tls::Way;
use crate::wire::{Connection, Fault, Response};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two requests of one connection: a steady load, not a benchmark, on two shared cores.
pub const PACE: Duration = Duration::from_millis(4);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// GET alone: safe to repeat.
    Safe,
    /// Every third request is a POST, which must never be worked on twice.
    Both,
}

impl Mix {
    /// Method, target and body of one request. Some are slow, so that every event finds requests in flight.
    pub fn request(self, number: u64) -> (&'static str, String, String) {
        let slow = if number.is_multiple_of(7) { "&ms=40" } else { "" };
        let target = format!("/number?n={number}{slow}");
        match self {
            Mix::Both if number.is_multiple_of(3) => ("POST", target, format!("body of {number}")),
            _ => ("GET", target, String::new()),
        }
    }
}

/// The end of a request that was not answered as it should be.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub number: u64,
    pub method: &'static str,
    /// Mainstay's id, where there was one.
    pub id: String,
    pub what: String,
}

/// Every request, by the way it ended.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub sent: u64,
    /// A whole 200 with the request's own number.
    pub answered: u64,
    /// A whole 5xx with an id.
    pub honest: Vec<Trouble>,
    /// A response that began, had an id, and was visibly broken off.
    pub cut: Vec<Trouble>,
    /// HTTP/2 alone: the connection was going away before the request was worked on, and the client knows.
    pub unsent: u64,
    /// Connections that were refused.
    pub refused: Vec<String>,
    /// All else: the request came to nothing, or to another request's answer.
    pub lost: Vec<Trouble>,
}

impl Tally {
    /// Panics unless every request is in exactly one class and none was lost or refused.
    #[track_caller]
    pub fn nothing_lost(&self) {
        assert!(self.sent > 0, "nothing was sent");
        assert!(self.refused.is_empty(), "{} connections refused: {:?}", self.refused.len(), first(&self.refused));
        assert!(self.lost.is_empty(), "{} of {} lost: {:#?}", self.lost.len(), self.sent, first(&self.lost));
        let ended = self.answered + (self.honest.len() + self.cut.len()) as u64 + self.unsent;
        assert_eq!(self.sent, ended, "a request is in no class: {self:?}");
    }

    /// As above, and every request was answered by the app.
    #[track_caller]
    pub fn all_answered(&self) {
        self.nothing_lost();
        assert!(self.honest.is_empty(), "{} failed: {:#?}", self.honest.len(), first(&self.honest));
        assert!(self.cut.is_empty(), "{} cut: {:#?}", self.cut.len(), first(&self.cut));
    }
}

fn first<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

/// Shared by the connections of one load.
#[derive(Debug)]
pub struct Book {
    pub mix: Mix,
    /// Not Mainstay: its failures are honest without an id of ours.
    foreign: bool,
    stop: AtomicBool,
    next: AtomicU64,
    tally: Mutex<Tally>,
}

impl Book {
    /// Two loads on one app begin at different numbers, so that its journal tells them apart.
    pub fn new(mix: Mix, first: u64) -> Arc<Book> {
        Arc::new(Book {
            mix,
            foreign: false,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(first),
            tally: Mutex::default(),
        })
    }

    /// For a server that is no Mainstay.
    pub fn of_a_peer(mix: Mix) -> Arc<Book> {
        let (stop, next, tally) = (AtomicBool::new(false), AtomicU64::new(1), Mutex::default());
        Arc::new(Book { mix, foreign: true, stop, next, tally })
    }

    fn is_honest(&self, id: &str) -> bool {
        self.foreign || id.starts_with("r_")
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// The number of the next request, which now counts as sent.
    pub fn number(&self) -> u64 {
        self.change(|tally| tally.sent += 1);
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    pub fn change(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().expect("lock"));
    }

    pub fn sent(&self) -> u64 {
        self.tally.lock().expect("lock").sent
    }

    pub fn tally(&self) -> Tally {
        self.tally.lock().expect("lock").clone()
    }

    /// Files a whole response.
    pub fn whole(&self, number: u64, method: &'static str, status: u16, id: &str, body: &[u8]) {
        let right = body == number.to_string().as_bytes();
        let what = format!("status {status}, body {:?}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        let trouble = Trouble { number, method, id: id.into(), what };
        self.change(|tally| match status {
            200 if right => tally.answered += 1,
            500..=599 if self.is_honest(id) => tally.honest.push(trouble),
            _ => tally.lost.push(trouble),
        });
    }

    /// Files a response that broke off behind its head.
    pub fn cut(&self, number: u64, method: &'static str, id: &str) {
        let trouble = Trouble { number, method, id: id.into(), what: "cut".into() };
        let told = self.is_honest(id);
        self.change(|tally| if told { tally.cut.push(trouble) } else { tally.lost.push(trouble) });
    }

    pub fn lost(&self, number: u64, method: &'static str, what: String) {
        self.change(|tally| tally.lost.push(Trouble { number, method, id: String::new(), what }));
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    book: Arc<Book>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// `connections` keep-alive connections of HTTP/1.1, as many again in all of HTTP/2 streams on a tenth of them.
    pub fn start(edge: SocketAddr, connections: usize, mix: Mix) -> (Load, Load) {
        (Load::http1(edge, connections / 2, mix), Load::http2(edge, connections / 2, mix))
    }

    pub fn http1(edge: SocketAddr, connections: usize, mix: Mix) -> Load {
        let book = Book::new(mix, 1);
        let threads = (0..connections).map(|_| {
            let book = book.clone();
            std::thread::spawn(move || connection(edge, &book))
        });
        Load { threads: threads.collect(), book }
    }

    pub fn http2(edge: SocketAddr, connections: usize, mix: Mix) -> Load {
        let book = Book::new(mix, 1_000_000_000);
        let shared = book.clone();
        let way = Way::plain(edge);
        let thread = std::thread::spawn(move || crate::strict_h2::load(&way, connections, PACE, &shared));
        Load { book, threads: vec![thread] }
    }

    /// The same over TLS, HTTP/1.1 and HTTP/2.
    pub fn over_tls(way: &Way, connections: usize, mix: Mix) -> (Load, Load) {
        let (one, two) = (Book::new(mix, 1), Book::new(mix, 1_000_000_000));
        let (way1, way2, book1, book2) = (way.clone(), way.clone(), one.clone(), two.clone());
        let first = std::thread::spawn(move || crate::strict_tls::load(&way1, connections / 2, PACE, &book1));
        let second = std::thread::spawn(move || crate::strict_h2::load(&way2, connections / 2, PACE, &book2));
        (Load { book: one, threads: vec![first] }, Load { book: two, threads: vec![second] })
    }

    /// Requests that have ended so far.
    pub fn sent(&self) -> u64 {
        self.book.sent()
    }

    /// Waits until `more` further requests have been sent: the load is really under way.
    #[track_caller]
    pub fn goes_on(&self, more: u64) {
        let goal = self.sent() + more;
        crate::wait_until("the load to go on", || self.sent() >= goal);
    }

    /// Lets what is in flight end, sends nothing more.
    pub fn finish(self) -> Tally {
        self.book.stop();
        for thread in self.threads {
            thread.join().expect("a client thread panicked");
        }
        self.book.tally()
    }
}

fn connection(edge: SocketAddr, book: &Book) {
    let mut open: Option<Connection> = None;
    while !book.stopped() {
        crate::wait::pause(PACE);
        // Ended while nothing was under way: no request was touched, the next one goes out on a new connection.
        if open.as_mut().is_some_and(Connection::ended_while_idle) {
            open = None;
        }
        let connection = match open.take() {
            Some(connection) => connection,
            None => match Connection::open(edge) {
                Ok(connection) => connection,
                Err(e) => {
                    book.change(|tally| tally.refused.push(e.to_string()));
                    continue;
                }
            },
        };
        open = one_request(connection, &edge.to_string(), book);
    }
}

/// Sends one request, files its end, gives the connection back if it may be used again.
pub fn one_request<S: Read + Write>(mut connection: Connection<S>, host: &str, book: &Book) -> Option<Connection<S>> {
    let number = book.number();
    let (method, target, body) = book.mix.request(number);
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let bytes = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}");
    if let Err(e) = connection.send(bytes.as_bytes()) {
        book.lost(number, method, format!("could not be sent: {e}"));
        return None;
    }
    match connection.response(false) {
        Ok(response) => {
            book.whole(number, method, response.status, &response.id(), &response.body);
            (!says_close(&response)).then_some(connection)
        }
        Err(Fault::Cut(begun)) => {
            book.cut(number, method, &begun.id());
            None
        }
        Err(fault) => {
            book.lost(number, method, format!("{fault:?}"));
            None
        }
    }
}

fn says_close(response: &Response) -> bool {
    response.header("connection").is_some_and(|value| value.to_lowercase().contains("close"))
}
