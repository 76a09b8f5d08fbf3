//! Connections of apps, and who may ask at all.

use super::near::{Near, Place};
use super::{Tokens, asked::Fault, jobs};
use crate::bodies::{self, Body};
use arc_swap::{ArcSwap, ArcSwapOption};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay_jobs::Jobs;
use mainstay_runtime::Shutdown;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

/// Instances, each with the connections of its pool; more is a loop that forgot to close.
const CONNECTIONS_MAX: u32 = 1024;
/// A thousand jobs at once.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const HEADER_LIMIT: Duration = Duration::from_secs(10);
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// How long a request waits for jobs to be open.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// So long those who are being answered at the end are waited for.
const LAST_LIMIT: Duration = Duration::from_secs(1);

/// What is asked of, while it is open.
#[derive(Clone)]
pub struct Open {
    pub jobs: Arc<ArcSwapOption<Jobs>>,
    pub opened: watch::Receiver<bool>,
    /// Nothing more starts.
    pub is_ending: Arc<AtomicBool>,
    /// Streams that are open, by the worker whose presence they are.
    pub workers: Arc<Mutex<HashMap<String, usize>>>,
    pub tokens: Arc<Tokens>,
    /// That were given a token.
    pub apps: Arc<ArcSwap<Vec<String>>>,
}

/// Until the end is asked for, and the answers that are under way then are given. On the thread of jobs; what is more
/// than it answers best is answered by `beside`.
#[allow(clippy::disallowed_methods)]
pub async fn serve(listener: TcpListener, open: Open, beside: Handle, shutdown: Shutdown) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let mut near = Near::new();
    let address = listener.local_addr().ok();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        let (Ok((stream, _)), Ok(turn)) = (accepted, turns.clone().try_acquire_owned()) else {
            // Out of descriptors or of turns: a moment for those who hold them.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (open, shutdown) = (open.clone(), shutdown.clone());
        if let Some(place) = near.place() {
            tokio::spawn(async move {
                let _held = turn;
                connected(stream, open, (address, Some(place)), shutdown).await;
            });
        } else if let Ok(stream) = stream.into_std() {
            beside.spawn(async move {
                let _held = turn;
                if let Ok(stream) = TcpStream::from_std(stream) {
                    connected(stream, open, (address, None), shutdown).await;
                }
            });
        }
    }
    let _ = tokio::time::timeout(LAST_LIMIT, turns.acquire_many(CONNECTIONS_MAX)).await;
}

/// One connection, until either side has had enough of it.
async fn connected(
    stream: TcpStream,
    open: Open,
    (address, place): (Option<SocketAddr>, Option<Arc<Place>>),
    shutdown: Shutdown,
) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        if let Some(place) = &place {
            place.asked();
        }
        let open = open.clone();
        async move { Ok::<_, Infallible>(answer(request, &open, address).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A broken connection concerns nobody but the one who broke it.
        _ = connection.as_mut() => {}
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(request: Request<Incoming>, open: &Open, address: Option<SocketAddr>) -> Response<Body> {
    if let Err(fault) = admitted(&request, open, address) {
        return refused(&fault);
    }
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_LIMIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let text = "a request holds at most 16 MiB, and is sent whole";
            return refused(&Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
        }
        Err(_) => {
            let text = format!("the body did not come within {BODY_LIMIT:?}");
            return refused(&Fault::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text));
        }
    };
    if open.jobs.load().is_none() {
        // Of a server that has just taken over: they open in a moment.
        let _ = tokio::time::timeout(OPEN_LIMIT, open.opened.clone().wait_for(|opened| *opened)).await;
    }
    let Some(of) = open.jobs.load_full() else {
        let text = "jobs are not open: another server lets go of them now, another node runs them, or the store \
                    refuses (mainstay logs)";
        return refused(&Fault::new(StatusCode::SERVICE_UNAVAILABLE, "jobs_away", text));
    };
    match jobs::answer(&of, open, &head, &body.to_bytes()).await {
        Ok(response) => response,
        Err(fault) => refused(&fault),
    }
}

/// An app of this boot, over the loopback, and nobody's page.
fn admitted(request: &Request<Incoming>, open: &Open, address: Option<SocketAddr>) -> Result<(), Fault> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let forbidden = |text| Fault::new(StatusCode::FORBIDDEN, "forbidden", text);
    if request.headers().contains_key(header::ORIGIN) {
        return Err(forbidden("pages are not answered: this is for backends"));
    }
    let host = text(header::HOST).unwrap_or_default();
    let port = address.map_or(0, |address| address.port());
    if ![format!("127.0.0.1:{port}"), format!("localhost:{port}")].contains(&host.to_ascii_lowercase()) {
        return Err(forbidden("ask at MAINSTAY_URL, by its own name"));
    }
    let bearer = text(header::AUTHORIZATION).and_then(|text| text.split_once(' '));
    let given = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    match given.and_then(|given| open.tokens.app(&open.apps.load(), given).map(drop)) {
        Some(()) => Ok(()),
        None => {
            let text = "send Authorization: Bearer with MAINSTAY_TOKEN, which each instance is given at its start";
            Err(Fault::new(StatusCode::UNAUTHORIZED, "unauthorized", text))
        }
    }
}

fn refused(fault: &Fault) -> Response<Body> {
    let problem = json!({
        "type": "about:blank", "title": fault.status.canonical_reason(), "status": fault.status.as_u16(),
        "code": fault.code, "detail": fault.detail, "error": fault.detail,
    });
    let body = bodies::whole(problem.to_string() + "\n");
    let mut response = bodies::response(fault.status, "application/problem+json", body);
    if fault.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    bodies::response(status, "application/json", bodies::whole(value.to_string() + "\n"))
}

/// What a path answers to.
pub(super) fn wrong_method(allowed: &[Method]) -> Fault {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("it takes {}", names.join(", ")))
}
