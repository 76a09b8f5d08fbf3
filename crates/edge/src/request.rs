//! The request path, on one screen: the gates in their order, then the upstream.
//!
//! Long because: what a request meets stands here in the order it meets it.

use crate::affinity::{self, Query};
use crate::body::{Answer, Body, Deadline, Opened, Passing, Source};
use crate::cache::{self, Came, Given, Landing, Step, Turn};
use crate::core::{Conn, Core, Finish};
use crate::csrf;
use crate::fields::Name;
use crate::files::{Files, serve as file};
use crate::headers::{self, FORWARDING};
use crate::http1::body::Broken;
use crate::http1::buffer::Buffer;
use crate::http1::framing::{self, Framing};
use crate::https::{self, Arrived};
use crate::input::check as input;
use crate::input::problem::Problem;
use crate::limit::{self, Limited};
use crate::local::{self, Ask, Ours, Reply};
use crate::message::{RequestHead, ResponseHead, Version};
use crate::options::Offered;
use crate::path::{canonical, readings};
use crate::pool::IDLE_DEFAULT;
use crate::proxy::{self, Held, Job, Outgoing, Refusal, Sent};
use crate::redis::Allowance;
use crate::refusal;
use crate::respond::Plan;
use crate::retry::{KEPT_BODY_BYTES_MAX, is_idempotent};
use crate::service_call;
use crate::session;
use crate::snapshot::{Served, Settings, Snapshot};
use crate::sticky;
use crate::traces;
use crate::who::{self, Who};
use crate::{http2, tunnel};
use bytes::Bytes;
use http::Method;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mainstay_telemetry::traceparent::{SAMPLED, TraceParent};
use mainstay_telemetry::{Cut, MethodCode, Names, Verdict};
use std::borrow::Cow;
use std::cell::Cell;
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
    mut head: Box<RequestHead>,
    body: Body,
) -> Answer {
    let (mut finish, mut facts) = begin(&core, &conn, deadline, &head);
    let snapshot = core.snapshot();
    // Before what a proxy told is put elsewhere.
    facts.from_here = from_here(&conn, &head);
    let decided = snapshot.respond.decides_hsts();
    let hsts = if conn.peer.tls && !decided { snapshot.https.hsts(true, &host(&head)) } else { None };
    snapshot.forwarded.adopt(&mut head.fields, &conn.peer, &snapshot.trusted);
    facts.plan = Plan::new(&snapshot.respond, &conn.peer, &head);
    let passed = gates(&core, &conn, &snapshot, &mut facts, &mut finish, head, body).await;
    if let Ok(Passed::Stored(_) | Passed::File(..)) = passed {
        // These are anybody's.
        facts.renewed = None;
    }
    let (mut answer, ours) = match passed {
        Ok(Passed::Upstream(sent, learn, landing)) => {
            (pass_on(&core, &snapshot, finish, sent, learn, landing).await, false)
        }
        Ok(Passed::Stored(given)) => (stored(given, finish), false),
        Ok(Passed::Own(head, body)) => (own(head, body, &facts, finish), true),
        Ok(Passed::Tunnel(sent, stream)) => (open_tunnel(&core, &snapshot, sent, stream, finish), false),
        Ok(Passed::File(head, sent)) => (from_folder(head, sent, finish), false),
        Err(stop) => (refuse(stop, &facts, finish), true),
    };
    if let Some(hsts) = hsts
        && !answer.head.fields.has(Name::Hsts)
    {
        answer.head.fields.add(Name::Hsts, hsts.as_bytes());
    }
    if let Some(limited) = facts.limited.take() {
        limited.end(&core, &snapshot.rate, &mut answer);
    }
    session::renew(facts.renewed.as_deref(), &mut answer.head);
    facts.plan.apply(&core, &snapshot.respond, &mut answer, ours);
    answer
}

/// What was read of a request's head, once.
#[derive(Debug, Default)]
pub struct Facts {
    to_head: bool,
    /// A browser opens an address: refusals are pages.
    page: bool,
    trace_flags: u8,
    /// The peer is this machine, and nobody stands between.
    from_here: bool,
    /// What is done to the answer.
    plan: Plan,
    /// Fields of the input that broke its schema.
    problem: Option<Box<Problem>>,
    /// The limits it counted for.
    limited: Option<Box<Limited>>,
    /// What is left of its time for shared state.
    allowance: Allowance,
    /// The cookie of a session that lives on.
    renewed: Option<String>,
}

