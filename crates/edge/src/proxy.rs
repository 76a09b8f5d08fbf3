//! One request and the upstreams it is offered to, until one answers: choose, send, judge, hold.

use crate::balance::{choose, hash_bytes};
use crate::body::{Body, Flow, Progress, Source, Upload};
use crate::core::{Core, Finish};
use crate::http1::body::{Broken, Remaining};
use crate::http1::buffer::{Buffer, READ_BYTES};
use crate::http1::framing::Framing;
use crate::http1::head::{self, Parsed};
use crate::http2;
use crate::http2::upstream::{Payload, Streamed};
use crate::members::List;
use crate::message::{RequestHead, ResponseHead};
use crate::pool::{self, Connection};
use crate::retry::{KEPT_BODY_BYTES_MAX, TRIES_MORE_MAX, may_repeat};
use crate::snapshot::{Served, Settings};
use crate::upstream::{InFlight, Upstream};
use bytes::Bytes;
use http::Method;
use mainstay_telemetry::{Outcome, Try, Verdict};
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How long a request waits for an instance to become ready.
pub const HOLD_MAX: Duration = Duration::from_secs(10);
/// Requests that may wait at once, over all cores; their bodies stay unread in the clients' sockets.
pub const HELD_REQUESTS_MAX: u32 = 1000;
/// A held request looks again this often, should nobody tell it.
const HOLD_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Largest head of a response.
const RESPONSE_HEAD_BYTES_MAX: usize = 128 * 1024;
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
pub struct Outgoing {
    /// Rewritten: what is sent, word for word, at each try.
    pub head: Box<RequestHead>,
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
    /// `None` once something of it has gone.
    Stream(Option<Body>),
}

/// An upstream's answer.
#[derive(Debug)]
pub struct Sent {
    pub head: Box<ResponseHead>,
    pub source: Source,
    pub in_flight: InFlight,
}

