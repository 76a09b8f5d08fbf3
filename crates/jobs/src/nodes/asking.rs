//! The end of a node that stands by: its calls go out in batches, and what is answered goes to whoever waits for it.

use super::calls::{BATCH_BYTES_MAX, BATCH_MAX, End, Line};
use super::words::{Asked, Fault, Told, read, written};
use crate::error::Error;
use crate::event::Event;
use crate::job::Name;
use mainstay_store::Error as StoreError;
use mainstay_store::postgres::Options;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// Calls that wait to be sent.
const CALLS_MAX: usize = 1024;
/// For an answer, beyond what the call itself waits: a takeover fits into it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// For an answer in any case, where even what waits for it hangs.
const HUNG_LIMIT: Duration = Duration::from_secs(15);
/// So often a node that stands by shows that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// Between looks for replies, though nobody said that there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Behind a pooler nobody says so: the first look after a call, and the longest wait between two.
const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL_MOST: Duration = Duration::from_millis(100);

/// Events that somebody may be behind.
const EVENTS_MAX: usize = 16_384;

/// What happened on the node that decides, or how many events were lost on the way.
pub(crate) type Far = Result<Event, u64>;

/// The node that decides, as one that stands by reaches it.
pub(crate) struct Elsewhere {
    calls: mpsc::Sender<Call>,
    events: broadcast::Sender<Far>,
    /// Somebody has begun to listen.
    listens: Arc<Notify>,
}

/// What [`asking`] needs, once [`Elsewhere`] was made.
pub(crate) struct Calls {
    asked: mpsc::Receiver<Call>,
    events: broadcast::Sender<Far>,
    listens: Arc<Notify>,
}

struct Call {
    asked: Asked,
    /// Without it nobody wants to hear of it.
    answer: Option<oneshot::Sender<Result<Told, Error>>>,
}

/// A call that was sent.
struct Waiting {
    answer: oneshot::Sender<Result<Told, Error>>,
    until: Instant,
}

impl Elsewhere {
    pub fn new() -> (Elsewhere, Calls) {
        let (calls, asked) = mpsc::channel(CALLS_MAX);
        let (events, listens) = (broadcast::channel(EVENTS_MAX).0, Arc::<Notify>::default());
        let here = Calls { asked, events: events.clone(), listens: listens.clone() };
        (Elsewhere { calls, events, listens }, here)
    }

    /// What happens from now on: as soon as the other node has heard that somebody listens.
    pub fn events(&self) -> broadcast::Receiver<Far> {
        let events = self.events.subscribe();
        self.listens.notify_one();
        events
    }

    /// # Errors
    /// The deciding node's own; that nobody answered in time, and then it is not known what became of it.
    pub async fn ask(&self, asked: Asked) -> Result<Told, Error> {
        let (answer, answered) = oneshot::channel();
        let limit = asked.waits() + HUNG_LIMIT;
        let call = Call { asked, answer: Some(answer) };
        self.calls.send_timeout(call, ANSWER_LIMIT).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Error::Behind(ANSWER_LIMIT),
            SendTimeoutError::Closed(_) => Error::Closed,
        })?;
        let mut answered = Answered { answered, calls: &self.calls };
        let told = tokio::time::timeout(limit, &mut answered.answered).await;
        told.map_or(Err(Error::Unanswered), |told| told.unwrap_or(Err(Error::Closed)))
    }
}

/// Whoever stops waiting gives back what may have come in that moment.
struct Answered<'a> {
    answered: oneshot::Receiver<Result<Told, Error>>,
    calls: &'a mpsc::Sender<Call>,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.answered.close();
        if let Ok(Ok(told)) = self.answered.try_recv()
            && !told.held().is_empty()
        {
            // Where there is no room their leases end in their time.
            let _ = self.calls.try_send(Call { asked: Asked::Return(told.held()), answer: None });
        }
    }
}

/// Until jobs are closed. `pusher`: under what name this node pushes.
pub(crate) async fn asking(
    options: Options,
    Calls { asked: mut calls, events, listens }: Calls,
    pusher: Option<Name>,
    mut decides: watch::Receiver<bool>,
) {
    let mut end = Asking::new(options, pusher, events);
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    // Once after hours in which this node decided, and not once for each time that was not asked for meanwhile.
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = end.told.clone();
        tokio::select! {
            received = calls.recv_many(&mut batch, BATCH_MAX) => {
                if received == 0 {
                    return;
                }
                end.send(&mut batch).await;
            }
            () = told.notified() => end.fetch().await,
            () = tokio::time::sleep(end.rest()) => end.fetch().await,
            _ = alive.tick(), if end.has_asked => {
                if !*decides.borrow() {
                    end.show().await;
                }
                end.leave().await;
            }
            () = listens.notified() => if !*decides.borrow() { end.show().await },
            changed = decides.changed() => match changed {
                Ok(()) if !*decides.borrow() => end.show().await,
                Ok(()) => {}
                Err(_) => return,
            },
        }
    }
}

struct Asking {
    options: Options,
    /// Among all that ask.
    node: String,
    pusher: Option<Name>,
    events: broadcast::Sender<Far>,
    told: Arc<Notify>,
    line: Option<Line>,
    waiting: BTreeMap<i64, Waiting>,
    last: i64,
    has_asked: bool,
    /// Behind a pooler: the wait before the next look.
    poll: Duration,
    /// Who told of the last event, and which is the next.
    heard: Option<(u64, u64)>,
}