/// How a request came through the gates.
enum Passed {
    /// The app's answer; `true`: it may name a Socket.IO session. With what the cache has to do with it.
    Upstream(Sent, bool, Option<Box<Landing>>),
    /// Out of the cache.
    Stored(Given),
    Own(Box<ResponseHead>, Bytes),
    File(Box<ResponseHead>, file::Sent),
    /// With the stream it was asked for on, where that is one of HTTP/2.
    Tunnel(Sent, Option<OnUpgrade>),
}

/// The gates, in order. Each refuses with a code and the place of the rule that decided.
async fn gates(
    core: &Rc<Core>,
    conn: &Rc<Conn>,
    snapshot: &Arc<Snapshot>,
    facts: &mut Facts,
    finish: &mut Finish,
    mut head: Box<RequestHead>,
    body: Body,
) -> Result<Passed, Refusal> {
    well_formed(&head, snapshot)?;
    let client = admitted(core, conn, snapshot, finish, &head)?;
    let gate = route(snapshot, &head)?;
    gate.note(finish);
    let at_once = to_https(snapshot, conn, &gate, &head);
    let is_page = gate.ours == Ours::Pages;
    if let Some(answer) = at_once.or_else(|| facts.plan.route(&snapshot.respond, gate.respond.take(), &head, is_page)) {
        return Ok(Passed::Own(answer, Bytes::new()));
    }
    let place = Place { core, conn, snapshot, gate: &gate, client };
    let who = within_limits(&place, facts, finish, &mut head, &body).await?;
    body_size(&body, &gate.settings)?;
    if matches!(gate.ours, Ours::Service | Ours::Pages) {
        for_operators(snapshot, &gate, &head, facts.from_here)?;
        return Box::pin(by_a_service(&place, &who, head, body, finish)).await;
    }
    let asks = Asks::new(snapshot, &gate, &head, facts.from_here);
    if (asks.before || gate.files.is_some())
        && let Some(passed) = Box::pin(without_the_app(core, client, &asks, gate.files, facts, &head)).await?
    {
        return Ok(passed);
    }
    let served = gate.served.ok_or(Verdict::NoRoute)?;
    let engine = affinity::query(head.query());
    let preferred = engine.session().and_then(|sid| core.shared.affinity.find(sid, core.now_ms()));
    let (learn, ordinary) = (engine == Query::Handshake, engine == Query::Other);
    let sticking = sticky::begin(core, snapshot, served, &conn.peer, &mut head.fields);
    let preferred = preferred.or_else(|| sticking.as_ref()?.slot(served));
    let ask = asks.after_the_app(client, &head);
    let job = Job { core, served, settings: gate.settings, client, preferred, pause: snapshot.timeouts.body };
    let (body, stream) = upgrading(checked(core, snapshot, &gate, facts, finish, (&head, body)).await?);
    let upgrade = stream.is_some() || conn.http1.is_some() && body.framing() == Framing::Absent && is_upgrade(&head);
    let plain = gate.ours == Ours::No && ordinary && !upgrade && body.framing() == Framing::Absent;
    let recognised = who.session().is_some();
    let seeking = cache::Ask { core, conn, snapshot, rule: gate.settings.cache, head: &head, plain, recognised };
    let turn = match from_cache(&seeking, finish).await? {
        Ok(given) => {
            core.heads.release_request(head);
            return Ok(Passed::Stored(given));
        }
        Err(turn) => turn,
    };
    let mut outgoing = outgoing(&job, conn, facts, finish, (head, body), upgrade).await?;
    snapshot.forwarded.write(&mut outgoing.head.fields, &conn.peer, client);
    snapshot.identity.tell(core, who.known.as_ref(), &served.app.name, &mut outgoing.head.fields);
    let came = ask_app(&job, snapshot, finish, turn, &mut outgoing).await;
    core.heads.release_request(outgoing.head);
    let (sent, landing) = match came? {
        Came::Stored(given) => return Ok(Passed::Stored(given)),
        Came::Sent(mut sent, landing) => {
            // After the cache has looked at it: this cookie is the client's alone.
            sticky::end(sticking.as_ref(), core, snapshot, served, &mut sent);
            (sent, landing)
        }
    };
    if sent.head.status == 101 {
        return Ok(Passed::Tunnel(sent, stream));
    }
    no_tunnel(&sent, stream.as_ref())?;
    offered(core, ask, sent, (learn, landing)).await
}