/// The head of an answer, and what follows it.
type Answered = (Box<ResponseHead>, Source);

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
pub async fn forward(job: &Job<'_>, finish: &mut Finish, out: &mut Outgoing) -> Result<Sent, Refusal> {
    let kept = match &out.body {
        Held::Absent => true,
        // A larger one is here because it was checked.
        Held::Kept(bytes) => bytes.len() as u64 <= KEPT_BODY_BYTES_MAX,
        Held::Stream(_) => false,
    };
    let repeat = may_repeat(&out.head.method, kept, out.key, job.settings.retry);
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
        match attempt(job, finish, &upstream, out, repeat).await {
            Ok((head, source)) => {
                let status = head.status;
                if !is_upstream_failure(status) {
                    upstream.succeeded();
                    return Ok(Sent { head, source, in_flight });
                }
                upstream.failed(job.core.now_ms(), job.served.app.passive);
                tried.failed(upstream.slot);
                if !(repeat && tried.may_go_on(job) && pick(job, &tried).is_some()) {
                    return Ok(Sent { head, source, in_flight });
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
    out: &mut Outgoing,
    repeat: bool,
) -> Result<Answered, Failure> {
    if job.served.app.http2 && !out.upgrade {
        return Box::pin(stream(job, finish, upstream, out)).await;
    }
    // A tunnel takes its connection away: it gets a fresh one, and the pool keeps what it has.
    if !out.upgrade
        && let Some(connection) = job.core.pool.take(upstream, job.core.now_ms())
    {
        let started = job.core.now_us();
        match send(job, finish, connection, out).await {
            Ok(answered) => return Ok(answered),
            // What is no answer may be the rest of one before, that the app sent too much of.
            Err(Failure::Closed { sent: true } | Failure::Invalid) if repeat && !out.body_is_gone() => {
                note(finish, job, upstream, Outcome::Stale, started);
            }
            Err(Failure::Closed { sent: false }) if !out.body_is_gone() => {
                note(finish, job, upstream, Outcome::Stale, started);
            }
            Err(failure) => return Err(failure),
        }
    }
    let connected = Box::pin(pool::connect(upstream, job.settings.connect)).await;
    send(job, finish, connected.map_err(Failure::of_connect)?, out).await
}

/// One try over HTTP/2.
async fn stream(
    job: &Job<'_>,
    finish: &mut Finish,
    upstream: &Arc<Upstream>,
    out: &mut Outgoing,
) -> Result<Answered, Failure> {
    let connected = http2::upstream::connect(job.core, upstream, job.settings.connect).await;
    let mut sender = connected.map_err(Failure::of_connect)?;
    let deadline = finish.deadline();
    let progress: Rc<Progress> = Rc::default();
    let payload = match &mut out.body {
        Held::Absent => Payload::Kept(Bytes::new()),
        Held::Kept(bytes) => Payload::Kept(bytes.clone()),
        Held::Stream(body) => Payload::Stream(Box::new(Streamed {
            body: body.take().ok_or(Failure::Closed { sent: true })?,
            core: job.core.clone(),
            left: job.settings.body.unwrap_or(u64::MAX),
            progress: progress.clone(),
            watch: deadline.watch.clone(),
            pause: job.pause,
            response: job.settings.response,
        })),
    };
    match (&payload, job.settings.response) {
        (Payload::Stream(_), _) | (_, None) => deadline.watch.clear(),
        (_, Some(limit)) => deadline.set(limit),
    }
    let request = http2::upstream::request(&out.head, payload).map_err(|_| Failure::ClientMalformed)?;
    let mut answer = pin!(sender.try_send_request(request));
    let answered = poll_fn(|cx| match deadline.has_passed(cx) {
        true => Poll::Ready(None),
        false => answer.as_mut().poll(cx).map(Some),
    })
    .await;
    deadline.watch.forgive();
    if progress.bytes.get() > 0 {
        finish.note(|r| r.bytes_in = progress.bytes.get());
    }
    match answered {
        Some(Ok(response)) => {
            let (head, body) = http2::upstream::response(job.core, response);
            Ok((head, Source::Http2(body, false)))
        }
        Some(Err(mut error)) => {
            let unsent = error.take_message();
            let sent = unsent.is_none();
            if let Some(Payload::Stream(streamed)) = unsent.map(http::Request::into_body)
                && progress.state.get() == Flow::Unbegun
            {
                out.body = Held::Stream(Some(streamed.body));
            }
            Err(Failure::of_flow(progress.state.get()).unwrap_or(Failure::Closed { sent }))
        }
        None if progress.state.get() == Flow::Flowing => Err(Failure::ClientTimeout),
        None => Err(Failure::ResponseTimeout),
    }
}

/// A request on its way over one connection.
struct Exchange<'a> {
    core: &'a Core,
    connection: Connection,
    /// The head, and a small body.
    out: Buffer,
    /// Something of it has been written: it may have arrived.
    sent: bool,
    /// The upstream takes no more; it may still say why.
    deaf: bool,
    upload: Option<Upload>,
    head: Box<ResponseHead>,
    to_head: bool,
    upgrade: bool,
    seen: usize,
}

/// Sends the request on this connection and waits for the head of the answer.
async fn send(
    job: &Job<'_>,
    finish: &mut Finish,
    connection: Connection,
    out: &mut Outgoing,
) -> Result<Answered, Failure> {
    let deadline = finish.deadline();
    let mut exchange = Exchange::new(job, connection, out)?;
    match (&exchange.upload, job.settings.response) {
        (Some(_), _) | (_, None) => deadline.watch.clear(),
        (None, Some(limit)) => deadline.set(limit),
    }
    let answered = poll_fn(|cx| {
        if deadline.has_passed(cx) {
            let waits_for_client = exchange.upload.as_ref().is_some_and(|u| u.state == Flow::Flowing && !u.blocked);
            let failure = if waits_for_client { Failure::ClientTimeout } else { Failure::ResponseTimeout };
            return Poll::Ready(Err(failure));
        }
        exchange.poll(cx, &deadline.watch)
    })
    .await;
    deadline.watch.forgive();
    let Exchange { connection, upload, head, out: mut unsent, .. } = exchange;
    let whole = unsent.is_empty();
    job.core.buffers.discard(&mut unsent);
    if let Some(upload) = &upload {
        let bytes = upload.bytes;
        finish.note(|r| r.bytes_in = bytes);
    }
    match answered {
        Ok((remaining, keeps)) => {
            let upload = upload.filter(|u| u.state != Flow::Complete);
            Ok((head, Source::Http1 { connection, remaining, upload, reusable: keeps && whole }))
        }
        Err(failure) => {
            job.core.heads.release_response(head);
            if let Some(upload) = upload.filter(|u| u.state == Flow::Unbegun) {
                out.body = Held::Stream(Some(upload.into_body()));
            }
            Err(failure)
        }
    }
}

impl<'a> Exchange<'a> {
    fn new(job: &'a Job<'_>, connection: Connection, out: &mut Outgoing) -> Result<Exchange<'a>, Failure> {
        let core: &Core = job.core;
        let (framing, upload) = match &mut out.body {
            Held::Absent => (Framing::Absent, None),
            Held::Kept(bytes) => (Framing::Length(bytes.len() as u64), None),
            Held::Stream(body) => {
                let body = body.take().ok_or(Failure::Closed { sent: true })?;
                let framing = body.framing();
                (framing, Some(Upload::new(body, job.settings.body, job.pause, job.settings.response)))
            }
        };
        let mut text = core.text.borrow_mut();
        text.clear();
        head::write_request(&mut text, &out.head, framing);
        let mut buffer = Buffer::default();
        buffer.put(&text, &core.buffers);
        if let Held::Kept(bytes) = &out.body {
            buffer.put(bytes, &core.buffers);
        }
        Ok(Exchange {
            core,
            connection,
            out: buffer,
            sent: false,
            deaf: false,
            upload,
            head: core.heads.response(),
            to_head: out.head.method == Method::HEAD,
            upgrade: out.upgrade,
            seen: 0,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>, watch: &crate::watch::Watch) -> Poll<Result<(Remaining, bool), Failure>> {
        let written = self.poll_request(cx);
        if written
            && !self.deaf
            && let Some(upload) = &mut self.upload
            && upload.poll(cx, self.core, &mut self.connection.stream, watch).is_ready()
        {
            if let Some(failure) = Failure::of_flow(upload.state) {
                return Poll::Ready(Err(failure));
            }
            self.deaf |= upload.state == Flow::Upstream;
        }
        self.poll_head(cx)
    }

    /// True once the head, and a small body, have gone.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> bool {
        if self.out.is_empty() || self.deaf {
            return true;
        }
        let before = self.out.len();
        let written = self.out.poll_write(cx, &mut self.connection.stream, &self.core.buffers);
        self.sent |= self.out.len() < before;
        match written {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Remaining, bool), Failure>> {
        let Connection { stream, input, .. } = &mut self.connection;
        loop {
            if input.is_empty() {
                input.leave_headroom(&self.core.buffers);
            }
            match ready!(input.poll_read(cx, stream, READ_BYTES, &self.core.buffers)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Failure::Closed { sent: self.sent })),
                Ok(_) => {}
            }
            // Several heads may have come: words in between before the answer.
            while !input.is_empty() && (self.seen == 0 || head::may_be_whole(input.filled(), self.seen)) {
                match head::response(input.filled(), &mut self.head, self.to_head) {
                    Ok((Parsed::Partial, _)) => break,
                    Err(_) => return Poll::Ready(Err(Failure::Invalid)),
                    Ok((Parsed::Head(size, framing), keeps)) => {
                        input.consume(size);
                        self.core.buffers.release(input);
                        match self.head.status {
                            101 if self.upgrade => return Poll::Ready(Ok((Remaining::Nothing, false))),
                            // A 101 that nobody asked for would have the client wait for ever.
                            101 => return Poll::Ready(Err(Failure::Invalid)),
                            100..=199 => {
                                self.head.fields.clear();
                                self.seen = 0;
                            }
                            _ => return Poll::Ready(Ok((Remaining::new(framing), keeps))),
                        }
                    }
                }
            }
            self.seen = input.len();
            if self.seen > RESPONSE_HEAD_BYTES_MAX {
                return Poll::Ready(Err(Failure::Invalid));
            }
        }
    }
}

impl Outgoing {
    fn body_is_gone(&self) -> bool {
        matches!(self.body, Held::Stream(None))
    }
}

impl Failure {
    fn of_connect(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::TimedOut => Failure::ConnectTimeout,
            _ => Failure::Refused,
        }
    }

    /// What the client did wrong with its body, if anything.
    fn of_flow(state: Flow) -> Option<Failure> {
        match state {
            Flow::TooLarge => Some(Failure::BodyTooLarge),
            Flow::Client(Broken::Malformed) => Some(Failure::ClientMalformed),
            Flow::Client(Broken::Gone) => Some(Failure::ClientGone),
            Flow::Unbegun | Flow::Flowing | Flow::Ending | Flow::Complete | Flow::Upstream => None,
        }
    }

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
