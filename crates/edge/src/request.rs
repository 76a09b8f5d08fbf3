//! The request path, on one screen: the gates in their order, then the upstream.

use crate::affinity::{self, Query};
use crate::body::{Answer, Deadline, Passing, is_malformed};
use crate::core::{Conn, Core, Finish};
use crate::headers::{self, Has, Rewrite, Seen};
use crate::local::{self, Ask, Ours, Reply};
use crate::options::Offered;
use crate::path::{canonical, readings};
use crate::pool::IDLE_DEFAULT;
use crate::proxy::{self, Held, Job, Outgoing, Refusal, Sent};
use crate::refusal;
use crate::retry::{KEPT_BODY_BYTES_MAX, is_idempotent};
use crate::snapshot::{Served, Settings, Snapshot};
use crate::{traces, tunnel};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mainstay_telemetry::traceparent::{SAMPLED, TraceParent};
use mainstay_telemetry::{Cut, MethodCode, Names, Verdict};
use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Idle connections are closed this long before the app would close them.
const KEEP_MARGIN_S: u64 = 1;
/// Longest wait for an answer of our own.
const LOCAL_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Serves one request. Never fails: whatever goes wrong is an answer.
pub async fn serve(
    core: Rc<Core>,
    conn: Rc<Conn>,
    deadline: Deadline,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (mut finish, facts) = begin(&core, &conn, deadline, &request);
    let snapshot = core.snapshot();
    let mut response = match gates(&core, &conn, &snapshot, &facts, &mut finish, request).await {
        Ok(Passed::Upstream(sent, learn)) => pass_on(&snapshot, finish, sent, learn).await,
        Ok(Passed::Own(response)) => own(response, finish),
        Ok(Passed::Tunnel(sent, client)) => open_tunnel(&core, &snapshot, sent, client, finish),
        Err(stop) => refuse(stop, facts.page, finish),
    };
    if core.draining.get() && conn.http1 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What was read of a request's headers, once.
#[derive(Debug, Clone, Copy)]
struct Facts {
    has: Has,
    size: usize,
    hosts: usize,
    host_is_one: bool,
    /// A browser opens an address: refusals are pages.
    page: bool,
    trace_flags: u8,
}

/// How a request came through the gates.
enum Passed {
    /// The app's answer; `true`: it may name a Socket.IO session.
    Upstream(Sent, bool),
    Own(Response<Bytes>),
    Tunnel(Sent, hyper::upgrade::OnUpgrade),
}

/// The gates, in order. Each refuses with a code and the place of the rule that decided.
async fn gates(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    snapshot: &Arc<Snapshot>,
    facts: &Facts,
    finish: &mut Finish,
    mut request: Request<Incoming>,
) -> Result<Passed, Refusal> {
    well_formed(&request, facts, snapshot)?;
    let client = headers::client(request.headers(), &conn.peer, &snapshot.trusted);
    finish.note(|r| {
        r.client = client;
        if conn.peer.is_trusted && client != conn.peer.address {
            r.trusted_by = snapshot.trusted_by(conn.peer.address);
        }
    });
    let gate = route(snapshot, &request)?;
    finish.note(|r| {
        r.route = gate.settings.route;
        r.app = gate.served.map_or(0, |s| s.group.id);
        r.health = gate.health;
    });
    body_size(&request, &gate.settings)?;
    let asks = Asks::new(snapshot, &gate, &request);
    if asks.before
        && let Some(response) = Box::pin(asks.before_the_app(core, conn, facts, client, &request)).await?
    {
        return Ok(Passed::Own(response));
    }
    let served = gate.served.ok_or(Verdict::NoRoute)?;
    let engine = affinity::query(request.uri().query());
    let preferred = match engine {
        Query::Session(sid) => core.shared.affinity.find(sid, core.now_ms()),
        _ => None,
    };
    let learn = engine == Query::Handshake;
    let upgrade = conn.http1 && facts.has.any(Has::UPGRADE) && is_upgrade(request.headers());
    let on_upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
    let ask = asks.after_the_app(conn, facts, client, &request);
    let pause = snapshot.timeouts.body;
    let job = Job { core, served, settings: gate.settings, client, preferred, pause };
    let outgoing = outgoing(&job, conn, facts, finish, request, upgrade).await?;
    let sent = proxy::forward(&job, finish, outgoing).await?;
    if sent.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // A 101 that nobody asked for would have the client wait for ever.
        let client = on_upgrade.ok_or(Verdict::UpstreamInvalid)?;
        return Ok(Passed::Tunnel(sent, client));
    }
    if sent.response.status() == StatusCode::NOT_FOUND
        && let Some(ask) = ask
        && let Some(response) = Box::pin(put(core, ask)).await?
    {
        return Ok(Passed::Own(response));
    }
    Ok(Passed::Upstream(sent, learn))
}