/// Gate: where nobody is recognised, pages of operators are for the browser of who sits at this machine. A page of
/// somebody else's that made a name of its own stand for this machine comes by that name; one that asks from within
/// says so; and proxies that add nothing to a request are asked by another name, or speak as of old.
fn for_operators(snapshot: &Snapshot, gate: &Gate<'_>, head: &RequestHead, from_here: bool) -> Result<(), Refusal> {
    const PROXIED: [&str; 5] = ["via", "cf-connecting-ip", "true-client-ip", "x-client-ip", "x-forwarded-server"];
    let is_here = || {
        let fields = &head.fields;
        let goes_there =
            || fields.find("sec-fetch-mode") == Some(b"navigate") && fields.find("sec-fetch-dest") == Some(b"document");
        from_here
            && matches!(&*host(head), "localhost" | "127.0.0.1" | "[::1]")
            && head.version != Version::Http10
            && !PROXIED.iter().any(|name| fields.has_named(name.as_bytes()))
            && (!matches!(fields.find("sec-fetch-site"), Some(b"cross-site" | b"same-site")) || goes_there())
    };
    match gate.ours == Ours::Pages && !snapshot.identity.is_on() && !is_here() {
        // As if nothing were there.
        true => Err(Verdict::NoRoute.into()),
        false => Ok(()),
    }
}

/// What a service of this process answers.
async fn by_a_service(
    place: &Place<'_>,
    who: &Who,
    head: Box<RequestHead>,
    body: Body,
    finish: &mut Finish,
) -> Result<Passed, Refusal> {
    let pause = place.snapshot.timeouts.body;
    let known = service_call::Known { conn: place.conn, client: place.client, who, pause };
    let (head, body) = service_call::put(place.core, &known, head, body, finish).await?;
    Ok(Passed::Own(head, body))
}

/// Where a request is, on its way through the gates.
struct Place<'a> {
    core: &'a Rc<Core>,
    conn: &'a Rc<Conn>,
    snapshot: &'a Arc<Snapshot>,
    gate: &'a Gate<'a>,
    client: IpAddr,
}

/// Gate: limits of addresses, who asks and whether he may, limits of whoever he is.
async fn within_limits(
    place: &Place<'_>,
    facts: &mut Facts,
    finish: &mut Finish,
    head: &mut RequestHead,
    body: &Body,
) -> Result<Who, Refusal> {
    let Place { core, conn, snapshot, gate, client } = *place;
    let limits = gate.limits.take();
    if !limits.is_empty() {
        let arrived = limit::Arrived { core, conn, snapshot, gate, client, head, body };
        limit::before_identity(&arrived, limits, &mut facts.limited)?;
    }
    let asked = gate.wanted(&facts.plan);
    let who = who::gate(core, conn, snapshot, &asked, (head, &mut facts.allowance), finish).await;
    if let Some(limited) = &mut facts.limited {
        // Before what the guard says: guesses at a login are refused as limits, and count.
        let whom = who.as_ref().ok().and_then(Who::identity).map(limit::who).unwrap_or_default();
        limit::after_identity((core, &snapshot.rate), &whom, limited, &mut facts.allowance).await?;
    }
    let mut who = who?;
    facts.renewed = who.take_renewed();
    Ok(who)
}

/// A document of ours, where the app has none.
async fn offered(
    core: &Rc<Core>,
    ask: Option<Question>,
    sent: Sent,
    (learn, landing): (bool, Option<Box<Landing>>),
) -> Result<Passed, Refusal> {
    if sent.head.status == 404
        && let Some(ask) = ask
        && let Some((head, body)) = Box::pin(put(core, ask)).await?
    {
        return Ok(Passed::Own(head, body));
    }
    Ok(Passed::Upstream(sent, learn, landing))
}

/// To `CONNECT` a 2xx would mean that there is one (RFC 8441 §5).
fn no_tunnel(sent: &Sent, stream: Option<&OnUpgrade>) -> Result<(), Refusal> {
    match stream {
        Some(_) if (200..300).contains(&sent.head.status) => Err(Verdict::UpstreamInvalid.into()),
        _ => Ok(()),
    }
}

/// What is answered before the app is asked: documents of ours, and files.
async fn without_the_app(
    core: &Rc<Core>,
    client: IpAddr,
    asks: &Asks,
    files: Option<&Files>,
    facts: &Facts,
    head: &RequestHead,
) -> Result<Option<Passed>, Refusal> {
    if asks.before
        && let Some((head, body)) = asks.before_the_app(core, client, head).await?
    {
        return Ok(Some(Passed::Own(head, body)));
    }
    let Some(files) = files else { return Ok(None) };
    let found = file::serve(core, files, head, facts.page).await?;
    Ok(found.map(|(head, sent)| Passed::File(head, sent)))
}

