//! Operators at a browser: a port of this machine alone that is open from the first `mainstay console` on, the links
//! that let in, and the pages behind them.
//!
//! The realm is the operators' own: no account, role or session of the app's users is looked at here. Must never answer
//! by another name than its own, or anybody who is not logged in.

use crate::bodies::Body;
use crate::control::{ConsoleAsked, Refused};
use crate::operate;
use crate::pages::{self, Pages, comes_from, fields, html, to};
use crate::server::Server;
use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, REFERRER_POLICY, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay_console::STYLE;
use mainstay_console::console::{LOGIN_SCRIPT, OWN_SCRIPT, login, overview};
use mainstay_edge::is_at_or_below;
use mainstay_identity::csrf::Page;
use mainstay_identity::exchange::{Answer, Asked};
use mainstay_identity::operators::{COOKIE as LOGIN, LINK_LIFE_US, Logins};
use mainstay_runtime::Clock;
use mainstay_supervisor::protocol::{Listener, ToSupervisor};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The first port that is free; the others for further servers of this machine.
const PORTS: std::ops::Range<u16> = 4700..4710;
/// Browsers of operators, with a few connections each.
const CONNECTIONS_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const HEADER_LIMIT: Duration = Duration::from_secs(10);
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// Where the pages of queues stand here.
const QUEUES: &str = "/queues";

/// The console of this server. Lives on the control thread.
pub struct Console {
    logins: RefCell<Logins>,
    open: RefCell<Option<Opened>>,
    /// Of the server before this one, until it is this one's turn.
    handed: RefCell<Option<TcpListener>>,
    pages: Pages,
    connections: Cell<usize>,
}

