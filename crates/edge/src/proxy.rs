//! One request and the upstreams it is offered to, until one answers: choose, send, judge, hold.

use crate::balance::{choose, hash_bytes};
use crate::body::{Payload, Progress, Upload};
use crate::core::{Core, Finish};
use crate::headers::Rewrite;
use crate::members::List;
use crate::pool::{self, Connection};
use crate::retry::{TRIES_MORE_MAX, may_repeat};
use crate::snapshot::{Served, Settings};
use crate::upstream::{InFlight, Upstream};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use mainstay_telemetry::{Outcome, Try, Verdict};
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

/// How long a request waits for an instance to become ready.
pub const HOLD_MAX: Duration = Duration::from_secs(10);
/// Requests that may wait at once, over all cores; their bodies stay unread in the clients' sockets.
pub const HELD_REQUESTS_MAX: u32 = 1000;
/// A held request looks again this often, should nobody tell it.
const HOLD_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Upstreams one request may have failed at.
const FAILED_MAX: usize = 4;

/// Why a request is not answered by the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub verdict: Verdict,
    /// In `Names`: where the rule stands; `Names::NONE` for one that is built in.
    pub rule: u32,
    pub retry_after: Option<u32>,
}

impl From<Verdict> for Refusal {
    fn from(verdict: Verdict) -> Refusal {
        Refusal { verdict, rule: mainstay_telemetry::Names::NONE, retry_after: None }
    }
}

/// What is known about a request before it is sent.
#[derive(Debug)]
pub struct Job<'a> {
    pub core: &'a Rc<Core>,
    pub served: &'a Served,
    pub settings: Settings,
    pub client: IpAddr,
    /// The upstream that holds this client's session.
    pub preferred: Option<u32>,
    /// Longest pause of the client within its body.
    pub pause: Duration,
}

/// The request as upstreams will see it.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub method: Method,
    pub uri: Uri,
    /// As the client sent them, while `rewrite` is there.
    pub headers: HeaderMap,
    pub rewrite: Option<Rewrite<'a>>,
    pub body: Held,
    pub upgrade: bool,
    /// Carries an `Idempotency-Key`.
    pub key: bool,
}

/// A request's body before and between tries.
#[derive(Debug)]
pub enum Held {
    Absent,
    Kept(Bytes),
    /// `None` while, and after, it was on its way.
    Stream(Option<Incoming>, Rc<Progress>),
}

/// An upstream's answer.
#[derive(Debug)]
pub struct Sent {
    pub response: Response<Incoming>,
    pub connection: Connection,
    pub in_flight: InFlight,
}

/// How one try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Refused,
    ConnectTimeout,
    /// Died before the first byte of an answer; `sent` says whether the request may have arrived.
    Closed {
        sent: bool,
    },
    ResponseTimeout,
    Invalid,
    BodyTooLarge,
    ClientTimeout,
    ClientMalformed,
    ClientGone,
}

/// Upstreams that failed this request, and how the last one did.
#[derive(Debug, Default)]
struct Tried {
    slots: [u32; FAILED_MAX],
    count: usize,
    more: usize,
    last: Option<Failure>,
    status: bool,
}

/// Offers the request to upstreams until one answers.
pub async fn forward(job: &Job<'_>, finish: &mut Finish, mut out: Outgoing<'_>) -> Result<Sent, Refusal> {
    let kept = !matches!(out.body, Held::Stream(..));
    let repeat = may_repeat(&out.method, kept, out.key, job.settings.retry);
    job.core.budget.borrow_mut().request(job.core.now_ms());
    let mut tried = Tried::default();
    let mut hold = Hold::new(job);
    loop {
        let Some(in_flight) = pick(job, &tried) else {
            // A connection that died says little about the next one, where there is nobody else to ask.
            if tried.count > 0 && matches!(tried.last, Some(Failure::Closed { .. })) {
                tried.count = 0;
                continue;
            }
            if !hold.is_worthwhile(&tried) {
                return Err(refusal(tried.last, job));
            }
            Box::pin(hold.wait(finish)).await?;
            tried.count = 0;
            continue;
        };
        let upstream = in_flight.upstream().clone();
        let started = job.core.now_us();
        match attempt(job, finish, &upstream, &mut out, repeat).await {
            Ok((response, connection)) => {
                let status = response.status().as_u16();
                if !is_upstream_failure(status) {
                    upstream.succeeded();
                    return Ok(Sent { response, connection, in_flight });
                }
                upstream.failed(job.core.now_ms(), job.served.app.passive);
                tried.failed(upstream.slot);
                if !(repeat && tried.may_go_on(job) && pick(job, &tried).is_some()) {
                    return Ok(Sent { response, connection, in_flight });
                }
                tried.status = true;
                note(finish, job, &upstream, Outcome::answered(status), started);
            }
            Err(failure) => {
                if !failure.is_clients() {
                    note(finish, job, &upstream, failure.outcome(), started);
                }
                failure.count(&upstream, job);
                tried.failed(upstream.slot);
                tried.last = Some(failure);
                let again = match failure {
                    // A refusing child is restarting: asking it again is not a try.
                    Failure::Refused if upstream.supervised => true,
                    Failure::Refused | Failure::ConnectTimeout | Failure::Closed { sent: false } => {
                        tried.may_go_on(job)
                    }
                    Failure::Closed { sent: true } => repeat && tried.may_go_on(job),
                    Failure::ResponseTimeout => repeat && tried.may_go_on(job) && pick(job, &tried).is_some(),
                    _ => false,
                };
                if !again || out.body_is_gone() {
                    return Err(refusal(Some(failure), job));
                }
            }
        }
    }
}