/// Writes down what is known at the start.
fn begin(core: &Rc<Core>, conn: &Rc<Conn>, deadline: Deadline, request: &Request<Incoming>) -> (Finish, Facts) {
    conn.begin();
    let started_us = core.tick();
    let seen = Seen::new(request.headers());
    let mut record = core.record();
    record.started_unix_us = core.unix_us(started_us);
    record.id = core.request_id(record.started_unix_us);
    record.method = method_code(request.method());
    record.version = match request.version() {
        Version::HTTP_2 => 20,
        Version::HTTP_10 => 10,
        _ => 11,
    };
    record.tls = conn.peer.tls;
    record.peer = conn.peer.address;
    record.client = conn.peer.address;
    record.path = Cut::new(request.uri().path());
    if let Some(agent) = seen.agent.and_then(|v| v.to_str().ok()) {
        record.agent = Cut::new(agent);
    }
    if let Some(id) = seen.request_id.and_then(|v| v.to_str().ok()) {
        record.client_request_id = Cut::new(id);
    }
    let (trace_id, span_id) = core.trace_and_span();
    record.span_id = span_id;
    let parent = seen.traceparent.and_then(|v| TraceParent::parse(v.as_bytes()));
    match &parent {
        Some(parent) => (record.trace_id, record.parent_id) = (parent.trace_id, parent.parent_id),
        None => record.trace_id = trace_id,
    }
    let facts = Facts {
        has: seen.has,
        size: seen.size,
        hosts: seen.hosts,
        host_is_one: seen.host.is_none_or(|host| is_host(host.as_bytes())),
        page: refusal::wants_page(seen.fetch_mode, seen.accept),
        trace_flags: parent.map_or(SAMPLED, |p| p.flags),
    };
    (Finish::new(core.clone(), conn.clone(), deadline, record, started_us), facts)
}

fn method_code(method: &Method) -> MethodCode {
    match *method {
        Method::GET => MethodCode::Get,
        Method::HEAD => MethodCode::Head,
        Method::POST => MethodCode::Post,
        Method::PUT => MethodCode::Put,
        Method::PATCH => MethodCode::Patch,
        Method::DELETE => MethodCode::Delete,
        Method::OPTIONS => MethodCode::Options,
        Method::CONNECT => MethodCode::Connect,
        Method::TRACE => MethodCode::Trace,
        _ => MethodCode::Other,
    }
}

/// Gate: exactly one host, no CONNECT, heads within their limit.
fn well_formed(request: &Request<Incoming>, facts: &Facts, snapshot: &Snapshot) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Verdict::MethodNotSupported.into());
    }
    match facts.hosts {
        0 if request.version() == Version::HTTP_11 && request.uri().authority().is_none() => {
            return Err(Verdict::MissingHost.into());
        }
        0 => {}
        1 if facts.host_is_one => {}
        1 => return Err(Verdict::MalformedRequest.into()),
        _ => return Err(Verdict::RepeatedHost.into()),
    }
    if facts.size > snapshot.limits.header {
        return Err(Refusal { rule: snapshot.rules.header, ..Verdict::HeaderTooLarge.into() });
    }
    Ok(())
}

fn is_host(host: &[u8]) -> bool {
    host.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_' | b'%'))
}

/// What routing says about a request.
struct Gate<'a> {
    served: Option<&'a Served>,
    settings: Settings,
    ours: Ours,
    health: bool,
}

