//! One engine's thread, as calls reach it: those of this process, and those of nodes that stand by.

use super::{Claim, Finished, ROOM_LIMIT, Work};
use crate::engine::Engine;
use crate::error::Error;
use crate::event::Event;
use crate::home::Home;
use crate::job::NewJob;
use crate::nodes::{Asked, Elsewhere, Heard, Told};
use crate::op::{Answer, Finish, Op};
use crate::store::Reads;
use crate::thread::Message;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, mpsc, oneshot, watch};

pub(crate) struct Inner {
    pub(super) calls: mpsc::Sender<Message>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) reads: Reads,
    /// A permit for each KiB of payload that may wait.
    pub(super) room: Semaphore,
    /// Told of nothing, and gone once the store is let go of.
    pub(super) ended: watch::Receiver<()>,
    /// Whether this node decides, or stands by.
    pub(super) decides: watch::Receiver<bool>,
    /// The one that does.
    pub(super) elsewhere: Option<Elsewhere>,
    /// Others that stand by.
    pub(crate) heard: Heard,
    pub(super) _home: Home,
}

/// What is asked of this node's engine.
impl Inner {
    /// Of the node that decides, wherever that is.
    pub(super) async fn ask(&self, asked: Asked) -> Result<Told, Error> {
        match self.elsewhere().filter(|_| asked.can_be_passed_on()) {
            Some(elsewhere) => elsewhere.ask(asked).await,
            None => self.ask_here(asked).await,
        }
    }

    /// Of this node, for another. Who pushes there names what he holds with each beat, and his answer may be lost on
    /// the way.
    pub(crate) async fn ask_for_another(&self, asked: Asked) -> Result<Told, Error> {
        let pushes = asked.claims().is_some_and(|claim| self.heard.has(&claim.worker));
        let told = self.ask_here(asked).await?;
        let held = if pushes { told.held() } else { Vec::new() };
        if !held.is_empty() {
            // Before any beat that names them, and not waited for: where it cannot be said it is as if he was told.
            let (answer, _) = oneshot::channel();
            let _ = self.calls.try_send(Message::Op { op: Op::Unheard { held }, answer });
        }
        Ok(told)
    }

    /// Of this node, which decides or says that it does not.
    pub(crate) async fn ask_here(&self, asked: Asked) -> Result<Told, Error> {
        Ok(match asked {
            Asked::Op(op) => Told::Answer(self.op(op).await?),
            Asked::Claim(claim) => Told::Work(self.claim(claim).await?),
            Asked::Finish { ends, next } => Told::of(self.finish(ends, next).await?),
            Asked::Queues => Told::Queues(self.look(|engine| engine.queues().collect()).await?),
            Asked::Schedules => Told::Schedules(self.look(|engine| engine.schedules().cloned().collect()).await?),
            Asked::Workers => Told::Workers(self.look(|engine| engine.workers().cloned().collect()).await?),
            Asked::List { queue, state, skip, most } => {
                Told::Ids(self.look(move |engine| engine.list(&queue, state, skip, most)).await?)
            }
            Asked::Return(_) | Asked::Left(_) | Asked::Alive { .. } => Told::Ids(Vec::new()),
        })
    }

    async fn op(&self, op: Op) -> Result<Answer, Error> {
        let _room = match &op {
            Op::Add { jobs, .. } => {
                let bytes: usize = jobs.iter().map(NewJob::payload_bytes).sum();
                Some(self.room(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)).await?)
            }
            _ => None,
        };
        let (answer, answered) = oneshot::channel();
        self.send(Message::Op { op, answer }).await?;
        answered.await.unwrap_or(Err(Error::Closed))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Work>, Error> {
        let (answer, answered) = oneshot::channel();
        let answered = Answered { answered, inner: self, held: |work: &Vec<Work>| held(work) };
        self.send(Message::Claim { claim, answer }).await?;
        answered.wait().await
    }

    async fn finish(&self, ends: Vec<Finish>, next: Option<Claim>) -> Result<Finished, Error> {
        let (answer, answered) = oneshot::channel();
        let answered = Answered { answered, inner: self, held: |finished: &Finished| held(&finished.work) };
        self.send(Message::Finish { ends, next, answer }).await?;
        answered.wait().await
    }

    /// Between two batches, so briefly that nobody waits for it.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let look = Box::new(move |engine: Result<&Engine, Error>| drop(answer.send(engine.map(look))));
        self.send(Message::Look(look)).await?;
        answered.await.unwrap_or(Err(Error::Closed))
    }

    /// Jobs that were claimed for somebody who had left. Where there is no room their leases end in their time.
    pub(crate) fn give_back(&self, held: Vec<(u64, u64)>) {
        if !held.is_empty() {
            let _ = self.calls.try_send(Message::Return { held });
        }
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Who decides, where this node does not.
    pub(super) fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_ref().filter(|_| !*self.decides.borrow())
    }

    /// Until so many KiB of payload may wait.
    async fn room(&self, kib: u32) -> Result<SemaphorePermit<'_>, Error> {
        let room = tokio::time::timeout(ROOM_LIMIT, self.room.acquire_many(kib)).await;
        room.map_err(|_| Error::Behind(ROOM_LIMIT))?.map_err(|_| Error::Closed)
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        use mpsc::error::SendTimeoutError;
        match self.calls.send_timeout(message, ROOM_LIMIT).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => Err(Error::Behind(ROOM_LIMIT)),
            Err(SendTimeoutError::Closed(_)) => Err(Error::Closed),
        }
    }
}

fn held(work: &[Work]) -> Vec<(u64, u64)> {
    work.iter().map(|work| (work.claimed.job, work.claimed.token)).collect()
}

/// An answer with jobs in it. Whoever stops waiting gives back what may have come in that moment.
struct Answered<'a, T> {
    answered: oneshot::Receiver<Result<T, Error>>,
    inner: &'a Inner,
    held: fn(&T) -> Vec<(u64, u64)>,
}

impl<T> Answered<'_, T> {
    async fn wait(mut self) -> Result<T, Error> {
        (&mut self.answered).await.unwrap_or(Err(Error::Closed))
    }
}

impl<T> Drop for Answered<'_, T> {
    fn drop(&mut self) {
        self.answered.close();
        if let Ok(Ok(taken)) = self.answered.try_recv() {
            self.inner.give_back((self.held)(&taken));
        }
    }
}