/// Gate: input that breaks a schema never meets the app.
async fn checked(
    core: &Core,
    snapshot: &Snapshot,
    gate: &Gate<'_>,
    facts: &mut Facts,
    finish: &mut Finish,
    (head, body): (&RequestHead, Body),
) -> Result<Body, Refusal> {
    if gate.input.is_empty() {
        return Ok(body);
    }
    let limit = snapshot.checked_body(&gate.settings);
    let (all, rules, pause) = (&snapshot.input, &gate.input[..], snapshot.timeouts.body);
    let asked = input::Asked { core, all, rules, head, ambiguous: gate.ambiguous, limit, pause };
    Box::pin(input::check(&asked, body, finish, &mut facts.problem)).await
}

/// Gate: whoever is banned is sent away. Gives the client's address.
fn admitted(
    core: &Core,
    conn: &Conn,
    snapshot: &Snapshot,
    finish: &mut Finish,
    head: &RequestHead,
) -> Result<IpAddr, Refusal> {
    let client = headers::client(&head.fields, &conn.peer, &snapshot.trusted);
    if !conn.peer.is_trusted && head.fields.has_any(&[Name::ForwardedFor, Name::Forwarded, Name::RealIp]) {
        core.shared.unnamed.seen(conn.peer.address);
    }
    finish.note(|r| {
        r.client = client;
        if conn.peer.is_trusted && client != conn.peer.address {
            r.trusted_by = snapshot.trusted_by(conn.peer.address);
        }
    });
    match core.shared.bans.is_banned(client, core.now_ms()) {
        true => Err(Refusal { rule: snapshot.rules.bans, ..Verdict::Banned.into() }),
        false => Ok(client),
    }
}

/// Asks the app; the cache, where it is concerned, sees what comes.
async fn ask_app(
    job: &Job<'_>,
    snapshot: &Snapshot,
    finish: &mut Finish,
    turn: Option<Box<Turn>>,
    outgoing: &mut Outgoing,
) -> Result<Came, Refusal> {
    match turn {
        None => proxy::forward(job, finish, outgoing).await.map(|sent| Came::Sent(sent, None)),
        Some(turn) => Box::pin(turn.forward(job, snapshot, finish, outgoing)).await,
    }
}

/// Gate: the cache. What is stored is the answer; else who asks the app for it, if that concerns the cache at all.
async fn from_cache(
    seeking: &cache::Ask<'_>,
    finish: &mut Finish,
) -> Result<Result<Given, Option<Box<Turn>>>, Refusal> {
    let mut step = seeking.look(finish);
    if let Step::Wait(waiting) = step {
        step = Box::pin(seeking.wait(finish, waiting)).await;
    }
    match step {
        Step::Pass | Step::Wait(_) => Ok(Err(None)),
        Step::Ask(turn) => Ok(Err(Some(turn))),
        Step::Answer(given) => Ok(Ok(given)),
        Step::Refuse(verdict) => Err(verdict.into()),
    }
}

