//! Requests that a service of this process answers: read whole, sent to the service runtime over a bounded channel, and
//! answered with what comes back.
//!
//! A core never works for a service: what costs time, a password's hash, happens there, and what is too much is told to
//! come again.

use crate::body::Body;
use crate::core::{Conn, Core, Finish};
use crate::fields::Name;
use crate::http2;
use crate::input::check::collect;
use crate::message::{RequestHead, ResponseHead};
use crate::path::canonical;
use crate::proxy::Refusal;
use crate::respond;
use crate::who::Who;
use bytes::Bytes;
use mainstay_identity::exchange::{Answer, Asked, BODY_BYTES_MAX};
use mainstay_telemetry::Verdict;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Calls on their way to the service runtime, at most 64 KiB each.
const CALLS_MAX: usize = 256;
/// Longest wait for an answer: hashes of passwords queue for seconds, an OAuth provider may take as long.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Whoever found it full may come again so soon.
const AGAIN_S: u32 = 1;

/// One request, for the service runtime.
#[derive(Debug)]
pub struct Call {
    pub asked: Asked,
    answer: oneshot::Sender<Answer>,
}

impl Call {
    /// The client may be gone.
    pub fn answer(self, with: Answer) {
        let _ = self.answer.send(with);
    }

    /// The request, and where its answer goes.
    pub fn split(self) -> (Asked, oneshot::Sender<Answer>) {
        (self.asked, self.answer)
    }
}

pub type Sender = mpsc::Sender<Call>;
pub type Receiver = mpsc::Receiver<Call>;

pub fn channel() -> (Sender, Receiver) {
    mpsc::channel(CALLS_MAX)
}

/// What is known of a request beside its head.
#[derive(Debug)]
pub struct Known<'a> {
    pub conn: &'a Conn,
    pub client: IpAddr,
    pub who: &'a Who,
    /// Longest pause of the client within its body.
    pub pause: Duration,
}

/// The service's answer.
///
/// # Errors
/// A body that is too large or never comes; 503 when the service has enough to do.
pub async fn put(
    core: &Core,
    known: &Known<'_>,
    head: Box<RequestHead>,
    body: Body,
    finish: &mut Finish,
) -> Result<(Box<ResponseHead>, Bytes), Refusal> {
    let body = collect(core, body, BODY_BYTES_MAX as u64, known.pause, finish, || Verdict::BodyTooLarge.into()).await?;
    let (answer, answered) = oneshot::channel();
    let asked = asked(known, &head, body, finish);
    core.heads.release_request(head);
    let busy = Refusal { retry_after: Some(AGAIN_S), ..Verdict::ServiceBusy.into() };
    core.shared.calls.try_send(Call { asked, answer }).map_err(|_| busy)?;
    match tokio::time::timeout(ANSWER_MAX, answered).await {
        Ok(Ok(answer)) => Ok(document(&answer)),
        // Nobody works on it any more, or for too long.
        Ok(Err(_)) | Err(_) => Err(busy),
    }
}

fn asked(known: &Known<'_>, head: &RequestHead, body: Bytes, finish: &Finish) -> Asked {
    Asked {
        method: head.method.clone(),
        path: canonical(head.path()).path.into_owned(),
        query: head.query().map(str::to_owned),
        headers: http2::header_map(&head.fields),
        body,
        client: known.client,
        https: respond::is_https(&known.conn.peer, &head.fields),
        host: host(known.conn, head).to_owned(),
        request_id: finish.id().to_string(),
        identity: known.who.identity().map(|identity| identity.clone().into()),
        session: known.who.session().cloned(),
    }
}

/// The host a browser asked for, with its port: a proxy we believe may have asked us by another name.
pub fn host<'a>(conn: &Conn, head: &'a RequestHead) -> &'a str {
    let forwarded = head.fields.text_of(Name::ForwardedHost).filter(|_| conn.peer.is_trusted);
    forwarded.unwrap_or_else(|| head.host())
}

fn document(answer: &Answer) -> (Box<ResponseHead>, Bytes) {
    let mut head = Box::new(ResponseHead::new(answer.status.as_u16()));
    for (name, value) in &answer.headers {
        head.fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    (head, answer.body.clone())
}