struct Opened {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Opened {
    /// Nobody is let in here when this comes back.
    async fn close(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

impl Console {
    pub fn new(pages: Pages, handed: Option<TcpListener>) -> Console {
        let (logins, open, handed) = (RefCell::default(), RefCell::default(), handed.into());
        Console { logins, open, handed, pages: pages.of_operators("/"), connections: Cell::new(0) }
    }

    /// Who was logged in with the server before this one.
    pub fn remember(&self, logins: Logins) {
        self.logins.replace(logins);
    }

    /// For the server that takes over, which has the port too: who is logged in. Nobody is let in here from now on.
    pub async fn release(&self) -> Option<Logins> {
        self.open.take()?.close().await;
        Some(self.logins.take())
    }
}

/// Goes on where a server before this one stood, if an operator had it opened.
pub fn go_on(server: &Rc<Server>) {
    if let Some(listener) = server.console.handed.take()
        && let Err(error) = accept_at(server, listener)
    {
        tracing::error!(%error, "the console is not open any more   open it: mainstay console");
    }
}

/// `mainstay console`.
pub async fn run(server: &Rc<Server>, asked: ConsoleAsked) -> Result<Value, Refused> {
    let console = &server.console;
    let now_us = Clock::unix_micros();
    if asked == ConsoleAsked::End {
        let ended = console.logins.borrow_mut().end(now_us);
        let opened = console.open.take();
        let was_open = opened.is_some();
        if let Some(opened) = opened {
            let listener = Listener::Console(opened.address);
            opened.close().await;
            server.link.send(&ToSupervisor::Unlisten { listener });
            server.book.did("console closed", format!("{ended} logged out"));
        }
        return Ok(json!({ "wasOpen": was_open, "ended": ended }));
    }
    let known = console.open.borrow().as_ref().map(|opened| opened.address);
    let address = match known {
        Some(address) => address,
        None => open(server).await.map_err(|error| {
            let (first, last) = (PORTS.start, PORTS.end - 1);
            Refused::new(format!("none of the ports {first} to {last} of 127.0.0.1 can be had: {error}"))
        })?,
    };
    let key = console.logins.borrow_mut().link(now_us);
    let key = key.ok_or_else(|| Refused::new("the kernel gave no random bytes; try again"))?;
    server.book.did("console link made", address.to_string());
    Ok(json!({
        "link": format!("http://{address}/login#{key}"), "port": address.port(), "seconds": LINK_LIFE_US / 1_000_000,
    }))
}

/// At the first port that is free. The supervisor holds it, so that it outlives this process.
async fn open(server: &Rc<Server>) -> Result<SocketAddr, String> {
    let mut last = String::new();
    for port in PORTS {
        let listener = Listener::Console(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        match server.link.listen(listener).await {
            Ok(fd) => return accept_at(server, TcpListener::from(fd)).map_err(|error| error.to_string()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn accept_at(server: &Rc<Server>, listener: TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let accepting = tokio::task::spawn_local(accept(listener, address, server.clone()));
    let before = server.console.open.replace(Some(Opened { address, accepting }));
    if let Some(before) = before {
        // Two asked at once; one port is enough.
        before.accepting.abort();
        server.link.send(&ToSupervisor::Unlisten { listener: Listener::Console(before.address) });
    }
    Ok(address)
}

async fn accept(listener: tokio::net::TcpListener, address: SocketAddr, server: Rc<Server>) {
    loop {
        let accepted = listener.accept().await;
        let open = &server.console.connections;
        let (Ok((stream, peer)), true) = (accepted, open.get() < CONNECTIONS_MAX) else {
            // Out of descriptors or of turns: a moment for those who hold them.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        open.set(open.get() + 1);
        let server = server.clone();
        tokio::task::spawn_local(async move {
            let of = server.clone();
            let service = hyper::service::service_fn(move |request| {
                let server = of.clone();
                async move { Ok::<_, Infallible>(answer(&server, request, address, peer.ip()).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
            // A broken connection concerns nobody but the one who broke it.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            let open = &server.console.connections;
            open.set(open.get() - 1);
        });
    }
}

async fn answer(server: &Rc<Server>, request: Request<Incoming>, at: SocketAddr, peer: IpAddr) -> Response<Body> {
    let is_open = server.console.open.borrow().is_some();
    let answer = match asked(request, at, peer).await {
        Ok(asked) if is_open => of(server, asked).await,
        Ok(asked) => moved(&asked),
        Err(answer) => *answer,
    };
    let mut response = Response::new(BodyExt::boxed(Full::new(answer.body)));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// The request as a whole, if it was sent to this very console: a page that made a name of its own stand for this
/// machine comes by that name.
async fn asked(request: Request<Incoming>, at: SocketAddr, peer: IpAddr) -> Result<Asked, Box<Answer>> {
    let refused = |status, text: String| Err(Box::new(plain(status, text)));
    let (head, body) = request.into_parts();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let own = [format!("127.0.0.1:{}", at.port()), format!("localhost:{}", at.port())];
    if !own.contains(&host) {
        return refused(StatusCode::MISDIRECTED_REQUEST, format!("ask at http://{at}, by this name\n"));
    }
    let body = match tokio::time::timeout(BODY_LIMIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refused(StatusCode::PAYLOAD_TOO_LARGE, "a form holds at most 1 MiB\n".to_owned()),
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, format!("no whole form came in {BODY_LIMIT:?}\n")),
    };
    Ok(Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
        client: peer,
        https: false,
        host,
        request_id: String::new(),
        identity: None,
        session: None,
    })
}

async fn of(server: &Rc<Server>, asked: Asked) -> Answer {
    let is_read = matches!(asked.method, Method::GET | Method::HEAD);
    match (asked.path.as_str(), is_read) {
        ("/style.css", true) => return pages::file("text/css; charset=utf-8", STYLE),
        ("/login.js", true) => return pages::file("text/javascript; charset=utf-8", LOGIN_SCRIPT),
        ("/login", true) => return way_in(StatusCode::OK, None),
        ("/login", false) => return entered(server, &asked),
        _ => {}
    }
    let now_us = Clock::unix_micros();
    let known = cookies(&asked.headers).any(|secret| server.console.logins.borrow_mut().knows(secret, now_us));
    match (known, is_read) {
        (false, true) => return to("/login"),
        (false, false) => return way_in(StatusCode::FORBIDDEN, Some("you are not logged in any more")),
        (true, _) => {}
    }
    match asked.path.as_str() {
        "/" if is_read => html(StatusCode::OK, home(server).await),
        "/logout" if asked.method == Method::POST => left(server, &asked),
        path if is_at_or_below(path, QUEUES) => queues(server, asked).await,
        "/" => only("GET, HEAD"),
        "/logout" => only("POST"),
        _ => plain(StatusCode::NOT_FOUND, "there is no such page\n"),
    }
}

/// Another server has taken over, or nobody is let in any more: a browser learns it by a connection of its own.
fn moved(asked: &Asked) -> Answer {
    let address = asked.query.as_ref().map_or(asked.path.clone(), |query| format!("{}?{query}", asked.path));
    let mut answer = to(&address).with(CONNECTION, HeaderValue::from_static("close"));
    answer.status = StatusCode::TEMPORARY_REDIRECT;
    answer
}

async fn home(server: &Rc<Server>) -> String {
    let status = serde_json::to_value(operate::status(server)).unwrap_or_default();
    let (lines, _) = mainstay_watch::cli::lines(&server.state(), true);
    overview(&status, &lines, server.console.pages.has_queues())
}

/// Made where a search through thousands of jobs holds up nobody who asks this server for something.
async fn queues(server: &Rc<Server>, asked: Asked) -> Answer {
    let pages = server.console.pages.clone();
    let made = server.services.spawn(async move { pages.answer(QUEUES, asked).await }).await;
    made.unwrap_or_else(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "the server ends; try again\n"))
}

/// Follows a link. From a page of this console, so that nobody logs a browser in as somebody else.
fn entered(server: &Server, asked: &Asked) -> Answer {
    if asked.method != Method::POST {
        return only("GET, HEAD, POST");
    }
    if comes_from(asked) != Page::Ours {
        let why = "this was not sent by the page itself: open the link anew";
        return way_in(StatusCode::FORBIDDEN, Some(why));
    }
    let form = fields(std::str::from_utf8(&asked.body).unwrap_or_default());
    // Perhaps a whole link, pasted as it was printed.
    let key = form.get("key").and_then(|key| key.trim().rsplit('#').next()).unwrap_or_default();
    let Some(secret) = server.console.logins.borrow_mut().enter(key, Clock::unix_micros()) else {
        let why = "this link was followed before, or is older than ten minutes: type mainstay console for another";
        return way_in(StatusCode::FORBIDDEN, Some(why));
    };
    server.book.did("console entered", asked.client.to_string());
    set(to("/"), &format!("{LOGIN}={secret}; Path=/; HttpOnly; SameSite=Strict"))
}

fn left(server: &Server, asked: &Asked) -> Answer {
    if comes_from(asked) != Page::Ours {
        return plain(StatusCode::FORBIDDEN, "this was not sent by a page of the console\n");
    }
    let mut logins = server.console.logins.borrow_mut();
    cookies(&asked.headers).for_each(|secret| logins.leave(secret));
    server.book.did("console left", asked.client.to_string());
    set(to("/login"), &format!("{LOGIN}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"))
}

/// What a browser proves itself by. Ports share cookies: there may be those of another console of this machine.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == LOGIN).map(|(_, value)| value)
}

fn set(answer: Answer, cookie: &str) -> Answer {
    let Ok(mut value) = HeaderValue::from_str(cookie) else { return answer };
    value.set_sensitive(true);
    answer.with(SET_COOKIE, value)
}

/// The one page with a script.
fn way_in(status: StatusCode, why: Option<&str>) -> Answer {
    let mut answer = html(status, login(why));
    answer.headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(OWN_SCRIPT));
    answer
}

fn only(allowed: &'static str) -> Answer {
    let answer = plain(StatusCode::METHOD_NOT_ALLOWED, format!("it takes {allowed}\n"));
    answer.with(ALLOW, HeaderValue::from_static(allowed))
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::empty(status);
    answer.body = text.into();
    answer.with(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
}