impl Asking {
    fn new(options: Options, pusher: Option<Name>, events: broadcast::Sender<Far>) -> Asking {
        let node = format!("{}-{:x}", std::process::id(), mainstay_runtime::Clock::unix_micros());
        Asking {
            options,
            node,
            pusher,
            events,
            told: Arc::default(),
            line: None,
            waiting: BTreeMap::new(),
            last: 0,
            has_asked: false,
            poll: POLL_FIRST,
            heard: None,
        }
    }

    /// How long there is nothing to look for.
    fn rest(&self) -> Duration {
        let looks = if self.line.as_ref().is_some_and(Line::is_pooled) { self.poll } else { LOOK_EVERY };
        match self.waiting.values().map(|waiting| waiting.until).min() {
            Some(until) => looks.min(until.saturating_duration_since(Instant::now())),
            None if self.listens() => looks,
            None => Duration::MAX,
        }
    }

    fn listens(&self) -> bool {
        self.events.receiver_count() > 0
    }

    async fn line(&mut self) -> Result<&Line, StoreError> {
        let line = match self.line.take().filter(|line| !line.is_closed()) {
            Some(line) => line,
            None => Line::open(&self.options, End::Asking, self.told.clone()).await?,
        };
        Ok(self.line.insert(line))
    }

    /// In batches that are not too large. What cannot be said or sent is told so at once.
    async fn send(&mut self, batch: &mut Vec<Call>) {
        self.has_asked = true;
        self.poll = POLL_FIRST;
        let (mut part, mut bytes) = (Vec::new(), 0);
        for Call { asked, answer } in batch.drain(..) {
            let wait = asked.waits() + ANSWER_LIMIT;
            let said = match written(&asked) {
                Ok(said) => said,
                Err(error) => {
                    let _ = answer.map(|answer| answer.send(Err(error.into())));
                    continue;
                }
            };
            if !part.is_empty() && bytes + said.len() > BATCH_BYTES_MAX {
                self.put(std::mem::take(&mut part)).await;
                bytes = 0;
            }
            bytes += said.len();
            self.last += 1;
            if let Some(answer) = answer {
                self.waiting.insert(self.last, Waiting { answer, until: Instant::now() + wait });
            }
            part.push((self.last, wait, said));
        }
        if !part.is_empty() {
            self.put(part).await;
        }
    }

    async fn put(&mut self, part: Vec<(i64, Duration, Vec<u8>)>) {
        let node = self.node.clone();
        let done = match self.line().await {
            Ok(line) => line.put_calls(&node, &part).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.line = None;
            let error = Error::from(error);
            for waiting in part.iter().filter_map(|(number, ..)| self.waiting.remove(number)) {
                let _ = waiting.answer.send(Err(error.clone()));
            }
        }
    }

    async fn fetch(&mut self) {
        if self.waiting.is_empty() && !self.listens() {
            return;
        }
        let node = self.node.clone();
        let found = match self.line().await {
            Ok(line) => line.take_replies(&node).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(replies) => {
                self.poll = if replies.is_empty() { (self.poll * 2).min(POLL_MOST) } else { POLL_FIRST };
                self.hand_over(replies).await;
            }
            Err(error) => {
                tracing::debug!(%error, "what the node that decides has answered cannot be had");
                self.line = None;
                // The server may be gone: it is not asked again at once.
                tokio::time::sleep(POLL_MOST).await;
            }
        }
        let now = Instant::now();
        for (_, late) in self.waiting.extract_if(.., |_, waiting| waiting.until <= now) {
            let _ = late.answer.send(Err(Error::Unanswered));
        }
    }

    /// What nobody waits for any more is given back.
    async fn hand_over(&mut self, replies: Vec<(i64, Vec<u8>)>) {
        let mut left = Vec::new();
        for (number, told) in replies {
            let told = match read::<Result<Told, Fault>>(&told) {
                Ok(Ok(Told::Events { events, lost, by, before })) => {
                    self.hear(events, lost, (by, before));
                    continue;
                }
                Ok(told) => told.map_err(Error::from),
                Err(error) => Err(error.into()),
            };
            let unheard = match self.waiting.remove(&number) {
                Some(waiting) => waiting.answer.send(told).err(),
                None => Some(told),
            };
            if let Some(Ok(told)) = unheard {
                left.extend(told.held());
            }
        }
        if !left.is_empty() {
            self.say(Asked::Return(left)).await;
        }
    }

    /// Nobody may listen any more. How many were lost where another tells of them than before is not known: one.
    fn hear(&mut self, events: Vec<Event>, lost: u64, (by, before): (u64, u64)) {
        let missed = match self.heard {
            Some((same, next)) if same == by => before.saturating_sub(next),
            Some(_) => 1,
            None => 0,
        };
        self.heard = Some((by, before + u64::try_from(events.len()).unwrap_or(u64::MAX)));
        let lost = lost + missed;
        if lost > 0 {
            let _ = self.events.send(Err(lost));
        }
        events.into_iter().for_each(|event| drop(self.events.send(Ok(event))));
    }

    /// Claims whose caller has gone need not wait any longer.
    async fn leave(&mut self) {
        let left: Vec<i64> =
            self.waiting.extract_if(.., |_, waiting| waiting.answer.is_closed()).map(|(number, _)| number).collect();
        if !left.is_empty() {
            self.say(Asked::Left(left)).await;
        }
    }

    async fn show(&mut self) {
        if !self.listens() {
            self.heard = None;
        }
        self.has_asked = true;
        let (pusher, listens) = (self.pusher.clone(), self.listens());
        self.say(Asked::Alive { pusher, listens }).await;
    }

    /// Something that is not answered. Where it cannot be said, silence says as much.
    async fn say(&mut self, asked: Asked) {
        let Ok(said) = written(&asked) else { return };
        self.last += 1;
        self.put(vec![(self.last, ANSWER_LIMIT, said)]).await;
    }
}