/// Gate: which app, which settings. The path is compared in its canonical form; the app gets the original.
fn route<'a>(snapshot: &'a Snapshot, request: &Request<Incoming>) -> Result<Gate<'a>, Refusal> {
    let path = canonical(request.uri().path());
    let host = if snapshot.by_host { host(request) } else { Cow::Borrowed("") };
    let method = request.method().as_str();
    let ours = local::ours(&path.path);
    if path.ambiguous {
        let ours = readings(request.uri().path()).iter().any(|r| local::ours(r) == Ours::Alone);
        let divided = snapshot.divided(method, &host, &path.path, request.uri().path());
        if let Some(rule) = divided.or(ours.then_some(Names::NONE)) {
            return Err(Refusal { rule, ..Verdict::AmbiguousPath.into() });
        }
    }
    Ok(Gate {
        served: snapshot.app(method, &host, &path.path),
        settings: snapshot.settings(method, &host, &path.path),
        ours,
        health: ours != Ours::No && local::is_health(&path.path),
    })
}

/// The host asked for, in lower case and without its port.
fn host(request: &Request<Incoming>) -> Cow<'_, str> {
    let text = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST).and_then(|h| h.to_str().ok()).unwrap_or(""),
    };
    let name = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => &text[..colon],
        _ => text,
    };
    // The root's dot names the same host.
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// Gate: an announced body within the limit. A body without a length is counted as it passes.
fn body_size(request: &Request<Incoming>, settings: &Settings) -> Result<(), Refusal> {
    match (settings.body, request.body().size_hint().exact()) {
        (Some(limit), Some(size)) if size > limit => {
            Err(Refusal { rule: settings.body_rule, ..Verdict::BodyTooLarge.into() })
        }
        _ => Ok(()),
    }
}

/// Whether we may answer this request ourselves, and when.
struct Asks {
    before: bool,
    after: bool,
    /// Nobody else may answer: 404 if we do not.
    alone: bool,
}

impl Asks {
    fn new(snapshot: &Snapshot, gate: &Gate<'_>, request: &Request<Incoming>) -> Asks {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let nobody = gate.served.is_none_or(|s| s.group.list().upstreams.iter().all(|u| u.is_draining()));
        match (gate.ours, snapshot.offered) {
            (Ours::Alone, _) => Asks { before: true, after: false, alone: true },
            (Ours::Offered, Offered::Mainstay) if reads => Asks { before: true, after: false, alone: true },
            (Ours::Offered, Offered::App) if reads => Asks { before: nobody, after: !nobody, alone: false },
            _ => Asks { before: false, after: false, alone: false },
        }
    }

    async fn before_the_app(
        &self,
        core: &Core,
        conn: &Conn,
        facts: &Facts,
        client: IpAddr,
        request: &Request<Incoming>,
    ) -> Result<Option<Response<Bytes>>, Refusal> {
        match put(core, question(conn, facts, client, request)).await? {
            None if self.alone => Err(Verdict::NoRoute.into()),
            answer => Ok(answer),
        }
    }

    fn after_the_app(
        &self,
        conn: &Conn,
        facts: &Facts,
        client: IpAddr,
        request: &Request<Incoming>,
    ) -> Option<Question> {
        self.after.then(|| question(conn, facts, client, request))
    }
}

type Question = (Ask, tokio::sync::oneshot::Receiver<Reply>);

fn question(conn: &Conn, facts: &Facts, client: IpAddr, request: &Request<Incoming>) -> Question {
    let text = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
    let (answer, reply) = tokio::sync::oneshot::channel();
    let ask = Ask {
        path: canonical(request.uri().path()).path.into_owned(),
        client,
        from_here: conn.peer.address.is_loopback() && !facts.has.any(Has::FORWARDED),
        authorization: text(http::header::AUTHORIZATION),
        accept: text(http::header::ACCEPT),
        answer,
    };
    (ask, reply)
}

