//! What became of jobs, handed to the app: those that completed, failed, stalled or are dead, in batches, to the path
//! that their queue names.
//!
//! Invariant: of one path a batch follows the one before, in the order things happened. While no instance takes them
//! they wait, so many at most; how many were lost is told with the next. Must never hold up a job.

use super::{AGAIN_AFTER, Desk, request};
use crate::event::{Event, What};
use crate::job::Name;
use crate::options::Options;
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::Full;
use mainstay_runtime::{Clock as Process, Shutdown};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Events of one request.
const BATCH_MAX: usize = 500;
/// Events of one path that wait.
const WAITING_MAX: usize = 10_000;
/// For an instance to take a batch.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const AGAIN_LIMIT: Duration = Duration::from_secs(5);

/// What waits for one path.
#[derive(Default)]
struct Book {
    waiting: VecDeque<Event>,
    lost: u64,
    /// A batch of it is with the app.
    is_sending: bool,
    /// After one that was not taken.
    again: Option<(Instant, Duration)>,
}

/// What became of a batch.
enum End {
    Taken,
    /// No further attempt would help.
    Refused(u16),
    NotNow(String),
}

struct Sent {
    path: Arc<str>,
    batch: Vec<Event>,
    lost: u64,
    end: End,
}

/// Until the end is asked for; then for as long as something waits, or it is dropped.
pub(super) async fn run(desk: Arc<Desk>, mut options: watch::Receiver<Arc<Options>>, end: Shutdown) {
    let mut events = desk.jobs.events();
    let mut paths = paths(&options.borrow_and_update());
    let mut books: BTreeMap<Arc<str>, Book> = BTreeMap::new();
    let mut sending = JoinSet::new();
    let mut is_ending = false;
    loop {
        if is_ending && events.is_empty() && books.values().all(|book| !book.is_sending && book.waiting.is_empty()) {
            return;
        }
        let now = Instant::now();
        for (path, book) in &mut books {
            if let Some((batch, lost)) = book.next(now) {
                sending.spawn(send(desk.clone(), path.clone(), batch, lost));
            }
        }
        let again = books.values().filter_map(Book::due).min();
        tokio::select! {
            () = end.requested(), if !is_ending => is_ending = true,
            Ok(()) = options.changed() => paths = self::paths(&options.borrow_and_update()),
            event = events.recv() => match event {
                Ok(event) => {
                    if let Some(path) = paths.get(&event.queue).filter(|_| is_told(&event.what)) {
                        books.entry(path.clone()).or_default().push(event);
                    }
                }
                Err(RecvError::Lagged(lost)) => books.values_mut().for_each(|book| book.lost += lost),
                Err(RecvError::Closed) => return,
            },
            Some(ended) = sending.join_next() => {
                let sent = super::expected(ended);
                if let Some(sent) = sent {
                    books.entry(sent.path.clone()).or_default().ended(sent, Instant::now());
                }
            }
            () = tokio::time::sleep_until(again.unwrap_or(now)), if again.is_some() => {}
        }
    }
}

/// Where each queue's are told.
fn paths(options: &Options) -> BTreeMap<Name, Arc<str>> {
    let told = options.queues.iter().filter_map(|queue| Some((queue.name.clone(), queue.events.as_ref()?)));
    told.map(|(name, push)| (name, push.path.as_str().into())).collect()
}

/// The guides' three, and what an operator has to look at.
fn is_told(what: &What) -> bool {
    matches!(what, What::Completed | What::Failed | What::Stalled | What::Dead)
}