fn is_upstream_failure(status: u16) -> bool {
    matches!(status, 502..=504)
}

impl Tried {
    fn failed(&mut self, slot: u32) {
        if self.count < FAILED_MAX && !self.has(slot) {
            self.slots[self.count] = slot;
            self.count += 1;
        }
    }

    fn has(&self, slot: u32) -> bool {
        self.slots[..self.count].contains(&slot)
    }

    /// Counts one more try if one may be made.
    fn may_go_on(&mut self, job: &Job<'_>) -> bool {
        if self.more >= TRIES_MORE_MAX || !job.core.budget.borrow_mut().repeat(job.core.now_ms()) {
            return false;
        }
        self.more += 1;
        true
    }
}

/// Chooses an upstream and counts the request in. `None` if none is there that has not failed this request.
fn pick(job: &Job<'_>, tried: &Tried) -> Option<InFlight> {
    let group = &job.served.group;
    let list = group.list();
    let now_ms = job.core.now_ms();
    if let Some(slot) = job.preferred
        && let Some(upstream) = list.upstreams.iter().find(|u| u.slot == slot)
        && !tried.has(slot)
        && upstream.candidate(now_ms).available
        && let Some(in_flight) = upstream.begin()
    {
        return Some(in_flight);
    }
    let lenient = mostly_out(&list, now_ms);
    let client = client_hash(job.client);
    // One that begins to drain between the choice and its count is passed over by the next round.
    for _ in 0..=list.upstreams.len() {
        let candidate = |i: usize| {
            let upstream: &Upstream = &list.upstreams[i];
            let mut candidate = upstream.candidate(now_ms);
            candidate.available =
                !tried.has(upstream.slot) && (candidate.available || lenient && !upstream.is_draining());
            candidate
        };
        let count = list.upstreams.len();
        let chosen = choose(job.served.app.balance, count, candidate, &list.schedule, group.next_turn(), client)?;
        if let Some(in_flight) = list.upstreams[chosen].begin() {
            return Some(in_flight);
        }
    }
    None
}

/// More than half are out, or all: then the fault is likelier ours or the network's, and all are asked. The last
/// one is never out.
pub fn mostly_out(list: &List, now_ms: u64) -> bool {
    let serving = list.upstreams.iter().filter(|u| !u.is_draining()).count();
    let out = list.upstreams.iter().filter(|u| !u.is_draining() && !u.candidate(now_ms).available).count();
    out == serving || out * 2 > serving
}

fn client_hash(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(v4) => hash_bytes(&v4.octets()),
        IpAddr::V6(v6) => hash_bytes(&v6.octets()[..8]),
    }
}