/// Writes down what is known at the start.
pub fn begin(core: &Rc<Core>, conn: &Rc<Conn>, deadline: Deadline, head: &RequestHead) -> (Finish, Facts) {
    let started_us = core.tick();
    let mut record = core.record();
    record.started_unix_us = core.unix_us(started_us);
    record.id = core.request_id(record.started_unix_us);
    record.method = method_code(&head.method);
    record.version = match head.version {
        Version::Http2 => 20,
        Version::Http10 => 10,
        Version::Http11 => 11,
    };
    record.tls = conn.peer.tls;
    record.peer = conn.peer.address;
    record.client = conn.peer.address;
    record.path = Cut::new(head.path());
    let (mut parent, mut fetch_mode, mut accept) = (None, None, None);
    for (name, value) in head.fields.iter_known() {
        let text = || std::str::from_utf8(value).unwrap_or("");
        match name {
            Name::UserAgent => record.agent = Cut::new(text()),
            Name::XRequestId => record.client_request_id = Cut::new(text()),
            Name::Traceparent => parent = TraceParent::parse(value),
            Name::SecFetchMode => fetch_mode = Some(value),
            Name::Accept => accept = Some(value),
            _ => {}
        }
    }
    let (trace_id, span_id) = core.trace_and_span();
    record.span_id = span_id;
    match &parent {
        Some(parent) => (record.trace_id, record.parent_id) = (parent.trace_id, parent.parent_id),
        None => record.trace_id = trace_id,
    }
    let facts = Facts {
        to_head: head.method == Method::HEAD,
        page: refusal::wants_page(fetch_mode, accept),
        trace_flags: parent.map_or(SAMPLED, |p| p.flags),
        from_here: false,
        plan: Plan::default(),
        problem: None,
        limited: None,
        allowance: Allowance::default(),
        renewed: None,
    };
    // From here on the end gives back what this takes.
    conn.begin();
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

/// Gate: a target, exactly one host, no CONNECT, heads within their limit.
fn well_formed(head: &RequestHead, snapshot: &Snapshot) -> Result<(), Refusal> {
    if head.target().is_empty() {
        return Err(Verdict::MalformedRequest.into());
    }
    if head.method == Method::CONNECT {
        return Err(Verdict::MethodNotSupported.into());
    }
    if head.version == Version::Http2 && http2::is_malformed(head) {
        return Err(Verdict::MalformedRequest.into());
    }
    let named = head.fields.get(Name::Host).is_none_or(is_host);
    match head.fields.count(Name::Host) {
        0 if head.version == Version::Http11 && head.authority.is_none() => return Err(Verdict::MissingHost.into()),
        0 | 1 if named && is_host(head.host().as_bytes()) => {}
        0 | 1 => return Err(Verdict::MalformedRequest.into()),
        _ => return Err(Verdict::RepeatedHost.into()),
    }
    if head.fields.size() > snapshot.limits.header {
        return Err(Refusal { rule: snapshot.rules.header, ..Verdict::HeaderTooLarge.into() });
    }
    Ok(())
}

fn is_host(host: &[u8]) -> bool {
    host.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_' | b'%'))
}

/// The stream of a request that asks for a tunnel in place of a body.
fn upgrading(body: Body) -> (Body, Option<OnUpgrade>) {
    match body {
        Body::Upgrade(stream) => (Body::Absent, Some(stream)),
        other => (other, None),
    }
}

/// Gate: what came in plain and belongs on TLS is sent there.
fn to_https(snapshot: &Snapshot, conn: &Conn, gate: &Gate<'_>, head: &RequestHead) -> Option<Box<ResponseHead>> {
    if conn.peer.tls || !snapshot.https.is_on() {
        return None;
    }
    let to = snapshot.https.redirect(&Arrived {
        tls: false,
        forwarded_https: https::is_forwarded(&head.fields),
        host: &host(head),
        ours: gate.ours,
        target: head.target(),
    })?;
    Some(https::response(&to))
}

/// What routing says about a request.
pub struct Gate<'a> {
    pub served: Option<&'a Served>,
    pub settings: Settings,
    pub ours: Ours,
    pub health: bool,
    files: Option<&'a Files>,
    /// Entries of `Snapshot::respond` that speak about the answer.
    respond: Cell<Vec<u16>>,
    /// What the input must keep.
    input: Vec<&'a crate::input::Rule>,
    ambiguous: bool,
    /// Entries of `Snapshot::rate` that count this request.
    limits: Cell<Vec<u16>>,
    /// Entries of `Snapshot::identity` that say who may come.
    guards: Vec<u16>,
    /// What a write by cookie must bring.
    csrf: Option<csrf::Rule>,
}

impl Gate<'_> {
    fn wanted(&self, plan: &Plan) -> who::Wanted<'_> {
        who::Wanted { guards: &self.guards, csrf: self.csrf, ours: self.ours, trusts_page: plan.trusts_page() }
    }

    fn note(&self, finish: &mut Finish) {
        finish.note(|r| {
            r.route = self.settings.route;
            r.app = self.served.map_or(0, |s| s.group.id);
            r.health = self.health;
        });
    }
}