impl Book {
    fn push(&mut self, event: Event) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(event);
    }

    /// When there is something to send that waits for its time.
    fn due(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at).filter(|_| !self.is_sending && !self.waiting.is_empty())
    }

    fn next(&mut self, now: Instant) -> Option<(Vec<Event>, u64)> {
        if self.is_sending || self.waiting.is_empty() || self.again.is_some_and(|(at, _)| at > now) {
            return None;
        }
        self.is_sending = true;
        let count = self.waiting.len().min(BATCH_MAX);
        Some((self.waiting.drain(..count).collect(), std::mem::take(&mut self.lost)))
    }

    fn ended(&mut self, sent: Sent, now: Instant) {
        self.is_sending = false;
        match sent.end {
            End::Taken => self.again = None,
            End::Refused(status) => {
                let count = sent.batch.len();
                tracing::warn!(path = &*sent.path, status, count, "the app refuses to hear of its jobs");
                (self.again, self.lost) = (None, self.lost + sent.lost + count as u64);
            }
            End::NotNow(why) => {
                let wait = self.again.map_or(AGAIN_AFTER, |(_, wait)| (wait * 2).min(AGAIN_LIMIT));
                tracing::debug!(path = &*sent.path, why, "the app does not hear of its jobs; it is told again");
                self.again = Some((now + wait, wait));
                self.lost += sent.lost;
                sent.batch.into_iter().rev().for_each(|event| self.waiting.push_front(event));
                while self.waiting.len() > WAITING_MAX {
                    self.waiting.pop_front();
                    self.lost += 1;
                }
            }
        }
    }
}

async fn send(desk: Arc<Desk>, path: Arc<str>, batch: Vec<Event>, lost: u64) -> Sent {
    let end = match (desk.find)(&path) {
        None => End::NotNow("no instance of the app serves".to_owned()),
        Some(instance) => {
            let all: Vec<Value> = batch.iter().map(told).collect();
            let body = json!({ "events": all, "lost": lost }).to_string();
            let unix_us = Process::unix_micros();
            let id = format!("events-{unix_us}");
            let signature = request::signature(&instance.key, &id, unix_us / 1_000_000, body.as_bytes());
            let request = Request::post(&*path)
                .header(HOST, instance.address.to_string())
                .header(USER_AGENT, "mainstay")
                .header(CONTENT_TYPE, "application/json")
                .header("webhook-id", &id)
                .header("webhook-timestamp", unix_us / 1_000_000)
                .header("webhook-signature", signature)
                .body(Full::new(Bytes::from(body)));
            match request {
                Err(error) => End::NotNow(error.to_string()),
                Ok(request) => {
                    let asking = desk.links.ask(instance.address, request);
                    judged(tokio::time::timeout(ANSWER_LIMIT, asking).await.ok())
                }
            }
        }
    };
    Sent { path, batch, lost, end }
}

fn judged(answer: Option<Result<super::Answer, super::Trouble>>) -> End {
    match answer {
        None => End::NotNow(format!("no answer within {ANSWER_LIMIT:?}")),
        Some(Err(trouble)) => End::NotNow(format!("{trouble:?}")),
        Some(Ok(answer)) => match answer.status.as_u16() {
            200..=299 => End::Taken,
            status @ (408 | 409 | 425 | 429 | 500..) => End::NotNow(status.to_string()),
            status => End::Refused(status),
        },
    }
}

/// As the stream of events has it.
fn told(event: &Event) -> Value {
    json!({ "queue": &*event.queue, "id": event.job, "atMs": event.at_ms, "event": event.what.as_str() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(job: u64) -> Event {
        Event { queue: "scan".into(), job, at_ms: 0, what: What::Completed }
    }

    #[test]
    fn order_holds_over_a_batch_that_was_not_taken_and_what_is_lost_is_counted() {
        let (mut book, now, path) = (Book::default(), Instant::now(), Arc::<str>::from("/told"));
        (0..WAITING_MAX as u64 + 5).for_each(|job| book.push(event(job)));
        let (batch, lost) = book.next(now).expect("a batch");
        assert_eq!((batch.len(), batch[0].job, lost), (BATCH_MAX, 5, 5));
        assert!(book.next(now).is_none(), "one at a time");
        (0..10).for_each(|job| book.push(event(100_000 + job)));
        book.ended(Sent { path: path.clone(), batch, lost, end: End::NotNow("503".to_owned()) }, now);
        assert!(book.next(now).is_none(), "not at once");
        let due = book.due().expect("a time");
        let (batch, lost) = book.next(due).expect("a batch");
        assert_eq!((batch[0].job, lost), (15, 15), "the oldest gave way");
        book.ended(Sent { path, batch, lost, end: End::Taken }, now);
        assert_eq!(book.next(now).map(|(batch, lost)| (batch[0].job, lost)), Some((515, 0)));
    }
}