/// Puts a question to the control thread. `None`: nothing of ours is there for this caller.
async fn put(core: &Core, (ask, reply): Question) -> Result<Option<Response<Bytes>>, Refusal> {
    let busy = Refusal { retry_after: Some(1), ..Verdict::ServiceBusy.into() };
    core.shared.local.try_send(ask).map_err(|_| busy)?;
    match tokio::time::timeout(LOCAL_ANSWER_MAX, reply).await {
        Ok(Ok(Reply::Document { status, content_type, body })) => {
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(Some(response))
        }
        Ok(Ok(Reply::NotHere)) => Ok(None),
        Ok(Err(_)) | Err(_) => Err(busy),
    }
}

/// An upgrade we pass on. `h2c` is not: a tunnel in HTTP would walk round every gate.
fn is_upgrade(headers: &HeaderMap) -> bool {
    headers::wants_upgrade(headers)
        && !headers
            .get_all(http::header::UPGRADE)
            .iter()
            .any(|v| v.as_bytes().split(|&b| b == b',').any(|p| p.trim_ascii().eq_ignore_ascii_case(b"h2c")))
}

/// The request as upstreams will see it.
async fn outgoing<'a>(
    job: &Job<'a>,
    conn: &'a Conn,
    facts: &Facts,
    finish: &mut Finish,
    request: Request<Incoming>,
    upgrade: bool,
) -> Result<Outgoing<'a>, Refusal> {
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    let (uri, authority) = origin_form(parts.uri)?;
    if !conn.http1 {
        headers::join_cookies(&mut headers);
    }
    let mut trace = TraceParent { trace_id: [0; 16], parent_id: [0; 8], flags: facts.trace_flags };
    finish.note(|r| (trace.trace_id, trace.parent_id) = (r.trace_id, r.span_id));
    let rewrite = Rewrite {
        has: facts.has,
        peer: &conn.peer,
        client: job.client,
        upgrade,
        authority,
        id: finish.id_value(),
        traceparent: job.core.value(&trace.format()),
    };
    let key = facts.has.any(Has::IDEMPOTENCY_KEY);
    let repeatable = is_idempotent(&parts.method) || key && job.settings.retry == Some(true);
    let body = if body.is_end_stream() {
        Held::Absent
    } else if repeatable && body.size_hint().exact().is_some_and(|n| n <= KEPT_BODY_BYTES_MAX) {
        Box::pin(keep(body, finish, job.pause)).await?
    } else {
        Held::Stream(Some(body), Rc::default())
    };
    Ok(Outgoing { method: parts.method, uri, headers, rewrite: Some(rewrite), body, upgrade, key })
}

/// Reads a small body whole, so that it can be sent again.
async fn keep(body: Incoming, finish: &mut Finish, pause: Duration) -> Result<Held, Refusal> {
    match tokio::time::timeout(pause, body.collect()).await {
        Ok(Ok(collected)) => {
            let bytes = collected.to_bytes();
            finish.note(|r| r.bytes_in = bytes.len() as u64);
            Ok(Held::Kept(bytes))
        }
        Ok(Err(error)) if is_malformed(&error) => Err(Verdict::MalformedRequest.into()),
        Ok(Err(_)) => Err(Verdict::ClientGone.into()),
        Err(_) => Err(Verdict::RequestTimeout.into()),
    }
}

/// `/path?query` of any form of target, and the authority if it named one.
fn origin_form(uri: Uri) -> Result<(Uri, Option<HeaderValue>), Refusal> {
    if uri.authority().is_none() {
        return Ok((uri, None));
    }
    let parts = uri.into_parts();
    let authority = parts.authority.as_ref().map_or("", |a| a.as_str());
    // Without the user part, which says who asks and not whom.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = HeaderValue::from_str(host).map_err(|_| Verdict::MalformedRequest)?;
    let path = parts.path_and_query.unwrap_or(http::uri::PathAndQuery::from_static("/"));
    Ok((Uri::from(path), Some(host)))
}

