//! What became of jobs, handed to the app: those that completed, failed, stalled or are dead, in batches, to the path
//! that their queue names.
//!
//! Invariant: of one path a batch follows the one before, in the order things happened. While no instance takes them
//! they wait, so many at most; how many were lost is told with the next. Must never hold up a job.

use super::{AGAIN_AFTER, Desk, request};
use crate::event::{Event, What};
use crate::handle::Listening;
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
    /// One that was not taken, and goes before what waits.
    back: Option<Batch>,
    /// A batch is with the app.
    is_sending: bool,
    /// After one that was not taken.
    again: Option<(Instant, Duration)>,
}

/// What is sent together, under the same id each time.
#[derive(Clone, Debug, PartialEq)]
struct Batch {
    id: String,
    events: Vec<Event>,
    lost: u64,
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
    batch: Batch,
    end: End,
}

/// Until the end is asked for; then for as long as something waits, or it is dropped.
pub(super) async fn run(desk: Arc<Desk>, mut options: watch::Receiver<Arc<Options>>, end: Shutdown) {
    let mut paths = paths(&options.borrow_and_update());
    let mut events = Listening::default();
    events.while_wanted(|| desk.jobs.events(), !paths.is_empty());
    let mut books: BTreeMap<Arc<str>, Book> = BTreeMap::new();
    let mut sending = JoinSet::new();
    let mut is_ending = false;
    loop {
        if is_ending && events.is_empty() && books.values().all(Book::is_empty) {
            return;
        }
        let now = Instant::now();
        for (path, book) in &mut books {
            if let Some(batch) = book.next(now) {
                sending.spawn(send(desk.clone(), path.clone(), batch));
            }
        }
        let again = books.values().filter_map(Book::due).min();
        tokio::select! {
            () = end.requested(), if !is_ending => is_ending = true,
            Ok(()) = options.changed() => {
                paths = self::paths(&options.borrow_and_update());
                events.while_wanted(|| desk.jobs.events(), !paths.is_empty());
                books.retain(|path, _| paths.values().any(|known| known == path));
            }
            event = events.next() => match event {
                Ok(event) => {
                    if let Some(path) = paths.get(&event.queue).filter(|_| is_told(&event.what)) {
                        books.entry(path.clone()).or_default().push(event);
                    }
                }
                // Whose they were nobody knows any more.
                Err(RecvError::Lagged(lost)) => {
                    paths.values().for_each(|path| books.entry(path.clone()).or_default().lost += lost);
                }
                Err(RecvError::Closed) => return,
            },
            Some(ended) = sending.join_next() => {
                let sent = super::expected(ended);
                // The path may be nobody's any more.
                if let Some(sent) = sent
                    && let Some(book) = books.get_mut(&sent.path)
                {
                    book.ended(sent, Instant::now());
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

    fn is_empty(&self) -> bool {
        !self.is_sending && self.waiting.is_empty() && self.back.is_none()
    }

    /// When there is something to send that waits for its time.
    fn due(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at).filter(|_| !self.is_sending && !self.is_empty())
    }

    fn next(&mut self, now: Instant) -> Option<Batch> {
        if self.is_sending || self.is_empty() || self.again.is_some_and(|(at, _)| at > now) {
            return None;
        }
        self.is_sending = true;
        let fresh = |book: &mut Book| {
            let count = book.waiting.len().min(BATCH_MAX);
            let id = format!("events-{}", Process::unix_micros());
            Batch { id, events: book.waiting.drain(..count).collect(), lost: std::mem::take(&mut book.lost) }
        };
        Some(self.back.take().unwrap_or_else(|| fresh(self)))
    }

    fn ended(&mut self, sent: Sent, now: Instant) {
        self.is_sending = false;
        match sent.end {
            End::Taken => self.again = None,
            End::Refused(status) => {
                let count = sent.batch.events.len();
                tracing::warn!(path = &*sent.path, status, count, "the app refuses to hear of its jobs");
                (self.again, self.lost) = (None, self.lost + sent.batch.lost + count as u64);
            }
            End::NotNow(why) => {
                let wait = self.again.map_or(AGAIN_AFTER, |(_, wait)| (wait * 2).min(AGAIN_LIMIT));
                tracing::debug!(path = &*sent.path, why, "the app does not hear of its jobs; it is told again");
                self.again = Some((now + wait, wait));
                self.back = Some(sent.batch);
            }
        }
    }
}

async fn send(desk: Arc<Desk>, path: Arc<str>, batch: Batch) -> Sent {
    let end = match (desk.find)(&path) {
        None => End::NotNow("no instance of the app serves".to_owned()),
        Some(instance) => {
            let all: Vec<Value> = batch.events.iter().map(|event| desk.jobs.told(event)).collect();
            let body = json!({ "events": all, "lost": batch.lost }).to_string();
            let unix_s = Process::unix_micros() / 1_000_000;
            let signature = request::signature(&instance.key, &batch.id, unix_s, body.as_bytes());
            let request = Request::post(&*path)
                .header(HOST, instance.address.to_string())
                .header(USER_AGENT, "mainstay")
                .header(CONTENT_TYPE, "application/json")
                .header("webhook-id", &batch.id)
                .header("webhook-timestamp", unix_s)
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
    Sent { path, batch, end }
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
        let batch = book.next(now).expect("a batch");
        assert_eq!((batch.events.len(), batch.events[0].job, batch.lost), (BATCH_MAX, 5, 5));
        assert!(book.next(now).is_none(), "one at a time");
        (0..BATCH_MAX as u64 + 10).for_each(|job| book.push(event(100_000 + job)));
        book.ended(Sent { path: path.clone(), batch: batch.clone(), end: End::NotNow("503".to_owned()) }, now);
        assert!(book.next(now).is_none(), "not at once");
        let again = book.next(book.due().expect("a time")).expect("a batch");
        assert_eq!(again, batch, "the same, under the same id");
        book.ended(Sent { path, batch: again, end: End::Taken }, now);
        let next = book.next(now).expect("a batch");
        assert_eq!((next.events[0].job, next.lost), (515, 10), "the oldest gave way");
        assert_ne!(next.id, batch.id);
    }
}