/// One try: a connection, the request, the head of the answer. A reused connection that turns out to be dead is
/// replaced by a fresh one, which is no further try.
async fn attempt(
    job: &Job<'_>,
    finish: &mut Finish,
    upstream: &Arc<Upstream>,
    out: &mut Outgoing<'_>,
    repeat: bool,
) -> Result<(Response<Incoming>, Connection), Failure> {
    if !out.upgrade {
        while let Some(mut connection) = job.core.pool.take(upstream, job.core.now_ms()) {
            // It was given back the moment its last body ended: its task may not have run since.
            if connection.sender.ready().await.is_err() {
                continue;
            }
            let started = job.core.now_us();
            match send(job, finish, &mut connection, out, repeat).await {
                Ok(response) => return Ok((response, connection)),
                Err(Failure::Closed { sent }) if !sent || repeat => {
                    note(finish, job, upstream, Outcome::Stale, started);
                }
                Err(failure) => return Err(failure),
            }
            break;
        }
    }
    let connected = if out.upgrade {
        Box::pin(pool::connect_upgradable(upstream, job.settings.connect)).await
    } else {
        Box::pin(pool::connect(upstream, job.settings.connect)).await
    };
    let mut connection = connected.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::Refused,
    })?;
    let response = send(job, finish, &mut connection, out, repeat).await?;
    Ok((response, connection))
}

/// Sends the request on this connection and waits for the head of the answer.
async fn send(
    job: &Job<'_>,
    finish: &mut Finish,
    connection: &mut Connection,
    out: &mut Outgoing<'_>,
    repeat: bool,
) -> Result<Response<Incoming>, Failure> {
    let request = out.request(job, finish, repeat)?;
    let deadline = finish.deadline();
    match (&out.body, job.settings.response) {
        (Held::Stream(..), _) | (_, None) => deadline.watch.clear(),
        (_, Some(limit)) => deadline.set(limit),
    }
    let mut answer = pin!(connection.sender.try_send_request(request));
    let answered = poll_fn(|cx| {
        if deadline.has_passed(cx) {
            return Poll::Ready(None);
        }
        answer.as_mut().poll(cx).map(Some)
    })
    .await;
    deadline.watch.forgive();
    let progress = match &out.body {
        Held::Stream(_, progress) => Some(progress.clone()),
        _ => None,
    };
    finish.note(|r| r.bytes_in = progress.as_ref().map_or(r.bytes_in, |p| p.bytes.get()));
    match answered {
        Some(Ok(response)) => Ok(response),
        Some(Err(mut error)) => {
            let unsent = error.take_message();
            let sent = unsent.is_none();
            if let Some(request) = unsent {
                out.take_back(request);
            }
            let error = error.into_error();
            Err(match progress {
                Some(p) if p.too_large.get() => Failure::BodyTooLarge,
                Some(p) if p.malformed.get() => Failure::ClientMalformed,
                Some(p) if p.broken.get() => Failure::ClientGone,
                _ if error.is_parse() => Failure::Invalid,
                _ => Failure::Closed { sent },
            })
        }
        None if progress.is_some_and(|p| !p.complete.get()) => Err(Failure::ClientTimeout),
        None => Err(Failure::ResponseTimeout),
    }
}