/// Gate: which app, which settings. The path is compared in its canonical form; the app gets the original.
pub fn route<'a>(snapshot: &'a Snapshot, head: &RequestHead) -> Result<Gate<'a>, Refusal> {
    let path = canonical(head.path());
    let host = if snapshot.by_host { host(head) } else { Cow::Borrowed("") };
    let method = head.method.as_str();
    let ours = snapshot.ours(&path.path);
    if path.ambiguous {
        let ours =
            readings(head.path()).iter().any(|r| matches!(snapshot.ours(r), Ours::Alone | Ours::Service | Ours::Pages));
        let divided = snapshot.divided(method, &host, &path.path, head.path());
        if let Some(rule) = divided.or(ours.then_some(Names::NONE)) {
            return Err(Refusal { rule, ..Verdict::AmbiguousPath.into() });
        }
    }
    Ok(Gate {
        served: snapshot.app(method, &host, &path.path),
        settings: snapshot.settings(method, &host, &path.path),
        ours,
        health: ours != Ours::No && local::is_health(&path.path),
        files: snapshot.files(method, &host, &path.path),
        respond: Cell::new(snapshot.respond.matching(method, &host, &path.path)),
        input: snapshot.inputs(method, &host, &path.path),
        ambiguous: path.ambiguous,
        limits: Cell::new(snapshot.rate.matching(method, &host, &path.path)),
        guards: snapshot.identity.matching(head, &host, &path.path, ours),
        csrf: snapshot.csrf.matching(method, &host, &path.path),
    })
}

/// What would hold for this request if it had another method.
pub fn settings_of(snapshot: &Snapshot, method: &str, head: &RequestHead) -> Settings {
    snapshot.settings(method, &host(head), &canonical(head.path()).path)
}