/// The app's answer, its body as it comes.
async fn pass_on(snapshot: &Snapshot, mut finish: Finish, sent: Sent, learn: bool) -> Response<Answer> {
    let Sent { response, connection, in_flight } = sent;
    let (mut parts, incoming) = response.into_parts();
    let status = parts.status;
    let elapsed = finish.elapsed_us();
    finish.note(|r| {
        r.status = status.as_u16();
        r.upstream = in_flight.upstream().name;
        r.first_byte_us = u32::try_from(elapsed).unwrap_or(u32::MAX);
    });
    let has = Has::in_all(&parts.headers);
    let keep = headers::keep_alive_timeout(&parts.headers, has)
        .map_or(IDLE_DEFAULT, |s| Duration::from_secs(s.saturating_sub(KEEP_MARGIN_S)));
    headers::to_client(&mut parts.headers, has, false);
    finish.identify(&mut parts.headers, has);
    if snapshot.hide_traces
        && status.is_server_error()
        && incoming.size_hint().upper().is_none_or(|n| n <= traces::LOOKED_AT_BYTES_MAX)
    {
        return Box::pin(without_trace(parts, incoming, finish)).await;
    }
    let pause = snapshot.timeouts.response;
    let passing = Passing { incoming, connection: Some(connection), in_flight, keep, pause, learn };
    Response::from_parts(parts, Answer::upstream(passing, finish))
}

/// A 5xx of the app: read whole, and replaced if it shows the inside.
async fn without_trace(mut parts: http::response::Parts, incoming: Incoming, mut finish: Finish) -> Response<Answer> {
    let limited = http_body_util::Limited::new(incoming, traces::LOOKED_AT_BYTES_MAX as usize);
    let Ok(collected) = limited.collect().await else {
        return refuse(Verdict::UpstreamCut.into(), false, finish);
    };
    let body = collected.to_bytes();
    if !traces::holds_trace(&body) {
        return Response::from_parts(parts, Answer::full(body, finish));
    }
    tracing::error!(
        request_id = %finish.id(),
        body = %String::from_utf8_lossy(&body),
        "the app's error page showed a stack trace; the client got a plain error"
    );
    let plain = refusal::response(Verdict::Internal, finish.id(), false, None);
    parts.headers.remove(http::header::CONTENT_LENGTH);
    parts.headers.remove(http::header::CONTENT_ENCODING);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    finish.complete();
    Response::from_parts(parts, Answer::full(plain.into_body(), finish))
}

fn own(response: Response<Bytes>, mut finish: Finish) -> Response<Answer> {
    let (mut parts, body) = response.into_parts();
    finish.note(|r| r.status = parts.status.as_u16());
    let has = Has::in_all(&parts.headers);
    finish.identify(&mut parts.headers, has);
    Response::from_parts(parts, Answer::full(body, finish))
}

fn refuse(stop: Refusal, page: bool, mut finish: Finish) -> Response<Answer> {
    finish.note(|r| (r.verdict, r.rule) = (stop.verdict, stop.rule));
    let mut response = refusal::response(stop.verdict, finish.id(), page, stop.retry_after);
    if matches!(stop.verdict, Verdict::BodyTooLarge | Verdict::RequestTimeout | Verdict::HeaderTooLarge) {
        // The rest of the request is not read.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    own(response, finish)
}

fn open_tunnel(
    core: &Rc<Core>,
    snapshot: &Snapshot,
    sent: Sent,
    client: hyper::upgrade::OnUpgrade,
    mut finish: Finish,
) -> Response<Answer> {
    let Sent { mut response, in_flight, connection: _ } = sent;
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let has = Has::in_all(&parts.headers);
    headers::to_client(&mut parts.headers, has, true);
    finish.identify(&mut parts.headers, has);
    let elapsed = finish.elapsed_us();
    finish.note(|r| {
        r.status = parts.status.as_u16();
        r.upstream = in_flight.upstream().name;
        r.first_byte_us = u32::try_from(elapsed).unwrap_or(u32::MAX);
    });
    let protocol = parts.headers.get(http::header::UPGRADE);
    let socket = protocol.is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let guard = in_flight.upstream().tunnel(socket);
    tunnel::open(core.clone(), client, upstream, guard, snapshot.timeouts.upgrade_idle, finish);
    Response::from_parts(parts, Answer::bare())
}