impl Outgoing<'_> {
    /// The request for one try. Headers are copied only where a further try is possible.
    fn request(&mut self, job: &Job<'_>, finish: &Finish, repeat: bool) -> Result<Request<Payload>, Failure> {
        let payload = match &mut self.body {
            Held::Absent => Payload::Empty,
            Held::Kept(bytes) => Payload::Kept(bytes.clone()),
            Held::Stream(incoming, progress) => Payload::Stream(Upload {
                incoming: incoming.take().ok_or(Failure::Closed { sent: true })?,
                left: job.settings.body.unwrap_or(u64::MAX),
                progress: progress.clone(),
                watch: finish.deadline().watch.clone(),
                now_ms: finish.deadline().now_ms.clone(),
                pause: job.pause,
                response: job.settings.response,
            }),
        };
        let mut request = Request::new(payload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let mut headers = if repeat { self.headers.clone() } else { std::mem::take(&mut self.headers) };
        if let Some(rewrite) = &self.rewrite {
            rewrite.apply(&mut headers);
        }
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// A request that was never written comes back whole, its headers rewritten already.
    fn take_back(&mut self, request: Request<Payload>) {
        let (parts, payload) = request.into_parts();
        self.headers = parts.headers;
        self.rewrite = None;
        if let (Held::Stream(incoming, _), Payload::Stream(upload)) = (&mut self.body, payload) {
            *incoming = Some(upload.incoming);
        }
    }

    fn body_is_gone(&self) -> bool {
        matches!(self.body, Held::Stream(None, _))
    }
}

impl Failure {
    /// The client's fault, not the upstream's.
    fn is_clients(self) -> bool {
        matches!(self, Failure::BodyTooLarge | Failure::ClientTimeout | Failure::ClientMalformed | Failure::ClientGone)
    }

    fn outcome(self) -> Outcome {
        match self {
            Failure::Refused => Outcome::Refused,
            Failure::ConnectTimeout => Outcome::ConnectTimeout,
            Failure::ResponseTimeout => Outcome::ResponseTimeout,
            Failure::Invalid => Outcome::Invalid,
            // A client's fault is never noted as a try.
            _ => Outcome::Closed,
        }
    }

    /// What it means for the upstream's health; a client's fault means nothing.
    fn count(self, upstream: &Upstream, job: &Job<'_>) {
        let now_ms = job.core.now_ms();
        match self {
            Failure::Refused if upstream.supervised => upstream.refused(now_ms, job.served.app.passive),
            _ if self.is_clients() => {}
            _ => {
                upstream.failed(now_ms, job.served.app.passive);
            }
        }
    }
}

fn refusal(failure: Option<Failure>, job: &Job<'_>) -> Refusal {
    let verdict = match failure {
        None => Verdict::NoInstance,
        Some(Failure::Refused) => Verdict::UpstreamRefused,
        Some(Failure::ConnectTimeout | Failure::ResponseTimeout) => Verdict::UpstreamTimeout,
        Some(Failure::Closed { .. }) => Verdict::UpstreamClosed,
        Some(Failure::Invalid) => Verdict::UpstreamInvalid,
        Some(Failure::BodyTooLarge) => Verdict::BodyTooLarge,
        Some(Failure::ClientTimeout) => Verdict::RequestTimeout,
        Some(Failure::ClientMalformed) => Verdict::MalformedRequest,
        Some(Failure::ClientGone) => Verdict::ClientGone,
    };
    let rule = match failure {
        Some(Failure::BodyTooLarge) => job.settings.body_rule,
        Some(Failure::ResponseTimeout) => job.settings.response_rule,
        _ => Refusal::from(verdict).rule,
    };
    Refusal { verdict, rule, retry_after: None }
}

/// Waiting for an instance while none is there.
struct Hold<'a> {
    job: &'a Job<'a>,
    since_ms: Option<u64>,
    place: Option<HeldPlace<'a>>,
}

struct HeldPlace<'a>(&'a Core);

impl Drop for HeldPlace<'_> {
    fn drop(&mut self) {
        self.0.shared.held.fetch_sub(1, Relaxed);
    }
}

impl<'a> Hold<'a> {
    fn new(job: &'a Job<'a>) -> Hold<'a> {
        Hold { job, since_ms: None, place: None }
    }

    /// Children come back, and names may resolve again; an address elsewhere that refused is not waited for.
    fn is_worthwhile(&self, tried: &Tried) -> bool {
        let ours = self.job.served.app.addresses.is_empty();
        let hopeless = matches!(tried.last, Some(Failure::ResponseTimeout)) || tried.status;
        !hopeless && (ours || tried.last.is_none())
    }

    async fn wait(&mut self, finish: &mut Finish) -> Result<(), Refusal> {
        let core = self.job.core;
        let now_ms = core.tick() / 1000;
        let since = *self.since_ms.get_or_insert(now_ms);
        if self.place.is_none() {
            if core.shared.held.fetch_add(1, Relaxed) >= HELD_REQUESTS_MAX {
                core.shared.held.fetch_sub(1, Relaxed);
                return Err(Refusal { retry_after: Some(1), ..Verdict::HoldFull.into() });
            }
            self.place = Some(HeldPlace(core));
        }
        let waited = now_ms.saturating_sub(since);
        finish.note(|r| r.held_ms = u16::try_from(waited).unwrap_or(u16::MAX));
        if u128::from(waited) >= HOLD_MAX.as_millis() {
            return Err(Refusal { retry_after: Some(5), ..Verdict::NoInstance.into() });
        }
        let _ = tokio::time::timeout(HOLD_LOOK_EVERY, self.job.served.group.changed.notified()).await;
        let waited = (core.tick() / 1000).saturating_sub(since);
        finish.note(|r| r.held_ms = u16::try_from(waited.max(1)).unwrap_or(u16::MAX));
        Ok(())
    }
}

fn note(finish: &mut Finish, job: &Job<'_>, upstream: &Upstream, outcome: Outcome, started_us: u64) {
    let took_ms = (job.core.tick().saturating_sub(started_us) / 1000).min(u64::from(u16::MAX)) as u16;
    finish.note(|r| {
        if let Some(free) = r.tries.iter_mut().find(|t| t.is_none()) {
            *free = Some(Try { upstream: upstream.name, outcome, millis: took_ms });
        }
    });
}