/// The host asked for, in lower case and without its port.
fn host(head: &RequestHead) -> Cow<'_, str> {
    let text = head.host();
    let name = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => &text[..colon],
        _ => text,
    };
    // The root's dot names the same host.
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// Gate: an announced body within the limit. A body without a length is counted as it passes.
fn body_size(body: &Body, settings: &Settings) -> Result<(), Refusal> {
    match (settings.body, body.framing()) {
        (Some(limit), Framing::Length(size)) if size > limit => {
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
    from_here: bool,
}

impl Asks {
    fn new(snapshot: &Snapshot, gate: &Gate<'_>, head: &RequestHead, from_here: bool) -> Asks {
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let nobody = gate.served.is_none_or(|s| s.group.list().upstreams.iter().all(|u| u.is_draining()));
        let (before, after, alone) = match (gate.ours, snapshot.offered) {
            (Ours::Alone, _) => (true, false, true),
            (Ours::Offered, Offered::Mainstay) if reads => (true, false, true),
            (Ours::Token, _) if reads => (true, false, false),
            (Ours::Offered, Offered::App) if reads => (nobody, !nobody, false),
            _ => (false, false, false),
        };
        Asks { before, after, alone, from_here }
    }

    async fn before_the_app(
        &self,
        core: &Core,
        client: IpAddr,
        head: &RequestHead,
    ) -> Result<Option<Document>, Refusal> {
        match put(core, question(client, head, self.from_here)).await? {
            None if self.alone => Err(Verdict::NoRoute.into()),
            answer => Ok(answer),
        }
    }

    fn after_the_app(&self, client: IpAddr, head: &RequestHead) -> Option<Question> {
        self.after.then(|| question(client, head, self.from_here))
    }
}

type Document = (Box<ResponseHead>, Bytes);
type Question = (Ask, tokio::sync::oneshot::Receiver<Reply>);

fn question(client: IpAddr, head: &RequestHead, from_here: bool) -> Question {
    let text = |name| head.fields.text_of(name).map(str::to_owned);
    let (answer, reply) = tokio::sync::oneshot::channel();
    let ask = Ask {
        path: canonical(head.path()).path.into_owned(),
        client,
        from_here,
        authorization: text(Name::Authorization),
        accept: text(Name::Accept),
        answer,
    };
    (ask, reply)
}

/// The peer is this machine, and nobody stands between.
fn from_here(conn: &Conn, head: &RequestHead) -> bool {
    conn.peer.address.is_loopback() && !head.fields.has_any(FORWARDING)
}

/// Puts a question to the control thread. `None`: nothing of ours is there for this caller.
async fn put(core: &Core, (ask, reply): Question) -> Result<Option<Document>, Refusal> {
    let busy = Refusal { retry_after: Some(1), ..Verdict::ServiceBusy.into() };
    core.shared.local.try_send(ask).map_err(|_| busy)?;
    match tokio::time::timeout(LOCAL_ANSWER_MAX, reply).await {
        Ok(Ok(Reply::Document { status, content_type, body })) => {
            let mut head = Box::new(ResponseHead::new(status));
            head.fields.add(Name::ContentType, content_type.as_bytes());
            head.fields.add(Name::CacheControl, b"no-store");
            Ok(Some((head, body)))
        }
        Ok(Ok(Reply::NotHere)) => Ok(None),
        Ok(Err(_)) | Err(_) => Err(busy),
    }
}

/// An upgrade we pass on. `h2c` is not: a tunnel in HTTP would walk round every gate.
fn is_upgrade(head: &RequestHead) -> bool {
    head.version == Version::Http11
        && headers::wants_upgrade(&head.fields)
        && !head.fields.has_token(Name::Upgrade, "h2c")
}

/// The request as upstreams will see it.
pub async fn outgoing(
    job: &Job<'_>,
    conn: &Conn,
    facts: &Facts,
    finish: &mut Finish,
    (mut head, body): (Box<RequestHead>, Body),
    upgrade: bool,
) -> Result<Outgoing, Refusal> {
    if conn.http1.is_none() {
        headers::join_cookies(&mut head.fields);
    }
    session::hide(job.core, &mut head.fields);
    headers::to_upstream(&mut head, &conn.peer, job.client, upgrade);
    let mut trace = TraceParent { trace_id: [0; 16], parent_id: [0; 8], flags: facts.trace_flags };
    finish.note(|r| (trace.trace_id, trace.parent_id) = (r.trace_id, r.span_id));
    finish.identify(&mut head.fields);
    head.fields.set(Name::Traceparent, &trace.format());
    framing::announce(&mut head.fields, body.framing());
    let key = head.fields.has(Name::IdempotencyKey);
    let repeatable = is_idempotent(&head.method) || key && job.settings.retry == Some(true);
    let body = match body {
        Body::Whole(bytes) if !bytes.is_empty() => {
            // It may have come without: in chunks, or over HTTP/2.
            head.fields.set(Name::ContentLength, bytes.len().to_string().as_bytes());
            return Ok(Outgoing { head, body: Held::Kept(bytes), upgrade, key });
        }
        body => body,
    };
    let body = match body.framing() {
        Framing::Absent => Held::Absent,
        Framing::Length(size) if repeatable && size <= KEPT_BODY_BYTES_MAX => Box::pin(keep(job, body, finish)).await?,
        _ => Held::Stream(Some(body)),
    };
    Ok(Outgoing { head, body, upgrade, key })
}

/// Reads a small body whole, so that it can be sent again.
async fn keep(job: &Job<'_>, mut body: Body, finish: &mut Finish) -> Result<Held, Refusal> {
    match tokio::time::timeout(job.pause, body.collect(job.core, KEPT_BODY_BYTES_MAX as usize)).await {
        Ok(Ok(bytes)) => {
            finish.note(|r| r.bytes_in = bytes.len() as u64);
            Ok(Held::Kept(bytes))
        }
        Ok(Err(Broken::Malformed)) => Err(Verdict::MalformedRequest.into()),
        Ok(Err(Broken::Gone)) => Err(Verdict::ClientGone.into()),
        Err(_) => Err(Verdict::RequestTimeout.into()),
    }
}

/// The app's answer, without what was between it and us, and the body that follows.
pub fn received(snapshot: &Snapshot, sent: Sent, finish: &mut Finish, learn: bool) -> (Box<ResponseHead>, Passing) {
    let Sent { mut head, source, in_flight } = sent;
    let elapsed = finish.elapsed_us();
    finish.note(|r| {
        r.status = head.status;
        r.upstream = in_flight.upstream().name;
        r.first_byte_us = u32::try_from(elapsed).unwrap_or(u32::MAX);
    });
    let keep = headers::keep_alive_timeout(&head.fields)
        .map_or(IDLE_DEFAULT, |s| Duration::from_secs(s.saturating_sub(KEEP_MARGIN_S)));
    headers::end_to_end(&mut head.fields, false);
    session::keep_apart(&mut head.fields);
    let passing = Passing { source, in_flight, keep, pause: snapshot.timeouts.response, learn, tap: None };
    (head, passing)
}

/// The app's answer, its body as it comes.
async fn pass_on(
    core: &Core,
    snapshot: &Snapshot,
    mut finish: Finish,
    sent: Sent,
    learn: bool,
    landing: Option<Box<Landing>>,
) -> Answer {
    let (mut head, mut passing) = received(snapshot, sent, &mut finish, learn);
    if let Some(landing) = landing {
        passing.collected_by(landing.land(core, &mut finish, &mut head));
    }
    finish.identify(&mut head.fields);
    if snapshot.hide_traces && head.status >= 500 {
        return Box::pin(without_trace(core, head, passing, finish)).await;
    }
    Answer::upstream(head, passing, finish)
}

/// A 5xx of the app: read whole where it is short, and replaced if it shows the inside.
async fn without_trace(core: &Core, mut head: Box<ResponseHead>, mut passing: Passing, mut finish: Finish) -> Answer {
    let max = traces::LOOKED_AT_BYTES_MAX;
    let announced = head.fields.get(Name::ContentLength).and_then(crate::http1::framing::length);
    if passing.source.is_ended() || announced.is_some_and(|n| n > max) {
        return Answer::upstream(head, passing, finish);
    }
    let Some(body) = passing.collect(core, max as usize, &mut finish).await else {
        return refuse(Verdict::UpstreamCut.into(), &Facts::default(), finish);
    };
    passing.end(&finish);
    // Counted again when it is sent.
    finish.note(|r| r.bytes_out = 0);
    if !traces::holds_trace(&body) {
        return Answer::full(head, body.into(), false, finish);
    }
    tracing::error!(
        request_id = %finish.id(),
        body = %String::from_utf8_lossy(&body),
        "the app's error page showed a stack trace; the client got a plain error"
    );
    let (_, plain) = refusal::response(Verdict::Internal, finish.id(), false, None);
    head.fields.remove(Name::ContentEncoding);
    head.fields.set(Name::ContentType, b"application/problem+json");
    Answer::full(head, plain, false, finish)
}

fn stored(given: Given, mut finish: Finish) -> Answer {
    let Given { mut head, body } = given;
    finish.note(|r| r.status = head.status);
    finish.identify(&mut head.fields);
    Answer::stored(head, body, finish)
}

fn own(mut head: Box<ResponseHead>, body: Bytes, facts: &Facts, mut finish: Finish) -> Answer {
    finish.note(|r| r.status = head.status);
    finish.identify(&mut head.fields);
    Answer::full(head, body, facts.to_head, finish)
}

fn from_folder(mut head: Box<ResponseHead>, sent: file::Sent, mut finish: Finish) -> Answer {
    finish.note(|r| r.status = head.status);
    finish.identify(&mut head.fields);
    Answer::file(head, sent, finish)
}

fn refuse(stop: Refusal, facts: &Facts, mut finish: Finish) -> Answer {
    finish.note(|r| (r.verdict, r.rule) = (stop.verdict, stop.rule));
    let (id, fields) = (finish.id(), facts.problem.as_deref());
    let (head, body) = refusal::with_fields(stop.verdict, id, facts.page, stop.retry_after, fields);
    let mut answer = own(head, body, facts, finish);
    // The rest of the request is not read, or what follows it may have been meant otherwise: behind a CONNECT, bytes
    // of a tunnel; behind what is no request, anything.
    answer.close = matches!(
        stop.verdict,
        Verdict::BodyTooLarge
            | Verdict::RequestTimeout
            | Verdict::HeaderTooLarge
            | Verdict::Banned
            | Verdict::MethodNotSupported
            | Verdict::MalformedRequest
            | Verdict::MissingHost
            | Verdict::RepeatedHost
    );
    answer
}

fn open_tunnel(
    core: &Rc<Core>,
    snapshot: &Snapshot,
    sent: Sent,
    stream: Option<OnUpgrade>,
    mut finish: Finish,
) -> Answer {
    let Sent { mut head, source, in_flight } = sent;
    let Source::Http1 { connection, .. } = source else {
        return refuse(Verdict::UpstreamInvalid.into(), &Facts::default(), finish);
    };
    let socket = head.fields.get(Name::Upgrade).is_some_and(|p| p.eq_ignore_ascii_case(b"websocket"));
    headers::end_to_end(&mut head.fields, true);
    session::keep_apart(&mut head.fields);
    finish.identify(&mut head.fields);
    let elapsed = finish.elapsed_us();
    finish.note(|r| {
        r.status = head.status;
        r.upstream = in_flight.upstream().name;
        r.first_byte_us = u32::try_from(elapsed).unwrap_or(u32::MAX);
    });
    let guard = in_flight.upstream().tunnel(socket);
    let opened = Opened { connection, guard, idle: snapshot.timeouts.upgrade_idle, finish };
    let Some(stream) = stream else { return Answer::tunnel(head, opened) };
    http2::as_connect_answer(&mut head);
    let core = core.clone();
    tokio::task::spawn_local(async move {
        if let Ok(client) = stream.await {
            tunnel::run(&core, TokioIo::new(client), Buffer::default(), opened).await;
        }
    });
    Answer::bare(head)
}
